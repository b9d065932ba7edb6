"""What is changed: named tensors, the base they fit, how they were made; Variant = Mask + Deltas."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
