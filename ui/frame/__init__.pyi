from .frame import (
    Frame as Frame,
    framed as framed,
    offer_way_back as offer_way_back,
    require_summary as require_summary,
)
