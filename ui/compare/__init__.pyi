from .comparison import draw_comparison as draw_comparison
from .pins import draw_pinning as draw_pinning
