"""Entries of any length in HDF5 files: they lie in heaps, which we read; h5py is the oracle."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import DamagedFileError, UnsupportedColumnError, UnsupportedFileError
from rootfeed.schema import Texts
from rootfeed.sources import Location, Scratch
from rootfeed.sources import hdf5 as source
from rootfiles.values import any_values, generator
from samples import epoch_ids
from servers import serve

h5py = pytest.importorskip("h5py")

Array = np.ndarray
CODES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
TEXT = "text"
LARGE = 70_000  # bytes: more than a collection of many objects has


def entries_of(code: str, count: int, most: int, seed: int) -> list[Any]:
    """Return vectors, or texts as bytes, of up to some elements."""
    random = generator(seed, code)
    lengths = random.integers(0, most + 1, count) * (random.random(count) < 0.8)
    if code == TEXT:
        return [bytes(random.integers(1, 256, length, np.uint8)) for length in lengths]
    plain = code.lstrip(">")
    if plain == "f2":
        return [random.normal(size=length).astype("f2") for length in lengths]
    return [any_values(plain, length, random).astype(plain) for length in lengths]


def dtype_of(code: str) -> Any:
    return h5py.string_dtype() if code == TEXT else h5py.vlen_dtype(np.dtype(code))


def objects(entries: list[Any]) -> Array:
    array = np.empty(len(entries), object)
    for number, each in enumerate(entries):
        array[number] = each
    return array


def index_of(path: Path | str, *names: str) -> Any:
    return source.index(Location(str(path), None), list(names))


def read(index: Any, name: str, start: int, stop: int) -> list[bytes]:
    """Return the bytes of each entry, whose dtype is tested, too."""
    pairs = source.read(
        index, [name], start, stop, lambda _: pytest.fail("no scalar"), Scratch(), threading.Event()
    )
    [(_, got)] = pairs
    dtype = index.columns[name].type.dtype
    assert got.values.dtype == (np.uint8 if dtype is None else dtype)
    assert isinstance(got, Texts) == (dtype is None)
    assert got.offsets[0] == 0
    assert got.offsets[-1] == len(got.values)
    return [
        got.values[low:high].tobytes()
        for low, high in zip(got.offsets[:-1], got.offsets[1:], strict=True)
    ]


def as_bytes(each: Any) -> bytes:
    """Return an entry of h5py's as its bytes in a column."""
    if isinstance(each, bytes):
        return each
    wide = each.astype("f4") if each.dtype == np.float16 else each
    return wide.astype(wide.dtype.newbyteorder("=")).tobytes()


def through_the_library(index: Any) -> Any:
    return replace(
        index,
        parts={
            name: replace(part, data=replace(part.data, is_plain=False))
            for name, part in index.parts.items()
        },
    )


# --- values -------------------------------------------------------------------------------------

cases = st.fixed_dictionaries(
    {
        "codes": st.lists(
            st.sampled_from([*CODES, ">i2", ">u4", ">f8", ">f2", TEXT]), min_size=1, max_size=3
        ),
        "is_table": st.booleans(),
        "count": st.integers(0, 120),
        "most": st.sampled_from([3, 40, LARGE // 8]),
        "chunk": st.sampled_from([0, 1, 7, 64, 200]),
        "filters": st.sampled_from([{}, {"compression": "gzip"}, {"compression": "lzf"}]),
        "shuffle": st.booleans(),
        "backwards": st.booleans(),
        "missing": st.booleans(),
        "ends": st.tuples(st.floats(0, 1), st.floats(0, 1)),
        "seed": st.integers(0, 1000),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases)
def test_random_entries_are_what_was_written(case: Any, tmp_path: Path) -> None:
    count, path = case["count"], tmp_path / "random.h5"
    written = 0 if case["missing"] and case["chunk"] else count
    values = {
        f"c{n}": entries_of(code, count, case["most"], case["seed"] + n)
        for n, code in enumerate(case["codes"])
    }
    options = dict(case["filters"], shuffle=case["shuffle"]) if case["chunk"] else {}
    options |= {"chunks": (case["chunk"],), "maxshape": (None,)} if case["chunk"] else {}
    prefix = ""
    with h5py.File(path, "w") as file:
        if case["is_table"]:
            prefix = "t."
            fields = [("a", "u1"), *zip(values, map(dtype_of, case["codes"]), strict=True), ("z", ">i4")]
            made = file.create_dataset("t", (count,), fields, **options)
            table = np.zeros(count, made.dtype)
            for name, entries in values.items():
                table[name] = objects(entries)
            table["z"] = np.arange(count)
            made[:written] = table[:written]
        else:
            for (name, entries), code in zip(values.items(), case["codes"], strict=True):
                made = file.create_dataset(name, (count,), dtype_of(code), **options)
                places = range(written)
                for number in reversed(places) if case["backwards"] else places:
                    made[number] = entries[number]
    start, stop = sorted(round(end * count) for end in case["ends"])
    index = index_of(path, *(prefix + name for name in values))
    assert all(part.data.is_plain for part in index.parts.values())
    for (name, entries), code in zip(values.items(), case["codes"], strict=True):
        want = [as_bytes(each) for each in entries[:written]] + [b""] * (count - written)
        for low, high in ((0, count), (start, stop)):
            assert read(index, prefix + name, low, high) == want[low:high], code
            if not code.startswith(">"):
                other = through_the_library(index)
                assert read(other, prefix + name, low, high) == want[low:high], code
    if case["is_table"] and written:
        assert rf.open(path).arrays("t.z")["t.z"].tolist() == [*range(count)]


def test_a_saved_frame(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(0, 9, 40_000)
    vectors = ak.unflatten(random.normal(size=lengths.sum()).astype("f4"), lengths)
    flags = ak.unflatten(random.integers(0, 2, lengths.sum()).astype("?"), lengths)
    texts = [f"é{n}" * (n % 3) for n in range(40_000)]
    frame = rf.from_arrays({"v": vectors, "flags": flags, "t": texts, "id": np.arange(40_000)})
    frame.save(tmp_path / "saved.h5")
    saved = rf.open(tmp_path / "saved.h5")
    got = saved.arrays()
    for name, want in (("v", vectors), ("flags", flags), ("t", ak.Array(texts))):
        assert ak.array_equal(got[name], want, dtype_exact=name != "t")
    loader = rf.Loader(
        saved, features={"id": ["id"], "v": rf.padded(["v"], length=8)}, batch_size=500, memory="8 MB"
    )
    seen = 0
    for batch in loader:
        ids = batch["id"][:, 0].astype(int)
        assert np.array_equal(batch["v_mask"].sum(axis=1), lengths[ids])
        seen += len(ids)
    assert seen == 40_000


def test_the_bytes_of_entries_are_estimated(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset("v", (3000,), h5py.vlen_dtype("f2"), chunks=(500,), compression=1)
        for number in range(3000):
            made[number] = np.zeros(number % 5)
        file["t"] = ["abc", "abcde", ""] * 1000
    index = index_of(tmp_path / "x.h5", "v", "t")
    assert source.vector_bytes(index, "v") == pytest.approx(8 + 2 * 4, rel=0.1)
    assert source.vector_bytes(index, "t") == pytest.approx(8 + 8 / 3, rel=0.1)


def test_entries_in_vectors_of_entries_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("deep", (3,), h5py.vlen_dtype(h5py.vlen_dtype("f4")))
        file.create_dataset("texts", (3,), h5py.vlen_dtype(h5py.string_dtype()))
        file.create_dataset("flat", (3, 2), h5py.vlen_dtype("f4"))
        file["x"] = np.arange(3)
    frame = rf.open(tmp_path / "x.h5")
    for name in ("deep", "texts", "flat"):
        with pytest.raises(UnsupportedColumnError, match=f"column '{name}' is of type .*no native"):
            frame.arrays(name)
    assert frame.arrays("x")["x"].tolist() == [0, 1, 2]


def test_several_columns_share_a_heap(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = [
            file.create_dataset(f"c{n}", (300,), h5py.vlen_dtype("i4"), chunks=(50,)) for n in (0, 1)
        ]
        for number in range(300):
            for each in made:
                each[number] = np.arange(number % 7)
    index = index_of(tmp_path / "x.h5", "c0", "c1")
    for name in ("c0", "c1"):
        want = [np.arange(n % 7, dtype="i4").tobytes() for n in range(300)]
        assert read(index, name, 0, 300) == want
        assert read(index, name, 77, 201) == want[77:201]


def test_texts_end_before_a_zero_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["t"] = [b"abcdef", b"", b"xy", b"ghijkl", b"0123"]
    contents = path.read_bytes()
    for old, new in ((b"abcdef", b"ab\0de\0"), (b"xy", b"\0y"), (b"0123", b"012\0")):
        assert contents.count(old) == 1
        contents = contents.replace(old, new)
    path.write_bytes(contents)
    index = index_of(path, "t")
    want = [b"ab", b"", b"", b"ghijkl", b"012"]
    assert read(index, "t", 0, 5) == read(through_the_library(index), "t", 0, 5) == want


def test_what_only_the_library_reads(tmp_path: Path) -> None:
    def fill(file: Any, name: str, code: str = "i4", **options: Any) -> None:
        made = file.create_dataset(name, (10,), dtype_of(code), chunks=(4,), **options)
        for number in range(10):
            made[number] = np.arange(number)

    create, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    create.set_sizes(4, 4)
    small = h5py.h5f.create(bytes(tmp_path / "small.h5"), h5py.h5f.ACC_TRUNC, create, access)
    with h5py.File(small) as file:
        fill(file, "v")
        file["x"] = np.arange(10)
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        fill(file, "v")
    with h5py.File(tmp_path / "fill.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        kind = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
        plist.set_fill_value(np.array(b"none", h5py.string_dtype()))
        h5py.h5d.create(file.id, b"v", kind, h5py.h5s.create_simple((10,)), plist)
        file["v"][1] = "one"
    for name, want in {
        "small": [[*range(n)] for n in range(10)],
        "block": [[*range(n)] for n in range(10)],
    }.items():
        path = tmp_path / f"{name}.h5"
        assert not index_of(path, "v").parts["v"].data.is_plain
        assert rf.open(path).arrays("v")["v"].to_list() == want
    assert index_of(tmp_path / "small.h5", "x").parts["x"].data.is_plain
    assert not index_of(tmp_path / "fill.h5", "v").parts["v"].data.is_plain
    with pytest.raises(DamagedFileError, match="no write intent"):  # which h5py cannot read, either
        rf.open(tmp_path / "fill.h5").arrays("v")
    with h5py.File(tmp_path / "swapped.h5", "w", userblock_size=512) as file:
        fill(file, "v", ">i4")  # of which h5py 3.14 gives the bytes in the wrong order
    with pytest.raises(UnsupportedFileError, match=r"'v' are big-endian.*Write them again, little"):
        rf.open(tmp_path / "swapped.h5").arrays("v")


def test_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    path = tmp_path / "x.h5"
    lengths = np.arange(3000) % 11
    lengths[::400] = LARGE
    with h5py.File(path, "w") as file:
        made = file.create_dataset("v", (3000,), h5py.vlen_dtype("i4"), chunks=(500,), compression=1)
        for number, length in enumerate(lengths):
            made[number] = np.full(length, number)
            if number % 50 == 0:  # more than is read at once lies between heaps
                file[f"between/{number}"] = np.zeros((1, 10_000))
        file["id"] = np.arange(3000)
    with serve({"/x.h5": path.read_bytes()}) as web:
        frame = rf.open({f"{web.url}/x.h5": "v,id"})
        got = frame.arrays("v")["v"]
        assert ak.num(got).to_list() == lengths.tolist()
        assert np.array_equal(ak.to_numpy(ak.flatten(got)), np.repeat(np.arange(3000), lengths))
        loader = rf.Loader(frame.filter("len(v) == 5"), features=["id"], batch_size=100)
        assert np.sort(epoch_ids(loader)).tolist() == np.flatnonzero(lengths == 5).tolist()
        index = source.index(rf.sources.Location(f"{web.url}/x.h5", "v,id"), ["v"])
        fetched = source.fetch(index, ["v"], 700, 1900, threading.Event())
        before = len(web.asked)
        pairs = source.read(
            index, ["v"], 700, 1900, lambda _: np.zeros(0), Scratch(), threading.Event(), fetched
        )
        [(_, values)] = pairs
        assert np.diff(values.offsets).tolist() == lengths[700:1900].tolist()
        assert len(web.asked) == before  # `fetch` brought all


# --- what goes wrong ----------------------------------------------------------------------------


def damaged_copy(path: Path, place: int, new: bytes) -> Path:
    contents = bytearray(path.read_bytes())
    contents[place : place + len(new)] = new
    copy = path.with_name("damaged.h5")
    copy.write_bytes(contents)
    return copy


POINTERS: dict[str, tuple[int, bytes | None]] = {
    "within the header of a heap": (4 * 16 + 4, None),
    "elements": (4 * 16, (1 << 31).to_bytes(4, "little")),
    "a few more elements": (4 * 16, (5).to_bytes(4, "little")),
    "beyond the file": (4 * 16 + 4, (1 << 40).to_bytes(8, "little")),
    "beyond all files": (4 * 16 + 4, b"\xff" * 8),
    "no heap": (4 * 16 + 4, (96).to_bytes(8, "little")),
    "no object": (4 * 16 + 12, (900).to_bytes(4, "little")),
    "free space": (4 * 16 + 12, bytes(4)),
    "no number of an object": (4 * 16 + 12, b"\xff" * 4),
}
HEAPS = {
    "mark": (0, b"gcol"),
    "version": (4, b"\2"),
    "size of nothing": (8, bytes(8)),
    "size beyond the file": (8, (1 << 40).to_bytes(8, "little")),
    "size below zero": (8, b"\xff" * 8),
    "free space at once": (16, bytes(16)),
    "an object beyond the heap": (16 + 8, (1 << 20).to_bytes(8, "little")),
    "an object of negative size": (16 + 8, b"\xff" * 8),
    "an object of no size": (16 + 8, bytes(8)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", [*POINTERS, *HEAPS])
def test_damage_is_named(what: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("v", (30,), h5py.vlen_dtype("f8"))
        for number in range(30):
            made[number] = np.arange(4)
        begin = made.id.get_offset()
    heap = path.read_bytes().index(b"GCOL")
    start = begin if what in POINTERS else heap
    place, new = (POINTERS | HEAPS)[what]
    new = (heap + 8).to_bytes(8, "little") if new is None else new
    entry = 4 if what in POINTERS else 0
    copy = damaged_copy(path, start + place, new)
    with pytest.raises(
        DamagedFileError, match=rf"data set 'v' are damaged: entry {entry} is not in the heap .*Copy or"
    ):
        rf.open(copy).arrays("v")


FLIPS = 300
READS = """
import json, sys, time
import numpy as np
import rootfeed as rf
from rootfeed.errors import RootfeedError

path, copy, flips = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
whole = open(path, "rb").read()
rf.open(path).arrays()
for number, (place, mask) in enumerate(flips):
    data = bytearray(whole)
    data[place] ^= mask
    open(copy, "wb").write(data)
    print(number, "begun", flush=True)
    begun, step = time.monotonic(), "opening"
    try:
        frame = rf.open(copy)
        step = "reading"
        frame.arrays()
        step = "read"
    except RootfeedError:
        pass
    print(number, step, time.monotonic() - begun, flush=True)
"""


def flipped(path: Path, flips: list[tuple[int, int]], seconds: float) -> list[tuple[str, float]]:
    """Return how far each copy with a flipped byte was read, and how long it took; a hang fails."""
    command = [sys.executable, "-c", READS, str(path), str(path.with_name("copy.h5")), json.dumps(flips)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0, (done.stdout.splitlines()[-1], done.stderr)
    except subprocess.TimeoutExpired as error:
        last = (error.stdout or b"none").decode().splitlines()[-1]
        pytest.fail(f"of {flips} one keeps us busy: {last}")
    found = [line.split() for line in done.stdout.splitlines() if "begun" not in line]
    return [(step, float(taken)) for _, step, taken in found]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["contiguous", "gzip"])
def test_no_flipped_byte_keeps_us_busy(kind: str, tmp_path: Path) -> None:
    """Each of 300 gives an error of ours, or values, within seconds; half of them are in heaps."""
    path = tmp_path / "x.h5"
    random = np.random.default_rng(1)
    options = {} if kind == "contiguous" else {"chunks": (100,), "compression": "gzip"}
    with h5py.File(path, "w") as file:
        for name, code in (("v", "f4"), ("t", TEXT)):
            made = file.create_dataset(name, (400,), dtype_of(code), **options)
            for number, each in enumerate(entries_of(code, 400, 9, 0)):
                made[number] = each
    whole = path.read_bytes()
    heaps = [place for place in range(0, len(whole), 8) if whole[place : place + 4] == b"GCOL"]
    flips = []
    for number in range(FLIPS):
        anywhere = int(random.integers(0, len(whole)))
        in_heap = int(random.choice(heaps) + random.integers(0, 600))
        flips.append((in_heap if number % 2 else anywhere, int(random.integers(1, 256))))
    found = flipped(path, flips, 150)
    assert len(found) == FLIPS
    assert max(taken for _, taken in found) < 10
    steps = [step for step, _ in found]
    assert steps.count("reading") > 10
    assert steps.count("read") > 100
