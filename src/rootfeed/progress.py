"""A progress bar for work that turns out to take longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

_PATIENCE_SECONDS = 1.0


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[..., None]]:
    """Yield a function of a number of steps that advances a bar on the terminal.

    It may be given, too, what the steps are of, and what else there is to say: ``advance(1, "files")``.

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
        TextColumn("{task.fields[of]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(label, total=total, of="")
    begun = time.monotonic()
    started = False

    def advance(steps: int, of: str = "") -> None:
        nonlocal started
        bar.update(task, advance=steps, of=of)
        if not started and console.is_terminal and time.monotonic() - begun > _PATIENCE_SECONDS:
            bar.start()
            started = True

    try:
        yield advance
    finally:
        if started:
            bar.stop()
