"""Data frames that come from no ROOT file: arrays, tables of text, nothing but a number of entries."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np

from rootfeed.errors import ArgumentError, EmptyDatasetError, MissingFileError, nearest
from rootfeed.frame import from_arrays
from rootfeed.root.frame import RDataFrame
from rootfeed.sources import PathLike

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["FromCSV", "FromNumpy", "FromPandas"]

_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_TYPES = {"O": "bool", "L": "Long64_t", "D": "double", "T": "string"}
_CHUNK = 1 << 16


def FromNumpy(arrays: Mapping[str, Any]) -> RDataFrame:
    """Return a data frame over arrays in memory.

    Parameters
    ----------
    arrays : mapping of str to array_like
        By column: shape (n,), or (n, ...) for an array in each entry; awkward arrays of vectors or of
        texts, too. They are not copied and must not change while they are used.

    Raises
    ------
    ArgumentError
        Where lengths differ, or an entry has no value.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.
    """
    return RDataFrame.over(from_arrays(arrays))


def FromPandas(dataframe: Any) -> RDataFrame:
    """Return a data frame over the columns of a pandas data frame, whose index is left out.

    Numbers are not copied where pandas need not, and must not change while they are used.

    Parameters
    ----------
    dataframe : pandas.DataFrame

    Raises
    ------
    ArgumentError
        Where an entry has no value.
    UnsupportedColumnError
        Where a column holds neither numbers nor text.
    """
    import awkward as ak

    arrays: dict[str, Any] = {}
    for name in dataframe.columns:
        values = dataframe[name].to_numpy()
        if values.dtype.kind not in "biuf":
            if (missing := dataframe[name].isna()).any():
                raise ArgumentError(
                    f"column {name!r} has no value in {int(missing.sum())} entries: fill them "
                    "(fillna), or leave them out (dropna)."
                )
            values = ak.Array(values.tolist())
        arrays[str(name)] = values
    return FromNumpy(arrays)


def FromCSV(
    fileName: PathLike,
    readHeaders: bool = True,
    delimiter: str = ",",
    linesChunkSize: int = -1,
    colTypes: Mapping[str, str] | None = None,
) -> RDataFrame:
    r"""Return a data frame over a table of text, which is read into memory.

    A column is Long64_t where all of its values are integers, double where all are numbers, bool where
    all are ``true`` or ``false``, else string. ROOT goes by the first line with a value. Where nothing
    stands, a number is NaN, which makes a column of integers double, a bool is false, and a text is
    empty. Lines without any value are left out.

    Parameters
    ----------
    fileName : str or Path
        Also an address that fsspec knows.
    readHeaders : bool
        The first line has the names of columns; else they are ``Col0``, ``Col1``, ...
    delimiter : str
        One character. In double quotes, it belongs to a value, and so does a line break.
    linesChunkSize : int
        Changes nothing: all lines are in memory.
    colTypes : mapping of str to str, optional
        The type of some columns: ``"O"`` bool, ``"D"`` double, ``"L"`` Long64_t, ``"T"`` string.

    Raises
    ------
    ArgumentError
        Where lines differ in their number of values, a value is not of the type that `colTypes` gives,
        or integers exceed 64 bits.
    EmptyDatasetError
        Where the file has no line.
    MissingFileError
    """
    if len(delimiter) != 1:
        raise ArgumentError(f"delimiter must be one character, got {delimiter!r}.")
    with _opened(str(fileName)) as file:
        rows = (row for row in csv.reader(file, delimiter=delimiter) if any(map(str.strip, row)))
        first = next(rows, None)
        if first is None:
            raise EmptyDatasetError(f"{fileName} has no line. A table has one line for each entry.")
        names = list(map(str.strip, first)) if readHeaders else [f"Col{i}" for i in range(len(first))]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ArgumentError(f"{fileName} has several columns {twice[0]!r}. Rename them.")
        types = dict(colTypes or {})
        for name, letter in types.items():
            if name not in names:
                raise ArgumentError(
                    f"colTypes: there is no column {name!r} in {fileName}. {nearest(name, names)}"
                )
            if letter not in _TYPES:
                raise ArgumentError(
                    f"colTypes[{name!r}] must be one of 'O', 'D', 'L', 'T', got {letter!r}."
                )
        columns = _columns(rows if readHeaders else itertools.chain([first], rows), names, str(fileName))
    arrays = {
        name: _converted(texts, types.get(name), f"column {name!r} of {fileName}")
        for name, texts in zip(names, columns, strict=True)
    }
    return FromNumpy(arrays)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a table of text, and tell what is wrong with it as an error of ours."""
    try:
        with fsspec.open(path, "rt", newline="", encoding="utf-8-sig") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist.") from error
    except (csv.Error, UnicodeError) as error:
        raise ArgumentError(f"{path} is no table of text: {error}.") from error


def _columns(rows: Iterable[Sequence[str]], names: Sequence[str], path: str) -> list[ak.Array]:
    """Return the texts of each column, kept as plain bytes."""
    import awkward as ak

    parts: list[list[ak.Array]] = [[] for _ in names]
    for some in _chunks(rows):
        for row in some:
            if len(row) != len(names):
                raise ArgumentError(
                    f"{path} has a line of {len(row)} values where there are {len(names)} columns: "
                    f"{','.join(row)[:80]!r}. Is the delimiter right?"
                )
        for part, texts in zip(parts, zip(*some, strict=True), strict=True):
            part.append(ak.Array(list(texts)))
    return [ak.concatenate(part) if part else ak.Array([""])[:0] for part in parts]


def _chunks(rows: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    rows = iter(rows)
    while some := list(itertools.islice(rows, _CHUNK)):
        yield some


def _converted(texts: ak.Array, letter: str | None, where: str) -> Any:
    """Return a column's texts as an array of their type."""
    known = texts.to_list()
    filled = [text for text in known if text.strip()]
    letter = letter or _letter(filled, len(filled) < len(known))
    try:
        if letter == "L":
            return np.array([int(text) if text.strip() else 0 for text in known], np.int64)
        if letter == "D":
            return np.array([float(text) if text.strip() else np.nan for text in known], np.float64)
        if letter == "O":
            values = {"true": True, "false": False, "": False, "1": True, "0": False}
            return np.array([values[text.strip()] for text in known], np.bool_)
    except (ValueError, KeyError, OverflowError) as error:
        raise ArgumentError(f"{where} is not of type {_TYPES[letter]}: {error}.") from None
    return texts


def _letter(filled: Sequence[str], has_gaps: bool) -> str:
    """Return the letter of the type that suits all values."""
    if filled and all(text.strip() in ("true", "false") for text in filled):
        return "O"
    if filled and not has_gaps and all(map(_INTEGER.fullmatch, filled)):
        return "L"
    return "D" if all(map(_is_number, filled)) else "T"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
