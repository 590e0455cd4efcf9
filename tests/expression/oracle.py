"""What ROOT's own RDataFrame makes of expressions, all of them in one event loop.

The columns are made by RDataFrame itself from the number of the entry, so that no file is needed; their
values come back the same way as those of the expressions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootfeed.schema import ColumnType, Jagged
from rootfiles import load_root

ENTRIES = 96

CPP = {
    "bool": "bool",
    "int8": "signed char",
    "uint8": "unsigned char",
    "int16": "short",
    "uint16": "unsigned short",
    "int32": "int",
    "uint32": "unsigned int",
    "int64": "long long",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
}
"""The name in C++ of every dtype."""

SHORT = {"bool": "b", **{k: k[0] + str(np.dtype(k).itemsize) for k in CPP if k != "bool"}}
"""The names of the columns: `i4`, `f8`; vectors have a `v` before them, `v_i4`."""

DECLARATIONS = r"""
#include <cmath>
#include <type_traits>
namespace rootfeed_oracle {
// Uniform in [0, 1): the same whatever the compiler.
inline double noise(ULong64_t entry, ULong64_t salt) {
   ULong64_t z = (entry + 1) * 0x9E3779B97F4A7C15ull + salt * 0xBF58476D1CE4E5B9ull;
   z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
   z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
   return double((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}
template <typename T> T number(ULong64_t entry, ULong64_t salt) {
   const double x = noise(entry, salt);
   if (std::is_same<T, bool>::value) return T(x > 0.5);
   if (std::is_floating_point<T>::value) return T(20 * x - 8);
   // Every fourth one is as large as the type allows, so that arithmetic wraps.
   if (entry % 4 == 3) return T(ULong64_t(x * 9007199254740992.0) * 2654435761ull);
   const int small = int(x * 24);
   return T(std::is_signed<T>::value ? small - 12 : small);
}
template <typename T> ROOT::RVec<T> numbers(ULong64_t entry, ULong64_t salt, std::size_t n) {
   ROOT::RVec<T> v(n);
   for (std::size_t i = 0; i < n; ++i) v[i] = number<T>(entry * 131 + i, salt + 1000);
   return v;
}
template <typename T>
ROOT::RVec<T> reals(ULong64_t entry, ULong64_t salt, std::size_t n, double a, double b) {
   ROOT::RVec<T> v(n);
   for (std::size_t i = 0; i < n; ++i) v[i] = T(a + (b - a) * noise(entry * 131 + i, salt));
   return v;
}
template <typename T>
using Wide = std::conditional_t<std::is_floating_point<T>::value, double, long long>;
template <typename T> std::vector<Wide<T>> flat(const std::vector<T> &given) {
   std::vector<Wide<T>> out;
   for (auto x : given) out.push_back(Wide<T>(x));
   return out;
}
template <typename T> std::vector<Wide<T>> elements(const std::vector<ROOT::RVec<T>> &given) {
   std::vector<Wide<T>> out;
   for (auto &v : given) for (auto x : v) out.push_back(Wide<T>(x));
   return out;
}
template <typename T> std::vector<long long> lengths(const std::vector<ROOT::RVec<T>> &given) {
   std::vector<long long> out;
   for (auto &v : given) out.push_back(v.size());
   return out;
}
}
"""

VECTOR = re.compile(r"(?:ROOT::)?(?:VecOps::)?RVec<(.*)>$")
ALIASES = {
    "Bool_t": "bool",
    "char": "signed char",
    "Char_t": "signed char",
    "long": "long long",
    "Long64_t": "long long",
    "unsigned long": "unsigned long long",
    "ULong64_t": "unsigned long long",
    "size_t": "unsigned long long",
    "std::size_t": "unsigned long long",
    "Int_t": "int",
    "UInt_t": "unsigned int",
    "Float_t": "float",
    "Double_t": "double",
}
DTYPES = {name: np.dtype(dtype) for dtype, name in CPP.items()}


def made_columns() -> dict[str, str]:
    """Name and C++ of every column that expressions are tried on."""
    columns = {}
    space = "rootfeed_oracle::"
    for salt, (dtype, name) in enumerate(CPP.items()):
        short = SHORT[dtype]
        cpp = name.replace("long long", "Long64_t").replace("unsigned Long64_t", "ULong64_t")
        for copy, prefix in enumerate(("", "k_")):
            columns[prefix + short] = f"{space}number<{cpp}>(rdfentry_, {2 * salt + copy})"
        for copy, prefix in enumerate(("v_", "w_")):
            columns[prefix + short] = (
                f"{space}numbers<{cpp}>(rdfentry_, {2 * salt + copy}, rdfentry_ % 7)"
            )
    for kind in ("float", "double"):
        last = kind[0] if kind == "float" else "d"
        for salt, (name_, low, high) in enumerate(
            [("pt", 5, 90), ("eta", -2.5, 2.5), ("phi", -3.1, 3.1), ("mass", 0.1, 5), ("unit", -1, 1)]
        ):
            args = f"rdfentry_, {100 + salt}, rdfentry_ % 7, {low}, {high}"
            columns[f"{name_}_{last}"] = f"{space}reals<{kind}>({args})"
            other = f"rdfentry_, {200 + salt}, rdfentry_ % 7, {low}, {high}"
            columns[f"{name_}2_{last}"] = f"{space}reals<{kind}>({other})"
            args = f"rdfentry_, {300 + salt}, 1 + rdfentry_ % 5, {low}, {high}"
            columns[f"some_{name_}_{last}"] = f"{space}reals<{kind}>({args})"
            columns[f"s_{name_}_{last}"] = (
                f"{kind}({low} + ({high} - ({low})) * {space}noise(rdfentry_, {400 + salt}))"
            )
    return columns


def for_root(text: str) -> str:
    """Return a text with the namespaces that ROOT insists on; it cannot tokenize ``~`` either."""
    qualified = re.sub(r"(?<![\w:])(Range|DeltaPhi|DeltaR2?|RVec[A-Z]+)\b", r"ROOT::VecOps::\1", text)
    return qualified.replace("ROOT::VecOps::RVec", "ROOT::RVec").replace("~", "compl ")


@dataclass
class Truth:
    """Columns and expressions with their values.

    Attributes
    ----------
    types : mapping of str to ColumnType
        Of the columns.
    inputs : mapping of str to ndarray or Jagged
    values : list of ndarray or Jagged
        Of the expressions, in ROOT's own types.
    passing : list of list of int
        The entries that each cut passes.
    flow : list of list of int
        The entries that are left after each of some cuts that stand one after another.
    """

    types: Mapping[str, ColumnType]
    inputs: Mapping[str, np.ndarray[Any, Any] | Jagged]
    values: list[np.ndarray[Any, Any] | Jagged]
    passing: list[list[int]]
    flow: list[list[int]]


def frame_of_columns() -> Any:
    """Return a data frame of ROOT's with all columns."""
    root = load_root()
    if not hasattr(root, "rootfeed_oracle"):
        assert root.gInterpreter.Declare(DECLARATIONS)
    frame = root.RDataFrame(ENTRIES)
    for name, text in made_columns().items():
        frame = frame.Define(name, text)
    return frame


def evaluate(expressions: Sequence[str], cuts: Sequence[str], flow: Sequence[str]) -> Truth:
    """Have ROOT evaluate expressions, cuts, and cuts one after another, all in one event loop."""
    frame = frame_of_columns()
    space = load_root().rootfeed_oracle
    columns = made_columns()
    passing = [frame.Filter(for_root(cut)) for cut in cuts]
    left = [frame]
    for cut in flow:
        left.append(left[-1].Filter(for_root(cut)))
    entries = [cut.Take["ULong64_t"]("rdfentry_") for cut in (*passing, *left[1:])]
    for number, text in enumerate(expressions):
        frame = frame.Define(f"expression_{number}", for_root(text))
    wanted = [*columns, *(f"expression_{number}" for number in range(len(expressions)))]
    booked = []
    for name in wanted:
        cpp = str(frame.GetColumnType(name))
        booked.append((cpp, frame.Take[cpp](name)))
    found = []
    for cpp, result in booked:
        vector = VECTOR.match(cpp)
        element = (vector[1] if vector else cpp).strip()
        dtype = DTYPES[ALIASES.get(element, element)]
        values = result.GetValue()
        if vector:
            numbers = np.array(space.elements[element](values)).astype(dtype)
            ends = np.cumsum(np.array(space.lengths[element](values), np.int64))
            found.append(Jagged(numbers, np.concatenate([[0], ends]).astype(np.int64)))
        else:
            found.append(np.array(space.flat[element](values)).astype(dtype))
    inputs = dict(zip(columns, found, strict=False))
    types = {
        name: ColumnType("vector", "vector", value.values.dtype)
        if isinstance(value, Jagged)
        else ColumnType(str(value.dtype), "scalar", value.dtype)
        for name, value in inputs.items()
    }
    numbers_ = [[int(entry) for entry in each.GetValue()] for each in entries]
    values_ = found[len(columns) :]
    return Truth(types, inputs, values_, numbers_[: len(cuts)], numbers_[len(cuts) :])


def is_cut(frame: Any, text: str) -> bool:
    """Whether ROOT takes a text as a cut."""
    try:
        frame.Filter(for_root(text))
    except Exception as error:
        if "does not evaluate to bool" in str(error):
            return False
        raise
    return True
