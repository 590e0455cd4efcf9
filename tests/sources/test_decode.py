"""Pages decoded from bytes made here: what files by ROOT do not hold, and every part of a page."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.schema import Encoding
from rootfeed.sources import Scratch
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.decoding import decode
from rootfeed.sources.reals import real_encoding

Array = np.ndarray

ELEMENTS = 37


def raw_bytes(size: int) -> Array:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8)


def bits_of(raw: Array, bits: int) -> Array:
    """Unpack elements of so many bits, the plain way."""
    number = int.from_bytes(raw.tobytes(), "little")
    mask = (1 << bits) - 1
    values = [number >> (bits * i) & mask for i in range(ELEMENTS)]
    return np.array(values, np.uint64)


def planes(raw: Array, dtype: str) -> Array:
    """Join byte planes, the plain way."""
    return np.ascontiguousarray(raw.reshape(-1, ELEMENTS).T).view(dtype)[:, 0]


def zigzag(words: Array, dtype: str) -> Array:
    values = [(int(word) >> 1) ^ -(int(word) & 1) for word in words]
    return np.array(values, dtype)


def leaf(raw: Array, stride: int, place: int, dtype: str) -> Array:
    size = np.dtype(dtype).itemsize
    rows = raw.reshape(ELEMENTS, stride)[:, place : place + size]
    return np.ascontiguousarray(rows).view(dtype)[:, 0].astype(np.dtype(dtype).newbyteorder("="))


def truncated(raw: Array, bits: int) -> Array:
    return (bits_of(raw, bits).astype("u4") << np.uint32(32 - bits)).view("f4")


def quantized(raw: Array, bits: int, low: float, high: float) -> Array:
    scale = (high - low) / (2**bits - 1)
    return np.array([min(int(q) * scale + low, high) for q in bits_of(raw, bits)])


def ranged(words: Array, bits: int, low: float, high: float) -> Array:
    factor = (2**bits if bits < 32 else 0xFFFFFFFF) / (high - low)
    return np.array([int(word) / factor + low for word in words])


def mantissa(raw: Array, bits: int) -> Array:
    words = []
    for exponent, high, low in raw.reshape(-1, 3).tolist():
        stored = high << 8 | low
        word = exponent << 23 | (stored & ((1 << (bits + 1)) - 1)) << (23 - bits)
        words.append((word ^ (1 << 31 if stored & 1 << (bits + 1) else 0)) & 0xFFFFFFFF)
    return np.array(words, "u4").view("f4")


F4, F8 = np.dtype("f4"), np.dtype("f8")
RAW = {size: raw_bytes(size) for size in range(1, 20 * ELEMENTS)}


def page(size: int) -> Array:
    return RAW[size * ELEMENTS]


CASES: list[tuple[Encoding, Array, Array]] = [
    *(
        (Encoding("plain", np.dtype(dtype)), page(size), page(size).view(dtype))
        for dtype, size in [("i1", 1), ("u2", 2), ("f2", 2), ("i4", 4), ("f8", 8)]
    ),
    *(
        (
            Encoding("swapped", np.dtype(dtype)),
            page(size),
            page(size).view(f">{dtype}").astype(dtype),
        )
        for dtype, size in [("i1", 1), ("i2", 2), ("u4", 4), ("u8", 8)]
    ),
    *(
        (Encoding("split", np.dtype(dtype)), page(size), planes(page(size), dtype))
        for dtype, size in [("f2", 2), ("u2", 2), ("f4", 4), ("f8", 8), ("u8", 8)]
    ),
    *(
        (
            Encoding("zigzag", np.dtype(f"i{size}")),
            page(size),
            zigzag(planes(page(size), f"u{size}"), f"i{size}"),
        )
        for size in (2, 4, 8)
    ),
    *(
        (
            Encoding("swapped", np.dtype(dtype), stride=19, place=place),
            page(19),
            leaf(page(19), 19, place, f">{dtype}"),
        )
        for dtype, place in [("i4", 0), ("f8", 11), ("u1", 18), ("i2", 17)]
    ),
    *(
        (
            Encoding("truncated", F4, bits=bits),
            RAW[-(-ELEMENTS * bits // 8)],
            truncated(RAW[-(-ELEMENTS * bits // 8)], bits),
        )
        for bits in (10, 13, 16, 31)
    ),
    *(
        (
            Encoding("quantized", F8, bits=bits, low=-4.01, high=-1.55),
            RAW[-(-ELEMENTS * bits // 8)],
            quantized(RAW[-(-ELEMENTS * bits // 8)], bits, -4.01, -1.55),
        )
        for bits in (1, 7, 8, 20, 32)
    ),
    *(
        (
            Encoding("ranged", F8, bits=bits, low=-1.0, high=2.5),
            page(4),
            ranged(page(4).view(">u4"), bits, -1.0, 2.5),
        )
        for bits in (2, 9, 31, 32)
    ),
    (
        Encoding("ranged", F8, bits=9, low=0.0, high=1.0, stride=11, place=5),
        page(11),
        ranged(leaf(page(11), 11, 5, ">u4"), 9, 0.0, 1.0),
    ),
    *((Encoding("mantissa", F4, bits=b), page(3), mantissa(page(3), b)) for b in (2, 8, 12, 14)),
    (
        Encoding("mantissa", F4, bits=12, stride=7, place=4),
        page(7),
        mantissa(page(7).reshape(-1, 7)[:, 4:], 12),
    ),
    (
        Encoding("bit", np.dtype("u1"), bits=1),
        RAW[-(-ELEMENTS // 8)],
        bits_of(RAW[-(-ELEMENTS // 8)], 1).astype("u1"),
    ),
]
every_case = pytest.mark.parametrize(
    ("encoding", "raw", "want"),
    CASES,
    ids=[f"{e.name}-{e.stored}-{e.bits}-{e.stride}" for e, _, _ in CASES],
)


@every_case
def test_every_part_of_a_page(encoding: Encoding, raw: Array, want: Array) -> None:
    scratch = Scratch()
    for start in range(ELEMENTS + 1):
        for stop in {start, min(start + 1, ELEMENTS), min(start + 9, ELEMENTS), ELEMENTS}:
            out = np.full(stop - start, 77, encoding.stored)
            decode(encoding, raw.copy(), ELEMENTS, start, out, scratch)
            assert out.tobytes() == want[start:stop].astype(encoding.stored).tobytes()


@every_case
def test_pages_of_another_size_are_refused(encoding: Encoding, raw: Array, want: Array) -> None:
    out = np.empty(ELEMENTS, encoding.stored)
    for other in (raw[:-1], np.append(raw, np.uint8(0)), raw[:0]):
        with pytest.raises(DamagedPageError, match=f"it has {len(other)} bytes for 37 elements"):
            decode(encoding, other, ELEMENTS, 0, out, Scratch())
    for start in (-1, 1, ELEMENTS):
        with pytest.raises(DamagedPageError):
            decode(encoding, raw, ELEMENTS, start, out, Scratch())


@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_every_byte_but_zero_is_true(values: list[int]) -> None:
    raw = np.array(values, np.uint8)
    out = np.empty(len(raw), np.bool_)
    decode(Encoding("swapped", np.dtype("?")), raw, len(raw), 0, out, Scratch())
    assert out.tolist() == [value != 0 for value in values]
    # What is in memory is 0 or 1, or NumPy's own functions go wrong.
    assert set(out.view(np.uint8)) <= {0, 1}


@pytest.mark.parametrize(("stored", "wanted"), [("f2", "f4"), ("f4", "f8"), ("f2", "f8"), ("i2", "i8")])
def test_widening_keeps_every_value(stored: str, wanted: str) -> None:
    raw = raw_bytes(ELEMENTS * np.dtype(stored).itemsize)
    out = np.empty(ELEMENTS, wanted)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        decode(Encoding("plain", np.dtype(stored)), raw, ELEMENTS, 0, out, Scratch())
        assert np.array_equal(out, raw.view(stored).astype(wanted), equal_nan=out.dtype.kind == "f")


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("title", ["x[17,3,20]", "x[-2,-2,31]", "x[-1e308,1.5e308]", "x[0,1e999]"])
def test_titles_that_mean_nothing(title: str, single: bool) -> None:
    assert real_encoding(title, single=single) is None


def test_scratch_reuses_its_memory() -> None:
    scratch = Scratch()
    first = scratch.array("page", 100, np.float32)
    first[:] = 7.0
    again = scratch.array("page", (5, 10), np.uint8)
    assert again.shape == (5, 10)
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, scratch.array("other", 100, np.uint8))
    larger = scratch.array("page", 100_000, np.float64)
    assert larger.shape == (100_000,)
    assert scratch.array("page", 3, np.int16).dtype == np.int16
    assert scratch.array("none", 0, np.int64).shape == (0,)


def test_scratch_keeps_the_last_thing_open() -> None:
    events = []

    def opener(name: str):
        def open_(stack):
            events.append(f"open {name}")
            stack.callback(events.append, f"close {name}")
            return name

        return open_

    scratch = Scratch()
    assert scratch.keep("a", opener("a")) == "a"
    assert scratch.keep("a", opener("a")) == "a"
    assert scratch.keep("b", opener("b")) == "b"
    scratch.close()
    scratch.close()
    assert events == ["open a", "close a", "open b", "close b"]
