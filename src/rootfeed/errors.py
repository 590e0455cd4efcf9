"""The errors that rootfeed raises.

::

    RootfeedError
    ├── ArgumentError            (ValueError)         an argument that cannot be meant
    ├── MissingFileError         (FileNotFoundError)  no such file, or a pattern without a match
    ├── MissingObjectError       (KeyError)           no such tree or ntuple in a file
    ├── MissingColumnError       (KeyError)           no such column in a file
    ├── MissingNameError         (AttributeError)     a name of ROOT that `rootfeed.root` does not have
    ├── UnsupportedColumnError   (TypeError)          a column that cannot become a number per entry
    ├── ExpressionError          (ValueError)         a text that is no expression
    ├── ExpressionTypeError      (TypeError)          an expression whose types do not fit
    ├── EvaluationError          (ValueError)         an expression that has no value in an entry
    ├── NotFiniteError           (ValueError)         features that are NaN or infinite
    ├── DamagedFileError         (OSError)            truncated, overwritten or inconsistent contents
    ├── ChangedFileError         (OSError)            a file that is not the one that was indexed
    ├── UnreachableError         (OSError)            bytes that a server, a disk, a limit keeps back
    │   └── LimitError           (OSError)            a limit of this process or machine does
    ├── AccessError              (PermissionError)    bytes that this user may not read
    ├── EmptyDatasetError        (ValueError)         nothing is left to read
    ├── UnequalLengthsError      (ValueError)         vectors that belong together differ in length
    ├── UnsupportedFileError     (OSError)            a file in a format that cannot be read
    ├── StateError               (ValueError)         a saved state that is damaged, or another loader's
    ├── ExecutorError            (RuntimeError)       an executor that does not run what it is given
    ├── ForkedIteratorError      (RuntimeError)       an iterator that crossed a fork
    └── SharedIteratorError      (RuntimeError)       an iterator that several threads use at a time

    RootfeedWarning              (UserWarning)
    ├── PrecisionWarning         values that the batch dtype cannot represent
    ├── NotFiniteWarning         features that are NaN or infinite
    ├── CutVectorWarning         vectors that are longer than an input has room for
    ├── WeightWarning            weights that are zero, NaN or infinite
    ├── MixingWarning            rows that cannot mix well in the memory that there is
    ├── MemoryWarning            more memory than was given, for pages that are so long
    ├── DuplicateFileWarning     copies of a file, whose entries come twice
    ├── DuplicateNameWarning     columns of one name, of which the first counts
    ├── SkippedFileWarning       files that were left out, because they cannot be read
    └── CacheWarning             a cache on disk that cannot be written

What goes wrong with a file is one of three things: its bytes are wrong (`DamagedFileError`), they
cannot be had (`MissingFileError`, `UnreachableError`, `AccessError`, `ChangedFileError`), or rootfeed
does not read what they hold (`UnsupportedColumnError`, `UnsupportedFileError`).

Every message says what was expected, what was found, where (file, column, entries) and what to do.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "AccessError",
    "ArgumentError",
    "CacheWarning",
    "ChangedFileError",
    "CutVectorWarning",
    "DamagedFileError",
    "DuplicateFileWarning",
    "DuplicateNameWarning",
    "EmptyDatasetError",
    "EvaluationError",
    "ExecutorError",
    "ExpressionError",
    "ExpressionTypeError",
    "ForkedIteratorError",
    "LimitError",
    "MemoryWarning",
    "MissingColumnError",
    "MissingFileError",
    "MissingNameError",
    "MissingObjectError",
    "MixingWarning",
    "NotFiniteError",
    "NotFiniteWarning",
    "PrecisionWarning",
    "RootfeedError",
    "RootfeedWarning",
    "SharedIteratorError",
    "SkippedFileWarning",
    "StateError",
    "UnequalLengthsError",
    "UnreachableError",
    "UnsupportedColumnError",
    "UnsupportedFileError",
    "WeightWarning",
    "is_of_the_file",
    "listed",
    "nearest",
    "of_files",
    "one_line",
    "warn",
]


class RootfeedError(Exception):
    """Base of every error that rootfeed raises on purpose."""

    def __str__(self) -> str:
        # KeyError and OSError format their arguments in ways that hide the message.
        return str(self.args[0]) if self.args else ""


class ArgumentError(RootfeedError, ValueError):
    """An argument has a value that cannot be meant."""


class MissingFileError(RootfeedError, FileNotFoundError):
    """A file does not exist, or a pattern matches none."""


class MissingObjectError(RootfeedError, KeyError):
    """A file holds no tree or ntuple of that name, or does not say which of several is meant."""


class MissingColumnError(RootfeedError, KeyError):
    """A file's tree or ntuple has no column of that name.

    Attributes
    ----------
    names_friends : bool
        Whether it tells of the tree's friends, which may have such a column.
    """

    names_friends = False


class MissingNameError(RootfeedError, AttributeError):
    """A name of ROOT that `rootfeed.root` does not have."""


class UnsupportedColumnError(RootfeedError, TypeError):
    """A column's type cannot become one number per entry."""


class ExpressionError(RootfeedError, ValueError):
    """A text that is no expression; the message shows the place."""


class ExpressionTypeError(RootfeedError, TypeError):
    """An expression whose types do not fit; the message shows the place."""


class EvaluationError(RootfeedError, ValueError):
    """An expression that has no value in some entry, such as an element that is not there."""


class DamagedFileError(RootfeedError, OSError):
    """A file is truncated, overwritten, or contradicts itself."""


class ChangedFileError(RootfeedError, OSError):
    """A file was replaced or written again since it was indexed."""


class UnreachableError(RootfeedError, OSError):
    """A server, a disk or a limit of this process keeps bytes back that may be whole."""


class LimitError(UnreachableError):
    """A limit of this process or machine, such as that of open files, keeps bytes back."""


class AccessError(RootfeedError, PermissionError):
    """A file may not be read by this user, or with this token."""


class UnsupportedFileError(RootfeedError, OSError):
    """A file in a format that cannot be read."""


class NotFiniteError(RootfeedError, ValueError):
    """Features are NaN or infinite, and the loader was asked to refuse them."""


class UnequalLengthsError(RootfeedError, ValueError):
    """Vector columns that belong together have different lengths in an entry."""


class EmptyDatasetError(RootfeedError, ValueError):
    """Nothing is left to read."""


class StateError(RootfeedError, ValueError):
    """A saved state is damaged, or belongs to another loader."""


class ExecutorError(RootfeedError, RuntimeError):
    """An executor does not run what it is given: a process of it has died, or cannot load it."""


class ForkedIteratorError(RootfeedError, RuntimeError):
    """An iterator was carried into a forked process, where its threads do not exist."""


class SharedIteratorError(RootfeedError, RuntimeError):
    """An iterator was asked for a batch by one thread while another was waiting for one."""


class RootfeedWarning(UserWarning):
    """Base of every warning that rootfeed issues."""


class PrecisionWarning(RootfeedWarning):
    """Values in the files differ from their representation in the batch dtype."""


class WeightWarning(RootfeedWarning):
    """Weights are zero, NaN or infinite."""


class NotFiniteWarning(RootfeedWarning):
    """Features are NaN or infinite."""


class MixingWarning(RootfeedWarning):
    """Rows cannot mix well in the memory that there is.

    Told when a loader is made, by what metadata and names of files say; and before the first batch,
    where the labels of the blocks in memory are stored in an order.
    """


class MemoryWarning(RootfeedWarning):
    """More memory than ``memory`` will be taken: pages in the files are that long."""


class DuplicateFileWarning(RootfeedWarning):
    """A file is a copy of another one: its entries come twice."""


class DuplicateNameWarning(RootfeedWarning):
    """Several columns have one name: the first one counts."""


class SkippedFileWarning(RootfeedWarning):
    """Files cannot be read and were left out, as ``rootfeed.open(..., on_error="skip")`` asks."""


class CacheWarning(RootfeedWarning):
    """A cache on disk cannot be written: of compiled kernels, or of what was read from servers."""


class CutVectorWarning(RootfeedWarning):
    """Vectors in the files are longer than an input has room for, and were cut."""


def warn(text: str, category: type[RootfeedWarning]) -> None:
    """Issue a warning at the line, outside of this package, that led to it."""
    package, level, frame = __name__.partition(".")[0], 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def nearest(name: str, candidates: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """Return a sentence that offers the candidates nearest to a misspelt name.

    Parameters
    ----------
    name : str
        The name that was not found.
    candidates : iterable of str
        The names that exist.
    shown : function of str
        How messages show a name.

    Returns
    -------
    str
        ``"Did you mean 'a' or 'b'?"``; a short list of what exists when nothing is near.
    """
    names = list(candidates)
    lowered: dict[str, list[str]] = {}
    for candidate in names:
        lowered.setdefault(candidate.lower(), []).append(candidate)
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    if near:
        found = [candidate for match in near for candidate in lowered[match]]
        return f"Did you mean {' or '.join(shown(candidate) for candidate in found)}?"
    if not names:
        return "There are none."
    listed = ", ".join(shown(candidate) for candidate in names[:8])
    rest = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"There are: {listed}{rest}."


_MOST_FILES = 20
_REASON_CHARACTERS = 400


def is_of_the_file(error: RootfeedError) -> bool:
    """Whether an error says that a file itself cannot be read, however it is used.

    Not so of limits of this process, of a file that was replaced meanwhile, and of columns that the file
    lacks.
    """
    kinds = (
        AccessError,
        DamagedFileError,
        MissingFileError,
        MissingObjectError,
        UnreachableError,
        UnsupportedFileError,
    )
    return isinstance(error, kinds) and not isinstance(error, LimitError)


def one_line(path: str, error: RootfeedError) -> str:
    """Return what an error says of a file, in a line that names the file."""
    text = " ".join(str(error).split())
    text = text if path in text else f"{path}: {text}"
    return text if len(text) <= _REASON_CHARACTERS else f"{text[: _REASON_CHARACTERS - 3]}..."


def listed(lines: Sequence[str]) -> str:
    """Return lines below each other: the first twenty, and how many more there are."""
    more = len(lines) - _MOST_FILES
    every = [*lines[:_MOST_FILES], *([f"and {more} more"] if more > 0 else [])]
    return "".join(f"\n  {line}" for line in every)


def of_files(
    bad: Sequence[tuple[str, RootfeedError]], files: int, *, unseen: int = 0, skips: bool = False
) -> RootfeedError:
    """Return one error for those of some files: the error itself where it is only one.

    Parameters
    ----------
    bad : sequence of (path, error)
        At least one.
    files : int
        How many there are, those that are well included.
    unseen : int
        How many of them nobody has looked at.
    skips : bool
        Whether files that cannot be read were to be left out.

    Returns
    -------
    RootfeedError
        Of the class that all of them have in common.
    """
    errors = [error for _, error in bad]
    if len(errors) == 1:
        return errors[0]
    kinds = type(errors[0]).__mro__
    kind = next(each for each in kinds if all(isinstance(error, each) for error in errors))
    text = f"{len(bad)} of {files} files cannot be used."
    if unseen:
        text += f" {unseen} others were not looked at."
    if not skips and all(map(is_of_the_file, errors)):
        text += ' rootfeed.open(..., on_error="skip") leaves such files out.'
    told: RootfeedError = kind(text + listed([one_line(path, error) for path, error in bad]))
    told.__cause__ = errors[0]
    return told
