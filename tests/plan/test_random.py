from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan import random_key


def test_keys_never_change() -> None:
    # These decide everybody's splits and orders.
    assert random_key(0, "split") == np.uint64(KEYS_OF_TODAY[0])
    assert random_key(42, "rows", 3, 7) == np.uint64(KEYS_OF_TODAY[1])
    assert random_key(-1, "split", 0, b"\x00\xffidentity") == np.uint64(KEYS_OF_TODAY[2])
    assert random_key(2**200, "blocks", 0, 0) == np.uint64(KEYS_OF_TODAY[3])


def test_keys_do_not_depend_on_the_process() -> None:
    code = "from rootfeed.plan import random_key; print(random_key(42, 'rows', 3, 7))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(printed.stdout) == int(random_key(42, "rows", 3, 7))


def test_numpy_integers_are_integers() -> None:
    assert random_key(np.int64(5), "rows", np.int32(2)) == random_key(5, "rows", 2)


@given(
    st.lists(
        st.tuples(st.integers(), st.sampled_from(["a", "b", "ab"]), st.integers(0, 99)),
        unique=True,
        max_size=30,
    )
)
def test_different_arguments_give_different_keys(arguments: list[tuple[int, str, int]]) -> None:
    assert len({int(random_key(*each)) for each in arguments}) == len(arguments)


def test_arguments_do_not_run_together() -> None:
    keys = [
        random_key(1, "a", 23),
        random_key(12, "a", 3),
        random_key(1, "a2", 3),
        random_key(1, "a", 2, 3),
        random_key(1, "a", b"2", b"33"),
        random_key(1, "a", b"23", b"3"),
    ]
    assert len({int(key) for key in keys}) == len(keys)


KEYS_OF_TODAY = [16896437425685237914, 14676543301629170084, 4008955174159490420, 18184316040392043324]
