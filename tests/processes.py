"""Scripts that run in an interpreter of their own: to see how it ends, or what it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Outcome", "interrupt", "run"]

LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes
    ----------
    code
        Exit status; negative for a signal.
    out, err
        What it wrote.
    seconds
        From its line "READY" (or from its interrupt) to its end; 0 where there was no such line.
    start_seconds
        From its start to that line: on a busy machine this is longer, too.
    """

    code: int
    out: str
    err: str
    seconds: float
    start_seconds: float

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def start(script: str, arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    # Small chunks mix badly, which is not what scripts are about.
    quiet = "import warnings; warnings.filterwarnings('ignore', '.*rows mix badly')\n"
    # Ctrl-C is ignored by what a shell runs in the background, and by its children.
    quiet += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        # Forking a process with threads is what some scripts are about.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", quiet + textwrap.dedent(script)]
        + [str(argument) for argument in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parent,
    )


def run(script: str, *arguments: object, interrupted_after: float | None = None) -> Outcome:
    """Run a script to its end; its arguments are in `sys.argv[1:]`.

    Parameters
    ----------
    interrupted_after
        Seconds after its line "READY" at which it gets a SIGINT, as from Ctrl-C.
    """
    with start(script, arguments) as process:
        assert process.stdout is not None
        started, begun, before, start_seconds = time.monotonic(), 0.0, "", 0.0
        try:
            for line in process.stdout:
                if line == "READY\n":
                    begun = time.monotonic()
                    start_seconds = begun - started
                    break
                before += line
            if interrupted_after is not None and begun:
                time.sleep(interrupted_after)
                process.send_signal(signal.SIGINT)
                begun = time.monotonic()
            out, err = process.communicate(timeout=LIMIT_SECONDS)
        except BaseException:
            process.kill()
            raise
    seconds = time.monotonic() - begun if begun else 0.0
    return Outcome(process.returncode, before + out, err, seconds, start_seconds)


def interrupt(script: str, *arguments: object, after: float = 0.1) -> Outcome:
    """Run a script and send it a SIGINT a moment after its line "READY"."""
    return run(script, *arguments, interrupted_after=after)
