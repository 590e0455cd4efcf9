"""Random datasets, ranks, workers, memory and samplings; `benchmarks/topologies.py` looks at more."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import plans


@pytest.mark.thorough("2", "3", "4", "5", "6", "7")
@pytest.mark.parametrize("part", range(8))
def test_epochs(part: int) -> None:
    done: Counter[str] = Counter()
    for number in range(25):
        random = np.random.default_rng([part, number])
        done += plans.check(plans.topology(random), random)
    assert done["starts at random batches"] > 20
    assert done["strata whose rows come once"] > 5


@pytest.mark.thorough("2", "3", "4", "5", "6", "7")
@pytest.mark.parametrize("part", range(8))
def test_chains_of_other_numbers_of_ranks(part: int) -> None:
    done: Counter[str] = Counter()
    for number in range(10):
        done += plans.check_chain(np.random.default_rng([part, number]))
    assert sum(done.values()) > 2
