"""What Lightning's two packages train and evaluate on. Imports neither; imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rootfeed.arguments import integer
from rootfeed.errors import ArgumentError, StateError, nearest
from rootfeed.loader import Loader, Split
from rootfeed.loader import varied

__all__ = ["Sides"]

_ROLES = ("train", "val", "test", "predict")


class Sides:
    """The loaders of a LightningDataModule: see `rootfeed.integrations.lightning.DataModule`."""

    trainer: Any

    def __init__(
        self,
        parts: Mapping[str, Loader] | Split[Loader],
        *,
        num_workers: int = 0,
        prefetch: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        self.parts = _checked(parts)
        self._workers = integer("num_workers", num_workers, least=0)
        self._prefetch = integer("prefetch", prefetch, least=0)
        self._options = options
        if options and not num_workers:
            raise ArgumentError(f"{', '.join(options)}: of workers, and there are none: num_workers=2.")
        self._began: tuple[int, int] | None = None  # the trainer's epoch, and the loader's in it
        self._resumed: tuple[int, int] | None = None  # the same, where a checkpoint was made
        self._counted = False
        self._sides: dict[str, _Side] = {}

    # --- what Lightning asks for --------------------------------------------------------------

    def train_dataloader(self) -> Any:
        """Return the batches of the part ``train``, whose epochs are the trainer's."""
        loader = self._part("train")
        if loader._pipeline.spec.tail == "uneven" and loader._pipeline.shard().world_size > 1:
            raise ArgumentError(
                'tail="uneven" gives some ranks a batch more, for which they would wait for the others: '
                'choose tail="pad" or tail="drop" for the part "train".'
            )
        if self._resumed is not None and not self._counted:
            self._count_batches(loader)
        return self._side("train", self._begin)

    def val_dataloader(self) -> Any:
        """Return the batches of the part ``val``; none while fitting, where there is no such part."""
        if "val" not in self.parts and self.trainer.state.fn == "fit":
            return []
        return self._evaluation("val")

    def test_dataloader(self) -> Any:
        """Return the batches of the part ``test``."""
        return self._evaluation("test")

    def predict_dataloader(self) -> Any:
        """Return the batches of the part ``predict``: each row once, in the order of the files."""
        return self._evaluation("predict")

    def setup(self, stage: str) -> None:
        """Forget where an earlier training was."""
        self._began = self._resumed = None

    def teardown(self, stage: str) -> None:
        """Let workers end."""
        for side in self._sides.values():
            side.close()

    def on_exception(self, exception: BaseException) -> None:
        """Let workers end."""
        self.teardown("fit")

    def state_dict(self) -> dict[str, Any]:
        """Return where training is, for a checkpoint."""
        if "train" not in self.parts:
            return {}
        loader = self.parts["train"]
        began = self._began or self._resumed or (self.trainer.current_epoch, _epoch(loader))
        return {"train": loader.state_dict(), "began": list(began)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with training where a checkpoint was made.

        Raises
        ------
        StateError
            Where files, columns, cuts, seed, batch size or other options of the part ``train`` differ.
        """
        if self.trainer.state.fn != "fit":
            return  # weights are evaluated on whatever data
        try:
            self._part("train").load_state_dict(state["train"])
        except StateError as error:
            raise StateError(
                f"{error}\nTo begin anew with the weights of the checkpoint, load them into the model, "
                "and call fit without ckpt_path."
            ) from None
        trainer_epoch, epoch = state["began"]
        self._resumed, self._counted = (trainer_epoch, epoch), False

    # --- how ----------------------------------------------------------------------------------

    def _part(self, role: str) -> Loader:
        if role not in self.parts:
            raise ArgumentError(f"this DataModule has no part {role!r}, only {list(self.parts)}.")
        return self.parts[role]

    def _evaluation(self, role: str) -> Any:
        loader = self._part(role)
        # Always the same rows in the same order, whatever was looked at before.
        return self._side(role, lambda: loader.set_epoch(0))

    def _side(self, role: str, before: Callable[[], None]) -> _Side:
        self._sides[role] = _Side(lambda: self._batches(self.parts[role]), before)
        return self._sides[role]

    def _batches(self, loader: Loader) -> Any:
        device = self.trainer.strategy.root_device
        if not self._workers:
            ahead = device if device.type == "cuda" else None
            return loader.torch(ahead, prefetch=self._prefetch)
        try:
            from torchdata.stateful_dataloader import StatefulDataLoader
        except ImportError:
            raise ArgumentError(
                "workers have the states of their batches, for which torchdata is needed: "
                "pip install torchdata. Or leave out num_workers: threads decode while a model trains."
            ) from None
        return StatefulDataLoader(
            loader.torch(),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=device.type == "cuda",
            **self._options,
        )

    def _begin(self) -> None:
        """Begin with the epoch that follows from a checkpoint; Lightning knows now which one it is."""
        loader, trainer_epoch = self.parts["train"], self.trainer.current_epoch
        if self._resumed is not None:
            before, epoch = self._resumed
            if _epoch(loader) < (wanted := epoch + trainer_epoch - before):
                loader.set_epoch(wanted)
        self._began = trainer_epoch, _epoch(loader)

    def _count_batches(self, loader: Loader) -> None:
        """Tell Lightning how many batches of the epoch are over, if other ranks have gone on so far.

        It compares what was counted on the ranks before with the batches of an epoch on the ranks now.
        """
        self._counted = True
        whole = self.trainer.limit_train_batches == 1.0
        if self._workers or not whole or not self.trainer.fit_loop.restarting:
            return
        assert self._resumed is not None
        ended = _epoch(loader) > self._resumed[1]
        over = len(loader) - (0 if ended else loader._pipeline.next_batches)
        counted = self.trainer.fit_loop.epoch_loop.batch_progress.current
        more = over - counted.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(counted, name, getattr(counted, name) + more)


class _Side:
    """Batches that begin when the first one is asked for, not when Lightning makes an iterator.

    Parameters
    ----------
    make : function
        Returns the batches, whose workers end when they are let go.
    before : function
        Called before each iteration.
    """

    def __init__(self, make: Callable[[], Any], before: Callable[[], None]) -> None:
        self._make = make
        self._before = before
        self._made: Any = None

    @property
    def _batches(self) -> Any:
        if self._made is None:
            self._made = self._make()
        return self._made

    def __iter__(self) -> Iterator[Any]:
        self._before()
        yield from self._batches

    def __len__(self) -> int:
        return len(self._batches)

    def state_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = self._batches.state_dict()
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._batches.load_state_dict(state)

    def close(self) -> None:
        self._made = None


def _epoch(loader: Loader) -> int:
    """Return the loader's epoch in progress, or the next one."""
    found: int = loader.state_dict()["epoch"]
    return found


def _checked(parts: Mapping[str, Loader] | Split[Loader]) -> dict[str, Loader]:
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
                f'"train" and {role!r} are the same loader, which counts one epoch after the other: make '
                "one for each."
            )
    found = dict(parts)
    if "predict" in found:  # whoever gets predictions must know which rows they are for
        whole: dict[str, Any] = {"drop_last": False, "tail": "uneven", "epoch_batches": None}
        found["predict"] = varied(found["predict"], None, shuffle=False, **whole)
    return found
