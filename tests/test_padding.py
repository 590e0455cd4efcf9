"""The kernels for vectors against plain twins, at the edges of their buffers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
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


@given(given_=ragged(), length=st.integers(1, 12), ordered=st.booleans(), data=st.data())
def test_kept_elements(
    given_: tuple[np.ndarray, list[list[int]]], length: int, ordered: bool, data: Any
) -> None:
    offsets, vectors = given_
    lengths = np.diff(offsets).astype(np.int32)
    order, wanted = NONE, vectors
    if ordered:
        orders = [data.draw(st.permutations(range(len(vector)))) for vector in vectors]
        order = np.array([place for each in orders for place in each], np.int32)
        wanted = [[vector[j] for j in each] for vector, each in zip(vectors, orders, strict=True)]
    expected = [element for vector in wanted for element in vector[:length]]
    out = np.full(len(expected) + 3, -7, np.int32)
    kernels.kept_elements(lengths, order, length, out[: len(expected)])
    assert out.tolist() == [*expected, -7, -7, -7]


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@given(
    given_=ragged(),
    columns=st.integers(1, 5),
    length=st.integers(1, 12),
    position=st.integers(0, 3),
    slack=st.integers(0, 3),
    chooses=st.booleans(),
    data=st.data(),
)
def test_pad(
    itemsize: int,
    given_: tuple[np.ndarray, list[list[int]]],
    columns: int,
    length: int,
    position: int,
    slack: int,
    chooses: bool,
    data: Any,
) -> None:
    offsets, vectors = given_
    word = np.dtype(f"u{itemsize}")
    matrix = (np.arange(offsets[-1] + slack) + 100 * np.arange(columns)[:, None]).astype(word)
    chosen = NONE
    if chooses:
        vectors = [data.draw(st.permutations(vector))[:length] for vector in vectors]
        chosen = np.array([element for vector in vectors for element in vector], np.int32)
    else:
        length = max([length, *map(len, vectors)])
    lengths = np.array([len(vector) for vector in vectors], np.int32)
    out = np.full((len(vectors), position + length * columns + slack), 7, word)
    kernels.pad(matrix, chosen, lengths, length, word.type(9), position, out)
    for row, vector in zip(out, vectors, strict=True):
        expected = np.full((length, columns), 9, word)
        expected[: len(vector)] = matrix[:, vector].T
        assert row[position : position + length * columns].tolist() == expected.ravel().tolist()
        assert (row[:position] == 7).all()
        assert (row[position + length * columns :] == 7).all()


Lying = tuple[list[list[np.ndarray]], np.ndarray, np.ndarray]


@st.composite
def lying(draw: st.DrawFn, element_bytes: int, length: int) -> Lying:
    """Vectors of rows that lie in memory of their own, anywhere, with their addresses and lengths."""
    rows, kinds = draw(st.integers(0, 30)), draw(st.integers(1, 3))
    vectors = [
        [
            np.array(draw(st.binary(min_size=size, max_size=size))).reshape(-1).view(np.uint8)
            if (size := element_bytes * draw(st.integers(0, length)))
            else np.empty(0, np.uint8)
            for _ in range(kinds)
        ]
        for _ in range(rows)
    ]
    addresses = np.array([[each.ctypes.data for each in row] for row in vectors], np.uint64)
    lengths = np.array([[len(each) // element_bytes for each in row] for row in vectors], np.int32)
    return vectors, addresses.reshape(rows, kinds), lengths.reshape(rows, kinds)


@pytest.mark.parametrize("element_bytes", [1, 2, 12, 40])
@pytest.mark.parametrize("length", [1, 7, 40])
@settings(suppress_health_check=[HealthCheck.data_too_large])  # those examples are left out
@given(data=st.data())
def test_gathered_vectors(element_bytes: int, length: int, data: Any) -> None:
    vectors, addresses, lengths = data.draw(lying(element_bytes, length))
    rows, width = len(vectors), element_bytes * length
    number = data.draw(st.integers(0, addresses.shape[1] - 1))
    padding = np.arange(1, 1 + width).astype(np.uint8)
    marks = np.repeat(np.array([1, 0], np.uint8), length)
    # Two batches that need some of their rows; memory of one more shows if anything is written there.
    addresses, lengths = np.concatenate([addresses] * 2), np.concatenate([lengths] * 2)
    sizes = np.array([data.draw(st.integers(0, rows)), rows])
    outs, masks = (np.full((2, (rows + 1) * size), 7, np.uint8) for size in (width, length))
    arguments = addresses, lengths, number, element_bytes, sizes
    kernels.gather_padded(*arguments, padding, marks, outs, masks)
    flat, ends = np.full((2, rows * width + 5), 7, np.uint8), np.full((2, rows + 3), -1)
    kernels.gather_ragged(*arguments, flat, ends)
    for batch, size in enumerate(sizes.tolist()):
        own = [row[number].tolist() for row in vectors[:size]]
        out, mask = outs[batch].reshape(rows + 1, width), masks[batch].reshape(rows + 1, length)
        for vector, found, real in zip(own, out, mask, strict=False):
            # A row of padding is given whole, so that each gap is filled as its start says.
            assert found.tolist() == vector + padding[: width - len(vector)].tolist()
            count = len(vector) // element_bytes
            assert real.tolist() == [1] * count + [0] * (length - count)
        assert (out[size:] == 7).all()
        assert (mask[size:] == 7).all()
        joined = [byte for vector in own for byte in vector]
        assert flat[batch].tolist() == joined + [7] * (flat.shape[1] - len(joined))
        counts = np.cumsum([0, *(len(vector) // element_bytes for vector in own)])
        assert ends[batch].tolist() == [*counts, *[-1] * (rows + 2 - size)]
