"""What forks wait for."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from rootfeed.processes import unforked


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_waits_for_a_thread() -> None:
    begun, steps = threading.Event(), []

    def work() -> None:
        with unforked(), unforked():
            begun.set()
            time.sleep(0.2)
            steps.append("ended")

    def child() -> None:
        with unforked():
            assert steps == ["ended"]

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    thread.join()
    process.join(20)
    process.kill()
    assert process.exitcode == 0
