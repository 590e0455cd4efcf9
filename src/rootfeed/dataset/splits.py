"""Splits: which entries of each file belong to which part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.arguments import fraction
from rootfeed.dataset.dataset import Dataset
from rootfeed.dataset.strata import by_label, new_name, values_of
from rootfeed.errors import ArgumentError, UnsupportedColumnError
from rootfeed.frame import Frame, view_of
from rootfeed.plan import (
    BitMask,
    all_set,
    bit_mask,
    boundaries,
    choose_among,
    counted,
    members,
    page_entries,
    random_key,
)
from rootfeed.schema import Array, Block, Texts

__all__ = [
    "Rule",
    "Unit",
    "divide",
    "exactly",
    "fractions_of",
]

Unit = Literal["entry", "block"]

_MOST_PARTS = 256
"""Whose numbers are kept in a byte."""

_SPLITS = 'split({"train": 0.8, "test": 0.2}), or split(0.2)'

Parts = list[list[BitMask]]


@dataclass(frozen=True)
class Rule:
    """How entries are divided.

    Attributes
    ----------
    by : tuple of str
        Columns of integers or text whose values decide; without any, file's identity and entry do.
    where : str or None
        An expression: the last part is where it holds.
    unit : "entry" or "block"
    stratify : str or None
        A label of which each part has the same fractions.
    seed : int
        Of what is divided at random; 0 if nobody chose another.
    """

    by: tuple[str, ...] = ()
    where: str | None = None
    unit: Unit = "entry"
    stratify: str | None = None
    seed: int = field(default=0, repr=False)  # a saved state holds the repr, and that of other seeds

    @property
    def seeded(self) -> str:
        """What the text of a split says of its seed."""
        return f", seed={self.seed}" if self.seed else ""

    def check(self) -> None:
        """Refuse rules that exclude each other."""
        given = [
            name
            for name, value in (
                ("by", self.by),
                ("where", self.where),
                ('unit="block"', self.unit == "block"),
                ("stratify", self.stratify),
            )
            if value
        ]
        if self.unit not in ("entry", "block"):
            raise ArgumentError(f'unit must be "entry" or "block", got {self.unit!r}.')
        if len(given) > 1:
            raise ArgumentError(f"a split is made by one rule, got {' and '.join(given)}.")
        if self.where is not None and self.seed:
            raise ArgumentError("split(where=...) takes no seed: the expression decides.")


def fractions_of(fractions: float | Mapping[str, float]) -> dict[str, float]:
    """Return the share of each part, from ``0.2`` or ``{"train": 0.7, "val": 0.15, "test": 0.15}``."""
    given: Any = fractions
    if isinstance(given, list | tuple):
        raise ArgumentError(f"parts of a split have names, got {given!r}: {_SPLITS}.")
    if not isinstance(fractions, Mapping):
        test = fraction("fraction", fractions)
        return {"train": 1 - test, "test": test}
    if len(fractions) > _MOST_PARTS:
        raise ArgumentError(f"a split has at most {_MOST_PARTS} parts, got {len(fractions)}.")
    if len(fractions) < 2:
        raise ArgumentError(f"a split has at least two parts, got {fractions!r}: {_SPLITS}.")
    for name in fractions:
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"a part of a split is called by a text, got {name!r}.")
    shares = {name: fraction(f"the fraction {name}", share) for name, share in fractions.items()}
    total = sum(shares.values())
    if abs(total - 1) > 1e-9:
        raise ArgumentError(f"the fractions of a split must add up to 1, got {total:.12g}.")
    return shares


def divide(
    frames: Sequence[Frame],
    dataset: Dataset,
    masks: Sequence[BitMask] | None,
    fractions: Sequence[float],
    rule: Rule,
    generation: int,
) -> Parts:
    """Divide a part of a dataset; return, for each part and file, a bit for each entry.

    Parameters
    ----------
    frames : sequence of Frame
    dataset : Dataset
    masks : sequence of ndarray of uint64, optional
        What is divided; None for everything.
    fractions : sequence of float
        Of the parts; their sum is 1.
    rule : Rule
    generation : int
        0 for the dataset, 1 for a part of it, and so on.
    """
    seed = rule.seed
    if rule.by:
        codes = _by_value(frames, rule.by, fractions, seed, generation)
    elif rule.where is not None:
        codes = _where(frames, rule.where)
    elif rule.unit == "block":
        codes = _by_unit(dataset, masks, fractions, seed, generation)
    else:
        return _by_entry(frames, dataset, masks, fractions, rule.stratify, seed, generation)
    parts: Parts = [[] for _ in fractions]
    for file, mine in enumerate(codes):
        for number, part in enumerate(parts):
            mask = bit_mask(mine == number)
            part.append(mask if masks is None else mask & masks[file])
    return parts


def _by_entry(
    frames: Sequence[Frame],
    dataset: Dataset,
    masks: Sequence[BitMask] | None,
    fractions: Sequence[float],
    stratify: str | None,
    seed: int,
    generation: int,
) -> Parts:
    """Choose entries at random, keyed by the file's identity: exactly, of each file (and class)."""
    strata = None if stratify is None else by_label(frames, stratify, raw=True)
    parts: Parts = [[] for _ in fractions]
    for number, file in enumerate(dataset.files):
        index = file.index
        whole = all_set(index.entries) if masks is None else masks[number]
        classes = {"": whole}
        if strata is not None:
            codes = strata.codes(number, 0, index.entries)
            classes = {
                f"class {value!r}": whole & bit_mask(codes == code)
                for code, value in enumerate(strata.values)
            }
        found = [np.zeros_like(whole) for _ in fractions]
        for name, rest in classes.items():
            left = 1.0
            for part in range(len(fractions) - 1, 0, -1):
                identity = [index.identity]
                identity += [f"part {part}".encode()] * (part < len(fractions) - 1)
                identity += [name.encode()] * bool(name)
                key = random_key(seed, "split", generation, *identity)
                chosen = choose_among(rest, index.entries, min(fractions[part] / left, 1.0), key)
                found[part] |= chosen
                rest = rest & ~chosen
                left -= fractions[part]
            found[0] |= rest
        for mine, words in zip(parts, found, strict=True):
            mine.append(words)
    return parts


def _codes(
    frames: Sequence[Frame], names: Sequence[str], apply: Callable[[Mapping[str, Array]], Array]
) -> list[npt.NDArray[np.uint8]]:
    """Return for each entry of each file what `apply` makes of columns; 0 where cuts leave it out."""

    def numbers(_: Block, __: Any, values: Mapping[str, Array]) -> npt.NDArray[np.uint8]:
        return apply(values).astype(np.uint8)

    found = []
    for _, _, entries, parts in values_of(frames, names, numbers):
        mine = np.zeros(entries, np.uint8)
        for block, take, values in parts:
            mine[block.start + take] = values
        found.append(mine)
    return found


def _by_value(
    frames: Sequence[Frame],
    columns: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    generation: int,
) -> list[npt.NDArray[np.uint8]]:
    for frame in frames:
        for name in columns:
            type_ = view_of(frame).columns.get(name)
            is_integer = type_ is None or (type_.dtype is not None and type_.dtype.kind in "iub")
            if type_ is not None and not (type_.kind == "text" or is_integer):
                raise UnsupportedColumnError(
                    f"{frame.files[0]}: column {name!r} ({type_.text}) cannot decide a split. "
                    "Its values must be integers, such as event numbers, or text."
                )
    key = random_key(seed, "split by", generation)
    # Compiled before threads need it.
    hashed(key, [np.empty(0, np.int64), Texts(np.empty(0, np.uint8), np.zeros(1, np.int64))])
    limits = np.cumsum(np.asarray(fractions, np.float64))[:-1]

    def part(values: Mapping[str, Array]) -> Array:
        bits = hashed(key, [values[name] for name in columns])
        return np.searchsorted(limits, (bits >> np.uint64(11)) / 2.0**53, "right")

    return _codes(frames, columns, part)


def hashed(key: np.uint64, columns: Sequence[Array | Texts]) -> npt.NDArray[np.uint64]:
    """Return 64 random bits for each row, which depend on nothing but the key and the values."""
    states = np.full(len(columns[0]), key)
    for values in columns:
        if isinstance(values, Texts):
            kernels.stir_bytes(values.values, values.offsets, states)
            continue
        if values.dtype.kind not in "iub":  # in one of several files
            raise UnsupportedColumnError(
                f"what decides a split is {values.dtype} in some files, expected integers or text."
            )
        wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
        kernels.stir(wide.view(np.uint64), states)
    return states


def _where(frames: Sequence[Frame], expression: str) -> list[npt.NDArray[np.uint8]]:
    name = new_name(frames, "side_")
    made = [frame.define(name, expression) for frame in frames]
    return _codes(made, [name], lambda values: values[name] != 0)


def _by_unit(
    dataset: Dataset,
    masks: Sequence[BitMask] | None,
    fractions: Sequence[float],
    seed: int,
    generation: int,
) -> list[npt.NDArray[np.uint8]]:
    """Deal stretches of entries, between which pages of all columns end, to the parts."""
    same: dict[bytes, list[int]] = {}  # a file of several frames is divided once
    for number, file in enumerate(dataset.files):
        same.setdefault(file.index.identity, []).append(number)
    units: list[tuple[int, list[int], int, int, int]] = []
    for identity, numbers in same.items():
        indexes = [dataset.files[number].index for number in numbers]
        columns = {
            f"{place} {name}": column
            for place, index in enumerate(indexes)
            for name, column in index.columns.items()
        }
        bounds = boundaries(columns, indexes[0].entries)
        least, start = page_entries([bounds]), 0
        for stop in bounds.clusters[1:].tolist():
            if stop - start >= least or stop == indexes[0].entries:
                weight = sum(
                    stop - start if masks is None else counted(masks[number], start, stop)
                    for number in numbers
                )
                key = int(random_key(seed, "split units", generation, identity, start))
                units.append((key, numbers, start, stop, weight))
                start = stop
    units.sort()  # in random order, whatever the order of the files
    total = sum(unit[4] for unit in units)
    limits = np.cumsum(fractions)[:-1] * total
    codes = [np.zeros(file.index.entries, np.uint8) for file in dataset.files]
    filled = 0
    for _, numbers, start, stop, weight in units:
        for number in numbers:
            codes[number][start:stop] = np.searchsorted(limits, filled + weight / 2, "right")
        filled += weight
    return codes


def exactly(
    dataset: Dataset,
    masks: Sequence[BitMask] | None,
    groups: Sequence[Sequence[int]],
    test: float,
    *,
    down: Literal["train", "test"],
    seed: int | None,
    generation: int,
) -> Parts:
    """Divide the rows of each group of files into two parts of exact sizes.

    Parameters
    ----------
    dataset : Dataset
    masks : sequence of ndarray of uint64, optional
        What is divided; None for everything.
    groups : sequence of sequence of int
        Numbers of files.
    test : float
        Share of the second part.
    down : "train" or "test"
        Which part has its share rounded down to whole rows.
    seed : int or None
        Of what is divided at random: each file gives its share to within one row. None makes the last
        rows of a group, in the order of the files, the second part.
    generation : int
        0 for the dataset, 1 for a part of it, and so on.
    """
    parts: Parts = [[], []]
    for group in groups:
        files = [dataset.files[number] for number in group]
        entries = [file.index.entries for file in files]
        taken = [
            all_set(n) if file.taken is None else file.taken
            for n, file in zip(entries, files, strict=True)
        ]
        counts = [counted(bits, 0, n) for bits, n in zip(taken, entries, strict=True)]
        rows, ends = sum(counts), np.cumsum([0, *counts])
        chosen = _whole(test * rows) if down == "test" else rows - _whole((1 - test) * rows)
        if seed is None:
            quotas = np.diff(np.maximum(ends - (rows - chosen), 0))
        else:
            quotas = np.diff(np.rint(ends * (chosen / max(rows, 1))).astype(np.int64))
        for place, (number, quota) in enumerate(zip(group, quotas.tolist(), strict=True)):
            bits, n = taken[place], entries[place]
            if seed is None:
                first = members(bits, 0, n)[-quota] if quota else n
                second = bit_mask(np.arange(n) >= first)
            else:
                key = random_key(seed, "split", generation, files[place].index.identity)
                second = choose_among(bits, n, quota / max(counts[place], 1), key)
            whole = all_set(n) if masks is None else masks[number]
            parts[0].append(whole & ~second)
            parts[1].append(whole & second)
    return parts


def _whole(share: float) -> int:
    """Return a share of some rows in whole rows, rounded down: 0.29 of 100 are 29."""
    return int(round(share, 6))
