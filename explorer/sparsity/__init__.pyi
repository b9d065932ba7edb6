from .sparsity import METHODS as METHODS, Sparsity as Sparsity
from .zeros import (
    ZeroCounts as ZeroCounts,
    ZerosInMatrix as ZerosInMatrix,
    count_zeros as count_zeros,
    list_zeros as list_zeros,
)
