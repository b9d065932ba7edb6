"""Results on their way: what a browser is told of jobs, panels that run again, progress, what failed."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
