"""Regions of a dataset: files that probably hold the same kinds of entries."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

__all__ = ["in_stretches", "kinds", "partitions", "wanted_regions"]

_MOST = 64
"""Regions, at most: they are part of a state, and a block of each is in memory."""

_MOST_KINDS = 32
"""Regions for whose sake blocks are made smaller, at most."""

_MOST_ALIKE = 16
"""Of these, files whose names differ in digits only."""


def partitions(paths: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Return ways to divide files into regions, the finest first: the first file of each region.

    Files are often of one class each; or those of one class have a folder of their own, or names that
    differ in digits only. The last one is a single region.

    Parameters
    ----------
    paths : sequence of str
        Of all files, in order.
    """
    found = [_starts(paths, kind) for kind in (str, _without_digits, _folder)]
    return (*(starts for starts in found if len(starts) <= _MOST), (0,))


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


def in_stretches(paths: Sequence[str]) -> bool:
    """Whether files of one kind, by their names, follow one another."""
    kinds_ = len({_without_digits(path) for path in paths})
    return kinds_ > _MOST_KINDS or len(_starts(paths, _without_digits)) == kinds_


def _starts(paths: Sequence[str], kind: Callable[[str], str]) -> tuple[int, ...]:
    return tuple(next(run)[0] for _, run in groupby(enumerate(paths), lambda each: kind(each[1])))


def _without_digits(path: str) -> str:
    return re.sub(r"\d+", "", path)


def _folder(path: str) -> str:
    return _without_digits(path.rpartition("/")[0])
