from .assisted import AssistedSpeed as AssistedSpeed, measure_assisted as measure_assisted
from .breadth_first import run_batches as run_batches, run_breadth_first as run_breadth_first
from .decode_speed import (
    measure_decode_speed as measure_decode_speed,
    measure_decode_times as measure_decode_times,
)
from .decode_times import DecodeTimes as DecodeTimes
from .divergence import Divergence as Divergence, measure_divergence as measure_divergence
from .executor import (
    Assignment as Assignment,
    Executor as Executor,
    Filler as Filler,
    Inputs as Inputs,
    Missing as Missing,
    count_cost as count_cost,
    fill_by_others as fill_by_others,
)
from .generation import (
    generate as generate,
    takes_cache as takes_cache,
    write_exactly as write_exactly,
    write_greedily as write_greedily,
    write_until as write_until,
)
from .hidden_state_cache import HiddenStateCache as HiddenStateCache
from .last_token_turn import find_turn as find_turn, make_turn_context as make_turn_context
from .measured import Measured as Measured, list_measured as list_measured, note_variant as note_variant
from .nll import find_nll as find_nll, slice_positions as slice_positions, token_nll as token_nll
from .perplexity import (
    LiveScoring as LiveScoring,
    find_stored_scores as find_stored_scores,
    score as score,
    score_tokens as score_tokens,
)
from .prefix_tree import count_steps as count_steps, run_beside as run_beside, run_prefix_tree as run_prefix_tree
from .recovered import Recovered as Recovered, find_recovered as find_recovered
from .samples import Sample as Sample
from .scores import Estimate as Estimate, Score as Score
from .token_rate import TokenRate as TokenRate
