"""The network of the demo, its training on batches from rootfeed, and what is measured of both.

The network is parametrized: the masses of the hypothesis are among its inputs, so that one training
serves every hypothesis (P. Baldi et al., "Parameterized neural networks for high-energy physics",
arXiv:1601.07913).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import rootfeed as rf

__all__ = [
    "Clock",
    "Curve",
    "Network",
    "Scores",
    "Survey",
    "Training",
    "drain",
    "fit",
    "roc",
    "score",
    "survey",
    "timed",
]

HIDDEN = (60, 60, 60)
LEARNING_RATE = 3e-3

Item = TypeVar("Item")
Floats = NDArray[np.float64]


class Network(nn.Module):
    """Inputs -> three hidden layers of 60 units with ReLU -> one logit.

    The mean and standard deviation of the inputs are buffers: they are saved and moved with the
    weights, and callers pass physical values.

    Parameters
    ----------
    mean, std : of every input over the training data, shape `(features,)`, in the inputs' units.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Floats, std: Floats) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        sizes = [len(mean), *HIDDEN]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `(n, 1)` of the inputs `(n, features)`."""
        logits: torch.Tensor = self.layers((x - self.mean) / self.std)
        return logits


@dataclass
class Clock:
    """Where a loop's time went: seconds in all, seconds of them spent waiting for data."""

    entries: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def rate(self) -> float:
        """Entries per second."""
        return self.entries / self.seconds

    @property
    def waited_share(self) -> float:
        """Share of the time that was spent waiting for data."""
        return self.waited / self.seconds


def timed(batches: Iterable[Item], clock: Clock) -> Iterator[Item]:
    """Yield the batches and add the time that each took to come to `clock.waited` (seconds)."""
    start = time.perf_counter()
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        finally:
            clock.waited += time.perf_counter() - start
        yield batch
        start = time.perf_counter()


@dataclass(frozen=True)
class Survey:
    """What one pass over the training data says.

    Attributes
    ----------
    entries : number of entries.
    mean, std : of every feature, shape `(features,)`, unweighted.
    class_scale : factors `(2,)` for the weights of background and signal, which make the sums of
        both classes equal and the mean weight one.
    seconds : how long the pass took, what the loader does only once included.
    """

    entries: int
    mean: Floats
    std: Floats
    class_scale: Floats
    seconds: float


def survey(loader: rf.Loader) -> Survey:
    """Read one epoch and gather what the network and its loss need to know beforehand."""
    start = time.perf_counter()
    entries = 0
    total: Floats | float = 0.0
    squares: Floats | float = 0.0
    class_sums = np.zeros(2)
    for x, y, w in loader:
        entries += len(x)
        total = total + x.sum(axis=0, dtype=np.float64)
        squares = squares + np.square(x, dtype=np.float64).sum(axis=0)
        class_sums += np.bincount(y[:, 0].astype(np.int64), weights=w[:, 0], minlength=2)
    mean = np.asarray(total / entries)
    std = np.sqrt(np.maximum(squares / entries - mean**2, 1e-12))
    scale = entries / (2.0 * class_sums)
    return Survey(entries, mean, std, scale, time.perf_counter() - start)


def drain(loader: rf.Loader) -> Clock:
    """Read one epoch of tensors and do nothing with them: the loader's own speed."""
    clock = Clock()
    start = time.perf_counter()
    for x, _, _ in timed(loader.torch(), clock):
        clock.entries += len(x)
    clock.seconds = time.perf_counter() - start
    return clock


@dataclass
class Training:
    """A trained network's record: the mean loss of every epoch, and where the time went."""

    losses: list[float] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)


def fit(
    network: Network,
    loader: rf.Loader,
    class_scale: Floats,
    epochs: int,
    on_batch: Callable[[int, float, Clock], None],
) -> Training:
    """Train with Adam, a one-cycle learning rate and the weighted binary cross-entropy.

    Parameters
    ----------
    class_scale : factors `(2,)` for the weights of background and signal, see `Survey`.
    on_batch : called after every batch with the epoch, the mean loss of the epoch so far and the
        clock.
    """
    scale = torch.tensor(class_scale, dtype=torch.float32)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=max(epochs * len(loader), 2)
    )
    training = Training()
    clock = training.clock
    start = time.perf_counter()
    network.train()
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        loss_sum, weight_sum = 0.0, 0.0
        for x, y, w in timed(loader.torch(), clock):
            weight = w * torch.where(y > 0.5, scale[1], scale[0])
            loss = nn.functional.binary_cross_entropy_with_logits(network(x), y, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(x)
            weight_sum += weight.sum().item()
            clock.entries += len(x)
            clock.seconds = time.perf_counter() - start
            on_batch(epoch, loss_sum / weight_sum, clock)
        training.losses.append(loss_sum / weight_sum)
    return training


@dataclass(frozen=True)
class Scores:
    """A network's answers: per entry its score in (0, 1), its label, weight and features.

    All arrays are of shape `(n,)`, `features` is `(n, features)`.
    """

    score: Floats
    label: NDArray[np.bool_]
    weight: Floats
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, rows: NDArray[np.bool_]) -> Scores:
        return Scores(self.score[rows], self.label[rows], self.weight[rows], self.features[rows])

    @classmethod
    def join(cls, parts: Iterable[Scores]) -> Scores:
        """One after another."""
        columns = zip(*((p.score, p.label, p.weight, p.features) for p in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@torch.inference_mode()
def score(network: Network, loader: rf.Loader) -> Scores:
    """Score one epoch of the loader."""
    network.eval()
    parts = []
    for x, y, w in loader.torch():
        answer = torch.sigmoid(network(x)[:, 0].double())
        parts.append(
            Scores(answer.numpy(), y[:, 0].numpy() > 0.5, w[:, 0].numpy().astype(float), x.numpy())
        )
    return Scores.join(parts)


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic, from the hardest cut on the score to none.

    Attributes
    ----------
    background, signal : efficiencies in [0, 1], shape `(cuts,)`.
    background_entries : background entries that pass each cut, shape `(cuts,)`.
    """

    background: Floats
    signal: Floats
    background_entries: NDArray[np.int64]

    @property
    def area(self) -> float:
        """Area under signal against background efficiency: 0.5 is guessing, 1 is perfect."""
        return float(np.trapezoid(self.signal, self.background))


def roc(score: Floats, label: NDArray[np.bool_], weight: Floats | None = None) -> Curve:
    """Efficiencies of every cut on the score; entries of equal scores pass or fail together.

    Source: T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006).
    """
    weight = np.ones(len(score)) if weight is None else weight
    order = np.argsort(-score, kind="stable")
    score, label, weight = score[order], label[order], weight[order]
    last = np.append(score[1:] != score[:-1], True)
    signal = np.cumsum(np.where(label, weight, 0.0))[last]
    background = np.cumsum(np.where(label, 0.0, weight))[last]
    return Curve(
        np.concatenate([[0.0], background / background[-1]]),
        np.concatenate([[0.0], signal / signal[-1]]),
        np.concatenate([[0], np.cumsum(~label)[last]]),
    )
