"""A loader as Keras' own kind of dataset, whatever the backend. Imports keras."""

from __future__ import annotations

from typing import Any

import keras

from rootfeed.formats import Batch, Format
from rootfeed.loader.ahead import Ahead
from rootfeed.loader.wrapped import Wrapped

__all__ = ["KerasBatches"]


class KerasBatches(Wrapped, keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """A loader whose batches Keras takes, as NumPy arrays; it counts the loader's own epochs.

    Keras asks for batches by their numbers, in an order of its own: it gets them in the loader's order,
    whatever the number. Before it trains, it may look at some of them, to build a model: these come
    again.

    Attributes
    ----------
    loader : Loader
    """

    def __init__(self, loader: Any, format: Format) -> None:
        Wrapped.__init__(self, loader, format)
        keras.utils.PyDataset.__init__(self)
        self._ahead: Ahead | None = None
        self._begins = True
        self._used = False

    @property
    def num_batches(self) -> int:
        """Batches of an epoch. Keras asks for it before it goes through the batches, each time."""
        self._begins = True
        return len(self)

    def __getitem__(self, index: int) -> Batch:
        """Return the next batch, whatever the index.

        Raises
        ------
        IndexError
            After the last one, until `num_batches` is asked for.
        """
        if self._begins or self._ahead is None:
            self._leave()
            self._ahead = Ahead(self._pipeline, self._format)
        for batch in self._ahead:
            return batch
        raise IndexError(f"an epoch has {len(self)} batches: ask for num_batches before the next one.")

    def on_epoch_end(self) -> None:
        """Tell that an epoch of Keras has ended; or, where it begins anew, that it has looked enough."""
        if self._begins or (self._ahead is not None and self._ahead.complete):
            self._leave()
        else:
            self._used = True

    def _leave(self) -> None:
        """Let what comes next begin where this has, if Keras has only looked at it."""
        if self._ahead is not None:
            self._ahead.close(used=self._used or self._ahead.complete)
        self._ahead, self._begins, self._used = None, False, False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ahead": None, "_begins": True, "_used": False}
