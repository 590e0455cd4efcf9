from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan import Sieve, Split

FILES = st.binary(min_size=16, max_size=16)
FRACTIONS = st.floats(0.001, 0.999)


def passing(sieve: Sieve, identity: bytes, entries: int) -> set[int]:
    found = sieve.positions(identity, entries, 0, entries)
    assert len(found) == sieve.count(identity, entries, 0, entries)
    assert np.all(np.diff(found) > 0)
    return set(found.tolist())


def test_no_split_lets_everything_pass() -> None:
    sieve = Sieve()
    assert not sieve
    assert sieve.count(b"file", 100, 10, 60) == 50
    assert sieve.positions(b"file", 100, 10, 60).tolist() == list(range(50))


@given(identity=FILES, entries=st.integers(1, 2000), fraction=FRACTIONS, seed=st.integers())
def test_two_sides_are_complements(identity: bytes, entries: int, fraction: float, seed: int) -> None:
    train, test = Sieve().divide(seed, fraction)
    kept, chosen = passing(train, identity, entries), passing(test, identity, entries)
    assert kept | chosen == set(range(entries))
    assert not kept & chosen
    assert abs(len(chosen) - fraction * entries) < 1 + 1e-9


@given(
    identity=FILES,
    entries=st.integers(1, 1500),
    fractions=st.lists(FRACTIONS, min_size=1, max_size=4),
    seed=st.integers(0, 2**63),
)
def test_nested_splits_are_disjoint_and_complete(
    identity: bytes, entries: int, fractions: list[float], seed: int
) -> None:
    sides = [Sieve()]
    for fraction in fractions:
        sides = [part for side in sides for part in side.divide(seed, fraction)]
    found = [passing(side, identity, entries) for side in sides]
    assert sum(len(part) for part in found) == entries
    assert set().union(*found) == set(range(entries))


def test_a_split_of_a_split_is_independent_of_the_first() -> None:
    # With one stream for both, test.divide would give everything or nothing.
    train, test = Sieve().divide(42, 0.5)
    for side in (train, test):
        inner = side.divide(42, 0.5)[1]
        size, count = len(passing(side, b"f", 20_000)), len(passing(inner, b"f", 20_000))
        assert abs(count - size / 2) < 5 * math.sqrt(size / 4)


@given(
    identity=FILES,
    entries=st.integers(1, 1000),
    fraction=FRACTIONS,
    data=st.data(),
)
def test_blocks_agree_with_the_file(
    identity: bytes, entries: int, fraction: float, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    for side in Sieve().divide(3, fraction)[0].divide(3, 0.3):
        whole = passing(side, identity, entries)
        part = side.positions(identity, entries, start, stop)
        assert {start + int(entry) for entry in part} == {e for e in whole if start <= e < stop}
        assert side.count(identity, entries, start, stop) == len(part)


def test_files_and_seeds_and_generations_differ() -> None:
    def chosen(seed: int, identity: bytes, generation: int = 0) -> set[int]:
        return passing(Sieve((Split(seed, generation, 0.5, True),)), identity, 6400)

    reference = chosen(1, b"a")
    for other in (chosen(2, b"a"), chosen(1, b"b"), chosen(1, b"a", 1)):
        # A half of the one lies in the other, by chance.
        assert abs(len(reference & other) - 1600) < 5 * 20
    assert chosen(1, b"a") == reference


def test_the_offset_of_files_is_fair() -> None:
    # A thousand files of one entry: a fifth of them, not none and not all.
    sieve = Sieve().divide(9, 0.2)[1]
    chosen = sum(sieve.count(str(number).encode(), 1, 0, 1) for number in range(5000))
    assert abs(chosen - 1000) < 5 * math.sqrt(5000 * 0.16)


def test_memberships_never_change() -> None:
    train, test = Sieve().divide(42, 0.25)
    assert test.positions(b"identity", 64, 0, 64).tolist() == CHOSEN
    assert train.divide(42, 0.5)[1].positions(b"identity", 64, 0, 64).tolist() == CHOSEN_THEN


def test_sieves_are_values() -> None:
    train, test = Sieve().divide(42, 0.25)
    assert train == Sieve().divide(42, 0.25)[0]
    assert train != test
    assert pickle.loads(pickle.dumps(train)) == train
    with pytest.raises(AttributeError):
        train.splits = ()  # type: ignore[misc]


CHOSEN = [2, 5, 7, 8, 13, 17, 23, 26, 27, 28, 43, 44, 54, 55, 61, 63]
CHOSEN_THEN = [
    0,
    1,
    3,
    6,
    10,
    14,
    16,
    19,
    25,
    30,
    31,
    36,
    37,
    38,
    39,
    40,
    42,
    46,
    51,
    52,
    56,
    58,
    59,
    60,
    62,
]
