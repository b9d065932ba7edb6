"""Records -> plotly figures. Bright is redundant: one sequential, colour-blind safe map (cividis) throughout."""

import lazy_loader

from explorer.extras import require

require("plotly")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
