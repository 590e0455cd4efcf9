"""Code written for ROOT's own loader, with one import changed."""

from __future__ import annotations

import importlib
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed.root as ROOT
from rootfeed.errors import ArgumentError, MissingColumnError, MissingFileError, MissingObjectError
from samples import File, in_a_row, open_events, values, write, write_all, write_columns

ENTRIES = 2000
CREATE = ["CreateNumPyGenerators", "CreatePyTorchGenerators"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def paths(folder: Path) -> list[str]:
    return write_all(folder / "files", in_a_row(File(1200, page=130), File(800, page=300)))


@pytest.fixture(scope="session")
def frame(paths: list[str]) -> ROOT.RDataFrame:
    return ROOT.RDataFrame("events", paths)


@pytest.fixture(scope="session")
def higgs() -> str:
    """Name the file that ROOT's wheel brings: 10 000 entries of `sig_tree`."""
    found = importlib.util.find_spec("ROOT")
    if found is None or found.origin is None:
        pytest.skip("ROOT is not installed")
    path = Path(found.origin).parent / "tutorials/machine_learning/data/Higgs_data.root"
    if not path.exists():
        pytest.skip("this ROOT brings no tutorials")
    return str(path)


@pytest.fixture(params=CREATE)
def create(request: pytest.FixtureRequest) -> Any:
    if "PyTorch" in request.param:
        pytest.importorskip("torch")
    return getattr(ROOT, request.param)


def train_of(created: Any) -> ROOT.Generator:
    """Return the training side, whatever came back."""
    return created[0] if isinstance(created, tuple) else created


def ids_of(generator: ROOT.Generator, place: int | None = None) -> np.ndarray:
    batches = [np.asarray(batch if place is None else batch[place]) for batch in generator]
    return np.concatenate([x[:, 0] for x in batches] or [np.zeros(0)]).astype(int)


# --- the demonstration ----------------------------------------------------------------------------


def test_the_code_of_the_talk(higgs: str) -> None:
    torch = pytest.importorskip("torch")
    tree_name, file_name = "sig_tree", higgs
    batch_size, chunk_size, block_size = 128, 5000, 300
    rdataframe = ROOT.RDataFrame(tree_name, file_name)
    target = "Type"

    gen_train, gen_validation = ROOT.CreatePyTorchGenerators(
        rdataframe,
        batch_size,
        chunk_size,
        block_size,
        columns=rdataframe.GetColumnNames(),
        target=target,
        validation_split=0.3,
        shuffle=True,
        drop_remainder=True,
    )
    input_columns = gen_train.train_columns
    num_features = len(input_columns)
    assert num_features == 28
    assert target not in input_columns

    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(num_features, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1), torch.nn.Sigmoid()
    )
    loss_fn = torch.nn.MSELoss(reduction="mean")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses: list[float] = []
    rows = {"train": 0, "validation": 0}
    for _ in range(2):
        model.train()
        for x_train, y_train in gen_train:
            assert (tuple(x_train.shape), tuple(y_train.shape)) == ((128, 28), (128, 1))
            assert x_train.dtype == y_train.dtype == torch.float32
            loss = loss_fn(model(x_train), y_train)
            model.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            rows["train"] += len(x_train)
        model.eval()
        for x_val, y_val in gen_validation:
            accuracy = torch.sum(y_val == model(x_val).round()) / y_val.size(0)
            assert 0 <= float(accuracy) <= 1
            rows["validation"] += len(x_val)
    assert np.isfinite(losses).all()
    assert len(losses) == 2 * gen_train.number_of_batches
    assert abs(rows["train"] / 2 - 7000) < 130
    assert abs(rows["validation"] / 2 - 3000) < 130
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_the_tutorials_of_root_6_36_and_6_38(higgs: str, frame: ROOT.RDataFrame) -> None:
    # RBatchGenerator_NumPy.py: the later one has a block size.
    rdataframe = ROOT.RDataFrame("sig_tree", higgs)
    for sizes in ((128, 5000), (128, 5000, 400)):
        gen_train, gen_validation = ROOT.TMVA.Experimental.CreateNumPyGenerators(
            rdataframe, *sizes, target="Type", validation_split=0.3, shuffle=True, drop_remainder=True
        )
        for _ in range(2):
            assert {(x.shape, y.shape) for x, y in gen_train} == {((128, 28), (128, 1))}
            assert {(x.shape, y.shape) for x, y in gen_validation} == {((128, 28), (128, 1))}
    # All of it by name, but for the frame; no order.
    train, validation = ROOT.TMVA.Experimental.CreateNumPyGenerators(
        frame,
        batch_size=300,
        chunk_size=500,
        columns=["id"],
        validation_split=0.3,
        shuffle=False,
        drop_remainder=False,
    )
    assert validation is not None
    assert np.array_equal(ids_of(train), np.arange(1400))
    assert np.array_equal(ids_of(validation), np.arange(1400, 2000))


def test_names_stand_where_root_has_them(create: Any) -> None:
    assert getattr(ROOT.TMVA.Experimental, create.__name__) is create


@pytest.mark.timeout(110)
def test_the_same_rows_as_from_root(higgs: str) -> None:
    import rootfiles

    real = rootfiles.load_root()
    frame = real.RDataFrame("sig_tree", higgs)
    names = ROOT.RDataFrame("sig_tree", higgs).GetColumnNames()
    assert sorted(names) == sorted(str(name) for name in frame.GetColumnNames())
    loader = real.Experimental.ML.RDataLoader(
        frame, 128, columns=names, target="Type", shuffle=True, drop_remainder=False, set_seed=1
    )
    theirs = [(np.array(x), np.array(y)) for x, y in loader.as_numpy()]
    train, _ = ROOT.CreateNumPyGenerators(
        ROOT.RDataFrame("sig_tree", higgs), 128, 5000, 300, names, target="Type", drop_remainder=False
    )
    ours = list(train)
    assert train.columns == list(loader.columns)
    assert train.train_columns == list(loader.train_columns)
    assert train.target_columns == list(loader.target_columns)
    assert train.weights_column == loader.weights_column
    assert train.number_of_batches == loader.num_batches == len(ours) == len(theirs)
    assert train.last_batch_no_of_rows == loader.last_batch_no_of_rows == len(ours[-1][0])

    def rows(batches: list[Any]) -> np.ndarray:
        joined = np.concatenate([np.hstack(batch) for batch in batches])
        return joined[np.lexsort(joined.T)]

    assert np.array_equal(rows(ours), rows(theirs))
    for ours_, theirs_ in zip(ours[0], theirs[0], strict=True):
        assert (ours_.shape, ours_.dtype) == (theirs_.shape, theirs_.dtype)


@pytest.mark.timeout(110)
def test_the_same_unshuffled_split_as_root(higgs: str) -> None:
    import rootfiles

    real = rootfiles.load_root()
    names = ROOT.RDataFrame("sig_tree", higgs).GetColumnNames()
    loader = real.Experimental.ML.RDataLoader(
        real.RDataFrame("sig_tree", higgs),
        100,
        columns=names,
        target="Type",
        shuffle=False,
        drop_remainder=True,
    )
    halves = loader.train_test_split(test_size=0.3333)
    theirs = [list(side.as_numpy()) for side in halves]
    ours = ROOT.CreateNumPyGenerators(
        ROOT.RDataFrame("sig_tree", higgs),
        100,
        5000,
        300,
        names,
        target="Type",
        validation_split=0.3333,
        shuffle=False,
    )
    for generator, side, half in zip(ours, theirs, halves, strict=True):
        batches = list(generator)
        assert generator.last_batch_no_of_rows == half.last_batch_no_of_rows
        assert len(batches) == len(side) == generator.number_of_batches
        for batch, expected in zip(batches, side, strict=True):
            for part, array in zip(batch, expected, strict=True):
                assert np.array_equal(part, np.asarray(array))


# --- what comes back ------------------------------------------------------------------------------


def test_without_a_split(frame: ROOT.RDataFrame) -> None:
    created = ROOT.CreateNumPyGenerators(frame, 100, 500, 50, ["id", "half"])
    assert isinstance(created, tuple)
    train, validation = created
    assert isinstance(train, ROOT.Generator)
    assert validation is None
    pytest.importorskip("torch")
    alone = ROOT.CreatePyTorchGenerators(frame, 100, 500, 50, ["id", "half"])
    assert isinstance(alone, ROOT.Generator)


def test_with_a_split(frame: ROOT.RDataFrame, create: Any) -> None:
    train, validation = create(
        frame, 100, 500, 50, ["id", "half"], validation_split=0.25, drop_remainder=False
    )
    kept, chosen = set(ids_of(train).tolist()), set(ids_of(validation).tolist())
    assert not kept & chosen
    assert kept | chosen == set(range(ENTRIES))
    assert abs(len(chosen) - 500) <= 2


def test_kinds_of_batches(frame: ROOT.RDataFrame, create: Any) -> None:
    x = next(iter(train_of(create(frame, 100, 500, 50, ["id", "half"]))))
    assert type(x).__module__.partition(".")[0] == ("torch" if "Torch" in create.__name__ else "numpy")
    assert tuple(x.shape) == (100, 2)
    generator = train_of(
        create(
            frame,
            100,
            500,
            50,
            ["weight", "label", "id", "flag", "half"],
            target=["flag", "label"],
            weights="weight",
        )
    )
    x, y, w = (np.asarray(part) for part in next(iter(generator)))
    assert [part.shape for part in (x, y, w)] == [(100, 2), (100, 2), (100, 1)]
    assert {part.dtype for part in (x, y, w)} == {np.dtype(np.float32)}
    ids = x[:, 0].astype(int)
    assert np.array_equal(x[:, 1], values("half", ids))
    assert np.array_equal(y[:, 0], values("flag", ids))
    assert np.array_equal(y[:, 1], values("label", ids))
    assert np.array_equal(w[:, 0], values("weight", ids))


def test_columns_include_target_and_weights(frame: ROOT.RDataFrame, create: Any) -> None:
    given = ["weight", "label", "id", "half"]
    generator = train_of(create(frame, 100, 500, 50, given, target="label", weights="weight"))
    assert generator.columns == given
    assert generator.train_columns == ["id", "half"]
    assert generator.target_columns == ["label"]
    assert generator.weights_column == "weight"
    plain = train_of(create(frame, 100, 500, 50, ["id", "half"]))
    assert plain.columns == plain.train_columns == ["id", "half"]
    assert plain.target_columns == []
    assert plain.weights_column == ""


def test_all_columns(folder: Path, create: Any) -> None:
    path = write(folder / "few.root", File(300), ["id", "label", "half", "weight"])
    few = ROOT.RDataFrame("events", path)
    generator = train_of(create(few, 100, 200, 50, target="label", weights="weight"))
    # Sorted by name, as ROOT lists the columns of a TTree.
    assert generator.columns == ["half", "id", "label", "weight"]
    assert generator.train_columns == ["half", "id"]
    assert [tuple(part.shape) for part in next(iter(generator))] == [(100, 2), (100, 1), (100, 1)]


def test_positional_arguments(frame: ROOT.RDataFrame, create: Any) -> None:
    generator = train_of(
        create(frame, 100, 500, 50, ["id", "label"], {}, 0, "label", "", 0.0, 0, False, False, 3)
    )
    assert np.array_equal(ids_of(generator, 0), np.arange(ENTRIES))
    assert generator.target_columns == ["label"]


@pytest.mark.parametrize("load_eager", [True, False])
@pytest.mark.parametrize(("batch_size", "drop"), [(300, True), (300, False), (250, False), (250, True)])
def test_numbers_of_batches(
    frame: ROOT.RDataFrame, create: Any, batch_size: int, drop: bool, load_eager: bool
) -> None:
    generator = train_of(
        create(frame, batch_size, 500, 50, ["id"], drop_remainder=drop, load_eager=load_eager)
    )
    sizes = [len(x) for x in generator]
    rest = ENTRIES % batch_size
    assert generator.number_of_batches == len(generator) == len(sizes)
    assert len(sizes) == ENTRIES // batch_size + (rest > 0 and not drop)
    assert sizes[-1] == (batch_size if drop or not rest else rest)
    assert generator.last_batch_no_of_rows == rest  # dropped or not, as in ROOT


def test_generators_can_be_iterated_again(frame: ROOT.RDataFrame, create: Any) -> None:
    generator = train_of(create(frame, 64, 500, 50, ["id"], set_seed=7, drop_remainder=False))
    epochs = [ids_of(generator) for _ in range(3)]
    for order in epochs:
        assert np.array_equal(np.sort(order), np.arange(ENTRIES))
    # Unlike ROOT's, also with a seed.
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    again = train_of(create(frame, 64, 500, 50, ["id"], set_seed=7, drop_remainder=False))
    assert np.array_equal(ids_of(again), epochs[0])
    other = train_of(create(frame, 64, 500, 50, ["id"], set_seed=8, drop_remainder=False))
    assert not np.array_equal(ids_of(other), epochs[0])


def test_no_seed_is_a_new_seed(frame: ROOT.RDataFrame, create: Any) -> None:
    one, two = (train_of(create(frame, 64, 500, 50, ["id"], set_seed=0)) for _ in range(2))
    assert not np.array_equal(ids_of(one), ids_of(two))


def test_the_seed_divides_too_as_in_root(frame: ROOT.RDataFrame, create: Any) -> None:
    def chosen(seed: int) -> set[int]:
        split: dict[str, Any] = {"validation_split": 0.25, "drop_remainder": False, "set_seed": seed}
        _, validation = create(frame, 64, 500, 50, ["id"], **split)
        return set(ids_of(validation).tolist())

    assert chosen(7) == chosen(7)
    assert chosen(7) != chosen(8)
    assert chosen(0) != chosen(0)


@pytest.mark.parametrize("load_eager", [True, False])
@pytest.mark.parametrize("split", [0.3, 0.5, 0.77])
def test_an_unshuffled_split(
    frame: ROOT.RDataFrame, create: Any, split: float, load_eager: bool
) -> None:
    train, validation = create(
        frame,
        100,
        500,
        50,
        ["id", "half"],
        validation_split=split,
        shuffle=False,
        drop_remainder=False,
        load_eager=load_eager,
    )
    first = ENTRIES - int(split * ENTRIES)
    for _ in range(2):
        assert ids_of(train).tolist() == list(range(first))
        assert ids_of(validation).tolist() == list(range(first, ENTRIES))


def test_unshuffled_batches(frame: ROOT.RDataFrame, create: Any) -> None:
    generator = train_of(create(frame, 100, 500, 50, ["id"], shuffle=False))
    assert np.array_equal(ids_of(generator), np.arange(ENTRIES))


def test_everything_in_memory(frame: ROOT.RDataFrame, create: Any) -> None:
    train, validation = create(
        frame, 100, 500, 50, ["id"], validation_split=0.4, load_eager=True, drop_remainder=False
    )
    for _ in range(2):
        together = np.concatenate([ids_of(train), ids_of(validation)])
        assert np.array_equal(np.sort(together), np.arange(ENTRIES))


def test_chunks_that_are_as_small_as_blocks(paths: list[str], create: Any) -> None:
    # Files and blocks of odd lengths in chunks that hold one block each.
    frame = ROOT.RDataFrame("events", paths)
    for chunk_size, block_size in ((700, 700), (128, 128), (1000, 900), (128, 5000)):
        generator = train_of(create(frame, 128, chunk_size, block_size, ["id"], drop_remainder=False))
        for _ in range(3):
            assert np.array_equal(np.sort(ids_of(generator)), np.arange(ENTRIES))


# --- frames ---------------------------------------------------------------------------------------


def test_lists_of_frames(paths: list[str], create: Any) -> None:
    frames = [ROOT.RDataFrame("events", path) for path in paths]
    for load_eager in (True, False):
        generator = train_of(
            create(frames, 100, 500, 50, ["id"], drop_remainder=False, load_eager=load_eager)
        )
        assert np.array_equal(np.sort(ids_of(generator)), np.arange(ENTRIES))
    straight = train_of(create(frames[::-1], 100, 500, 50, ["id"], shuffle=False))
    assert np.array_equal(ids_of(straight), np.r_[1200:2000, 0:1200])


def test_frames(paths: list[str]) -> None:
    frame = ROOT.RDataFrame("events", paths[0])
    assert frame.GetColumnNames()[:2] == ["code", "event"]
    assert repr(frame) == f"<RDataFrame over {frame.frame!r}>"
    assert ROOT.RDataFrame("events", Path(paths[0])).frame.num_entries == 1200
    assert ROOT.RDataFrame("events", f"{Path(paths[0]).parent}/*.root").frame.num_entries == ENTRIES
    assert ROOT.RDataFrame("events", (path for path in paths)).frame.num_entries == ENTRIES


def test_a_file_twice_is_not_dropped_silently(paths: list[str]) -> None:
    # ROOT reads it twice; whoever does not has to say so.
    with pytest.raises(ArgumentError, match="is named twice"):
        ROOT.RDataFrame("events", [paths[0], paths[0]])


def test_frames_that_do_not_exist(folder: Path, paths: list[str]) -> None:
    with pytest.raises(MissingFileError, match=r"none\.root does not exist"):
        ROOT.RDataFrame("events", str(folder / "none.root"))
    with pytest.raises(MissingObjectError, match=r"no tree or ntuple 'evens'\. Did you mean 'events'"):
        ROOT.RDataFrame("evens", paths)


# --- what is refused ------------------------------------------------------------------------------


def refusal(create: Any, frame: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - ROOT raises no more than that
        create(frame, *(arguments or (100, 500, 50)), **options)
    assert isinstance(caught.value, ArgumentError)
    return str(caught.value)


def test_a_chunk_smaller_than_a_batch(frame: ROOT.RDataFrame, create: Any) -> None:
    text = refusal(create, frame, 100, 99, 50)
    assert text == "chunk_size must not be smaller than batch_size, got 99 and 100."
    assert "chunk_size" in refusal(create, frame, 100, 99, 50, load_eager=True)


def test_weights_without_a_target(frame: ROOT.RDataFrame, create: Any) -> None:
    assert refusal(create, frame, weights="weight") == "weights need a target: give target=..."


@pytest.mark.parametrize("split", [-0.1, 1.0, 1.5, math.nan])
def test_splits_out_of_range(frame: ROOT.RDataFrame, create: Any, split: float) -> None:
    text = refusal(create, frame, columns=["id"], validation_split=split)
    assert text == f"validation_split must lie in [0, 1), got {split!r}."


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_chunks": 2}, "max_chunks must be left at 0"),
        ({"sampling_type": "undersampling"}, "undersampling takes two frames, got 1"),
        ({"sampling_type": "both"}, 'sampling_type must be "", "undersampling" or "oversampling"'),
    ],
)
def test_what_is_not_supported(
    frame: ROOT.RDataFrame, create: Any, options: dict[str, Any], text: str
) -> None:
    assert text in refusal(create, frame, **options)


@pytest.mark.parametrize("ratio", [1.0, 0.25])
@pytest.mark.parametrize("kind", ["undersampling", "oversampling"])
@pytest.mark.parametrize("eager", [True, False])
def test_two_frames_are_resampled(
    tmp_path: Path, create: Any, kind: str, ratio: float, eager: bool
) -> None:
    frames = []
    for name, first, count in (("major", 0, 1000), ("minor", 1000, 100)):
        path = write_columns(tmp_path / f"{name}.root", {"id": np.arange(first, first + count)}, 40)
        frames.append(ROOT.RDataFrame("events", path))
    given = {"columns": ["id"], "validation_split": 0.2, "load_eager": eager, "set_seed": 1}
    sampling = {"sampling_type": kind, "sampling_ratio": ratio}
    train, validation = create(frames, 20, 200, 40, **given, **sampling)
    ids = [np.asarray(batch)[:, 0].astype(int) for batch in train]
    assert {abs((batch >= 1000).sum() - 20 * ratio / (1 + ratio)) <= 1 for batch in ids} == {True}
    counts = np.bincount(np.concatenate(ids), minlength=1100)
    if kind == "undersampling":
        assert len(train) == (80 + 80 / ratio) // 20
        assert counts.max() == 1
        assert (counts[1000:] > 0).sum() == 80
    else:
        assert len(train) == (800 + 800 * ratio) // 20
        assert (counts[:1000] > 0).sum() == 800
        assert set(counts[1000:]) == {0, *((10,) if ratio == 1 else (2, 3))}
    seen = np.concatenate([np.asarray(batch)[:, 0] for batch in validation]).astype(int)
    assert len(set(seen)) == len(seen)
    with pytest.raises(ArgumentError, match="sampling_ratio must be a positive number, got 0"):
        create(frames, 20, 200, 40, **given, sampling_type=kind, sampling_ratio=0)


def test_what_has_no_effect_alone(frame: ROOT.RDataFrame, create: Any) -> None:
    generator = train_of(
        create(
            frame,
            100,
            500,
            50,
            ["id"],
            max_vec_sizes={},
            vec_padding=-1,
            sampling_ratio=0.5,
            replacement=True,
        )
    )
    assert len(generator) == 20


@pytest.mark.parametrize(("batch_size", "chunk_size", "block_size"), [(0, 500, 50), (10, 500, 0)])
def test_sizes_out_of_range(
    frame: ROOT.RDataFrame, create: Any, batch_size: int, chunk_size: int, block_size: int
) -> None:
    text = refusal(create, frame, batch_size, chunk_size, block_size, columns=["id"])
    assert "must be positive" in text


def test_columns_without_a_feature(frame: ROOT.RDataFrame, create: Any) -> None:
    # Not a reason to take all the columns that were left out.
    text = refusal(create, frame, columns=["label"], target="label")
    assert "feature" in text


def test_a_column_that_does_not_exist(frame: ROOT.RDataFrame, create: Any) -> None:
    with pytest.raises(MissingColumnError, match=r"'haf' to use as feature\. Did you mean 'half'"):
        create(frame, 100, 500, 50, ["id", "haf"])
    for role in ("target", "weights"):  # a ValueError, as in ROOT
        with pytest.raises(ArgumentError, match=f"{role}='lable' is no column. Did you mean 'label'"):
            create(frame, 100, 500, 50, ["id"], **{"target": "half", role: "lable"})


def test_other_frames_are_refused_in_words(paths: list[str], create: Any) -> None:
    # A frame of rootfeed's own, or a path, where ROOT's frame belongs.
    assert "RDataFrame" in refusal(create, open_events(paths), columns=["id"])
    assert "RDataFrame" in refusal(create, paths[0], columns=["id"])
    assert "RDataFrame" in refusal(create, [paths[0]], columns=["id"])


def test_public_names() -> None:
    assert set(ROOT.__all__) >= {*CREATE, "Generator", "RDataFrame"}
    for name in ROOT.__all__:
        assert getattr(importlib.import_module("rootfeed.root"), name).__doc__
