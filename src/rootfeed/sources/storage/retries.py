"""How long what fails for a passing reason is tried again: with growing pauses, until its time is up."""

from __future__ import annotations

import random
import threading
import time

__all__ = ["Patience"]

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 3.0
_SHARES = 3
_LEAST_SECONDS = 0.2


class Patience:
    """The time that a server has to answer, over all tries.

    Parameters
    ----------
    seconds : float
        Without any progress, after which it is given up.
    stopped : threading.Event
        Nobody waits any more when it is set.
    """

    def __init__(self, seconds: float, stopped: threading.Event) -> None:
        self._seconds = seconds
        self._stopped = stopped
        self._began = time.monotonic()
        self.progress()
        self.tries = 0

    @property
    def left(self) -> float:
        """Seconds until it is given up, and enough for a last try."""
        return max(self._since + self._seconds - time.monotonic(), _LEAST_SECONDS)

    @property
    def silence(self) -> float:
        """Seconds for which a connection may be silent: in the rest, another one may answer."""
        return min(self.left, max(self._seconds / _SHARES, _LEAST_SECONDS))

    def progress(self) -> None:
        """Note that something came: the time begins anew."""
        self._since, self._pause = time.monotonic(), _FIRST_PAUSE_SECONDS

    def pause(self) -> bool:
        """Wait before another try, twice as long each time; return whether there is time for one.

        Half of the pause is by chance, so that many who lost one server do not come back together.
        """
        left = self._since + self._seconds - time.monotonic()
        if left <= 0 or self._stopped.is_set():
            return False
        self._stopped.wait(min(self._pause * random.uniform(0.5, 1.0), left))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return not self._stopped.is_set()

    def told(self) -> str:
        """Say what was tried, and for how long."""
        seconds = time.monotonic() - self._began
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"Tried {times} in {seconds:.3g} s."
