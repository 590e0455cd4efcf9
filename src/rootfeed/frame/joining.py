"""Another frame's rows in the order of a frame's entries: by their number, or found by keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError
from rootfeed.expression import Definition
from rootfeed.frame.arrays import arrays
from rootfeed.schema import Array
from rootfeed.sources import Filling, as_type, checked_filling, spliced
from rootfeed.view import Files, View

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["MATCH", "matched", "side_by_side"]

MATCH = "whether there is a row of the other frame"
"""What the column that tells it is called in the table."""

Numbers = npt.NDArray[np.int64]


def side_by_side(mine: View, theirs: View) -> Files:
    """Return the files of another view, each beside the one of `mine` with the same entries.

    Where they end elsewhere, entries of several files lie beside one. Reads the metadata of all, unless
    some may be left out: then files go together by their place in the list.

    Raises
    ------
    ArgumentError
        Where entries differ in number, or the other view is not what lies in files.
    """
    if theirs.transformations:
        raise ArgumentError(
            "entry by entry, join takes a frame without definitions, cuts and ranges: join it as it "
            "was opened, and define and filter afterwards. By keys, on=, it takes any."
        )
    if mine.files.skips or theirs.files.skips:
        if len(mine.paths) != len(theirs.paths):
            raise ArgumentError(
                f"{len(mine.paths)} files cannot be joined with {len(theirs.paths)} where some may be "
                "left out: each needs one with as many entries beside it. Where both have the same "
                "keys, name them: on=."
            )
        return theirs.files
    (here, own), (there, counts) = (
        (view.paths, [index.entries for index in view.index(())]) for view in (mine, theirs)
    )
    if counts == own:
        return theirs.files
    if sum(own) != sum(counts):
        told = [
            f"{paths[0]}{f' and {len(paths) - 1} more files' if len(paths) > 1 else ''}"
            for paths in (here, there)
        ]
        raise ArgumentError(
            f"{told[0]} have {sum(own)} entries and {told[1]} {sum(counts)}: they cannot be joined "
            "entry by entry. Join files that were written together, in the same order. Where both have "
            "the same keys, name them: on=."
        )
    files = list(zip(theirs.files.locations, counts, strict=True))
    ends = np.cumsum([0, *own]).tolist()
    return Files([spliced(files, start, stop) for start, stop in pairwise(ends)], theirs.files.types)


def matched(
    mine: View, theirs: View, keys: Sequence[str], names: Sequence[str], missing: Any
) -> list[dict[str, Array | ak.Array]]:
    """Return columns of another view for each entry of each file, where its keys are the same.

    Parameters
    ----------
    mine, theirs : View
    keys : sequence of str
        Columns of integers, which both have; stored ones, of `mine`.
    names : sequence of str
        Columns of `theirs` to return.
    missing : "error", "drop", or what `rootfeed.open` takes as `fill_null`
        What becomes of an entry without a match. To be dropped, it gets the values of any other, and
        False in the column `MATCH`, which is returned, too. Of other values each column gets its own;
        vectors are empty.

    Raises
    ------
    ArgumentError
        Where keys are no integers, defined in `mine`, not unique in `theirs`, or have no match, which
        `missing` forbids; or where a column cannot hold what it is given.
    """
    filling = None if isinstance(missing, str) else checked_filling(missing)
    stored = View(mine.files)
    made = {each.name for each in mine.transformations if isinstance(each, Definition)}
    for name in keys:
        if name in made:
            raise ArgumentError(
                f"column {name!r} is defined in the frame, and join finds rows by what is stored in its "
                f"files. Join first; or define {name!r} in the other frame, to equal a stored one."
            )
        for view, where in ((stored, "the frame's files"), (theirs, "the other frame")):
            type_ = view.columns.get(name)
            if type_ is None:
                raise ArgumentError(f"{where} have no column {name!r} to join by.")
            if type_.kind != "scalar" or type_.dtype is None or type_.dtype.kind not in "iub":
                raise ArgumentError(f"column {name!r} ({type_}) holds no integers, to join by.")
        if not stored.columns[name].counts_as(theirs.columns[name]):
            units = (view.columns[name].unit for view in (stored, theirs))
            raise ArgumentError(
                f"column {name!r} counts {' in the frame and '.join(units)} in the other one: the same "
                "number is not the same time. Write both with one unit."
            )
    found = arrays(theirs, list(dict.fromkeys([*keys, *names])))
    own = arrays(stored, keys)
    fills = {} if filling is None else _fills(filling, found, theirs, names)
    count = len(found[keys[0]])
    codes = _codes([np.concatenate([*_halves(found[name], own[name])]) for name in keys])
    there, here = codes[:count], codes[count:]
    order = np.argsort(there, kind="stable")
    twice = np.flatnonzero(np.diff(there[order]) == 0)
    if len(twice):
        example = _example(found, keys, int(order[twice[0]]))
        raise ArgumentError(
            f"{len(twice)} rows of the other frame have the same {', '.join(keys)} as another one, such "
            f"as {example}: which of them goes with an entry is not known. Name more keys, or cut them."
        )
    place = np.minimum(np.searchsorted(there[order], here), max(count - 1, 0))
    rows = order[place] if count else np.zeros(len(here), np.int64)
    matches = there[rows] == here if count else np.zeros(len(here), bool)
    if missing == "error" and not matches.all():
        first = int(np.argmin(matches))
        raise ArgumentError(
            f"{np.count_nonzero(~matches)} of {len(matches)} entries have no match, the first one with "
            f'{_example(own, keys, first)}. missing="drop" leaves them out, missing=0 gives them that '
            "value."
        )
    rows = np.where(matches, rows, count) if fills else rows
    found = {name: _appended(each, fills[name]) if fills else each for name, each in found.items()}
    if not count and not fills:
        raise ArgumentError("the other frame has no row that could be joined.")
    entries = np.cumsum([0, *(index.entries for index in mine.index(()))])
    parts = []
    for start, stop in zip(entries[:-1].tolist(), entries[1:].tolist(), strict=True):
        some = {name: found[name][rows[start:stop]] for name in names}
        parts.append({**some, MATCH: matches[start:stop]} if missing == "drop" else some)
    return parts


def _fills(
    filling: Filling, found: Mapping[str, Array | ak.Array], theirs: View, names: Sequence[str]
) -> dict[str, Array | ak.Array]:
    """Return one entry for each column, for what has no match."""
    filling.check("the other frame", {name: theirs.columns[name] for name in names})
    import awkward as ak

    made: dict[str, Array | ak.Array] = {}
    for name, values in found.items():
        type_ = theirs.columns[name]
        if name not in names:  # a key, whose values are those of the entry
            made[name] = values[:0]
            continue
        if (given := filling.of(name)) is None:
            raise ArgumentError(
                f"missing has no value for the column {name!r}. Name one: missing={{{name!r}: ...}}."
            )
        if isinstance(values, np.ndarray):
            type_ = replace(type_, dtype=values.dtype)
        value = as_type(given, "the other frame", name, type_)
        if type_.kind == "text":
            made[name] = ak.Array([given])
        elif type_.shape:
            made[name] = np.full((1, *type_.shape), value)
        else:
            made[name] = np.full(1, value) if type_.kind == "scalar" else values[:0]
            if type_.kind == "vector":
                made[name] = ak.unflatten(np.empty(0, type_.dtype), [0])
    return made


def _appended(values: Array | ak.Array, more: Array | ak.Array) -> Array | ak.Array:
    import awkward as ak

    if isinstance(more, np.ndarray):
        found: Array = np.concatenate([ak.to_numpy(values), more])
        return found
    return ak.concatenate([values, more])


def _halves(theirs: Array, mine: Array) -> tuple[Array, Array]:
    """Return integers of both in one dtype, in which equal ones are equal."""
    if {theirs.dtype, mine.dtype} & {np.dtype(np.uint64)} and "i" in theirs.dtype.kind + mine.dtype.kind:
        # No dtype holds both. As floats with what is rounded off they would be compared wrongly.
        return theirs.astype(object), mine.astype(object)
    dtype = np.result_type(theirs, mine)
    return theirs.astype(dtype), mine.astype(dtype)


def _codes(columns: Sequence[Array]) -> Numbers:
    """Return a number for each row: the same where all columns are."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, inverse = np.unique(column, return_inverse=True)
        pairs = codes * (int(inverse.max(initial=0)) + 1) + inverse  # both below the number of rows
        codes = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return codes


def _example(columns: Mapping[str, Array | ak.Array], keys: Sequence[str], row: int) -> str:
    return ", ".join(f"{name} = {columns[name][row]}" for name in keys)
