"""What a frame does with its columns, in order."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any

from rootfeed.errors import ArgumentError, RootfeedError
from rootfeed.expression import Cut, Definition, Expression

__all__ = ["Range", "Transformation", "check_sendable", "named"]


@dataclass(frozen=True)
class Range:
    """Of the entries that come here, those with the numbers ``range(start, stop, step)``."""

    start: int
    stop: int | None
    step: int


Transformation = Definition | Cut | Range


@contextmanager
def named(where: str) -> Iterator[None]:
    """Name the file in errors of types, which may differ from file to file."""
    try:
        yield
    except RootfeedError as error:
        raise type(error)(f"{where}: {error}") from error


def check_sendable(transformations: Sequence[Transformation]) -> None:
    """Refuse functions that cannot be pickled: the error of `pickle` names no column.

    Raises
    ------
    ArgumentError
    """
    for each in transformations:
        if not isinstance(each, Definition) or isinstance(each.how, Expression):
            continue
        reason = _unsendable(each.how)
        if reason and not _is_copied_by_value():
            # A cut by a function is a column that nobody sees.
            is_cut = each.label != each.name
            what = f"the cut {each.label!r}" if is_cut else f"column {each.name!r}"
            raise ArgumentError(
                f"{what} is made by {_called(each.how)}, which cannot be sent to another process "
                f'({reason[:200]}). Write it as text, such as "x * 2", or as a function of a module, '
                "outside of other functions. Workers that are forked need no copy: "
                'DataLoader(..., multiprocessing_context="fork").'
            )


def _called(function: Any) -> str:
    return str(getattr(function, "__qualname__", f"an object of {type(function).__qualname__}"))


def _unsendable(function: Any) -> str:
    """Return why a function cannot be pickled, or cannot be found again; empty if it can."""
    main = sys.modules["__main__"]
    interactive = getattr(main, "__file__", None) is None and getattr(main, "__spec__", None) is None
    if interactive and get_spawning_popen() and getattr(function, "__module__", "") == "__main__":
        return "it was written in an interactive session, which no other process can import"
    try:
        pickle.dumps(function)
        return ""
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    try:
        ForkingPickler.dumps(function)  # which knows more, such as sockets
    except Exception:
        return reason
    return ""


def _is_copied_by_value() -> bool:
    """Whether it is no plain pickle that asks: these take any function along."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name == "copy" or "cloudpickle" in name or name.partition(".")[0] == "dill":
            return True
        frame = frame.f_back
    return False
