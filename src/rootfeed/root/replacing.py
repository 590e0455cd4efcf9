"""Other loaders in the place of ROOT's own, in the ROOT of this process."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from rootfeed.errors import ArgumentError

__all__ = ["replace", "restore"]

_NAMESPACES = ("", "Experimental.ML", "TMVA.Experimental")
"""Where releases of ROOT have their loaders."""

_replaced: list[tuple[Any, str, Any]] = []
"""What was in ROOT's namespaces before: the namespace, the name, and what it meant."""


def replace(loaders: Mapping[str, Any]) -> None:
    """Let ROOT's own names of its loaders mean others, until `restore`: see `rootfeed.root.install`.

    Raises
    ------
    ArgumentError
        Where ROOT is not installed.
    """
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
        for name, ours in loaders.items():
            if (theirs := _found(namespace, name)) is not None:
                _replaced.append((namespace, name, theirs))
                setattr(namespace, name, ours)


def restore() -> None:
    """Let ROOT's names mean again what they meant before `replace`."""
    while _replaced:
        setattr(*_replaced.pop())


def _found(where: Any, path: str) -> Any:
    """Return what a path of names leads to; None where this release of ROOT has no such thing."""
    for name in filter(None, path.split(".")):
        where = getattr(where, name, None)
    return where
