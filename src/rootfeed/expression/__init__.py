"""Expressions: text or a Python function, a tree, its types, one compiled loop over entries."""

from rootfeed.expression.grammar import parse
from rootfeed.expression.nodes import Expression
from rootfeed.expression.program import Cuts, Outputs, compile_cuts, compile_outputs, infer
from rootfeed.expression.steps import Cut, Definition
from rootfeed.expression.writer import Dialect

__all__ = [
    "Cut",
    "Cuts",
    "Definition",
    "Dialect",
    "Expression",
    "Outputs",
    "compile_cuts",
    "compile_outputs",
    "infer",
    "parse",
]
