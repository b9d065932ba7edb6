"""What was tried: every variant that was measured, and those that are starred side by side."""

from ui.compare import draw_compare, look_again
from ui.frame import framed, require_summary
from ui.live import panel

with framed("compare") as frame:
    summary = require_summary(frame)
    look_again()
    panel("comparison", lambda: draw_compare(summary))
