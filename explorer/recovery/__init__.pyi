from .catalogue import MODIFIERS as MODIFIERS, find_modifier as find_modifier
from .modifier import Modifier as Modifier, Option as Option
from .modify import check_modifiable as check_modifiable, modify as modify, modify_each as modify_each
from .recovered_losses import RecoveredLosses as RecoveredLosses
