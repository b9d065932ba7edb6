from .attention_patterns import Attention as Attention, measure_attention as measure_attention
from .built_in_criteria import describe_criterion as describe_criterion, make_loss_function as make_loss_function
from .catalogue import CRITERIA as CRITERIA, MEASURES as MEASURES
from .criterion import VariantLosses as VariantLosses
from .importance import Importance as Importance
from .interactions import Interactions as Interactions
from .measure import (
    check_measures as check_measures,
    measure_importance as measure_importance,
    measure_interactions as measure_interactions,
)
from .measure_type import UNITS as UNITS
from .similarity import (
    TOKEN_CHOICES as TOKEN_CHOICES,
    find_intervals as find_intervals,
    measure_similarity as measure_similarity,
    read_similarity as read_similarity,
)
from .similarity_stats import SimilarityStats as SimilarityStats
