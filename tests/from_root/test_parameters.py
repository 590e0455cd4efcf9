"""Each parameter, method and property of ROOT's loader: the same in ROOT and in `rootfeed.root`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed.root
from chosen import in_turns
from ways import FIRST, OURS, SECOND, Way, arrays, ids, root_cannot, root_is_wrong

EVERY = list(range(FIRST))
IN_ORDER: dict[str, Any] = {"shuffle": False, "drop_remainder": False}
BOTH = (False, True)
LOADING = pytest.mark.parametrize("load_eager", BOTH)


# --- rdataframes, batch_size, batches_in_memory ---------------------------------------------------


@LOADING
def test_a_data_frame(way: Way, load_eager: bool) -> None:
    loader = way.loader(way.frame(), columns=["half", "id"], load_eager=load_eager, **IN_ORDER)
    x = arrays(loader.as_numpy(), None)
    assert (x.shape, x.dtype) == ((FIRST, 2), np.float32)
    assert np.array_equal(x, np.stack([np.arange(FIRST) / 2, np.arange(FIRST)], 1))


@LOADING
def test_a_list_of_data_frames(way: Way, load_eager: bool) -> None:
    for frames, expected in (
        (way.both(), [*EVERY, *range(1000, 1000 + SECOND)]),
        (way.both()[::-1], [*range(1000, 1000 + SECOND), *EVERY]),
    ):
        loader = way.loader(frames, columns=["half", "id"], load_eager=load_eager, **IN_ORDER)
        assert ids(loader.as_numpy()) == expected


@LOADING
@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("batch_size", [16, 25, 100])
def test_sizes_of_batches(way: Way, batch_size: int, drop_remainder: bool, load_eager: bool) -> None:
    loader = way.loader(
        way.frame(),
        batch_size,
        columns=["half", "id"],
        drop_remainder=drop_remainder,
        load_eager=load_eager,
    )
    batches = loader.as_numpy()
    rest = FIRST % batch_size
    for _ in range(2):  # each iteration is an epoch
        sizes = [len(x) for x in batches]
        assert sizes == [batch_size] * (FIRST // batch_size) + [rest] * (rest > 0 and not drop_remainder)
    assert loader.num_batches == len(sizes)
    assert loader.last_batch_no_of_rows == rest  # dropped or not


def test_64_rows_are_a_batch(way: Way) -> None:
    loader = way.loaders.Experimental.ML.RDataLoader(way.frame(), columns=["half", "id"])
    assert [len(x) for x in loader.as_numpy()] == [64]


@pytest.mark.parametrize("batches_in_memory", [2, 10, 1000])
def test_batches_in_memory_change_no_row(way: Way, batches_in_memory: int) -> None:
    loader = way.loader(
        way.frame(), batches_in_memory=batches_in_memory, columns=["half", "id"], drop_remainder=False
    )
    assert sorted(ids(loader.as_numpy())) == EVERY


# --- columns, max_vec_sizes, vec_padding, target, weights -----------------------------------------


def test_all_columns(way: Way) -> None:
    loader = way.loader(way.frame(), target="label", weights="weight", **IN_ORDER)
    x, y, w = (arrays(loader.as_numpy(), part) for part in range(3))
    assert x[:, 1].tolist() == EVERY
    assert y[:, 0].tolist() == [number % 3 for number in EVERY]
    assert w[:, 0].tolist() == [number % 5 + 0.5 for number in EVERY]
    assert [part.shape for part in (x, y, w)] == [(FIRST, 2), (FIRST, 1), (FIRST, 1)]
    assert list(loader.columns) == ["half", "id", "label", "weight"]


def test_columns_as_get_column_names_gives_them(way: Way) -> None:
    names = way.frame().GetColumnNames()
    loader = way.loader(way.frame(), columns=names, target=[names[2]], weights=names[3], **IN_ORDER)
    assert ids(loader.as_numpy(), 0) == EVERY
    assert list(loader.target_columns) == ["label"]


def test_names_of_columns(way: Way) -> None:
    given = ["weight", "half", "label", "id"]
    loader = way.loader(way.frame(), columns=given, target="label", weights="weight")
    for side in loader.train_test_split(0.5):
        assert list(side.columns) == given
        assert list(side.train_columns) == ["half", "id"]
        assert list(side.target_columns) == ["label"]
        assert side.weights_column == "weight"
    plain = way.loader(way.frame(), columns=["half", "id"])
    assert list(plain.columns) == list(plain.train_columns) == ["half", "id"]
    assert list(plain.target_columns) == []
    assert plain.weights_column == ""


@root_cannot("has train_columns only; later releases have feature_columns")
def test_feature_columns(way: Way) -> None:
    loader = way.loader(way.frame(), columns=["half", "id", "label"], target="label")
    assert loader.feature_columns == loader.train_columns == ["half", "id"]


@root_is_wrong("asks for columns that name target and weights, too; later releases do not")
def test_columns_need_not_name_target_and_weights(way: Way) -> None:
    options = {"columns": ["half", "id"], "target": "label", "weights": "weight"}
    loader = way.loader(way.frame(), **options, **IN_ORDER)
    assert arrays(loader.as_numpy(), 1)[:, 0].tolist() == [number % 3 for number in EVERY]
    assert list(loader.train_columns) == ["half", "id"]


def padded(length: int, padding: float) -> list[list[float]]:
    rows = [[number + 0.25 * place for place in range(number % 4)] for number in EVERY]
    return [(row + [padding] * length)[:length] for row in rows]


@pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning")
@pytest.mark.parametrize("padding", [0, 7.5])
def test_vectors(way: Way, padding: float) -> None:
    for length in (2, 3, 5):
        loader = way.loader(
            way.frame("vectors"),
            columns=["id", "v"],
            max_vec_sizes={"v": length},
            vec_padding=padding,
            **IN_ORDER,
        )
        x = arrays(loader.as_numpy(), None)
        assert x[:, 0].tolist() == EVERY
        assert x[:, 1:].tolist() == padded(length, padding)
        assert list(loader.columns) == ["id", *(f"v_{place}" for place in range(length))]


@root_is_wrong("makes 1.8e19 of a negative padding where the dataset is in memory")
def test_negative_padding_in_memory(way: Way) -> None:
    loader = way.loader(
        way.frame("vectors"),
        columns=["id", "v"],
        max_vec_sizes={"v": 3},
        vec_padding=-1,
        load_eager=True,
        **IN_ORDER,
    )
    assert arrays(loader.as_numpy(), None)[:, 1:].tolist() == padded(3, -1.0)


def test_vectors_need_a_length(way: Way) -> None:
    for columns in (None, ["id", "v"]):
        with pytest.raises(ValueError, match=r"[nN]o max size given|give their length"):
            way.loader(way.frame("vectors"), columns=columns).as_numpy()


@pytest.mark.parametrize("target", ["v_0", ["v_2", "v_1"]])
def test_elements_of_vectors_as_target(way: Way, target: Any) -> None:
    loader = way.loader(
        way.frame("vectors"), columns=["id", "v"], max_vec_sizes={"v": 3}, target=target, **IN_ORDER
    )
    targets = [target] if isinstance(target, str) else target
    batches = list(loader.as_numpy())
    values = dict(zip(("v_0", "v_1", "v_2"), np.transpose(padded(3, 0.0)).tolist(), strict=True))
    others = [name for name in ("id", "v_0", "v_1", "v_2") if name not in targets]
    assert list(loader.train_columns) == others
    assert list(loader.target_columns) == targets
    assert arrays(batches, 1).T.tolist() == [values[name] for name in targets]
    for name, column in zip(others, arrays(batches).T.tolist(), strict=True):
        assert column == (EVERY if name == "id" else values[name])


def test_several_targets(way: Way) -> None:
    loader = way.loader(way.frame(), target=["label", "half"], weights="weight", **IN_ORDER)
    batches = list(loader.as_numpy())
    assert arrays(batches, 0)[:, 0].tolist() == EVERY
    assert arrays(batches, 1).tolist() == [[number % 3, number / 2] for number in EVERY]
    assert list(loader.target_columns) == ["label", "half"]


@pytest.mark.parametrize(
    "options",
    [
        {"target": "lable"},
        {"target": "label", "weights": "wait"},
        {"weights": "weight"},
        {"columns": ["half", "id"], "target": "v_0"},
    ],
)
def test_columns_that_cannot_be_meant(way: Way, options: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"not in given columns|can only be used|no column|need a target"
    ):
        way.loader(way.frame(), **options).as_numpy()


# --- shuffle, set_seed, load_eager ----------------------------------------------------------------


@LOADING
def test_shuffled(way: Way, load_eager: bool) -> None:
    loader = way.loader(way.frame(), columns=["half", "id"], drop_remainder=False, load_eager=load_eager)
    orders = [ids(loader.as_numpy()) for _ in range(2)]
    for order in orders:
        assert sorted(order) == EVERY
        assert order != EVERY
    assert orders[0] != orders[1]  # without a seed


@LOADING
def test_a_seed_gives_the_same_batches(way: Way, load_eager: bool) -> None:
    def order(seed: int) -> list[int]:
        options = {"columns": ["half", "id"], "load_eager": load_eager, "set_seed": seed}
        train, test = way.loader(way.frame(), **options).train_test_split(0.25)
        return ids(train.as_numpy()) + ids(test.as_numpy())

    assert order(42) == order(42)
    assert order(42) != order(43)


# --- train_test_split -----------------------------------------------------------------------------


@pytest.mark.thorough(but=in_turns(["root", *OURS], [0.2, 0.3, 0.29, 0.3333, 0.9], BOTH, BOTH))
@LOADING
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("test_size", [0.2, 0.3, 0.29, 0.3333, 0.9])
def test_sizes_of_splits(way: Way, test_size: float, shuffle: bool, load_eager: bool) -> None:
    options = {"shuffle": shuffle, "load_eager": load_eager, "drop_remainder": False}
    loader = way.loader(way.frame(), columns=["half", "id"], **options)
    train, test = loader.train_test_split(test_size)
    first, second = ids(train.as_numpy()), ids(test.as_numpy())
    # Lazily and shuffled, the first side is rounded down; else the second one.
    down = shuffle and not load_eager
    expected = (
        FIRST - round((1 - test_size) * FIRST - 0.499) if down else int(round(test_size * FIRST, 6))
    )
    assert len(second) == expected
    assert sorted(first + second) == EVERY
    if not shuffle:
        assert first + second == EVERY
    assert (train.num_batches, train.last_batch_no_of_rows) == (-(-len(first) // 16), len(first) % 16)
    assert (test.num_batches, test.last_batch_no_of_rows) == (-(-len(second) // 16), len(second) % 16)


def test_a_fifth_is_split_off(way: Way) -> None:
    train, test = way.loader(way.frame(), columns=["half", "id"], **IN_ORDER).train_test_split()
    assert (len(ids(train.as_numpy())), len(ids(test.as_numpy()))) == (80, 20)


@LOADING
def test_each_frame_is_divided_where_all_is_in_memory(way: Way, load_eager: bool) -> None:
    loader = way.loader(way.both(), columns=["half", "id"], load_eager=load_eager, **IN_ORDER)
    train, test = (ids(side.as_numpy()) for side in loader.train_test_split(0.5))
    second = list(range(1000, 1000 + SECOND))
    if load_eager:
        assert (train, test) == (EVERY[:50] + second[:15], EVERY[50:] + second[15:])
    else:
        assert (train, test) == (EVERY[:65], EVERY[65:] + second)


@pytest.mark.parametrize("test_size", [0.0, 1.0, -0.5, 1.5])
def test_splits_out_of_range(way: Way, test_size: float) -> None:
    with pytest.raises(ValueError, match=r"test_size must be in \(0\.0, 1\.0\), got"):
        way.loader(way.frame(), columns=["half", "id"]).train_test_split(test_size)


# --- sampling_type, sampling_ratio, replacement ---------------------------------------------------

KINDS = ("undersampling", "oversampling")
RATIOS = (0.31, 0.5, 1, 1.7)
SAMPLING = pytest.mark.parametrize("kind", KINDS)


def expected_rows(kind: str, ratio: float, large: int, small: int) -> tuple[int, int]:
    """Return the rows of the larger and of the smaller frame in an epoch."""
    if kind == "undersampling":
        return int(small / ratio), small
    return large, int(ratio * large)


@pytest.mark.thorough(but=in_turns(["root", *OURS], BOTH, RATIOS, KINDS))
@SAMPLING
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("replacement", [False, True])
def test_rows_of_a_resampled_epoch(way: Way, kind: str, ratio: float, replacement: bool) -> None:
    for frames in (way.both(), way.both()[::-1]):
        loader = way.loader(
            frames,
            columns=["half", "id"],
            drop_remainder=False,
            load_eager=True,
            sampling_type=kind,
            sampling_ratio=ratio,
            replacement=replacement,
        )
        large, small = expected_rows(kind, ratio, FIRST, SECOND)
        epochs = [ids(loader.as_numpy()) for _ in range(2)]
        for epoch in epochs:
            assert len(epoch) == large + small
            assert sum(id_ < 1000 for id_ in epoch) == large
        # Drawn anew: what is resampled differs from epoch to epoch.
        drawn = [sorted(id_ for id_ in each if (id_ < 1000) == (kind[0] == "u")) for each in epochs]
        assert drawn[0] != drawn[1] or (kind, ratio) == ("oversampling", 0.31)  # one row more
        if kind == "undersampling" and not replacement:
            assert len(set(epochs[0])) == large + small
        assert loader.num_batches == -(-(large + small) // 16)
        assert loader.last_batch_no_of_rows == (large + small) % 16


@SAMPLING
@pytest.mark.parametrize("ratio", [0.5, 1.7])
def test_resampled_in_order(way: Way, kind: str, ratio: float) -> None:
    loader = way.loader(
        way.both(),
        columns=["half", "id"],
        load_eager=True,
        sampling_type=kind,
        sampling_ratio=ratio,
        **IN_ORDER,
    )
    large, small = expected_rows(kind, ratio, FIRST, SECOND)
    of_large = [number % FIRST for number in range(large)]
    of_small = [1000 + number % SECOND for number in range(small)]
    expected = of_large + of_small if kind == "undersampling" else of_small + of_large
    assert ids(loader.as_numpy()) == expected


@SAMPLING
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_resampled_side(way: Way, kind: str, shuffle: bool) -> None:
    options = {"columns": ["half", "id"], "load_eager": True, "drop_remainder": False}
    sampling = {"sampling_type": kind, "sampling_ratio": 0.5}
    loader = way.loader(way.both(), shuffle=shuffle, **options, **sampling)
    train, _ = loader.train_test_split(0.3)
    large, small = expected_rows(kind, 0.5, 70, 21)
    epoch = ids(train.as_numpy())
    assert (sum(id_ < 1000 for id_ in epoch), sum(id_ >= 1000 for id_ in epoch)) == (large, small)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_ratio_that_is_too_low(way: Way, shuffle: bool) -> None:
    def loader(replacement: bool) -> Any:
        return way.loader(
            way.both(),
            columns=["half", "id"],
            shuffle=shuffle,
            drop_remainder=False,
            load_eager=True,
            sampling_type="undersampling",
            sampling_ratio=0.2,
            replacement=replacement,
        )

    # std::invalid_argument in ROOT, ValueError here.
    with pytest.raises(Exception, match="sampling_ratio is too low"):
        loader(False).as_numpy()
    assert len(ids(loader(True).as_numpy())) == 150 + 30


# --- formats --------------------------------------------------------------------------------------


def test_torch(way: Way) -> None:
    torch = pytest.importorskip("torch")
    loader = way.loader(way.frame(), target="label", weights="weight", **IN_ORDER)
    for device in (None, "cpu", torch.device("cpu")):
        x, y, w = next(iter(loader.as_torch(device=device)))
        assert [tuple(part.shape) for part in (x, y, w)] == [(16, 2), (16, 1), (16, 1)]
        assert {part.dtype for part in (x, y, w)} == {torch.float32}
        assert x[:, 1].tolist() == EVERY[:16]


@root_cannot("fills a short last batch up with rows of zeros")
def test_tensorflow(way: Way) -> None:
    pytest.importorskip("tensorflow")
    loader = way.loader(way.frame(), target="label", weights="weight", **IN_ORDER)
    batches = list(loader.as_tensorflow())
    assert [tuple(x.shape) for x, _, _ in batches] == [(16, 2)] * 6 + [(4, 2)]
    assert ids(batches, 0) == EVERY


@root_cannot("has no as_jax; later releases do")
def test_jax(way: Way) -> None:
    pytest.importorskip("jax")
    loader = way.loader(way.frame(), target="label", weights="weight", **IN_ORDER)
    assert ids(loader.as_jax(), 0) == EVERY


@root_cannot("has no save; later releases do")
@pytest.mark.parametrize("output_format", ["ttree", "rntuple"])
def test_save(way: Way, output_format: str, tmp_path: Path) -> None:
    loader = way.loader(way.frame(), target="label", weights="weight", set_seed=3)
    for name, side in zip(("train", "test"), loader.train_test_split(0.3), strict=True):
        path = tmp_path / f"{name}.root"
        side.save(name, path, output_format=output_format)
        stored = rootfeed.root.RDataFrame(name, path).AsNumpy()
        assert {key: str(column.dtype) for key, column in stored.items()} == {
            "half": "float32",
            "id": "int32",
            "label": "int32",
            "weight": "float32",
        }
        assert len(stored["id"]) == (30 if name == "test" else 70)
        assert np.array_equal(stored["id"], np.sort(stored["id"]))
        assert np.array_equal(stored["weight"], (stored["id"] % 5 + 0.5).astype(np.float32))
    assert {path.name for path in tmp_path.iterdir()} == {"train.root", "test.root"}
