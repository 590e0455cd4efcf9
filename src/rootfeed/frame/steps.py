"""What a frame does with its columns, in order."""

from __future__ import annotations

from dataclasses import dataclass

from rootfeed.expression import Cut, Definition

__all__ = ["Range", "Step"]


@dataclass(frozen=True)
class Range:
    """Of the entries that come here, those with the numbers ``range(start, stop, step)``."""

    start: int
    stop: int | None
    step: int


Step = Definition | Cut | Range
