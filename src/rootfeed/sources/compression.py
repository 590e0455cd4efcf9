"""ROOT's compressed pages: one or several pieces, each with a header of nine bytes.

A header holds a two-letter algorithm, a method byte, and the compressed and uncompressed sizes in
three little-endian bytes each; a piece holds at most 16 MiB - 1 bytes (ROOT's ``RZip``,
``core/zip/src/Compression.cxx``). A page whose stored size equals its uncompressed size is not
compressed. Every size is checked against the page before anything is decompressed, and nothing is
allocated here: the output is the caller's.
"""

from __future__ import annotations

import struct
import threading

import cramjam
import deflate
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard

__all__ = ["MOST_EXPANSION", "DamagedPageError", "checked_xxh3", "decompress_into"]

MOST_EXPANSION = 1 << 15
"""No algorithm does better than zstd, whose smallest block has 4 bytes for at most 128 KiB."""

_HEADER = struct.Struct("<2sBHBHB")
_HEADER_BYTES = _HEADER.size
_LZ4_CHECKSUM_BYTES = 8

Bytes = npt.NDArray[np.uint8] | memoryview


class DamagedPageError(Exception):
    """A page contradicts itself; the source adds the file, the column and the entries."""


def checked_xxh3(data: Bytes, stored: bytes) -> None:
    """Compare a page with its xxhash3 checksum (little-endian, RNTuple specification, "Pages")."""
    if xxhash.xxh3_64_digest(data)[::-1] != stored:
        raise DamagedPageError("its checksum differs: the bytes were changed after writing")


def decompress_into(stored: Bytes, out: Bytes) -> None:
    """Decompress all pieces of a page.

    Parameters
    ----------
    stored : ndarray of uint8, or memoryview of bytes
        The page as it lies in the file, without key or checksum.
    out : ndarray of uint8, or memoryview of bytes
        Exactly the page's uncompressed bytes.

    Raises
    ------
    DamagedPageError
        Where sizes contradict each other, a checksum differs, or the data cannot be decompressed.
    """
    # Parts of a memoryview cost less than those of an array.
    source, target = memoryview(stored), memoryview(out)
    stored_bytes, whole, position, filled = len(source), len(target), 0, 0
    while filled < whole:
        if position + _HEADER_BYTES > stored_bytes:
            raise DamagedPageError(
                f"its compressed pieces end after {filled} of {whole} uncompressed bytes"
            )
        algorithm, _, low, high, whole_low, whole_high = _HEADER.unpack_from(source, position)
        piece_bytes, whole_bytes = low + (high << 16), whole_low + (whole_high << 16)
        position += _HEADER_BYTES
        if piece_bytes == 0 or whole_bytes == 0:
            raise DamagedPageError("a compressed piece claims to be empty")
        if position + piece_bytes > stored_bytes or filled + whole_bytes > whole:
            raise DamagedPageError(
                f"a compressed piece claims {piece_bytes} bytes for {whole_bytes} uncompressed ones, "
                f"of which the page has {stored_bytes - position} and {whole - filled} left"
            )
        _decompress_piece(
            algorithm,
            source[position : position + piece_bytes],
            target[filled : filled + whole_bytes],
        )
        position += piece_bytes
        filled += whole_bytes
    if position != stored_bytes:
        raise DamagedPageError(f"{stored_bytes - position} bytes follow its last compressed piece")


def _decompress_piece(algorithm: bytes, piece: memoryview, out: memoryview) -> None:
    try:
        if algorithm == b"ZS":
            written = _decompress_zstd(piece, out)
        elif algorithm == b"L4":
            payload = piece[_LZ4_CHECKSUM_BYTES:]
            if xxhash.xxh64_digest(payload) != piece[:_LZ4_CHECKSUM_BYTES].tobytes():
                raise DamagedPageError("its LZ4 checksum differs: the bytes were changed after writing")
            written = cramjam.lz4.decompress_block_into(payload, out, output_len=len(out))
        elif algorithm == b"ZL":
            data = deflate.zlib_decompress(piece, len(out))
            written = len(data)
            if written == len(out):
                out[:] = data
        elif algorithm == b"XZ":
            written = cramjam.xz.decompress_into(piece, out)
        elif algorithm == b"CS":
            raise DamagedPageError(
                'it uses the compression "CS" of very old ROOT releases, which is not supported: '
                "rewrite the file with a current ROOT"
            )
        else:
            raise DamagedPageError(f"its compression is unknown: {algorithm!r}")
    except (
        cramjam.DecompressionError,
        deflate.DeflateError,
        zstandard.ZstdError,
        ValueError,
    ) as error:
        raise DamagedPageError(f"{algorithm.decode()} decompression failed: {error}") from error
    if written != len(out):
        raise DamagedPageError(f"a piece of {len(out)} bytes decompressed to {written}")


class _Zstd(threading.local):
    """A decompressor for each thread: it must not be used by two at a time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


def _decompress_zstd(piece: memoryview, out: memoryview) -> int:
    """Decompress a frame; return the bytes it holds, or one more than there is room for.

    With the whole frame at hand and room for all of its contents, zstd writes straight into `out`:
    1.4 times as fast as cramjam's stream (``docs/decisions/zstd.md``).
    """
    reader = _zstd.decompressor.stream_reader(piece, read_size=len(piece))
    written: int = reader.readinto(out)
    return written + len(reader.read(1)) if written == len(out) else written
