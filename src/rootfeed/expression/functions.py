"""Which functions may be called, with which arguments, and the typed trees that they become.

A new function is an entry of a table here: with source text for one element, as ``sqrt`` has it, which
may call what `library` has; or with the name of an operation on whole vectors, which `vectors` writes.
Types follow ``ROOT/RVec.hxx`` and C++, and NumPy where Python's dialect differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from rootfeed.errors import ExpressionError, nearest
from rootfeed.expression.grammar import mark, shortened
from rootfeed.expression.nodes import Call
from rootfeed.expression.typed import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    UINT64,
    Constant,
    Dtype,
    Fold,
    Mean,
    Operation,
    Scope,
    Typed,
    common,
    constant,
    convert,
    converted,
    elementwise,
    merged,
    promoted,
    shown,
    truth,
    type_text,
)

__all__ = ["CONSTANTS", "bare", "call", "element", "taken", "where"]

Function = Callable[[Scope, Call, Sequence[Typed]], Typed]
"""Returns the tree of a call, given those of its arguments."""


# --- arguments ------------------------------------------------------------------------------------


def _expect(scope: Scope, node: Call, given: Sequence[Typed], *counts: int) -> None:
    """Raise an error where a function gets another number of arguments."""
    if len(given) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        scope.wrong(node, f"{node.function} takes {wanted} arguments, got {len(given)}")


def _vector(scope: Scope, node: Call, tree: Typed) -> Typed:
    """Return an argument that must be a vector."""
    if not tree.is_vector:
        scope.wrong(node, f"{node.function} takes a vector, got {shown(tree)}")
    return tree


def _one_vector(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    """Return the only argument, which must be a vector."""
    _expect(scope, node, given, 1)
    return _vector(scope, node, given[0])


def _as_reals(given: Sequence[Typed]) -> tuple[Dtype, list[Typed]]:
    """Return arguments in float32 if all have it, as the overloads in C++ do, else in float64."""
    dtype = FLOAT32 if all(each.dtype == FLOAT32 for each in given) else FLOAT64
    return dtype, [convert(each, dtype) for each in given]


# --- functions of numbers, or of each element -----------------------------------------------------


def _math(code: str, count: int = 1, double: bool = False) -> Function:
    """Return a function of real numbers; `double` where it is only compiled for doubles."""

    def function(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
        _expect(scope, node, given, count)
        dtype, operands = _as_reals(given)
        doubles = [convert(each, FLOAT64) for each in given]
        return elementwise(dtype, code, *(doubles if double else operands))

    return function


def _of_reals(name: str, count: int) -> Function:
    """Return a function of the library, in the common type of its arguments."""
    return _math(f"{name}({', '.join(f'{{{k}}}' for k in range(count))})", count)


def _test(code: str) -> Function:
    def function(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
        _expect(scope, node, given, 1)
        return scope.condition(elementwise(BOOL, code, *_as_reals(given)[1]))

    return function


def _abs(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 1)
    dtype = FLOAT64 if node.function.endswith("fabs") else promoted(given[0].dtype)
    if given[0].dtype == FLOAT32:
        dtype = FLOAT32
    elif given[0].is_vector and scope.is_cpp:
        dtype = FLOAT64  # ROOT has it among the functions of reals
    return elementwise(dtype, "abs({0})", convert(given[0], dtype))


def _sign(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 1)
    dtype = promoted(given[0].dtype)
    return elementwise(dtype, "sign({0})", convert(given[0], dtype))


def _extreme(name: str) -> Function:
    """``min`` and ``max`` of two numbers, or of a vector."""
    # std::max(a, b) is a < b ? b : a, std::min(a, b) is b < a ? b : a: a stays if one is NaN.
    code = "{1} if {0} < {1} else {0}" if name == "largest" else "{1} if {1} < {0} else {0}"

    def function(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
        if len(given) == 1:
            vector = _vector(scope, node, given[0])
            return Operation(vector.dtype, False, name, (vector,), node.function)
        _expect(scope, node, given, 1, 2)
        dtype = merged(given[0].dtype, given[1].dtype)
        return elementwise(dtype, code, *(convert(each, dtype) for each in given))

    return function


def where(condition: Typed, yes: Typed, no: Typed) -> Typed:
    """Choose element by element."""
    dtype = merged(yes.dtype, no.dtype)
    code = f"{{1}} if {truth('{0}', condition.dtype)} else {{2}}"
    return elementwise(dtype, code, condition, convert(yes, dtype), convert(no, dtype))


def _where(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 3)
    return where(*given)


def _pi(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 0)
    return constant(FLOAT64, np.pi)


_ANGLES = "sin cos tan sinh cosh tanh"
_SAME = f"sqrt exp expm1 log log10 log1p {_ANGLES} floor ceil trunc rint deg2rad rad2deg cbrt"

_ELEMENTWISE: dict[str, Function] = {
    **{name: _math(f"np.{name}({{0}})") for name in _SAME.split()},
    **{f"a{name}": _math(f"np.arc{name}({{0}})") for name in _ANGLES.split()},
    **{f"arc{name}": _math(f"np.arc{name}({{0}})") for name in _ANGLES.split()},
    "round": _math("rounded({0})"),
    # Numba cannot compile these for float32 and float64 in one function.
    **{name: _math(f"np.{name}({{0}})", double=True) for name in ("exp2", "log2")},
    **{name: _math(f"{name}({{0}})", double=True) for name in ("erf", "erfc")},
    "tgamma": _math("gamma({0})", double=True),
    "lgamma": _math("lgamma({0})", double=True),
    **dict.fromkeys(("pow", "power"), _math("{0} ** {1}", 2)),
    **dict.fromkeys(("atan2", "arctan2"), _of_reals("np.arctan2", 2)),
    **{name: _of_reals(f"np.{name}", 2) for name in ("fmod", "hypot", "copysign")},
    **{name: _test(f"np.{name}({{0}})") for name in ("isnan", "isinf", "isfinite")},
    **dict.fromkeys(("abs", "fabs", "absolute"), _abs),
    "sign": _sign,
    **dict.fromkeys(("min", "minimum", "Min"), _extreme("smallest")),
    **dict.fromkeys(("max", "maximum", "Max"), _extreme("largest")),
    **dict.fromkeys(("Where", "where"), _where),
    "Pi": _pi,
}


# --- functions that make one number of a vector ---------------------------------------------------


def _wide(dtype: Dtype) -> Dtype:
    """Return the type in which NumPy adds and multiplies elements."""
    if dtype.kind == "f":
        return dtype
    return UINT64 if dtype.kind == "u" else INT64


def _summed(scope: Scope, dtype: Dtype) -> Dtype:
    """Return the type in which elements are added: their own in ROOT, 64 bits for integers in NumPy."""
    if scope.is_cpp:
        return UINT64 if dtype == BOOL else dtype
    return _wide(dtype)


def _in_doubles(scope: Scope, vector: Typed) -> bool:
    """Whether means are those of doubles, as NumPy's of integers are."""
    return not scope.is_cpp and vector.dtype.kind != "f"


def _fold(vector: Typed, dtype: Dtype, operator: str) -> Fold:
    """Return the sum or the product of all elements, in one type."""
    code = f"{{0}} {operator} {converted('{1}', vector.dtype, dtype)}"
    return Fold(dtype, False, "1" if operator == "*" else "0", code, vector)


def _sum(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    vector = _one_vector(scope, node, given)
    return _fold(vector, _summed(scope, vector.dtype), "+")


def _product(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    vector = _one_vector(scope, node, given)
    return _fold(vector, vector.dtype if scope.is_cpp else _wide(vector.dtype), "*")


def _dot(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 2)
    a, b = (_vector(scope, node, each) for each in given)
    if not scope.is_cpp:
        a, b = convert(a, _wide(a.dtype)), convert(b, _wide(b.dtype))
    dtype = common(a.dtype, b.dtype)
    product = elementwise(dtype, "{0} * {1}", convert(a, dtype), convert(b, dtype))
    return _fold(product, dtype, "+")


def _mean(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    vector = _one_vector(scope, node, given)
    dtype = FLOAT64 if _in_doubles(scope, vector) else _summed(scope, vector.dtype)
    return Mean(FLOAT64, False, _fold(vector, dtype, "+"))


def _variance(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    vector = _one_vector(scope, node, given)
    name = "variance in doubles" if _in_doubles(scope, vector) else "variance"
    return Operation(FLOAT64, False, name, (vector,))


def _deviation(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    return elementwise(FLOAT64, "np.sqrt({0})", _variance(scope, node, given))


def _of_vector(
    name: str, dtype: Dtype | Literal["size"] | None = None, vector: bool = False
) -> Function:
    """Return an operation on one vector.

    It gives a number, or with `vector` a vector, of a dtype, the type of sizes and places, or of the
    elements.
    """

    def function(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
        operand = _one_vector(scope, node, given)
        its = scope.size_type if dtype == "size" else dtype or operand.dtype
        return Operation(its, vector, name, (operand,))

    return function


_REDUCTIONS: dict[str, Function] = {
    "ArgMin": _of_vector("place of the smallest", "size"),
    "ArgMax": _of_vector("place of the largest", "size"),
    **dict.fromkeys(("Sum", "sum"), _sum),
    "Product": _product,
    **dict.fromkeys(("Mean", "mean"), _mean),
    "Var": _variance,
    "StdDev": _deviation,
    **dict.fromkeys(("Any", "any"), _of_vector("any", BOOL)),
    **dict.fromkeys(("All", "all"), _of_vector("all", BOOL)),
    "Dot": _dot,
    **dict.fromkeys(("size", "len"), _of_vector("size", "size")),
    "empty": _of_vector("empty", BOOL),
}


# --- functions that choose and reorder elements, and that make vectors ----------------------------


def _default(scope: Scope, node: Call, tree: Typed, dtype: Dtype) -> Typed:
    if tree.is_vector:
        scope.wrong(node, "a default is a number, got a vector")
    return convert(tree, dtype)


def element(scope: Scope, vector: Typed, index: Typed) -> Typed:
    """Return ``vector[index]``: in Python, a negative index counts from the end."""
    is_place = scope.is_cpp or (isinstance(index, Constant) and index.value >= 0)
    name = "element" if is_place else "element from either end"
    return Operation(vector.dtype, False, name, (vector, index))


def taken(scope: Scope, vector: Typed, indices: Typed) -> Typed:
    """Return the elements at some places, as `element` has them."""
    name = "taken" if scope.is_cpp else "taken from either end"
    return Operation(vector.dtype, True, name, (vector, indices))


def _take(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    """``Take(v, indices)`` and ``Take(v, count)``, with a default for what is not there."""
    _expect(scope, node, given, 2, 3)
    vector, chosen = _vector(scope, node, given[0]), given[1]
    if chosen.dtype.kind == "f":
        scope.wrong(node, f"{node.function} takes integers, got {shown(chosen)}")
    default = [_default(scope, node, each, vector.dtype) for each in given[2:]]
    if chosen.is_vector and not default:
        return taken(scope, vector, chosen)
    name = "taken, or a default" if chosen.is_vector else "first or last"
    return Operation(vector.dtype, True, name, (vector, chosen, *default))


def _at(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    """``at(v, i)`` and ``at(v, i, default)``."""
    _expect(scope, node, given, 2, 3)
    vector, index = _vector(scope, node, given[0]), given[1]
    if index.is_vector or index.dtype.kind == "f":
        scope.wrong(node, f"an index is an integer, got {shown(index)}")
    default = [_default(scope, node, each, vector.dtype) for each in given[2:]]
    if not default:
        return element(scope, vector, index)
    return Operation(vector.dtype, False, "element, or a default", (vector, index, *default))


def _concatenate(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 2)
    a, b = (_vector(scope, node, each) for each in given)
    return Operation(merged(a.dtype, b.dtype), True, "concatenated", (a, b))


def _range(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 1, 2, 3)
    for each in given:
        if each.is_vector or each.dtype.kind == "f":
            scope.wrong(node, f"{node.function} takes integers, got {shown(each)}")
    dtype = UINT64 if scope.is_cpp and len(given) < 3 else INT64
    return Operation(dtype, True, "range", tuple(given))


_SELECTIONS: dict[str, Function] = {
    "front": _of_vector("front"),
    "back": _of_vector("back"),
    "at": _at,
    "Sort": _of_vector("sorted_copy", vector=True),
    **dict.fromkeys(("Argsort", "StableArgsort"), _of_vector("argsorted", UINT64, vector=True)),
    "Reverse": _of_vector("reversed", vector=True),
    "Take": _take,
    "Nonzero": _of_vector("nonzero", "size", vector=True),
    "Concatenate": _concatenate,
    "Range": _range,
}


# --- functions of physics -------------------------------------------------------------------------


def _delta_phi_text(dtype: Dtype, a: int, b: int) -> str:
    return f"delta_phi{'32' if dtype == FLOAT32 else ''}({{{a}}}, {{{b}}})"


def _delta_phi(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 2)
    dtype, operands = _as_reals(given)
    return elementwise(dtype, _delta_phi_text(dtype, 0, 1), *operands)


def _delta_r2(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 4)
    dtype, operands = _as_reals(given)
    one = type_text(dtype)
    differences = "{0} - {1}", _delta_phi_text(dtype, 2, 3)
    return elementwise(
        dtype, f"{one}({{4}} * {{4}}) + {one}({{5}} * {{5}})", *operands, before=differences
    )


def _delta_r(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    squared = _delta_r2(scope, node, given)
    return elementwise(squared.dtype, "np.sqrt({0})", squared)


def _invariant_mass(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 4)
    dtype, operands = _as_reals([_vector(scope, node, each) for each in given])
    return Operation(dtype, False, "invariant mass", tuple(operands))


_PHYSICS: dict[str, Function] = {
    "DeltaPhi": _delta_phi,
    "DeltaR": _delta_r,
    "DeltaR2": _delta_r2,
    "Angle": _of_reals("angle", 6),
    "InvariantMass": _invariant_mass,
    "InvariantMasses": _of_reals("pair_mass", 8),
}


# --- their names ----------------------------------------------------------------------------------

_TABLE = {**_ELEMENTWISE, **_REDUCTIONS, **_SELECTIONS, **_PHYSICS}
"""By name, without namespaces."""

CONSTANTS = {
    "M_PI": np.pi,
    "pi": np.pi,
    "M_E": np.e,
    "e": np.e,
    "M_PI_2": np.pi / 2,
    "M_PI_4": np.pi / 4,
    "M_SQRT2": np.sqrt(2.0),
    "inf": np.inf,
    "nan": np.nan,
}
"""By name; the short ones only as ``np.pi``."""

_SPACES = ("ROOT::VecOps::", "VecOps::", "ROOT::Math::", "ROOT::", "std::", "TMath::", "np.", "math.")

_LOWER = "Sqrt Exp Log Log2 Log10 Floor Ceil Hypot Erf Erfc Sin Cos Tan ASin ACos ATan SinH CosH TanH"
_SAME_IN_TMATH = {name: name.lower() for name in _LOWER.split()}
_SAME_IN_TMATH |= {"Power": "pow", "Gamma": "tgamma", "LnGamma": "lgamma"}
"""Functions of TMath that are C++'s for doubles, and their names there."""


def _in_doubles_only(function: Function) -> Function:
    """Return one of TMath's functions, which take and give doubles where those of C++ keep floats."""
    return lambda scope, node, given: function(scope, node, [convert(each, FLOAT64) for each in given])


def _tmath_extreme(operator: str) -> Function:
    """``TMath::Min`` and ``TMath::Max`` of two numbers: the second one where one of them is NaN."""

    def function(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
        _expect(scope, node, given, 2)
        dtype = _of_overload(merged(given[0].dtype, given[1].dtype))
        code = f"{{0}} if {{0}} {operator} {{1}} else {{1}}"
        return elementwise(dtype, code, *(convert(each, dtype) for each in given))

    return function


def _tmath_abs(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    _expect(scope, node, given, 1)
    dtype = _of_overload(given[0].dtype)
    return convert(_abs(scope, node, [convert(given[0], dtype)]), dtype)


def _of_overload(dtype: Dtype) -> Dtype:
    """Return the type for which TMath has a function: its own from 16 bits on."""
    return promoted(dtype) if dtype.itemsize == 1 else dtype


_ATAN2_ON_AXIS = "(0.0 if {0} == 0 else np.pi / 2 if {0} > 0 else -np.pi / 2)"

_TMATH: dict[str, Function] = {
    **{name: _in_doubles_only(_TABLE[its]) for name, its in _SAME_IN_TMATH.items()},
    "ATan2": _in_doubles_only(_math(f"np.arctan2({{0}}, {{1}}) if {{1}} != 0 else {_ATAN2_ON_AXIS}", 2)),
    "Abs": _tmath_abs,
    "Min": _tmath_extreme("<="),
    "Max": _tmath_extreme(">="),
    "IsNaN": _TABLE["isnan"],
    "Pi": _pi,
}
"""What may follow ``TMath::``."""


def bare(name: str) -> str:
    """Return a function's name without its namespace."""
    for space in _SPACES:
        if name.startswith(space):
            return name[len(space) :]
    return name


def call(scope: Scope, node: Call, given: Sequence[Typed]) -> Typed:
    """Return the tree of a call, given those of its arguments."""
    is_tmath = node.function.startswith("TMath::")
    name, table = bare(node.function), _TMATH if is_tmath else _TABLE
    function = table.get(name)
    if function is None:
        message = f"there is no function {shortened(node.function)!r}"
        marked = mark(scope.text, node.start, message, node.stop)
        raise ExpressionError(f"{marked}\n{nearest(shortened(name), table)}")
    return function(scope, node, given)
