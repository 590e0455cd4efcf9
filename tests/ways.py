"""ROOT's loader and ours, for one body of tests: in `from_root/`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

__all__ = ["FIRST", "OURS", "SECOND", "Way", "arrays", "ids", "root_cannot", "root_is_wrong", "write"]

FIRST, SECOND = 100, 30

#: The ways with a loader of ours.
OURS = ("rootfeed", "nodes")


@dataclass(frozen=True)
class Way:
    """Whose data frames are handed to whose loader.

    Attributes
    ----------
    frames, loaders : module
        With `RDataFrame`, and with `Experimental.ML.RDataLoader`.
    files : dict of str to str
        ``first`` has entries 0 to 99, ``second`` 1000 to 1029, ``vectors`` 0 to 99 with a vector
        ``v`` of 0 to 3 elements: ``id, id + 0.25, ...``.
    """

    frames: Any
    loaders: Any
    files: dict[str, str]

    def frame(self, name: str = "first") -> Any:
        """Return the data frame of a file."""
        return self.frames.RDataFrame("events", self.files[name])

    def both(self) -> list[Any]:
        """Return the data frames of two classes, the larger one first."""
        return [self.frame("first"), self.frame("second")]

    def loader(self, frames: Any, batch_size: int = 16, **options: Any) -> Any:
        """Return a loader of batches."""
        return self.loaders.Experimental.ML.RDataLoader(frames, batch_size, **options)


def write(path: Path, ids: Any, vectors: bool = False) -> str:
    """Write a tree whose columns are functions of an entry's number, in one cluster."""
    columns = {
        "half": (ids / 2).astype(np.float32),
        "id": ids.astype(np.int32),
        "label": (ids % 3).astype(np.int32),
        "weight": (ids % 5 + 0.5).astype(np.float32),
    }
    types: dict[str, Any] = {name: column.dtype for name, column in columns.items()}
    if vectors:
        counts = ids % 4
        numbers = np.concatenate([id_ + 0.25 * np.arange(id_ % 4) for id_ in ids])
        columns = {"id": columns["id"], "v": ak.unflatten(numbers.astype(np.float32), counts)}
        types = {"id": "int32", "v": "var * float32"}
    with uproot.recreate(path) as file:
        file.mktree("events", types).extend(columns)
    return str(path)


def arrays(batches: Iterable[Any], part: int | None = 0) -> Any:
    """Return one array of all batches of an epoch, joined; `part` None where a batch is no tuple."""
    # Copied at once: ROOT's batches without a target lie in memory that is used again.
    found = [np.array(batch if part is None else batch[part]) for batch in batches]
    return np.concatenate(found) if found else np.zeros((0, 1), np.float32)


def ids(batches: Iterable[Any], part: int | None = None) -> list[int]:
    """Return the numbers of an epoch's entries, where ``id`` is the last column."""
    return arrays(batches, part)[:, -1].astype(int).tolist()


def root_is_wrong(reason: str) -> Any:
    """Run a test both ways, and see it fail in ROOT."""
    return _marked(pytest.mark.xfail(reason=f"ROOT 6.40: {reason}", strict=True))


def root_cannot(reason: str) -> Any:
    """Run a test with our loader only."""
    return _marked(pytest.mark.skip(reason=f"ROOT 6.40: {reason}"))


def _marked(mark: Any) -> Any:
    return pytest.mark.parametrize("way", [pytest.param("root", marks=mark), *OURS], indirect=True)
