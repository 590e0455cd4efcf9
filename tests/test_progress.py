"""The progress bar: for people at a terminal, when it takes long, and gone afterwards."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import rootfeed as rf
from rootfeed import progress as module
from rootfeed.progress import progress
from samples import File, in_a_row, write_all

HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., io.StringIO]:
    """Catch what is written, on something that is a terminal or not."""

    def catch(*, terminal: bool) -> io.StringIO:
        written = io.StringIO()

        def console(**options: Any) -> Console:
            assert options.pop("stderr")
            return Console(file=written, force_terminal=terminal, width=80, **options)

        monkeypatch.setattr("rich.console.Console", console)
        return written

    return catch


def test_nothing_is_shown_within_a_second(shown: Callable[..., io.StringIO], clock: Clock) -> None:
    written = shown(terminal=True)
    with progress("Reading", 10) as advance:
        for _ in range(10):
            clock.now += 0.09
            advance(1)
    assert written.getvalue() == ""


def test_nothing_is_shown_where_there_is_no_terminal(
    shown: Callable[..., io.StringIO], clock: Clock
) -> None:
    written = shown(terminal=False)
    with progress("Reading", 10) as advance:
        for _ in range(10):
            clock.now += 5
            advance(1)
    assert written.getvalue() == ""


def test_the_bar_appears_after_a_second_and_vanishes(
    shown: Callable[..., io.StringIO], clock: Clock
) -> None:
    written = shown(terminal=True)
    before = threading.enumerate()
    with progress("Reading", 10) as advance:
        advance(3)
        assert written.getvalue() == ""
        clock.now += 1.1
        advance(2)
        assert "Reading" in written.getvalue()
        assert " 5/10" in written.getvalue()
        assert written.getvalue().startswith(HIDE_CURSOR)
        begun = len(written.getvalue())
        advance(5)
    end = written.getvalue()[begun:]
    assert "10/10" in end
    assert SHOW_CURSOR in end
    assert end.rstrip("\r").endswith(ERASE_LINE)
    for thread in set(threading.enumerate()) - set(before):
        thread.join(2)
        assert not thread.is_alive()


def plain(written: io.StringIO) -> str:
    """Return what was written without colours and moves."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())


def test_it_says_what_the_steps_are_of(shown: Callable[..., io.StringIO], clock: Clock) -> None:
    written = shown(terminal=True)
    with progress("Indexing files", 10) as advance:
        clock.now += 2
        advance(3, "files, 1,200 entries")
        assert " 3/10 files, 1,200 entries" in plain(written)


@pytest.mark.parametrize("bar", ["Indexing files", "Counting entries", "Reading columns"])
def test_bars_tell_files_and_entries(
    shown: Callable[..., io.StringIO], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bar: str
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", -1)
    frame = rf.open(write_all(tmp_path, in_a_row(*[File(1500)] * 3), ["id"]))
    written = shown(terminal=True)
    frame.filter("id > 3").count()
    frame.describe()
    told = "3/3 files, 4,500 entries" if bar == "Indexing files" else "4500/4500 entries, file 3 of 3"
    assert re.search(rf"{bar} .* {told}", plain(written))


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
@pytest.mark.parametrize("long", [False, True])
def test_an_error_ends_the_bar_and_goes_on(
    shown: Callable[..., io.StringIO], clock: Clock, error: BaseException, long: bool
) -> None:
    written = shown(terminal=True)
    before = threading.enumerate()

    def work() -> None:
        with progress("Reading", 10) as advance:
            clock.now += 2 * long
            advance(1)
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    assert written.getvalue().count(HIDE_CURSOR) == written.getvalue().count(SHOW_CURSOR) == long
    for thread in set(threading.enumerate()) - set(before):
        thread.join(2)
        assert not thread.is_alive()


@pytest.mark.parametrize("total", [0, 1])
def test_hardly_any_work(shown: Callable[..., io.StringIO], clock: Clock, total: int) -> None:
    written = shown(terminal=True)
    with progress("Reading", total) as advance:
        clock.now += 2
        advance(total)
    assert f"{total}/{total}" in written.getvalue()


def test_many_threads_may_advance(shown: Callable[..., io.StringIO], clock: Clock) -> None:
    written = shown(terminal=True)
    with progress("Reading", 400) as advance:
        clock.now += 2
        users = [threading.Thread(target=lambda: [advance(1) for _ in range(100)]) for _ in range(4)]
        for user in users:
            user.start()
        for user in users:
            user.join()
    assert "400/400" in written.getvalue()
    assert written.getvalue().count(HIDE_CURSOR) == 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals")
@pytest.mark.parametrize("terminal", [True, False])
def test_it_goes_to_standard_error_of_a_terminal(terminal: bool) -> None:
    script = """
        from rootfeed import progress

        progress._PATIENCE_SECONDS = 0
        with progress.progress("Reading", 3) as advance:
            advance(1)
            advance(2)
    """
    master, slave = os.openpty()
    os.set_blocking(master, False)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    }
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=slave if not terminal else subprocess.PIPE,
        stderr=slave if terminal else subprocess.PIPE,
        env=environment | {"TERM": "xterm"},
        check=True,
    )
    try:
        written = os.read(master, 1 << 16).decode()
    except BlockingIOError:
        written = ""
    os.close(slave)
    os.close(master)
    if terminal:
        assert result.stdout == b""
        assert "Reading" in written
        assert "3/3" in written
    else:
        assert result.stderr == b""
        assert written == ""
