"""Compilation by Numba: interrupted by Ctrl-C, never seen by a fork, kept on disk where that works.

Nothing on disk is needed. Whatever cannot be read is compiled and written again, whatever cannot be
written stays in memory, with one warning. Numba itself raises on a full disk or a file that was cut
short, and believes whatever it reads: an index that names the machine code of an older source, for
instance.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

from rootfeed.errors import CacheWarning, warn

try:
    from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.runtime import rtsys
except ImportError:  # what lies within Numba may have other names in another version
    FunctionCache = IndexDataCacheFile = NullCache = object
    global_compiler_lock = rtsys = None

__all__ = ["compile_declared", "compiler", "warn_of_cache"]

Result = TypeVar("Result")

_DIGEST_BYTES = hashlib.sha256().digest_size

_PATIENCE_SECONDS = 2.0
_GLANCE_SECONDS = 0.2  # Windows interrupts no wait without an end

_warned = False
_waited_seconds = 0.0
_declared: list[tuple[Any, Sequence[str]]] = []
# Held while something is compiled, by us or by others: a fork waits for it.
_lock: Any = threading.RLock() if global_compiler_lock is None else global_compiler_lock


def compiler(
    function: Callable[..., Any], *, types: Sequence[str] = (), keep: bool = True, **options: Any
) -> Any:
    """Return a function that Numba compiles on its first call, without the GIL, or finds on disk.

    Parameters
    ----------
    function : function
    types : sequence of str
        The types of arguments that it is called with, as Numba writes signatures, where they are always
        the same: `compile_declared` compiles it for them.
    keep : bool
        On disk: beside the function's source file, or in the user's cache.
    **options
        Further ones of ``numba.njit``.
    """
    dispatcher = njit(nogil=True, **options)(function)
    if not hasattr(dispatcher, "compile"):
        return dispatcher  # Numba is turned off
    # Before each first call, Numba imports what extends it, for types of arguments that are not NumPy's.
    dispatcher._compilation_chain_init_hook = _no_extensions
    if keep:
        _keep(dispatcher, function)
    compile_now = dispatcher.compile

    def compile_alone(signature: Any) -> Any:
        return _interruptible(lambda: compile_now(signature))

    dispatcher.compile = compile_alone
    _declared.extend([(dispatcher, types)] if types else [])
    return dispatcher


def _no_extensions() -> None:
    """Do nothing: whoever compiles imports them in any case."""


def compile_declared() -> None:
    """Compile all functions that are always called with the same types."""
    for dispatcher, types in _declared:
        for each in types:
            dispatcher.compile(each)


def _interruptible(work: Callable[[], Result]) -> Result:
    """Compile on a thread of its own, while the main one waits for Ctrl-C.

    An interrupt that arrives while LLVM calls Python back would be printed, and lost. After one, the
    thread ends what it is at: some seconds at most, for which the interpreter's end waits.
    """
    if _within_another() or threading.current_thread() is not threading.main_thread():
        with _lock:
            return work()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with _lock:
                results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="compiling")
    try:
        thread.start()
    except RuntimeError:  # the interpreter ends
        return work()
    _wait(thread)
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # an error refers to frames, and these to the error
    return results[0]


def _within_another() -> bool:
    """Whether Numba is compiling something on this thread, so that another one would wait for it."""
    asked = getattr(global_compiler_lock, "is_locked", None)
    return asked is None or bool(asked())


def _wait(thread: threading.Thread) -> None:
    """Wait for a thread; say what takes so long, once, on a terminal."""
    global _waited_seconds
    while thread.is_alive():
        begun, told = time.monotonic(), _waited_seconds > _PATIENCE_SECONDS
        thread.join(_GLANCE_SECONDS)
        _waited_seconds += time.monotonic() - begun
        if not told and _waited_seconds > _PATIENCE_SECONDS and sys.stderr and sys.stderr.isatty():
            print("rootfeed: compiling kernels, which is kept for the next time.", file=sys.stderr)


if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads: what they held would be held forever.
    os.register_at_fork(
        before=lambda: _lock.acquire(),
        after_in_parent=lambda: _lock.release(),
        after_in_child=lambda: _lock.release(),
    )


def warn_of_cache(folder: str | Path | None, error: BaseException | str) -> None:
    """Warn that kernels cannot be kept on disk, once in a process."""
    global _warned
    if _warned:
        return
    _warned = True
    where = "on disk" if folder is None else f"in {str(folder)!r}"
    cause = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    warn(
        f"compiled kernels cannot be kept {where} ({cause}). Each process compiles them anew, which "
        "takes seconds. Set NUMBA_CACHE_DIR to a folder that can be written and has room.",
        CacheWarning,
    )


def _keep(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Have what is compiled kept on disk: by Numba alone, where it is not built as we know it."""
    try:
        if isinstance(dispatcher._cache, NullCache) and FunctionCache is not object:
            dispatcher._cache = _Cache(function)
            return
    except (RuntimeError, OSError) as error:  # no folder that Numba knows can be written
        dispatcher._cache = _NoCache(str(error))
        return
    except (AttributeError, TypeError):
        pass
    with suppress(Exception):
        dispatcher.enable_caching()


class _NoCache(NullCache):  # type: ignore[misc]  # Numba has no types
    """Keeps nothing, and says why when there is something to keep."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def save_overload(self, sig: Any, data: Any) -> None:
        warn_of_cache(None, self._reason)


class _Cache(FunctionCache):  # type: ignore[misc]  # Numba has no types
    """Numba's cache of a function, which never raises."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Files(
            cache_path=locator.get_cache_path(),
            filename_base=self._impl.filename_base,
            source_stamp=locator.get_source_stamp(),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            # What Numba imports before, awkward included, only compilation needs.
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception:
            return None  # it is compiled, and written again

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            problem = error
        else:
            return
        warn_of_cache(self.cache_path, problem)


class _Files(IndexDataCacheFile):  # type: ignore[misc]  # Numba has no types
    """Numba's files, of which each tells whether it is whole, and what it belongs to.

    Machine code that is not the one of this source and signature would crash, or compute something else.
    """

    def save(self, key: Any, data: Any) -> None:
        known = self._load_index()
        name = known.get(key)
        if name is None:
            names = (self._data_name(number) for number in itertools.count(1))
            name = next(name for name in names if name not in known.values())
        contents = self._dump((self._source_stamp, key, data))
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(contents).digest() + contents)
        # The index comes last: what it names is there.
        self._save_index(known | {key: name})

    def load(self, key: Any) -> Any:
        name = self._load_index().get(key)
        if name is None:
            return None
        raw = Path(self._data_path(name)).read_bytes()
        digest, contents = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if hashlib.sha256(contents).digest() != digest:
            return None
        stamp, its_key, data = pickle.loads(contents)
        return data if (stamp, its_key) == (self._source_stamp, key) else None

    def _load_index(self) -> dict[Any, str]:
        try:
            return dict(super()._load_index())
        except Exception:
            return {}  # as if it were not there: it is written again
