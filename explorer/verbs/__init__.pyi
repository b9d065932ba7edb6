from .catalogue import VERBS as VERBS, Verb as Verb
from .describe import describe_corpus as describe_corpus, describe_score as describe_score
from .options import (
    MaskOption as MaskOption,
    ModifyOption as ModifyOption,
    PlanOption as PlanOption,
    StepOption as StepOption,
)
from .request import (
    Request as Request,
    RequestError as RequestError,
    answer as answer,
    get_options as get_options,
)
from .requests import Requests as Requests, TooMany as TooMany
from .work import Settings as Settings, Work as Work
