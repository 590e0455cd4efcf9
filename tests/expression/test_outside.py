"""What a user's function takes from outside: told where it is another thing, and only there."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

from rootfeed.errors import ArgumentError
from rootfeed.expression import Definition
from rootfeed.expression.outside import changed, meaning

settings = ModuleType("settings")
settings.limit = 10  # type: ignore[attr-defined]


def helper(x: Any) -> Any:
    return x * scale


compiled_helper = numba.njit(helper)
limit: Any = 10
scale = 2
limits = np.array([1, 2])
cuts = {"pt": (20, [30.0])}
calls = 0
found: dict[Any, Any] = {}
listed: list[Any] = []
unused = 1
x = 3


def other_helper(x: Any) -> Any:
    return x * scale + 1


def by_number(x: Any) -> Any:
    return x < limit


def by_module(x: Any) -> Any:
    return x < settings.limit


def by_array(x: Any) -> Any:
    return x < limits[0]


def by_dict(x: Any) -> Any:
    return x < cuts["pt"][0]


def by_helper(x: Any) -> Any:
    return helper(x) < 10


def by_compiled_helper(x: Any) -> Any:
    return compiled_helper(x) < 10


def within(x: Any) -> Any:
    return [(lambda y: y < limit)(each) for each in x]


def counting(x: Any) -> Any:
    global calls
    calls += 1
    found[calls] = listed.append(calls)
    return np.sqrt(x).limit


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (by_number, "limit", 11),
        (by_number, "limit", 10.0),
        (by_number, "limit", np.int64(10)),
        (by_array, "limits", np.array([1, 3])),
        (by_array, "limits", np.array([1, 2], np.int16)),
        (by_dict, "cuts", {"pt": (20, [31.0])}),
        (by_helper, "helper", other_helper),
        (by_helper, "scale", 3),
        (by_compiled_helper, "compiled_helper", numba.njit(other_helper)),
        (by_compiled_helper, "scale", 3),
        (within, "limit", 11),
    ],
)
def test_another_value_is_told(
    function: Callable[..., Any], name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, sent = meaning(function), pickle.dumps(Definition("d", function))
    assert meaning(function) == before
    assert pickle.loads(sent).how is function
    monkeypatch.setitem(globals(), name, value)
    assert changed(before, meaning(function))
    with pytest.raises(ArgumentError, match=f"the function {function.__name__} for 'd' is not the one"):
        pickle.loads(sent)


def test_a_number_in_a_module_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = meaning(by_module)
    monkeypatch.setattr(settings, "limit", 20)
    assert changed(before, meaning(by_module)) == "settings.limit (10, and 20 here)"


def test_other_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(Definition("d", by_number))
    monkeypatch.setitem(globals(), "by_number", lambda x: x > limit)
    with pytest.raises(ArgumentError, match="from another process: other code"):
        pickle.loads(sent)


def test_every_process_tells_the_same() -> None:
    code = """
from rootfeed.expression.outside import meaning
names = ("a", "b")
def chosen(x):
    return x in {"one", "two", "three", "four"} and x not in names
print(meaning(chosen))
"""
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, check=True)
    one, other = (run(env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in "12")
    assert b"three" in one
    assert one == other


def test_defaults_and_cells_are_told() -> None:
    def made(limit: Any, default: Any) -> Callable[..., Any]:
        return lambda x, y=default: x < limit + y

    before = meaning(made(1, 2))
    assert not changed(before, meaning(made(1, 2)))
    assert changed(before, meaning(made(2, 2))) == "limit (1, and 2 here)"
    assert changed(before, meaning(made(1, 3))).startswith("its defaults")


def test_what_is_not_used_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = meaning(counting)
    for name in ("calls", "limit", "unused", "x"):  # changed by itself, an attribute, nothing, its own
        monkeypatch.setitem(globals(), name, 5)
    monkeypatch.setitem(found, 1, 2)
    monkeypatch.setitem(globals(), "listed", [1])
    assert meaning(counting) == before


def test_what_python_has_not_compiled_is_nothing() -> None:
    assert meaning(np.sqrt) == meaning(len) == {}
    assert pickle.loads(pickle.dumps(Definition("d", np.sqrt, ("x",)))).how is np.sqrt
