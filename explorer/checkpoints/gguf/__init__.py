"""A GGUF file -> a folder of safetensors; every tensor and key of the file is used, or named in an error."""

from explorer.checkpoints.gguf.file import find_parts
from explorer.checkpoints.gguf.folder import write_folder

__all__ = ["find_parts", "write_folder"]
