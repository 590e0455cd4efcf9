"""What a user's function is: its code, and what it takes from outside of it.

Two functions that are told alike compute the same, as far as anybody can tell: what a name stands for
may change between two uses of a function, and be another thing in another process, which finds functions
by their names.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import xxhash

__all__ = ["Meaning", "bytecode", "changed", "meaning", "taken"]

Meaning = dict[str, Any]
"""What names stand for; the code has none. Of texts, tuples and dicts: equal where things are alike."""

_CODE, _DEFAULTS = "", "its defaults"
_GLOBALS, _CELLS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"}), frozenset({"LOAD_DEREF"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_BETWEEN = frozenset({"EXTENDED_ARG", "PUSH_NULL", "CACHE"})
_ALTERS = frozenset({"STORE_SUBSCR", "DELETE_SUBSCR"})
_READS = frozenset({"copy", "count", "get", "index", "items", "keys", "values"})  # of a list or a dict
_MOST_ITEMS = 1000  # of what is compared item by item
_CHANGES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"})


class _Use(NamedTuple):
    """A name in code, how it is used, and the attributes that are asked of it."""

    name: str
    operation: str
    attributes: tuple[str, ...] = ()


def meaning(function: Callable[..., Any]) -> Meaning:
    """Return what a function is; nothing of what is none that Python compiled.

    Functions that it calls are looked into where they are of the same package. What changes by its own
    doing is left out, and of objects that are no plain values, nothing is told but their class.
    """
    found = _function(function)
    return {} if found is None else _meaning(found, _package(found), set())


def taken(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return what a function takes from outside, without code: each Python has its own."""
    return sorted(_without_code(meaning(function)).items())


def changed(before: Meaning, now: Meaning) -> str:
    """Return what is not as it was, as messages say it; empty where all is."""
    for name in (*before, *now):
        one, other = before.get(name), now.get(name)
        if one != other:
            return f"{name} ({_shown(one)}, and {_shown(other)} here)" if name else "other code"
    return ""


def _without_code(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: _without_code(each) for name, each in told.items() if name != _CODE}
    return tuple(map(_without_code, told)) if isinstance(told, tuple) else told


def _function(value: Any) -> FunctionType | None:
    plain = getattr(value, "py_func", value)  # of what Numba has compiled
    return plain if isinstance(plain, FunctionType) else None


def _package(function: FunctionType) -> str:
    return (function.__module__ or "").partition(".")[0]


def _meaning(function: FunctionType, package: str, seen: set[int]) -> Meaning:
    seen.add(id(function))
    code = function.__code__
    told: Meaning = {_CODE: bytecode(code)}
    if function.__defaults__ or function.__kwdefaults__:
        told[_DEFAULTS] = _told(
            (function.__defaults__, tuple((function.__kwdefaults__ or {}).items())), package, seen
        )
    uses = list(_uses(code))
    own = {use.name for use in uses if use.operation in _CHANGES}
    alters = any(use.operation in _ALTERS for use in uses)
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    for name, operation, attributes in uses:
        try:
            value = cells[name].cell_contents if operation in _CELLS else function.__globals__[name]
        except (KeyError, ValueError):  # another scope's, or nothing yet
            continue
        path = name
        for attribute in attributes:
            if not isinstance(value, ModuleType) or attribute not in vars(value):
                break
            value, path = vars(value)[attribute], f"{path}.{attribute}"
        if isinstance(value, list | dict) and (alters or not _READS.issuperset(attributes)):
            value = type(value)  # it may be changed by the function, as a cache of its results is
        if name not in own:
            told[path] = _told(value, package, seen)
    return told


def bytecode(code: CodeType) -> Any:
    """Return what Python made of a function's text, and of those within it: the same in each process."""
    constants = tuple(map(_constant, code.co_consts))
    return code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return bytecode(value)
    if isinstance(value, frozenset):  # whose order differs from process to process
        return "frozenset", tuple(sorted(map(repr, value)))
    return repr(value)


def _uses(code: CodeType) -> Iterator[_Use]:
    """Yield which names code looks for outside, or changes there."""
    use: _Use | None = None
    for each in dis.get_instructions(code):
        if each.opname in _BETWEEN:
            continue
        if use is not None and each.opname in _ATTRIBUTES:
            use = use._replace(attributes=(*use.attributes, str(each.argval)))
            continue
        if use is not None:
            yield use
        is_use = each.opname in _GLOBALS | _CELLS | _CHANGES | _ALTERS
        use = _Use(str(each.argval), each.opname) if is_use else None
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _uses(inner)


def _told(value: Any, package: str, seen: set[int]) -> Any:
    """Return what stands for a value."""
    kind = type(value).__qualname__
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return kind, repr(value)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(value).view(np.uint8).data)
        return kind, str(value.dtype), value.shape, digest
    if isinstance(value, tuple | list | dict):
        if id(value) in seen or len(value) > _MOST_ITEMS:
            return kind, str(len(value))
        items = value.items() if isinstance(value, dict) else value
        return kind, tuple(_told(each, package, seen | {id(value)}) for each in items)
    function = _function(value)
    if function is not None and id(function) not in seen and _package(function) == package:
        return _meaning(function, package, seen)
    name = getattr(function or value, "__qualname__", getattr(value, "__name__", None))
    if isinstance(name, str):
        return str(getattr(function or value, "__module__", "")), name
    return kind


def _shown(told: Any) -> str:
    """Return a value as messages show it."""
    if isinstance(told, tuple) and len(told) == 2 and all(isinstance(each, str) for each in told):
        return told[1] if len(told[1]) <= 40 else f"{told[1][:40]}…"
    return "nothing" if told is None else "something else"
