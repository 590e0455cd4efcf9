"""A saved state as plain data; and whether it is that of the same loader."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rootfeed.arguments import as_tuple
from rootfeed.dataset import Dataset, Sampler, Spec
from rootfeed.errors import StateError
from rootfeed.expression import Cut, Definition, Expression, bytecode, taken
from rootfeed.frame import view_of
from rootfeed.layout import Layout
from rootfeed.loader.position import Position, position_from, told
from rootfeed.plan import Sizes
from rootfeed.properties import cached_property
from rootfeed.view import Transformation

__all__ = ["Fingerprint", "fingerprint", "loaded", "said", "saved", "unlike"]

VERSION = 3

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
    "epoch": "epoch=, the batches of an epoch",
}


_SAME_ON_RANKS = ("files", "rows", "seed")
"""What ranks compare of a fingerprint; by the rest they know which loader it is."""


@dataclass(frozen=True)
class Fingerprint:
    """What a state must agree in with the loader that goes on with it.

    Attributes
    ----------
    digests : dict
        Of each part that cannot be told in a few words, a digest; of the others, what they are.
    words : dict of str to list of str
        What the parts with a digest consist of, in words: they decide nothing, but say what differs.
    skipped : tuple of str
        The files that are left out because they cannot be read. The others decide; these are told of.
    """

    digests: Mapping[str, Any]
    words: Mapping[str, Sequence[str]]
    skipped: tuple[str, ...] = ()

    @cached_property
    def kept(self) -> dict[str, Any]:
        """What a state holds of it, as plain data."""
        return {
            name: [value, _shortened(self.words[name])] if name in self.words else value
            for name, value in self.digests.items()
        }


def saved(position: Position, sizes: Sizes, prints: Fingerprint) -> dict[str, Any]:
    """Return a state as plain data that JSON can hold."""
    whole = {
        "version": VERSION,
        **told(position),
        "sizes": _sizes_told(sizes),
        "loader": prints.kept,
    }
    return {**whole, "check": _digest(whole)}


def loaded(state: Any, prints: Fingerprint, sizes: Sizes) -> tuple[Position, Sizes]:
    """Check a state against a loader's fingerprint; return where it ends, and sizes as it has them.

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
        if state["check"] != _digest({name: state[name] for name in state if name != "check"}):
            raise ValueError("its values do not belong together")
        before = dict(state["loader"])
        position = position_from(state, _count)
        fixed = _sizes_from(state["sizes"], sizes)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StateError(
            f"the state is damaged: {type(error).__name__}, {str(error)[:80]}. "
            "Give it as state_dict has made it."
        ) from None
    changed = [name for name, now in prints.digests.items() if _digest_in(before.get(name)) != now]
    if changed:
        if changed != ["rows"]:
            changed = [name for name in changed if name != "rows"]  # a consequence
        lines = _differences(changed, before, prints, "before", "now")
        raise StateError(
            "the state belongs to another loader. What differs:\n  " + "\n  ".join(lines) + "\n"
            "Make the loader as it was, or begin a new epoch: set_epoch."
        )
    return position, fixed


def said(prints: Fingerprint, sizes: Sizes) -> tuple[str, str]:
    """Return what ranks compare: by what they know the same loader, and what of it must be the same.

    In memory, rows come in the same order whatever the sizes.
    """
    own = {name: value for name, value in prints.digests.items() if name not in _SAME_ON_RANKS}
    same: dict[str, Any] = {name: prints.kept[name] for name in _SAME_ON_RANKS}
    if not sizes.in_memory:
        same["sizes"] = _sizes_told(sizes)
    return _digest(own), json.dumps(same)


def unlike(other: str, prints: Fingerprint, sizes: Sizes) -> list[str]:
    """Return how what another rank has said differs from what this one says, in words."""
    there, here = (json.loads(text) for text in (other, said(prints, sizes)[1]))
    changed = [name for name in _SAME_ON_RANKS if _digest_in(there[name]) != _digest_in(here[name])]
    if "files" in changed:
        changed = [name for name in changed if name != "rows"]  # a consequence
    lines = _differences(changed, there, prints, "on another rank", "here")
    if not changed and there.get("sizes") != here.get("sizes"):
        lines.append(
            f"sizes, which follow from memory=: {_sizes_in_words(there)} on another rank, "
            f"{_sizes_in_words(here)} here"
        )
    return lines


def _sizes_in_words(same: Mapping[str, Any]) -> str:
    if "sizes" not in same:
        return "all rows in memory"
    _, window_bytes, block_entries, *_ = same["sizes"]
    return f"a window of {window_bytes} bytes and blocks of {block_entries} entries"


def _sizes_told(sizes: Sizes) -> list[Any]:
    """Return those sizes, as plain data, on which the order of entries depends."""
    return [sizes.in_memory, sizes.window_bytes, sizes.block_entries, sizes.exact, list(sizes.regions)]


def _sizes_from(plain: Any, sizes: Sizes) -> Sizes:
    """Return a loader's sizes with what plain data tell."""
    whole, window_bytes, block_entries, exact, regions = plain
    return replace(
        sizes,
        in_memory=bool(whole),
        window_bytes=_count(window_bytes, 1),
        block_entries=_count(block_entries, 1),
        exact=bool(exact),
        regions=tuple(_count(first) for first in regions),
    )


def _count(value: Any, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is no number of at least {least}")
    return value


def _digest_in(kept: Any) -> Any:
    return kept[0] if isinstance(kept, list) and len(kept) == 2 else kept


def _differences(
    names: Sequence[str], kept: Mapping[str, Any], prints: Fingerprint, there: str, here: str
) -> list[str]:
    """Return how parts differ from what is kept of another fingerprint; what tells that and this one."""
    lines = [_difference(name, kept.get(name), prints, there, here) for name in names]
    if "files" in names and prints.skipped:
        lines.append(f'files that on_error="skip" leaves out {here}: {_listed(prints.skipped)}')
    return lines


def _difference(name: str, kept: Any, prints: Fingerprint, there: str, here: str) -> str:
    """Return what a part is called, and how it differs."""
    what = _REMEDIES.get(name, name)
    if name not in prints.words:
        return f"{what}: {kept!r} {there}, {prints.digests[name]!r} {here}"
    now = prints.words[name]
    before = kept[1] if isinstance(kept, list) and len(kept) == 2 else None
    gone: list[str] = []
    new: list[str] = []
    if isinstance(before, list):
        gone = [repr(each) for each in before if each not in now]
        new = [repr(each) for each in now if each not in before]
        if before != list(now) and not gone and not new:
            return f"{what}: {_listed(map(repr, before))} {there}, {_listed(map(repr, now))} {here}"
    elif isinstance(before, str):
        marks = [before[start : start + _MARK] for start in range(0, len(before), _MARK)]
        mine = [_digest(each)[:_MARK] for each in now]
        gone = [
            f"number {number} of {len(marks)}"
            for number, mark in enumerate(marks, 1)
            if mark not in mine
        ]
        new = [repr(each) for each, mark in zip(now, mine, strict=True) if mark not in marks]
        if marks != mine and not gone and not new:
            return f"{what}: in another order"
    elif isinstance(before, int) and before != len(now):
        return f"{what}: {before} {there}, {len(now)} {here}"
    if gone and new:
        return f"{what}: {_listed(gone)} {there}, {_listed(new)} {here}"
    if gone:
        return f"{what}: {_listed(gone)} {there}, and not {here}"
    return f"{what}: {_listed(new)} {here}, and not {there}" if new else what


def _listed(texts: Iterable[str]) -> str:
    """Return some texts in a line: the first ones of many, the beginnings of long ones."""
    every = list(texts)
    shown = [each if len(each) <= 100 else each[:97] + "..." for each in every[:_MOST_SHOWN]]
    more = f" and {len(every) - _MOST_SHOWN} more" if len(every) > _MOST_SHOWN else ""
    return ", ".join(shown) + more


def _shortened(words: Sequence[str]) -> list[str] | str | int:
    """Return the words themselves, a mark of each, or their number: so that states stay short."""
    if sum(map(len, words)) <= _MOST_CHARACTERS:
        return list(words)
    if len(words) * _MARK <= _MOST_CHARACTERS:
        return "".join(_digest(each)[:_MARK] for each in words)
    return len(words)


_DIGITS = 16

_MARK = 4
"""Digits that stand for a text in a state: enough to tell which of some hundred is another one."""

_MOST_CHARACTERS = 2000
"""Of what a state holds of a part."""

_MOST_SHOWN = 6


def fingerprint(dataset: Dataset, spec: Spec) -> Fingerprint:
    """Return what a state must agree in with the loader that goes on with it."""
    indexes = [file.index for file in dataset.files]
    files = [((each.identity + each.joined).hex(), each.entries) for each in indexes]
    layout = dataset.layout
    columns = [
        (part.columns, str(part.dtype), part.length, part.ragged, *(part.shape or ()))
        for part in layout.parts
    ] + [(each.columns, each.length, each.value, each.sort_by) for each in layout.vectors]
    rows = [int(rows) for rows in dataset.counts.sum(0)]
    every = [list(view_of(frame).transformations) for frame in spec.frames]
    words = {
        "files": [f"{identity[:_DIGITS]} of {entries} entries" for identity, entries in files],
        "columns": _columns(layout),
        "cuts": [_in_words(step) for some in every for step in some],
        "split": list(spec.history),
        "sampling": _fields(spec.sampler),
        "rows": _rows(dataset, rows),
    }
    digests = {
        "files": _digest(files),
        "columns": _digest(columns),
        "cuts": _digest([[_step(step) for step in some] for some in every]),
        "split": _digest(list(spec.history)),
        "sampling": _digest(_fields(spec.sampler)),
        "rows": _digest(rows),
        "batch_size": spec.batch_size,
        "seed": spec.seed,
        "shuffle": spec.shuffle,
        "drop_last": spec.drop_last,
        "tail": spec.tail,
        "epoch": spec.epoch_batches,
    }
    known = [view_of(frame).files for frame in spec.frames]
    skipped = dict.fromkeys(each.path for some in known for each in some.skipped())
    return Fingerprint(digests, words, tuple(skipped))


def _columns(layout: Layout) -> list[str]:
    """Return the columns of each array of a batch, and then its dtype."""
    names = [part.name or "x" for part in layout.parts[: layout.inputs]] + ["y", "w"]
    columns, dtypes = [], []
    for number, (name, part) in enumerate(zip(names, layout.parts, strict=False)):
        found = [(place, column) for column, place in part.scalars]
        for each in layout.vectors:
            if each.part == number:
                length = "" if part.ragged else f" of length {each.length}, filled with {each.value}"
                order = f", sorted by {each.sort_by}" if each.sort_by else ""
                found.append((each.position, f"{' & '.join(each.columns)}{length}{order}"))
        columns += [f"{name}: {text}" for _, text in sorted(found)]
        dtypes.append(f"{name} is {part.dtype}" + " and ragged" * part.ragged)
    return columns + dtypes


def _fields(sampler: Sampler) -> list[str]:
    """Return what tells a sampler from others: the same in every process that makes it so."""
    if type(sampler) is Sampler:
        return ["each row once"]
    told = {name: getattr(sampler, name) for name in ("columns", "label", "replacement")}
    told = {name: value for name, value in told.items() if value}
    for made in reversed(type(sampler).__mro__[: type(sampler).__mro__.index(Sampler)]):
        if made.__module__ != Sampler.__module__:
            told |= {name: value for name, value in vars(made).items() if _is_told(name, value)}
        for name in as_tuple(getattr(made, "__slots__", ())):
            told[name] = getattr(sampler, name, None)
    told |= vars(sampler)
    return [type(sampler).__name__] + [f"{name}={_value(value)}" for name, value in sorted(told.items())]


def _is_told(name: str, value: Any) -> bool:
    """Whether an attribute of a class says what it does, the same in each process."""
    plain = (int, float, str, tuple, np.ndarray, np.generic, type(None))
    return not name.startswith("__") and (inspect.isfunction(value) or isinstance(value, plain))


def _value(value: Any) -> str:
    """Return a text of an attribute; NumPy shortens that of a long array, also in a list."""
    if isinstance(value, np.ndarray):
        content = _digest([str(value.dtype), value.shape, value.tobytes().hex()])
        return f"array, version {content[:_MARK]}"
    if inspect.isfunction(value):
        return f"function {value.__name__}, version {_digest(_function(value))[:_MARK]}"
    if type(value) is dict:
        return f"{{{', '.join(f'{_value(key)}: {_value(each)}' for key, each in value.items())}}}"
    if type(value) in (list, tuple):
        inside = ", ".join(map(_value, value)) + "," * (type(value) is tuple and len(value) == 1)
        return f"[{inside}]" if type(value) is list else f"({inside})"
    return repr(value)


def _rows(dataset: Dataset, rows: Sequence[int]) -> list[str]:
    if dataset.strata is None:
        return [f"{count} rows" for count in rows]
    values = dataset.strata.values
    return [f"{count} rows of class {value!r}" for count, value in zip(rows, values, strict=True)]


def _step(step: Transformation) -> str:
    """Return a text that is the same in every process that takes the same step."""
    if not isinstance(step, Definition) or isinstance(step.how, Expression):
        return repr(step)
    return repr((step.name, step.columns, step.vectorized, *_version(step.how)))


def _in_words(step: Transformation) -> str:
    if isinstance(step, Cut):
        return f"filter {step.how.text}"
    if not isinstance(step, Definition):
        return repr(step)
    if isinstance(step.how, Expression):
        return f"{step.name} = {step.how.text}"
    called = getattr(step.how, "__name__", type(step.how).__name__)
    return f"{step.name} = function {called}, version {_digest(_version(step.how))[:_MARK]}"


def _version(function: Callable[..., Any]) -> list[Any]:
    """Return the text of a function, and what it takes from outside, if that is anything."""
    return [_function(function), *taken(function)]


@lru_cache
def _function(function: Callable[..., Any]) -> str:
    """Return the text of a function, or what was made of it."""
    plain = getattr(function, "py_func", function)  # of a function that Numba has wrapped
    code = getattr(plain, "__code__", None)
    try:
        if code is not None and code.co_filename == "<string>":
            raise OSError  # from Python 3.13 on, what `python -c` runs is taken for its source
        return inspect.getsource(plain)
    except (OSError, TypeError):
        if code is None:
            return getattr(plain, "__qualname__", type(plain).__qualname__)
        return repr(bytecode(code))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=_DIGITS // 2).hexdigest()
