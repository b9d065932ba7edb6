from .abilities import draw_abilities as draw_abilities, find_metric as find_metric
from .choices import draw_choices as draw_choices, draw_variance as draw_variance
from .curves import (
    AXES as AXES,
    Shares as Shares,
    draw_curves as draw_curves,
    draw_divergences as draw_divergences,
    draw_orders as draw_orders,
)
from .history import COSTS as COSTS, draw_beside as draw_beside, draw_history as draw_history
from .layers import (
    draw_agreement as draw_agreement,
    draw_heads as draw_heads,
    draw_norms as draw_norms,
    draw_scatter as draw_scatter,
    draw_strips as draw_strips,
)
from .pairs import draw_pairs as draw_pairs
from .paper import DPI as DPI, WIDTHS as WIDTHS, fit_to_paper as fit_to_paper
from .points import SIZES as SIZES, draw_points as draw_points
from .sparsity import draw_errors as draw_errors, draw_scores as draw_scores, draw_zeros as draw_zeros
from .style import UNIT_LABELS as UNIT_LABELS, sample_scale as sample_scale, shade as shade
from .training import TextCurves as TextCurves, draw_training as draw_training
from .triangle import (
    TOKEN_LABELS as TOKEN_LABELS,
    draw_redundancy as draw_redundancy,
    draw_side_by_side as draw_side_by_side,
    tabulate as tabulate,
)
