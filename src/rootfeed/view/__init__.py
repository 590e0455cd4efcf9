"""Reading with definitions and cuts, over all entries: where sources, expressions and engine meet."""

from rootfeed.view.fetching import Fetching
from rootfeed.view.files import Files
from rootfeed.view.projection import Projection
from rootfeed.view.reading import Columns, Take, entry_bytes_of
from rootfeed.view.selection import CutCount, Selection
from rootfeed.view.skipping import Skipped, left_out
from rootfeed.view.survey import survey
from rootfeed.view.transformations import Range, Transformation
from rootfeed.view.view import View

__all__ = [
    "Columns",
    "CutCount",
    "Fetching",
    "Files",
    "Projection",
    "Range",
    "Selection",
    "Skipped",
    "Take",
    "Transformation",
    "View",
    "entry_bytes_of",
    "left_out",
    "survey",
]
