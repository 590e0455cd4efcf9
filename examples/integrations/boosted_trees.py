"""Boosted trees on batches from ROOT files, in XGBoost and in LightGBM.

Usage: python boosted_trees.py [xgboost | lightgbm] "data/*.root:events"
"""

from __future__ import annotations

import sys

import numpy as np

import rootfeed as rf

FEATURES = ["mu1_pt", "mu2_pt", "m_mumu", "m_T", "met", "m_T2", "n_jets"]
TARGET, WEIGHT = "label", rf.normalized("weight", per="label")


def with_xgboost(train: rf.Loader, test: rf.Loader) -> np.ndarray:
    """Train, and return the scores of the test part."""
    import xgboost

    from rootfeed.integrations.xgboost import Batches

    matrix = xgboost.QuantileDMatrix(Batches(train))
    parameters = {"objective": "binary:logistic", "max_depth": 4}
    model = xgboost.train(parameters, matrix, num_boost_round=50)
    scores = [model.inplace_predict(x) for x, *_ in test]
    return np.concatenate(scores)


def with_lightgbm(train: rf.Loader, test: rf.Loader) -> np.ndarray:
    """Train, and return the scores of the test part."""
    import lightgbm

    from rootfeed.integrations.lightgbm import dataset

    parameters = {"objective": "binary", "verbose": -1}
    model = lightgbm.train(parameters, dataset(train), num_boost_round=50)
    return np.concatenate([model.predict(x) for x, *_ in test])


def main(library: str, files: str) -> float:
    """Train with a library and return the area under the ROC curve of the test part."""
    # LightGBM asks for rows by their number, and neither library minds the order.
    loader = rf.Loader(files, 65_536, FEATURES, TARGET, WEIGHT, shuffle=False)
    train, test = loader.split(0.3)
    scores = {"xgboost": with_xgboost, "lightgbm": with_lightgbm}[library](train, test)
    label = test.arrays()["y"].astype(bool)
    order = np.argsort(scores)
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    signal, background = np.count_nonzero(label), np.count_nonzero(~label)
    area = (ranks[label].sum() - signal * (signal + 1) / 2) / (signal * background)
    print(f"{library}: {len(label)} test rows, area under the curve {area:.3f}")
    return float(area)


if __name__ == "__main__":
    main(*sys.argv[1:])
