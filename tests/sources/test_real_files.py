"""Files from the wild: ROOT's own, compared with ROOT, and a folder of others, compared with uproot.

The folder is named by the environment variable ``ROOTFEED_TEST_DATA``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from rootfeed import sources
from rootfeed.errors import DamagedFileError, RootfeedError, UnsupportedFileError
from rootfeed.schema import Column, FileIndex, Jagged
from rootfeed.sources import Location, Scratch
from rootfeed.sources.metadata import open_object
from rootfeed.sources.objects import RootObject
from rootfeed.sources.storage import Address
from rootfiles import read_with_root
from rootfiles.vectors import read_vectors_with_root

Array = np.ndarray

NAMES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")

CS = 'it uses the compression "CS" of very old ROOT releases'
PREVIEW = "was written by a preview of RNTuple (before ROOT 6.34)"

#: Files that are refused: with which error and which words.
REFUSED: dict[str, tuple[type[RootfeedError], str]] = {
    "legacy/mlp/mlpHiggs.root": (UnsupportedFileError, CS),
    "math/quadp/stock.root": (UnsupportedFileError, CS),
    "rootwheel/mlpHiggs.root": (UnsupportedFileError, CS),
    "unroot/test_ntuple_storage_2col_10e6evt.root": (UnsupportedFileError, PREVIEW),
    "coffeagit/bad_delphes.root": (DamagedFileError, "was never closed by the program that wrote it"),
}
#: Columns where ROOT is right and uproot differs in the last bits: packed reals with a range, for
#: which uproot divides by 2^bits / (high - low) in another order and precision than ROOT does.
ROUNDED_BY_UPROOT = {
    "skhep/uproot-double32-float16.root": (
        *("double32_32", "double32_30", "double32_20", "double32_10", "double32_5"),
        *("float16_16", "float16_10", "float16_5", "float16_3"),
        *("array_30", "array_10"),
    )
}

#: A file whose baskets leave the positions of entries out: uproot takes the counts of the basket with
#: the same number, whatever its entries are.
WITHOUT_POSITIONS = "skhep/uproot-small-dy-nooffsets.root"

#: How many vectors of numbers these files hold, all of which our kernels decode.
VECTORS = {
    "coffea/nano_tt_v12.root": 247,
    "coffea/nano_dy_rntuple.root": 758,
    "coffeagit/PHYSLITE_example.root": 669,
    "coffea/delphes.root": 830,
}

#: Files of which something of their own is known.
NAMED = (*REFUSED, *ROUNDED_BY_UPROOT, *VECTORS, WITHOUT_POSITIONS)
LARGE_BYTES = 20_000


def folder_of_tutorials() -> Path | None:
    package = importlib.util.find_spec("ROOT")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "tutorials"


def files_in(folder: Path | None, reason: str) -> list[Any]:
    if folder is None:
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(path, id=path.relative_to(folder).as_posix(), marks=marks_of(path))
        for path in sorted(folder.rglob("*.root"))
    ]


def marks_of(path: Path) -> list[pytest.MarkDecorator]:
    """Return what large files are marked as that have nothing which others do not have, too."""
    is_large = path.stat().st_size > LARGE_BYTES and short_name(path) not in NAMED
    return [pytest.mark.thorough] if is_large else []


def short_name(path: Path) -> str:
    """Return a file's name as the tables have it."""
    return next((name for name in NAMED if path.as_posix().endswith(name)), path.name)


def objects_in(file: Any) -> list[str]:
    names = file.classnames(recursive=True, filter_classname=lambda name: name in NAMES)
    return list(dict.fromkeys(key.rpartition(";")[0] for key in names))


def read_columns(
    found: RootObject, kinds: Sequence[str] = ("scalar",)
) -> tuple[FileIndex, dict[str, Any]]:
    """Read every column of numbers of an object."""
    location = Location(found.path, found.object_path)
    numbers = [
        column
        for column, type_ in found.types().items()
        if type_.kind in kinds and type_.dtype is not None
    ]
    index = sources.index(location, numbers)

    def out_for(column: str) -> Array:
        return np.empty(index.entries, index.columns[column].type.dtype)

    scratch = Scratch()
    reading = sources.read(
        index, list(index.columns), 0, index.entries, out_for, scratch, threading.Event()
    )
    columns = dict(reading)
    scratch.close()
    return index, columns


def assert_refused(path: Path) -> None:
    kind, words = REFUSED[short_name(path)]
    with uproot.open(path) as file:
        names = [] if kind is DamagedFileError else objects_in(file)
    for name in names or [None]:
        with pytest.raises(kind) as raised:
            sources.types(Location(str(path), name))
        assert str(raised.value).startswith(str(path))
        assert words in str(raised.value)
        assert str(raised.value).endswith(".")


@pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("path", files_in(folder_of_tutorials(), "the real ROOT is not installed"))
def test_roots_own_files_read_as_root_reads_them(path: Path) -> None:
    if short_name(path) in REFUSED:
        assert_refused(path)
        return
    with uproot.open(path) as file:
        names = objects_in(file)
    for name in names:
        with open_object(Address((str(path),)), name) as found:
            _, got = read_columns(found)
        want = read_with_root(path, name)
        assert list(got) == list(want)
        for column, values in want.items():
            assert got[column].dtype == values.dtype
            assert got[column].tobytes() == values.tobytes(), f"{name}: {column}"


def know_children(ntuple: Any) -> None:
    """Tell each of uproot's fields its children, for which it would look through all of them.

    That takes five seconds where there are three thousand. It matters to nothing but the time.
    """
    children: dict[int, list[int]] = {}
    for number, record in enumerate(ntuple.field_records):
        if record.parent_field_id != number:
            children.setdefault(record.parent_field_id, []).append(number)

    def named(parent: int) -> list[Any]:
        fields = []
        for number in children.get(parent, []):
            field = ntuple.all_fields[number]
            fields += named(number) if field.is_anonymous else [field]
        return fields

    for number, field in enumerate(ntuple.all_fields):
        field._fields = named(number)


def assert_scalars(got: Array, column: Column, handle: Any, short: str) -> None:
    """Compare the numbers of a column with uproot's."""
    if isinstance(handle, uproot.behaviors.RNTuple.RNTuple):
        values = np.asarray(handle.all_fields[int(column.key)].array())
    else:
        values = handle[column.key].array(library="np")
        values = values[column.leaf] if column.leaf else values
    assert got.dtype == column.type.dtype
    if "RNTupleCardinality" in column.type.text:
        assert values.dtype == np.int64  # uproot's, whatever the file says
        values = values.astype(got.dtype)
    if column.name in ROUNDED_BY_UPROOT.get(short, ()):
        assert got.tobytes() != values.tobytes()
        np.testing.assert_allclose(got, values, rtol=3e-7, atol=3e-7)
        return
    assert got.dtype == values.dtype.newbyteorder("=")
    assert got.tobytes() == values.astype(got.dtype).tobytes(), column.name


def flattened(values: Any) -> tuple[Array, Array]:
    counts = ak.to_numpy(ak.num(values, axis=1))
    return np.concatenate([[0], np.cumsum(counts)]), ak.to_numpy(ak.flatten(values, axis=1))


def assert_vectors(got: Jagged, column: Column, handle: Any, short: str) -> None:
    """Compare the vectors of a column with uproot's."""
    # Whatever is a vector of plain numbers goes through our kernels.
    assert column.pages is not None, column.name
    assert got.values.dtype == column.type.dtype
    if short == WITHOUT_POSITIONS and column.name.startswith("Jet_"):
        return  # below
    is_ntuple = isinstance(handle, uproot.behaviors.RNTuple.RNTuple)
    read = (handle.all_fields[int(column.key)] if is_ntuple else handle[column.key]).array()
    read = read[column.leaf] if column.leaf else read
    if column.type.shape:
        read = ak.flatten(read, axis=None).to_numpy().reshape(len(read), -1)
    offsets, values = flattened(read)
    assert got.offsets.tolist() == offsets.tolist(), column.name
    if column.name in ROUNDED_BY_UPROOT.get(short, ()):
        np.testing.assert_allclose(got.values, values, rtol=3e-7, atol=3e-7)
        return
    assert values.dtype.newbyteorder("=") == column.type.dtype
    assert got.values.tobytes() == values.astype(got.values.dtype).tobytes(), column.name


@pytest.mark.parametrize(
    "path",
    files_in(
        Path(os.environ["ROOTFEED_TEST_DATA"]) if "ROOTFEED_TEST_DATA" in os.environ else None,
        "ROOTFEED_TEST_DATA names no folder",
    ),
)
def test_real_files_read_as_uproot_reads_them(path: Path) -> None:
    short = short_name(path)
    if short in REFUSED:
        assert_refused(path)
        return
    with uproot.open(path) as file:
        names = objects_in(file)
    vectors = 0
    for name in names:
        # Numbers and vectors at once: opening a file with a thousand branches takes a second.
        with open_object(Address((str(path),)), name) as found:
            index, got = read_columns(found, ("scalar", "vector"))
            if index.format == "RNTuple":
                know_children(found.handle)
            for column, values in got.items():
                if isinstance(values, Jagged):
                    vectors += 1
                    assert_vectors(values, index.columns[column], found.handle, short)
                else:
                    assert_scalars(values, index.columns[column], found.handle, short)
    assert vectors == VECTORS.get(short, vectors)


@pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")
@pytest.mark.skipif("ROOTFEED_TEST_DATA" not in os.environ, reason="it names no folder")
def test_vectors_without_positions_are_roots() -> None:
    path = Path(os.environ["ROOTFEED_TEST_DATA"]) / WITHOUT_POSITIONS
    with open_object(Address((str(path),)), "tree") as found:
        index, got = read_columns(found, ("vector",))
    dtypes = {column: str(jagged.values.dtype) for column, jagged in got.items()}
    for column, want in read_vectors_with_root(path, "tree", dtypes).items():
        assert index.columns[column].counts is not None
        assert got[column].offsets.tolist() == want.offsets.tolist()
        assert got[column].values.tobytes() == want.values.tobytes()
