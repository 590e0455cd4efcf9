"""The rows of ROOT's own data frames."""

from __future__ import annotations

from typing import Any

from rootfeed.frame import Frame, open, view_of
from rootfeed.root.frame import RDataFrame

__all__ = ["Node"]


class Node(RDataFrame):
    """The rows of a node of ROOT's own RDataFrame: see `rootfeed.open`."""

    def __init__(self, node: Any) -> None:
        frame = open(node)
        self.frame = Frame(view_of(frame).in_dialect("c++"), list(frame.columns))

    def GetColumnNames(self) -> list[str]:
        """Return the names of all columns, as ROOT orders them."""
        return list(self.frame.columns)
