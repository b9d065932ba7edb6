from .catalogue import MODIFIERS as MODIFIERS, find_modifier as find_modifier
from .expert_maps import ExpertMaps as ExpertMaps, list_expert_maps as list_expert_maps
from .fitted import Fitted as Fitted
from .linear_maps import (
    LinearMap as LinearMap,
    find_output_projection as find_output_projection,
    list_linear_maps as list_linear_maps,
    list_stacks as list_stacks,
)
from .modifier import Modifier as Modifier, Option as Option
from .modify import (
    check_modifiable as check_modifiable,
    find_begun as find_begun,
    modify as modify,
    modify_each as modify_each,
    repeat_layer as repeat_layer,
)
from .recovered_losses import RecoveredLosses as RecoveredLosses
from .setting import (
    FOLDS as FOLDS,
    Pairs as Pairs,
    Setting as Setting,
    check_layers_only as check_layers_only,
    weigh_tokens as weigh_tokens,
)
