from .catalogue import VERBS as VERBS, Verb as Verb
from .describe import describe_corpus as describe_corpus, describe_score as describe_score
from .options import (
    MaskOption as MaskOption,
    ModifyOption as ModifyOption,
    PlanOption as PlanOption,
    StepOption as StepOption,
)
from .work import Settings as Settings, Work as Work
