"""What can be asked: the verbs, each a function of what it works with and of its own options."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
