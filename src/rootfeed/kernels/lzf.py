"""LZF, h5py's own compression, which no package on PyPI offers by itself."""

from __future__ import annotations

from rootfeed.kernels.compiled import kernel

__all__ = ["unlzf"]


@kernel("(u1[::1], u1[::1])")
def unlzf(stored, out):
    """Decompress a chunk; bounds are checked here, because only this loop knows them.

    Parameters
    ----------
    stored : ndarray of uint8
    out : ndarray of uint8

    Returns
    -------
    int
        The bytes that were written; -1 where what is stored is no LZF, or holds more.

    Notes
    -----
    As LibLZF's ``lzf_d.c``: a byte below 32 announces that many bytes and one as they are; any other
    has a length in its upper three bits, and is the beginning of a distance backwards.
    """
    position, written, end, room = 0, 0, stored.size, out.size
    while position < end:
        control = int(stored[position])
        position += 1
        if control < 32:
            length = control + 1
            if position + length > end or written + length > room:
                return -1
            for i in range(length):
                out[written + i] = stored[position + i]
            position += length
        else:
            length = control >> 5
            if length == 7:
                if position >= end:
                    return -1
                length += int(stored[position])
                position += 1
            if position >= end:
                return -1
            source = written - ((control & 31) << 8) - int(stored[position]) - 1
            position += 1
            length += 2
            if source < 0 or written + length > room:
                return -1
            for i in range(length):
                out[written + i] = out[source + i]
        written += length
    return written
