"""Files for a module of tests: those that its `FILES` describe."""

from __future__ import annotations

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
