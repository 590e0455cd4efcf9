"""Expressions: text or a Python function, a tree, its types, one compiled loop over entries."""

from rootfeed.expression.grammar import parse
from rootfeed.expression.names import (
    advised,
    hidden,
    label,
    name_in,
    reference,
    visible,
    written,
)
from rootfeed.expression.nodes import Expression
from rootfeed.expression.program import Cuts, Outputs, compile_cuts, compile_outputs
from rootfeed.expression.steps import Cut, Definition, infer
from rootfeed.expression.typed import Dialect

__all__ = [
    "Cut",
    "Cuts",
    "Definition",
    "Dialect",
    "Expression",
    "Outputs",
    "advised",
    "compile_cuts",
    "compile_outputs",
    "hidden",
    "infer",
    "label",
    "name_in",
    "parse",
    "reference",
    "visible",
    "written",
]
