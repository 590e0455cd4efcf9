"""Which rank this process is, and how many there are."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["distributed_ranks", "first_said", "ranks_on_this_machine"]

_numbers: dict[str, dict[str, int]] = {}
"""Of what this process has said on each subject, in this order."""

_inherited: Any = None
"""The process group of the process that this one was forked from, whose connections are not ours."""


def first_said(subject: str, text: str) -> str | None:
    """Say something to all ranks; return what the first of them has said: perhaps the same.

    The n-th different text on a subject is compared with the n-th of the others. Nobody waits for
    another rank. It goes through the store in which torch.distributed's processes have found each other.

    Parameters
    ----------
    subject : str
        On which all ranks say the same, and in the same order.
    text : str

    Returns
    -------
    str or None
        None where there is no store.
    """
    store = _store()
    if store is None:
        return None
    said = _numbers.setdefault(subject, {})
    number = said.setdefault(text, len(said))
    try:
        return str(store.compare_set(f"rootfeed/{subject}/{number}", "", text), "utf-8")
    except RuntimeError:  # a store that cannot do this, or has gone
        return None


def _store() -> Any:
    distributed = _distributed()
    if distributed is None or distributed.group.WORLD is _inherited:
        return None
    # No public name: where it has another one, ranks do not compare.
    return getattr(distributed.distributed_c10d, "_get_default_store", lambda: None)()


def _forked() -> None:
    global _inherited
    distributed = _distributed()
    _inherited = None if distributed is None else distributed.group.WORLD


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def distributed_ranks() -> tuple[int, int] | None:
    """Return rank and world size, as torch.distributed or Ray Train says; None where neither runs."""
    distributed = _distributed()
    if distributed is not None:
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


def _distributed() -> Any:
    """Return torch.distributed where its processes have found each other; None elsewhere."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    runs = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return distributed if runs else None


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
