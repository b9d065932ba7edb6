"""What a variant can do: tasks of lm-evaluation-harness and probes, item by item, beside the unpruned model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
