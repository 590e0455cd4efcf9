"""A name given as a name is that column, whatever its characters might mean elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
import rootfeed.root as root
from rootfeed.errors import ArgumentError, ExpressionError, MissingColumnError, RootfeedError

ENTRIES = 60
NUMBERS = np.arange(ENTRIES)
PLAIN = ("a", "b", "c", "d", "v", "w")
"""A feature, a label, a weight, an event's number, and two vectors."""

VALUES = (
    NUMBERS * 1.5 + 1,
    (NUMBERS % 3 == 0).astype("i4"),
    NUMBERS % 5 + 0.5,
    NUMBERS * 7919 % 1009,
    ak.Array([[i + 0.25 * k for k in range(i % 4)] for i in range(ENTRIES)]),
    ak.Array([[float(k - i) for k in range(i % 4)] for i in range(ENTRIES)]),
)

Names = Sequence[str]

# Names of real files, and names that are something else in an expression, in a pattern, or in a table.
AWKWARD = [
    ("a-b", "b == 1", "c*2", "d + 1", "v[0]", "w-v"),
    ("true", "entry", "rdfentry_", "M_PI", "v.size", "np.pi"),
    ("AnalysisJetsAuxDyn:pt", "MCParticles#0", "w/gen", "event number", "jets.pt", "jets:eta"),
    ("if", "and", "or", "not", "else", "short"),
    ("a`b", "`", "``a``", "`a`", "\"v'", "\\w\n"),
    ("*", "[b]", "a?", "Jet_*", "v; drop", "#"),
    ("x[0]", "col('a')", 'col("b")', "(double) c", "0", "1.5f"),
    (" a", "b ", "c\td", "η", "喷注 pt", "é"),
    ("a\0", "\0", "\x7f", "\r", "v\0w", "\x85"),
    ("{0}", "%s", "a0", "a0_v", "s_0", "first_number + i"),
    ("[bold]a[/bold]", ":star:", "[/]", "weight_", "side_", "cut_0_"),
    ("a, b", "b) + (c", "c; 1", 'd"""', "v#", "/w"),
]


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def write(folder: Path, names: Names, format: str) -> rf.Frame:
    """A file that holds all columns twice, once under plain names."""
    path = folder / "names.root"
    columns = dict(zip((*PLAIN, *names), (*VALUES, *VALUES), strict=True))
    types = {name: getattr(column, "dtype", "var * float64") for name, column in columns.items()}
    with uproot.recreate(path) as file:
        if format == "RNTuple":
            file.mkrntuple("events", columns)
        else:
            file.mktree("events", types, counter_name=lambda name: f"counts of {name}").extend(columns)
    return rf.open(path)


def twice(x: Any) -> Any:
    return x * 2


def positive(x: Any) -> Any:
    return x > 0


def batches(loader: Any) -> Iterator[Any]:
    """The arrays of an epoch."""
    for x, *others in loader:
        yield from x.values() if isinstance(x, dict) else [x]
        yield from others


def asked(frame: rf.Frame, names: Names) -> Iterator[Any]:
    """Everything that a name can be given to, as arrays."""
    x, label, weight, event, v, w = names
    yield frame.alias("made", x).arrays("made")["made"]
    yield frame.define("made", f"{quoted(x)} * 2 + Sum({quoted(v)}[{quoted(w)} < 0])").arrays()["made"]
    yield frame.define("made", twice, columns=x).arrays("made")["made"]
    yield frame.define("made", twice, columns=[v], vectorized=True).arrays("made")["made"].tolist()
    yield frame.redefine(x, f"{quoted(x)} + 1").filter(f"{quoted(x)} > 9").arrays([x, event])
    yield frame.filter(positive, columns=[label]).arrays(event)
    yield frame.filter(positive, "cut", columns=label, vectorized=True).select(event).arrays()
    yield frame.describe([x, v])
    yield str(frame.filter(f"{quoted(label)} > 0").report())
    plain = rf.Loader(frame, 16, [x, event], label, weight, seed=1)
    yield list(batches(plain))
    for part in (*plain.split(0.3, by=event), *plain.split(0.3, stratify=label)):
        yield list(batches(part))
    yield list(batches(plain.split(where=f"{quoted(label)} > 0").test))
    yield list(batches(rf.Loader(frame, 16, [x], [label], f"{quoted(weight)} * 2", seed=1)))
    normalized = rf.normalized(weight, per=label)
    yield list(batches(rf.Loader(frame, 16, [x], label, normalized, seed=1)))
    yield list(batches(rf.Loader(frame, 16, [x], label, seed=1, sampling=rf.balanced(label))))
    features = {
        "matrix": [event, rf.flat(v, 3)],
        "padded": rf.padded([v, w], 3, sort_by=w),
        "ragged": rf.ragged([w], sort_by=v),
    }
    yield list(batches(rf.Loader(frame, 16, features, seed=1)))
    data = root.RDataFrame("events", frame.files[0]).Alias("made", x)
    yield data.Define("other", f"{quoted(event)} + made")
    yield data.Filter(positive, [label]).Define("y", twice, x).AsNumpy(["y", "made", event])
    train, _ = root.CreateNumPyGenerators(
        data,
        16,
        32,
        16,
        columns=[x, label, weight, v],
        max_vec_sizes={v: 3},
        target=label,
        weights=weight,
        set_seed=1,
    )
    yield list(train)


def told(value: Any, names: Names) -> Any:
    """Something that is equal where all values are, the columns' names apart."""
    if isinstance(value, root.RDataFrame):
        return told(value.AsNumpy(["other"]), names)
    if isinstance(value, dict):
        return [told(each, names) for each in value.values()]
    if isinstance(value, list | tuple):
        return [told(each, names) for each in value]
    if isinstance(value, np.ndarray | ak.Array):
        return str(getattr(value, "dtype", "")), value.tolist()
    if isinstance(value, str):
        for name, other in zip(names, PLAIN, strict=True):
            value = value.replace(quoted(name), quoted(other))
        return value.replace("━", "").replace("─", "").replace(" ", "")
    return value


CHARACTERS = "abvw_.:#-+*/%&|^~<>=!?()[]{}`'\"\\,;$@ \t0éηя名😀"


def drawn(seed: int) -> Names:
    """Names of random characters."""
    random = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < len(PLAIN):
        name = "".join(random.choice(list(CHARACTERS), random.integers(1, 9)))
        if name not in PLAIN:
            found[name] = None
    return tuple(found)


FORMATS = ("TTree", "RNTuple")


def all_names() -> Iterator[Any]:
    """Names with each format; always with one of both, in turns."""
    for number, names in enumerate([*AWKWARD, *map(drawn, range(4))]):
        for place, format in enumerate(FORMATS):
            marks = [pytest.mark.thorough] * ((number + place) % 2)
            yield pytest.param(names, format, id=f"{names}-{format}", marks=marks)


@pytest.mark.parametrize(("names", "format"), list(all_names()))
def test_a_name_is_a_name_everywhere(tmp_path: Path, names: Names, format: str) -> None:
    frame = write(tmp_path, names, format)
    for got, expected in zip(asked(frame, names), asked(frame, PLAIN), strict=True):
        assert told(got, names) == told(expected, PLAIN)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers under names that expressions take for something else."""
    path = tmp_path_factory.mktemp("names") / "numbers.root"
    with uproot.recreate(path) as file:
        columns = {name: NUMBERS * 1.5 + shift for shift, name in enumerate(NUMBERED)}
        file.mktree("events", dict.fromkeys(columns, "f8")).extend(columns)
    return path


NUMBERED = ("x", "a", "b", "a-b", "c-d", "true", "entry", "jet pt", "x[0]", "cut_0_", "weight_", "M#0")


@pytest.fixture
def frame(path: Path) -> rf.Frame:
    return rf.open(path)


def column(name: str) -> Any:
    return NUMBERS * 1.5 + NUMBERED.index(name)


def test_the_same_names_as_in_root(path: Path) -> None:
    from rootfiles.environment import load_root

    found, theirs = root.RDataFrame("events", path), load_root().RDataFrame("events", str(path))
    for number, name in enumerate(("a-b", "c-d", "jet pt", "x[0]", "M#0")):
        found, theirs = found.Alias(f"z{number}", name), theirs.Alias(f"z{number}", name)
        assert np.array_equal(
            found.AsNumpy([f"z{number}"])[f"z{number}"], theirs.AsNumpy([f"z{number}"])[f"z{number}"]
        )


# --- what is an expression stays one --------------------------------------------------------------


def test_a_text_that_means_something_is_no_name(frame: rf.Frame) -> None:
    made = frame.define("z", "a-b").define("y", "true").define("q", "`a-b` + `true`")
    arrays = made.arrays(["z", "y", "q"])
    assert np.array_equal(arrays["z"], column("a") - column("b"))
    assert arrays["y"].all()
    assert np.array_equal(arrays["q"], column("a-b") + column("true"))
    assert frame.filter("a-b < 0").count() == ENTRIES


def test_weights_are_the_column_where_all_frames_have_it(frame: rf.Frame) -> None:
    def weights(frames: Any, asked: Any) -> Any:
        loader = rf.Loader(frames, ENTRIES, ["x"], "b", asked, shuffle=False, dtype="f8")
        return np.concatenate([w[:, 0] for _, _, w in loader])

    assert np.array_equal(weights(frame, "a-b"), column("a-b"))
    assert np.array_equal(weights(frame, "`a-b`"), column("a-b"))
    assert np.array_equal(weights(frame, "(a)-b"), column("a") - column("b"))
    assert weights(frame, "2").tolist() == [2] * ENTRIES
    assert weights(frame, "true").tolist() == column("true").tolist()
    lacking = frame.select([name for name in frame.columns if name != "a-b"])
    two = weights([frame, lacking], "a-b")
    assert np.array_equal(two, np.tile(column("a") - column("b"), 2))
    for asked in ("a-b", "`a-b`", 'col("a-b")'):
        normalized = rf.Loader(frame, 8, None, "x", rf.normalized(asked))
        assert "a-b" not in normalized.features
        assert set(normalized.features) == set(NUMBERED) - {"x", "a-b"}
        expected = column("a-b") / column("a-b").mean()
        assert weights(frame, rf.normalized(asked)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("negative", ["keep", "abs"])
def test_sums_of_weights_whose_names_are_taken(frame: rf.Frame, negative: Any) -> None:
    """The column that is made for them must not be one that is there, shown or not."""
    hidden = frame.define("weight__", "-1").select(["x", "a-b", "weight_"])
    asked = rf.normalized("weight_", negative=negative)
    loader = rf.Loader(hidden, ENTRIES, ["x"], "a-b", asked, shuffle=False, dtype="f8")
    assert loader.weights == "weight___"
    [(_, _, w)] = loader
    assert w[:, 0] == pytest.approx(column("weight_") / column("weight_").mean(), rel=1e-12)


# --- cuts that are functions ----------------------------------------------------------------------


def above(x: Any) -> Any:
    return x > 30


@pytest.mark.parametrize("vectorized", [False, True])
def test_cuts_by_functions_take_columns(frame: rf.Frame, vectorized: bool) -> None:
    for columns in ("a-b", ["a-b"], ("a-b",)):
        cut = frame.filter(above, columns=columns, vectorized=vectorized)
        assert np.array_equal(cut.arrays("x")["x"], column("x")[column("a-b") > 30])
    # Its argument names its column otherwise.
    cut = frame.filter(above, "mine", vectorized=vectorized).filter("x < 60", "less")
    assert [count.label for count in cut.report()] == ["mine", "less"]
    assert np.array_equal(cut.arrays("x")["x"], column("x")[(column("x") > 30) & (column("x") < 60)])
    again = cut.filter(above, columns="c-d", vectorized=vectorized).select(["x"])
    assert again.define("y", "x").filter(above, columns="y").count() == again.count()
    with pytest.raises(MissingColumnError, match="there is no column 'e'") as caught:
        frame.filter(above, "mine", columns="e", vectorized=vectorized)
    assert "mine = above(e)" in str(caught.value)


def test_cuts_by_functions_hide_no_column(frame: rf.Frame) -> None:
    cut = frame.filter(above)
    assert list(cut.columns) == list(frame.columns)
    assert np.array_equal(cut.arrays("cut_0_")["cut_0_"], column("cut_0_")[column("x") > 30])
    with pytest.raises(MissingColumnError) as caught:
        cut.filter("above").arrays("nothing")
    assert str(caught.value).replace("\n", "").isprintable()
    for name in (*NUMBERED, "cut_0", "above", "cut_0__"):
        made = cut.redefine(name, "7") if name in NUMBERED else cut.define(name, "7")
        assert set(made.arrays(name)[name]) == {7}
        assert made.count() == cut.count()


def test_cuts_of_wrong_arguments(frame: rf.Frame) -> None:
    with pytest.raises(ArgumentError, match="belong to functions"):
        frame.filter("x > 3", columns=["x"])
    with pytest.raises(ArgumentError, match="belong to functions"):
        frame.define("z", "x", vectorized=True)
    with pytest.raises(ArgumentError, match="an expression or a function, got 3"):
        frame.filter(3)  # type: ignore[arg-type]
    for vectorized in (False, True):
        with pytest.raises(RootfeedError, match="the function for 'mine'") as caught:
            frame.filter(lambda x: x.nothing, "mine", vectorized=vectorized)
        assert str(caught.value).replace("\n", "").isprintable()
        assert "ud800" not in str(caught.value)


def test_filters_of_root(path: Path) -> None:
    data = root.RDataFrame("events", path)
    for filtered in (
        data.Filter(above, ["a-b"]),
        data.Filter(above, ["a-b"], "cut"),
        data.Filter(above, columns=("a-b",), name="cut"),
        data.Alias("y", "a-b").Filter("y > 30", "cut"),
        data.Filter("`a-b` > 30", name="cut"),
    ):
        assert np.array_equal(filtered.AsNumpy(["x"])["x"], column("x")[column("a-b") > 30])
        assert filtered.Report().GetValue()[0].label in ("cut", "above")
    by_argument = data.Filter(above, "cut")
    assert np.array_equal(by_argument.AsNumpy("x")["x"], column("x")[column("x") > 30])
    assert by_argument.Report().GetValue()[0].label == "cut"
    assert list(data.Define("y", twice, "a-b").AsNumpy("y", exclude="jet pt")) == ["y"]
    with pytest.raises(ArgumentError, match="a list of columns before the name"):
        data.Filter(above, "a-b", "cut")
    with pytest.raises(ArgumentError, match="belong to functions"):
        data.Filter("x > 3", ["x"])


# --- new names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["my name", "a`b", "``", "M_PI", "pi", "not", "1", "λ-β", "d:e", '"', " "]
)
def test_any_name_can_be_defined(frame: rf.Frame, name: str) -> None:
    made = frame.define(name, "x + 1").define("z", f"{quoted(name)} * 2").redefine(name, "x + 3")
    arrays = made.alias("other", name).arrays([name, "z", "other"])
    assert np.array_equal(arrays["z"], (column("x") + 1) * 2)
    assert np.array_equal(arrays[name], column("x") + 3)
    assert np.array_equal(arrays["other"], column("x") + 3)
    with pytest.raises(ArgumentError, match="already"):
        made.define(name, "1")
    with pytest.raises(ArgumentError, match="already"):
        made.alias(name, "x")


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\x7f", "a\tb", "\ud800", 3, None, ["x"]])
def test_names_that_cannot_be_defined(frame: rf.Frame, name: Any) -> None:
    with pytest.raises(ArgumentError, match="a text without line breaks or control characters"):
        frame.define(name, "1")
    with pytest.raises(ArgumentError, match="a text without line breaks or control characters"):
        frame.alias(name, "x")


# --- advice ---------------------------------------------------------------------------------------


def test_errors_say_how_to_write_a_name(frame: rf.Frame) -> None:
    advice = "If a column is meant, write its name in backticks: `{}`."
    for ask in (
        lambda text: frame.define("z", text),
        lambda text: frame.redefine("x", text),
        frame.filter,
        frame.select(["x"]).filter,
        lambda text: rf.Loader(frame, 8, ["x"], "a", text),
        lambda text: rf.Loader(frame, 8, ["x"], "a", rf.normalized(text)),
        lambda text: rf.Loader(frame, 8, ["x"]).split(where=text),
        root.RDataFrame("events", frame.files[0]).Filter,
    ):
        with pytest.raises(MissingColumnError, match="there is no column 'c'") as caught:
            ask("c-d + 1")
        assert str(caught.value).endswith(advice.format("c-d"))
        with pytest.raises(ExpressionError, match="'pt' is not expected here") as caught_:
            ask("jet pt > 3")
        assert str(caught_.value).endswith(advice.format("jet pt"))


def test_names_that_are_not_there(frame: rf.Frame) -> None:
    with pytest.raises(MissingColumnError, match="Did you mean 'jet pt'"):
        frame.alias("z", "jet_pt")
    with pytest.raises(MissingColumnError, match="no column 'jet_pt' to use as weight"):
        rf.Loader(frame, 8, ["x"], "a", "jet_pt")
    with pytest.raises(MissingColumnError, match="no column 'jet pT'"):
        rf.Loader(frame, 8, ["x"], sampling=rf.balanced("jet pT"))


# --- what only uproot reads -----------------------------------------------------------------------


def test_columns_that_uproot_reads_have_their_own_values(tmp_path: Path) -> None:
    """uproot takes slashes, dots and the like for paths: "/a" gives it the column "a"."""
    from rootfiles.environment import load_root

    module = load_root()
    names = ["a", "/a", "a/", "b/c", "c", "d.e", "x[0]", "x", "y;1", "y", "z:w", "back\\slash", "`"]
    path = tmp_path / "texts.root"
    file = module.TFile(str(path), "recreate")
    tree = module.TTree("events", "")
    texts = [module.std.string() for _ in names]
    for name, text in zip(names, texts, strict=True):
        tree.Branch(name, text)
    for entry in range(3):
        for number, text in enumerate(texts):
            text.assign(f"{number} {entry}")
        tree.Fill()
    tree.Write()
    file.Close()
    arrays = rf.open(path).arrays(names)
    for number, name in enumerate(names):
        assert arrays[name].tolist() == [f"{number} {entry}" for entry in range(3)], name


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["[bold]a[/bold]", "[/]", "x[i]", ":star:", "a:smile:b", "\\[b]", "[link=a]"]
)
def test_tables_show_names_as_they_are(frame: rf.Frame, name: str) -> None:
    made = frame.define(name, "x")
    assert f" {name} " in str(made.describe(name))
    for cut in (made.filter(f"{quoted(name)} > 3"), made.filter("x > 3", name)):
        assert f" {cut.report()[0].label} " in str(cut.report())
        assert name in str(cut.report())
