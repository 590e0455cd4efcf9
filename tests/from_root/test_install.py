"""Our loader in the place of ROOT's own, in a program that imports ROOT."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import rootfeed.root
from rootfiles.environment import load_root

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")


def test_a_program_gets_our_batches_until_it_is_taken_back(files: dict[str, str]) -> None:
    root = load_root()
    theirs = root.Experimental.ML.RDataLoader
    rootfeed.root.install()
    rootfeed.root.install()  # a second time changes nothing
    try:
        node = root.RDataFrame("events", files["first"]).Filter("id % 2 == 0").Define("twice", "2 * id")
        loader = root.Experimental.ML.RDataLoader(
            node, batch_size=10, columns=["id", "twice", "label"], target="label", shuffle=False
        )
        x, y = zip(*loader.as_numpy(), strict=True)
        ids = np.arange(0, 100, 2)
        assert np.array_equal(np.concatenate(x), np.column_stack([ids, 2 * ids]))
        assert np.array_equal(np.concatenate(y)[:, 0], ids % 3)
        assert isinstance(loader, rootfeed.root.RDataLoader)
    finally:
        rootfeed.root.uninstall()
    assert root.Experimental.ML.RDataLoader is theirs
    rootfeed.root.uninstall()
    assert root.Experimental.ML.RDataLoader is theirs


def test_columns_come_in_the_order_of_the_node(files: dict[str, str]) -> None:
    node = load_root().RDataFrame("events", files["first"]).Define("b", "id").Define("a", "half")
    loader = rootfeed.root.RDataLoader(node, target="label")
    assert loader.columns == [str(name) for name in node.GetColumnNames()]
