"""What a data frame is, in ROOT's words: types of columns, a description, its first entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootfeed.expression import Definition, name_in
from rootfeed.frame import Frame, view_of
from rootfeed.schema import ColumnType

__all__ = ["Description", "Displayed", "defined", "described", "displayed", "type_name"]

_PLAIN = {
    "?": "bool",
    "i1": "char",
    "u1": "unsigned char",
    "i2": "short",
    "u2": "unsigned short",
    "i4": "int",
    "u4": "unsigned int",
    "i8": "Long64_t",
    "u8": "ULong64_t",
    "f4": "float",
    "f8": "double",
}
_LEAF = {
    "?": "Bool_t",
    "i1": "Char_t",
    "u1": "UChar_t",
    "i2": "Short_t",
    "u2": "UShort_t",
    "i4": "Int_t",
    "u4": "UInt_t",
    "i8": "Long64_t",
    "u8": "ULong64_t",
    "f4": "Float_t",
    "f8": "Double_t",
}
_FIELD = {
    code: f"std::{'u' * (code[0] == 'u')}int{8 * int(code[1:])}_t" if code[0] in "iu" else name
    for code, name in _PLAIN.items()
}
_MOST_FILES = 10


def defined(frame: Frame) -> list[str]:
    """Return the names of columns that were defined or redefined, without other names of columns."""
    made = {each.name for each in _definitions(frame) if _other_name(each) is None}
    return [name for name in frame.columns if name in made]


def other_names(frame: Frame, column: str) -> list[str]:
    """Return the other names of a column, which aliases give it, in their order."""
    found: list[str] = []
    for each in _definitions(frame):
        if _other_name(each) in (column, *found):
            found += [each.name] * (each.name not in found)
        elif each.name in found:
            found.remove(each.name)
    return found


def type_name(frame: Frame, column: str) -> str:
    """Return the type of a column, as ROOT calls it: see `RDataFrame.GetColumnType`."""
    type_ = frame.select([column]).columns[column]
    names, is_defined = _PLAIN, False
    for each in reversed(_definitions(frame)):
        if each.name == column:
            other = _other_name(each)
            is_defined = other is None
            if other is None:
                break
            column = other
    storage = view_of(frame).index(())[0].format
    if not is_defined and storage == "TTree" and "<" not in type_.text:
        names = _LEAF
    elif not is_defined and storage == "RNTuple":
        names = _FIELD
    return _called(type_, names, is_field=names is _FIELD)


def _called(type_: ColumnType, names: Mapping[str, str], is_field: bool) -> str:
    if type_.kind == "text":
        return "string" if names is _LEAF else "std::string"
    if type_.dtype is None or (type_.kind == "scalar" and is_field):
        return type_.text
    name = names["?" if type_.dtype.kind == "b" else type_.dtype.str[1:]]
    return f"ROOT::VecOps::RVec<{name}>" if type_.kind == "vector" else name


def _definitions(frame: Frame) -> list[Definition]:
    return [each for each in view_of(frame).transformations if isinstance(each, Definition)]


def _other_name(definition: Definition) -> str | None:
    """Return the column of which a definition is nothing but another name, as aliases are."""
    text = getattr(definition.how, "text", "")
    return name_in(text) if text.startswith("`") else None


@dataclass(frozen=True)
class Description:
    """What a data frame is: a text."""

    text: str

    def AsString(self) -> str:
        """Return the text."""
        return self.text

    def Print(self) -> None:
        """Print the text."""
        print(self.text)

    def __str__(self) -> str:
        return self.text


def described(frame: Frame, cuts: Sequence[str]) -> Description:
    """Return where a frame's entries come from, how many there are, and its columns."""
    view = view_of(frame)
    indexes = view.index(())
    first = indexes[0]
    if first.format == "arrays":
        lines = ["Dataframe from arrays in memory"]
    elif len(indexes) == 1:
        lines = [f"Dataframe from {first.format} {first.object_path} in file {first.path}"]
    else:
        lines = [f"Dataframe from {first.format} {first.object_path} in {len(indexes)} files"]
        lines += [f"  {path}" for path in view.paths[:_MOST_FILES]]
        lines += [f"  and {len(indexes) - _MOST_FILES} more"] * (len(indexes) > _MOST_FILES)
    made = defined(frame)
    properties = [
        ["Columns in total", str(len(frame.columns))],
        ["Columns from defines", str(len(made))],
        ["Entries before cuts", str(frame.num_entries)],
        ["Cuts", ", ".join(cuts) or "none"],
    ]
    columns = [
        [name, type_name(frame, name), "Define" if name in made else "Dataset"]
        for name in sorted(frame.columns)
    ]
    lines += ["", *_lined(["Property", "Value"], properties)]
    lines += ["", *_lined(["Column", "Type", "Origin"], columns)] if columns else []
    return Description("\n".join(lines))


def _lined(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    every = [head, ["-" * len(title) for title in head], *rows]
    widths = [max(map(len, cells)) for cells in zip(*every, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in every]
    return ["    ".join(row).rstrip() for row in padded]


@dataclass(frozen=True)
class Displayed:
    """Some entries as a table, one line for each element of a vector.

    Attributes
    ----------
    columns : tuple of str
    numbers : tuple of int
        Of the entries, over all files.
    entries : tuple of tuple of list of str
        For each entry and column, the lines.
    most : int
        Elements of a vector that `Print` shows.
    """

    columns: tuple[str, ...]
    numbers: tuple[int, ...]
    entries: tuple[tuple[list[str], ...], ...]
    most: int

    def AsString(self) -> str:
        """Return the table, with all elements of vectors."""
        return self._text(None)

    def Print(self) -> None:
        """Print the table, with the first elements of vectors."""
        print(self._text(self.most), end="")

    def __str__(self) -> str:
        return self.AsString()

    def _text(self, most: int | None) -> str:
        rows = []
        for number, cells in zip(self.numbers, self.entries, strict=True):
            shown = [_shortened(cell, most) for cell in cells]
            height = max([1, *map(len, shown)])
            columns = [[str(number)], *shown]
            rows.append([[*cell, *[""] * (height - len(cell))] for cell in columns])
        heads = ["Row", *self.columns]
        lines = [[str(number) for number in self.numbers]]
        lines += [[line for cell in cells for line in cell] for cells in self._by_column()]
        for row in rows:
            for some, cell in zip(lines, row, strict=True):
                some += cell
        widths = [max(map(len, [head, *some])) for head, some in zip(heads, lines, strict=True)]
        rule = "+" + "".join("-" * (width + 2) + "+" for width in widths)

        def line(cells: Sequence[str]) -> str:
            pairs = zip(cells, widths, strict=True)
            return "|" + "".join(f" {cell.ljust(width)} |" for cell, width in pairs) + " "

        text = [rule, line(heads), rule]
        for row in rows:
            text += [*(line(cells) for cells in zip(*row, strict=True)), rule]
        return "\n".join(text) + "\n"

    def _by_column(self) -> list[tuple[list[str], ...]]:
        return list(zip(*self.entries, strict=True)) or [()] * len(self.columns)


def _shortened(lines: list[str], most: int | None) -> list[str]:
    return lines if most is None or len(lines) <= most else [*lines[:most], "..."]


def displayed(
    arrays: Mapping[str, Any], names: Sequence[str], numbers: Sequence[int], most: int
) -> Displayed:
    """Return entries with their numbers as a table: some of the columns, all of equal length."""
    cells = [[_lines(value) for value in arrays[name]] for name in names]
    return Displayed(tuple(names), tuple(numbers), tuple(zip(*cells, strict=True)), most)


def _lines(value: Any) -> list[str]:
    import awkward as ak

    if isinstance(value, ak.Array | np.ndarray):
        values = np.asarray(value).reshape(-1) if isinstance(value, np.ndarray) else value
        return [line for each in values for line in _lines(each)]
    if isinstance(value, str):
        return [f'"{value}"']
    if isinstance(value, bool | np.bool_):
        return [str(bool(value)).lower()]
    return [f"{value:f}" if isinstance(value, float | np.floating) else str(value)]
