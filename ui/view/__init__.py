"""Who looks at what: the view in the URL, and what a link may have read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
