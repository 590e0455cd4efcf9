"""Functions that the user wrote in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types

from rootfeed.compiling import compiler
from rootfeed.errors import EvaluationError, ExpressionTypeError
from rootfeed.exact import inexact
from rootfeed.expression.outside import Meaning, meaning
from rootfeed.schema import Array, ColumnType, Jagged, Texts

__all__ = ["compiled_function", "nothing", "result_type", "vectorized_result", "vectorized_type"]

_Types = Sequence[tuple[bool, np.dtype[Any]]]

_dispatchers: dict[Callable[..., Any], tuple[Meaning, Any]] = {}
"""What was compiled of each function: what it takes from outside, Numba makes a part of it."""


def _numba_types(given: _Types) -> tuple[Any, ...]:
    scalars = [numba.from_dtype(dtype) for _, dtype in given]
    return tuple(
        types.Array(scalar, 1, "C") if is_vector else scalar
        for (is_vector, _), scalar in zip(given, scalars, strict=True)
    )


def _with_defaults(dispatcher: Any, given: _Types) -> tuple[Any, ...]:
    """Return the types of all arguments: of those that are not given, Numba's own for their defaults."""
    _, folded = dispatcher._compiler.fold_argument_types(_numba_types(given), {})
    return tuple(folded)


def compiled_function(name: str, function: Callable[..., Any], given: _Types) -> Any:
    """Compile a function for some types of arguments.

    Raises
    ------
    ExpressionTypeError
        Quotes why Numba refuses.
    """
    try:
        if isinstance(function, numba.core.dispatcher.Dispatcher):
            function = function.py_func
        found = meaning(function)
        known = _dispatchers.get(function)
        if known is None or known[0] != found:
            # Elements that are not there must be an error here, too: Numba does not check by itself.
            known = found, compiler(function, keep=False, error_model="numpy", boundscheck=True)
            _dispatchers[function] = known
        dispatcher = known[1]
        dispatcher.compile(_with_defaults(dispatcher, given))
    except Exception as error:  # Numba raises many kinds
        reason = "\n".join(line for line in str(error).splitlines() if line.strip())[:600]
        raise ExpressionTypeError(
            f"the function for {name!r} cannot be compiled for ({_shown(given)}). Numba says:\n"
            f"{reason}\nWrite it with what Numba knows, or give vectorized=True: it then gets arrays of "
            "many entries."
        ) from error
    return dispatcher


def _shown(given: _Types) -> str:
    return ", ".join(f"vector of {dtype}" if is_vector else str(dtype) for is_vector, dtype in given)


def result_type(name: str, dispatcher: Any, given: _Types) -> tuple[bool, np.dtype[Any]]:
    """Return whether a compiled function gives a vector, and its dtype."""
    signature = dispatcher.overloads[_with_defaults(dispatcher, given)].signature
    found = signature.return_type
    if isinstance(found, types.Literal):
        found = found.literal_type
    is_vector = isinstance(found, types.Array) and found.ndim == 1
    try:
        dtype = numba.np.numpy_support.as_dtype(found.dtype if is_vector else found)
    except (NotImplementedError, AttributeError, numba.core.errors.NumbaError):
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise ExpressionTypeError(
            f"the function for {name!r} must return a number or a 1-D array of numbers, got {found}."
        )
    return is_vector, dtype


def _offered(column: Array | Jagged) -> Any:
    """Return a column as a vectorized function gets it: vectors and text as awkward arrays."""
    return column.as_awkward() if isinstance(column, Jagged) else column


def _called(
    name: str, function: Callable[..., Any], given: Sequence[Array | Jagged], entries: int
) -> Array | Jagged:
    import awkward as ak

    result = function(*map(_offered, given))
    if isinstance(result, ak.Array) and result.ndim == 2:
        packed = ak.to_packed(result)
        lengths = np.asarray(ak.num(packed))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.asarray(ak.flatten(packed))
        found: Array | Jagged = Jagged(values, offsets)
        length, dtype = len(result), values.dtype
    else:
        array = np.ascontiguousarray(result)
        found = array = array.astype(array.dtype.newbyteorder("="), copy=False)
        length, dtype = (array.shape[0] if array.ndim == 1 else -1), array.dtype
    if length != entries or dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype == np.float16:
        shape = np.shape(result) if length < 0 else length
        raise EvaluationError(
            f"the function for {name!r} must return one number or one vector for each of {entries} "
            f"entries, got {type(result).__name__} of {shape} ({dtype})."
        )
    return found


def nothing(type_: ColumnType) -> Array | Jagged:
    """Return a column of no entries."""
    if type_.kind == "scalar":
        return np.empty(0, type_.dtype)
    ends = np.zeros(1, np.int64)
    if type_.kind == "text":
        return Texts(np.empty(0, np.uint8), ends)
    return Jagged(np.empty(0, type_.dtype), ends)


def vectorized_type(name: str, function: Callable[..., Any], given: Sequence[ColumnType]) -> ColumnType:
    """Return the type of what a vectorized function makes: it is called with no entries to learn it."""
    try:
        found = _called(name, function, [nothing(each) for each in given], 0)
    except Exception as error:
        raise ExpressionTypeError(
            f"the function for {name!r} failed when it was called with no entries, to learn its "
            f"type: {type(error).__name__}: {error}. It must work on arrays of any length."
        ) from error
    if isinstance(found, Jagged):
        dtype = found.values.dtype
        return ColumnType(f"vector of {dtype}", "vector", dtype)
    return ColumnType(str(found.dtype), "scalar", found.dtype)


def vectorized_result(
    name: str,
    function: Callable[..., Any],
    given: Sequence[Array | Jagged],
    entries: int,
    type_: ColumnType,
) -> tuple[Array | Jagged, str]:
    """Call a vectorized function for some entries.

    Returns
    -------
    tuple of ndarray or Jagged and str
        Its result, and what a warning has to tell of values that its type cannot hold, if there are any.

    Raises
    ------
    EvaluationError
        Where it does not return as many entries, or another type than before.
    """
    found = _called(name, function, given, entries)
    is_vector = isinstance(found, Jagged)
    dtype = found.values.dtype if isinstance(found, Jagged) else found.dtype
    if is_vector != (type_.kind == "vector"):
        raise EvaluationError(
            f"the function for {name!r} returned a {'vector' if is_vector else 'number'} for each "
            f"entry, and the other kind when it was asked before."
        )
    if dtype != type_.dtype:
        if type_.dtype is None or not np.can_cast(dtype, type_.dtype, "same_kind"):
            raise EvaluationError(
                f"the function for {name!r} returned {dtype}, and {type_.dtype} when it was asked "
                "before."
            )
        if not isinstance(found, Jagged):
            return _converted(name, found, type_.dtype)
        values, lost = _converted(name, found.values, type_.dtype)
        return Jagged(values, found.offsets), lost
    return found, ""


def _converted(name: str, values: Array, dtype: np.dtype[Any]) -> tuple[Array, str]:
    """Return what a function returned in the type that it had before, and what was lost by that."""
    with np.errstate(over="ignore"):
        converted = values.astype(dtype)
    lost = inexact(values, dtype) if values.dtype.kind in "iu" else 0
    if not lost:
        return converted, ""
    advice = f"Give its array a dtype, as in np.array(..., dtype=np.{values.dtype})"
    if dtype.kind != "f":
        raise EvaluationError(
            f"the function for {name!r} returned {lost} values that do not fit into {dtype}, its type "
            f"when it was called with no entries. {advice}."
        )
    return converted, (
        f"the function for {name!r} returned {values.dtype}, and {dtype} when it was called with no "
        f"entries, to learn its type: {lost} values (so far) cannot be represented in {dtype} and were "
        f"rounded. {advice}."
    )
