"""Properties that are computed once for each object, without a lock.

That of Python 3.11 has one lock for all objects of a class. Where a thread computes the property while
another one forks, it stays locked in the child: a worker of a DataLoader would wait for it forever.
"""

from __future__ import annotations

import sys
from functools import cached_property as _of_python  # noqa: TID251
from typing import Any

__all__ = ["cached_property"]

if sys.version_info >= (3, 12):
    cached_property = _of_python
else:

    class cached_property(_of_python):  # noqa: N801  # as Python calls it
        """One that threads which ask at the same time may each compute: it must do no harm."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            """Return what was computed, or compute it."""
            if instance is None:
                return self
            values = vars(instance)
            if self.attrname not in values:
                values[self.attrname] = self.func(instance)
            return values[self.attrname]
