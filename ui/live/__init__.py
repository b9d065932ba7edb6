"""Results on their way: panels that run again when a job gets on, progress, what failed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
