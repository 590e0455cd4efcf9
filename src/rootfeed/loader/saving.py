"""The rows of a loader as a new file."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rootfeed.arguments import as_tuple
from rootfeed.dataset import Spec
from rootfeed.errors import MissingColumnError, nearest
from rootfeed.frame import view_of
from rootfeed.frame.saving import Rows, save_as
from rootfeed.layout import Layout

__all__ = ["save"]


def save(
    spec: Spec,
    file: str | os.PathLike[str],
    columns: str | Iterable[str] | None,
    format: str,
    overwrite: bool,
) -> None:
    """Write the rows of a loader: see `Loader.save`."""
    names = _columns(spec.layout) if columns is None else list(dict.fromkeys(as_tuple(columns)))
    views = tuple(view_of(frame) for frame in spec.frames)
    for name in names:
        for view in views:
            if name not in view.types:
                raise MissingColumnError(f"there is no column {name!r}. {nearest(name, view.columns)}")
    save_as(Rows(views, spec.masks), names, file, format, overwrite)


def _columns(layout: Layout) -> list[str]:
    """Return the columns that batches are made of, in their order."""
    places: list[tuple[int, int, tuple[str, ...]]] = [
        (number, position, (name,))
        for number, part in enumerate(layout.parts)
        for name, position in part.scalars
    ]
    places += [(each.part, each.position, each.columns) for each in layout.vectors]
    return list(dict.fromkeys(name for _, _, names in sorted(places) for name in names))
