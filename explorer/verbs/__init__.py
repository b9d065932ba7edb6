"""What can be asked: the verbs, functions of what they work with and of their own options; requests that name one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
