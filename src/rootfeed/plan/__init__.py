"""Which rows, in which order: index arithmetic without I/O and without threads.

Everything here is a pure function of the dataset's index, the options and the seed, so that it can be
tested to exhaustion without a file.
"""

from rootfeed.plan.blocks import Boundaries, boundaries, cut, page_bytes, page_entries
from rootfeed.plan.budget import Sizes, budget_for, choose_sizes, needed_bytes
from rootfeed.plan.epoch import Epoch, deal
from rootfeed.plan.masks import BitMask, all_set, bit_mask, choose_among, counted, members
from rootfeed.plan.mixing import (
    MOST_DECOMPRESSED,
    MOST_LACKING_BITS,
    Found,
    Stock,
    found_lacking,
    lacking_bits,
)
from rootfeed.plan.random import random_key
from rootfeed.plan.reads import Read, Reads
from rootfeed.plan.rows import Order, own_order, used
from rootfeed.plan.shares import BatchQuotas, Shard, Tail, balanced_quotas, plain_quotas
from rootfeed.plan.visits import Offered

__all__ = [
    "MOST_DECOMPRESSED",
    "MOST_LACKING_BITS",
    "BatchQuotas",
    "BitMask",
    "Boundaries",
    "Epoch",
    "Found",
    "Offered",
    "Order",
    "Read",
    "Reads",
    "Shard",
    "Sizes",
    "Stock",
    "Tail",
    "all_set",
    "balanced_quotas",
    "bit_mask",
    "boundaries",
    "budget_for",
    "choose_among",
    "choose_sizes",
    "counted",
    "cut",
    "deal",
    "found_lacking",
    "lacking_bits",
    "members",
    "needed_bytes",
    "own_order",
    "page_bytes",
    "page_entries",
    "plain_quotas",
    "random_key",
    "used",
]
