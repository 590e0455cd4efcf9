"""What was asked for, and which rows there are: their columns, classes, parts of splits, and blocks."""

from rootfeed.dataset.budget import budget_bytes, free_bytes
from rootfeed.dataset.build import Built, build
from rootfeed.dataset.dataset import (
    MADE_BYTES,
    Dataset,
    DatasetFile,
    Taken,
    longest_page,
    scratch_row_bytes,
)
from rootfeed.dataset.inputs import FixedArray, Flat, Padded, Ragged, array, flat, padded, ragged
from rootfeed.dataset.sampling import Balanced, Batching, Entries, Mixed, Sampler, balanced, mixed
from rootfeed.dataset.spec import Frames, NotFinite, Spec, checked_spec
from rootfeed.dataset.splits import Rule, Unit, divide, exactly, fractions_of
from rootfeed.dataset.strata import by_frame, columns_of
from rootfeed.dataset.structure import Columns, Features
from rootfeed.dataset.weights import Normalized, normalized

__all__ = [
    "MADE_BYTES",
    "Balanced",
    "Batching",
    "Built",
    "Columns",
    "Dataset",
    "DatasetFile",
    "Entries",
    "Features",
    "FixedArray",
    "Flat",
    "Frames",
    "Mixed",
    "Normalized",
    "NotFinite",
    "Padded",
    "Ragged",
    "Rule",
    "Sampler",
    "Spec",
    "Taken",
    "Unit",
    "array",
    "balanced",
    "budget_bytes",
    "build",
    "by_frame",
    "checked_spec",
    "columns_of",
    "divide",
    "exactly",
    "flat",
    "fractions_of",
    "free_bytes",
    "longest_page",
    "mixed",
    "normalized",
    "padded",
    "ragged",
    "scratch_row_bytes",
]
