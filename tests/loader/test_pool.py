"""Memory that is lent: when it comes back, and when it does not."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError
from rootfeed.loader.memory import Arena, Lent
from rootfeed.plan import choose_sizes
from rootfeed.plan.budget import ORDER_BYTES
from samples import File, in_a_row, open_events, write_all


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_memory_comes_back_when_the_last_view_is_dropped() -> None:
    lent = Lent(1000, 2)
    first = lent.take()
    assert (len(first), first.dtype) == (1000, np.uint8)
    place = address(first)
    view = first[8:24].view(np.float64).reshape(2, 1)
    del first
    assert address(lent.take()) != place
    row = view[1]
    del view
    assert address(lent.take()) != place
    del row
    assert address(lent.take()) == place


def test_memory_held_by_a_tensor_is_not_lent_again() -> None:
    torch = pytest.importorskip("torch")
    lent = Lent(64, 1)
    memory = lent.take()
    place = address(memory)
    tensor = torch.from_numpy(memory.view(np.float32).reshape(4, 4))[1:]
    del memory
    gc.collect()
    other = lent.take()
    assert address(other) != place
    del tensor
    assert address(lent.take()) == place


def test_no_more_is_kept_than_was_allowed() -> None:
    lent = Lent(100, 2)
    held = [lent.take() for _ in range(5)]
    places = {address(memory) for memory in held}
    assert len(places) == 5
    memory = [weakref.ref(loan.memory) for loan in lent._loans.values()]
    del held
    taken = lent.take()
    assert sum(each() is not None for each in memory) == 2
    lent.close()
    assert sum(each() is not None for each in memory) == 1
    del taken
    lent.close()
    assert not any(each() is not None for each in memory)


@pytest.mark.parametrize(
    "sizes", [{}, {"chunk_entries": 700, "block_entries": 64}], ids=["kept", "lazy"]
)
def test_a_batch_that_is_kept_never_changes(tmp_path: Path, sizes: dict[str, Any]) -> None:
    # Of each run, one batch is kept; the memory of the others is used again and again.
    frame = open_events(write_all(tmp_path, in_a_row(File(5000, page=300))))
    loader = rf.Loader(frame, 10, ["id", "half"], "label", seed=4, target_dtype="int64", **sizes)
    kept = []
    for epoch in range(4):
        for number, (x, y) in enumerate(loader):
            if number % 17 == epoch:
                kept.append((x, x.copy(), y, y.copy()))
    for x, x_then, y, y_then in kept:
        assert np.array_equal(x, x_then)
        assert np.array_equal(y, y_then)


def test_places_of_rows_are_numbers_of_32_bits() -> None:
    with pytest.raises(ArgumentError, match=r"4294967297 rows would be in memory .* choose less memory"):
        Arena(2**32, 1, 8)
    for rows, whole in ((10**9, True), (5 * 10**9, False)):
        sizes = choose_sizes(
            rows=rows,
            entries=rows,
            row_bytes=2,
            batch_row_bytes=2,
            scratch_entry_bytes=8,
            batch_size=1024,
            page_entries=100_000,
            budget_bytes=10**11,
            threads=8,
        )
        assert sizes.in_memory == whole
        assert sizes.window_bytes <= 2**31 * (2 + ORDER_BYTES)


def test_an_arena_that_a_fork_left_locked_is_opened_anew() -> None:
    arena = Arena(0, 10, 8)
    held = Thread(target=arena._changed.acquire)  # whoever held it does not exist in the child
    held.start()
    held.join()
    arena.open(80)
    taken: list[Any] = []
    waiting = Thread(target=lambda: taken.append(arena.take(3, 24)), daemon=True)
    waiting.start()
    waiting.join(5)
    assert taken == [((0, 3),)]
