"""From what the user names to files and objects in them: no file is opened here."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from rootfeed.errors import ArgumentError, MissingFileError, nearest
from rootfeed.sources.storage import is_remote, reached

__all__ = ["Location", "PathLike", "expand"]

PathLike = str | os.PathLike[str]

_WILDCARDS = frozenset("*?[")
_WEB_PROTOCOLS = ("http://", "https://")


@dataclass(frozen=True)
class Location:
    """A file and the tree or ntuple in it; None where the file holds only one."""

    path: str
    object_path: str | None


def expand(files: PathLike | Iterable[PathLike] | Mapping[Any, str | None]) -> tuple[Location, ...]:
    """List the files that an argument of ``rootfeed.open`` names, in its order.

    Parameters
    ----------
    files : str, Path, iterable of these, or mapping of these to an object's name
        ``"file.root"``, ``"file.root:tree"``, ``"https://host/file.root:dir/tree"``, or a pattern with
        ``*``, ``?``, ``[]`` or ``**``, whose matches are sorted; ``~`` is the home directory. A file
        that exists under the whole text, colon or brackets included, is taken as that file. In a web
        address only ``*`` is a wildcard, since ``?`` begins its query.

    Returns
    -------
    tuple of Location

    Raises
    ------
    MissingFileError
        Where a file does not exist or a pattern matches none.
    ArgumentError
        Where the argument is empty, or names a file twice.
    """
    if isinstance(files, str | os.PathLike):
        items: list[tuple[PathLike, str | None]] = [(files, None)]
    elif isinstance(files, Mapping):
        items = list(files.items())
    elif isinstance(files, Iterable):
        items = [(item, None) for item in files]
    else:
        raise ArgumentError(
            f"files must be a path, a list of paths or a mapping of path to tree, got {files!r}."
        )
    locations: list[Location] = []
    for item, name in items:
        if not isinstance(item, str | os.PathLike):
            raise ArgumentError(f"a file must be named by a str or a Path, got {item!r}.")
        locations.extend(_expand_one(item, name))
    if not locations:
        raise ArgumentError("files must name at least one file, got none.")
    seen: set[tuple[str, str | None]] = set()
    for location in locations:
        path = location.path
        key = (path if is_remote(path) else os.path.realpath(_local(path)), location.object_path)
        if key in seen:
            raise ArgumentError(
                f"{location.path} is named twice, so its entries would be repeated. "
                "To repeat entries on purpose, pass several frames to the loader."
            )
        seen.add(key)
    return tuple(locations)


def _expand_one(item: PathLike, name: str | None) -> list[Location]:
    text = os.path.expanduser(os.fspath(item))
    if not text:
        raise ArgumentError("a file's name must not be empty.")
    if isinstance(item, Path) or name is not None or _exists(text):
        path = text
    else:
        path, name = _split_object(text)
    if _is_pattern(path) and not _exists(path):
        return [Location(match, name) for match in _matches(path)]
    if not is_remote(path) and not _exists(path):
        raise MissingFileError(_missing(path))
    return [Location(path, name)]


def _split_object(text: str) -> tuple[str, str | None]:
    """Split ``file.root:tree`` at its last colon, unless that belongs to a URL or a drive."""
    scheme, found, rest = text.partition("://")
    prefix = scheme + found if found else ""
    body = rest if found else text
    path, _, name = body.rpartition(":")
    looks_like_port = found and "/" not in path and name.split("/")[0].isdigit()
    looks_like_drive = len(path) == 1 and name.startswith(("\\", "/"))
    looks_like_chain = path.endswith(":")  # fsspec's "zip://file.root::archive.zip"
    looks_like_query = "?" in path and text.startswith(_WEB_PROTOCOLS)
    if not path or looks_like_port or looks_like_drive or looks_like_chain or looks_like_query:
        return text, None
    return prefix + path, name or None


def _is_pattern(path: str) -> bool:
    if path.startswith(_WEB_PROTOCOLS):
        return "*" in path.partition("?")[0]
    return any(character in _WILDCARDS for character in path)


def _local(path: str) -> str:
    return path.removeprefix("file://")


def _exists(path: str) -> bool:
    return not is_remote(path) and os.path.isfile(_local(path))


def _matches(pattern: str) -> list[str]:
    if is_remote(pattern):
        with reached(pattern):
            filesystem, name = fsspec.core.url_to_fs(pattern)
            matches = [filesystem.unstrip_protocol(match) for match in sorted(filesystem.glob(name))]
    else:
        found = glob.glob(_local(pattern), recursive=True)
        matches = sorted(path for path in found if os.path.isfile(path))
    if not matches:
        raise MissingFileError(f"no file matches {pattern!r}.")
    return matches


def _missing(path: str) -> str:
    path = _local(path)
    if os.path.isdir(path):
        return f"{path} is a directory. To take the files in it, say {os.path.join(path, '*.root')!r}."
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"{path} does not exist: there is no directory {folder!r}."
    siblings = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".root")]
    hint = nearest(os.path.basename(path), siblings) if siblings else "It holds no ROOT files."
    return f"{path} does not exist. In {folder!r}: {hint}"
