"""A button that copies the page's address, which holds the whole view; it also tells when the page is shown."""

from __future__ import annotations

import streamlit as st

from ui.watching import release_panels

_HTML = '<button type="button">Copy link</button>'
_CSS = """
button {
  font: inherit; font-size: .875rem; color: var(--st-text-color); background: transparent; cursor: pointer;
  border: 1px solid var(--st-border-color); border-radius: .5rem; padding: .3rem .75rem; white-space: nowrap;
}
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
"""
_JS = """
const SEEN = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  if (SEEN.get(parentElement) !== data.run) {
    SEEN.set(parentElement, data.run);
    setTriggerValue("shown", data.run);
  }
  const button = parentElement.querySelector("button");
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(window.location.href);
      button.textContent = "Copied";
    } catch {
      window.prompt("Copy this link", window.location.href);
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 1500);
  };
}
"""

_button = st.components.v2.component("copy_link", html=_HTML, css=_CSS, js=_JS)


def copy_link(run: int) -> None:
    """Draw the button; `run` counts the pages drawn, and the browser answers each once it shows it."""

    def shown() -> None:
        if st.session_state["copy_link"]["shown"] == st.session_state.run:  # not of a page that was left meanwhile
            release_panels()

    with st.container(width="content"):
        _button(key="copy_link", data={"run": run}, on_shown_change=shown, width="content", height="content")
