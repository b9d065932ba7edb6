from .deltas import FitSteps as FitSteps
from .eviction import (
    Holding as Holding,
    choose_evicted as choose_evicted,
    count_rows as count_rows,
    evict as evict,
    read_age as read_age,
    read_size as read_size,
    take_stock as take_stock,
)
from .exchange import Rows as Rows, absorb as absorb, list_rows as list_rows
from .keys import (
    describe_libraries as describe_libraries,
    describe_processor as describe_processor,
    make_key as make_key,
)
from .partial_files import make_partial as make_partial, remove_leftovers as remove_leftovers
from .stars import Star as Star
from .store import CacheError as CacheError, Store as Store
from .unfinished import Asked as Asked, Unfinished as Unfinished
