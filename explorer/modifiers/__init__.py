"""What makes Deltas: the modifiers, by name, and what each works with."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
