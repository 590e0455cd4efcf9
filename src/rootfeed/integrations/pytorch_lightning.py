"""`rootfeed.integrations.lightning` for the package ``pytorch_lightning``, which it imports."""

from __future__ import annotations

from pytorch_lightning import LightningDataModule

from rootfeed.integrations.sides import Sides

__all__ = ["DataModule"]


class DataModule(Sides, LightningDataModule):
    """Loaders for a trainer: see `rootfeed.integrations.lightning.DataModule`."""
