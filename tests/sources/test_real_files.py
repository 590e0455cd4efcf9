"""Files from the wild: ROOT's own, compared with ROOT, and a folder of others, compared with uproot.

The folder is named by the environment variable ``ROOTFEED_TEST_DATA``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from rootfeed import sources
from rootfeed.errors import DamagedFileError, RootfeedError, UnsupportedFileError
from rootfeed.schema import Column, FileIndex
from rootfeed.sources import Location, Scratch
from rootfeed.sources.metadata import RootObject, open_object
from rootfiles import read_with_root

Array = np.ndarray

NAMES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")

CS = 'it uses the compression "CS" of very old ROOT releases'
PREVIEW = "was written by a preview of RNTuple (before ROOT 6.34)"

#: Files, and columns of files, that are refused: with which error and which words.
REFUSED: dict[str, tuple[type[RootfeedError], str]] = {
    "legacy/mlp/mlpHiggs.root": (UnsupportedFileError, CS),
    "math/quadp/stock.root": (UnsupportedFileError, CS),
    "rootwheel/mlpHiggs.root": (UnsupportedFileError, CS),
    "unroot/test_ntuple_storage_2col_10e6evt.root": (UnsupportedFileError, PREVIEW),
    "coffeagit/bad_delphes.root": (DamagedFileError, "was never closed by the program that wrote it"),
}
REFUSED_COLUMNS = {
    ("unroot/issue246.root", "DSID"): "column 'DSID' has 9 entries, the tree has 10",
    ("unroot/issue246.root", "MCWgtIndex"): "column 'MCWgtIndex' has 9 entries, the tree has 10",
}

#: Columns where ROOT is right and uproot differs in the last bits: packed reals with a range, for
#: which uproot divides by 2^bits / (high - low) in another order and precision than ROOT does.
ROUNDED_BY_UPROOT = {
    "skhep/uproot-double32-float16.root": (
        *("double32_32", "double32_30", "double32_20", "double32_10", "double32_5"),
        *("float16_16", "float16_10", "float16_5", "float16_3"),
    )
}


def folder_of_tutorials() -> Path | None:
    package = importlib.util.find_spec("ROOT")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "tutorials"


def files_in(folder: Path | None, reason: str) -> list[Any]:
    if folder is None:
        return [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(path, id=path.relative_to(folder).as_posix())
        for path in sorted(folder.rglob("*.root"))
    ]


def short_name(path: Path) -> str:
    """Return a file's name as the tables have it."""
    names = [*REFUSED, *ROUNDED_BY_UPROOT, *(name for name, _ in REFUSED_COLUMNS)]
    return next((name for name in names if path.as_posix().endswith(name)), path.name)


def objects_in(file: Any) -> list[str]:
    names = file.classnames(recursive=True, filter_classname=lambda name: name in NAMES)
    return list(dict.fromkeys(key.rpartition(";")[0] for key in names))


def read_columns(found: RootObject) -> tuple[FileIndex, dict[str, Array]]:
    """Read every scalar column of an object; those that are refused are in the table."""
    location = Location(found.path, found.object_path)
    refused = {
        column: words
        for (file, column), words in REFUSED_COLUMNS.items()
        if file == short_name(Path(found.path)) and column in found.types()
    }
    for column, words in refused.items():
        with pytest.raises(DamagedFileError) as raised:
            sources.index(location, [column])
        assert str(raised.value).startswith(f"{found.path}:{found.object_path}: {words}")
    scalars = [column for column, type_ in found.types().items() if type_.kind == "scalar"]
    index = sources.index(location, [column for column in scalars if column not in refused])

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
        with open_object(str(path), name) as found:
            _, got = read_columns(found)
        want = read_with_root(path, name)
        assert list(got) == list(want)
        for column, values in want.items():
            assert got[column].dtype == values.dtype
            assert got[column].tobytes() == values.tobytes(), f"{name}: {column}"


def read_with_uproot(handle: Any, column: Column) -> Array:
    key = column.key
    if isinstance(handle, uproot.behaviors.RNTuple.RNTuple):
        key = key.replace("._", ".")  # uproot leaves out the underscore of a pair's members
        return np.asarray(handle[key].array())
    values = handle[key].array(library="np")
    return values[column.leaf] if column.leaf else values


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
    for name in names:
        with open_object(str(path), name) as found:
            index, got = read_columns(found)
            want = {column: read_with_uproot(found.handle, index.columns[column]) for column in got}
        for column, values in want.items():
            type_ = index.columns[column].type
            assert got[column].dtype == type_.dtype
            if "RNTupleCardinality" in type_.text:
                assert values.dtype == np.int64  # uproot's, whatever the file says
                values = values.astype(got[column].dtype)
            if column in ROUNDED_BY_UPROOT.get(short, ()):
                assert got[column].tobytes() != values.tobytes()
                np.testing.assert_allclose(got[column], values, rtol=3e-7, atol=3e-7)
                continue
            assert got[column].dtype == values.dtype.newbyteorder("=")
            native = values.astype(got[column].dtype)
            assert got[column].tobytes() == native.tobytes(), f"{name}: {column}"
