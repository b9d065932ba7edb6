"""Zeros inside weight matrices -> Delta: magnitude, Wanda, SparseGPT, Wanda++; and fewer bits."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
