"""The columns of a schema of Arrow's: names, types, which cannot be read, and what fills them."""

from __future__ import annotations

from typing import Any

from rootfeed.errors import UnsupportedColumnError
from rootfeed.schema import ColumnType
from rootfeed.sources.arrowarrays import nulls
from rootfeed.sources.arrowtypes import Field, column_type, fields_of
from rootfeed.sources.filling import Filling, as_type, type_of

__all__ = ["ArrowColumns"]


class ArrowColumns:
    """The columns of a schema, each struct followed by its members.

    Parameters
    ----------
    schema : pyarrow.Schema
    where : str
        The file, in messages.
    filling : Filling or None
        What stands for values that are missing.

    Attributes
    ----------
    fields : dict of str to Field
    """

    def __init__(self, schema: Any, where: str, filling: Filling | None) -> None:
        self.where, self.filling = where, filling
        fields = fields_of(schema)
        first: dict[str, int] = {}
        for each in fields:
            first.setdefault(each.path[0], each.position)
        self._names = [
            each.name for each in fields if len(each.path) == 1 or first[each.path[0]] == each.position
        ]
        # A member of structs that is called like a column gives way.
        self.fields: dict[str, Field] = {}
        for each in sorted(fields, key=lambda each: len(each.path) > 1):
            if first[each.path[0]] == each.position:
                self.fields.setdefault(each.name, each)

    def types(self) -> dict[str, ColumnType]:
        """Return the type of each column; a struct is followed by its members."""
        return {name: self.type(name) for name in dict.fromkeys(self._names)}

    def type(self, name: str) -> ColumnType:
        """Return the type of a column: of one that has no values, that of what fills it."""
        fill = self.fill(name)
        if self._is_null(name) and fill is not None:
            return type_of(fill)
        return column_type(self.fields[name].type)

    def fill(self, name: str) -> Any:
        """Return what was given for values of a column that are missing; None where nothing was."""
        return None if self.filling is None else self.filling.of(name)

    def check(self, name: str) -> None:
        """Refuse a column that cannot be read at all."""
        import pyarrow as pa

        type_ = self.fields[name].type
        if self._is_null(name) and self.fill(name) is None:
            raise nulls(self.where, name, self.type(name), "all of its entries")
        if pa.types.is_decimal(type_) or pa.types.is_interval(type_):
            raise UnsupportedColumnError(
                f"{self.where}: column {name!r} is of type {type_}, which has no native counterpart. "
                "Leave it out, or write it as numbers: column.cast('float64') in pyarrow, "
                "astype('float64') in pandas."
            )

    def _is_null(self, name: str) -> bool:
        import pyarrow as pa

        found: bool = pa.types.is_null(self.fields[name].type)
        return found

    def duplicates(self) -> dict[str, str]:
        """Return the names that several columns have, and a sentence about each."""
        if len(self.fields) == len(self._names):
            return {}
        return {
            name: f"{self.where} has {self._names.count(name)} columns of the name {name!r}: the first "
            "counts; of a column and a member of a struct, the column. Rename the others to read them."
            for name in self.fields
            if self._names.count(name) > 1
        }

    def check_nulls(self, name: str, type_: ColumnType, count: int) -> None:
        """Refuse a column of which metadata say that values are missing, unless something fills them."""
        if count and (fill := self.fill(name)) is None:
            raise nulls(self.where, name, type_, f"{count} of its entries")
        if count:
            as_type(fill, self.where, name, type_)
