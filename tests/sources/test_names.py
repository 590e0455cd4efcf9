"""Columns of one name: the first one counts, in its type and in its values."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import DuplicateNameWarning
from rootfeed.sources import Location
from rootfeed.sources.fields import fields
from rootfeed.sources.uproot_internals import ntuple_records
from rootfiles.odd import ENTRIES, load_odd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

NUMBERS = np.arange(ENTRIES)

#: Every name that two columns have, the types of both, and the first one's value in the entry 5.
SAME = {
    "number": ("float64", "float64", 5.0),
    "vector": ("std::vector<float>", "std::vector<float>", [5.0, 5.0]),
    "scalar_then_nested": ("float64", "std::vector<std::vector<float>>", 5.0),
    "nested_then_scalar": ("std::vector<std::vector<float>>", "float64", [[5.0], [], [10.0, 3.0]]),
    "leaves.x": ("float32", "float64", 5.0),
    "object.n": ("int32", "int32", 5),
    "object.v": ("float32", "float32", 2.5),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    load_odd().write_same_names(f"{folder}/twice.root", True)
    load_odd().write_same_names(f"{folder}/once.root", False)
    return folder


def sentence(path: Path, name: str) -> str:
    first, second, _ = SAME[name]
    return (
        f"{path}:events has 2 columns of the name {name!r} ({first}, then {second}): the first one "
        "counts, as in ROOT. Rename the others to read them."
    )


def test_a_warning_names_the_types_of_both(folder: Path) -> None:
    path = folder / "twice.root"
    with pytest.warns(DuplicateNameWarning) as found:
        rf.open(path)
    assert [str(each.message) for each in found] == [sentence(path, name) for name in SAME]
    assert {each.filename for each in found} == {__file__}


@pytest.mark.parametrize("name", SAME)
def test_type_and_values_are_the_first_ones(folder: Path, name: str) -> None:
    location = Location(str(folder / "twice.root"), "events")
    with pytest.warns(DuplicateNameWarning):
        _, types = sources.types(location)
    index = sources.index(location, [name])
    first, _, value = SAME[name]
    assert str(types[name]) == str(index.columns[name].type) == first
    got = sources.read_awkward(index, name, 0, ENTRIES)
    assert ak.to_list(got[5]) == value
    once = sources.index(Location(str(folder / "once.root"), "events"), [name])
    assert ak.array_equal(got, sources.read_awkward(once, name, 0, ENTRIES))


def test_another_branchs_members_have_their_paths(folder: Path) -> None:
    location = Location(str(folder / "twice.root"), "events")
    index = sources.index(location, ["object.n", "object/n"])
    assert dict(index.duplicates) == {"object.n": sentence(folder / "twice.root", "object.n")}
    for name, first in (("object.n", 0), ("object/n", 1000)):
        got = ak.to_numpy(sources.read_awkward(index, name, 0, ENTRIES))
        assert np.array_equal(got, first + NUMBERS)


@pytest.mark.parametrize("first", ["twice", "once"])
def test_files_with_and_without_one_are_read_alike(folder: Path, first: str) -> None:
    other = {"twice": "once", "once": "twice"}[first]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        frame = rf.open([folder / f"{first}.root", folder / f"{other}.root"])
        got = frame.arrays(["number", "scalar_then_nested", "leaves.x", "vector"])
        frame.arrays(["number"])
    for name in ("number", "scalar_then_nested", "leaves.x"):
        assert np.array_equal(got[name], np.concatenate([NUMBERS, NUMBERS]))
    assert ak.all(got["vector"] < 1000)
    # At once of the first file, of the others when a column is used: of each name once.
    told = sorted(str(each.message) for each in found)
    names = SAME if first == "twice" else ("number", "scalar_then_nested", "leaves.x", "vector")
    assert told == sorted(sentence(folder / "twice.root", name) for name in names)


def test_a_subbranch_is_no_column_of_the_tree(tmp_path: Path) -> None:
    """uproot finds a branch by its name anywhere in the tree."""
    path = tmp_path / "file.root"
    load_odd().write_shadowed(str(path))
    index = sources.index(Location(str(path), "events"), ["n", "object.n"])
    assert ak.to_list(sources.read_awkward(index, "n", 3, 4)) == [["3"]]
    assert ak.to_list(sources.read_awkward(index, "object.n", 3, 4)) == [1003]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of TStreamerInfo, which RNTuple does not need
def test_a_members_name_is_its_own_class_and_not_its_bases(tmp_path: Path) -> None:
    path = tmp_path / "file.root"
    load_odd().write_shadowing(str(path))
    with uproot.open(path) as file:
        names = [name for name, _, _ in fields(ntuple_records(file["events"]))]
    assert names == ["object.:_0.x", "object.base", "object.x"]
    index = sources.index(Location(str(path), "events"), names)
    for name, value in {"object.:_0.x": 1.0, "object.base": 2, "object.x": 3.0}.items():
        assert ak.to_list(sources.read_awkward(index, name, 0, 1)) == [value]
