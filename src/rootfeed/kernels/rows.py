"""Moving rows: columns are packed into them, and batches gathered, with the vectors that lie beside."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from rootfeed.kernels.compiled import kernel

__all__ = ["gather", "gather_padded", "gather_ragged", "pack"]

_AHEAD = 16
_VECTORS_AHEAD = 8
_ASKED_BYTES = 2048
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


@kernel()
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


@njit(inline="always")
def _ask_for_vector(addresses, lengths, number, element_bytes, i):
    """Ask for the elements of a vector some rows ahead; what is longer, the processor sees coming."""
    if i + _VECTORS_AHEAD < addresses.shape[0]:
        first = addresses[i + _VECTORS_AHEAD, number]
        size = lengths[i + _VECTORS_AHEAD, number] * element_bytes
        for byte in range(0, min(size, _ASKED_BYTES), _LINE_BYTES):
            _prefetch(first + np.uint64(byte))


@kernel(
    "(uint64[:,::1], int32[:,::1], int64, int64, int64[::1], uint8[::1], uint8[::1], uint8[:,::1], "
    "uint8[:,::1])"
)
def gather_padded(addresses, lengths, number, element_bytes, sizes, padding, marks, out, mask):
    """Copy the vectors of some batches, filled up to one length, and tell what is real.

    Parameters
    ----------
    addresses : ndarray of uint64, shape (rows, vectors)
        Of each vector's first element. Each batch has ``rows // batches`` of them, of which it needs
        the first.
    lengths : ndarray of int32, shape (rows, vectors)
        Elements, of which no vector has more than a row of padding.
    number : int
        Which of the vectors.
    element_bytes : int
        Bytes of an element, all columns together.
    sizes : ndarray of int64, shape (batches,)
        Vectors of each batch.
    padding : ndarray of uint8, shape (length * element_bytes,)
        A row of nothing but padding.
    marks : ndarray of uint8, shape (2 * length,)
        As many ones as zeros after them.
    out : ndarray of uint8, shape (batches, length * element_bytes * size or more)
    mask : ndarray of uint8, shape (batches, length * size or more)
        Gets a one for each element.
    """
    width, length = padding.size, marks.size // 2
    fill, first_mark = np.uint64(padding.ctypes.data), np.uint64(marks.ctypes.data)
    for b in range(sizes.size):
        first = b * (addresses.shape[0] // sizes.size)
        target = np.uint64(out.ctypes.data) + np.uint64(b * out.shape[1])
        mask_target = np.uint64(mask.ctypes.data) + np.uint64(b * mask.shape[1])
        for i in range(first, first + sizes[b]):
            _ask_for_vector(addresses, lengths, number, element_bytes, i)
            kept = np.int64(lengths[i, number])
            size = kept * element_bytes
            _copy_bytes(target, addresses[i, number], size)
            _copy_bytes(target + np.uint64(size), fill, width - size)
            _copy_short(mask_target, first_mark + np.uint64(length - kept), length)
            target += np.uint64(width)
            mask_target += np.uint64(length)


@kernel("(uint64[:,::1], int32[:,::1], int64, int64, int64[::1], uint8[:,::1], int64[:,::1])")
def gather_ragged(addresses, lengths, number, element_bytes, sizes, out, offsets):
    """Copy the vectors of some batches, in each one after another: see `gather_padded`.

    Parameters
    ----------
    addresses, lengths, number, element_bytes, sizes
    out : ndarray of uint8, shape (batches, bytes)
        As many as the vectors of a batch have together, or more.
    offsets : ndarray of int64, shape (batches, size + 1 or more)
        Gets the number of elements before each vector of a batch, and before its end.
    """
    for b in range(sizes.size):
        first = b * (addresses.shape[0] // sizes.size)
        target = np.uint64(out.ctypes.data) + np.uint64(b * out.shape[1])
        offsets[b, 0] = 0
        for i in range(sizes[b]):
            _ask_for_vector(addresses, lengths, number, element_bytes, first + i)
            kept = np.int64(lengths[first + i, number])
            _copy_bytes(target, addresses[first + i, number], kept * element_bytes)
            target += np.uint64(kept * element_bytes)
            offsets[b, i + 1] = offsets[b, i] + kept


_SIDE = 8


@intrinsic
def _transpose(_context: Any, columns: Any, _source: Any, _step: Any, _target: Any, _stride: Any) -> Any:
    """Transpose 8 x 8 words of an array's type between two addresses; steps are in bytes.

    Three rounds of exchanging halves of pairs of vectors: the words of each word's pair, then pairs of
    words, then halves.
    """
    word_bits = columns.dtype.bitwidth

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(ir.IntType(word_bits), _SIDE)
        _, source, step, target, stride = arguments

        def at(base: Any, distance: Any, number: int) -> Any:
            moved = builder.add(base, builder.mul(distance, ir.Constant(distance.type, number)))
            return builder.inttoptr(moved, vector.as_pointer())

        def picked(first: Any, second: Any, places: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), _SIDE), places)
            return builder.shuffle_vector(first, second, mask)

        lines = [builder.load(at(source, step, i), align=word_bits // 8) for i in range(_SIDE)]
        for distance in (1, 2, 4):
            for i in range(_SIDE):
                if i & distance:
                    continue
                first, second = lines[i], lines[i + distance]
                low = [j - distance + _SIDE if j & distance else j for j in range(_SIDE)]
                high = [j + _SIDE if j & distance else j + distance for j in range(_SIDE)]
                lines[i] = picked(first, second, low)
                lines[i + distance] = picked(first, second, high)
        for i, line in enumerate(lines):
            builder.store(line, at(target, stride, i), align=word_bits // 8)
        return context.get_dummy_value()

    return types.void(columns, types.uintp, types.uintp, types.uintp, types.uintp), generate


@kernel()
def pack(columns, take, place, out):
    """Transpose columns into rows: ``out[i, place[c]] = columns[c, take[i]]``.

    Parameters
    ----------
    columns : ndarray of unsigned words, shape (columns, entries or more)
    take : ndarray of int32, shape (rows,) or (0,)
        Entries to keep; empty to keep all.
    place : ndarray of int64, shape (columns,)
        Position of each column in a row, in ascending order.
    out : ndarray of unsigned words, shape (rows, row_words)
        Words without a column are left alone.

    Notes
    -----
    Words are transposed 8 x 8 at a time in vector registers: three times as fast as one by one. Tiles of
    16 rows keep the lines being written in the first-level cache, and asking for the rows two tiles
    early hides the time that these lines take to come (``benchmarks/kernels.py``). Stores past the
    cache win nothing: what they save here is lost again when the rows are gathered.
    """
    count = columns.shape[0]
    rows, width = out.shape
    row_bytes = width * out.itemsize
    first = np.uint64(out.ctypes.data)
    chosen = np.empty((count, _TILE), columns.dtype)
    for start in range(0, rows, _TILE):
        stop = min(start + _TILE, rows)
        ahead = min(stop + 2 * _TILE, rows)
        for byte in range(min(start + 2 * _TILE, rows) * row_bytes, ahead * row_bytes, _LINE_BYTES):
            _prefetch(first + np.uint64(byte))
        if take.size:
            for c in range(count):
                for i in range(start, stop):
                    chosen[c, i - start] = columns[c, np.uint32(take[i])]
            _pack_tile(chosen, 0, place, out, start, stop)
        else:
            _pack_tile(columns, start, place, out, start, stop)


@njit(inline="always")
def _pack_tile(columns, entry, place, out, start, stop):
    """Transpose the entries from `entry` on into rows ``[start, stop)``."""
    size = np.uint64(columns.itemsize)
    step, stride = np.uint64(columns.strides[0]), np.uint64(out.strides[0])
    source = np.uint64(columns.ctypes.data) + np.uint64(entry) * size
    target = np.uint64(out.ctypes.data) + np.uint64(start) * stride
    c = 0
    while c < columns.shape[0]:
        # Neighbours in a row, at most eight; a shorter rest is filled up with columns before it.
        n = 1
        while n < _SIDE and c + n < columns.shape[0] and place[c + n] == place[c] + n:
            n += 1
        low = c + n - _SIDE
        if stop - start == _TILE and low >= 0 and place[low] == place[c] + n - _SIDE:
            for i in range(0, _TILE, _SIDE):
                _transpose(
                    columns,
                    source + np.uint64(low) * step + np.uint64(i) * size,
                    step,
                    target + np.uint64(i) * stride + np.uint64(place[low]) * size,
                    stride,
                )
        else:
            for d in range(c, c + n):
                for i in range(stop - start):
                    out[start + i, place[d]] = columns[d, entry + i]
        c += n
