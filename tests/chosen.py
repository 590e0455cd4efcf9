"""Which cases of a test with several parameters run always, without --thorough."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["in_turns"]


def in_turns(*parameters: Iterable[object]) -> list[str]:
    """Return the ids of cases that hold each value of each parameter, as few as possible.

    Each parameter takes its values in turns. Of two with as many values, the later one skips a value
    after each round, so that they do not go on with the same pairs.
    """
    lists = [[str(value) for value in values] for values in parameters]
    return ["-".join(_values(lists, number)) for number in range(max(map(len, lists)))]


def _values(lists: list[list[str]], number: int) -> Iterable[str]:
    for place, values in enumerate(lists):
        alike = sum(len(others) == len(values) for others in lists[:place])
        skipped = number // len(values) ** alike if alike else 0
        yield values[(number + skipped) % len(values)]
