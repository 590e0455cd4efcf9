"""Profiles of Hypothesis. The order of the tests is shuffled by pytest-randomly."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadlines: the first call of a kernel compiles it.
settings.register_profile("local", deadline=None)
# In CI the same examples every time: a red run is about the change, and can be had again.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
