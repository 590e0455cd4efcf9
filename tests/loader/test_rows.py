"""Rows in memory, and the vectors beside them: as long as they are, where the rows say."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.dataset.dataset import Dataset, Taken, memory_row_bytes
from rootfeed.layout import Layout
from rootfeed.loader.batches import batches, gathered
from rootfeed.loader.casting import Alterations
from rootfeed.loader.fill import fill_tasks, prepare
from rootfeed.loader.memory import Pool
from rootfeed.plan.budget import ORDER_BYTES
from rootfeed.schema import Block

ENTRIES = 700
FEATURES: dict[str, Any] = {
    "numbers": ["met", rf.flat("k", 2), "id"],
    "jets": rf.padded(["pt", "k"], 128, value=-1),
    "few": rf.padded(["k"], 3, sort_by="pt"),
    "tracks": rf.ragged(["d"]),
    "made": rf.padded(["twice"], 5),
}

pytestmark = pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning")


def contents(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    lengths, others = random.integers(0, 9, ENTRIES), random.integers(0, 40, ENTRIES)
    return {
        "id": np.arange(ENTRIES, dtype=np.int64),
        "met": random.normal(size=ENTRIES).astype(np.float32),
        "pt": ak.unflatten(random.normal(size=lengths.sum()).astype(np.float32), lengths),
        "k": ak.unflatten(random.integers(-9, 9, lengths.sum()).astype(np.int32), lengths),
        "d": ak.unflatten(random.normal(size=others.sum()), others),
    }


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return contents(0)


@pytest.fixture(scope="module", params=["TTree", "RNTuple"])
def frame(request: Any, arrays: dict[str, Any], tmp_path_factory: Any) -> rf.Frame:
    path: Path = tmp_path_factory.mktemp("rows") / "events.root"
    with uproot.recreate(path) as file:
        if request.param == "TTree":
            types = {
                name: f"var * {ak.type(values).content.content.primitive}"
                if isinstance(values, ak.Array)
                else values.dtype
                for name, values in arrays.items()
            }
            file.mktree("events", types).extend(arrays)
        else:
            file.mkrntuple("events", arrays)
    return rf.open(f"{path}:events").define("twice", "pt[pt > 0] * 2")


def dataset_of(frame: rf.Frame, features: Any = FEATURES, **options: Any) -> Dataset:
    return rf.Loader(frame, 16, features, seed=1, **options)._pipeline.schedule.dataset


def filled(dataset: Dataset, part: Taken, rows: list[np.ndarray], pool: Pool) -> list[np.ndarray]:
    """Fill rows; return the memory in which their vectors lie."""
    prepare(dataset)
    elements: list[np.ndarray] = []
    for task in fill_tasks(dataset, part, rows, elements, pool, Alterations(), "keep"):
        task(Event())
    return elements


WHOLE = Taken(Block(0, 0, ENTRIES), None)


def empty_rows(layout: Layout, count: int) -> np.ndarray:
    return np.full((count, layout.row_bytes), 0xA5, np.uint8)


def vectors_of(layout: Layout, rows: np.ndarray, elements: list[np.ndarray]) -> list[list[Any]]:
    """Read the vectors of each row from where the row says that they lie, bytes that we own only."""
    spans = {memory.ctypes.data: memory for memory in elements}
    addresses = rows.view(np.uint64)[:, layout.offsets[-2] // 8 :]
    lengths = rows.view(np.int32)[:, layout.offsets[-1] // 4 :]
    found: list[list[Any]] = []
    for number, each in enumerate(layout.beside):
        part = layout.parts[each.part]
        values: list[Any] = []
        for address, length in zip(addresses[:, number], lengths[:, number], strict=True):
            size = int(length) * len(part.columns) * part.dtype.itemsize
            start = max((first for first in spans if first <= address), default=0)
            begin = int(address) - start
            assert begin + size <= len(spans[start])
            values.append(
                spans[start][begin : begin + size].view(part.dtype).reshape(length, len(part.columns))
            )
        found.append(values)
    return found


def expected(arrays: dict[str, Any], entry: int) -> list[np.ndarray]:
    pt, k, d = (np.asarray(arrays[name][entry]) for name in ("pt", "k", "d"))
    return [
        np.stack([pt, k], 1).astype(np.float32),
        k[np.argsort(-pt, kind="stable")][:3, None].astype(np.float32),
        d[:, None].astype(np.float32),
        (pt[pt > 0] * 2)[:5, None],
    ]


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("cuts", [(), (0, 123, 124)], ids=["one run", "several"])
def test_rows_say_where_their_vectors_lie(
    frame: rf.Frame, arrays: dict[str, Any], step: int, cuts: tuple[int, ...]
) -> None:
    dataset = dataset_of(frame)
    layout = dataset.layout
    take = None if step == 1 else np.arange(5, ENTRIES, step, dtype=np.int32)
    entries = np.arange(ENTRIES) if take is None else take
    rows = empty_rows(layout, len(entries))
    runs = [run.copy() for run in np.split(rows, cuts)]
    elements = filled(dataset, Taken(WHOLE.block, take), runs, Pool())
    rows = np.concatenate(runs)  # which may be copied: addresses stay what they are
    found = vectors_of(layout, rows, elements)
    numbers = rows[:, : layout.sizes[0]].view(np.float32)
    for row, entry in enumerate(entries):
        for values, wanted in zip(found, expected(arrays, entry), strict=True):
            assert np.array_equal(values[row], wanted), (row, entry)
        flat = [*arrays["k"][entry][:2], 0, 0][:2]
        assert numbers[row].tolist() == [arrays["met"][entry], *flat, entry]


def test_memory_is_what_the_layout_says(frame: rf.Frame) -> None:
    features = {"x": ["met"], "jets": rf.padded(["pt", "k"], 128), "tracks": rf.ragged(["d"])}
    dataset = dataset_of(frame, features, target="id", target_dtype="int64")
    layout, file = dataset.layout, dataset.files[0]
    # A float, a long, two addresses and two lengths, each at a multiple of eight bytes.
    assert layout.row_bytes == 8 + 8 + 16 + 8
    # A float, 128 pairs of them and as many marks, the longest track, its offset, and the same as above.
    longest = layout.vectors[1].length
    assert layout.batch_sizes == (4, 128 * 8, longest * 4, 8, 16, 8, 128, 8)
    # Batches of 5 rows lie 16 apart, so that floats begin at multiples of 64 bytes. Offsets are 6.
    places, pitches = layout.places(7, 5)
    lines = [-(-size // 64) * 64 for size in (5 * 1024, 5 * longest * 4, 5 * 128, 6 * 8)]
    assert pitches == (16 * 4, *lines[:2], 16 * 8, 16 * 16, 16 * 8, *lines[2:])
    assert places == (0, *np.cumsum(np.multiply(pitches, 7)))
    assert layout.batch_row_bytes(5) == -(-sum(pitches) // 5)
    rows = empty_rows(layout, ENTRIES)
    elements = filled(dataset, WHOLE, [rows], Pool())
    lengths = rows.view(np.int32)[:, layout.offsets[-1] // 4 :].sum(0)
    assert len(elements) == 2
    needed = [int(lengths[0]) * 8, int(lengths[1]) * 4]
    for memory, size in zip(elements, needed, strict=True):
        assert size <= len(memory) <= size * 1.13 + 64
    told = memory_row_bytes(layout, file)
    assert told + ORDER_BYTES == dataset.row_bytes
    mean = layout.row_bytes + sum(needed) / ENTRIES
    if file.index.format == "RNTuple":
        assert told == int(np.ceil(mean))
    else:  # the bytes of baskets are an estimate
        assert mean == pytest.approx(told, rel=0.2)


def test_what_is_not_known_takes_as_much_as_in_a_batch(frame: rf.Frame) -> None:
    def beside(asked: Any) -> int:
        dataset = dataset_of(frame, {"a": asked})
        return memory_row_bytes(dataset.layout, dataset.files[0]) - dataset.layout.row_bytes

    assert beside(rf.padded(["twice"], 30)) == 30 * 4
    assert beside(rf.padded(["d"], 7)) == 7 * 4  # cut: 19.5 on average
    assert beside(rf.padded(["d"], 100)) < 25 * 4
    longest = dataset_of(frame, {"a": rf.ragged(["twice"])}).layout.vectors[0].length
    assert beside(rf.ragged(["twice"])) == longest * 4


def test_batches_are_gathered_from_rows_anywhere(frame: rf.Frame, arrays: dict[str, Any]) -> None:
    dataset = dataset_of(frame)
    layout, pool = dataset.layout, Pool()
    rows = empty_rows(layout, 3 * ENTRIES)
    elements = [filled(dataset, WHOLE, [rows[:ENTRIES]], pool) for _ in range(2)]
    rows[2 * ENTRIES :] = rows[:ENTRIES]  # refer to the second filling
    assert len({memory.ctypes.data for each in elements for memory in each}) == 2 * len(elements[0])
    wanted = np.random.default_rng(2).permutation(ENTRIES).astype(np.uint32)[:100]
    sizes = [32, 31, 1, 36]
    memory = np.full(layout.places(4, 36)[0][-1] + 8, 0xA5, np.uint8)
    run = gathered(layout, memory, rows, wanted + np.uint32(2 * ENTRIES), sizes, 36)
    assert (memory[-8:] == 0xA5).all()
    seen = 0
    for numbers, jets, jets_mask, few, few_mask, tracks, offsets, made, made_mask in batches(
        layout, run, sizes
    ):
        assert len(offsets) == len(numbers) + 1 == len(jets) + 1
        assert offsets[0] == 0
        assert offsets[-1] == len(tracks)
        for row in range(len(numbers)):
            entry = int(wanted[seen + row])
            assert numbers[row, -1] == entry
            padded, cut, ragged, defined = expected(arrays, entry)
            for values, mask, real, fill in (
                (jets, jets_mask, padded, -1),
                (few, few_mask, cut, 0),
                (made, made_mask, defined, 0),
            ):
                assert np.array_equal(values[row][mask[row]], real)
                assert (values[row][~mask[row]] == fill).all()
                assert mask[row].tolist() == sorted(mask[row], reverse=True)
            assert np.array_equal(tracks[offsets[row] : offsets[row + 1]], ragged)
        seen += len(numbers)
    assert seen == 100


def test_memory_of_vectors_is_given_back_when_nobody_reads_it(
    frame: rf.Frame, arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    give, given = Pool.give_memory, []

    def spoiled(pool: Pool, memory: np.ndarray) -> None:
        memory[:] = 0xA5
        given.append(len(memory))
        give(pool, memory)

    monkeypatch.setattr(Pool, "give_memory", spoiled)
    loader = rf.Loader(
        frame, 8, FEATURES, "id", seed=3, threads=2, chunk_entries=64, block_entries=20,
        target_dtype="int64",
    )  # fmt: skip
    for _ in range(3):
        entries = []
        for x, y in loader:
            entries += y[:, 0].tolist()
            for row, entry in enumerate(y[:, 0].tolist()):
                jets, _, tracks, _ = expected(arrays, entry)
                assert np.array_equal(x["jets"][row][x["jets_mask"][row]], jets)
                start, stop = x["tracks_offsets"][row : row + 2]
                assert np.array_equal(x["tracks"][start:stop], tracks)
        assert sorted(entries) == list(range(ENTRIES))
    assert given


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_memory_take_no_more_than_was_in_use_at_once(seed: int) -> None:
    random, pool = np.random.default_rng(seed), Pool()
    held: list[np.ndarray] = []
    most = used = made = 0
    known: set[int] = set()
    for _ in range(500):
        if held and random.random() < 0.5:
            memory = held.pop(int(random.integers(len(held))))
            used -= len(memory)
            pool.give_memory(memory)
        elif len(held) < 12:
            size = int(random.integers(1, 30) * 100_000 * random.choice([1, 1, 10]))
            memory = pool.take_memory(size)
            assert size <= len(memory) <= 1.25 * size + (1 << 16)
            assert all(memory is not other for other in held)
            made += memory.ctypes.data not in known
            known.add(memory.ctypes.data)
            held.append(memory)
            used += len(memory)
            most = max(most, used)
        spare = sum(map(len, pool._memory))
        assert used + spare <= 1.15 * most
    assert made < 200  # the others were used again
    pool.close()
    assert not pool._memory


def test_memory_of_nothing() -> None:
    pool = Pool()
    assert pool.take_memory(0).dtype == np.uint8
