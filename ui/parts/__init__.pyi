from .definitions import define as define
from .markdown import escape_markdown as escape_markdown
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
from .uploads import upload as upload
