"""Samplers of a user's own, through a loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError
from samples import open_events, write_columns

ENTRIES = 600


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    ids = np.arange(ENTRIES)
    columns = {"id": ids.astype(np.int64), "label": (ids // 100 % 3).astype(np.int32)}
    return open_events(write_columns(tmp_path_factory.mktemp("samplers") / "events.root", columns, 50))


class Growing(rf.Sampler):
    """Batches of 1, 2, 3 … rows, again and again."""

    def quotas(self, rows: Any, asked: Any) -> Any:
        sizes = np.arange(60) % asked.batch_size + 1
        return sizes[:, None]


class InTurns(rf.Sampler):
    """A batch of one class, then one of the next, of different sizes."""

    label = "label"

    def quotas(self, rows: Any, asked: Any) -> Any:
        return np.tile(np.diag([5, 8, 3]), (9, 1))


@pytest.mark.parametrize("options", [{}, {"chunk_entries": 100, "block_entries": 10}])
def test_batches_have_the_rows_that_a_sampler_says(frame: rf.Frame, options: Any) -> None:
    loader = rf.Loader(frame, 8, "id", "label", sampling=Growing(), seed=1, **options)
    ids = [x[:, 0].astype(int).tolist() for x, _ in loader]
    assert [len(each) for each in ids] == [number % 8 + 1 for number in range(60)]
    assert len({row for each in ids for row in each}) == sum(map(len, ids))
    loader = rf.Loader(frame, 8, "id", "label", sampling=InTurns(), seed=1, **options)
    labels = [y[:, 0].astype(int).tolist() for _, y in loader]
    assert labels == [[0] * 5, [1] * 8, [2] * 3] * 9


def test_a_label_without_quotas_is_refused(frame: rf.Frame) -> None:
    class Labelled(rf.Sampler):
        label = "label"

    with pytest.raises(ArgumentError, match=r"3 classes, and quotas for one class. Define quotas"):
        rf.Loader(frame, 8, "id", sampling=Labelled())
