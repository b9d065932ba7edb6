from .instrument import draw_instrument as draw_instrument
from .prompts import choose_prompts as choose_prompts
from .recoveries import (
    ask_recovery as ask_recovery,
    find_recovery as find_recovery,
    name_modifiers as name_modifiers,
)
from .recovery import draw_recovery as draw_recovery
from .samples import draw_samples as draw_samples, draw_texts as draw_texts
from .strip import write_cells as write_cells
