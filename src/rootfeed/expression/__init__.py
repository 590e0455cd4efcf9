"""Expressions: text or a Python function, a tree, its types, one compiled loop over entries."""

from rootfeed.expression.body import infer
from rootfeed.expression.builder import Dialect
from rootfeed.expression.cuts import Cuts, compile_cuts
from rootfeed.expression.grammar import parse
from rootfeed.expression.nodes import Expression
from rootfeed.expression.program import Outputs, compile_outputs
from rootfeed.expression.steps import Cut, Definition

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
