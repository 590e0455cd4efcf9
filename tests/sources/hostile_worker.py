"""Reads changed copies of a file, in a process of its own: what it cannot survive shall be seen.

Takes a JSON list of tasks (a file, an object, columns, changes) on its standard input, writes one JSON
list for each copy on its standard output: ``[file, id, outcome, detail]``, outcome being

- ``same``: every column as in the original, bit for bit;
- ``refused``: a `RootfeedError`, whose class and message are the detail;
- ``different``: the columns of the detail differ, and nothing was raised;
- ``hang``, ``memory``, ``leak``: took too long, wanted too much memory, or raised something else.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from rootfeed import sources
from rootfeed.errors import RootfeedError
from rootfeed.schema import Jagged

SECONDS = 5.0  # of processor time: other processes may keep the machine busy
WAITING_SECONDS = 40.0  # and of time that passes
MEMORY_BYTES = 256 << 20


class TookTooLongError(BaseException):
    """Not an Exception: nobody shall mistake it for damage."""


def on_alarm(*_: object) -> None:
    raise TookTooLongError


def read_all(path: str, object_path: str, names: list[str]) -> dict[str, np.ndarray]:
    location = sources.Location(path, object_path)
    _, types = sources.types(location)
    index = sources.index(location, names)

    def out_for(name: str) -> np.ndarray:
        # As the loader does it: rows that pages could not hold are never asked for.
        return np.empty(index.entries, types[name].dtype)

    scratch, stopped = sources.Scratch(), threading.Event()
    columns: dict[str, np.ndarray] = {}
    try:
        for name, values in sources.read(index, names, 0, index.entries, out_for, scratch, stopped):
            if isinstance(values, Jagged):
                # What an expression would do: any offset that lies outside shows.
                assert values.offsets[0] == 0
                assert values.offsets[-1] == len(values.values)
                assert np.all(np.diff(values.offsets) >= 0)
                columns[f"{name}: offsets"] = values.offsets.copy()
                columns[name] = values.values.copy()
            else:
                columns[name] = values
        return columns
    finally:
        scratch.close()


def causes(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *causes(error.__cause__ or error.__context__)]


def try_copy(path: str, task: Any, expected: dict[str, np.ndarray]) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING_SECONDS)
    try:
        values = read_all(path, task["name"], task["columns"])
    except TookTooLongError:
        return "hang", f"more than {SECONDS} s of work, or {WAITING_SECONDS} s"
    except RootfeedError as error:
        if any(isinstance(cause, MemoryError) for cause in causes(error)):
            return "memory", str(error)
        return "refused", f"{type(error).__name__}: {error}"
    except MemoryError as error:
        return "memory", repr(error)
    except Exception as error:
        return "leak", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    differing = [
        name
        for name, want in expected.items()
        if values[name].dtype != want.dtype or values[name].tobytes() != want.tobytes()
    ]
    return ("different", " ".join(differing)) if differing else ("same", "")


def main() -> None:
    tasks = json.load(sys.stdin)
    expected = [read_all(task["path"], task["name"], task["columns"]) for task in tasks]
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGPROF, on_alarm)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    for task, columns in zip(tasks, expected, strict=True):
        original = Path(task["path"]).read_bytes()
        copy = Path(task["path"]).with_suffix(".copy.root")
        for id, length, edits in task["copies"]:
            data = bytearray(original)
            for position, text in edits:
                replacement = bytes.fromhex(text)
                data[position : position + len(replacement)] = replacement
            copy.write_bytes(data[:length])
            outcome, detail = try_copy(str(copy), task, columns)
            print(json.dumps([task["path"], id, outcome, detail]), flush=True)


if __name__ == "__main__":
    main()
