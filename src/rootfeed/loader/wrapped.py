"""A loader whose batches are a framework's own: the same epochs, states and splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rootfeed.formats import Batch, Format
from rootfeed.loader.parts import Split
from rootfeed.loader.pipeline import Pipeline

__all__ = ["Wrapped"]


class Wrapped:
    """A loader in another format; it counts the loader's own epochs.

    Attributes
    ----------
    loader : Loader
    """

    def __init__(self, loader: Any, format: Format) -> None:
        self.loader = loader
        self._format = format

    @property
    def _pipeline(self) -> Pipeline:
        found: Pipeline = self.loader._pipeline
        return found

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch, or go on where a loaded state ends."""
        return self._pipeline.start(self._format)

    def __len__(self) -> int:
        """Return the number of batches of an epoch, on this rank."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch: see `Loader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def state_dict(self, used: int | None = None) -> dict[str, Any]:
        """Return where the iteration is: see `Loader.state_dict`."""
        return self._pipeline.state_dict(used)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends: see `Loader.load_state_dict`."""
        self.loader.load_state_dict(state)

    def split(self, fractions: float | Mapping[str, float] | None = None, **options: Any) -> Any:
        """Divide the entries: see `Loader.split`."""
        parts = self.loader.split(fractions, **options)
        if isinstance(parts, dict):
            return {name: self._of(part) for name, part in parts.items()}
        return Split(*map(self._of, parts))

    def folds(self, count: int, **options: Any) -> list[Split[Any]]:
        """Divide the entries into folds: see `Loader.folds`."""
        pairs = self.loader.folds(count, **options)
        return [Split(*map(self._of, pair)) for pair in pairs]

    def _of(self, loader: Any) -> Any:
        return type(self)(loader, self._format)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.loader!r}>"
