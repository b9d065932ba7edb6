from .at_hand import ModelAtHand as ModelAtHand, list_models as list_models
from .config_schema import check_config as check_config
from .gguf import (
    convert as convert,
    convert_back as convert_back,
    count_stored as count_stored,
    find_parts as find_parts,
    write_folder as write_folder,
)
from .hub import FORMS as FORMS, LOG_IN as LOG_IN, can_ask_hub as can_ask_hub, search_hub as search_hub
from .resolve import (
    DEFAULT_MODEL as DEFAULT_MODEL,
    Checkpoint as Checkpoint,
    find_packaged as find_packaged,
    resolve_checkpoint as resolve_checkpoint,
)
from .spec import ModelSpec as ModelSpec
