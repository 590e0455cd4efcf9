"""The rows of a side as a new file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rootfeed.dataset import Flat
from rootfeed.loader import varied
from rootfeed.root.sides import Rows
from rootfeed.schema import Array, ColumnType
from rootfeed.sources.rootwriting import write
from rootfeed.sources.writing import writable

__all__ = ["save"]

_CLUSTER_ROWS = 1 << 16


def save(rows: Rows, name: str, file: str | Path, format: Literal["ttree", "rntuple"]) -> None:
    """Write rows into a file: see `rootfeed.root.RDataLoader.save`."""
    path = writable(file, [other for frame in rows.chosen.frames for other in frame.frame.files])
    types = {name: ColumnType(str(dtype), "scalar", dtype) for name, dtype in _dtypes(rows).items()}
    write(path, name, types, _clusters(rows), format)


def _dtypes(rows: Rows) -> dict[str, np.dtype[Any]]:
    """Return the type of each column: its own, unless what fills vectors up does not fit into it."""
    chosen = rows.chosen
    types = chosen.frames[0].frame.columns
    found = {name: types[name].dtype for name in chosen.columns if name in types}
    for part in (*chosen.features, *chosen.target):
        if isinstance(part, Flat):
            dtype = types[part.column].dtype
            fits = dtype is not None and np.array(part.value).astype(dtype) == part.value
            found |= dict.fromkeys(part.names, dtype if fits else np.dtype(np.float64))
    return {name: found[name] or np.dtype(np.float64) for name in chosen.columns}


def _clusters(rows: Rows) -> Iterator[dict[str, Array]]:
    """Yield the columns of so many rows as are written together."""
    plain = varied(rows.plain, None, drop_last=False, shuffle=False, dtype=np.float64)
    names = (*plain.features, *plain.target, *filter(None, [plain.weights]))
    some: list[Array] = []
    with plain:
        for number, batch in enumerate(plain, start=1):
            some.append(np.concatenate(batch, axis=1) if isinstance(batch, tuple) else batch)
            if number == len(plain) or sum(map(len, some)) >= _CLUSTER_ROWS:
                yield dict(zip(names, np.concatenate(some).T, strict=True))
                some = []
