from .document import choose_document as choose_document, draw_document as draw_document
