"""A loader whose batches are JAX arrays. Imports jax."""

from __future__ import annotations

from collections.abc import Iterator

from rootfeed.formats import Batch
from rootfeed.formats.jax import check
from rootfeed.loader.wrapped import Wrapped

__all__ = ["JaxBatches"]


class JaxBatches(Wrapped):
    """A loader whose batches are JAX arrays; it counts the loader's own epochs.

    Attributes
    ----------
    loader : Loader
    """

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch, or go on where a loaded state ends.

        Raises
        ------
        ArgumentError
            Where JAX would make 32 bits of numbers of 64; or where its processes are not the loader's
            ranks.
        """
        pipeline = self._pipeline
        check(pipeline.spec.layout, pipeline.shard())
        return super().__iter__()
