"""From the source of a kernel to a compiled function, which is kept in the process and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import numba
import numpy as np

import rootfeed.expression.library as library
from rootfeed.compiling import compiler, warn_of_cache

__all__ = ["compiled"]

_HEAD = '''"""A kernel made by rootfeed from expressions. It may be deleted."""
import numpy as np
from rootfeed.expression.library import *
from rootfeed.expression.library import erf, erfc, gamma, lgamma


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
            _known[key] = _loaded(source, functions)
        kernel = _known[key]
        kernel(*arguments)
    return kernel


def _loaded(source: str, functions: Mapping[str, Callable[..., Any]]) -> Any:
    if not functions:
        folder = _folder()
        try:
            return _from_file(source, folder)
        except OSError as error:
            warn_of_cache(folder, error)
    names = {name: getattr(library, name) for name in dir(library) if not name.startswith("_")}
    names |= {"np": np, **functions}
    exec(compile(source, "<rootfeed kernel>", "exec"), names)
    return compiler(names["kernel"], keep=False, error_model="numpy")


def _from_file(source: str, folder: Path) -> Any:
    """Return a kernel whose source is a file, without which Numba keeps nothing."""
    text = _HEAD + source
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    library_text = Path(library.__file__).read_text(encoding="utf-8")
    digest = hashlib.sha256("\0".join((text, versions, library_text)).encode()).hexdigest()[:32]
    path = folder / f"kernel_{digest}.py"
    _write(path, text.encode())
    # Not imported: a file with Python's own compiled code beside it may be cut short, too.
    module = ModuleType(f"rootfeed_kernel_{digest}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return compiler(module.__dict__["kernel"], error_model="numpy")


def _write(path: Path, contents: bytes) -> None:
    """Write a file in one step, unless it is there: several processes may do so at a time."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == contents:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _folder() -> Path:
    """Return the folder for kernels, in Numba's cache or the user's."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base or root) / "rootfeed"
