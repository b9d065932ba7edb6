"""The documentation, as it lies in docs/."""

from ui.docs import choose_document, draw_document
from ui.frame import enter

enter("docs")
draw_document(choose_document())
