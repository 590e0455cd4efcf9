"""From nodes to the lines of a kernel that Numba compiles, checking types on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rootfeed.expression.builder import Builder, Dialect
from rootfeed.expression.functions import call
from rootfeed.expression.grammar import shortened
from rootfeed.expression.nodes import (
    Among,
    Binary,
    Call,
    Cast,
    Compare,
    Conditional,
    Expression,
    Index,
    Items,
    Logic,
    Name,
    Node,
    Number,
    Text,
    Unary,
)
from rootfeed.expression.operators import among, binary, compare, unary
from rootfeed.expression.texts import TextTest
from rootfeed.expression.values import (
    BOOL,
    Dtype,
    Indexed,
    Scalar,
    TextColumn,
    Value,
    Vector,
    merged,
    number,
    shown,
    truth,
    type_text,
)

__all__ = ["Writer"]

_TEXT_USES = (
    '{} can only be compared with text: column == "a", column != "a", column in ["a", "b"]; for '
    "anything else define a column by a function with vectorized=True"
)


class Writer(Builder):
    """Writes expressions into a kernel.

    Parameters
    ----------
    dialect : str
    resolve : function of Name
        Returns the value of a name; None where a column holds neither plain numbers nor text.
    test : function of TextTest
        Returns the boolean column that is made beside the kernel.
    """

    def __init__(
        self,
        dialect: Dialect,
        resolve: Callable[[Name], Value | TextColumn | None],
        test: Callable[[TextTest], Value],
    ) -> None:
        super().__init__(dialect)
        self._resolve, self._test = resolve, test
        self._types: dict[int, tuple[bool, Dtype]] = {}

    def write(self, expression: Expression) -> Value:
        """Write an expression."""
        self.text = expression.text
        self._types = {}
        value = self.value(expression.node)
        return self._remembered(value) if isinstance(value, Vector) else value

    def _remembered(self, vector: Vector) -> Vector:
        """Return a vector whose failures name this expression, wherever its elements are produced."""
        text = self.text

        def told(produce: Callable[[], Any]) -> Any:
            before, self.text = self.text, text
            try:
                return produce()
            finally:
                self.text = before

        def each(body: Callable[[str], None]) -> None:
            outside = self.text

            def told_body(element: str) -> None:
                inside, self.text = self.text, outside
                body(element)
                self.text = inside

            told(lambda: vector.each(told_body))

        if not isinstance(vector, Indexed):
            return Vector(vector.dtype, each, vector.length, vector.most)
        at = vector.at
        return Indexed(
            vector.dtype, each, vector.length, vector.most, lambda k: str(told(lambda: at(k)))
        )

    def value(self, node: Node) -> Value:
        """Write a node."""
        match node:
            case Number():
                return number(node.dtype, node.value)
            case Name():
                return self._name(node)
            case Unary():
                return unary(self, node, self.value(node.operand))
            case Binary():
                return binary(self, node, node.operator, self.value(node.left), self.value(node.right))
            case Text():
                self.wrong(node, _TEXT_USES.format("a text in quotes"))
            case Compare():
                if any(self._text(each) for each in node.operands):
                    return self._compare_texts(node)
                return compare(self, node, [self.value(each) for each in node.operands])
            case Among():
                if any(self._text(each) for each in (node.operand, *node.items)):
                    return self._test_texts(node, node.operand, node.items)
                return among(
                    self, node, self.value(node.operand), [self.value(each) for each in node.items]
                )
            case Logic():
                return self._logic(node)
            case Conditional():
                return self._conditional(node)
            case Call():
                return call(self, node, [self.value(each) for each in node.arguments])
            case Index():
                return self._index(node, self.value(node.vector), self.value(node.index))
            case Items():
                return self._items(node, [self.value(each) for each in node.items])
            case Cast():
                return self.cast(self.value(node.operand), node.dtype)
        raise AssertionError(node)

    def _name(self, node: Name) -> Value:
        found = self._resolve(node)
        if isinstance(found, TextColumn):
            self.wrong(node, _TEXT_USES.format(f"column {shortened(node.name)!r}, which holds text,"))
        if found is None:
            self.wrong(node, f"column {shortened(node.name)!r} holds no plain numbers")
        return found

    # --- texts --------------------------------------------------------------------------------

    def text_of(self, expression: Expression) -> TextColumn | None:
        """Return the column that an expression is, where that is text."""
        self.text = expression.text
        found = self._text(expression.node)
        return found if isinstance(found, TextColumn) else None

    def _text(self, node: Node) -> Text | TextColumn | None:
        """Return what a node is, where that is text."""
        if isinstance(node, Text):
            return node
        if not isinstance(node, Name):
            return None
        found = self._resolve(node)
        return found if isinstance(found, TextColumn) else None

    def _compare_texts(self, node: Compare) -> Value:
        if len(node.operands) > 2 or node.operators[0] not in ("==", "!="):
            self.wrong(node, "texts can only be compared two at a time, by == or !=")
        left, right = node.operands
        if isinstance(left, Text):
            left, right = right, left
        found = self._test_texts(node, left, (right,))
        if node.operators[0] == "==":
            return found
        return self.map(BOOL, lambda texts: f"not {texts[0]}", [found])

    def _test_texts(self, node: Node, operand: Node, items: Sequence[Node]) -> Value:
        """Have texts compared beside the kernel."""
        column, others = self._text(operand), [self._text(each) for each in items]
        if not isinstance(column, TextColumn):
            self.wrong(node, _TEXT_USES.format("a text"))
        for item, other in zip(items, others, strict=True):
            if other is None:
                self.wrong(
                    item,
                    f"column {shortened(column.name)!r} holds text and is compared with a number; "
                    'a text stands in quotes, as in "signal"',
                )
        literals = {other.value for other in others if isinstance(other, Text)}
        columns = {other.name for other in others if isinstance(other, TextColumn)}
        return self._test(TextTest(column.name, tuple(sorted(literals)), tuple(sorted(columns))))

    def _logic(self, node: Logic) -> Value:
        left = self.value(node.left)
        word = "or" if node.operator == "||" else "and"
        if isinstance(left, Vector) or self._types_of(node.right)[0]:
            return self._logic_of_vectors(word, left, self.value(node.right))
        result = self.new()
        self.line(f"{result} = np.bool_({truth(left.text, left.dtype)})")
        with self.block(f"if {'not ' if word == 'or' else ''}{result}:"):
            right = self.value(node.right)
            assert isinstance(right, Scalar)
            self.line(f"{result} = np.bool_({truth(right.text, right.dtype)})")
        return Scalar(BOOL, result)

    def _logic_of_vectors(self, word: str, left: Value, right: Value) -> Value:
        joined = self.map(
            BOOL,
            lambda texts: f"{truth(texts[0], left.dtype)} {word} {truth(texts[1], right.dtype)}",
            [left, right],
        )
        return self.condition(joined)

    def _conditional(self, node: Conditional) -> Value:
        condition = self.value(node.condition)
        if isinstance(condition, Vector):
            return self.where(condition, self.value(node.yes), self.value(node.no))
        types = self._types_of(node.yes), self._types_of(node.no)
        if types[0][0] != types[1][0]:
            self.wrong(node, "one side is a number and the other a vector")
        is_vector = types[0][0]
        dtype = merged(types[0][1], types[1][1])
        result = self.new("m" if is_vector else "t")
        test = truth(condition.text, condition.dtype)
        for head, side in ((f"if {test}:", node.yes), ("else:", node.no)):
            with self.block(head):
                value = self.cast(self.value(side), dtype)
                if isinstance(value, Vector):
                    array, _ = self.array(value)
                    self.line(f"{result} = {array}")
                else:
                    self.line(f"{result} = {type_text(dtype)}({value.text})")
        if not is_vector:
            return Scalar(dtype, result)
        return self.counted(dtype, f"{result}.size", lambda k: f"{result}[{k}]")

    def _types_of(self, node: Node) -> tuple[bool, Dtype]:
        """Return whether a node is a vector, and its dtype: written once, and taken back."""
        if id(node) not in self._types:
            lines, failures, names = len(self.lines), len(self.failures), self._names
            value = self.value(node)
            del self.lines[lines:]
            del self.failures[failures:]
            self._names = names
            self._types[id(node)] = isinstance(value, Vector), value.dtype
        return self._types[id(node)]

    def _index(self, node: Index, vector: Value, index: Value) -> Value:
        if isinstance(vector, Scalar):
            self.wrong(node, f"only a vector has elements, got {shown(vector)}")
        if index.dtype.kind == "f":
            self.wrong(node, f"an index is an integer or a mask, got {shown(index)}")
        if isinstance(index, Scalar):
            return self._element(node, vector, index)
        if index.dtype == BOOL or self.dialect == "c++":
            return self.masked(vector, index)
        return self.taken(vector, index)

    def _element(self, node: Node, vector: Vector, index: Scalar) -> Scalar:
        among = self.indexable(vector)
        negative = index.constant is not None and index.constant < 0
        if negative and self.dialect == "c++":
            self.wrong(node, "an index must not be negative in C++")
        return self.assign(vector.dtype, among.at(self.place(index, among.length)))

    def _items(self, node: Items, items: Sequence[Value]) -> Value:
        dtype = node.dtype
        for item in items:
            if isinstance(item, Vector):
                self.wrong(node, "a list holds numbers, got a vector")
            if node.dtype is None:
                dtype = merged(dtype or item.dtype, item.dtype)
        if dtype is None:
            self.wrong(node, "an empty list has no type; write RVec<float>{}")
        array = self.new("m")
        self.line(f"{array} = np.empty({len(items)}, {type_text(dtype)})")
        for place, item in enumerate(items):
            cast = self.cast(item, dtype)
            assert isinstance(cast, Scalar)
            self.line(f"{array}[{place}] = {cast.text}")
        return self.counted(dtype, str(len(items)), lambda k: f"{array}[{k}]")
