"""RDataFrame's words over our frames: what they say, and that ROOT says the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.errors import (
    ArgumentError,
    CutVectorWarning,
    EmptyDatasetError,
    EvaluationError,
    ExpressionTypeError,
    MissingColumnError,
    MissingFileError,
    MissingNameError,
    PrecisionWarning,
    UnsupportedColumnError,
)
from rootfeed.frame import view_of
from rootfeed.view import View
from rootfiles.environment import load_root
from servers import serve


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("root")
    for seed, name in ((2, "events"), (3, "more")):
        with uproot.recreate(folder / f"{name}.root") as file:
            tree = file.mktree(
                "events", {"id": "int64", "n": "int32", "x": "float32", "pt": "var * float32"}
            )
            tree.extend(events(seed))
    return str(folder / "events.root")


@pytest.fixture(scope="session")
def ntuple(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("root") / "tuple.root"
    with uproot.recreate(path) as file:
        file.mkrntuple("tuple", ak.zip(events(2), depth_limit=1))
    return str(path)


def events(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    lengths = random.poisson(3, 500)
    pt = ak.unflatten(random.exponential(30, int(lengths.sum())).astype(np.float32), lengths)
    return {
        "id": np.arange(500),
        "n": lengths.astype(np.int32) - 2,
        "x": random.normal(size=500).astype(np.float32),
        "pt": pt,
    }


def chain(module: Any, path: str) -> Any:
    frame = module.RDataFrame("events", path)
    return (
        frame.Define("half", "n / 2")
        .Define("rest", "n % 2")
        .Filter("pt.size() > 1", "two")
        .Define("lead", "pt[0]")
        .Redefine("x", "x * 2")
        .Define("hard", "Sum(pt > 20)")
        .Filter("hard >= 1 || x > 0", "hard")
        .Alias("first", "lead")
    )


COLUMNS = ["id", "half", "rest", "lead", "x", "hard", "first"]


def test_the_same_as_in_root(path: str) -> None:
    real = load_root()
    expected = chain(real, path)
    found = chain(ROOT, path)
    arrays, theirs = found.AsNumpy(COLUMNS), expected.AsNumpy(COLUMNS)
    for name in COLUMNS:
        assert arrays[name].dtype == theirs[name].dtype, name
        assert np.array_equal(arrays[name], theirs[name]), name
    assert found.Count().GetValue() == expected.Count().GetValue() == len(arrays["id"])
    flow = {cut.label: (cut.entries, cut.passed) for cut in found.Report().GetValue()}
    assert flow == {cut.GetName(): (cut.GetAll(), cut.GetPass()) for cut in expected.Report()}
    ranged = real.RDataFrame("events", path).Range(10, 100, 7).AsNumpy(["id"])["id"]
    assert np.array_equal(
        ROOT.RDataFrame("events", path).Range(10, 100, 7).AsNumpy(["id"])["id"], ranged
    )


def test_other_names_follow_their_column(path: str) -> None:
    def made(module: Any) -> Any:
        frame = module.RDataFrame("events", path).Alias("m", "n").Alias("k", "m").Alias("y", "x")
        frame = frame.Define("before", "k * 10").Define("copy", "m").Redefine("n", "n + 0.5")
        return frame.Define("after", "k * 10").Redefine("x", "x * 2").Alias("last", "k")

    names = ["n", "m", "k", "x", "y", "before", "copy", "after", "last"]
    found, expected = made(ROOT).AsNumpy(names), made(load_root()).AsNumpy(names)
    for name in names:
        assert found[name].dtype == expected[name].dtype, name
        assert np.array_equal(found[name], expected[name]), name


def test_answers(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    frame = ROOT.RDataFrame("events", path).Filter("x > 0", "positive")
    count = frame.Count()
    assert int(count) == count.GetValue() == frame.frame.count()
    frame.Report().Print()
    assert "positive" in capsys.readouterr().out
    assert len(frame.Range(5).AsNumpy(["id"])["id"]) == 5
    assert len(frame.Range(5, 0).AsNumpy(["id"])["id"]) == count.GetValue() - 5
    vectors = frame.AsNumpy(["pt"])["pt"]
    assert vectors.dtype == object
    assert vectors[0].dtype == np.float32
    assert "id" not in frame.AsNumpy(exclude=["id"])
    assert frame.Define("a", "x").GetColumnNames()[0] == "a"


def test_meanings_of_cpp(path: str) -> None:
    frame = ROOT.RDataFrame("events", path)
    with pytest.raises(ExpressionTypeError, match="there is no // in C"):
        frame.Define("a", "n // 2")
    with pytest.raises(ExpressionTypeError, match="must not be negative"):
        frame.Define("a", "pt[-1]")


STATISTICS = ("Sum", "Mean", "StdDev", "Min", "Max")


@pytest.mark.parametrize("cut", ["id >= 0", "id > 250", "id < 0"])
def test_statistics_are_those_of_root(path: str, cut: str) -> None:
    names = ["id", "n", "x", "pt", "half", "flag", "double", "rdfentry_"]

    def made(module: Any) -> Any:
        frame = module.RDataFrame("events", [path, second]).Filter(cut)
        return frame.Define("half", "n / 2").Define("flag", "x > 0").Define("double", "pt * 2.")

    second = path.replace("events.root", "more.root")
    real, ours = made(load_root()), made(ROOT)
    asked = list(itertools.product(names, STATISTICS))
    # All are booked before the first is asked for: ROOT compiles, and reads, once.
    booked = [getattr(real, statistic)(name) for name, statistic in asked]
    for (name, statistic), theirs in zip(asked, booked, strict=True):
        expected, found = theirs.GetValue(), getattr(ours, statistic)(name).GetValue()
        assert type(found) is type(expected) is float
        # Kahan's sum of theirs against NumPy's pairwise one
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-9), (name, statistic)


STATISTIC = ("N", "W", "W2", "Mean", "MeanErr", "Var", "RMS", "Min", "Max")


@pytest.mark.parametrize("cut", ["id >= 0", "id == 250", "id < 0"])
def test_all_statistics_at_once_are_those_of_root(path: str, cut: str) -> None:
    real = load_root().RDataFrame("events", path).Filter(cut)
    ours = ROOT.RDataFrame("events", path).Filter(cut)
    for name in ("id", "x", "pt"):
        expected, found = real.Stats(name).GetValue(), ours.Stats(name).GetValue()
        for statistic in STATISTIC:
            asked = f"Get{statistic}"
            value, theirs = getattr(found, asked)(), getattr(expected, asked)()
            assert value == pytest.approx(theirs, rel=1e-12, abs=1e-9), (name, statistic)
        assert f"Count = {expected.GetN()}" in str(found)


def test_statistics_come_from_one_pass(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    measure = View.measure

    def counted(self: View, names: Any, *rest: Any, **named: Any) -> Any:
        passes.append(tuple(names))
        return measure(self, names, *rest, **named)

    monkeypatch.setattr(View, "measure", counted)
    frame = ROOT.RDataFrame("events", path).Filter("n > 0")
    booked = [frame.Sum("x"), frame.Mean("x"), frame.Max("id"), frame.Sum("pt")]
    assert not any(each.IsReady() for each in booked)
    assert passes == []
    values = [each.GetValue() for each in booked]
    assert passes == [("x", "id", "pt")]
    assert float(booked[0]) == booked[0].GetValue() == values[0]
    assert frame.StdDev("id").GetValue() > 0
    assert len(passes) == 1


def test_statistics_of_what_is_no_number() -> None:
    frame = ROOT.RDF.FromNumpy(
        {
            "gap": np.array([1.0, np.nan, 3.0]),
            "top": np.array([1.0, np.inf, -3.0]),
            "both": np.array([-np.inf, np.inf, 0.0]),
            "none": np.full(3, np.nan),
            "large": np.array([2**62, 2**62, 2**62 + 1024]),
            "text": np.array(["a", "b", "c"]),
        }
    )

    def found(name: str) -> list[float]:
        return [getattr(frame, statistic)(name).GetValue() for statistic in STATISTICS]

    nan = np.nan
    np.testing.assert_equal(found("gap"), [nan, nan, nan, 1, 3])
    np.testing.assert_equal(found("top"), [np.inf, np.inf, nan, -3, np.inf])
    np.testing.assert_equal(found("both"), [nan, nan, nan, -np.inf, np.inf])
    np.testing.assert_equal(found("none"), [nan] * 5)
    exact = [
        float(3 * 2**62 + 1024),
        2.0**62 + 1024 / 3,
        np.std([0, 0, 1024], ddof=1),
        2.0**62,
        2.0**62 + 1024,
    ]
    np.testing.assert_equal(found("large"), exact)
    with pytest.raises(UnsupportedColumnError, match=r"'text' .string. holds no plain numbers"):
        frame.Sum("text")
    with pytest.raises(MissingColumnError, match="Did you mean 'large'"):
        frame.Mean("larg")


def test_cut_flow_in_roots_words(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    def made(module: Any) -> Any:
        return module.RDataFrame("events", path).Filter("x > 0", "positive").Filter("n > 99", "none")

    real = list(made(load_root()).Report())
    report = made(ROOT).Report()
    for theirs, cut in zip(real, report, strict=True):
        assert cut.GetName() == theirs.GetName()
        assert (cut.GetAll(), cut.GetPass()) == (theirs.GetAll(), theirs.GetPass())
        assert cut.GetEff() == pytest.approx(theirs.GetEff())
        assert report.At(cut.GetName()) == report[cut.GetName()] == cut
    assert made(ROOT).GetFilterNames() == list(map(str, made(load_root()).GetFilterNames()))
    report.Print()
    assert "positive" in capsys.readouterr().out
    with pytest.raises(ArgumentError, match=r"no cut 'positiv'. Did you mean 'positive'"):
        report.At("positiv")
    nothing = ROOT.RDataFrame(0).Filter("rdfentry_ > 1").Report()
    assert np.isnan(nothing[0].GetEff())


def test_what_a_frame_is(path: str, ntuple: str) -> None:
    def made(module: Any, tree: str, file: str) -> Any:
        frame = module.RDataFrame(tree, file).Define("half", "n / 2").Define("root", "sqrt(pt)")
        return frame.Redefine("x", "x * 2.").Alias("other", "id").Define("a", "n > 0")

    for tree, file in (("events", path), ("tuple", ntuple)):
        real, ours = made(load_root(), tree, file), made(ROOT, tree, file)
        names = list(map(str, real.GetColumnNames()))
        assert ours.GetColumnNames() == names
        assert sorted(ours.GetDefinedColumnNames()) == sorted(map(str, real.GetDefinedColumnNames()))
        for name in [*names, "rdfentry_"]:
            theirs = real.GetColumnType(name)
            if name == "other" and tree == "events":
                theirs = "Long64_t"
            assert ours.GetColumnType(name) == theirs, name
            assert ours.HasColumn(name)
            assert real.HasColumn(name)
        assert not ours.HasColumn("nothing")
        with pytest.raises(MissingColumnError):
            ours.GetColumnType("nothing")


def test_description(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    frame = ROOT.RDataFrame("events", path).Define("half", "n / 2").Filter("x > 0", "positive")
    frame.Describe().Print()
    text = capsys.readouterr().out.splitlines()
    assert text[0] == f"Dataframe from TTree events in file {path}"
    words = [line.split() for line in text]
    assert ["Columns", "in", "total", "6"] in words
    assert ["Entries", "before", "cuts", "500"] in words
    assert ["Cuts", "positive"] in words
    assert ["half", "int", "Define"] in words
    assert ["pt", "ROOT::VecOps::RVec<Float_t>", "Dataset"] in words
    several = str(ROOT.RDataFrame("events", [path, path.replace("events", "more")]).Describe())
    assert several.startswith("Dataframe from TTree events in 2 files\n")
    assert "more.root" in several
    assert "arrays in memory" in ROOT.RDataFrame(3).Describe().AsString()


def test_display_is_that_of_root(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    def made(module: Any) -> Any:
        return module.RDataFrame("events", path).Filter("n > 1").Define("flag", "x > 0")

    real = load_root()
    for arguments in ((), (["x", "pt", "flag"],), ("id", 30), (["pt", "rdfentry_"], 2, 1)):
        ours, theirs = made(ROOT).Display(*arguments), made(real).Display(*arguments)
        assert ours.AsString() == str(theirs.AsString())
        capfd.readouterr()
        ours.Print()
        printed = capfd.readouterr().out
        theirs.Print()
        real.gInterpreter.ProcessLine("std::cout << std::flush;")
        assert printed == capfd.readouterr().out
    texts = ROOT.RDF.FromNumpy({"t": np.array(["ab", "c"])}).Display().AsString()
    assert texts.splitlines()[3:4] == ['| 0   | "ab" | ']
    with pytest.raises(MissingColumnError):
        made(ROOT).Display("nothing")


def test_display_reads_no_more_than_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "long.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("t", {"x": "float64"})
        for _ in range(60):
            tree.extend({"x": np.random.default_rng(1).normal(size=50_000)})
    read = []
    frame = ROOT.RDataFrame.over(
        rf.open(path).define("y", lambda x: (read.append(len(x)), x)[1], vectorized=True)
    )
    assert len(frame.Display("y", 3).AsString().splitlines()) == 9
    assert sum(read) < 60 * 50_000


def options(module: Any, format_: str, **more: Any) -> Any:
    made = module.RDF.RSnapshotOptions()
    made.fOutputFormat = getattr(module.RDF.ESnapshotOutputFormat, format_)
    for name, value in more.items():
        setattr(made, name, value)
    return made


WRITTEN = ["id", "n", "x", "pt", "half", "flag", "double", "number"]


@pytest.mark.parametrize(
    ("format_", "cut"), [("kTTree", "n > 1"), ("kTTree", "n > 99"), ("kRNTuple", "n > 1")]
)
def test_snapshots_are_what_root_reads(path: str, tmp_path: Path, format_: str, cut: str) -> None:
    files = [path, path.replace("events", "more")]
    frame = ROOT.RDataFrame("events", files).Filter(cut).Define("half", "n / 2")
    frame = frame.Define("flag", "x > 0").Define("double", "pt * 2.").Define("number", "rdfentry_")
    file = tmp_path / "new.root"
    made = frame.Snapshot("new", file, WRITTEN, options(ROOT, format_))
    expected = frame.AsNumpy(WRITTEN)
    theirs = load_root().RDataFrame("new", str(file)).AsNumpy(WRITTEN)
    ours = made.GetValue().AsNumpy(WRITTEN)
    assert set(WRITTEN) <= set(made.GetColumnNames())
    for name in WRITTEN:
        if expected[name].dtype != object:
            assert ours[name].dtype == theirs[name].dtype == expected[name].dtype, name
        assert len(ours[name]) == len(theirs[name]) == len(expected[name]), name
        for triple in zip(ours[name], theirs[name], expected[name], strict=True):
            np.testing.assert_array_equal(triple[0], triple[2])
            np.testing.assert_array_equal(np.asarray(triple[1]), triple[2])


@pytest.mark.parametrize("format_", ["kTTree", "kRNTuple"])
def test_snapshots_of_texts_and_arrays(tmp_path: Path, format_: str) -> None:
    columns = {
        "text": np.array(["a", "", "é" * 200]),
        "grid": np.arange(18, dtype=np.int16).reshape(3, 2, 3),
        "flags": ak.Array([[True, False], [], [True]]),
        "large": np.array([2**63, 0, 1], np.uint64),
    }
    file = tmp_path / "new.root"
    frame = ROOT.RDF.FromNumpy(columns)
    made = frame.Snapshot("new", file, "", options(ROOT, format_))
    found = made.frame.arrays(list(columns))
    assert found["text"].tolist() == columns["text"].tolist()
    assert found["grid"].tolist() == columns["grid"].tolist()
    assert found["flags"].tolist() == columns["flags"].tolist()
    assert found["large"].tolist() == columns["large"].tolist()
    real = load_root()
    theirs = real.RDataFrame("new", str(file))
    if format_ == "kRNTuple":
        texts = theirs.AsNumpy(["text"])["text"]
    else:  # where its data frames have characters
        opened = real.TFile.Open(str(file))
        tree = opened.Get("new")
        formula = real.TTreeFormula("formula", "text", tree)
        texts = [(tree.LoadTree(entry), formula.EvalStringInstance())[1] for entry in range(3)]
    assert list(map(str, texts)) == columns["text"].tolist()
    assert theirs.Sum("flags").GetValue() == 2
    assert theirs.AsNumpy(["large"])["large"].tolist() == columns["large"].tolist()


def test_snapshots_of_snapshots_have_the_same_columns(path: str, tmp_path: Path) -> None:
    frame = ROOT.RDataFrame("events", path)
    assert frame.GetColumnNames() == ["id", "n", "npt", "pt", "x"]
    made = frame.Snapshot("new", tmp_path / "first.root")
    assert made.GetColumnNames() == frame.GetColumnNames()
    # A column of that name which is something else stays what it is.
    other = frame.Redefine("npt", "npt + 1").Snapshot("new", tmp_path / "second.root")
    assert other.GetColumnNames() == ["id", "n", "n_pt", "npt", "pt", "x"]
    assert other.Sum("npt").GetValue() == frame.Sum("npt").GetValue() + 500
    again = other.Snapshot("new", tmp_path / "third.root", ["pt", "npt"])
    assert again.GetColumnNames() == ["n_pt", "npt", "pt"]
    assert made.Snapshot("a/b", tmp_path / "b.root", "i.|x").GetColumnNames() == ["id", "x"]


def test_snapshots_stream(tmp_path: Path) -> None:
    entries = 1_500_000
    frame = ROOT.RDataFrame(entries).Define("x", "sqrt(rdfentry_)").Filter("rdfentry_ % 3 == 0")
    lazy = frame.Snapshot("t", tmp_path / "new.root", "x", options(ROOT, "kTTree", fLazy=True))
    assert not (tmp_path / "new.root").exists()
    made = lazy.GetValue()
    assert np.array_equal(made.AsNumpy()["x"], frame.AsNumpy(["x"])["x"])
    with uproot.open(tmp_path / "new.root") as file:
        assert file["t"]["x"].num_baskets > 1
        assert file.file.compression == uproot.ZLIB(1)
    best = {"fCompressionAlgorithm": ROOT.RCompressionSetting.EAlgorithm.kLZ4, "fCompressionLevel": 3}
    frame.Snapshot("t", tmp_path / "new.root", "x", options(ROOT, "kTTree", **best))
    with uproot.open(tmp_path / "new.root") as file:
        assert file.file.compression == uproot.LZ4(3)


def test_blocks_are_small_where_much_is_defined() -> None:
    frame = ROOT.RDataFrame(1_000_000)
    names = [f"x{number}" for number in range(40)]
    for name in names:
        frame = frame.Define(name, "rdfentry_ * 1.5")
    most = 0
    for block, _, size in view_of(frame.frame).scan(
        names, lambda _, __, values: sum(np.asarray(each).nbytes for each in values.values())
    ):
        most = max(most, size)
        assert size == len(block) * 40 * 8
    assert 16_000_000 < most <= 32_000_000


def test_snapshots_are_complete_or_absent(path: str, tmp_path: Path) -> None:
    file = tmp_path / "new.root"
    file.write_bytes(b"old")
    frame = ROOT.RDataFrame("events", path).Define("lead", "pt[0]")
    with pytest.raises(EvaluationError):
        frame.Snapshot("new", file)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(ArgumentError, match="is one of the files that are read"):
        frame.Snapshot("new", path, ["x"])
    with pytest.raises(ArgumentError, match=r"must be local, got 'https://host/a.root'"):
        frame.Snapshot("new", "https://host/a.root", ["x"])
    with pytest.raises(ArgumentError, match="fMode must be 'RECREATE', got 'UPDATE'"):
        frame.Snapshot("new", file, ["x"], options(ROOT, "kTTree", fMode="UPDATE"))
    with pytest.raises(ArgumentError, match="fCompressionAlgorithm must be one of 1, 2, 4, 5, got 9"):
        frame.Snapshot("new", file, ["x"], options(ROOT, "kTTree", fCompressionAlgorithm=9))
    with pytest.raises(AttributeError):
        options(ROOT, "kTTree", fCompresionLevel=3)
    with pytest.raises(MissingColumnError, match=r"no column's name matches 'z\.\*'"):
        frame.Snapshot("new", file, "z.*")
    with pytest.raises(MissingColumnError, match="'nothing'"):
        frame.Snapshot("new", file, ["nothing"])


def test_names_of_columns_in_snapshots(tmp_path: Path) -> None:
    file = tmp_path / "new.root"
    vectors = ak.Array([[1.0], [], [2.0]])
    frame = ROOT.RDF.FromNumpy({"jet.pt": np.arange(3), "jet.hits": vectors, "a b": np.arange(3)})
    real = load_root()
    assert frame.Snapshot("t", file).Sum("jet.pt").GetValue() == 3
    theirs = real.RDataFrame("t", str(file))
    assert [theirs.Sum(name).GetValue() for name in ("jet.pt", "jet.hits", "a b")] == [3, 3, 3]
    ntuple = options(ROOT, "kRNTuple")
    made = frame.Snapshot("t", file, "jet.*", ntuple)
    assert made.GetColumnNames() == ["jet_hits", "jet_pt"]
    assert real.RDataFrame("t", str(file)).Sum("jet_hits").GetValue() == 3
    with pytest.raises(ArgumentError, match=r"ROOT cannot read a column 'a b' of an ntuple\. .* Alias"):
        frame.Snapshot("t", file, ["a b"], ntuple)
    with pytest.raises(ArgumentError, match="beside another one of that name"):
        frame.Alias("jet_pt", "jet.pt").Snapshot("t", file, ["jet.pt", "jet_pt"], ntuple)
    with pytest.raises(ArgumentError, match=r"a column 'v\[2\]' of a tree"):
        ROOT.RDF.FromNumpy({"v[2]": np.arange(3)}).Snapshot("t", file)


def test_an_ntuple_has_an_entry(path: str, tmp_path: Path) -> None:
    frame = ROOT.RDataFrame("events", path).Filter("n > 99")
    with pytest.raises(EmptyDatasetError, match="an ntuple needs one"):
        frame.Snapshot("new", tmp_path / "new.root", "x", options(ROOT, "kRNTuple"))
    assert list(tmp_path.iterdir()) == []


def test_snapshots_of_files_that_differ(tmp_path: Path) -> None:
    files = [tmp_path / "a.root", tmp_path / "b.root"]
    for number, dtype in enumerate((np.int32, np.float64)):
        with uproot.recreate(files[number]) as file:
            file["t"] = {"x": np.arange(3, dtype=dtype) + number / 2}
    made = ROOT.RDataFrame("t", files).Snapshot("t", tmp_path / "new.root")
    found = made.AsNumpy()["x"]
    assert found.tolist() == [0, 1, 2, 0.5, 1.5, 2.5]
    with uproot.update(files[0]) as file:
        file["u"] = {"x": np.array([2**60 + 1])}
    with uproot.update(files[1]) as file:
        file["u"] = {"x": np.array([0.5])}
    with pytest.warns(PrecisionWarning, match="is float64 and int64 in different files"):
        ROOT.RDataFrame("u", files).Snapshot("t", tmp_path / "new.root")


def test_a_number_of_entries() -> None:
    real = load_root()
    for module in (real, ROOT):
        frame = module.RDataFrame(10)
        assert list(frame.GetColumnNames()) == []
        assert frame.Count().GetValue() == 10
        assert dict(frame.AsNumpy()) == {}
        made = frame.Define("z", "rdfentry_ * 2").Filter("z > 6").AsNumpy(["z", "rdfentry_"])
        assert made["z"].tolist() == [8, 10, 12, 14, 16, 18]
        assert made["rdfentry_"].tolist() == [4, 5, 6, 7, 8, 9]
        assert made["z"].dtype == made["rdfentry_"].dtype == np.uint64
        assert list(frame.Define("z", "1").AsNumpy()) == ["z"]
    aliased = ROOT.RDataFrame(3).Alias("number", "rdfentry_")
    assert aliased.Filter(lambda number, rdfentry_: number == rdfentry_).Count().GetValue() == 3
    later = [aliased.AsNumpy(["number"], lazy=True), aliased.Sum("number")]
    assert ROOT.RDF.RunGraphs(later) == 2
    assert later[0].GetValue()["number"].tolist() == [0, 1, 2]
    assert all(each.IsReady() for each in later)
    assert ROOT.RDataFrame(0).Count().GetValue() == 0
    for wrong in ((-1,), ("events",), (3, "a.root"), (None,)):
        with pytest.raises(ArgumentError):
            ROOT.RDataFrame(*wrong)


def test_entry_numbers_over_files(path: str) -> None:
    files = [path, path.replace("events", "more")]
    found = ROOT.RDataFrame("events", files).Filter("id % 3 == 0").AsNumpy(["rdfentry_", "id"])
    theirs = load_root().RDataFrame("events", files).Filter("id % 3 == 0").AsNumpy(["rdfentry_", "id"])
    for name, values in theirs.items():
        assert np.array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    loader = ROOT.Experimental.ML.RDataLoader(
        ROOT.RDataFrame("events", files), 1000, columns=["x", "rdfentry_"], shuffle=False
    )
    [batch] = loader.as_numpy()
    assert batch[:, 1].tolist() == list(range(1000))


@pytest.mark.parametrize("tree", ["a:b", "folder/events", "with space"])
def test_names_of_trees(tmp_path: Path, tree: str) -> None:
    for number in range(2):
        with uproot.recreate(tmp_path / f"part{number}.root") as file:
            file[tree] = {"x": np.arange(3) + 3 * number}
    frame = ROOT.RDataFrame(tree, tmp_path / "part*.root")
    assert frame.AsNumpy()["x"].tolist() == list(range(6))
    frame = ROOT.RDataFrame(tree, [str(tmp_path / "part1.root"), tmp_path / "part0.root"])
    assert frame.AsNumpy()["x"].tolist() == [3, 4, 5, 0, 1, 2]


def test_an_address_with_a_query(path: str) -> None:
    with serve({"/events.root": Path(path).read_bytes()}) as web:
        frame = ROOT.RDataFrame("events", f"{web.url}/events.root?token=a:b")
        assert frame.Sum("id").GetValue() == sum(range(500))


def test_arrays_in_memory() -> None:
    arrays = {"z": np.arange(4, dtype=np.int32), "a": np.linspace(0, 1, 4)}
    real, ours = load_root().RDF.FromNumpy(arrays), ROOT.RDF.FromNumpy(arrays)
    assert ours.GetColumnNames() == list(map(str, real.GetColumnNames()))
    for name in arrays:
        assert ours.GetColumnType(name) == real.GetColumnType(name)
    for frame in (real, ours):
        found = frame.Define("half", "z / 2").Filter("a > 0.1").AsNumpy()
        assert found["half"].tolist() == [0, 1, 1]


CSV = """i,f,b,s,e
1,2.5,true,hello,
 2 ,3,false,"a,b",4.5

-3,nan,true,"q""q",5
"""


def test_tables_of_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(CSV)
    real = load_root().RDF.FromCSV(str(path))
    ours = ROOT.RDF.FromCSV(path)
    assert ours.GetColumnNames() == list(map(str, real.GetColumnNames()))
    found, expected = ours.AsNumpy(), real.AsNumpy()
    for name, values in expected.items():
        assert ours.GetColumnType(name) == real.GetColumnType(name)
        np.testing.assert_array_equal(found[name], values)
    path.write_text("1;2.5;true\n2;3;false\n")
    real = load_root().RDF.FromCSV(str(path), False, ";")
    ours = ROOT.RDF.FromCSV(str(path), False, ";")
    for name, values in real.AsNumpy().items():
        np.testing.assert_array_equal(ours.AsNumpy([name])[name], values)
    # ROOT goes by the first line: 2.5 would be 2, and 1e3 a text.
    path.write_text("a,b\n1,1e3\n2.5,2\n")
    found = ROOT.RDF.FromCSV(path).AsNumpy()
    assert found["a"].tolist() == [1, 2.5]
    assert found["b"].tolist() == [1000, 2]
    typed = ROOT.RDF.FromCSV(path, colTypes={"b": "T"}).AsNumpy()["b"]
    assert typed.tolist() == ["1e3", "2"]
    with pytest.raises(ArgumentError, match=r"column 'a' of .* is not of type Long64_t"):
        ROOT.RDF.FromCSV(path, colTypes={"a": "L"})
    path.write_text("a,b\n")
    assert ROOT.RDF.FromCSV(path).Count().GetValue() == 0


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", EmptyDatasetError, "has no line"),
        ("a,b\n1\n", ArgumentError, "a line of 1 values where there are 2 columns"),
        ("a,a\n1,2\n", ArgumentError, "several columns 'a'"),
        ("a\n" + "9" * 200_000, ArgumentError, "is no table of text: field larger"),
        ("a\n123456789012345678901\n", ArgumentError, "is not of type Long64_t"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, error: Any, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(error, match=message):
        ROOT.RDF.FromCSV(tmp_path / "table.csv")


def test_arguments_of_tables(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"table\.csv does not exist"):
        ROOT.RDF.FromCSV(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("a\n1\n")
    with pytest.raises(ArgumentError, match="delimiter must be one character"):
        ROOT.RDF.FromCSV(tmp_path / "table.csv", delimiter="::")
    with pytest.raises(ArgumentError, match="there is no column 'b'"):
        ROOT.RDF.FromCSV(tmp_path / "table.csv", colTypes={"b": "D"})
    with pytest.raises(ArgumentError, match="must be one of 'O', 'D', 'L', 'T', got 'X'"):
        ROOT.RDF.FromCSV(tmp_path / "table.csv", colTypes={"a": "X"})


def test_what_is_not_there_says_what_to_use(path: str) -> None:
    frame = ROOT.RDataFrame("events", path)
    with pytest.raises(MissingNameError, match=r"RDataFrame.Histo1D is not in .* the package hist"):
        frame.Histo1D("x")
    with pytest.raises(MissingNameError, match=r"In its place: RDF.FromCSV"):
        ROOT.RDF.MakeCsvDataFrame("a.csv")
    with pytest.raises(MissingNameError, match=r"RDataFrame\.Foreach .*AsNumpy"):
        frame.Foreach(print)
    assert not hasattr(frame, "count")


@pytest.mark.parametrize("create", [ROOT.CreateNumPyGenerators, ROOT.CreatePyTorchGenerators])
def test_vectors_as_features(path: str, create: Any) -> None:
    if create is ROOT.CreatePyTorchGenerators:
        pytest.importorskip("torch")
    frame = ROOT.RDataFrame("events", path)
    arguments = {"columns": ["x", "pt", "n"], "max_vec_sizes": {"pt": 3}, "vec_padding": -1}
    made = create(frame, 100, 500, 50, target="n", set_seed=1, **arguments)
    train = made[0] if isinstance(made, tuple) else made
    with pytest.warns(CutVectorWarning):
        batches = [(np.asarray(x), np.asarray(y)) for x, y in train]
    assert train.train_columns == ["x", "pt_0", "pt_1", "pt_2"]
    rows = np.concatenate([np.hstack(batch) for batch in batches])
    with uproot.open(f"{path}:events") as tree:
        events = tree.arrays(["x", "pt", "n"])
    pt = np.asarray(ak.to_numpy(ak.fill_none(ak.pad_none(events.pt, 3, clip=True), -1)))
    expected = np.column_stack([np.asarray(events.x), pt, np.asarray(events.n)])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.astype("f4").tolist()))
    with pytest.raises(ArgumentError, match=r"give their length, max_vec_sizes=\{'pt': n\}"):
        create(frame, 100, 500, 50, columns=["x", "pt"])
