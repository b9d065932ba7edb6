"""A model's name -> a folder of safetensors whose config can be trusted."""
