"""In Lightning, a loader's epochs are the trainer's.

Lightning tells a resumed epoch to samplers, and hands states of loaders over in the middle of an epoch.
Where a job begins with an epoch, its new loader would begin with epoch 0, in each job of a chain. So a
callback tells it which one it is; Lightning finds it by the entry points of this distribution.

Every trainer gets the callback, also where nobody has loaded rootfeed. That rootfeed need not be loaded
for this, is why the module is not part of the package.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

__all__ = ["callbacks", "callbacks_of", "callbacks_of_pytorch_lightning"]

_DEPTH = 6  # of what loaders are looked for in: collections, DataLoaders, datasets around datasets
_WIDTH = 64  # a longer list is one of data

_TOO_LATE = (
    "training goes on with epoch {0}, but workers of a DataLoader may have begun with another one of "
    "rootfeed's, and this version of Lightning gives no way to begin again. "
    "Call batches.set_epoch({0}) before fit()."
)

_CUT = (
    "epochs of {0!r} differ in length, and Lightning ends each after {1} batches, as many as the first "
    "one has: rows would be left out. Train with rootfeed.integrations.lightning.DataModule, or with "
    "Trainer(reload_dataloaders_every_n_epochs=1)."
)


def callbacks() -> Any:
    """Return the callback for trainers of ``lightning``."""
    return callbacks_of("lightning.pytorch")


def callbacks_of_pytorch_lightning() -> Any:
    """Return the callback for trainers of ``pytorch_lightning``."""
    return callbacks_of("pytorch_lightning")


def callbacks_of(package: str) -> Any:
    """Return the callback for a trainer of one of Lightning's two packages.

    Parameters
    ----------
    package : str
        Module that has Lightning's class ``Callback``.

    Returns
    -------
    Callback
    """
    base: Any = import_module(package).Callback

    class RootfeedEpochs(base):  # type: ignore[misc]  # known only here
        """Tells rootfeed's loaders the trainer's epoch, unless somebody has chosen another."""

        def __init__(self) -> None:
            self._first = True
            self._resumes = False
            self._following: list[Any] = []

        def __reduce__(self) -> Any:
            return callbacks_of, (package,)  # a trainer is pickled for processes that are spawned

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._first = True
            self._look_at_lengths(trainer)
            # In the middle of an epoch, loaders go on where their states say. Where the epoch is over
            # already, Lightning may begin the next one without a word.
            self._resumes = getattr(trainer.fit_loop, "restarting", True)
            progress = _inside(trainer.fit_loop, "epoch_progress", "current")
            if not self._resumes or (progress and progress.ready == progress.completed):
                self._follow(trainer)

        def _look_at_lengths(self, trainer: Any) -> None:
            batches = getattr(trainer, "num_training_batches", float("inf"))
            asked = getattr(trainer, "reload_dataloaders_every_n_epochs", 0) == 1
            if batches == float("inf") or asked or getattr(trainer, "limit_train_batches", 1.0) != 1.0:
                return
            for loader in loaders(getattr(trainer, "train_dataloader", None)):
                if loader.sampling is not None and loader.sampling.selects:
                    warnings.warn(_CUT.format(loader.sampling, batches), stacklevel=2)

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self._follow(trainer)

        def _follow(self, trainer: Any) -> None:
            self._following = list(loaders(getattr(trainer, "train_dataloader", None)))
            # Where a trainer overfits batches, it needs the same ones again and again.
            epoch = 0 if getattr(trainer, "overfit_batches", 0) else trainer.current_epoch
            # A trainer's limit ends an epoch, of which the state that it has loaded is the middle.
            is_last = _inside(trainer.fit_loop, "epoch_loop", "batch_progress", "is_last_batch")
            is_new = self._first and self._resumes and bool(is_last)
            followed = [loader.follow(epoch, is_new) for loader in self._following]
            if self._first and any(followed):
                # Lightning makes the first iterator before a callback can say which epoch it is.
                fetcher = getattr(trainer.fit_loop, "_data_fetcher", None)
                if fetcher is None:
                    warnings.warn(_TOO_LATE.format(epoch), stacklevel=2)
                else:
                    fetcher.teardown()
                    iter(fetcher)
            self._first = False

        def on_train_batch_start(self, *_: Any) -> None:
            self._first = False

        def _let_go(self) -> None:
            for loader in self._following:
                loader.follow(None)
            self._following = []

        def on_train_end(self, *_: Any) -> None:
            self._let_go()

        def on_exception(self, *_: Any) -> None:
            self._let_go()

    return RootfeedEpochs()


def _inside(where: Any, *names: str) -> Any:
    """Return an attribute's attribute, or None where this version of Lightning has none."""
    for name in names:
        where = getattr(where, name, None)
    return where


def loaders(where: Any) -> Iterator[Any]:
    """Find rootfeed's loaders in whatever a trainer trains on.

    Parameters
    ----------
    where : Any
        A loader, a DataLoader, a dataset that has one among its attributes, or collections of them.

    Yields
    ------
    rootfeed.Loader
    """
    kind = getattr(sys.modules.get("rootfeed"), "Loader", None)  # None: nobody can have made one
    if kind is not None:
        yield from _found(where, kind, _DEPTH, set())


def _found(where: Any, kind: type, depth: int, seen: set[int]) -> Iterator[Any]:
    if depth == 0 or id(where) in seen or isinstance(where, str | bytes):
        return
    seen.add(id(where))
    if isinstance(where, kind):
        yield where
        return
    inside: Iterable[Any] = ()
    if isinstance(where, list | tuple | dict):
        inside = () if len(where) > _WIDTH else where.values() if isinstance(where, dict) else where
    elif hasattr(type(where), "__iter__"):
        inside = vars(where).values() if hasattr(where, "__dict__") else ()
    for each in list(inside):
        yield from _found(each, kind, depth - 1, seen)
