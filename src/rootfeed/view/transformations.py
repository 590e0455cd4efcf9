"""What a frame does with its columns, in order."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any

from rootfeed.errors import ArgumentError, RootfeedError
from rootfeed.expression import Cut, Definition, Expression

__all__ = ["Range", "Transformation", "check_runs_elsewhere", "check_sendable", "named"]


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
    for each in _by_functions(transformations):
        reason = _unsendable(each.how)
        if reason and not _is_copied_by_value():
            raise _refused(
                each,
                reason,
                'Workers that are forked need no copy: DataLoader(..., multiprocessing_context="fork").',
            )


def check_runs_elsewhere(transformations: Sequence[Transformation], executor: Executor) -> None:
    """Refuse functions that an executor's processes could not make of what is sent to them.

    Raises
    ------
    ArgumentError
    """
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    script = getattr(sys.modules["__main__"], "__file__", None) is not None
    # Threads share it, and multiprocessing runs a script again in each process.
    has_main = isinstance(executor, ThreadPoolExecutor) or (
        script and isinstance(executor, ProcessPoolExecutor)
    )
    for each in _by_functions(transformations):
        reason = ""
        if not has_main and getattr(each.how, "__module__", "") == "__main__":
            reason = "it is written in what runs here, `__main__`, which they cannot import"
        else:
            try:
                pickle.dumps(each.how)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
        if reason:
            remedy = "Or leave executor= out of rootfeed.open: threads take any function."
            raise _refused(each, reason, remedy, "the executor's processes")


def _by_functions(transformations: Sequence[Transformation]) -> list[Definition]:
    """Return the definitions that are no expressions."""
    definitions = [each for each in transformations if isinstance(each, Definition)]
    return [each for each in definitions if not isinstance(each.how, Expression)]


def _refused(
    made: Definition, reason: str, remedy: str, where: str = "another process"
) -> ArgumentError:
    # A cut by a function is a column that nobody sees.
    is_cut = made.label != made.name
    what = f"the cut {made.label!r}" if is_cut else f"column {made.name!r}"
    return ArgumentError(
        f"{what} is made by {_called(made.how)}, which cannot be sent to {where} ({reason[:200]}). "
        'Write it as text, such as "x * 2", or as a function of a module, outside of other functions. '
        f"{remedy}"
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
