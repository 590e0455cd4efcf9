"""The files, and the two ways, of tests whose body runs in ROOT and in `rootfeed.root`."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import rootfeed.root
from rootfiles.environment import load_root
from ways import FIRST, OURS, SECOND, Way, write


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("from_root")
    return {
        "first": write(folder / "first.root", np.arange(FIRST)),
        "second": write(folder / "second.root", np.arange(1000, 1000 + SECOND)),
        "vectors": write(folder / "vectors.root", np.arange(FIRST), vectors=True),
    }


@pytest.fixture(params=["root", *OURS])
def way(request: pytest.FixtureRequest, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Way:
    if request.param == "rootfeed":
        return Way(rootfeed.root, rootfeed.root, files)
    if sys.platform != "linux":
        pytest.skip("the real ROOT exists for Linux only")
    real = load_root()
    # From Python 3.13 on, a forked child lets go of what is called at its parent's exit: of ROOT's
    # loaders, whose end waits for threads that are not there. Workers of later tests would hang.
    module = importlib.import_module("ROOT._pythonization._ml_dataloader")
    monkeypatch.setattr(module, "atexit", SimpleNamespace(register=lambda _: None))
    return Way(real, rootfeed.root if request.param == "nodes" else real, files)
