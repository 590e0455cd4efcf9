"""Budgets in bytes: what the user writes, and what the machine has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rootfeed.arguments import size_bytes
from rootfeed.ranks import ranks_on_this_machine

__all__ = ["budget_bytes", "free_bytes", "is_measured"]

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
    return size_bytes(name, memory, "'auto'")


def is_measured(memory: int | float | str, memory_bytes: int) -> bool:
    """Whether a budget is what was free here and then, and so another one in other processes."""
    return memory == "auto" and memory_bytes < _AUTO_MOST // ranks_on_this_machine()


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
