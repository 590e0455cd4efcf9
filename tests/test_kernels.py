"""Each kernel against a plain twin, at the edges of its buffers, and as a source of randomness."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rootfeed import kernels

MASK = (1 << 64) - 1
KEYS = st.integers(0, MASK)
CANARY = 0xA5


# --- twins in plain Python ------------------------------------------------------------------------


def random_bits(key: int, counter: int) -> int:
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def below(bits: int, bound: int) -> int:
    return bits * bound >> 64


def shuffled(key: int, counter: int, items: list[int]) -> int:
    for i in range(len(items) - 1, 0, -1):
        j = below(random_bits(key, counter), i + 1)
        counter += 1
        items[i], items[j] = items[j], items[i]
    return counter


def permutation(key: int, n: int) -> list[int]:
    buckets: list[list[int]] = [[] for _ in range(256)]
    for i in range(n):
        in_one = n < 65536
        buckets[0 if in_one else random_bits(key, i // 8) >> 8 * (i % 8) & 255].append(i)
    counter = n
    for bucket in buckets:
        counter = shuffled(key, counter, bucket)
    return [item for bucket in buckets for item in bucket]


def chosen_entries(key: int, fraction: float, entries: int) -> set[int]:
    offset = (random_bits(key, 0) >> 11) / 2**53
    chosen: set[int] = set()
    for start in range(0, entries, 64):
        size = min(64, entries - start)
        count = math.floor(fraction * (start + size) + offset) - math.floor(fraction * start + offset)
        group: set[int] = set()
        for j in range(size - count, size):
            drawn = below(random_bits(key, 1 + start + j), j + 1)
            group.add(j if drawn in group else drawn)
        chosen |= {start + member for member in group}
    return chosen


def permute(key: int, n: int) -> np.ndarray:
    out = np.full(n, 0xFFFFFFFF, np.uint32)
    kernels.permute(np.uint64(key & MASK), np.empty(0, np.uint32), out)
    return out


def choose(key: int, fraction: float, entries: int, first_group: int = 0, groups: int = -1) -> Any:
    groups = -(-entries // 64) - first_group if groups < 0 else groups
    words = np.full(groups, ~np.uint64(0))
    kernels.choose(np.uint64(key & MASK), fraction, entries, first_group, words)
    return words


def listed(words: Any, start: int, stop: int) -> list[int]:
    out = np.full(stop - start + 1, -1, np.int32)
    count = kernels.positions(words, start, stop, out)
    assert count == kernels.positions(words, start, stop, np.empty(0, np.int32))
    assert (out[count:] == -1).all()
    return out[:count].tolist()


def fenced(size: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return an array, and the larger one in whose middle it lies, full of canaries."""
    whole = np.empty(size + 16, dtype)
    whole.view(np.uint8)[:] = CANARY
    return whole[8 : 8 + size], whole


def intact(whole: np.ndarray) -> bool:
    edges = (whole[:8], whole[-8:])
    return all((edge.view(np.uint8) == CANARY).all() for edge in edges)


# --- gather and pack ------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 60),
    widths=st.lists(st.one_of(st.integers(1, 40), st.integers(41, 200)), min_size=1, max_size=3),
    gaps=st.lists(st.integers(0, 8), min_size=4, max_size=4),
    count=st.integers(0, 100),
    seed=st.integers(0, 2**32),
)
def test_gather_is_fancy_indexing(
    rows: int, widths: list[int], gaps: list[int], count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    offsets = [sum(widths[:part]) + sum(gaps[: part + 1]) for part in range(len(widths))]
    source = random.integers(0, 256, (rows, sum(widths) + sum(gaps)), np.uint8)
    before = source.copy()
    order = random.integers(0, rows, count).astype(np.uint32)
    fences = [fenced(count * width, np.uint8) for width in widths]
    outs = tuple(out.reshape(count, width) for (out, _), width in zip(fences, widths, strict=True))
    kernels.gather(source, order, np.array(offsets, np.int64), outs)
    for out, first, width in zip(outs, offsets, widths, strict=True):
        assert np.array_equal(out, source[order, first : first + width])
    assert all(intact(whole) for _, whole in fences)
    assert np.array_equal(source, before)


@pytest.mark.parametrize("width", range(1, 70))
def test_gather_copies_parts_of_every_width(width: int) -> None:
    source = np.random.default_rng(width).integers(0, 256, (50, width), np.uint8)
    order = np.arange(49, -1, -1, dtype=np.uint32)
    out, whole = fenced(50 * width, np.uint8)
    kernels.gather(source, order, np.zeros(1, np.int64), (out.reshape(50, width),))
    assert np.array_equal(out.reshape(50, width), source[::-1])
    assert intact(whole)


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@given(
    columns=st.integers(1, 30),
    entries=st.integers(0, 70),
    slack=st.integers(0, 20),
    gaps=st.integers(0, 3),
    selected=st.one_of(st.none(), st.floats(0.05, 1.0)),
    seed=st.integers(0, 2**32),
)
def test_pack_is_a_transpose(
    itemsize: int,
    columns: int,
    entries: int,
    slack: int,
    gaps: int,
    selected: float | None,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    word = np.dtype(f"u{itemsize}")
    matrix = random.integers(0, 256, (columns, (entries + slack) * itemsize), np.uint8).view(word)
    place = np.sort(random.permutation(columns + gaps)[:columns]).astype(np.int64)
    if selected is None:
        take = np.empty(0, np.int32)
        kept = np.arange(entries)
    else:
        kept = np.flatnonzero(random.random(entries) < selected)
        take = kept.astype(np.int32)
    width = columns + gaps
    flat, whole = fenced(len(kept) * width, word)
    out = flat.reshape(len(kept), width)
    background = out.copy()
    kernels.pack(matrix, take, place, out)
    expected = background
    expected[:, place] = matrix[:, kept].T
    assert np.array_equal(out, expected)
    assert intact(whole)


# --- decoding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("itemsize", [2, 4, 8])
@given(elements=st.integers(0, 80), seed=st.integers(0, 2**32), data=st.data())
def test_unsplit_joins_byte_planes(itemsize: int, elements: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, elements))
    count = data.draw(st.integers(0, elements - start))
    values = np.random.default_rng(seed).integers(0, 256, elements * itemsize, np.uint8)
    raw = np.ascontiguousarray(values.reshape(elements, itemsize).T).ravel()
    out, whole = fenced(count, f"u{itemsize}")
    kernels.unsplit(raw, elements, start, out)
    assert np.array_equal(out, values.view(f"<u{itemsize}")[start : start + count])
    assert intact(whole)


Sizes = st.lists(st.integers(0, 9), max_size=30)


@pytest.mark.parametrize("word", ["u4", "u8"])
@given(sizes=Sizes, data=st.data())
def test_page_ends_are_cumulative_sums(word: str, sizes: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(sizes, dtype=np.int64)
    previous = data.draw(st.integers(0, 100))
    delta = data.draw(st.booleans())
    skip = data.draw(st.integers(0, len(sizes)))
    words = (previous + ends).astype(word)
    if delta:
        words = np.diff(words, prepend=np.zeros(1, word))
    out, whole = fenced(len(sizes) - skip, np.int64)
    limit = previous + sum(sizes)
    good = kernels.page_ends(words, skip, delta, previous, limit, 1000, out)
    assert good == len(sizes)
    assert np.array_equal(out, 1000 + previous + ends[skip:])
    assert intact(whole)


@pytest.mark.parametrize("word", ["u4", "u8"])
@given(words=st.lists(st.integers(0, MASK), max_size=12), delta=st.booleans(), data=st.data())
def test_page_ends_stop_at_the_first_that_cannot_be(
    word: str, words: list[int], delta: bool, data: st.DataObject
) -> None:
    most = np.iinfo(word).max
    near = st.sampled_from([0, 1, 2, most, most - 1, 1 << 31, most // 2 + 1])
    words = [min(each, most) for each in words] + data.draw(st.lists(near, max_size=12))
    previous = data.draw(st.integers(0, 5))
    limit = data.draw(st.sampled_from([previous, 7, 1 << 31, (1 << 63) - 1]))
    expected: list[int] = []
    total, least = 0, previous
    for each in words:
        total = (total + each) & MASK if delta else each
        if not least <= total <= limit:
            break
        expected.append(total)
        least = total
    out, whole = fenced(len(words), np.int64)
    good = kernels.page_ends(np.array(words, word), 0, delta, previous, limit, 0, out)
    assert good == len(expected)
    assert out[:good].tolist() == expected
    assert intact(whole)


def big_endian(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.int64).astype(">u4").view(np.uint8)


@given(
    sizes=Sizes,
    key=st.integers(0, 200),
    header=st.sampled_from([0, 1, 10]),
    item=st.sampled_from([1, 2, 3, 4, 8]),
    data=st.data(),
)
def test_basket_ends_are_cumulative_sums(
    sizes: list[int], key: int, header: int, item: int, data: st.DataObject
) -> None:
    places = np.concatenate([[0], np.cumsum([header + item * size for size in sizes])]).astype(int)
    first = data.draw(st.integers(0, len(sizes)))
    stop = data.draw(st.integers(first, len(sizes)))
    last = stop == len(sizes)
    stored = [int(place) + key for place in places[first : stop + 1]]
    if last:
        stored[-1] = data.draw(st.sampled_from([stored[-1], 0, key + 1]))
    out, whole = fenced(stop - first, np.int64)
    got, around = fenced(stop - first + 1, np.int64)
    good = kernels.basket_ends(big_endian(stored), key, int(places[-1]), last, header, item, got, out)
    assert good == stop - first
    assert np.array_equal(got, places[first : stop + 1])
    assert np.array_equal(out, np.cumsum(sizes[first:stop]))
    assert intact(whole)
    assert intact(around)


@given(
    places=st.lists(
        st.one_of(st.integers(0, 60), st.integers(0, (1 << 32) - 1)), min_size=1, max_size=9
    ),
    key=st.integers(0, 20),
    size=st.integers(0, 60),
    header=st.sampled_from([0, 1, 10]),
    item=st.sampled_from([1, 3, 4]),
)
def test_basket_ends_stop_at_the_first_that_cannot_be(
    places: list[int], key: int, size: int, header: int, item: int
) -> None:
    expected = []
    total = 0
    for first, stop in itertools.pairwise(places):
        elements = stop - first - header
        if first - key < 0 or stop - key > size or elements < 0 or elements % item:
            break
        total += elements // item
        expected.append(total)
    out, whole = fenced(len(places) - 1, np.int64)
    got, around = fenced(len(places), np.int64)
    good = kernels.basket_ends(big_endian(places), key, size, False, header, item, got, out)
    assert good == len(expected)
    assert out[:good].tolist() == expected
    assert intact(whole)
    assert intact(around)


@given(
    sizes=Sizes,
    header=st.sampled_from([1, 10]),
    item=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 2**32),
    wrong=st.one_of(st.none(), st.integers(0, 29)),
)
def test_strip_leaves_headers_out(
    sizes: list[int], header: int, item: int, seed: int, wrong: int | None
) -> None:
    random = np.random.default_rng(seed)
    counted = header == 10
    entries, elements = [], []
    for number, size in enumerate(sizes):
        told = size + (number == wrong)
        start = random.integers(0, 256, header, np.uint8)
        if counted:
            start[-4:] = big_endian([told])
        elements.append(random.integers(0, 256, item * size, np.uint8))
        entries.append(np.concatenate([start, elements[-1]]))
    nothing = np.zeros(0, np.uint8)
    raw = np.concatenate([nothing, *entries])
    places = np.concatenate([[0], np.cumsum([len(entry) for entry in entries])]).astype(np.int64)
    out, whole = fenced(sum(sizes), f"u{item}")
    good = kernels.strip(raw, places, header, counted, out)
    expected = len(sizes) if not counted or wrong is None else min(wrong, len(sizes))
    assert good == expected
    filled = np.concatenate([nothing, *elements[:good]]).view(f">u{item}")
    assert np.array_equal(out[: len(filled)], filled)
    assert intact(whole)


@pytest.mark.parametrize("bits", [16, 32, 64])
@given(data=st.data())
def test_unzigzag_inverts_zigzag(bits: int, data: st.DataObject) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    drawn = data.draw(st.lists(st.integers(low, high), max_size=40))
    values = [low, high, -1, 0, 1, *drawn]
    zigzag = [2 * value if value >= 0 else -2 * value - 1 for value in values]
    out = np.array(zigzag, f"u{bits // 8}")
    kernels.unzigzag(out)
    assert out.view(f"i{bits // 8}").tolist() == values


def unpacked(raw: np.ndarray, bits: int, start: int, count: int) -> np.ndarray:
    stream = np.unpackbits(raw, bitorder="little").astype(np.uint64)
    fields = stream[start * bits : (start + count) * bits].reshape(count, bits)
    return (fields << np.arange(bits, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)


@pytest.mark.parametrize("bits", range(1, 33))
@given(start=st.integers(0, 40), count=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_unpack_reads_little_endian_fields(bits: int, start: int, count: int, seed: int) -> None:
    size = -(-(start + count) * bits // 8)
    raw = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    expected = unpacked(raw, bits, start, count)
    for dtype in (np.uint8, np.uint32) if bits <= 8 else (np.uint32,):
        out, whole = fenced(count, dtype)
        # Whatever follows the buffer must not matter.
        for canary in (0x00, 0xFF):
            memory = np.full(size + 16, canary, np.uint8)
            memory[:size] = raw
            kernels.unpack(memory[:size], bits, start, out)
            assert np.array_equal(out, expected)
        assert intact(whole)


@pytest.mark.parametrize("bits", range(1, 33))
def test_unpack_stays_within_its_buffer(bits: int) -> None:
    # Run as plain Python, NumPy refuses an index beyond the end.
    for count in range(1, 18):
        raw = np.full(-(-count * bits // 8), 0xFF, np.uint8)
        out = np.zeros(count, np.uint32)
        kernels.unpack.py_func(raw, bits, 0, out)
        assert (out == (1 << bits) - 1).all()


def test_plain_python_refuses_what_a_kernel_would_not() -> None:
    # The test above can fail: a buffer that is one byte short is noticed.
    with pytest.raises(IndexError):
        kernels.unpack.py_func(np.zeros(3, np.uint8), 16, 0, np.zeros(2, np.uint32))


def truncated_real(exponent: int, stored: int, bits: int) -> float:
    word = (exponent << 23) | ((stored & ((1 << (bits + 1)) - 1)) << (23 - bits))
    value = np.array([word], np.uint32).view(np.float32)[0]
    return -value if stored & (1 << (bits + 1)) else value


@pytest.mark.parametrize("bits", range(2, 17))
@given(elements=st.integers(0, 40), seed=st.integers(0, 2**32), data=st.data())
@example(elements=0, seed=0, data=None)
def test_mantissa_is_roots_formula(
    bits: int, elements: int, seed: int, data: st.DataObject | None
) -> None:
    start = data.draw(st.integers(0, elements)) if data else 0
    count = data.draw(st.integers(0, elements - start)) if data else 0
    raw = np.random.default_rng(seed).integers(0, 256, 3 * elements, np.uint8)
    out, whole = fenced(count, np.uint32)
    kernels.mantissa(raw, bits, start, out)
    assert intact(whole)
    expected = [
        truncated_real(int(raw[3 * i]), int(raw[3 * i + 1]) << 8 | int(raw[3 * i + 2]), bits)
        for i in range(start, start + count)
    ]
    assert np.array_equal(out, np.array(expected, np.float32).view(np.uint32))


def representable(value: int, mantissa_bits: int) -> bool:
    odd = abs(value)
    while odd and odd % 2 == 0:
        odd //= 2
    return odd < 2**mantissa_bits


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("mantissa_bits", [11, 24, 53])
@given(data=st.data())
def test_count_inexact_counts_integers_that_a_float_alters(
    dtype: str, mantissa_bits: int, data: st.DataObject
) -> None:
    limits = np.iinfo(dtype)
    edge = 2**mantissa_bits
    near = [edge - 1, edge, edge + 1, edge + 2, 2 * edge + 1, 2 * edge + 2, 4 * edge - 1]
    edges = [limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1]
    edges += [sign * value for value in near for sign in (1, -1)]
    drawn = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)), max_size=20))
    values = [value for value in edges if limits.min <= value <= limits.max] + drawn
    counted = kernels.count_inexact(np.array(values, dtype), 2**mantissa_bits)
    assert counted == sum(not representable(value, mantissa_bits) for value in values)
    real = {24: np.float32, 53: np.float64}.get(mantissa_bits)
    if real is not None:
        # Python compares an integer and a real exactly.
        cast = np.array(values, dtype).astype(real).tolist()
        assert counted == sum(int(a) != b for a, b in zip(cast, values, strict=True))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@given(data=st.data())
def test_all_finite(dtype: str, data: st.DataObject) -> None:
    limits = np.finfo(dtype)
    wrong = [math.nan, math.inf, -math.inf]
    finite = [0.0, -0.0, float(limits.max), float(limits.min), float(limits.smallest_subnormal)]
    drawn = data.draw(st.lists(st.sampled_from([*finite, *wrong]) | st.floats(-1e30, 1e30), max_size=40))
    values = np.array(drawn, dtype)
    assert kernels.all_finite(values) == np.isfinite(values).all()
    long = np.resize(np.array(finite, dtype), 1000)
    assert kernels.all_finite(long)
    long[data.draw(st.integers(0, 999))] = data.draw(st.sampled_from(wrong))
    assert not kernels.all_finite(long)


# --- permutations ---------------------------------------------------------------------------------


@given(key=KEYS, n=st.integers(0, 300))
def test_permute_small(key: int, n: int) -> None:
    assert permute(key, n).tolist() == permutation(key, n)


@pytest.mark.parametrize("n", [65535, 65536, 65537, 100_003])
def test_permute_large(n: int) -> None:
    out = permute(12345, n)
    assert out.tolist() == permutation(12345, n)
    assert np.array_equal(np.sort(out), np.arange(n))


def test_permute_writes_nothing_else() -> None:
    for n in (0, 1, 2, 1000, 70000):
        out, whole = fenced(n, np.uint32)
        kernels.permute(np.uint64(7), np.empty(0, np.uint32), out)
        assert intact(whole)


def test_permutations_never_change() -> None:
    # Whoever changes the streams of random numbers breaks everybody's seeds.
    assert permute(0, 10).tolist() == GOLDEN_SMALL
    assert permute(MASK, 10).tolist() == GOLDEN_LAST
    digest = hashlib.sha256(permute(42, 70_000).astype("<u4").tobytes()).hexdigest()
    assert digest == GOLDEN_LARGE


def chi_square(observed: np.ndarray, expected: float) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def too_large(statistic: float, freedom: int) -> bool:
    """Whether a chi-square lies more than five of its standard deviations off."""
    return abs(statistic - freedom) > 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_permutations_are_equally_likely(n: int) -> None:
    counts: dict[tuple[int, ...], int] = {}
    trials = 200 * math.factorial(n)
    for trial in range(trials):
        found = tuple(permute(trial * 0x1234567 + n, n).tolist())
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == math.factorial(n)
    statistic = chi_square(np.array(list(counts.values())), 200)
    assert statistic < math.factorial(n) - 1 + 5 * math.sqrt(2 * math.factorial(n))


@pytest.mark.parametrize("n", [4096, 65536, 80_000])
def test_every_element_lands_everywhere(n: int) -> None:
    # Bins of position against bins of value: a table with 31 x 31 degrees of freedom.
    bins, trials = 32, 40
    table = np.zeros((bins, bins))
    for key in range(trials):
        out = permute(key * 0x9E3779B97F4A7C1 + 1, n).astype(np.int64)
        np.add.at(table, (np.arange(n) * bins // n, out * bins // n), 1)
    assert not too_large(chi_square(table, trials * n / bins**2), (bins - 1) ** 2)


@pytest.mark.parametrize("n", [4096, 65536, 80_000])
def test_neighbours_are_strangers(n: int) -> None:
    successors = predecessors = 0
    correlations = []
    trials = 40
    for key in range(trials):
        out = permute(key * 0x9E3779B97F4A7C1 + 2, n).astype(np.int64)
        step = np.diff(out)
        successors += int((step == 1).sum())
        predecessors += int((step == -1).sum())
        correlations.append(np.corrcoef(out[:-1], out[1:])[0, 1])
    # Each is expected once in a permutation, with a variance of one.
    assert abs(successors - trials) < 5 * math.sqrt(trials)
    assert abs(predecessors - trials) < 5 * math.sqrt(trials)
    assert abs(float(np.mean(correlations))) < 5 / math.sqrt(n * trials)


def test_neighbouring_keys_are_independent() -> None:
    n = 65536
    first, second = permute(1000, n), permute(1001, n)
    # Fixed points of one in the other: once on average.
    assert int((first == second).sum()) < 8
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(n)


# --- choices --------------------------------------------------------------------------------------

FRACTIONS = st.one_of(
    st.floats(1e-6, 1 - 1e-6),
    st.sampled_from([0.5, 0.2, 0.25, 1 / 64, 1 / 3, 1e-9, 1 - 1e-9, 5e-324, 1 - 2**-53]),
)


@given(key=KEYS, fraction=FRACTIONS, entries=st.integers(1, 400))
def test_choose_is_its_twin(key: int, fraction: float, entries: int) -> None:
    words = choose(key, fraction, entries)
    assert set(listed(words, 0, entries)) == chosen_entries(key, fraction, entries)


@given(key=KEYS, fraction=FRACTIONS, entries=st.integers(1, 3000))
def test_counts_add_up_to_the_fraction(key: int, fraction: float, entries: int) -> None:
    words = choose(key, fraction, entries)
    count = len(listed(words, 0, entries))
    offset = (random_bits(key, 0) >> 11) / 2**53
    assert count == math.floor(fraction * entries + offset)
    assert abs(count - fraction * entries) < 1 + 1e-9
    # Nor in any part of the file does the count stray.
    for stop in range(64, entries, 640):
        assert abs(len(listed(words, 0, stop)) - fraction * stop) < 1 + 1e-9


@given(
    key=KEYS,
    fraction=FRACTIONS,
    entries=st.integers(1, 1000),
    data=st.data(),
)
def test_any_range_agrees_with_the_whole(
    key: int, fraction: float, entries: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    whole = listed(choose(key, fraction, entries), 0, entries)
    first, last = start // 64, -(-stop // 64)
    part = choose(key, fraction, entries, first, max(last - first, 0))
    expected = [entry - start for entry in whole if start <= entry < stop]
    assert listed(part, start, stop) == expected
    # The other side is what is left.
    rest = [entry - start for entry in range(start, stop) if entry not in set(whole)]
    assert listed(~part, start, stop) == rest


@given(start=st.integers(0, 200), length=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_positions_lists_bits(start: int, length: int, seed: int) -> None:
    stop = start + length
    groups = max(-(-stop // 64) - start // 64, 0)
    words = np.random.default_rng(seed).integers(0, 2**64, groups, np.uint64)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    skipped = start - start // 64 * 64
    assert listed(words, start, stop) == np.flatnonzero(bits[skipped : skipped + length]).tolist()


def test_every_entry_is_equally_likely() -> None:
    # A fraction that does not divide a group, and a last group that is not full.
    entries, fraction, trials = 150, 0.3, 6000
    counts = np.zeros(entries)
    for key in range(trials):
        counts[listed(choose(key * 0x51ED2701 + 3, fraction, entries), 0, entries)] += 1
    expected = fraction * trials
    deviations = (counts - expected) / math.sqrt(trials * fraction * (1 - fraction))
    assert np.abs(deviations).max() < 4.5
    assert abs(counts.sum() - expected * entries) < 5 * math.sqrt(trials)  # the offset is fair


def test_every_subset_is_equally_likely() -> None:
    # 3 of 6 entries: 20 subsets.
    counts: dict[tuple[int, ...], int] = {}
    trials = 8000
    for key in range(trials):
        found = tuple(listed(choose(key * 0x2545F491 + 1, 0.5, 6), 0, 6))
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == 20
    assert not too_large(chi_square(np.array(list(counts.values())), trials / 20), 19)


def test_a_tiny_fraction_is_chosen_as_often_as_it_says() -> None:
    # 0.25 of one entry: whether it is chosen is up to the file's random offset.
    trials = 4000
    chosen = sum(len(listed(choose(key * 0x1000193 + 5, 0.25, 1), 0, 1)) for key in range(trials))
    assert abs(chosen - trials / 4) < 5 * math.sqrt(trials * 0.25 * 0.75)


def test_choices_never_change() -> None:
    words = choose(42, 0.2, 1000)
    assert [int(word) for word in words[:3]] == GOLDEN_CHOICE
    digest = hashlib.sha256(words.astype("<u8").tobytes()).hexdigest()
    assert digest == GOLDEN_CHOICES


GOLDEN_SMALL = [8, 0, 5, 1, 2, 7, 9, 4, 6, 3]
GOLDEN_LAST = [4, 2, 8, 5, 3, 1, 6, 9, 7, 0]
GOLDEN_LARGE = "3b9219e5dd567644231b4772788fc4611373b6d8e1e23a52958010e75fd61cd5"
GOLDEN_CHOICE = [1442313379502981382, 9241879016658446412, 9234771785231145344]
GOLDEN_CHOICES = "0441f2200304c1e238db2e51fde6baa1d7b4ec7c144e59b7817c7c177e382626"


@pytest.mark.parametrize("n", [0, 1, 10, 65_535, 65_536, 80_000])
def test_values_are_put_in_the_order_of_their_places(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 2**32, n, np.uint32)
    out = np.empty(n, np.uint32)
    kernels.permute(np.uint64(77), values, out)
    assert np.array_equal(out, values[permute(77, n)])


def test_words_do_not_depend_on_how_many_there_are() -> None:
    few, many = np.empty(10, np.uint64), np.empty(1000, np.uint64)
    kernels.words(np.uint64(5), few)
    kernels.words(np.uint64(5), many)
    assert np.array_equal(few, many[:10])
    assert len(np.unique(many)) == 1000


# --- LZF ------------------------------------------------------------------------------------------


def unlzf(stored: bytes, room: int) -> bytes | None:
    """Return what LZF's bytes stand for; None where they are none, or stand for more."""
    out, place = bytearray(), 0
    while place < len(stored):
        control, place = stored[place], place + 1
        if control < 32:
            piece, place = stored[place : place + control + 1], place + control + 1
            if len(piece) <= control:
                return None
            out += piece
        else:
            length, needed = control >> 5, 2 if control >> 5 == 7 else 1
            if place + needed > len(stored):
                return None
            if length == 7:
                length, place = length + stored[place], place + 1
            source, place = len(out) - ((control & 31) << 8) - stored[place] - 1, place + 1
            if source < 0 or len(out) + length + 2 > room:
                return None
            for number in range(length + 2):
                out.append(out[source + number])
        if len(out) > room:
            return None
    return bytes(out)


pieces = st.one_of(
    st.binary(min_size=1, max_size=32).map(lambda piece: bytes([len(piece) - 1]) + piece),
    st.tuples(st.integers(1, 6), st.integers(0, 40)).map(lambda p: bytes([p[0] << 5, p[1]])),
    st.tuples(st.integers(0, 255), st.integers(0, 40)).map(lambda p: bytes([7 << 5, *p])),
    st.binary(max_size=4),
)


@given(st.lists(pieces, max_size=20).map(b"".join), st.integers(0, 600))
@example(b"\x00a\xe0\xff\x00", 265)
@example(b"\x00a\xe0\xff\x00", 264)
@example(b"\x1fa", 32)
@example(b"\x20", 32)
@example(b"\xe0\x01", 32)
def test_unlzf_is_its_twin(stored: bytes, room: int) -> None:
    want = unlzf(stored, room)
    memory = np.full(room + 64, CANARY, np.uint8)
    got = kernels.unlzf(np.frombuffer(bytearray(stored), np.uint8), memory[:room])
    assert got == (-1 if want is None else len(want))
    if want is not None:
        assert memory[: len(want)].tobytes() == want
    assert (memory[room:] == CANARY).all()


# --- heaps ----------------------------------------------------------------------------------------


def take_objects(heap: bytes, index: int, wanted: int) -> bytes | None:
    """Return the first bytes of an object of one collection; None where it is not there."""
    objects, place = {}, 16
    while place + 16 <= len(heap):
        number = int.from_bytes(heap[place : place + 2], "little")
        size = int.from_bytes(heap[place + 8 : place + 16], "little")
        if number == 0 and not 16 <= size < 1 << 63:
            break
        held = size - 16 if number == 0 else size
        if place + 16 + held > len(heap):
            return None
        if number:
            objects[number] = heap[place + 16 :][:held]
        place += 16 + (held + 7) // 8 * 8
    found = objects.get(index)
    return None if found is None or wanted > len(found) else found[:wanted]


objects_of_heaps = st.tuples(st.integers(0, 4), st.binary(max_size=20), st.integers(-1, 1)).map(
    lambda each: (
        each[0].to_bytes(8, "little")
        + max(0, len(each[1]) + each[2] * 20 + 16 * (each[0] == 0)).to_bytes(8, "little")
        + each[1]
        + bytes(-len(each[1]) % 8)
    )
)


@given(
    st.lists(st.one_of(objects_of_heaps, st.binary(max_size=24)), max_size=6).map(b"".join),
    st.lists(objects_of_heaps, max_size=6).map(b"".join),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), min_size=1, max_size=3),
    st.lists(
        st.tuples(st.sampled_from([-1, *range(5), 65_535, 65_536]), st.integers(0, 20)),
        min_size=1,
        max_size=3,
    ),
)
@example(b"\1" + bytes(7) + b"\xff" * 8, b"", [(1, 0)], [(1, 0)])
@example(bytes(16), b"\2" + bytes(7) + b"\3" + bytes(7) + b"abc" + bytes(5), [(2, 3)], [(2, 3)])
def test_objects_of_heaps_are_taken_as_by_the_twin(
    first: bytes, second: bytes, ones: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    heaps = [bytes(16) + first, bytes(16) + second]
    entries = [
        (heap, *each) for heap, asked in zip(heaps, (ones, others), strict=True) for each in asked
    ]
    want = [take_objects(*each) for each in entries]
    wanted = np.array([each[2] for each in entries])
    targets = np.cumsum(wanted) - wanted
    memory = np.full(int(wanted.sum()) + 64, CANARY, np.uint8)
    got = kernels.take_objects(
        np.frombuffer(bytearray(b"".join(heaps)), np.uint8),
        np.array([0, len(heaps[0])]),
        np.array([len(each) for each in heaps]),
        np.array([0, len(ones), len(entries)]),
        np.array([each[1] for each in entries]),
        wanted,
        targets,
        np.empty(1 << 16, np.int64),
        memory[: int(wanted.sum())],
    )
    if None in want:
        # A collection that contradicts itself is told by its first entry.
        assert 0 <= got <= want.index(None)
    else:
        assert got == -1
        assert memory[: int(wanted.sum())].tobytes() == b"".join(
            each for each in want if each is not None
        )
    assert (memory[int(wanted.sum()) :] == CANARY).all()
