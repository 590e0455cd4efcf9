"""`memory` bounds what a loader holds: peaks of processes that read ten times as much.

Each case runs in a fresh process. Counted is its peak of resident memory, less what it had once
everything was imported and every kernel was loaded.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

from processes import run
from rootfiles import Field
from rootfiles.rntuple import Writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")

ENTRIES = 3_000_000
ROW_BYTES = 44  # ten columns of float32, and a place in the order
MARGIN = 15  # MB: batches, page tables, Python's own

Arrays = dict[str, NDArray[Any]]


def contents(entries: int) -> Arrays:
    """Reals of both sizes and integers that have to be cast; quick to pack and to unpack."""
    random = np.random.default_rng(0)
    real = (random.integers(0, 64, entries) / 8).astype(np.float32)
    arrays: Arrays = {f"real{number}": np.roll(real, number) for number in range(6)}
    arrays |= {f"wide{number}": np.roll(real, -number).astype(np.float64) for number in range(2)}
    arrays["count"] = random.integers(0, 64, entries)
    arrays["label"] = random.integers(0, 2, entries).astype(np.int32)
    return arrays


def write_tree(path: Path, arrays: Arrays, page: int = 100_000) -> None:
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        tree = file.mktree("events", {name: values.dtype for name, values in arrays.items()})
        for start in range(0, len(arrays["label"]), page):
            tree.extend({name: values[start : start + page] for name, values in arrays.items()})


def write_single_cluster(path: Path, arrays: Arrays) -> None:
    """Write an RNTuple of one cluster, as ROOT does with up to some millions of entries."""
    types = {"float32": "float", "float64": "double", "int32": "std::int32_t", "int64": "std::int64_t"}
    writer = Writer("lz4:1", 1 << 20)
    writer.native.options.SetMaxUnzippedClusterSize(2 << 30)
    writer.native.options.SetApproxZippedClusterSize(1 << 30)
    for name, values in arrays.items():
        writer.add(Field(name, types[str(values.dtype)], values.dtype), values)
    writer.open(path, "events")
    writer.fill(0, len(arrays["label"]))
    writer.close()
    with uproot.open(f"{path}:events") as ntuple:
        assert len(ntuple.cluster_summaries) == 1


def write_single_pages(path: Path, arrays: Arrays) -> None:
    """Write an RNTuple with one page for each column."""
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        file.mkrntuple("events", arrays)


Files = Callable[[str], tuple[Path, Path]]

WRITERS: dict[str, Callable[[Path, Arrays], None]] = {
    "TTree": write_tree,
    "RNTuple": write_single_cluster,
}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A large file of a format, and a small one that needs the same kernels."""
    folder = tmp_path_factory.mktemp("memory")

    @functools.cache
    def write(format: str) -> tuple[Path, Path]:
        return write_both(folder, format, WRITERS[format], ENTRIES)

    return write


def write_both(
    folder: Path, name: str, write: Callable[[Path, Arrays], None], entries: int
) -> tuple[Path, Path]:
    large, small = folder / f"{name}.root", folder / f"{name} small.root"
    write(large, contents(entries))
    write(small, contents(5000))
    return large, small


SCRIPT = """
    import gc, sys
    import rootfeed as rf

    large, small, arguments, use = sys.argv[1], sys.argv[2], eval(sys.argv[3]), sys.argv[4]
    arguments = {"batch_size": 1024, "target": "label", "seed": 1, "threads": 2} | arguments

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1000 for line in file if line.startswith(name))

    def once(batches):
        for batch in batches:
            pass

    for mode in ({}, {"memory": "1 GB"}, {"chunk_entries": arguments["batch_size"]}):
        for side in rf.Loader(rf.open(small), **arguments | mode).split(0.5):
            once(side)
    del side
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
    except OSError:
        pass  # the peak of the imports counts against the loader
    before = status("VmRSS")

    loader = rf.Loader(rf.open(large), **arguments)
    assert loader.in_memory == (use == "in memory")
    if use == "turns":
        train, test = loader.split(0.25)
        for side in (train, test, train):
            once(side)
    elif use == "interleaved":
        once(zip(*loader.split(0.25)))
    elif use == "epochs":
        rows = []
        for _ in range(12):
            once(loader)
            rows.append(status("VmRSS") - rows[1] if len(rows) > 1 else status("VmRSS"))
        print(max(rows[2:]))
        sys.exit()
    else:
        once(loader)
    print(status("VmHWM") - before)
"""


def megabytes(files: tuple[Path, Path], use: str, **arguments: Any) -> float:
    outcome = run(SCRIPT, *files, arguments, use)
    assert (outcome.code, outcome.err) == (0, "")
    return float(outcome.out)


def bounded(files: tuple[Path, Path], use: str, memory: int, **arguments: Any) -> None:
    """Check a peak against a budget in MB. A loader that used little of it would be no good either."""
    peak = megabytes(files, use, memory=f"{memory} MB", **arguments)
    assert 0.4 * memory < peak < memory + MARGIN


@pytest.mark.thorough(but=["TTree-4", "RNTuple-1"])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_a_tenth_in_memory(files: Files, format: str, threads: int) -> None:
    assert ENTRIES * ROW_BYTES > 10 * 13e6
    bounded(files(format), "lazy", 13, threads=threads)


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_a_quarter_in_memory(files: Files, format: str) -> None:
    bounded(files(format), "lazy", 32, batch_size=4096)


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_twice_as_wide(files: Files, format: str) -> None:
    bounded(files(format), "lazy", 50, dtype="float64", target_dtype="int64")


@pytest.mark.thorough(but=["TTree-turns"])
@pytest.mark.parametrize("use", ["turns", "interleaved"])
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_both_sides_of_a_split(files: Files, format: str, use: str) -> None:
    bounded(files(format), use, 50)


@pytest.mark.thorough
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_everything_in_memory(files: Files, format: str) -> None:
    assert ENTRIES * ROW_BYTES > 0.6 * 210e6
    bounded(files(format), "in memory", 210, threads=4)


def test_pages_larger_than_the_budget(tmp_path: Path) -> None:
    # A page is the least that can be unpacked: 12 MB and what they take in the file. That much comes
    # on top, once, however many threads there may be.
    page = 12 + 3
    both = write_both(tmp_path, "pages", write_single_pages, 1_500_000)
    peak = megabytes(both, "lazy", memory="15 MB", threads=4)
    assert peak < 15 + page + MARGIN


@pytest.mark.thorough(but=["TTree"])
@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_memory_does_not_grow_from_epoch_to_epoch(tmp_path: Path, format: str) -> None:
    both = write_both(tmp_path, format, WRITERS[format], 300_000)
    assert megabytes(both, "epochs", memory="5 MB", threads=4) < 5


def test_fixed_chunks_are_bounded_too(files: Files) -> None:
    # Two chunks of 100 000 rows, four blocks in work.
    peak = megabytes(files("TTree"), "lazy", chunk_entries=100_000, block_entries=10_000, threads=4)
    assert 2 * 0.1 * 40 < peak < 2 * 0.1 * ROW_BYTES + MARGIN


@pytest.mark.thorough(but=["in memory-210"])
@pytest.mark.parametrize(("use", "memory"), [("in memory", 210), ("lazy", 50)])
def test_a_loader_that_was_closed_gives_its_memory_back(files: Files, use: str, memory: int) -> None:
    script = (
        SCRIPT.partition("    if use ==")[0]
        + """
    once(loader)
    held = status("VmRSS") - before
    loader.close()
    gc.collect()
    print(held, status("VmRSS") - before)
"""
    )
    outcome = run(script, *files("TTree"), {"memory": f"{memory} MB"}, use)
    assert (outcome.code, outcome.err) == (0, "")
    held, left = map(float, outcome.out.split())
    assert 0.4 * memory < held < memory + MARGIN
    assert left < MARGIN + 10  # what the allocator keeps of several threads' heaps


# --- vectors --------------------------------------------------------------------------------------


def write_jets(path: Path, lengths: NDArray[np.int64], label: NDArray[np.int32], page: int) -> None:
    """Write twelve variables of so many particles in each jet."""
    flat = (np.arange(int(lengths.sum())) % 64).astype(np.float32)
    starts = np.append(0, lengths.cumsum())
    with uproot.recreate(path, compression=uproot.LZ4(1)) as file:
        types = {f"v{number}": "var * float32" for number in range(12)}
        tree = file.mktree("events", types | {"label": "int32"})
        for start in range(0, len(label), page):
            some = slice(start, start + page)
            jets = ak.unflatten(
                flat[starts[start] : starts[min(start + page, len(label))]], lengths[some]
            )
            tree.extend(dict.fromkeys(types, jets) | {"label": label[some]})


JETS = """
    import gc, sys
    import rootfeed as rf

    small, large, budget, ragged = map(eval, sys.argv[1:])
    columns = [f"v{number}" for number in range(12)]
    features = {"x": rf.ragged(columns) if ragged else rf.padded(columns, 128)}

    def make(paths, **options):
        frame = rf.open(dict.fromkeys(paths, "events"))
        sampling = None if ragged else rf.balanced("label", epoch="longest")
        return rf.Loader(
            frame, 256, features, "label", sampling=sampling, seed=1, threads=2, **options
        )

    def status(name):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1000 for line in file if line.startswith(name))

    for options in ({}, {"chunk_entries": 256}):
        for batch in make(small, **options):
            pass
    del batch
    gc.collect()
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew
    except OSError:
        pass
    before = status("VmRSS")
    loader = make(large, memory=budget * 10**6)
    assert not loader.in_memory
    rows = 0
    for x, y in loader:
        rows += len(y)
    plan = loader.plan()
    assert rows == plan.batch_rows
    print(status("VmHWM") - before, plan.memory_bytes / 1e6, plan.batch_rows, plan.num_rows)
"""


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A small file, and large ones of a class each: 73 MB of particles."""
    folder = tmp_path_factory.mktemp("jets")
    random = np.random.default_rng(0)
    paths = []
    for number, count in enumerate((28_000, 9000, 3000)):
        paths.append(str(folder / f"class{number}.root"))
        lengths = np.minimum(random.poisson(37, count), 128)
        write_jets(Path(paths[-1]), lengths, np.full(count, number, np.int32), 1000)
    small = str(folder / "small.root")
    write_jets(Path(small), np.full(3000, 30), np.arange(3000, dtype=np.int32) % 3, 1000)
    return small, paths


@pytest.mark.thorough(but=["25"])
@pytest.mark.parametrize("budget", [25, 60])
def test_wide_rows_of_classes_that_are_repeated(jets: tuple[str, list[str]], budget: int) -> None:
    # Padded rows of 6.1 kB, of which 1.8 kB are particles.
    small, paths = jets
    outcome = run(JETS, [small], paths, budget, False)
    assert (outcome.code, outcome.err) == (0, "")
    peak, planned, rows, entries = map(float, outcome.out.split())
    assert rows > 2 * entries  # classes are repeated
    assert planned <= budget
    assert 0.4 * budget < peak < budget + MARGIN


@pytest.mark.thorough
def test_rows_that_are_far_longer_in_some_files(tmp_path: Path) -> None:
    # In one file of eight, vectors are thirty times as long as in the others: on average five times.
    paths = []
    for number in range(8):
        paths.append(str(tmp_path / f"{number}.root"))
        lengths = np.full(5000, 90 if number == 3 else 3)
        write_jets(Path(paths[-1]), lengths, np.zeros(5000, np.int32), 500)
    small = str(tmp_path / "small.root")
    write_jets(Path(small), np.arange(3000) % 90, np.zeros(3000, np.int32), 500)
    outcome = run(JETS, [small], paths, 20, True)
    assert (outcome.code, outcome.err) == (0, "")
    peak, planned, rows, entries = map(float, outcome.out.split())
    assert rows == entries == 40_000
    assert planned <= 20
    assert peak < 20 + MARGIN
