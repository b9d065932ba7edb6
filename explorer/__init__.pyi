from .benchmarks import evaluate as evaluate
from .checkpoints import ModelSpec as ModelSpec
from .evaluation import generate as generate, score as score
from .export import export as export
from .masks import Mask as Mask
from .measures import measure_similarity as measure_similarity
from .model import load as load
from .modifiers import modify as modify
from .plans import PlanSpec as PlanSpec, make_plan as make_plan
from .storage import Store as Store

__version__: str
