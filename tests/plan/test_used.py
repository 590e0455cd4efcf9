"""Which rows were used: asked when the ranks change, of epochs that may be much larger than memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rootfeed.plan import Offered, Shard, deal, plain_quotas, rows


@pytest.mark.parametrize("batches", [0, 1, 700, 1403, 2500, 9999])
def test_only_blocks_that_are_in_memory_are_put_in_order(
    monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    blocks, size = 400, 50
    counts = np.full((blocks, 1), size)
    none = np.zeros(blocks, np.int64)
    offered = Offered(counts, none + 1, none, np.zeros(1, bool))
    epoch = deal(
        offered,
        plain_quotas(blocks * size, 8, 1, "drop", False),
        Shard(),
        room_bytes=20 * size,
        seed=1,
        identity=(0, 0),
    )
    asked: list[int] = []
    largest = [0]

    def counted(plan: Any, stratum: int, piece: int, mine: Any) -> Any:
        asked.append(piece)
        largest.append(int(mine.max()))
        return own_order(plan, stratum, piece, mine)

    own_order = rows.own_order

    def numbers(_: int, piece: int) -> Any:
        return own_order(epoch, 0, piece, np.arange(size * piece, size * piece + size, dtype=np.uint32))

    some = min(batches, len(epoch.quotas))
    order = rows.Order(epoch, numbers, lambda _: np.empty(0, np.uint32)).rows(0, some)
    expected = np.zeros(blocks * size, bool)
    expected[order] = True
    monkeypatch.setattr(rows, "own_order", counted)
    assert np.array_equal(rows.used(epoch, 0, batches), expected)
    assert len(set(asked)) <= 24
    assert max(largest) < 24 * size
