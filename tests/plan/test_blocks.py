from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan import Boundaries, boundaries, cut, page_entries
from rootfeed.schema import Block, Column, ColumnType, Encoding, Pages


def array(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def column(name: str, bounds: list[int], stored: int = 100) -> Column:
    pages = len(bounds) - 1
    plain = Encoding("plain", np.dtype("f4"))
    return Column(
        name,
        ColumnType("float", "scalar", np.dtype("f4")),
        Pages(
            array(*bounds),
            np.arange(pages, dtype=np.int64),
            np.full(pages, stored, np.int64),
            np.zeros(pages, np.uint8),
            np.zeros(pages, np.bool_),
            (plain,),
        ),
        name,
    )


def columns(*items: Column) -> dict[str, Column]:
    return {item.name: item for item in items}


@st.composite
def files(draw: st.DrawFn) -> tuple[int, Boundaries]:
    entries = draw(st.integers(1, 500))
    pages = draw(st.sets(st.integers(1, entries), max_size=20)) | {0, entries}
    clusters = set(draw(st.lists(st.sampled_from(sorted(pages)), max_size=6))) | {0, entries}
    return entries, Boundaries(array(*sorted(clusters)), array(*sorted(pages)))


# --- boundaries -----------------------------------------------------------------------------------


def test_clusters_are_where_all_columns_end() -> None:
    found = boundaries(columns(column("a", [0, 10, 20, 30]), column("b", [0, 20, 25, 30])), 30)
    assert found.clusters.tolist() == [0, 20, 30]


def test_pages_are_those_of_the_heaviest_group() -> None:
    light = column("light", [0, 5, 10], stored=1000)
    heavy = [column(name, [0, 3, 6, 10], stored=400) for name in ("h1", "h2")]
    # Two columns with the same pages weigh 2 × 3 × 400 bytes, the other one 2 × 1000.
    found = boundaries(columns(light, *heavy), 10)
    assert found.pages.tolist() == [0, 3, 6, 10]
    assert found.clusters.tolist() == [0, 10]
    assert boundaries(columns(light, heavy[0]), 10).pages.tolist() == [0, 5, 10]


def test_a_column_without_pages_sets_no_boundary() -> None:
    without = Column("x", ColumnType("float", "scalar", np.dtype("f4")), None, "x")
    paged = column("a", [0, 4, 9])
    assert boundaries({"x": without, "a": paged}, 9).clusters.tolist() == [0, 4, 9]
    alone = boundaries({"x": without}, 9)
    assert alone.clusters.tolist() == [0, 9]
    assert alone.pages.tolist() == [0, 9]
    assert boundaries({}, 9).pages.tolist() == [0, 9]


def test_an_empty_file_has_boundaries() -> None:
    assert page_entries([boundaries(columns(column("a", [0])), 0)]) == 1
    assert page_entries([]) == 1


def test_page_entries_is_the_length_that_half_of_the_entries_see() -> None:
    # Ten pages of 10 entries and one of 1000: most entries lie in the long one.
    bounds = array(*range(0, 101, 10), 1100)
    assert page_entries([Boundaries(bounds, bounds)]) == 1000
    short = array(*range(0, 5001, 10))
    assert page_entries([Boundaries(bounds, bounds), Boundaries(short, short)]) == 10


# --- cut ------------------------------------------------------------------------------------------


@given(file=files(), block_entries=st.integers(1, 600), exact=st.booleans(), data=st.data())
def test_blocks_cover_a_range_once_and_in_order(
    file: tuple[int, Boundaries], block_entries: int, exact: bool, data: st.DataObject
) -> None:
    entries, bounds = file
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    blocks = cut(7, start, stop, bounds, block_entries, exact)
    assert [block.file for block in blocks] == [7] * len(blocks)
    edges = [start, *(block.stop for block in blocks)]
    assert [block.start for block in blocks] == edges[:-1]
    assert edges[-1] == stop
    assert all(0 < len(block) <= block_entries for block in blocks)
    if exact:
        assert all(len(block) == block_entries for block in blocks[:-1])


@given(file=files(), block_entries=st.integers(1, 120), data=st.data())
def test_blocks_end_at_the_best_boundary_within_reach(
    file: tuple[int, Boundaries], block_entries: int, data: st.DataObject
) -> None:
    entries, bounds = file
    start = data.draw(st.integers(0, entries - 1))
    stop = data.draw(st.integers(start + 1, entries))
    for block in cut(0, start, stop, bounds, block_entries, False):
        reach = min(block.start + block_entries, stop)

        def within(ends: np.ndarray, block: Block = block, reach: int = reach) -> list[int]:
            return [int(end) for end in ends if block.start < end <= reach]

        if reach == stop:
            assert block.stop == stop
        elif within(bounds.clusters):
            assert block.stop == max(within(bounds.clusters))
        elif within(bounds.pages):
            # The page boundary nearest to what cuts the rest of the cluster into equal blocks.
            cluster = min(int(end) for end in bounds.clusters if end > block.start)
            parts = -(-(cluster - block.start) // block_entries)
            goal = block.start + -(-(cluster - block.start) // parts)
            distances = [abs(end - goal) for end in within(bounds.pages)]
            assert block.stop in within(bounds.pages)
            assert abs(block.stop - goal) == min(distances)
        else:
            # A page longer than a block is cut into parts that differ by no more than one entry.
            end = min(int(page) for page in bounds.pages if page > block.start)
            parts = -(-(end - block.start) // block_entries)
            assert (end - block.start) // parts <= len(block) <= -(-(end - block.start) // parts)


def test_a_long_page_is_cut_into_equal_parts() -> None:
    bounds = array(0, 100, 110)
    blocks = cut(0, 0, 110, Boundaries(bounds, bounds), 30, False)
    assert [len(block) for block in blocks] == [25, 25, 25, 25, 10]


def test_several_clusters_make_a_block() -> None:
    bounds = array(*range(0, 101, 10))
    blocks = cut(0, 0, 100, Boundaries(bounds, bounds), 35, False)
    assert [(block.start, block.stop) for block in blocks] == [(0, 30), (30, 60), (60, 90), (90, 100)]


def test_clusters_come_before_pages() -> None:
    # Within reach are a page boundary at 9, and one of a cluster at 6, where no page is cut.
    bounds = Boundaries(array(0, 6, 20), array(0, 3, 6, 9, 12, 20))
    blocks = cut(0, 0, 20, bounds, 10, False)
    assert [(block.start, block.stop) for block in blocks] == [(0, 6), (6, 12), (12, 20)]


def test_nothing_is_cut_into_nothing() -> None:
    bounds = array(0, 10)
    assert cut(0, 4, 4, Boundaries(bounds, bounds), 3, False) == []


@pytest.mark.parametrize("exact", [True, False])
def test_blocks_are_the_same_in_neighbouring_ranges(exact: bool) -> None:
    # What an ordered split does: both sides together have the blocks' entries once.
    bounds = array(0, 33, 66, 100)
    left = cut(0, 0, 47, Boundaries(bounds, bounds), 40, exact)
    right = cut(0, 47, 100, Boundaries(bounds, bounds), 40, exact)
    covered = list(
        itertools.chain.from_iterable(range(block.start, block.stop) for block in left + right)
    )
    assert covered == list(range(100))
