"""From text to nodes. One grammar takes the spellings of C++ and of Python.

A type's name stands for a column where no cast can: ``short > 3``, but ``(short) x`` and ``short(x)``.
Any name can be quoted, as in pandas: `` `jet pt` ``, or ``col("jet pt")``.

Precedence is that of C++, also for ``&``, ``|`` and ``^``, which bind less than comparisons there:
``a > 1 & b < 2`` means ``(a > 1) & (b < 2)``. Words (``not``) bind as in Python; where C++ reads
``not a > 1`` otherwise, `inference` refuses it in C++'s dialect.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from rootfeed.errors import ExpressionError
from rootfeed.expression import nodes
from rootfeed.expression.nodes import Expression, Node
from rootfeed.expression.texts import encoded

__all__ = ["MOST_DEPTH", "mark", "parse", "shortened"]

MOST_CHARACTERS = 10_000
MOST_DEPTH = 100
_SHOWN = 60

_TYPES = {
    "?": "bool, Bool_t",
    "i1": "char, Char_t",
    "u1": "unsigned char, UChar_t",
    "i2": "short, Short_t",
    "u2": "unsigned short, UShort_t",
    "i4": "int, Int_t",
    "u4": "unsigned, unsigned int, UInt_t",
    "i8": "long, long long, Long_t, Long64_t",
    "u8": "unsigned long, unsigned long long, ULong_t, ULong64_t, size_t",
    "f4": "float, float32, Float_t",
    "f8": "double, float64, Double_t",
}
TYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
for _bits in (8, 16, 32, 64):
    TYPES |= {f"int{_bits}{end}": f"i{_bits // 8}" for end in ("", "_t")}
    TYPES |= {f"uint{_bits}{end}": f"u{_bits // 8}" for end in ("", "_t")}
"""Names of types and their dtypes, also after ``std::`` and ``np.``."""

_METHODS = ("size", "empty", "front", "back", "at")
"""What may follow a column's name and a dot; other dots belong to names."""

_VECTORS = {"F": "f4", "D": "f8", "I": "i4", "U": "u4", "L": "i8", "UL": "u8", "B": "?", "C": "i1"}

_WORDS = "|".join(sorted((name.replace(" ", r"\s+") for name in TYPES), key=len, reverse=True))
_TYPE = rf"(?:std::|np\.)?(?:{_WORDS})(?![\w:.])"

_CAST = re.compile(rf"(?:^|[^\w\s])\s*(\(\s*{_TYPE}\s*\))\s*$")

_INTEGER = r"0[xX][0-9a-fA-F]+[uUlL]{0,3}(?!\w)"
_NUMBER = r"(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[fFuUlL]{0,3}(?![\w.])"

_GRAMMAR = rf"""
?start: conditional
?conditional: either
    | either "?" conditional ":" conditional -> ternary
    | either "if" either "else" conditional -> if_else
?either: both
    | either ("||" | "or") both -> logic_or
?both: negated
    | both ("&&" | "and") negated -> logic_and
?negated: bits_or
    | "not" negated -> negation
?bits_or: bits_xor
    | bits_or BAR bits_xor -> binary
?bits_xor: bits_and
    | bits_xor CARET bits_and -> binary
?bits_and: comparison
    | bits_and AMPERSAND comparison -> binary
?comparison: shift
    | shift (COMPARISON shift)+ -> compare
    | shift IN _choices -> among
    | shift "not" IN _choices -> not_among
_choices: LSQUARE conditional ("," conditional)* RSQUARE
    | LBRACE conditional ("," conditional)* RBRACE
    | "(" conditional ("," conditional)* RPAREN
?shift: sum
    | shift SHIFT sum -> binary
?sum: product
    | sum SIGN product -> binary
?product: unary
    | product TIMES unary -> binary
?unary: power
    | (SIGN | BANG | TILDE) unary -> unary_
    | "(" TYPE ")" unary -> cast
?power: postfix
    | postfix POWER unary -> binary
?postfix: atom
    | postfix LSQUARE conditional RSQUARE -> indexed
    | postfix "." PATH "(" [conditional ("," conditional)*] RPAREN -> method
?atom: NUMBER -> number
    | STRING -> text
    | (PATH | TYPE) -> name
    | QUOTED -> quoted
    | COL "(" STRING RPAREN -> quoted
    | PATH "(" [conditional ("," conditional)*] RPAREN -> call
    | TYPE "(" conditional ")" -> cast
    | STATIC_CAST "(" conditional ")" -> cast
    | "(" conditional ")" -> bracketed
    | LBRACE [conditional ("," conditional)*] RBRACE -> items
    | LSQUARE [conditional ("," conditional)*] RSQUARE -> items
    | VECTOR LBRACE [conditional ("," conditional)*] RBRACE -> typed_items

RPAREN: ")"
LBRACE: "{{"
RBRACE: "}}"
LSQUARE: "["
RSQUARE: "]"
BAR: "|"
CARET: "^"
AMPERSAND: "&"
COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
SHIFT.2: "<<" | ">>"
SIGN: "+" | "-"
TIMES: "*" | "//" | "/" | "%"
POWER.2: "**"
BANG: "!"
TILDE: "~"
NUMBER.3: /{_INTEGER}|{_NUMBER}/
STRING: /"[^"\n]*"|'[^'\n]*'/
IN.2: /in(?!\w)/
STATIC_CAST.5: /static_cast\s*<\s*{_TYPE}\s*>/
VECTOR.5: /(?:ROOT::)?(?:VecOps::)?RVec(?:\s*<\s*{_TYPE}\s*>|[FDIULBC]{{1,2}}(?!\w))/
TYPE.4: /{_TYPE}/
QUOTED: /`(?:[^`]|``)*`/
COL.5: /col(?=\s*\(\s*["'])/
PATH: /(?:::)?[A-Za-z_]\w*(?:(?:::|\.)[A-Za-z_]\w*)*/
%ignore /[ \t\r\n]+/
"""


def dtype_of(text: str) -> np.dtype[Any]:
    """Return the dtype that a type's name stands for."""
    name = re.sub(r"\s+", " ", text.strip()).removeprefix("std::").removeprefix("np.")
    return np.dtype(TYPES[name])


class _Nodes(Transformer[Token, Node]):
    """Makes nodes while the text is parsed, so that nothing recurses over its depth."""

    def number(self, children: list[Any]) -> Node:
        value, dtype = _number(str(children[0]), children[0].start_pos)
        return nodes.Number(*_place(children), value, dtype)

    def text(self, children: list[Any]) -> Node:
        written, start = str(children[0]), children[0].start_pos
        if "\\" in written:
            raise _ProblemError("a text in quotes cannot hold a backslash", start)
        try:
            return nodes.Text(*_place(children), encoded(written[1:-1]))
        except UnicodeEncodeError:
            raise _ProblemError("this text is no Unicode", start) from None

    def name(self, children: list[Any]) -> Node:
        text = str(children[0])
        if text in ("true", "True", "false", "False"):
            return nodes.Number(*_place(children), text in ("true", "True"), np.dtype(np.bool_))
        return nodes.Name(*_place(children), text.removeprefix("::"))

    def quoted(self, children: list[Any]) -> Node:
        token = children[0] if len(children) == 1 else children[1]
        name = str(token)[1:-1]
        return nodes.Quoted(
            *_place(children), name.replace("``", "`") if token.type == "QUOTED" else name
        )

    def call(self, children: list[Any]) -> Node:
        name, arguments = str(children[0]).removeprefix("::"), _nodes(children)
        if name == "col":
            raise _ProblemError('col takes a name in quotes: col("jet pt")', children[0].start_pos)
        column, _, method = name.rpartition(".")
        if method in _METHODS and column not in ("", "np", "math"):
            start = children[0].start_pos
            arguments = (nodes.Name(start, start + len(column), 1, column), *arguments)
            name = method
        return nodes.Call(*_place(children), name, arguments)

    def method(self, children: list[Any]) -> Node:
        return nodes.Call(*_place(children), str(children[1]), _nodes(children))

    def binary(self, children: list[Any]) -> Node:
        left, operator, right = children
        return nodes.Binary(*_place(children), str(operator), left, right)

    def logic_or(self, children: list[Any]) -> Node:
        return nodes.Logic(*_place(children), "||", *children)

    def logic_and(self, children: list[Any]) -> Node:
        return nodes.Logic(*_place(children), "&&", *children)

    def bracketed(self, children: list[Any]) -> Node:
        node: Node = replace(children[0], is_bracketed=True)
        return node

    def negation(self, children: list[Any]) -> Node:
        return nodes.Unary(*_place(children), "not", children[0])

    def unary_(self, children: list[Any]) -> Node:
        return nodes.Unary(*_place(children), str(children[0]), children[1])

    def compare(self, children: list[Any]) -> Node:
        operators = tuple(str(operator) for operator in children[1::2])
        return nodes.Compare(*_place(children), operators, tuple(children[::2]))

    def among(self, children: list[Any]) -> Node:
        operand, *items = _nodes(children)
        return nodes.Among(*_place(children), operand, tuple(items))

    def not_among(self, children: list[Any]) -> Node:
        found = self.among(children)
        return nodes.Unary(found.start, found.stop, found.depth + 1, "!", found)

    def ternary(self, children: list[Any]) -> Node:
        return nodes.Conditional(*_place(children), *children)

    def if_else(self, children: list[Any]) -> Node:
        yes, condition, no = children
        return nodes.Conditional(*_place(children), condition, yes, no)

    def indexed(self, children: list[Any]) -> Node:
        return nodes.Index(*_place(children), *_nodes(children))

    def items(self, children: list[Any]) -> Node:
        return nodes.Items(*_place(children), None, _nodes(children))

    def typed_items(self, children: list[Any]) -> Node:
        text = str(children[0])
        if "<" in text:
            dtype = dtype_of(text[text.index("<") + 1 : text.index(">")])
        else:
            letters = text[text.index("RVec") + 4 :]
            if letters not in _VECTORS:
                raise _ProblemError(f"there is no type {text}", children[0].start_pos)
            dtype = np.dtype(_VECTORS[letters])
        return nodes.Items(*_place(children), dtype, _nodes(children))

    def cast(self, children: list[Any]) -> Node:
        text = str(children[0])
        if "<" in text:
            text = text[text.index("<") + 1 : text.index(">")]
        return nodes.Cast(*_place(children), dtype_of(text), children[1])


def _nodes(children: list[Any]) -> tuple[Node, ...]:
    return tuple(child for child in children if isinstance(child, Node))


class _ProblemError(Exception):
    """Something that the grammar allows and that means nothing."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message, self.position = message, position


def _place(children: list[Any]) -> tuple[int, int, int]:
    """Return start, stop and depth of a node, brackets around it left out."""
    start = min(each.start if isinstance(each, Node) else each.start_pos for each in children)
    stop = max(each.stop if isinstance(each, Node) else each.end_pos for each in children)
    depth = 1 + max((each.depth for each in children if isinstance(each, Node)), default=0)
    if depth > MOST_DEPTH:
        raise _ProblemError(
            f"more than {MOST_DEPTH} operations are nested here. Define a part of it on its own", start
        )
    return start, stop, depth


def _number(text: str, position: int) -> tuple[float | int, np.dtype[Any]]:
    lowered = text.lower()
    hexadecimal = lowered.startswith("0x")
    if hexadecimal:
        digits, suffix = lowered.rstrip("ul"), lowered[len(lowered.rstrip("ul")) :]
        value: float | int = int(digits, 16)
    else:
        digits = lowered.rstrip("ulf")
        suffix = lowered[len(digits) :]
        if "." in digits or "e" in digits:
            if suffix not in ("", "f"):
                raise _ProblemError(f"a number ends with {suffix!r}", position)
            real = float(digits)
            if not suffix:
                return real, np.dtype("f8")
            with np.errstate(over="ignore"):
                return float(np.float32(real)), np.dtype("f4")
        if len(digits.lstrip("0")) > 20:  # Python itself refuses to read integers of thousands of digits
            raise _ProblemError("this integer has more than 64 bits", position)
        if "f" in suffix:
            raise _ProblemError(f"an integer ends with {suffix!r}; write {digits}.{suffix}", position)
        if digits[0] == "0" and digits.strip("0"):
            message = (
                "an integer that begins with 0 has base 8 in C++ and is none in Python; leave the 0 out"
            )
            raise _ProblemError(message, position)
        # Python refuses to read thousands of digits.
        value = int(digits) if len(digits) <= 1000 else 2**64
    if suffix not in ("", "u", "l", "ll", "ul", "ull", "lu", "llu"):
        raise _ProblemError(f"a number ends with {suffix!r}", position)
    if value >= 2**64:
        raise _ProblemError("this integer has more than 64 bits", position)
    for dtype in ("i4", "u4", "i8", "u8"):
        fits = value <= np.iinfo(dtype).max
        wide_enough = "l" not in suffix or dtype[1] == "8"
        signed = dtype[0] == "i"
        if fits and wide_enough and (signed != ("u" in suffix) or dtype == "u8"):
            return value, np.dtype(dtype)
        # C++ tries the unsigned types too for hexadecimal numbers: 0xFFFFFFFF is an unsigned int.
        if fits and wide_enough and hexadecimal and not signed:
            return value, np.dtype(dtype)
    raise AssertionError(text)


@cache
def _parser() -> Lark:
    return Lark(
        _GRAMMAR,
        parser="lalr",
        transformer=_Nodes(),
        maybe_placeholders=False,
    )


def parse(text: str) -> Expression:
    """Understand a text.

    Parameters
    ----------
    text : str
        An expression in the spelling of C++ or of Python, at most 10 000 characters.

    Raises
    ------
    ExpressionError
        Shows the place at which it is not understood.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression must be a text, got {text!r}.")
    if len(text) > MOST_CHARACTERS:
        raise ExpressionError(
            f"an expression has at most {MOST_CHARACTERS} characters, got {len(text)}. "
            "Define parts of it on their own."
        )
    if not text.strip():
        raise ExpressionError("an expression must not be empty.")
    try:
        node: Any = _parser().parse(text)  # the tree is made of nodes by `_Nodes`
    except _ProblemError as problem:
        raise ExpressionError(mark(text, problem.position, problem.message)) from None
    except VisitError as error:
        problem_ = error.orig_exc
        if not isinstance(problem_, _ProblemError):
            raise
        raise ExpressionError(mark(text, problem_.position, problem_.message)) from None
    except UnexpectedInput as error:
        raise ExpressionError(mark(text, *_unexpected(text, error))) from None
    return Expression(text, node)


def _unexpected(text: str, error: UnexpectedInput) -> tuple[int, str]:
    position = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    if isinstance(error, UnexpectedToken):
        at_end = error.token.type == "$END"
        position = len(text) if at_end else position
        if cast := _CAST.search(text, 0, position):
            return cast.start(1), "this casts nothing; where a column is meant, leave out the brackets"
        if at_end:
            return position, "the expression ends too early"
        return position, f"{str(error.token)[:40]!r} is not expected here"
    if isinstance(error, UnexpectedCharacters):
        character = text[position : position + 1]
        if character in ("'", '"'):
            return position, f"the text in quotes that begins here does not end: {character} is missing"
        if character == "=":
            return position, "'=' is not expected here; to compare, write '=='"
        if character == "`":
            return position, "a name in backticks is written `like this`"
        return position, f"{character!r} means nothing here"
    return position, "this is not understood"


def shortened(name: str) -> str:
    """Return a name as messages show it."""
    return name if len(name) <= 2 * _SHOWN else f"{name[: 2 * _SHOWN]}…"


def mark(text: str, position: int, message: str, stop: int | None = None) -> str:
    """Return a message with the text and a caret under a place in it."""
    position = max(0, min(position, len(text)))
    first = max(0, position - _SHOWN)
    last = min(len(text), position + _SHOWN)
    shown = "".join(c if c.isprintable() else " " for c in text[first:last])
    before = "…" if first else ""
    after = "…" if last < len(text) else ""
    width = 1 if stop is None else max(1, min(stop, last) - position)
    caret = " " * (len(before) + position - first) + "^" * width
    return f"{message}:\n  {before}{shown}{after}\n  {caret}"
