"""Files for a module of tests: those that its `FILES` describe."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import rootfeed as rf
from samples import open_events, write_all


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])


@pytest.fixture(scope="module")
def paths(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    return write_all(folder / "files", request.module.FILES)


@pytest.fixture(scope="module")
def frame(paths: list[str]) -> rf.Frame:
    return open_events(paths)


@pytest.fixture
def quiet_workers() -> Iterator[None]:
    """No word of more workers than processors, nor (from Python 3.12 on) of forks beside threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)  # by torchdata
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_threads_are_left() -> Iterator[None]:
    """A loader's threads end with it: those that outlive a file's tests, the loader itself holds."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("rootfeed"):
            thread.join(30)  # on a busy machine
            assert not thread.is_alive()
