"""What files of one production have in common, which is computed once in a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from rootfeed.processes import ForkLock

__all__ = ["once"]

Value = TypeVar("Value")

_MOST = 64

_known: OrderedDict[Hashable, Any] = OrderedDict()
_lock = ForkLock()


def once(key: Hashable, make: Callable[[], Value]) -> Value:
    """Return what was made for a key before, or make it: one at a time, for all threads.

    Parameters
    ----------
    key : hashable
        A digest of all that the value depends on.
    make : function
        Whatever it raises is not kept.
    """
    found: Value | None = _known.get(key)
    if found is not None:
        return found
    with _lock:
        found = _known.get(key)
        if found is None:
            found = make()
            _known[key] = found
            while len(_known) > _MOST:
                _known.popitem(last=False)
    return found
