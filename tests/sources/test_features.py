"""Trees with ROOT's feature ``kGenerateOffsetMap``, and branches that were not filled at every entry."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import pytest

import rootfeed as rf
from rootfeed.errors import UnsupportedColumnError
from rootfiles.environment import load_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

ENTRIES = 700

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a tree with texts and vectors, whose baskets may have sizes of entries, or some of them."""
    root = load_root()

    def write(compression: int, feature: str, late: int = 0) -> str:
        path = str(tmp_path / f"{feature}.root")
        file = root.TFile(path, "RECREATE", "", compression)
        tree = root.TTree("t", "")
        tree.SetAutoFlush(0)
        features = root.ROOT.TIOFeatures()
        features.Set("kGenerateOffsetMap")
        count, numbers, letters = array("i", [0]), array("f", [0] * 20), array("b", [0] * 9)
        text, own, vector = root.std.string(), root.TString(), root.std.vector("int")()
        nested, inner = root.std.vector("vector<int>")(), root.std.vector("int")()
        letter = "l" * 300  # of a name with another length of its length
        made = [
            tree.Branch("n", count, "n/I", 700),
            tree.Branch("v", numbers, "v[n]/F", 1000),
            tree.Branch("pairs", numbers, "pairs[n][2]/F", 1000),
            tree.Branch(letter, letters, f"{letter}/C", 500),
            tree.Branch("s", text, 500),
            tree.Branch("own", "TString", own, 500, 0),
            tree.Branch("vector", vector, 1000),
        ]
        for entry in range(ENTRIES):
            if entry == late:
                made.append(tree.Branch("nested", nested, 1000))
            if entry == {"all": 0, "later": ENTRIES // 2}.get(feature):
                for branch in made:
                    branch.SetIOFeatures(features)
            count[0], numbers[0] = entry % 4, entry
            for place, code in enumerate(f"{_text(entry)}\0".encode()):
                letters[place] = code
            text.assign(_text(entry))
            own.Clear()
            own.Append(_text(entry))
            vector.assign(entry % 3, entry)
            inner.assign(1, entry)
            nested.assign(entry % 3, inner)
            tree.Fill()
        tree.Write()
        file.Close()
        return path

    return write


def _text(entry: int) -> str:
    return "abcdefgh"[: entry % 8]


def read(path: str, name: str) -> list[Any]:
    found: list[Any] = ak.to_list(rf.open(path).arrays([name])[name])
    return found


@pytest.mark.parametrize("compression", [0, 505])
@pytest.mark.parametrize("feature", ["none", "all", "later"])
def test_sizes_of_entries_are_as_good_as_positions(write: Write, feature: str, compression: int) -> None:
    path = write(compression, feature)
    for name in ("l" * 300, "s", "own"):
        assert read(path, name) == [_text(entry) for entry in range(ENTRIES)]
    assert read(path, "vector") == [[entry] * (entry % 3) for entry in range(ENTRIES)]
    assert [len(each) for each in read(path, "v")] == [entry % 4 for entry in range(ENTRIES)]


@pytest.mark.parametrize("name", ["nested", "pairs"])
def test_what_uproot_does_not_know_is_refused_and_not_called_damaged(write: Write, name: str) -> None:
    assert len(read(write(505, "none"), name)) == ENTRIES
    with pytest.raises(UnsupportedColumnError, match=f"'{name}'.*kGenerateOffsetMap"):
        read(write(505, "all"), name)


def test_a_branch_that_was_filled_later_is_refused_and_not_called_damaged(write: Write) -> None:
    with pytest.raises(UnsupportedColumnError, match="'nested' has 600 entries, the tree has 700"):
        read(write(505, "none", late=100), "nested")
