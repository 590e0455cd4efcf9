"""ROOT's loader and namespaces in `rootfeed.root`, where there is nothing to compare them with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.dataset import Batching
from rootfeed.errors import (
    ArgumentError,
    EmptyDatasetError,
    MissingFileError,
    MissingNameError,
    PrecisionWarning,
    RootfeedError,
)
from rootfeed.root.resampling import Resampled
from rootfeed.schema import ColumnType
from rootfeed.sources.rootwriting import write as write_file
from rootfiles.environment import load_root
from samples import File, epoch_ids, write, write_columns

RDataLoader = ROOT.RDataLoader
beside_root = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")
CREATE = ["CreateNumPyGenerators", "CreatePyTorchGenerators", "CreateTFDatasets"]


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("loader")
    return write(folder / "events.root", File(2000, page=130), ["id", "half", "label", "weight"])


@pytest.fixture
def frame(path: str) -> ROOT.RDataFrame:
    return ROOT.RDataFrame("events", path)


# --- names ----------------------------------------------------------------------------------------


def test_names_stand_where_root_has_them() -> None:
    assert ROOT.Experimental.ML.RDataLoader is ROOT.RDataLoader
    for name in CREATE:
        function = getattr(ROOT, name)
        assert getattr(ROOT.TMVA.Experimental, name) is function
        assert getattr(ROOT.Experimental.ML, name) is function
        assert function.__name__ == name


@beside_root
def test_what_changes_nothing_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ROOT, "gErrorIgnoreLevel", ROOT.kWarning)
    ROOT.EnableImplicitMT()
    ROOT.EnableImplicitMT(4)
    ROOT.DisableImplicitMT()
    ROOT.EnableThreadSafety()
    ROOT.gROOT.SetBatch(True)
    assert ROOT.gROOT.IsBatch()
    real = load_root()
    for name in ("kUnset", "kPrint", "kInfo", "kWarning", "kError", "kBreak", "kSysError", "kFatal"):
        assert getattr(ROOT, name) == getattr(real, name)
    assert ROOT.gROOT.GetTutorialDir() == str(real.gROOT.GetTutorialDir())
    assert ROOT.gROOT.GetTutorialDir().Data() == real.gROOT.GetTutorialDir().Data()


def test_tutorials_of_another_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tutorials").mkdir()
    monkeypatch.setenv("ROOTSYS", str(tmp_path))
    assert ROOT.gROOT.GetTutorialDir() == str(tmp_path / "tutorials")
    monkeypatch.delenv("ROOTSYS")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingFileError, match=r"no ROOT is installed .* set ROOTSYS"):
        ROOT.gROOT.GetTutorialDir()


@pytest.mark.parametrize(
    ("where", "name", "use"),
    [
        (ROOT, "TFile", "In its place: uproot opens files"),
        (ROOT, "gInterpreter", "Define and Filter take expressions and Python functions"),
        (ROOT, "TGraph", "no more of ROOT. For all of ROOT, write: import ROOT."),
        (ROOT.TMVA.Experimental, "RBDT", "ROOT.TMVA.Experimental.RBDT is not in rootfeed.root"),
        (ROOT.Experimental, "RNTuple", "ROOT.Experimental.RNTuple is not in rootfeed.root"),
    ],
)
def test_names_that_are_not_here(where: Any, name: str, use: str) -> None:
    with pytest.raises(MissingNameError) as caught:
        getattr(where, name)
    assert use in str(caught.value)
    assert not hasattr(where, name)
    assert not hasattr(where, "__wrapped__")


# --- columns --------------------------------------------------------------------------------------


@beside_root
def test_columns_as_root_itself_gives_them(path: str, frame: ROOT.RDataFrame) -> None:
    real = load_root()
    names = real.RDataFrame("events", path).GetColumnNames()
    text = real.std.string
    for columns in (names, [text(str(name)) for name in names]):
        loader = RDataLoader(frame, columns=columns, target=text("label"), weights=text("weight"))
        assert loader.columns == ["half", "id", "label", "weight"]
        assert loader.feature_columns == ["half", "id"]
        assert (loader.target_columns, loader.weights_column) == (["label"], "weight")
        assert {type(name) for name in loader.columns} == {str}
    assert frame.AsNumpy(names)["id"].shape == (2000,)


def test_elements_of_vectors_that_are_no_columns(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "vectors.root") as file:
        tree = file.mktree("events", {"id": "int32", "v": np.dtype("(3,)i4")})
        tree.extend({"id": np.arange(9, dtype="i4"), "v": np.arange(27, dtype="i4").reshape(9, 3)})
    frame = ROOT.RDataFrame("events", tmp_path / "vectors.root")
    options: dict[str, Any] = {"shuffle": False, "drop_remainder": False, "max_vec_sizes": {"v": 3}}
    loader = RDataLoader(frame, columns=["id"], target=["v_2"], weights="v_0", **options)
    x, y, w = next(iter(loader.as_numpy()))
    assert x[:, 0].tolist() == list(range(9))
    assert y[:, 0].tolist() == list(range(2, 27, 3))
    assert w[:, 0].tolist() == list(range(0, 27, 3))
    assert loader.columns == ["id", "v_2", "v_0"]
    whole = RDataLoader(frame, target="v", **options)
    assert whole.train_columns == ["id"]
    assert next(iter(whole.as_numpy()))[1].tolist() == np.arange(27).reshape(9, 3).tolist()
    with pytest.raises(ArgumentError, match=r"target='v_3' is no column\. Did you mean 'v_2'"):
        RDataLoader(frame, columns=["id"], target="v_3", **options)
    with pytest.raises(ArgumentError, match="'v' holds vectors, which are no weights"):
        RDataLoader(frame, target="id", weights="v", **options)


# --- sides ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("load_eager", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_sides_of_frames_with_cuts_have_exact_sizes(
    frame: ROOT.RDataFrame, shuffle: bool, load_eager: bool
) -> None:
    some = frame.Filter("id % 3 == 0").Filter("label != 1")
    rows = some.Count().GetValue()
    options = {"columns": ["id"], "drop_remainder": False}
    loader = RDataLoader(some, shuffle=shuffle, load_eager=load_eager, **options)
    rest, test = loader.train_test_split(0.25)
    train, validation = rest.train_test_split(0.4)
    found = [epoch_ids(side.as_numpy()).tolist() for side in (train, validation, test)]
    assert sorted(found[0] + found[1] + found[2]) == some.AsNumpy(["id"])["id"].tolist()
    assert len(found[2]) == rows // 4 + (shuffle and not load_eager and rows % 4 > 0)
    # The same again, and another division for another seed.
    again, _ = loader.train_test_split(0.25)
    assert set(epoch_ids(again.as_numpy())) == set(found[0] + found[1])


def test_sides_that_are_too_small_are_errors_only_when_used(frame: ROOT.RDataFrame) -> None:
    loader = RDataLoader(frame, 1000, columns=["id"])
    train, test = loader.train_test_split(0.1)
    assert train.num_batches == 1
    assert test.last_batch_no_of_rows == 200
    with pytest.raises(ArgumentError, match="drop_remainder=False"):
        test.as_numpy()
    with pytest.raises(EmptyDatasetError, match="leaves a part empty: test"):
        RDataLoader(frame, 1000, columns=["id"], shuffle=False).train_test_split(1e-4)


@pytest.mark.parametrize("test_size", [True, float("nan"), 0, 1])
def test_sizes_that_are_none(frame: ROOT.RDataFrame, test_size: Any) -> None:
    with pytest.raises(ArgumentError, match=r"test_size must be in \(0.0, 1.0\)"):
        RDataLoader(frame).train_test_split(test_size)


def test_what_is_asked_of_batches(frame: ROOT.RDataFrame) -> None:
    for options, text in (
        ({"batches_in_memory": 0}, "batches_in_memory must be positive"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"sampling_type": "both"}, 'sampling_type must be "", "undersampling" or "oversampling"'),
        ({"sampling_type": "oversampling"}, "oversampling takes two frames, got 1"),
    ):
        with pytest.raises(ArgumentError, match=text):
            RDataLoader(frame, **options)
    with pytest.raises(
        ArgumentError, match=r"RDataFrame objects of rootfeed\.root, or of ROOT, got <Frame"
    ):
        RDataLoader(frame.frame)
    with pytest.raises(
        ArgumentError, match=r"RDataFrame objects of rootfeed\.root, or of ROOT, got \[\]"
    ):
        RDataLoader([])
    assert repr(RDataLoader(frame, set_seed=3)).startswith("<RDataLoader over <Loader 2000 rows")


def test_frameworks_that_are_missing_are_named(frame: ROOT.RDataFrame) -> None:
    loader = RDataLoader(frame, columns=["id", "label"], target="label")
    for name, make in (("tensorflow", loader.as_tensorflow), ("jax", loader.as_jax)):
        if hasattr(rf.Loader, name):
            try:
                __import__(name)
            except ImportError:
                with pytest.raises(ArgumentError, match=name):
                    make()


# --- resampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("kind", ["undersampling", "oversampling"])
def test_quotas_of_ranks(kind: Any, shuffle: bool, drop_last: bool, world_size: int) -> None:
    sampler = Resampled(kind, 0.4, 0, shuffle, False, ())
    there = np.array([1000, 123] if kind == "undersampling" else [123, 1000])
    asked = Batching((0, 1), 20, world_size, drop_last=drop_last)
    quotas = sampler.quotas(there, asked)
    drawn = int(123 / 0.4) if kind == "undersampling" else 400
    each = np.array([drawn // world_size, there[1] // world_size])
    sizes = quotas.sum(1)
    assert (sizes[:-1] == 20).all()
    assert (sizes[-1] == 20) if drop_last else (quotas.sum(0) == each).all()
    if shuffle:
        assert abs(quotas[:-1] - 20 * each / each.sum()).max() <= 1
    else:
        assert (quotas[: each[0] // 20, 0] == 20).all()
    # What is left of an epoch has the same shares.
    due = there - quotas[:3].sum(0) * world_size
    left = sampler.quotas(due, Batching((0, 1), 20, world_size, left=len(quotas) - 3))
    assert len(left) == len(quotas) - 3
    assert abs(left.sum(0) - quotas[3:].sum(0)).max() <= 20


@pytest.mark.parametrize("memory", ["eager", "lazy"])
def test_resampled_epochs_use_rows_evenly(tmp_path: Path, memory: str) -> None:
    frames = []
    for name, ids in (("large", np.arange(3000)), ("small", np.arange(5000, 5400))):
        file = write_columns(tmp_path / f"{name}.root", {"id": ids}, 100)
        frames.append(ROOT.RDataFrame("events", file))
    options = {"columns": ["id"], "batch_size": 50, "drop_remainder": False, "set_seed": 2}
    sampling = {"sampling_type": "oversampling", "sampling_ratio": 0.5}
    loader = RDataLoader(frames, load_eager=memory == "eager", **options, **sampling)
    counts = np.bincount(epoch_ids(loader.as_numpy()), minlength=5400)
    assert counts[:3000].tolist() == [1] * 3000
    assert set(counts[5000:]) == {3, 4}
    assert counts[5000:].sum() == 1500
    # In the middle of an epoch, each batch has a third of the small frame's rows.
    shares = [(x >= 5000).mean() for x in loader.as_numpy()]
    assert np.allclose(shares, 1 / 3, atol=0.02)


@pytest.mark.parametrize("kind", ["undersampling", "oversampling"])
def test_resampled_epochs_go_on_and_are_shared(tmp_path: Path, kind: Any) -> None:
    frames = []
    for name, ids in (("large", np.arange(300)), ("small", np.arange(500, 560))):
        frames.append(rf.open(write_columns(tmp_path / f"{name}.root", {"id": ids}, 100)))
    drawn = 0 if kind == "undersampling" else 1
    sampler = Resampled(kind, 0.5, drawn, True, False, ())
    rows = (120, 60) if kind == "undersampling" else (300, 150)

    def make(**options: Any) -> rf.Loader:
        return rf.Loader(frames, 20, ["id"], sampling=sampler, seed=3, **options)

    loader = make()
    for _ in range(2):
        whole = [epoch_ids([batch]).tolist() for batch in loader]
        assert sum(id_ < 500 for batch in whole for id_ in batch) == rows[0]
        assert sum(id_ >= 500 for batch in whole for id_ in batch) == rows[1]
    first = [epoch_ids([batch]).tolist() for batch in make()]
    for place in range(0, len(first), 3):
        one, two = make(), make()
        batches = iter(one)
        for _ in range(place):
            next(batches)
        two.load_state_dict(one.state_dict())
        assert [epoch_ids([batch]).tolist() for batch in two] == first[place:]
    ranks = [epoch_ids(make(rank=rank, world_size=2)).tolist() for rank in range(2)]
    assert [len(rank) for rank in ranks] == [sum(rows) // 2] * 2
    joined = np.bincount(ranks[0] + ranks[1])
    kept = joined[500:] if kind == "undersampling" else joined[:300]
    assert set(kept) == {1}


# --- saving ---------------------------------------------------------------------------------------


def test_a_saved_side_is_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {"id": "int64", "v": np.dtype("(2,)f4"), "flag": "bool"})
        numbers = np.arange(100)
        values = np.stack([numbers / 2, numbers / 4], 1).astype("f4")
        tree.extend({"id": numbers + 2**20, "v": values, "flag": numbers % 2 == 0})
    frame = ROOT.RDataFrame("events", path)
    loader = RDataLoader(frame, 7, max_vec_sizes={"v": 3}, vec_padding=-1, set_seed=1)
    train, _ = loader.train_test_split(0.25)
    for _ in range(2):  # a file that is there is replaced
        train.save("train", tmp_path / "train.root")
    saved = ROOT.RDataFrame("train", tmp_path / "train.root")
    arrays = saved.AsNumpy()
    assert {name: str(array.dtype) for name, array in arrays.items()} == {
        "flag": "bool",
        "id": "int64",
        "v_0": "float32",
        "v_1": "float32",
        "v_2": "float32",
    }
    assert np.array_equal(arrays["v_0"], (arrays["id"] - 2**20) / 2)
    assert (arrays["v_2"] == -1).all()
    again = RDataLoader(saved, 7, shuffle=False, drop_remainder=False)
    assert np.concatenate(list(again.as_numpy())).shape == (75, 5)
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []
    with pytest.raises(ArgumentError, match="is one of the files that are read"):
        train.save("events", path)
    with pytest.raises(ArgumentError, match='output_format must be "ttree" or "rntuple"'):
        train.save("events", tmp_path / "other.root", output_format="csv")


def test_what_cannot_be_saved_exactly_is_reported(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "large.root", {"event": np.arange(10) + 2**60 + 1})
    loader = RDataLoader(ROOT.RDataFrame("events", path), 5)
    with pytest.warns(PrecisionWarning, match="event"):
        loader.save("events", tmp_path / "saved.root")


def test_a_file_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "old.root"
    path.write_bytes(b"old")

    def clusters() -> Any:
        yield {"x": np.arange(3.0)}
        raise KeyboardInterrupt

    types = {"x": ColumnType("float32", "scalar", np.dtype("f4"))}
    with pytest.raises(KeyboardInterrupt):
        write_file(path, "events", types, clusters(), "ttree")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- the forms of earlier releases ----------------------------------------------------------------


def numbers(made: Any) -> list[list[int]]:
    return [epoch_ids(generator).tolist() for generator in made if generator is not None]


def test_forms_of_all_releases(path: str, frame: ROOT.RDataFrame) -> None:
    create = ROOT.TMVA.Experimental.CreateNumPyGenerators
    split = {"validation_split": 0.25, "shuffle": False, "drop_remainder": False}
    cut = frame.Filter("label > 1").Filter("id < 1500")
    forms = {
        "6.38": create(cut, 100, 500, 50, ["id"], **split),
        "6.38 by name": create(
            rdataframes=[cut], batch_size=100, chunk_size=500, columns=["id"], **split
        ),
        "6.36": create(cut, 100, 500, ["id"], **split),
        "6.36 by name": create(rdataframe=cut, batch_size=100, chunk_size=500, columns=["id"], **split),
        "frame behind": create(100, 500, rdataframe=cut, columns=["id"], **split),
        "filters": create(frame, 100, 500, columns=["id"], filters=["label > 1", "id < 1500"], **split),
        "6.30": create("events", path, 100, 500, ["id"], ["label > 1", "id < 1500"], **split),
        "6.30 by name": create(
            tree_name="events",
            file_name=path,
            batch_size=100,
            chunk_size=500,
            columns=["id"],
            filters=("label > 1", "id < 1500"),
            **split,
        ),
        "tree behind": create(
            100, 500, "events", path, columns=["id"], filters="label > 1 && id < 1500", **split
        ),
    }
    rows = cut.AsNumpy(["id"])["id"].tolist()
    first = len(rows) - len(rows) // 4
    for form, made in forms.items():
        assert numbers(made) == [rows[:first], rows[first:]], form


@pytest.mark.parametrize(
    ("given", "named", "text"),
    [
        ((), {"tree_name": "events"}, "takes data frames, or a tree_name and a file_name"),
        (("events",), {"batch_size": 5, "chunk_size": 50}, "a tree_name and a file_name"),
        ((1, 2), {"batch_size": 5}, "multiple values for argument 'batch_size'"),
        (tuple(range(5)), {}, "takes 4 positional arguments, got 5"),
        (("events", "x.root"), {"rdataframe": 3}, "takes data frames, or"),
        ((5,), {}, r"CreateNumPyGenerators\(\): missing a required argument: 'rdataframes'"),
        ((), {"rdataframe": 3, "batchsize": 3}, "CreateNumPyGenerators"),
    ],
)
def test_forms_of_no_release(given: Any, named: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        ROOT.CreateNumPyGenerators(*given, **named)
    with pytest.raises(RootfeedError, match="RDataFrame"):
        ROOT.CreateNumPyGenerators("events", 100, 500)


def test_generators_are_called_and_asked_for_the_next_batch(frame: ROOT.RDataFrame) -> None:
    train, _ = ROOT.CreateNumPyGenerators(frame, 300, 1000, columns=["id"], drop_remainder=False)
    assert train is not None
    sizes = [len(x) for x in train()]
    assert sizes == [300] * 6 + [200]
    for _ in range(2):
        found = []
        while True:
            try:
                found.append(len(next(train)))
            except StopIteration:
                break
        assert found == sizes
    assert (train.number_of_batches, train.num_batches, len(train)) == (7, 7, 7)


def test_data_sets_of_tensorflow(frame: ROOT.RDataFrame) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    made = ROOT.CreateTFDatasets(frame, 100, 500, target="label", validation_split=0.25)
    for dataset, batches in zip(made, (15, 5), strict=True):
        assert isinstance(dataset, tensorflow.data.Dataset)
        assert dataset.columns == ["half", "id", "label", "weight"]
        assert dataset.train_columns == ["half", "id", "weight"]
        assert dataset.target_column == ["label"]
        assert dataset.weights_column == ""
        assert dataset.number_of_batches == batches == sum(1 for _ in dataset)
    assert isinstance(ROOT.CreateTFDatasets(frame, 100, 500), tensorflow.data.Dataset)
