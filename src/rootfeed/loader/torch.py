"""A loader as PyTorch's own kind of dataset. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from torch.utils.data import IterableDataset, default_collate, get_worker_info

from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch, Use

__all__ = ["TorchBatches"]


class Loader(Protocol):
    """What is needed of a `rootfeed.Loader`."""

    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
    @property
    def folds(self) -> Callable[..., list[Any]]: ...
    @property
    def split(self) -> Callable[..., Any]: ...
    def start(
        self, use: Use, worker: int = 0, workers: int = 1, base_seed: int | None = None
    ) -> Iterator[Batch]: ...
    def torch_with(self, use: Use) -> TorchBatches: ...


class TorchBatches(IterableDataset[Any]):
    """A loader whose batches are torch tensors; it counts the loader's own epochs.

    Inside a DataLoader, with ``batch_size=None``, its workers get different batches of one epoch, in
    the loader's number of batches.

    Attributes
    ----------
    loader : Loader
    """

    def __init__(self, loader: Loader, use: Use) -> None:
        self.loader = loader
        self._use = use

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
            return self.loader.start(self._use)
        base_seed = info.seed - info.id  # which all workers of an iteration have in common
        return self.loader.start(self._use, info.id, info.num_workers, base_seed)

    def __len__(self) -> int:
        """Return the number of batches of an epoch, on this rank."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch: see `Loader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is: see `Loader.state_dict`."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends: see `Loader.load_state_dict`."""
        self.loader.load_state_dict(state)

    def split(self, fraction: float | None = None, **options: Any) -> Any:
        """Divide the entries: see `Loader.split`."""
        parts = self.loader.split(fraction, **options)
        return type(parts)(*(self._of(part) for part in parts))

    def folds(self, count: int, **options: Any) -> list[Any]:
        """Divide the entries into folds: see `Loader.folds`."""
        pairs = self.loader.folds(count, **options)
        return [type(pair)(*(self._of(part) for part in pair)) for pair in pairs]

    def _of(self, loader: Loader) -> TorchBatches:
        return loader.torch_with(self._use)

    def __repr__(self) -> str:
        return f"<TorchBatches of {self.loader!r}>"


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
