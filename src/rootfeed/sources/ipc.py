"""An open file of Arrow's: where its columns lie, and their entries as pyarrow reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from rootfeed.errors import DamagedFileError
from rootfeed.schema import Array, ColumnType
from rootfeed.sources import flatbuffers
from rootfeed.sources.arrowarrays import member
from rootfeed.sources.arrowfiles import ArrowFile, bounds_of, bytes_of
from rootfeed.sources.scratch import Scratch

__all__ = ["IpcFile"]


class IpcFile(ArrowFile):
    """An open file of Arrow's, which is version 2 of Feather."""

    format = "Arrow"

    def _open(self, scratch: Scratch, key: Any) -> None:
        import pyarrow as pa

        size = self.storage.file_bytes
        end = bytes_of(self.storage, max(0, size - 10), min(10, size))
        self.footer_bytes = int.from_bytes(end[:4], "little") + 10
        if end[4:] != b"ARROW1" or self.footer_bytes + 8 > size:
            raise DamagedFileError(
                f"{self.path} is truncated: it does not end as Arrow's files do. "
                "Copy or produce the file again."
            )

        def parse(_: ExitStack) -> tuple[list[flatbuffers.Batch], Array]:
            footer = bytes_of(self.storage, size - self.footer_bytes, self.footer_bytes - 10)
            blocks = flatbuffers.blocks(footer)
            for offset, header_bytes, body_bytes in blocks:
                if not 0 <= offset <= offset + header_bytes + body_bytes <= size:
                    raise DamagedFileError(
                        f"{self.path}: a record batch claims to lie outside of the file. "
                        "Copy or produce the file again."
                    )
            self.storage.prepare([(offset, header_bytes) for offset, header_bytes, _ in blocks])
            batches = [
                flatbuffers.batch(bytes_of(self.storage, offset, header_bytes), offset, body_bytes)
                for offset, header_bytes, body_bytes in blocks
            ]
            return batches, bounds_of(self.path, (batch.entries for batch in batches))

        self._batches, self.bounds = scratch.keep(key, parse)
        self._reader: Any = None
        self._held: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self.schema = pa.ipc.open_file(self.source).schema

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        """See `ArrowFile`."""
        for number in self.groups(start, stop):
            first, last = (int(bound) for bound in self.bounds[number : number + 2])
            if first == last:
                continue
            if number not in self._held:  # with all columns that are wanted
                self._held[number] = self._reader.get_batch(number)
            field = self.columns.fields[name]
            column = self._held[number].column(self._numbers[field.position])
            low = max(start - first, 0)
            yield member(column.slice(low, min(stop, last) - first - low), field.path[1:])

    def use(self, names: Sequence[str]) -> None:
        """See `ArrowFile`."""
        import pyarrow as pa

        if not names:
            return

        fields = sorted({self.columns.fields[name].position for name in names})
        self._numbers = {position: number for number, position in enumerate(fields)}
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        self._reader = pa.ipc.open_file(self.source, options=options)

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        """See `ArrowFile`."""
        field = self.columns.fields[name]
        whole = self.columns.fields[field.path[0]].nodes[0]
        node, innermost = field.nodes[0], field.nodes[1] - 1
        rows, elements = [], 0
        for batch in self._batches:
            length = batch.nodes[whole][0]
            if length != batch.entries:
                raise DamagedFileError(
                    f"{self.path}: column {name!r} has {length} entries in a batch of {batch.entries}. "
                    "Copy or produce the file again."
                )
            if type_.is_jagged and type_.dtype is not None:
                elements += batch.nodes[innermost][0]
            nulls = batch.nodes[node][1]
            rows.append((batch.offset, batch.body_bytes // max(1, len(self.schema)), nulls))
        places = np.array(rows, np.int64).reshape(-1, 3)
        if type_.kind in ("scalar", "text") or (type_.kind == "vector" and len(field.path) == 1):
            self.columns.check_nulls(name, type_, int(places[:, 2].sum()))
        entries = max(1, int(self.bounds[-1]))
        decoded_bytes = int(places[:, 1].sum())
        if type_.dtype is not None:
            decoded_bytes = elements * type_.dtype.itemsize
        return places[:, 0], places[:, 1], decoded_bytes / entries if type_.is_jagged else 0.0
