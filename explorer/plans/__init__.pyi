from .abilities import Abilities as Abilities, trace_abilities as trace_abilities
from .budgets import BUDGET_EXAMPLES as BUDGET_EXAMPLES, Budget as Budget
from .catalogue import METHODS as METHODS
from .choices import (
    FACTORS as FACTORS,
    OBJECTIVES as OBJECTIVES,
    SEARCHES as SEARCHES,
    Choices as Choices,
    compare_choices as compare_choices,
)
from .combine import Combination as Combination, combine as combine
from .curve import (
    SEEDS as SEEDS,
    Curve as Curve,
    coarse_first as coarse_first,
    trace_curve as trace_curve,
    trace_plan as trace_plan,
)
from .make import make_plan as make_plan
from .method import UNITS as UNITS
from .plan import (
    MOST_SEED as MOST_SEED,
    Effort as Effort,
    Plan as Plan,
    PlanSpec as PlanSpec,
    check_criterion as check_criterion,
)
from .plan_scores import score_plan_masks as score_plan_masks
from .points import (
    Point as Point,
    find_front as find_front,
    find_half as find_half,
    list_points as list_points,
    make_measured_point as make_measured_point,
    make_point as make_point,
)
