"""Where a loader is in its epochs, as plain data; and whether it is still the same loader."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rootfeed.errors import StateError
from rootfeed.expression import Definition, Expression
from rootfeed.frame.steps import Step
from rootfeed.loader.dataset import Dataset
from rootfeed.loader.options import Options
from rootfeed.loader.schedule import Leg
from rootfeed.plan import Shard, Sizes

__all__ = ["Position", "Saved", "fingerprint", "loaded", "saved"]

VERSION = 1

_TOLD = (
    "version",
    "epoch",
    "batches",
    "rank",
    "world_size",
    "worker",
    "workers",
    "legs",
    "sizes",
    "loader",
)

_REMEDIES = {
    "files": "the files, or their order",
    "columns": "the columns of a batch, or their dtypes",
    "cuts": "the definitions and cuts",
    "split": "the split",
    "rows": "the entries that pass the cuts, or their classes",
    "sampling": "the sampling",
    "batch_size": "batch_size",
    "seed": "the seed",
    "shuffle": "shuffle",
    "drop_last": "drop_last",
    "tail": "tail",
}


_ALONE = Shard()


@dataclass(frozen=True)
class Position:
    """The next batch of a shard.

    Attributes
    ----------
    epoch : int
    legs : tuple of Leg
        Parts of this epoch that other numbers of ranks have gone through.
    batches : int
        That the shard has received since.
    shard : Shard
        Who has received them.
    """

    epoch: int
    legs: tuple[Leg, ...] = ()
    batches: int = 0
    shard: Shard = _ALONE

    @property
    def begun(self) -> bool:
        """Whether a part of the epoch is over."""
        return bool(self.legs or self.batches)

    def seen_by(self, shard: Shard) -> Position:
        """Return where a shard goes on; the rest is dealt anew if there are more or fewer of them.

        Raises
        ------
        StateError
            Where only one of a rank's workers was asked for its position.
        """
        mine = self.shard
        if not self.batches or (mine.world_size, mine.workers) == (shard.world_size, shard.workers):
            if self.batches and mine.worker != shard.worker:
                raise StateError(
                    f"this is the state of worker {mine.worker}, not of worker {shard.worker}. Give "
                    "each worker its own, as torchdata's StatefulDataLoader does."
                )
            return Position(self.epoch, self.legs, self.batches, shard)
        if mine.workers > 1:
            raise StateError(
                f"this is the state of one of {mine.workers} workers of a rank: it can go on only with "
                f"{mine.world_size} ranks and {mine.workers} workers. Save a loader's state in the main "
                "process (num_workers=0) to go on with others."
            )
        legs = (*self.legs, Leg(mine.world_size, self.batches))
        return Position(self.epoch, legs, 0, shard)


@dataclass(frozen=True)
class Saved:
    """What a state says: where to go on, and with which sizes."""

    position: Position
    whole: bool
    chunk_rows: int
    block_entries: int
    exact: bool
    regions: tuple[int, ...]


def saved(position: Position, sizes: Sizes, prints: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as plain data that JSON can hold."""
    shard = position.shard
    told = {
        "version": VERSION,
        "epoch": position.epoch,
        "batches": position.batches,
        "rank": shard.rank,
        "world_size": shard.world_size,
        "worker": shard.worker,
        "workers": shard.workers,
        "legs": [[leg.world_size, leg.batches] for leg in position.legs],
        "sizes": [
            sizes.whole,
            sizes.chunk_rows,
            sizes.block_entries,
            sizes.exact,
            list(sizes.regions),
        ],
        "loader": dict(prints),
    }
    return {**told, "check": _digest(told)}


def loaded(state: Any, prints: Mapping[str, Any]) -> Saved:
    """Check a state against a loader's fingerprint and return what it says.

    Raises
    ------
    StateError
        Where it is none, or another loader's.
    """
    if not isinstance(state, Mapping) or "version" not in state:
        raise StateError(f"not the state of a rootfeed loader: {str(state)[:80]!r}.")
    if state["version"] != VERSION:
        raise StateError(
            f"the state has version {state['version']!r}; this rootfeed reads version {VERSION}. "
            "Load it with the version of rootfeed that has written it."
        )
    try:
        if state["check"] != _digest({name: state[name] for name in _TOLD}):
            raise ValueError("its values do not belong together")
        before = dict(state["loader"])
        legs = tuple(Leg(_count(world, 1), _count(done)) for world, done in state["legs"])
        shard = Shard(*(_count(state[name]) for name in ("rank", "world_size", "worker", "workers")))
        position = Position(_count(state["epoch"]), legs, _count(state["batches"]), shard)
        whole, chunk_rows, block_entries, exact, regions = state["sizes"]
        found = Saved(
            position,
            bool(whole),
            _count(chunk_rows, 1),
            _count(block_entries, 1),
            bool(exact),
            tuple(_count(first) for first in regions),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StateError(
            f"the state is damaged: {type(error).__name__}, {str(error)[:80]}. "
            "Give it as state_dict has made it."
        ) from None
    changed = [name for name in prints if before.get(name) != prints[name]]
    if changed:
        if changed != ["rows"]:
            changed = [name for name in changed if name != "rows"]  # a consequence
        lines = [_difference(name, before.get(name), prints[name]) for name in changed]
        raise StateError(
            "the state belongs to another loader. What differs:\n  " + "\n  ".join(lines) + "\n"
            "Make the loader as it was, or begin a new epoch: set_epoch."
        )
    return found


def _count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is no number of at least {least}")
    return value


def _difference(name: str, before: Any, now: Any) -> str:
    what = _REMEDIES.get(name, name)
    if isinstance(now, str) and len(now) == _DIGITS:
        return f"{what}"
    return f"{what}: {before!r} before, {now!r} now"


_DIGITS = 16


def fingerprint(
    dataset: Dataset,
    options: Options,
    split: Sequence[str],
    sampling: Any,
    steps: Iterable[Sequence[Step]],
) -> dict[str, Any]:
    """Return what a state must agree in with the loader that goes on with it."""
    files = [(file.index.identity.hex(), file.index.entries) for file in dataset.files]
    layout = dataset.layout
    columns = [
        (part.columns, str(part.dtype), part.length, part.ragged, *(part.shape or ()))
        for part in layout.parts
    ] + [(each.columns, each.length, each.value, each.sort_by) for each in layout.vectors]
    rows = [int(rows) for rows in dataset.counts.sum(0)]
    return {
        "files": _digest(files),
        "columns": _digest(columns),
        "cuts": _digest([[_step(step) for step in every] for every in steps]),
        "split": _digest(list(split)),
        "sampling": _digest(repr(sampling)),
        "rows": _digest(rows),
        "batch_size": options.batch_size,
        "seed": options.seed,
        "shuffle": options.shuffle,
        "drop_last": options.drop_last,
        "tail": options.tail,
    }


def _step(step: Step) -> str:
    """Return a text that is the same in every process that takes the same step."""
    if not isinstance(step, Definition) or isinstance(step.how, Expression):
        return repr(step)
    return repr((step.name, step.columns, step.vectorized, _function(step.how)))


@lru_cache
def _function(function: Callable[..., Any]) -> str:
    """Return the text of a function, or what was made of it."""
    plain = getattr(function, "py_func", function)  # of a function that Numba has wrapped
    try:
        return inspect.getsource(plain)
    except (OSError, TypeError):
        code = getattr(plain, "__code__", None)
        if code is None:
            return getattr(plain, "__qualname__", type(plain).__qualname__)
        constants = [each for each in code.co_consts if not hasattr(each, "co_code")]
        return repr((code.co_code, code.co_names, constants))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=_DIGITS // 2).hexdigest()
