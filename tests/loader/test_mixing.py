"""Classes that are stored one after another mix in every batch, or a warning says that they do not."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import MixingWarning
from rootfeed.plan import MOST_LACKING_BITS
from rootfeed.plan.regions import kinds, wanted_regions
from samples import open_events, write_columns

BATCH = 50


def make(paths: Sequence[str] | rf.Frame, **options: Any) -> tuple[rf.Loader, list[str]]:
    """Return a loader and what it warns of."""
    frame = paths if isinstance(paths, rf.Frame) else open_events(paths)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = rf.Loader(frame, BATCH, ["id"], "kind", seed=3, threads=2, **options)
    assert all(each.category is MixingWarning for each in caught)
    assert all(each.filename == __file__ for each in caught)
    return loader, [str(each.message) for each in caught]


def lacking(loader: rf.Loader) -> float:
    """Return the entropy that labels of whole batches lack, beyond what a full shuffle's do."""
    batches = [np.asarray(y)[:, 0].astype(int) for _, y in loader]
    labels = np.concatenate(batches)

    def entropy(every: list[np.ndarray]) -> float:
        counts = np.stack([np.bincount(each, minlength=labels.max() + 1) for each in every])
        shares = counts / counts.sum(1, keepdims=True)
        return float(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1).mean())

    ideal = np.random.default_rng(0).permutation(labels)[: len(labels) // BATCH * BATCH]
    whole = [each for each in batches if len(each) == BATCH]
    return entropy(list(ideal.reshape(-1, BATCH))) - entropy(whole)


def write(
    folder: Path, names: Sequence[str], labels: Sequence[np.ndarray], page: int, form: str = "TTree"
) -> list[str]:
    first, paths = 0, []
    for name, label in zip(names, labels, strict=True):
        ids = np.arange(first, first + len(label))
        columns = {"id": ids, "kind": label.astype("u1"), "good": ids % 100 == 0}
        paths.append(write_columns(folder / f"{name}.root", columns, page, form))
        first += len(label)
    return paths


def one_after_another(classes: int, entries: int) -> np.ndarray:
    return np.repeat(np.arange(classes), entries // classes)


SHAPES: dict[str, tuple[list[str], list[np.ndarray], int, str]] = {
    "a file of three classes": (["a"], [one_after_another(3, 12_000)], 100, "TTree"),
    "a file in one page": (["a"], [one_after_another(3, 12_000)], 12_000, "TTree"),
    "an ntuple in one cluster": (["a"], [one_after_another(3, 12_000)], 12_000, "RNTuple"),
    "ten classes in files": (
        [f"jets_{number}" for number in range(10)],
        [np.full(1200, number) for number in range(10)],
        100,
        "TTree",
    ),
    "ten classes in pages": (
        [f"jets_{number}" for number in range(10)],
        [np.full(1200, number) for number in range(10)],
        1200,
        "RNTuple",
    ),
    "sixty small files": (
        [f"part_{number:02}" for number in range(60)],
        [np.full(200, number // 20) for number in range(60)],
        200,
        "TTree",
    ),
    "files of three kinds in turns": (
        [f"{number:02}_{'abc'[number % 3]}" for number in range(60)],
        [np.full(200, number % 3) for number in range(60)],
        200,
        "TTree",
    ),
    "very different files": (["signal", "rest"], [np.ones(300), np.zeros(12_000)], 100, "TTree"),
    "very different pages": (["signal", "rest"], [np.ones(6000), np.zeros(6000)], 6000, "TTree"),
}


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, list[str]]:
    found = {}
    for number, (name, shape) in enumerate(SHAPES.items()):
        (folder / str(number)).mkdir()
        found[name] = write(folder / str(number), *shape)
    return found


CASES = [(shape, rows) for shape in SHAPES for rows in (100, 400, 1600, 4000)]


@pytest.mark.thorough(
    but=[
        "a file of three classes-400",
        "a file in one page-100",
        "a file in one page-1600",
        "an ntuple in one cluster-400",
        "ten classes in files-4000",
        "very different pages-400",
    ]
)
@pytest.mark.parametrize(("shape", "chunk_entries"), CASES)
def test_rows_mix_or_a_warning_says_so(
    written: dict[str, list[str]], shape: str, chunk_entries: int
) -> None:
    loader, told = make(written[shape], chunk_entries=chunk_entries)
    epochs, plan = [iterated(loader) for _ in range(4)], loader.plan()
    lacks, later = float(np.mean([found for found, _ in epochs])), epochs[0][1]
    assert len(told) <= 1
    assert len(later) <= 1
    if not told and not later:
        assert lacks < 0.025
    assert plan.lacking_bits is not None
    assert (plan.lacking_bits > MOST_LACKING_BITS * 1.05) == bool(told)
    kinds_told = int(re.findall(r"Where (\d+) classes", told[0])[0]) if told else 0
    if told and loader.window_blocks > max(4, kinds_told):
        # What is said is an upper bound, but for chance, and for the classes that are not known of.
        # Of few blocks the formula knows the size of it. Names do not tell of three classes.
        pairs = 3 if kinds_told == 2 else 1
        assert lacks <= 2 * plan.lacking_bits * pairs + 0.05


@pytest.mark.parametrize("shape", ["a file of three classes", "ten classes in files"])
def test_short_pages_mix_without_a_word(written: dict[str, list[str]], shape: str) -> None:
    loader, told = make(written[shape], chunk_entries=4000)
    assert not told
    assert lacking(loader) < 0.03
    assert loader.plan().decompressed <= 1.5


def test_long_pages_are_cut_for_mixing(written: dict[str, list[str]]) -> None:
    # A page of 1200 entries in each of ten files: whole pages would leave 6 blocks in memory.
    loader, told = make(written["ten classes in pages"], chunk_entries=10_000)
    assert not told
    assert 2.5 < loader.plan().decompressed <= 4
    assert loader._pipeline.schedule.sizes.regions == tuple(range(10))
    assert lacking(loader) < 0.03


def test_a_warning_says_what_helps_and_it_does(written: dict[str, list[str]]) -> None:
    paths = written["ten classes in pages"]
    row_bytes = rf.Loader(open_events(paths), BATCH, ["id"], "kind")._pipeline.spec.layout.row_bytes
    memory = 40 * BATCH * (row_bytes + 4)
    loader, [text] = make(paths, memory=memory)
    assert "blocks of consecutive entries are in memory together" in text
    assert "too few to hold one of each of 10 files" in text
    assert re.search(r"the label of a batch may lack [\d.]+ bits of entropy", text)
    order = [
        text.index(word) for word in ("memory=", "rf.balanced('kind')", "block_entries=", "fewer col")
    ]
    assert order == sorted(order)
    assert f"{loader.window_blocks:.1f} blocks are in memory together" in loader.explain()
    assert "label entropy lacking, at most" in str(loader.plan())
    enough = re.search(r'memory="([\d.e-]+ [GM]B)"', text)
    assert enough
    more, told = make(paths, memory=enough[1])
    assert not told
    assert lacking(more) < 0.03
    entries = re.search(r"block_entries=(\d+)", text)
    assert entries
    small, told = make(paths, memory=memory, block_entries=int(entries[1]))
    assert not told
    assert lacking(small) < 0.03
    fair, told = make(paths, memory=memory, sampling=rf.balanced("kind"))
    assert not told
    assert lacking(fair) < 0.03


TWENTY = one_after_another(20, 24_000)
IN_TURN = np.repeat(np.arange(100) % 10, 240)

ORDERS: dict[str, list[np.ndarray]] = {
    "twenty classes in a file": [TWENTY],
    "runs": [IN_TURN],
    "files of one class each": list(IN_TURN.reshape(100, 240)),
    "all classes in each file": [one_after_another(10, 2400)] * 10,
    "shuffled": [np.random.default_rng(0).permutation(TWENTY)],
    "a file of each class": list(one_after_another(4, 24_000).reshape(4, 6000)),
    "a rare class, anywhere": [np.random.default_rng(1).random(24_000) < 0.002],
    "a share that drifts": [np.random.default_rng(2).random(24_000) < np.linspace(0.2, 0.8, 24_000)],
}
FINE = ("shuffled", "a file of each class", "a rare class, anywhere", "a share that drifts")


def iterated(loader: rf.Loader) -> tuple[float, list[str]]:
    """Return what labels lack, and what is told while they are iterated."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lacks = lacking(loader)
    assert all(each.category is MixingWarning for each in caught)
    return lacks, [str(each.message) for each in caught]


@pytest.mark.thorough(
    but=[
        "twenty classes in a file-RNTuple",
        "runs-TTree",
        "files of one class each-TTree",
        "shuffled-TTree",
        "a file of each class-RNTuple",
        "a rare class, anywhere-TTree",
        "a share that drifts-RNTuple",
    ]
)
@pytest.mark.parametrize("form", ["TTree", "RNTuple"])
@pytest.mark.parametrize("order", ORDERS)
def test_labels_in_an_order_are_told_of_before_the_first_batch(
    tmp_path: Path, order: str, form: str
) -> None:
    names = [f"part_{number}" for number in range(len(ORDERS[order]))]
    paths = write(tmp_path, names, ORDERS[order], 500, form)
    loader, before = make(paths, memory="200 kB")
    assert not before
    lacks, told = iterated(loader)
    if order in FINE:
        assert not told
        assert lacks < 0.02
        return
    assert len(told) == 1
    assert "ten kinds" not in told[0]
    said = float(re.findall(r"lacks some ([\d.]+) bits", told[0])[0])
    assert said / 2.5 < lacks < said * 2.5
    assert not iterated(loader)[1]  # it is said once
    # What helps, helps; of classes that come and go within the distance of blocks, little is known.
    for remedy in (r"(block_entries)=(\d+)", r'(memory)="([\d.e-]+ [kMG]B)"'):
        options, advice = {"memory": "200 kB"}, told
        for _ in range(3):
            name, value = re.findall(remedy, advice[0])[0]
            options[name] = int(value) if value.isdecimal() else value
            found, advice = iterated(make(paths, **options)[0])
            assert found < lacks
            if not advice:
                break
        assert not advice
        assert found < 0.03
    with pytest.warns(MixingWarning, match="the labels of neighbours differ") as caught:
        next(iter(make(paths, memory="200 kB")[0]))
    assert [each.filename for each in caught] == [__file__]
    assert not iterated(make(paths, memory="200 kB", sampling=rf.balanced("kind"))[0])[1]


def test_more_classes_than_blocks_lack_more_than_can_be_seen(tmp_path: Path) -> None:
    paths = write(tmp_path, ["a"], [one_after_another(40, 24_000)], 500)
    lacks, [text] = iterated(make(paths, memory="60 kB")[0])
    said = re.search(r"lacks some ([\d.]+) bits of entropy, or more, as other blocks", text)
    assert said
    assert float(said[1]) < lacks
    # Of two classes, the blocks in memory tell all.
    paths = write(tmp_path, ["b"], [one_after_another(2, 24_000)], 500)
    _, [text] = iterated(make(paths, memory="200 kB")[0])
    assert "or more" not in text


def test_classes_in_an_order_may_hold_kinds_in_an_order(tmp_path: Path) -> None:
    # Signal after background, each of some processes, which the label does not tell.
    paths = write(tmp_path, ["a"], [one_after_another(2, 24_000)], 500)
    _, told = iterated(make(paths, memory="200 kB")[0])
    assert len(told) == 1
    assert re.search(r"of ten kinds of entries, such as processes, .*, it would be 0\.\d+\.", told[0])
    entries = re.search(r"block_entries=(\d+)", told[0])
    assert entries
    assert not iterated(make(paths, memory="200 kB", block_entries=int(entries[1]))[0])[1]
    # In files of their own, each has a window of its own.
    paths = write(tmp_path, ["signal", "rest"], [np.ones(12_000), np.zeros(12_000)], 500)
    assert not iterated(make(paths, memory="200 kB")[0])[1]


def test_targets_of_other_kinds_are_looked_at_too(tmp_path: Path) -> None:
    count = 24_000
    kind, energy = one_after_another(20, count), np.linspace(0, 1, count, dtype="f4")
    columns = {"id": np.arange(count), "kind": kind.astype("u1"), "energy": energy}
    columns |= {f"is_{number}": (kind == number).astype("u1") for number in range(20)}
    columns["noise"] = np.random.default_rng(0).random(count)
    frame = open_events([write_columns(tmp_path / "a.root", columns, 2000)])
    one_of = [f"is_{number}" for number in range(20)]
    for target, is_told in ((one_of, True), ("energy", True), ("noise", False), (None, False)):
        loader = rf.Loader(frame, BATCH, ["id"], target, seed=1, memory="200 kB", threads=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            next(iter(loader))
        assert [each.category for each in caught] == [MixingWarning] * is_told
    # Where no order is wanted, and by ranks and workers that others speak for.
    for options in ({"shuffle": False}, {"rank": 1, "world_size": 2}, {"memory": "1 GB"}):
        options = {"seed": 1, "memory": "200 kB", "threads": 2, **options}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            next(iter(rf.Loader(frame, BATCH, ["id"], "kind", **options)))


@pytest.fixture(scope="module")
def wide(folder: Path) -> dict[str, list[str]]:
    """Rows of many columns, for which nearly all memory is; each file is one page of each."""
    random, found = np.random.default_rng(2), {}
    for name, classes in (("one file", [[0, 1]]), ("three files", [[0], [1], [2]])):
        found[name] = []
        for number, kinds_ in enumerate(classes):
            kind = np.repeat(kinds_, 6000 // len(kinds_)).astype("u1")
            columns = {f"c{i}": random.random(len(kind), np.float32) for i in range(30)}
            path = folder / f"{name}_{number}.root"
            found[name].append(write_columns(path, columns | {"kind": kind}, len(kind), "TTree"))
    return found


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["one file", "three files"])
def test_several_blocks_share_the_memory_however_long_pages_are(
    wide: dict[str, list[str]], name: str, part: float
) -> None:
    """Of blocks that are a third of the window, one alone would be used at a time."""
    memory = int(part * 124 * 6000 * len(wide[name]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MixingWarning)
        features = [f"c{i}" for i in range(30)]
        loader = rf.Loader(wide[name], BATCH, features, "kind", seed=3, memory=memory)
        found = lacking(loader)
    told = loader.plan().lacking_bits
    assert told
    assert caught
    assert loader.window_blocks >= 5
    assert found < max(0.01, 2.5 * told)
    assert found < 0.1


def test_windows_by_hand_are_told_too(written: dict[str, list[str]]) -> None:
    paths = written["ten classes in files"]
    _, [text] = make(paths, chunk_entries=200)
    enough = re.search(r"chunk_entries=(\d+) instead of 200", text)
    assert enough
    assert not make(paths, chunk_entries=int(enough[1]))[1]
    _, [text] = make(paths, chunk_entries=4000, block_entries=1000)
    assert "3.0 blocks of consecutive entries are in memory together" in text


def test_no_word_where_nothing_is_to_be_mixed(written: dict[str, list[str]]) -> None:
    paths = written["ten classes in pages"]
    loader, told = make(paths, chunk_entries=500, shuffle=False)
    assert not told
    assert loader.plan().lacking_bits is None
    assert "not shuffled" in str(loader.plan())
    for options in ({}, {"chunk_entries": 12_000}):  # in memory, or in one window
        loader, told = make(paths, **options)
        assert not told
        assert loader.plan().lacking_bits == 0
    assert not make(paths, chunk_entries=500, sampling=rf.balanced("kind"))[1]


def test_few_rows_pass(written: dict[str, list[str]]) -> None:
    frame = open_events(written["a file of three classes"]).filter("good")
    loader, told = make(frame, chunk_entries=60)
    assert loader.num_rows == 120
    assert told or lacking(loader) < 0.2


def test_parts_are_told_of_once(written: dict[str, list[str]]) -> None:
    paths = written["ten classes in pages"]
    memory = 40 * BATCH * 30
    loader, told = make(paths, memory=memory)
    assert told
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, _ = loader.split(0.5)
        pickle.loads(pickle.dumps(train))
        train.load_state_dict(train.state_dict())
    # One that is worse off is told of, by name; one that only looks at each row once is not.
    fine, told = make(written["ten classes in files"], memory="20 kB")
    assert not told
    assert not fine.in_memory
    with pytest.warns(MixingWarning, match=r"split\(where='id < 200'\), train: rows mix") as caught:
        fine.split(where="id < 200")  # a side with half of the memory, and nearly all rows
    assert len(caught) == 1
    assert caught[0].filename == __file__
    loader, told = make(paths, memory=memory, sampling=rf.balanced("kind"))
    assert not told
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loader.split(0.5)


def test_ranks_share_the_sizes_of_one(written: dict[str, list[str]]) -> None:
    paths = written["ten classes in pages"]
    found = [make(paths, chunk_entries=10_000, rank=rank, world_size=3) for rank in range(3)]
    assert not any(told for _, told in found)
    assert len({loader._pipeline.schedule.sizes for loader, _ in found}) == 1
    assert all(lacking(loader) < 0.15 for loader, _ in found)


@pytest.mark.parametrize(
    ("paths", "regions", "of"),
    [
        (["a.root"], (0,), 1),
        (["top_1.root", "top_2.root", "w_1.root"], (0, 2), 2),  # names tell kinds
        (["jets_0.root", "jets_1.root", "jets_2.root"], (0, 1, 2), 1),  # each may be one
        ([f"jets_{number}.root" for number in range(17)], (0,), 1),
        (["a/x.root", "a/y.root", "b/z.root"], (0, 1, 2), 3),
        ([f"{'ab'[n // 20]}/{chr(97 + n)}q.root" for n in range(40)], (0, 20), 1),
        ([f"{n}_{'abc'[n % 3]}.root" for n in range(60)], (0,), 3),
    ],
)
def test_regions_that_are_wanted(paths: list[str], regions: tuple[int, ...], of: int) -> None:
    assert wanted_regions(paths) == regions
    assert kinds(paths) == of
