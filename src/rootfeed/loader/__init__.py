"""The loader: joins frame, plan, engine and formats, and owns the state of an epoch."""

from rootfeed.loader.inputs import flat, padded, ragged
from rootfeed.loader.loader import Batches, Loader

__all__ = ["Batches", "Loader", "flat", "padded", "ragged"]
