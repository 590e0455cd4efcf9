"""What blocks need of servers, requested ahead of its use: nobody waits for each answer in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Event
from typing import Generic, TypeVar

from rootfeed import sources
from rootfeed.engine import Prefetch, Task
from rootfeed.schema import Block, FileIndex
from rootfeed.sources import Storage

__all__ = ["Fetching"]

Item = TypeVar("Item")

_MOST_REQUESTS = 24
"""Blocks that are asked for at a time: at 100 ms a round trip that is 240 blocks a second."""

_MOST_BLOCKS = 48
"""That are ahead, if memory lets them."""


class Fetching(Generic[Item]):
    """Yields what it is given, in order, each with what was fetched for it.

    Threads that wait for servers fetch it ahead. Where no file is remote there are none.

    Parameters
    ----------
    wanted : iterable of (item, Block)
        Advanced by the threads.
    files : mapping of int to (FileIndex, names)
        Of each file, by its number, its index, and the columns that are read.
    longest : int
        Entries of a block, at most.
    most_bytes : float
        Of what is fetched and was not taken yet; a block may exceed it.
    """

    def __init__(
        self,
        wanted: Iterable[tuple[Item, Block]],
        files: Mapping[int, tuple[FileIndex, Sequence[str]]],
        longest: int,
        most_bytes: float,
    ) -> None:
        self._wanted = wanted
        self._files = files
        self._prefetch: Prefetch[tuple[Item, list[Storage | None]]] | None = None
        remote = [(index, names) for index, names in files.values() if sources.is_fetched(index)]
        if not remote:
            return
        block_bytes = longest * max(sources.stored_bytes(index, names) for index, names in remote)
        most = max(1, min(_MOST_BLOCKS, int(most_bytes / max(block_bytes, 1))))
        self._prefetch = Prefetch(self._groups(), threads=min(most, _MOST_REQUESTS), window=most)

    def __iter__(self) -> Iterator[tuple[Item, Storage | None]]:
        if self._prefetch is None:
            for item, _ in self._wanted:
                yield item, None
            return
        while True:
            try:
                item, fetched = self._prefetch.next()
            except StopIteration:
                return
            self._prefetch.release()
            yield item, fetched[0]

    def close(self) -> bool:
        """Wait for no server any more; tell whether all threads have ended."""
        return self._prefetch is None or self._prefetch.close()

    def _groups(self) -> Iterator[tuple[tuple[Item, list[Storage | None]], list[Task]]]:
        for item, block in self._wanted:
            fetched: list[Storage | None] = []
            yield (item, fetched), [_task(fetched, *self._files[block.file], block)]


def _task(fetched: list[Storage | None], index: FileIndex, names: Sequence[str], block: Block) -> Task:
    def task(stopped: Event) -> None:
        fetched.append(sources.fetch(index, names, block.start, block.stop, stopped))

    return task
