"""Files for the tests of frameworks, and what these are not to do on a test machine."""

from __future__ import annotations

import os

import pytest

import rootfeed as rf
from samples import File, in_a_row, open_events, write_all

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Four devices of JAX on any machine, also where it finds a GPU; it looks at this when its first array is
# made.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=4"]
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    files = in_a_row(File(800, page=90), File(500, page=170, format="RNTuple"))
    return open_events(write_all(tmp_path_factory.mktemp("frameworks"), files))
