"""What is saved is read back equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, EmptyDatasetError, MissingColumnError
from samples import FORMULAS, File, in_a_row, open_events, write_all

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(150, page=60))
IDS = np.arange(727)


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    return open_events(write_all(tmp_path_factory.mktemp("saved"), FILES))


@pytest.mark.parametrize("format", ["ttree", "rntuple"])
def test_entries_that_pass_are_saved(frame: rf.Frame, format: Any, tmp_path: Path) -> None:
    table = rf.from_arrays(
        {
            "id": IDS,
            "v": ak.unflatten(np.repeat(IDS, IDS % 3).astype("f4"), IDS % 3),
            "name": ak.Array([f"entry {each}" for each in IDS]),
            "m": np.arange(len(IDS) * 4, dtype="i2").reshape(-1, 2, 2),
        }
    )
    for given in (frame.define("twice", "2 * id"), table):
        cut = given.filter("id % 5 != 0 && id > 20")
        cut.save(f"{tmp_path}/out.root:selected", format=format, overwrite=True)
        again = rf.open(f"{tmp_path}/out.root:selected")
        expected, found = cut.arrays(), again.arrays()
        names = [name for name in found if name in expected]  # a tree counts its vectors, too
        assert set(names) == set(expected)
        for name in names:
            assert ak.to_list(found[name]) == ak.to_list(expected[name]), name
            assert again.columns[name].dtype == cut.columns[name].dtype
    frame.range(10).save(tmp_path / "ten.root", ["id", "half"], format=format)
    ten = rf.open(f"{tmp_path}/ten.root:events")
    assert list(ten.columns) == ["id", "half"]
    assert ten.num_entries == 10
    assert set(FORMULAS) > set(ten.columns)


def test_nothing_is_overwritten_by_mistake(frame: rf.Frame, tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    path.write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=r"out\.root exists.*overwrite=True"):
        frame.save(path)
    with pytest.raises(ArgumentError, match="is one of the files that are read"):
        frame.save(frame.files[0], overwrite=True)
    with pytest.raises(ArgumentError, match=r"saved as 'out\.root', .* or 'out\.h5', got 'out\.txt'"):
        frame.save("out.txt")
    with pytest.raises(MissingColumnError, match="'idd'"):
        frame.save(tmp_path / "new.root", ["idd"])
    with pytest.raises(EmptyDatasetError):
        frame.filter("id < 0").save(tmp_path / "new.root", format="rntuple")
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["out.root"]
