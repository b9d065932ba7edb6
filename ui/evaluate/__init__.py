"""The Evaluate page: what is left of abilities along plans, and which items flip."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
