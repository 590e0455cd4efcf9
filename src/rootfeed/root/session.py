"""What programs ask of ROOT itself: settings that change nothing here, and where its tutorials are."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from rootfeed.errors import MissingFileError

__all__ = ["LEVELS", "DisableImplicitMT", "EnableImplicitMT", "EnableThreadSafety", "gROOT"]

LEVELS = {
    "kUnset": -1,
    "kPrint": 0,
    "kInfo": 1000,
    "kWarning": 2000,
    "kError": 3000,
    "kBreak": 4000,
    "kSysError": 5000,
    "kFatal": 6000,
}
"""ROOT's levels of messages."""


class _Text(str):
    """A text that has C++'s way to be asked for itself."""

    def Data(self) -> str:
        """Return the text."""
        return str(self)


class _Session:
    """What ``ROOT.gROOT`` is asked for."""

    def GetTutorialDir(self) -> str:
        """Return the folder of the tutorials of the ROOT that is installed, without importing it.

        Raises
        ------
        MissingFileError
        """
        places = [Path(os.environ["ROOTSYS"])] if "ROOTSYS" in os.environ else []
        found = importlib.util.find_spec("ROOT")
        places += [Path(found.origin).parent] if found is not None and found.origin else []
        for place in places:
            if (place / "tutorials").is_dir():
                return _Text(place / "tutorials")
        raise MissingFileError(
            "no ROOT is installed here that brings its tutorials. Name the files themselves, or set "
            "ROOTSYS to the folder that holds 'tutorials'."
        )

    def SetBatch(self, batch: bool = True) -> None:
        """Change nothing: no window is ever opened."""

    def IsBatch(self) -> bool:
        """Return True: no window is ever opened."""
        return True


gROOT = _Session()  # noqa: N816  # as ROOT calls it


def EnableImplicitMT(threads: Any = 0) -> None:
    """Change nothing: threads are always used, and `rootfeed.Loader` takes their number."""


def DisableImplicitMT() -> None:
    """Change nothing: see `EnableImplicitMT`."""


def EnableThreadSafety() -> None:
    """Change nothing: what is here may be used from any thread, an iterator from one at a time."""
