"""Files with texts and arrays of fixed dimensions, written by ROOT itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rootfiles.environment import declare, load_root

__all__ = ["FORMATS", "TEXTS", "write_texts"]

FORMATS = ("TTree", "RNTuple")

_LONG = "long" * 200  # a length of more than a byte
#: Short, long, empty, in several alphabets; and two more that are no UTF-8.
_VALID = ("Zbl", "ttb", "", "Z→ee", "Zbl ", _LONG, f"{_LONG[:-1]}G")
TEXTS = (*(text.encode() for text in _VALID), b"\xff\xfe", b"\xff\xfd")


@functools.cache
def _load() -> Any:
    root = load_root()
    declare(root, "texts.cpp")
    return root


def write_texts(path: Path, format: str, texts: Sequence[bytes]) -> str:
    """Write a file with a tree or an ntuple ``t``, an entry for each text, and return its path."""
    root = _load()
    given = root.std.vector["std::string"]()
    for text in texts:
        given.push_back(text)
    write = (
        root.rootfeed_test.write_texts if format == "TTree" else root.rootfeed_test.write_texts_ntuple
    )
    write(str(path), given)
    return str(path)
