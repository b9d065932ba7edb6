"""A button that copies the page's address, which holds the whole view."""

from __future__ import annotations

import streamlit as st

_HTML = '<button type="button">Copy link</button>'
_CSS = """
button {
  font: inherit; font-size: .875rem; color: var(--st-text-color); background: transparent; cursor: pointer;
  border: 1px solid var(--st-border-color); border-radius: .5rem; padding: .3rem .75rem; white-space: nowrap;
}
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
"""
_JS = """
export default function ({ parentElement }) {
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


def copy_link() -> None:
    """Draw the button."""
    with st.container(width="content"):
        _button(key="copy_link", width="content", height="content")
