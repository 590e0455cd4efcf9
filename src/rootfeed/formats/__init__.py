"""From gathered arrays to what a framework takes. Nothing is copied that need not be.

A format is a function of an iterator of gathered arrays, which gives an iterator of batches. Each
framework has a module of its own, which imports it, and is imported when somebody asks for it.
"""

from __future__ import annotations

from types import ModuleType

from rootfeed.errors import ArgumentError
from rootfeed.formats.batch import Batch, Format, numpy_format

__all__ = ["Batch", "Format", "load_torch", "numpy_format"]


def load_torch() -> ModuleType:
    """Return the module for PyTorch.

    Raises
    ------
    ArgumentError
        Where PyTorch is not installed.
    """
    try:
        import torch  # noqa: F401  # an error of ours, or of an old one, would be another
    except ImportError as error:
        raise ArgumentError(
            "batches for torch need PyTorch, which is not installed: pip install 'rootfeed[torch]'."
        ) from error
    from rootfeed.formats import torch as module

    return module
