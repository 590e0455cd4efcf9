"""TTree's packed reals: what a leaf's title says about the layout of a ``Float16_t`` or ``Double32_t``.

``[low, high, bits]`` in the title of a leaf, or in the comment of a class's member, asks for fewer
bits. The rules, oddities included, are those of ROOT's ``GetRange``
(``core/meta/src/TStreamerElement.cxx``) and of ``TBufferFile::ReadFloat16`` and ``ReadDouble32``.
"""

from __future__ import annotations

import math
import re

import numpy as np

from rootfeed.schema import Encoding

__all__ = ["real_encoding"]

_RANGE = re.compile(r"\[([^\],]*),([^\],]*)(?:,([^\]]*))?\]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_DIGITS = re.compile(r"\s*([+-]?\d+)")
_MULTIPLES_OF_PI = (
    ("2pi", 2 * math.pi),
    ("2*pi", 2 * math.pi),
    ("twopi", 2 * math.pi),
    ("pi/2", math.pi / 2),
    ("pi/4", math.pi / 4),
    ("pi", math.pi),
)
_MOST_BITS = 32
_MOST_MANTISSA_BITS = 16
_DEFAULT_MANTISSA_BITS = 12


def real_encoding(title: str, *, single: bool) -> Encoding | None:
    """Return how the values of a packed real are stored.

    Parameters
    ----------
    title : str
        Of the leaf, or of the member's streamer element.
    single : bool
        True for ``Float16_t``, False for ``Double32_t``.

    Returns
    -------
    Encoding or None
        None where the title asks for something that ROOT leaves undefined.
    """
    low, high, bits = _parse(title)
    if low < high:
        if not math.isfinite(high - low):
            return None
        return Encoding("ranged", np.dtype(np.float64), bits=bits, low=low, high=high)
    # Without a range ROOT keeps the bits of the mantissa where it would keep `low`: below 15 those of
    # the title, else whatever `low` is, and 0 means the default.
    mantissa_bits = bits if bits < 15 else int(low)
    if mantissa_bits == 0:
        if not single:
            return Encoding("swapped", np.dtype(np.float32))
        mantissa_bits = _DEFAULT_MANTISSA_BITS
    if not 0 < mantissa_bits <= _MOST_MANTISSA_BITS:
        return None
    return Encoding("mantissa", np.dtype(np.float32), bits=mantissa_bits)


def _parse(title: str) -> tuple[float, float, int]:
    found = _RANGE.search(title)  # brackets without a comma are dimensions
    if found is None:
        return 0.0, 0.0, _MOST_BITS
    low, high, bits_text = found.groups()
    digits = _DIGITS.match(bits_text or "")
    bits = int(digits[1]) if digits else _MOST_BITS
    if not 2 <= bits <= _MOST_BITS:
        bits = _MOST_BITS
    return _limit(low), _limit(high), bits


def _limit(text: str) -> float:
    text = text.lower().replace(" ", "")
    for name, value in _MULTIPLES_OF_PI:
        if name in text:
            return -value if "-" in text else value
    number = _NUMBER.match(text)
    return float(number[0]) if number else 0.0
