"""Definitions, cuts and ranges of a frame, against NumPy on the same entries."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    EmptyDatasetError,
    EvaluationError,
    ExpressionError,
    ExpressionTypeError,
    MissingColumnError,
)
from rootfeed.loader import split_exactly
from samples import File, in_a_row, open_events, values, write_all, write_columns

Array = np.ndarray

FILES = in_a_row(File(1300, page=90), File(0), File(700, page=130, format="RNTuple"), File(1))
IDS = np.concatenate([file.ids for file in FILES])


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    return open_events(write_all(tmp_path_factory.mktemp("steps"), FILES))


def column(name: str) -> Array:
    return values(name, IDS)


def ids_of(frame: rf.Frame) -> list[int]:
    found: list[int] = frame.arrays("id")["id"].tolist()
    return found


# --- what definitions and cuts mean ---------------------------------------------------------------

CUTS: list[tuple[str, Any]] = [
    ("half > 200", lambda c: c("half") > 200),
    ("code % 3 == 0 || flag", lambda c: (c("code") % 3 == 0) | c("flag")),
    ("label in_range", None),
    ("0 < label < 4", lambda c: (c("label") > 0) & (c("label") < 4)),
    ("not flag and weight >= 0", lambda c: ~c("flag") & (c("weight") >= 0)),
    ("sqrt(root * root) > 20", lambda c: np.sqrt(c("root") * c("root")) > 20),
    ("label", lambda c: c("label") != 0),
    ("event > 9007199254741000ull", lambda c: c("event") > 9007199254741000),
    ("entry % 7 == 3", lambda c: np.arange(len(IDS)) % 7 == 3),
    ("false", lambda c: np.zeros(len(IDS), bool)),
]
CUTS = [each for each in CUTS if each[1] is not None]


@pytest.mark.parametrize(("text", "oracle"), CUTS, ids=[text for text, _ in CUTS])
def test_a_cut(frame: rf.Frame, text: str, oracle: Any) -> None:
    expected = IDS[oracle(column)]
    cut = frame.filter(text)
    assert cut.count() == len(expected)
    assert ids_of(cut) == expected.tolist()


def test_definitions_see_earlier_ones(frame: rf.Frame) -> None:
    made = frame.define("a", "half + 1").define("b", "a * a").define("c", "b - a").filter("c > 100")
    a = column("half") + np.float32(1)
    c = a * a - a
    arrays = made.arrays(["c", "id"])
    assert arrays["c"].dtype == np.float32
    assert np.array_equal(arrays["c"], c[c > 100])
    assert np.array_equal(arrays["id"], IDS[c > 100])


def test_redefinitions_hold_from_there_on(frame: rf.Frame) -> None:
    made = frame.define("before", "half").redefine("half", "half * 2").define("after", "half + before")
    arrays = made.arrays(["before", "half", "after"])
    half = column("half")
    assert np.array_equal(arrays["before"], half)
    assert np.array_equal(arrays["half"], half * 2)
    assert np.array_equal(arrays["after"], half * 3)
    # A cut sees what stands before it.
    assert frame.filter("half > 100").redefine("half", "0 * half").count() == (half > 100).sum()


def test_an_alias(frame: rf.Frame) -> None:
    assert np.array_equal(frame.alias("same", "code").arrays("same")["same"], column("code"))


def test_frames_are_immutable(frame: rf.Frame) -> None:
    before = dict(frame.columns)
    first, second = frame.filter("flag"), frame.define("a", "1").filter("label > 3")
    assert dict(frame.columns) == before
    assert frame.count() == len(IDS)
    assert first.count() == column("flag").sum()
    assert second.count() == (column("label") > 3).sum()
    assert "a" in second.columns
    assert "a" not in frame.columns


def test_what_follows_a_cut_is_evaluated_where_it_passes(frame: rf.Frame) -> None:
    divided = frame.define("part", "100 // label")
    with pytest.raises(EvaluationError, match="an integer is divided by zero, in entry 0") as caught:
        divided.arrays("part")
    assert "000.root" in str(caught.value)
    made = frame.filter("label > 0").define("part", "100 // label").filter("part > 20")
    label = column("label").astype(int)
    expected = IDS[(label > 0) & (100 // np.maximum(label, 1) > 20)]
    assert ids_of(made) == expected.tolist()


def test_entries_are_named_in_their_file(frame: rf.Frame) -> None:
    with pytest.raises(EvaluationError) as caught:
        frame.filter("id >= 1500").define("bad", "1 // (id - 1600)").arrays("bad")
    assert "002.root" in str(caught.value)
    assert "in entry 300," in str(caught.value)
    assert "1 // (id - 1600)" in str(caught.value)


def test_select(frame: rf.Frame) -> None:
    chosen = frame.define("a", "half").select(["a", "id"])
    assert list(chosen.columns) == ["a", "id"]
    assert list(chosen.define("b", "half * a").columns) == ["a", "id", "b"]
    assert rf.Loader(chosen, 10).features == ("a", "id")
    with pytest.raises(MissingColumnError, match="Did you mean 'half'"):
        frame.select(["hald"])


# --- ranges ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 2100),
    length=st.integers(0, 2100),
    step=st.integers(1, 50),
    cut=st.booleans(),
)
def test_ranges_count_what_passes(
    frame: rf.Frame, start: int, length: int, step: int, cut: bool
) -> None:
    before = frame.filter("flag") if cut else frame
    expected = (IDS[column("flag")] if cut else IDS)[start : start + length : step]
    assert ids_of(before.range(start, start + length, step)) == expected.tolist()


def test_cuts_after_a_range(frame: rf.Frame) -> None:
    made = frame.filter("flag", "first").range(100, 600).filter("label > 2", "second")
    made = made.filter("half > 150", "third").range(5, 100, 3)
    expected = IDS[column("flag")][100:600]
    flow = [("first", len(IDS), int(column("flag").sum()))]
    for label, test in (
        ("second", values("label", expected) > 2),
        ("third", lambda ids: values("half", ids) > 150),
    ):
        kept = expected[test(expected) if callable(test) else test]
        flow.append((label, len(expected), len(kept)))
        expected = kept
    assert ids_of(made) == expected[5:100:3].tolist()
    assert [(cut.label, cut.entries, cut.passed) for cut in made.report()] == flow


def test_wrong_ranges(frame: rf.Frame) -> None:
    for arguments in ((-1, 5), (5, 3), (0, 5, 0)):
        with pytest.raises(ArgumentError, match="range takes 0 <= start <= stop and step >= 1"):
            frame.range(*arguments)


# --- answers --------------------------------------------------------------------------------------


def test_the_cut_flow(frame: rf.Frame) -> None:
    report = frame.filter("flag").filter("label > 2", "labelled").report()
    flag, label = column("flag"), column("label")
    passed = int(flag.sum()), int((flag & (label > 2)).sum())
    assert [(cut.label, cut.entries, cut.passed) for cut in report] == [
        ("flag", len(IDS), passed[0]),
        ("labelled", passed[0], passed[1]),
    ]
    text = str(report)
    assert "labelled" in text
    assert f"{100 * passed[1] / len(IDS):.2f} %" in text
    assert str(frame.report()) == f"no cuts: {len(IDS)} entries"


def test_counting_reads_once(frame: rf.Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    from rootfeed import sources

    cut = frame.filter("flag")
    count = cut.count()
    monkeypatch.setattr(sources, "read", None)
    assert cut.count() == count
    assert cut.report()[0].passed == count
    assert len(rf.Loader(cut, 10, ["id"])) == -(-count // 10)


def test_statistics(frame: rf.Frame) -> None:
    cut = frame.filter("label != 3").define("odd", "flag ? 0.0 / 0.0 : 1.0 / (label - 2.0)")
    found = cut.describe(["half", "odd", "code"])
    assert list(found) == ["half", "odd", "code"]
    kept = column("label") != 3
    for name in ("half", "code"):
        expected = column(name)[kept].astype(np.float64)
        assert found[name].count == len(expected)
        assert found[name].mean == pytest.approx(expected.mean())
        assert found[name].std == pytest.approx(expected.std())
        assert (found[name].minimum, found[name].maximum) == (expected.min(), expected.max())
    flag, label = column("flag")[kept], column("label")[kept]
    assert found["odd"].nan == flag.sum()
    assert found["odd"].infinite == (~flag & (label == 2)).sum()
    assert "NaN" in str(found)
    everything = frame.describe()
    assert list(everything) == list(frame.columns)


@pytest.mark.parametrize("shape", ["normal", "steps", "heavy"])
def test_quantiles_are_right_to_a_thousandth(tmp_path: Path, shape: str) -> None:
    random = np.random.default_rng(3)
    count = 600_000
    drawn = {
        "normal": random.normal(size=count),
        "steps": np.sort(random.integers(0, 50, count)).astype(np.float64),
        "heavy": random.standard_cauchy(count),
    }[shape]
    path = write_columns(tmp_path / "x.root", {"x": drawn}, 30_000)
    found = rf.open(path).describe("x")["x"]
    assert found.mean == pytest.approx(drawn.mean())
    assert found.std == pytest.approx(drawn.std())
    for share, value in found.quantiles.items():
        below, upto = (drawn < value).mean(), (drawn <= value).mean()
        assert below - 0.001 <= share <= upto + 0.001, share


def test_no_entry_at_all(frame: rf.Frame) -> None:
    nothing = frame.filter("id < 0", "impossible")
    assert nothing.count() == 0
    assert ids_of(nothing) == []
    assert np.isnan(nothing.describe("half")["half"].mean)
    with pytest.raises(EmptyDatasetError) as caught:
        rf.Loader(nothing, 10, ["id"])
    assert "passes the cuts" in str(caught.value)
    assert "impossible" in str(caught.value)


# --- functions ------------------------------------------------------------------------------------


def test_functions(frame: rf.Frame) -> None:
    def plus(half: float, code: int) -> float:
        return half + code if code > 0 else 0.0

    made = frame.define("p", plus).define("q", lambda a, b: np.hypot(a, b), columns=["half", "p"])
    half, code = column("half").astype(np.float64), column("code")
    p = np.where(code > 0, half + code, 0.0)
    arrays = made.arrays(["p", "q"])
    assert np.array_equal(arrays["p"], p)
    assert np.allclose(arrays["q"], np.hypot(half, p))


limit = 100


def test_functions_see_what_is_outside_of_them_as_it_is_now(
    frame: rf.Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ModuleType("settings")
    own.limit = 100
    inner, limits = 100, np.array([100])

    def change() -> None:
        nonlocal inner
        monkeypatch.setattr(sys.modules[__name__], "limit", 50)
        limits[0] = own.limit = inner = 50

    functions = (
        lambda half: half < limit,
        lambda half: half < inner,
        lambda half: half < own.limit,
        lambda half: half < limits[0],
    )
    for expected in (100, 50):
        counts = [frame.filter(each).count() for each in functions]
        assert counts == [frame.filter(f"half < {expected}").count()] * len(functions)
        change()


def test_a_function_as_a_cut(frame: rf.Frame) -> None:
    def large(half: float) -> bool:
        return half > 300

    cut = frame.filter(large)
    assert cut.count() == (column("half") > 300).sum()
    assert cut.report()[0].label == "large"
    assert list(cut.columns) == list(frame.columns)


def test_vectorized_functions(frame: rf.Frame) -> None:
    def ranked(half: Array) -> Array:
        return np.cumsum(np.ones_like(half)) * 0 + half * 2

    made = frame.define("twice", ranked, vectorized=True).filter("twice > 500").define("z", "twice - 1")
    half = column("half")
    assert np.array_equal(made.arrays("z")["z"], half[half * 2 > 500] * 2 - np.float32(1))


def test_a_function_that_cannot_be_compiled(frame: rf.Frame) -> None:
    with pytest.raises(ExpressionTypeError) as caught:
        frame.define("s", lambda half: str(half).encode().hex())
    text = str(caught.value)
    assert "the function for 's' cannot be compiled" in text
    assert "vectorized=True" in text
    assert len(text) < 1500


# --- mistakes -------------------------------------------------------------------------------------


def test_mistakes(frame: rf.Frame) -> None:
    with pytest.raises(MissingColumnError, match="there is no column 'hal'") as caught:
        frame.filter("label > 2 && hal > 3")
    assert "Did you mean 'half'?" in str(caught.value)
    assert "\n               ^^^\n" in str(caught.value)
    with pytest.raises(ArgumentError, match="there is a column 'half' already"):
        frame.define("half", "1")
    with pytest.raises(MissingColumnError, match="Use define to make a new one"):
        frame.redefine("other", "1")
    with pytest.raises(MissingColumnError):
        frame.alias("other", "halb")
    with pytest.raises(ArgumentError, match="without line breaks or control characters"):
        frame.define("a\nb", "1")
    with pytest.raises(ArgumentError, match="by an expression or a function, got 3"):
        frame.define("a", 3)
    with pytest.raises(ExpressionError):
        frame.define("a", "half +")
    with pytest.raises(ExpressionTypeError):
        frame.filter("half & 3")


# --- loaders --------------------------------------------------------------------------------------

LAZY = {"chunk_entries": 300, "block_entries": 70}


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["kept", "lazy"])
@settings(max_examples=settings.default.max_examples // 6, deadline=None)
@given(
    cut=st.sampled_from(["", "flag", "label > 2 && half > 10", "entry % 100 == 7"]),
    batch_size=st.integers(1, 300),
    threads=st.integers(1, 4),
    seed=st.integers(0, 1000),
    fraction=st.sampled_from([None, 0.2, 0.5]),
)
def test_loaders_of_frames(
    frame: rf.Frame,
    sizes: dict[str, int],
    cut: str,
    batch_size: int,
    threads: int,
    seed: int,
    fraction: float | None,
) -> None:
    made = frame.define("sum", "half + code").redefine("half", "half * 2")
    if cut:
        made = made.filter(cut)
    sizes = dict(sizes)
    if sizes:
        sizes["chunk_entries"] = max(sizes["chunk_entries"], batch_size)
    loader = rf.Loader(
        made,
        batch_size,
        ["id", "half", "sum", "code"],
        ["label", "sum"],
        dtype="f8",
        target_dtype="f8",
        seed=seed,
        threads=threads,
        **sizes,
    )
    sides = [loader] if fraction is None else list(loader.split(fraction))
    rows = []
    for side in sides:
        batches = list(side)
        assert len(batches) == len(side)
        for x, y in batches:
            assert np.array_equal(x[:, 2], y[:, 1])
            rows.append(np.hstack([x, y]))
    table = np.concatenate(rows)
    table = table[np.argsort(table[:, 0])]
    ids = np.array(ids_of(made))
    assert np.array_equal(table[:, 0], ids)
    half, code = values("half", ids), values("code", ids)
    assert np.array_equal(table[:, 1], half * 2)
    assert np.array_equal(table[:, 2], half + code.astype(np.float32))
    assert np.array_equal(table[:, 3], code)
    assert np.array_equal(table[:, 4], values("label", ids))


def test_splits_do_not_depend_on_cuts(frame: rf.Frame) -> None:
    def test_side(made: rf.Frame) -> set[int]:
        _, side = rf.Loader(made, 50, ["id"], seed=5).split(0.3)
        return {int(entry) for x in side for entry in x[:, 0]}

    whole = test_side(frame)
    cut = test_side(frame.filter("flag"))
    assert cut == {entry for entry in whole if entry % 3 == 0}
    assert test_side(frame.filter("half > 5").filter("flag")) == {e for e in cut if e > 10}


def test_an_unshuffled_split_of_a_cut_frame(frame: rf.Frame) -> None:
    train, test = split_exactly(rf.Loader(frame.filter("flag"), 50, ["id"], shuffle=False), 0.25)
    passing = IDS[column("flag")]
    count = int(0.25 * len(passing))
    assert np.concatenate([x[:, 0] for x in train]).tolist() == passing[:-count].tolist()
    assert np.concatenate([x[:, 0] for x in test]).tolist() == passing[-count:].tolist()


def test_frames_and_loaders_can_be_pickled(frame: rf.Frame) -> None:
    made = frame.define("a", "half * 3").filter("a > 20")
    copied = pickle.loads(pickle.dumps(made))
    assert ids_of(copied) == ids_of(made)
    loader = rf.Loader(made, 64, ["a", "id"], seed=2)
    again = pickle.loads(pickle.dumps(loader))
    assert all(np.array_equal(a, b) for a, b in zip(loader, again, strict=True))


def test_types_may_differ_from_file_to_file(tmp_path: Path) -> None:
    paths = [
        write_columns(tmp_path / "a.root", {"n": np.arange(10, dtype="i4")}),
        write_columns(tmp_path / "b.root", {"n": np.arange(10, 20, dtype="f8")}),
    ]
    made = rf.open(paths).define("m", "n * 2").filter("m % 4 == 0")
    rows = np.sort(np.concatenate([x[:, 0] for x in rf.Loader(made, 4, ["m"])]))
    assert rows.tolist() == [n * 2.0 for n in range(20) if n % 2 == 0]


# --- what was wrong once --------------------------------------------------------------------------


def test_a_cut_after_a_range_sees_only_the_range(frame: rf.Frame) -> None:
    made = frame.range(10).filter("id >= 5")
    assert made.count() == 5
    assert ids_of(made) == [5, 6, 7, 8, 9]
    assert [(cut.entries, cut.passed) for cut in made.report()] == [(10, 5)]
    assert rf.Loader(made, 10, ["id"]).num_rows == 5
    # Nor is it evaluated outside.
    assert frame.range(5, 10).filter("10 // (id - 20) < 0 || 10 // id > 0").count() == 5


def test_a_vectorized_redefinition_holds_from_there_on(frame: rf.Frame) -> None:
    def later(half: Array) -> Array:
        return half + 1000

    made = frame.define("y", "half * 2").redefine("half", later, vectorized=True)
    twice = made.define("z", "half").redefine("half", later, vectorized=True)
    half = column("half")
    arrays = twice.arrays(["y", "z", "half"])
    assert np.array_equal(arrays["y"], half * 2)
    assert np.array_equal(arrays["z"], half + 1000)
    assert np.array_equal(arrays["half"], half + 2000)
    assert (
        frame.filter("half < 5").redefine("half", later, vectorized=True).filter("half > 5").count()
        == 10
    )


def test_vectorized_functions_see_what_passed(frame: rf.Frame) -> None:
    seen: list[int] = []

    def noted(label: Array) -> Array:
        seen.extend(label.tolist())
        return 6 // label

    made = frame.filter("label > 0").define("part", noted, columns=["label"], vectorized=True)
    assert made.filter("part > 2").count() == ((column("label") > 0) & (column("label") < 3)).sum()
    assert 0 not in seen


def test_functions_that_fail(frame: rf.Frame) -> None:
    def fussy(half: float) -> float:
        if half > 300:
            raise ValueError("too large")
        return half

    with pytest.raises(EvaluationError, match=r"a function failed .* ValueError: too large"):
        frame.define("f", fussy).arrays("f")

    def broken(half: Array) -> Array:
        return half if len(half) == 0 else half[: len(half) - 1]

    with pytest.raises(EvaluationError, match="must return one number or one vector for each of"):
        frame.define("f", broken, vectorized=True).arrays("f")


def test_functions_that_give_other_types(frame: rf.Frame) -> None:
    def moody(half: Array) -> Array:
        return np.zeros(0, int) if len(half) == 0 else half + 0.5

    with pytest.raises(EvaluationError, match="returned float32, and int64 when it was asked before"):
        frame.define("f", moody, vectorized=True).arrays("f")
    with pytest.raises(ExpressionTypeError, match="must return a number or a 1-D array"):
        frame.define("f", lambda half: (half, half))
    with pytest.raises(ExpressionTypeError, match="cannot be compiled"):
        frame.define("f", np.sqrt, columns=["half"])
