"""What uproot reads for us: right, or refused, and each fault told as what it is."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import DamagedFileError, UnreachableError, UnsupportedColumnError
from rootfeed.schema import FileIndex
from rootfeed.sources import Location
from rootfiles.odd import ENTRIES, load_odd
from rootfiles.vectors import ntuple_vectors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

AGAIN = "Copy or produce the file again."


def index_of(path: Path, *names: str) -> FileIndex:
    return sources.index(Location(str(path), "events"), names)


def read(path: Path, name: str, start: int = 0, stop: int = ENTRIES) -> ak.Array:
    return sources.read_awkward(index_of(path, name), name, start, stop)


def text(entry: int, most: int = 600) -> str:
    return (chr(ord("a") + entry % 26) * (500 if entry % 50 == 49 else entry % 5))[:most]


@pytest.fixture(scope="module", params=[505, 0], ids=["zstd", "none"])
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "file.root"
    load_odd().write_texts_and_arrays(str(path), request.param)
    return path


@pytest.fixture(scope="module")
def exotic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exotic") / "file.root"
    load_odd().write_exotic(str(path), 101)
    return path


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "fixed", "string", "t_string"])
@pytest.mark.parametrize(("start", "stop"), [(0, ENTRIES), (0, 1), (5, 6), (48, 152), (7, 7)])
def test_texts_are_read_where_some_are_empty(texts: Path, name: str, start: int, stop: int) -> None:
    index = index_of(texts, name)
    assert index.columns[name].type.kind == "text"
    want = [text(entry, 11 if name == "fixed" else 600) for entry in range(start, stop)]
    assert ak.to_list(sources.read_awkward(index, name, start, stop)) == want


def test_texts_in_the_trees_own_record_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.root"
    load_odd().write_embedded_texts(str(path))
    assert ak.to_list(read(path, "text", 3, 100)) == [text(entry) for entry in range(3, 100)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("counted", (-1, 3)),
        ("plane", (2, 3)),
        ("packed_plane", (2, 3)),
        ("packed_plane_range", (2, 3)),
        ("list.a", (2, 2)),
        ("list.b", ()),
        ("list.c", (3,)),
    ],
)
def test_arrays_are_read_in_their_shape(texts: Path, name: str, shape: tuple[int, ...]) -> None:
    got = read(texts, name)
    # A real in a range of 1000 has 32 bits, and rounds to its steps.
    got = ak.to_list(ak.round(got) if name == "packed_plane_range" else got)
    for entry in range(ENTRIES):
        elements = 3 * (entry % 4) if name == "counted" else int(np.prod(shape))
        steps = {"list.b": -entry, "list.c": entry - np.arange(3)}
        want = steps.get(name, entry + np.arange(elements))
        assert got[entry] == np.reshape(want, shape).tolist()


@pytest.mark.parametrize(
    ("name", "what", "reason"),
    [
        *(
            (
                name,
                "packed reals of undefined layout",
                "rootfeed does not know how its packed reals are laid out",
            )
            for name in ("packed_counted", "packed_counted_range")
        ),
    ],
)
def test_what_uproot_reads_wrongly_is_refused(texts: Path, name: str, what: str, reason: str) -> None:
    with pytest.raises(UnsupportedColumnError) as raised:
        rf.open(texts).arrays([name])
    assert str(raised.value) == (
        f"{texts}:events: column {name!r} ({what}) cannot be read: {reason}. Leave it out, or write it "
        "in another type."
    )


@pytest.mark.parametrize("name", ["named.fName", "named.fTitle"])
def test_texts_of_elements_are_refused(exotic: Path, name: str) -> None:
    with pytest.raises(UnsupportedColumnError, match="uproot takes it for one in each entry"):
        read(exotic, name)


# --- which of three faults ------------------------------------------------------------------------


def test_a_type_that_is_not_read_is_no_damage(exotic: Path) -> None:
    with pytest.raises(UnsupportedColumnError) as raised:
        read(exotic, "map", 10, 20)
    message = str(raised.value)
    assert message.startswith(
        f"{exotic}:events: the entries [10, 20) of column 'map' cannot be read: their pages are whole, "
        "but neither rootfeed nor uproot reads the type std::map<std::string, int32_t> ("
    )
    assert message.endswith(
        "). Leave the column out, or write it in another type, such as vectors of numbers."
    )
    assert AGAIN not in message


def overwritten(path: Path, folder: Path, name: str, at: Callable[[int, int], int], to: bytes) -> Path:
    """Overwrite bytes of a branch's second basket, where `at` says from its position and size."""
    with uproot.open(path) as file:
        branch = file["events"][name]
        seek, size = (int(branch.member(f"fBasket{what}")[1]) for what in ("Seek", "Bytes"))
    data = bytearray(path.read_bytes())
    place = at(seek, size)
    data[place : place + len(to)] = to
    copy = folder / "damaged.root"
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize("name", ["map", "common"])
@pytest.mark.parametrize(
    ("at", "to", "words"),
    [
        (lambda seek, size: seek + size - 5, b"\xff\xff", "is damaged: "),
        (lambda seek, size: seek, b"\0\0\0\x01", "is damaged: its key claims 1 bytes"),
        (lambda seek, size: seek + 6, b"\x7f\xff\xff\xff", "uncompressed ones"),
    ],
    ids=["contents", "key", "size"],
)
def test_damage_is_damage_whatever_the_type(
    exotic: Path, tmp_path: Path, name: str, at: Any, to: bytes, words: str
) -> None:
    path = overwritten(exotic, tmp_path, name, at, to)
    with pytest.raises(DamagedFileError) as raised:
        read(path, name)
    message = str(raised.value)
    assert message.startswith(f"{path}:events: the page of column {name!r} with the entries [")
    assert words in message
    assert message.endswith(AGAIN)


def test_common_types_that_fail_are_damaged(tmp_path: Path) -> None:
    """Without compression there is no checksum; but uproot reads these types, if they are right."""
    whole = tmp_path / "whole.root"
    load_odd().write_exotic(str(whole), 0)
    path = overwritten(
        whole, tmp_path, "common", lambda seek, size: seek + size // 3, struct.pack(">i", -9) * 40
    )
    assert len(read(whole, "common")) == ENTRIES
    with pytest.raises(DamagedFileError, match=r"column 'common' are damaged: .*\. Copy or produce"):
        read(path, "common")


def test_damaged_texts_name_the_entry(tmp_path: Path) -> None:
    whole = tmp_path / "whole.root"
    load_odd().write_texts_and_arrays(str(whole), 0)
    path = overwritten(whole, tmp_path, "text", lambda seek, size: seek + 90, b"\x09" * 9)
    with pytest.raises(DamagedFileError, match=r"'text' .* entry \d+ tells another length"):
        read(path, "text")


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ConnectionError("reset")])
def test_what_cannot_be_had_is_no_damage(
    exotic: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    index = index_of(exotic, "common")
    monkeypatch.setattr(uproot.behaviors.TBranch.TBranch, "array", fail)
    with pytest.raises(UnreachableError) as raised:
        sources.read_awkward(index, "common", 0, 5)
    assert str(raised.value).startswith(
        f"{exotic}:events: the entries [0, 5) of column 'common' cannot be read: "
    )
    assert AGAIN not in str(raised.value)


def test_no_memory_is_no_damage(exotic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    index = index_of(exotic, "common")
    monkeypatch.setattr(uproot.behaviors.TBranch.TBranch, "array", fail)
    with pytest.raises(UnreachableError, match="cannot be read: out of memory"):
        sources.read_awkward(index, "common", 0, 5)


def test_a_type_that_no_array_holds_is_refused_before_it_is_read(
    exotic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uproot makes objects of it all, with whatever counts it takes bytes for, before it finds out."""

    def form(*_: object, **__: object) -> None:
        raise ValueError("cannot produce Awkward Arrays")

    index = index_of(exotic, "map")
    monkeypatch.setattr(uproot.AsObjects, "awkward_form", form)
    monkeypatch.setattr(uproot.behaviors.TBranch.TBranch, "array", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(UnsupportedColumnError, match="cannot produce Awkward Arrays"):
        sources.read_awkward(index, "map", 0, 5)


# --- RNTuple --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "listed"])
def test_variants_of_several_clusters_are_refused(tmp_path: Path, name: str) -> None:
    whole, parts = tmp_path / "whole.root", tmp_path / "parts.root"
    load_odd().write_variants(str(whole), ENTRIES)
    load_odd().write_variants(str(parts), 100)
    values = [entry if entry % 3 else entry + 0.5 for entry in range(ENTRIES)]
    want = [[value] * (entry % 4) if name == "listed" else value for entry, value in enumerate(values)]
    assert ak.to_list(read(whole, name)) == want
    with pytest.raises(UnsupportedColumnError) as raised:
        rf.open(parts).arrays([name])
    text = {"plain": "std::variant<std::int32_t,float>"}
    text["listed"] = f"std::vector<{text['plain']}>"
    assert str(raised.value) == (
        f"{parts}:events: column {name!r} ({text[name]}) cannot be read: uproot mixes up the clusters "
        "of variants. Leave it out, or write it in another type."
    )
    assert rf.open(parts).arrays("number")["number"].tolist() == list(range(ENTRIES))


def test_an_ntuples_checksums_count_for_what_uproot_reads(tmp_path: Path) -> None:
    path = tmp_path / "file.root"
    ntuple_vectors(path, 400, compression="none")
    index = index_of(path, "nested")
    assert index.columns["nested"].pages is None
    want = ak.to_list(sources.read_awkward(index, "nested", 0, 400))
    with uproot.open(path) as file:
        ntuple = file["events"]
        field = ntuple["nested"].field_id
        numbers = [
            record.idx for record in ntuple.column_records if record.field_id in (field, field + 2)
        ]
        places = [ntuple.page_link_list[1][number].pages[0].locator.offset for number in numbers]
    assert len(places) == 2
    for place in places:
        data = bytearray(path.read_bytes())
        data[place + 3] ^= 1
        copy = tmp_path / "copy.root"
        copy.write_bytes(data)
        index = index_of(copy, "nested")
        # A cluster of 300 entries is whole.
        assert str(ak.to_list(sources.read_awkward(index, "nested", 0, 300))) == str(want[:300])
        with pytest.raises(DamagedFileError) as raised:
            sources.read_awkward(index, "nested", 0, 400)
        message = str(raised.value)
        assert message.startswith(
            f"{copy}:events: the page of column 'nested' with the entries [300, 400) is damaged: "
        )
        assert "checksum" in message
