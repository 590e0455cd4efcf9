"""A linear classifier of scikit-learn that learns batch by batch.

Usage: python online_learning.py "data/*.root:events"
"""

from __future__ import annotations

import sys

from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rootfeed as rf
from rootfeed.integrations.sklearn import partial_fit

FEATURES = ["mu1_pt", "mu2_pt", "m_mumu", "m_T", "met", "m_T2", "n_jets"]


def main(files: str) -> float:
    """Train for three epochs and return the accuracy on the test part."""
    frame = rf.open(files)
    scaler = partial_fit(StandardScaler(), rf.Loader(frame, 4096, FEATURES))
    names = [f"{name}_scaled" for name in FEATURES]
    for name, scaled, mean, width in zip(FEATURES, names, scaler.mean_, scaler.scale_, strict=True):
        frame = frame.define(scaled, f"({name} - {mean}) / {width}")
    train, test = rf.Loader(frame, 4096, names, "label", sampling=rf.balanced("label")).split(0.3)
    model = partial_fit(SGDClassifier(loss="log_loss"), train, epochs=3, classes=[0, 1])
    found = test.arrays()
    accuracy = float(model.score(found["x"], found["y"]))
    print(f"{len(found['y'])} test rows, accuracy {accuracy:.3f}")
    print(make_pipeline(scaler, model))
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
