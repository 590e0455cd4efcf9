"""The generated source, and what becomes of it: fused, kept on disk, callable from many threads."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expression.helpers import TYPES, define
from rootfeed import compiling
from rootfeed.errors import CacheWarning
from rootfeed.expression import Cut, compile_cuts, compile_outputs, parse
from rootfeed.expression.kernels import compiled
from rootfeed.schema import ColumnType, Jagged


def source(text: str) -> str:
    return compile_outputs([define("result", text)], ["result"], TYPES, "python").source


@pytest.mark.parametrize(
    "text",
    [
        "Sum(v[v > 30])",
        "Sum(sqrt(v * v + w * w))",
        "Any(abs(v) > 2 && w < 3)",
        "Mean(v[v > w] * 2)",
        "Max(v[m])",
    ],
)
def test_reductions_are_one_loop_without_an_array(text: str) -> None:
    written = source(text)
    assert written.count("np.empty") == 0
    assert written.count("for ") == 2  # over entries, and over elements


def test_a_vector_that_is_used_twice_is_stored_once() -> None:
    steps = [define("kept", "v[v > 1]"), define("a", "Sum(kept)"), define("b", "Max(kept)")]
    written = compile_outputs(steps, ["a", "b"], TYPES, "python").source
    assert written.count("np.empty(") == 1


def test_no_text_of_the_user_is_in_the_source() -> None:
    inputs = {"secret_name": ColumnType("float", "scalar", np.dtype("f4"))}
    written = compile_outputs(
        [define("my_result", "secret_name * 2 + M_PI")], ["my_result"], inputs, "c++"
    ).source
    for word in ("secret", "my_result", "M_PI"):
        assert word not in written


def block(entries: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 9, entries))]).astype(np.int64)
    pt = Jagged(random.exponential(30, offsets[-1]).astype("f4"), offsets)
    return {"pt": pt, "x": random.normal(size=entries)}


BLOCK_TYPES = {
    "pt": ColumnType("vector", "vector", np.dtype("f4")),
    "x": ColumnType("double", "scalar", np.dtype("f8")),
}


def test_four_threads_at_once() -> None:
    steps = [
        define("jets", "Sort(pt[pt > 20])"),
        define("sum", "Sum(jets)"),
        Cut(parse("sum > 60"), "cut"),
    ]
    cuts = compile_cuts(steps, BLOCK_TYPES, "python")
    made = compile_outputs(steps, ["jets", "sum"], BLOCK_TYPES, "python")

    def run(number: int) -> None:
        data = block(2_000 + 100 * number, number)
        entries = len(data["x"])
        passed, passing = np.empty(entries, np.uint8), np.zeros(1, np.int64)
        cuts.run({n: data[n] for n in cuts.inputs}, 0, 0, entries, "f", passed, passing)
        kept = [part[part > 20] for part in np.split(data["pt"].values, data["pt"].offsets[1:-1])]
        sums = np.array([np.add.reduce(np.sort(part), dtype="f4") for part in kept])
        assert (
            abs(int(passed.sum()) - np.count_nonzero(sums > 60)) <= 1
        )  # sums of floats, in another order
        take = np.flatnonzero(passed).astype(np.int32)
        outs = {"sum": np.empty(len(take), "f4")}
        jets = made.run({n: data[n] for n in made.inputs}, 0, 0, take, "f", outs)["jets"]
        np.testing.assert_array_equal(
            jets.values, np.concatenate([np.sort(kept[entry]) for entry in take])
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(24)))


PROGRAM = """
import sys, time
import numpy as np
from rootfeed.expression import Definition, compile_outputs, parse
from rootfeed.schema import ColumnType, Jagged
import rootfeed.expression.library
import numba
numba.njit(lambda: 1)()
begun = time.perf_counter()
types = {"x": ColumnType("double", "scalar", np.dtype("f8"))}
types["v"] = ColumnType("v", "vector", np.dtype("f4"))
texts = {"a": "sqrt(x * x + 1)", "b": "Sum(v[v > 1])", "c": "a > 2 ? b : -1"}
made = compile_outputs([Definition(n, parse(t)) for n, t in texts.items()], list(texts), types, "c++")
seconds = time.perf_counter() - begun
outs = {name: np.empty(2, made.types[name].dtype) for name in texts}
v = Jagged(np.array([1, 2, 3], "f4"), np.array([0, 0, 3]))
made.run({"x": np.array([0.0, 3.0]), "v": v}, 0, 0, np.arange(2, dtype=np.int32), "file", outs)
assert (outs["b"].tolist(), outs["c"].tolist()) == ([0, 5], [-1, 5]), outs
print(seconds, sum(made.kernels[0].compiled.stats.cache_hits.values()))
"""


def run_elsewhere(folder: Path) -> tuple[float, int]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    seconds, hits = done.stdout.split()
    return float(seconds), int(hits)


def test_a_second_process_loads_the_kernel(tmp_path: Path) -> None:
    first, first_hits = run_elsewhere(tmp_path)
    files = sorted(tmp_path.rglob("kernel_*"))  # sources, and what Numba made of them
    assert {file.suffix for file in files} >= {".py", ".nbi", ".nbc"}
    second, second_hits = run_elsewhere(tmp_path)
    assert (first_hits, second_hits) == (0, 1)
    assert second < min(first, 2)
    assert sorted(tmp_path.rglob("kernel_*")) == files
    assert not list(tmp_path.rglob("*.tmp"))
    # A kernel that was cut short, as by a full disk, is written again.
    (kernel,) = tmp_path.rglob("kernel_*.py")
    whole = kernel.read_text(encoding="utf-8")
    kernel.write_text("")
    run_elsewhere(tmp_path)
    assert kernel.read_text(encoding="utf-8") == whole


@pytest.mark.thorough
def test_several_processes_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run_elsewhere, [tmp_path] * 2))
    assert run_elsewhere(tmp_path)[1] == 1


@pytest.mark.thorough
def test_without_a_folder_to_write_to(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert run_elsewhere(blocked / "below")[1] == 0


KERNEL = "def kernel(number):\n    return number + {number}\n"


@pytest.fixture
def no_folder_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiling, "_warned", False)
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_folder_chosen")
def test_kernels_are_kept_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compiled(KERNEL.format(number=3), {}, (1,))(1) == 4
    assert list((tmp_path / "cache/rootfeed").glob("kernel_*.py"))


@pytest.mark.usefixtures("no_folder_chosen")
def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that runs under a number that no user has.
    def unknown(_: int) -> Any:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.warns(CacheWarning, match="cannot be kept on disk .* home"):
        assert compiled(KERNEL.format(number=4), {}, (1,))(1) == 5
    assert not list(tmp_path.iterdir())  # no folder that is called "~"
