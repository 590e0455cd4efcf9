"""Nodes of ROOT's own RDataFrame: rows and values are those that ROOT gives."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, MissingColumnError, MissingFileError, StateError
from rootfiles.environment import load_root

ENTRIES = 3000
FILES = 3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ROOT's wheels are for Linux")


@pytest.fixture(scope="module")
def root() -> Any:
    return load_root()


@pytest.fixture(scope="module")
def paths(root: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Trees in three files."""
    return write(root, "TTree", tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def ntuples(root: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same as ntuples."""
    return write(root, "RNTuple", tmp_path_factory.mktemp("ntuples"))


def write(root: Any, kind: str, folder: Path) -> list[str]:
    options = root.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(root.RDF.ESnapshotOutputFormat, f"k{kind}")
    made = []
    for number in range(FILES):
        frame = (
            root.RDataFrame(ENTRIES)
            .Define("id", f"int(rdfentry_) + {number * ENTRIES}")
            .Define("x", "std::sin(float(id))")
            .Define("wide", "Long64_t(id) * 1000000007")
            .Define("flag", "id % 3 == 0")
            .Define("label", "id % 2")
            .Define("v", "ROOT::RVec<float>(id % 4, float(id))")
        )
        path = str(folder / f"{number}.root")
        frame.Snapshot("events", path, ["id", "x", "wide", "flag", "label", "v"], options)
        made.append(path)
    return made


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where scratch files come; none is left behind."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.iterdir())


def columns(frame: Any) -> list[str]:
    return [str(name) for name in frame.GetColumnNames()]


def check(node: Any, names: list[str] | None = None) -> rf.Frame:
    """Compare all rows, unshuffled, with those of AsNumpy; return the frame."""
    frame = rf.open(node)
    names = list(frame.columns) if names is None else names
    expected = node.AsNumpy(names)
    assert frame.count() == len(next(iter(expected.values())))
    found = frame.arrays(names)
    for name in names:
        theirs, ours = expected[name], ak.Array(found[name]).to_list()
        if isinstance(ours[0], str):
            listed = [str(each) for each in theirs]
        else:
            listed = [np.asarray(each).tolist() for each in theirs]
        assert ours == listed, name
    return frame


CHAINS: dict[str, Callable[[Any], Any]] = {
    "a cut": lambda node: node.Filter("x > 0.3"),
    "two cuts": lambda node: node.Filter("x > 0.3", "named").Filter("flag"),
    "definitions": lambda node: node.Define("a", "x * 2").Define("b", "id + 1").Define("c", "x > 0"),
    "a cut and definitions": lambda node: (
        node.Define("a", "x * x").Filter("a < 0.5").Define("b", "a + x")
    ),
    "a vector": lambda node: node.Define("w", "v[v > 100] * 2").Filter("id % 5 < 3"),
    "columns of many types": lambda node: (
        node.Define("w", "std::vector<int>(id % 3, id)")
        .Define("a", "std::array<float, 3>{x, 2 * x, 3 * x}")
        .Define("t", 'std::string(flag ? "yes" : "no")')
        .Define("u", "ULong64_t(wide) << 20")
        .Define("s", "short(id)")
        .Define("c", "(unsigned char)(id % 256)")
        .Define("n", "rdfentry_")
        .Filter("flag")
    ),
    "another column of a name": lambda node: node.Redefine("x", "x + 1").Filter("x > 1"),
    "another vector of a name": lambda node: node.Redefine("v", "v * 2").Filter("flag"),
    "a range": lambda node: node.Range(100, 4000, 7),
    "a range and a cut": lambda node: node.Range(500).Filter("flag").Define("a", "id * 2"),
    "the end of the first file": lambda node: node.Filter(f"id >= {ENTRIES - 1}").Define("a", "id"),
    "nothing of the second file": lambda node: node.Filter(f"id / {ENTRIES} != 1").Define("a", "id"),
    "one row": lambda node: node.Filter("id == 4242").Define("a", "x"),
    "of the file": lambda node: node.DefinePerSample("n", 'rdfsampleinfo_.Contains("1.root") ? 1 : 2'),
}


@pytest.mark.thorough(but=["a cut and definitions", "a range and a cut", "columns of many types"])
@pytest.mark.parametrize("chain", CHAINS)
def test_rows_are_those_of_root(root: Any, paths: list[str], chain: str) -> None:
    node = CHAINS[chain](root.RDataFrame("events", paths))
    before = columns(node), node.GetFilterNames().size()
    check(node)
    assert (columns(node), node.GetFilterNames().size()) == before


def test_rows_of_ntuples_are_those_of_root(root: Any, ntuples: list[str]) -> None:
    node = root.RDataFrame("events", ntuples)
    assert rf.open(node).files == tuple(ntuples)
    made = (
        node.Define("a", "x * x").Filter("a < 0.5").Define("w", "v[v > 100] * 2").Redefine("x", "x + a")
    )
    check(made.Filter(f"id >= {ENTRIES}"))


def test_files_alone_are_read_from_their_own(root: Any, paths: list[str], temporary: Path) -> None:
    for files in (paths[0], paths):
        frame = check(root.RDataFrame("events", files))
        assert frame.files == tuple(paths[:1] if files is paths[0] else paths)
        assert not list(temporary.iterdir())  # nothing was written


def test_relative_paths(
    root: Any, paths: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(Path(paths[0]).parent)
    frame = rf.open(root.RDataFrame("events", "0.root").Filter("flag"))
    monkeypatch.chdir(tmp_path)
    assert frame.arrays(["id"])["id"].tolist() == list(range(0, ENTRIES, 3))


def test_batches_of_cuts_and_definitions(root: Any, paths: list[str]) -> None:
    node = root.RDataFrame("events", paths).Filter("x > 0").Define("twice", "2 * id")
    loader = rf.Loader(node, 50, ["id", "twice", "x"], "label", seed=1, drop_last=False)
    expected = node.AsNumpy(["id"])["id"]
    assert loader.num_rows == len(expected)
    for _ in range(2):
        rows = np.concatenate([np.column_stack([x, y]) for x, y in loader])
        assert np.array_equal(rows[:, 1], rows[:, 0] * 2)
        assert np.array_equal(rows[:, 3], rows[:, 0] % 2)
        assert np.array_equal(np.sort(rows[:, 0]), expected)
        assert not np.array_equal(rows[:, 0], expected)


@pytest.mark.thorough
def test_several_nodes(root: Any, paths: list[str]) -> None:
    one = root.RDataFrame("events", paths[0]).Filter("flag")
    two = root.RDataFrame("events", paths[1])
    for frames, rows in (([one, two], 4000), ([rf.open(two), one], 4000), (rf.mixed([one, two]), 2000)):
        loader = rf.Loader(frames, 100, ["id"], seed=1)
        ids = np.concatenate(list(loader))[:, 0]
        assert len(ids) == len(np.unique(ids)) == rows
    both = np.concatenate(list(rf.Loader(rf.mixed([one, two]), 100, ["id"])))[:, 0]
    assert np.count_nonzero(both < ENTRIES) == 1000


def test_cuts_and_definitions_of_ours_come_on_top(root: Any, paths: list[str]) -> None:
    node = root.RDataFrame("events", paths).Filter("flag").Define("a", "id / 2.0")
    frame = rf.open(node).filter("a > 100 && label == 0").define("b", "a + Sum(v)")
    expected = node.Filter("a > 100 && label == 0").Define("b", "a + Sum(v)").AsNumpy(["b"])["b"]
    assert np.array_equal(frame.arrays(["b"])["b"], expected)
    assert "RDataFrame" in str(frame.report())


def test_a_node_that_was_opened_again_is_the_same(root: Any, paths: list[str]) -> None:
    def loader(what: str, value: str = "id * 2") -> rf.Loader:
        node = root.RDataFrame("events", paths).Filter(what).Define("a", value)
        return rf.Loader(node, 50, ["id", "a"], seed=1)

    first = loader("flag")
    iterator = iter(first)
    for _ in range(5):
        next(iterator)
    state = first.state_dict()
    again = loader("flag")
    again.load_state_dict(state)
    for one, other in zip(iterator, again, strict=True):
        assert np.array_equal(one, other)
    for other in (loader("flag || id == 1"), loader("flag", "id * 3")):
        with pytest.raises(StateError, match="files"):
            other.load_state_dict(state)
    parts = [each.split(0.2).test for each in (first, again)]
    assert all(map(np.array_equal, *parts))


OTHERS: dict[str, Callable[[Any], Any]] = {
    "numbers of entries": lambda root: (
        root.RDataFrame(500).Define("a", "rdfentry_ * 2").Define("b", "1.5")
    ),
    "NumPy": lambda root: root.RDF.FromNumpy({"a": np.arange(50.0), "b": np.arange(50) % 3}),
    "NumPy and a cut": lambda root: root.RDF.FromNumpy({"a": np.arange(50.0)}).Filter("a > 20"),
}


@pytest.mark.thorough(but=["NumPy and a cut"])
@pytest.mark.parametrize("other", OTHERS)
def test_data_that_is_in_no_file(root: Any, other: str) -> None:
    node = OTHERS[other](root)
    frame = check(node)
    assert set(frame.columns) >= {"a"}


def test_friends(root: Any, paths: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "friend.root")
    root.RDataFrame(ENTRIES).Define("other", "int(rdfentry_) * 10").Snapshot("friend", path)
    chain, friend = root.TChain("events"), root.TChain("friend")
    chain.Add(paths[0])
    friend.Add(path)
    chain.AddFriend(friend)
    node = root.RDataFrame(chain).Define("sum", "other + id").Filter("flag")
    frame = rf.open(node)
    assert frame.arrays(["sum"])["sum"].tolist() == [11 * id for id in range(0, ENTRIES, 3)]


@pytest.mark.thorough
def test_entry_lists_and_parts_of_files(root: Any, paths: list[str]) -> None:
    chain = root.TChain("events")
    for path in paths:
        chain.Add(path)
    some = root.TEntryList("some", "some", "events", paths[0])
    for number in (3, 5, 1000):
        some.Enter(number, "events", paths[0])
    for number in (7, 8):
        some.Enter(number, "events", paths[2])
    chain.SetEntryList(some)
    check(root.RDataFrame(chain), ["id", "x"])
    check(root.RDataFrame(chain).Define("a", "id * 2"), ["id", "a"])
    sample = root.RDF.Experimental.RSample("sample", "events", paths)
    spec = root.RDF.Experimental.RDatasetSpec()
    spec.AddSample(sample)
    spec.WithGlobalRange((ENTRIES + 5, ENTRIES + 105))
    check(root.RDataFrame(spec), ["id", "x"])
    check(root.RDataFrame(spec).Define("a", "id * 2").Filter("flag"), ["id", "a"])


@pytest.mark.thorough
def test_witnesses_tell_entries_apart(root: Any, tmp_path: Path) -> None:
    # With a list of entries, ROOT counts those of the list. Constant columns agree with any.
    path = str(tmp_path / "constant.root")
    made = (
        root.RDataFrame(500)
        .Define("one", "1.0")
        .Define("nan", "0.0 / 0.0")
        .Define("few", "rdfentry_ % 3")
    )
    made = made.Define("v", "ROOT::RVec<float>{float(rdfentry_)}")
    for columns in (["one", "nan", "few", "v"], ["one", "v"]):
        made.Snapshot("events", path, columns)
        chain = root.TChain("events")
        chain.Add(path)
        some = root.TEntryList("some", "some", "events", path)
        for number in (300, 303, 306):
            some.Enter(number, "events", path)
        chain.SetEntryList(some)
        check(root.RDataFrame(chain), ["one", "v"])
        check(root.RDataFrame(chain).Define("a", "v[0]").Filter("a > 0"), ["a", "v"])


@pytest.mark.thorough
def test_redefined_columns_that_cannot_be_read_are_gone(root: Any, paths: list[str]) -> None:
    node = root.RDataFrame("events", paths).Redefine("x", "std::complex<float>(x, x)").Filter("flag")
    frame = rf.open(node)
    assert "x" not in frame.columns
    with pytest.raises(MissingColumnError, match="'x'"):
        rf.Loader(frame, 10, ["x"])


@pytest.mark.thorough
def test_older_cycles_are_not_the_newest(root: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "cycles.root")
    with root.TFile(path, "recreate") as file:
        for number in (1, 2):
            tree = root.TTree("events", "")
            value = np.zeros(1, np.float64)
            tree.Branch("x", value, "x/D")
            for entry in range(100):
                value[0] = number * 1000 + entry
                tree.Fill()
            file.WriteTObject(tree)
    check(root.RDataFrame("events;1", path), ["x"])
    check(root.RDataFrame("events;1", path).Define("a", "x"), ["a", "x"])
    check(root.RDataFrame("events", path), ["x"])


@pytest.mark.thorough
def test_names_are_the_users(root: Any, paths: list[str]) -> None:
    node = root.RDataFrame("events", paths).Define("_taken", "id % 2 == 0").Filter("id < 10")
    check(node, ["_taken", "id"])


def test_the_scratch_goes_with_the_process(root: Any, paths: list[str], temporary: Path) -> None:
    # What a full disk left goes, too.
    script = """
import resource, signal, sys, warnings
warnings.simplefilter("ignore")
import ROOT, rootfeed as rf
kept = rf.open(ROOT.RDataFrame("events", sys.argv[1]).Filter("flag"))
print(kept.count())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for most in (1 << 10, 1 << 16):
    frame = ROOT.RDataFrame(50_000).Define("a", "rdfentry_ * 2").Define("v", "ROOT::RVec<int>(3)")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        rf.open(frame)
    except rf.errors.ArgumentError as error:
        print("File too large" in str(error))
"""
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", script, paths[0]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["1000", "True", "True"]), done.stderr
    assert not list(temporary.iterdir())


@pytest.mark.thorough
def test_more_columns_than_files_can_be_open(root: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    node = root.RDataFrame(20)
    for number in range(40):
        node = node.Define(f"a{number}", f"rdfentry_ + {number}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, hard))
    try:
        frame = rf.open(node)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert frame.arrays(["a39"])["a39"].tolist() == list(range(39, 59))


@pytest.mark.thorough
def test_threads_take_turns(root: Any, paths: list[str]) -> None:
    nodes = [root.RDataFrame("events", path).Filter("flag").Define("a", "id") for path in paths]
    with ThreadPoolExecutor(3) as pool:
        frames = list(pool.map(rf.open, nodes))
    assert [frame.count() for frame in frames] == [1000] * 3


@pytest.mark.thorough
def test_a_copy_that_outlives_the_scratch_says_so(root: Any, paths: list[str]) -> None:
    frame = rf.open(root.RDataFrame("events", paths).Filter("flag").Define("a", "x"))
    kept, pickled = copy.deepcopy(frame), pickle.dumps(frame)
    del frame
    gc.collect()
    assert kept.count() == 3000
    del kept
    gc.collect()
    with pytest.raises(MissingFileError, match="Keep that frame, or open the RDataFrame again"):
        pickle.loads(pickled)


def test_several_threads_are_refused(root: Any, paths: list[str]) -> None:
    root.EnableImplicitMT(2)
    try:
        node = root.RDataFrame("events", paths)
    finally:
        root.DisableImplicitMT()
    with pytest.raises(ArgumentError, match=r"Make it after ROOT\.DisableImplicitMT\(\)"):
        rf.open(node)


def test_what_root_cannot_run(root: Any, paths: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    node = root.RDataFrame("events", paths).Define(
        "a", 'if (id == 700) throw std::runtime_error("not this one"); return id;'
    )
    with pytest.raises(ArgumentError, match=r"ROOT cannot run the RDataFrame(.|\n)*not this one"):
        rf.open(node)
    capfd.readouterr()


def test_columns_that_are_not_there(root: Any, paths: list[str]) -> None:
    node = root.RDataFrame("events", paths).Define("p", "std::complex<float>(x, x)").Filter("flag")
    frame = rf.open(node)
    assert "p" not in frame.columns
    assert "_taken" not in frame.columns
    with pytest.raises(MissingColumnError, match="'p'"):
        rf.Loader(frame, 10, ["p"])


def test_nothing_passes(root: Any, paths: list[str]) -> None:
    frame = rf.open(root.RDataFrame("events", paths).Filter("x > 2").Define("a", "x"))
    assert frame.count() == 0
    with pytest.raises(rf.errors.EmptyDatasetError):
        rf.Loader(frame, 10, ["a"])


def test_copies_read_the_same_scratch(root: Any, paths: list[str], temporary: Path) -> None:
    frame = rf.open(root.RDataFrame("events", paths).Filter("flag").Define("a", "x"))
    assert len(list(temporary.iterdir())) == 1
    copy = pickle.loads(pickle.dumps(frame))
    expected = frame.arrays(["a"])["a"]
    assert np.array_equal(copy.arrays(["a"])["a"], expected)
    del copy
    gc.collect()
    assert len(list(temporary.iterdir())) == 1  # a copy does not own it
    if not (child := os.fork()):
        del frame
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(temporary.iterdir())) == 1
