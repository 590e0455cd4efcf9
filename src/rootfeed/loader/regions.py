"""Regions of a dataset: files that probably hold the same kinds of entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

__all__ = ["kinds", "region_starts", "wanted_regions"]

_MOST = 64
"""Regions, at most: they are part of a state, and each costs some time for each row."""

_MOST_KINDS = 32
"""Regions for whose sake blocks are made smaller, at most: a chunk then has two blocks of each."""

_MOST_ALIKE = 16
"""Of these, files whose names differ in digits only."""


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
    for kind in (str, _without_digits, _folder):
        starts = _starts(paths, kind)
        carried = sum(np.maximum.reduceat(largest, starts).tolist())
        if len(starts) <= _MOST and carried <= most:
            return starts
    return (0,)


def wanted_regions(paths: Sequence[str]) -> tuple[int, ...]:
    """Return the first file of each region for whose sake blocks are made smaller.

    Files whose names differ, in more than digits; else those of different folders; else each file, for
    it may be of a class of its own.
    """
    for kind, most in ((_without_digits, _MOST_KINDS), (_folder, _MOST_KINDS), (str, _MOST_ALIKE)):
        starts = _starts(paths, kind)
        if 1 < len(starts) <= most:
            return starts
    return (0,)


def kinds(paths: Sequence[str]) -> int:
    """Return of how many kinds files are by their names, in whatever order; 1 where they do not tell."""
    found = len({_without_digits(path) for path in paths})
    return found if found <= _MOST_KINDS else 1


def _starts(paths: Sequence[str], kind: Callable[[str], str]) -> tuple[int, ...]:
    return tuple(next(run)[0] for _, run in groupby(enumerate(paths), lambda each: kind(each[1])))


def _without_digits(path: str) -> str:
    return re.sub(r"\d+", "", path)


def _folder(path: str) -> str:
    return _without_digits(path.rpartition("/")[0])
