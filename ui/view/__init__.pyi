from .address import (
    Navigation as Navigation,
    draw_address as draw_address,
    draw_arrival as draw_arrival,
    read_address as read_address,
)
from .link_button import copy_link as copy_link
from .link_question import draw_question as draw_question
from .linked import linked as linked, one_of as one_of, some_of as some_of, text_of as text_of
from .loading_view import (
    Loading as Loading,
    draw_loading_view as draw_loading_view,
    read_faults as read_faults,
    request_view as request_view,
)
from .permissions import TEXTS as TEXTS, NoName as NoName, Permissions as Permissions
from .session import (
    MOST_TOKENS as MOST_TOKENS,
    Messages as Messages,
    change_mask as change_mask,
    change_modifiers as change_modifiers,
    compare_variants as compare_variants,
    describe_view as describe_view,
    follow_link as follow_link,
    get_compared as get_compared,
    get_permissions as get_permissions,
    get_question as get_question,
    get_view as get_view,
    note_compared as note_compared,
    notify as notify,
    read_notices as read_notices,
    read_view as read_view,
    set_view as set_view,
    show_linked as show_linked,
    take_to_explore as take_to_explore,
    write_url as write_url,
)
