"""From a page's bytes to numbers of the column's native dtype."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rootfeed import kernels
from rootfeed.schema import Array, Encoding
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.scratch import Scratch

__all__ = ["decode"]

_LEAF_BYTES = {"mantissa": 3, "ranged": 4}
"""Of leaves that NumPy has no dtype for, which could be viewed with a stride."""


def decode(
    encoding: Encoding, raw: Array, elements: int, start: int, out: Array, scratch: Scratch
) -> None:
    """Decode elements ``[start, start + len(out))`` of a page.

    Parameters
    ----------
    encoding : Encoding
    raw : ndarray of uint8
        The page's uncompressed bytes, exactly as many as the encoding says.
    elements : int
        Elements in the page.
    start : int
        ``start + len(out) <= elements``.
    out : ndarray
        Of the column's native dtype, at least as wide as the stored one.
    scratch : Scratch
    """
    if len(raw) != encoding.page_bytes(elements) or not 0 <= start <= elements - len(out):
        raise DamagedPageError(f"it has {len(raw)} bytes for {elements} elements")
    if encoding.stride and (encoding.length > 1 or encoding.name in _LEAF_BYTES):
        raw, first = _leaf(encoding, raw, start, start + len(out), scratch)
        plain = replace(encoding, stride=0, place=0, length=1)
        decode(plain, raw, len(raw) // plain.page_bytes(1), start - first, out, scratch)
        return
    if out.dtype == np.bool_:
        bits = scratch.array("bits", len(out), np.uint8)
        if encoding.name == "bit":
            kernels.unpack(raw, 1, start, bits)
        else:
            bits[:] = _strided(encoding, raw, start, len(out), np.dtype(np.uint8))
        np.not_equal(bits, 0, out=out)
        return
    stored = encoding.stored
    decoded = out if stored == out.dtype else scratch.array("decoded", len(out), stored)
    words = decoded.view(f"u{stored.itemsize}")
    match encoding.name:
        case "plain":
            words[:] = raw.view(words.dtype)[start : start + len(out)]
        case "swapped":
            words[:] = _strided(encoding, raw, start, len(out), words.dtype.newbyteorder(">"))
        case "split":
            kernels.unsplit(raw, elements, start, words)
        case "zigzag":
            kernels.unsplit(raw, elements, start, words)
            kernels.unzigzag(words)
        case "bit":
            kernels.unpack(raw, 1, start, words)
        case "truncated":
            kernels.unpack(raw, encoding.bits, start, words)
            words <<= np.uint32(32 - encoding.bits)
        case "mantissa":
            kernels.mantissa(raw, encoding.bits, start, words)
        case "quantized":
            packed = scratch.array("packed", len(out), np.uint32)
            kernels.unpack(raw, encoding.bits, start, packed)
            _dequantize(encoding, packed, decoded)
        case "ranged":
            packed = raw.view(">u4")[start : start + len(out)]
            _unrange(encoding, packed, decoded)
        case _:
            raise AssertionError(encoding.name)
    if decoded is not out:
        out[:] = decoded


def _leaf(encoding: Encoding, raw: Array, start: int, stop: int, scratch: Scratch) -> tuple[Array, int]:
    """Copy one leaf of the entries that hold these elements; return it and the first one's number."""
    first, last = start // encoding.length, -(-stop // encoding.length)
    width = encoding.length * _LEAF_BYTES.get(encoding.name, encoding.stored.itemsize)
    leaf = scratch.array("leaf", (last - first, width), np.uint8)
    rows = raw.reshape(-1, encoding.stride)[first:last]
    leaf[:] = rows[:, encoding.place : encoding.place + width]
    return leaf.reshape(-1), first * encoding.length


def _strided(encoding: Encoding, raw: Array, start: int, count: int, dtype: np.dtype[Any]) -> Array:
    """View one leaf of each entry."""
    if count == 0:
        return np.empty(0, dtype)
    stride = encoding.stride or dtype.itemsize
    return np.ndarray((count,), dtype, raw, offset=start * stride + encoding.place, strides=(stride,))


def _dequantize(encoding: Encoding, packed: Array, out: Array) -> None:
    """RNTuple's Real32Quant: ``min(q (high - low) / (2^bits - 1) + low, high)``, in double precision."""
    scale = (encoding.high - encoding.low) / ((1 << encoding.bits) - 1)
    np.multiply(packed, scale, out=out)
    np.add(out, encoding.low, out=out)
    np.minimum(out, encoding.high, out=out)


def _unrange(encoding: Encoding, packed: Array, out: Array) -> None:
    """TTree's Double32_t with a range: ``q / factor + low`` (``TBufferFile::ReadWithFactor``)."""
    steps = 1 << encoding.bits if encoding.bits < 32 else 0xFFFFFFFF
    np.divide(packed, steps / (encoding.high - encoding.low), out=out)
    np.add(out, encoding.low, out=out)
