from .engine import get_engine as get_engine, get_owner as get_owner, get_requests as get_requests
from .error_panel import draw_broken as draw_broken, draw_uncaught as draw_uncaught
from .feed import FEED as FEED
from .panels import (
    begin_page as begin_page,
    open_dialog as open_dialog,
    paint as paint,
    panel as panel,
    rerun_page as rerun_page,
    rerun_panels as rerun_panels,
    watch as watch,
)
from .tab_stream import make_tab_routes as make_tab_routes
from .waiting import (
    describe_progress as describe_progress,
    draw_bar as draw_bar,
    draw_end as draw_end,
    draw_lasting as draw_lasting,
    draw_progress as draw_progress,
    draw_state as draw_state,
    follow as follow,
    name_widget as name_widget,
    ready as ready,
)
from .work import draw_work as draw_work
