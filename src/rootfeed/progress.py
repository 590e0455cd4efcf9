"""A progress bar for work that turns out to take longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

_PATIENCE_SECONDS = 1.0


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances a bar on the terminal.

    The bar appears on standard error after a second, only on a terminal, and vanishes at the end.

    Parameters
    ----------
    label : str
    total : int
        Steps in all.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(label, total=total)
    begun = time.monotonic()
    started = False

    def advance(steps: int) -> None:
        nonlocal started
        bar.advance(task, steps)
        if not started and console.is_terminal and time.monotonic() - begun > _PATIENCE_SECONDS:
            bar.start()
            started = True

    try:
        yield advance
    finally:
        if started:
            bar.stop()
