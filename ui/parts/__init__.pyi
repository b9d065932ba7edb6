from .definitions import UNIT_NAMES as UNIT_NAMES, define as define
from .kept import Kept as Kept, kept as kept
from .markdown import escape_markdown as escape_markdown
from .measure_help import explain_measure as explain_measure, explain_measures as explain_measures
from .number_format import (
    describe_bytes as describe_bytes,
    describe_flops as describe_flops,
    describe_interval as describe_interval,
    describe_perplexity as describe_perplexity,
    describe_score as describe_score,
    describe_seconds as describe_seconds,
    describe_speed as describe_speed,
)
from .plots import Table as Table, draw_plot as draw_plot, write_csv as write_csv
from .skeleton import draw_skeleton as draw_skeleton
from .uploads import TEXT_KINDS as TEXT_KINDS, Uploaded as Uploaded, keep_upload as keep_upload, upload as upload
