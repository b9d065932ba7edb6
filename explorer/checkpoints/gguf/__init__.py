"""A GGUF file -> a folder of safetensors; every tensor and key of the file is used, or named in an error."""

from explorer.checkpoints.gguf.file import count_stored, find_parts
from explorer.checkpoints.gguf.folder import write_folder
from explorer.checkpoints.gguf.names import convert, convert_back

__all__ = ["convert", "convert_back", "count_stored", "find_parts", "write_folder"]
