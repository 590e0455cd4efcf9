"""Each mistake of a user is told apart, and told how to mend."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.dataset.budget import budget_bytes
from rootfeed.errors import (
    ArgumentError,
    MissingColumnError,
    MissingFileError,
    RootfeedError,
    UnsupportedColumnError,
)
from samples import File, in_a_row, open_events, write, write_all, write_columns


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options")


@pytest.fixture(scope="session")
def path(folder: Path) -> str:
    return write(folder / "events.root", File(300))


@pytest.fixture(scope="session")
def frame(path: str) -> rf.Frame:
    return rf.open(path)


@pytest.fixture(scope="session")
def odd(folder: Path) -> rf.Frame:
    """A file with columns that are no number per entry."""
    name = folder / "odd.root"
    with uproot.recreate(name) as file:
        events = file.mkrntuple("events", {"hits": "var * float64", "name": "string", "pt": "float64"})
        events.extend({"hits": [[1.0], [], [2.0, 3.0]], "name": ["a", "b", "c"], "pt": np.arange(3.0)})
    return rf.open(name)


def refusal(error: type[RootfeedError], frame: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(error) as caught:
        rf.Loader(frame, *arguments, **options)
    return str(caught.value)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_size", "threads", "chunk_entries", "block_entries"])
class TestCounts:
    @pytest.mark.parametrize("value", [0, -1, 2**31, np.int64(-3)])
    def test_out_of_range(self, frame: rf.Frame, name: str, value: int) -> None:
        text = refusal(ArgumentError, frame, **{name: value})
        assert text == f"{name} must be positive and below 2^31, got {value}."

    @pytest.mark.parametrize("value", [1.5, 10.0, True, "10", [1], np.float32(3)])
    def test_not_an_integer(self, frame: rf.Frame, name: str, value: Any) -> None:
        text = refusal(ArgumentError, frame, **{name: value})
        assert text == f"{name} must be an integer, got {value!r}."

    @pytest.mark.parametrize("value", [np.int32(50), np.uint8(50), 50])
    def test_integers_of_any_type(self, frame: rf.Frame, name: str, value: Any) -> None:
        options = {"batch_size": 10, "features": ["id"]} | {name: value}
        assert sum(len(x) for x in rf.Loader(frame, **options)) == 300


SETS: dict[str, Any] = {
    "features": lambda frame: rf.Loader(frame, features={"pt", "id"}),
    "features['jets']": lambda frame: rf.Loader(frame, features={"jets": frozenset(["pt", "id"])}),
    "target": lambda frame: rf.Loader(frame, features=["id"], target={"pt", "id"}),
    "padded": lambda frame: rf.padded({"pt", "id"}, length=2),
    "by": lambda frame: rf.Loader(frame, features=["id"]).split(0.5, by={"pt", "id"}),
    "files": lambda frame: rf.open({"pt", "id"}),
}


@pytest.mark.parametrize("name", SETS)
def test_sets_have_no_order(frame: rf.Frame, name: str) -> None:
    """Of texts, each process has another one: columns of a batch would change places."""
    with pytest.raises(ArgumentError) as caught:
        SETS[name](frame)
    assert str(caught.value) == f"{name} must be in an order, which a set has not: write ['id', 'pt']."


def test_keys_of_a_mapping_have_an_order(frame: rf.Frame) -> None:
    chosen = {"root": "a root", "id": "a number"}
    assert rf.Loader(frame, features=chosen.keys()).features == ("root", "id")


@pytest.mark.parametrize("seed", [1.5, "1", True])
def test_wrong_seeds(frame: rf.Frame, seed: Any) -> None:
    assert refusal(ArgumentError, frame, seed=seed) == f"seed must be an integer, got {seed!r}."


@pytest.mark.parametrize("seed", [0, -1, 2**200, np.int64(7)])
def test_any_integer_is_a_seed(frame: rf.Frame, seed: int) -> None:
    loader = rf.Loader(frame, features=["id"], seed=seed)
    assert loader.seed == seed
    assert type(loader.seed) is int


def test_a_chunk_smaller_than_a_batch(frame: rf.Frame) -> None:
    text = refusal(ArgumentError, frame, 100, chunk_entries=99)
    assert text == "chunk_entries must be at least batch_size (100), got 99."


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("1 GB", 10**9),
        ("1GB", 10**9),
        ("1 gb", 10**9),
        ("100 MB", 10**8),
        ("1.5 kB", 1500),
        (".5 MB", 500_000),
        ("2 MiB", 2 * 1024**2),
        ("3 KiB", 3 * 1024),
        ("1 TB", 10**12),
        ("7 B", 7),
        ("12345", 12345),
        (" 5 M ", 5_000_000),
        (10**9, 10**9),
        (1e9, 10**9),
    ],
)
def test_memory_in_words_and_numbers(memory: Any, expected: int) -> None:
    assert budget_bytes(memory) == expected


def test_memory_of_a_numpy_number() -> None:
    assert budget_bytes(np.int64(10**9)) == 10**9
    assert budget_bytes(np.float32(1024)) == 1024


def test_automatic_memory_is_reasonable() -> None:
    assert 1_000_000 <= budget_bytes("auto") <= 4_000_000_000


@pytest.mark.parametrize("memory", ["1 XB", "lots", "", "-1 GB", "1 GB RAM", "1e9", "GB", "1,5 GB"])
def test_memory_that_is_no_amount(frame: rf.Frame, memory: str) -> None:
    text = refusal(ArgumentError, frame, memory=memory)
    assert text == f"memory must look like '500 MB', '2 GB' or 'auto', got {memory!r}."


@pytest.mark.parametrize("memory", [0, -5, True, None, [1], float("nan"), float("inf"), 2**70])
def test_memory_that_is_no_number_of_bytes(frame: rf.Frame, memory: Any) -> None:
    text = refusal(ArgumentError, frame, memory=memory)
    assert text == f"memory must be a positive number of bytes, got {memory!r}."


def test_no_memory_in_words(frame: rf.Frame) -> None:
    assert "memory must be a positive number of bytes" in refusal(ArgumentError, frame, memory="0 MB")


def test_memory_that_is_too_little(frame: rf.Frame) -> None:
    text = refusal(ArgumentError, frame, 100, ["id", "half"], memory="1 kB")
    assert "memory=1000 bytes is too little for batches of 100 rows of 8 bytes" in text
    assert "or smaller batches" in text
    enough = int(re.findall(r"at least (\d+) bytes", text)[0])
    loader = rf.Loader(frame, 100, ["id", "half"], memory=enough)
    assert sum(len(x) for x in loader) == 300


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "use"),
    [
        ({"features": ["id", "wieght"]}, "feature"),
        ({"features": "wieght"}, "feature"),
        ({"target": "wieght"}, "target"),
        ({"target": ["label", "wieght"]}, "target"),
        ({"target": "label", "weights": "wieght"}, "weight"),
    ],
)
def test_a_misspelt_column(frame: rf.Frame, path: str, options: dict[str, Any], use: str) -> None:
    text = refusal(MissingColumnError, frame, **options)
    assert text == f"{path} has no column 'wieght' to use as {use}. Did you mean 'weight'?"


@pytest.mark.parametrize("text", ["half * 2", "log(half)", "half > 0 && id < 3"])
def test_an_expression_in_the_place_of_a_column(frame: rf.Frame, path: str, text: str) -> None:
    for options, use in (({"features": ["id", text]}, "feature"), ({"target": text}, "target")):
        assert refusal(MissingColumnError, frame, **options) == (
            f"{path} has no column {text!r} to use as {use}. Expressions are defined first, "
            f"frame = frame.define('number', {text!r}), and named then."
        )
    # Of names that are none, no expression is made.
    assert "Did you mean 'half'?" in refusal(MissingColumnError, frame, features=["half-x"])


def test_a_column_like_nothing_there_is(frame: rf.Frame) -> None:
    text = refusal(MissingColumnError, frame, features="qqqqqq")
    assert "There are: 'id', 'half', 'root', 'code'" in text


def test_case_is_no_obstacle_to_a_hint(frame: rf.Frame) -> None:
    assert "Did you mean 'id'?" in refusal(MissingColumnError, frame, features="ID")


def test_a_column_missing_in_another_file(folder: Path) -> None:
    files = in_a_row(File(100), File(100))
    first = write(folder / "full.root", files[0])
    for format in ("TTree", "RNTuple"):
        second = write_columns(
            folder / f"lacks-{format}.root", {"id": np.arange(9), "halv": np.arange(9.0)}, format=format
        )
        text = refusal(MissingColumnError, open_events([first, second]), 10, ["id", "half"])
        assert text == f"{second}:events has no column 'half'. Did you mean 'halv'?"
        # So too where the files are frames of their own.
        text = refusal(MissingColumnError, [rf.open(first), rf.open(second)], 10, ["id", "half"])
        assert text.startswith(f"{second} has no column 'half' to use as feature. Did you mean 'halv'?")
        # What is not asked for may be missing.
        loader = rf.Loader(open_events([first, second]), 10, ["id"])
        assert loader.num_rows == 109


def test_a_vector_column(odd: rf.Frame) -> None:
    text = refusal(UnsupportedColumnError, odd, 2, ["pt", "hits"])
    assert f"{odd.files[0]}: column 'hits' (" in text
    assert "holds several numbers per entry; it cannot be a feature. Use rootfeed.padded" in text
    assert "cannot be a target" in refusal(UnsupportedColumnError, odd, 2, ["pt"], "hits")
    assert "cannot be a weight" in refusal(UnsupportedColumnError, odd, 2, ["pt"], "pt", "hits")


def test_a_text_column(odd: rf.Frame) -> None:
    text = refusal(UnsupportedColumnError, odd, 2, ["name"])
    assert "column 'name' (std::string) holds text; it cannot be a feature." in text


def test_only_numeric_columns_are_taken_by_themselves(odd: rf.Frame) -> None:
    assert rf.Loader(odd, 2).features == ("pt",)


def test_other_names_of_target_and_weights_are_not_taken() -> None:
    frame = rf.from_arrays({name: np.arange(6.0) for name in ("pt", "eta", "label", "w")})
    named = frame.alias("truth", "label").alias("scale", "w").alias("again", "truth")
    for target, weights in (("label", "w"), ("truth", "scale"), ("again", "`scale`")):
        assert rf.Loader(named, 2, None, target, weights).features == ("pt", "eta")
    # A name that stays with what the column was before is another column.
    changed = frame.alias("raw", "label").redefine("label", "label > 2")
    assert rf.Loader(changed, 2, None, "label").features == ("pt", "eta", "w", "raw")
    assert rf.Loader(changed, 2, None, "raw").features == ("pt", "eta", "label", "w")


def test_no_column_is_left(odd: rf.Frame) -> None:
    text = refusal(ArgumentError, odd, 2, target="pt")
    assert "has no numeric column left to use as a feature" in text
    assert odd.files[0] in text


def test_a_column_that_is_a_vector_in_another_file(odd: rf.Frame, folder: Path) -> None:
    flat = write_columns(folder / "flat.root", {"pt": np.arange(5.0), "hits": np.arange(5.0)})
    both = open_events([flat, odd.files[0]])
    text = refusal(UnsupportedColumnError, both, 2, ["hits"])
    assert f"{odd.files[0]}:events: column 'hits'" in text


@pytest.mark.parametrize("features", [[], (), "", iter(())])
def test_no_features(frame: rf.Frame, features: Any) -> None:
    text = refusal(ArgumentError, frame, features=features)
    assert text == "features must name at least one column, got none."


@pytest.mark.parametrize("argument", ["features", "target"])
def test_a_column_twice(frame: rf.Frame, argument: str) -> None:
    text = refusal(ArgumentError, frame, **{argument: ["id", "half", "id"]})
    assert text == f"{argument} names 'id' more than once."


@pytest.mark.parametrize("argument", ["features", "target", "weights"])
@pytest.mark.parametrize("value", [[1], [None], [b"id"], [("id", "half")]])
def test_names_that_are_no_text(frame: rf.Frame, argument: str, value: Any) -> None:
    options = {"target": "label"} | {argument: value}
    text = refusal(ArgumentError, frame, **options)
    assert text == f"{argument} must be names of columns, got {value[0]!r}."


@pytest.mark.parametrize("argument", ["features", "target", "weights"])
@pytest.mark.parametrize("value", [5, 1.5, True])
def test_names_that_are_no_names(frame: rf.Frame, argument: str, value: Any) -> None:
    options = {"target": "label"} | {argument: value}
    text = refusal(ArgumentError, frame, **options)
    assert f"{argument} must be names of columns, got {value!r}" in text


def test_names_from_any_iterable(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 10, (name for name in ("id", "half")), target=iter(["label"]))
    assert (loader.features, loader.target) == (("id", "half"), ("label",))
    loader = rf.Loader(frame, 10, frame.columns, dtype="f8")
    assert loader.features == tuple(frame.columns)
    loader = rf.Loader(frame, 10, np.array(["id", "half"]))
    assert loader.features == ("id", "half")


def test_weights_without_a_target(frame: rf.Frame) -> None:
    text = refusal(ArgumentError, frame, weights="weight")
    assert text == "weights='weight' needs a target: a batch is x, (x, y) or (x, y, w)."


def test_several_weights(frame: rf.Frame) -> None:
    text = refusal(ArgumentError, frame, target="label", weights=["weight", "half"])
    assert text == "weights must be one column, got ['weight', 'half']."


# --- dtypes ---------------------------------------------------------------------------------------


def test_reals_as_integers(frame: rf.Frame, path: str) -> None:
    text = refusal(UnsupportedColumnError, frame, 10, ["id", "half"], dtype="int64")
    assert text == (
        f"{path}: column 'half' is float32; dtype='int64' would cut its fractions off. "
        "Choose a floating dtype, or leave the column out."
    )
    text = refusal(UnsupportedColumnError, frame, 10, ["id"], "root", target_dtype="i4")
    assert "column 'root' is float64; target_dtype='int32' would" in text


@pytest.mark.parametrize("argument", ["dtype", "target_dtype"])
@pytest.mark.parametrize("dtype", ["bool", "complex64", "S3", "U5", "object", "M8[s]", "longdouble"])
def test_dtypes_that_are_no_numbers(frame: rf.Frame, argument: str, dtype: str) -> None:
    text = refusal(ArgumentError, frame, 10, ["id"], "label", **{argument: dtype})
    assert text.startswith(f"{argument} must be an integer or floating dtype of at most 64 bits, got ")


@pytest.mark.parametrize("argument", ["dtype", "target_dtype"])
@pytest.mark.parametrize("dtype", ["float23", 17, "nonsense", {"names": ["a"]}])
def test_dtypes_that_do_not_exist(frame: rf.Frame, argument: str, dtype: Any) -> None:
    text = refusal(ArgumentError, frame, 10, ["id"], "label", **{argument: dtype})
    assert text == f"{argument} must be a NumPy dtype, got {dtype!r}."


def test_torch_dtypes_are_told_apart(frame: rf.Frame) -> None:
    torch = pytest.importorskip("torch")
    text = refusal(ArgumentError, frame, 10, ["id"], dtype=torch.float32)
    assert text == "dtype must be a NumPy dtype, got torch.float32."


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [False, True])
def test_a_path_in_place_of_a_frame(path: str, as_path: bool) -> None:
    given = Path(path) if as_path else path
    expected = list(map(bytes, rf.Loader(rf.open(path), 10, ["id"], seed=1)))
    for same in (given, [given], {path: "events"}):
        loader = rf.Loader(same, 10, ["id"], seed=1)
        assert list(map(bytes, loader)) == expected


def test_no_path() -> None:
    assert "no-such-file.root" in refusal(MissingFileError, "no-such-file.root:events")


@pytest.mark.parametrize("wrong", [None, 5, [None]])
def test_something_else_in_place_of_a_frame(wrong: Any) -> None:
    named = wrong[0] if isinstance(wrong, list) else wrong
    assert refusal(ArgumentError, wrong) == f"a file must be named by a str or a Path, got {named!r}."


def test_frames_and_paths_do_not_mix(frame: rf.Frame, path: str) -> None:
    assert f"rootfeed.open({path!r})" in refusal(ArgumentError, [frame, path])
    assert "a file must be named by" in refusal(ArgumentError, {frame: "events"})


def test_no_frames() -> None:
    assert refusal(ArgumentError, []) == "a loader needs at least one frame, got none."


def test_nothing_warns(frame: rf.Frame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader = rf.Loader(frame, 10, ["id", "half"], "label", "weight", seed=1)
        for _ in loader:
            pass


def test_a_thousand_pages_are_one_file(folder: Path) -> None:
    paths = write_all(folder / "many", in_a_row(*[File(30, page=3)] * 4), ["id", "half"])
    loader = rf.Loader(open_events(paths), 7, ["id"], chunk_entries=40, block_entries=1)
    assert len(np.unique(np.concatenate(list(loader)))) == 120
