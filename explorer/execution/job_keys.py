"""What a job is -> its key: equal work has equal keys, and a key says nothing to who reads it.

Keys reach the browser, in the names of buttons. What they are made of does not: a digest with a secret of this process
cannot be guessed back to the sizes and times of files.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import TypeAlias

#: What has one text form only. Sets, views and masks have none of their own: they are written out first.
Part: TypeAlias = "str | int | float | bool | Sequence[Part] | None"

_SECRET = secrets.token_bytes(16)


def make_job_key(kind: str, **parts: Part) -> str:
    """Digest a kind of work and named parts. Raises TypeError for a part that has no text form of its own."""
    text = json.dumps([kind, parts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16, key=_SECRET).hexdigest()
