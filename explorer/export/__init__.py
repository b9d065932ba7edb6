"""checkpoint files, Mask -> checkpoint files, reloaded and compared."""

from explorer.export.export import export
from explorer.export.layouts import plan_export

__all__ = ["export", "plan_export"]
