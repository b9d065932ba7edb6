"""A GGUF file, or Llama-like safetensors, and a mask -> a GGUF file."""

from explorer.export.gguf.planner import plan_gguf

__all__ = ["plan_gguf"]
