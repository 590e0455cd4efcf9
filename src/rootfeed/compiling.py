"""Compilation by Numba. Results are kept on disk where that works; they are never needed there.

Whatever cannot be read is compiled and written again, whatever cannot be written stays in memory, with
one warning. Numba itself raises on a full disk or a file that was cut short, and believes whatever it
reads: an index that names the machine code of an older source, for instance.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

from rootfeed.errors import CacheWarning

__all__ = ["compiler", "warn_of_cache"]

_DIGEST_BYTES = hashlib.sha256().digest_size

_warned = False


def compiler(function: Callable[..., Any], **options: Any) -> Any:
    """Return a function that Numba compiles on its first call, without the GIL, or finds on disk.

    Parameters
    ----------
    function : function
        Of a source file, beside which, or in whose user's cache, the result is kept.
    **options
        Further ones of ``numba.njit``.
    """
    dispatcher = njit(nogil=True, **options)(function)
    if isinstance(getattr(dispatcher, "_cache", None), NullCache):  # not where Numba is turned off
        dispatcher._cache = _cache_of(function)
    return dispatcher


def warn_of_cache(folder: str | Path | None, error: BaseException | str) -> None:
    """Warn that kernels cannot be kept on disk, once in a process."""
    global _warned
    if _warned:
        return
    _warned = True
    where = "on disk" if folder is None else f"in {str(folder)!r}"
    cause = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    warnings.warn(
        f"compiled kernels cannot be kept {where} ({cause}). Each process compiles them anew, which "
        "takes seconds. Set NUMBA_CACHE_DIR to a folder that can be written and has room.",
        CacheWarning,
        stacklevel=2,
    )


def _cache_of(function: Callable[..., Any]) -> Any:
    try:
        return _Cache(function)
    except (RuntimeError, OSError) as error:  # no folder that Numba knows can be written
        return _NoCache(str(error))


class _NoCache(NullCache):  # type: ignore[misc]  # Numba has no types
    """Keeps nothing, and says why when there is something to keep."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def save_overload(self, sig: Any, data: Any) -> None:
        warn_of_cache(None, self._reason)


class _Cache(FunctionCache):  # type: ignore[misc]
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
            return super().load_overload(sig, target_context)
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


class _Files(IndexDataCacheFile):  # type: ignore[misc]
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
