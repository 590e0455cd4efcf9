"""ROOT itself, imported only when a file is written or read, and the C++ it compiles for that."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from pathlib import Path
from typing import Any

#: ROOT's number of each compression algorithm (`ROOT::RCompressionSetting::EAlgorithm`) and the
#: level that ROOT itself takes by default for it.
ALGORITHMS = {"none": (0, 0), "zlib": (1, 1), "lzma": (2, 7), "lz4": (4, 4), "zstd": (5, 5)}

COMPRESSIONS = tuple(ALGORITHMS)


def compression_settings(compression: str) -> int:
    """Return ROOT's number (100 * algorithm + level) for `"zstd"` or, with a level, `"zstd:9"`."""
    algorithm, _, level = compression.partition(":")
    number, default_level = ALGORITHMS[algorithm]
    return 100 * number + (int(level) if level else default_level)


@functools.cache
def load_root() -> Any:
    """Import ROOT, quietly, and compile `helpers.cpp` in it. About 1.5 s, once for a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel warns that it is an alpha version
        # What cling compiles runs for milliseconds: it takes a third less time without optimising.
        os.environ.setdefault("EXTRA_CLING_ARGS", "-O0")
        root: Any = importlib.import_module("ROOT")
        root.PyConfig.IgnoreCommandLineOptions = True
        root.PyConfig.DisableRootLogon = True
        root.gROOT.SetBatch(True)
    # Information such as "merged file written" is no news here; warnings still are.
    root.gErrorIgnoreLevel = root.kWarning
    # A crash shall end the test at once, with Python's own faulthandler, not after minutes of gdb.
    root.gEnv.SetValue("Root.Stacktrace", "no")
    declare(root, "helpers.cpp")
    return root


def declare(root: Any, name: str) -> None:
    """Compile a file of this folder in ROOT's interpreter."""
    source = Path(__file__).with_name(name).read_text(encoding="utf-8")
    if not root.gInterpreter.Declare(source):
        raise RuntimeError(f"cling could not compile {name}")


@functools.cache
def load_vectors() -> Any:
    """Compile `vectors.cpp` too: how vectors are written and read."""
    root = load_root()
    declare(root, "vectors.cpp")
    return root.rootfeed_test


def create_file(path: Path | str, compression: str) -> Any:
    """Create (or replace) a ROOT file whose objects are compressed by `compression`."""
    root = load_root()
    file = root.TFile(str(path), "RECREATE", "", compression_settings(compression))
    if file.IsZombie():
        raise OSError(f"ROOT could not create {path}")
    return file
