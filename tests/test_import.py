"""What `import rootfeed` costs, and what it offers."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import requires
from typing import Any

import pytest

import rootfeed

# Frameworks and whatever else takes its time.
HEAVY = (
    "ROOT",
    "asyncio",
    "awkward",
    "fsspec",
    "jax",
    "keras",
    "lightning",
    "matplotlib",
    "pandas",
    "pytorch_lightning",
    "ray",
    "scipy",
    "tensorflow",
    "torch",
    "uproot",
)

# Processor time of rootfeed after that of what it cannot do without; what Numba compiles meanwhile, and
# which packages that loads besides.
PROBE = """
    import json, sys
    from time import process_time

    start = process_time()
    import numba, numpy
    needed = process_time() - start

    from numba.core.event import install_recorder

    with install_recorder("numba:compile") as recorder:
        before = set(sys.modules)
        start = process_time()
        import rootfeed
        own = process_time() - start
        # Before Numba compiles: it loads what extends it, and awkward does.
        modules = sorted({name.partition(".")[0] for name in sys.modules})
        added = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
        compiled = len(recorder.buffer)
        numba.njit("int64(int64)")(lambda number: number)
        recorder_works = len(recorder.buffer) > compiled

    print(json.dumps([needed, own, compiled, recorder_works, modules, added]))
"""


Probe = Callable[[], list[Any]]


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    folder = tmp_path_factory.mktemp("cache")
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}

    def run() -> list[Any]:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROBE)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | cached,
        )
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope="module")
def first_probe(probe: Probe) -> list[Any]:
    """The one that compiles the source texts."""
    return probe()


def test_import_loads_no_framework(first_probe: list[Any]) -> None:
    *_, modules, _ = first_probe
    assert "rootfeed" in modules
    assert not set(modules) & set(HEAVY)


def test_import_compiles_nothing(first_probe: list[Any]) -> None:
    _, _, compiled, recorder_works, *_ = first_probe
    assert recorder_works
    assert compiled == 0


def test_import_loads_only_what_is_required(first_probe: list[Any]) -> None:
    *_, added = first_probe
    required = {re.split(r"[^\w-]", each)[0] for each in requires("rootfeed") or () if ";" not in each}
    third = {name for name in added if name not in sys.stdlib_module_names and name[0] != "_"}
    assert third - {"rootfeed"} <= required


@pytest.mark.usefixtures("first_probe")
def test_import_is_fast(probe: Probe) -> None:
    # Measured: 0.14 s of processor time, after 0.34 s for NumPy and Numba; a ratio of 0.4, which a busy
    # machine does not change much. One probe of three will do.
    times = []
    while len(times) < 3:
        needed, own = probe()[:2]
        if own < 0.8 * needed:
            return
        times.append(f"rootfeed {own:.2f} s, numpy and numba {needed:.2f} s")
    pytest.fail("; ".join(times))


def test_all_is_complete() -> None:
    public = {
        name
        for name, value in vars(rootfeed).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public <= set(rootfeed.__all__)
    assert len(rootfeed.__all__) == len(set(rootfeed.__all__))


@pytest.mark.parametrize("name", rootfeed.__all__)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(rootfeed, name)
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        # Of its own: a class inherits the docstring of its base from inspect.getdoc.
        assert (value.__doc__ or "").strip()
    else:
        assert name == "__version__"


@pytest.mark.thorough
def test_kernels_work_where_nothing_can_be_kept_on_disk() -> None:
    # As on a read-only installation whose user has no home directory.
    script = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from rootfeed import kernels\n"
        "order = np.empty(5, np.uint32)\n"
        "kernels.permute(np.uint64(1), np.empty(0, np.uint32), order)\n"
        "assert sorted(order) == [0, 1, 2, 3, 4]\n"
    )
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr.count("CacheWarning: compiled kernels cannot be kept on disk") == 1
