"""Files made by merging files: clusters of every size, compression and encoding in one object."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .environment import compression_settings, load_root
from .rntuple import FLAT_FIELDS, Field, write_fields
from .ttree import flat_ttree

#: Compression, entries and cluster size of the files that are merged.
PARTS = (
    ("zstd", 900, 250),
    ("lz4", 700, 1000),
    ("zlib:9", 1, 1),
    ("none", 1300, 400),
    ("lzma", 600, 90),
)

ENTRIES = sum(entries for _, entries, _ in PARTS)


@contextmanager
def part_paths() -> Iterator[list[str]]:
    """Give the paths of temporary files, one for each of `PARTS`."""
    with tempfile.TemporaryDirectory() as directory:
        yield [f"{directory}/{number}.root" for number in range(len(PARTS))]


def merge(
    parts: Iterable[str], path: Path | str, compression: str, *, into_existing: bool, options: str
) -> None:
    """Merge whole files with ROOT's `TFileMerger`, as `hadd` does."""
    root = load_root()
    settings = compression_settings(compression)
    merger = root.TFileMerger(False, False)
    merger.SetFastMethod(True)
    merger.SetMergeOptions(options)
    merger.OutputFile(str(path), "UPDATE" if into_existing else "RECREATE", settings)
    merger.GetOutputFile().SetCompressionSettings(settings)
    for part in parts:
        merger.AddFile(part)
    kind = root.TFileMerger.kAllIncremental if into_existing else root.TFileMerger.kAll
    if not merger.PartialMerge(kind):
        raise RuntimeError(f"ROOT could not merge into {path}")


def merged_ttree(path: Path | str) -> None:
    """Merge TTrees of all compressions; fast merging copies their baskets as they are."""
    with part_paths() as parts:
        for seed, (part, (compression, entries, cluster_entries)) in enumerate(
            zip(parts, PARTS, strict=True)
        ):
            flat_ttree(
                part, entries, compression=compression, cluster_entries=cluster_entries, seed=seed
            )
        merge(parts, path, "zstd", into_existing=False, options="")


def merged_rntuple(path: Path | str, *, extra_field: bool = False) -> None:
    """Merge RNTuples of all compressions, one file after the other (incrementally).

    Merging gives the pages of a source one compression, that of the output file at that moment, so
    each part's clusters keep a compression of their own. The file holds a cycle for every step.

    Parameters
    ----------
    path
        The file to write.
    extra_field
        Give every second part the field `extra` (int16) too, and keep it: a deferred column, of
        zeros where it was missing.
    """
    extra = Field("extra", "std::int16_t", "int16")
    options = "rntuple.MergingMode=Union" if extra_field else ""
    with part_paths() as parts:
        for number, (part, (compression, entries, cluster_entries)) in enumerate(
            zip(parts, PARTS, strict=True)
        ):
            fields = FLAT_FIELDS + ((extra,) if extra_field and number % 2 else ())
            write_fields(
                part,
                fields,
                entries,
                compression=compression,
                cluster_entries=cluster_entries,
                seed=number,
            )
            merge([part], path, compression, into_existing=number > 0, options=options)
