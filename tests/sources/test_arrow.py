"""Parquet and Arrow files: types, how files are divided, and what goes wrong; pyarrow is the oracle."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    ChangedFileError,
    DamagedFileError,
    DuplicateNameWarning,
    MissingColumnError,
    MissingFileError,
    MissingObjectError,
    RootfeedError,
    StateError,
    UnsupportedColumnError,
    UnsupportedFileError,
)
from rootfeed.schema import Jagged
from rootfeed.sources import Location, Scratch
from rootfeed.sources import arrow as source
from rootfiles.values import any_values, generator
from samples import File, epoch_ids, values, write
from servers import serve

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Array = np.ndarray
Write = Callable[..., None]


def write_parquet(path: Path, table: Any, group: int = 100, compression: str = "zstd") -> None:
    pq.write_table(table, path, row_group_size=group, compression=compression)


def write_arrow(path: Path, table: Any, group: int = 100, compression: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=True)
    with pa.ipc.new_file(path, table.schema, options=options) as file:
        file.write_table(table, group)


WRITERS: Mapping[str, Write] = {".parquet": write_parquet, ".arrow": write_arrow}

both = pytest.mark.parametrize("suffix", WRITERS)


def written(folder: Path, suffix: str, columns: Any, **options: Any) -> str:
    """Write columns, or a table, and return the path."""
    path = folder / f"file{suffix}"
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    WRITERS[suffix](path, table, **options)
    return str(path)


def read(path: str, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
    index = source.index(Location(path, None), names)
    stop = index.entries if stop is None else stop
    return dict(
        source.read(
            index,
            names,
            start,
            stop,
            lambda name: np.empty(stop - start, index.dtype(name)),
            Scratch(),
            threading.Event(),
        )
    )


# --- random tables ------------------------------------------------------------------------------

NUMBERS = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def numbers(code: str, entries: int, words: str) -> Any:
    random = generator(0, words)
    if code == "f2":
        return pa.array(random.normal(size=entries).astype("f2"))
    return pa.array(any_values(code, entries, random))


def lists(elements: Any, lengths: Array, kind: Any = None) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    made = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), elements)
    return made.cast(kind) if kind else made


def column_of(kind: str, code: str, entries: int, words: str) -> Any:
    """Return an array of a kind, without nulls."""
    random = generator(1, words)
    if "few" in kind and code == "f2":
        code = "f4"  # pyarrow writes no dictionaries of those
    lengths = random.integers(0, 4, entries)
    match kind:
        case "number":
            return numbers(code, entries, words)
        case "list":
            elements = numbers(code, int(lengths.sum()), words)
            return lists(elements, lengths, pa.list_(elements.type))
        case "large list":
            return lists(numbers(code, int(lengths.sum()), words), lengths)
        case "list view":
            elements = numbers(code, int(lengths.sum()), words)
            starts = random.integers(0, len(elements) - lengths + 1)  # in no order, and overlapping
            return pa.ListViewArray.from_arrays(
                pa.array(starts, pa.int32()), pa.array(lengths, pa.int32()), elements
            )
        case "fixed":
            return pa.FixedSizeListArray.from_arrays(numbers(code, 3 * entries, words), 3)
        case "text" | "large text" | "bytes":
            texts = ["", "é", "électron" * 9, "a,b\0"]
            kind_ = {"text": pa.string(), "large text": pa.large_string(), "bytes": pa.binary()}[kind]
            return pa.array([texts[n] for n in random.integers(0, 4, entries)]).cast(kind_)
        case "few texts":
            few = [f"t{n}" for n in random.integers(0, 3, entries)]
            return pa.array(few, pa.string()).dictionary_encode()
        case "few numbers":
            few = numbers(code, 3, words)
            places = pa.array(random.integers(0, 3, entries).astype("i1"))
            return pa.DictionaryArray.from_arrays(places, few)
        case "list of few":
            few = numbers(code, 3, words)
            places = pa.array(random.integers(0, 3, int(lengths.sum())).astype("i4"))
            return lists(pa.DictionaryArray.from_arrays(places, few), lengths)
    raise AssertionError(kind)


KINDS = (
    *("number", "list", "large list", "list view", "fixed", "text", "large text", "bytes"),
    *("few texts", "few numbers", "list of few"),
)
IN_ARROW_ONLY = ("list view",)  # which Parquet's writer does not take

tables = st.fixed_dictionaries(
    {
        "suffix": st.sampled_from(list(WRITERS)),
        "kinds": st.lists(
            st.tuples(st.sampled_from(KINDS), st.sampled_from(NUMBERS)), min_size=1, max_size=4
        ),
        "entries": st.integers(0, 300),
        "group": st.integers(1, 130),
        "skipped": st.integers(0, 20),
        "compression": st.sampled_from([None, "zstd", "lz4"]),
        "chunks": st.integers(1, 3),
        "ends": st.tuples(st.floats(0, 1), st.floats(0, 1)),
    }
)


def plain(column: Any) -> Any:
    """Return a chunked array in one piece, without dictionaries."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.combine_chunks()


def assert_same(got: Array | Jagged, want: Any, what: str) -> None:
    """Compare what was read with an Arrow array, bit for bit."""
    if not isinstance(got, Jagged):
        expected = want.to_numpy(zero_copy_only=False)
        expected = expected.astype("f4") if expected.dtype == "f2" else expected
        assert got.dtype == expected.dtype, what
        assert got.tobytes() == expected.tobytes(), what
        return
    entries = want.to_pylist()
    if not pa.types.is_nested(want.type):
        entries = [each.encode() if isinstance(each, str) else each for each in entries]
    assert got.lengths.tolist() == [len(each) for each in entries], what
    ends = zip(got.offsets[:-1], got.offsets[1:], strict=True)
    if pa.types.is_nested(want.type):
        elements = [pa.array(each, want.type.value_type) for each in entries if each]
        flat = pa.chunked_array(elements, want.type.value_type)
        assert_same(got.values, plain(flat), what)
    else:
        assert [got.values[low:high].tobytes() for low, high in ends] == entries, what


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=tables)
def test_random_tables_are_read_as_pyarrow_reads_them(case: Any, tmp_path: Path) -> None:
    entries, skipped, suffix = case["entries"], case["skipped"], case["suffix"]
    columns = {}
    for number, (kind, code) in enumerate(case["kinds"]):
        if suffix == ".parquet" and kind in IN_ARROW_ONLY:
            continue
        every = column_of(kind, code, entries + skipped, f"{kind} {code} {number}")
        part = every.slice(skipped)  # whose offsets begin in the middle
        cuts = [entries * number // case["chunks"] for number in range(case["chunks"] + 1)]
        pieces = [part.slice(low, high - low) for low, high in itertools.pairwise(cuts)]
        columns[f"column.{number}"] = pa.chunked_array(pieces, every.type)
    if not columns:
        return
    table = pa.table(columns)
    compression = case["compression"] or ("none" if suffix == ".parquet" else None)
    path = written(tmp_path, suffix, table, group=case["group"], compression=compression)
    start, stop = sorted(round(end * entries) for end in case["ends"])
    names = list(columns)
    _, types = source.types(Location(path, None))
    assert list(types) == names
    for low, high in ((0, entries), (start, stop)):
        got = read(path, names, low, high)
        assert list(got) == names
        for name in names:
            assert_same(got[name], plain(table[name].slice(low, high - low)), name)
    index = source.index(Location(path, None), names)
    for name in names:
        whole = source.read_awkward(index, name, start, stop)
        assert len(whole) == stop - start
        if types[name].kind == "text" and "binary" not in types[name].text:
            assert ak.to_list(whole) == table[name].slice(start, stop - start).to_pylist()


# --- types --------------------------------------------------------------------------------------


@both
def test_times_are_counts_of_their_unit(suffix: str, tmp_path: Path) -> None:
    columns = {
        "timestamp": pa.array([0, 10**15], pa.timestamp("us", "UTC")),
        "date": pa.array([1, 20000], pa.date32()),
        "time": pa.array([5, 6], pa.time32("ms")),
        "duration": pa.array([-1, 2], pa.duration("ns")),
        "float16": pa.array(np.array([0.5, 65504], "f2")),
    }
    frame = rf.open(written(tmp_path, suffix, columns))
    dtypes = {name: str(type_) for name, type_ in frame.columns.items()}
    assert dtypes == {
        "timestamp": "int64",
        "date": "int32",
        "time": "int32",
        "duration": "int64",
        "float16": "float32",
    }
    got = frame.arrays()
    assert {name: values.tolist() for name, values in got.items()} == {
        "timestamp": [0, 10**15],
        "date": [1, 20000],
        "time": [5, 6],
        "duration": [-1, 2],
        "float16": [0.5, 65504.0],
    }


@both
def test_times_of_several_units_are_not_mixed(suffix: str, tmp_path: Path) -> None:
    paths = []
    for unit in ("ms", "us"):
        times = pa.array([1, 2], pa.timestamp(unit))
        lists = pa.array([[1], [2, 3]], pa.list_(pa.duration(unit)))
        (tmp_path / unit).mkdir()
        columns = {"t": times, "v": lists, "id": pa.array([1, 2])}
        paths.append(written(tmp_path / unit, suffix, columns))
    frame = rf.open(paths)
    assert frame.arrays("id")["id"].tolist() == [1, 2, 1, 2]
    for name in ("t", "v"):
        with pytest.raises(UnsupportedColumnError, match=f"column '{name}' counts us in .* and ms in"):
            frame.arrays(name)
    with pytest.raises(UnsupportedColumnError, match=r"column 't' counts us in .* and ms in"):
        rf.Loader(rf.mixed(paths), batch_size=2, features="t")
    first, other = map(rf.open, paths)
    with pytest.raises(ArgumentError, match="column 't' counts ms in the frame and us in the other one"):
        first.join(other, on="t", prefix="other_")
    # Other formats say no unit.
    first.save(tmp_path / "saved.root", "t")
    assert rf.open([paths[0], str(tmp_path / "saved.root")]).arrays("t")["t"].tolist() == [1, 2, 1, 2]
    # Beside one file, two of them.
    both = rf.from_arrays({"x": np.arange(4)}).join(frame)
    with pytest.raises(UnsupportedColumnError, match=r"column 't' is ms in .* and us in"):
        both.arrays("t")


@both
def test_arrays_of_fixed_shape(suffix: str, tmp_path: Path) -> None:
    want = np.arange(5 * 6, dtype="f4").reshape(5, 2, 3)
    inner = pa.FixedSizeListArray.from_arrays(pa.array(want.ravel()), 3)
    nested = pa.FixedSizeListArray.from_arrays(inner, 2)
    columns = {"nested": nested, "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(want)}
    path = written(tmp_path, suffix, columns, group=2)
    frame = rf.open(path)
    for name in columns:
        assert frame.columns[name].shape == (2, 3)
        assert frame.columns[name].dtype == np.float32
        assert np.array_equal(ak.to_numpy(frame.arrays(name)[name]), want)
        assert read(path, [name], 1, 4)[name].values.tobytes() == want[1:4].tobytes()
    [first, *_] = rf.Loader(frame, features=rf.flat("nested", length=6), shuffle=False, batch_size=5)
    assert np.array_equal(first.reshape(5, 2, 3), want)


@both
def test_what_is_no_number_is_read_as_awkward_arrays(suffix: str, tmp_path: Path) -> None:
    columns = {
        "record": pa.array([{"x": 1, "y": 2.0}, {"x": 3, "y": 4.0}]),
        "nested": pa.array([[[1], [2, 3]], []]),
        "words": pa.array([["a"], ["b", "c"]]),
        "x": pa.array([1, 2]),
    }
    frame = rf.open(written(tmp_path, suffix, columns, group=1))
    assert {frame.columns[name].kind for name in columns if name != "x"} == {"other"}
    got = frame.arrays(list(columns))
    for name, column in columns.items():
        assert ak.to_list(got[name]) == column.to_pylist()
    assert list(frame.arrays()) == ["record.x", "record.y", "x"]
    assert frame.define("y", "x + 1").arrays("y")["y"].tolist() == [2, 3]


@both
def test_types_without_a_native_one_are_refused(suffix: str, tmp_path: Path) -> None:
    odd = pa.array([Decimal("1.5")])
    frame = rf.open(written(tmp_path, suffix, {"odd": odd, "x": pa.array([1])}))
    assert frame.arrays("x")["x"].tolist() == [1]
    with pytest.raises(UnsupportedColumnError, match=r"column 'odd' is of type .*cast\('float64'\)"):
        frame.arrays("odd")


def readable(columns: dict[str, Any]) -> dict[str, Any]:
    """Return what this pyarrow reads from Parquet: nulls in lists of one length from 26 on."""
    if int(pa.__version__.partition(".")[0]) >= 26:
        return columns
    return {name: values for name, values in columns.items() if name not in ("fixed", "matrix")}


@both
@pytest.mark.parametrize("statistics", [True, False])
def test_nulls_are_counted_and_refused(suffix: str, statistics: bool, tmp_path: Path) -> None:
    columns = {
        "x": pa.array([1.0, None, None]),
        "flag": pa.array([True, None, False]),
        "text": pa.array(["a", "b", None]),
        "few": pa.array(["a", None, "a"]).dictionary_encode(),
        "vector": pa.array([[1], None, [2]]),
        "inside": pa.array([[1], [None, 2], [3]]),
        "fixed": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)),
        "good": pa.array([1, 2, 3]),
    }
    if suffix == ".parquet":
        columns = readable(columns)
        path = str(tmp_path / "x.parquet")
        pq.write_table(pa.table(columns), path, write_statistics=statistics)
    else:
        path = written(tmp_path, suffix, columns)
    frame = rf.open(path)
    assert frame.arrays("good")["good"].tolist() == [1, 2, 3]
    counts = {"x": "2 of its entries", "inside": "1 elements of its vectors"}
    for name in columns:
        if name == "good":
            continue
        what = counts.get(name, "1 of its entries")
        with pytest.raises(
            UnsupportedColumnError,
            match=rf"column '{name}' has no value \(null\) in {what}, .*fill_null={{'{name}': ",
        ):
            frame.arrays(name)
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None]))
    if suffix == ".arrow":
        path = written(tmp_path, suffix, {"hidden": dictionary})
        with pytest.raises(UnsupportedColumnError, match="in 1 of its entries"):
            rf.open(path).arrays("hidden")


@both
@pytest.mark.parametrize("statistics", [True, False])
def test_nulls_are_filled_where_that_is_asked_for(suffix: str, statistics: bool, tmp_path: Path) -> None:
    big = 2**63 + 1
    columns = {
        "x": pa.array([1.0, None, None]),
        "half": pa.array([1.5, None, 2.5]).cast(pa.float16()),
        "u8": pa.array([big, None, 2**53 + 1], pa.uint64()),
        "i8": pa.array([None, -(2**63), 2**53 + 1], pa.int64()),
        "u2": pa.array([None, 1, 2], pa.uint16()),
        "flag": pa.array([True, None, False]),
        "when": pa.array([None, 5, 6], pa.timestamp("ns")),
        "text": pa.array(["a", "b", None]),
        "few": pa.array(["a", None, "a"]).dictionary_encode(),
        "vector": pa.array([[1, 2], None, [3]]),
        "inside": pa.array([[1], [None, 2], None], pa.large_list(pa.int16())),
        "fixed": pa.array([[1, 2], None, [None, 4]], pa.list_(pa.int32(), 2)),
        "matrix": pa.array([[[1, 2]], [None], None], pa.list_(pa.list_(pa.int32(), 2), 1)),
        "empty": pa.nulls(3),
        "member": pa.array([{"a": 1, "t": "u"}, None, {"a": None, "t": "v"}]),
        "hits": pa.array([[{"e": 1.5}], [None, {"e": None}], None]),
    }
    if suffix == ".parquet":
        columns = readable(columns)
        path = str(tmp_path / "x.parquet")
        pq.write_table(pa.table(columns), path, write_statistics=statistics, row_group_size=2)
    else:
        path = written(tmp_path, suffix, columns, group=2)
    texts = {"text": "?", "few": "", "member.t": "none"}
    fill = dict.fromkeys(columns, 1) | texts | {"u8": big, "i8": -1, "member.a": 7, "hits.e": -2.5}
    del fill["member"], fill["hits"]
    frame = rf.open(path, fill_null=fill)
    got = {name: ak.to_list(values) for name, values in frame.arrays().items()}
    expected = {
        "x": [1.0, 1.0, 1.0],
        "half": [1.5, 1.0, 2.5],
        "u8": [big, big, 2**53 + 1],
        "i8": [-1, -(2**63), 2**53 + 1],
        "u2": [1, 1, 2],
        "flag": [True, True, False],
        "when": [1, 5, 6],
        "text": ["a", "b", "?"],
        "few": ["a", "", "a"],
        "vector": [[1, 2], [], [3]],
        "inside": [[1], [1, 2], []],
        "fixed": [[1, 2], [1, 1], [1, 4]],
        "matrix": [[[1, 2]], [[1, 1]], [[1, 1]]],
        "empty": [1, 1, 1],
        "member.a": [1, 7, 7],
        "member.t": ["u", "none", "v"],
        "hits.e": [[1.5], [-2.5, -2.5], []],
    }
    assert got == {name: values for name, values in expected.items() if name in frame.columns}
    assert set(got) >= set(columns) - {"member", "hits"}
    for name, type_ in frame.columns.items():
        if type_.kind == "scalar" and name != "empty":
            assert type_ == rf.open(path).columns[name]
    numbers = [name for name in got if name not in texts]
    everywhere = rf.open(path, fill_null=float("inf"))
    assert everywhere.arrays("x")["x"].tolist() == [1.0, np.inf, np.inf]
    with pytest.raises(
        ArgumentError, match=r"'u2' is uint16, which cannot hold fill_null=inf.*'u2': \.\."
    ):
        everywhere.arrays("u2")
    assert rf.open(path, fill_null=0).arrays(numbers)["empty"].tolist() == [0, 0, 0]
    batches = list(rf.Loader(rf.open(path, fill_null=0), 2, ["x", "member.a"], shuffle=False))
    assert np.concatenate(batches).tolist() == [[1, 1], [0, 0], [0, 0]]


@both
@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (pa.array([None], pa.uint16()), 65536, "is uint16, which cannot hold fill_null=65536"),
        (pa.array([None], pa.uint16()), -1, "uint16, which cannot hold"),
        (pa.array([None], pa.int32()), float("nan"), "int32, which cannot hold fill_null=nan"),
        (pa.array([None], pa.int32()), 0.5, "int32, which cannot hold"),
        (pa.array([None], pa.bool_()), 2, "bool, which cannot hold"),
        (pa.array([None], pa.float32()), 1e300, "float32, which cannot hold"),
        (pa.array([None], pa.float64()), 2**53 + 1, "float64, which cannot hold"),
        (pa.array([None], pa.int8()), "0", "int8, which cannot hold fill_null='0'"),
        (pa.array([None], pa.string()), 0, "text, which cannot hold fill_null=0"),
        (pa.array([[[1]]]), 0, "holds neither numbers, nor vectors of numbers, nor text"),
    ],
)
def test_what_cannot_fill_a_column(
    suffix: str, column: Any, value: Any, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, suffix, {"x": column, "y": pa.array([1])})
    with pytest.raises(ArgumentError, match=message):
        rf.open(path, fill_null={"x": value})
    everywhere = rf.open(path, fill_null=value)  # may be meant for other columns
    assert everywhere.arrays("y")["y"].tolist() == [1]
    if column.null_count:
        with pytest.raises(ArgumentError, match=message):
            everywhere.arrays("x")


def test_fill_null_is_checked(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", {"pt": pa.array([1.0, None])})
    with pytest.raises(MissingColumnError, match=r"no column 'pT', which fill_null names.*'pt'"):
        rf.open(path, fill_null={"pT": 0})
    for wrong in ([0], {"pt": None}, {"pt": 1j}):
        with pytest.raises(ArgumentError, match="fill_null takes a number or a text"):
            rf.open(path, fill_null=wrong)
    with pytest.raises(ArgumentError, match="fill_null names columns by texts, got 0"):
        rf.open(path, fill_null={0: 0})
    frame = rf.open(path, fill_null=np.float32(3))
    assert pickle.loads(pickle.dumps(frame)).arrays("pt")["pt"].tolist() == [1, 3]


def test_states_know_what_was_filled_and_splits_do_not(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", {"id": np.arange(400), "pt": pa.array([1.0, None] * 200)})

    def loader(value: Any) -> rf.Loader:
        return rf.Loader(path, 10, ["id", "pt"], seed=1, fill_null=value)

    state = loader(0).state_dict()
    loader(0).load_state_dict(state)
    with pytest.raises(StateError, match="files"):
        loader(-1).load_state_dict(state)
    parts = [epoch_ids(loader(value).split(0.3).test) for value in (0, -1)]
    assert np.array_equal(np.sort(parts[0]), np.sort(parts[1]))


def test_the_loader_fills_too(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", {"pt": pa.array([1.0, None])})
    [batch] = rf.Loader(path, 2, shuffle=False, fill_null=5)
    assert batch.tolist() == [[1], [5]]


# --- members of structs -------------------------------------------------------------------------


@both
def test_members_of_structs_are_columns(suffix: str, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    size = random.integers(0, 4, 300)
    rows = [
        {
            "id": number,
            "hits": [{"e": float(each), "at": {"x": each, "y": -each}} for each in range(size[number])],
            "jet": {"pt": 1.5 * number, "tag": f"t{number % 3}", "cells": [1] * (number % 3)},
            "pair": [{"q": number}, {"q": -number}],
            "deep": {"in": {"value": number % 7}},
        }
        for number in range(300)
    ]
    table = pa.Table.from_pylist(rows)
    pair = table.column("pair").cast(pa.list_(pa.struct([("q", pa.int64())]), 2))
    if suffix == ".arrow":  # Parquet of pyarrow does not write these
        table = table.set_column(3, "pair", pair)
    frame = rf.open(written(tmp_path, suffix, table, group=70))
    assert {name for name in frame.columns if frame.columns[name].kind != "other"} == {
        *("id", "hits.e", "hits.at.x", "hits.at.y", "jet.pt", "jet.tag", "jet.cells", "pair.q"),
        "deep.in.value",
    }
    got = frame.arrays()
    want = ak.Array(rows)
    for name in got:
        expected = want
        for part in name.split("."):
            expected = expected[part]
        assert ak.to_list(got[name]) == ak.to_list(expected), name
    assert frame.columns["pair.q"].shape == ((2,) if suffix == ".arrow" else ())
    cut = frame.filter("`jet.pt` > 200 && Sum(`hits.e`) > 1").range(5)
    assert len(cut.arrays("id")["id"]) == 5
    loader = rf.Loader(
        frame,
        30,
        {"event": ["jet.pt", "deep.in.value"], "hits": rf.padded(["hits.e", "hits.at.x"], 4)},
        memory="1 MB",
    )
    for x in loader:
        assert x["hits"].shape[1:] == (4, 2)
    assert rf.open(frame.files[0]).columns["jet"].kind == "other"
    some = frame.arrays(["jet", "hits.at"])  # whole structs, also within others
    assert ak.to_list(some["hits.at"]) == ak.to_list(want["hits", "at"])


@both
def test_members_of_slices_and_of_several_lists(suffix: str, tmp_path: Path) -> None:
    hits = [[{"e": n + k / 10} for k in range(n % 4)] for n in range(50)]
    for kind in (pa.list_, pa.large_list):
        table = pa.table({"hits": pa.array(hits, kind(pa.struct([("e", pa.float64())])))})
        path = written(tmp_path, suffix, table.slice(7), group=9)
        for start, stop in ((0, 43), (3, 5), (8, 28), (20, 20)):
            got = read(path, ["hits.e"], start, stop)["hits.e"]
            want = [[each["e"] for each in some] for some in hits[7 + start : 7 + stop]]
            assert ak.to_list(got.as_awkward()) == want


# --- shapes of files ----------------------------------------------------------------------------


@both
def test_files_without_entries_or_columns(suffix: str, tmp_path: Path) -> None:
    columns = {
        "x": pa.array([], pa.float32()),
        "v": pa.array([], pa.list_(pa.int8())),
        "t": pa.array([], pa.string()),
        "few": pa.array([], pa.dictionary(pa.int8(), pa.string())),
    }
    path = written(tmp_path, suffix, columns)
    frame = rf.open(path)
    assert frame.num_entries == 0
    assert {name: len(each) for name, each in frame.arrays().items()} == dict.fromkeys(columns, 0)
    (tmp_path / "none").mkdir()
    empty = rf.open(written(tmp_path / "none", suffix, {}))
    assert empty.num_entries == 0
    assert dict(empty.columns) == {}
    (tmp_path / "one").mkdir()
    one = written(tmp_path / "one", suffix, {"x": pa.array([7], pa.int8())})
    assert rf.open([path, one]).select(["x"]).arrays()["x"].tolist() == [7]


@both
def test_names_with_dots_and_names_that_begin_alike(suffix: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "a": pa.array([1, 2]),
            "a.b": pa.array([3, 4]),
            "a.b.c": pa.array([[5], [6, 7]]),
            "record": pa.array([{"x": 8}, {"x": 9}]),
            "record.x": pa.array([10, 11]),
            "last": pa.array([12, 13]),
        }
    )
    path = written(tmp_path, suffix, table)
    with pytest.warns(DuplicateNameWarning, match="of a column and a member of a struct, the column"):
        frame = rf.open(path)
    got = read(path, ["a.b.c", "record.x", "a.b", "a", "last"])
    assert got["a"].tolist() == [1, 2]
    assert got["a.b"].tolist() == [3, 4]
    assert got["a.b.c"].values.tolist() == [5, 6, 7]
    assert got["record.x"].tolist() == [10, 11]
    assert got["last"].tolist() == [12, 13]
    assert frame.define("y", "`a.b` + a").arrays("y")["y"].tolist() == [4, 6]


@both
def test_of_columns_of_one_name_the_first_counts(suffix: str, tmp_path: Path) -> None:
    arrays = [pa.array([1, 2]), pa.array([3, 4]), pa.array([0.5, 1.5])]
    path = written(tmp_path, suffix, pa.Table.from_arrays(arrays, ["x", "y", "x"]))
    with pytest.warns(DuplicateNameWarning, match="2 columns of the name 'x'"):
        frame = rf.open(path)
    got = frame.arrays(["x", "y"])
    assert got["x"].tolist() == [1, 2]
    assert got["y"].tolist() == [3, 4]


@both
def test_thousands_of_groups(suffix: str, tmp_path: Path) -> None:
    x = np.arange(6000, dtype="i4")
    path = written(tmp_path, suffix, {"x": x, "y": x * 2}, group=2)
    index = source.index(Location(path, None), ["x"])
    assert len(index.columns["x"].pages) == 3000
    assert rf.open(path).arrays("x")["x"].tolist() == x.tolist()
    assert read(path, ["x"], 1999, 2004)["x"].tolist() == [*range(1999, 2004)]
    assert np.array_equal(np.sort(np.concatenate([*rf.Loader(path, features=["x"])]).ravel()), x)


@both
def test_large_texts(suffix: str, tmp_path: Path) -> None:
    texts = ["", "a" * 3_000_000, "b", "c" * 2_000_000]
    path = written(tmp_path, suffix, {"t": pa.array(texts)}, group=2)
    assert ak.to_list(rf.open(path).arrays("t")["t"]) == texts


@both
def test_blocks_end_where_groups_do(suffix: str, tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(1000.0), "v": pa.array([[1.0] * (n % 3) for n in range(1000)])})
    path = written(tmp_path, suffix, table, group=130)
    index = source.index(Location(path, None), ["x", "v"])
    for column in index.columns.values():
        assert column.entry_bounds.tolist() == [*range(0, 1000, 130), 1000]
        assert (column.pages.stored_bytes > 0).all()
    assert source.vector_bytes(index, "v") == pytest.approx(8 * 1 + 8, abs=4)


# --- with all the rest --------------------------------------------------------------------------


def sample(folder: Path, suffix: str, file: File, number: int = 0) -> str:
    """Write the columns that `samples` writes into ROOT files."""
    path = folder / f"sample{number}{suffix}"
    if suffix == ".root":
        return write(path, file)
    names = ("id", "half", "code", "label", "flag", "weight")
    WRITERS[suffix](path, pa.table({name: values(name, file.ids) for name in names}))
    return str(path)


def test_files_of_all_formats_in_one_loader(tmp_path: Path) -> None:
    files = [File(500), File(700, first=500), File(300, first=1200)]
    suffixes = (".root", ".parquet", ".arrow")
    paths = [sample(tmp_path, suffix, file) for suffix, file in zip(suffixes, files, strict=True)]
    names = ["id", "half"]
    options = {"features": names, "batch_size": 64, "seed": 3, "memory": "10 MB"}
    frames = [rf.open(path).define("twice", "2 * half").filter("label != 3") for path in paths]
    loader = rf.Loader(frames, **options)
    every = np.arange(1500)
    want = every[values("label", every) != 3]
    assert np.sort(epoch_ids(loader)).tolist() == want.tolist()
    parts = loader.split({"train": 0.7, "val": 0.3})
    ids = [epoch_ids(part) for part in parts.values()]
    assert np.sort(np.concatenate(ids)).tolist() == want.tolist()
    assert len(ids[1]) == pytest.approx(0.3 * len(want), abs=20)


@both
def test_the_same_rows_as_from_root(suffix: str, tmp_path: Path) -> None:
    file = File(1000)
    want = rf.open(write(tmp_path / "x.root", file))
    got = rf.open(sample(tmp_path, suffix, file))
    for frame in (want, got):
        assert frame.filter("flag && half > 3").count() == 331
    names = ["id", "half", "code", "label", "flag", "weight"]
    for name in names:
        assert got.arrays(name)[name].tobytes() == want.arrays(name)[name].tobytes()
    joined = want.join(got, prefix="other_").filter("id == other_id")
    assert joined.count() == 1000
    assert got.join(want, prefix="other_").filter("code != other_code").count() == 0


@both
def test_states_go_on_where_they_were(suffix: str, tmp_path: Path) -> None:
    path = sample(tmp_path, suffix, File(1000))

    def loader(frame: Any) -> Any:
        return rf.Loader(frame, features=["id"], batch_size=50, seed=1, memory="4 MB")

    first = loader(path)
    batches = iter(first)
    seen = [next(batches) for _ in range(7)]
    state = first.state_dict()
    moved = Path(path).rename(tmp_path / f"moved{suffix}")
    second = loader(pickle.loads(pickle.dumps(rf.open(moved))))
    second.load_state_dict(state)
    seen += [*second]
    assert np.sort(np.concatenate(seen).ravel()).tolist() == [*range(1000)]


@pytest.mark.thorough("spawn-.parquet", "spawn-.arrow")
@both
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_processes(suffix: str, way: str, tmp_path: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = rf.Loader(sample(tmp_path, suffix, File(1000)), features=["id"], batch_size=50, seed=1)
    assert len([*loader]) == 20  # so that pyarrow has read in this process, too
    workers = data.DataLoader(
        loader.torch(), batch_size=None, num_workers=2, multiprocessing_context=way
    )
    seen = np.concatenate([np.asarray(batch).ravel() for batch in workers])
    assert np.sort(seen).tolist() == [*range(1000)]


# --- what goes wrong ----------------------------------------------------------------------------


@both
def test_files_that_changed_are_refused(suffix: str, tmp_path: Path) -> None:
    columns = {"x": np.arange(1000)}
    plain = {"compression": "none" if suffix == ".parquet" else None}
    path = Path(written(tmp_path, suffix, columns, **plain))
    frame = rf.open(path)
    assert frame.num_entries == 1000
    frame.arrays("x")
    written(tmp_path, suffix, {"x": np.arange(1000) + 1}, **plain)
    with pytest.raises(ChangedFileError, match="Open it again"):
        frame.arrays("x")
    path.unlink()
    with pytest.raises(MissingFileError):
        frame.arrays("x")


@both
def test_a_file_that_changes_while_it_is_read(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix, {"x": np.arange(1000), "y": np.arange(1000)})
    index = source.index(Location(path, None), ["x", "y"])
    reading = source.read(
        index, ["x", "y"], 0, 1000, lambda _: np.empty(1000, "i8"), Scratch(), threading.Event()
    )
    next(iter(reading))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedFileError):
        list(reading)


@both
def test_identities_tell_files_apart_and_stay_with_them(suffix: str, tmp_path: Path) -> None:
    seen = set()
    for number in range(6):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        columns = {
            "run": np.ones(100_000, "i4"),
            "label": np.random.default_rng(number).integers(0, 2, 100_000).astype("u1"),
            "flag": np.zeros(100_000, "?"),
        }
        path = written(folder, suffix, columns, group=100_000)
        identity = source.index(Location(path, None), []).identity
        moved = Path(path).rename(folder / f"other{suffix}")
        assert source.index(Location(str(moved), None), ["label"]).identity == identity
        assert len(identity) == 16
        seen.add(identity)
    assert len(seen) == 6


@both
def test_every_truncation_is_told(suffix: str, tmp_path: Path) -> None:
    path = Path(written(tmp_path, suffix, {"x": np.arange(300), "t": ["a", "b", "c"] * 100}))
    whole = path.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for size in (0, 1, 4, 8, 12, 100, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError, match="Copy or produce the file again"):
            rf.open(cut).arrays()


@both
def test_damage_is_told_or_harmless(suffix: str, tmp_path: Path) -> None:
    """Flipped bytes give an error of ours, or values; nothing else."""
    columns = {"x": np.arange(300), "t": ["a", "b", "c"] * 100, "v": [[1.0, 2.0], []] * 150}
    path = Path(written(tmp_path, suffix, columns))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    broken = tmp_path / f"broken{suffix}"
    told = []
    for trial in range(150):
        copy = whole.copy()
        low = len(copy) - 1500 if trial % 2 else 0  # metadata as often as all the rest
        copy[random.integers(low, len(copy), 3)] ^= random.integers(1, 256, 3).astype("u1")
        broken.write_bytes(copy.tobytes())
        with contextlib.suppress(RootfeedError):
            rf.open(broken).arrays()
            continue
        told.append(trial)
    assert len(told) > 30


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (b"root" + bytes(100), UnsupportedFileError, "is a ROOT file: rename it"),
        (b"FEA1" + bytes(100), UnsupportedFileError, "first version of Feather"),
        (b"\xff\xff\xff\xff" + bytes(100), UnsupportedFileError, "stream of Arrow"),
        (b"PARE" + bytes(100), UnsupportedFileError, "encrypted"),
        (b"<html>" + bytes(100), DamagedFileError, "begins with"),
    ],
)
def test_other_files_are_told(content: bytes, kind: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(kind, match=text):
        rf.open(path)


def test_the_first_bytes_decide_between_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "X.PARQUET"
    write_arrow(path, pa.table({"x": [1, 2]}))
    assert rf.open(path).arrays("x")["x"].tolist() == [1, 2]
    renamed = path.rename(tmp_path / "x.root")
    with pytest.raises(DamagedFileError, match=r"begins as Arrow files do: rename it to end in \.arrow"):
        rf.open(renamed)


def test_tables_have_no_names(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", {"x": [1]})
    with pytest.raises(MissingObjectError, match="leave 'events' out"):
        rf.open(f"{path}:events")


@both
def test_over_http(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    path = Path(sample(tmp_path, suffix, File(5000)))
    with serve({f"/data{suffix}": path.read_bytes()}) as web:
        for query in ("", "?token=a.root"):
            frame = rf.open(f"{web.url}/data{suffix}{query}")
            assert frame.arrays("id")["id"].tolist() == [*range(5000)]
        loader = rf.Loader(frame, features=["id", "half"], batch_size=100)
        assert np.sort(epoch_ids(loader)).tolist() == [*range(5000)]


@both
def test_friends_are_asked_for_in_vain(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path, suffix, {"x": [1, 2]})
    assert rf.open(path, friends=True).arrays("x")["x"].tolist() == [1, 2]


@both
def test_hints_of_missing_files_and_of_directories(suffix: str, tmp_path: Path) -> None:
    written(tmp_path, suffix, {"x": [1, 2]})
    with pytest.raises(MissingFileError, match=rf"Did you mean 'file\{suffix}'"):
        rf.open(tmp_path / f"fil{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(MissingFileError, match=rf"is a directory.*folder\{suffix}/\*\{suffix}'"):
        rf.open(tmp_path / f"folder{suffix}")


@both
def test_groups_without_entries(suffix: str, tmp_path: Path) -> None:
    table = pa.table({"x": np.arange(100)})
    path = tmp_path / f"file{suffix}"
    new = pq.ParquetWriter if suffix == ".parquet" else pa.ipc.new_file
    with new(path, table.schema) as writer:
        for start, stop in ((0, 0), (0, 30), (30, 30), (30, 30), (30, 100), (100, 100)):
            part = table.slice(start, stop - start)
            batch = part.to_batches()[0] if stop > start else table.to_batches()[0].slice(0, 0)
            writer.write_batch(batch)
    for start, stop in ((0, 100), (0, 30), (30, 30), (29, 31), (100, 100), (0, 0)):
        assert read(str(path), ["x"], start, stop)["x"].tolist() == [*range(start, stop)]
