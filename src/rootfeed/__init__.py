"""Machine-learning batches straight from ROOT files, without ROOT."""

from rootfeed import errors
from rootfeed.dataset import (
    Balanced,
    Batching,
    Entries,
    FixedArray,
    Flat,
    Mixed,
    Normalized,
    Padded,
    Ragged,
    Sampler,
    array,
    balanced,
    flat,
    mixed,
    normalized,
    padded,
    ragged,
)
from rootfeed.frame import Frame, Report, Statistics, Summary, from_arrays, open
from rootfeed.loader import EpochPlan, Loader, Split
from rootfeed.schema import ColumnType
from rootfeed.view import CutCount

__all__ = [
    "Balanced",
    "Batching",
    "ColumnType",
    "CutCount",
    "Entries",
    "EpochPlan",
    "FixedArray",
    "Flat",
    "Frame",
    "Loader",
    "Mixed",
    "Normalized",
    "Padded",
    "Ragged",
    "Report",
    "Sampler",
    "Split",
    "Statistics",
    "Summary",
    "__version__",
    "array",
    "balanced",
    "errors",
    "flat",
    "from_arrays",
    "mixed",
    "normalized",
    "open",
    "padded",
    "ragged",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "TorchBatches":  # whose module imports torch: not in `__all__`, for `import *`
        from rootfeed.loader.torch import TorchBatches

        return TorchBatches
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "TorchBatches"})
