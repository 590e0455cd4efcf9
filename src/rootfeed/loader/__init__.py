"""The loader: joins frame, plan, engine and formats, and owns the state of an epoch."""

from rootfeed.loader.inputs import array, flat, padded, ragged
from rootfeed.loader.loader import Loader
from rootfeed.loader.sampling import Batching, Entries, Sampler, balanced, mixed
from rootfeed.loader.weights import normalized

__all__ = [
    "Batching",
    "Entries",
    "Loader",
    "Sampler",
    "array",
    "balanced",
    "flat",
    "mixed",
    "normalized",
    "padded",
    "ragged",
]
