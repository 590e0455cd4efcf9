"""The friends that a TTree names: found, and joined with it entry by entry."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Set
from dataclasses import replace
from urllib.parse import urlsplit

from rootfeed.errors import ArgumentError, RootfeedError
from rootfeed.schema import ColumnType
from rootfeed.sources import root
from rootfeed.sources.beside import BesideLocation
from rootfeed.sources.choosing import source_of
from rootfeed.sources.metadata import open_object
from rootfeed.sources.objects import Friend
from rootfeed.sources.paths import Location
from rootfeed.sources.storage import is_remote, local_path

__all__ = ["with_friends", "without_names"]


def with_friends(location: Location) -> tuple[Location, dict[str, str]]:
    """Return a file and its tree's friends, side by side; the file alone where there are none.

    As in ROOT, a friend's column is called by the friend's name and its own, ``friend.column``, and by
    its own name alone; a name belongs to the tree's own column, then to that of the first friend.
    Friends of friends are left out.

    Returns
    -------
    location : Location
    short : dict of str to str
        Second names of friends' columns, and the first ones.

    Raises
    ------
    MissingFileError, MissingObjectError
        Where a friend is not where the tree says.
    ArgumentError
        Where ROOT finds a friend's entries by an index, not by their numbers, or the tree names itself.
    """
    if source_of(location) is not root:
        return location, {}  # which names no others
    with open_object(location.address, location.object_path, friends=True) as found:
        name, friends, known = found.object_path, found.friends(), set(found.types())
    joined = location
    short: dict[str, str] = {}
    for friend in friends:
        where = _where(location, friend)
        if (where.address.urls, where.object_path) == (location.address.urls, name):
            raise ArgumentError(
                f"{location.path}:{name} names itself as its friend {friend.alias!r}: of a chain that "
                "is a tree's friend, ROOT does not write which files it has. Open these files, and join "
                "them: rootfeed.open(...).join(rootfeed.open(...))."
            )
        types = _types(where, f"{location.path}:{name}", friend)
        names = {f"{friend.alias}.{column}": column for column in types}
        names = {new: column for new, column in names.items() if new not in known}
        alone = {column: column for column in types if column not in known and column not in names}
        short |= {column: f"{friend.alias}.{column}" for column in alone}
        known.update(alone, names)
        joined = BesideLocation(
            location.path,
            location.object_path,
            first=joined,
            other=where,
            names=names | alone,
            lazily=True,
        )
    return joined, short


def without_names(location: Location, names: Set[str]) -> Location:
    """Return a file and its friends without some second names of columns."""
    if not isinstance(location, BesideLocation):
        return location
    left = {new: old for new, old in location.names.items() if new not in names}
    return replace(location, first=without_names(location.first, names), names=left)


def _types(where: Location, tree: str, friend: Friend) -> Mapping[str, ColumnType]:
    try:
        with open_object(where.address, where.object_path, friends=True) as found:
            if found.is_indexed:
                raise ArgumentError(
                    f"{where.path}:{where.object_path}, a friend of {tree}, has an index, by which ROOT "
                    "finds its entries: they cannot be joined by their numbers. Write the columns into "
                    "one tree (Snapshot of ROOT's RDataFrame does that)."
                )
            return found.types()
    except RootfeedError as error:
        if isinstance(error, ArgumentError):
            raise
        raise type(error)(f"{error} It is the friend {friend.alias!r} of {tree}.") from error


def _where(location: Location, friend: Friend) -> Location:
    """Return where a friend lies: a relative path begins here, as in ROOT, or beside the tree's file.

    What opens the tree's file is shown to its own server alone: a file may name any other one.
    """
    address = location.address
    if friend.path:
        urls = tuple(dict.fromkeys(_absolute(friend.path, url) for url in address.urls))
        own = {urlsplit(url)[:2] for url in address.urls if is_remote(url)}
        options = address.options if {urlsplit(url)[:2] for url in urls} <= own else {}
        address = replace(address, urls=urls, options=options)
    return Location(address.name, friend.tree, address)


def _absolute(path: str, tree_url: str) -> str:
    if is_remote(path):
        return path
    path = local_path(path)
    if os.path.isabs(path):
        return path
    if is_remote(tree_url):
        return posixpath.join(posixpath.dirname(tree_url), path)
    if os.path.exists(path):
        return os.path.abspath(path)
    return os.path.join(os.path.dirname(local_path(tree_url)), path)
