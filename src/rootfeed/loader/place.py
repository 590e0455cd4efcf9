"""Where the iterations of a loader are: which epoch is next, or from where one goes on."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from rootfeed.engine import ForkLock
from rootfeed.errors import StateError
from rootfeed.formats import in_worker
from rootfeed.loader.epochs import Epochs
from rootfeed.loader.state import Position
from rootfeed.plan import Shard

__all__ = ["Place"]

_turns = ForkLock()
"""Threads that begin iterations of one loader at the same time get an epoch each."""


class Place:
    """Counts the epochs of a loader, in this process and in the workers of a DataLoader.

    Attributes
    ----------
    next : Position
        Where the next iteration begins.
    last : Position or None
        Behind the last batch that was received; None if there was none since `go_to`.
    chosen : bool
        Whether somebody has chosen an epoch, so that a trainer's does not count.
    """

    def __init__(self) -> None:
        self.next = Position(0)
        self.last: Position | None = None
        self.chosen = False
        self._shared: Epochs | None = None
        self._own = False  # a worker's place was chosen in it
        self._middle = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_shared": copy(self._counts())}

    def share(self) -> None:
        """Let workers of a DataLoader, which are copies of this process, count together."""
        if self._counts() is None:
            self._shared = Epochs(self.next.epoch)

    def _counts(self) -> Epochs | None:
        """Return what counts the epochs of workers, of this process or its parent."""
        if self._shared is not None and not self._shared.mine and not in_worker():
            self._shared = Epochs(self._shared.latest)
        return self._shared

    def choose(self, epoch: int) -> None:
        """Choose the next epoch; where a loaded state is in the middle of it, nothing changes."""
        self.chosen = True
        self._begin_with(epoch)

    def follow(self, epoch: int) -> bool:
        """Begin with a trainer's epoch, however many iterators it makes, unless one was chosen.

        Returns
        -------
        bool
            Whether an iterator that was made before has this epoch as well.
        """
        if self.chosen:
            return True
        last = self.last
        self._begin_with(epoch)
        shared = self._counts()
        held = shared is None or shared.hold(epoch)
        return held and (last is None or last.epoch == epoch)

    def count_on(self) -> None:
        """Have the next iterator begin the epoch after the one that was followed."""
        if (shared := self._counts()) is not None:
            shared.let_go()

    def _begin_with(self, epoch: int) -> None:
        shared = self._counts()
        waiting = self.next.begun and (shared is None or in_worker() or shared.latest == epoch)
        if self.next.epoch != epoch or not waiting:
            self._go_to(Position(epoch))

    def go_to(self, position: Position) -> None:
        """Choose where the next iteration begins."""
        self.chosen = True
        self._go_to(position)

    def _go_to(self, position: Position) -> None:
        self.next, self.last = position, None
        if in_worker():
            self._own = True
        elif (shared := self._counts()) is not None:
            shared.set(position.epoch)
            self._middle = shared.tell_middle(position.epoch if position.begun else None)

    def now(self) -> Position:
        """Return where the iteration is.

        Raises
        ------
        StateError
            Where workers of a DataLoader have gone on since.
        """
        shared = self._counts()
        if shared is not None and shared.latest != self.next.epoch and not in_worker():
            raise StateError(
                "workers of a DataLoader have made the batches, and each has a state of its own. Use "
                "torchdata's StatefulDataLoader and its state_dict(), or num_workers=0; or call "
                "set_epoch() first, for the state at the beginning of an epoch."
            )
        return self.last or self.next

    def take(self, shard: Shard) -> Position:
        """Return where an iteration begins, and count on."""
        with _turns:
            position, shared = self.next, self._counts()
            if shared is not None and shared.latest != position.epoch:
                position = Position(shared.latest)  # workers have gone on
            position = position.seen_by(shard)
            self.next, self.last = Position(position.epoch + 1), position
            if shared is not None:
                shared.set(position.epoch + 1)
            return position

    def take_part(self, shard: Shard, iteration: Sequence[int]) -> Position:
        """Return where a worker's part of an iteration begins, and count on with the others."""
        position, shared = self.next, self._shared
        assert shared is not None
        own = position.epoch if self._own else None
        epoch = shared.take(shard.worker, shard.workers, iteration, own)
        if not self._own:
            shared.check_middle(epoch, self._middle)
        if epoch != position.epoch:
            position = Position(epoch)
        position = position.seen_by(shard)
        self.next, self.last, self._own = Position(epoch + 1), position, False
        return position
