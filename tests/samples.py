"""Small files whose columns are functions of the entry's number, written by uproot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

import rootfeed as rf

Array = np.ndarray

#: Each column of a sample: its dtype, and its values for the entries' numbers.
FORMULAS: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "id": ("i8", lambda id_: id_),
    "half": ("f4", lambda id_: id_ * 0.5),
    "root": ("f8", lambda id_: np.sqrt(id_)),
    "code": ("i4", lambda id_: id_ * 7919 % 30011 - 15000),
    "label": ("u1", lambda id_: id_ // 3 % 7),
    "flag": ("?", lambda id_: id_ % 3 == 0),
    "weight": ("f4", lambda id_: id_ % 11 * 0.25 - 1),
    "event": ("u8", lambda id_: id_.astype("u8") + np.uint64(2**53 + 1)),
}


@dataclass(frozen=True)
class File:
    """How a file is laid out.

    Attributes
    ----------
    entries : int
    first : int
        Number of its first entry.
    page : int
        Entries of a page and of a cluster.
    format : {"TTree", "RNTuple"}
    dtypes : tuple of (column, dtype)
        Where they differ from those of the formulas.
    """

    entries: int
    first: int = 0
    page: int = 100
    format: str = "TTree"
    dtypes: tuple[tuple[str, str], ...] = ()

    @property
    def ids(self) -> Array:
        return np.arange(self.first, self.first + self.entries, dtype=np.int64)


def values(name: str, ids: Array) -> Array:
    """Return a column's values in its own dtype."""
    dtype, formula = FORMULAS[name]
    return np.asarray(formula(np.asarray(ids, np.int64))).astype(dtype)


def in_a_row(*files: File) -> list[File]:
    """Number the files' entries on."""
    starts = itertools.accumulate((file.entries for file in files), initial=0)
    return [replace(file, first=first) for file, first in zip(files, starts, strict=False)]


def write(path: Path | str, file: File, names: Sequence[str] = tuple(FORMULAS)) -> str:
    """Write a file with the tree or ntuple ``events``; return its path."""
    dtypes = dict(file.dtypes)
    columns = {
        name: values(name, file.ids).astype(dtypes.get(name, FORMULAS[name][0])) for name in names
    }
    write_columns(path, columns, file.page, file.format)
    return str(path)


def write_columns(
    path: Path | str,
    columns: Mapping[str, Array],
    page: int = 100,
    format: str = "TTree",
    name: str = "events",
) -> str:
    """Write any columns in pages of so many entries; return the path."""
    with uproot.recreate(path) as file:
        make: Any = file.mktree if format == "TTree" else file.mkrntuple
        events = make(name, {key: column.dtype for key, column in columns.items()})
        entries = len(next(iter(columns.values())))
        for start in range(0, entries, page):
            part = {key: column[start : start + page] for key, column in columns.items()}
            # A mapping's columns come in another order from uproot before 5.7.7.
            events.extend(part if format == "TTree" else ak.zip(part, depth_limit=1))
    return str(path)


def write_all(folder: Path, files: Sequence[File], names: Sequence[str] = tuple(FORMULAS)) -> list[str]:
    """Write several files into a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write(folder / f"{number:03}.root", file, names) for number, file in enumerate(files)]


def epoch_ids(loader: Any, place: int | None = None) -> Array:
    """Return the first column of an epoch's ``x`` as integers; `place` says where ``x`` is."""
    batches = [batch if place is None else batch[place] for batch in loader]
    return np.concatenate([np.asarray(x)[:, 0] for x in batches] or [np.zeros(0)]).astype(np.int64)


def open_events(paths: str | Sequence[str]) -> rf.Frame:
    names = [paths] if isinstance(paths, str) else paths
    return rf.open(dict.fromkeys(names, "events"))


def write_twice(folder: Path, formats: Sequence[str], entries: int) -> Path:
    """Write a file of each format, and others of that name with later entries into ``other``."""
    for format in formats:
        write(folder / f"{format}.root", File(entries, page=250, format=format))
        write(folder / "other" / f"{format}.root", File(entries, page=250, format=format, first=entries))
    return folder
