"""Accelerate: the batches of each process, with their state. Imports accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from accelerate.data_loader import DataLoaderStateMixin
from accelerate.state import GradientState

from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch
from rootfeed.integrations.parts import check_even
from rootfeed.loader import Loader
from rootfeed.loader.torch import TorchBatches

__all__ = ["Batches", "prepare"]


class Batches(TorchBatches, DataLoaderStateMixin):
    """A loader's batches, of this process and on its device: what `prepare` returns.

    ``accelerator.prepare`` leaves them alone. ``accelerator.accumulate`` knows which batch is the last
    one of an epoch. Otherwise they are what ``loader.torch()`` returns.
    """

    def __init__(self, loader: Loader, format: Any) -> None:
        super().__init__(loader, format)
        self.gradient_state = GradientState()

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch, or go on where a loaded state ends."""
        last = self._pipeline.next_batches
        self.begin()
        try:
            for number, batch in enumerate(super().__iter__(), 1):
                self.end_of_dataloader = number >= last
                yield batch
        finally:
            self.end()

    @property
    def dataset(self) -> NoReturn:
        """Refuse ``skip_first_batches``, which asks for it: rows would be left out.

        Raises
        ------
        ArgumentError
        """
        raise ArgumentError(
            "after accelerator.load_state these batches go on where the state ends: iterate over them, "
            "without skip_first_batches."
        )


def prepare(accelerator: Any, loader: Loader, *, register: bool = True, prefetch: int = 2) -> Batches:
    """Return a loader's batches for the processes of an accelerator.

    Each process reads its own rows, and no row is sent from one to another. A DataLoader of
    ``loader.torch()`` that ``accelerator.prepare`` has wrapped would deal one process's batches among
    all: it is refused when it is iterated over.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
    loader : Loader
        With a seed, where there are several processes.
    register : bool
        Make ``accelerator.save_state`` save where the iteration is, and ``load_state`` go on there, also
        with another number of processes. Say False for what is only evaluated, which begins anew.
    prefetch : int
        On a CUDA device, batches that are copied there ahead.

    Returns
    -------
    Batches
        On the accelerator's device; on a CPU they share memory with what was gathered.

    Raises
    ------
    ArgumentError
        Where the loader does not know of the processes, or ``tail="uneven"`` would give some a batch
        more of what is trained on.

    Examples
    --------
    >>> from rootfeed.integrations.accelerate import prepare  # doctest: +SKIP
    >>> batches = prepare(accelerator, loader)  # doctest: +SKIP
    >>> model, optimizer = accelerator.prepare(model, optimizer)  # doctest: +SKIP
    """
    if not isinstance(loader, Loader):
        raise ArgumentError(f"prepare takes a rootfeed.Loader, not its batches: got {loader!r}.")
    spec, ranks = loader._pipeline.spec, loader._pipeline.shard().world_size
    if spec.ranks is None and ranks != accelerator.num_processes:
        raise ArgumentError(
            f"the accelerator has {accelerator.num_processes} processes, which torch.distributed does "
            "not know: make the loader with rank=accelerator.process_index and "
            "world_size=accelerator.num_processes."
        )
    if register:
        check_even(loader)
    device = None if accelerator.device.type == "cpu" else accelerator.device
    batches = Batches(loader, loader.torch(device, prefetch=prefetch)._format)
    if register:
        accelerator.register_for_checkpointing(batches)
    return batches
