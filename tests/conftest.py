"""Profiles of Hypothesis, and the order of files. That of tests is shuffled by pytest-randomly."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# No deadlines: the first call of a kernel compiles it.
settings.register_profile("local", deadline=None)
# In CI the same examples every time: a red run is about the change, and can be had again.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# Files that come first, in this order: those that fork many workers, which costs as much as the process
# holds by then; and those of few tests that take long, which at last would keep one process busy alone.
FORKING = ["test_torch", "test_virtual_epochs", "test_lightning"]
FIRST = [*FORKING, "test_distributed", "test_lifetime", "test_memory"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {name: place for place, name in enumerate(FIRST)}
        items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))
