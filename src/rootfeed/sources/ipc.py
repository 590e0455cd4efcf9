"""An open file of Arrow's: where its columns lie, and their entries as pyarrow reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import DamagedFileError
from rootfeed.schema import Array, ColumnType
from rootfeed.sources import flatbuffers
from rootfeed.sources.arrowarrays import member
from rootfeed.sources.arrowcolumns import ArrowColumns
from rootfeed.sources.arrowfiles import ArrowFile, Parsed, bounds_of
from rootfeed.sources.arrowtypes import buffers_of
from rootfeed.sources.wholefiles import bytes_of

__all__ = ["IpcFile"]


class IpcFile(ArrowFile):
    """An open file of Arrow's, which is version 2 of Feather."""

    format = "Arrow"

    def _parsed(self) -> Parsed:
        import pyarrow as pa

        size = self.storage.file_bytes
        end = bytes_of(self.storage, max(0, size - 10), min(10, size))
        footer_bytes = int.from_bytes(end[:4], "little") + 10
        if end[4:] != b"ARROW1" or footer_bytes + 8 > size:
            raise DamagedFileError(
                f"{self.path} is truncated: it does not end as Arrow's files do. "
                "Copy or produce the file again."
            )
        footer = bytes_of(self.storage, size - footer_bytes, footer_bytes - 10)
        blocks, dictionaries = flatbuffers.blocks(footer), flatbuffers.dictionaries(footer)
        for offset, header_bytes, body_bytes in (*blocks, *dictionaries):
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
        bounds = bounds_of(self.path, (batch.entries for batch in batches))
        schema = pa.ipc.open_file(self.source).schema
        columns = ArrowColumns(schema, self.path, self._filling)
        return Parsed(footer_bytes, bounds, schema, columns, (batches, blocks, dictionaries))

    def _open(self) -> None:
        self._batches, self._blocks, self._dictionaries = self.parsed.groups
        self._reader: Any = None
        self._held: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}

    @property
    def always(self) -> tuple[tuple[int, int], ...]:
        """See `ArrowFile`: footer and dictionaries."""
        end = self.storage.file_bytes - self.parsed.footer_bytes
        ranges = [(offset, header + body) for offset, header, body in self._dictionaries]
        return ((end, self.parsed.footer_bytes), *ranges)

    def spans(self, name: str) -> Array:
        """See `ArrowFile`: the batch's header, and the buffers of the field with all of its members."""
        position = self.columns.fields[name].position
        counts = [buffers_of(each.type) for each in self.parsed.schema]
        first = sum(counts[:position])
        last = first + counts[position]
        found = []
        for batch, (offset, header_bytes, body_bytes) in zip(self._batches, self._blocks, strict=True):
            body = offset + header_bytes
            if any(not 0 <= at <= at + size <= body_bytes for at, size in batch.buffers):
                raise DamagedFileError(
                    f"{self.path}: column {name!r} claims to lie outside of a record batch. "
                    "Copy or produce the file again."
                )
            ranges = [(body, body_bytes)]  # where not all types say how many buffers they have
            if batch.is_plain and sum(counts) == len(batch.buffers):
                ranges = _in_a_row(body, batch.buffers[first:last])
            found.append([(offset, header_bytes), *ranges])
        pieces = max(map(len, found), default=1)
        padded = [ranges + [(0, 0)] * (pieces - len(ranges)) for ranges in found]
        return np.array(padded, np.int64).reshape(len(found), pieces, 2)

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
            rows.append((batch.offset, nulls))
        places = np.array(rows, np.int64).reshape(-1, 2)
        stored = self.spans(name)[:, 1:, 1].sum(1)  # the header belongs to all columns
        if type_.kind in ("scalar", "text") or (type_.kind == "vector" and len(field.path) == 1):
            self.columns.check_nulls(name, type_, int(places[:, 1].sum()))
        entries = max(1, int(self.bounds[-1]))
        decoded_bytes = int(stored.sum())
        if type_.dtype is not None:
            decoded_bytes = elements * type_.dtype.itemsize
        return places[:, 0], stored, decoded_bytes / entries if type_.is_jagged else 0.0


def _in_a_row(body: int, buffers: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return offset and bytes of buffers, those that follow each other as one: so pyarrow reads them."""
    found: list[tuple[int, int]] = []
    for offset, size in buffers:
        if size == 0:
            continue
        start = body + offset
        if found and sum(found[-1]) == start:
            found[-1] = (found[-1][0], found[-1][1] + size)
        else:
            found.append((start, size))
    return found
