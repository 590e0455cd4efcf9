"""Texts: what is found out about them beside a kernel, which knows numbers alone.

Texts are compared byte by byte. Bytes that are no UTF-8 become Python's surrogate escapes, as in the
names of files, so that different texts stay different.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed.schema import Array, Jagged, Texts

__all__ = ["TextTest", "decoded", "distinct", "encoded", "equal", "same"]

Entries = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

_PIECE_BYTES = 1 << 20
_FIRST_BYTES = 64


def encoded(text: str) -> bytes:
    """Return a text's bytes; a UnicodeEncodeError where it has none."""
    return text.encode("utf-8", "surrogateescape")


def decoded(text: bytes) -> str:
    """Return the text that some bytes are."""
    return text.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TextTest:
    """Whether a text column's entry is one of some texts.

    Attributes
    ----------
    column : str
    literals : tuple of bytes
    columns : tuple of str
        Whose text in the same entry counts.
    """

    column: str
    literals: tuple[bytes, ...] = ()
    columns: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Array | Jagged], take: Entries) -> Mask:
        """Return whether it holds, for some entries."""
        texts = self._texts(inputs, self.column)
        found = np.zeros(len(take), np.bool_)
        for literal in self.literals:
            found |= equal(texts, literal, take)
        for name in self.columns:
            found |= same(texts, self._texts(inputs, name), take)
        return found

    def _texts(self, inputs: Mapping[str, Array | Jagged], name: str) -> Texts:
        texts = inputs[name]
        assert isinstance(texts, Texts), name
        return texts


def equal(texts: Texts, wanted: bytes, take: Entries) -> Mask:
    """Return which of some entries are this text."""
    starts, ends = texts.offsets[:-1][take], texts.offsets[1:][take]
    found: Mask = ends - starts == len(wanted)
    left = np.flatnonzero(found)
    places = starts[left]
    for number, byte in enumerate(wanted[:_FIRST_BYTES]):
        if not len(left):
            return found
        agrees = texts.values[places + number] == byte
        found[left[~agrees]] = False
        left, places = left[agrees], places[agrees]
    if len(wanted) > _FIRST_BYTES:
        for entry, place in zip(left.tolist(), places.tolist(), strict=True):
            found[entry] = texts.values[place : place + len(wanted)].tobytes() == wanted
    return found


def same(texts: Texts, others: Texts, take: Entries) -> Mask:
    """Return in which of some entries two columns have the same text."""
    starts, other_starts = texts.offsets[:-1][take], others.offsets[:-1][take]
    lengths = texts.offsets[1:][take] - starts
    found: Mask = lengths == others.offsets[1:][take] - other_starts
    left = np.flatnonzero(found & (lengths > 0))
    ends = np.cumsum(lengths[left])
    # Piece by piece: as many indices as bytes are in memory.
    for piece in np.split(left, np.flatnonzero(np.diff(ends // _PIECE_BYTES)) + 1):
        counts = lengths[piece]
        firsts = np.cumsum(counts) - counts
        steps = np.arange(int(counts.sum())) - np.repeat(firsts, counts)
        mine = texts.values[np.repeat(starts[piece], counts) + steps]
        theirs = others.values[np.repeat(other_starts[piece], counts) + steps]
        found[np.repeat(piece, counts)[mine != theirs]] = False
    return found


def distinct(texts: Texts, most: int) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the texts that there are, and which of them each entry is.

    After more than `most` of them it stops: that entries are few times many is what it is made for.
    """
    codes = np.zeros(len(texts), np.int64)
    left = np.arange(len(texts))
    found: list[str] = []
    while len(left) and len(found) <= most:
        first, stop = texts.offsets[left[0]], texts.offsets[left[0] + 1]
        text = texts.values[first:stop].tobytes()
        mine = equal(texts, text, left)
        codes[left[mine]] = len(found)
        found.append(decoded(text))
        left = left[~mine]
    return found, codes
