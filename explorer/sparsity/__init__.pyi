from .picture import ZerosPicture as ZerosPicture, take_picture as take_picture
from .scores import ScoreCounts as ScoreCounts, count_scores as count_scores, find_scores as find_scores
from .sparsity import METHODS as METHODS, Sparsity as Sparsity
from .targets import read_layers as read_layers
from .watcher import LayerErrors as LayerErrors, Watcher as Watcher, watching_layers as watching_layers
from .zeros import (
    ZeroCounts as ZeroCounts,
    ZerosInMatrix as ZerosInMatrix,
    count_zeros as count_zeros,
    list_zeros as list_zeros,
)
