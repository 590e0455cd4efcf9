"""A page is never another column's: baskets in other files, wrong positions, and names that changed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import DamagedFileError, UnsupportedColumnError
from rootfeed.sources import Location
from rootfeed.sources.keys import is_labelled, label, name_of
from rootfiles.merged import merge
from rootfiles.odd import ENTRIES, load_odd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

NUMBERS = np.arange(ENTRIES)
LONG = "n" * 300
AGAIN = "Copy or produce the file again."

Pair = Callable[..., Path]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Write a tree with the columns `a` (from 0 on) and `b` (from 1000 on), among others."""

    def write(name: str = "pair", a: str = "a", b: str = "b", compression: int = 505) -> Path:
        path = tmp_path / f"{name}.root"
        load_odd().write_pair(str(path), "events", a, b, compression)
        return path

    return write


def read(path: Path, name: str, tree: str = "events") -> ak.Array:
    index = sources.index(Location(str(path), tree), [name])
    return sources.read_awkward(index, name, 0, index.entries)


# --- other files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["data.root", f"{'d' * 200}.root", "/".join(["d" * 100] * 3)])
@pytest.mark.parametrize(
    ("branch", "columns"),
    [("a", ["a"]), ("nested", ["nested"]), ("inner", ["inner.n", "inner.v"])],
)
def test_data_in_another_file_is_refused_by_its_name(
    tmp_path: Path, branch: str, columns: list[str], other: str
) -> None:
    path = tmp_path / "file.root"
    place = tmp_path / other
    place.parent.mkdir(parents=True, exist_ok=True)
    load_odd().write_to_other_file(str(path), str(place), branch)
    for column in columns:
        with pytest.raises(UnsupportedColumnError) as raised:
            rf.open(path).arrays([column])
        assert str(raised.value) == (
            f"{path}:events: the data of column {column!r} lies in another file, {str(place)!r} "
            "(TBranch::SetFile), which rootfeed does not read. Leave it out, or write the tree into one "
            "file (with TTree::CloneTree, or Snapshot of ROOT's RDataFrame)."
        )
    assert np.array_equal(rf.open(path).arrays(["b"])["b"], 1000 + NUMBERS)


# --- wrong positions ------------------------------------------------------------------------------


def baskets(path: Path, *names: str) -> list[list[int]]:
    with uproot.open(path) as file:
        return [
            [int(seek) for seek in file["events"][name].member("fBasketSeek") if seek] for name in names
        ]


def with_places(path: Path, changes: dict[int, int]) -> None:
    """Change positions of baskets in the tree's uncompressed record."""
    with uproot.open(path) as file:
        start = file.key("events").fSeekKey
    data = bytearray(path.read_bytes())
    found = {old: data.index(struct.pack(">q", old), start) for old in changes}
    for old, new in changes.items():
        data[found[old] : found[old] + 8] = struct.pack(">q", new)
    path.write_bytes(data)


@pytest.mark.parametrize("basket", [0, 1, -1])
def test_another_columns_page_is_no_page(pair: Pair, basket: int) -> None:
    path = pair(compression=0)
    a, b = baskets(path, "a", "b")
    with_places(path, {a[basket]: b[basket]})
    index = sources.index(Location(str(path), "events"), ["a"])
    bounds = index.columns["a"].pages.bounds  # type: ignore[union-attr]
    page = range(len(a))[basket]
    with pytest.raises(DamagedFileError) as raised:
        read(path, "a")
    assert str(raised.value) == (
        f"{path}:events: the page of column 'a' with the entries [{bounds[page]}, {bounds[page + 1]}) "
        f"is damaged: it lies where a page of the column 'b' is. {AGAIN}"
    )
    assert np.array_equal(ak.to_numpy(read(path, "b")), 1000 + NUMBERS)


def test_exchanged_pages_are_no_renamed_branches(pair: Pair) -> None:
    path = pair(compression=0)
    a, b = baskets(path, "a", "b")
    with_places(path, dict(zip(a + b, b + a, strict=True)))
    for column in "ab":
        with pytest.raises(DamagedFileError, match=r"it lies where a page of the column '[ab]' is"):
            read(path, column)


def test_pages_that_uproot_reads_are_looked_at_too(pair: Pair) -> None:
    path = pair(compression=0)
    nested, a = baskets(path, "nested", "a")
    with_places(path, {nested[0]: a[0]})
    with pytest.raises(DamagedFileError, match=r"'nested' .* it lies where a page of the column 'a' is"):
        read(path, "nested")


def test_a_longer_name_is_known_too(pair: Pair) -> None:
    path = pair(b="nested_as_well", compression=0)
    nested, b = baskets(path, "nested", "nested_as_well")
    with_places(path, {nested[0]: b[0]})
    with pytest.raises(DamagedFileError, match="a page of the column 'nested_as_well' is"):
        read(path, "nested")


@pytest.mark.parametrize("column", ["a", "nested"])
@pytest.mark.parametrize("place", [0, 5, 1 << 40, -1, -2])
def test_a_position_without_a_key_is_damage(pair: Pair, place: int, column: str) -> None:
    path = pair(compression=0)
    [places] = baskets(path, column)
    with_places(path, {places[1]: place})
    with pytest.raises(DamagedFileError):
        read(path, column)


@pytest.mark.parametrize("column", ["a", "nested"])
def test_what_is_no_basket_is_no_page(pair: Pair, column: str) -> None:
    path = pair(compression=0)
    [(place, *_)] = baskets(path, column)
    data = bytearray(path.read_bytes())
    place = data.index(label(column), place)
    data[place + 2 : place + 3] = b"X"
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=f"column '{column}' .* its key is not a basket's"):
        read(path, column)


# --- names that changed, or are odd ---------------------------------------------------------------


def assert_healthy(path: Path, a: str, b: str, tree: str = "events", times: int = 1) -> None:
    numbers = np.tile(NUMBERS, times)
    want = {
        a: numbers,
        b: 1000 + numbers,
        "dotted.n": numbers,
        "plain.n": numbers,
        "plain.v": numbers / 2,
    }
    for name, values in want.items():
        assert np.array_equal(ak.to_numpy(read(path, name, tree)), values), name
    assert len(read(path, "nested", tree)) == len(numbers)


@pytest.mark.parametrize("name", ["a", "long", "a.b", "a b", "é"])
def test_any_name_is_found_in_keys(pair: Pair, name: str) -> None:
    name = LONG if name == "long" else name
    assert_healthy(pair(a=name), name, "b")


def test_keys_with_long_positions_are_known() -> None:
    for name in ("a", LONG):
        for version, positions in ((4, 8), (1004, 16)):
            head = struct.pack(">ihiihh", 900, version, 9, 0, 80, 1) + bytes(positions)
            key = np.frombuffer(head + label(name) + b"\x06events", np.uint8)
            assert is_labelled(key, label(name))
            assert name_of(key) == name
            assert not is_labelled(key, label(name + "x"))


@pytest.mark.thorough(but=["alpha-False-events", "alpha-True-renamed", "name1-True-events"])
@pytest.mark.parametrize("tree", ["events", "renamed"])
@pytest.mark.parametrize("leaf", [False, True])
@pytest.mark.parametrize("name", ["alpha", LONG])
def test_copied_baskets_of_renamed_branches_are_read(
    pair: Pair, tmp_path: Path, name: str, leaf: bool, tree: str
) -> None:
    path = tmp_path / "copy.root"
    load_odd().copy_renamed(str(pair()), str(path), "events", "a", name, leaf, tree)
    assert_healthy(path, name, "b", tree)


def test_names_that_were_exchanged_in_place_are_what_counts(pair: Pair) -> None:
    path = pair()
    load_odd().exchange_names(str(path), "a", "b")
    assert_healthy(path, "b", "a")


def test_a_branch_renamed_in_place_is_read(pair: Pair) -> None:
    path = pair()
    load_odd().rename(str(path), "a", "alpha")
    load_odd().rename(str(path), "nested", "other")
    assert np.array_equal(ak.to_numpy(read(path, "alpha")), NUMBERS)
    assert len(read(path, "other")) == ENTRIES


def test_merged_baskets_are_read(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "merged.root"
    merge([str(pair("one")), str(pair("two"))], path, "zstd", into_existing=False, options="")
    assert_healthy(path, "a", "b", times=2)


def test_baskets_of_before_and_after_a_renaming_are_merged(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "merged.root"
    before, after = pair("before"), pair("after", a="alpha")
    load_odd().rename(str(before), "a", "alpha")
    merge([str(before), str(after)], path, "zstd", into_existing=False, options="")
    assert_healthy(path, "alpha", "b", times=2)
