"""Regions of a dataset: files that probably hold the same kinds of entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

__all__ = ["region_starts"]

_MOST = 64
"""Regions, at most: they are part of a state, and each costs some time for each row."""


def region_starts(paths: Sequence[str], largest: Sequence[int], most: float) -> tuple[int, ...]:
    """Return the first file of each region, of which every chunk is to hold its share.

    Files are often of one class each; or those of one class have a folder of their own, or names that
    differ in digits only. The finest of these that gives few enough regions is taken.

    Parameters
    ----------
    paths : sequence of str
        Of all files, in order.
    largest : sequence of int
        Rows of the largest block of each file.
    most : float
        Rows that there is room for of the largest block of each region, together: the rest of a block
        of each is carried from chunk to chunk.

    Returns
    -------
    tuple of int
        Only ``(0,)`` where there are too many, or but one.
    """
    kinds: tuple[Callable[[str], str], ...] = (str, _without_digits, _folder)
    for kind in kinds:
        runs = [len(list(run)) for _, run in groupby(paths, kind)]
        starts = [sum(runs[:number]) for number in range(len(runs))]
        carried = sum(max(largest[start : start + run]) for start, run in zip(starts, runs, strict=True))
        if len(runs) <= _MOST and carried <= most:
            return tuple(starts)
    return (0,)


def _without_digits(path: str) -> str:
    return re.sub(r"\d+", "", path)


def _folder(path: str) -> str:
    return _without_digits(path.rpartition("/")[0])
