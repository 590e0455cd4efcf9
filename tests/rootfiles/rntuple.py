"""RNTuples written by ROOT: encodings, clusters, pages and everything that footers can say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import compression_settings, create_file, load_root
from .ttree import directory_of
from .values import Columns, any_values, generator, integers_between, reals_between


@dataclass(frozen=True)
class Field:
    """A field of one scalar.

    Parameters
    ----------
    name
        The field's name.
    cpp_type
        Its C++ type as ROOT spells it.
    dtype
        The NumPy type of the value in memory; for a record a structured type with C++'s padding.
    encodings
        Column types without ROOT's `k`, one for each representation; none means ROOT's default.
    bits
        Bits of a `Real32Trunc` or `Real32Quant` column.
    limits
        Range of the values; that of a `Real32Quant` column.
    """

    name: str
    cpp_type: str
    dtype: Any
    encodings: tuple[str, ...] = ()
    bits: int = 0
    limits: tuple[float, float] | None = None

    def make_values(self, entries: int, seed: int = 0) -> NDArray[Any]:
        """Return values of this field."""
        return make_values(self.dtype, entries, self.limits, seed, self.name)


def make_values(
    dtype: Any, entries: int, limits: tuple[float, float] | None, seed: int, *words: str
) -> NDArray[Any]:
    """Return values of a plain type, or of all members of a structured one."""
    dtype = np.dtype(dtype)
    if dtype.names is not None:
        values = np.zeros(entries, dtype)
        for name in dtype.names:
            values[name] = make_values(dtype[name], entries, None, seed, *words, name)
        return values
    random = generator(seed, "ntuple", *words)
    if limits is None:
        return any_values(dtype, entries, random)
    if dtype.kind in "iu":
        return integers_between(dtype, int(limits[0]), int(limits[1]), entries, random)
    return reals_between(dtype, *limits, entries, random)


class Writer:
    """Writes an RNTuple: `add` fields, `open`, then `fill` and `commit` clusters, then `close`.

    Adding a field after `open` extends the model, which makes a deferred column.
    """

    def __init__(
        self, compression: str, page_bytes: int = 1024, *, merge_same_pages: bool = False
    ) -> None:
        self.native = load_root().rootfeed_test.NtupleWriter()
        options = self.native.options
        options.SetCompression(compression_settings(compression))
        options.SetInitialUnzippedPageSize(min(page_bytes, options.GetInitialUnzippedPageSize()))
        options.SetMaxUnzippedPageSize(page_bytes)
        if page_bytes > 1 << 20:
            options.SetMaxUnzippedClusterSize(1 << 30)
            options.SetPageBufferBudget(1 << 30)
        options.SetEnableSamePageMerging(merge_same_pages)
        self.rows = load_root().rootfeed_test.Rows()
        self.file: Any = None
        self.kept: list[NDArray[Any]] = []  # ROOT knows only the addresses of these

    def add(self, field: Field, values: NDArray[Any]) -> None:
        """Add a field and the values that its entries will get."""
        root = load_root()
        values = np.ascontiguousarray(values)
        # Sixteen bytes: more than any scalar, and aligned for all of them.
        place = np.zeros(max(16, values.itemsize), np.uint8)
        encodings = root.std.vector["std::vector<int>"]()
        for name in field.encodings:
            encodings.push_back(
                root.std.vector["int"]([int(getattr(root.ENTupleColumnType, "k" + name))])
            )
        low, high = field.limits or (0.0, 0.0)
        low, high = (low, high) if "Real32Quant" in field.encodings else (0.0, 0.0)
        address = place.ctypes.data
        self.native.add(field.name, field.cpp_type, address, encodings, field.bits, low, high)
        self.rows.add(values.ctypes.data, address, values.itemsize)
        self.kept += [values, place]

    def add_all(self, fields: Iterable[Field], entries: int, seed: int = 0) -> Columns:
        """Add fields with values of their own making. Returns the values."""
        columns: Columns = {}
        for field in fields:
            columns[field.name] = field.make_values(entries, seed)
            self.add(field, columns[field.name])
        return columns

    def open(self, path: Path | str, name: str) -> None:
        """Create a file for the ntuple `name` (or `directory/name`)."""
        if "/" not in name:
            self.native.recreate(str(path), name)
            return
        self.file = create_file(path, "zstd")
        self.append_to(self.file, name)

    def append_to(self, file: Any, name: str) -> None:
        """Write into an open file of ROOT's."""
        place, plain = directory_of(file, name)
        self.native.append_to(place, plain)

    def fill(self, start: int, stop: int, cluster_entries: int = 0, group_clusters: int = 3) -> None:
        """Fill entries `[start, stop)` in clusters, of which some make a cluster group."""
        step = cluster_entries or max(1, stop - start)
        for number, first in enumerate(range(start, stop, step)):
            last = min(stop, first + step)
            self.native.fill(self.rows, first, last)
            if cluster_entries:
                self.native.commit_cluster((number + 1) % group_clusters == 0)

    def commit(self) -> None:
        """End the cluster."""
        self.native.commit_cluster(False)

    def close(self) -> None:
        """Write what is left, and the footer."""
        self.native.close()
        if self.file is not None:
            self.file.Close()


def write_fields(
    path: Path | str,
    fields: Sequence[Field],
    entries: int,
    *,
    compression: str = "zstd",
    cluster_entries: int = 1000,
    page_bytes: int = 1024,
    seed: int = 0,
    name: str = "events",
) -> Columns:
    """Write an RNTuple of these fields. Returns the values that were given to ROOT."""
    writer = Writer(compression, page_bytes)
    columns = writer.add_all(fields, entries, seed)
    writer.open(path, name)
    writer.fill(0, entries, cluster_entries)
    writer.close()
    return columns


#: One field of every scalar type, with ROOT's default encoding.
FLAT_FIELDS = (
    Field("boolean", "bool", "bool"),
    Field("letter", "char", "int8"),
    Field("byte", "std::byte", "uint8"),
    Field("int8", "std::int8_t", "int8"),
    Field("uint8", "std::uint8_t", "uint8"),
    Field("int16", "std::int16_t", "int16"),
    Field("uint16", "std::uint16_t", "uint16"),
    Field("int32", "std::int32_t", "int32"),
    Field("uint32", "std::uint32_t", "uint32"),
    Field("int64", "std::int64_t", "int64"),
    Field("uint64", "std::uint64_t", "uint64"),
    Field("float32", "float", "float32"),
    Field("float64", "double", "float64"),
    Field("double32", "Double32_t", "float64"),
)


def flat_rntuple(
    path: Path | str,
    entries: int,
    *,
    compression: str = "zstd",
    cluster_entries: int = 1000,
    page_bytes: int = 1024,
    seed: int = 0,
    name: str = "events",
) -> Columns:
    """Write an RNTuple with one field of every scalar type (`FLAT_FIELDS`).

    ROOT takes plain encodings where `compression` is `"none"`, split ones otherwise. Three clusters
    make a cluster group. Returns the values that were given to ROOT; `Double32_t` is stored as
    float32, so compare readings with `read_with_root`.
    """
    return write_fields(
        path,
        FLAT_FIELDS,
        entries,
        compression=compression,
        cluster_entries=cluster_entries,
        page_bytes=page_bytes,
        seed=seed,
        name=name,
    )


#: The column types that ROOT 6.40 lets one choose for each type (see `permitted_encodings` of
#: helpers.cpp). Of `Double32_t` it permits those of double, but silently writes `SplitReal32`.
ENCODINGS = {
    "bool": ("Bit",),
    "char": ("Char",),
    "std::byte": ("Byte",),
    "std::int8_t": ("Int8",),
    "std::uint8_t": ("UInt8",),
    "std::int16_t": ("Int16", "SplitInt16"),
    "std::uint16_t": ("UInt16", "SplitUInt16"),
    "std::int32_t": ("Int32", "SplitInt32"),
    "std::uint32_t": ("UInt32", "SplitUInt32"),
    "std::int64_t": ("Int64", "SplitInt64"),
    "std::uint64_t": ("UInt64", "SplitUInt64"),
    "float": ("Real32", "Real16", "SplitReal32", "Real32Trunc", "Real32Quant"),
    "double": (
        "Real64",
        "Real32",
        "Real16",
        "SplitReal64",
        "SplitReal32",
        "Real32Trunc",
        "Real32Quant",
    ),
}

TRUNCATED_BITS = (10, 11, 16, 17, 24, 31)

#: Bits and ranges of quantized columns. ROOT rounds the range of a float field to float32.
QUANTIZED = (
    (1, (0.0, 1.0)),
    (7, (-10.0, 10.0)),
    (8, (-1.5, 100.0)),
    (13, (-3.140625, 3.140625)),
    (20, (0.0, 1000.0)),
    (24, (-1.0, 1.0)),
    (31, (-8.0, 1.0)),
    (32, (-0.0009765625, 7.0e5)),
)


def plain_name(cpp_type: str) -> str:
    """Return `"int16"` for `"std::int16_t"`: what may stand in a field's name."""
    return cpp_type.removeprefix("std::").removesuffix("_t").lower()


def encoded_fields() -> tuple[Field, ...]:
    """Return a field for every encoding that ROOT permits: `double_real32quant_13` and so on."""
    dtypes = {field.cpp_type: field.dtype for field in FLAT_FIELDS}
    fields = []
    for cpp_type, encodings in ENCODINGS.items():
        for encoding in encodings:
            widths: Iterable[tuple[int, tuple[float, float] | None]] = [(0, None)]
            if encoding == "Real32Trunc":
                widths = [(bits, None) for bits in TRUNCATED_BITS]
            elif encoding == "Real32Quant":
                widths = QUANTIZED
            name = f"{plain_name(cpp_type)}_{encoding.lower()}"
            fields += [
                Field(
                    f"{name}_{bits}" if bits else name,
                    cpp_type,
                    dtypes[cpp_type],
                    (encoding,),
                    bits,
                    limits,
                )
                for bits, limits in widths
            ]
    return tuple(fields)


def every_encoding(
    path: Path | str, entries: int = 2500, compression: str = "zstd", **options: Any
) -> Columns:
    """Write `encoded_fields()`: every encoding of a scalar that ROOT can write."""
    return write_fields(path, encoded_fields(), entries, compression=compression, **options)


POINT = np.dtype([("x", "f4"), ("y", "f8")], align=True)
RECORD = np.dtype(
    [
        ("number", "i4"),
        ("weight", "f4"),
        ("x", "f4"),
        ("y", "f8"),
        ("n", "i2"),
        ("flag", "?"),
        ("narrow", "i1"),
        ("point", POINT),
    ],
    align=True,
)

#: Fields that are more than one column of a plain type.
STRUCTURED_FIELDS = (
    Field("point", "rootfeed_test::Point", POINT),
    Field("record", "rootfeed_test::Record", RECORD),
    Field("pair", "std::pair<std::int32_t, float>", np.dtype([("_0", "i4"), ("_1", "f4")], align=True)),
    Field("atomic", "std::atomic<int>", "int32"),
    Field("narrow", "rootfeed_test::Narrow", "int8"),
    Field("unsigned_", "rootfeed_test::Unsigned", "uint16"),
    Field("wide", "rootfeed_test::Wide", "int64"),
    Field("scoped", "rootfeed_test::Scoped", "int32"),
    Field("plain", "rootfeed_test::Plain", "int32"),
    Field("plain_short", "rootfeed_test::PlainShort", "int16"),
)


def write_structures(path: Path | str, entries: int = 2500, compression: str = "zstd") -> Columns:
    """Write `STRUCTURED_FIELDS`. Returns one structured array for a record."""
    return write_fields(path, STRUCTURED_FIELDS, entries, compression=compression)
