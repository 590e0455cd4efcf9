"""Texts that mean harm, or nothing: an error of ours or a value, never code, a crash or a hang."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from rootfeed.errors import ExpressionError, RootfeedError
from rootfeed.expression import Definition, compile_outputs, infer, parse
from rootfeed.schema import ColumnType, Jagged

TYPES = {
    "x": ColumnType("float64", "scalar", np.dtype("f8")),
    "n": ColumnType("int32", "scalar", np.dtype("i4")),
    "v": ColumnType("vector of float32", "vector", np.dtype("f4")),
    "label": ColumnType("std::string", "text", None),
}
SOUP = [
    "x",
    "n",
    "v",
    "label",
    "y",
    "Sum",
    "Take",
    "Where",
    "Range",
    "at",
    "len",
    "sqrt",
    "min",
    "max",
    "abs",
    "np.pi",
    "M_PI",
    "TMath::Pi",
    "int",
    "float",
    "double",
    "RVec",
    "static_cast<int>",
    "(int)",
    "ROOT::RVec<float>",
    "RVecF",
    "true",
    "False",
    "and",
    "or",
    "not",
    "if",
    "else",
    "is",
    "in",
    "lambda",
    "import",
    "rdfentry_",
    "entry",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "&",
    "|",
    "^",
    "~",
    "!",
    "&&",
    "||",
    "<<",
    ">>",
    "<",
    ">",
    "<=",
    ">=",
    "==",
    "!=",
    "=",
    "?",
    ":",
    "::",
    ".",
    ",",
    ";",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "0",
    "1",
    "2",
    "-1",
    "1e308",
    "1e999",
    "0x",
    "0xFF",
    "99999999999999999999",
    "1.5f",
    "1u",
    "7ull",
    "1..2",
    "'",
    '"',
    "`",
    "\\",
    "$",
    "@",
    "#",
    "é",
    "π",
    "λ",
    "变",
    "𝒙",  # noqa: RUF001  # meant
    "\u200b",
    "\x00",
    "\n",
    "\t",
    "__class__",
    ".size()",
    ".at(0)",
    "v[0]",
    "v[v>1]",
    "x?",
    ":x",
    "0b1",
    "1_000",
    "1j",
    "...",
    "->",
    ":=",
    "f''",
]
VALID = (
    "x > 2 && n < 3",
    "Sum(v[v > 30])",
    "n > 0 ? v[0] : -1.5",
    "at(v, n, 0) + sqrt(abs(x))",
    "Take(v, 2, 0.f) * 2",
    "Where(v > x, v, -v)",
    "x if n == 1 else (float) n",
    "ROOT::RVec<float>{x, 1, n}",
    "DeltaR(x, x, n, n) < 0.4",
)

INJECTIONS = (
    "__import__('os').system('touch /tmp/harm')",
    '__import__("os")',
    "__import__(os)",
    "eval(x)",
    "exec(x)",
    "open(x)",
    "compile(x)",
    "globals()",
    "locals()",
    "getattr(x, n)",
    "f'{x}'",
    'f"{__import__}"',
    "lambda: x",
    "lambda x: x",
    "(y := x)",
    "`ls`",
    "().__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "x.__class__",
    "x.__class__()",
    "v.__class__.__mro__",
    "np.os.system(x)",
    "np.__builtins__",
    "np.load(x)",
    "np.lib",
    "os.system(x)",
    "sys.exit()",
    "x\nimport os",
    "x\n    return 1",
    "x; import os",
    "x); import os; (x",
    "x) or exit(",
    "x # comment",
    "x // comment\n; x",
    "x /* comment */",
    "[x for x in v]",
    "{x: n}",
    "{**x}",
    "[*v]",
    "print(x)",
    "breakpoint()",
    "exit()",
    "quit",
    "status",
    "kernel",
    "a0",
    "take",
    "np",
    "numba",
    "library",
    "grown(v, 5)",
    "sorted_copy(v)",
    'gSystem->Exec("ls")',
    'gROOT->ProcessLine(".! ls")',
    "std::system(x)",
    "#include <cstdlib>",
    "x = 1",
    "x += 1",
    "x++",
    "*x",
    "&x",
    "new int",
    "\u202ex",
    "\uff58",
    "x\x00",
    "'x'",
    '"x"',
    "r'\\x'",
    "%s",
    "{0.__class__}",
    "{a}",
    "$x",
    "${x}",
)


def attempt(text: str) -> None:
    for dialect in ("python", "c++"):
        try:
            infer([Definition("r", parse(text))], TYPES, dialect)
        except RootfeedError as error:
            if len(str(error)) > 2000:
                raise AssertionError("a message is too long") from error


def test_random_texts_give_an_error_or_a_type() -> None:
    dice = random.Random(20)
    started = time.monotonic()
    for number in range(10_000):
        if number % 2:
            text = dice.choice(["", " "]).join(dice.choices(SOUP, k=dice.randint(1, 12)))
        else:
            characters = list(dice.choice(VALID))
            for _ in range(dice.randint(1, 3)):
                place = dice.randrange(len(characters))
                characters[place : place + dice.randint(0, 2)] = dice.choice(SOUP)
            text = "".join(characters)
        try:
            attempt(text)
        except Exception as error:
            raise AssertionError(f"{text!r} gives {error!r}"[:600]) from error
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("text", INJECTIONS)
def test_code_is_refused(text: str) -> None:
    with pytest.raises(RootfeedError):
        infer([Definition("r", parse(text))], TYPES, "python")


NAMES = [
    "status",
    "first_number",
    "take",
    "i",
    "j",
    "k",
    "a0",
    "a0_v",
    "a0_o",
    "s_0",
    "o_0",
    "v_0",
    "n_v_0",
    "f0",
    "t1",
    "m1",
    "n1",
    "j1",
    "np",
    "numba",
    "njit",
    "kernel",
    "range",
    "grown",
    "divide_floored",
    "rounded",
    "len",
    "abs",
    "passed",
    "passing",
    "return",
    "pass",
    "import",
    "None",
    "print",
    "self",
]


def test_columns_may_have_the_names_of_the_kernels_variables() -> None:
    scalars = {name: ColumnType("int32", "scalar", np.dtype("i4")) for name in NAMES}
    vectors = {f"{name}.v": ColumnType("vector of float32", "vector", np.dtype("f4")) for name in NAMES}
    steps = [
        Definition("all", parse(" + ".join(NAMES))),
        Definition("vectors", parse(" + ".join(f"Sum({name})" for name in vectors))),
        *(Definition(name, parse(f"{name} + 1")) for name in ("status", "i", "a0")),
    ]
    outputs = compile_outputs(
        steps, ["all", "vectors", "status", "i", "a0"], scalars | vectors, "python"
    )
    inputs = {name: np.full(3, number, np.int32) for number, name in enumerate(NAMES)}
    jagged = Jagged(np.ones(4, np.float32), np.array([0, 1, 4, 4]))
    outs = {name: np.empty(3, type_.dtype) for name, type_ in outputs.types.items()}
    take = np.array([0, 1, 2], np.int32)
    outputs.run(inputs | dict.fromkeys(vectors, jagged), 0, 0, take, "file", outs)
    assert outs["all"].tolist() == [sum(range(len(NAMES)))] * 3
    assert outs["vectors"].tolist() == [len(NAMES), 3 * len(NAMES), 0]
    assert outs["i"].tolist() == [NAMES.index("i") + 1] * 3


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "(" * 4_900 + "x" + ")" * 4_900,
        "[" * 4_900 + "x" + "]" * 4_900,
        "-" * 5_000 + "x",
        "- " * 4_900 + "x",
        "!" * 5_000 + "x",
        "not " * 2_400 + "x",
        "x ? 1 : " * 1_200 + "2",
        "x?" * 2_000 + "x" + ":x" * 2_000,
        "x if n else " * 800 + "x",
        "x && " * 1_900 + "x",
        "x || " * 1_900 + "x",
        "x + " * 2_400 + "x",
        "x ** " * 1_900 + "x",
        "x < " * 2_400 + "x",
        "v[" * 3_000 + "0" + "]" * 3_000,
        "v" + "[0]" * 3_000,
        "sqrt(" * 1_600 + "x" + ")" * 1_600,
        "(int)" * 1_900 + "x",
        "x." * 4_900 + "x",
        "{" + "x," * 4_900 + "x}",
        "Take(" * 1_600 + "v" + ",1)" * 1_600,
        "9" * 9_999,
        "0x" + "f" * 9_000,
        "1e" + "9" * 9_000,
        "." * 9_000,
        "1." + "0" * 9_000,
        "\x00" * 9_000,
        "x" * 9_999,
        "unsigned " * 1_000 + "(x)",
        "static_cast<" * 800,
        "x" * 10_001,
    ],
    ids=lambda text: f"{text[:9]!r}",
)
def test_depth_and_size_are_bounded(text: str) -> None:
    started = time.process_time()
    attempt(text)
    assert time.process_time() - started < 10


def test_the_deepest_texts_still_have_types() -> None:
    started = time.monotonic()
    for text in (
        "n ? " * 90 + "x" + " : x" * 90,
        "n ? x : " * 90 + "x",
        "v + (" * 90 + "v" + ")" * 90,
        "n && (" * 90 + "n" + ")" * 90,
        "Where(v > 0, v, " * 80 + "v" + ")" * 80,
        "v[(int) " * 30 + "n" + "]" * 30,
        "-" * 90 + "v",
        "Sort(" * 70 + "v" + ")" * 70,
    ):
        infer([Definition("r", parse(text))], TYPES, "python")
    assert time.monotonic() - started < 30


def test_long_chains_of_definitions_have_types() -> None:
    later = [Definition(f"v{number}", parse(f"-v{number - 1} + 1")) for number in range(1, 400)]
    steps = [Definition("v0", parse("v * 2")), *later]
    assert infer(steps, TYPES, "python")["v399"].dtype == np.float32
    compile_outputs(steps[:150], ["v149"], TYPES, "python")


def test_an_expression_is_a_text() -> None:
    for wrong in (None, 1, b"x", ["x"]):
        with pytest.raises(ExpressionError, match="must be a text"):
            parse(wrong)
