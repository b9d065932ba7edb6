from .archive import link_archive as link_archive, make_archive_routes as make_archive_routes
from .export_folder import get_exports as get_exports, place_export as place_export
from .format_choice import (
    OFFERED as OFFERED,
    Started as Started,
    choose_target as choose_target,
    draw_exported as draw_exported,
    draw_target as draw_target,
)
