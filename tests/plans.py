"""Epochs of random datasets, gone through as a reader goes through them, and what must hold of each.

No file is involved: a row is a number, counted block after block, and in each block stratum after
stratum. `check` and `check_chain` raise an AssertionError, or return which properties they looked at.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from rootfeed.dataset.dataset import Dataset, DatasetFile
from rootfeed.dataset.sampling import Balanced, Entries, Sampler
from rootfeed.dataset.spec import Spec
from rootfeed.dataset.strata import Strata
from rootfeed.errors import RootfeedError
from rootfeed.layout import Layout, Part
from rootfeed.loader.schedule import Schedule, Segment
from rootfeed.plan import (
    BatchQuotas,
    Epoch,
    Offered,
    Order,
    Shard,
    Sizes,
    Tail,
    balanced_quotas,
    bit_mask,
    deal,
    own_order,
    plain_quotas,
    used,
)
from rootfeed.schema import Block

Rows = np.ndarray

MOST_BATCHES = 120


@dataclass(frozen=True, eq=False)
class Topology:
    """A dataset, what is asked of it, and who asks."""

    offered: Offered
    batch_quotas: BatchQuotas
    world_size: int = 1
    workers: int = 1
    room_bytes: float = 1e12
    seed: int = 0
    shuffle: bool = True
    draws: bool = False
    identity: tuple[int, ...] = (0, 0)

    @cached_property
    def shards(self) -> list[Shard]:
        ranks, workers = range(self.world_size), range(self.workers)
        return [
            Shard(rank, self.world_size, worker, self.workers)
            for rank, worker in itertools.product(ranks, workers)
        ]

    @cached_property
    def firsts(self) -> np.ndarray:
        """The number of the first row of each block and stratum, shape (blocks, strata)."""
        counts = self.offered.counts
        return (counts.cumsum() - counts.ravel()).reshape(counts.shape)

    @cached_property
    def strata(self) -> np.ndarray:
        """The stratum of each row."""
        counts = self.offered.counts
        return np.repeat(np.tile(np.arange(counts.shape[1]), len(counts)), counts.ravel())

    def rows(self, block: int, stratum: int, first: int, stop: int) -> Rows:
        """Return some rows of a block, of those of a stratum."""
        start = int(self.firsts[block, stratum])
        return np.arange(start + first, start + stop, dtype=np.uint32)

    def all_rows(self, stratum: int) -> Rows:
        """Return all rows of a stratum, in the order of the dataset."""
        return np.flatnonzero(self.strata == stratum).astype(np.uint32)

    def deal(self, shard: Shard) -> Epoch:
        return deal(
            self.offered,
            self.batch_quotas,
            shard,
            room_bytes=self.room_bytes,
            seed=self.seed,
            identity=self.identity,
            shuffle=self.shuffle,
        )

    def walk(self, epoch: Epoch, first: int = 0, end: int | None = None, run: int = 1) -> list[Rows]:
        """Return the rows of each batch from one on, and up to one, of which so many are made together.

        Asserts that rows are in memory while they are used: in a block that was read, and not yet left.
        """
        reads, offered = epoch.reads, self.offered
        held: dict[tuple[int, int], Rows] = {}
        in_memory = offered.cached[self.strata].astype(np.int64)
        order = Order(
            epoch, lambda *piece: held[piece], self.all_rows, [self.draws] * len(epoch.streams)
        )
        assert (np.diff(reads.first) >= 0).all()
        assert (reads.first <= reads.last).all()
        waiting = [number for number in range(len(reads)) if reads.last[number] >= first]
        leaving: list[tuple[int, int]] = []
        sizes = epoch.quotas.sum(1)
        sizes[-1:] += epoch.repeats
        batches: list[Rows] = []
        bytes_ = peak = 0
        end = len(sizes) if end is None else min(end, len(sizes))
        for start in range(first, end, run):
            stop = min(start + run, end)
            while waiting and reads.first[waiting[0]] < stop:
                read = reads[number := waiting.pop(0)]
                pieces = zip(read.pieces, read.ranges, strict=True)
                every: dict[int, set[int]] = {}
                for (stratum, piece), (begin, until) in pieces:
                    rows = self.rows(read.block, stratum, begin, until)
                    assert (stratum, piece) not in held
                    assert begin < until <= offered.counts[read.block, stratum]
                    held[stratum, piece] = own_order(epoch, stratum, piece, rows)
                    in_memory[rows] += 1
                    every.setdefault(stratum, set()).update(rows.tolist())
                for (stratum, piece), some in zip(read.pieces, read.places, strict=True):
                    mine = np.array(sorted(every[stratum]))[some]
                    assert set(mine.tolist()) == set(held[stratum, piece].tolist())
                count = sum(map(len, every.values()))
                uses = sum(until - begin for begin, until in read.ranges)
                assert read.bytes == count * offered.row_bytes[read.block] + offered.use_bytes * (
                    uses - count
                )
                assert (reads.blocks[number], reads.rows[number]) == (read.block, count)
                bytes_ += read.bytes
                leaving.append((read.last, number))
            peak = max(peak, bytes_)
            found = order.rows(start, stop)
            assert (in_memory[found] > 0).all()
            batches += np.split(found, sizes[start:stop].cumsum()[:-1])
            assert len(batches[-1]) == sizes[stop - 1]
            for last, number in [each for each in leaving if each[0] < stop]:
                leaving.remove((last, number))
                read = reads[number]
                for piece in read.pieces:
                    in_memory[held.pop(piece)] -= 1
                bytes_ -= read.bytes
        if end == len(sizes):
            assert not held
            assert not waiting
            assert peak == reads.peak(reads.bytes, first, run)
        return batches


# --- what holds of any epoch ----------------------------------------------------------------------


def check(topology: Topology, random: np.random.Generator) -> Counter[str]:
    """Go through an epoch on all shards."""
    counts, batch_quotas, strata = topology.offered.counts, topology.batch_quotas, topology.strata
    done: Counter[str] = Counter()
    of_ranks: dict[int, list[list[Rows]]] = {}
    epochs = {}
    for shard in topology.shards:
        epochs[shard] = epoch = topology.deal(shard)
        batches = topology.walk(epoch)
        check_batches(epoch, batches, strata)
        check_room(topology, epoch)
        first = check_parts(topology, epoch, batches, random)
        done["starts at random batches"] += first is not None
        of_ranks.setdefault(shard.rank, []).append(batches)
    # The batches of a rank come from its workers in turn.
    ranks = [
        [batch for turn in itertools.zip_longest(*parts) for batch in turn if batch is not None]
        for parts in of_ranks.values()
    ]
    repeats = [
        sum(batch_quotas.repeats(s) for s in topology.shards if s.rank == rank) for rank in of_ranks
    ]
    own = [
        np.concatenate([np.empty(0, np.uint32), *each])[: sum(map(len, each)) - again]
        for each, again in zip(ranks, repeats, strict=True)
    ]
    if not batch_quotas.extra or batch_quotas.pad:
        assert len({tuple(map(len, each)) for each in ranks}) == 1
        done["equal batches on ranks"] += topology.world_size > 1
    uses = np.bincount(np.concatenate(own), minlength=len(strata))
    if topology.draws:
        return done + Counter({"drawn with replacement": 1})
    wanted = batch_quotas.taken(len(batch_quotas.counts), topology.world_size)
    for stratum, (total, taken) in enumerate(zip(counts.sum(0), wanted.tolist(), strict=True)):
        mine = uses[strata == stratum]
        assert mine.sum() == taken
        assert set(mine.tolist()) <= {taken // max(total, 1), -(-taken // max(total, 1))}
        done["strata whose rows come once"] += taken <= total
        done["strata whose rows come again"] += taken > total
    if not topology.shuffle:
        check_order(topology, epochs, of_ranks)
        done["in the order of the dataset"] += 1
    done["what was used after some batches"] += check_used(topology, epochs, of_ranks, random)
    return done


def check_batches(epoch: Epoch, batches: Sequence[Rows], strata: np.ndarray) -> None:
    """Each batch has its quotas; what is repeated at the end is the shard's own."""
    assert len(batches) == len(epoch.quotas)
    assert sum(map(len, batches)) == epoch.rows
    for number, (batch, quotas) in enumerate(zip(batches, epoch.quotas, strict=True)):
        fresh = batch[: quotas.sum()]
        assert np.bincount(strata[fresh], minlength=len(quotas)).tolist() == quotas.tolist()
        again = batch[len(fresh) :]
        assert len(again) == (epoch.repeats if number == len(batches) - 1 else 0)
        if len(again) and epoch.quotas.any():
            assert np.isin(again, np.concatenate([*batches[:-1], fresh])).all()


def check_room(topology: Topology, epoch: Epoch) -> None:
    """Blocks take no more memory than there is, where two of each region and stratum fit."""
    offered, least = topology.offered, 0.0
    for stratum, stream in enumerate(epoch.streams):
        if not stream.is_shared:
            bytes_ = offered.counts[:, stratum] * offered.row_bytes
            regions = offered.regions if topology.shuffle else np.zeros_like(offered.regions)
            for region in np.unique(regions):
                least += 2 * int(bytes_[regions == region].max())
    # A batch may take more than all these blocks together.
    least += 2 * int(epoch.quotas.sum(1).max(initial=0)) * int(offered.row_bytes.max())
    assert epoch.reads.peak(epoch.reads.bytes) <= max(topology.room_bytes, least)


def check_parts(
    topology: Topology, epoch: Epoch, batches: Sequence[Rows], random: np.random.Generator
) -> int | None:
    """Batches are the same made many at a time, and from any one on."""
    run = int(random.integers(2, 8))
    for mine, other in zip(topology.walk(epoch, run=run), batches, strict=True):
        assert np.array_equal(mine, other)
    if len(batches) < 2:
        return None
    first = int(random.integers(1, len(batches)))
    rest = topology.walk(epoch, first, run=int(random.integers(1, 4)))
    for mine, other in zip(rest, batches[first:], strict=True):
        assert np.array_equal(mine, other)
    return first


def check_order(
    topology: Topology, epochs: dict[Shard, Epoch], of_ranks: dict[int, list[list[Rows]]]
) -> None:
    """Without a shuffle, each shard takes the rows of a stratum as they are stored."""
    for shard, epoch in epochs.items():
        batches = of_ranks[shard.rank][shard.worker]
        for stratum, stream in enumerate(epoch.streams):
            parts = [
                np.sort(batch[topology.strata[batch] == stratum]).tolist()
                for batch in batches[: len(batches) - bool(epoch.repeats)]
            ]
            found = [row for part in parts for row in part]
            total = int(topology.offered.totals[stratum])
            taken = topology.batch_quotas.taken(len(topology.batch_quotas.counts), topology.world_size)[
                stratum
            ]
            if taken <= total:
                assert found == sorted(found)
            if not stream.is_shared and found and taken <= total:
                mine = topology.all_rows(stratum).tolist()
                start = mine.index(found[0])
                assert found == mine[start : start + len(found)]


def check_used(
    topology: Topology,
    epochs: dict[Shard, Epoch],
    of_ranks: dict[int, list[list[Rows]]],
    random: np.random.Generator,
) -> int:
    """What was used of each piece after some batches is what these batches held."""
    if topology.workers > 1:
        return 0
    batches = int(random.integers(0, len(topology.batch_quotas.counts) + 2))
    done = 0
    for stratum in range(topology.offered.counts.shape[1]):
        expected: Counter[int] = Counter()
        told: Counter[int] = Counter()
        shared = False
        for shard, epoch in epochs.items():
            pieces, mine = epoch.streams[stratum].pieces, used(epoch, stratum, batches)
            rows = [
                topology.rows(block, stratum, first, stop)
                for block, first, stop in zip(
                    pieces.block.tolist(), pieces.first.tolist(), pieces.stop.tolist(), strict=True
                )
            ]
            if not shared:
                told.update(np.concatenate([np.empty(0, np.uint32), *rows])[mine].tolist())
            shared = epoch.streams[stratum].is_shared
            got = of_ranks[shard.rank][0][:batches]
            if epoch.repeats and len(got) == len(epoch.quotas):
                got = [*got[:-1], got[-1][: epoch.quotas[-1].sum()]]
            every = np.concatenate([np.empty(0, np.uint32), *got])
            expected.update(every[topology.strata[every] == stratum].tolist())
        taken = topology.batch_quotas.taken(batches, topology.world_size)[stratum]
        if shared and taken > topology.offered.totals[stratum]:
            assert set(told) == set(topology.all_rows(stratum).tolist())  # the first round is over
        else:
            assert told == expected
        done += 1
    return done


# --- how well rows mix ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixing:
    """How well the rows of an epoch are mixed.

    Attributes
    ----------
    lacking_bits : float
        Of the entropy of a batch's labels, beyond what a full shuffle lacks.
    blocks : float
        That share a step, on average.
    rows_sigma, batches_sigma : float
        Lag-1 autocorrelations of labels and of their means over batches, in standard deviations of a
        random order.
    """

    lacking_bits: float
    blocks: float
    rows_sigma: float
    batches_sigma: float


def mixing(
    kinds: int,
    room: float,
    *,
    in_regions: bool = False,
    seed: int = 0,
    blocks: int = 20,
    rows: int = 2000,
    batch_size: int = 100,
) -> Mixing:
    """Measure an epoch of entries that are stored one kind after another, in so many blocks each.

    Memory has room for some blocks; each kind may be a region of its own.
    """
    label = np.repeat(np.arange(kinds), blocks)
    offered = Offered(
        np.full((len(label), 1), rows),
        np.ones(len(label), np.int64),
        label if in_regions else 0 * label,
        np.zeros(1, bool),
    )
    batch_quotas = plain_quotas(len(label) * rows, batch_size, 1, "drop", False)
    plan = Topology(offered, batch_quotas, room_bytes=room * rows, seed=seed)
    epoch = plan.deal(Shard())
    labels = label[np.concatenate(plan.walk(epoch, run=64)) // rows]
    shuffled = np.random.default_rng(seed).permutation(labels)
    means = labels[: len(labels) // batch_size * batch_size].reshape(-1, batch_size).mean(1)
    return Mixing(
        entropy_bits(shuffled, kinds, batch_size) - entropy_bits(labels, kinds, batch_size),
        float(np.diff(epoch.streams[0].parts).mean()),
        lag_sigma(labels),
        lag_sigma(means),
    )


def lag_sigma(values: np.ndarray) -> float:
    """Return how far the lag-1 autocorrelation is from that of a random order, in its deviations."""
    apart = values - values.mean()
    correlation = (apart[1:] * apart[:-1]).sum() / (apart**2).sum()
    return float((correlation + 1 / len(values)) * np.sqrt(len(values)))


def entropy_bits(labels: np.ndarray, kinds: int, batch_size: int) -> float:
    """Return the entropy of a batch's labels, on average over whole batches."""
    batches = labels[: len(labels) // batch_size * batch_size].reshape(-1, batch_size)
    shares = np.stack([(batches == kind).mean(1) for kind in range(kinds)], 1)
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return float(-(shares * logs).sum(1).mean())


# --- random ones ----------------------------------------------------------------------------------


def topology(random: np.random.Generator) -> Topology:
    """Return a small one of any kind."""
    while True:
        counts = _counts(random)
        offered = Offered(
            counts,
            random.integers(1, 9, len(counts)),
            _regions(random, len(counts)),
            random.random(counts.shape[1]) < 0.15,
        )
        world_size, workers = int(random.integers(1, 5)), int(random.choice([1, 1, 1, 2, 3]))
        batch_quotas = _demand(random, counts.sum(0), world_size)
        if batch_quotas is None or not 0 < len(batch_quotas.counts) <= MOST_BATCHES:
            continue
        bytes_ = float((counts.sum(1) * offered.row_bytes).sum())
        return Topology(
            offered,
            batch_quotas,
            world_size,
            workers,
            room_bytes=bytes_ * float(random.choice([0.001, 0.02, 0.1, 0.3, 0.6, 1.2])),
            seed=int(random.integers(2**63)),
            shuffle=bool(random.random() < 0.85),
            draws=bool(counts.shape[1] > 1 and random.random() < 0.1),
            identity=(int(random.integers(3)), int(random.integers(3))),
        )


def _counts(random: np.random.Generator) -> np.ndarray:
    """Return rows of each block and stratum: alike or not, classes mixed or one after another."""
    blocks, strata = int(random.integers(1, 60)), int(random.choice([1, 1, 1, 2, 3, 5]))
    shape = (blocks, strata)
    kind = random.integers(4)
    if kind == 0:
        counts = np.full(shape, random.integers(1, 30))
    elif kind == 1:
        counts = random.integers(0, 40, shape)
    elif kind == 2:
        counts = np.ceil(random.pareto(1.0, shape) * 3).clip(0, 400).astype(np.int64)
    else:
        counts = random.integers(0, 3, shape)
    if random.random() < 0.4:  # one class to a block
        pure = np.sort(random.integers(0, strata, blocks)) if random.random() < 0.5 else None
        mine = random.integers(0, strata, blocks) if pure is None else pure
        counts = counts * (np.arange(strata) == mine[:, None])
    return counts.astype(np.int64)


def _regions(random: np.random.Generator, blocks: int) -> np.ndarray:
    every = np.sort(random.integers(0, random.choice([1, 1, 2, 3, 8]), blocks))
    return np.unique(every, return_inverse=True)[1].astype(np.int64)


def _demand(random: np.random.Generator, totals: np.ndarray, world_size: int) -> BatchQuotas | None:
    size = int(random.choice([1, 2, 5, 16, 50]))
    try:
        if len(totals) == 1:
            tail: Any = random.choice(["drop", "pad", "uneven"])
            drop_last, rest = bool(random.random() < 0.2), bool(random.random() < 0.3)
            rows = int(totals[0])
            return plain_quotas(rows, size, world_size, tail, drop_last, rest) if rows else None
        shares = random.dirichlet(np.ones(len(totals))) * (totals > 0)
        if random.random() < 0.2:
            shares[random.integers(len(shares))] = 0
        if not shares.any():
            return None
        epoch: Any = random.choice(["shortest", "longest", "number"])
        epoch = int(random.integers(1, 60)) if epoch == "number" else str(epoch)
        return balanced_quotas(totals, (shares / shares.sum()).tolist(), size, world_size, epoch)
    except RootfeedError:  # too few rows for so many ranks
        return None


# --- chains of other numbers of ranks -------------------------------------------------------------


class AtMost(Sampler):
    """So many rows of each file."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def offers(self, entries: Entries) -> np.ndarray:
        return np.argsort(np.argsort(entries.random())) < self.rows


def schedule(random: np.random.Generator) -> Schedule:
    """Return the schedule of a small dataset of some files."""
    strata = int(random.choice([1, 1, 2, 4]))
    lengths = random.integers(1, 300, random.integers(1, 6))
    codes = [
        np.sort(random.integers(0, strata, length))
        if random.random() < 0.5
        else random.integers(0, strata, length)
        for length in lengths
    ]
    codes[0][:strata] = np.arange(strata)[: len(codes[0])]
    block_entries = int(random.integers(3, 60))
    blocks = tuple(
        Block(file, start, min(start + block_entries, length))
        for file, length in enumerate(lengths.tolist())
        for start in range(0, length, block_entries)
    )
    taken = [
        bit_mask(random.random(length) < 0.8) if random.random() < 0.2 else None
        for length in lengths.tolist()
    ]
    files = tuple(_file(length, bits) for length, bits in zip(lengths.tolist(), taken, strict=True))
    planes = tuple(
        tuple(bit_mask((each >> digit) & 1 > 0) for digit in range((strata - 1).bit_length()))
        for each in codes
    )
    classes = Strata(tuple(range(strata)), planes) if strata > 1 else None
    layout = Layout((Part(("id",), np.dtype("f4"), scalars=(("id", 0),)),))
    zeros = np.zeros((len(blocks), strata), np.int64)
    whole = Dataset(files, layout, blocks, classes, zeros)
    nothing = [np.zeros_like(bit_mask(np.zeros(length, bool))) for length in lengths.tolist()]
    dataset = whole.without(nothing)
    bytes_ = dataset.rows * int(dataset.row_bytes[0])
    in_memory = bool(random.random() < 0.25)
    starts = tuple(range(len(files))) if random.random() < 0.4 else (0,)
    sizes = Sizes(
        in_memory=in_memory,
        window_bytes=max(int(bytes_ * random.choice([0.05, 0.2, 0.5])), 1),
        block_entries=block_entries,
        exact=True,
        run_rows=1,
        runs_ahead=1,
        regions=(0,) if in_memory else starts,
    )
    sampling: Sampler = AtMost(int(random.integers(1, 80))) if random.random() < 0.2 else Sampler()
    if classes is not None:
        epoch: Any = random.choice(["shortest", "longest", "number"])
        epoch = int(random.integers(1, 40)) if epoch == "number" else str(epoch)
        shares = tuple(enumerate(random.dirichlet(np.ones(strata)).tolist()))
        sampling = Balanced("label", shares, epoch, replacement=False)
    spec = Spec(
        frames=(),
        layout=layout,
        sampler=sampling,
        strata=classes,
        values=(),
        batch_size=int(random.choice([1, 4, 16])),
        shuffle=bool(random.random() < 0.85),
        seed=int(random.integers(2**62)),
        seed_given=True,
        budget_bytes=10**9,
        shared_bytes=10**9,
        drop_last=bool(random.random() < 0.15),
        most_threads=1,
        chunk_entries=None,
        block_entries=None,
        ranks=None,
        tail=cast(Tail, str(random.choice(["drop", "pad", "uneven"]))),
        nonfinite="warn",
        epoch_batches=None,
    )
    return Schedule(dataset, sizes, spec)


def _file(entries: int, taken: np.ndarray | None) -> DatasetFile:
    index: Any = SimpleNamespace(entries=entries, columns={}, path="a", where="a", identity=b"a")
    wanted: Any = SimpleNamespace(stored=(), inputs=(), defined=())
    return DatasetFile(index, wanted, 0, taken)


def check_chain(random: np.random.Generator) -> Counter[str]:
    """Go through an epoch on some ranks, on others from some batch on, and so on to its end."""
    try:
        plan = schedule(random)
        worlds = random.integers(1, 6, random.integers(2, 5)).tolist()
        if len(plan.remainder(0, (), worlds[0]).batch_quotas.counts) > MOST_BATCHES:
            return Counter()
    except RootfeedError:  # too few rows of a class, or for so many ranks
        return Counter()
    sampling, wanted = plan.spec.sampler, plan.spec
    entries = [file.index.entries for file in plan.dataset.files]
    firsts = np.cumsum([0, *entries])
    uses = np.zeros(firsts[-1], np.int64)
    segments: list[Segment] = []
    most = np.zeros(plan.dataset.counts.shape[1], np.int64)  # uses of a row
    at_once = False
    for number, world_size in enumerate(worlds):
        remainder = plan.remainder(0, segments, world_size)
        last = number == len(worlds) - 1
        batches = len(remainder.batch_quotas.counts)
        stop = batches if last else int(random.integers(0, batches + 1))
        for rows in _rows_of_ranks(plan, segments, world_size, stop, firsts):
            np.add.at(uses, rows, 1)
        at_once = (number == 0 and stop == batches) or (at_once and stop == 0)
        if stop:
            needed = remainder.batch_quotas.taken(batches, world_size)
            most += -(-needed // np.maximum(remainder.offered.totals, 1))
        segments.append(Segment(world_size, stop))
    strata = np.full(firsts[-1], -1)  # of entries that make no rows
    for block, stratum in itertools.product(*map(range, plan.dataset.counts.shape)):
        file = plan.dataset.blocks[block].file
        strata[firsts[file] + plan.dataset.entries(block, stratum)] = stratum
    for file, left_out in enumerate(plan._not_offered(0)):
        strata[firsts[file] : firsts[file + 1]][left_out] = -1
    assert not uses[strata < 0].any()
    if not isinstance(sampling, Balanced):
        assert uses.max() <= 1
        if wanted.tail != "drop" and not wanted.drop_last:
            assert (uses[strata >= 0] == 1).all()
        return Counter({f"chains in which each row comes once, {type(sampling).__name__}": 1})
    if sampling.epoch == "shortest":
        assert uses.max() <= 1
        return Counter({"chains in which a row comes at most once": 1})
    shares = dict(sampling.shares or ())
    for stratum in range(plan.dataset.counts.shape[1]):
        mine = uses[strata == stratum]
        if not len(mine):
            continue
        # Where an epoch is interrupted, some rows have come as often as they would, others not at all.
        assert mine.max() <= most[stratum], mine
        assert not at_once or mine.max() - mine.min() <= 1, mine
        if sampling.epoch == "longest" and shares[stratum] and at_once:
            assert mine.min() >= 1, mine
    return Counter({"chains in which rows come again": 1})


def _rows_of_ranks(
    plan: Schedule, segments: Sequence[Segment], world_size: int, batches: int, firsts: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the entries that each rank receives in its first batches, repeated ones left out."""
    for rank in range(world_size):
        work = plan.work(0, segments, Shard(rank, world_size))
        epoch, offered = work.plan, work.remainder.offered
        topology = Topology(offered, work.remainder.batch_quotas, world_size, seed=epoch.seed)
        found = topology.walk(epoch, end=batches)
        if epoch.repeats and len(found) == len(epoch.quotas):
            found[-1] = found[-1][: epoch.quotas[-1].sum()]
        dataset = work.remainder.dataset
        numbers = np.empty(len(topology.strata), np.int64)
        for block, stratum in itertools.product(*map(range, offered.counts.shape)):
            rows = topology.rows(block, stratum, 0, int(offered.counts[block, stratum]))
            numbers[rows] = firsts[dataset.blocks[block].file] + dataset.entries(block, stratum)
        yield numbers[np.concatenate([np.empty(0, np.uint32), *found])]
