from .delta import Delta as Delta, Origin as Origin, Trained as Trained
from .delta_file import read_delta as read_delta, write_delta as write_delta
from .modifier_spec import (
    ModifierSpec as ModifierSpec,
    read_modifiers as read_modifiers,
    write_modifiers as write_modifiers,
)
from .places import list_places as list_places
from .stand_in import StandIn as StandIn
from .variant import Variant as Variant, find_layer_key as find_layer_key, find_prefix_key as find_prefix_key
from .weight_change import (
    LowRankUpdate as LowRankUpdate,
    SparsityPattern as SparsityPattern,
    WeightChange as WeightChange,
    change_weight as change_weight,
    fits_weight as fits_weight,
    name_tensors as name_tensors,
)
