"""Which rank this process is, and how many there are."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["distributed_ranks", "ranks_on_this_machine"]


def distributed_ranks() -> tuple[int, int] | None:
    """Return rank and world size, as torch.distributed or Ray Train says; None where neither runs."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    context = _ray_context()
    return None if context is None else (context.get_world_rank(), context.get_world_size())


def ranks_on_this_machine() -> int:
    """Return how many ranks this machine has, as torchrun's ``LOCAL_WORLD_SIZE`` or Ray Train says."""
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    if told.isdecimal():
        return max(int(told), 1)
    context = _ray_context()
    return 1 if context is None else int(context.get_local_world_size())


def _ray_context() -> Any:
    """Return what Ray Train tells a worker of a training; None elsewhere."""
    train = sys.modules.get("ray.train")
    if train is None or not hasattr(train, "get_context"):
        return None
    try:
        context = train.get_context()
        return context if context.get_world_size() else None
    except RuntimeError:  # not in a function that a trainer runs
        return None
