"""Strata: the classes whose shares of a batch are fixed, and which one each entry belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, MissingColumnError, UnsupportedColumnError, nearest
from rootfeed.expression import Definition, texts
from rootfeed.frame import Frame, view_of
from rootfeed.plan import BitMask, bit_mask
from rootfeed.schema import Array, Block, Texts

__all__ = ["Strata", "by_frame", "by_label", "columns_of", "distinct", "new_name", "values_of"]

Codes = npt.NDArray[np.uint8]

_MOST = 255


@dataclass(frozen=True, eq=False)
class Strata:
    """The stratum of each entry of a dataset: its number is kept in as many bits as it takes.

    Attributes
    ----------
    values : tuple
        What the strata stand for: values of a label, in ascending order, or numbers of frames.
    planes : tuple of tuple of ndarray of uint64
        For each file, the bits of each binary digit of its entries' strata, lowest digit first.
    """

    values: tuple[Any, ...]
    planes: tuple[tuple[BitMask, ...], ...]

    def codes(self, file: int, start: int, stop: int) -> Codes:
        """Return the stratum of each entry of ``[start, stop)``; any, where cuts leave it out."""
        out = np.zeros(stop - start, np.uint8)
        first = start // 64
        for digit, words in enumerate(self.planes[file]):
            near = words[first : -(-stop // 64)].astype("<u8").view(np.uint8)
            bits = np.unpackbits(near, bitorder="little")[start - 64 * first : stop - 64 * first]
            out |= bits << np.uint8(digit)
        return out


def by_frame(files: Sequence[int], entries: Sequence[int], order: Sequence[int] | None = None) -> Strata:
    """Return the strata of which each holds the files of one frame.

    Parameters
    ----------
    files : sequence of int
        Files of each frame.
    entries : sequence of int
        Entries of each file.
    order : sequence of int, optional
        Numbers of the frames in the order of the strata; ascending, if left out.
    """
    values = tuple(range(len(files)) if order is None else order)
    numbers = [values.index(frame) for frame, count in enumerate(files) for _ in range(count)]
    codes = [np.full(count, number, np.uint8) for number, count in zip(numbers, entries, strict=True)]
    return Strata(values, _planes(codes, len(files)))


def by_label(frames: Sequence[Frame], label: str, *, raw: bool = False) -> Strata:
    """Return the strata of which each holds the entries with one value of a column.

    Reads the column, with a progress bar if that takes longer than a second.

    Parameters
    ----------
    frames : sequence of Frame
    label : str
        A column of numbers, or of text.
    raw : bool
        Look at entries that do not pass the cuts, too, if the column is stored.

    Raises
    ------
    MissingColumnError, UnsupportedColumnError
        Where the column does not exist or does not hold one number per entry.
    ArgumentError
        Where it is NaN, or has more than 255 values.
    """
    found: dict[Any, int] = {}
    codes: list[Codes] = []

    def classes(_: Block, __: Any, values: dict[str, Any]) -> tuple[list[Any], Array]:
        return distinct(values[label])

    for file, where, entries, parts in values_of(frames, [label], classes, raw=raw):
        mine = np.zeros(entries, np.uint8)
        for block, take, (values, inverse) in parts:
            if any(value != value for value in values):
                raise ArgumentError(
                    f"{where}: column {label!r} is NaN in entries [{block.start}, {block.stop}). "
                    "A class must have a number: cut such entries, or define another label."
                )
            numbers = [found.setdefault(value, len(found)) for value in values]
            if len(found) > _MOST:
                raise ArgumentError(
                    f"column {label!r} has more than {_MOST} values (up to {where}); "
                    "classes are few. Define a label with fewer values."
                )
            mine[block.start + take] = np.array(numbers, np.uint8)[inverse]
        assert file == len(codes)
        codes.append(mine)
    values = sorted(found)
    renamed = np.empty(max(len(found), 1), np.uint8)
    for number, value in enumerate(values):
        renamed[found[value]] = number
    return Strata(tuple(values), _planes([renamed[each] for each in codes], len(values)))


def distinct(column: Array | Texts) -> tuple[list[Any], Array]:
    """Return the values of a label, a few more than there may be, and which of them each entry has.

    As Python's numbers, so that integers of any size stay different; or as texts.
    """
    if isinstance(column, Texts):
        return texts.distinct(column, _MOST)
    some, inverse = np.unique(column, return_inverse=True)
    return some[: _MOST + 1].tolist(), inverse


def values_of(
    frames: Sequence[Frame], names: Sequence[str], apply: Any, *, raw: bool = False
) -> Iterator[tuple[int, str, int, list[Any]]]:
    """Yield for each file its number, its name, its entries, and what `apply` makes of its blocks.

    Parameters
    ----------
    frames : sequence of Frame
    names : sequence of str
        Columns with one number, or one text, per entry.
    apply : function of (Block, ndarray of int32, mapping of str to ndarray or Texts)
        Called on threads with the entries of a block that pass, relative to its first one.
    raw : bool
        Look at entries that do not pass the cuts, too, if the columns are stored.
    """
    first = 0
    kinds: dict[str, tuple[str, str]] = {}
    for frame in frames:
        for name in names:
            with view_of(frame).naming_friends():
                if name not in frame.columns and name not in view_of(frame).stored:
                    raise MissingColumnError(
                        f"{frame.files[0]} has no column {name!r}. {nearest(name, frame.columns)}"
                    )
            type_ = (frame.columns if name in frame.columns else view_of(frame).stored)[name]
            if type_.kind not in ("scalar", "text"):
                raise UnsupportedColumnError(
                    f"{frame.files[0]}: column {name!r} ({type_.text}) does not hold one number, or one "
                    "text, per entry. Define one from it, or name another column."
                )
            kind, where = kinds.setdefault(name, (type_.kind, frame.files[0]))
            if type_.kind != kind:
                raise UnsupportedColumnError(
                    f"column {name!r} is a {type_.kind} in {frame.files[0]} and a {kind} in {where}. "
                    "Define a column that is the same in both."
                )
        walk = view_of(frame).scan(names, apply, raw=raw)
        following = next(walk, None)
        for number, index in enumerate(view_of(frame).index(())):
            found = []
            while following is not None and following[0].file == number:
                found.append(following)
                following = next(walk, None)
            yield first + number, index.where, index.entries, found
        first += len(frame.files)


def columns_of(frames: Sequence[Frame], names: Sequence[str]) -> list[dict[str, Array]]:
    """Return columns of one number per entry: of each file all entries, zero where cuts leave them out.

    Reads them, with a progress bar if that takes longer than a second.

    Raises
    ------
    MissingColumnError, UnsupportedColumnError
    """
    if not names:
        return []

    def copied(_: Block, __: Any, values: Mapping[str, Array]) -> dict[str, Array]:
        return {name: values[name].copy() for name in names}

    found = []
    for _, where, entries, parts in values_of(frames, names, copied):
        mine: dict[str, Array] = {}
        for block, take, values in parts:
            for name, column in values.items():
                if isinstance(column, Texts):
                    raise UnsupportedColumnError(
                        f"{where}: column {name!r} holds text; a sampler takes numbers. Define one."
                    )
                whole = mine.setdefault(name, np.zeros(entries, column.dtype))
                whole[block.start + take] = column
        found.append({name: mine.get(name, np.zeros(entries)) for name in names})
    return found


def new_name(frames: Sequence[Frame], name: str) -> str:
    """Return a name that no column has yet."""
    taken = {name for frame in frames for name in (*frame.columns, *view_of(frame).stored)}
    # Also those that a frame does not show.
    taken |= {
        step.name
        for frame in frames
        for step in view_of(frame).transformations
        if isinstance(step, Definition)
    }
    while name in taken:
        name += "_"
    return name


def _planes(codes: Sequence[Codes], strata: int) -> tuple[tuple[BitMask, ...], ...]:
    digits = max(strata - 1, 0).bit_length()
    return tuple(
        tuple(bit_mask((each >> np.uint8(digit)) & 1 > 0) for digit in range(digits)) for each in codes
    )
