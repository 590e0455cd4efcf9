"""What Lightning's two packages train and evaluate on. Imports neither; imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rootfeed.arguments import integer
from rootfeed.errors import ArgumentError, StateError
from rootfeed.integrations.parts import Side, check_even, checked, epoch_of, from_workers
from rootfeed.loader import Loader, Split

__all__ = ["Sides"]


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
        self.parts = checked(parts)
        self._workers = integer("num_workers", num_workers, least=0)
        self._prefetch = integer("prefetch", prefetch, least=0)
        self._options = options
        if options and not num_workers:
            raise ArgumentError(f"{', '.join(options)}: of workers, and there are none: num_workers=2.")
        self._began: tuple[int, int] | None = None  # the trainer's epoch, and the loader's in it
        self._resumed: tuple[int, int] | None = None  # the same, where a checkpoint was made
        self._counted = False
        self._sides: dict[str, Side] = {}

    # --- what Lightning asks for --------------------------------------------------------------

    def train_dataloader(self) -> Any:
        """Return the batches of the part ``train``."""
        loader = self._part("train")
        check_even(loader)
        if self._resumed is not None and not self._counted:
            self._count_batches(loader)
        sampling = loader.sampling
        return self._side("train", self._begin, sized=sampling is None or not sampling.selects)

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
        began = self._began or self._resumed or (self.trainer.current_epoch, epoch_of(loader))
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
        self._resumed, self._counted = tuple(state["began"]), False

    # --- how ----------------------------------------------------------------------------------

    def _part(self, role: str) -> Loader:
        if role not in self.parts:
            raise ArgumentError(f"this DataModule has no part {role!r}, only {list(self.parts)}.")
        return self.parts[role]

    def _evaluation(self, role: str) -> Any:
        # Always the same rows in the same order, whatever was looked at before.
        return self._side(role, partial(self._part(role).set_epoch, 0))

    def _side(self, role: str, before: Callable[[], None], sized: bool = True) -> Side:
        self._sides[role] = Side(lambda: self._batches(self.parts[role]), before, sized)
        return self._sides[role]

    def _batches(self, loader: Loader) -> Any:
        device = self.trainer.strategy.root_device
        if self._workers:
            return from_workers(loader, device, self._workers, self._options)
        return loader.torch(device if device.type == "cuda" else None, prefetch=self._prefetch)

    def _begin(self) -> None:
        """Begin with the epoch that follows from a checkpoint; Lightning knows now which one it is."""
        loader, trainer_epoch = self.parts["train"], self.trainer.current_epoch
        if self.trainer.overfit_batches:
            loader.set_epoch(0)  # the same batches again and again
        elif self._resumed is not None:
            before, epoch = self._resumed
            if epoch_of(loader) < (wanted := epoch + trainer_epoch - before):
                loader.set_epoch(wanted)
                self._sides["train"].begin_anew()
        self._began = trainer_epoch, epoch_of(loader)

    def _count_batches(self, loader: Loader) -> None:
        """Tell Lightning how many batches of the epoch are over, if other ranks have gone on so far.

        It compares what was counted on the ranks before with the batches of an epoch on the ranks now.
        """
        self._counted = True
        whole = self.trainer.limit_train_batches == 1.0
        if self._workers or not whole or not self.trainer.fit_loop.restarting:
            return
        assert self._resumed is not None
        ended = epoch_of(loader) > self._resumed[1]
        over = len(loader) - (0 if ended else loader._pipeline.next_batches)
        counted = self.trainer.fit_loop.epoch_loop.batch_progress.current
        more = over - counted.ready
        for name in ("ready", "started", "processed", "completed"):
            setattr(counted, name, getattr(counted, name) + more)
