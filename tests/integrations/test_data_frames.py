"""Tables in memory that speak Arrow's C protocol: pandas, polars, pyarrow, DuckDB."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, MissingColumnError, UnsupportedColumnError

pa = pytest.importorskip("pyarrow")

SEEN = {"x": [1.5, 2.5, 4.0], "n": [2**62 + 1, 1, -2], "s": ["a", "bc", ""], "flag": [True, False, True]}


def assert_seen(frame: rf.Frame) -> None:
    got = frame.arrays(list(SEEN))
    assert {name: ak.to_list(values) for name, values in got.items()} == SEEN
    assert [frame.columns[name].dtype for name in ("x", "n", "flag")] == ["f8", "i8", "?"]
    assert frame.define("y", "2 * x").filter("flag").arrays("y")["y"].tolist() == [3, 8]


def test_data_frames_of_pandas_are_opened() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(SEEN, index=[7, 8, 9])  # not one of those that pandas leaves out itself
    for frame in (rf.from_arrays(table), rf.open(table)):
        assert list(frame.columns) == list(SEEN)
        assert_seen(frame)
    named = table.set_index("n")
    assert_seen(rf.open(named))
    [(x, y)] = rf.Loader(table, 3, ["x"], "flag", shuffle=False)
    assert np.column_stack([x, y]).tolist() == [[1.5, 1], [2.5, 0], [4, 1]]


def test_what_is_missing_in_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {
            "x": [1.0, np.nan, 3.0],
            "f4": np.array([np.nan, 1, 2], "f4"),
            "own": pandas.array([1, None, 3], dtype="Int16"),
            "real": pandas.array([0.5, None, 1.5], dtype="Float64"),
            "s": ["a", None, "b"],
            "c": pandas.Categorical(["u", "v", "u"]),
            "when": pandas.to_datetime(["2020-01-01", None, "2020-01-02"]).as_unit("ns"),
        }
    )
    frame = rf.from_arrays(table)
    got = frame.arrays(["x", "f4", "c"])
    np.testing.assert_array_equal(got["x"], [1, np.nan, 3])
    np.testing.assert_array_equal(got["f4"], np.array([np.nan, 1, 2], "f4"))
    assert got["f4"].dtype == np.float32
    assert got["c"].tolist() == ["u", "v", "u"]
    for name in ("own", "real", "s", "when"):
        with pytest.raises(
            UnsupportedColumnError, match=rf"'{name}' has no value .*fill_null={{'{name}'"
        ):
            frame.arrays(name)
    filled = rf.open(table, fill_null={"x": 0, "own": -1, "real": 0, "s": "?", "when": 0}).arrays()
    assert filled["x"].tolist() == [1, 0, 3]
    assert filled["own"].tolist() == [1, -1, 3]
    assert filled["own"].dtype == np.int16
    assert filled["real"].tolist() == [0.5, 0, 1.5]
    assert filled["s"].tolist() == ["a", "?", "b"]
    assert filled["when"].tolist() == [1577836800 * 10**9, 0, 1577923200 * 10**9]
    np.testing.assert_array_equal(filled["f4"], got["f4"])


def test_data_frames_of_polars_are_opened() -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(
        {
            **SEEN,
            "vector": [[1, 2], [], [3]],
            "array": np.arange(12, dtype="i2").reshape(3, 2, 2),
            "struct": [{"u": 1, "v": "a"}, {"u": 2, "v": "b"}, {"u": 3, "v": "c"}],
            "hits": [[{"e": 0.5}], [], [{"e": 1.5}, {"e": 2.5}]],
            "few": polars.Series(["p", "q", "p"], dtype=polars.Categorical),
            "sparse": polars.Series([None, 5, None], dtype=polars.UInt8),
        }
    )
    chunked = polars.concat([table[:1], table[1:]], rechunk=False)
    for given in (table, chunked):
        frame = rf.from_arrays(given)
        assert_seen(frame)
        names = ["vector", "array", "struct.u", "struct.v", "hits.e", "few"]
        got = {name: ak.to_list(values) for name, values in frame.arrays(names).items()}
        want = {name: table[name].to_list() for name in ("vector", "array", "few")}
        members = {"struct.u": [1, 2, 3], "struct.v": ["a", "b", "c"], "hits.e": [[0.5], [], [1.5, 2.5]]}
        assert got == {**want, **members}
        assert frame.columns["array"].shape == (2, 2)
        with pytest.raises(UnsupportedColumnError, match="'struct' is of type struct"):
            frame.arrays("struct")
        with pytest.raises(ArgumentError, match="'sparse' is uint8, which cannot hold fill_null=256"):
            rf.from_arrays(given, fill_null={"sparse": 256})
        assert rf.open(given, fill_null=255).arrays("sparse")["sparse"].tolist() == [255, 5, 255]


def test_results_of_duckdb_are_opened() -> None:
    duckdb = pytest.importorskip("duckdb")
    query = "select i, i / 2 as half, [i, i + 1] as pair, i * 1.5 as exact from range(4000) as t(i)"
    frame = rf.open(duckdb.sql(query))
    got = frame.arrays(["i", "half", "pair"])
    assert got["i"].tolist() == list(range(4000))
    assert got["half"].tolist() == [each / 2 for each in range(4000)]
    assert ak.to_list(got["pair"]) == [[each, each + 1] for each in range(4000)]
    with pytest.raises(UnsupportedColumnError, match=r"'exact' is of type decimal.*cast\('float64'\)"):
        frame.arrays("exact")


def test_tables_of_pyarrow_are_opened() -> None:
    table = pa.table({**SEEN, "missing": [None, 1, None], "nothing": pa.nulls(3)})
    for given in (table, table.to_batches()[0], table.to_reader()):
        assert_seen(rf.open(given))
    numbers = np.arange(5.0)
    frame = rf.from_arrays(pa.table({"x": pa.array(numbers)}))
    [location] = rf.frame.view_of(frame).files.locations
    assert np.shares_memory(location.table.columns["x"], numbers)
    with pytest.raises(MissingColumnError, match="no column 'y', which fill_null names"):
        rf.from_arrays(table, fill_null={"y": 0})
    filled = rf.from_arrays(table, fill_null={"missing": 0, "nothing": 0.5}).arrays(
        ["missing", "nothing"]
    )
    assert filled["missing"].tolist() == [0, 1, 0]
    assert filled["nothing"].tolist() == [0.5] * 3
    with pytest.raises(UnsupportedColumnError, match="'nothing' has no value"):
        rf.from_arrays(table).arrays("nothing")
    with pytest.raises(ArgumentError, match="ChunkedArray gives no table"):
        rf.from_arrays(table.column("x"))
    empty = rf.from_arrays(table.slice(0, 0))
    assert empty.num_entries == 0
    assert empty.arrays("x")["x"].dtype == np.float64


def test_splits_and_states_know_tables_by_their_values() -> None:
    def ids(table: Any) -> list[Any]:
        loader = rf.Loader(table, 10, ["id"], seed=3)
        train, _ = loader.split(0.5, seed=1)
        return [batch.tolist() for batch in train]

    columns = {"id": np.arange(300.0)}
    table = pa.table(columns)
    assert ids(table) == ids(pa.Table.from_batches(table.to_batches(max_chunksize=70)))


def test_several_tables_are_one_dataset() -> None:
    tables = [pa.table({"x": pa.array([1.0, None])}), pa.table({"x": pa.array([2.0, 3.0])})]
    for given in (tables, [tables[0], rf.open(tables[1])]):
        [batch] = rf.Loader(given, 4, shuffle=False, fill_null=9)
        assert batch.tolist() == [[1], [9], [2], [3]]
    mixed = rf.mixed([rf.open(tables[0], fill_null=0), tables[1]])
    assert all(len(batch) == 2 for batch in rf.Loader(mixed, 2, ["x"]))


def test_arrays_are_opened_as_they_are() -> None:
    columns = {"x": np.arange(3.0), "v": ak.Array([[1], [], [2, 3]])}
    assert rf.open(columns).arrays("x")["x"].tolist() == [0, 1, 2]
    [batch] = rf.Loader({"x": columns["x"]}, 3, shuffle=False)
    assert batch.tolist() == [[0], [1], [2]]
    with pytest.raises(ArgumentError, match=r"fill_null is for tables.*awkward\.fill_none"):
        rf.from_arrays(columns, fill_null=0)


def test_neither_pandas_nor_polars_is_needed() -> None:
    code = """if True:
        import sys

        class Refuse:
            def find_spec(self, name, *_):
                if name in ("pandas", "polars"):
                    raise ModuleNotFoundError(name=name)

        sys.meta_path.insert(0, Refuse())
        import pyarrow
        import rootfeed as rf

        print(rf.open(pyarrow.table({"x": [1, None]}), fill_null=2).arrays()["x"].tolist())
    """
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[1, 2]"
