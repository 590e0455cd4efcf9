"""From gathered arrays to what a framework takes. Nothing is copied that need not be.

A format is a function of an iterator of gathered arrays, which gives an iterator of batches. Each
framework has a module of its own, which imports it, and is imported when somebody asks for it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from rootfeed.errors import ArgumentError
from rootfeed.formats.batch import Batch, Format, numpy_format

__all__ = ["Batch", "Format", "installed", "load", "numpy_format"]

_NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "keras": "Keras"}


def installed(framework: str) -> ModuleType:
    """Return a framework's own module: ``torch``, ``tensorflow``, ``jax`` or ``keras``.

    Raises
    ------
    ArgumentError
        Where it is not installed.
    """
    try:
        return import_module(framework)
    except ImportError as error:
        if error.name is not None and error.name != framework:
            raise  # it is there, and lacks something: Keras its backend, for example
        raise ArgumentError(
            f"batches for {framework} need {_NAMES[framework]}, which is not installed: "
            f"pip install 'rootfeed[{framework}]'."
        ) from error


def load(framework: str) -> ModuleType:
    """Return our module for a framework, which imports it.

    Raises
    ------
    ArgumentError
        Where the framework is not installed.
    """
    installed(framework)  # an error of ours, or of an old one, would be another
    return import_module(f"{__name__}.{framework}")
