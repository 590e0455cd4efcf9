"""Properties that are computed once, also where a process forks meanwhile."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rootfeed.properties import cached_property


class Sum:
    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute

    @cached_property
    def value(self) -> Any:
        """What it is."""
        return self.compute()


def test_it_is_computed_once() -> None:
    numbers = iter(range(9))
    one, other = Sum(lambda: next(numbers)), Sum(lambda: next(numbers))
    assert [one.value, one.value, other.value, one.value] == [0, 0, 1, 0]
    assert Sum.value.__doc__ == "What it is."


def test_an_error_is_not_kept() -> None:
    results = iter([1, 0, 2])
    object_ = Sum(lambda: 4 // next(results) // next(results))
    with pytest.raises(ZeroDivisionError):
        print(object_.value)
    object_.compute = lambda: 5
    assert object_.value == 5


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compute() -> None:
        begun.set()
        go_on.wait()

    slow = Sum(compute)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    begun.wait()
    child = multiprocessing.get_context("fork").Process(target=lambda: Sum(int).value)
    try:
        child.start()
        child.join(20)
        assert child.exitcode == 0
    finally:
        go_on.set()
        thread.join()
        child.kill()
        child.join()
