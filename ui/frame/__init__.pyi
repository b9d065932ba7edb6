from .frame import Frame as Frame, enter as enter, framed as framed, require_summary as require_summary
