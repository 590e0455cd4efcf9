"""The functions that expressions may call, in one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rootfeed.errors import ExpressionError, nearest
from rootfeed.expression import elementwise, physics, reductions, selections
from rootfeed.expression.arguments import Function
from rootfeed.expression.builder import Builder
from rootfeed.expression.grammar import mark, shortened
from rootfeed.expression.nodes import Call
from rootfeed.expression.values import FLOAT64, Value

__all__ = ["CONSTANTS", "bare", "call"]

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

_TMATH = {
    "Abs": "abs",
    "Sqrt": "sqrt",
    "Power": "pow",
    "Max": "max",
    "Min": "min",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "ASin": "asin",
    "ACos": "acos",
    "ATan": "atan",
    "ATan2": "atan2",
    "SinH": "sinh",
    "CosH": "cosh",
    "TanH": "tanh",
    "Exp": "exp",
    "Log": "log",
    "Log2": "log2",
    "Log10": "log10",
    "Floor": "floor",
    "Ceil": "ceil",
    "Hypot": "hypot",
    "Erf": "erf",
    "Erfc": "erfc",
    "Gamma": "tgamma",
    "LnGamma": "lgamma",
    "Sign": "sign",
    "IsNaN": "isnan",
}
"""The names of TMath, and those of C++ for the same."""

_REALS = set(_TMATH.values()) - {"abs", "min", "max", "sign", "isnan"}

_TABLE: dict[str, Function] = {
    **elementwise.FUNCTIONS,
    **reductions.FUNCTIONS,
    **selections.FUNCTIONS,
    **physics.FUNCTIONS,
}


def bare(name: str) -> str:
    """Return a function's name without its namespace."""
    for space in _SPACES:
        if name.startswith(space):
            return name[len(space) :]
    return name


def call(builder: Builder, node: Call, arguments: Sequence[Value]) -> Value:
    """Write a call."""
    name = bare(node.function)
    if node.function.startswith("TMath::"):
        name = _TMATH.get(name, name)
    function = _TABLE.get(name)
    if function is None:
        message = f"there is no function {shortened(node.function)!r}"
        shown = mark(builder.text, node.start, message, node.stop)
        raise ExpressionError(f"{shown}\n{nearest(shortened(name), _TABLE)}")
    if node.function.startswith("TMath::") and name in _REALS:
        # TMath's functions take and give doubles, those of C++ keep floats.
        arguments = [builder.cast(each, FLOAT64) for each in arguments]
    return function(builder, node, arguments)
