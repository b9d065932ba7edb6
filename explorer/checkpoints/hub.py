"""A model's name on the Hugging Face hub -> a folder in the hub's own cache."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from explorer.errors import Cancelled, ModelError, first_line
from explorer.progress import Progress

#: What a model may be given as.
FORMS = "Give a hub id, a folder with config.json and .safetensors files, or a .gguf file"
_PATIENCE = 5.0  # seconds
#: What to do where the hub asks who one is.
LOG_IN = "Log in with 'hf auth login', or set HF_TOKEN"


def can_ask_hub() -> bool:
    """Tell whether the hub may be asked at all."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE


def search_hub(words: str, most: int = 8) -> list[str]:
    """Return names of text-generating models on the hub that a search finds, those fetched most often first.

    Raises ModelError: the hub does not answer within seconds, or with something else.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session

    asked: dict[str, str | int] = {"search": words, "filter": "text-generation", "sort": "downloads", "limit": most}
    try:
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/models", params=asked, headers=build_hf_headers(), timeout=_PATIENCE
        )
        answer.raise_for_status()
        return [str(model["id"]) for model in answer.json()][:most]
    except Exception as error:  # the client's, the network's, and those of an answer that is something else
        raise ModelError("Cannot search the hub", first_line(error).rstrip("."), "Write the model's name") from error


def download(name: str, trust_remote_code: bool, progress: Progress) -> Path:
    """Fetch a repository into the hub's cache; return its folder there.

    Files that an earlier fetch finished before it was cancelled are not fetched again.

    Raises:
        ModelError: no such repository, no access to it, or no way to the hub.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    constants.HF_HUB_DISABLE_XET = True  # its transfers run to their end, whatever its progress bars raise
    patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.tiktoken", "merges.txt", "vocab.txt"]
    patterns += ["README.md", "LICENSE*"]  # an export says what the original's licence is
    progress(0, 1, f"Asking the hub for {name}")
    try:
        folder = snapshot_download(
            name,
            allow_patterns=[*patterns, *(["*.py"] if trust_remote_code else [])],
            tqdm_class=_watch_bytes(lambda done, total: progress(done, total, f"Downloading {name}, MB")),
        )
    except Cancelled:
        raise
    except GatedRepoError:
        raise ModelError(
            f"The model {name!r} is gated", "the hub gives it to those who were granted access", LOG_IN
        ) from None
    except RepositoryNotFoundError:
        found = "no such folder here, and on the hub no such repository, or a private one"
        raise ModelError(f"Cannot get the model {name!r}", found, f"{FORMS}. {LOG_IN}") from None
    except Exception as error:  # the hub's client raises its own, the network's and plain ones alike
        raise ModelError(
            f"Cannot get the model {name!r}",
            f"no such folder here, and the hub gives none ({first_line(error).rstrip('.')})",
            FORMS,
        ) from error
    progress(1, 1, f"Fetched {name}")
    return Path(folder)


def _watch_bytes(tell: Callable[[int, int], None]) -> type[tqdm]:
    """Make a progress bar that shows nothing and tells how many megabytes there are, of how many are known to come.

    What `tell` raises ends the download: the hub's client updates its bars from the threads that fetch.
    """
    lock, most = threading.Lock(), [0, 0]

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if self.unit == "B":
                with lock:  # one bar counts what was received, another what was written
                    most[:] = max(most[0], int(self.n)), max(most[1], int(self.total or 0))
                    tell(most[0] // 10**6, most[1] // 10**6)
            return shown

    return Bar
