from .agreement import (
    find_acceptance as find_acceptance,
    find_best_draft as find_best_draft,
    find_speed_up as find_speed_up,
)
from .calibration import (
    CalibrationItems as CalibrationItems,
    make_calibration_items as make_calibration_items,
)
from .catalogue import (
    ALL_PROBES as ALL_PROBES,
    PROBE as PROBE,
    PROBES as PROBES,
    TASK as TASK,
    is_item_criterion as is_item_criterion,
)
from .evaluate import QUESTIONS as QUESTIONS, Asking as Asking, evaluate as evaluate
from .evaluation import Answers as Answers, Evaluation as Evaluation, Measured as Measured
from .likelihoods import find_likelihoods as find_likelihoods
from .question import Question as Question
from .request import Item as Item, Likelihood as Likelihood, Request as Request, RequestEncoder as RequestEncoder
