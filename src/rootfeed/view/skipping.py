"""Files that cannot be read: those that are left out, and the error about those that are not."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

from rootfeed.errors import (
    RootfeedError,
    SkippedFileWarning,
    is_of_the_file,
    listed,
    of_files,
    one_line,
    warn,
)
from rootfeed.sources import Location

__all__ = ["Skipped", "left_out", "warn_of"]


class Skipped(NamedTuple):
    """A file that was left out.

    Attributes
    ----------
    path : str
        Without secrets.
    reason : str
        In a line.
    """

    path: str
    reason: str


def left_out(
    named: Sequence[Location],
    bad: Mapping[int, RootfeedError],
    skips: bool,
    *,
    before: Mapping[int, Skipped] | None = None,
    needed: Container[int] = (),
    unseen: int = 0,
) -> dict[int, Skipped]:
    """Return which files are left out from now on, or raise one error for all that are not.

    Parameters
    ----------
    named : sequence of Location
        All files.
    bad : mapping of int to RootfeedError
        What is wrong with some of them, by their numbers.
    skips : bool
        Leave out those that cannot be read. At least one must be left.
    before : mapping of int to Skipped, optional
        Those that are left out already.
    needed : container of int
        Those whose entries were counted, and may not vanish.
    unseen : int
        How many nobody has looked at.
    """
    before = before or {}
    skipped = {
        number: Skipped(named[number].path, one_line(named[number].path, error))
        for number, error in bad.items()
        if skips and number not in needed and is_of_the_file(error)
    }
    is_empty = len(before) + len(skipped) == len(named)
    refused = {number: error for number, error in bad.items() if is_empty or number not in skipped}
    if refused:
        if is_empty:
            refused.update((number, RootfeedError(each.reason)) for number, each in before.items())
        told = [(named[number].path, error) for number, error in sorted(refused.items())]
        raise of_files(told, len(named), unseen=unseen, skips=skips)
    return {**before, **skipped}


def warn_of(skipped: Mapping[int, Skipped], files: int) -> None:
    """Tell of files that were left out."""
    several = len(skipped) > 1
    warn(
        f"{len(skipped)} of {files} files cannot be read and {'were' if several else 'was'} left out, "
        f"with all of {'their' if several else 'its'} entries; frame.skipped lists "
        f"{'them' if several else 'it'}." + listed([each.reason for _, each in sorted(skipped.items())]),
        SkippedFileWarning,
    )
