"""A loader as TensorFlow's own kind of dataset. Imports tensorflow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from rootfeed.formats.batch import each
from rootfeed.formats.tensorflow import Groups
from rootfeed.loader.ahead import Ahead
from rootfeed.loader.pipeline import Pipeline

__all__ = ["dataset"]


def dataset(pipeline: Pipeline) -> Any:
    """Return the batches of a loader as a dataset: see `rootfeed.Loader.tensorflow`."""
    spec = pipeline.spec
    full = spec.drop_last and pipeline.sampler is None  # others may have shorter ones anywhere
    groups = Groups(spec.layout, spec.batch_size, full)

    def elements() -> Iterator[Any]:
        batches = Ahead(pipeline, each(tuple))
        used = False
        try:
            for element in groups.elements(batches, lambda: batches.complete):
                yield element
                used = True
        finally:
            # Who knows how many there are does not ask for more after the last one.
            batches.close(used=used or batches.complete)

    made = tf.data.Dataset.from_generator(elements, output_signature=groups.signature)
    made = made.flat_map(groups.batches)
    if pipeline.sampler is None or not pipeline.sampler.selects:  # else epochs differ in length
        made = made.apply(tf.data.experimental.assert_cardinality(pipeline.num_batches))
    options = tf.data.Options()
    # What is only looked at must not be more than was asked for.
    options.experimental_optimization.inject_prefetch = False
    if pipeline.shard().world_size > 1:
        # Each process has its own batches already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return made.with_options(options)
