"""What is asked of each of many files: on threads, or elsewhere; and which files have no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

from rootfeed.errors import RootfeedError, UnreachableError
from rootfeed.progress import progress
from rootfeed.view.elsewhere import each

__all__ = ["survey"]

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_THREADS = 16  # as many as there are connections to a server
_TASKS = 128
_MOST_OF_A_TASK = 16


def survey(
    ask: Callable[[Job], Answer],
    jobs: Sequence[Job],
    label: str,
    *,
    executor: Executor | None = None,
    to_the_end: bool = False,
    entries: Callable[[Answer], int] | None = None,
) -> list[Answer | RootfeedError]:
    """Return what a function says of each file, or which error of ours it raises.

    With a progress bar where that takes longer than a second.

    Parameters
    ----------
    ask : function of a job
        Of a module where there is an executor.
    jobs : sequence
        One for each file.
    label : str
        Of the progress bar.
    executor : Executor, optional
        Whose processes ask, some files in a task.
    to_the_end : bool
        Go on after a file that a server keeps back. Without, the answers end with such a file: nobody
        waits for the time-out of each of its others.
    entries : function of an answer, optional
        Returns how many entries it tells of, for the bar.
    """
    found: list[Answer | RootfeedError] = []
    known = 0
    answers = _answers(ask, jobs, executor)
    try:
        with progress(label, len(jobs)) as advance:
            for answer in answers:
                found.append(answer)
                if entries is not None and not isinstance(answer, RootfeedError):
                    known += entries(answer)
                advance(1, f"files, {known:,} entries" if entries is not None else "files")
                if isinstance(answer, UnreachableError) and not to_the_end:
                    break
    finally:
        answers.close()
    return found


def _answers(ask: Callable[[Job], Answer], jobs: Sequence[Job], executor: Executor | None) -> Any:
    if executor is None or len(jobs) <= 1:
        return _on_threads(ask, jobs)
    size = min(-(-len(jobs) // _TASKS), _MOST_OF_A_TASK)
    parts = (jobs[start : start + size] for start in range(0, len(jobs), size))
    return _elsewhere(executor, ask, parts)


def _elsewhere(executor: Executor, ask: Callable[[Job], Answer], parts: Any) -> Iterator[Any]:
    with closing(each(executor, _asked, ask, parts)) as found:
        for some in found:
            yield from some


def _asked(ask: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer | RootfeedError]:
    return list(_on_threads(ask, jobs))


def _on_threads(ask: Callable[[Job], Answer], jobs: Sequence[Job]) -> Iterator[Answer | RootfeedError]:
    def answer(job: Job) -> Answer | RootfeedError:
        try:
            return ask(job)
        except RootfeedError as error:
            return error

    if len(jobs) <= 1:
        yield from map(answer, jobs)
        return
    pool = ThreadPoolExecutor(min(_THREADS, len(jobs)), thread_name_prefix="rootfeed-index")
    try:
        yield from pool.map(answer, jobs)
    except BaseException:
        # Nobody waits for what a slow server has not sent yet.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
