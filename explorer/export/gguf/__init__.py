"""A GGUF file, or Llama-like safetensors, and a mask -> a GGUF file."""

from explorer.export.gguf.plan import plan_gguf

__all__ = ["plan_gguf"]
