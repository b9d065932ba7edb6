from .history import read_history as read_history
from .watcher import TrainingRecord as TrainingRecord, Watcher as Watcher, watching as watching
