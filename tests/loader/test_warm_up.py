"""Nothing is compiled or imported once an iterator has started: a fork would find a thread at it.

What a kernel is compiled for are the types that it is called with. Those of each call are noted, so that
one process can try many loaders, whatever it has compiled before.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numba
import numpy as np
import pytest
import uproot
from numba.core import event, sigutils

import rootfeed as rf
from rootfeed import compiling, kernels
from rootfeed.loader import fill

ENTRIES, FILES = 600, 3
FORMATS = ["TTree", "RNTuple"]
MEMORY: dict[str, dict[str, Any]] = {
    "kept": {},
    "lazy": {"chunk_entries": 150, "block_entries": 20},
}


def columns(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    lengths = random.integers(0, 5, ENTRIES)
    jagged = ak.unflatten(random.normal(size=lengths.sum()).astype("f4"), lengths)
    return {
        "id": np.arange(ENTRIES, dtype="i8") + ENTRIES * number,
        "code": random.integers(-9, 9, ENTRIES).astype("i4"),
        "byte": random.integers(0, 9, ENTRIES).astype("u1"),
        "label": random.choice(3, ENTRIES, p=[0.6, 0.35, 0.05]).astype("i4"),
        "half": random.normal(size=ENTRIES).astype("f4"),
        "real": random.normal(size=ENTRIES),
        "flag": random.integers(0, 2, ENTRIES).astype("?"),
        "v": jagged,
        "w": jagged * 2,
        "k": ak.values_astype(jagged * 9, "i4"),
    }


@pytest.fixture(scope="module", params=FORMATS)
def frame(request: Any, tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    folder = tmp_path_factory.mktemp("warm")
    for number in range(FILES):
        made = columns(number)
        with uproot.recreate(folder / f"{number}.root") as file:
            if request.param == "TTree":
                file["events"] = made
            else:
                file.mkrntuple("events", made)
    return rf.open(f"{folder}/*.root:events")


@pytest.fixture
def compiled_late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls()
    names = {id(getattr(kernels, name)): name for name in kernels.__all__}

    def declared() -> None:
        compiling.compile_declared()
        for dispatcher, types in compiling._declared:
            for each in types:
                calls.known.add((names[id(dispatcher)], tuple(sigutils.normalize_signature(each)[0])))

    for name in kernels.__all__:
        monkeypatch.setattr(kernels, name, calls.noted(name, getattr(kernels, name)))
    monkeypatch.setattr(fill, "compile_declared", declared)
    with event.install_listener("numba:compile", calls):
        yield calls


class Calls(event.Listener):
    """The types that kernels were called with, and those that came too late."""

    def __init__(self) -> None:
        self.known: set[tuple[str, tuple[Any, ...]]] = set()
        self.late: list[Any] = []
        self.started = False

    def noted(self, name: str, kernel: Any) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            key = name, tuple(map(numba.typeof, arguments))
            if key not in self.known:
                self.known.add(key)
                if self.started or threading.current_thread().name.startswith("rootfeed-"):
                    self.late.append(key)
            return kernel(*arguments)

        return call

    def on_start(self, event: Any) -> None:
        if self.started:
            self.late.append(event.data["dispatcher"])

    def on_end(self, event: Any) -> None:
        pass


FEATURES = ["half", "real", "code", "byte", "flag"]
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {},
    "target": {"target": "label", "target_dtype": "int64"},
    "integers": {"features": ["code", "byte"], "dtype": "int32", "target": "label"},
    "narrow": {"dtype": "float16", "target": "label", "target_dtype": "int8"},
    "doubles": {"dtype": "float64", "target": "id", "target_dtype": "float64"},
    "weights": {"target": "label", "weights": "abs(half) + 1"},
    "normalized": {"target": "label", "weights": rf.normalized("abs(half) + 1", per="label")},
    "in order": {"shuffle": False},
    "no last batch": {"drop_last": True},
    "a rank": {"rank": 1, "world_size": 2},
    "a padded rank": {"rank": 1, "world_size": 2, "tail": "pad"},
    "an uneven rank": {"rank": 0, "world_size": 2, "tail": "uneven"},
    "padded": {"features": {"x": ["half"], "jets": rf.padded(["v", "w"], 3)}},
    "sorted": {"features": {"x": ["half"], "jets": rf.padded(["v", "k"], 3, sort_by="v")}},
    "ragged": {"features": {"x": ["half"], "jets": rf.ragged(["v"])}, "target": "label"},
    "flat": {"features": ["half", rf.flat("v", 2)]},
}
for epoch, replacement in itertools.product(("shortest", "longest", 7), (False, True)):
    for shares in (None, {0: 0.5, 1: 0.3, 2: 0.2}):
        if not (replacement and epoch != 7):
            SCENARIOS[f"balanced, {epoch}, {replacement}, {shares}"] = {
                "target": "label",
                "sampling": ("label", shares, epoch, replacement),
            }


def made(frame: rf.Frame, **options: Any) -> rf.Loader:
    if isinstance(options.get("sampling"), tuple):
        label, shares, epoch, replacement = options["sampling"]
        options["sampling"] = rf.balanced(label, shares, epoch=epoch, replacement=replacement)
    given = {"features": FEATURES, "seed": 1, "threads": 2} | options
    return rf.Loader(frame, 32, **given)


def iterate(calls: Calls, loader: rf.Loader, epochs: int = 2) -> None:
    calls.late.clear()
    for _ in range(epochs):
        for _ in loader:
            calls.started = True
    assert calls.started
    calls.started = False
    assert calls.late == []


pytestmark = pytest.mark.filterwarnings("ignore::rootfeed.errors.RootfeedWarning")


#: Of each scenario one, with formats and memory in turns.
ALWAYS = [
    f"{FORMATS[number % 2]}-{name}-{list(MEMORY)[number // 2 % 2]}"
    for number, name in enumerate(SCENARIOS)
]


@pytest.mark.thorough(but=ALWAYS)
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_loaders(frame: rf.Frame, compiled_late: Calls, scenario: str, memory: str) -> None:
    iterate(compiled_late, made(frame, **SCENARIOS[scenario], **MEMORY[memory]))


@pytest.mark.thorough(
    but=["RNTuple-plain-lazy", "TTree-balanced, longest, False, None-lazy", "TTree-plain-kept"]
)
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("scenario", ["plain", "balanced, longest, False, None"])
def test_a_resumed_epoch(frame: rf.Frame, compiled_late: Calls, scenario: str, memory: str) -> None:
    options = SCENARIOS[scenario] | MEMORY[memory]
    loader = made(frame, **options)
    for _ in itertools.islice(iter(loader), 3):
        pass
    state = loader.state_dict()
    for ranks in ({}, {"rank": 0, "world_size": 2}):
        compiled_late.known.clear()
        other = made(frame, **options, **ranks)
        other.load_state_dict(state)
        iterate(compiled_late, other, epochs=1)


@pytest.mark.parametrize("memory", MEMORY)
def test_splits_cuts_and_definitions(frame: rf.Frame, compiled_late: Calls, memory: str) -> None:
    cut = frame.filter("half > -1 && Sum(v) > -3").define("z", "half * 7.25").define("jets", "v[v > -9]")
    loader = made(cut, features={"x": ["z", "real"], "jets": rf.padded(["jets"], 2)}, **MEMORY[memory])
    for part in loader.split(0.3, by="id"):
        iterate(compiled_late, part, epochs=1)


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-kept"])
@pytest.mark.parametrize("memory", MEMORY)
def test_mixed_frames(frame: rf.Frame, compiled_late: Calls, memory: str) -> None:
    frames = [frame.filter("label == 0"), frame.filter("label == 1")]
    loader = rf.Loader(
        rf.mixed(frames, epoch="longest"), 32, FEATURES, seed=1, threads=2, **MEMORY[memory]
    )
    iterate(compiled_late, loader)


PROGRAM = """
import sys
import rootfeed as rf
from numba.core import event
with event.install_recorder("numba:compiler_lock") as recorder:
    frame = rf.open(sys.argv[1]).define("z", "half * 3.5 + Sum(v)")
    options = {"chunk_entries": 150, "block_entries": 20} if sys.argv[2] == "lazy" else {}
    sampling = rf.balanced("label", epoch="longest")
    loader = rf.Loader(frame, 32, ["z", "code"], "label", sampling=sampling, seed=1, **options)
    batches = iter(loader)
    next(batches)
    before = len(recorder.buffer)
    assert sum(1 for _ in batches) > 3
    assert sum(1 for _ in loader) > 3
    print(before > 0, len(recorder.buffer) - before)
"""


@pytest.mark.thorough(but=["TTree-lazy"])
@pytest.mark.parametrize("memory", MEMORY)
def test_in_a_process_of_its_own(frame: rf.Frame, memory: str) -> None:
    path = f"{Path(frame.files[0]).parent}/*.root:events"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, memory], capture_output=True, text=True, timeout=200
    )
    assert (done.stdout, done.stderr) == ("True 0\n", "")


IMPORTS = """
import sys, threading
import rootfeed as rf
found = []
def note(event, arguments):
    if event == "import" and threading.current_thread().name.startswith("rootfeed-"):
        found.append(arguments[0])
sys.addaudithook(note)
frame = rf.open(sys.argv[1])
for sizes in ({}, {"chunk_entries": 150, "block_entries": 20}):
    assert sum(1 for _ in rf.Loader(frame, 16, ["a", "b"], threads=2, **sizes)) > 3
print(found)
"""


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv", "h5"])
def test_threads_import_nothing(tmp_path: Path, suffix: str) -> None:
    path, arrays = tmp_path / f"file.{suffix}", {"a": np.arange(300), "b": np.arange(300) / 4}
    if suffix == "csv":
        np.savetxt(path, np.column_stack([*arrays.values()]), "%g", ",", header="a,b", comments="")
    elif suffix == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file.update(arrays)
    else:
        table = pytest.importorskip("pyarrow").table(arrays)
        if suffix == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, path)
        else:
            pytest.importorskip("pyarrow.feather").write_feather(table, path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS, path],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
