"""Lightning: a DataModule of loaders, with its own state. Imports lightning.

`rootfeed.integrations.pytorch_lightning` has the same for the package of that name.
"""

from __future__ import annotations

from lightning.pytorch import LightningDataModule

from rootfeed.integrations.sides import Sides

__all__ = ["DataModule"]


class DataModule(Sides, LightningDataModule):
    """Loaders for ``Trainer.fit``, ``validate``, ``test`` and ``predict``.

    A job that resumes from a checkpoint, of an epoch's end or middle, goes on with the next row that was
    not used; so it does on another number of ranks. It is refused where the training data have changed.

    Parameters
    ----------
    parts : mapping of str to Loader, or Split
        ``"train"``, ``"val"``, ``"test"`` and ``"predict"``, or some of them. What ``loader.split(0.2)``
        returns trains on the first part; the second one validates and tests.
    num_workers : int
        Worker processes of each part, beside which threads decode: seldom needed. Needs torchdata.
    prefetch : int
        On a CUDA device, batches that are copied there ahead.
    **options
        Of torchdata's ``StatefulDataLoader``, where there are workers.

    Attributes
    ----------
    parts : dict of str to Loader

    Raises
    ------
    ArgumentError
        Where parts have other names, or are no loaders of their own; when training on several ranks,
        where ``tail="uneven"`` would give some a batch more. Ranks need a seed.

    Notes
    -----
    An epoch of the trainer is one of the loader. Validation and testing go through the same rows in the
    same order each time, and prediction through each row once, in the order of the files.

    Checkpoints hold a kilobyte or two of this. Those of ``fit`` are loaded where training goes on, and
    not where weights are tested or predict.

    Examples
    --------
    >>> from rootfeed.integrations.lightning import DataModule  # doctest: +SKIP
    >>> data = DataModule(loader.split({"train": 0.8, "val": 0.2}))  # doctest: +SKIP
    >>> trainer.fit(model, datamodule=data, ckpt_path="last")  # doctest: +SKIP
    """
