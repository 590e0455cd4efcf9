"""The lazy frame: which files, which columns, definitions and cuts, and answers about all of it."""

from rootfeed.frame.answers import Report, Statistics, Summary
from rootfeed.frame.frame import Frame, open, over
from rootfeed.frame.passing import CutCount, Passing
from rootfeed.frame.wanted import Wanted

__all__ = [
    "CutCount",
    "Frame",
    "Passing",
    "Report",
    "Statistics",
    "Summary",
    "Wanted",
    "open",
    "over",
]
