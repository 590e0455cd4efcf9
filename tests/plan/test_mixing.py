"""Blocks are as small as mixing asks for, unless pages would be decompressed too often."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan import (
    CARRIED_SHARE,
    MOST_DECOMPRESSED,
    Boundaries,
    Stock,
    boundaries,
    cut,
    lacking_bits,
    page_bytes,
    page_entries,
    words_of,
)
from rootfeed.plan.mixing import MIXING_BLOCKS
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
    return Stock(files, tuple(entries), taken, spans, **changes)  # type: ignore[arg-type]


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


def test_blocks_that_mix_stay_as_large_as_pages_like() -> None:
    found = stock(boundaries({"s": scalar(every(1000, 100_000))}, 100_000), entries=[100_000])
    assert found.block_entries(1000, 20_000) == 1000
    assert found.block_entries(1250, 20_000) == 1250
    assert 1100 <= found.block_entries(5000, 20_000) <= 1250


def test_no_page_is_decompressed_too_often() -> None:
    file = boundaries({"s": scalar([0, 100_000])}, 100_000)
    found = stock(file, entries=[100_000])
    size = found.block_entries(50_000, 60_000)
    assert found.decompressed(found.cut(size, False)) <= MOST_DECOMPRESSED
    assert size == pytest.approx(25_000, rel=0.06)
    # Where even the largest blocks cost more than that, they stay.
    assert found.block_entries(10_000, 20_000) == 10_000


def test_regions_ask_for_a_block_of_each() -> None:
    file = boundaries({"s": scalar(every(10, 10_000))}, 10_000)
    alone = stock(*[file] * 20, entries=[10_000] * 20)
    each = stock(*[file] * 20, entries=[10_000] * 20, regions=tuple(range(20)))
    assert alone.block_entries(5000, 10_000) == pytest.approx(10_000 / MIXING_BLOCKS, rel=0.06)
    size = each.block_entries(5000, 10_000)
    assert 200 <= size <= 10_000 * CARRIED_SHARE / 20


def test_what_cuts_thin_out_counts_in_rows() -> None:
    file = boundaries({"s": scalar(every(10, 64_000))}, 64_000)
    some = np.zeros(64_000, bool)
    some[::100] = True
    found = stock(file, entries=[64_000], taken=(words_of(some),))
    assert found.rows == 640
    size = found.block_entries(64_000, 160)
    assert size == pytest.approx(1000, rel=0.06)
    assert found.mixes(size, 160)


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
        taken.append(None if share == 1 else words_of(some))
    regions = tuple(range(len(files))) if draw(st.booleans()) else (0,)
    return stock(*files, entries=entries, taken=tuple(taken), regions=regions)


@given(found=stocks(), most=st.integers(1, 40_000), part=st.floats(0.02, 0.9))
def test_blocks_mix_or_cost_as_much_as_they_may(found: Stock, most: int, part: float) -> None:
    chunk_rows = max(int(part * found.rows), 1)
    size = found.block_entries(most, chunk_rows)
    assert 1 <= size <= most
    assert size == found.block_entries(most, chunk_rows)  # of nothing but the arguments
    cost = found.decompressed(found.cut(size, False))
    if size < most:
        assert cost <= MOST_DECOMPRESSED
    if found.mixes(size, chunk_rows) or size <= math.ceil(most / 4096):
        return
    smaller = max(int(size / 1.06) - 1, 1)
    assert (
        found.decompressed(found.cut(most, False)) > MOST_DECOMPRESSED
        or found.decompressed(found.cut(smaller, False)) > 0.5 * MOST_DECOMPRESSED
    )


@given(found=stocks(), most=st.integers(1, 40_000), part=st.floats(0.02, 0.9))
def test_mixing_is_what_blocks_then_do(found: Stock, most: int, part: float) -> None:
    chunk_rows = max(int(part * found.rows), 1)
    size = found.mixing_entries(most, chunk_rows)
    if not found.mixes(size, chunk_rows) or found.rows <= chunk_rows:
        return
    counts = np.array(
        [
            len(block) if (words := found.taken[block.file]) is None else _rows(words, block)
            for block in found.cut(size, True)
        ]
    )
    assert found.blocks_per_chunk(counts, chunk_rows) >= MIXING_BLOCKS - 1e-9


def _rows(words: np.ndarray, block: Block) -> int:
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return int(bits[block.start : block.stop].sum())


def test_the_formula() -> None:
    assert lacking_bits(2, 16) == pytest.approx(1 / (2 * math.log(2)) / 16)
    assert lacking_bits(10, 30) == pytest.approx(9 / (2 * math.log(2)) / 30)
    assert lacking_bits(10, 1) == math.log2(10)  # a batch of one class


def test_few_large_blocks_count_as_few() -> None:
    found = stock(boundaries({"s": scalar([0, 1000])}, 1000), entries=[1000])
    assert found.blocks_per_chunk(np.array([10] * 100), 500) == 50
    # Most rows are in blocks of 400.
    assert found.blocks_per_chunk(np.array([400, 400, *[10] * 20]), 500) == pytest.approx(1.5, rel=0.1)


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
    size = whole.block_entries(20, 100)
    assert size == 6  # mixing asks for it: 16 blocks of 6 entries
    assert blocks < 20_000  # and not some for each of 93 000 pages
    assert whole.times(size) == pytest.approx(whole.decompressed(whole.cut(size, False)), rel=0.05)
    assert whole.block_entries(20, 30) == 5  # those of 1 would be decompressed 20 times
