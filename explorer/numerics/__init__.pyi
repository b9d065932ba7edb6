from .hadamard import make_hadamard as make_hadamard
from .intervals import Interval as Interval, t_interval as t_interval
from .knapsack import choose_within as choose_within
from .paired import (
    PairedDifference as PairedDifference,
    bootstrap as bootstrap,
    compare_shares as compare_shares,
    exceeds as exceeds,
    find_mcnemar_p as find_mcnemar_p,
    share_interval as share_interval,
)
from .racing import LossFunction as LossFunction, Race as Race, excess_loss as excess_loss, race as race
from .rank_correlation import Agreement as Agreement, correlate as correlate
from .resampling import (
    bootstrap_intervals as bootstrap_intervals,
    jackknife as jackknife,
    resample_means as resample_means,
)
from .ridge import fit_ridge as fit_ridge
from .ridge_sums import PENALTIES as PENALTIES, RidgeSolution as RidgeSolution, RidgeSums as RidgeSums
from .variance import VarianceShare as VarianceShare, share_variance as share_variance
