"""Numbers from numbers: intervals, resampling, rank correlation, racing, ridge. No torch model in sight."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
