"""Checks of what users hand over as arguments."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import ArgumentError

__all__ = ["as_tuple", "fraction", "in_order", "integer", "one_of", "positive", "size_bytes"]

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return the members of a sequence, or the only one; a text is one, not its characters."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return tuple(value)
    return (value,)


def in_order(name: str, value: Any) -> Any:
    """Return an argument of which the order counts.

    Raises
    ------
    ArgumentError
        Where it is a set: of texts, each process has another order.
    """
    if isinstance(value, set | frozenset):
        listed = ", ".join(sorted(map(repr, value)))
        raise ArgumentError(f"{name} must be in an order, which a set has not: write [{listed}].")
    return value


def integer(name: str, value: Any, least: int | None = None) -> int:
    """Return an argument as an int.

    Raises
    ------
    ArgumentError
        Where it is none, or less than `least`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be an integer, got {value!r}.") from None
    if least is not None and number < least:
        raise ArgumentError(f"{name} must be at least {least}, got {number}.")
    return number


def positive(name: str, value: Any) -> int:
    """Return an argument that counts something, of which there is at least one."""
    number = integer(name, value)
    if not 0 < number < 2**31:
        raise ArgumentError(f"{name} must be positive and below 2^31, got {number}.")
    return number


def one_of(name: str, value: Any, choices: Sequence[str]) -> Any:
    """Return an argument that must be one of some words."""
    if value not in choices:
        *others, last = (f'"{choice}"' for choice in choices)
        raise ArgumentError(f"{name} must be {', '.join(others)} or {last}, got {value!r}.")
    return value


def fraction(name: str, value: Any) -> float:
    """Return an argument that must lie between 0 and 1, both excluded."""
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise ArgumentError(f"{name} must lie between 0 and 1, got {value!r}.")
    return float(value)


def size_bytes(name: str, value: Any, more: str = "") -> int:
    """Return an argument such as ``"1 GB"``, or a number of bytes, in bytes.

    As in uproot, ``MB`` is 1000² bytes and ``MiB`` is 1024². Errors name `more`, what else it may be.
    """
    size = value
    if isinstance(size, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*", size, re.IGNORECASE)
        if match is None:
            choices = f"'500 MB', '2 GB' or {more}" if more else "'500 MB' or '2 GB'"
            raise ArgumentError(f"{name} must look like {choices}, got {size!r}.")
        size = float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()]
    if (
        isinstance(size, bool)
        or not isinstance(size, int | float | np.integer | np.floating)
        or not 0 < size < 2**60
    ):
        raise ArgumentError(f"{name} must be a positive number of bytes, got {value!r}.")
    return int(size)
