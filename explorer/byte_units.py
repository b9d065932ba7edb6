"""Bytes of a unit, by its name."""

from __future__ import annotations

#: Bytes of a unit.
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
