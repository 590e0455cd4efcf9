"""The parts of a split: each a pipeline of its own, with its share of the memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from rootfeed.arguments import as_tuple, fraction, integer
from rootfeed.dataset import Dataset, Rule, Sampler, divide, exactly, fractions_of
from rootfeed.errors import ArgumentError, EmptyDatasetError, nearest
from rootfeed.loader.pipeline import Pipeline
from rootfeed.plan import BitMask, needed_bytes

__all__ = ["Split", "folds", "split", "split_exactly"]


Side = TypeVar("Side")


class Split(NamedTuple, Generic[Side]):
    """The two parts of a split: loaders, or batches for a framework."""

    train: Side
    test: Side


def split(
    whole: Pipeline,
    fractions: float | Mapping[str, float] | None,
    rule: Rule,
    resample: str | Sequence[str] | None,
) -> dict[str, Pipeline]:
    """Return the parts of a split: see `rootfeed.Loader.split`."""
    rule.check()
    if rule.where is not None:
        if fractions is not None:
            raise ArgumentError("split(where=...) takes no fractions: the expression decides.")
        shares = {"train": 0.5, "test": 0.5}
    elif fractions is None:
        raise ArgumentError('split needs a fraction: split(0.2), or split({"train": 0.8, "test": 0.2}).')
    else:
        shares = fractions_of(fractions)
    resampled = set(list(shares)[:1] if resample is None else as_tuple(resample))
    for name in resampled - set(shares):
        raise ArgumentError(f"resample names {name!r}, which is no part. {nearest(name, shares)}")
    masks = _divided(whole, list(shares.values()), rule)
    # The same for whatever kind of mapping and of number: a saved state holds it.
    asked = f"{shares!r}" if isinstance(fractions, Mapping) else f"{shares['test']!r}"
    asked = f"where={rule.where!r}" if rule.where is not None else asked
    text = f"split({asked}{rule.seeded})"
    return _parts(whole, dict(zip(shares, masks, strict=True)), shares, text, resampled, rule)


def folds(whole: Pipeline, count: int, rule: Rule) -> list[dict[str, Pipeline]]:
    """Return pairs of training and test part: see `rootfeed.Loader.folds`."""
    number = integer("count", count, least=2)
    rule.check()
    if number > whole.num_rows:
        raise EmptyDatasetError(
            f"folds({number}) of {whole.num_rows} entries leaves a part empty: test. Choose fewer folds."
        )
    masks = _divided(whole, [1 / number] * number, rule)
    pairs = []
    for fold, test in enumerate(masks):
        others = [part for other, part in enumerate(masks) if other != fold]
        train = [np.bitwise_or.reduce(of_file) for of_file in zip(*others, strict=True)]
        shares = {"train": 1 - 1 / number, "test": 1 / number}
        text = f"folds({number}{rule.seeded}), {fold}"
        pairs.append(_parts(whole, {"train": train, "test": test}, shares, text, {"train"}, rule))
    return pairs


def split_exactly(
    whole: Pipeline, test: float, seed: int | None, each_frame: bool, down: Literal["train", "test"]
) -> dict[str, Pipeline]:
    """Divide the rows into two parts of exact sizes: see `rootfeed.loader.split_exactly`."""
    shares = {"train": 1 - fraction("fraction", test), "test": test}
    spec, dataset = whole.spec, whole.schedule.dataset
    numbers = iter(range(len(dataset.files)))
    groups = [[*islice(numbers, len(frame.files))] for frame in spec.frames]
    if not each_frame:
        groups = [[number for group in groups for number in group]]
    masks = exactly(
        dataset, spec.masks, groups, float(test), down=down, seed=seed, generation=len(spec.history)
    )
    seeded = "" if seed is None else f", seed={seed}"
    text = f"split_exactly({test!r}{seeded}{', each_frame=True' * each_frame})"
    return _parts(whole, dict(zip(shares, masks, strict=True)), shares, text, {"train"}, None)


def _divided(whole: Pipeline, fractions: Sequence[float], rule: Rule) -> list[list[BitMask]]:
    spec = whole.spec
    return divide(spec.frames, whole.schedule.dataset, spec.masks, fractions, rule, len(spec.history))


def _parts(
    whole: Pipeline,
    masks: Mapping[str, Sequence[BitMask]],
    shares: Mapping[str, float],
    text: str,
    resampled: Collection[str],
    rule: Rule | None,
) -> dict[str, Pipeline]:
    """Return a pipeline for each part, and warn of the one whose rows mix worst."""
    made = {}
    spec, dataset, in_memory = whole.spec, whole.schedule.dataset, whole.schedule.sizes.in_memory
    of = f"{text} of {whole.num_rows} entries"
    for name, mine in masks.items():
        budget = math.ceil(spec.budget_bytes * shares[name])
        if not in_memory:
            # Small parts get what they cannot do without: parts that are iterated in turns use the
            # same memory again.
            rows = max(4 * spec.batch_size, spec.block_entries or 0)
            needed = needed_bytes(dataset.mean_row_bytes, rows)
            budget = max(budget, min(needed, spec.budget_bytes))
        if not _any_row(dataset, mine):
            another = "fraction" if rule is None or rule.where is None else "expression"
            raise EmptyDatasetError(f"{of} leaves a part empty: {name}. Choose another {another}.")
        part = replace(
            spec,
            masks=tuple(mine),
            history=(*spec.history, f"{text} {rule}: {name}"),
            budget_bytes=budget,
            keep_in_memory=in_memory,
            saved_sizes=None,
        )
        if name not in resampled:
            part = replace(part, sampler=Sampler(), strata=None, values=(), epoch_batches=None)
        try:
            made[name] = Pipeline(part, whole.pool, whole.told_bits)
        except (ArgumentError, EmptyDatasetError) as error:
            raise type(error)(f"{of}, {name}: {error}") from None
    # Those that lose their sampling are for looking at each row once, in whatever order.
    told = whole.told_bits
    for name in sorted(resampled, key=lambda name: -(made[name].mixing.lacking_bits or 0.0)):
        told = made[name].mixing.warn(told, f"{text}, {name}: ")
    for pipeline in (whole, *made.values()):
        pipeline.told_bits = told
    return made


def _any_row(dataset: Dataset, masks: Sequence[BitMask]) -> bool:
    """Whether a part of a dataset, which has a bit for each entry of each file, has a row."""
    return any(
        bool((mask if file.taken is None else mask & file.taken).any())
        for file, mask in zip(dataset.files, masks, strict=True)
    )
