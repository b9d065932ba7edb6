"""checkpoint files, Mask -> checkpoint files, reloaded and compared."""

from explorer.export.checkpoint import export
from explorer.export.plan import plan_export

__all__ = ["export", "plan_export"]
