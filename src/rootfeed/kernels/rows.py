"""Moving rows: columns are packed into a chunk's rows, and batches gathered from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from rootfeed.kernels.compiled import kernel

__all__ = ["gather", "pack"]

_AHEAD = 16
_TILE = 16
_LINE_BYTES = 64


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Any:
    """Ask the processor to load the cache line of an address."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer, word, word, word]),
            "llvm.prefetch.p0",
        )
        # read (0), keep in all cache levels (3), data (1)
        builder.call(function, [builder.inttoptr(arguments[0], pointer), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), generate


@intrinsic
def _copy_bytes(_context: Any, _target: Any, _source: Any, _count: Any) -> Any:
    """Copy bytes between two addresses that do not overlap."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(argument, pointer) for argument in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], ir.Constant(arguments[2].type, 1))
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp), generate


@njit(inline="always")
def _copy_short(target, source, count):
    """Copy a few bytes in pieces of 16, the last of which may overlap the one before it."""
    done = 0
    while done + 16 <= count:
        _copy_bytes(target + np.uint64(done), source + np.uint64(done), 16)
        done += 16
    if done == count:
        return
    if count >= 16:
        _copy_bytes(target + np.uint64(count - 16), source + np.uint64(count - 16), 16)
        return
    while done + 4 <= count:
        _copy_bytes(target + np.uint64(done), source + np.uint64(done), 4)
        done += 4
    while done < count:
        _copy_bytes(target + np.uint64(done), source + np.uint64(done), 1)
        done += 1


@kernel
def gather(rows, order, offsets, outs):
    """Copy the rows that `order` names, each part into its own array.

    ``outs[p][i] = rows[order[i], offsets[p] : offsets[p] + outs[p].shape[1]]``

    Parameters
    ----------
    rows : ndarray of uint8, shape (rows, row_bytes)
    order : ndarray of uint32, shape (n,)
        Row numbers, all below ``len(rows)``.
    offsets : ndarray of int64, shape (parts,)
        Where each part starts in a row.
    outs : tuple of ndarray of uint8, each of shape (n, part_bytes)

    Notes
    -----
    Random rows cost cache misses; asking for a row 16 rows early and copying it in pieces of constant
    size is three times as fast as a plain loop (``benchmarks/kernels.py``).
    """
    stride = np.uint64(rows.strides[0])
    first = np.uint64(rows.ctypes.data)
    last_byte = np.uint64(rows.shape[1] - 1)
    count = order.size
    for i in range(count):
        if i + _AHEAD < count:
            ahead = first + np.uint64(order[i + _AHEAD]) * stride
            _prefetch(ahead)
            _prefetch(ahead + last_byte)
        source = first + np.uint64(order[i]) * stride
        for p in range(len(outs)):
            width = outs[p].shape[1]
            target = np.uint64(outs[p].ctypes.data) + np.uint64(i * width)
            _copy_short(target, source + np.uint64(offsets[p]), width)


@kernel
def pack(columns, take, place, out):
    """Transpose columns into rows: ``out[i, place[c]] = columns[c, take[i]]``.

    Parameters
    ----------
    columns : ndarray of unsigned words, shape (columns, entries or more)
    take : ndarray of int32, shape (rows,) or (0,)
        Entries to keep; empty to keep all.
    place : ndarray of int64, shape (columns,)
        Position of each column in a row, each another one.
    out : ndarray of unsigned words, shape (rows, row_words)
        Words without a column are left alone.

    Notes
    -----
    Tiles of 16 rows keep the lines being written in the first-level cache, and asking for the rows
    two tiles early hides the time that these lines take to come: six times as fast as writing column
    by column (``benchmarks/kernels.py``). Stores past the cache win nothing: what they save here is
    lost again when the rows are gathered.
    """
    count = columns.shape[0]
    rows, width = out.shape
    row_bytes = width * out.itemsize
    first = np.uint64(out.ctypes.data)
    for start in range(0, rows, _TILE):
        stop = min(start + _TILE, rows)
        ahead = min(stop + 2 * _TILE, rows)
        for byte in range(min(start + 2 * _TILE, rows) * row_bytes, ahead * row_bytes, _LINE_BYTES):
            _prefetch(first + np.uint64(byte))
        for c in range(count):
            word = place[c]
            if take.size:
                for i in range(start, stop):
                    out[i, word] = columns[c, take[i]]
            else:
                for i in range(start, stop):
                    out[i, word] = columns[c, i]
