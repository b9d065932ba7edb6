from .instrument import draw_instrument as draw_instrument
from .samples import draw_samples as draw_samples
from .strip import write_cells as write_cells
