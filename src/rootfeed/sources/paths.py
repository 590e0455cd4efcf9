"""From what the user names to files and objects in them: no file is opened here."""

from __future__ import annotations

import errno
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rootfeed.arguments import in_order
from rootfeed.errors import ArgumentError, MissingFileError, RootfeedError, nearest, of_files
from rootfeed.sources.failures import irregular, unavailable
from rootfeed.sources.filling import Filling
from rootfeed.sources.storage import (
    TIMEOUT_SECONDS,
    Address,
    checked_access,
    is_remote,
    local_path,
    replicas,
)
from rootfeed.sources.storage.reaching import Servers
from rootfeed.sources.storage.retries import Patience
from rootfeed.sources.storage.servers import Server

__all__ = ["Location", "Named", "PathLike", "check_repeated", "expand", "spelled", "suffix"]

PathLike = str | os.PathLike[str]
Named = PathLike | Iterable[PathLike] | Mapping[Any, str | Sequence[str] | None]

_TWICE = (
    "is named twice, so its entries would be repeated. "
    "To repeat entries on purpose, pass several frames to the loader."
)
_WILDCARDS = "*?["
_WEB_PROTOCOLS = ("http://", "https://")
_QUERY = re.compile(r"\?[\w.-]+=")
_CHAIN = re.compile(r"::(?![\da-f:.]*\])", re.IGNORECASE)  # not those of IPv6: http://[::1]/f.root
_ROOT_FORM = re.compile(r"(?P<path>.+)\?(?P<query>[^#]*)#(?P<name>.+)")
"""What TChain takes: ``file.root?#tree``, ``https://host/file.root?query#tree``."""


@dataclass(frozen=True)
class Location:
    """A file and the tree or ntuple in it; None where the file holds only one.

    A local path is absolute: what the working directory is later does not matter.

    Attributes
    ----------
    path : str
        As messages name it, without secrets.
    object_path : str or None
    address : Address
        How it is reached. Where none is given, the path tells.
    filling : Filling or None
        What stands for values that are missing, where the file's format has such.
    """

    path: str
    object_path: str | None
    address: Address = field(default=Address(()), repr=False)
    filling: Filling | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.address.urls:
            object.__setattr__(self, "address", Address(tuple(replicas(self.path))))
            object.__setattr__(self, "path", self.address.name)


def expand(
    files: Named,
    tree: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT_SECONDS,
    cache: PathLike | None = None,
    cache_size: int | float | str | None = None,
    *,
    bad: dict[int, RootfeedError] | None = None,
) -> tuple[Location, ...]:
    """List the files that an argument of ``rootfeed.open`` names, in its order.

    Parameters
    ----------
    files : str, Path, iterable of these, or mapping of these to an object's name
        ``"file.root"``, ``"file.root:tree"``, ``"https://host/file.root:dir/tree"``, or a pattern with
        ``*``, ``?``, ``[]`` or ``**``, whose matches are sorted; ``~`` is the home directory. A file
        that exists under the whole text, colon or brackets included, is taken as that file. In a web
        address only ``*`` is a wildcard, since ``?`` begins its query; there the name of a tree follows
        a ``#``, as in ``"https://host/file.root?token=abc#tree"``. In a mapping a path is nothing but a
        path, unless it maps to None; it may map to a list of names.
    tree : str, optional
        The object's name in all of these files, whose paths are then nothing but paths.
    storage_options : mapping, optional
        What fsspec takes for the protocol of remote files.
    timeout : float
        Seconds after which a server that does not answer is given up.
    cache : str or Path, optional
        A folder in which what is read from servers is kept.
    cache_size : int, float or str, optional
        What it takes on disk at most.
    bad : dict of int to RootfeedError, optional
        Receives the errors of local files that do not exist, or are none, by their numbers. Where it is
        left out, they are raised, as one.

    Returns
    -------
    tuple of Location

    Raises
    ------
    MissingFileError
        Where a file does not exist or a pattern matches none.
    AccessError, UnreachableError
        Where that cannot be known.
    UnsupportedFileError
        Where a path is a pipe or a device.
    ArgumentError
        Where the argument is empty, or names a file twice.
    """
    access = checked_access(storage_options, timeout, cache, cache_size)
    locations: list[Location] = []
    for item, name in _items(files, tree):
        locations.extend(_expand_one(item, name, access))
    if not locations:
        raise ArgumentError("files must name at least one file, got none.")
    faults = {
        number: error
        for number, location in enumerate(locations)
        if not location.address.is_remote and (error := _fault(location.address.urls[0])) is not None
    }
    if faults and bad is None:
        raise of_files(
            [(locations[number].path, error) for number, error in faults.items()], len(locations)
        )
    if bad is not None:
        bad.update(faults)
    seen: set[tuple[str, str | None]] = set()
    for location in locations:
        path = location.address.urls[0]
        key = (path if is_remote(path) else os.path.realpath(path), location.object_path)
        if key in seen:
            raise ArgumentError(f"{location.path} {_TWICE}")
        seen.add(key)
    return tuple(locations)


def check_repeated(found: Iterable[tuple[Location, bytes]]) -> tuple[list[Location], int]:
    """Refuse an object that is named in two ways: by its file alone, too, which holds no other.

    Parameters
    ----------
    found : iterable of (Location, bytes)
        Of each object its place, and its identity.

    Returns
    -------
    list of Location, int
        Two copies of an object, in files of their own, if there are any; and how many copies there are
        of objects that come before.

    Raises
    ------
    ArgumentError
    """
    alike: dict[bytes, list[Location]] = {}
    for location, identity in found:
        alike.setdefault(identity, []).append(location)
    copies: list[Location] = []
    count = 0
    for some in (each for each in alike.values() if len(each) > 1):
        files: dict[str, list[Location]] = {}
        for location in some:
            others = files.setdefault(_file(location), [])
            for other in others:
                if not (_cycle(location) and _cycle(other)) or _cycle(location) == _cycle(other):
                    raise ArgumentError(f"{_named(location)}, which is {_named(other)}, {_TWICE}")
            others.append(location)
        if len(files) > 1:
            copies = copies or [each[0] for each in files.values()][:2]
            count += len(files) - 1
    return copies, count


def _file(location: Location) -> str:
    """Return what tells a file from others."""
    path = location.address.urls[0]
    return path if is_remote(path) else os.path.realpath(path)


def _cycle(location: Location) -> str:
    """Return the cycle that is named; nothing where it is the last one."""
    return (location.object_path or "").partition(";")[2]


def _named(location: Location) -> str:
    return f"{location.path}:{location.object_path or ''}".rstrip(":")


def spelled(path: str, object_path: str) -> str:
    """Return an argument of ``rootfeed.open``, as it is written in Python, that means just this."""
    for text in (f"{path}:{object_path}", f"{path}#{object_path}"):
        is_taken = _exists(text) or (_is_pattern(path) and not _exists(path))
        if not is_taken and _split_object(text) == (path, object_path):
            return repr(text)
    return repr({path: object_path})


def suffix(path: str) -> str:
    """Return how a file's name ends, in small letters, such as ``".parquet"``; of a chain its first."""
    parts = _CHAIN.split(path)
    name = next((part for part in parts if part.partition("://")[2]), parts[-1])
    return os.path.splitext(_without_query(name))[1].casefold()


def _items(files: Named, tree: str | None) -> Iterator[tuple[PathLike, str | None]]:
    """Yield what names files, each with the name of an object or None."""
    if isinstance(files, str | bytes | os.PathLike):
        files = [files]
    elif not isinstance(files, Iterable):
        raise ArgumentError(
            f"files must be a path, a list of paths or a mapping of path to tree, got {files!r}."
        )
    if isinstance(files, Mapping) and tree is not None:
        raise ArgumentError(
            f"files must be a path or a list of paths where a tree is named, got {files!r}."
        )
    for item in in_order("files", files):
        path = os.fspath(item) if isinstance(item, os.PathLike) else item
        if not isinstance(path, str):
            remedy = f" Write {os.fsdecode(path)!r}." if isinstance(path, bytes) else ""
            if isinstance(item, np.ndarray | np.generic):
                remedy = " Arrays are given by name: {'x': array}."
            raise ArgumentError(f"a file must be named by a str or a Path, got {item!r}.{remedy}")
        names = files[item] if isinstance(files, Mapping) else tree
        if names is None:
            yield item, None
            continue
        listed: list[Any] = list(names) if isinstance(names, list | tuple) else [names]
        if not listed or not all(isinstance(name, str) and name.strip("/") for name in listed):
            raise ArgumentError(
                f"the tree or ntuple in {path!r} must be given by its name, got {names!r}. Write "
                f"{{{path!r}: 'name'}}, a list of names for several of them, or None for the only one."
            )
        for name in listed:
            yield item, name


def _expand_one(item: PathLike, name: str | None, access: Mapping[str, Any]) -> list[Location]:
    text = os.path.expanduser(os.fspath(item))
    if not text:
        raise ArgumentError("a file's name must not be empty.")
    if isinstance(item, Path) or name is not None or _exists(text):
        path = text
    else:
        path, name = _split_object(text)
    address = Address(tuple(_absolute(each) for each in replicas(path)), **access)
    path = address.urls[0]
    if _is_pattern(path) and not _exists(path):
        matches = _remote_matches(address) if address.is_remote else [(each,) for each in _matches(path)]
        found = [replace(address, urls=urls) for urls in matches]
        return [Location(each.name, name, each) for each in found]
    return [Location(address.name, name, address)]


def _split_object(text: str) -> tuple[str, str | None]:
    """Split ``file.root:tree`` at its last colon, unless that belongs to a URL or a drive."""
    *others, text = replicas(text)
    before = "".join(f"{other}|" for other in others)
    path, name = _split_one(text)
    return before + path, name


def _split_one(text: str) -> tuple[str, str | None]:
    form = _ROOT_FORM.fullmatch(text)
    if form and (is_remote(text) or not form["query"]):
        return form["path"] + (f"?{form['query']}" if form["query"] else ""), form["name"]
    last = _CHAIN.split(text)[-1]  # of fsspec's "zip://file.root::https://host/archive.zip"
    scheme, found, rest = last.partition("://")
    prefix = text.removesuffix(last) + (scheme + found if found else "")
    body = rest if found else last
    path, _, name = body.rpartition(":")
    looks_like_port = found and "/" not in path and name.split("/")[0].isdigit()
    looks_like_drive = len(path) == 1 and name.startswith(("\\", "/"))
    looks_like_query = len(_without_query(text)) < len(prefix + path)
    if not path or looks_like_port or looks_like_drive or looks_like_query:
        return text, None
    return prefix + path, name or None


def _absolute(path: str) -> str:
    """Return a local path from the root on; of a chained address its last part, where that is local."""
    before, last = "", path
    if is_remote(path):
        last = _CHAIN.split(path)[-1]
        before = path.removesuffix(last)
        if not before or is_remote(last):
            return path
        before += "file://" if "://" in last else ""
    last = local_path(last)
    try:
        # Not normalized: where "a" is a link, "a/.." is not the folder that it lies in.
        return before + os.fspath(Path(last).absolute())
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{last!r} is relative to the working directory, which does not exist any more."
        ) from error


def _without_query(text: str) -> str:
    """Return a remote address up to its query, such as ``?token=abc``: elsewhere ? is a wildcard."""
    if text.startswith(_WEB_PROTOCOLS):
        return text.partition("?")[0]
    return _QUERY.split(text, maxsplit=1)[0] if is_remote(text) else text


def _is_pattern(path: str) -> bool:
    wildcards = "*" if path.startswith(_WEB_PROTOCOLS) else _WILDCARDS
    return any(character in wildcards for character in _without_query(path))


def _exists(path: str) -> bool:
    return not is_remote(path) and os.path.isfile(local_path(path))


def _remote_matches(address: Address) -> list[tuple[str, ...]]:
    """Return the addresses that match a pattern, each with those of its replicas."""
    folders = [_split_pattern(url) for url in address.urls]
    patterns = [url.removeprefix(folder) for url, (folder, _) in zip(address.urls, folders, strict=True)]
    if len(set(patterns)) > 1:
        raise ArgumentError(
            f"the replicas of {address.name} must have the same pattern, each in a folder of its own."
        )

    def find(server: Server, patience: Patience) -> list[str]:
        folder, _ = _split_pattern(server.name)
        return [match.removeprefix(folder) for match in server.glob(folder, patience)]

    found = Servers(address).persist(find)
    if not found:
        raise MissingFileError(f"no file matches {address.name!r}.")
    return [tuple(folder + match + chain for folder, chain in folders) for match in found]


def _split_pattern(pattern: str) -> tuple[str, str]:
    """Return the folder in which the wildcards of an address begin, and what of a chain follows them."""
    wildcards = r"\*" if pattern.startswith(_WEB_PROTOCOLS) else r"[*?[]"
    before, *after = re.split(wildcards, pattern, maxsplit=1)
    folder, slash, _ = before.rpartition("/")
    return folder + slash, "".join(after)[len(_CHAIN.split("".join(after))[0]) :]


def _matches(pattern: str) -> list[str]:
    matches = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))
    if not matches:
        folder = _folder(pattern)
        reason = "" if os.path.isdir(folder) else f": there is no directory {folder!r}"
        raise _unreadable_folder(folder) or MissingFileError(f"no file matches {pattern!r}{reason}.")
    return matches


def _fault(path: str) -> RootfeedError | None:
    """Return why a local path cannot be read as a file, as far as that can be told from outside."""
    try:
        return irregular(path, os.stat(path).st_mode)
    except ValueError as error:
        raise ArgumentError(f"{path!r} cannot be a file's name: {error}.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return MissingFileError(f"{path} does not exist: its name is too long.")
        found = unavailable(path, "cannot be looked at", error)
        return _missing(path) if isinstance(found, MissingFileError) else found


def _folder(pattern: str) -> str:
    """Return the part of a pattern that is no pattern."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0] or "/"


def _unreadable_folder(folder: str) -> RootfeedError | None:
    """Return why a pattern's folder cannot be listed, about which `glob` says nothing."""
    try:
        os.scandir(folder).close()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return unavailable(folder, "cannot be listed", error)
    return None


def _missing(path: str) -> RootfeedError:
    # The path itself, or the first folder that is a link to nowhere.
    for part in (*reversed(Path(path).parents), Path(path)):
        if part.is_symlink() and not part.exists():
            return MissingFileError(f"{_through(path, part)} is a link to {_target(part)}.")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return MissingFileError(f"{path} does not exist: there is no directory {folder!r}.")
    try:
        endings = (".root", os.path.splitext(path)[1] or ".root")
        siblings = [entry.name for entry in os.scandir(folder) if entry.name.endswith(endings)]
    except OSError:
        return MissingFileError(f"{path} does not exist.")
    hint = nearest(os.path.basename(path), siblings) if siblings else "It holds no ROOT files."
    return MissingFileError(f"{path} does not exist. In {folder!r}: {hint}")


def _through(path: str, part: Path) -> str:
    return path if os.fspath(part) == path else f"{path} does not exist: {part}"


def _target(link: Path) -> str:
    """Say where a link leads that leads nowhere."""
    target = os.readlink(link)
    try:
        os.stat(link)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            return f"{target!r}, and that leads back to it: links lead to each other"
    return f"{target!r}, which does not exist"
