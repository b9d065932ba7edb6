from .ability_curves import choose_tasks as choose_tasks, draw_curves_of_abilities as draw_curves_of_abilities
from .flipped_items import draw_flipped_items as draw_flipped_items, list_flipped as list_flipped
