"""A GGUF file, or Llama-like safetensors, and a mask -> a GGUF file."""

from explorer.export.gguf.llamacpp import is_installed, measure_seconds
from explorer.export.gguf.planner import plan_gguf
from explorer.export.gguf.reload import FILE

__all__ = ["FILE", "is_installed", "measure_seconds", "plan_gguf"]
