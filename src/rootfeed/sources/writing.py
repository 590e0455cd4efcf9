"""New files of columns of numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
import uproot

from rootfeed.schema import Array

__all__ = ["write"]


def write(
    path: str | Path,
    name: str,
    dtypes: Mapping[str, np.dtype[Any]],
    clusters: Iterable[Mapping[str, Array]],
    format: Literal["ttree", "rntuple"],
) -> None:
    """Write columns into a file, which is replaced when all is written.

    Parameters
    ----------
    path : str or Path
    name : str
        Of the tree or ntuple.
    dtypes : mapping of str to dtype
        Of each column.
    clusters : iterable of mapping of str to ndarray
        Rows that are written together.
    format : "ttree" or "rntuple"
    """
    unfinished = Path(f"{path}.part{os.getpid()}")
    try:
        with uproot.recreate(unfinished) as file:
            make: Any = file.mktree if format == "ttree" else file.mkrntuple
            out = make(name, dict(dtypes))
            for cluster in clusters:
                typed = {key: cluster[key].astype(dtype) for key, dtype in dtypes.items()}
                # A mapping's columns come in another order from uproot before 5.7.7.
                out.extend(typed if format == "ttree" else ak.zip(typed, depth_limit=1))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
