"""From a TTree's baskets to texts, of which uproot loses count where some are empty.

ROOT writes nothing at all for an empty text of a leaf list (``TLeafC``), not even its length.
"""

from __future__ import annotations

import awkward as ak
import numpy as np

from rootfeed.schema import Array, Column, Pages
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.pages import PageReader, overlapping

__all__ = ["read_texts"]

_LONG_TEXT = 255  # stands for a length that follows in four bytes
_LENGTH_BYTES = 4


def read_texts(
    reader: PageReader,
    column: Column,
    pages: Pages,
    start: int,
    stop: int,
    *,
    header_bytes: int,
    short: bool,
) -> ak.Array | None:
    """Read the entries ``[start, stop)`` of a branch that holds one text in each entry.

    Parameters
    ----------
    reader : PageReader
    column : Column
        For messages.
    pages : Pages
        Whose embedded baskets have sizes.
    start, stop : int
    header_bytes : int
        Before each text's length.
    short : bool
        A length takes one byte where it is below 255; else always four.

    Returns
    -------
    awkward.Array or None
        None where a basket does not tell where its entries lie.
    """
    parts, counts = [np.empty(0, np.uint8)], [np.empty(0, np.int64)]
    for page in overlapping(pages, start, stop):
        first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
        low, high = max(start, first), min(stop, end)
        with reader.naming(column, f"entries [{first}, {end})"):
            basket = reader.basket(pages, page, end - first)
            if not basket.has_places:
                return None
            places = basket.places(low - first, high - first).view(">i4").astype(np.int64)
            places -= basket.key_bytes
            if high == end:
                places[-1] = basket.data_bytes
            begins, sizes = _texts(basket.raw[: basket.data_bytes], places, header_bytes, short, low)
            before = np.cumsum(sizes) - sizes
            parts.append(basket.raw[np.repeat(begins - before, sizes) + np.arange(sizes.sum())])
            counts.append(sizes)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    characters = ak.contents.NumpyArray(np.concatenate(parts), parameters={"__array__": "char"})
    return ak.Array(
        ak.contents.ListOffsetArray(
            ak.index.Index64(offsets), characters, parameters={"__array__": "string"}
        )
    )


def _texts(
    data: Array, places: Array, header_bytes: int, short: bool, entry: int
) -> tuple[Array, Array]:
    """Return where the characters of each entry begin, and how many there are."""
    begins, ends = places[:-1].copy(), places[1:]
    good = (begins >= 0) & (begins <= ends) & (ends <= len(data))
    filled = good & (begins < ends)
    at = begins[filled] + header_bytes
    stops = ends[filled]
    # Zeros after the data, so that a length can be looked for before it is known to be there.
    padded = np.concatenate([data, np.zeros(header_bytes + 1 + _LENGTH_BYTES, np.uint8)])
    told = padded[at].astype(np.int64)
    long = (told == _LONG_TEXT) if short else np.ones(len(at), np.bool_)
    prefix = np.where(long, _LENGTH_BYTES + short, 1)
    words = padded[at[long, None] + short + np.arange(_LENGTH_BYTES)]
    told[long] = np.ascontiguousarray(words).view(">u4").reshape(-1)
    begins[filled] = at + prefix
    good[filled] &= told == stops - begins[filled]
    if not good.all():
        wrong = int(np.flatnonzero(~good)[0])
        raise DamagedPageError(
            f"entry {entry + wrong} lies at the bytes [{places[wrong]}, {places[wrong + 1]}) of "
            f"{len(data)}, which is no text"
        )
    return begins, np.where(filled, ends - begins, 0)
