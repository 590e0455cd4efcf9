"""What a frame does with its columns, in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rootfeed.errors import RootfeedError
from rootfeed.expression import Cut, Definition

__all__ = ["Range", "Step", "named"]


@dataclass(frozen=True)
class Range:
    """Of the entries that come here, those with the numbers ``range(start, stop, step)``."""

    start: int
    stop: int | None
    step: int


Step = Definition | Cut | Range


@contextmanager
def named(where: str) -> Iterator[None]:
    """Name the file in errors of types, which may differ from file to file."""
    try:
        yield
    except RootfeedError as error:
        raise type(error)(f"{where}: {error}") from error
