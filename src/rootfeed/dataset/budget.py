"""Budgets in bytes: what the user writes, and what the machine has."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import numpy as np

from rootfeed.errors import ArgumentError
from rootfeed.ranks import ranks_on_this_machine

__all__ = ["budget_bytes", "free_bytes"]

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_AUTO_SHARE = 4
_AUTO_MOST = 4_000_000_000


def budget_bytes(memory: int | float | str, name: str = "memory") -> int:
    """Turn ``"1 GB"``, a number of bytes, or ``"auto"`` into bytes.

    ``"auto"`` is a quarter of the memory that is free now, 4 GB at most; ranks on one machine, which
    torchrun counts in ``LOCAL_WORLD_SIZE``, share that quarter. As in uproot,
    ``MB`` is 1000² bytes and ``MiB`` is 1024². Errors call it by its `name`.
    """
    if memory == "auto":
        return min(free_bytes() // _AUTO_SHARE, _AUTO_MOST) // ranks_on_this_machine()
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*", memory, re.IGNORECASE)
        if match is None:
            raise ArgumentError(f"{name} must look like '500 MB', '2 GB' or 'auto', got {memory!r}.")
        memory = float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    if (
        isinstance(memory, bool)
        or not isinstance(memory, int | float | np.integer | np.floating)
        or not 0 < memory < 2**60
    ):
        raise ArgumentError(f"{name} must be a positive number of bytes, got {memory!r}.")
    return int(memory)


def free_bytes() -> int:
    """Return the memory that this process could still take: of the machine, and of its cgroup."""
    import psutil  # some milliseconds, which `import rootfeed` need not take

    free = []
    with suppress(OSError):  # /proc is not there
        free.append(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return max(min(free, default=_AUTO_MOST * _AUTO_SHARE), 64 << 20)
