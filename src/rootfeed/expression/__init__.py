"""Expressions: text or a Python function, a tree, its types, one compiled loop over entries."""

from rootfeed.expression.grammar import parse
from rootfeed.expression.inference import NUMBERS
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
from rootfeed.expression.outside import bytecode, taken
from rootfeed.expression.program import Cuts, Outputs, compile_cuts, compile_outputs, needed_steps
from rootfeed.expression.steps import Cut, Definition, infer
from rootfeed.expression.typed import Dialect

__all__ = [
    "NUMBERS",
    "Cut",
    "Cuts",
    "Definition",
    "Dialect",
    "Expression",
    "Outputs",
    "advised",
    "bytecode",
    "compile_cuts",
    "compile_outputs",
    "hidden",
    "infer",
    "label",
    "name_in",
    "needed_steps",
    "parse",
    "reference",
    "taken",
    "visible",
    "written",
]
