"""What the demo measures: the ROC curve and the loop's clock."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import train


@pytest.mark.parametrize("weighted", [False, True])
def test_the_area_is_the_chance_that_signal_outscores_background(weighted):
    # J. A. Hanley, B. J. McNeil, Radiology 143 (1982) 29: ties count half.
    random = np.random.default_rng(3)
    label = random.random(400) < 0.4
    score = np.round(random.normal(label, 1.0), 1)
    weight = random.uniform(0.1, 5.0, 400) if weighted else np.ones(400)
    signal, background = score[label][:, None], score[~label][None]
    pairs = weight[label][:, None] * weight[~label][None]
    wins = (signal > background) + 0.5 * (signal == background)
    expected = (pairs * wins).sum() / pairs.sum()
    curve = train.roc(score, label, weight if weighted else None)
    assert curve.area == pytest.approx(expected, rel=1e-12)


def test_a_curve_runs_from_nothing_to_everything():
    curve = train.roc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert curve.signal.tolist() == [0.0, 0.5, 1.0, 1.0]
    assert curve.background.tolist() == [0.0, 0.0, 0.5, 1.0]
    assert curve.background_entries.tolist() == [0, 0, 1, 2]


def test_the_clock_counts_the_wait_for_batches_and_not_the_work_on_them():
    def slow():
        for number in range(3):
            time.sleep(0.02)
            yield number

    clock = train.Clock()
    for _ in train.timed(slow(), clock):
        time.sleep(0.05)
    assert 0.06 <= clock.waited < 0.15


def test_the_network_standardises_its_inputs():
    mean, std = np.array([10.0, -2.0]), np.array([4.0, 0.5])
    network = train.Network(mean, std)
    torch = train.torch
    x = torch.tensor([[10.0, -2.0], [14.0, -1.5]])
    plain = network.layers(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    torch.testing.assert_close(network(x), plain)
    assert {"mean", "std"} <= set(network.state_dict())
