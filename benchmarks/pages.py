"""Where a file's pages lie and how to decompress them, with nothing of rootfeed.

The floor of the epoch benchmark: no loader that reads these files can be faster than the
decompression of their pages by the same decompressors on the same threads.

Run as a script to see the pages and clusters of files: `python benchmarks/pages.py FILE...`.
"""

from __future__ import annotations

import os
import struct
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import cramjam
import deflate
import numpy as np
import typer
import zstandard

# A compressed piece of ROOT: two letters, a method byte, and the compressed and the uncompressed
# number of bytes in three little-endian bytes each (ROOT, core/zip/src/RZip.cxx). LZ4 puts an
# 8-byte checksum before its data.
PIECE_HEADER_BYTES = 9
LZ4_CHECKSUM_BYTES = 8

# The start of a TKey, big-endian: fNbytes, fVersion, fObjlen, fDatime, fKeylen (TKey::Streamer).
KEY_START = struct.Struct(">ihiih")


class Page(NamedTuple):
    """One page: where its payload starts, its bytes on disk and decoded, and its entries."""

    offset: int
    stored_bytes: int
    decoded_bytes: int
    entries: int


def locate(path: Path, tree: str) -> dict[str, list[Page]]:
    """Return the pages of every column of a TTree or an RNTuple, in the order of their entries."""
    import uproot

    with uproot.open(path, minimal_ttree_metadata=False) as file:
        source = file[tree]
        if source.classname == "TTree":
            with path.open("rb") as stream:
                return {branch.name: baskets(branch, stream.fileno()) for branch in source.branches}
        return ntuple_pages(source)


def baskets(branch, descriptor: int) -> list[Page]:
    """Return the baskets of a branch; the key before each tells its uncompressed size."""
    edges = branch.entry_offsets
    pages = []
    for i in range(branch.num_baskets):
        start = int(branch.member("fBasketSeek")[i])
        total, _, decoded, _, key_bytes = KEY_START.unpack(os.pread(descriptor, KEY_START.size, start))
        pages.append(Page(start + key_bytes, total - key_bytes, decoded, int(edges[i + 1] - edges[i])))
    return pages


def ntuple_pages(ntuple) -> dict[str, list[Page]]:
    """Return the pages of an RNTuple's top-level columns, without the checksums behind them."""
    columns: dict[str, list[Page]] = {}
    for cluster in ntuple.page_link_list:
        for record, column in zip(ntuple.column_records, cluster, strict=True):
            pages = columns.setdefault(ntuple.field_records[record.field_id].field_name, [])
            for page in column.pages:
                decoded_bytes = page.num_elements * record.nbits // 8
                locator = page.locator
                pages.append(Page(locator.offset, locator.num_bytes, decoded_bytes, page.num_elements))
    return columns


def clusters(path: Path, tree: str) -> list[int]:
    """Return the number of entries in each cluster of the file."""
    import uproot

    with uproot.open(path, minimal_ttree_metadata=False) as file:
        source = file[tree]
        if source.classname == "TTree":
            return np.diff(source.common_entry_offsets()).tolist()
        return [summary.num_entries for summary in source.cluster_summaries]


def decompress(stored: np.ndarray, decoded: np.ndarray, zstd: zstandard.ZstdDecompressor) -> None:
    """Decompress a page piece by piece; both arrays are uint8 and exactly as long as the page."""

    if len(stored) == len(decoded):
        return  # stored as it is: already read, and a copy would not be decompression
    start = position = 0
    while start < len(stored):
        algorithm = bytes(stored[start : start + 2])
        header = stored[start : start + PIECE_HEADER_BYTES].astype(np.int64)
        piece_bytes = int(header[3] | header[4] << 8 | header[5] << 16)
        piece_decoded_bytes = int(header[6] | header[7] << 8 | header[8] << 16)
        start += PIECE_HEADER_BYTES
        piece = stored[start : start + piece_bytes]
        out = decoded[position : position + piece_decoded_bytes]
        if algorithm == b"ZS":
            with zstd.stream_reader(piece, read_size=piece_bytes) as reader:
                reader.readinto(out)
        elif algorithm == b"L4":
            cramjam.lz4.decompress_block_into(piece[LZ4_CHECKSUM_BYTES:], out)
        elif algorithm == b"ZL":
            deflate.zlib_decompress(piece, piece_decoded_bytes)
        else:
            raise ValueError(
                f"expected a page compressed by zstd, LZ4 or zlib, got header {algorithm!r}"
            )
        start += piece_bytes
        position += piece_decoded_bytes


class Floor:
    """Read and decompress every page of a file, `threads` at a time, into reused buffers."""

    def __init__(self, path: Path, tree: str, names: list[str], threads: int) -> None:
        columns = locate(path, tree)
        self.pages = sorted(page for name in names for page in columns[name])
        self.decoded_bytes = sum(page.decoded_bytes for page in self.pages)
        self.threads = threads
        self.descriptor = os.open(path, os.O_RDONLY)
        largest = max(max(page.stored_bytes, page.decoded_bytes) for page in self.pages)
        self.buffers = [(np.ones(largest, np.uint8), np.ones(largest, np.uint8)) for _ in range(threads)]
        self.pool = ThreadPoolExecutor(threads)

    def run(self) -> None:
        """Do it once: the threads take the pages in turn, in the order of the file."""
        pages = iter(self.pages)
        futures: list[Future[None]] = [
            self.pool.submit(self.work, pages, i) for i in range(self.threads)
        ]
        for future in futures:
            future.result()

    def work(self, pages, thread: int) -> None:
        """Take pages until none is left; a list's iterator gives each once, under the GIL."""
        stored, decoded = self.buffers[thread]
        zstd = zstandard.ZstdDecompressor()
        for page in pages:
            target = stored[: page.stored_bytes]
            received = os.preadv(self.descriptor, [target], page.offset)
            if received != page.stored_bytes:
                raise OSError(
                    f"expected {page.stored_bytes} bytes at offset {page.offset}, got {received}"
                )
            decompress(target, decoded[: page.decoded_bytes], zstd)


def main(
    paths: Annotated[list[Path], typer.Argument(help="ROOT files.")],
    tree: Annotated[str, typer.Option(help="The tree or ntuple in them.")] = "events",
) -> None:
    """Print the entries per page and per cluster of files, and what their columns weigh."""
    from rich.console import Console
    from rich.table import Table

    for path in paths:
        table = Table(
            "column",
            "pages",
            "entries per page × pages",
            "stored, MB",
            "decoded, MB",
            "pages stored as is",
        )
        for name, pages in locate(path, tree).items():
            sizes, counts = np.unique([page.entries for page in pages], return_counts=True)
            table.add_row(
                name,
                str(len(pages)),
                ", ".join(f"{size} × {count}" for size, count in zip(sizes, counts, strict=True)),
                f"{sum(page.stored_bytes for page in pages) / 1e6:.2f}",
                f"{sum(page.decoded_bytes for page in pages) / 1e6:.2f}",
                str(sum(page.stored_bytes == page.decoded_bytes for page in pages)),
            )
        console = Console()
        console.print(f"\n[bold]{path}[/]: clusters of {clusters(path, tree)} entries")
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
