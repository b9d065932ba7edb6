"""A folder of safetensors -> a checked model in memory; the only code that touches its forward."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
