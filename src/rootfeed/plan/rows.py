"""In which order the rows of an epoch make its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.epoch import Epoch
from rootfeed.plan.random import random_key

__all__ = ["Order", "own_order", "used"]

Rows = npt.NDArray[np.uint32]

_NONE = np.empty(0, np.uint32)


def own_order(epoch: Epoch, stratum: int, piece: int, rows: Rows) -> Rows:
    """Return the rows of a piece in the order in which its steps use them."""
    if not (epoch.shuffle and epoch.streams[stratum].is_divided[piece]):
        return rows
    out = np.empty_like(rows)
    kernels.permute(epoch.piece_keys[stratum][piece], rows, out)
    return out


class Order:
    """Says which rows make batches, in order: of a shard's epoch, forwards from any batch on.

    Parameters
    ----------
    epoch : Epoch
    rows_of : function of (int, int)
        Where the rows of a piece of a stratum's stream lie, in the order of `own_order`: numbers
        below 2^32. Asked for while a batch needs one of them.
    shared_rows : function of int
        Where the rows of a stratum that stays in memory lie, in the order of the dataset.
    draws : sequence of bool
        Of which strata rows are drawn with replacement, from those of their step; of none, if empty.
    """

    def __init__(
        self,
        epoch: Epoch,
        rows_of: Callable[[int, int], Rows],
        shared_rows: Callable[[int], Rows],
        draws: Sequence[bool] = (),
    ) -> None:
        self._epoch = epoch
        self._rows_of = rows_of
        self._shared_rows = shared_rows
        self._draws = draws or [False] * len(epoch.streams)
        self._steps: dict[int, _Step] = {}

    def rows(self, first: int, stop: int) -> Rows:
        """Return the rows of the batches ``[first, stop)``, batch after batch."""
        epoch = self._epoch
        strata = range(len(epoch.streams))
        pools = [self._taken(stratum, first, stop) for stratum in strata]
        found = pools[0]
        if len(pools) > 1 and not epoch.shuffle:
            batch = [np.repeat(np.arange(stop - first), each) for each in epoch.quotas[first:stop].T]
            found = np.concatenate(pools)[np.argsort(np.concatenate(batch), kind="stable")]
        elif len(pools) > 1:
            starts = np.cumsum([0, *map(len, pools)])[:-1]
            found = np.empty(sum(map(len, pools)), np.uint32)
            key = random_key(epoch.seed, "batches", *epoch.identity, epoch.shard.number)
            quotas = np.ascontiguousarray(epoch.quotas[first:stop])
            kernels.compose(key, first, np.concatenate(pools), starts, quotas, found)
        if stop == len(epoch.quotas) and epoch.repeats:
            found = np.concatenate([found, np.repeat(self._last(), epoch.repeats)])
        return found

    def _taken(self, stratum: int, first: int, stop: int) -> Rows:
        """Return the rows of a stratum in some batches, in the order of their use."""
        epoch = self._epoch
        ends = epoch.ends[:, stratum]
        start, count = int(ends[first]), int(ends[stop] - ends[first])
        if not epoch.streams[stratum].is_shared or epoch.shard.count == 1:
            return self._between(stratum, start, count)
        starts, counts = epoch.batch_quotas.places(epoch.shard, stratum, first, stop)
        parts = [
            self._between(stratum, *each) for each in zip(starts.tolist(), counts.tolist(), strict=True)
        ]
        return np.concatenate([_NONE, *parts])

    def _last(self) -> Rows:
        """Return the last row of a shard's batches; of one without rows, that which it repeats."""
        with_rows = np.flatnonzero(self._epoch.quotas.any(1))
        if not len(with_rows):
            return self._between(0, 0, 1)
        last = int(with_rows[-1])
        return self._taken(0, last, last + 1)[-1:]

    def _between(self, stratum: int, start: int, count: int) -> Rows:
        """Return so many rows of a stream, from one on."""
        found = []
        while count:
            number, place = self._epoch.streams[stratum].step_of(start)
            step = self._step(stratum, number)
            found.append(step.rows(place, min(place + count, step.size)))
            start += len(found[-1])
            count -= len(found[-1])
        return found[0] if len(found) == 1 else np.concatenate([_NONE, *found])

    def _step(self, stratum: int, number: int) -> _Step:
        """Return a step of a stream; the last one that was asked for is kept."""
        step = self._steps.get(stratum)
        if step is None or step.number != number:
            self._steps.pop(stratum, None)  # its memory, before that of the next one
            step = self._steps[stratum] = self._made(stratum, number)
        return step

    def _made(self, stratum: int, number: int) -> _Step:
        epoch, stream = self._epoch, self._epoch.streams[stratum]
        draws = self._draws[stratum]
        purpose = "draws" if draws else "steps"
        if stream.is_shared:
            key = random_key(epoch.seed, purpose, *epoch.identity, -1, stratum, number)
            return _Step(number, key, self._shared_rows(stratum), stream.rows, epoch.shuffle, draws)
        some = slice(int(stream.parts[number]), int(stream.parts[number + 1]))
        parts = [
            self._rows_of(stratum, piece)[begin : begin + count]
            for piece, begin, count in zip(
                stream.piece[some].tolist(),
                stream.begin[some].tolist(),
                stream.count[some].tolist(),
                strict=True,
            )
        ]
        rows = parts[0] if len(parts) == 1 else np.concatenate([_NONE, *parts])
        key = random_key(epoch.seed, purpose, *epoch.identity, epoch.shard.number, stratum, number)
        return _Step(number, key, rows, len(rows), epoch.shuffle, draws)


class _Step:
    """The rows of a step in random order, which is made as far as it is asked for."""

    def __init__(
        self, number: int, key: np.uint64, rows: Rows, size: int, shuffle: bool, draws: bool
    ) -> None:
        self.number = number
        self.size = size
        self._key = key
        self._draws = draws
        self._values = rows
        self._order: Rows | None = None if len(rows) else np.arange(size, dtype=np.uint32)
        if draws:
            return
        if not shuffle:
            self._order = rows if len(rows) else self._order
            self._made = size
            return
        self._order = np.empty(size, np.uint32)
        self._ends = np.empty(256, np.int64)
        kernels.scatter(key, rows, self._order, self._ends)
        self._values = _NONE
        self._counter, self._bucket, self._made = size, 0, 0

    def rows(self, start: int, stop: int) -> Rows:
        """Return the rows from one place to another."""
        if self._draws:
            places = np.empty(stop - start, np.uint32)
            kernels.draw(self._key, np.arange(start, stop), self.size, places)
            return self._values[places] if len(self._values) else places
        assert self._order is not None
        if self._made < stop:
            self._counter, self._bucket, self._made = kernels.shuffle_buckets(
                self._key, self._counter, self._ends, self._bucket, self._made, stop, self._order
            )
        return self._order[start:stop]


def used(epoch: Epoch, stratum: int, batches: int) -> npt.NDArray[np.bool_]:
    """Return whether each row of a stream's pieces was used in the first batches of a shard.

    Of a stream that all shards share, in the first batches of all of them; in its first round.
    """
    stream = epoch.streams[stratum]
    pieces = stream.pieces
    batches = min(batches, len(epoch.batch_quotas.counts if stream.is_shared else epoch.quotas))
    if stream.is_shared:
        rows = int(epoch.batch_quotas.taken(batches, epoch.shard.world_size)[stratum])
    else:
        rows = int(epoch.ends[batches, stratum])
    if rows >= stream.rows:
        return np.ones(stream.rows, bool)
    step, place = stream.step_of(rows)
    over, now = slice(int(stream.parts[step])), slice(*stream.parts[step : step + 2].tolist())
    done = np.bincount(stream.piece[over], stream.count[over], len(pieces)).astype(np.int64)
    out = np.repeat(done == pieces.rows, pieces.rows)
    # Which rows it is matters only of those that are in memory then: their numbers are below 2^32.
    some = np.union1d(np.flatnonzero((done > 0) & (done < pieces.rows)), stream.piece[now])
    ends = np.append(0, pieces.rows[some].cumsum())
    firsts = pieces.rows.cumsum() - pieces.rows
    places = np.arange(ends[-1]) + np.repeat(firsts[some] - ends[:-1], pieces.rows[some])

    def numbered(_: int, piece: int) -> Rows:
        number = int(np.searchsorted(some, piece))
        return own_order(epoch, stratum, piece, np.arange(*ends[number : number + 2], dtype=np.uint32))

    for piece in some[done[some] > 0].tolist():
        out[places[numbered(stratum, piece)[: done[piece]]]] = True
    order = Order(epoch, numbered, lambda _: _NONE)
    out[places[order._between(stratum, rows - place, place)]] = True
    return out
