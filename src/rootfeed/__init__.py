"""Machine-learning batches straight from ROOT files, without ROOT."""

from rootfeed import errors
from rootfeed.frame import Frame, open
from rootfeed.loader import Loader, Sampler, array, balanced, flat, mixed, normalized, padded, ragged

__all__ = [
    "Frame",
    "Loader",
    "Sampler",
    "__version__",
    "array",
    "balanced",
    "errors",
    "flat",
    "mixed",
    "normalized",
    "open",
    "padded",
    "ragged",
]

__version__ = "0.1.0"
