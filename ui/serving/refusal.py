"""What is said to whom is not let in: one line, and what to do."""

from __future__ import annotations

import html
from collections.abc import Iterable

from starlette.responses import HTMLResponse

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: light-dark(#d9dce1, #3a3f47); --accent: light-dark(#0b5394, #6fa8dc); }}
body {{ font: 1rem/1.6 "Source Sans", system-ui, sans-serif; margin: 0; display: grid; min-height: 90vh; place-items:
  center; background: light-dark(#fff, #0e1117); color: light-dark(#31333f, #fafafa); }}
main {{ max-width: 34rem; padding: 2rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.3; margin: 0 0 .75rem; }}
p {{ margin: 0 0 1.25rem; }}
form {{ display: flex; gap: .5rem; }}
input {{ flex: 1; min-width: 0; font: inherit; padding: .4rem .75rem; border: 1px solid var(--line); border-radius:
  .5rem; background: transparent; color: inherit; }}
button {{ font: inherit; padding: .4rem 1rem; border: 0; border-radius: .5rem; background: var(--accent); color:
  light-dark(#fff, #0e1117); cursor: pointer; }}
code {{ font-size: .9em; overflow-wrap: anywhere; }}
</style></head><body><main><h1>{title}</h1><p>{words}</p>{form}</main></body></html>
"""


class Refusal(HTMLResponse):
    """A page that says why a request was refused.

    Args:
        reason: the same for the log, which no stranger can write to.
    """

    def __init__(self, status: int, title: str, words: str, reason: str, form: str = "") -> None:
        self.reason = reason
        content = _PAGE.format(title=html.escape(title), words=words, form=form)
        super().__init__(content, status, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def refuse_host(host: str) -> Refusal:
    """Refuse a request for a host that this server does not go by."""
    named = f"<code>{html.escape(host[:100])}</code>" if host else "a server without a name"
    words = (
        f"The request was for {named}. Open the address that the server printed when it started, or start it with "
        "<code>ALLOWED_HOSTS=</code> and this name."
    )
    return Refusal(403, "This server does not go by that name", words, "another host's name (ALLOWED_HOSTS)")


def refuse_origin(origin: str) -> Refusal:
    """Refuse what a page of another server sends."""
    words = f"It came from <code>{html.escape(origin[:100])}</code>. Open the dashboard itself."
    return Refusal(403, "Another page asked for this", words, "a page of another origin")


def refuse_stranger(query: Iterable[tuple[str, str]], wrong: bool) -> Refusal:
    """Refuse a request without the token; offer to type it in, and keep what the link holds."""
    kept = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in query
        if name != "token"
    )
    form = (
        f'<form method="get">{kept}'
        '<input type="password" name="token" aria-label="Token" placeholder="Token" autocomplete="off" autofocus '
        'required><button type="submit">Open</button></form>'
    )
    title = "That is not the token" if wrong else "This dashboard asks for its token"
    words = (
        "Open the address that the server printed when it started, which ends in <code>?token=…</code>, or paste "
        "the token here. This browser then remembers it."
    )
    return Refusal(401, title, words, "no token, or a wrong one", form)
