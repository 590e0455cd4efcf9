"""Names of columns: in nodes, where a name is given, and as texts write them, in quotes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rootfeed.errors import ExpressionError, RootfeedError
from rootfeed.expression.grammar import parse, shortened
from rootfeed.expression.nodes import Expression, Name, Quoted

__all__ = [
    "advised",
    "hidden",
    "in_text",
    "label",
    "name_in",
    "quoted",
    "reference",
    "visible",
    "written",
]

_HIDDEN = "\ud800"  # half a character, which no file's bytes are decoded to
_QUOTES = re.compile("`[^`]*`|\"[^\"\n]*\"|'[^'\n]*'")
_MOST_SHOWN = 3
_MOST_COMPARED = 200


def quoted(name: str) -> str:
    """Return the text that means a column, whatever its name is."""
    return "`" + name.replace("`", "``") + "`"


def reference(name: str) -> Expression:
    """Return the expression that a column's name stands for: the name is not parsed."""
    text = quoted(name)
    return Expression(text, Quoted(0, len(text), 1, name))


def name_in(text: str) -> str | None:
    """Return the name that a text is, quoted or not; None where it is more than that, or nothing."""
    try:
        node = parse(text).node
    except ExpressionError:
        return None
    return node.name if isinstance(node, Name) else None


def written(name: str) -> str:
    """Return a name as texts write it: in backticks where it needs them."""
    return name if is_plain(name) else quoted(name)


def is_plain(name: str) -> bool:
    """Whether a text that is the name means the column."""
    return name_in(name) == name


def in_text(name: str) -> str:
    """Return a name as advice shows it: in backticks where texts need them."""
    return repr(name) if is_plain(name) else quoted(name)


# --- columns that nobody asked for ----------------------------------------------------------------


def hidden(told: str, number: int) -> str:
    """Return a name that no column has, for one that messages call as told."""
    return f"{told}{_HIDDEN}{number}"


def label(name: str) -> str:
    """Return a name as messages show it."""
    return name.partition(_HIDDEN)[0]


def visible(names: Iterable[str]) -> list[str]:
    """Return the names that are not hidden."""
    return [name for name in names if _HIDDEN not in name]


# --- advice ---------------------------------------------------------------------------------------


@contextmanager
def advised(text: str, names: Iterable[str]) -> Iterator[None]:
    """Add to an error in a text how the names in it are written, where that may explain it."""
    try:
        yield
    except RootfeedError as error:
        advice = _advice(text, visible(names))
        if not advice or advice in str(error):
            raise
        raise type(error)(f"{error}\n{advice}") from None


def _advice(text: str, names: list[str]) -> str:
    found = [name for name in names if _stands_in(name, text) and not is_plain(name)]
    # Of names that lie within each other, the longest.
    longest = [name for name in found if not any(name != other and name in other for other in found)]
    if longest:
        several = " or ".join(shortened(quoted(name)) for name in longest[:_MOST_SHOWN])
        return f"If a column is meant, write its name in backticks: {several}."
    if len(text) > _MOST_COMPARED:
        return ""
    near = difflib.get_close_matches(text, names, 1, cutoff=0.8)
    return f"Did you mean {quoted(near[0])}?" if near and not is_plain(near[0]) else ""


def _stands_in(name: str, text: str) -> bool:
    """Whether a name is written in a text, without quotes and not as a part of words."""
    if not name or name not in text:
        return False
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.match(r"\w", name[-1]) else ""
    # A name with a quote in it may itself look like the end of one.
    bare = text.replace(quoted(name), " ") if re.search("[`\"']", name) else _QUOTES.sub(" ", text)
    return re.search(before + re.escape(name) + after, bare) is not None
