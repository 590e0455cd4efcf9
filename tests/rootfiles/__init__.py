"""Files that the real ROOT writes for the tests, and ROOT's own reading of them as the truth.

`CASES` is the table that tests are parametrized over; `read_with_root` tells what each file holds.
ROOT is imported only when one of the functions is called (about 1.5 s, once for a process; it
exists for Linux only), so that tests can be collected without it.
"""

from __future__ import annotations

from .cases import CASES, Case
from .environment import COMPRESSIONS, load_root
from .oracle import read_with_rdataframe, read_with_root
from .rntuple import Field, flat_rntuple, write_fields
from .ttree import flat_ttree, no_tree

__all__ = [
    "CASES",
    "COMPRESSIONS",
    "Case",
    "Field",
    "flat_rntuple",
    "flat_ttree",
    "load_root",
    "no_tree",
    "read_with_rdataframe",
    "read_with_root",
    "write_fields",
]
