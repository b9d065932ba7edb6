from .recipe_choice import choose_recipe as choose_recipe
from .runs import draw_runs as draw_runs
from .watched import choose_watched as choose_watched
