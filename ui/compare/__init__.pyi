from .points import look_again as look_again
from .starring import draw_pinning as draw_pinning
from .views import draw_compare as draw_compare
