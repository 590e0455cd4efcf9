"""The kernels for vectors against plain twins, at the edges of their buffers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed import kernels

NONE = np.empty(0, np.int32)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]]]:
    """Offsets, and vectors of distinct numbers."""
    lengths = draw(st.lists(st.integers(0, 30), max_size=12))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    vectors = [list(range(a, b)) for a, b in itertools.pairwise(offsets)]
    return offsets, vectors


@st.composite
def chosen(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
    offsets, vectors = draw(ragged())
    keep = draw(st.lists(st.booleans(), min_size=len(vectors), max_size=len(vectors)))
    return offsets, vectors, np.flatnonzero(keep).astype(np.int32)


@given(given_=chosen())
def test_lengths(given_: tuple[np.ndarray, list[list[int]], np.ndarray]) -> None:
    offsets, vectors, take = given_
    out = np.full(len(vectors), -1, np.int32)
    kernels.lengths_of(offsets, NONE, out)
    assert out.tolist() == [len(vector) for vector in vectors]
    assert kernels.first_unequal(offsets, NONE, out) == -1
    if len(take):
        some = np.full(len(take), -1, np.int32)
        kernels.lengths_of(offsets, take, some)
        assert some.tolist() == [len(vectors[entry]) for entry in take]
        assert kernels.first_unequal(offsets, take, some) == -1
        some[-1] += 1
        assert kernels.first_unequal(offsets, take, some) == len(take) - 1


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@given(given_=chosen())
def test_taken_elements(itemsize: int, given_: tuple[np.ndarray, list[list[int]], np.ndarray]) -> None:
    offsets, vectors, take = given_
    values = np.arange(offsets[-1]).astype(f"u{itemsize}")
    expected = [value for entry in take for value in vectors[entry]]
    out = np.zeros(len(expected) + 4, f"u{itemsize}")
    kernels.take_elements(values, offsets, take, out[: len(expected)])
    assert out.tolist() == [*np.array(expected, int).astype(f"u{itemsize}").tolist(), 0, 0, 0, 0]


KEYS = st.lists(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, -np.inf, np.inf, np.nan, 0.5]), max_size=40), max_size=6
)


@given(vectors=KEYS)
def test_descending_order(vectors: list[list[float]]) -> None:
    lengths = np.array([len(vector) for vector in vectors], np.int32)
    keys = np.array([key for vector in vectors for key in vector], np.float64)
    out = np.full(len(keys), -1, np.int32)
    kernels.sort_descending(keys, lengths, out)
    start = 0
    for vector in vectors:
        order = out[start : start + len(vector)].tolist()
        start += len(vector)
        # Python's sort is stable, too.
        assert order == sorted(
            range(len(vector)), key=lambda j: (np.isnan(vector[j]), -np.nan_to_num(vector[j], nan=0))
        )


@pytest.mark.parametrize("itemsize", [2, 4, 8])
@given(
    given_=ragged(),
    columns=st.integers(1, 5),
    length=st.integers(1, 12),
    position=st.integers(0, 3),
    slack=st.integers(0, 3),
    ordered=st.booleans(),
    data=st.data(),
)
def test_pad_and_unpad(
    itemsize: int,
    given_: tuple[np.ndarray, list[list[int]]],
    columns: int,
    length: int,
    position: int,
    slack: int,
    ordered: bool,
    data: Any,
) -> None:
    offsets, vectors = given_
    word = np.dtype(f"u{itemsize}")
    lengths = np.diff(offsets).astype(np.int32)
    matrix = (np.arange(offsets[-1]) + 1000 * np.arange(columns)[:, None]).astype(word)
    order = NONE
    if ordered:
        orders = [data.draw(st.permutations(range(len(vector)))) for vector in vectors]
        order = np.array([place for each in orders for place in each], np.int32)
    out = np.full((len(vectors), position + length * columns + slack), 7, word)
    cut = kernels.pad(matrix, lengths, order, length, word.type(9), position, out)
    assert cut == sum(len(vector) > length for vector in vectors)
    for row, vector in enumerate(vectors):
        wanted = vector
        if ordered and len(order):
            wanted = [vector[place] for place in orders[row]]
        expected = np.full((length, columns), 9, word)
        for j, element in enumerate(wanted[:length]):
            expected[j] = matrix[:, element]
        assert out[row, position : position + length * columns].tolist() == expected.ravel().tolist()
        assert (out[row, :position] == 7).all()
        assert (out[row, position + length * columns :] == 7).all()
    if position == slack == 0 and len(vectors):
        short = np.minimum(lengths, length)
        starts = np.concatenate([[0], np.cumsum(short)]).astype(np.int64)
        values = np.zeros((starts[-1], columns), word)
        kernels.unpad(out.reshape(len(vectors), length, columns), starts, values)
        for row in range(len(vectors)):
            kept = values[starts[row] : starts[row + 1]]
            assert kept.ravel().tolist() == out[row, : short[row] * columns].tolist()
