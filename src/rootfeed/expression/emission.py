"""From typed trees to lines of a kernel. Nothing is decided about types here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rootfeed.expression import typed
from rootfeed.expression.builder import Builder, Indexed, Scalar, Value, Vector
from rootfeed.expression.names import hidden
from rootfeed.expression.texts import TextTest
from rootfeed.expression.typed import BOOL, Column, Constant, Typed, truth, type_text
from rootfeed.expression.vectors import OPERATIONS, folded, mean

__all__ = ["Emitter"]


class Emitter(Builder):
    """Writes trees into a kernel, and remembers what the kernel is given for them.

    Attributes
    ----------
    values : dict of str to Scalar or Vector
        Of columns that this kernel makes itself, by their keys.
    inputs : dict of str to Column
        The others that it reads, by their keys, in the order of its arguments a0, a1 and so on.
    tests : dict of TextTest to str
        What texts are asked, and the key of the boolean column that it makes.
    functions : dict of str to function
        The user's, by the names that the kernel calls them by.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Value] = {}
        self.inputs: dict[str, Column] = {}
        self.tests: dict[TextTest, str] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self._arguments: dict[str, str] = {}

    def emit(self, tree: Typed, text: str) -> Value:
        """Write a tree, of an expression that failures show as `text`."""
        self.text = text
        value = self._value(tree)
        return self._remembered(value) if isinstance(value, Vector) else value

    @contextmanager
    def _telling(self, text: str) -> Iterator[None]:
        """Let failures show this text."""
        before, self.text = self.text, text
        yield
        self.text = before

    def _remembered(self, vector: Vector) -> Vector:
        """Return a vector whose failures name this expression, wherever its elements are produced."""
        text = self.text

        def each(body: Callable[[str], None]) -> None:
            outside = self.text

            def told_body(element: str) -> None:
                with self._telling(outside):
                    body(element)

            with self._telling(text):
                vector.each(told_body)

        if not isinstance(vector, Indexed):
            return replace(vector, each=each)

        def at(k: str) -> str:
            with self._telling(text):
                return vector.at(k)

        return replace(vector, each=each, at=at)

    def _value(self, tree: Typed) -> Value:
        match tree:
            case Constant():
                return Scalar(tree.dtype, _constant_text(tree))
            case Column():
                return self._column(tree)
            case typed.EntryNumber():
                return Scalar(tree.dtype, f"{type_text(tree.dtype)}(first_number + i)")
            case typed.TestedText():
                # No definition has an empty name, whose key this might be.
                key = self.tests.setdefault(tree.test, hidden("", len(self.tests)))
                return self._column(Column(BOOL, False, key, True))
            case typed.Elementwise():
                return self._elementwise(tree)
            case typed.ShortCircuit():
                return self._short_circuit(tree)
            case typed.Choice():
                return self._choice(tree)
            case typed.Listed():
                items = [self._scalar(item).text for item in tree.items]
                array = self.variable(f"np.empty({len(items)}, {type_text(tree.dtype)})", "m")
                for place, item in enumerate(items):
                    self.line(f"{array}[{place}] = {item}")
                return self.counted(tree.dtype, str(len(items)), lambda k: f"{array}[{k}]")
            case typed.Fold():
                return folded(self, tree, self._vector(tree.operand))
            case typed.Mean():
                return mean(self, tree.total, self._vector(tree.total.operand))
            case typed.Operation():
                return OPERATIONS[tree.name](self, tree, *(self._value(k) for k in tree.operands))
            case typed.FunctionCall():
                return self._function_call(tree)
        raise AssertionError(tree)

    def _scalar(self, tree: Typed) -> Scalar:
        value = self._value(tree)
        assert isinstance(value, Scalar), tree
        return value

    def _vector(self, tree: Typed) -> Vector:
        value = self._value(tree)
        assert isinstance(value, Vector), tree
        return value

    def _column(self, column: Column) -> Value:
        if column.key in self.values:
            return self.values[column.key]
        self.inputs.setdefault(column.key, column)
        argument = self._arguments.setdefault(column.key, f"a{len(self._arguments)}")
        # Stored columns have all entries, made ones those in work.
        at = "j" if column.is_made else "i"
        if not column.is_vector:
            return Scalar(column.dtype, f"{argument}[{at}]")
        first, stop = f"{argument}_o[{at}]", f"{argument}_o[{at} + 1]"
        return self.counted(
            column.dtype, f"({stop} - {first})", lambda k: f"{argument}_v[{first} + {k}]"
        )

    def _elementwise(self, tree: typed.Elementwise) -> Value:
        def code(texts: Sequence[str]) -> str:
            texts = list(texts)
            if tree.never is not None:
                condition, message = tree.never
                self.fail_if(condition.format(*texts), message)
            for part in tree.before:
                texts.append(self.assign(tree.dtype, part.format(*texts)).text)
            return tree.code.format(*texts)

        return self.map(tree.dtype, code, [self._value(each) for each in tree.operands])

    def _short_circuit(self, tree: typed.ShortCircuit) -> Scalar:
        left = self._scalar(tree.left)
        result = self.variable(f"np.bool_({truth(left.text, left.dtype)})", "t")
        with self.block(f"if {'not ' if tree.word == 'or' else ''}{result}:"):
            right = self._scalar(tree.right)
            self.line(f"{result} = np.bool_({truth(right.text, right.dtype)})")
        return Scalar(BOOL, result)

    def _choice(self, tree: typed.Choice) -> Value:
        condition = self._scalar(tree.condition)
        result = self.new("m" if tree.is_vector else "t")
        test = truth(condition.text, condition.dtype)
        for head, side in ((f"if {test}:", tree.yes), ("else:", tree.no)):
            with self.block(head):
                value = self._value(side)
                if isinstance(value, Vector):
                    array, _ = self.array(value)
                    self.line(f"{result} = {array}")
                else:
                    self.line(f"{result} = {type_text(tree.dtype)}({value.text})")
        if not tree.is_vector:
            return Scalar(tree.dtype, result)
        return self.counted(tree.dtype, f"{result}.size", lambda k: f"{result}[{k}]")

    def _function_call(self, tree: typed.FunctionCall) -> Value:
        operands = [self._value(each) for each in tree.operands]
        name = f"f{len(self.functions)}"
        self.functions[name] = tree.function
        texts = [self.array(each)[0] if isinstance(each, Vector) else each.text for each in operands]
        call = f"{name}({', '.join(texts)})"
        if not tree.is_vector:
            return self.assign(tree.dtype, call)
        return self.elements(self.variable(call, "m"), tree.dtype)


def _constant_text(tree: Constant) -> str:
    """Return a constant's source text, such as ``np.float32(0.5)``."""
    text = repr(tree.value)
    if isinstance(tree.value, float) and not math.isfinite(tree.value):
        text = "np.nan" if math.isnan(tree.value) else "np.inf" if tree.value > 0 else "-np.inf"
    return f"{type_text(tree.dtype)}({text})"
