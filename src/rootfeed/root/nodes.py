"""Beside the real ROOT: its data frames for our loader, and our loader in the place of its own."""

from __future__ import annotations

import importlib
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.frame import Frame, open, view_of
from rootfeed.root.frame import RDataFrame

__all__ = ["Node", "install", "uninstall"]

_NAMESPACES = ("", "Experimental.ML", "TMVA.Experimental")
"""Where releases of ROOT have their loaders."""

_replaced: list[tuple[Any, str, Any]] = []
"""What was in ROOT's namespaces before: the namespace, the name, and what it meant."""


class Node(RDataFrame):
    """The rows of a node of ROOT's own RDataFrame: see `rootfeed.open`."""

    def __init__(self, node: Any) -> None:
        frame = open(node)
        self.frame = Frame(view_of(frame).in_dialect("c++"), list(frame.columns))

    def GetColumnNames(self) -> list[str]:
        """Return the names of all columns, as ROOT orders them."""
        return list(self.frame.columns)


def install() -> None:
    """Let ROOT's own names of its loaders mean ours, until `uninstall`.

    For programs that are not to be edited: they make their data frames in ROOT, and get our batches.
    Names that this release of ROOT does not have stay missing.

    Raises
    ------
    ArgumentError
        Where ROOT is not installed.
    """
    from rootfeed.root import Experimental

    if _replaced:
        return
    try:
        module: Any = importlib.import_module("ROOT")
    except ImportError as error:
        raise ArgumentError("ROOT is not installed: pip install root.") from error
    facade, experimental = type(module), module.Experimental
    if isinstance(theirs := vars(facade).get("Experimental"), property):
        # It puts ROOT's own loader back whenever somebody asks for the namespace.
        _replaced.append((facade, "Experimental", theirs))
        facade.Experimental = property(lambda _: experimental)
    for path in _NAMESPACES:
        namespace = _found(module, path)
        for name, ours in vars(Experimental.ML).items():
            if not name.startswith("_") and (theirs := _found(namespace, name)) is not None:
                _replaced.append((namespace, name, theirs))
                setattr(namespace, name, ours)


def uninstall() -> None:
    """Let ROOT's names mean again what they meant before `install`."""
    while _replaced:
        setattr(*_replaced.pop())


def _found(where: Any, path: str) -> Any:
    """Return what a path of names leads to; None where this release of ROOT has no such thing."""
    for name in filter(None, path.split(".")):
        where = getattr(where, name, None)
    return where
