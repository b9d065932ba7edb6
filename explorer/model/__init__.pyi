from .added_parameters import count_added as count_added
from .architecture import (
    Architecture as Architecture,
    find_architecture as find_architecture,
    find_base_type as find_base_type,
    has_own_head as has_own_head,
)
from .auto_class import find_auto_class as find_auto_class, list_auto_classes as list_auto_classes
from .batch_shape import is_out_of_memory as is_out_of_memory, pad_batch as pad_batch, slice_rows as slice_rows
from .batched_windows import BatchedWindows as BatchedWindows
from .config_only import count_parameters_of_config as count_parameters_of_config
from .cost_model import CostModel as CostModel, Costs as Costs
from .dissection import find_updates as find_updates
from .forward_policies import Hidden as Hidden, Ids as Ids, LayerCall as LayerCall
from .freed_memory import return_freed_memory as return_freed_memory
from .layer_surgery import is_packed as is_packed
from .layerwise import Given as Given, LayerwisePass as LayerwisePass, Seen as Seen
from .loading import (
    LoadedModel as LoadedModel,
    inspect_checkpoint as inspect_checkpoint,
    load as load,
    quieten_libraries as quieten_libraries,
)
from .memory import free_bytes as free_bytes
from .memory_outlook import MemoryOutlook as MemoryOutlook, estimate_memory as estimate_memory
from .module_calls import refusing_failures as refusing_failures
from .parameter_counts import count_parameters as count_parameters
from .piece_policies import LayerInputs as LayerInputs
from .placement import DTYPES as DTYPES, Placement as Placement
from .preflight import check_text as check_text, find_faults as find_faults
from .states import States as States
from .tensor_names import (
    Naming as Naming,
    find_converted as find_converted,
    find_naming as find_naming,
    find_parts as find_parts,
)
from .torch_modes import default_modes as default_modes, multiplying_as as multiplying_as
from .twin import Twin as Twin, make_twin as make_twin
from .unused_tensors import predicts_further as predicts_further
from .weights import read_weights as read_weights
from .wrappers import ModelWrappers as ModelWrappers
