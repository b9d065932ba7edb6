"""Orthogonal matrices of equal entries: Hadamard's, by Sylvester's and Paley's constructions."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64


def make_hadamard(n: int) -> Float64[np.ndarray, "width width"]:
    """Return an orthogonal (n, n) matrix whose entries are all of one size, or made of such blocks.

    2^k times 1 or the smallest order of Paley's (q + 1 or 2 (q + 1), q an odd prime). Where n is none, blocks of its
    largest power of two, so that channels are mixed within a block only.
    """
    power = n & -n
    for doublings in reversed(range(power.bit_length())):
        core = _make_paley(n >> doublings)
        if core is not None:
            return np.kron(_make_sylvester(1 << doublings), core) / np.sqrt(n)
    return np.kron(np.eye(n // power), _make_sylvester(power)) / np.sqrt(power)


def _make_sylvester(n: int) -> Float64[np.ndarray, "width width"]:
    made = np.ones((1, 1))
    while len(made) < n:
        made = np.kron(np.array([[1.0, 1.0], [1.0, -1.0]]), made)
    return made


def _make_paley(n: int) -> Float64[np.ndarray, "width width"] | None:
    """Return a Hadamard matrix of order 1, 2, q + 1 (q = 3 mod 4) or 2 (q + 1) (q = 1 mod 4), or None."""
    if n in (1, 2):
        return _make_sylvester(n)
    if _is_prime(n - 1) and n % 4 == 0:
        return np.eye(n) + _border(n - 1, -1)
    if n % 4 == 0 and _is_prime(n // 2 - 1) and n // 2 % 4 == 2:
        conference = _border(n // 2 - 1, 1)
        unit = np.eye(n // 2)
        ones, other = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0, -1.0], [-1.0, -1.0]])
        return np.kron(conference, ones) + np.kron(unit, other)
    return None


def _border(q: int, sign: int) -> Float64[np.ndarray, "width width"]:
    """Quadratic residues of a prime as a matrix with a border of ones: a conference matrix, skew for sign -1."""
    squares = {i * i % q for i in range(1, q)}
    character = [0.0, *(1.0 if i in squares else -1.0 for i in range(1, q))]
    made = np.zeros((q + 1, q + 1))
    made[0, 1:], made[1:, 0] = 1, sign
    made[1:, 1:] = [[character[(i - j) % q] for j in range(q)] for i in range(q)]
    return made


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % factor for factor in range(2, int(n**0.5) + 1))
