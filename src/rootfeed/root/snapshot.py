"""A data frame's entries as a new file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.frame import Frame, view_of
from rootfeed.frame.saving import save
from rootfeed.root.namespaces import Namespace
from rootfeed.sources.writing import Format

__all__ = ["ESnapshotOutputFormat", "RCompressionSetting", "RSnapshotOptions", "snapshot"]

_FORMATS: dict[int, Format] = {0: "ttree", 1: "ttree", 2: "rntuple"}
_ALGORITHMS = {1: "zlib", 2: "lzma", 4: "lz4", 5: "zstd"}
_UNDEFINED = 6
ESnapshotOutputFormat = Namespace("ROOT.RDF.ESnapshotOutputFormat", kDefault=0, kTTree=1, kRNTuple=2)
RCompressionSetting = Namespace(
    "ROOT.RCompressionSetting",
    EAlgorithm=Namespace(
        "ROOT.RCompressionSetting.EAlgorithm", kZLIB=1, kLZMA=2, kLZ4=4, kZSTD=5, kUndefined=_UNDEFINED
    ),
)


@dataclass(slots=True)
class RSnapshotOptions:
    """How `RDataFrame.Snapshot` writes.

    Attributes
    ----------
    fMode : "RECREATE"
        A file of that name is replaced when all is written. ``"UPDATE"`` is an error.
    fCompressionAlgorithm, fCompressionLevel : int
        Of ``RCompressionSetting.EAlgorithm``, and 1 to 9, or 0 for none; if the first is left at
        `kUndefined`, zlib at level 1 for a tree, and zstd at level 5 for an ntuple.
    fLazy : bool
        Write when the result is asked for.
    fOutputFormat : int
        Of ``RDF.ESnapshotOutputFormat``: `kTTree`, which is the default, or `kRNTuple`.
    fAutoFlush, fSplitLevel, fOverwriteIfExists, fVector2RVec, fBasketSize
        Change nothing.
    """

    fMode: str = "RECREATE"
    fCompressionAlgorithm: int = _UNDEFINED
    fCompressionLevel: int = 0
    fAutoFlush: int = 0
    fSplitLevel: int = 99
    fLazy: bool = False
    fOverwriteIfExists: bool = False
    fVector2RVec: bool = True
    fBasketSize: int = -1
    fOutputFormat: int = 0

    def checked(self) -> tuple[Format, Any]:
        """Return the format, and the compression as uproot takes it.

        Raises
        ------
        ArgumentError
        """
        if str(self.fMode).upper() != "RECREATE":
            raise ArgumentError(
                f"fMode must be 'RECREATE', got {self.fMode!r}: a tree is written to a file of its own, "
                "and RDataFrame reads trees of several files."
            )
        format_ = _FORMATS[_among("fOutputFormat", self.fOutputFormat, tuple(_FORMATS))]
        if self.fCompressionAlgorithm == _UNDEFINED:
            algorithm, level = ("zlib", 1) if format_ == "ttree" else ("zstd", 5)
        else:
            numbers = tuple(_ALGORITHMS)
            algorithm = _ALGORITHMS[_among("fCompressionAlgorithm", self.fCompressionAlgorithm, numbers)]
            level = _among("fCompressionLevel", self.fCompressionLevel, tuple(range(10)))
        return format_, (algorithm, level) if level else None


def _among(name: str, value: Any, numbers: tuple[int, ...]) -> int:
    if value not in numbers:
        raise ArgumentError(f"{name} must be one of {', '.join(map(str, numbers))}, got {value!r}.")
    return int(value)


def snapshot(
    frame: Frame, names: Sequence[str], tree: str, file: str | Path, options: RSnapshotOptions
) -> None:
    """Write columns of the entries that pass: see `RDataFrame.Snapshot`."""
    format_, compression = options.checked()
    save(view_of(frame), names, file, tree, format_, compression)
