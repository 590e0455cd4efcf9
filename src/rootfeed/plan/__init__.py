"""Which rows, in which order: index arithmetic without I/O and without threads.

Everything here is a pure function of the dataset's index, the options and the seed, so that it can be
tested to exhaustion without a file.
"""

from rootfeed.plan.blocks import Boundaries, boundaries, cut, page_entries
from rootfeed.plan.budget import SCRATCH_SHARE, Sizes, choose_sizes, needed_bytes
from rootfeed.plan.epoch import Chunk, deal
from rootfeed.plan.random import random_key
from rootfeed.plan.sieve import Sieve, Split

__all__ = [
    "SCRATCH_SHARE",
    "Boundaries",
    "Chunk",
    "Sieve",
    "Sizes",
    "Split",
    "boundaries",
    "choose_sizes",
    "cut",
    "deal",
    "needed_bytes",
    "page_entries",
    "random_key",
]
