"""Open a ROOT file, find the tree or ntuple in it, and describe its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import Any, TypeVar

import xxhash

from rootfeed.errors import ChangedFileError, DamagedFileError
from rootfeed.processes import unforked
from rootfeed.schema import Array, Column, ColumnType, Version
from rootfeed.sources import baskets, fields, tables
from rootfeed.sources.directories import Key, RootFile
from rootfeed.sources.envelopes import read_ntuple
from rootfeed.sources.known import Known
from rootfeed.sources.objects import (
    RNTUPLE,
    RootObject,
    checked_entries,
    choose,
    damaged,
    identity,
)
from rootfeed.sources.productions import once
from rootfeed.sources.records import Contents, Listing, UnknownError, listing_of
from rootfeed.sources.storage import Address, Storage, open_storage
from rootfeed.sources.streamed import Tree

__all__ = ["described", "directly", "keep", "open_object"]

Answer = TypeVar("Answer")

_kept: dict[tuple[Address, str | None], RootObject] = {}

_ENDS_BYTES = 64 << 10  # at each end of a file, fetched before they are asked for
_MOST_KEPT = 4


@contextmanager
def open_object(
    address: Address, object_path: str | None, version: Version | None = None, *, friends: bool = False
) -> Iterator[RootObject]:
    """Open a file, find the tree or ntuple in it, and close the file afterwards.

    Parameters
    ----------
    address : Address
    object_path : str or None
        None where the file holds only one.
    version : Version, optional
        What was indexed: anything else is refused.
    friends : bool
        Read what the file says of a tree's friends, too, which is slower.

    Raises
    ------
    MissingFileError, AccessError, UnreachableError, ChangedFileError
        Where the file's bytes cannot be had.
    MissingObjectError
        Where there is none of that name, or several and none was named.
    DamagedFileError
        Where the file cannot be parsed, or lacks its end.
    """
    with closing(open_storage(address, version)) as storage:
        with _opened(address, storage, object_path, friends=friends) as found:
            yield found
        storage.keep()


def described(
    address: Address,
    object_path: str | None,
    ask: Callable[[RootObject], Answer],
    known: Known[Answer] | None = None,
) -> Answer:
    """Return what somebody asks about a tree or ntuple.

    Our own readers parse what they know to the last byte, which takes milliseconds; uproot, as
    `open_object`, everything else, and what of a TTree files of one production have in common, once.

    Parameters
    ----------
    address : Address
    object_path : str or None
        None where the file holds only one.
    ask : function of RootObject
        It is asked again where our own readers come to something that they do not know.
    known : Known, optional
        Where the answer is looked for, and kept.

    Raises
    ------
    RootfeedError
        As `open_object` does.
    """
    kept = _kept.pop((address, object_path), None)
    if kept is not None:
        with suppress(DamagedFileError, ChangedFileError), closing(open_storage(address, kept.version)):
            return _kept_answer(known, kept.storage, ask(kept))
    with closing(open_storage(address)) as storage:
        if known is not None and (before := known.get(storage)) is not None:
            return before
        try:
            answer = ask(directly(address, storage, object_path))
        except DamagedFileError:  # if it is, uproot says how
            with _opened(address, storage, object_path) as found:
                answer = ask(found)
        storage.keep()
        return _kept_answer(known, storage, answer)


def _kept_answer(known: Known[Answer] | None, storage: Storage, answer: Answer) -> Answer:
    if known is not None:
        known.put(storage, answer)
    return answer


def keep(address: Address, object_path: str | None, found: RootObject) -> None:
    """Keep what `described` has just shown for the next time that it is asked about, which comes soon.

    Who asks for the columns of a dataset's first file mostly goes on to index it. What is kept is some
    megabytes; if the file is another one by then, it is parsed again.
    """
    if found.handle is None:
        _kept[address, object_path] = found
        for old in list(_kept)[:-_MOST_KEPT]:
            _kept.pop(old, None)


def directly(address: Address, storage: Storage, object_path: str | None) -> RootObject:
    """Return a tree or ntuple that our own readers parse.

    Raises
    ------
    DamagedFileError
        Also where they do not know it; so do the methods of the object.
    """
    path = address.name

    def learn(names: list[str]) -> Listing:
        with _opened(address, storage, object_path) as found:
            assert found.branches is not None
            if found.branches() != names:
                raise UnknownError("the order of branches")
            return found.contents.listing()

    with damaged(f"{path} cannot be read as a ROOT file"):
        file = RootFile(storage, _ENDS_BYTES)
        classes = [(f"{name};{key.cycle}", key.class_name) for name, key in file.keys]
        object_path, class_name = choose(path, classes, object_path)
        name, _, cycle = object_path.rpartition(";")
        keys = [
            key
            for found, key in file.keys
            if (found == name and str(key.cycle) == cycle) or found == object_path
        ]
        key = max(keys, key=lambda key: abs(key.cycle))
        if class_name == RNTUPLE:
            contents = _ntuple_directly(file, file.payload(key))
        else:
            contents = _tree_directly(file, key, learn)
        entries = checked_entries(f"{path}:{object_path}", contents.entries)
        return RootObject(
            path=path,
            object_path=object_path,
            format="RNTuple" if class_name == RNTUPLE else "TTree",
            entries=entries,
            identity=identity(file.uuid, object_path, entries),
            storage=storage,
            version=storage.version,
            contents=contents,
        )


def _tree_directly(file: RootFile, key: Key, learn: Callable[[list[str]], Listing]) -> Contents:
    tree = Tree(file.payload(key), key.key_bytes, key.class_name)
    production = ("tree", key.class_name, tree.production, xxhash.xxh3_128_digest(file.streamers()))

    def column(where: str, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Any]) -> Column:
        return baskets.branch_column(where, tree.branch, tree.entries, name, type_, origin)

    return Contents(tree.entries, lambda: once(production, lambda: learn(tree.names())), column)


def _ntuple_directly(file: RootFile, anchor: Array) -> Contents:
    ntuple, production = read_ntuple(file, anchor)

    def column(where: str, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Any]) -> Column:
        return tables.field_column(where, ntuple, name, type_, origin, shared)

    def listing() -> Listing:
        return once(("fields", production), lambda: listing_of(fields.fields(ntuple)))

    return Contents(ntuple.entries, listing, column)


def _opened(
    address: Address, storage: Storage, object_path: str | None, *, friends: bool = False
) -> AbstractContextManager[RootObject]:
    """Give a tree or ntuple that uproot parses."""
    with unforked():
        from rootfeed.sources.opening import opened  # uproot takes its time, and many files need none

    # Metadata lies at both ends of a file.
    size = storage.file_bytes
    storage.prepare([(0, _ENDS_BYTES), (max(0, size - _ENDS_BYTES), _ENDS_BYTES)])
    return opened(address, storage, object_path, friends=friends)
