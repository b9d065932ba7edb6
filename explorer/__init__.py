"""Find out which parts of a decoder language model could go, and write the smaller checkpoint.

    load -> tokenize -> measure -> plan -> modify -> score | evaluate | generate -> export

Each arrow is one function; the twelve names of this package are enough for the flow, and are imported when asked for.
"""

import lazy_loader

#: Read by the build without importing this package.
__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
