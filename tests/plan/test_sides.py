from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rootfeed.plan import all_set, bit_mask, choose_among, members, random_key

ENTRIES = st.integers(0, 1500)
FRACTIONS = st.floats(0.0, 1.0)


def mask_of(words: np.ndarray, entries: int) -> np.ndarray:
    found = np.zeros(entries, bool)
    found[members(words, 0, entries)] = True
    return found


def some_mask(entries: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(entries) < share


# --- bits -----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(entries=ENTRIES, share=FRACTIONS, seed=st.integers(0, 10**6), data=st.data())
def test_bits_and_masks(entries: int, share: float, seed: int, data: st.DataObject) -> None:
    mask = some_mask(entries, share, seed)
    words = bit_mask(mask)
    assert words.dtype == np.uint64
    assert len(words) == -(-entries // 64)
    assert members(words, 0, entries).tolist() == np.flatnonzero(mask).tolist()
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    found = members(words, start, stop)
    assert found.dtype == np.int32
    assert found.tolist() == np.flatnonzero(mask[start:stop]).tolist()
    # Bits beyond the last entry are not set: they would be counted in other files' words.
    assert sum(int(word).bit_count() for word in words) == mask.sum()


@pytest.mark.parametrize("entries", [0, 1, 63, 64, 65, 128, 1000])
def test_all_are_set(entries: int) -> None:
    assert np.array_equal(all_set(entries), bit_mask(np.ones(entries, bool)))
    assert np.array_equal(members(all_set(entries), 0, entries), np.arange(entries))


def test_where_bits_lie() -> None:
    mask = np.zeros(130, bool)
    mask[[0, 63, 64, 129]] = True
    assert bit_mask(mask).tolist() == [1 | 1 << 63, 1, 2]


# --- a random part --------------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    entries=ENTRIES,
    share=st.one_of(st.just(1.0), FRACTIONS),
    fraction=FRACTIONS,
    seed=st.integers(0, 10**6),
)
@example(1000, 1.0, 0.0, 0)
@example(1000, 1.0, 1.0, 0)
@example(1000, 0.5, 1.0, 0)
@example(0, 1.0, 0.5, 0)
def test_a_part_is_exact(entries: int, share: float, fraction: float, seed: int) -> None:
    mask = some_mask(entries, share, seed)
    chosen = choose_among(bit_mask(mask), entries, fraction, random_key(seed, "split"))
    assert len(chosen) == -(-entries // 64)
    found = mask_of(chosen, entries)
    assert not (found & ~mask).any()
    assert abs(found.sum() - fraction * mask.sum()) < 1 + 1e-9
    # Also each stretch of 64 of those that are in.
    picked = found[mask]
    for start in range(0, len(picked) - 63, 64):
        assert abs(picked[start : start + 64].sum() - fraction * 64) < 1 + 1e-9
    if fraction in (0.0, 1.0):
        assert np.array_equal(found, mask & bool(fraction))


@settings(max_examples=40)
@given(
    entries=ENTRIES,
    fractions=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=4),
    seed=st.integers(0, 2**63),
)
def test_nested_parts_are_disjoint_and_complete(entries: int, fractions: list[float], seed: int) -> None:
    sides = [all_set(entries)]
    for generation, fraction in enumerate(fractions):
        parts = []
        for side in sides:
            chosen = choose_among(side, entries, fraction, random_key(seed, "split", generation))
            parts += [side & ~chosen, chosen]
        sides = parts
    found = sum(mask_of(side, entries).astype(int) for side in sides)
    assert np.array_equal(found, np.ones(entries, int))


def test_what_is_chosen_depends_on_nothing_else() -> None:
    one, two = all_set(6400), all_set(6400)
    key = random_key(1, "split", 0, b"a")
    reference = choose_among(one, 6400, 0.5, key)
    assert np.array_equal(choose_among(two, 6400, 0.5, key), reference)
    assert np.array_equal(one, all_set(6400))  # which is not changed
    # Entries behind do not matter to those before.
    longer = choose_among(all_set(7000), 7000, 0.5, key)
    assert np.array_equal(longer[:100], reference)


def test_keys_differ() -> None:
    def chosen(seed: int, identity: bytes, generation: int = 0) -> np.ndarray:
        key = random_key(seed, "split", generation, identity)
        return mask_of(choose_among(all_set(6400), 6400, 0.5, key), 6400)

    reference = chosen(1, b"a")
    for other in (chosen(2, b"a"), chosen(1, b"b"), chosen(1, b"a", 1)):
        # A half of the one lies in the other, by chance.
        assert abs((reference & other).sum() - 1600) < 5 * 20
    assert np.array_equal(chosen(1, b"a"), reference)


def test_a_part_of_a_part_is_independent_of_the_first() -> None:
    # With one stream for both, the second would give everything or nothing.
    key, then = random_key(42, "split", 0), random_key(42, "split", 1)
    test = choose_among(all_set(20_000), 20_000, 0.5, key)
    for side in (test, all_set(20_000) & ~test):
        count = mask_of(choose_among(side, 20_000, 0.5, then), 20_000).sum()
        assert abs(count - mask_of(side, 20_000).sum() / 2) <= 1


def test_every_entry_has_the_same_chance() -> None:
    mask = some_mask(200, 0.7, 1)
    times = np.zeros(200)
    for seed in range(2000):
        times += mask_of(choose_among(bit_mask(mask), 200, 0.3, random_key(seed, "split")), 200)
    assert np.abs(times[mask] - 600).max() < 5 * math.sqrt(2000 * 0.21)


def test_the_rounding_of_files_is_fair() -> None:
    # Five thousand files of one entry: a fifth of them, not none and not all.
    chosen = sum(
        len(members(choose_among(all_set(1), 1, 0.2, random_key(9, "split", 0, number)), 0, 1))
        for number in range(5000)
    )
    assert abs(chosen - 1000) < 5 * math.sqrt(5000 * 0.16)


def test_memberships_never_change() -> None:
    key = random_key(42, "split", 0, b"identity")
    test = choose_among(all_set(64), 64, 0.25, key)
    assert members(test, 0, 64).tolist() == CHOSEN
    rest = all_set(64) & ~test
    then = choose_among(rest, 64, 0.5, random_key(42, "split", 1, b"identity"))
    assert members(then, 0, 64).tolist() == CHOSEN_THEN


CHOSEN = [2, 5, 7, 8, 13, 17, 23, 26, 27, 28, 43, 44, 54, 55, 61, 63]
CHOSEN_THEN = [0, 1, 3, 4, 6, 10, 11, 12, 15, 19, 20, 22, 29, 34, 35, 40, 45, 49, 50, 51, 52, 56, 57, 60]
