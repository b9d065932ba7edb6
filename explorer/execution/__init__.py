"""Who runs the work: requests as data, jobs, one worker, the one model in memory."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
