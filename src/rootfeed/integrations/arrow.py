"""Entries as tables of Arrow. Imports pyarrow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rootfeed.frame import arrays
from rootfeed.schema import Block
from rootfeed.view import View, entry_bytes_of

__all__ = ["entry_bytes", "schema_of", "table"]


def table(view: View, names: Sequence[str], blocks: Sequence[Block]) -> pa.Table:
    """Return columns of the entries of some blocks that pass: vectors are lists."""
    import awkward as ak

    found = arrays(view, names, within=blocks)
    columns = [
        pa.array(found[name])
        if isinstance(found[name], np.ndarray)
        else ak.to_arrow(found[name], extensionarray=False)
        for name in names
    ]
    return pa.table(columns, names=list(names))


def schema_of(view: View, names: Sequence[str]) -> pa.Schema:
    """Return types that hold the columns of all files; no entry is read."""
    schema = table(view, names, []).schema
    projection = view.projection(names)
    for index in view.index(projection.columns):
        types = projection.types(index)
        for number, name in enumerate(names):
            dtype, known = types[name].dtype, schema.field(number).type
            if types[name].kind == "scalar" and known != pa.from_numpy_dtype(dtype):
                common = np.result_type(known.to_pandas_dtype(), dtype)
                schema = schema.set(number, pa.field(name, pa.from_numpy_dtype(common)))
    return schema


def entry_bytes(view: View, names: Sequence[str]) -> list[float]:
    """Return about how many bytes columns of an entry take, in each file."""
    projection = view.projection(names)
    sizes = []
    for index in view.index(projection.columns):
        types = projection.types(index)
        dtypes = [types[name].dtype for name in projection.defined]
        made = sum(8 if dtype is None else dtype.itemsize for dtype in dtypes)
        sizes.append(entry_bytes_of(index, projection.stored) + made)
    return sizes
