"""Damaged and hostile files: the right values, or a `RootfeedError`. Never anything else.

What is guaranteed, and tested here on cut, overwritten and forged copies of small files:

- No copy crashes the process, hangs it, makes it ask for much memory, or raises another exception.
- A cut file is always refused.
- Of an RNTuple no changed byte is read as a number: all its metadata and its pages have checksums.
- Of a TTree the same holds for pages compressed with zlib, LZ4 and LZMA, which carry checksums of their
  own, and for its metadata where it is compressed with one of these, as far as these checksums go
  (zlib's Adler-32 misses some changes in short pages of small numbers). A page that is stored as it is,
  or compressed with zstd, has none: there a changed byte can become a wrong number, in the column of
  that page only. Uncompressed or zstd-compressed metadata of a TTree is checked for consistency, no
  more.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uproot
import xxhash

from rootfeed import sources
from rootfeed.errors import DamagedFileError
from rootfeed.schema import FileIndex
from rootfeed.sources import Location
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.opening import check_envelopes
from rootfiles import COMPRESSIONS
from rootfiles.environment import create_file
from rootfiles.rntuple import Field, Writer
from rootfiles.ttree import Tree, finish, new_tree, write_leaves
from rootfiles.values import generator
from rootfiles.vectors import Vector, VectorFiller, VectorWriter, offsets_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

ENTRIES = 300
WORKER = Path(__file__).with_name("hostile_worker.py")
SOURCE = Path(sources.__file__).parents[2]
CUTS = 40
VECTOR_FILES = ("none", "zlib")
EDITS = 100
EVERY = 8  # of which so many are one where tests are not thorough

COLUMNS = {
    # Few different values: every page is compressed, and none is stored as it is.
    name: (np.arange(ENTRIES) % period).astype(dtype)
    for name, dtype, period in [
        ("a", "f4", 11),
        ("b", "f8", 7),
        ("c", "i4", 5),
        ("d", "?", 2),
        ("q", "f4", 4),
        ("t", "f4", 9),
    ]
}
LEAVES = {"a": "a/F", "b": "b/D", "c": "c/I", "d": "d/O"}
FIELDS = (
    Field("a", "float", "f4"),
    Field("b", "double", "f8"),
    Field("c", "std::int32_t", "i4"),
    Field("d", "bool", "?"),
    Field("q", "float", "f4", ("Real32Quant",), 13, (-3.0, 3.0)),
    Field("t", "float", "f4", ("Real32Trunc",), 17),
)

#: Vectors, of which `b` is what the forged copies change.
VECTORS = {
    "a": ("float32", "F", "float"),
    "b": ("float64", "D", "double"),
    "c": ("int32", "I", "std::int32_t"),
}

Edit = tuple[int, bytes]


@dataclass(frozen=True)
class Copy:
    """A changed copy: cut at a length, with bytes overwritten."""

    id: str
    length: int | None = None
    edits: tuple[Edit, ...] = ()


@dataclass
class Target:
    """A small file and its changed copies."""

    path: Path
    index: FileIndex
    copies: list[Copy] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def page(self, column: str, number: int = 1) -> tuple[int, int]:
        """Return position and size of a page in the file."""
        pages = self.index.columns[column].pages
        assert pages is not None
        return int(pages.offset[number]), int(pages.stored_bytes[number])


@dataclass(frozen=True)
class Outcome:
    copy: Copy
    outcome: str
    detail: str


def cuts(size: int) -> Iterator[Copy]:
    for number in range(CUTS):
        yield Copy(f"cut-{number}", length=size * number // CUTS)
    yield Copy("cut-last-byte", length=size - 1)


def edits(size: int, seed: str) -> Iterator[Copy]:
    """Overwrite one byte, or several with noise, ones or zeros, anywhere in the file."""
    random = generator(0, seed)
    for number in range(EDITS):
        texts = (
            random.integers(0, 256, 1, np.uint8).tobytes(),
            b"\xff" * 4,
            b"\0" * 4,
            random.integers(0, 256, 8, np.uint8).tobytes(),
        )
        position = int(random.integers(0, size))
        yield Copy(f"edit-{number}", edits=((position, texts[number % 4]),))


# --- TTree ----------------------------------------------------------------------------------------


def key_bytes(target: Target, offset: int) -> int:
    return struct.unpack(">h", target.data[offset + 14 : offset + 16])[0]


def basket_edits(target: Target) -> Iterator[Copy]:
    """Forge what a basket's key says of it (ROOT's TKey and TBasket streamers)."""
    offset, size = target.page("b")
    length = key_bytes(target, offset)
    places = {"nbytes": 0, "objlen": 6, "nevbuf": length - 9, "last": length - 5}
    for name, place in places.items():
        for value in (0, -1, 1, 0x7FFFFFFF, -(1 << 31)):
            yield Copy(f"key-{name}-{value}", edits=((offset + place, struct.pack(">i", value)),))
    for value in (0, -1, 36, 38, length + 1, 0x7FFF):
        yield Copy(f"key-keylen-{value}", edits=((offset + 14, struct.pack(">h", value)),))
    other, _ = target.page("a")
    whole = target.data[other : other + size]
    yield Copy("key-of-another-column", edits=((offset, whole),))


def piece_edits(target: Target) -> Iterator[Copy]:
    """Forge the header of a compressed piece; an RNTuple's page gets the checksum that fits."""
    offset, size = target.page("b")
    stop = offset + size
    if target.index.format == "TTree":
        offset += key_bytes(target, offset)
    header = target.data[offset : offset + 9]
    assert header[:2] in (b"ZL", b"XZ", b"L4", b"ZS")

    def forged(id: str, at: int, text: bytes) -> Copy:
        edits = [(offset + at, text)]
        if target.index.format == "RNTuple":
            page = bytearray(target.data[offset:stop])
            page[at : at + len(text)] = text
            edits.append((stop, xxhash.xxh3_64_digest(bytes(page))[::-1]))
        return Copy(f"piece-{id}", edits=tuple(edits))

    for name, at in (("compressed", 3), ("uncompressed", 6)):
        real = int.from_bytes(header[at : at + 3], "little")
        for label, value in (("0", 0), ("1", 1), ("less", real - 1), ("most", 0xFFFFFF)):
            yield forged(f"{name}-{label}", at, value.to_bytes(3, "little"))
    for algorithm in (b"ZL", b"XZ", b"L4", b"ZS", b"CS", b"\0\0", b"RO"):
        if algorithm != header[:2]:
            yield forged(f"algorithm-{algorithm.hex()}", 0, algorithm)


def record_edits(target: Target) -> Iterator[Copy]:
    """Forge the sizes that the directory's list of keys and the record's own key give."""
    with uproot.open(target.path) as file:
        key = file.key("events")
        sizes = struct.pack(">ihi", key.fNbytes, key.fVersion, key.fObjlen)
    for nbytes in (0, 1, -1, -(1 << 31)):
        new = struct.pack(">ihi", nbytes, key.fVersion, key.fObjlen)
        yield Copy(f"record-bytes-{nbytes}", edits=replace_all(target, sizes, new))
    for objlen in (-1, 1, 1 << 30, 0x7FFFFFFF, -(1 << 31)):
        new = struct.pack(">ihi", key.fNbytes, key.fVersion, objlen)
        yield Copy(f"record-size-{objlen}", edits=replace_all(target, sizes, new))


def replace_all(target: Target, old: bytes, new: bytes, start: int = 0) -> tuple[Edit, ...]:
    """Return edits that replace every occurrence from a position on."""
    data, found = target.data, []
    position = data.find(old, start)
    while position >= 0:
        found.append((position, new))
        position = data.find(old, position + 1)
    assert found, old
    return tuple(found)


def tree_record_edits(target: Target) -> Iterator[Copy]:
    """Forge the metadata of an uncompressed TTree."""
    with uproot.open(target.path) as file:
        start = int(file.key("events").fSeekKey)
    entries = struct.pack(">q", ENTRIES)
    for value in (0, -1, ENTRIES - 1, ENTRIES + 1, 10**15, 1 << 62, -(1 << 63)):
        yield Copy(
            f"tree-entries-{value}",
            edits=replace_all(target, entries, struct.pack(">q", value), start),
        )
    offset, size = target.page("b")
    pages = target.index.columns["b"].pages
    assert pages is not None
    bound = int(pages.bounds[1])
    for value in (0, -1, -2, 1, offset + 1, target.page("b", 2)[0] - 1, 10**15, -(1 << 63)):
        edit = replace_all(target, struct.pack(">q", offset), struct.pack(">q", value), start)
        yield Copy(f"tree-seek-{value}", edits=edit)
    for value in (0, -1, 1, 0x7FFFFFFF, -(1 << 31)):
        edit = replace_all(target, struct.pack(">i", size), struct.pack(">i", value), start)
        yield Copy(f"tree-bytes-{value}", edits=edit)
    for value in (0, -1, ENTRIES, 10**15):
        edit = replace_all(target, struct.pack(">q", bound), struct.pack(">q", value), start)
        yield Copy(f"tree-bound-{value}", edits=edit)


# --- RNTuple --------------------------------------------------------------------------------------


class Forgery:
    """Changes the metadata of an uncompressed RNTuple and makes all its checksums right again."""

    def __init__(self, target: Target) -> None:
        self.original = target.data
        with uproot.open(target.path) as file:
            ntuple = file["events"]
            self.header = self._span(ntuple, "Header")
            self.footer = self._span(ntuple, "Footer")
            links = [group.page_list_link for group in ntuple.footer.cluster_group_records]
            self.lists = [
                (link.locator.offset, link.locator.offset + link.locator.num_bytes) for link in links
            ]
            self.group = ntuple.footer.cluster_group_records[0]
            self.records = list(ntuple.column_records)
            self.names = list(ntuple.field_names)
            self.summary = ntuple.cluster_summaries[0]
            self.pages = ntuple.page_link_list[0]

    @staticmethod
    def _span(ntuple: Any, what: str) -> tuple[int, int]:
        seek = ntuple.member(f"fSeek{what}")
        assert ntuple.member(f"fNBytes{what}") == ntuple.member(f"fLen{what}")
        return seek, seek + ntuple.member(f"fLen{what}")

    def copy(self, id: str, span: tuple[int, int], old: bytes, new: bytes) -> Copy:
        """Replace some bytes, which are found once in a span, and seal it."""
        assert len(old) == len(new)
        data = bytearray(self.original)
        assert data.count(old, *span) == 1, (id, data.count(old, *span))
        position = data.index(old, *span)
        data[position : position + len(new)] = new
        self._seal(data)
        changed = np.flatnonzero(np.frombuffer(data, "u1") != np.frombuffer(self.original, "u1"))
        return Copy(id, edits=tuple((int(i), bytes([data[i]])) for i in changed))

    def _seal(self, data: bytearray) -> None:
        def seal(start: int, stop: int) -> bytes:
            checksum = xxhash.xxh3_64_digest(bytes(data[start : stop - 8]))[::-1]
            data[stop - 8 : stop] = checksum
            return checksum

        checksum = seal(*self.header)
        for start, stop in self.lists:
            data[start + 8 : start + 16] = checksum
            seal(start, stop)
        start, stop = self.footer
        data[start + 16 : start + 24] = checksum
        seal(start, stop)


def forgeries(target: Target) -> Iterator[Copy]:
    forgery = Forgery(target)
    number = {record.field_id: record for record in forgery.records}

    def column(record: Any, **changes: int) -> bytes:
        values = {key: int(getattr(record, key)) for key in ("type", "nbits", "field_id", "flags")}
        values |= changes
        return struct.pack("<HHIH", *values.values())

    for field_id, name in enumerate("abcdqt"):
        record = number[field_id]
        for bits in (0, 1, 2, 33, 200, 0xFFFF):
            if bits != record.nbits:
                new = column(record, nbits=bits)
                yield forgery.copy(f"{name}-bits-{bits}", forgery.header, column(record), new)
        for kind in (0x0E, 0x7F, 0xFFFF):  # an index, and unknown ones
            new = column(record, type=kind)
            yield forgery.copy(f"{name}-type-{kind}", forgery.header, column(record), new)
    limits = struct.pack("<dd", -3.0, 3.0)
    for low, high in ((3.0, -3.0), (1.0, 1.0), (np.nan, 1.0), (-np.inf, 1.0), (-1e308, 1.5e308)):
        new = struct.pack("<dd", low, high)
        yield forgery.copy(f"q-range-{low}-{high}", forgery.header, limits, new)

    page_list = forgery.lists[0]
    summary = forgery.summary
    old = struct.pack("<QQ", summary.num_first_entry, summary.num_entries)
    for first, entries in ((1, 120), (0, 0), (0, 119), (0, 121), (0, 10**15), (1 << 63, 120)):
        new = struct.pack("<QQ", first, entries)
        yield forgery.copy(f"summary-{first}-{entries}", page_list, old, new)
    page = forgery.pages[number[1].idx].pages[0]  # of column b
    place = page.locator
    old = struct.pack("<iiQ", -page.num_elements, place.num_bytes, place.offset)
    size = len(forgery.original)
    for elements in (0, 1, -1, page.num_elements + 1, -page.num_elements - 1, 0x7FFFFFFF, -(1 << 31)):
        new = struct.pack("<iiQ", elements, place.num_bytes, place.offset)
        yield forgery.copy(f"page-elements-{elements}", page_list, old, new)
    for stored in (0, 1, place.num_bytes - 1, place.num_bytes + 1, 0x7FFFFFFF, -1, -(1 << 31)):
        new = struct.pack("<iiQ", -page.num_elements, stored, place.offset)
        yield forgery.copy(f"page-bytes-{stored}", page_list, old, new)
    for offset in (0, place.offset + 1, size - 1, size, 10**15, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        # Without a checksum after the page, whatever lies inside the file would be read.
        for sign in (-1, 1) if offset >= size - 1 else (-1,):
            new = struct.pack("<iiQ", sign * page.num_elements, place.num_bytes, offset)
            yield forgery.copy(f"page-offset-{sign}-{offset}", page_list, old, new)
    group = forgery.group
    link = group.page_list_link
    old = struct.pack("<QiQ", link.env_uncomp_size, link.locator.num_bytes, link.locator.offset)
    for whole in (0, 7, link.env_uncomp_size - 1, link.env_uncomp_size + 1, 10**15, (1 << 64) - 1):
        new = struct.pack("<QiQ", whole, link.locator.num_bytes, link.locator.offset)
        yield forgery.copy(f"list-size-{whole}", forgery.footer, old, new)


# --- vectors --------------------------------------------------------------------------------------


def position_edits(target: Target) -> Iterator[Copy]:
    """Forge the positions of entries, and counts before the elements, in an uncompressed TTree."""
    for column, header in (("a", 0), ("b", 10)):
        offset, size = target.page(column)
        data = target.data[offset : offset + size]
        length = key_bytes(target, offset)
        last = struct.unpack(">i", data[length - 5 : length - 1])[0]
        entries = struct.unpack(">i", data[length - 9 : length - 5])[0]
        assert struct.unpack(">i", data[last : last + 4])[0] == entries + 1
        places = list(struct.unpack(f">{entries}i", data[last + 4 : last + 4 + 4 * entries]))
        assert places[0] == length

        def forged(name: str, at: int, value: int, kind: str = ">i") -> Copy:
            text = struct.pack(kind, value)
            return Copy(f"{column}-{name}", edits=((offset + at, text),))  # noqa: B023  # called before the next turn

        for value in (0, -1, entries, entries + 2, 0x7FFFFFFF):
            yield forged(f"positions-{value}", last, value)
        for entry in (0, 1, entries - 1):
            at = last + 4 + 4 * entry
            for value in (0, -1, length - 4, last + 8, places[entry] + 1, 0x7FFFFFFF, -(1 << 31)):
                yield forged(f"position-{entry}-{value}", at, value)
        # Before the one before it.
        yield forged("position-falls", last + 8, length - 1)
        if header:
            count = struct.unpack(">i", data[places[4] + 6 : places[4] + 10])[0]
            assert count
            for value in {0, count - 1, count + 1, 77, -1, 0x7FFFFFFF, -(1 << 31)}:
                yield forged(f"count-{value}", places[4] + 6, value)


def offset_edits(target: Target) -> Iterator[Copy]:
    """Forge offsets of an uncompressed RNTuple; the page gets the checksum that fits."""
    column = target.index.columns["b"]
    assert column.offsets is not None
    assert column.offsets.encodings[0].stored == np.uint64
    assert column.offsets.clusters is not None
    for page in (0, 1):
        offset, size = int(column.offsets.offset[page]), int(column.offsets.stored_bytes[page])
        first, stop = column.offsets.clusters[page]
        words = np.frombuffer(target.data[offset : offset + size], "<u8")
        for entry in (0, 1, len(words) - 1):
            before = int(words[entry - 1]) if entry else 0
            after = int(words[entry + 1]) if entry + 1 < len(words) else int(stop - first)
            for label, value in (
                ("falls", before - 1),
                ("exceeds", after + 1),
                ("beyond", int(stop - first) + 1),
                ("most", (1 << 64) - 1),
                ("negative", 1 << 63),
                ("large", 1 << 40),
            ):
                if (page, entry, label) in ((0, 0, "falls"), (1, 0, "falls")):
                    continue  # is most, and is known only from the page before
                changed = words.copy()
                changed[entry] = value % (1 << 64)
                page_bytes = changed.tobytes()
                checksum = xxhash.xxh3_64_digest(page_bytes)[::-1]
                yield Copy(f"page-{page}-{entry}-{label}", edits=((offset, page_bytes + checksum),))


def vector_forgeries(target: Target) -> Iterator[Copy]:
    """Forge what the metadata of an RNTuple says of a vector's pages, and seal it."""
    forgery = Forgery(target)
    page_list = forgery.lists[0]
    column = target.index.columns["b"]
    records = {record.field_id: record for record in forgery.records}
    number = next(i for i, name in enumerate(forgery.names) if name == "b")
    for what, record in (("offsets", records[number]), ("values", records[number + 1])):
        page = forgery.pages[record.idx].pages[0]
        place = page.locator
        old = struct.pack("<iiQ", -page.num_elements, place.num_bytes, place.offset)
        for elements in (1, page.num_elements - 1, page.num_elements + 1, 0x7FFFFFFF):
            new = struct.pack("<iiQ", -elements, place.num_bytes, place.offset)
            yield forgery.copy(f"{what}-elements-{elements}", page_list, old, new)
        for kind in (0x00, 0x02, 0x0E, 0x0F, 0x14, 0x1A, 0x1B, 0x1D, 0x7F):
            if kind == record.type:
                continue
            fields = (int(record.nbits), int(record.field_id), int(record.flags))
            old_record = struct.pack("<HHIH", int(record.type), *fields)
            new_record = struct.pack("<HHIH", kind, *fields)
            yield forgery.copy(f"{what}-type-{kind}", forgery.header, old_record, new_record)
    assert column.pages is not None


# --- running them ---------------------------------------------------------------------------------


def write_tree(path: Path, compression: str) -> None:
    columns = {name: COLUMNS[name] for name in LEAVES}
    write_leaves(path, LEAVES, columns, compression, Tree(cluster_entries=120, basket_bytes=700))


def write_ntuple(path: Path, compression: str) -> None:
    writer = Writer(compression, page_bytes=512)
    for each in FIELDS:
        writer.add(each, COLUMNS[each.name])
    writer.open(path, "events")
    writer.fill(0, ENTRIES, 120)
    writer.close()


def vector_columns() -> dict[str, Vector]:
    columns = {}
    for number, (name, (dtype, *_)) in enumerate(VECTORS.items()):
        offsets = offsets_of(np.arange(ENTRIES) * 7 // 5 % 4)
        values = (np.arange(offsets[-1]) % (5 + 2 * number)).astype(dtype)
        columns[name] = Vector(values, offsets)
    return columns


def write_vector_tree(path: Path, compression: str) -> None:
    """Write arrays with a count, and one std::vector, `b`."""
    file = create_file(path, compression)
    layout = Tree(cluster_entries=120, basket_bytes=900)
    place, tree = new_tree(file, layout.name)
    filler = VectorFiller(tree, layout.basket_bytes)
    for name, vector in vector_columns().items():
        if name == "b":
            filler.container(name, "double", vector, "std::vector<{}>")
        else:
            filler.leaves(name, VECTORS[name][1], vector, "n")
    filler.fill(0, ENTRIES, layout.cluster_entries)
    finish(file, place, tree, layout)


def write_vector_ntuple(path: Path, compression: str) -> None:
    writer = VectorWriter(compression, page_bytes=512)
    for name, vector in vector_columns().items():
        writer.vector(name, "std::vector<{}>", VECTORS[name][0], vector)
    writer.open(path, "events")
    writer.fill(0, ENTRIES, 120)
    writer.close()


COLUMN_NAMES = {
    "tree": list(LEAVES),
    "ntuple": [each.name for each in FIELDS],
    "vectortree": list(VECTORS),
    "vectorntuple": list(VECTORS),
}
WRITE: dict[str, Callable[[Path, str], None]] = {
    "tree": write_tree,
    "ntuple": write_ntuple,
    "vectortree": write_vector_tree,
    "vectorntuple": write_vector_ntuple,
}
FILES = [
    *(f"{kind}-{compression}" for kind in ("tree", "ntuple") for compression in COMPRESSIONS),
    *(f"vectortree-{compression}" for compression in VECTOR_FILES),
    *(f"vectorntuple-{compression}" for compression in VECTOR_FILES),
]
#: Of each kind one that is not compressed, and of some one that is.
ALWAYS = ["tree-none", "tree-zlib", "ntuple-none", "ntuple-zstd", "vectortree-none", "vectorntuple-none"]


def make_target(folder: Path, id: str, every: int) -> Target:
    kind, compression = id.split("-")
    path = folder / f"{id}.root"
    with contextlib.chdir(folder):  # ROOT writes the path into the file, whose size depends on it
        WRITE[kind](Path(path.name), compression)
    names = COLUMN_NAMES[kind]
    target = Target(path, sources.index(Location(str(path), "events"), names))
    size = path.stat().st_size
    target.copies = [*[*cuts(size)][::every], *[*edits(size, id)][::every], *record_edits(target)]
    if kind.endswith("tree"):
        target.copies += basket_edits(target)
    if compression != "none":
        target.copies += piece_edits(target)
    elif kind == "vectortree":
        target.copies += position_edits(target)
    elif kind == "vectorntuple":
        target.copies += [*offset_edits(target), *vector_forgeries(target)]
    elif kind == "tree":
        target.copies += tree_record_edits(target)
    else:
        target.copies += forgeries(target)
    assert len({copy.id for copy in target.copies}) == len(target.copies)
    return target


@pytest.fixture(scope="session")
def every(pytestconfig: pytest.Config) -> int:
    """Of how many copies that are cut or overwritten anywhere one is read."""
    return 1 if pytestconfig.getoption("thorough") else EVERY


@pytest.fixture(scope="session")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory, every: int
) -> Callable[[str], tuple[Target, list[Outcome]]]:
    """Read copies of several files in one process, so that a crash is seen and memory can be limited."""

    @functools.cache
    def read_always() -> dict[str, tuple[Target, list[Outcome]]]:
        return read_copies(tmp_path_factory.mktemp("damage"), ALWAYS, every)

    @functools.cache
    def read_others() -> dict[str, tuple[Target, list[Outcome]]]:
        others = [id for id in FILES if id not in ALWAYS]
        return read_copies(tmp_path_factory.mktemp("damage"), others, every)

    return lambda id: (read_always if id in ALWAYS else read_others)()[id]


def read_copies(folder: Path, ids: Sequence[str], every: int) -> dict[str, tuple[Target, list[Outcome]]]:
    targets = {id: make_target(folder, id, every) for id in ids}
    tasks = [
        {
            "path": str(target.path),
            "name": "events",
            "columns": list(target.index.columns),
            "copies": [
                [copy.id, copy.length, [(at, text.hex()) for at, text in copy.edits]]
                for copy in target.copies
            ],
        }
        for target in targets.values()
    ]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", str(WORKER)],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        check=False,
    )
    results: dict[str, list[list[str]]] = {}
    for line in done.stdout.splitlines():
        path, *result = json.loads(line)
        results.setdefault(path, []).append(result)
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-3000:])

    outcomes = {}
    for id, target in targets.items():
        copies = {copy.id: copy for copy in target.copies}
        found = [
            Outcome(copies[name], outcome, detail) for name, outcome, detail in results[str(target.path)]
        ]
        assert [each.copy for each in found] == target.copies
        outcomes[id] = target, found
    return outcomes


Outcomes = Callable[[str], tuple[Target, list[Outcome]]]
every_file = pytest.mark.parametrize(
    "id", [pytest.param(id, marks=[pytest.mark.thorough] * (id not in ALWAYS)) for id in FILES]
)


@every_file
def test_nothing_but_values_and_errors_of_our_own(id: str, outcomes: Outcomes) -> None:
    _, found = outcomes(id)
    assert [each for each in found if each.outcome not in ("same", "refused", "different")] == []


@every_file
def test_cut_files_are_refused(id: str, outcomes: Outcomes, every: int) -> None:
    target, found = outcomes(id)
    size = len(target.data)
    cut = [each for each in found if each.copy.length is not None]
    assert len(cut) == CUTS // every + 1
    for each in cut:
        assert each.outcome == "refused"
        assert each.detail.startswith(f"DamagedFileError: {target.path.with_suffix('.copy.root')} is ")
        if (each.copy.length or 0) >= 20:
            assert f"is truncated: expected {size} bytes, got {each.copy.length}. Copy" in each.detail
        else:
            assert f"is not a ROOT file: it has {each.copy.length} bytes" in each.detail


def without_checksum(target: Target) -> list[tuple[int, int]]:
    """Return the spans of a TTree's file whose bytes nothing vouches for."""
    if target.index.format == "RNTuple":
        return []
    spans = []
    for column in target.index.columns.values():
        assert column.pages is not None
        for number in range(len(column.pages)):
            offset, size = target.page(column.name, number)
            start = offset + key_bytes(target, offset)
            if target.data[start : start + 2] not in (b"ZL", b"XZ", b"L4"):
                spans.append((start, offset + size))
    with uproot.open(target.path) as file:
        key = file.key("events")
        start = key.fSeekKey + key.fKeylen
        if target.data[start : start + 2] not in (b"ZL", b"XZ", b"L4"):
            spans.append((start, key.fSeekKey + key.fNbytes))
    return spans


@every_file
def test_numbers_change_only_where_nothing_vouches_for_them(id: str, outcomes: Outcomes) -> None:
    target, found = outcomes(id)
    different = [each for each in found if each.outcome == "different"]
    spans = without_checksum(target)
    if target.index.format == "RNTuple":
        assert different == []
    for each in different:
        assert any(
            start < position + len(text) and position < stop
            for position, text in each.copy.edits
            for start, stop in spans
        ), each
    if id == "tree-none":
        assert different  # else this test tests nothing


@every_file
def test_what_was_forged_is_refused(id: str, outcomes: Outcomes) -> None:
    _, found = outcomes(id)
    forged = [each for each in found if not each.copy.id.startswith(("cut-", "edit-"))]
    assert forged
    accepted = [each for each in forged if each.outcome != "refused"]
    # Another value for a field that the file does not need is no damage.
    assert accepted == []


@every_file
def test_messages_name_the_file_and_what_to_do(id: str, outcomes: Outcomes) -> None:
    target, found = outcomes(id)
    path = target.path.with_suffix(".copy.root")
    for each in found:
        if each.outcome != "refused":
            continue
        kind, _, message = each.detail.partition(": ")
        assert message.startswith(str(path)), each
        assert message.endswith((".", "?")), each
        assert "\n" not in message, each
        assert ".." not in message.replace(str(path), ""), each
        if kind == "DamagedFileError":
            assert "produce" in message or "Leave it out" in message, each


def one(outcomes: Outcomes, file: str, copy: str) -> str:
    target, found = outcomes(file)
    path = str(target.path.with_suffix(".copy.root"))
    return next(each.detail for each in found if each.copy.id == copy).replace(path, "FILE")


def test_metadata_larger_than_any_compression_makes_it() -> None:
    def read_locator(*_: object) -> None:
        pytest.fail("was decompressed")

    sizes = {"fSeekHeader": 100, "fNBytesHeader": 50, "fLenHeader": 50 * MOST_EXPANSION + 1}
    ntuple = SimpleNamespace(member=sizes.__getitem__, read_locator=read_locator)
    with pytest.raises(DamagedFileError) as raised:
        check_envelopes("FILE:events", ntuple)
    assert str(raised.value) == (
        "FILE:events: its header is damaged: it stores 50 bytes for 1638401 uncompressed ones. "
        "Copy or produce the file again."
    )


PAGE = "FILE:events: the page of column 'b' with the entries"
AGAIN = "Copy or produce the file again."

#: Files, copies of them, and the whole message.
MESSAGES = [
    (
        "tree-none",
        "cut-0",
        "FILE is not a ROOT file: it has 0 bytes and does not start with 'root'. "
        "Name a ROOT file, or copy or produce it again.",
    ),
    (
        "tree-none",
        "key-nevbuf-1",
        f"{PAGE} [78, 120) is damaged: it holds 1 entries instead of 42. {AGAIN}",
    ),
    ("tree-none", "tree-entries--1", f"FILE:events claims -1 entries. {AGAIN}"),
    (
        "tree-none",
        "tree-entries-0",
        "FILE:events: the pages of column 'a' do not cover its 0 entries "
        f"once and in order (they cover [0, 0)). {AGAIN}",
    ),
    (
        "tree-none",
        "tree-entries-1000000000000000",
        "FILE:events: the page of column 'a' with the entries [240, 1000000000000000) is damaged: "
        f"it stores 310 bytes for 3999999999999040 uncompressed ones. {AGAIN}",
    ),
    ("tree-none", "tree-seek--1", f"FILE:events: column 'b' has baskets without a position. {AGAIN}"),
    ("tree-none", "tree-bytes-1", f"{PAGE} [78, 120) is damaged: its key has 1 bytes. {AGAIN}"),
    (
        "tree-zlib",
        "piece-compressed-0",
        f"{PAGE} [78, 120) is damaged: a compressed piece claims to be empty. {AGAIN}",
    ),
    (
        "tree-zlib",
        "piece-algorithm-524f",
        f"{PAGE} [78, 120) is damaged: its compression is unknown: b'RO'. {AGAIN}",
    ),
    (
        "ntuple-zstd",
        "piece-uncompressed-0",
        f"{PAGE} [64, 120) is damaged: a compressed piece claims to be empty. {AGAIN}",
    ),
    (
        "ntuple-none",
        "b-bits-200",
        f"FILE:events: column 'b' claims 200 bits for each element, expected 64. {AGAIN}",
    ),
    (
        "ntuple-none",
        "q-bits-0",
        f"FILE:events: column 'q' claims 0 bits for each element, expected 1 to 32. {AGAIN}",
    ),
    (
        "ntuple-none",
        "q-range-3.0--3.0",
        f"FILE:events: column 'q' is quantized in the range [3.0, -3.0]. {AGAIN}",
    ),
    (
        "ntuple-none",
        "summary-0-119",
        f"FILE:events: column 'a' has 120 elements in the cluster of entries [0, 119). {AGAIN}",
    ),
    (
        "ntuple-none",
        "summary-0-121",
        f"FILE:events: column 'a' lacks 1 of the entries [0, 121). {AGAIN}",
    ),
    (
        "ntuple-none",
        "list-size-7",
        f"FILE:events: its page list is damaged: it has SIZE bytes instead of 7. {AGAIN}",
    ),
    (
        "vectortree-none",
        "a-positions-0",
        "FILE:events: the page of column 'a' with the entries [60, 120) is damaged: it tells 0 "
        f"positions for 60 entries. {AGAIN}",
    ),
    (
        "vectortree-none",
        "a-position-1-0",
        "FILE:events: the page of column 'a' with the entries [60, 120) is damaged: entry 60 lies at "
        f"the bytes [0, -70) of 360, with elements of 4 bytes. {AGAIN}",
    ),
    (
        "vectortree-none",
        "b-count--1",
        "FILE:events: the page of column 'b' with the entries [29, 56) is damaged: entry 33 tells "
        f"another number of elements than its size does. {AGAIN}",
    ),
    (
        "vectorntuple-none",
        "page-0-1-large",
        "FILE:events: the page of column 'b' with the entries [0, 64) is damaged: entry 1 does not end "
        f"between the one before it and the 180 elements of its cluster. {AGAIN}",
    ),
    (
        "vectorntuple-none",
        "offsets-elements-1",
        f"FILE:events: column 'b' lacks 63 of the entries [0, 120). {AGAIN}",
    ),
]


@pytest.mark.parametrize(("file", "copy", "message"), MESSAGES, ids=[f"{m[0]}-{m[1]}" for m in MESSAGES])
def test_messages(file: str, copy: str, message: str, outcomes: Outcomes) -> None:
    got = one(outcomes, file, copy)
    if "SIZE" in message:
        got = re.sub(r"has \d+ bytes", "has SIZE bytes", got)
    assert got == f"DamagedFileError: {message}"
