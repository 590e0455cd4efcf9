"""What one file teaches uproot about classes stays with that file."""

from __future__ import annotations

import contextlib
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import RootfeedError
from rootfeed.sources import Location
from rootfeed.sources.uproot_internals import FileClasses
from rootfiles.odd import ENTRIES, load_odd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

NUMBERS = np.arange(ENTRIES)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    path = tmp_path / "healthy.root"
    load_odd().write_pair(str(path), "events", "a", "b", 0)
    return path


def state() -> dict[str, Any]:
    """Return all that uproot knows of classes in this process."""
    return {
        name: (class_, dict(getattr(class_, "known_versions", {})))
        for name, class_ in uproot.classes.items()
    }


def damaged_copies(path: Path) -> list[Path]:
    """Change the versions and the names of the classes that the tree's record is made of."""
    with uproot.open(path) as file:
        key = file.key("events")
        start, stop = key.fSeekKey + key.fKeylen, key.fSeekKey + key.fNbytes
    data = path.read_bytes()
    edits: list[tuple[int, bytes]] = [
        (start + 4, struct.pack(">h", version)) for version in (0, 3, 77, 16384)
    ]
    for name in (b"TBranch\0", b"TBranchElement\0", b"TLeafD\0", b"TLeafElement\0"):
        place = data.find(name, start, stop)
        assert place > 0
        edits += [(place + len(name) + 4, struct.pack(">h", version)) for version in (1, 99)]
        edits += [(place, b"Tng"), (place + 5, b"\x80")]
        edits += [(place + len(name), b"\x40\0\0\x01"), (place + len(name), b"\0\0\0\x01")]
    copies = []
    for number, (place, to) in enumerate(edits):
        copies.append(path.with_name(f"damaged_{number}.root"))
        copies[-1].write_bytes(data[:place] + to + data[place + len(to) :])
    return copies


def streamer_copies(path: Path) -> list[Path]:
    """Change the file's list of streamers, where it is looked at: with classes of other versions."""
    with uproot.open(path) as file:
        start, size = file.file.fSeekInfo, file.file.fNbytesInfo
        record = file.key("events").fSeekKey
        record_start = record + file.key("events").fKeylen
    data = path.read_bytes()
    copies = []
    for number, place in enumerate(range(start + 100, start + size - 50, max(1, size // 40))):
        changed = bytearray(data)
        changed[place : place + 4] = b"\x05Twas"[:4]
        changed[record_start + 4 : record_start + 6] = struct.pack(">h", 77)
        copies.append(path.with_name(f"streamers_{number}.root"))
        copies[-1].write_bytes(changed)
    return copies


def try_to_read(path: Path) -> None:
    with contextlib.suppress(RootfeedError):
        rf.open(path).arrays()


def assert_reads(path: Path) -> None:
    got = rf.open(path).arrays(["a", "b", "dotted.n", "plain.v"])
    assert np.array_equal(got["a"], NUMBERS)
    assert np.array_equal(got["dotted.n"], NUMBERS)
    assert np.array_equal(got["plain.v"], NUMBERS / 2)


def test_damaged_files_leave_nothing_behind(healthy: Path) -> None:
    before = state()
    for copy in [*damaged_copies(healthy), *streamer_copies(healthy)]:
        try_to_read(copy)
        assert state() == before, copy
    assert_reads(healthy)


@pytest.mark.thorough
def test_damaged_files_disturb_no_other_thread(healthy: Path) -> None:
    copies = damaged_copies(healthy)
    with ThreadPoolExecutor(4) as pool:
        tasks = [
            pool.submit(assert_reads if number % 2 else try_to_read, path)
            for copy in copies[:20]
            for number, path in enumerate((copy, healthy))
        ]
        for task in tasks:
            task.result()


def test_a_class_has_each_files_own_layout(tmp_path: Path) -> None:
    """Two programs call different classes the same: name and version are equal."""
    paths = [tmp_path / "one.root", tmp_path / "two.root"]
    load_odd().write_unsplit(str(paths[0]), False)
    load_odd().write_unsplit(str(paths[1]), True)
    data = paths[1].read_bytes()
    assert b"LayoutB" in data
    assert b"LayoutA" not in data
    paths[1].write_bytes(data.replace(b"LayoutB", b"LayoutA"))
    want = [{"n": 7, "v": 3.5}, {"v": 3.5, "more": 2.5, "n": 7}]
    for order in ((0, 1, 0), (1, 0, 1)):
        for number in order:
            index = sources.index(Location(str(paths[number]), "events"), ["object"])
            assert ak.to_list(sources.read_awkward(index, "object", 7, 8)) == [want[number]]


def test_a_table_learns_for_itself() -> None:
    one, two = FileClasses(), FileClasses()
    learnt = type("Model_TTree_v99", (), {})
    one["TTree"].known_versions[99] = learnt
    one["Tree"] = learnt
    assert one["TTree"].class_of_version(99) is learnt
    assert one.get("TTree") is one["TTree"]
    assert one["TBranch"].known_versions
    del one["TBranch"]
    assert one.get("TBranch") is None
    assert 99 not in two["TTree"].known_versions
    assert 99 not in uproot.classes["TTree"].known_versions
    assert "Tree" not in two
    assert two["TBranch"].known_versions == uproot.classes["TBranch"].known_versions
