"""The Sparsity page: zeros inside the blocks, block after block, and where they are."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
