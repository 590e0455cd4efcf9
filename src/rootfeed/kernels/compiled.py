"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rootfeed.compiling import compiler

__all__ = ["kernel"]


def kernel(*types: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function on its first call, without the GIL, and keep the result on disk if possible.

    Parameters
    ----------
    *types : str
        Those of its arguments, as Numba writes them, where they are always the same.
    """
    return lambda function: compiler(function, types=types)
