"""Which rank this process is, and how many there are."""

from __future__ import annotations

import os
import sys

__all__ = ["distributed_ranks", "ranks_on_this_machine"]


def distributed_ranks() -> tuple[int, int] | None:
    """Return rank and world size of torch.distributed; None where it is not initialised."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


def ranks_on_this_machine() -> int:
    """Return how many ranks this machine has, as torchrun tells in ``LOCAL_WORLD_SIZE``."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(int(told), 1) if told.isdecimal() else 1
