"""Our own readers of metadata, and uproot as their oracle: both give the same index, field by field.

What our readers do not know goes to uproot as a whole file. Which files those are is said here, so that
none gets lost.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import processes
from rootfeed import sources
from rootfeed.errors import DamagedFileError, MissingObjectError, RootfeedError
from rootfeed.sources import Location, metadata, productions
from rootfeed.sources.objects import RootObject
from rootfeed.sources.storage import Address, LocalStorage, open_storage
from rootfiles.cases import CASES
from rootfiles.environment import load_root
from rootfiles.odd import load_odd
from samples import File, write, write_columns

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ROOT's dictionaries

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

TREES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")

#: Cases of which all columns are left to uproot: their baskets lie in the tree's metadata.
EMBEDDED = ("tree-embedded", "tree-embedded-only")

#: Files of `ROOTFEED_TEST_DATA` that are left to uproot: of old releases, and other classes.
LEFT_FILES = {
    "rootwheel/mlpHiggs.root": "an old compression",
    "rootwheel/tmva_reg_example.root": "an old release",
    "rootwheel/toy_sigbkg_categ_offset.root": "an old release",
    "rootwheel/toy_sigbkg_categ_varoff.root": "an old release",
    "roottest/tmva_class_example.root": "an old release",
    "skhep/uproot-from-geant4.root": "an old release",
    "skhep/uproot-issue-250.root": "an old release",
    "skhep/uproot-issue413.root": "another writer",
    "skhep/uproot-issue433-splitlevel2.root": "a name with a colon",
    "skhep/uproot-sample-5.23.02-uncompressed.root": "an old release",
    "skhep/uproot-sample-5.23.02-zlib.root": "an old release",
    "skhep/uproot-sample-5.24.00-uncompressed.root": "an old release",
    "skhep/uproot-sample-5.24.00-zlib.root": "an old release",
    "skhep/uproot-sample-5.25.02-uncompressed.root": "an old release",
    "skhep/uproot-sample-5.25.02-zlib.root": "an old release",
    "unroot/issue241.root": "an old release",
}


def assert_same(a: Any, b: Any, where: str) -> None:
    """Compare two values, arrays and dataclasses with all their fields."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    elif dataclasses.is_dataclass(a):
        for each in dataclasses.fields(a):
            assert_same(getattr(a, each.name), getattr(b, each.name), f"{where}.{each.name}")
    elif isinstance(a, Mapping):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key}]")
    elif type(a) is tuple:
        assert len(a) == len(b), where
        for first, second in zip(a, b, strict=True):
            assert_same(first, second, where)
    else:
        assert a == b, where


def outcome(ask: Callable[[], Any]) -> Any:
    """Return an answer, or the error that comes instead."""
    try:
        return ask()
    except RootfeedError as error:
        return type(error).__name__, str(error)


def compare(own: RootObject, uproots: RootObject) -> int:
    """Compare all that is known of an object; return how many columns are left to uproot."""
    for name in ("path", "object_path", "format", "entries", "identity"):
        assert_same(getattr(own, name), getattr(uproots, name), name)
    types = outcome(uproots.types)
    assert_same(outcome(own.types), types, "types")
    if isinstance(types, tuple):
        return 0
    assert_same(own.duplicates(), uproots.duplicates(), "duplicates")
    left = 0
    for name in types:
        got = outcome(lambda name=name: own.columns([name])[name])
        want = outcome(lambda name=name: uproots.columns([name])[name])
        if isinstance(got, tuple) and got[0] == "DamagedFileError":
            assert isinstance(want, tuple) or "lie in the tree's metadata" in got[1], name
            left += 1
        else:
            assert_same(got, want, name)
    return left


def compare_file(path: Path | str, name: str) -> int:
    address = Address((str(path),))
    with (
        closing(open_storage(address)) as storage,
        metadata.open_object(address, name) as uproots,
    ):
        return compare(metadata.directly(address, storage, name), uproots)


def names_in(path: Path | str) -> list[str]:
    with uproot.open(path) as file:
        names = file.classnames(recursive=True, filter_classname=lambda name: name in TREES)
        return list(dict.fromkeys(key.rpartition(";")[0] for key in names))


def assert_left(path: Path | str, name: str) -> None:
    address = Address((str(path),))
    with (
        closing(open_storage(address)) as storage,
        pytest.raises(DamagedFileError, match=r"UnknownError|DamagedPageError"),
    ):
        metadata.directly(address, storage, name)


@on_linux
@pytest.mark.parametrize("case", [pytest.param(each, id=each.id) for each in CASES if not each.large])
def test_roots_files(case: Any, tmp_path: Path) -> None:
    path = tmp_path / "file.root"
    case.write(path)
    assert compare_file(path, case.name) == (len(case.columns) if case.id in EMBEDDED else 0)


def short_name(path: Path) -> str:
    return path.relative_to(os.environ["ROOTFEED_TEST_DATA"]).as_posix()


def real_files() -> list[Any]:
    folder = os.environ.get("ROOTFEED_TEST_DATA")
    if folder is None:
        mark = pytest.mark.skip(reason="ROOTFEED_TEST_DATA names no folder")
        return [pytest.param(None, id="none", marks=mark)]
    large = pytest.mark.thorough
    return [
        pytest.param(path, id=short_name(path), marks=[large] if path.stat().st_size > 30_000 else [])
        for path in sorted(Path(folder).rglob("*.root"))
    ]


@pytest.mark.parametrize("path", real_files())
def test_real_files(path: Path) -> None:
    try:
        names = names_in(path)
    except Exception:
        pytest.skip("uproot does not open it")
    for name in names[:8]:
        if short_name(path) in LEFT_FILES:
            assert_left(path, name)
        else:
            compare_file(path, name)


# --- What else ROOT writes ------------------------------------------------------------------------


def write_split(path: str, split: int) -> None:
    """Write objects, many of them, vectors, texts, a leaf list, and arrays that are counted."""
    root = load_root()
    file = root.TFile(path, "RECREATE", "", 101)
    tree = root.TTree("events", "a title")
    tree.SetAutoFlush(40)
    lorentz, clones = root.TLorentzVector(), root.TClonesArray("TLorentzVector")
    vector, text = root.std.vector("float")(), root.std.string()
    nested = root.std.vector("vector<int>")()
    pair, count, numbers = array("f", [0, 0]), array("i", [0]), array("f", [0] * 8)
    if split:
        tree.Branch("lorentz", "TLorentzVector", lorentz, 2000, split)
        tree.Branch("dotted.", "TLorentzVector", lorentz, 2000, split)
        tree.Branch("clones", "TClonesArray", clones, 2000, split)
    tree.Branch("vector", vector, 2000, split)
    tree.Branch("nested", nested, 2000, split)
    tree.Branch("text", text, 2000, split)
    tree.Branch("pair", pair, "x/F:y/F", 2000)
    # What counts is streamed inside what it counts, where it comes later.
    counted = tree.Branch("early", numbers, "early[8]/F", 2000)
    tree.Branch("n", count, "n/I", 2000)
    tree.Branch("values", numbers, "values[n]/F", 2000)
    tree.Branch("matrix", numbers, "matrix[n][2]/F", 2000)
    tree.Branch("real", numbers, "real/d[0,10,8]", 2000)
    assert counted
    for entry in range(300):
        lorentz.SetPxPyPzE(entry, 1, 2, 3)
        clones.Clear()
        for i in range(entry % 3):
            clones.ConstructedAt(i).SetPxPyPzE(entry, i, 2, 3)
        vector.assign(entry % 4, entry)
        nested.clear()
        text.assign("t" * (entry % 7))
        count[0] = entry % 4
        tree.Fill()
    tree.Write()
    file.Close()


@on_linux
@pytest.mark.parametrize("split", [0, 1, 99])
def test_split_levels(tmp_path: Path, split: int) -> None:
    path = str(tmp_path / "file.root")
    write_split(path, split)
    assert compare_file(path, "events") == 0


@on_linux
def test_a_count_that_comes_after_what_it_counts(tmp_path: Path) -> None:
    """ROOT streams the leaf that counts where it is first referred to."""
    root = load_root()
    path = str(tmp_path / "file.root")
    file = root.TFile(path, "RECREATE")
    tree = root.TTree("events", "")
    count, numbers = array("i", [0]), array("f", [0] * 8)
    tree.Branch("n", count, "n/I")
    tree.Branch("values", numbers, "values[n]/F")
    branches = tree.GetListOfBranches()
    first, second = branches.At(0), branches.At(1)
    branches.AddAt(second, 0)
    branches.AddAt(first, 1)
    for entry in range(20):
        count[0] = entry % 3
        tree.Fill()
    tree.Write()
    file.Close()
    with uproot.open(path) as opened:
        assert opened["events"].keys() == ["values", "n"]
    assert compare_file(path, "events") == 0


@on_linux
def test_cycles_folders_and_friends(tmp_path: Path) -> None:
    root = load_root()
    path = str(tmp_path / "file.root")
    file = root.TFile(path, "RECREATE")
    number = array("i", [0])
    for folder, name, entries in (("", "t", 3), ("a", "t", 4), ("a/b", "t", 5), ("", "u", 6)):
        if folder:
            file.mkdir(folder, "", True)
            file.cd(folder)
        else:
            file.cd()
        tree = root.TTree(name, "")
        tree.Branch("number", number, "number/I")
        for entry in range(entries):
            number[0] = entry
            tree.Fill()
            if entry == 1:
                tree.Write()  # an older cycle
        if name == "u":
            tree.AddFriend("t", path)
            tree.BuildIndex("number")
        tree.Write()
    file.Close()
    for name in ("t", "a/t", "a/b/t", "u", "t;1", "t;2", "/a/t", "a/t;1"):
        assert compare_file(path, name) == 0
    storage = LocalStorage(path)
    with closing(storage), pytest.raises(MissingObjectError) as caught:
        metadata.directly(Address((path,)), storage, None)
    with pytest.raises(MissingObjectError) as uproots, metadata.open_object(Address((path,)), None):
        pass
    assert str(caught.value) == str(uproots.value)


@on_linux
def test_odd_trees(tmp_path: Path) -> None:
    path, odd = str(tmp_path / "file.root"), load_odd()
    for make in (
        lambda: odd.write_same_names(path, True),
        lambda: odd.write_same_names(path, False),
        lambda: odd.write_shadowed(path),
        lambda: odd.write_exotic(path, 101),
        lambda: odd.write_texts_and_arrays(path, 505),
        lambda: odd.write_unsplit(path, True),
        lambda: odd.write_friends(path, str(tmp_path / "other.root")),
        lambda: odd.write_to_other_file(path, str(tmp_path / "other.root"), "a"),
    ):
        make()
        for name in names_in(path):
            assert compare_file(path, name) == 0


@on_linux
def test_what_is_left_to_uproot_is_read(tmp_path: Path) -> None:
    """Baskets in the metadata; an object that is not split (``TBranchObject``)."""
    path = str(tmp_path / "file.root")
    case = next(case for case in CASES if case.id == EMBEDDED[0])
    case.write(path)
    index = sources.index(Location(path, "events"), list(case.columns)[:1])
    [column] = index.columns.values()
    assert column.pages is not None
    assert column.pages.embedded

    root = load_root()
    file, lorentz = root.TFile(path, "RECREATE"), root.TLorentzVector()
    tree, number = root.TTree("events", ""), array("i", [7])
    tree.Branch("lorentz", "TLorentzVector", lorentz, 2000, 0)
    tree.Branch("number", number, "number/I")
    tree.Fill()
    tree.Write()
    file.Close()
    assert_left(path, "events")
    assert sources.index(Location(path, "events"), ["number"]).entries == 1


# --- Once for each production ---------------------------------------------------------------------


@pytest.fixture
def uproot_opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the files that uproot opens."""
    opened: list[str] = []
    given = uproot.open
    monkeypatch.setattr(
        uproot, "open", lambda files, **options: opened.extend(files) or given(files, **options)
    )
    monkeypatch.setattr(productions, "_known", type(productions._known)())
    return opened


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_files_of_a_production_are_parsed_by_ourselves(
    tmp_path: Path, format: str, uproot_opens: list[str]
) -> None:
    """The names and types of a TTree's branches are uproot's, once."""
    names = [f"x{i}" for i in range(30)]
    for number in range(4):
        columns = {name: np.arange(100.0 + number) for name in names}
        write_columns(tmp_path / f"{number}.root", columns, 7 + number, format)
    paths = [str(tmp_path / f"{number}.root") for number in range(4)]
    for number, path in enumerate(paths):
        location = Location(path, None)
        assert list(sources.types(location)[1]) == names
        index = sources.index(location, names)
        assert index.entries == 100 + number
    assert uproot_opens == (paths[:1] if format == "TTree" else [])
    first, second = (sources.index(Location(path, None), ["x3"]) for path in paths[:2])
    assert first.columns["x3"].type is second.columns["x3"].type


def test_the_time_of_writing_is_no_production(tmp_path: Path, uproot_opens: list[str]) -> None:
    first, second = tmp_path / "first.root", tmp_path / "second.root"
    write_columns(first, {"x": np.arange(50.0)})
    with uproot.open({str(first): None}) as file:
        place = file.file.fSeekInfo + 10  # of the date in the key
    uproot_opens.clear()
    content = bytearray(first.read_bytes())
    content[place : place + 4] = bytes(reversed(content[place : place + 4]))
    second.write_bytes(content)
    for path in (first, second):
        assert list(sources.types(Location(str(path), None))[1]) == ["x"]
    assert uproot_opens == [str(first)]


def test_files_of_several_productions(tmp_path: Path, uproot_opens: list[str]) -> None:
    """A name or type more is another production; files of both may come in turns."""
    for number in range(6):
        dtype = "f4" if number % 3 else "f8"
        columns = {"x": np.arange(50).astype(dtype)} | ({"y": np.arange(50)} if number % 3 == 2 else {})
        write_columns(tmp_path / f"{number}.root", columns)
    for number in range(6):
        types = sources.types(Location(str(tmp_path / f"{number}.root"), None))[1]
        assert list(types) == (["x", "y"] if number % 3 == 2 else ["x"])
        assert types["x"].dtype == ("f4" if number % 3 else "f8")
    assert len(uproot_opens) == 3


@on_linux
def test_what_only_the_streamers_tell(tmp_path: Path) -> None:
    """Classes of one name and two layouts are two productions."""
    for number, other in enumerate((False, True)):
        load_odd().write_unsplit(str(tmp_path / f"{number}.root"), other)
        assert compare_file(tmp_path / f"{number}.root", "events") == 0


def test_threads_learn_a_production_once(tmp_path: Path, uproot_opens: list[str]) -> None:
    path = write(tmp_path / "file.root", File(200))
    threads = [
        threading.Thread(target=sources.index, args=(Location(path, None), ["id"])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert uproot_opens == [path]


# --- Requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_a_small_file_is_read_at_once(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head and its tail, which overlap here, and nothing else."""
    path = write(tmp_path / "file.root", File(200, format=format))
    sources.index(Location(path, None), ["id"])  # the production is known
    read: list[int] = []
    given = LocalStorage.read_into

    def counted(storage: LocalStorage, offset: int, out: Any) -> None:
        read.append(len(out))
        given(storage, offset, out)

    monkeypatch.setattr(LocalStorage, "read_into", counted)
    sources.index(Location(path, None), ["id", "half"])
    size = os.path.getsize(path)
    assert len(read) <= 2
    assert sum(read) <= 2 * size


# --- Hostile bytes --------------------------------------------------------------------------------


def changed_copies(path: Path, trials: int, seed: int) -> Iterator[bytes]:
    """Yield copies with a byte or several changed, and such that end early."""
    data = path.read_bytes()
    random = np.random.default_rng(seed)
    for trial in range(trials):
        copy = bytearray(data)
        if trial % 10 == 9:
            yield bytes(copy[: random.integers(len(copy))])
            continue
        for _ in range(random.integers(1, 4)):
            place = int(random.integers(len(copy)))
            copy[place] = random.choice(
                [0, 1, 0x40, 0x7F, 0x80, 0xFF, copy[place] ^ 1, random.integers(256)]
            )
        yield bytes(copy)


def make_plain(folder: Path, format: str) -> Path:
    """Write a file that is nothing but metadata, nearly, and is not compressed."""
    path = folder / f"plain-{format}.root"
    if format == "ROOT":
        root = load_root()
        file = root.TFile(str(path), "RECREATE", "", 0)
        tree = root.TTree("events", "")
        vector, count, numbers = root.std.vector("float")(), array("i", [1]), array("f", [0] * 4)
        lorentz = root.TLorentzVector()
        tree.Branch("vector", vector)
        tree.Branch("n", count, "n/I")
        tree.Branch("values", numbers, "values[n]/F")
        tree.Branch("lorentz", "TLorentzVector", lorentz, 2000, 99)
        tree.Fill()
        tree.Write()
        file.Close()
        return path
    with uproot.recreate(path, compression=uproot.ZLIB(0)) as file:
        columns = {f"x{i}": np.arange(3.0) for i in range(5)}
        make: Any = file.mktree if format == "TTree" else file.mkrntuple
        make("events", columns)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["TTree", "RNTuple", pytest.param("ROOT", marks=on_linux)])
def test_changed_bytes(tmp_path: Path, format: str) -> None:
    """Our readers refuse, or give what uproot gives; they do not crash, and take no memory for it."""
    source = make_plain(tmp_path, format)
    path = tmp_path / "changed.root"
    compared = refused = 0
    for data in changed_copies(source, 400, seed=len(format)):
        path.write_bytes(data)
        address = Address((str(path),))
        with closing(open_storage(address)) as storage:
            try:
                own = metadata.directly(address, storage, "events")
                types = own.types()
                columns = {name: outcome(lambda n=name, o=own: o.columns([n])[n]) for name in types}
            except RootfeedError:
                refused += 1
                continue
        try:
            with metadata.open_object(address, "events") as uproots:
                assert_same(types, uproots.types(), "types")
                for name, column in columns.items():
                    want = outcome(lambda n=name, u=uproots: u.columns([n])[n])
                    if not (isinstance(column, tuple) and column[0] == "DamagedFileError"):
                        assert_same(column, want, name)
            compared += 1
        except RootfeedError:
            pass  # uproot reads more of the tree than is needed
    assert compared > 100
    assert refused > 30


#: With bounds checked, which kernels do not do themselves.
CHECKED = """
    import os, sys
    os.environ["NUMBA_BOUNDSCHECK"], os.environ["NUMBA_CACHE_DIR"] = "1", sys.argv[1]
    import numpy as np, uproot
    from rootfeed.kernels import frames
    from rootfeed.sources.records import UnknownError
    from rootfeed.sources.streamed import Tree

    random = np.random.default_rng(1)

    def changed(data):
        copy = data.copy()
        for _ in range(random.integers(1, 5)):
            values = [0, 1, 2, 0x40, 0x7F, 0x80, 0xFF, random.integers(256)]
            copy[random.integers(len(copy))] = random.choice(values)
        return copy[: random.integers(len(copy))].copy() if random.random() < 0.1 else copy

    whole = np.fromfile(sys.argv[2], np.uint8)
    with uproot.open(sys.argv[2]) as file:
        key = file.key("events")
        tree = whole[key.fSeekKey + key.fKeylen : key.fSeekKey + key.fNbytes]
    counts = [0, 0, 0, 0]
    for _ in range(3000):
        try:
            read = Tree(changed(tree), key.fKeylen)
            counts[0] += 1
            for number, _ in enumerate(read.names()):
                read.branch(number).baskets()
        except UnknownError:
            counts[1] += 1
    with uproot.open(sys.argv[3]) as file:
        ntuple = file["events"]
        [group] = ntuple.footer.cluster_group_records
        place, columns = group.page_list_link.locator, len(ntuple.column_records)
    whole = np.fromfile(sys.argv[3], np.uint8)[place.offset : place.offset + place.num_bytes]
    clusters = group.num_clusters
    start = 16 + 12 + 24 * clusters
    for _ in range(20000):
        data = changed(whole)
        starts = np.empty((clusters, columns), np.int64)
        counts[2] += 1
        if frames.column_frames(data, start, len(data) - 8, 0, clusters, starts) < 0:
            continue
        counts[3] += 1
        for column in range(columns):
            mine, found = np.ascontiguousarray(starts[:, column]), np.empty(clusters, np.int64)
            frames.count_pages(data, mine, found)
            frames.pages(data, mine, found, np.empty((4, int(np.maximum(found, 0).sum())), np.int64))
    print(*counts)
"""


@pytest.mark.thorough
def test_kernels_read_within_bounds(tmp_path: Path) -> None:
    tree = make_plain(tmp_path, "TTree")
    ntuple = make_plain(tmp_path, "RNTuple")
    outcome = processes.run(CHECKED, tmp_path / "kernels", tree, ntuple)
    assert outcome.code == 0, outcome.err
    read, refused, lists, walked = map(int, outcome.out.split())
    assert read > 300
    assert refused > 300
    assert 1000 < walked < lists


def test_nothing_is_left_open(tmp_path: Path) -> None:
    path = Path(shutil.copy(write(tmp_path / "file.root", File(10)), tmp_path / "copy.root"))
    sources.index(Location(str(path), None), ["id"])
    links = Path("/proc/self/fd")
    if links.exists():
        assert str(path) not in [os.readlink(link) for link in links.iterdir() if link.is_symlink()]
