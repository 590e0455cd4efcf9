"""The lazy description of a dataset."""

from __future__ import annotations

import builtins
import pickle
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    DamagedFileError,
    DuplicateFileWarning,
    MissingColumnError,
    MissingFileError,
    MissingObjectError,
)
from rootfeed.frame import view_of
from samples import FORMULAS, File, in_a_row, open_events, write, write_all, write_columns


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


FILES = in_a_row(File(300, page=40), File(0), File(200, format="RNTuple"))


@pytest.fixture(scope="session")
def paths(folder: Path) -> list[str]:
    return write_all(folder / "files", FILES)


# --- what it knows --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2], ids=["TTree", "RNTuple"])
def test_columns(paths: list[str], number: int) -> None:
    frame = rf.open(paths[number])
    assert list(frame.columns) == list(FORMULAS)
    for name, (dtype, _) in FORMULAS.items():
        type_ = frame.columns[name]
        assert type_.kind == "scalar"
        assert type_.dtype == np.dtype(dtype)
        assert str(type_) == str(np.dtype(dtype))


def test_files_and_entries(paths: list[str]) -> None:
    frame = open_events(paths)
    assert frame.files == tuple(paths)
    assert frame.num_entries == 500
    assert rf.open(paths[1]).num_entries == 0
    assert rf.open(paths[2]).num_entries == 200


@pytest.mark.parametrize("use", [str, Path])
def test_ways_to_name_files(paths: list[str], use: Any) -> None:
    first, _, third = paths
    assert rf.open(use(first)).files == (first,)
    assert rf.open([use(third), use(first)]).files == (third, first)
    assert rf.open({use(first): "events", use(third): None}).files == (first, third)
    assert rf.open(use(Path(first).parent / "*.root")).files == tuple(paths)
    assert rf.open(use(path) for path in paths).num_entries == 500


def test_ways_to_name_trees(paths: list[str]) -> None:
    assert rf.open(f"{paths[0]}:events").num_entries == 300
    assert rf.open(f"{Path(paths[0]).parent}/*.root:events").num_entries == 500
    assert rf.open([f"{paths[0]}:events", paths[2]]).num_entries == 500


def test_repr(paths: list[str]) -> None:
    assert repr(rf.open(paths[0])) == f"<Frame {paths[0]}, 8 columns>"
    assert repr(open_events(paths)) == f"<Frame {paths[0]}:events and 2 more, 8 columns>"
    columns = rf.open({"pt": np.arange(3.0), "n": np.arange(3)}).columns
    assert str(dict(columns)) == "{'pt': <float64>, 'n': <int64>}"


# --- it is lazy and does not change ---------------------------------------------------------------


def test_it_does_not_change(paths: list[str]) -> None:
    frame = rf.open(paths[0])
    with pytest.raises(TypeError):
        frame.columns["new"] = frame.columns["id"]
    with pytest.raises(AttributeError):
        frame.files = ()
    with pytest.raises(AttributeError):
        frame.num_entries = 5
    columns = dict(frame.columns)
    rf.Loader(frame, 10, ["id"])
    assert dict(frame.columns) == columns
    listed = [paths[0]]
    frame = rf.open(listed)
    listed.append(paths[2])
    assert frame.num_entries == 300


def test_opening_looks_only_into_the_first_file(folder: Path, paths: list[str]) -> None:
    damaged = folder / "damaged.root"
    damaged.write_bytes(b"not a ROOT file")
    frame = open_events([paths[0], str(damaged)])
    assert "id" in frame.columns
    with pytest.raises(DamagedFileError, match=r"damaged\.root is not a ROOT file"):
        _ = frame.num_entries
    with pytest.raises(DamagedFileError, match=r"damaged\.root"):
        rf.Loader(frame, 10)


def test_metadata_is_read_once(folder: Path, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rootfeed import sources

    read: list[tuple[str, tuple[str, ...]]] = []
    index = sources.index

    def counted(location: Any, names: Any) -> Any:
        read.append((location.path, tuple(names)))
        return index(location, names)

    monkeypatch.setattr(sources, "index", counted)
    frame = open_events(paths)
    assert read == []
    rf.Loader(frame, 10, ["id", "half"])
    assert len(read) == 3
    rf.Loader(frame, 10, ["half"])
    assert frame.num_entries == 500
    assert len(read) == 3
    rf.Loader(frame, 10, ["root"])
    assert len(read) == 6
    copy = pickle.loads(pickle.dumps(frame))
    assert copy.num_entries == 500
    rf.Loader(copy, 10, ["id", "root"])
    assert len(read) == 6


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_each_file_is_parsed_once(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its columns, and for a loader with cuts and definitions, and its parts."""
    from rootfeed.sources import metadata

    parsed: list[str] = []
    given = metadata.directly

    def counted(address: Any, storage: Any, object_path: Any) -> Any:
        parsed.append(address.name)
        return given(address, storage, object_path)

    monkeypatch.setattr(metadata, "directly", counted)
    paths = write_all(tmp_path / "files", [File(100, format=format), File(60, 100, format=format)])
    frame = open_events(paths)
    assert set(FORMULAS) == set(frame.columns)
    frame = frame.filter("code > -14000").define("twice", "2 * half").filter("twice + root > 3")
    loader = rf.Loader(frame, 10, ["id", "twice"], target="label")
    rest, test = loader.split(0.25)
    assert len(list(rest)) > len(list(test)) > 0
    assert parsed == paths


def test_a_file_that_was_changed_after_a_look_at_it_is_parsed_again(tmp_path: Path) -> None:
    path = write(tmp_path / "file.root", File(100))
    frame = open_events(path)
    write(path, File(70))
    assert frame.num_entries == 70


def test_a_frame_can_be_pickled(paths: list[str]) -> None:
    frame = open_events(paths)
    fresh = pickle.loads(pickle.dumps(frame))
    assert frame.num_entries == 500  # which it remembers
    for copy in (fresh, pickle.loads(pickle.dumps(frame))):
        assert copy.files == frame.files
        assert dict(copy.columns) == dict(frame.columns)
        assert copy.num_entries == 500
        assert repr(copy) == repr(frame)
        with pytest.raises(TypeError):
            copy.columns["new"] = 1


def test_a_frame_is_shared_by_threads(paths: list[str]) -> None:
    frame = open_events(paths)
    wanted = [["id"], ["half", "root"], ["code"], ["label", "id"]] * 4
    found: dict[int, Any] = {}

    def read(number: int) -> None:
        found[number] = view_of(frame).index(wanted[number])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(wanted))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, names in enumerate(wanted):
        assert [index.entries for index in found[number]] == [300, 0, 200]
        assert all(set(names) <= set(index.columns) for index in found[number])


def test_no_file_stays_open(paths: list[str]) -> None:
    frame = open_events(paths)
    assert frame.num_entries == 500
    open_files = Path("/proc/self/fd")
    if not open_files.exists():
        pytest.skip("the list of open files is Linux's")
    names = []
    for link in open_files.iterdir():
        try:
            names.append(str(link.readlink()))
        except OSError:
            continue
    assert not set(paths) & set(names)


@pytest.mark.filterwarnings("ignore:.*is a copy of")
def test_many_small_files_are_indexed_quickly(folder: Path) -> None:
    one = write(folder / "small.root", File(20), ["id", "half", "label"])
    (folder / "many").mkdir()
    for number in range(300):
        shutil.copy(one, folder / "many" / f"{number:04}.root")
    started = time.perf_counter()
    frame = rf.open(f"{folder}/many/*.root:events")
    opened = time.perf_counter() - started
    loader = rf.Loader(frame, 128, ["id", "half"], "label")
    indexed = time.perf_counter() - started
    assert loader.num_rows == 6000
    assert opened < 2
    assert indexed < 10  # 1.2 s on an idle core
    assert sum(len(x) for x, _ in loader) == 6000


# --- mistakes -------------------------------------------------------------------------------------


def test_a_missing_file(folder: Path, paths: list[str]) -> None:
    folder_of_files = Path(paths[0]).parent
    with pytest.raises(MissingFileError) as caught:
        rf.open(str(folder_of_files / "0000.root"))
    text = str(caught.value)
    missing = folder_of_files / "0000.root"
    assert text.startswith(f"{missing} does not exist. In {str(folder_of_files)!r}: Did you mean")
    assert "'000.root'" in text
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        rf.open(str(folder / "nowhere" / "x.root"))
    with pytest.raises(MissingFileError, match=r"is a directory.*\*\.root"):
        rf.open(str(folder))
    with pytest.raises(MissingFileError, match=r"no file matches '.*none\*\.root'"):
        rf.open(str(folder / "none*.root"))
    # Any of the files, not only the first.
    with pytest.raises(MissingFileError, match=r"gone\.root does not exist"):
        rf.open([paths[0], str(folder / "gone.root")])


@pytest.mark.parametrize("nothing", [[], {}, (), ""])
def test_no_files(nothing: Any) -> None:
    with pytest.raises(ArgumentError, match=r"must name at least one file, got none|must not be empty"):
        rf.open(nothing)


@pytest.mark.parametrize("wrong", [None, 5, [5], [None]])
def test_files_that_are_no_names(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"got (None|5)\."):
        rf.open(wrong)


@pytest.mark.parametrize("verb", ["compute", "collect"])
def test_data_frames_that_are_computed_later(verb: str) -> None:
    lazy = type("LazyFrame", (list,), {verb: lambda self: self, "__module__": "polars.lazyframe"})
    with pytest.raises(ArgumentError, match=rf"a polars.LazyFrame holds no data yet: .* its {verb}\(\)"):
        rf.open(lazy(["a", "b"]))


def test_a_file_twice(paths: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"000\.root is named twice, so its entries would"):
        rf.open([paths[0], paths[0]])


def test_a_tree_by_two_names(paths: list[str], tmp_path: Path) -> None:
    for other, named in (
        (f"{paths[0]}:events", f"{paths[0]}:events, which is {paths[0]}, is named twice"),
        (f"{paths[0]}:/events", f"{paths[0]}:/events, which is {paths[0]}, is named twice"),
    ):
        frame = rf.open([paths[0], other, paths[1]])
        with pytest.raises(ArgumentError, match=re.escape(named)):
            frame.count()
    for names in ([f"{paths[0]}:events", f"{paths[0]}:events;1"], [f"{paths[0]}:events;1", paths[0]]):
        with pytest.raises(ArgumentError, match=r", which is .*, is named twice"):
            rf.open(names).count()


def test_copies_of_a_file(paths: list[str], tmp_path: Path) -> None:
    copies = [shutil.copy(paths[0], tmp_path / f"{name}.root") for name in "ab"]
    frame = rf.open([*paths[:2], copies[0]])
    with pytest.warns(DuplicateFileWarning) as told:
        assert frame.num_entries == rf.open(paths[:2]).num_entries + rf.open(copies[0]).num_entries
    assert [str(each.message) for each in told] == [
        f"{copies[0]} is a copy of {paths[0]}, as far as metadata tell: entries come as often as there "
        "are copies of them. Leave copies out, or ignore this warning."
    ]
    assert frame.count() == frame.num_entries  # told once
    with pytest.warns(DuplicateFileWarning, match=r"as far as metadata tell, and so are 1 more: "):
        rf.open([paths[0], *copies]).count()


def test_a_missing_tree(folder: Path) -> None:
    path = write_columns(folder / "named.root", {"id": np.arange(3)}, name="Events")
    with pytest.raises(MissingObjectError) as caught:
        rf.open(f"{path}:evnts")
    assert str(caught.value) == f"{path} holds no tree or ntuple 'evnts'. Did you mean 'Events'?"
    with pytest.raises(KeyError, match="There are: 'Events'"):
        rf.open({path: "completely-different"})


def test_several_trees(folder: Path) -> None:
    path = folder / "two.root"
    with uproot.recreate(path) as file:
        for name in ("signal", "background"):
            file.mktree(name, {"x": "f4"}).extend({"x": np.arange(4, dtype="f4")})
    with pytest.raises(MissingObjectError) as caught:
        rf.open(path)
    text = str(caught.value)
    assert text.startswith(f"{path} holds 2 trees and ntuples: ")
    assert "'signal'" in text
    assert "'background'" in text
    assert "Name one: '" in text
    assert rf.open(f"{path}:signal").num_entries == 4


def test_no_tree(folder: Path) -> None:
    path = folder / "histogram.root"
    with uproot.recreate(path) as file:
        file["h"] = np.histogram(np.arange(10))
    with pytest.raises(MissingObjectError, match="holds no TTree and no RNTuple, only TH1"):
        rf.open(path)
    with uproot.recreate(folder / "nothing.root"):
        pass
    with pytest.raises(MissingObjectError, match="holds no TTree and no RNTuple, nothing"):
        rf.open(folder / "nothing.root")


def test_a_column_that_does_not_exist(paths: list[str]) -> None:
    frame = open_events(paths)
    with pytest.raises(MissingColumnError) as caught:
        view_of(frame).index(["haf"])
    assert str(caught.value) == f"{paths[0]} has no column 'haf'. Did you mean 'half'?"


def test_a_column_missing_in_the_second_file(folder: Path, paths: list[str]) -> None:
    second = write_columns(folder / "second.root", {"id": np.arange(5), "hlf": np.arange(5.0)})
    frame = open_events([paths[0], second])
    assert frame.num_entries == 305
    with pytest.raises(MissingColumnError) as caught:
        view_of(frame).index(["id", "half"])
    assert str(caught.value) == f"{second}:events has no column 'half'. Did you mean 'hlf'?"
    # The frame is none the worse for it.
    assert frame.num_entries == 305
    assert [set(index.columns) >= {"id"} for index in view_of(frame).index(["id"])] == [True, True]


def test_pages_are_not_read(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rootfeed.sources import pages

    def refuse(*_: Any) -> None:
        raise AssertionError("a page was read")

    monkeypatch.setattr(pages, "decode", refuse)
    monkeypatch.setattr(pages, "decompress_into", refuse)
    frame = open_events(paths)
    loader = rf.Loader(frame, 10, ["id", "half"], "label")
    assert (frame.num_entries, loader.num_rows, len(loader)) == (500, 500, 50)
    train, test = loader.split(0.2)
    assert train.num_rows + test.num_rows == 500


def test_the_builtin_open_is_left_alone() -> None:
    assert rf.open is not builtins.open
    assert "open" in rf.__all__
