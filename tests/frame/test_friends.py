"""Where a column may be a friend's, the message says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rootfeed as rf
from rootfeed.errors import MissingColumnError
from rootfeed.frame import view_of
from rootfiles.odd import load_odd

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")

ASKED: dict[str, Callable[[Any], object]] = {
    "arrays": lambda frame: frame.arrays(["x", "score"]),
    "describe": lambda frame: frame.describe("score"),
    "select": lambda frame: frame.select(["score"]),
    "alias": lambda frame: frame.alias("s", "score"),
    "redefine": lambda frame: frame.redefine("score", "x"),
    "define": lambda frame: frame.define("s", "2 * score"),
    "filter": lambda frame: frame.filter("score > 0"),
    "features": lambda frame: rf.Loader(frame, 10, ["x", "score"]),
    "target": lambda frame: rf.Loader(frame, 10, ["x"], target="score"),
    "padded": lambda frame: rf.Loader(frame, 10, {"s": rf.padded(["score"], 2)}),
    "ragged": lambda frame: rf.Loader(frame, 10, {"s": rf.ragged(["score"])}),
    "index": lambda frame: view_of(frame).index(["score"]),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("friends")
    load_odd().write_friends(f"{folder}/file.root", f"{folder}/other.root")
    return folder / "file.root", folder / "other.root"


@pytest.mark.parametrize("asked", ASKED)
def test_a_missing_column_may_be_a_friends(paths: tuple[Path, Path], asked: str) -> None:
    path, other = paths
    with pytest.raises(MissingColumnError) as raised:
        ASKED[asked](rf.open({str(path): "events"}))
    message = str(raised.value)
    assert "'score'" in message
    assert message.endswith(
        f" The tree has friends: 'scores' in {other}, 'own' in this file. If it is a column of theirs, "
        "rootfeed.open(..., friends=True) joins them."
    )
    assert message.count("The tree has friends") == 1


def test_a_tree_without_friends_says_nothing_of_them(paths: tuple[Path, Path]) -> None:
    with pytest.raises(MissingColumnError) as raised:
        rf.open({str(paths[0]): "own"}).arrays(["score"])
    assert "friend" not in str(raised.value)


def test_a_file_that_is_gone_hides_no_message(paths: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "copy.root"
    path.write_bytes(paths[0].read_bytes())
    frame = rf.open({str(path): "events"})
    path.unlink()
    with pytest.raises(MissingColumnError, match="there is no column 'score'"):
        frame.select(["score"])
