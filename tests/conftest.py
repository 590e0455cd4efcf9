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

# Few tests that take long each: begun last, they would keep one process busy while the others are done.
LONG = {"test_distributed", "test_lifetime", "test_lightning", "test_memory", "test_torch"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.stem not in LONG)
