"""A loader as PyTorch's own kind of dataset. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, default_collate, get_worker_info

from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch
from rootfeed.loader.wrapped import Wrapped

__all__ = ["TorchBatches"]


class TorchBatches(Wrapped, IterableDataset[Any]):
    """A loader whose batches are torch tensors; it counts the loader's own epochs.

    Inside a DataLoader, with ``batch_size=None``, its workers get different batches of one epoch, in
    the loader's number of batches.

    Attributes
    ----------
    loader : Loader
    """

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch, or go on where a loaded state ends.

        In a worker of a DataLoader, which is a copy of the main process: the epoch that was chosen there
        by `set_epoch`, or by a state. Where none was, one whose order follows from the loader's seed and
        the seed that the DataLoader draws for each iteration, so that `torch.manual_seed` fixes it.
        Persistent workers count on from their first iteration.

        Raises
        ------
        ArgumentError
            Where a DataLoader would make batches of these batches.
        """
        _check_collation(sys._getframe(1).f_locals.get("self"))
        info = get_worker_info()
        if info is None:
            return self._pipeline.start(self._format)
        base_seed = info.seed - info.id  # which all workers of an iteration have in common
        return self._pipeline.start(self._format, info.id, info.num_workers, base_seed)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch: see `Loader.set_epoch`.

        Raises
        ------
        ArgumentError
            Where a DataLoader that Accelerate has prepared chooses it.
        """
        if sys._getframe(1).f_globals.get("__name__") == "accelerate.data_loader":
            # It would deal one rank's batches among all, and begin with epoch 0 in a job that resumes.
            raise ArgumentError(
                "accelerator.prepare deals the batches of a DataLoader among the processes, and these "
                "are dealt already: rows would be lost. Instead of a DataLoader, write "
                "batches = rootfeed.integrations.accelerate.prepare(accelerator, loader)."
            )
        super().set_epoch(epoch)


def _check_collation(caller: Any) -> None:
    """Refuse to be collated: the arrays would get a dimension more, and nothing would say so.

    A DataLoader tells its dataset nothing of its batch size; but what asks for the iterator is its
    fetcher, which knows. A function of the user's own that collates, such as one that joins batches,
    is left alone, as is whatever does not look like a fetcher.
    """
    collate = getattr(caller, "collate_fn", None)
    if collate is default_collate and getattr(caller, "auto_collation", False):
        raise ArgumentError(
            "a DataLoader with a batch_size (1, if none is given) would make batches of these batches, "
            "with a dimension more. They are whole batches: write DataLoader(batches, batch_size=None), "
            "and choose their size where the loader is made, rootfeed.Loader(..., batch_size=...)."
        )
