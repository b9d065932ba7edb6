from .equal_size import draw_equal_size as draw_equal_size
from .matrix import draw_matrix as draw_matrix
from .method_choice import choose_method as choose_method
from .pruning import draw_pruning as draw_pruning
