"""A TTree as ROOT streams it: which branches there are, and where their numbers lie.

The bytes are whatever a file holds. Every size, count and reference is compared with what is left of
the object around it before it is used, and whatever is not exactly as it is written here ends the walk:
somebody else reads the tree then. What is read, in ROOT's words (``TBufferFile``, and the ``Streamer``
of each class): ``TTree`` 18 to 20, ``TBranch`` 12 and 13, ``TBranchElement`` 9 and 10, ``TLeaf`` 2,
``TLeafF`` and the like 1, ``TLeafF16`` and ``TLeafD32`` 1 and 2, ``TNamed`` 1, ``TObject`` 1,
``TObjArray`` 3.
"""

from __future__ import annotations

import numpy as np

from rootfeed.kernels.compiled import kernel, part

__all__ = [
    "BASKET_BYTES",
    "BASKET_ENTRY",
    "BASKET_SEEK",
    "CLASSES",
    "CLASS_BYTES",
    "ENTRIES",
    "FIELDS",
    "FILE_NAME",
    "HAS_POSITIONS",
    "MAX_BASKETS",
    "NAME",
    "WHOLE_BYTES",
    "WRITE_BASKET",
    "walk_tree",
]

# What is told of a branch: numbers, and the places where others begin.
ENTRIES, WHOLE_BYTES, HAS_POSITIONS, WRITE_BASKET, MAX_BASKETS = range(5)
NAME, BASKET_BYTES, BASKET_ENTRY, BASKET_SEEK, FILE_NAME = range(5, 10)
FIELDS = 10

CLASSES = (
    "TBranch",
    "TBranchElement",
    "TLeafO",
    "TLeafB",
    "TLeafS",
    "TLeafI",
    "TLeafL",
    "TLeafG",
    "TLeafF",
    "TLeafD",
    "TLeafC",
    "TLeafF16",
    "TLeafD32",
    "TLeafElement",
)
_BRANCH, _ELEMENT, _FIRST_LEAF, _FLOAT16, _DOUBLE32, _LEAF_ELEMENT = 0, 1, 2, 11, 12, 13

CLASS_BYTES = (0, 0, 2, 2, 4, 8, 16, 16, 8, 16, 8, 6, 8, 8)
"""Bytes of a leaf's range, which comes last; of a member's leaf its number and type."""

_MOST_CLASSES = 32
_MOST_DEPTH = 64  # of branches within branches, and of leaves within leaves

_COUNTED = 0x40000000  # in a count of bytes: that it is one
_NEW_CLASS = 0xFFFFFFFF
_KNOWN_CLASS = 0x80000000
_MAP_OFFSET = 2  # between a place in a buffer and what references to it say
_IS_REFERENCED = 0x10  # a bit of TObject: two more bytes follow
_LONG_TEXT = 255

_UNKNOWN = -1
_NULL, _REFERENCE = -2, -3


@part
def _int(data, at):
    """Return four bytes as they are, unsigned."""
    return (
        (np.int64(data[at]) << 24)
        | (np.int64(data[at + 1]) << 16)
        | (np.int64(data[at + 2]) << 8)
        | np.int64(data[at + 3])
    )


@part
def _signed(data, at):
    value = _int(data, at)
    return value - (value >> 31 << 32)


@part
def _long(data, at):
    return (_int(data, at) << 32) | _int(data, at + 4)


@part
def _counted(data, at, stop):
    """Return where an object with a count of bytes begins and ends, and its version."""
    if at + 6 > stop:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    count = _int(data, at)
    end = at + 4 + (count & ~_COUNTED)
    if not count & _COUNTED or count & _KNOWN_CLASS or end > stop or end < at + 6:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    return at + 6, end, (np.int64(data[at + 4]) << 8) | np.int64(data[at + 5])


@part
def _text_end(data, at, stop):
    """Return where a text ends."""
    if at >= stop:
        return _UNKNOWN
    length = np.int64(data[at])
    at += 1
    if length == _LONG_TEXT:
        if at + 4 > stop:
            return _UNKNOWN
        length = _int(data, at)
        at += 4
    return at + length if at + length <= stop else _UNKNOWN


@part
def _object_end(data, at, stop):
    """Return where the members of ``TObject`` end."""
    if at + 10 > stop or data[at] != 0 or data[at + 1] != 1:
        return _UNKNOWN
    end = at + (12 if data[at + 9] & _IS_REFERENCED else 10)
    return end if end <= stop else _UNKNOWN


@part
def _named_end(data, at, stop):
    """Return where a ``TNamed`` ends, and where its name begins."""
    at, end, version = _counted(data, at, stop)
    if version != 1:
        return _UNKNOWN, _UNKNOWN
    name = _object_end(data, at, end)
    if name < 0:
        return _UNKNOWN, _UNKNOWN
    title = _text_end(data, name, end)
    if title < 0 or _text_end(data, title, end) != end:
        return _UNKNOWN, _UNKNOWN
    return end, name


@part
def _array(data, at, stop):
    """Return where the items of a ``TObjArray`` begin, how many there are, and where they end."""
    at, end, version = _counted(data, at, stop)
    if version != 3:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    at = _object_end(data, at, end)
    if at < 0:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    at = _text_end(data, at, end)
    if at < 0 or at + 8 > end:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    count = _signed(data, at)
    at += 8  # the lower bound, too
    if count < 0 or 4 * count > end - at:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    return at, count, end


@part
def _features_end(data, at, stop):
    """Return where ``ROOT::TIOFeatures`` ends: a byte, after a checksum where it has no version."""
    at, end, version = _counted(data, at, stop)
    is_known = (version == 1 and end - at == 1) or (version == 0 and end - at == 5)
    return end if is_known else _UNKNOWN


@part
def _numbers_end(data, at, stop, count, item_shift):
    """Return where an array of numbers ends, before which a byte says whether there is one."""
    if at + 1 > stop or count < 0 or count > (stop - at - 1) >> item_shift:
        return _UNKNOWN
    if (data[at] != 0) != (count > 0):
        return _UNKNOWN
    return at + 1 + (count << item_shift)


@part
def _begin(data, at, stop, offset, names, ends, classes, numbers):
    """Read what stands before an object that a pointer points to.

    Returns
    -------
    at : int
        Where its members begin.
    kind : int
        Number of its class, or `_NULL`, `_REFERENCE`, `_UNKNOWN`.
    end : int
        Where it ends; of a reference what it refers to.
    """
    if at + 4 > stop:
        return at, _UNKNOWN, 0
    count = _int(data, at)
    if count == 0:
        return at + 4, _NULL, 0
    if not count & _COUNTED or count & _KNOWN_CLASS:
        # References within one buffer; others, to classes without a count, are of old releases.
        return at + 4, _UNKNOWN if count & _KNOWN_CLASS else _REFERENCE, count
    end = at + 4 + (count & ~_COUNTED)
    if at + 8 > stop or end > stop or end < at + 8:
        return at, _UNKNOWN, 0
    at += 4
    tag = _int(data, at)
    place = at + offset + _MAP_OFFSET
    at += 4
    if tag == _NEW_CLASS:
        first = at
        while at < end and data[at] != 0:
            at += 1
        if at >= end:
            return at, _UNKNOWN, 0
        length, start = at - first, np.int64(0)
        for number in range(ends.size):
            same = ends[number] - start == length
            for i in range(length if same else 0):
                same = same and names[start + i] == data[first + i]
            if same:
                known = classes[0]
                if (
                    known < _MOST_CLASSES
                ):  # some writers name a class again and again, and never refer to it
                    classes[known + 1], numbers[known + 1] = place, number
                    classes[0] = known + 1
                return at + 1, number, end
            start = ends[number]
        return at, _UNKNOWN, 0
    if tag & _KNOWN_CLASS:
        for known in range(classes[0]):
            if classes[known + 1] == tag & ~_KNOWN_CLASS:
                return at, numbers[known + 1], end
    return at, _UNKNOWN, 0


@part
def _ordinal(places, count, place):
    """Return the number of the object at a place, or `_UNKNOWN`."""
    low, high = np.int64(0), count
    while low < high:
        middle = (low + high) >> 1
        if places[middle] < place:
            low = middle + 1
        else:
            high = middle
    return low if low < count and places[low] == place else np.int64(_UNKNOWN)


@part
def _copy(data, first, last, out, written):
    for i in range(first, last):
        out[written + i - first] = data[i]
    return written + last - first


@part
def _put(number, out, written):
    for i in range(4):
        out[written + i] = (number >> (8 * i)) & 0xFF
    return written + 4


@kernel()
def walk_tree(data, offset, names, ends, ranges, branches, places, out):
    """Go through a streamed tree once.

    Parameters
    ----------
    data : ndarray of uint8
        The tree, uncompressed.
    offset : int
        Bytes of the key before it: references count from there.
    names : ndarray of uint8
        `CLASSES`, one after another.
    ends : ndarray of int64, shape (classes,)
        Where each of them ends.
    ranges : ndarray of int64, shape (classes,)
        Bytes after what all leaves have.
    branches : ndarray of int64, shape (n, FIELDS)
        Filled with what is told of each branch, in the file's order: each before those below it.
    places : ndarray of int64, shape (m,)
        Memory for the places of objects.
    out : ndarray of uint8
        Filled with everything that names and types depend on, and with all else that is not known to
        differ between the files of one production. At least ``len(data)`` bytes.

    Returns
    -------
    entries : int
        Of the tree.
    branches : int
        How many there are; negative where the tree is not as it is known here.
    written : int
        Bytes in `out`. Never more than were read.
    """
    failed = (np.int64(0), np.int64(_UNKNOWN), np.int64(0))
    classes = np.zeros(_MOST_CLASSES + 1, np.int64)
    numbers = np.zeros(_MOST_CLASSES + 1, np.int64)
    owners = np.zeros(_MOST_DEPTH, np.int64)
    versions = np.zeros(_MOST_DEPTH, np.int64)
    left = np.zeros(_MOST_DEPTH, np.int64)
    items_end = np.zeros(_MOST_DEPTH, np.int64)
    base_end = np.zeros(_MOST_DEPTH, np.int64)
    whole_end = np.zeros(_MOST_DEPTH, np.int64)
    leaf_kind = np.zeros(_MOST_DEPTH, np.int64)
    leaf_end = np.zeros(_MOST_DEPTH, np.int64)
    leaf_whole_end = np.zeros(_MOST_DEPTH, np.int64)
    int_shift, long_shift = np.int64(2), np.int64(3)
    known = np.int64(0)  # objects
    found = np.int64(0)  # branches
    written = np.int64(0)

    at = np.int64(0)
    at, stop, version = _counted(data, at, data.size)
    if not 18 <= version <= 20 or stop != data.size:
        return failed
    begin = at
    at, _ = _named_end(data, at, stop)
    if at < 0:
        return failed
    written = _copy(data, begin, at, out, written)
    for _ in range(3):  # how lines, areas and markers are drawn
        if at + 4 > stop:
            return failed
        count = _int(data, at)
        if not count & _COUNTED or count & _KNOWN_CLASS or (count & ~_COUNTED) > stop - at - 4:
            return failed
        at += 4 + (count & ~_COUNTED)
    if at + 116 > stop:
        return failed
    entries = _long(data, at)
    if version == 18:
        at += 112
    else:
        count = _signed(data, at + 64)  # of ranges of clusters
        at += 116
        for _ in range(2):
            at = _numbers_end(data, at, stop, count, long_shift)
            if at < 0:
                return failed
    if version == 20:
        at = _features_end(data, at, stop)
        if at < 0:
            return failed

    at, count, end = _array(data, at, stop)
    if at < 0:
        return failed
    written = _put(count, out, written)
    depth = 1
    owners[0], left[0], items_end[0], base_end[0], whole_end[0] = -1, count, end, stop, stop
    while depth > 0:
        top = depth - 1
        if left[top] > 0:
            # --- A branch, up to the branches below it.
            left[top] -= 1
            begin = at
            at, kind, end = _begin(data, at, items_end[top], offset, names, ends, classes, numbers)
            is_full = depth == _MOST_DEPTH or found == branches.shape[0] or known == places.size
            if (kind != _BRANCH and kind != _ELEMENT) or is_full:
                return failed
            places[known] = begin + offset + _MAP_OFFSET
            known += 1
            base = end
            if kind == _ELEMENT:
                at, base, version = _counted(data, at, end)
                if not 9 <= version <= 10 or base != end:
                    return failed
                versions[depth] = version
            at, base, version = _counted(data, at, base)
            if not 12 <= version <= 13 or (kind == _BRANCH and base != end):
                return failed
            begin = at
            at, name = _named_end(data, at, base)
            if at < 0:
                return failed
            written = _put(kind, out, written)
            written = _copy(data, begin, at, out, written)
            begin = at
            at, filled, drawing = _counted(data, at, base)  # how areas are drawn
            if not 1 <= drawing <= 2 or filled - at != 4:
                return failed
            at = filled
            if at + 24 > base:
                return failed
            written = _copy(data, at, at + 4, out, written)  # the compression
            has_positions = _int(data, at + 8) != 0
            write_basket = _signed(data, at + 12)
            at += 24
            begin = at
            if version == 13:
                at = _features_end(data, at, base)
            if at < 0 or at + 44 > base:
                return failed
            written = _copy(data, begin, at + 4, out, written)  # the offset, too
            out[written] = has_positions
            written += 1
            max_baskets = _signed(data, at + 4)
            written = _copy(data, at + 8, at + 12, out, written)  # the split level
            row = branches[found]
            row[ENTRIES] = _long(data, at + 12)
            row[WHOLE_BYTES] = _long(data, at + 28)
            row[HAS_POSITIONS] = has_positions
            row[WRITE_BASKET] = write_basket
            row[MAX_BASKETS] = max_baskets
            row[NAME] = name
            at += 44
            at, count, items = _array(data, at, base)
            if at < 0 or max_baskets < 0:
                return failed
            written = _put(count, out, written)
            owners[depth], left[depth], items_end[depth] = found, count, items
            base_end[depth], whole_end[depth] = base, end
            depth += 1
            found += 1
            continue

        # --- What follows the branches below a branch, or those of the tree.
        if at != items_end[top]:
            return failed
        depth -= 1
        base = base_end[top]
        at, count, items = _array(data, at, base)
        if at < 0:
            return failed
        written = _put(count, out, written)
        leaves = 0  # within one another
        while count > 0 or leaves > 0:
            # Each turn reads one pointer: an item, or what counts the leaf around it.
            inner = items if leaves == 0 else leaf_end[leaves - 1]
            begin = at
            at, kind, end = _begin(data, at, inner, offset, names, ends, classes, numbers)
            if leaves == 0:
                count -= 1
            if kind >= _FIRST_LEAF:
                if known == places.size or leaves == _MOST_DEPTH or owners[top] < 0:
                    return failed
                places[known] = begin + offset + _MAP_OFFSET
                known += 1
                newest = 2 if kind == _FLOAT16 or kind == _DOUBLE32 else 1  # noqa: SIM109 - no tuples
                at, whole, version = _counted(data, at, end)
                if not 1 <= version <= newest or whole != end:
                    return failed
                at, leaf, version = _counted(data, at, end)
                if version != 2:
                    return failed
                begin = at
                at, _ = _named_end(data, at, leaf)
                if at < 0 or at + 14 > leaf:
                    return failed
                at += 14
                written = _put(kind, out, written)
                written = _copy(data, begin, at, out, written)
                leaf_kind[leaves], leaf_end[leaves], leaf_whole_end[leaves] = kind, leaf, end
                leaves += 1
                continue  # with what counts it
            if kind == _NULL:
                number = np.int64(-1)
            elif kind == _REFERENCE:
                number = _ordinal(places, known, end)
                if number < 0:
                    return failed
            else:
                return failed
            written = _put(number, out, written)
            # The pointer is the last thing of a leaf, which may be what counts the leaf around it.
            while leaves > 0:
                leaves -= 1
                if at != leaf_end[leaves]:
                    return failed
                kind, end = leaf_kind[leaves], leaf_whole_end[leaves]
                if end - at != ranges[kind]:
                    return failed
                if kind == _LEAF_ELEMENT:
                    written = _copy(data, at, end, out, written)
                at = end
        if at != items:
            return failed
        if owners[top] < 0:
            break  # aliases, an index and friends follow
        row = branches[owners[top]]

        # --- Baskets. Those that lie here are told by the entries that the others lack.
        at, _, end = _array(data, at, base)
        if at < 0:
            return failed
        at = end
        max_baskets = row[MAX_BASKETS]
        row[BASKET_BYTES] = at + 1
        at = _numbers_end(data, at, base, max_baskets, int_shift)
        if at < 0:
            return failed
        row[BASKET_ENTRY] = at + 1
        at = _numbers_end(data, at, base, max_baskets, long_shift)
        if at < 0:
            return failed
        row[BASKET_SEEK] = at + 1
        at = _numbers_end(data, at, base, max_baskets, long_shift)
        if at < 0:
            return failed
        row[FILE_NAME] = at
        begin = at
        at = _text_end(data, at, base)
        if at != base:
            return failed
        written = _copy(data, begin, at, out, written)
        end = whole_end[top]
        if end == base:
            continue

        # --- What a branch of members has beside.
        begin = at
        for _ in range(3):
            at = _text_end(data, at, end)
            if at < 0:
                return failed
        size = 18 if versions[top] == 10 else 20
        if at + size + 4 > end:
            return failed
        written = _copy(data, begin, at + size, out, written)
        at += size + 4  # the most elements, too
        for _ in range(2):
            at, kind, place = _begin(data, at, end, offset, names, ends, classes, numbers)
            number = np.int64(-1)
            if kind == _REFERENCE:
                number = _ordinal(places, known, place)
            if (kind != _NULL and kind != _REFERENCE) or (kind == _REFERENCE and number < 0):
                return failed
            written = _put(number, out, written)
        if at != end:
            return failed
    return entries, found, written
