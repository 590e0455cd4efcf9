"""Tables of text: types, how lines are divided, what goes wrong; Python's functions are the oracle."""

from __future__ import annotations

import csv
import os
import pickle
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    DuplicateNameWarning,
    EmptyDatasetError,
    MissingColumnError,
    MissingFileError,
    MissingObjectError,
    RootfeedError,
    UnsupportedColumnError,
    UnsupportedFileError,
)
from rootfeed.schema import Jagged
from rootfeed.sources import Location, Scratch, csvlines
from rootfeed.sources import csv as source
from samples import File, epoch_ids, values
from servers import serve

pytest.importorskip("pyarrow.csv")


@pytest.fixture(autouse=True, params=[60, 1 << 20], ids=["short", "long"])
def groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read every table in groups of a few lines, and in one."""
    monkeypatch.setattr(csvlines, "BLOCK_BYTES", request.param)
    return int(request.param)


def written(folder: Path, text: str | bytes, name: str = "file.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def column(values: Sequence[object], name: str = "x") -> str:
    return "".join(f"{value}\n" for value in [name, *values])


def read(index: Any, names: Sequence[str], start: int, stop: int) -> dict[str, Any]:
    def out_for(name: str) -> Any:
        return np.empty(stop - start, index.dtype(name))

    return dict(source.read(index, names, start, stop, out_for, Scratch(), threading.Event()))


# --- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "dtype", "want"),
    [
        ([1, 2, -3], "int64", [1, 2, -3]),
        ([*range(40), 0.5], "float64", [*range(40), 0.5]),
        (["0.1", "1e-320", "nan", "inf", "-inf", "1e400"], "float64", None),
        ([-(1 << 63), (1 << 63) - 1], "int64", [-(1 << 63), (1 << 63) - 1]),
        ([*range(40), (1 << 64) - 1], "uint64", [*range(40), (1 << 64) - 1]),
        ([1 << 63, "1.5"], "float64", [2.0**63, 1.5]),
        (["true", "False", "TRUE"], "bool", [True, False, True]),
        (["2024-01-01"] * 9 + ["1970-01-01 00:00:01"], "int64", [1704067200] * 9 + [1]),
        (["1970-01-03"], "int32", [2]),
        (["1970-01-01T00:00:01Z", "1970-01-01T02:00:00+02:00"] * 9, "int64", [1, 0] * 9),
        (["1970-01-01 00:00:01Z"] * 9 + ["1970-01-01 00:00:00.5Z"], "int64", [10**9] * 9 + [5 * 10**8]),
        (["007", "6"], "int64", [7, 6]),
    ],
)
def test_types_follow_from_all_lines(texts: Any, dtype: str, want: Any, tmp_path: Path) -> None:
    frame = rf.open(written(tmp_path, column(texts)))
    got = frame.arrays("x")["x"]
    assert str(frame.columns["x"]) == str(got.dtype) == dtype
    expected = np.array([float(text) for text in texts] if want is None else want, dtype)
    assert np.array_equal(got, expected, equal_nan=dtype == "float64")


@pytest.mark.parametrize(
    "texts", [[*range(40), "x"], ["true", *range(40)], ["2024-01-01", *range(40)], ["1.5", "true"]]
)
def test_what_fits_no_other_type_is_text(texts: Any, tmp_path: Path) -> None:
    frame = rf.open(written(tmp_path, column(texts)))
    assert frame.columns["x"].kind == "text"
    assert frame.arrays("x")["x"].to_list() == [str(text) for text in texts]


def test_integers_of_more_than_64_bits_are_refused(tmp_path: Path) -> None:
    for texts in ([*range(40), 1 << 64], [-1, *range(40), (1 << 64) - 1], [-(1 << 63) - 1]):
        frame = rf.open(written(tmp_path, column(texts)))
        with pytest.raises(UnsupportedColumnError, match="column 'x' holds integers that do not fit"):
            frame.arrays("x")


def test_what_is_missing_is_told_with_its_line(tmp_path: Path) -> None:
    lines = ["x,text,y", *(f"{n},a,1" for n in range(30)), "", '7,"a\nb",1', ",,1", "NA,,"]
    frame = rf.open(written(tmp_path, "\n".join(lines) + "\n"))
    assert frame.arrays("text")["text"].to_list() == ["a"] * 30 + ["a\nb", "", ""]
    with pytest.raises(
        UnsupportedColumnError,
        match=r"column 'x' has no value in 2 of its entries, for the first time in line 35,.*fill_null=",
    ):
        frame.arrays("x")
    with pytest.raises(UnsupportedColumnError, match=r"'y' has no value in 1 of .* in line 36,"):
        frame.arrays("y")


def test_what_is_missing_is_filled(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y,t\n1,2.5,a\n,3,b\n4,,\n")
    got = rf.open(path, fill_null={"x": -1, "y": 0.5}).arrays()
    assert got["x"].tolist() == [1, -1, 4]
    assert got["y"].tolist() == [2.5, 3, 0.5]
    assert got["t"].to_list() == ["a", "b", ""]


def test_a_column_of_nothing(tmp_path: Path) -> None:
    frame = rf.open(written(tmp_path, "x,y\n1,\n2,\n"))
    with pytest.raises(UnsupportedColumnError, match="'y' has no value in 2 of its entries"):
        frame.arrays("y")
    empty = rf.open(written(tmp_path, "x,y\n"))
    assert empty.num_entries == 0
    assert {len(each) for each in empty.arrays().values()} == {0}


# --- random tables ------------------------------------------------------------------------------

texts = st.text(st.sampled_from('ab,;"\n é\t0'), max_size=6).map("a{}".format)
rows = st.lists(
    st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False), texts, st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=rows,
    end=st.sampled_from(["\n", "\r\n"]),
    suffix=st.sampled_from([".csv", ".tsv"]),
    mark=st.booleans(),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_random_tables(
    rows: Any, end: str, suffix: str, mark: bool, ends: Any, tmp_path: Path, groups: int
) -> None:
    path = tmp_path / f"x{suffix}"
    with open(path, "w", newline="", encoding="utf-8-sig" if mark else "utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator=end)
        writer.writerow(["i", "f", "t", "b"])
        writer.writerows(rows)
    index = source.index(Location(str(path), None), ["i", "f", "b", "t"])
    assert index.entries == len(rows)
    start, stop = sorted(round(each * len(rows)) for each in ends)
    for low, high in ((0, len(rows)), (start, stop)):
        got = read(index, ["t", "b", "f", "i"], low, high)
        want = list(zip(*rows[low:high], strict=True)) or [()] * 4
        assert got["i"].tolist() == list(want[0])
        assert got["f"].tobytes() == np.array(want[1], "f8").tobytes()
        assert got["b"].tolist() == list(want[3])
        assert isinstance(got["t"], Jagged)
        assert got["t"].as_awkward().to_list() == list(want[2])


# --- lines --------------------------------------------------------------------------------------


def test_headers(tmp_path: Path) -> None:
    assert set(rf.open(written(tmp_path, "1.5,2\n3,4\n")).columns) == {"Col0", "Col1"}
    assert rf.open(written(tmp_path, "1.5,2\n3,4")).arrays("Col0")["Col0"].tolist() == [1.5, 3]
    frame = rf.open(written(tmp_path, '\ufeff"a b", c ,"d\ne",\n1,2,3,4\n'))
    assert list(frame.columns) == ["a b", "c", "d\ne", "Col3"]
    assert frame.arrays("d\ne")["d\ne"].tolist() == [3]
    assert list(rf.open(written(tmp_path, "a;b\n1;2\n")).columns) == ["a", "b"]
    with pytest.warns(DuplicateNameWarning, match="2 columns of the name 'x'"):
        frame = rf.open(written(tmp_path, "x,y,x\n1,2,3\n"))
    assert frame.arrays("x")["x"].tolist() == [1]
    with pytest.raises(MissingColumnError, match="no column 'z'"):
        frame.arrays("z")


def test_names_that_pandas_gives_are_no_entry(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFileError, match=r"'0,1,2', which may be an entry.*Write a first"):
        rf.open(written(tmp_path, "0,1,2\n0.5,0.25,1.5\n"))
    assert rf.open(written(tmp_path, "0,2,1\n1,2,3\n")).num_entries == 2
    assert rf.open(written(tmp_path, "0\n1\n")).num_entries == 2


def test_times_of_several_units(tmp_path: Path) -> None:
    lines = {"a": "2024-01-01 00:00:00", "b": "2024-01-01 00:00:00.5", "c": "2024-01-01"}
    paths = [written(tmp_path, f"t,x\n{line},1\n", f"{name}.csv") for name, line in lines.items()]
    for other in paths[1:]:
        frame = rf.open([paths[0], other])
        assert frame.arrays("x")["x"].tolist() == [1, 1]
        with pytest.raises(UnsupportedColumnError, match=r"column 't' counts (ns|days) in .* and s in"):
            frame.arrays("t")


def test_lines_of_other_lengths_are_named(tmp_path: Path) -> None:
    lines = ["x,y", *(f"{n},1" for n in range(30)), '"a\n",1', "1,2,3", "4,5"]
    with pytest.raises(DamagedFileError, match=r"line 34 has 3 values for 2 columns: '1,2,3'\. Mend"):
        rf.open(written(tmp_path, "\n".join(lines)))


def test_a_quote_that_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvlines, "_LONGEST_LINE", 500)
    path = written(tmp_path, 'x,y\n1,2\n3,"4\n' + "5,6\n" * 500_000)
    with pytest.raises(
        DamagedFileError, match=r"no line ends between the positions .*a quote were left open"
    ):
        rf.open(path)


def test_blocks_end_where_groups_do(tmp_path: Path, groups: int) -> None:
    path = written(tmp_path, column(range(1000)))
    index = source.index(Location(path, None), ["x"])
    bounds = index.columns["x"].entry_bounds
    assert bounds[0] == 0
    assert bounds[-1] == 1000
    assert (len(bounds) > 50) == (groups == 60)
    pages = index.columns["x"].pages
    contents = Path(path).read_bytes()
    for page in range(len(pages)):
        part = contents[pages.offset[page] :][: pages.stored_bytes[page]]
        assert part.split() == [str(n).encode() for n in range(bounds[page], bounds[page + 1])]


def test_a_file_is_passed_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    scanned = source.scanned
    monkeypatch.setattr(source, "scanned", lambda *args: passes.append(1) or scanned(*args))
    path = written(tmp_path, column(range(1000)))
    frame = rf.open(path)
    assert frame.num_entries == 1000
    assert sum(map(len, rf.Loader(path, features=["x"]))) == 1000
    pickle.loads(pickle.dumps(frame)).arrays("x")
    assert len(passes) == 1


# --- with all the rest --------------------------------------------------------------------------

NAMES = ("id", "half", "code", "label", "flag", "weight")


def sample(path: Path, file: File) -> str:
    columns = [values(name, file.ids).tolist() for name in NAMES]
    with open(path, "w", newline="") as made:
        csv.writer(made).writerows([NAMES, *zip(*columns, strict=True)])
    return str(path)


def test_states_go_on_where_they_were(tmp_path: Path) -> None:
    path = sample(tmp_path / "x.csv", File(1000))

    def loader(frame: Any) -> Any:
        return rf.Loader(frame, features=["id"], batch_size=50, seed=1, memory="4 MB")

    first = loader(rf.open(path).filter("flag"))
    batches = iter(first)
    seen = [next(batches) for _ in range(3)]
    state = first.state_dict()
    moved = Path(path).rename(tmp_path / "moved.csv")
    second = loader(pickle.loads(pickle.dumps(rf.open(moved).filter("flag"))))
    second.load_state_dict(state)
    seen += [*second]
    assert np.sort(np.concatenate(seen).ravel()).tolist() == [*range(0, 1000, 3)]


@pytest.mark.parametrize("way", ["fork", pytest.param("spawn", marks=pytest.mark.thorough)])
def test_worker_processes(way: str, tmp_path: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = rf.Loader(sample(tmp_path / "x.csv", File(1000)), features=["id"], batch_size=50, seed=1)
    assert len([*loader]) == 20  # so that pyarrow has read in this process, too
    workers = data.DataLoader(
        loader.torch(), batch_size=None, num_workers=2, multiprocessing_context=way
    )
    seen = np.concatenate([np.asarray(batch).ravel() for batch in workers])
    assert np.sort(seen).tolist() == [*range(1000)]


def test_over_http(tmp_path: Path, groups: int) -> None:
    pytest.importorskip("aiohttp")
    contents = Path(sample(tmp_path / "x.csv", File(100 if groups == 60 else 5000))).read_bytes()
    with serve({"/data.csv": contents}) as web:
        frame = rf.open(f"{web.url}/data.csv?token=a.root")
        loader = rf.Loader(frame, features=["id", "half"], batch_size=100)
        assert np.sort(epoch_ids(loader)).tolist() == [*range(frame.num_entries)]


# --- what goes wrong ----------------------------------------------------------------------------


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    path = Path(written(tmp_path, column(range(1000))))
    frame = rf.open(path)
    frame.arrays("x")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedFileError, match="Open it again"):
        frame.arrays("x")
    assert rf.open(path).arrays("x")["x"][-1] == 999
    path.unlink()
    with pytest.raises(MissingFileError):
        frame.arrays("x")


def test_a_file_of_the_same_size_and_time_is_looked_at_anew(tmp_path: Path) -> None:
    name = "a" * 80  # all that a version tells of a file's bytes
    path = Path(written(tmp_path, f"{name}\n11\n12\n"))
    assert rf.open(path).arrays(name)[name].tolist() == [11, 12]
    status = path.stat()
    time.sleep(0.02)  # more than a tick of the kernel's clock
    path.write_text(f"{name}\n.5\n1.\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert rf.open(path).arrays(name)[name].tolist() == [0.5, 1.0]


def test_files_without_lines(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="has no line"):
        rf.open(written(tmp_path, ""))


def test_compressed_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFileError, match=r"is compressed \(gz\).*Decompress it first"):
        rf.open(written(tmp_path, b"\x1f\x8b", "x.csv.gz"))


def test_tables_have_no_names(tmp_path: Path) -> None:
    with pytest.raises(MissingObjectError, match="leave 'events' out"):
        rf.open(written(tmp_path, column([1])) + ":events")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, column([1]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedFileError, match=r"pip install 'rootfeed\[arrow\]'"):
        rf.open(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="first line, which names the columns, is no UTF-8"):
        rf.open(written(tmp_path, bytes(range(128, 256))))
    path = written(tmp_path, b"x\n\xff\na\n")
    index = source.index(Location(path, None), ["x"])
    assert read(index, ["x"], 0, 2)["x"].values.tobytes() == b"\xffa"


@pytest.mark.parametrize("seed", range(5))
def test_damage_is_told_or_gives_values(seed: int, tmp_path: Path) -> None:
    whole = np.frombuffer(Path(sample(tmp_path / "x.csv", File(60))).read_bytes(), np.uint8)
    random = np.random.default_rng(seed)
    for _ in range(10):
        copy = whole.copy()
        copy[random.integers(0, len(copy), 3)] ^= random.integers(1, 256, 3).astype("u1")
        path = written(tmp_path, copy.tobytes(), "broken.csv")
        try:
            rf.open(path).arrays()
        except RootfeedError:
            continue
