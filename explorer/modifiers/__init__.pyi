from .catalogue import MODIFIERS as MODIFIERS, find_modifier as find_modifier
from .fitted import Fitted as Fitted
from .modifier import Modifier as Modifier, Option as Option
from .modify import check_modifiable as check_modifiable, modify as modify, modify_each as modify_each
from .output_projections import OutputProjection as OutputProjection, find_output_projection as find_output_projection
from .recovered_losses import RecoveredLosses as RecoveredLosses
from .setting import (
    FOLDS as FOLDS,
    Pairs as Pairs,
    Setting as Setting,
    check_layers_only as check_layers_only,
    weigh_tokens as weigh_tokens,
)
