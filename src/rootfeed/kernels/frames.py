"""An RNTuple's page lists: where the pages of each column lie.

The bytes are whatever a file holds: every size and count is compared with what is left of the frame
around it before it is used. What is read is in the RNTuple binary format specification, "Page list
envelope"; of its locators the plain ones.
"""

from __future__ import annotations

import numpy as np

from rootfeed.kernels.compiled import kernel, part

__all__ = ["column_frames", "count_pages", "pages"]

_LIST_BYTES = 12  # before the items of a list: its size, and their number
_PAGE_BYTES = 16
_UNKNOWN = -1


@part
def _little(data, at, size):
    value = np.int64(0)
    for i in range(size):
        value |= np.int64(data[at + i]) << (8 * i)
    return value


@part
def _list(data, at, stop):
    """Return how many items a list has, and where it ends."""
    if at + _LIST_BYTES > stop:
        return np.int64(_UNKNOWN), stop
    size = -_little(data, at, 8)
    if size < _LIST_BYTES or size > stop - at:
        return np.int64(_UNKNOWN), stop
    return _little(data, at + 8, 4), at + size


@kernel()
def column_frames(data, at, stop, first, clusters, starts):
    """Find the pages of all columns in one list of clusters.

    Parameters
    ----------
    data : ndarray of uint8
    at, stop : int
        Where the list begins, and where all has to end.
    first, clusters : int
        The list's first cluster, and how many it has.
    starts : ndarray of int64, shape (all clusters, columns)
        Filled with the places of the columns' own lists; -1 where a cluster has fewer.

    Returns
    -------
    end : int
        Where the list ends; negative where it is not as it is expected.
    """
    found, end = _list(data, at, stop)
    if found != clusters or first + clusters > starts.shape[0]:
        return np.int64(_UNKNOWN)
    at += _LIST_BYTES
    for cluster in range(first, first + clusters):
        columns, cluster_end = _list(data, at, end)
        if columns < 0 or columns > starts.shape[1]:
            return np.int64(_UNKNOWN)
        at += _LIST_BYTES
        for column in range(columns):
            count, column_end = _list(data, at, cluster_end)
            # After the pages comes the number of the first element.
            if count < 0 or count * _PAGE_BYTES + 8 > column_end - at - _LIST_BYTES:
                return np.int64(_UNKNOWN)
            starts[cluster, column] = at
            at = column_end
        for column in range(columns, starts.shape[1]):
            starts[cluster, column] = -1
        at = cluster_end
    return end


@kernel()
def count_pages(data, starts, counts):
    """Count the pages of a column in each cluster.

    Parameters
    ----------
    data : ndarray of uint8
    starts : ndarray of int64, shape (clusters,)
        Places that `column_frames` found.
    counts : ndarray of int64, shape (clusters,)
        Filled; -1 where a cluster does not store the column.
    """
    for cluster in range(starts.size):
        at = starts[cluster]
        if at < 0:
            counts[cluster] = -1
            continue
        count = _little(data, at + 8, 4)
        first = _little(data, at + _LIST_BYTES + count * _PAGE_BYTES, 8)
        counts[cluster] = -1 if first < 0 else count


@kernel()
def pages(data, starts, counts, out):
    """Read the pages of a column.

    Parameters
    ----------
    data : ndarray of uint8
    starts, counts : ndarray of int64, shape (clusters,)
        As `column_frames` and `count_pages` filled them.
    out : ndarray of int64, shape (4, pages)
        Filled with elements, offsets in the file, stored bytes, and whether a checksum follows.

    Returns
    -------
    bool
        Whether all of them are said to lie in the file itself.
    """
    page = 0
    for cluster in range(starts.size):
        at = starts[cluster] + _LIST_BYTES
        for _ in range(counts[cluster]):
            elements = _little(data, at, 4)
            elements -= elements >> 31 << 32
            stored = _little(data, at + 4, 4)
            offset = _little(data, at + 8, 8)
            if stored >> 31 or offset < 0:
                return False
            out[0, page] = abs(elements)
            out[1, page] = offset
            out[2, page] = stored
            out[3, page] = elements < 0
            page += 1
            at += _PAGE_BYTES
    return True
