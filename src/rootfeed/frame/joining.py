"""Another frame's rows in the order of a frame's entries, found by keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError
from rootfeed.frame.arrays import arrays
from rootfeed.schema import Array
from rootfeed.view import View

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["MATCH", "matched"]

MATCH = "whether there is a row of the other frame"
"""What the column that tells it is called in the table."""

Numbers = npt.NDArray[np.int64]


def matched(
    mine: View, theirs: View, keys: Sequence[str], names: Sequence[str], missing: str
) -> list[dict[str, Array | ak.Array]]:
    """Return columns of another view for each entry of each file, where its keys are the same.

    Parameters
    ----------
    mine, theirs : View
    keys : sequence of str
        Columns of integers, which both have; stored ones, of `mine`.
    names : sequence of str
        Columns of `theirs` to return.
    missing : "error" or "drop"
        What becomes of an entry without a match. To be dropped, it gets the values of any other, and
        False in the column `MATCH`, which is returned, too.

    Raises
    ------
    ArgumentError
        Where keys are no integers, not unique in `theirs`, or have no match, which `missing` forbids.
    """
    stored = View(mine.files)
    for name in keys:
        for view, where in ((stored, "the frame's files"), (theirs, "the other frame")):
            type_ = view.columns.get(name)
            if type_ is None:
                raise ArgumentError(f"{where} have no column {name!r} to join by.")
            if type_.kind != "scalar" or type_.dtype is None or type_.dtype.kind not in "iub":
                raise ArgumentError(f"column {name!r} ({type_}) holds no integers, to join by.")
    found = arrays(theirs, list(dict.fromkeys([*keys, *names])))
    own = arrays(stored, keys)
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
            f'{_example(own, keys, first)}. missing="drop" leaves them out.'
        )
    if not count:
        raise ArgumentError("the other frame has no row that could be joined.")
    entries = np.cumsum([0, *(index.entries for index in mine.index(()))])
    parts = []
    for start, stop in zip(entries[:-1].tolist(), entries[1:].tolist(), strict=True):
        some = {name: found[name][rows[start:stop]] for name in names}
        parts.append({**some, MATCH: matches[start:stop]} if missing == "drop" else some)
    return parts


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
