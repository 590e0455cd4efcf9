"""The friends that a TTree names: found, and joined with it entry by entry."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import replace

from rootfeed.errors import ArgumentError, RootfeedError
from rootfeed.schema import ColumnType
from rootfeed.sources import root
from rootfeed.sources.beside import BesideLocation
from rootfeed.sources.choosing import source_of
from rootfeed.sources.metadata import Friend, open_object
from rootfeed.sources.paths import Location
from rootfeed.sources.storage import is_remote, local_path

__all__ = ["with_friends"]


def with_friends(location: Location) -> tuple[Location, set[str]]:
    """Return a file and its tree's friends, side by side; the file alone where there are none.

    As in ROOT, a friend's column is called by the friend's name and its own, ``friend.column``, and by
    its own name alone; a name belongs to the tree's own column, then to that of the first friend.

    Returns
    -------
    location : Location
    short : set of str
        The second names of friends' columns.

    Raises
    ------
    MissingFileError, MissingObjectError
        Where a friend is not where the tree says.
    ArgumentError
        Where ROOT finds a friend's entries by an index, not by their numbers, or the tree names itself.
    """
    if source_of(location) is not root:
        return location, set()  # which names no others
    with open_object(location.address, location.object_path, friends=True) as found:
        name, friends, known = found.object_path, found.friends(), set(found.types())
    joined = location
    short: set[str] = set()
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
        short.update(alone)
        known.update(alone, names)
        joined = BesideLocation(
            location.path, location.object_path, first=joined, other=where, names=names | alone
        )
    return joined, short


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
    """Return where a friend lies: a relative path begins here, as in ROOT, or beside the tree's file."""
    address = location.address
    if friend.path:
        urls = tuple(dict.fromkeys(_absolute(friend.path, url) for url in address.urls))
        address = replace(address, urls=urls)
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
