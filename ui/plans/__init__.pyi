from .plan_choice import choose_specs as choose_specs, read_plans as read_plans
from .plan_comparison import draw_contest as draw_contest
