"""The Export page: formats by what one wants to do, the folder that exports go to, and their archives."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
