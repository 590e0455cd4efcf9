"""Sums, products, means and variances of integers: NumPy's in the Python dialect, at any size."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from expression.helpers import define, jagged, outputs, types_of, value
from rootfeed.expression import Outputs, compile_outputs, infer
from rootfeed.schema import Jagged

INTEGERS = ["bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))]
DTYPES = [*INTEGERS, "float32", "float64"]

TEXTS = {
    "Sum(v)": np.sum,
    "sum(v)": np.sum,
    "np.sum(v)": np.sum,
    "Product(v)": np.prod,
    "Mean(v)": lambda v: np.mean(v) if len(v) else 0.0,
    "np.mean(v)": lambda v: np.mean(v) if len(v) else 0.0,
    "Var(v)": lambda v: np.var(v, ddof=1) if len(v) > 1 else 0.0,
    "StdDev(v)": lambda v: np.std(v, ddof=1) if len(v) > 1 else 0.0,
    "Dot(v, v)": lambda v: np.sum(wide(v) * wide(v)),
    "Sum(v[v > 0])": lambda v: np.sum(v[v > 0]),
    "Mean(v[v > 0])": lambda v: np.mean(v[v > 0]) if (v > 0).any() else 0.0,
    "Sum(v > 1)": lambda v: np.sum(v > 1),
}


def wide(v: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return v if v.dtype.kind == "f" else v.astype("u8" if v.dtype.kind == "u" else "i8")


@cache
def compiled(dtype: str) -> Outputs:
    steps = [define(text, text) for text in TEXTS]
    return compile_outputs(steps, list(TEXTS), types_of({"v": jagged(dtype, [])}), "python")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_of_integers_they_are_those_of_numpy(dtype: str) -> None:
    kernel = compiled(dtype)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(arrays(dtype, st.integers(0, 20)), min_size=1, max_size=3))
    def check(vectors: list[np.ndarray[Any, Any]]) -> None:
        column = jagged(dtype, *vectors)
        outs = {name: np.empty(len(vectors), kernel.types[name].dtype) for name in TEXTS}
        take = np.arange(len(vectors), dtype=np.int32)
        kernel.run({"v": column}, 0, 0, take, "file", outs)
        for text, reference in TEXTS.items():
            with np.errstate(all="ignore"):
                wanted = np.array([reference(vector) for vector in vectors])
            if wanted.dtype.kind == "f":
                scale = float(max(np.abs(vector.astype("f8")).max(initial=0) for vector in vectors))
                power = 2 if text == "Var(v)" else 1
                np.testing.assert_allclose(
                    outs[text], wanted, rtol=1e-9, atol=(1e-7 * scale) ** power, err_msg=text
                )
            else:
                np.testing.assert_array_equal(outs[text], wanted, text)
                assert outs[text].dtype == wanted.dtype, text

    check()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_floats_they_are_floats(dtype: str) -> None:
    column = jagged(dtype, [1.5, -2.25, 8], [], [0.5])
    texts = ["Sum(v)", "Product(v)", "Mean(v)", "Dot(v, v)"]
    found = outputs([define(text, text) for text in texts], texts, inputs={"v": column}, take=[0, 1, 2])
    wanted = {
        "Sum(v)": [7.25, 0, 0.5],
        "Product(v)": [-27, 1, 0.5],
        "Mean(v)": [7.25 / 3, 0, 0.5],
        "Dot(v, v)": [71.3125, 0, 0.25],
    }
    for text in texts:
        array = found[text]
        assert isinstance(array, np.ndarray)
        assert array.dtype == ("float64" if text == "Mean(v)" else dtype)
        np.testing.assert_allclose(array, np.array(wanted[text]), rtol=1e-12)


@pytest.mark.parametrize("dtype", INTEGERS[1:])
def test_what_does_not_fit_into_an_element_fits_into_its_sum(dtype: str) -> None:
    most = np.iinfo(dtype).max
    inputs = {"v": jagged(dtype, [most // 2 + 1, most // 2 + 1])}
    if np.dtype(dtype).itemsize < 8:
        assert value("Sum(v)", inputs=inputs, take=[0]) == [2 * (most // 2 + 1)]
        assert value("Dot(v, v)", inputs=inputs, take=[0]) == [2 * (most // 2 + 1) ** 2]
    assert value("Mean(v)", inputs=inputs, take=[0]) == [float(most // 2 + 1)]
    assert value("StdDev(v)", inputs=inputs, take=[0]) == [0]
    # In C++ a sum has the type of its elements, as in ROOT.
    assert value("Sum(v)", "c++", inputs=inputs, take=[0]) == [
        np.array(2 * (most // 2 + 1)).astype(dtype)
        if np.dtype(dtype).itemsize < 8
        else np.array([most // 2 + 1] * 2, dtype).sum(dtype=dtype)
    ]


def test_a_list_and_an_expression_are_added_in_64_bits() -> None:
    inputs = {"s": np.array([2_000_000_000], "i4"), "v": jagged("i4", [1_500_000_000, 1_500_000_000])}
    assert value("Sum([s, s])", inputs=inputs, take=[0]) == [4_000_000_000]
    assert value("Sum(v[v > 0])", inputs=inputs, take=[0]) == [3_000_000_000]
    assert value("Mean(-v)", inputs=inputs, take=[0]) == [-1_500_000_000]


@pytest.mark.parametrize("text", ["Sum(v)", "Product(v)", "Dot(v, v)"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_types_are_known_before_anything_is_compiled(text: str, dtype: str) -> None:
    types = types_of({"v": Jagged(np.empty(0, dtype), np.zeros(1, np.int64))})
    unsigned = dtype.startswith("uint")
    found = infer([define("r", text)], types, "python")["r"]
    assert found.dtype == ("uint64" if unsigned else "int64")
