"""From the source of a kernel to a compiled function, which is kept in the process and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import numba
import numpy as np

import rootfeed.expression.library as library

__all__ = ["compiled"]

_HEAD = '''"""A kernel made by rootfeed from expressions. It may be deleted."""
import numpy as np
from numba import njit
from rootfeed.expression.library import *
from rootfeed.expression.library import erf, erfc, gamma, lgamma


@njit(nogil=True, cache=True, error_model="numpy")
'''

_known: dict[tuple[Any, ...], Any] = {}
_lock = RLock()


def _renew_lock() -> None:
    """Forget, in a forked child, that a thread of its parent was compiling."""
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def compiled(
    source: str, functions: Mapping[str, Callable[..., Any]], arguments: tuple[Any, ...]
) -> Any:
    """Return the function ``kernel`` of a source, compiled for some arguments.

    Parameters
    ----------
    source : str
        A function ``kernel``. It holds nothing that a user wrote.
    functions : mapping of str to function
        Compiled functions that it calls, besides those of the library; with any, nothing is kept on
        disk.
    arguments : tuple
        Arguments of the types that it will be called with; it is called with them once.
    """
    key = (source, *functions.values())
    with _lock:
        if key not in _known:
            _known[key] = _loaded(source, functions, arguments)
        kernel = _known[key]
        kernel(*arguments)
    return kernel


def _loaded(source: str, functions: Mapping[str, Callable[..., Any]], arguments: tuple[Any, ...]) -> Any:
    if not functions and (folder := _folder()) is not None:
        with contextlib.suppress(OSError, RuntimeError):
            kernel = _from_file(source, folder)
            kernel(*arguments)  # Numba writes to the disk here, which may be full
            return kernel
    names = {name: getattr(library, name) for name in dir(library) if not name.startswith("_")}
    names |= {"np": np, **functions}
    exec(compile(source, "<rootfeed kernel>", "exec"), names)
    return numba.njit(nogil=True, error_model="numpy")(names["kernel"])


def _from_file(source: str, folder: Path) -> Any:
    text = _HEAD + source
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    library_text = Path(library.__file__).read_text(encoding="utf-8")
    digest = hashlib.sha256("\0".join((text, versions, library_text)).encode()).hexdigest()[:32]
    path = folder / f"kernel_{digest}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        # Several processes may write the same file: each its own, and then in one step.
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    spec = importlib.util.spec_from_file_location(f"rootfeed_kernel_{digest}", path)
    if spec is None or spec.loader is None:
        raise OSError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.__dict__["kernel"]


def _folder() -> Path | None:
    """Return the folder for kernels, in Numba's cache or the user's; None if not writable."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base or root) / "rootfeed"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
