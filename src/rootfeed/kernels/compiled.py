"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rootfeed.compiling import compiler

__all__ = ["kernel", "part"]


def kernel(*types: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function on its first call, without the GIL, and keep the result on disk if possible.

    Parameters
    ----------
    *types : str
        Those of its arguments, as Numba writes them, where they are always the same.
    """
    return lambda function: compiler(function, types=types)


def part(function: Callable[..., Any]) -> Any:
    """Compile a function within the kernels that call it: nobody else can, and alone it is not kept.

    So it costs a third less to compile than one that Python may call.
    """
    return compiler(function, keep=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)
