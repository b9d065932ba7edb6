from .ability_curves import (
    AskedAbilities as AskedAbilities,
    choose_tasks as choose_tasks,
    draw_curves_of_abilities as draw_curves_of_abilities,
)
from .choice_matrix import draw_choice_matrix as draw_choice_matrix
