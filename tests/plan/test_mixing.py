"""Blocks are as small as mixing asks for, unless pages would be decompressed too often."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan import (
    MOST_DECOMPRESSED,
    MOST_LACKING_BITS,
    Boundaries,
    Stock,
    bit_mask,
    boundaries,
    cut,
    found_lacking,
    lacking_bits,
    page_bytes,
    page_entries,
)
from rootfeed.schema import Block, Column, ColumnType, Encoding, Pages

FLOAT = np.dtype("f4")


def table(bounds: list[int], clusters: list[tuple[int, int]] | None = None) -> Pages:
    pages = len(bounds) - 1
    return Pages(
        bounds=np.array(bounds, np.int64),
        offset=np.arange(pages, dtype=np.int64),
        stored_bytes=np.diff(bounds).astype(np.int64),
        encoding=np.zeros(pages, np.uint8),
        checksum=np.zeros(pages, np.bool_),
        encodings=(Encoding("plain", FLOAT),),
        clusters=None if clusters is None else np.array(clusters, np.int64).reshape(-1, 2),
    )


def scalar(bounds: list[int]) -> Column:
    return Column("s", ColumnType("float", "scalar", FLOAT), table(bounds), "s")


def vector(values: list[int], entries: list[int], clusters: list[tuple[int, int]]) -> Column:
    kind = ColumnType("std::vector<float>", "vector", FLOAT)
    return Column("v", kind, table(values), "v", offsets=table(entries, clusters))


def every(length: int, entries: int) -> list[int]:
    return [*range(0, entries, length), entries]


def stock(*files: Boundaries, entries: list[int], **changes: object) -> Stock:
    spans = tuple(Block(number, 0, count) for number, count in enumerate(entries) if count)
    taken = changes.pop("taken", (None,) * len(files))
    row_bytes = changes.pop("row_bytes", (1,) * len(files))
    return Stock(files, tuple(entries), taken, spans, row_bytes, **changes)  # type: ignore[arg-type]


MIXING_BLOCKS = math.sqrt(0.5 * 2 * 1 / MOST_LACKING_BITS)
"""Blocks with which two kinds lack no more than that."""


# --- pages of vectors -----------------------------------------------------------------------------


def test_pages_of_values_lie_between_entries() -> None:
    # Two clusters of 10 and 20 entries, with 100 and 40 elements.
    column = vector([0, 25, 60, 100, 130, 140], [0, 10, 30], [(0, 100), (100, 140)])
    assert column.page_bounds.tolist() == [0, 2.5, 6, 10, 25, 30]
    assert column.entry_bounds.tolist() == [0, 10, 30]  # no more is certain
    found = boundaries({"v": column}, 30)
    assert found.clusters.tolist() == [0, 10, 30]
    assert found.pages.tolist() == [0, 2, 6, 10, 25, 30]
    assert (page_entries([found]), page_entries([found], certain=True)) == (5, 20)


def test_offsets_that_end_within_a_cluster_end_no_page_of_values() -> None:
    column = vector([0, 50, 100], [0, 4, 8, 10], [(0, 100)] * 3)
    assert column.entry_bounds.tolist() == [0, 10]
    sizes = Column("n", ColumnType("int", "scalar", FLOAT), None, "n", offsets=column.offsets)
    assert sizes.entry_bounds.tolist() == [0, 4, 8, 10]
    assert boundaries({"n": sizes}, 10).clusters.tolist() == [0, 4, 8, 10]
    assert boundaries({"n": sizes, "v": column}, 10).clusters.tolist() == [0, 10]


def test_clusters_without_elements() -> None:
    column = vector([0, 6], [0, 5, 10, 20, 30], [(0, 0), (0, 6), (6, 6), (6, 6)])
    assert column.entry_bounds[[0, -1]].tolist() == [0, 30]
    assert set(column.entry_bounds.tolist()) <= {0, 5, 10, 20, 30}
    assert 0 <= column.page_bounds[0] <= column.page_bounds[1] <= 30
    empty = vector([0], [0, 5], [(0, 0)])
    assert boundaries({"v": empty}, 5).pages.tolist() == [0, 5]
    none = vector([0], [0], [])
    assert boundaries({"v": none}, 0).pages.tolist() == [0, 0]


@given(data=st.data())
def test_estimates_are_those_of_equally_long_vectors(data: st.DataObject) -> None:
    clusters, entries, first = [], [0], 0
    lengths = data.draw(
        st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=1, max_size=5)
    )
    values = {0}
    for count, length in lengths:
        clusters.append((first, first + count * length))
        entries.append(entries[-1] + count)
        values |= set(data.draw(st.lists(st.integers(first, first + count * length), max_size=4)))
        first += count * length
        values.add(first)
    column = vector(sorted(values), entries, clusters)
    ends = np.cumsum(np.repeat([each for _, each in lengths], [count for count, _ in lengths]))
    true = np.interp(sorted(values), np.append(0, ends), np.arange(len(ends) + 1))
    assert np.allclose(column.page_bounds, true)


# --- decompression --------------------------------------------------------------------------------


def test_a_page_counts_for_each_block_that_holds_some_of_it() -> None:
    file = boundaries({"s": scalar([0, 100, 200])}, 200)
    assert page_bytes([file], [Block(0, 0, 200)]) == (200, 800)
    assert page_bytes([file], [Block(0, 0, 100), Block(0, 100, 200)])[1] == 800
    assert page_bytes([file], [Block(0, 0, 50), Block(0, 50, 150), Block(0, 150, 200)])[1] == 1600
    found = stock(file, entries=[200])
    assert found.decompressed(found.cut(25, True)) == 4
    assert stock(Boundaries(np.array([0, 9]), np.array([0, 9])), entries=[9]).decompressed(()) == 1


def test_all_columns_count_by_their_bytes() -> None:
    # One column in pages of 100 entries, one in a single page: blocks of 100 read that one ten times.
    file = boundaries({"a": scalar(every(100, 1000)), "b": scalar([0, 1000])}, 1000)
    found = stock(file, entries=[1000])
    assert found.decompressed(found.cut(100, False)) == pytest.approx((1 + 10) / 2)


# --- sizes ----------------------------------------------------------------------------------------


def test_the_formula() -> None:
    # As if so many blocks were drawn, where they are few.
    assert lacking_bits(10, 2) == pytest.approx(9 / (2 * math.log(2)) / 2)
    assert lacking_bits(2, 0.5) == 1  # a batch of one class
    assert lacking_bits(10, 1) == math.log2(10)
    # By what lies at the ends of each kind, where they are many.
    assert lacking_bits(2, 16) == pytest.approx(0.5 * 2 / 16**2)
    assert lacking_bits(10, 100) == pytest.approx(0.5 * 90 / 100**2)
    assert lacking_bits(2, 100, 7) == pytest.approx(7 * lacking_bits(2, 100))
    for kinds, regions in ((2, 1), (10, 1), (2, 12)):
        found = [lacking_bits(kinds, blocks, regions) for blocks in range(1, 300)]
        assert found == sorted(found, reverse=True)


def test_blocks_that_mix_stay_as_large_as_pages_like() -> None:
    found = stock(boundaries({"s": scalar(every(1000, 100_000))}, 100_000), entries=[100_000])
    assert found.block_entries(1000, 20_000) == 1000
    assert found.block_entries(1950, 20_000) == 1950
    assert 1900 <= found.block_entries(5000, 20_000) <= 2000
    # Of rows that take four times more memory, a quarter as many.
    wide = stock(*found.files, entries=[100_000], row_bytes=(4,))
    assert 1900 <= wide.block_entries(5000, 80_000) <= 2000
    assert 475 <= wide.block_entries(5000, 20_000) <= 500
    assert (found.mean_row_bytes, wide.mean_row_bytes) == (1, 4)


def test_no_page_is_decompressed_too_often() -> None:
    file = boundaries({"s": scalar([0, 100_000])}, 100_000)
    found = stock(file, entries=[100_000])
    size = found.block_entries(50_000, 60_000)
    assert found.decompressed(found.cut(size, False)) <= MOST_DECOMPRESSED
    assert size == pytest.approx(25_000, rel=0.06)
    # Where even the largest blocks cost more than that, they stay.
    assert found.block_entries(10_000, 20_000) == 10_000
    assert found.mixing_entries(10_000, 20_000) == pytest.approx(2000, rel=0.06)


def test_regions_ask_for_a_block_of_each() -> None:
    file = boundaries({"s": scalar(every(10, 10_000))}, 10_000)
    each = tuple(range(20))
    alone = stock(*[file] * 20, entries=[10_000] * 20, kinds=20)
    apart = stock(*[file] * 20, entries=[10_000] * 20, kinds=20, partitions=(each, (0,)), wanted=each)
    # 20 kinds need more blocks than two that may meet within each of 20 files.
    assert alone.block_entries(5000, 10_000) == pytest.approx(10_000 / 137.8, rel=0.06)
    assert apart.block_entries(5000, 10_000) == pytest.approx(10_000 / 44.7, rel=0.06)
    # As if nothing were known of them, where a block of each does not fit.
    assert apart.lacking(600, 10_000) == alone.lacking(600, 10_000)
    assert apart.lacking(300, 10_000) < alone.lacking(300, 10_000)


def test_regions_are_as_fine_as_memory_allows() -> None:
    file = boundaries({"s": scalar(every(10, 1000))}, 1000)
    found = stock(
        *[file] * 4, entries=[1000] * 4, row_bytes=(1, 1, 2, 1), partitions=((0, 1, 2, 3), (0, 2))
    )
    largest = np.array([100, 60, 40, 10])
    assert found.regions(largest, 100 + 60 + 80 + 10 + 2 * 100) == (0, 1, 2, 3)
    assert found.regions(largest, 100 + 60 + 80 + 10 + 2 * 100 - 1) == (0, 2)
    assert found.regions(largest, 100 + 80 + 100) == (0, 2)
    assert found.regions(largest, 100 + 80 + 100 - 1) == (0,)


def test_a_region_for_all_that_should_have_one_makes_two_kinds() -> None:
    file = boundaries({"s": scalar(every(10, 1000))}, 1000)
    found = stock(*[file] * 4, entries=[1000] * 4, kinds=8, wanted=(0, 2))
    assert found.lacking_in((0, 2), 20) == lacking_bits(2, 20, 2)
    assert found.lacking_in((0, 1, 2, 3), 20) == lacking_bits(2, 20, 4)
    assert found.lacking_in((0, 1), 20) == lacking_bits(8, 20)
    assert found.lacking_in((0,), 20) == lacking_bits(8, 20)
    one = stock(*[file] * 4, entries=[1000] * 4, kinds=8)
    assert one.lacking_in((0,), 20) == lacking_bits(8, 20)  # not of one file's kinds, but of all
    two = stock(*[file] * 4, entries=[1000] * 4)
    assert two.lacking_in((0,), 20) == lacking_bits(2, 20)


def test_what_stays_in_memory_lacks_nothing() -> None:
    found = stock(boundaries({"s": scalar([0, 1000])}, 1000), entries=[1000])
    assert found.lacking(500, 1000) == 0
    assert found.lacking(500, 999) > 0.1
    assert found.block_entries(1000, 1000) == 1000


def test_the_least_window_in_which_rows_mix() -> None:
    found = stock(boundaries({"s": scalar(every(10, 100_000))}, 100_000), entries=[100_000])
    for size in (100, 1000, 5000):
        window = found.window_bytes(size)
        assert window == pytest.approx(size * MIXING_BLOCKS, rel=0.06)
        assert found.lacking(size, window) <= MOST_LACKING_BITS
        assert found.lacking(size, 0.94 * window) > MOST_LACKING_BITS


def test_the_smallest_blocks_that_cost_little() -> None:
    found = stock(boundaries({"s": scalar(every(8000, 64_000))}, 64_000), entries=[64_000])
    assert found.affordable(8000) == pytest.approx(2000, rel=0.06)
    assert found.affordable(8000, 4000) == 4000
    assert found.affordable(100) == 100  # costs more already
    assert found.times(2000) == 4
    free = stock(boundaries({"s": scalar(every(1, 4096))}, 4096), entries=[4096])
    assert free.affordable(4096) == 1


def test_what_cuts_thin_out_counts_in_rows() -> None:
    file = boundaries({"s": scalar(every(10, 64_000))}, 64_000)
    some = np.zeros(64_000, bool)
    some[::100] = True
    found = stock(file, entries=[64_000], taken=(bit_mask(some),))
    assert found.rows == 640
    assert found.mean_row_bytes == 1
    size = found.block_entries(64_000, 160)
    assert size == pytest.approx(1600, rel=0.06)
    assert found.lacking(size, 160) <= MOST_LACKING_BITS


@st.composite
def stocks(draw: st.DrawFn) -> Stock:
    files, entries, taken = [], [], []
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 30_000))
        columns = {
            str(number): scalar(every(draw(st.integers(1, count)), count))
            for number in range(draw(st.integers(1, 3)))
        }
        files.append(boundaries(columns, count))
        entries.append(count)
        share = draw(st.sampled_from([1.0, 1.0, 0.3, 0.01]))
        some = np.random.default_rng(count).random(count) < share
        some[0] = True
        taken.append(None if share == 1 else bit_mask(some))
    each = tuple(range(len(files)))
    partitions = (each, (0,)) if draw(st.booleans()) else ((0,),)
    return stock(
        *files,
        entries=entries,
        taken=tuple(taken),
        row_bytes=tuple(draw(st.integers(1, 9)) for _ in files),
        partitions=partitions,
        wanted=draw(st.sampled_from([each, (0,)])),
        kinds=draw(st.integers(2, 10)),
    )


@given(found=stocks(), most=st.integers(1, 40_000), part=st.floats(0.02, 0.9))
def test_blocks_mix_or_cost_as_much_as_they_may(found: Stock, most: int, part: float) -> None:
    window = max(part * found.rows * found.mean_row_bytes, 1)
    size = found.block_entries(most, window)
    assert 1 <= size <= most
    assert size == found.block_entries(most, window)  # of nothing but the arguments
    if size < most:
        # Of many pages, some were judged.
        most_times = MOST_DECOMPRESSED * (1.0 if found._some is found else 1.5)
        assert found.decompressed(found.cut(size, False)) <= most_times
    if found.lacking(size, window) <= MOST_LACKING_BITS or size <= math.ceil(most / 4096):
        return
    smaller = max(int(size / 1.06) - 1, 1)
    assert found.times(most) > MOST_DECOMPRESSED or found.times(smaller) > 0.5 * MOST_DECOMPRESSED


def test_few_large_blocks_count_as_few() -> None:
    found = stock(boundaries({"s": scalar([0, 1000])}, 1000), entries=[1000], row_bytes=(2,))
    files = np.zeros(100, np.int64)
    assert found.blocks_in(np.array([10] * 100), files, 1000) == 50
    # Most rows are in blocks of 400.
    uneven = np.array([400, 400, *[10] * 20])
    assert found.blocks_in(uneven, files[:22], 1000) == 1
    # Of few, one begins while another ends.
    for window, blocks in ((159, 6), (119, 4), (61, 2), (59, 1), (40, 1), (20, 1)):
        assert found.blocks_in(np.array([10] * 100), files, window) == blocks
    # No more than there are, empty ones left out.
    assert found.blocks_in(np.array([10, 0, 10]), files[:3], 1000) == 2
    assert found.blocks_in(np.array([10, 0, 10]), files[:3], 1) == 1


@pytest.mark.thorough
def test_large_datasets_are_judged_by_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [3000 * 20, *[1000 * 20] * 90]  # pages of 20 entries, each longer than what mixes
    files = [boundaries({"s": scalar(every(20, each))}, each) for each in lengths]
    whole = stock(*files, entries=lengths)
    blocks = 0

    def counting(*arguments: Any) -> list[Block]:
        nonlocal blocks
        found = cut(*arguments)
        blocks += len(found)
        return found

    monkeypatch.setattr("rootfeed.plan.mixing._MOST_JUDGED", 1000)
    monkeypatch.setattr("rootfeed.plan.mixing.cut", counting)
    size = whole.block_entries(20, 60)
    assert size == 6  # mixing asks for it: 10 blocks of 6 entries
    assert blocks < 20_000  # and not some for each of 93 000 pages
    assert whole.times(size) == pytest.approx(whole.decompressed(whole.cut(size, False)), rel=0.05)
    assert whole.block_entries(20, 20) == 5  # those of 1 would be decompressed 20 times


@given(
    kinds=st.integers(2, 12),
    blocks_of_each=st.integers(1, 8),
    looked_at=st.integers(10_000, 100_000),
)
def test_labels_in_order_lack_what_the_formula_says(
    kinds: int, blocks_of_each: int, looked_at: int
) -> None:
    counts = np.repeat(np.eye(kinds, dtype=np.int64) * looked_at, blocks_of_each, axis=0)
    blocks = len(counts)
    one = np.full(blocks, 7)
    found = found_lacking(counts, one, np.zeros(blocks, np.int64)).bits
    expected = 0.5 * kinds * (kinds - 1) / blocks**2
    # No label lacks more than it has; and what chance makes is taken off.
    assert found < min(expected, math.log2(kinds))
    if blocks_of_each > 2:
        assert found == pytest.approx(expected, rel=0.02)
    # Each in a region of its own lacks nothing; nor does what is the same everywhere.
    assert found_lacking(counts, one, np.arange(blocks)).bits == 0
    same = np.full((blocks, kinds), looked_at)
    assert found_lacking(same, one, np.zeros(blocks, np.int64)).bits == 0


def test_labels_at_random_lack_nothing() -> None:
    random = np.random.default_rng(0)
    regions = np.zeros(40, np.int64)
    rows = random.integers(1, 10_000, 40)
    for shares in ([0.5, 0.5], [0.001, 0.999], [0.1] * 10):
        found = [
            found_lacking(random.multinomial(200, shares, 40), rows, regions).bits for _ in range(200)
        ]
        assert max(found) < 1e-4


@pytest.mark.thorough(but=["10-2-10", "10-20-2", "10-5-256", "20-2-10", "20-5-2"])
@pytest.mark.parametrize("labels", [2, 10, 256])
@pytest.mark.parametrize(
    ("blocks", "looked_at"), [(10, 2), (10, 5), (10, 20), (20, 2), (20, 5), (150, 4)]
)
def test_few_rows_tell_little(labels: int, blocks: int, looked_at: int) -> None:
    random = np.random.default_rng(labels)
    shares = np.full(labels, 1 / labels)
    rows, regions = np.full(blocks, looked_at), np.zeros(blocks, np.int64)
    every = [
        found_lacking(random.multinomial(looked_at, shares, blocks), rows, regions) for _ in range(500)
    ]
    assert np.mean([each.order > 0.2 for each in every]) <= 0.004
    found = [each.bits for each in every]
    assert np.mean(np.array(found) > MOST_LACKING_BITS) <= (0.015 if looked_at == 2 else 0.004)


def test_a_label_that_few_blocks_have_counts_by_its_share() -> None:
    counts = np.tile([100_000, 0], (50, 1))
    counts[7] = [0, 100_000]
    assert found_lacking(counts, np.full(50, 100), np.zeros(50, np.int64)).bits == pytest.approx(
        0.5 * 2 * (1 / 0.02 + 1 / 0.98) / 2 / 50**2, rel=0.02
    )


def test_how_much_of_an_order_labels_are_in() -> None:
    rows, one = np.full(20, 100), np.zeros(20, np.int64)
    sorted_ = np.repeat(np.eye(2, dtype=np.int64) * 1000, 10, axis=0)
    assert found_lacking(sorted_, rows, one).order == pytest.approx(1, abs=0.01)
    assert found_lacking(sorted_, rows, np.repeat([0, 1], 10)).order == 0  # a region of each
    half = np.repeat(np.array([[750, 250], [250, 750]]), 10, axis=0)
    assert found_lacking(half, rows, one).order == pytest.approx(0.25, abs=0.01)
    assert found_lacking(half, rows, one).of_kinds(10) == 0
    assert found_lacking(sorted_, rows, one).of_kinds(10) == pytest.approx(0.45, rel=0.02)
