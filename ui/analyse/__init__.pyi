from .blocks import draw_blocks as draw_blocks
from .importances import draw_layers as draw_layers, draw_measures as draw_measures
from .interaction_map import draw_interactions as draw_interactions
from .passages import draw_passage as draw_passage
from .text_comparison import draw_beside as draw_beside
