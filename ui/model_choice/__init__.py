"""The choice of model and text, from every page: the dialog, and the facts of what is loaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
