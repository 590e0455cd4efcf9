"""scikit-learn: estimators that learn batch by batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

from rootfeed.arguments import integer
from rootfeed.errors import ArgumentError
from rootfeed.integrations.tables import checked, tables
from rootfeed.loader import Loader

__all__ = ["partial_fit"]

Estimator = TypeVar("Estimator")


def partial_fit(
    estimator: Estimator, loader: Loader, *, epochs: int = 1, classes: Sequence[Any] | None = None
) -> Estimator:
    """Train an estimator on some epochs of a loader, batch by batch.

    Parameters
    ----------
    estimator
        Of scikit-learn, with ``partial_fit``: `SGDClassifier`, `MiniBatchKMeans`, `StandardScaler`, ...
    loader : Loader
        Of one matrix of features; its target and weights become ``y``, of shape (n,), and
        ``sample_weight``.
    epochs : int
    classes : sequence, optional
        All labels, which a classifier needs to know before the first batch.

    Returns
    -------
    estimator

    Raises
    ------
    ArgumentError
        Where the estimator has no ``partial_fit``, takes no weights and the loader has some, or is a
        classifier and `classes` is missing.
    """
    checked(loader)
    learn: Any = getattr(estimator, "partial_fit", None)
    if learn is None:
        raise ArgumentError(
            f"{type(estimator).__name__} cannot learn batch by batch: it has no partial_fit."
        )
    accepted = inspect.signature(learn).parameters
    if loader.weights and "sample_weight" not in accepted:
        raise ArgumentError(
            f"{type(estimator).__name__} takes no weights: make the loader without weights=."
        )
    if "classes" in accepted and classes is None and loader.target:
        raise ArgumentError("a classifier needs all labels before the first batch: give classes=[0, 1].")
    for _ in range(integer("epochs", epochs, least=1)):
        for x, y, w in tables(loader):
            options: dict[str, Any] = {} if w is None else {"sample_weight": w}
            if "classes" in accepted and classes is not None:
                options["classes"] = classes
            learn(x, *(() if y is None else (y,)), **options)
    return estimator
