"""Where the texts of a TTree's basket lie: each has its length before it.

uproot does not know that ROOT writes nothing of an empty ``char*``, and then mixes up those that follow.
"""

from __future__ import annotations

import numpy as np

from rootfeed.schema import Array, Encoding
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.pages import Basket

__all__ = ["text_parts", "text_places"]

_LONG = 255
"""Says that the length follows in four bytes."""


def text_parts(basket: Basket, encoding: Encoding, places: Array, entry: int) -> tuple[Array, Array]:
    """Return where the letters of each text begin, and the number of letters up to the end of each.

    Parameters
    ----------
    basket : Basket
    encoding : Encoding
    places : ndarray of int64, shape (n + 1,)
        Where the entries lie, header and length included.
    entry : int
        The number of the first one, for messages.

    Raises
    ------
    DamagedPageError
        Where a text's length is not that of its entry.
    """
    raw = basket.raw[: basket.data_bytes]
    firsts, lengths = places[:-1].copy(), np.diff(places)
    written = np.flatnonzero(lengths > 0)
    begins, sizes = firsts[written] + encoding.header_bytes, lengths[written] - encoding.header_bytes
    if (short := np.flatnonzero(sizes < 1)).size:
        raise _wrong(entry + int(written[short[0]]))
    always = encoding.name == "counted text"
    in_four = np.ones(len(begins), np.bool_) if always else raw[begins] == _LONG
    prefixes = np.where(in_four, 4 if always else 5, 1)
    told = raw[begins].astype(np.int64)
    told[in_four] = -1
    whole = np.flatnonzero(in_four & (sizes >= prefixes))
    last = begins[whole] + prefixes[whole] - 4
    told[whole] = raw[last[:, None] + np.arange(4)].astype(np.int64) @ np.array(
        [1 << 24, 1 << 16, 1 << 8, 1]
    )
    if (wrong := np.flatnonzero(told != sizes - prefixes)).size:
        raise _wrong(entry + int(written[wrong[0]]))
    firsts[written] = begins + prefixes
    lengths[written] = told
    return firsts, np.cumsum(lengths)


def text_places(basket: Basket, encoding: Encoding, entries: int) -> Array:
    """Return the positions of a basket's texts as it would tell them itself: they follow one another."""
    raw, at = basket.raw[: basket.data_bytes].tobytes(), 0
    places = [0]
    for _ in range(entries):
        at += encoding.header_bytes
        if encoding.name == "text" and raw[at : at + 1] != bytes([_LONG]):
            at += 1 + int.from_bytes(raw[at : at + 1])
        else:
            at += encoding.name == "text"
            at += 4 + int.from_bytes(raw[at : at + 4], "big")
        places.append(min(at, len(raw)))
    return np.array(places, ">i4").view(np.uint8)


def _wrong(entry: int) -> DamagedPageError:
    return DamagedPageError(f"entry {entry} tells another length of its text than its size does")
