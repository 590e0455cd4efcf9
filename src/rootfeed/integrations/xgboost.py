"""XGBoost: matrices of its own that are built from batches, in memory or outside. Imports xgboost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import xgboost

from rootfeed.arguments import integer
from rootfeed.integrations.tables import Table, checked, tables
from rootfeed.loader import Loader

__all__ = ["Batches"]


class Batches(xgboost.DataIter):
    """A loader for ``xgboost.QuantileDMatrix`` and ``xgboost.ExtMemQuantileDMatrix``.

    XGBoost goes through it several times, and gets the same batches each time: those of one epoch. To
    use the loader afterwards, choose an epoch with its `set_epoch`. Labels and weights come from the
    loader's target and weights.

    Parameters
    ----------
    loader : Loader
        Of one matrix of features. Large batches cost least: ``batch_size=65_536``.
    epoch : int
        That is used, again and again.
    cache_prefix : str, optional
        Where ``ExtMemQuantileDMatrix`` keeps its pages; None keeps them in memory.

    Raises
    ------
    ArgumentError
        Where features are several inputs.

    Examples
    --------
    >>> from rootfeed.integrations.xgboost import Batches  # doctest: +SKIP
    >>> matrix = xgboost.QuantileDMatrix(Batches(loader))  # doctest: +SKIP
    >>> model = xgboost.train({"objective": "binary:logistic"}, matrix)  # doctest: +SKIP
    """

    def __init__(self, loader: Loader, epoch: int = 0, cache_prefix: str | None = None) -> None:
        self._loader = checked(loader)
        self._epoch = integer("epoch", epoch, least=0)
        self._batches: Iterator[Table] = iter(())
        super().__init__(cache_prefix=cache_prefix, release_data=True)

    def reset(self) -> None:
        """Begin the epoch again."""
        self._loader.set_epoch(self._epoch)
        self._batches = tables(self._loader)

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next batch; return whether there was one."""
        found = next(self._batches, None)
        if found is None:
            return False
        names = list(self._loader.features)
        input_data(data=found.x, label=found.y, weight=found.w, feature_names=names)
        return True
