"""The lazy frame: which files, which columns, definitions and cuts, and answers about all of it."""

from rootfeed.frame.answers import Report, Statistics, Summary
from rootfeed.frame.arrays import arrays
from rootfeed.frame.frame import Frame, from_arrays, open, over, view_of

__all__ = [
    "Frame",
    "Report",
    "Statistics",
    "Summary",
    "arrays",
    "from_arrays",
    "open",
    "over",
    "view_of",
]
