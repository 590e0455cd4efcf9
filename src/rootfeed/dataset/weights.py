"""Weights: one column or expression, with sums that are made equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rootfeed.dataset.strata import by_label, distinct, new_name, values_of
from rootfeed.errors import ArgumentError, EvaluationError, WeightWarning, warn
from rootfeed.exact import integer_dtype
from rootfeed.expression import Expression, name_in
from rootfeed.expression.nodes import (
    Binary,
    Call,
    Compare,
    Conditional,
    Name,
    Node,
    Number,
    Quoted,
    Text,
)
from rootfeed.expression.texts import encoded
from rootfeed.frame import Frame, view_of
from rootfeed.schema import Array, Block

__all__ = ["Normalized", "normalized", "weighted"]

Negative = Literal["keep", "abs", "error"]

_MOST_CLASSES = 64


@dataclass(frozen=True)
class Normalized:
    """Weights whose sums are fixed: see `normalized`."""

    weights: str
    per: str | None
    to: float | tuple[tuple[Any, float], ...] | None
    negative: Negative


def normalized(
    weights: str,
    per: str | None = None,
    to: float | Mapping[Any, float] | None = None,
    *,
    negative: Negative = "keep",
) -> Normalized:
    """Ask for weights that are multiplied so that their sums are equal, or given.

    ``rf.Loader(frame, ..., weights=rf.normalized("genWeight", per="label"))``. The sums are those of
    all entries of the loader that pass the cuts, computed once in float64, when the loader is made.

    Parameters
    ----------
    weights : str
        A column, or an expression.
    per : str, optional
        A label, of numbers or text: the weights of each of its values (64 at most) get a factor of
        their own.
    to : float or mapping, optional
        What each sum becomes. None keeps the sum of all weights, and makes classes equal; without
        `per`, it makes the mean weight 1.
    negative : "keep", "abs" or "error"
        What becomes of negative weights.

    Raises
    ------
    EvaluationError
        When the loader is made: where a weight is NaN or infinite, a sum is not positive, or there
        are negative weights that should be an error.
    """
    if negative not in ("keep", "abs", "error"):
        raise ArgumentError(f'negative must be "keep", "abs" or "error", got {negative!r}.')
    if not isinstance(weights, str) or not weights:
        raise ArgumentError(f"normalized takes a column or an expression, got {weights!r}.")
    if per is not None and (not isinstance(per, str) or not per):
        raise ArgumentError(f"per must be the name of a column, got {per!r}.")
    if not isinstance(to, Mapping):
        return Normalized(weights, per, None if to is None else _sum(to), negative)
    if per is None:
        raise ArgumentError("sums of several classes need a label: normalized(..., per=...).")
    return Normalized(weights, per, tuple((key, _sum(value)) for key, value in to.items()), negative)


def _sum(value: Any) -> float:
    try:
        if (number := float(value)) > 0 and math.isfinite(number):
            return number
    except (TypeError, ValueError):
        pass
    raise ArgumentError(f"to must be positive: a sum of weights, got {value!r}.")


def weighted(frames: tuple[Frame, ...], weights: Any) -> tuple[tuple[Frame, ...], Any, tuple[str, ...]]:
    """Return frames that have the weights as a column, its name, and what it was made from."""
    given = weights.weights if isinstance(weights, Normalized) else weights
    if not isinstance(given, str) or not given:
        return frames, weights, ()
    # A column's name is that column, whatever an expression might make of it.
    is_column = all(given in frame.columns for frame in frames)
    column = given if is_column else name_in(given)
    if column is not None and not isinstance(weights, Normalized):
        return frames, column, ()  # which may be misspelt
    name = new_name(frames, "weight_")
    made = [frame.alias(name, given) if is_column else frame.define(name, given) for frame in frames]
    if not isinstance(weights, Normalized):
        return tuple(made), name, ()
    made = [frame.redefine(name, f"double({name})") for frame in made]
    factors = _factors(made, name, weights)
    scaled = Expression(f"{weights}", _scaled(name, weights, factors))
    made = [frame.redefine(name, scaled) for frame in made]
    return tuple(made), name, () if column is None else (column,)


def _scaled(name: str, weights: Normalized, factors: Mapping[Any, float]) -> Node:
    """Return the weight times the factor of its class, as an expression."""
    value: Node = Name(0, 0, 1, name)
    if weights.negative == "abs":
        value = Call(0, 0, 2, "abs", (value,))
    real = np.dtype(np.float64)
    if weights.per is None:
        return Binary(0, 0, 3, "*", value, Number(0, 0, 1, factors[None], real))
    scaled: Node = Number(0, 0, 1, 0.0, real)
    for label, factor in factors.items():
        is_one = Compare(0, 0, 2, ("==",), (Quoted(0, 0, 1, weights.per), _literal(label)))
        product = Binary(0, 0, 3, "*", value, Number(0, 0, 1, factor, real))
        scaled = Conditional(0, 0, max(4, scaled.depth + 1), is_one, product, scaled)
    return scaled


def _literal(label: Any) -> Node:
    """Return a class's value as an expression has it."""
    if isinstance(label, str):
        return Text(0, 0, 1, encoded(label))
    if isinstance(label, int) and not isinstance(label, bool):
        return Number(0, 0, 1, label, integer_dtype(label, label) or np.dtype(np.float64))
    return Number(0, 0, 1, label, np.dtype(np.bool_ if isinstance(label, bool) else np.float64))


def _factors(frames: Sequence[Frame], name: str, asked: Normalized) -> dict[Any, float]:
    """Return the factor of each class, from the sums of its weights."""
    labels: list[Any] = [None]
    if asked.per is not None:
        labels = list(by_label(frames, asked.per).values)
        if len(labels) > _MOST_CLASSES:
            raise ArgumentError(f"{asked.per!r} has more than {_MOST_CLASSES} values: classes are few.")
        _check(asked, labels)
    sums = dict.fromkeys(labels, 0.0)
    count = zeros = negatives = 0

    places = {label: number for number, label in enumerate(labels)}

    def summed(_: Block, __: Any, values: Mapping[str, Array]) -> tuple[Any, ...]:
        weights = values[name]
        classes = np.zeros(len(weights), np.int64)
        if asked.per is not None:
            some, inverse = distinct(values[asked.per])
            classes = np.array([places[label] for label in some], np.int64)[inverse]
        used = np.abs(weights) if asked.negative == "abs" else weights
        wrong = np.flatnonzero(~np.isfinite(weights))
        return (
            np.bincount(classes, used, len(labels)),
            len(weights),
            int((weights == 0).sum()),
            int((weights < 0).sum()),
            len(wrong),
        )

    names = [name] if asked.per is None else [name, asked.per]
    for _, where, _, parts in values_of(frames, names, summed):
        for block, _, (found, entries, none, negative, wrong) in parts:
            if wrong:
                raise EvaluationError(
                    f"{where}: {wrong} of the weights {asked.weights!r} in entries [{block.start}, "
                    f"{block.stop}) are NaN or infinite. Cut these entries, or define other weights."
                )
            for label, value in zip(labels, found.tolist(), strict=True):
                sums[label] += value
            count, zeros, negatives = count + entries, zeros + none, negatives + negative
    if negatives and asked.negative == "error":
        raise EvaluationError(
            f"{_where(frames)}: {negatives} of {count} weights {asked.weights!r} are negative. "
            'Cut them, or choose negative="keep" or "abs".'
        )
    if zeros:
        warn(
            f"{zeros} of {count} weights {asked.weights!r} are zero: these entries do not count.",
            WeightWarning,
        )
    total = sum(sums.values())
    factors = {}
    for label, value in sums.items():
        if not value > 0:
            of = "" if label is None else f" of {asked.per} == {label!r}"
            raise EvaluationError(
                f"{_where(frames)}: the weights {asked.weights!r}{of} have the sum {value:g}, which "
                'cannot be normalized. Cut entries, choose negative="abs", or define other weights.'
            )
        factors[label] = _goal(asked, label, total, count, len(sums)) / value
    return factors


def _check(asked: Normalized, labels: Sequence[Any]) -> None:
    """Refuse classes that no expression can tell, or that do not match the sums that were asked for."""
    for label in labels:
        if isinstance(label, float) and not math.isfinite(label):
            raise ArgumentError(
                f"{asked.per!r} is infinite in some entries. Cut them, or define another label."
            )
    if not isinstance(asked.to, tuple):
        return
    given = dict(asked.to)
    for label in labels:
        if label not in given:
            raise ArgumentError(
                f"{asked.per!r} has the value {label!r}, for which to= has no sum. "
                f"Give one for each of {list(labels)}."
            )
    for label in given:
        if label not in labels:
            raise ArgumentError(
                f"to= names the class {label!r}, which {asked.per!r} never is here. "
                f"There are: {list(labels)}."
            )


def _where(frames: Sequence[Frame]) -> str:
    files = [index.where for frame in frames for index in view_of(frame).index(())]
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _goal(asked: Normalized, label: Any, total: float, count: int, classes: int) -> float:
    if asked.to is None:
        return float(count) if asked.per is None else total / classes
    return dict(asked.to)[label] if isinstance(asked.to, tuple) else asked.to
