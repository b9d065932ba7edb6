from .chat_template import ChatTemplate as ChatTemplate
from .encoding import check_ids as check_ids, decode as decode, encode as encode
from .hub_datasets import is_hub_name as is_hub_name
from .mixture import read_mixture as read_mixture, write_mixture as write_mixture
from .sources import DEFAULT_TEXT as DEFAULT_TEXT, FORMS as FORMS, find_text as find_text
from .tokenization import check_window as check_window, tokenize as tokenize
from .windows import Corpus as Corpus, Split as Split, Windows as Windows
