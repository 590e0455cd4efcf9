"""An open Parquet file: where its columns lie, and their entries as pyarrow decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rootfeed.errors import DamagedFileError
from rootfeed.schema import Array, ColumnType
from rootfeed.sources.arrowarrays import member
from rootfeed.sources.arrowcolumns import ArrowColumns
from rootfeed.sources.arrowfiles import ArrowFile, Parsed, bounds_of
from rootfeed.sources.wholefiles import bytes_of

__all__ = ["ParquetFile"]


class ParquetFile(ArrowFile):
    """An open Parquet file."""

    format = "Parquet"

    def _parsed(self) -> Parsed:
        import pyarrow.parquet as pq

        size = self.storage.file_bytes
        end = bytes_of(self.storage, max(0, size - 8), min(8, size))
        if size < 12 or end[4:] != b"PAR1":
            text = "encrypted" if end[4:] == b"PARE" else "truncated"
            raise DamagedFileError(
                f"{self.path} is {text}: it does not end as Parquet files do. "
                "Copy or produce the file again."
            )
        footer_bytes = int.from_bytes(end[:4], "little") + 8
        if footer_bytes + 4 > size:
            raise DamagedFileError(
                f"{self.path} is damaged: it claims {footer_bytes} bytes of metadata, and has {size} in "
                "all. Copy or produce the file again."
            )
        metadata = pq.read_metadata(self.source)
        groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
        bounds = bounds_of(self.path, (group.num_rows for group in groups), metadata.num_rows)
        schema = pq.ParquetFile(self.source, metadata=metadata).schema_arrow
        columns = ArrowColumns(schema, self.path, self._filling)
        return Parsed(footer_bytes, bounds, schema, columns, metadata)

    def _open(self) -> None:
        import pyarrow.parquet as pq

        self._metadata = self.parsed.groups
        # Each column chunk is read for itself: that is what was fetched.
        self._reader = pq.ParquetFile(
            self.source,
            metadata=self._metadata,
            page_checksum_verification=True,
            pre_buffer=False,
        )

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        """See `ArrowFile`."""
        groups = self.groups(start, stop)
        if not groups:
            return
        field = self.columns.fields[name]
        # Others may be of that name, or have it as a part of theirs.
        wanted = [name]
        if len(field.path) > 1:
            wanted = [self._metadata.schema.column(leaf).path for leaf in range(*field.leaves)]
        table = self._reader.read_row_groups(list(groups), columns=wanted, use_threads=False)
        column = table.column(table.column_names.index(field.path[0]))
        for part in column.slice(start - int(self.bounds[groups[0]]), stop - start).chunks:
            yield member(part, field.path[1:])

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        """See `ArrowFile`."""
        leaf = self.columns.fields[name].leaves[0]
        rows = []
        for number in range(self._metadata.num_row_groups):
            chunk = self._metadata.row_group(number).column(leaf)
            statistics = chunk.statistics if chunk.is_stats_set else None
            nulls = statistics.null_count if statistics and statistics.has_null_count else 0
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            size = chunk.total_compressed_size
            if not 0 <= start <= start + size <= self.storage.file_bytes:
                raise DamagedFileError(
                    f"{self.path}: column {name!r} claims to lie outside of the file. "
                    "Copy or produce the file again."
                )
            rows.append((start, size, chunk.num_values, chunk.total_uncompressed_size, nulls))
        places = np.array(rows, np.int64).reshape(-1, 5)
        if type_.kind in ("scalar", "text"):
            self.columns.check_nulls(name, type_, int(places[:, 4].sum()))
        decoded_bytes = int(places[:, 3].sum())
        if type_.dtype is not None:
            decoded_bytes = int(places[:, 2].sum()) * type_.dtype.itemsize
        entries = max(1, int(self.bounds[-1]))
        return places[:, 0], places[:, 1], decoded_bytes / entries if type_.is_jagged else 0.0

    def close(self) -> None:
        """See `ArrowFile`."""
        self._reader.close()
        super().close()
