from .cuts import Cut as Cut, list_cuts as list_cuts
