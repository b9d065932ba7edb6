from .attention_patterns import Attention as Attention, measure_attention as measure_attention
from .importance import MEASURES as MEASURES, Importance as Importance
from .interactions import Interactions as Interactions
from .measure import (
    check_measures as check_measures,
    find_intervals as find_intervals,
    make_loss_function as make_loss_function,
    measure_importance as measure_importance,
    measure_interactions as measure_interactions,
    read_similarity as read_similarity,
)
from .similarity import TOKEN_CHOICES as TOKEN_CHOICES, UNITS as UNITS, measure_similarity as measure_similarity
from .similarity_stats import SimilarityStats as SimilarityStats
