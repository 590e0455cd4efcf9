"""Where the iteration is: which epoch, which pass over the data, and how many batches of them are over.

A rank's batches are an endless sequence: pass after pass over the data, in each of which every row has
its turn. An epoch is a pass, or so many batches of the sequence. Worker processes of a rank take its
batches in turn, so that a worker goes through the same sequence in larger steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from rootfeed.errors import ArgumentError, StateError
from rootfeed.loader.schedule import Segment
from rootfeed.plan import Shard
from rootfeed.processes import ForkLock

__all__ = ["Course", "IteratorState", "Position", "Received", "position_from", "told"]

_SEEDED = 1 << 52
"""Least number of an epoch that PyTorch's seed decides: nobody can choose it, and JSON can hold it."""

_ALONE = Shard()

_turns = ForkLock()
"""Threads that begin iterations of one loader at the same time get an epoch each."""


@dataclass(frozen=True)
class Position:
    """The next batch of a shard, by its place among the batches of its rank.

    Attributes
    ----------
    epoch : int
    passes : int
        Over the data, before this one.
    segments : tuple of Segment
        Parts of this pass that other numbers of ranks have gone through.
    batches : int
        Of this pass, after the segments, before the next one.
    done : int
        Batches of this epoch before the next one.
    ahead : int
        Batches to go from there, by whoever asks: the beginning of an epoch that was chosen.
    shard : Shard
        Who has received the batches of this pass.
    """

    epoch: int
    passes: int = 0
    segments: tuple[Segment, ...] = ()
    batches: int = 0
    done: int = 0
    ahead: int = 0
    shard: Shard = _ALONE

    @property
    def begins(self) -> bool:
        """Whether nobody has received a batch of this pass, or what is left of it."""
        return self.batches == 0 and self.shard.workers == 1

    def seen_by(self, shard: Shard) -> Position:
        """Return where a shard goes on; the rest is dealt anew if there are more or fewer of them.

        Raises
        ------
        StateError
            Where only one of a rank's workers was asked for its position.
        """
        mine = self.shard
        if self.begins or (mine.world_size, mine.workers) == (shard.world_size, shard.workers):
            if not self.begins and mine.worker != shard.worker:
                raise StateError(
                    f"this is the state of worker {mine.worker}, not of worker {shard.worker}. Give "
                    "each worker its own, as torchdata's StatefulDataLoader does."
                )
            return replace(self, shard=shard)
        if mine.workers > 1:
            raise StateError(
                f"this is the state of one of {mine.workers} workers of a rank: it can go on only with "
                f"{mine.world_size} ranks and {mine.workers} workers. Save a loader's state in the main "
                "process (num_workers=0) to go on with others."
            )
        segments = (*self.segments, Segment(mine.world_size, self.batches))
        return replace(self, segments=segments, batches=0, shard=shard)


_PLAIN = ("epoch", "passes", "batches", "done", "ahead")
_SHARD = ("rank", "world_size", "worker", "workers")


def told(position: Position) -> dict[str, Any]:
    """Return a position as plain data."""
    numbers = {name: getattr(position, name) for name in _PLAIN}
    shard = {name: getattr(position.shard, name) for name in _SHARD}
    return {
        **numbers,
        **shard,
        "segments": [[segment.world_size, segment.batches] for segment in position.segments],
    }


def position_from(plain: Mapping[str, Any], count: Callable[..., int]) -> Position:
    """Return the position that plain data tell of; `count` checks that something is a number."""
    segments = tuple(Segment(count(world, 1), count(batches)) for world, batches in plain["segments"])
    shard = Shard(*(count(plain[name]) for name in _SHARD))
    return Position(**{name: count(plain[name]) for name in _PLAIN}, segments=segments, shard=shard)


class Course:
    """How the batches of a rank follow one another.

    Parameters
    ----------
    epoch_batches : int or None
        Of an epoch, which goes on where the last one ended; None where each epoch is a pass.
    pass_batches : function of (passes, segments, world_size)
        Returns the batches of a pass that are left after some segments, on each of so many ranks.
    alike : bool
        Whether all whole passes have as many.
    """

    def __init__(
        self,
        epoch_batches: int | None,
        pass_batches: Callable[[int, tuple[Segment, ...], int], int],
        alike: bool = True,
    ) -> None:
        self.epoch_batches = epoch_batches
        self._alike = alike
        self._pass_batches = lru_cache(64)(pass_batches)

    def start(self, epoch: int) -> Position:
        """Return where an epoch begins, if these ranks and workers have gone through all before it."""
        if self.epoch_batches is None:
            return Position(epoch, passes=epoch)
        return Position(epoch, ahead=epoch * self.epoch_batches)

    def choose(self, position: Position, epoch: int) -> Position:
        """Return where an epoch begins or goes on that somebody chooses, from the position before."""
        if epoch == position.epoch:
            return position
        if self.epoch_batches is None or epoch < position.epoch or position.shard.workers > 1:
            return self.start(epoch)
        ahead = position.ahead + (epoch - position.epoch) * self.epoch_batches - position.done
        return replace(position, epoch=epoch, done=0, ahead=ahead)

    def begin(self, position: Position, shard: Shard) -> Position:
        """Return where a shard begins that goes on from a position: a worker, with its first batch."""
        found = self._walk(position.seen_by(shard))
        return found if position.shard.workers > 1 else self._on(found, shard.worker)

    def behind(self, position: Position, batches: int) -> Position:
        """Return where a shard is behind so many batches of its own.

        Behind an epoch's last one, a rank is at the next epoch; a worker does not know of the others.
        """
        found = self._on(position, batches * position.shard.workers)
        if position.shard.workers > 1:
            return found
        if self.epoch_batches is None:
            return self.start(found.epoch + 1) if found.batches >= self._batches(found) else found
        return self.after(found) if found.done == self.epoch_batches else found

    def after(self, position: Position) -> Position:
        """Return where the next epoch of a shard begins."""
        if self.epoch_batches is None:
            return self.start(position.epoch + 1)
        left = self.epoch_batches - position.done
        found = self._walk(replace(position, epoch=position.epoch + 1, done=0, ahead=left))
        return self._on(found, found.shard.worker)

    def left(self, position: Position) -> int | None:
        """Return how many batches of the epoch a shard has before it; None for all of the pass."""
        if self.epoch_batches is None:
            return None
        return -((position.done - self.epoch_batches) // position.shard.workers)

    def remaining(self, position: Position, shard: Shard) -> int:
        """Return how many batches of the epoch are left for a rank that goes on from a position."""
        found = self.begin(position, shard)
        left = self.left(found)
        return self._batches(found) - found.batches if left is None else left

    def passed(self, position: Position, batches: int) -> Position:
        """Return where a shard is in the sequence after so many batches of its own."""
        return self._walk(replace(position, ahead=batches * position.shard.workers))

    def _on(self, position: Position, batches: int) -> Position:
        """Return a position some batches later in the same epoch: at its end, if there are fewer."""
        if self.epoch_batches is None:
            return replace(position, batches=position.batches + batches, done=position.done + batches)
        batches = min(batches, self.epoch_batches - position.done)
        return self._walk(replace(position, done=position.done + batches, ahead=batches))

    def _walk(self, position: Position) -> Position:
        """Go the way that is ahead, from pass to pass."""
        if self.epoch_batches is None:
            return position
        batches = position.batches + position.ahead
        if batches < (mine := self._batches(position)):
            return replace(position, batches=batches, ahead=0)
        following = replace(position, passes=position.passes + 1, segments=())
        more, batches = divmod(batches - mine, self._batches(following))
        return replace(following, passes=following.passes + more, batches=batches, ahead=0)

    def _batches(self, position: Position) -> int:
        """Return the batches of a pass, on a rank: those after the segments."""
        passes = position.passes if position.segments or not self._alike else 0
        return self._pass_batches(passes, position.segments, position.shard.world_size)


@dataclass(slots=True)
class Received:
    """How far an iteration has come.

    Attributes
    ----------
    position : Position
        Where it began.
    batches : int
        That were received since.
    over : bool
        Whether there are no more.
    """

    position: Position
    batches: int = 0
    over: bool = False

    def now(self, course: Course, used: int | None = None) -> Position:
        """Return where this is: behind the last batch that was received, or used."""
        if self.over and used in (None, self.batches):
            return course.after(self.position)
        return course.behind(self.position, self.batches if used is None else used)


@dataclass(slots=True)
class Handed:
    """How far a framework has come that asks for batches before it uses them.

    Attributes
    ----------
    first : Position
        Where it began.
    chosen : int
        How often somebody had chosen an epoch then.
    iterations : list of (int, Received)
        Those that it has gone through, and the batches before each.
    open : bool
        Whether some that were handed out may not have been used yet.
    """

    first: Position
    chosen: int
    iterations: list[tuple[int, Received]] = field(default_factory=list)
    open: bool = True

    @property
    def batches(self) -> int:
        """Batches that were handed out."""
        return sum((before + received.batches for before, received in self.iterations[-1:]))

    def now(self, course: Course, used: int | None = None) -> Position:
        """Return where this is: behind the last batch that was used.

        Raises
        ------
        StateError
            Where it is not said which one that is.
        """
        if used is None and self.open and self.batches:
            raise StateError(
                "this framework asks for batches before it uses them: say how many of this epoch it has "
                "used, state_dict(used=...), or save the state when the epoch has ended."
            )
        wanted = self.batches if used is None else used
        for before, received in reversed(self.iterations):
            if before <= wanted:
                return received.now(course, wanted - before)
        return self.first


class IteratorState:
    """Where the iterations of a loader are, in this process.

    A worker of PyTorch's DataLoader is a copy of the main process, which does not see it iterate. It
    begins with the epoch that was chosen there. Where none was, its order is keyed by the seed that the
    DataLoader draws for each iteration, which all of its workers share; and one that lives on counts on.

    Attributes
    ----------
    next : Position
        Where the next iteration begins.
    last : Received, Handed or None
        The iteration that has received a batch last; None if there was none since `go_to`.
    chosen : int
        How often somebody has chosen an epoch; then a trainer's does not count.
    told : bool
        Whether somebody, or a trainer, says which epoch is next: then workers begin with it.
    """

    def __init__(self, course: Course) -> None:
        self.next = course.start(0)
        self.last: Received | Handed | None = None
        self.chosen = 0
        self.told = False
        self._followed: tuple[int, Position, int] | None = None  # choices, next, the trainer's epoch

    def choose(self, epoch: int, course: Course) -> None:
        """Choose the next epoch; where a loaded state is in the middle of it, nothing changes."""
        self.go_to(course.choose(self.next, epoch))

    def follow(self, epoch: int | None, course: Course, is_new: bool = False) -> bool:
        """Begin with a trainer's epoch, or count on with it from one that was chosen; None ends this.

        Where the trainer's epoch is a new one, one whose middle was chosen is over.

        Returns
        -------
        bool
            Whether the next iteration begins elsewhere than was chosen.
        """
        if self.chosen and is_new and (here := self.now(course)).done:
            self.go_to(course.choose(here, here.epoch + 1))
            return True
        if self.chosen and epoch is not None:
            if self._followed and self._followed[:2] == (self.chosen, self.next):
                # Nobody has chosen since, nor iterated here: workers have.
                wanted = self.next.epoch + epoch - self._followed[2]
                self.next, self.last = course.choose(self.next, wanted), None
            self._followed = self.chosen, self.next, epoch
        elif not self.chosen:
            self.told = epoch is not None
            if epoch is not None:
                self.next, self.last = course.choose(self.next, epoch), None
        return not self.chosen

    def go_to(self, position: Position) -> None:
        """Choose where the next iteration begins."""
        self.chosen, self.told = self.chosen + 1, True
        self.next, self.last = position, None

    def now(self, course: Course, used: int | None = None) -> Position:
        """Return where the iteration is: behind the last batch that was received, or used.

        Raises
        ------
        ArgumentError
            Where more batches were used than received.
        StateError
            Where a framework does not say how many it has used.
        """
        received = 0 if self.last is None else self.last.batches
        if used is not None and used > received:
            raise ArgumentError(
                f"used={used}, but only {received} batches were received since this iteration began."
            )
        return self.next if self.last is None else self.last.now(course, used)

    def take_back(self, handed: Handed) -> None:
        """Forget batches that nobody has used, unless somebody has chosen an epoch or iterated since."""
        if self.chosen == handed.chosen and self.last is handed:
            self.next, self.last = handed.first, None

    def take(self, shard: Shard, course: Course, base_seed: int | None = None) -> Received:
        """Begin an iteration, and count on.

        Parameters
        ----------
        shard : Shard
        course : Course
        base_seed : int, optional
            What the workers of a DataLoader have in common that iterate together; None outside of them.

        Raises
        ------
        ArgumentError
            Where workers cannot agree on an epoch, and nobody has chosen one.
        StateError
            Where a state is another worker's.
        """
        with _turns:
            if base_seed is not None and not self.told:
                _check_alone(shard, course)
                self.next, self.told = course.start(_seeded(base_seed)), True
            position = course.begin(self.next, shard)
            self.next, self.last = course.after(position), (begun := Received(position))
            return begun


def _check_alone(shard: Shard, course: Course) -> None:
    """Refuse epochs in workers that nobody has chosen, where a seed of one DataLoader cannot decide."""
    if shard.world_size > 1:
        raise ArgumentError(
            f"{shard.world_size} ranks must agree on the order of the entries, and the DataLoader of "
            "each draws a seed of its own: call set_epoch(epoch) before each epoch, on every rank, as "
            "for PyTorch's DistributedSampler."
        )
    if course.epoch_batches is not None:
        raise ArgumentError(
            "an epoch of Loader(epoch=...) goes on where the last one ended, which workers of a "
            "DataLoader do not know: call set_epoch(epoch) before each epoch."
        )


def _seeded(base_seed: int) -> int:
    """Return the number of the epoch that a seed decides."""
    digest = hashlib.blake2b(str(base_seed).encode(), digest_size=8).digest()
    return _SEEDED + int.from_bytes(digest, "little") % _SEEDED
