"""Names in quotes: a column, whatever the name is, in both dialects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expression.helpers import INPUTS, TYPES, define, outputs, types_of, value
from rootfeed.errors import ExpressionError, ExpressionTypeError, MissingColumnError, RootfeedError
from rootfeed.expression import Cut, Definition, advised, compile_outputs, infer, parse, reference
from rootfeed.expression.nodes import Call, Name, Quoted

DIALECTS: tuple[Any, ...] = ("python", "c++")

NAMES = (
    "a-b",
    "jet pt",
    "AnalysisJetsAuxDyn:pt",
    "MCParticles#0",
    "x[0]",
    "x.size",
    "x.size()",
    "col('x')",
    "true",
    "False",
    "entry",
    "rdfentry_",
    "M_PI",
    "np.pi",
    "e",
    "if",
    "not",
    "float",
    "unsigned int",
    "sqrt",
    "1",
    "1.5f",
    "a`b",
    "``",
    "`",
    '"',
    "'",
    "\\n",
    "a\nb",
    " a ",
    "η",
    "名 前",
    "",
    "*",
    "{0}",
    "%d",
)


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def spellings(name: str) -> list[str]:
    """All ways to quote a name."""
    others = [f"col({mark}{name}{mark})" for mark in "\"'" if mark not in name and "\n" not in name]
    return [quoted(name), *others, *(each.replace("(", " ( ", 1) for each in others)]


def refused(text: str, names: Any = TYPES, dialect: Any = "python") -> str:
    with pytest.raises(RootfeedError) as caught:
        infer([define("result", text)], types_of(dict.fromkeys(names, INPUTS["y"])), dialect)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_name_is_that_name(name: str) -> None:
    for text in spellings(name):
        node = parse(text).node
        assert isinstance(node, Quoted)
        assert (node.name, node.start, node.stop) == (name, 0, len(text))
    assert isinstance(reference(name).node, Quoted)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_quoted_name_is_a_column(name: str, dialect: Any) -> None:
    """Whatever else there is of that name, and whatever its parts are: the columns are decoys."""
    decoys = dict.fromkeys(("a", "b", "jet", "pt", "x"), INPUTS["y"])
    inputs = {**decoys, name: INPUTS["x"], f"{name}v": INPUTS["v"]}
    x, v = quoted(name), quoted(f"{name}v")
    for spelt, plain in (
        (x, "x"),
        (f"-{x} * 2 + (float) {x}", "-x * 2 + (float) x"),
        (f"max({x}, 1.5f) > 0 && !({x} < 1)", "max(x, 1.5f) > 0 && !(x < 1)"),
        (f"{v}.size() + {v}.at(0, 5.0f)", "v.size() + v.at(0, 5.0f)"),
        (f"Sum({v}[{v} > {x}])", "Sum(v[v > x])"),
        (f"{x} < 0 ? 1.0f : {x}", "x < 0 ? 1.0f : x"),
    ):
        expected = value(plain, dialect)
        assert np.array_equal(value(spelt, dialect, inputs=inputs), expected, equal_nan=True), spelt
    assert np.array_equal(
        outputs([Definition("made", reference(name))], ["made"], dialect, inputs=inputs)["made"],
        INPUTS["x"],
        equal_nan=True,
    )


@pytest.mark.parametrize("name", ["entry", "rdfentry_", "M_PI", "np.pi", "true", "TMath::Pi"])
def test_a_quoted_name_is_nothing_but_a_column(name: str) -> None:
    parse(name)
    with pytest.raises(MissingColumnError, match="there is no column"):
        infer([define("result", f"1 + {quoted(name)}")], TYPES, "python")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`sqrt`(2)", "("),
        ("`float` x", "x"),
        ("`np`.pi", ""),
        ("`x` `y`", "`y`"),
        ("`x", "`"),
        ("x + ``y``", "y"),
        ("col(x)", "c"),
        ("col('x', 'y')", ","),
        ("col('x\n')", "'"),
        ("3 + `a\n b` x", "x"),
    ],
)
def test_what_is_quoted_is_no_function_no_type_and_no_namespace(text: str, shown: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    *_, line, caret = str(caught.value).splitlines()
    assert line[caret.index("^") :].startswith(shown)
    assert shown or len(line) == caret.index("^")


def test_a_column_may_be_called_col() -> None:
    assert parse("col > 3").node.operands[0].name == "col"  # type: ignore[attr-defined]
    call = parse("col.size() + 1").node.left  # type: ignore[attr-defined]
    assert isinstance(call, Call)
    assert call.arguments == (Name(0, 3, 1, "col"),)


def test_methods_take_arguments_wherever_they_stand() -> None:
    assert value("v.at(0, 9.0f)").tolist() == value("(v).at(0, 9.0f)").tolist()
    assert value("v[v > 1].at(1, 9.0f)").tolist() == [9, 9, 9, 4]


def test_definitions_come_before_constants_quoted_or_not() -> None:
    steps = [
        define("early", "entry + M_PI"),
        define("entry", "i * 2"),
        define("M_PI", "100"),
        define("true", "7"),
        define("late", "entry + M_PI"),
        define("quoted", "`entry` + `M_PI` + `true` + true"),
    ]
    found = outputs(steps, ["early", "late", "quoted"], first_number=40)
    i = INPUTS["i"].astype("i4")
    with np.errstate(over="ignore"):
        assert np.array_equal(found["early"], np.arange(40, 44) + np.pi)
        assert np.array_equal(found["late"], i * np.int32(2) + np.int32(100))
        assert np.array_equal(found["quoted"], i * np.int32(2) + np.int32(108))


def test_kernels_hold_nothing_of_a_name() -> None:
    def source(names: list[str], result: str) -> str:
        x, v = map(quoted, names)
        inputs = types_of({names[0]: INPUTS["x"], names[1]: INPUTS["v"]})
        steps = [define("half way", f"{x} / 2"), define(result, f"`half way` + Sum({v}) + {v}[0]")]
        return compile_outputs(steps, [result], inputs, "python").source

    plain = source(["x", "v"], "result")
    for names in (["a-b", "c d"], ["status", "take"], ["a0", "t1"], ['"""', "\n  raise"], ["np", "j"]):
        assert source(names, "import os; #") == plain


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a-b", "a-b"),
        ("2 * a-b > 3", "a-b"),
        ("AnalysisJetsAuxDyn:pt / 1000", "AnalysisJetsAuxDyn:pt"),
        ("MCParticles#0 + 1", "MCParticles#0"),
        ("jet pt > 3", "jet pt"),
        ("sqrt(jet pt)", "jet pt"),
        ("x[0] > 3", "x[0]"),
        ("pt(1) > 3", "pt(1)"),
        ("η > 3", "η"),
        ("if > 3 &&", "if > 3"),
        ("1 + a`b", "a`b"),
    ],
)
def test_an_error_says_how_to_write_a_name(text: str, name: str, dialect: Any) -> None:
    names = ["other", "y", name]
    with pytest.raises(RootfeedError) as caught, advised(text, names):
        infer([define("result", text)], types_of(dict.fromkeys(names, INPUTS["y"])), dialect)
    message = str(caught.value)
    assert message.endswith(f"\nIf a column is meant, write its name in backticks: {quoted(name)}.")
    assert "^" in message
    assert value(quoted(name), dialect, inputs={name: INPUTS["x"]})[0] == 1.5


def test_advice_is_given_where_it_may_explain() -> None:
    names = ["a", "b", "a-b", "a-b-c", "jet pt", "data-base", "z"]
    advice = "If a column is meant, write its name in backticks: "
    assert refused("a-b-q", names).endswith(f"{advice}`a-b`.")
    assert refused("a-b-c", names).endswith(f"{advice}`a-b-c`.")  # of names in each other the longest
    assert advice not in refused("`a-b` + q", names)  # which is in quotes already
    assert advice not in refused("col('a-b') + q", names)
    assert advice not in refused("`the a-b of` + q", names)
    assert advice not in refused("extra-base + q", names)
    assert advice not in refused("data-bases + q", names)
    for text in ("jet_pt", "`jet_pt`", "2 * jet_pt"):
        assert refused(text, names).count("Did you mean `jet pt`?") == 1
    infer([define("result", "a-b")], types_of(dict.fromkeys(names, INPUTS["y"])), "python")


def test_places_of_quoted_names() -> None:
    message = refused("1 + `no such` * 2")
    *_, line, caret, _ = message.splitlines()
    assert line[caret.index("^") : caret.rindex("^") + 1] == "`no such`"
    with pytest.raises(ExpressionTypeError) as caught:
        infer([define("result", "i + `v`[`x`]")], TYPES, "python")
    *_, line, caret = str(caught.value).splitlines()
    assert line[caret.index("^") : caret.rindex("^") + 1] == "`v`[`x`]"


def test_places_of_a_functions_columns() -> None:
    step = Definition("made", lambda p, q: p + q, ("x", "x y"))
    with pytest.raises(MissingColumnError) as caught:
        infer([step], TYPES, "python")
    _, line, caret, _ = str(caught.value).splitlines()
    assert line[caret.index("^") : caret.rindex("^") + 1] == "x y"


def test_a_function_takes_columns_and_numbers_of_entries() -> None:
    for vectorized in (False, True):
        step = Definition("made", lambda p, q: p + q, ("entry", "x"), vectorized)
        found = outputs([step], ["made"], first_number=7, take=[0, 1, 3])
        assert np.array_equal(found["made"], [8.5, 5.5, 10.5])
        with pytest.raises(MissingColumnError, match="there is no column 'M_PI'"):
            infer([Definition("made", lambda p: p, ("M_PI",), vectorized)], TYPES, "python")


def test_a_function_beside_the_kernel_hides_no_column() -> None:
    names = [f"made{mark}{n}" for mark in "#_ " for n in ("", "0", "1")]
    inputs = {"x": INPUTS["x"], **dict.fromkeys(names, INPUTS["y"])}
    steps = [
        Definition("made", lambda x: x + 1, ("x",), True),
        *(define(f"z{n}", f"made + {quoted(name)}") for n, name in enumerate(names)),
    ]
    for n in range(len(names)):
        found = outputs(steps, [f"z{n}"], inputs=inputs)[f"z{n}"]
        assert np.array_equal(found, INPUTS["x"] + np.float32(1) + INPUTS["y"], equal_nan=True)


def test_cuts_see_quoted_definitions() -> None:
    steps = [define("a b", "x > 0"), Cut(parse("`a b`"), "cut")]
    infer(steps, TYPES, "c++")
