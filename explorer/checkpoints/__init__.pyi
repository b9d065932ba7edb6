from .config_schema import check_config as check_config
from .gguf import convert as convert, convert_back as convert_back, write_folder as write_folder
from .hub import FORMS as FORMS
from .resolve import DEFAULT_MODEL as DEFAULT_MODEL, Checkpoint as Checkpoint, resolve_checkpoint as resolve_checkpoint
from .spec import ModelSpec as ModelSpec
