"""What stands for values that are missing: nulls, empty fields of a table of text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootfeed.errors import ArgumentError, MissingColumnError, nearest
from rootfeed.exact import exactly
from rootfeed.schema import ColumnType

__all__ = ["Filling", "as_type", "checked_filling", "type_of"]


@dataclass(frozen=True)
class Filling:
    """What `rootfeed.open` was given as `fill_null`.

    Attributes
    ----------
    everywhere : number, str or None
        For columns that are not named; None where a missing value is an error there.
    named : tuple of (str, number or str)
    """

    everywhere: Any = None
    named: tuple[tuple[str, Any], ...] = ()

    def of(self, name: str) -> Any:
        """Return what was given for a column; None where nothing was."""
        return dict(self.named).get(name, self.everywhere)

    @property
    def identity(self) -> bytes:
        """Bytes that tell it from others."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).digest()

    def check(self, where: str, types: Mapping[str, ColumnType]) -> None:
        """Refuse names that no column has, and values that the column of that name cannot hold.

        What is given for all columns has to fit where a value is missing, which nobody knows yet.
        """
        for name, value in self.named:
            if name not in types:
                raise MissingColumnError(
                    f"{where} has no column {name!r}, which fill_null names. {nearest(name, types)}"
                )
            as_type(value, where, name, types[name])


def checked_filling(fill_null: Any) -> Filling | None:
    """Return the argument `fill_null` of `rootfeed.open` in its final form; None where there is none."""
    if fill_null is None:
        return None
    if not isinstance(fill_null, Mapping):
        return Filling(_checked(fill_null))
    for name in fill_null:
        if not isinstance(name, str):
            raise ArgumentError(f"fill_null names columns by texts, got {name!r}.")
    return Filling(named=tuple((name, _checked(value)) for name, value in fill_null.items()))


def as_type(value: Any, where: str, name: str, type_: ColumnType) -> Any:
    """Return a value as a column holds it: a NumPy number, or the bytes of a text.

    Raises
    ------
    ArgumentError
        Where it cannot hold it; integers never become others, reals may be rounded.
    """
    if type_.kind == "text":
        found = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None
    else:
        found = None if type_.dtype is None else exactly(value, type_.dtype)
    if found is not None:
        return found
    if type_.kind != "text" and type_.dtype is None:
        raise ArgumentError(
            f"{where}: column {name!r} ({type_.text}) holds neither numbers, nor vectors of numbers, "
            "nor text: a value that is missing there cannot be filled."
        )
    held = "text" if type_.kind == "text" else str(type_.dtype)
    raise ArgumentError(
        f"{where}: column {name!r} is {held}, which cannot hold fill_null={value!r}. Give it a value of "
        f"its own: fill_null={{{name!r}: ...}}."
    )


def type_of(value: Any) -> ColumnType:
    """Return the type of a column that holds nothing but a value: one that is missing in each entry."""
    if isinstance(value, str):
        return ColumnType("string", "text")
    dtype = np.dtype({bool: np.bool_, int: np.int64, float: np.float64}[type(value)])
    return ColumnType(str(dtype), "scalar", dtype)


def _checked(value: Any) -> bool | int | float | str:
    plain = value.item() if isinstance(value, np.generic) else value
    if not isinstance(plain, bool | int | float | str):
        raise ArgumentError(
            f"fill_null takes a number or a text for what is missing, or a mapping of columns to these, "
            f"got {value!r}."
        )
    return plain
