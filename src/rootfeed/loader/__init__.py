"""From rows to batches, epoch after epoch: plan, threads, memory, and where the iteration is."""

from rootfeed.loader.epoch_plan import EpochPlan
from rootfeed.loader.loader import Loader, split_exactly, varied
from rootfeed.loader.parts import Split

__all__ = ["EpochPlan", "Loader", "Split", "split_exactly", "varied"]
