"""Small pages read together: the same values, and the same errors, as page by page."""

from __future__ import annotations

import struct
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from rootfeed import kernels, sources
from rootfeed.errors import RootfeedError
from rootfeed.kernels.decoding import CODINGS
from rootfeed.schema import Column, Encoding, FileIndex, Jagged, Pages
from rootfeed.sources import lots
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.decoding import decode
from rootfeed.sources.keys import label, read_key
from rootfeed.sources.pages import overlapping

Array = np.ndarray

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def columns_of(entries: int, seed: int, values: int = 256) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    raw = {
        name: generator.integers(0, values, entries * np.dtype(name).itemsize, np.uint8)
        for name in DTYPES
    }
    made = {f"c_{name.strip('?')}": raw[name].view(name) for name in DTYPES if name != "?"}
    made["c_bool"] = raw["?"] % 2 == 1
    made["c_three"] = generator.normal(size=(entries, 3)).astype("f4")
    return made


def written(path: Path, format: str, parts: list[dict[str, Array]], compression: Any) -> str:
    with uproot.recreate(path, compression=compression) as file:
        if format == "TTree":
            tree = file.mktree("events", {name: (v.dtype, v.shape[1:]) for name, v in parts[0].items()})
        else:
            tree = file.mkrntuple("events", parts[0])
        for part in parts if format == "TTree" else parts[1:]:
            tree.extend(part)
    return f"{path}"


def index_of(path: str, names: list[str]) -> FileIndex:
    [location] = sources.expand({path: "events"})
    return sources.index(location, names)


def read(index: FileIndex, names: list[str], start: int, stop: int) -> dict[str, Array] | str:
    def out_for(name: str) -> Array:
        return np.empty(stop - start, index.dtype(name))

    try:
        found = sources.read(index, names, start, stop, out_for, sources.Scratch(), Event())
        return {name: values.values if isinstance(values, Jagged) else values for name, values in found}
    except RootfeedError as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The columns that were read in lots."""
    names: list[str] = []
    fill = lots.Lots.fill

    def counted(self: lots.Lots, column: Column, start: int, stop: int, out: Array) -> bool:
        done = fill(self, column, start, stop, out)
        names.extend([column.name] if done else [])
        return done

    monkeypatch.setattr(lots.Lots, "fill", counted)
    return names


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
@pytest.mark.parametrize(
    "compression", [uproot.ZSTD(3), uproot.LZ4(1), uproot.ZLIB(0)], ids=["zstd", "lz4", "none"]
)
def test_lots_hold_what_was_written(
    tmp_path: Path, filled: list[str], monkeypatch: pytest.MonkeyPatch, format: str, compression: Any
) -> None:
    generator = np.random.default_rng(7)
    sizes = generator.integers(1, 400, 25).tolist()
    parts = [columns_of(size, seed) for seed, size in enumerate(sizes)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    path, names, entries = (
        written(tmp_path / "f.root", format, parts, compression),
        list(whole),
        sum(sizes),
    )
    index = index_of(path, names)
    for lot_bytes in (lots._LOT_BYTES, 1000):
        monkeypatch.setattr(lots, "_LOT_BYTES", lot_bytes)
        for _ in range(10):
            start, stop = sorted(generator.integers(0, entries + 1, 2).tolist())
            found = read(index, names, start, stop)
            assert not isinstance(found, str), found
            for name in names:
                assert found[name].tobytes() == whole[name][start:stop].tobytes(), (name, start, stop)
    assert set(filled) == set(names)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_damaged_files_fail_as_they_do_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    parts = [columns_of(200, seed, values=2) for seed in range(4)]  # which can be compressed
    path = Path(written(tmp_path / "f.root", format, parts, uproot.ZSTD(3)))
    names = list(parts[0])
    index = index_of(f"{path}", names)
    content, fill = path.read_bytes(), lots.Lots.fill
    generator = np.random.default_rng(3)
    wrong = 0
    for _ in range(150):
        spoilt = bytearray(content)
        place = int(generator.integers(100, len(spoilt)))  # behind what tells one file from another
        spoilt[place] ^= int(generator.integers(1, 256))
        path.write_bytes(spoilt)
        together = read(index, names, 0, 800)
        monkeypatch.setattr(lots.Lots, "fill", lambda *_: False)
        alone = read(index, names, 0, 800)
        monkeypatch.setattr(lots.Lots, "fill", fill)
        assert type(together) is type(alone)
        if isinstance(together, str) or isinstance(alone, str):
            wrong += 1
            assert together == alone
        else:
            assert all(together[name].tobytes() == alone[name].tobytes() for name in names)
    assert wrong > 2


@pytest.mark.parametrize("name", ["plain", "swapped", "split", "zigzag"])
@pytest.mark.parametrize("size", [2, 4, 8])
@given(elements=st.lists(st.integers(0, 40), min_size=1, max_size=6), data=st.data())
def test_pages_are_decoded_as_each_alone(
    name: str, size: int, elements: list[int], data: st.DataObject
) -> None:
    encoding = Encoding(name, np.dtype(f"u{size}"))
    generator = np.random.default_rng(sum(elements))
    places = np.cumsum([0, *(-(-n * size // 8) * 8 for n in elements)])
    raw = generator.integers(0, 256, int(places[-1]), np.uint8)
    whole = np.empty(sum(elements), encoding.stored)
    for n, place, end in zip(elements, places, np.cumsum(elements), strict=False):
        part = raw[place : place + n * size]
        decode(encoding, part, n, 0, whole[end - n : end], sources.Scratch())
    start = data.draw(st.integers(0, elements[0]))
    out = np.zeros(data.draw(st.integers(0, sum(elements) - start)), encoding.stored)
    numbers = np.array(elements)
    args = (places, numbers, 0, len(elements), start, CODINGS[name], out)
    assert kernels.decode_pages(raw, *args) == len(out)
    assert np.array_equal(out, whole[start : start + len(out)])


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20), data=st.data())
def test_wanted_pages_are_those_that_overlap(sizes: list[int], data: st.DataObject) -> None:
    count = len(sizes)
    pages = Pages(
        np.cumsum([0, *sizes]),
        np.arange(100, 100 + count),
        np.arange(1, 1 + count),
        np.zeros(count, np.uint8),
        np.arange(count) % 3 == 0,
        (Encoding("plain", np.dtype("f4")),),
    )
    start = data.draw(st.integers(0, sum(sizes) - 1))
    stop = data.draw(st.integers(start + 1, sum(sizes)))
    arrays = (pages.bounds, pages.offset, pages.stored_bytes, pages.checksum)
    table = np.array([[*(each.ctypes.data for each in arrays), count, 1, 32]] * 2)
    firsts, skipped, room = np.zeros(3, np.int64), np.zeros(2, np.int64), np.zeros((7, 40), np.int64)
    both = np.array([start] * 2), np.array([stop] * 2)
    expected = overlapping(pages, start, stop)
    assert kernels.select_pages(table, *both, 1000, firsts, skipped, room) == 2 * len(expected)
    assert firsts.tolist() == [0, len(expected), 2 * len(expected)]
    assert skipped.tolist() == [start - pages.bounds[expected.start]] * 2
    some = slice(expected.start, expected.stop)
    found = room[:, len(expected) : 2 * len(expected)]
    elements = np.diff(pages.bounds)[some]
    checksums = 8 * pages.checksum[some]
    for row, wanted in zip(
        found,
        (pages.offset[some], pages.stored_bytes[some], checksums, elements, elements, 4 * elements, 1),
        strict=True,
    ):
        assert np.array_equal(row, np.broadcast_to(wanted, len(expected)))
    # A column with a page that is too large has none.
    assert kernels.select_pages(table, *both, 3, firsts, skipped, room) == 0


@given(
    ranges=st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 40), st.sampled_from([0, 8])),
        min_size=1,
        max_size=15,
    ),
    gap_bytes=st.sampled_from([-1, 0, 10]),
)
def test_pages_near_each_other_are_read_together(
    ranges: list[tuple[int, int, int]], gap_bytes: int
) -> None:
    content = np.random.default_rng(len(ranges)).integers(0, 256, 400, np.uint8)
    offset, stored_bytes, trailer = np.array(ranges).T.copy()
    stops = offset + stored_bytes + trailer
    expected: list[list[int]] = []
    for start, stop in sorted(zip(offset.tolist(), stops.tolist(), strict=True)):
        if expected and start - expected[-1][1] <= gap_bytes:
            expected[-1][1] = max(expected[-1][1], stop)
        else:
            expected.append([start, stop])
    order, places, runs = np.argsort(offset), np.empty(len(ranges), int), np.empty((len(ranges), 3), int)
    count = kernels.join_pages(order, offset, stored_bytes, trailer, gap_bytes, places, runs)
    firsts, in_memory, sizes = runs[:count].T
    assert np.transpose([firsts, firsts + sizes]).tolist() == expected
    assert in_memory.tolist() == np.cumsum([0, *sizes])[:-1].tolist()
    memory = np.concatenate([content[start:stop] for start, stop in expected])
    for place, start, stop in zip(places, offset, stops, strict=True):
        assert np.array_equal(memory[place : place + stop - start], content[start:stop])


@given(data=st.data(), flips=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), max_size=2))
def test_keys_are_right_where_each_is(data: st.DataObject, flips: list[tuple[int, int]]) -> None:
    name, entries, size = data.draw(st.sampled_from(["x", "n" * 300])), data.draw(st.integers(0, 50)), 4
    version = data.draw(st.sampled_from([4, 1004]))
    payload, whole = data.draw(st.binary(max_size=40)), entries * size
    middle = bytes(16 if version > 1000 else 8) + label(name)
    middle += bytes(data.draw(st.integers(0, 4)))
    key_bytes = 18 + len(middle) + 9
    whole = max(whole, len(payload))
    head = struct.pack(">ihiihh", key_bytes + len(payload), version, whole, 0, key_bytes, 1)
    tail = struct.pack(">iix", entries, key_bytes + entries * size)
    stored = bytearray(head + middle + tail + payload)
    for place, bits in flips:
        stored[place % len(stored)] ^= bits
    basket = np.frombuffer(bytes(stored), np.uint8)
    labels = np.frombuffer(label(name), np.uint8)
    one, payloads, wholes = np.array([0]), np.zeros(1, np.int64), np.zeros(1, np.int64)
    good = kernels.check_keys(
        basket,
        one,
        np.array([len(basket)]),
        np.array([entries]),
        np.array([entries * size]),
        labels,
        np.array([0, len(labels)]),
        one,
        payloads,
        wholes,
    )
    if not good:
        return  # who reads the page alone finds out whether it is wrong
    key = read_key(basket, entries)
    assert (payloads[0], wholes[0]) == (key.key_bytes, key.whole_bytes)
    assert key.data_bytes == entries * size


def test_a_whole_key_is_right() -> None:
    """What the test above compares must not always be refused."""
    stored = struct.pack(
        ">ihiihh", 18 + 8 + len(label("x")) + 9 + 8, 4, 8, 0, 18 + 8 + len(label("x")) + 9, 1
    )
    stored += bytes(8) + label("x") + struct.pack(">iix", 2, 18 + 8 + len(label("x")) + 9 + 8) + bytes(8)
    basket, labels = np.frombuffer(stored, np.uint8), np.frombuffer(label("x"), np.uint8)
    none = np.array([0])
    args = (
        none,
        np.array([len(basket)]),
        np.array([2]),
        np.array([8]),
        labels,
        np.array([0, len(labels)]),
    )
    try:
        read_key(basket, 2)
    except DamagedPageError as error:
        pytest.fail(f"{error}")
    assert kernels.check_keys(basket, *args, none, np.zeros(1, np.int64), np.zeros(1, np.int64)) == 1
