"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rootfeed.compiling import compiler

__all__ = ["kernel"]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, without the GIL, and keep the result on disk if possible."""
    return compiler(function)
