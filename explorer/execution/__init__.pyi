from .engine import Engine as Engine, request_recovery as request_recovery
from .executor_spec import ExecutorSpec as ExecutorSpec
from .executors import spreading as spreading
from .export_preview import ExportPreview as ExportPreview
from .failures import explain as explain
from .file_stamps import Stamp as Stamp, seeing_files_once as seeing_files_once, stamp as stamp
from .healing import (
    Healing as Healing,
    Judged as Judged,
    Watched as Watched,
    ask_healing as ask_healing,
    ask_pace as ask_pace,
    list_healings as list_healings,
)
from .job import IDLE as IDLE, SAMPLE as SAMPLE, SWEEP as SWEEP, Job as Job
from .kinds import Kind as Kind, offer as offer
from .measuring import (
    Passage as Passage,
    ask_abilities as ask_abilities,
    ask_attention as ask_attention,
    ask_choices as ask_choices,
    ask_curve as ask_curve,
    ask_decode_speeds as ask_decode_speeds,
    ask_importance as ask_importance,
    ask_interactions as ask_interactions,
    ask_passage as ask_passage,
    find_interactions as find_interactions,
    request_curve as request_curve,
    request_importance as request_importance,
    request_interactions as request_interactions,
)
from .model_summary import ModelSummary as ModelSummary
from .outlook import ask_memory as ask_memory
from .owners import API as API
from .page_kinds import PAGE_KINDS as PAGE_KINDS
from .readouts import list_single_sites as list_single_sites
from .recovery import Recovery as Recovery
from .request import Request as Request, RequestError as RequestError
from .sparsifying import (
    Pruning as Pruning,
    SoFar as SoFar,
    ask_picture as ask_picture,
    ask_points as ask_points,
    ask_pruning as ask_pruning,
    ask_scores as ask_scores,
    ask_so_far as ask_so_far,
    request_pruning as request_pruning,
)
from .task import Task as Task
from .view import View as View
from .worker import Worker as Worker
