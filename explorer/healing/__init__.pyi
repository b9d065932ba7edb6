from .history import read_history as read_history
from .pace import Pace as Pace, measure_pace as measure_pace
from .recipe import PRESETS as PRESETS
from .watcher import TrainingRecord as TrainingRecord, Watcher as Watcher, watching as watching
