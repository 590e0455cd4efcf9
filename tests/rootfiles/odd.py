"""Trees in which names, places and types are not what they seem; see ``odd.cpp``."""

from __future__ import annotations

import functools
from typing import Any

from .environment import declare, load_root

ENTRIES = 300


@functools.cache
def load_odd() -> Any:
    """Compile `odd.cpp`; return what it declares."""
    root = load_root()
    declare(root, "odd.cpp")
    return root.rootfeed_test
