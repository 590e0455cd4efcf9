"""Odd RNTuple files: late columns, changing encodings, shared and huge pages, several ntuples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .environment import create_file
from .rntuple import Field, Writer, write_fields
from .values import Columns, generator, integers_between

NUMBER = Field("number", "std::int32_t", "int32")
ENERGY = Field("energy", "float", "float32")


def deferred(path: Path | str, compression: str = "zstd") -> Columns:
    """Write 3500 entries in clusters of 1000, with fields that come later.

    `late` comes at entry 1300, in the middle of the second cluster; `later` and `flag` at entry
    2000, between two clusters. ROOT reads the entries before as zero. They are columns with the
    deferred flag and a first element index; the page lists of clusters before leave them out.
    """
    writer = Writer(compression)
    columns = writer.add_all([NUMBER, ENERGY], 3500)
    writer.open(path, "events")
    writer.fill(0, 1000)
    writer.commit()
    writer.fill(1000, 1300)
    columns |= writer.add_all([Field("late", "std::int32_t", "int32")], 3500)
    writer.fill(1300, 2000)
    writer.commit()
    columns |= writer.add_all([Field("later", "double", "float64"), Field("flag", "bool", "bool")], 3500)
    writer.fill(2000, 3500, 1000)
    writer.close()
    for name, first in [("late", 1300), ("later", 2000), ("flag", 2000)]:
        columns[name][:first] = 0
    return columns


def alternatives(path: Path | str, compression: str = "zstd") -> Columns:
    """Write five clusters of 700 entries; fields change their encoding from one to the next.

    Of each field's representations a cluster has one; the others' columns are suppressed in it.
    The field `late` comes at entry 700 and has two representations as well. Truncated and quantized
    columns come first because ROOT 6.40 takes their bits from the field's first column when it
    reads, and aborts otherwise.
    """
    trunc = Field("truncated", "float", "float32", ("Real32Trunc", "SplitReal32", "Real16"), 12)
    fields = [
        NUMBER,
        trunc,
        Field("double_", "double", "float64", ("SplitReal64", "Real32", "Real64")),
        Field("quantized", "double", "float64", ("Real32Quant", "SplitReal64"), 14, (-4.0, 4.0)),
        Field("integer", "std::int64_t", "int64", ("SplitInt64", "Int64")),
    ]
    entries, step = 3500, 700
    writer = Writer(compression)
    columns = writer.add_all(fields, entries)
    writer.open(path, "events")
    for cluster in range(entries // step):
        for field in fields[1:]:
            writer.native.use_encoding(field.name, cluster % len(field.encodings))
        if cluster == 1:
            late = Field("late", "float", "float32", ("Real32", "SplitReal32"))
            columns |= writer.add_all([late], entries)
        if cluster > 1:
            writer.native.use_encoding("late", cluster % 2)
        writer.fill(cluster * step, (cluster + 1) * step)
        writer.commit()
    writer.close()
    columns["late"][:step] = 0
    return columns


def shared_pages(path: Path | str, compression: str = "zstd") -> Columns:
    """Write columns that repeat themselves, with identical pages stored once (same-page merging).

    `zero` is constant, `twin_1` and `twin_2` are equal, `cyclic` repeats every page.
    """
    entries = 4096
    writer = Writer(compression, 1024, merge_same_pages=True)
    twin = generator(0, "twin").standard_normal(entries).astype(np.float32)
    columns: Columns = {
        "zero": np.zeros(entries, np.int32),
        "twin_1": twin,
        "twin_2": twin.copy(),
        "cyclic": np.arange(entries, dtype=np.int32) % 256,
    }
    for name, values in columns.items():
        real = values.dtype.kind == "f"
        writer.add(Field(name, "float" if real else "std::int32_t", values.dtype), values)
    writer.open(path, "events")
    writer.fill(0, entries, 1024)
    writer.close()
    return columns


def collection_sizes(path: Path | str, compression: str = "zstd") -> Columns:
    """Write the collection `hits`, its sizes as `hit_count`, and `energy` again as `e`."""
    entries = 2500
    sizes = integers_between("uint8", 0, 5, entries, generator(0, "hits"))
    writer = Writer(compression)
    columns = writer.add_all([ENERGY], entries)
    writer.native.add_collection("hits", writer.rows, sizes.ctypes.data)
    writer.native.add_sizes("hit_count", "hits")
    writer.native.add_alias("e", "float", "energy")
    writer.open(path, "events")
    writer.fill(0, entries, 700)
    writer.close()
    return columns | {"hit_count": sizes.astype(np.uint64), "e": columns["energy"]}


def large_page(path: Path | str, compression: str) -> Columns:
    """Write 2.5 million float64 into one page of 20 MB, which ROOT compresses in two pieces."""
    entries = 2_500_000
    values = generator(0, "large").integers(0, 1000, entries).astype(np.float64) / 8.0
    writer = Writer(compression, 64 << 20)
    writer.add(Field("value", "double", "float64", ("Real64",)), values)
    writer.open(path, "events")
    writer.fill(0, entries)
    writer.close()
    return {"value": values}


def two_ntuples(path: Path | str, compression: str = "zstd") -> None:
    """Write `first` (1500 entries) and `directory/second` (700) into one file."""
    file = create_file(path, compression)
    for name, entries, seed in [("first", 1500, 0), ("directory/second", 700, 1)]:
        writer = Writer(compression)
        writer.add_all([NUMBER, ENERGY], entries, seed)
        writer.append_to(file, name)
        writer.fill(0, entries, 400)
        writer.close()
    file.Close()


def no_entries(path: Path | str, compression: str = "zstd") -> Columns:
    """Write an RNTuple without entries."""
    return write_fields(path, [NUMBER, ENERGY], 0, compression=compression)
