"""The C++ classes that uproot knows while it reads one file.

uproot makes Python classes from a file's streamers and keeps them in one table for the whole process.
What it learns from a damaged file, or from one whose class has another layout under the same name and
version, would then be used for all others. Here each file has a table of its own, which starts with
what uproot itself brings along.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import uproot

__all__ = ["FileClasses"]

_Dispatch: Any = uproot.model.DispatchByVersion


def _own(class_: Any) -> bool:
    """Tell whether a class is uproot's own, and not made from some file's streamers."""
    return bool(class_.__module__ != "uproot.dynamic")


_BUILT_IN = MappingProxyType({name: class_ for name, class_ in uproot.classes.items() if _own(class_)})
_VERSIONS = MappingProxyType(
    {
        name: {version: each for version, each in class_.known_versions.items() if _own(each)}
        for name, class_ in _BUILT_IN.items()
        if issubclass(class_, _Dispatch)
    }
)

_PLAIN = {name: class_ for name, class_ in _BUILT_IN.items() if name not in _VERSIONS}


class FileClasses(dict[str, Any]):
    """A table of classes for one file, as `uproot.open` takes it.

    A class that chooses by version keeps what it learns in itself, so a file gets one of its own: made
    when it is first asked for, because few of them are.
    """

    def __init__(self) -> None:
        super().__init__(_PLAIN)
        self._unused = set(_VERSIONS)

    def __missing__(self, name: str) -> Any:
        if name not in self._unused:
            raise KeyError(name)
        self._unused.remove(name)
        class_ = _BUILT_IN[name]
        own = type(class_.__name__, (class_,), {"known_versions": dict(_VERSIONS[name])})
        self[name] = own
        return own

    def get(self, name: str, default: Any = None) -> Any:
        """Return a class, or the default."""
        try:
            return self[name]
        except KeyError:
            return default
