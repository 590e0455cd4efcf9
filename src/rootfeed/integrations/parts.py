"""Parts of a dataset, as trainers name and iterate over them. Imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rootfeed.errors import ArgumentError, nearest
from rootfeed.loader import Loader, Split, varied

__all__ = ["Side", "check_even", "checked", "epoch_of", "from_workers"]

_ROLES = ("train", "val", "test", "predict")


class Side:
    """Batches that begin when the first one is asked for, not when Lightning makes an iterator.

    Parameters
    ----------
    make : function
        Returns the batches, whose workers end when they are let go.
    before : function
        Called before each iteration.
    sized : bool
        Whether all epochs have as many batches. Lightning asks for the number of the first one only.
    """

    def __init__(self, make: Callable[[], Any], before: Callable[[], None], sized: bool = True) -> None:
        self._make = make
        self._before = before
        self._sized = sized
        self._made: Any = None
        self._resumes = False

    @property
    def _batches(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __iter__(self) -> Iterator[Any]:
        """Begin, when the first batch is asked for."""
        self._before()
        self._resumes = False
        yield from self._batches

    def __len__(self) -> int:
        if not self._sized:
            raise TypeError("epochs differ in length: each goes on until there are no more batches.")
        return len(self._batches)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is; Lightning asks in the middle of an epoch."""
        found: dict[str, Any] = self._batches.state_dict()
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends."""
        self._batches.load_state_dict(state)
        self._resumes = True

    def begin_anew(self) -> None:
        """Let workers forget a state with which they have not begun yet."""
        if self._resumes:
            self.close()

    def close(self) -> None:
        """Let workers end; asking for batches starts others."""
        self._made = None


def from_workers(loader: Loader, device: Any, workers: int, options: Mapping[str, Any]) -> Any:
    """Return a loader's batches from worker processes, which have states, too.

    Raises
    ------
    ArgumentError
        Where torchdata is missing.
    """
    try:
        from torchdata.stateful_dataloader import StatefulDataLoader
    except ImportError:
        raise ArgumentError(
            "workers have the states of their batches, for which torchdata is needed: "
            "pip install torchdata. Or leave out num_workers: threads decode while a model trains."
        ) from None
    made: dict[str, Any] = {"num_workers": workers, "pin_memory": device.type == "cuda", **options}
    return StatefulDataLoader(loader.torch(), batch_size=None, **made)


def check_even(loader: Loader) -> None:
    """Refuse to train with more batches on some ranks than on others.

    Raises
    ------
    ArgumentError
    """
    if loader._pipeline.spec.tail == "uneven" and loader._pipeline.shard().world_size > 1:
        raise ArgumentError(
            'tail="uneven" gives some ranks a batch more, for which they would wait for the others: '
            'make the loader with tail="pad" or tail="drop".'
        )


def epoch_of(loader: Loader) -> int:
    """Return the loader's epoch in progress, or the next one."""
    found: int = loader.state_dict()["epoch"]
    return found


def checked(parts: Mapping[str, Loader] | Split[Loader]) -> dict[str, Loader]:
    """Return loaders by Lightning's names for their parts, or refuse.

    Raises
    ------
    ArgumentError
    """
    if isinstance(parts, Split):
        train, test = parts
        parts = {"train": train, "val": test, "test": test}
    if not isinstance(parts, Mapping) or not parts:
        raise ArgumentError(
            "a DataModule takes what loader.split returns, or a mapping of parts to loaders, such as "
            f'{{"train": ..., "val": ...}}; got {parts!r}.'
        )
    for role, loader in parts.items():
        if role not in _ROLES:
            raise ArgumentError(f"no part of Lightning's: {role!r}. {nearest(str(role), _ROLES)}")
        if not isinstance(loader, Loader):
            raise ArgumentError(f"the part {role!r} must be a rootfeed.Loader, got {loader!r}.")
    trained = parts.get("train")
    for role, loader in parts.items():
        if role != "train" and loader is trained:
            raise ArgumentError(
                f'"train" and {role!r} are the same loader, which counts one epoch after the other: '
                "make one for each."
            )
    found = dict(parts)
    if "predict" in found:  # whoever gets predictions must know which rows they are for
        whole: dict[str, Any] = {"drop_last": False, "tail": "uneven", "epoch_batches": None}
        found["predict"] = varied(found["predict"], None, shuffle=False, **whole)
    return found
