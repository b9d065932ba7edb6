from .plan_comparison import choose_specs as choose_specs, draw_contest as draw_contest, read_plans as read_plans
