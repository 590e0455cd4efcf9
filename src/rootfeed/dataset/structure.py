"""What a batch looks like: from features, target and weights to the parts of a row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.arguments import in_order
from rootfeed.dataset.inputs import MOST_ELEMENTS, FixedArray, Flat, Padded, Ragged
from rootfeed.errors import (
    ArgumentError,
    ExpressionError,
    MissingColumnError,
    UnsupportedColumnError,
    nearest,
)
from rootfeed.expression import Definition, parse, written
from rootfeed.expression.nodes import names_in
from rootfeed.frame import Frame, view_of
from rootfeed.layout import Layout, Part, Vectors
from rootfeed.schema import ColumnType

__all__ = ["Columns", "Features", "check_layout", "check_vector", "layout"]

Columns = str | Flat | Iterable[str | Flat]
"""Columns of a matrix."""

Features = Columns | FixedArray | Mapping[str, Columns | Padded | Ragged | FixedArray]
"""Columns of a matrix, arrays, or a mapping of names to matrices, arrays and collections."""

_Types = Mapping[str, ColumnType]


def layout(
    frames: Sequence[Frame],
    features: Features | None,
    target: Columns | None,
    weights: str | None,
    dtype: npt.DTypeLike,
    target_dtype: npt.DTypeLike,
    others: Sequence[str] = (),
) -> Layout:
    """Return the parts of a batch: features, then target, then weights.

    Where features are left out, `others` are none either.

    For ragged inputs the longest vectors are looked for: one pass over their columns, once for a frame.

    Raises
    ------
    ArgumentError
        Where names are repeated, weights come without a target, or a dtype is not a number.
    MissingColumnError, UnsupportedColumnError
        Where a column does not exist, or cannot be used like that.
    """
    targets = _columns("target", () if target is None else target)
    weight = _names("weights", weights)
    if len(weight) > 1:
        raise ArgumentError(f"weights must be one column, got {list(weight)}.")
    if weight and not targets:
        raise ArgumentError(f"weights={weight[0]!r} needs a target: a batch is x, (x, y) or (x, y, w).")
    if features is None:
        used = (each.column if isinstance(each, Flat) else each for each in targets)
        features = _all_numbers(frames[0], (*used, *weight, *others))
    real = _dtype("dtype", dtype)
    parts: list[Part] = []
    vectors: list[Vectors] = []
    every = list(features.values()) if isinstance(features, Mapping) else [features]
    lengths = _longest(frames, [each.columns[0] for each in every if isinstance(each, Ragged)])
    arrays = [each for each in every if isinstance(each, FixedArray)]
    shapes = _shapes(frames, [name for each in arrays for name in each.columns])
    if isinstance(features, Mapping) and all(isinstance(t, ColumnType) for t in features.values()):
        features = list(features)  # the columns of a frame
    if isinstance(features, Mapping):
        if not features:
            raise ArgumentError("features must name at least one input, got none.")
        for name, asked in features.items():
            if not isinstance(name, str) or not name:
                raise ArgumentError(f"features must map names to inputs, got the name {name!r}.")
            _add(name, asked, real, parts, vectors, lengths, shapes)
    else:
        _add("", features, real, parts, vectors, lengths, shapes)
    inputs = len(parts)
    for role, chosen, kind in (
        ("target", targets, _dtype("target_dtype", target_dtype)),
        ("weights", weight, real if real.kind == "f" else np.dtype(np.float32)),
    ):
        if chosen:
            _add(role, chosen, kind, parts, vectors, lengths, shapes)
    made = Layout(tuple(parts), tuple(vectors), inputs, isinstance(features, Mapping))
    for name, roles in Counter(made.names or ()).items():
        if roles > 1:
            raise ArgumentError(
                f"the input {name!r} stands for two arrays: a collection's mask or offsets have "
                "its name, too. Choose other names."
            )
    stored = [name for part in made.parts for name, _ in part.scalars]
    stored += [name for each in made.vectors for name in each.columns]
    for frame in frames:
        with view_of(frame).naming_friends():
            check_layout(frame.files[0], made, view_of(frame).columns)
        _check_units(frames[0], frame, stored)
    return made


def _check_units(first: Frame, frame: Frame, names: Iterable[str]) -> None:
    """Refuse times that are counted in other units than in the first frame."""
    mine, theirs = view_of(first).columns, view_of(frame).columns
    for name in names:
        type_, other = mine[name], theirs[name]
        if not type_.counts_as(other):
            raise UnsupportedColumnError(
                f"column {name!r} counts {other.unit} in {frame.files[0]} and {type_.unit} in "
                f"{first.files[0]}. Define one that counts the same in both frames."
            )


def _all_numbers(frame: Frame, others: Sequence[str]) -> tuple[str, ...]:
    meanings = _meanings(frame)
    left_out = {meanings.get(name, name) for name in others}
    chosen = tuple(
        name
        for name, type_ in frame.columns.items()
        if type_.kind == "scalar" and meanings.get(name, name) not in left_out
    )
    if not chosen:
        raise ArgumentError(
            f"{frame!r} has no numeric column left to use as a feature. Name the features."
        )
    return chosen


def _meanings(frame: Frame) -> dict[str, Any]:
    """Return what definitions mean: equal for names of one column, such as the target's alias."""
    found: dict[str, Any] = {}
    for step in view_of(frame).transformations:
        if isinstance(step, Definition):
            found[step.name] = found.get(step.same, step.same) if step.same else object()
    return found


def _longest(frames: Sequence[Frame], columns: Sequence[str]) -> dict[str, int]:
    """Return the length of the longest vector of each column, at least 1: one pass for all."""
    for column in columns:
        _check_vectors(frames, column)
    found = [view_of(frame).longest(columns) for frame in frames]
    return {name: max(1, *(lengths[name] for lengths in found)) for name in columns}


def _shapes(frames: Sequence[Frame], columns: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each column of arrays, which must be the same in all files."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for frame in frames if columns else ():
        for name in columns:
            type_ = _found(frame.files[0], name, view_of(frame).columns, "feature")
            check_vector(frame.files[0], name, type_)
            if not type_.shape:
                raise UnsupportedColumnError(
                    f"{frame.files[0]}: column {name!r} ({type_.text}) differs in length; "
                    "rootfeed.array takes arrays of fixed dimensions. Use rootfeed.padded or flat."
                )
        projection = view_of(frame).projection(columns)
        for index in view_of(frame).index(projection.columns):
            types = projection.types(index)
            for name in columns:
                shape = types[name].shape
                first, known = found.setdefault(name, (index.path, shape))
                if shape != known:
                    raise UnsupportedColumnError(
                        f"column {name!r} has the shape {shape} in {index.path} and {known} in {first}; "
                        "rootfeed.array takes arrays of one shape. Open these files on their own"
                        + (", or use rootfeed.padded." if len(shape) == len(known) == 1 else ".")
                    )
    return {name: shape for name, (_, shape) in found.items()}


def _add_arrays(
    name: str,
    asked: FixedArray,
    dtype: np.dtype[Any],
    parts: list[Part],
    vectors: list[Vectors],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    first = asked.columns[0]
    shape = shapes[first]
    for other in asked.columns:
        if shapes[other] != shape:
            raise ArgumentError(
                f"columns {first!r} and {other!r} have the shapes {shape} and {shapes[other]}: they "
                "cannot be stacked. Give each an input of its own."
            )
    length, count = math.prod(shape), len(asked.columns)
    if length >= MOST_ELEMENTS:
        raise ArgumentError(f"column {first!r} has {length} elements; at most 2^20 - 1 are possible.")
    vectors.append(Vectors(asked.columns, len(parts), 0, length, 0.0))
    shape = (*shape, count) if asked.is_stacked else shape
    parts.append(Part(_names("array", asked.columns), dtype, name, length, shape=shape))


def _add(
    name: str,
    asked: Any,
    dtype: np.dtype[Any],
    parts: list[Part],
    vectors: list[Vectors],
    longest: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Add what was asked for under a name to the parts, and to the vectors in them."""
    number = len(parts)
    if isinstance(asked, Padded | Ragged) and not name:
        raise ArgumentError(
            'collections need a name: give a mapping, such as features={"jets": rootfeed.padded(...)}.'
        )
    if isinstance(asked, Padded):
        _check_value(asked.value, dtype)
        parts.append(Part(asked.columns, dtype, name, asked.length))
        vectors.append(Vectors(asked.columns, number, 0, asked.length, asked.value, asked.sort_by))
        return
    if isinstance(asked, Ragged):
        length = longest[asked.columns[0]]
        parts.append(Part(asked.columns, dtype, name, length, ragged=True))
        vectors.append(Vectors(asked.columns, number, 0, length, 0.0, asked.sort_by))
        return
    if isinstance(asked, FixedArray):
        _add_arrays(name, asked, dtype, parts, vectors, shapes)
        return
    argument = f"features[{name!r}]" if name not in ("", "target", "weights") else name or "features"
    columns: list[str] = []
    scalars: list[tuple[str, int]] = []
    for item in _columns(argument, asked):
        if isinstance(item, Flat):
            _check_value(item.value, dtype)
            vectors.append(Vectors((item.column,), number, len(columns), item.length, item.value))
            columns.extend(item.names)
        else:
            scalars.append((item, len(columns)))
            columns.append(item)
    chosen = _names(argument, columns)
    if not chosen:
        raise ArgumentError(f"{argument} must name at least one column, got none.")
    parts.append(Part(chosen, dtype, name, scalars=tuple(scalars)))


def _check_value(value: float, dtype: np.dtype[Any]) -> None:
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        if not (limits.min <= value <= limits.max and value == int(value)):
            raise ArgumentError(f"value={value} cannot fill up {dtype}. Choose another value, or dtype.")


def _check_vectors(frames: Sequence[Frame], column: str) -> None:
    for frame in frames:
        where = frame.files[0]
        with view_of(frame).naming_friends():
            type_ = _found(where, column, view_of(frame).columns, "feature")
        check_vector(where, column, type_)


def _names(argument: str, names: Any) -> tuple[str, ...]:
    if names is None or (isinstance(names, str) and not names):
        return ()
    if not isinstance(names, Iterable):
        raise ArgumentError(f"{argument} must be names of columns, got {names!r}.")
    chosen = (names,) if isinstance(names, str) else tuple(in_order(argument, names))
    for name in chosen:
        if not isinstance(name, str):
            raise ArgumentError(f"{argument} must be names of columns, got {name!r}.")
    repeated = [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]
    if repeated:
        raise ArgumentError(f"{argument} names {repeated[0]!r} more than once.")
    return chosen


def _columns(argument: str, asked: Any) -> tuple[str | Flat, ...]:
    """Return what a matrix is made of."""
    items = (asked,) if isinstance(asked, str | Flat | Padded | Ragged | FixedArray) else asked
    if not isinstance(items, Iterable):
        raise ArgumentError(f"{argument} must be names of columns, got {asked!r}.")
    chosen = () if isinstance(asked, str) and not asked else tuple(in_order(argument, items))
    for item in chosen:
        if isinstance(item, Padded | Ragged | FixedArray):
            mapping = "" if argument == "target" else "Give it a name of its own in a mapping, or use "
            flattened = f"rootfeed.flat({item.columns[0]!r}, length=4)"
            raise ArgumentError(
                f"{argument} names {item!r} among columns of a matrix. "
                f"{mapping or 'Use '}{flattened} in its place."
            )
        if not isinstance(item, str | Flat):
            raise ArgumentError(f"{argument} must be names of columns, got {item!r}.")
    return chosen


def _dtype(argument: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        raise ArgumentError(f"{argument} must be a NumPy dtype, got {dtype!r}.") from None
    if found.kind not in "iuf" or found.itemsize > 8:
        raise ArgumentError(
            f"{argument} must be an integer or floating dtype of at most 64 bits, got {found}."
        )
    return found.newbyteorder("=")


def check_layout(where: str, layout: Layout, types: _Types) -> None:
    """Refuse columns that cannot be used as they are in a layout.

    Raises
    ------
    MissingColumnError, UnsupportedColumnError
    """
    roles = ["feature"] * layout.inputs + ["target", "weight"]
    for part, role in zip(layout.parts, roles, strict=False):
        for name, _ in part.scalars:
            _check_scalar(where, name, _found(where, name, types, role), part.dtype, role)
    for each in layout.vectors:
        dtype, role = layout.parts[each.part].dtype, roles[each.part]
        for name in each.columns:
            type_ = _found(where, name, types, role)
            check_vector(where, name, type_)
            _check_fractions(where, name, type_, dtype, role)
        if each.sort_by is not None:
            check_vector(where, each.sort_by, _found(where, each.sort_by, types, "key"), is_key=True)


def _found(where: str, name: str, types: _Types, role: str) -> ColumnType:
    if name not in types:
        remedy = _named(name, types) or nearest(name, types)
        raise MissingColumnError(f"{where} has no column {name!r} to use as {role}. {remedy}")
    return types[name]


def _named(text: str, types: _Types) -> str:
    """Return how an expression over columns becomes a column; empty where a text is none."""
    try:
        used = set(names_in(parse(text).node))
    except ExpressionError:
        return ""
    if not used or not used <= set(types):
        return ""
    return f"Expressions are defined first, {_DEFINE.format(text)}, and named then."


def _check_scalar(where: str, name: str, type_: ColumnType, dtype: np.dtype[Any], role: str) -> None:
    if type_.kind != "scalar":
        what, remedy = _NO_NUMBER.get(type_.kind, "is not a number"), "Choose another column."
        if type_.kind == "text":
            remedy = _compare(name)
        elif type_.kind == "vector" and type_.dtype is not None:
            remedy = _define(name)
            if role != "weight":
                length = math.prod(type_.shape) if type_.shape else 4
                flattened = f"rootfeed.flat({name!r}, length={length}) in its place. Or d{remedy[1:]}"
                padded = "rootfeed.padded or ragged in a mapping, or " if role == "feature" else ""
                remedy = f"Use {padded}{flattened}"
        raise UnsupportedColumnError(
            f"{where}: column {name!r} ({type_.text}) {what}; it cannot be a {role}. {remedy}"
        )
    _check_fractions(where, name, type_, dtype, role)


_NO_NUMBER = {"vector": "holds several numbers per entry", "text": "holds text"}
_DEFINE = "frame = frame.define('number', {!r})"


def _define(name: str) -> str:
    """Return how a vector becomes a number."""
    column = written(name)
    example = _DEFINE.format(f"Sum({column})")
    return f"Define a number from it, {example}, Max({column}) or {column}[0], and name that."


def _compare(name: str) -> str:
    """Return how a text becomes a number."""
    example = _DEFINE.format(f'{written(name)} == "signal"')
    return f"Define a number from it, {example}, and name that."


def check_vector(where: str, name: str, type_: ColumnType, *, is_key: bool = False) -> None:
    """Refuse a column that does not hold numbers in vectors."""
    if type_.kind == "vector" and type_.dtype is not None:
        return
    what, remedy = _NO_VECTOR.get(type_.kind, "holds no plain numbers"), "Leave it out."
    if is_key:
        what, remedy = (
            f"{what}; sort_by takes a vector of numbers",
            "Name one that goes with the others.",
        )
    else:
        what = f"{what}; collections take vectors of numbers"
        if type_.kind == "scalar":
            remedy = "Name it in a list of columns."
        elif type_.kind == "text":
            remedy = _compare(name)
    raise UnsupportedColumnError(f"{where}: column {name!r} ({type_.text}) {what}. {remedy}")


_NO_VECTOR = {"scalar": "holds one number per entry", "text": "holds text"}


def _check_fractions(where: str, name: str, type_: ColumnType, dtype: np.dtype[Any], role: str) -> None:
    if dtype.kind != "f" and type_.dtype is not None and type_.dtype.kind == "f":
        argument = "target_dtype" if role == "target" else "dtype"
        raise UnsupportedColumnError(
            f"{where}: column {name!r} is {type_.dtype}; {argument}={str(dtype)!r} would cut its "
            "fractions off. Choose a floating dtype, or leave the column out."
        )
