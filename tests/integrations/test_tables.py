"""XGBoost, LightGBM and scikit-learn get the rows, labels and weights of a loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError

ENTRIES = 4000
RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(ENTRIES, 3)).astype(np.float32)
LABEL = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(np.int32)
WEIGHT = RANDOM.uniform(0.5, 2, ENTRIES).astype(np.float32)


@pytest.fixture(scope="module")
def frame() -> rf.Frame:
    columns = {f"x{number}": X[:, number] for number in range(3)}
    return rf.from_arrays({**columns, "label": LABEL, "weight": WEIGHT})


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["x0", "x1", "x2"], "target": "label", "seed": 1}
    return rf.Loader(frame, 333, **(settings | options))


def test_data_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    import rootfeed.root as ROOT

    table = pandas.DataFrame(
        {"x": [1.5, 2.5, 4.0], "n": [3, 1, 2], "s": ["a", "bc", ""], "b": [True, False, True]}
    )
    frame = ROOT.RDF.FromPandas(table[table["n"] > 1])
    assert frame.GetColumnType("n") == "Long64_t"
    found = frame.Define("twice", "2 * n").Filter('s == "a" || b').AsNumpy(["x", "twice", "s"])
    assert found["x"].tolist() == [1.5, 4.0]
    assert found["twice"].tolist() == [6, 4]
    assert list(found["s"]) == ["a", ""]
    with pytest.raises(ArgumentError, match="no value"):
        ROOT.RDF.FromPandas(pandas.DataFrame({"s": ["a", None]}))


# --- XGBoost --------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "weight"])
@pytest.mark.parametrize("kind", ["QuantileDMatrix", "ExtMemQuantileDMatrix"])
def test_matrices_of_xgboost(frame: rf.Frame, kind: str, weights: str | None, tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    from rootfeed.integrations.xgboost import Batches

    prefix = str(tmp_path / "pages") if kind.startswith("ExtMem") else None
    loader = make(frame, weights=weights)
    matrix = getattr(xgboost, kind)(Batches(loader, epoch=5, cache_prefix=prefix), max_bin=32)
    loader.set_epoch(5)
    x, y, w = (
        np.concatenate(part) for part in zip(*(with_weights(each) for each in loader), strict=True)
    )
    assert matrix.num_row() == ENTRIES
    assert matrix.feature_names == ["x0", "x1", "x2"]
    assert np.array_equal(matrix.get_label(), y[:, 0])
    assert np.array_equal(matrix.get_weight(), w[:, 0] if weights else [])
    parameters = {"objective": "binary:logistic", "max_bin": 32, "tree_method": "hist"}
    model = xgboost.train(parameters, matrix, 20)
    expected = xgboost.train(
        parameters,
        xgboost.QuantileDMatrix(x, y[:, 0], weight=w[:, 0] if weights else None, max_bin=32),
        20,
    )
    scores = [each.predict(xgboost.DMatrix(X, feature_names=names(each))) for each in (model, expected)]
    assert np.mean((scores[0] > 0.5) == LABEL) > 0.93
    assert np.abs(scores[0] - scores[1]).max() < (1e-5 if prefix is None else 0.2)


def names(model: Any) -> Any:
    return model.feature_names


def with_weights(batch: Any) -> tuple[Any, Any, Any]:
    return batch if len(batch) == 3 else (*batch, np.ones_like(batch[1]))


def test_xgboost_goes_through_the_same_batches(frame: rf.Frame) -> None:
    pytest.importorskip("xgboost")
    from rootfeed.integrations.xgboost import Batches

    batches = Batches(make(frame))
    seen = []
    for _ in range(3):
        found: list[Any] = []

        def keep(data: Any, into: list[Any] = found, **_: Any) -> None:
            into.append(data)

        batches.reset()
        while batches.next(keep):
            pass
        seen.append(np.concatenate(found))
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], X)


# --- LightGBM -------------------------------------------------------------------------------------


def test_rows_by_their_number(frame: rf.Frame) -> None:
    pytest.importorskip("lightgbm")
    from rootfeed.integrations.lightgbm import Rows

    rows = Rows(make(frame, shuffle=False))
    assert len(rows) == ENTRIES
    for number in (0, 332, 333, 1000, 999, 3999, 5):
        assert np.array_equal(rows[number], X[number])
    for start, stop in ((0, 10), (300, 340), (5, 3000), (3990, 4000), (0, ENTRIES), (7, 7)):
        assert np.array_equal(rows[start:stop], X[start:stop])
    assert np.array_equal(rows[3:900:7], X[3:900:7])
    assert np.array_equal(rows[[4, 2000]], X[[4, 2000]])
    assert np.array_equal(rows[900:3:-7], X[900:3:-7])
    assert rows[[]].shape == (0, 3)
    assert np.array_equal(rows[-1], X[-1])
    with pytest.raises(IndexError):
        rows[ENTRIES]


@pytest.mark.parametrize("weights", [None, "weight"])
def test_datasets_of_lightgbm(frame: rf.Frame, weights: str | None) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    from rootfeed.integrations.lightgbm import dataset

    made = dataset(make(frame, weights=weights, shuffle=False), params={"verbose": -1})
    whole = lightgbm.Dataset(X, LABEL, weight=WEIGHT if weights else None, params={"verbose": -1})
    options = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}
    found, expected = (
        lightgbm.train(options, each, num_boost_round=20).predict(X) for each in (made, whole)
    )
    assert np.array_equal(found, expected)
    assert made.feature_name == ["x0", "x1", "x2"]


def test_lightgbm_wants_the_order_of_the_files(frame: rf.Frame) -> None:
    pytest.importorskip("lightgbm")
    from rootfeed.integrations.lightgbm import dataset

    with pytest.raises(ArgumentError, match="shuffle=False"):
        dataset(make(frame))
    with pytest.raises(ArgumentError, match="target="):
        dataset(make(frame, target=None, shuffle=False))
    with pytest.raises(ArgumentError, match="one column of labels"):
        dataset(make(frame, target=["label", "weight"], shuffle=False))
    with pytest.raises(ArgumentError, match="without epoch="):
        dataset(make(frame, shuffle=False, epoch=3))


# --- scikit-learn ---------------------------------------------------------------------------------


def test_estimators_learn_batch_by_batch(frame: rf.Frame) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    from rootfeed.integrations.sklearn import partial_fit

    scaler = partial_fit(preprocessing.StandardScaler(), make(frame, target=None))
    assert np.allclose(scaler.mean_, X.mean(0, dtype=np.float64), atol=1e-6)
    model = linear_model.SGDClassifier(loss="log_loss", random_state=1)
    partial_fit(model, make(frame, weights="weight"), epochs=3, classes=[0, 1])
    expected = linear_model.SGDClassifier(loss="log_loss", random_state=1)
    again = make(frame, weights="weight")
    for _ in range(3):
        for x, y, w in again:
            expected.partial_fit(x, y[:, 0], [0, 1], w[:, 0])
    assert np.array_equal(model.coef_, expected.coef_)


def test_what_cannot_learn_so_says_so(frame: rf.Frame) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    linear_model = pytest.importorskip("sklearn.linear_model")
    cluster = pytest.importorskip("sklearn.cluster")
    from rootfeed.integrations.sklearn import partial_fit

    with pytest.raises(ArgumentError, match="RandomForestClassifier cannot learn batch by batch"):
        partial_fit(ensemble.RandomForestClassifier(), make(frame))
    with pytest.raises(ArgumentError, match=r"give classes=\[0, 1\]"):
        partial_fit(linear_model.SGDClassifier(), make(frame))
    with pytest.raises(ArgumentError, match="takes no weights"):
        partial_fit(cluster.Birch(), make(frame, weights="weight"))
    inputs = {"a": ["x0"], "b": ["x1"]}
    with pytest.raises(ArgumentError, match="one matrix of features"):
        partial_fit(linear_model.SGDClassifier(), make(frame, features=inputs), classes=[0, 1])
    with pytest.raises(ArgumentError, match=r"takes a rootfeed\.Loader"):
        partial_fit(linear_model.SGDClassifier(), X, classes=[0, 1])
