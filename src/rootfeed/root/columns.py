"""Which columns are features, targets and weights, as ROOT's loaders count them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rootfeed.arguments import as_tuple
from rootfeed.dataset import Flat, flat
from rootfeed.errors import ArgumentError, nearest
from rootfeed.expression import written
from rootfeed.root.frame import RDataFrame, names_of
from rootfeed.root.nodes import Node
from rootfeed.sources import is_node

__all__ = ["Chosen", "choose"]

RDataFrames = RDataFrame | Iterable[RDataFrame]
Names = str | Iterable[str] | None


@dataclass(frozen=True)
class Chosen:
    """The columns of a batch.

    Attributes
    ----------
    frames : tuple of RDataFrame
        With those elements of vectors as columns that come without the others.
    columns : tuple of str
        All of them, elements of vectors one by one, in the order in which they were given.
    features, target : tuple of str or Flat
    weights : str
        Empty without weights.
    """

    frames: tuple[RDataFrame, ...]
    columns: tuple[str, ...]
    features: tuple[str | Flat, ...]
    target: tuple[str | Flat, ...]
    weights: str


def choose(
    rdataframes: RDataFrames,
    columns: Names,
    max_vec_sizes: Mapping[str, int] | None,
    vec_padding: float,
    target: Names,
    weights: str | None,
) -> Chosen:
    """Return the columns of a batch.

    Raises
    ------
    ArgumentError
        Where a vector has no length, a target or the weights are no column, weights come without a
        target, or no feature is left.
    """
    frames = _frames(rdataframes)
    asked = (*names_of(columns), *names_of(target), *names_of(weights))
    frames = tuple(frame.numbered(asked) for frame in frames)
    types = frames[0].frame.columns
    sizes = {str(name): size for name, size in (max_vec_sizes or {}).items()}
    vectors = {
        name: flat(name, size, vec_padding)
        for name, size in sizes.items()
        if name in types and types[name].kind == "vector"
    }
    owners = {element: vector for vector in vectors.values() for element in vector.names}

    def elements(names: Iterable[str]) -> list[str]:
        """Return the names with each vector's elements in its place."""
        found: list[str] = []
        for name in names:
            if name in types and types[name].kind == "vector" and name not in vectors:
                raise ArgumentError(
                    f"column {name!r} holds vectors: give their length, max_vec_sizes={{{name!r}: n}}, "
                    "or name the columns without it, columns=[...]."
                )
            found += vectors[name].names if name in vectors else [name]
        return found

    given = names_of(columns) or frames[0].GetColumnNames()
    targets, weight = names_of(target), "".join(names_of(weights))
    if weight and not targets:
        raise ArgumentError("weights need a target: give target=...")
    for role, name in [*(("target", name) for name in targets), ("weights", weight)]:
        if name and name not in types and name not in owners:
            raise ArgumentError(f"{role}={name!r} is no column. {nearest(name, [*types, *owners])}")
    if weight in types and types[weight].kind == "vector":
        raise ArgumentError(
            f"column {weight!r} holds vectors, which are no weights. Define a number from it: "
            f"Define('weight', 'Sum({weight})')."
        )
    targets = elements(targets)
    named = elements(given)
    features = [name for name in named if name not in targets and name != weight]
    if not features:
        raise ArgumentError(f"columns={given} leave no feature beside target and weights.")
    every = dict.fromkeys([*named, *targets, *filter(None, [weight])])
    parts = [_joined(names, owners) for names in (features, targets)]
    single = {
        name for name in (*parts[0], *parts[1], weight) if isinstance(name, str) and name in owners
    }
    made = [_with_elements(frame, single, owners) for frame in frames]
    return Chosen(tuple(made), tuple(every), tuple(parts[0]), tuple(parts[1]), weight)


def _frames(rdataframes: RDataFrames) -> tuple[RDataFrame, ...]:
    frames = tuple(Node(frame) if is_node(frame) else frame for frame in as_tuple(rdataframes))
    for frame in frames or (rdataframes,):
        if not isinstance(frame, RDataFrame):
            raise ArgumentError(
                f"rdataframes must be RDataFrame objects of rootfeed.root, or of ROOT, got {frame!r}."
            )
    return frames


def _joined(names: Sequence[str], owners: Mapping[str, Flat]) -> list[str | Flat]:
    """Return the names with vectors in the place of all their elements in a row."""
    found: list[str | Flat] = []
    place = 0
    while place < len(names):
        vector = owners.get(names[place])
        if vector and tuple(names[place : place + vector.length]) == vector.names:
            found.append(vector)
            place += vector.length
        else:
            found.append(names[place])
            place += 1
    return found


def _with_elements(frame: RDataFrame, single: set[str], owners: Mapping[str, Flat]) -> RDataFrame:
    """Return a frame in which some elements of vectors are columns."""
    for name, vector in owners.items():
        if name in single:
            column, number = written(vector.column), vector.names.index(name)
            filled = int(vector.value) if vector.value.is_integer() else vector.value
            frame = frame.Define(name, f"{column}.size() > {number} ? {column}[{number}] : {filled!r}")
    return frame
