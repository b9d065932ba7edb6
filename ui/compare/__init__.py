"""The Compare page: what was tried of a model on a text, starred, and side by side."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
