"""The hot loops: decode, pack, gather, permute, choose.

Every kernel writes into an argument, releases the GIL and never checks bounds: the callers do. They
work on unsigned words, so that few of them are compiled: a float travels as the unsigned integer of its
size. Compilation happens on the first call and is kept on disk by Numba.
"""

from rootfeed.kernels.choice import (
    choose,
    divide,
    permute,
    positions,
    scatter,
    shuffle_buckets,
    words,
)
from rootfeed.kernels.decoding import (
    all_finite,
    count_inexact,
    decode_pages,
    mantissa,
    unpack,
    unsplit,
    unzigzag,
)
from rootfeed.kernels.heaps import take_objects
from rootfeed.kernels.jagged import basket_ends, page_ends, strip
from rootfeed.kernels.lzf import unlzf
from rootfeed.kernels.mixing import apportion, compose, draw, stir, stir_bytes
from rootfeed.kernels.padding import (
    first_unequal,
    kept_elements,
    lengths_of,
    pad,
    sort_descending,
    take_elements,
)
from rootfeed.kernels.pages import check_keys, join_pages, select_pages
from rootfeed.kernels.rows import gather, gather_padded, gather_ragged, pack

__all__ = [
    "all_finite",
    "apportion",
    "basket_ends",
    "check_keys",
    "choose",
    "compose",
    "count_inexact",
    "decode_pages",
    "divide",
    "draw",
    "first_unequal",
    "gather",
    "gather_padded",
    "gather_ragged",
    "join_pages",
    "kept_elements",
    "lengths_of",
    "mantissa",
    "pack",
    "pad",
    "page_ends",
    "permute",
    "positions",
    "scatter",
    "select_pages",
    "shuffle_buckets",
    "sort_descending",
    "stir",
    "stir_bytes",
    "strip",
    "take_elements",
    "take_objects",
    "unlzf",
    "unpack",
    "unsplit",
    "unzigzag",
    "words",
]
