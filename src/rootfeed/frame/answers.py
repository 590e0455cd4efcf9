"""Answers about a whole dataset: cut flow and statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.schema import Block, Jagged
from rootfeed.tables import html_table, text_table
from rootfeed.view import Columns, CutCount, Take, View

__all__ = ["Report", "Sketch", "Statistics", "Summary", "describe"]

_EXACT = 2**53
"""Up to here every integer is a float64."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Report(Sequence[CutCount]):
    """The cut flow: a sequence of cuts with the entries that came and passed. Printed, it is a table.

    Attributes
    ----------
    cuts : tuple of CutCount
    entries : int
        Entries before the first cut.
    """

    cuts: tuple[CutCount, ...]
    entries: int

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, number: Any) -> Any:
        return self.cuts[number]

    def __str__(self) -> str:
        return text_table(*self._table()) if self.cuts else f"no cuts: {self.entries} entries"

    def __repr__(self) -> str:
        passed = self.cuts[-1].passed if self.cuts else self.entries
        return f"<Report of {len(self.cuts)} cuts: {passed} of {self.entries} entries pass>"

    def _repr_html_(self) -> str:
        return html_table(*self._table(), repr(self))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [
                cut.label,
                str(cut.entries),
                str(cut.passed),
                _percent(cut.passed, cut.entries),
                _percent(cut.passed, self.entries),
            ]
            for cut in self.cuts
        ]
        return ["cut", "entries", "passed", "efficiency", "cumulative"], rows


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"


@dataclass(frozen=True)
class Statistics:
    """What a column holds.

    NaN and infinite values are counted, and left out of everything else.

    Attributes
    ----------
    count : int
        Values, NaN and infinite ones included.
    mean, std : float
        `std` is that of the values as a whole population (ddof = 0).
    minimum, maximum : float or int
        Of integers exact; quantiles are, too, where they lie beyond 2^53.
    nan, infinite : int
    quantiles : mapping of float to float
        At 1 %, 5 %, 16 %, 25 %, 50 %, 75 %, 84 %, 95 % and 99 %, to within 0.1 % in rank.
    """

    count: int
    mean: float
    std: float
    minimum: float | int
    maximum: float | int
    nan: int
    infinite: int
    quantiles: Mapping[float, float]


class Summary(dict[str, Statistics]):
    """Statistics by column. Printed, it is a table."""

    def __str__(self) -> str:
        return text_table(*self._table())

    def __repr__(self) -> str:
        of = ", ".join(self) if 0 < len(self) < 5 else f"{len(self)} columns"
        return f"<Summary of {of}>"

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = []
        for name, found in self.items():
            values = (
                found.mean,
                found.std,
                found.minimum,
                *(found.quantiles[share] for share in (0.16, 0.5, 0.84)),
                found.maximum,
            )
            numbers = [f"{number:.5g}" for number in values]
            rows.append([name, str(found.count), *numbers, str(found.nan), str(found.infinite)])
        head = ["column", "count", "mean", "std", "min", "16 %", "50 %", "84 %", "max", "NaN", "inf"]
        return head, rows


def describe(view: View, names: Sequence[str]) -> Summary:
    """Return statistics of columns over the entries that pass, in one pass."""

    def summaries(_: Block, __: Take, values: Columns) -> dict[str, Any]:
        return {
            name: Sketch.summary(found.values if isinstance(found, Jagged) else found)
            for name, found in values.items()
        }

    sketches = {name: Sketch() for name in names}
    for _, _, found in view.scan(names, summaries):
        for name, summary in found.items():
            sketches[name].add(summary)
    return Summary({name: sketch.statistics() for name, sketch in sketches.items()})


class Sketch:
    """Statistics of a column that come block by block.

    Quantiles come from a summary of equally spaced order statistics: m points of a sorted block of n
    values, each standing for n / m of them, are off by at most n / (2 m) in rank, and errors of blocks
    add up to no more than that share of the whole. Summaries are merged and thinned out again 64 at a
    time, which adds the same error once for each level.

    Integers that float64 does not hold are looked at relative to the first block's least one: exactly,
    unless they spread over more than 2^53.
    """

    POINTS = 4096
    FAN_IN = 64
    SHARES = (0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99)

    def __init__(self) -> None:
        self.count = self.nan = self.infinite = 0
        self.minimum: float | int = math.inf
        self.maximum: float | int = -math.inf
        self._origin: int | None = None
        self.mean = self.squares = 0.0
        self._levels: list[list[tuple[Floats, Floats]]] = []

    @staticmethod
    def summary(values: npt.NDArray[Any]) -> tuple[Any, ...]:
        """Return what `add` takes of a block: its origin, and small arrays."""
        is_integer, origin, least, most = values.dtype.kind in "iu", 0, 0, 0
        real = values.astype(np.float64)
        if is_integer and values.size:
            least, most = int(values.min()), int(values.max())
            if max(-least, most) > _EXACT and most - least < _EXACT:
                origin = least
                real = (values - values.dtype.type(least)).astype(np.float64)
        nan = int(np.count_nonzero(np.isnan(real)))
        finite = np.sort(real[np.isfinite(real)])
        n = len(finite)
        mean = float(finite.mean()) if n else 0.0
        moments = np.array(
            [len(real), nan, len(real) - nan - n, mean, float(((finite - mean) ** 2).sum())]
        )
        ends = (least, most) if is_integer else (finite[:1], finite[-1:])
        return origin, moments, *_thinned(finite, np.ones(n), Sketch.POINTS), *ends

    def add(self, summary: tuple[Any, ...]) -> None:
        """Take in the summary of a block (Chan, Golub, LeVeque 1983 for the moments)."""
        origin, moments, points, weights, least, most = summary
        count, nan, infinite = (int(number) for number in moments[:3])
        known = self.count - self.nan - self.infinite
        new = count - nan - infinite
        self.count, self.nan, self.infinite = (
            self.count + count,
            self.nan + nan,
            self.infinite + infinite,
        )
        if new == 0:
            return
        if self._origin is None:
            self._origin = origin
        shift = float(origin - self._origin)
        step = moments[3] + shift - self.mean
        self.mean += step * new / (known + new)
        self.squares += moments[4] + step * step * known * new / (known + new)
        self.minimum = min(self.minimum, least if isinstance(least, int) else float(least[0]))
        self.maximum = max(self.maximum, most if isinstance(most, int) else float(most[0]))
        self._keep(0, points + shift, weights)

    def _keep(self, level: int, points: Floats, weights: Floats) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append((points, weights))
        if len(self._levels[level]) == self.FAN_IN:
            merged = _merged(self._levels[level])
            self._levels[level] = []
            self._keep(level + 1, *_thinned(*merged, self.POINTS))

    def statistics(self) -> Statistics:
        """Return the statistics of all values so far."""
        known = self.count - self.nan - self.infinite
        if not known:
            nothing = dict.fromkeys(self.SHARES, math.nan)
            return Statistics(
                self.count, math.nan, math.nan, math.nan, math.nan, self.nan, self.infinite, nothing
            )
        points, weights = _merged([each for level in self._levels for each in level])
        ranks = np.cumsum(weights)
        places = np.searchsorted(ranks, np.array(self.SHARES) * ranks[-1])
        found = points[np.minimum(places, len(points) - 1)].tolist()
        if origin := self._origin or 0:
            limits = int(self.minimum), int(self.maximum)
            found = [min(max(origin + round(each), limits[0]), limits[1]) for each in found]
        return Statistics(
            count=self.count,
            mean=float(origin + self.mean),
            std=math.sqrt(self.squares / known),
            minimum=self.minimum,
            maximum=self.maximum,
            nan=self.nan,
            infinite=self.infinite,
            quantiles=dict(zip(self.SHARES, found, strict=True)),
        )


def _merged(summaries: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    points = np.concatenate([points for points, _ in summaries])
    weights = np.concatenate([weights for _, weights in summaries])
    order = np.argsort(points, kind="stable")
    return points[order], weights[order]


def _thinned(points: Floats, weights: Floats, most: int) -> tuple[Floats, Floats]:
    """Return at most so many sorted points, each in the middle of what it stands for."""
    if len(points) <= most:
        return points, weights
    ranks = np.cumsum(weights)
    middles = (np.arange(most) + 0.5) * ranks[-1] / most
    return points[np.searchsorted(ranks, middles)], np.full(most, ranks[-1] / most)
