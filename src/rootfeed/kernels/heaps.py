"""Objects of HDF5's global heaps: where each of a collection lies, and those that are wanted."""

from __future__ import annotations

from rootfeed.kernels.compiled import kernel, part

__all__ = ["take_objects"]

_HEADER_BYTES = 16  # of a collection, and of each object in it


@part
def _word(raw, place, size):
    value = 0
    for i in range(size):
        value |= int(raw[place + i]) << (8 * i)
    return value


@kernel("(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], u1[::1])")
def take_objects(heap, places, sizes, firsts, indices, wanted, targets, table, out):
    """Copy objects of some collections; what is stored is checked here, because only this loop sees it.

    Parameters
    ----------
    heap : ndarray of uint8
        Holds the collections.
    places, sizes : ndarray of int64, shape (collections,)
        Where each begins, ascending, and its bytes: none overlaps another or the end.
    firsts : ndarray of int64, shape (collections + 1,)
        Which entries have their objects in each: ``[firsts[i], firsts[i + 1])``.
    indices, wanted, targets : ndarray of int64, shape (entries or more,)
        Of each entry the object's number, the bytes of it that are wanted, and their place in `out`.
    table : ndarray of int64, shape (65536,)
        Room to note where each object lies.
    out : ndarray of uint8

    Returns
    -------
    int
        The first entry whose object is not there, or shorter, or in a collection that contradicts
        itself; -1 where there is none.

    Notes
    -----
    As in the HDF5 file format specification, "Global Heap". Object 0 is free space, whose size includes
    its header; that of others does not, and is rounded up to 8 bytes.
    """
    table[:] = -1
    for number in range(places.size):
        begin = places[number]
        end = begin + sizes[number]
        place = begin + _HEADER_BYTES
        while place + _HEADER_BYTES <= end:
            index = _word(heap, place, 2)
            size = _word(heap, place + 8, 8)
            room = end - place - _HEADER_BYTES
            if index == 0:
                if size < _HEADER_BYTES:
                    break
                size -= _HEADER_BYTES
            else:
                table[index] = place
            if size < 0 or size > room:
                return firsts[number]
            place += _HEADER_BYTES + (size + 7) // 8 * 8
        for entry in range(firsts[number], firsts[number + 1]):
            index = indices[entry]
            if index < 1 or index >= table.size or table[index] < begin:
                return entry
            source, size = table[index] + _HEADER_BYTES, wanted[entry]
            if size > _word(heap, table[index] + 8, 8):
                return entry
            # Of slices the compiler knows that no index is negative: it copies many bytes at once.
            stored = heap[source : source + size]
            copied = out[targets[entry] : targets[entry] + size]
            for i in range(size):
                copied[i] = stored[i]
    return -1
