"""One pass over a table of text: which lines lie where, and what each column holds in all of them."""

from __future__ import annotations

import csv
import io
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xxhash

from rootfeed.errors import DamagedFileError, EmptyDatasetError, RootfeedError, UnsupportedFileError
from rootfeed.progress import progress
from rootfeed.schema import Array
from rootfeed.sources.storage import Storage
from rootfeed.sources.wholefiles import bytes_of

__all__ = ["KINDS", "Kind", "Lines", "is_nulled", "joined", "parsed", "scanned"]

BLOCK_BYTES = 1 << 20
_LONGEST_LINE = 64 << 20
_QUOTE, _NEWLINE = ord('"'), ord("\n")
_MARK = b"\xef\xbb\xbf"  # of UTF-8, which some programs write first

_NULLS = ("", "NULL", "null", "NA", "N/A", "n/a", "#N/A", "<NA>", "None")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)

_MOST_EXACT = 2.0**53  # up to which every integer is a double


Kind = str
"""What all values of a column are.

``"nothing"``, ``"natural"`` or ``"integer"`` (int64, without and with a sign), ``"large"`` (uint64),
``"huge"`` (integers of more bits), ``"real"``, ``"bool"``, ``"text"``, ``"bytes"``, or a date or time as
Arrow names it.
"""

_TIMES = ("date32[day]", "timestamp[s]", "timestamp[ns]")  # each takes what the ones before it take
_ZONED = ("timestamp[s, tz=UTC]", "timestamp[ns, tz=UTC]")

KINDS = frozenset(
    ("nothing", "natural", "integer", "large", "huge", "real", "bool", "text", "bytes", "time32[s]")
).union(_TIMES, _ZONED)

_JOINED = (
    (frozenset({"natural", "integer"}), "integer"),
    (frozenset({"natural", "large"}), "large"),
    (frozenset({"natural", "integer", "large", "huge"}), "huge"),
    (frozenset({"natural", "integer", "large", "huge", "real"}), "real"),
    (frozenset({"text", "bytes"}), "bytes"),
)


def joined(one: Kind, other: Kind) -> Kind:
    """Return the kind that two groups of values have together, whatever their order."""
    names = {one, other}
    if len(names) == 1 or "nothing" in names:
        return one if other == "nothing" else other
    for every, found in _JOINED:
        if names <= every:
            return found
    for times in (_TIMES, _ZONED):
        for number, name in enumerate(times):
            if names <= set(times[: number + 1]):
                return name
    return "text"


@dataclass(frozen=True, eq=False)
class Lines:
    """What one pass told of a file.

    Attributes
    ----------
    names : tuple of str
    delimiter : str
    kinds : mapping of str to Kind
        Of each column; of several with one name, the first one.
    places : mapping of str to int
        The number of each column in a line.
    nulls : mapping of str to (int, int)
        How many entries of a column have no value, and the line of the first one.
    bounds, offset, stored_bytes : ndarray of int64
        The entries, the places and the sizes of groups of lines.
    letters : mapping of str to float
        Bytes of an entry's text, on average.
    identity : bytes
        16 bytes that follow from all bytes of the file.
    """

    names: tuple[str, ...]
    delimiter: str
    kinds: Mapping[str, Kind]
    places: Mapping[str, int]
    nulls: Mapping[str, tuple[int, int]]
    bounds: Array = field(repr=False)
    offset: Array = field(repr=False)
    stored_bytes: Array = field(repr=False)
    letters: Mapping[str, float]
    identity: bytes


class _Told(NamedTuple):
    """What a group of lines told: entries, and of each column kind, nulls with a line, text bytes."""

    entries: int
    kinds: list[Kind]
    nulls: list[tuple[int, int]]
    letters: list[int]


def scanned(path: str, storage: Storage, delimiter: str) -> Lines:
    """Read a table once, on several threads.

    Raises
    ------
    DamagedFileError
        Names the line that has more or fewer values than there are columns.
    EmptyDatasetError
        Where the file has no line.
    """
    digest = xxhash.xxh3_128()
    groups = _groups(path, storage, digest)
    first = next(groups, None)
    if first is None:
        raise EmptyDatasetError(f"{path} has no line. A table has one line for each entry.")
    names, delimiter, header_bytes = _header(path, first[1], delimiter)
    threads = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
    every: list[_Told] = []
    offset, sizes = [], []
    waiting: deque[Future[_Told]] = deque()
    with _bar(path, storage.file_bytes) as advance, ThreadPoolExecutor(threads, "rootfeed-csv") as pool:
        try:
            line = 1
            for place, contents in _chained((first[0], first[1]), groups):
                skipped = header_bytes if place == 0 else 0
                part = contents[skipped:]
                line += contents[:skipped].count(b"\n")
                if part.strip():
                    waiting.append(pool.submit(_told, path, part, names, delimiter, line))
                    offset.append(place + skipped)
                    sizes.append(len(part))
                line += part.count(b"\n")
                advance(place + len(contents))
                while len(waiting) > 2 * threads:
                    every.append(waiting.popleft().result())
            every.extend(each.result() for each in waiting)
        except BaseException:
            for each in waiting:
                each.cancel()
            raise
    storage.verify()
    return _lines(names, delimiter, every, offset, sizes, digest.digest())


@contextmanager
def _bar(path: str, file_bytes: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how far the pass is, for a bar; files side by side have none."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda position: None
        return
    done = 0
    with progress(
        f"Counting lines of {os.path.basename(path)} (MB)", file_bytes // 1_000_000
    ) as advance:

        def reach(position: int) -> None:
            nonlocal done
            advance(position // 1_000_000 - done)
            done = position // 1_000_000

        yield reach


def _lines(
    names: tuple[str, ...],
    delimiter: str,
    every: Sequence[_Told],
    offset: Sequence[int],
    sizes: Sequence[int],
    identity: bytes,
) -> Lines:
    entries = np.array([told.entries for told in every], np.int64)
    filled = entries > 0
    kinds: dict[str, Kind] = {}
    places: dict[str, int] = {}
    nulls: dict[str, tuple[int, int]] = {}
    letters: dict[str, float] = {}
    for number, name in enumerate(names):
        if name in places:
            continue
        places[name] = number
        kind = "nothing"
        for told in every:
            kind = joined(kind, told.kinds[number])
        kinds[name] = kind
        missing = [told.nulls[number] for told in every if told.nulls[number][0]]
        if missing:
            nulls[name] = sum(count for count, _ in missing), missing[0][1]
        letters[name] = sum(told.letters[number] for told in every) / max(1, int(entries.sum()))
    return Lines(
        names=names,
        delimiter=delimiter,
        kinds=kinds,
        places=places,
        nulls=nulls,
        bounds=np.append(0, np.cumsum(entries[filled])),
        offset=np.array(offset, np.int64)[filled],
        stored_bytes=np.array(sizes, np.int64)[filled],
        letters=letters,
        identity=identity,
    )


def _chained(first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield first
    yield from rest


def _groups(path: str, storage: Storage, digest: Any) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of groups of whole lines, of about `BLOCK_BYTES` each."""
    place = position = 0
    pending = b""
    while position < storage.file_bytes:
        size = min(BLOCK_BYTES, storage.file_bytes - position)
        more = bytes_of(storage, position, size)
        digest.update(more)
        pending += more
        position += size
        is_last = position == storage.file_bytes
        end = len(pending) if is_last else _last_end(pending)
        is_open = is_last and pending.count(b'"') % 2 == 1
        if is_open or (end == 0 and len(pending) > _LONGEST_LINE):
            raise DamagedFileError(
                f"{path}: no line ends between the positions {place} and {position}, as if a quote were "
                "left open there. Mend it, or produce the file again."
            )
        if end:
            yield place, pending[:end]
            place, pending = place + end, pending[end:]


def _last_end(contents: bytes) -> int:
    """Return where the last whole line ends; a line break in quotes ends none."""
    if b'"' not in contents:
        return contents.rfind(b"\n") + 1
    letters = np.frombuffer(contents, np.uint8)
    breaks = np.flatnonzero(letters == _NEWLINE)
    quotes = np.flatnonzero(letters == _QUOTE)
    outside = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _header(path: str, contents: bytes, delimiter: str) -> tuple[tuple[str, ...], str, int]:
    """Return the columns' names, what is between them, and the bytes of the first line.

    A first line of nothing but numbers is an entry: columns are named as ROOT's FromCSV does.
    """
    start = len(_MARK) if contents.startswith(_MARK) else 0
    text = contents[start:]
    while text[:1] in (b"\n", b"\r"):
        start, text = start + 1, text[1:]
    end = 0
    while True:  # a name may have a line break, in quotes
        after = text.find(b"\n", end)
        end = len(text) if after < 0 else after + 1
        if end == len(text) or text[:end].count(b'"') % 2 == 0:
            break
    try:
        line = text[:end].decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(
            f"{path}: its first line, which names the columns, is no UTF-8: {error}. Write it in UTF-8."
        ) from error
    if delimiter not in line and delimiter == ",":
        delimiter = next((each for each in ("\t", ";") if each in line), delimiter)
    try:
        [names] = csv.reader(io.StringIO(line, newline=""), delimiter=delimiter) if line else [[""]]
    except (csv.Error, ValueError) as error:
        raise DamagedFileError(
            f"{path}: its first line cannot be read as names of columns: {error}. "
            "Mend it, or produce the file again."
        ) from error
    if len(names) > 1 and names == [str(number) for number in range(len(names))]:
        raise UnsupportedFileError(
            f"{path}: its first line is {line.strip()[:40]!r}, which may be an entry, or what pandas "
            "writes above columns that have no names. Write a first line of names, as "
            "pandas.DataFrame(array, columns=[...]) has."
        )
    if all(map(_is_number, names)):
        return tuple(f"Col{number}" for number in range(len(names))), delimiter, start
    named = (name.strip() or f"Col{number}" for number, name in enumerate(names))
    return tuple(named), delimiter, start + end


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parsed(contents: Any, names: Sequence[str], delimiter: str, types: Mapping[int, Any] | None) -> Any:
    """Return a group of lines as an Arrow table, whose columns are called by their numbers.

    Parameters
    ----------
    contents : bytes-like
    names : sequence of str
    delimiter : str
    types : mapping of int to pyarrow.DataType, optional
        Of the columns that are wanted; without it all come, in types that suit their values.
    """
    import pyarrow as pa
    from pyarrow import csv as pacsv

    columns = [str(number) for number in range(len(names))]
    typed = {str(number): type_ for number, type_ in (types or {}).items()}
    return pacsv.read_csv(
        pa.BufferReader(pa.py_buffer(contents)),
        read_options=pacsv.ReadOptions(
            use_threads=False, block_size=len(contents) + 1, column_names=columns
        ),
        parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            null_values=list(_NULLS),
            true_values=list(_TRUE),
            false_values=list(_FALSE),
            column_types=typed or None,
            include_columns=list(typed) or None,
        ),
    )


def is_nulled(kind: Kind) -> bool:
    """Tell whether what has no value is missing: of texts, nothing is an empty text."""
    return kind not in ("text", "bytes")


def _told(path: str, contents: bytes, names: Sequence[str], delimiter: str, line: int) -> _Told:
    """Parse a group of lines, and say what its columns hold."""
    import pyarrow as pa
    from pyarrow import compute

    try:
        table = parsed(contents, names, delimiter, None)
    except pa.ArrowInvalid as error:
        raise _unlike(path, contents, len(names), delimiter, line, error) from error
    kinds, nulls, letters = [], [], []
    for number, column in enumerate(table.columns):
        kinds.append(_kind(column, contents, names, delimiter, number))
        missing = column.null_count
        row = compute.index(compute.is_null(column), True).as_py() if missing else 0
        nulls.append((missing, _line(contents, row, delimiter, line) if missing else 0))
        is_text = kinds[-1] in ("text", "bytes")
        letters.append(
            compute.sum(compute.binary_length(column)).as_py() or 0 if is_text else 8 * len(column)
        )
    return _Told(len(table), kinds, nulls, letters)


def _kind(column: Any, contents: bytes, names: Sequence[str], delimiter: str, number: int) -> Kind:
    import pyarrow as pa
    from pyarrow import compute

    type_ = column.type
    if pa.types.is_null(type_):
        return "nothing"
    if pa.types.is_boolean(type_):
        return "bool"
    if pa.types.is_int64(type_):
        return "integer" if (compute.min(column).as_py() or 0) < 0 else "natural"
    if not pa.types.is_float64(type_):
        return {"string": "text", "binary": "bytes"}.get(str(type_), str(type_))
    values = column.drop_null().to_numpy()
    is_large = np.isfinite(values).all() and np.abs(values).max(initial=0) > _MOST_EXACT
    if not is_large or np.any(values != np.rint(values)):
        return "real"
    # They may be integers of more than 64 bits with a sign, which must not lose their last digits.
    texts = parsed(contents, names, delimiter, {number: pa.string()}).column(0)
    texts = [text for text in texts.to_pylist() if text not in _NULLS]
    if not all(map(_INTEGER.fullmatch, texts)):
        return "real"
    return "large" if all(0 <= int(text) < 1 << 64 for text in texts) else "huge"


def _rows(contents: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line on which each entry begins, counted from 0, and its values."""
    text = io.StringIO(contents.decode("utf-8", "replace"), newline="")
    reader = csv.reader(text, delimiter=delimiter)
    before = 0
    for row in reader:
        if row:
            yield before, row
        before = reader.line_num


def _line(contents: bytes, row: int, delimiter: str, line: int) -> int:
    """Return the line of an entry in the file."""
    for number, (place, _) in enumerate(_rows(contents, delimiter)):
        if number == row:
            return line + place
    return line


def _unlike(
    path: str, contents: bytes, columns: int, delimiter: str, line: int, error: Exception
) -> RootfeedError:
    """Return the error about a line that has another number of values."""
    try:
        for place, row in _rows(contents, delimiter):
            if len(row) != columns:
                return DamagedFileError(
                    f"{path}: line {line + place} has {len(row)} values for {columns} columns: "
                    f"{delimiter.join(row)[:80]!r}. Mend the line, or produce the file again."
                )
    except csv.Error:
        pass
    return DamagedFileError(
        f"{path}: the lines from {line} on cannot be read as a table: {error}. "
        "Mend them, or produce the file again."
    )
