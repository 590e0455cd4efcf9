"""Answers about all entries of a data frame, in ROOT's words: computed when they are asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rootfeed.errors import ArgumentError, UnsupportedColumnError, nearest
from rootfeed.frame import Frame, Report, view_of
from rootfeed.frame.answers import moments
from rootfeed.frame.moments import Moments
from rootfeed.view import CutCount

__all__ = ["Booked", "CutFlow", "CutInfo", "Result", "RunGraphs", "Statistic"]

_MOST = sys.float_info.max


class Result:
    """An answer that is computed when it is asked for, and kept.

    It has the attributes of the answer, too: ``df.Display().Print()``, ``for cut in df.Report()``.
    """

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute
        self._found: tuple[Any, ...] = ()

    def GetValue(self) -> Any:
        """Return the answer; the first time, compute it."""
        if not self._found:
            self._found = (self._compute(),)
        return self._found[0]

    def IsReady(self) -> bool:
        """Return whether the answer is known already."""
        return bool(self._found)

    def Print(self) -> None:
        """Print the answer."""
        value = self.GetValue()
        if hasattr(value, "Print"):
            value.Print()
        else:
            print(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.GetValue(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.GetValue())

    def __getitem__(self, key: Any) -> Any:
        return self.GetValue()[key]

    def __len__(self) -> int:
        return len(self.GetValue())

    def __bool__(self) -> bool:
        return True  # not the answer, which would have to be computed

    def __int__(self) -> int:
        return int(self.GetValue())

    def __float__(self) -> float:
        return float(self.GetValue())

    def __str__(self) -> str:
        return str(self.GetValue())

    def __repr__(self) -> str:
        return f"<Result {self._found[0]!r}>" if self._found else "<Result, not computed yet>"


def RunGraphs(handles: Iterable[Result]) -> int:
    """Compute some answers; return how many."""
    answers = list(handles)
    for answer in answers:
        answer.GetValue()
    return len(answers)


class Booked:
    """Statistics of columns of one frame: what was booked before is computed in one pass with it.

    Parameters
    ----------
    frame : function of list of str
        Returns the frame that has some columns.
    """

    def __init__(self, frame: Callable[[Sequence[str]], Frame]) -> None:
        self._frame = frame
        self._found: dict[str, Moments | None] = {}

    def result(self, name: str, answer: Callable[[Moments], Any]) -> Result:
        """Return what a function makes of a column's moments.

        Raises
        ------
        MissingColumnError
        UnsupportedColumnError
            Where the column holds no numbers.
        """
        frame = self._frame([name])
        type_ = frame.select([name]).columns[name]
        if type_.dtype is None:
            raise UnsupportedColumnError(
                f"column {name!r} ({type_.text}) holds no plain numbers, of which there is no sum and "
                "no mean. AsNumpy and Display show it."
            )
        self._found.setdefault(name, None)
        return Result(lambda: answer(self._moments(name)))

    def _moments(self, name: str) -> Moments:
        if self._found[name] is None:
            names = [each for each, known in self._found.items() if known is None]
            self._found.update(moments(view_of(self._frame(names)), names))
        found = self._found[name]
        assert found is not None
        return found


def total(of: Moments) -> float:
    """Return the sum of all values."""
    if of.nan or (of.above and of.below):
        return math.nan
    if of.above or of.below:
        return math.inf if of.above else -math.inf
    return float(of.total)


def mean(of: Moments) -> float:
    """Return the mean of all values; 0 where there is none."""
    if of.nan or of.above or of.below:
        return total(of)
    return (of.origin or 0) + of.mean


def deviation(of: Moments) -> float:
    """Return the square root of the unbiased variance; 0 below two values."""
    if of.nan or of.above or of.below:
        return math.nan
    return math.sqrt(of.squares / (of.finite - 1)) if of.finite > 1 else 0.0


def least(of: Moments) -> float:
    """Return the least value; the largest number where there is none."""
    if of.below:
        return -math.inf
    if of.finite:
        return float(of.minimum)
    if of.above:
        return math.inf
    return math.nan if of.nan else _MOST


def greatest(of: Moments) -> float:
    """Return the greatest value; minus the largest number where there is none."""
    if of.above:
        return math.inf
    if of.finite:
        return float(of.maximum)
    if of.below:
        return -math.inf
    return math.nan if of.nan else -_MOST


@dataclass(frozen=True)
class Statistic:
    """Number, mean, spread and limits of all values, as ROOT's `TStatistic` tells them."""

    moments: Moments

    def GetN(self) -> int:
        """Return how many values there are."""
        return self.moments.count

    def GetW(self) -> float:
        """Return the sum of their weights, which are 1."""
        return float(self.moments.count)

    def GetW2(self) -> float:
        """Return the sum of the squares of their weights."""
        return float(self.moments.count)

    def GetMean(self) -> float:
        """Return the mean; 0 without values."""
        return mean(self.moments)

    def GetVar(self) -> float:
        """Return the unbiased variance; 0 of one value, -1 without values."""
        return deviation(self.moments) ** 2 if self.moments.count else -1.0

    def GetRMS(self) -> float:
        """Return the standard deviation; -1, as in ROOT, where there is none above 0."""
        return deviation(self.moments) or -1.0

    def GetMeanErr(self) -> float:
        """Return the uncertainty of the mean; 0 without values."""
        return deviation(self.moments) / math.sqrt(self.moments.count) if self.moments.count else 0.0

    def GetMin(self) -> float:
        """Return the least value; the largest number without values."""
        return least(self.moments)

    def GetMax(self) -> float:
        """Return the greatest value; minus the largest number without values."""
        return greatest(self.moments)

    def __str__(self) -> str:
        return (
            f"Mean = {self.GetMean():.5g} +- {self.GetMeanErr():.4g}  RMS = {self.GetRMS():.5g}  "
            f"Count = {self.GetN()}  Min = {self.GetMin():.5g}  Max = {self.GetMax():.5g}"
        )


@dataclass(frozen=True)
class CutInfo(CutCount):
    """How many entries came to a cut, and how many passed it."""

    def GetName(self) -> str:
        """Return the cut's name; the text of one without."""
        return self.label

    def GetAll(self) -> int:
        """Return how many entries came."""
        return self.entries

    def GetPass(self) -> int:
        """Return how many entries passed."""
        return self.passed

    def GetEff(self) -> float:
        """Return the share that passed, in percent; NaN where none came."""
        return 100 * self.passed / self.entries if self.entries else math.nan


class CutFlow(Report):
    """The cut flow: a sequence of cuts with the entries that came and passed. Printed, it is a table."""

    def __init__(self, report: Report) -> None:
        cuts = tuple(CutInfo(cut.label, cut.entries, cut.passed) for cut in report.cuts)
        super().__init__(cuts, report.entries)

    def At(self, name: str) -> CutInfo:
        """Return the cut with a name.

        Raises
        ------
        ArgumentError
        """
        for cut in self.cuts:
            if cut.label == name and isinstance(cut, CutInfo):
                return cut
        raise ArgumentError(f"there is no cut {name!r}. {nearest(name, _labels(self.cuts))}")

    def Print(self) -> None:
        """Print the table."""
        print(self)

    def __getitem__(self, key: Any) -> Any:
        return self.At(key) if isinstance(key, str) else super().__getitem__(key)


def _labels(cuts: Iterable[CutCount]) -> list[str]:
    return [cut.label for cut in cuts]
