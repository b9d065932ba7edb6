from .dialog import (
    draw_choice as draw_choice,
    draw_model_button as draw_model_button,
    open_choice as open_choice,
)
from .facts import draw_facts as draw_facts
