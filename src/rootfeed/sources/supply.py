"""How uproot gets a file's bytes: through our storage, so that all bytes come from one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import uproot

from rootfeed.sources.storage import Storage

__all__ = ["StorageSource"]


class StorageSource(uproot.source.chunk.Source):  # type: ignore[misc]  # uproot has no types
    """A source of uproot's that reads from a storage, on the thread that asks.

    Without threads of its own, and without a memory map: where a mapped file is cut or its disk fails,
    the process dies of a SIGBUS.

    Parameters
    ----------
    path : str
    storage : Storage
        Closed by whoever opened it.
    **options
        uproot's own.
    """

    def __init__(self, path: str, *, storage: Storage, **options: Any) -> None:
        super().__init__()
        self._file_path = path
        self._num_bytes = storage.file_bytes
        self._storage = storage
        self._closed = False

    def chunk(self, start: int, stop: int) -> Any:
        """Return the bytes ``[start, stop)``: fewer where the file ends, which uproot notices."""
        size = max(0, min(stop, self._storage.file_bytes) - start)
        data = np.empty(size, np.uint8)
        self._storage.read_into(start, data)
        return uproot.source.chunk.Chunk(self, start, stop, uproot.source.futures.TrivialFuture(data))

    def chunks(self, ranges: Sequence[tuple[int, int]], notifications: Any) -> list[Any]:
        """Return several ranges, which are fetched at once, and announce each."""
        self._storage.prepare((start, stop - start) for start, stop in ranges)
        chunks = [self.chunk(start, stop) for start, stop in ranges]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks

    @property
    def closed(self) -> bool:
        """Whether uproot has closed it."""
        return self._closed

    def __enter__(self) -> StorageSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
