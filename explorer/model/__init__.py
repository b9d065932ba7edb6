"""A folder of safetensors -> a checked model in memory; the only code that touches its forward."""
