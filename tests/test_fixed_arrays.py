"""Arrays of fixed dimensions: flattened as vectors, and as inputs as they are."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed import sources
from rootfeed.errors import ArgumentError, RootfeedError, UnsupportedColumnError
from rootfeed.frame import view_of
from rootfiles.environment import load_root
from rootfiles.texts import FORMATS, write_texts

ENTRIES = 220
NUMBERS = np.arange(ENTRIES)
SHAPES = {"image": (2, 3), "line": (3,), "cube": (2, 1, 2)}
SIZES = {"in memory": {}, "streamed": {"chunk_entries": 40, "block_entries": 10}}


@pytest.fixture(scope="module", params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("arrays")
    return write_texts(folder / "t.root", request.param, [b"ab"[n % 2 :] for n in range(ENTRIES)])


@pytest.fixture
def frame(path: str) -> rf.Frame:
    return rf.open(path)


def written(name: str, ids: Any = NUMBERS) -> Any:
    """What an array holds in some entries."""
    shape = SHAPES[name]
    return (np.asarray(ids)[:, None] * np.prod(shape) + np.arange(np.prod(shape))).reshape(-1, *shape)


def arrays_in(frame: rf.Frame) -> dict[str, tuple[int, ...]]:
    shapes = {name: type_.shape for name, type_ in frame.columns.items() if type_.shape}
    assert SHAPES.items() <= shapes.items()
    return shapes


def test_all_arrays_are_as_uproot_reads_them(frame: rf.Frame, path: str) -> None:
    with uproot.open(path) as file:
        for name, shape in arrays_in(frame).items():
            found = frame.arrays(name)[name]
            assert np.asarray(found).shape == (ENTRIES, *shape)
            if "." in name:  # uproot loses the dimensions of leaves
                assert np.array_equal(np.asarray(found), np.arange(ENTRIES * 4).reshape(-1, 2, 2))
            elif name != "packed":
                assert found.to_list() == file["t"][name].array().to_list()
            if name in SHAPES:
                assert np.array_equal(np.asarray(found), written(name))


def test_the_leaves_of_a_list_are_read(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "t.root", "TTree", [b""] * ENTRIES)
    frame = rf.open(path)
    assert frame.columns["record.square"].shape == (2, 2)
    assert frame.arrays("record.number")["record.number"].tolist() == NUMBERS.tolist()
    assert frame.columns["packed"].shape == (2, 1, 2)
    assert np.array_equal(np.asarray(frame.arrays("packed")["packed"]), written("cube"))


def test_expressions_have_them_flattened(frame: rf.Frame) -> None:
    for name, shape in arrays_in(frame).items():
        values = np.asarray(frame.arrays(name)[name]).reshape(ENTRIES, -1)
        made = (
            frame.define("sum_", f"Sum({name})")
            .define("second", f"{name}[1]")
            .define("size_", f"len({name})")
            .define("twice", f"{name} * 2")
        )
        found = made.arrays(["sum_", "second", "size_", "twice"])
        assert np.array_equal(found["sum_"], values.sum(1))
        assert np.array_equal(found["second"], values[:, 1])
        assert (found["size_"] == np.prod(shape)).all()
        assert np.array_equal(np.asarray(found["twice"]), values * 2)
    assert frame.describe("image")["image"].count == ENTRIES * 6


def test_roots_words_have_them_flattened(path: str) -> None:
    root = load_root()
    name = "image"
    ours = ROOT.RDataFrame("t", path).Define("z", f"Sum({name})").AsNumpy([name, "z"])
    theirs = root.RDataFrame("t", path)
    if str(theirs.GetColumnType(name)).count("RVec") > 1:  # of an RNTuple, which ROOT cannot sum up
        assert np.array_equal(np.stack(ours[name]), written(name).reshape(ENTRIES, 6))
        return
    their = theirs.Define("z", f"Sum({name})").AsNumpy([name, "z"])
    assert np.array_equal(np.stack(ours[name]), np.stack([np.asarray(each) for each in their[name]]))
    assert np.array_equal(ours["z"], their["z"])


@pytest.mark.parametrize("torch", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_batches_have_their_shape(frame: rf.Frame, sizes: Any, torch: bool) -> None:
    features = {
        "image": rf.array("image"),
        "id": ["id"],
        "cubes": rf.array(["cube"]),
        "padded": rf.padded("image", 8, value=-1),
        "flat": ["id", rf.flat("image", 6)],
        "line": rf.array("line"),
        "lines": rf.array(["line"]),
        "ragged": rf.ragged("image"),
    }
    frame = frame.filter("id % 5 > 0")
    loader = rf.Loader(frame, 16, features, target="id", seed=3, **sizes)
    assert loader.features.count("image") == 3
    seen = []
    for x, y in loader.torch() if torch else loader:
        x = {name: np.asarray(each) for name, each in x.items()}
        ids = x["id"][:, 0].astype(int)
        assert not any(f"{name}_mask" in x for name in ("image", "line", "cubes"))
        assert np.array_equal(x["image"], written("image", ids))
        assert x["image"].flags.c_contiguous
        assert np.array_equal(x["line"], written("line", ids))
        assert np.array_equal(x["lines"], written("line", ids)[..., None])
        assert np.array_equal(x["cubes"], written("cube", ids)[..., None])
        assert np.array_equal(x["padded"][:, :6, 0], written("image", ids).reshape(-1, 6))
        assert (x["padded"][:, 6:] == -1).all()
        assert np.array_equal(x["padded_mask"], np.broadcast_to(np.arange(8) < 6, (len(ids), 8)))
        assert np.array_equal(x["flat"][:, 1:], written("image", ids).reshape(-1, 6))
        assert np.array_equal(x["ragged"][:, 0], written("image", ids).reshape(-1))
        assert np.array_equal(np.asarray(y)[:, 0], ids)
        seen += ids.tolist()
    assert sorted(seen) == [n for n in range(ENTRIES) if n % 5]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from(["f4", "f8", "i2", "u8", "?"]),
    st.sampled_from(["f4", "f8", "f2"]),
)
def test_arrays_of_any_shape(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], columns: int, stored: str, wanted: str
) -> None:
    path = str(tmp_path_factory.mktemp("shapes") / "a.root")
    random = np.random.default_rng(len(shape))
    names = [f"a{number}" for number in range(columns)]
    data = {name: random.integers(0, 2, (23, *shape)).astype(stored) for name in names}
    with uproot.recreate(path) as file:
        file.mktree("t", {name: (stored, tuple(shape)) for name in names})
        file["t"].extend(data)
    frame = rf.open(path)
    assert frame.columns["a0"].shape == tuple(shape)
    alone = rf.Loader(frame, 5, rf.array("a0"), shuffle=False, dtype=wanted)
    assert np.array_equal(np.concatenate(list(alone)), data["a0"].astype(wanted))
    stacked = rf.Loader(frame, 5, {"x": rf.array(names)}, shuffle=False, dtype=wanted)
    found = np.concatenate([x["x"] for x in stacked])
    assert np.array_equal(found, np.stack([data[name] for name in names], -1).astype(wanted))
    assert np.array_equal(np.asarray(frame.arrays("a0")["a0"]), data["a0"])


@pytest.mark.parametrize("lengths", [(3, 4), (3, 2, 4), (2, 2)])
def test_files_of_several_lengths_are_vectors(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    paths = [write(tmp_path / f"{n}.root", (length,)) for n, length in enumerate(lengths)]
    frame = rf.open(paths)
    expected = [row for path in paths for row in rf.open(path).arrays("a")["a"].to_list()]
    for made in (frame, frame.alias("b", "a")):
        for name, found in made.arrays([name for name in made.columns if name in "ab"]).items():
            assert found.to_list() == expected
            by_root = ROOT.RDataFrame("t", paths)
            if name == "b":
                by_root = by_root.Alias("b", "a")
            assert [row.tolist() for row in by_root.AsNumpy([name])[name]] == expected


def test_another_name_leaves_an_array_its_shape(frame: rf.Frame) -> None:
    cut = frame.alias("first", "image").alias("second", "first").filter("id % 3 == 1")
    for name in ("first", "second"):
        assert cut.columns[name] == frame.columns["image"]
        assert np.array_equal(np.asarray(cut.arrays(name)[name]), written("image", NUMBERS[1::3]))
        for sizes in SIZES.values():
            loader = rf.Loader(cut, 16, rf.array([name, "image"]), target="id", shuffle=False, **sizes)
            x = np.concatenate([x for x, _ in loader])
            assert np.array_equal(x[..., 0], written("image", NUMBERS[1::3]))
            assert np.array_equal(x[..., 0], x[..., 1])
    assert not frame.define("made", "image * 1").columns["made"].shape


def test_arrays_survive_states_and_splits(frame: rf.Frame) -> None:
    def loader() -> rf.Loader:
        return rf.Loader(frame, 10, {"image": rf.array("image"), "id": "id"}, seed=2)

    first = loader()
    expected = [x["image"] for x in first]
    again = loader()
    list(itertools.islice(again, 4))
    third = loader()
    third.load_state_dict(again.state_dict())
    assert all(map(np.array_equal, [x["image"] for x in third], expected[4:]))
    other = rf.Loader(frame, 10, {"image": rf.padded("image", 6), "id": "id"}, seed=2)
    with pytest.raises(RootfeedError, match="columns"):
        other.load_state_dict(again.state_dict())
    train, test = first.split(0.3)
    assert all(np.array_equal(x["image"], written("image", x["id"][:, 0])) for x in [*train, *test])


def write(path: Path, shape: tuple[int, ...], name: str = "a") -> str:
    with uproot.recreate(path) as file:
        file.mktree("t", {name: ("f4", shape), "n": "i4"})
        file["t"].extend({name: np.zeros((5, *shape), "f4"), "n": np.zeros(5, "i4")})
    return str(path)


@pytest.mark.parametrize(
    "use",
    [
        lambda frame: rf.Loader(frame, 5, rf.array("a")),
        lambda frame: rf.Loader(frame, 5, {"a": rf.padded("a", 6)}),
        lambda frame: rf.Loader(frame, 5, [rf.flat("a", 6)]),
        lambda frame: frame.define("s", "Sum(a)").arrays("s"),
        lambda frame: frame.filter("Sum(a) > 0").count(),
        lambda frame: frame.arrays("a"),
        lambda frame: frame.describe("a"),
    ],
)
@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((6,), (2, 3)), ((2, 3), (2, 3, 1))])
def test_files_of_different_shapes(tmp_path: Path, shapes: Any, use: Any) -> None:
    paths = [write(tmp_path / f"{number}.root", shape) for number, shape in enumerate(shapes)]
    frame = rf.open(paths)
    for _ in range(2):
        with pytest.raises(UnsupportedColumnError, match="has the shape") as caught:
            use(frame)
        for what in (*paths, *map(str, shapes)):
            assert what in str(caught.value)
    assert frame.arrays("n")["n"].shape == (10,)


def test_vectors_may_differ_in_length_but_not_as_arrays(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.root", (number + 2,)) for number in range(2)]
    frame = rf.open(paths)
    assert frame.define("s", "len(a)").arrays("s")["s"].tolist() == [2] * 5 + [3] * 5
    for frames in (frame, [rf.open(path) for path in paths]):
        with pytest.raises(
            UnsupportedColumnError, match=r"arrays of one shape.*or use rootfeed\.padded"
        ):
            rf.Loader(frames, 5, rf.array("a"))
        padded = rf.Loader(frames, 10, {"a": rf.padded("a", 3)}, shuffle=False)
        assert next(iter(padded))["a_mask"].sum() == 25


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (lambda: rf.array("id"), UnsupportedColumnError, "holds one number per entry"),
        (lambda: rf.array("twice"), UnsupportedColumnError, "differs in length"),
        (lambda: rf.array("s"), UnsupportedColumnError, "holds text"),
        (lambda: rf.array(["image", "line"]), ArgumentError, "have the shapes (2, 3) and (3,)"),
        (lambda: rf.array(["image", "image"]), ArgumentError, "more than once"),
        (lambda: rf.array([]), ArgumentError, "takes names"),
        (lambda: rf.array(3), ArgumentError, "takes names"),
        (lambda: ["id", rf.array("image")], ArgumentError, "use rootfeed.flat('image'"),
    ],
)
def test_arrays_that_are_none(frame: rf.Frame, features: Any, error: Any, message: str) -> None:
    made = frame.define("twice", "image * 2")
    with pytest.raises(error, match=re.escape(message)):
        rf.Loader(made, 5, features())


def test_arrays_of_varying_number_are_refused_or_whole(frame: rf.Frame, path: str) -> None:
    assert frame.columns["counted"].dtype is None
    with uproot.open(path) as file:
        assert frame.arrays("counted")["counted"].to_list() == file["t"]["counted"].array().to_list()
    for use in (
        lambda: frame.define("z", "Sum(counted)"),
        lambda: rf.Loader(frame, 5, {"c": rf.padded("counted", 3)}),
        lambda: rf.Loader(frame, 5, rf.array("counted")),
        lambda: rf.Loader(frame, 5, ["counted"]),
    ):
        with pytest.raises(RootfeedError, match="'counted'"):
            use()


def test_arrays_of_no_entries(frame: rf.Frame) -> None:
    found = frame.filter("id < 0").arrays(["image", "line"])
    assert np.asarray(found["image"]).shape == (0, 2, 3)
    assert str(ak.type(found["line"])) == "0 * 3 * float32"


def test_uproot_gives_the_same(frame: rf.Frame) -> None:
    index = view_of(frame).index(["image", "line"])[0]
    plain = {
        name: replace(each, pages=None, offsets=None, length=0) for name, each in index.columns.items()
    }
    for name in plain:
        for start, stop in ((0, ENTRIES), (9, 130), (9, 9)):
            scratch = sources.Scratch()
            read = sources.read(
                replace(index, columns=plain), [name], start, stop, np.empty, scratch, Event()
            )
            [(_, found)] = read
            assert np.array_equal(found.values, written(name)[start:stop].reshape(-1))
            assert len(found) == stop - start
            scratch.close()
