"""What `import rootfeed` costs, and what it offers."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from functools import cache
from typing import Any

import pytest

import rootfeed

# Frameworks and whatever else takes its time. uproot itself loads awkward.
HEAVY = (
    "ROOT",
    "jax",
    "lightning",
    "matplotlib",
    "pandas",
    "pyarrow",
    "pytorch_lightning",
    "ray",
    "scipy",
    "tensorflow",
    "torch",
)

# Times rootfeed after what it cannot do without, and counts what Numba compiles meanwhile.
PROBE = """
    import json, sys
    from time import perf_counter

    start = perf_counter()
    import numba, numpy, uproot
    needed = perf_counter() - start

    from numba.core.event import install_recorder

    with install_recorder("numba:compile") as recorder:
        start = perf_counter()
        import rootfeed
        own = perf_counter() - start
        compiled = len(recorder.buffer)
        numba.njit("int64(int64)")(lambda number: number)
        recorder_works = len(recorder.buffer) > compiled

    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps([needed, own, compiled, recorder_works, modules]))
"""


def probe() -> list[Any]:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE)], capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


@cache
def first_probe() -> list[Any]:
    return probe()


def test_import_loads_no_framework() -> None:
    *_, modules = first_probe()
    assert "rootfeed" in modules
    assert not set(modules) & set(HEAVY)


def test_import_compiles_nothing() -> None:
    _, _, compiled, recorder_works, _ = first_probe()
    assert recorder_works
    assert compiled == 0


def test_import_is_fast() -> None:
    # Measured on two quiet cores: 0.07 s, after 0.39 s for NumPy, Numba and uproot. The best of
    # three counts, because a busy machine delays some.
    needed, own = min((probe()[:2] for _ in range(3)), key=lambda times: times[1])
    assert own < max(needed, 1), f"rootfeed {own:.2f} s, numpy, numba and uproot {needed:.2f} s"


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
