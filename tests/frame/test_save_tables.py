"""What is saved as Parquet, Arrow, HDF5 is what pyarrow and h5py read; files are complete or absent."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import (
    AccessError,
    ArgumentError,
    MissingColumnError,
    MissingFileError,
    UnreachableError,
    UnsupportedColumnError,
)
from samples import File, in_a_row, open_events, write_all

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 700
IDS = np.arange(ROWS)
NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")


def columns() -> dict[str, Any]:
    random = np.random.default_rng(5)

    def some(code: str, size: int) -> np.ndarray:
        if code == "?":
            return random.random(size) < 0.5
        if code[0] == "f":
            return np.where(random.random(size) < 0.1, np.nan, random.normal(size=size)).astype(code)
        limits = np.iinfo(code)
        return random.integers(limits.min, limits.max, size, code, endpoint=True)

    counts = IDS % 4
    made: dict[str, Any] = {"id": IDS}
    made |= {f"scalar {code}": some(code, ROWS) for code in NUMBERS}
    made |= {f"v{code}": ak.unflatten(some(code, int(counts.sum())), counts) for code in NUMBERS}
    made |= {f"m.{code}": some(code, 6 * ROWS).reshape(ROWS, 2, 3) for code in NUMBERS}
    made["text"] = ak.Array([["", "électron", "x" * 40][each % 3] + str(each) for each in IDS])
    return made


@pytest.fixture(scope="module")
def table() -> rf.Frame:
    return rf.from_arrays(columns())


def read_parquet(path: Path) -> dict[str, Any]:
    return {name: ak.from_arrow(column) for name, column in arrow_columns(pq.read_table(path)).items()}


def read_feather(path: Path) -> dict[str, Any]:
    found = pa.ipc.open_file(path).read_all()
    return {name: ak.from_arrow(column) for name, column in arrow_columns(found).items()}


def arrow_columns(found: Any) -> dict[str, Any]:
    assert not any(field.nullable for field in found.schema)
    return {name: found.column(name).combine_chunks() for name in found.column_names}


def read_hdf5(path: Path) -> dict[str, Any]:
    h5py = pytest.importorskip("h5py")
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        for name, data in file.items():
            if h5py.check_string_dtype(data.dtype):
                found[name] = ak.Array(list(data.asstr()[:]))
            elif h5py.check_vlen_dtype(data.dtype):
                values = list(data[:])
                flat = np.concatenate(values) if values else np.empty(0)
                found[name] = ak.unflatten(flat, np.array([len(each) for each in values], int))
            else:
                found[name] = ak.Array(data[:])
    return found


READERS = {"out.parquet": read_parquet, "out.arrow": read_feather, "out.h5": read_hdf5}

each_format = pytest.mark.parametrize("name", READERS)


def needed(name: str) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")


@each_format
def test_tables_are_read_as_they_were(name: str, table: rf.Frame, tmp_path: Path) -> None:
    needed(name)
    cut = table.define("twice", "2 * id").filter("id % 5 != 0 && id > 20")
    cut.save(tmp_path / name)
    expected = cut.arrays()
    found = READERS[name](tmp_path / name)
    assert set(found) == set(expected)
    for column, values in expected.items():
        got = found[column]
        if column == "text":
            assert got.to_list() == values.to_list()
            continue
        flat = ak.to_numpy(ak.flatten(ak.Array(values), axis=None))
        again = ak.to_numpy(ak.flatten(got, axis=None))
        assert again.dtype == flat.dtype, column
        np.testing.assert_array_equal(again, flat, err_msg=column)
        if column.startswith("v"):
            assert ak.num(got).to_list() == ak.num(values).to_list()
        if column.startswith("m"):
            assert ak.to_numpy(got).shape == (len(again) // 6, 2, 3)
    [left] = tmp_path.iterdir()
    assert left.name == name


@pytest.mark.parametrize("name", ["out.parquet", "out.feather"])
def test_tables_are_opened_again(name: str, table: rf.Frame, tmp_path: Path) -> None:
    table.save(tmp_path / name)
    again = rf.open(tmp_path / name)
    assert list(again.columns) == list(table.columns)
    for column, type_ in table.columns.items():
        got = again.columns[column]
        assert (got.kind, got.dtype, got.shape) == (type_.kind, type_.dtype, type_.shape)
    expected, found = table.arrays(), again.arrays()
    for column, values in expected.items():
        assert str(ak.to_list(found[column])) == str(ak.to_list(values)), column  # NaN is NaN
    again.save(tmp_path / f"second{Path(name).suffix}")
    assert (tmp_path / f"second{Path(name).suffix}").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.root", "a.parquet", "a.arrow", "a.h5"])
@pytest.mark.parametrize(
    "vectors", [[[1, 2, 3]], [[1], [2], [3]], [[1, 2], [3, 4], [5, 6]], [[], []], [[], [7]]]
)
def test_vectors_that_are_as_long_as_each_other(vectors: Any, name: str, tmp_path: Path) -> None:
    numbers = ak.values_astype(ak.Array(vectors), np.int32)
    flags = ak.values_astype(numbers % 2, np.bool_)
    made = {"number": numbers, "flag": flags, "real": ak.values_astype(numbers, np.float64)}
    rf.from_arrays(made).save(tmp_path / name)
    got = rf.open(str(tmp_path / name)).arrays(list(made))
    assert {key: each.to_list() for key, each in got.items()} == {
        key: each.to_list() for key, each in made.items()
    }
    assert str(got["flag"].type.content.content) == "bool"


@pytest.mark.parametrize("name", ["a.root", "a.parquet", "a.arrow", "a.h5"])
def test_columns_stay_in_their_order(name: str, tmp_path: Path) -> None:
    made = {f"c{number}": np.full(5, number, np.float32) for number in (9, 1, 30, 4, *range(10, 24))}
    rf.from_arrays(made).save(tmp_path / name)
    assert list(rf.open(str(tmp_path / name)).columns) == list(made)
    [batch] = rf.Loader(tmp_path / name, batch_size=5)  # columns that nobody names come in this order
    assert batch[0].tolist() == [each[0] for each in made.values()]


@pytest.mark.parametrize("name", ["a.root", "a.parquet", "a.arrow", "a.h5"])
def test_no_columns_are_refused(name: str, table: rf.Frame, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"there is no column to write\. Name at least one\."):
        table.save(tmp_path / name, [])
    assert not list(tmp_path.iterdir())


def test_row_groups_are_of_a_sensible_size(tmp_path: Path) -> None:
    rows = 300_000
    frame = rf.from_arrays({"x": np.arange(rows, dtype="f4"), "wide": np.zeros((rows, 64), "f4")})
    frame.save(tmp_path / "narrow.parquet", "x")
    frame.save(tmp_path / "wide.parquet")
    for name in ("narrow", "wide"):
        metadata = pq.read_metadata(tmp_path / f"{name}.parquet")
        groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        assert sum(groups) == rows
        assert max(groups) <= 65536
        assert len(groups) <= 12
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(tmp_path / "narrow.parquet").column("x").to_numpy().tolist() == list(
        range(rows)
    )


@pytest.mark.parametrize("name", [*READERS, "out.root"])
def test_no_rows_are_saved_too(name: str, table: rf.Frame, tmp_path: Path) -> None:
    needed(name)
    table.filter("id < 0").save(tmp_path / name, ["id", "vf4", "m.i2", "text"])
    if name in READERS:
        assert {column: len(values) for column, values in READERS[name](tmp_path / name).items()} == {
            "id": 0,
            "vf4": 0,
            "m.i2": 0,
            "text": 0,
        }
    if name != "out.h5":
        assert rf.open(tmp_path / name).num_entries == 0


def test_files_of_other_types_become_one(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"x": np.arange(3, dtype="i4"), "y": np.arange(3.0)}), tmp_path / "0.parquet"
    )
    pq.write_table(pa.table({"x": np.arange(3) + 2**40, "y": [[1.0]] * 3}), tmp_path / "1.parquet")
    frame = rf.open([tmp_path / "0.parquet", tmp_path / "1.parquet"])
    frame.save(tmp_path / "out.parquet", "x")
    assert pq.read_table(tmp_path / "out.parquet").column("x").to_pylist() == [0, 1, 2] + [
        2**40 + each for each in range(3)
    ]
    with pytest.raises(UnsupportedColumnError, match="'y' is a scalar in some files and a vector in"):
        frame.save(tmp_path / "y.parquet", "y")


@each_format
def test_what_cannot_be_saved_is_told(name: str, table: rf.Frame, tmp_path: Path) -> None:
    needed(name)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=r"exists.*overwrite=True"):
        table.save(tmp_path / name)
    with pytest.raises(ArgumentError, match="format='rntuple' is for ROOT's files"):
        table.save(tmp_path / f"new-{name}", format="rntuple")
    with pytest.raises(ArgumentError, match="must be local"):
        table.save(f"https://host/{name}")
    with pytest.raises(MissingFileError, match="There is no directory"):
        table.save(tmp_path / "no" / name)
    nested = rf.open(_nested(tmp_path))
    with pytest.raises(UnsupportedColumnError, match=r"'v'.*holds neither numbers"):
        nested.save(tmp_path / f"new-{name}", "v")
    assert (tmp_path / name).read_bytes() == b"mine"
    table.save(tmp_path / name, "id", overwrite=True)
    assert READERS[name](tmp_path / name)["id"].to_list() == IDS.tolist()
    assert {each.name for each in tmp_path.iterdir()} == {name, "nested.parquet"}


def _nested(folder: Path) -> Path:
    pq.write_table(pa.table({"v": [[[1]]]}), folder / "nested.parquet")
    return folder / "nested.parquet"


def test_a_file_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(ArgumentError, match="is one of the files that are read"):
        rf.open(path).save(path, overwrite=True)
    assert pq.read_table(path).num_rows == 1


def test_texts_that_a_format_cannot_hold(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": [b"\xff"], "zero": ["a\0b"]}), tmp_path / "in.parquet")
    frame = rf.open(tmp_path / "in.parquet")
    with pytest.raises(UnsupportedColumnError, match="'t' has texts that are not UTF-8"):
        frame.save(tmp_path / "out.parquet", "t")
    frame.save(tmp_path / "zero.parquet", "zero")
    assert pq.read_table(tmp_path / "zero.parquet").column("zero").to_pylist() == ["a\0b"]
    pytest.importorskip("h5py")
    with pytest.raises(UnsupportedColumnError, match="'zero' has texts with a zero byte"):
        frame.save(tmp_path / "out.h5", "zero")
    with pytest.raises(ArgumentError, match="no data set that is called 'a/b'"):
        frame.define("a/b", "1").save(tmp_path / "out.h5", "a/b")
    assert {each.name for each in tmp_path.iterdir()} == {"in.parquet", "zero.parquet"}


# --- all or nothing -----------------------------------------------------------------------------

ALL = ["out.parquet", "out.arrow", "out.h5", "out.root"]


@pytest.mark.parametrize("name", ALL)
def test_a_full_disk_leaves_nothing(name: str, tmp_path: Path) -> None:
    needed(name)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    random = np.random.default_rng(1)
    frame = rf.from_arrays({"x": random.integers(0, 2**62, 1_000_000)})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        with pytest.raises(UnreachableError, match=rf"{name} cannot be written"):
            frame.save(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
    frame.range(10).save(tmp_path / name)  # nothing is left open
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(table: rf.Frame, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AccessError, match="cannot be written"):
        table.save(tmp_path / "out.parquet")


@pytest.mark.parametrize("name", ALL)
def test_who_is_killed_leaves_no_file_of_that_name(name: str, tmp_path: Path) -> None:
    needed(name)
    (tmp_path / name).write_bytes(b"before")
    code = f"""
        import numpy as np, rootfeed as rf
        frame = rf.from_arrays({{"x": np.random.default_rng(1).integers(0, 2**62, 20_000_000)}})
        print("ready", flush=True)
        frame.save({str(tmp_path / name)!r}, overwrite=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while not any(each.stat().st_size > 2_000_000 for each in tmp_path.glob(f"{name}.part*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
    assert (tmp_path / name).read_bytes() == b"before"


# --- of loaders ---------------------------------------------------------------------------------

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(150, page=60))


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    return open_events(write_all(tmp_path_factory.mktemp("saved"), FILES))


def test_a_side_of_a_split_is_saved_in_the_order_of_the_files(frame: rf.Frame, tmp_path: Path) -> None:
    cut = frame.define("kind", "id % 3").filter("id % 7 != 0")
    loader = rf.Loader(
        cut, 32, ["half", "id"], "kind", "1.5 * id", seed=2, sampling=rf.balanced("label")
    )
    train, test = loader.split(0.3, seed=1)
    saved = []
    for part, name in ((train, "train"), (test, "test")):
        part.save(tmp_path / f"{name}.parquet")
        part.save(tmp_path / f"{name}.root", ["id"])
        found = rf.open(tmp_path / f"{name}.parquet")
        assert list(found.columns) == ["half", "id", "kind", "weight_"]
        got = found.arrays()
        assert len(got["id"]) == part.num_rows
        assert np.all(np.diff(got["id"].astype(int)) > 0)
        assert got["id"].dtype == cut.columns["id"].dtype
        np.testing.assert_array_equal(got["kind"], got["id"] % 3)
        np.testing.assert_array_equal(got["weight_"], 1.5 * got["id"])
        ids = rf.open(tmp_path / f"{name}.root").arrays("id")["id"]
        np.testing.assert_array_equal(ids, got["id"])
        saved.append(got["id"])
    assert sorted(np.concatenate(saved).tolist()) == cut.arrays("id")["id"].tolist()
    plain = rf.Loader(cut, 32, ["id"], seed=9).split(0.3, seed=1).test
    assert sorted(each for batch in plain for each in batch[:, 0].tolist()) == saved[1].tolist()


def test_vectors_and_arrays_of_a_loader_are_saved_whole(tmp_path: Path) -> None:
    table = rf.from_arrays(columns())
    loader = rf.Loader(
        table,
        10,
        {
            "event": ["scalar f4", rf.flat("vi2", 2)],
            "jets": rf.padded(["vf4", "vf8"], 1, sort_by="vi4"),
            "image": rf.array("m.f4"),
        },
        target="id",
        nonfinite="keep",
    )
    loader.save(tmp_path / "out.arrow")
    found = rf.open(tmp_path / "out.arrow")
    assert list(found.columns) == ["scalar f4", "vi2", "vf4", "vf8", "m.f4", "id"]
    expected, got = table.arrays(list(found.columns)), found.arrays()
    for name in found.columns:
        assert str(ak.to_list(got[name])) == str(ak.to_list(expected[name]))
    with pytest.raises(MissingColumnError, match="no column 'idd'"):
        loader.save(tmp_path / "other.arrow", "idd")


def test_several_frames_are_saved_one_after_another(tmp_path: Path) -> None:
    signal_ = rf.from_arrays({"x": np.arange(40.0)}).define("label", "1").filter("x > 4")
    background = rf.from_arrays({"x": -np.arange(60.0)}).define("label", "0")
    loader = rf.Loader(rf.mixed([signal_, background], [0.5, 0.5]), 8, ["x"], "label", seed=1)
    train, test = loader.split(0.5, seed=4)
    found = []
    for number, part in enumerate((train, test)):
        part.save(tmp_path / f"{number}.parquet")
        got = rf.open(tmp_path / f"{number}.parquet").arrays()
        assert np.all(np.diff(got["label"]) <= 0)
        np.testing.assert_array_equal(got["label"], got["x"] > 0)
        found += got["x"].tolist()
    assert sorted(found) == sorted([*range(5, 40), *(-each for each in range(60))])
