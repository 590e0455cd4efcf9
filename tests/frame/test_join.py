"""Files side by side, entry by entry: other frames, and the friends that trees name."""

from __future__ import annotations

import json
import pickle
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
import rootfeed.root
from rootfeed.errors import (
    ArgumentError,
    MissingColumnError,
    MissingFileError,
    StateError,
    UnsupportedColumnError,
)
from samples import File, in_a_row, open_events, values, write, write_columns

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(150, page=60))
ENTRIES = 727
IDS = np.arange(ENTRIES)


def scores(ids: Any) -> np.ndarray:
    return np.sin(np.asarray(ids)).astype("f4")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[rf.Frame, rf.Frame]:
    """Files, and others with as many entries in pages of other sizes, and of the other format."""
    folder = tmp_path_factory.mktemp("join")
    paths = [write(folder / f"{number}.root", file) for number, file in enumerate(FILES)]
    beside = []
    for number, file in enumerate(FILES):
        lengths = file.ids % 4
        columns = {
            "score": scores(file.ids),
            "half": file.ids.astype("f8"),
            "v": ak.unflatten(np.repeat(file.ids, lengths).astype("f4"), lengths),
        }
        path = folder / f"beside_{number}.root"
        with uproot.recreate(path) as out:
            tree = out.mktree("scores", {"score": "f4", "half": "f8", "v": "var * float32"})
            for start in range(0, file.entries, 37):
                tree.extend({name: column[start : start + 37] for name, column in columns.items()})
        beside.append({path: "scores"})
    return open_events(paths), rf.open({path: name for each in beside for path, name in each.items()})


def test_columns_of_both_are_there(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame, other = frames
    joined = frame.join(other, prefix="net_")
    assert list(joined.columns) == [
        *frame.columns,
        *(f"net_{name}" for name in ("score", "half", "nv", "v")),
    ]
    assert joined.num_entries == ENTRIES
    found = joined.arrays(["id", "net_score", "half", "net_half", "net_v"])
    assert np.array_equal(found["id"], IDS)
    assert np.array_equal(found["net_score"], scores(IDS))
    assert np.array_equal(found["half"], values("half", IDS))
    assert np.array_equal(found["net_half"], IDS)
    assert ak.num(found["net_v"]).tolist() == (IDS % 4).tolist()
    assert np.asarray(ak.flatten(found["net_v"])).tolist() == np.repeat(IDS, IDS % 4).tolist()


@pytest.mark.parametrize("memory", [{}, {"chunk_entries": 200, "block_entries": 23}])
def test_batches_hold_rows_of_both(frames: tuple[rf.Frame, rf.Frame], memory: dict[str, int]) -> None:
    joined = frames[0].join(frames[1].select(["score", "v"])).filter("score > -0.5 && Sum(v) >= 0")
    joined = joined.define("twice", "2 * score + half")
    features = {"event": ["id", "twice"], "vectors": rf.padded(["v"], length=3)}
    loader = rf.Loader(joined, 32, features, "score", seed=3, **memory)
    for _ in range(2):
        batches = list(loader)
        event = np.concatenate([x["event"] for x, _ in batches])
        ids = event[:, 0].astype(int)
        assert np.array_equal(np.sort(ids), IDS[scores(IDS) > -0.5])
        assert np.allclose(event[:, 1], 2 * scores(ids) + ids / 2)
        assert np.array_equal(np.concatenate([y for _, y in batches])[:, 0], scores(ids))
        mask = np.concatenate([x["vectors_mask"] for x, _ in batches])
        assert np.array_equal(mask.sum(1), ids % 4)
        padded = np.concatenate([x["vectors"] for x, _ in batches])[..., 0]
        assert np.array_equal(padded, np.where(mask, ids[:, None], 0))


def test_splits_are_those_of_the_files_alone(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame, joined = frames[0], frames[0].join(frames[1], prefix="net_")
    ids = [
        np.sort(rf.Loader(each, 64, ["id"], seed=1).split(0.3).test.arrays()["x"][:, 0])
        for each in (frame, joined)
    ]
    assert np.array_equal(ids[0], ids[1])


def test_vectors_of_several_files_are_valid_together(tmp_path: Path) -> None:
    expected, parts = {}, []
    for factor, name in enumerate(("v", "b_v", "a_v", "a_b_v"), 1):
        lengths = (np.arange(300) * factor + 1) % 5
        expected[name] = ak.unflatten(np.repeat(np.arange(300) * factor, lengths).astype("f4"), lengths)
        with uproot.recreate(tmp_path / f"{name}.root") as out:
            out.mktree("events", {"v": "var * float32"}).extend({"v": expected[name]})
        parts.append(rf.open(f"{tmp_path}/{name}.root:events").select(["v"]))
    first, second, third, fourth = parts
    both = first.join(second, prefix="b_")
    nested = both.join(third.join(fourth, prefix="b_"), prefix="a_")
    in_a_row = both.join(third, prefix="a_").join(fourth, prefix="a_b_")
    for joined in (nested, in_a_row):
        found = joined.arrays(list(expected))
        for name, values_of in expected.items():
            assert found[name].tolist() == values_of.tolist(), name
        loader = rf.Loader(joined, 300, {name: rf.padded([name], length=5) for name in expected})
        (x,) = loader
        for name, values_of in expected.items():
            assert sorted(x[name][x[f"{name}_mask"]].ravel().tolist()) == sorted(ak.flatten(values_of))


def test_a_state_knows_what_lay_beside(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame, other = frames

    def loader(beside: rf.Frame) -> rf.Loader:
        return rf.Loader(frame.join(beside), 64, ["id", "score"], seed=1)

    first = loader(other.select(["score"]))
    batches = iter(first)
    next(batches)
    state = json.loads(json.dumps(first.state_dict()))
    rest = [x.tolist() for x in batches]
    again = loader(other.select(["score"]))
    again.load_state_dict(state)
    assert [x.tolist() for x in again] == rest
    paths = [{path: "events"} for path in frame.files]
    tables = rf.open({path: name for each in paths for path, name in each.items()})
    tables = tables.select(["half"])
    changed = rf.Loader(frame.join(tables, prefix="score_"), 64, ["id", "score_half"], seed=1)
    with pytest.raises(StateError, match="files"):
        changed.load_state_dict(state)


def test_arrays_lie_beside_a_file(tmp_path: Path) -> None:
    write_columns(tmp_path / "data.root", {"id": np.arange(100)}, 10, "TTree")
    table = rf.from_arrays({"score": scores(np.arange(100)), "name": ak.Array(["a", "b"] * 50)})
    joined = rf.open(tmp_path / "data.root").join(table).join(table.select(["score"]), prefix="again_")
    found = joined.filter("name == 'b'").arrays(["id", "score", "again_score", "name"])
    assert np.array_equal(found["id"], np.arange(1, 100, 2))
    assert np.array_equal(found["score"], scores(np.arange(1, 100, 2)))
    assert np.array_equal(found["again_score"], found["score"])
    twin = pickle.loads(pickle.dumps(joined))
    assert np.array_equal(twin.arrays(["again_score"])["again_score"], scores(np.arange(100)))


def test_mistakes_are_told(frames: tuple[rf.Frame, rf.Frame], tmp_path: Path) -> None:
    frame, other = frames
    with pytest.raises(ArgumentError, match=r"both frames have a column 'half'\. Give the names"):
        frame.join(other)
    with pytest.raises(ArgumentError, match="join it as it was opened"):
        frame.join(other.filter("score > 0"), prefix="net_")
    with pytest.raises(ArgumentError, match=r"and 2 more files have 727 entries and .* 726: they.*on="):
        frame.join(rf.from_arrays({"score": np.zeros(ENTRIES - 1)}))
    with pytest.raises(ArgumentError, match=r"join takes a frame, got 'scores\.root'"):
        frame.join("scores.root")  # type: ignore[arg-type]
    short = rf.from_arrays({"score": np.zeros(9)})
    write_columns(tmp_path / "data.root", {"id": np.arange(10)}, 10, "TTree")
    with pytest.raises(ArgumentError, match="have 10 entries and arrays in memory 9: they cannot be"):
        rf.open(tmp_path / "data.root").join(short)


# --- files that end elsewhere --------------------------------------------------------------------


def beside_elsewhere(folder: Path, suffix: str, lengths: list[int]) -> rf.Frame:
    """Return a frame of the same entries, whose files end after others."""
    ends = np.cumsum([0, *lengths])
    paths = []
    for number, (start, stop) in enumerate(pairwise(ends)):
        ids = IDS[start:stop]
        columns = {
            "score": scores(ids),
            "v": ak.unflatten(np.repeat(ids, ids % 4).astype("f4"), ids % 4),
            "name": ak.Array([str(each) for each in ids]) if len(ids) else ak.Array([""])[:0],
            "m": np.stack([ids, -ids], 1).astype("i2"),
        }
        paths.append(folder / f"{number}{suffix}")
        if suffix == ".root" and len(ids):
            rf.from_arrays(columns).save(paths[-1])
        else:
            pytest.importorskip("pyarrow")
            rf.from_arrays(columns).save(paths[-1])
    return rf.open(paths).select(["score", "v", "name", "m"])


@pytest.mark.parametrize("suffix", [".root", ".parquet"])
@pytest.mark.parametrize("lengths", [[727], [1, 399, 327], [400, 176, 151], [100] * 7 + [27]])
def test_files_that_end_elsewhere(
    frames: tuple[rf.Frame, rf.Frame], suffix: str, lengths: list[int], tmp_path: Path
) -> None:
    frame, other = frames[0], beside_elsewhere(tmp_path, suffix, lengths)
    for joined in (frame.join(other), pickle.loads(pickle.dumps(frame.join(other)))):
        found = joined.arrays(["id", "score", "v", "name", "m"])
        assert np.array_equal(found["id"], IDS)
        assert np.array_equal(found["score"], scores(IDS))
        assert ak.to_list(found["v"]) == [[each] * (each % 4) for each in IDS]
        assert ak.to_list(found["name"]) == [str(each) for each in IDS]
        assert np.array_equal(ak.to_numpy(found["m"]), np.stack([IDS, -IDS], 1))
    features = {"event": ["id", "score"], "v": rf.padded(["v"], 3), "m": rf.array("m")}
    for options in ({}, {"chunk_entries": 200, "block_entries": 23}):
        loader = rf.Loader(joined.filter("score > -0.5"), 32, features, seed=3, **options)
        every = list(loader)
        ids = np.concatenate([x["event"][:, 0] for x in every]).astype(int)
        assert np.array_equal(np.sort(ids), IDS[scores(IDS) > -0.5])
        assert np.array_equal(np.concatenate([x["event"][:, 1] for x in every]), scores(ids))
        assert np.array_equal(np.concatenate([x["v_mask"] for x in every]).sum(1), ids % 4)
        assert np.array_equal(np.concatenate([x["m"] for x in every])[:, 0], ids)
    split = [
        rf.Loader(each, 64, ["id"], seed=1).split(0.3).test.arrays()["x"] for each in (frame, joined)
    ]
    assert np.array_equal(np.sort(split[0], 0), np.sort(split[1], 0))


def test_entries_of_any_files_lie_beside(tmp_path: Path) -> None:
    """Also of files without entries, of arrays, and of files that lie beside others themselves."""
    for number, (start, stop) in enumerate(((0, 5), (5, 5), (5, 8), (8, 20))):
        rf.from_arrays({"x": np.arange(start, stop)}).save(tmp_path / f"{number}.root")
    frame = rf.open(f"{tmp_path}/*.root")
    ids = np.arange(20)
    table = rf.from_arrays({"y": ids * 2, "v": ak.unflatten(np.repeat(ids, 2), 2)})
    joined = frame.join(table)
    again = table.join(joined, prefix="other_")
    got = again.arrays(["y", "other_x", "other_y", "other_v"])
    assert np.array_equal(got["other_x"], ids)
    assert np.array_equal(got["other_y"], got["y"])
    assert ak.to_list(got["other_v"]) == [[each, each] for each in ids]


def test_columns_of_other_types_beside_one_file(tmp_path: Path) -> None:
    rf.from_arrays({"x": np.arange(5)}).save(tmp_path / "0.root")
    rf.from_arrays({"x": np.arange(5.0)}).save(tmp_path / "1.root")
    other = rf.open([tmp_path / "0.root", tmp_path / "1.root"])
    joined = rf.from_arrays({"y": np.arange(10)}).join(other)
    assert joined.arrays("y")["y"].tolist() == list(range(10))
    with pytest.raises(UnsupportedColumnError, match=r"'x' is int64 in .* and float64 in .*, which lie"):
        joined.arrays("x")


# --- by keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [("i8", "i8"), ("i4", "u8"), ("u8", "i8"), ("u2", "i4")])
def test_rows_are_found_by_their_keys(frames: tuple[rf.Frame, rf.Frame], dtypes: Any) -> None:
    frame, random = frames[0].define("run", "id % 7"), np.random.default_rng(1)
    assert frame.num_entries == ENTRIES
    rows = random.permutation(ENTRIES)
    lengths = rows % 4
    table = rf.from_arrays(
        {
            "id": rows.astype(dtypes[0]),
            "label": (rows // 3 % 7).astype(dtypes[1]),
            "score": scores(rows),
            "v": ak.unflatten(np.repeat(rows, lengths), lengths),
            "name": ak.Array([str(each) for each in rows]),
        }
    )
    for on in ("id", ["label", "id"]):
        joined = frame.join(table, on=on, prefix="other_")
        found = joined.arrays(["id", "other_score", "other_v", "other_name"])
        assert np.array_equal(found["other_score"], scores(IDS))
        assert ak.to_list(found["other_v"]) == [[each] * (each % 4) for each in IDS]
        assert ak.to_list(found["other_name"]) == [str(each) for each in IDS]


def test_entries_without_a_match(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame = frames[0]
    rows = np.flatnonzero(IDS % 5 != 2)
    table = rf.from_arrays({"id": rows, "score": scores(rows), "odd": rows % 2}).filter("odd == 1")
    rows = rows[rows % 2 == 1]
    with pytest.raises(ArgumentError, match=r"436 of 727 entries have no match.*with id = 0\. missing="):
        frame.join(table, on="id")
    joined = frame.filter("id > 100").join(table, on="id", missing="drop")
    left = rows[rows > 100]
    assert np.array_equal(joined.arrays(["id", "score"])["score"], scores(left))
    assert joined.count() == len(left)
    [first, second] = joined.report()
    assert (first.label, second.label) == ("id > 100", "a match in id")
    assert (second.entries, second.passed) == (626, len(left))
    assert list(joined.columns) == [*frame.columns, "score", "odd"]
    parts = rf.Loader(joined, 32, ["id"], "score", seed=1, dtype="i8").split(0.25)
    every = np.concatenate([part.arrays()["x"][:, 0] for part in parts])
    assert np.array_equal(np.sort(every), left)


def test_entries_without_a_match_get_values(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame = frames[0]
    rows = np.flatnonzero(IDS % 5 != 2)
    columns = {
        "id": rows,
        "score": scores(rows),
        "kind_": (rows % 7).astype("u2"),
        "even": rows % 2 == 0,
        "vec": ak.unflatten(np.repeat(rows, rows % 3).astype("f4"), rows % 3),
        "mat": np.stack([rows, -rows], 1).astype("i4"),
        "word": ak.Array([str(each) for each in rows]),
    }
    table = rf.from_arrays(columns)
    given = {"score": float("nan"), "kind_": 65535, "even": True, "vec": 0, "mat": -1, "word": "none"}
    found = frame.join(table, on="id", missing=given)
    assert found.count() == ENTRIES
    assert {name: found.columns[name].dtype for name in given} == {
        name: table.columns[name].dtype for name in given
    }
    got = found.arrays(["id", *given])
    is_there = IDS % 5 != 2
    np.testing.assert_array_equal(got["score"], np.where(is_there, scores(IDS), np.float32("nan")))
    assert np.array_equal(got["kind_"], np.where(is_there, IDS % 7, 65535))
    assert np.array_equal(got["even"], np.where(is_there, IDS % 2 == 0, True))
    assert ak.to_list(got["vec"]) == [[each] * (each % 3) if each % 5 != 2 else [] for each in IDS]
    expected = np.where(is_there[:, None], np.stack([IDS, -IDS], 1), -1)
    assert np.array_equal(ak.to_numpy(got["mat"]), expected)
    assert ak.to_list(got["word"]) == [str(each) if each % 5 != 2 else "none" for each in IDS]
    numbers = table.select(["id", "score", "kind_"])
    assert frame.join(numbers, on="id", missing=0).arrays("kind_")["kind_"][2] == 0
    nothing = frame.join(numbers.filter("id < 0"), on="id", missing=7).arrays(["score", "kind_"])
    assert set(nothing["score"].tolist()) == set(nothing["kind_"].tolist()) == {7}
    for wrong, message in (
        (65536, "'kind_' is uint16, which cannot hold"),
        (float("nan"), "'kind_' is uint16, which cannot hold"),
        ({"score": 0}, "missing has no value for the column 'kind_'"),
        (None, "missing must be"),
        ("keep", "missing must be"),
    ):
        with pytest.raises(ArgumentError, match=message):
            frame.join(numbers, on="id", missing=wrong)
    with pytest.raises(MissingColumnError, match="'scor'"):
        frame.join(numbers, on="id", missing={"scor": 0})


def test_keys_that_cannot_be_meant(frames: tuple[rf.Frame, rf.Frame]) -> None:
    frame = frames[0]
    table = rf.from_arrays({"id": np.array([1, 2, 2]), "half": np.zeros(3), "z": np.zeros(3)})
    with pytest.raises(ArgumentError, match=r"1 rows of the other frame have the same id .* id = 2"):
        frame.join(table.select(["id", "z"]), on="id", missing="drop")
    with pytest.raises(ArgumentError, match=r"column 'half' \(float32\) holds no integers"):
        frame.join(table.select(["half", "z"]), on="half")
    with pytest.raises(ArgumentError, match="have no column 'event_number' to join by"):
        frame.join(table.select(["z"]), on="event_number")
    # Rows would be found by what is stored, and lie beside keys that say otherwise.
    with pytest.raises(ArgumentError, match=r"column 'id' is defined in the frame.*Join first"):
        frame.redefine("id", "id + 1").join(table.select(["id", "z"]), on="id", missing="drop")
    with pytest.raises(ArgumentError, match="no row that could be joined"):
        frame.join(table.select(["id", "z"]).filter("z > 0"), on="id", missing="drop")
    large = rf.from_arrays({"event": np.array([2**53 + 1, 2**53 + 2], "u8"), "z": np.array([1, 2])})
    found = frame.join(large, on="event", missing="drop").arrays(["id", "z"])
    assert (found["id"].tolist(), found["z"].tolist()) == ([0, 1], [1, 2])


# --- friends -----------------------------------------------------------------------------------------

linux = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")


@pytest.fixture(scope="module")
def befriended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with friends in two files, one of them by another name, written by ROOT."""
    import ROOT

    folder = tmp_path_factory.mktemp("befriended")
    for tree, name, factor in (("events", "main", 1), ("extra", "other", 10)):
        frame = ROOT.RDataFrame(50).Define("x", f"int(rdfentry_ * {factor})")
        column = "y" if tree == "extra" else "run"
        frame.Define(column, f"float(rdfentry_ + {factor})").Snapshot(tree, f"{folder}/{name}.root")
    file = ROOT.TFile(f"{folder}/main.root", "UPDATE")
    tree = file.Get("events")
    tree.AddFriend("extra", f"{folder}/other.root")
    tree.AddFriend("second=extra", f"{folder}/other.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    return folder


@linux
def test_friends_are_joined_as_in_root(befriended: Path) -> None:
    import ROOT

    path = f"{befriended}/main.root"
    frame = rf.open(f"{path}:events", friends=True)
    theirs = ROOT.RDataFrame("events", path)
    names = [str(name) for name in theirs.GetColumnNames()]
    assert sorted(frame.columns) == sorted(names)
    ours = rootfeed.root.RDataFrame("events", path)
    assert sorted(map(str, ours.GetColumnNames())) == sorted(names)
    every = [*names, "y"]  # which has no other column beside it of that name
    expected = theirs.AsNumpy(every)
    for found in (frame.arrays(every), ours.AsNumpy(every)):
        for name in every:
            assert np.array_equal(found[name], expected[name]), name
    expression = "extra.x + second.y - x + y"
    expected = theirs.Define("z", expression).Filter("extra.x > 100").AsNumpy(["z"])["z"]
    assert np.array_equal(
        frame.define("z", expression).filter("extra.x > 100").arrays(["z"])["z"], expected
    )
    loader = rf.Loader(frame, 10, ["x", "y", "second.x"], "extra.y", seed=1)
    x, y = (np.concatenate(each) for each in zip(*loader, strict=True))
    assert np.array_equal(x[:, 1], y[:, 0])
    assert np.array_equal(x[:, 2], 10 * x[:, 0])


@linux
def test_a_name_belongs_to_the_tree_and_then_to_its_first_friend(tmp_path: Path) -> None:
    import ROOT

    write_columns(tmp_path / "main.root", {"x": np.arange(50), "own.x": -np.arange(50)}, 50, "TTree")
    for name, factor in (("first", 10), ("second", 100)):
        columns = {"x": np.arange(50) * factor, name: np.arange(50)}
        write_columns(tmp_path / f"{name}.root", columns, 50, "TTree")
    path = f"{tmp_path}/main.root"
    file = ROOT.TFile(path, "UPDATE")
    tree = file.Get("events")
    for name in ("first", "second"):
        tree.AddFriend("same=events", f"file://{tmp_path}/{name}.root")
    tree.AddFriend("own=events", f"{tmp_path}/second.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    every = ["x", "own.x", "same.x", "same.first", "first", "own.second"]
    expected = ROOT.RDataFrame("events", path).AsNumpy(every)
    found = rf.open(f"{path}:events", friends=True).arrays(every)
    for name in every:
        assert np.array_equal(found[name], expected[name]), name


@linux
def test_a_chain_that_was_a_friend_is_refused(tmp_path: Path) -> None:
    import ROOT

    for name, factor in (("main", 1), ("other", 10)):
        write_columns(tmp_path / f"{name}.root", {"x": np.arange(50) * factor}, 50, "TTree")
    chain = ROOT.TChain("events")
    chain.Add(f"{tmp_path}/other.root")
    file = ROOT.TFile(f"{tmp_path}/main.root", "UPDATE")
    tree = file.Get("events")
    tree.AddFriend(chain, "scores")  # of which ROOT writes the tree's name, and no file's
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    with pytest.raises(ArgumentError, match=r"names itself as its friend 'scores'.*and join them"):
        rf.open(f"{tmp_path}/main.root:events", friends=True)


@linux
def test_friends_are_found_beside_the_file(
    befriended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ROOT

    for name in ("main", "other"):
        (tmp_path / f"{name}.root").write_bytes((befriended / f"{name}.root").read_bytes())
    file = ROOT.TFile(f"{tmp_path}/main.root", "UPDATE")
    tree = file.Get("events")
    for friend in list(tree.GetListOfFriends()):
        tree.GetListOfFriends().Remove(friend)
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        tree.AddFriend("extra", "other.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    frame = rf.open(f"{tmp_path}/main.root:events", friends=True)
    assert np.array_equal(frame.arrays(["extra.x"])["extra.x"], 10 * np.arange(50))
    (tmp_path / "other.root").unlink()
    with pytest.raises(MissingFileError, match=r"other\.root.*It is the friend 'extra' of"):
        rf.open(f"{tmp_path}/main.root:events", friends=True)


@linux
def test_friends_with_an_index_are_refused(befriended: Path, tmp_path: Path) -> None:
    import ROOT

    for name in ("main", "other"):
        (tmp_path / f"{name}.root").write_bytes((befriended / f"{name}.root").read_bytes())
    file = ROOT.TFile(f"{tmp_path}/other.root", "UPDATE")
    tree = file.Get("extra")
    tree.BuildIndex("x")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    file = ROOT.TFile(f"{tmp_path}/main.root", "UPDATE")
    tree = file.Get("events")
    for friend in list(tree.GetListOfFriends()):
        tree.GetListOfFriends().Remove(friend)
    tree.AddFriend("extra", f"{tmp_path}/other.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    with pytest.raises(ArgumentError, match="has an index, by which ROOT finds its entries"):
        rf.open(f"{tmp_path}/main.root:events", friends=True)


@linux
def test_a_short_name_means_the_same_in_all_files(befriended: Path, tmp_path: Path) -> None:
    """One file has the column in a friend, the other has one of its own of that name, too."""
    import ROOT

    frame = ROOT.RDataFrame(50).Define("x", "1").Define("y", "-1.f").Define("run", "1.f")
    frame.Snapshot("events", f"{tmp_path}/second.root")
    file = ROOT.TFile(f"{tmp_path}/second.root", "UPDATE")
    tree = file.Get("events")
    tree.AddFriend("extra", f"{befriended}/other.root")
    tree.AddFriend("second=extra", f"{befriended}/other.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    frame = rf.open([f"{befriended}/main.root:events", f"{tmp_path}/second.root:events"], friends=True)
    with pytest.raises(MissingColumnError, match=r"'y'.*'extra\.y'"):
        frame.arrays(["y"])
    found = frame.arrays(["extra.y"])["extra.y"]
    assert np.array_equal(found, np.tile(np.arange(50) + 10, 2))


@linux
def test_a_friend_of_another_length_is_told_where_it_is_wanted(tmp_path: Path) -> None:
    import ROOT

    ROOT.RDataFrame(10).Define("x", "int(rdfentry_)").Snapshot("events", f"{tmp_path}/main.root")
    ROOT.RDataFrame(12).Define("y", "int(rdfentry_)").Snapshot("extra", f"{tmp_path}/other.root")
    file = ROOT.TFile(f"{tmp_path}/main.root", "UPDATE")
    tree = file.Get("events")
    tree.AddFriend("extra", f"{tmp_path}/other.root")
    tree.Write("", ROOT.TObject.kOverwrite)
    file.Close()
    frame = rootfeed.root.RDataFrame("events", f"{tmp_path}/main.root")
    assert frame.AsNumpy(["x"])["x"].tolist() == list(range(10))
    with pytest.raises(ArgumentError, match=r"has 10 entries and .* 12: they cannot be joined"):
        frame.AsNumpy(["x", "y"])


def test_options_are_shown_to_the_trees_own_server_alone() -> None:
    from rootfeed.sources.friends import _where
    from rootfeed.sources.objects import Friend
    from rootfeed.sources.paths import Location
    from rootfeed.sources.storage import Address

    secret = {"headers": {"Authorization": "Bearer secret"}}
    for url, kept in (
        ("https://own.example/other.root", True),
        ("other.root", True),
        ("https://evil.example/other.root", False),
        ("http://own.example/other.root", False),
        ("/local/other.root", False),
    ):
        address = Address(("https://own.example/data/main.root",), options=secret)
        found = _where(Location(address.name, "events", address), Friend("f", "extra", url))
        assert bool(found.address.options) == kept, url
