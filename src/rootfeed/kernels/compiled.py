"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["kernel"]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, without the GIL, and keep the result on disk.

    Where no folder for that can be written (a read-only installation without a home directory), each
    process compiles anew.
    """
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # Numba: "cannot cache function: no locator available"
        return njit(nogil=True)(function)
