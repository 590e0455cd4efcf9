"""RDataFrame's words over our frames: what they say, and that ROOT says the same."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed.root as ROOT
from rootfeed.errors import ArgumentError, CutVectorWarning, ExpressionTypeError
from rootfiles.environment import load_root


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    random = np.random.default_rng(2)
    lengths = random.poisson(3, 500)
    pt = ak.unflatten(random.exponential(30, int(lengths.sum())).astype(np.float32), lengths)
    path = tmp_path_factory.mktemp("root") / "events.root"
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "events", {"id": "int64", "n": "int32", "x": "float32", "pt": "var * float32"}
        )
        tree.extend(
            {
                "id": np.arange(500),
                "n": lengths.astype(np.int32) - 2,
                "x": random.normal(size=500).astype(np.float32),
                "pt": pt,
            }
        )
    return str(path)


def chain(module: Any, path: str) -> Any:
    frame = module.RDataFrame("events", path)
    return (
        frame.Define("half", "n / 2")
        .Define("rest", "n % 2")
        .Filter("pt.size() > 1", "two")
        .Define("lead", "pt[0]")
        .Redefine("x", "x * 2")
        .Define("hard", "Sum(pt > 20)")
        .Filter("hard >= 1 || x > 0", "hard")
        .Alias("first", "lead")
    )


COLUMNS = ["id", "half", "rest", "lead", "x", "hard", "first"]


def test_the_same_as_in_root(path: str) -> None:
    real = load_root()
    expected = chain(real, path)
    found = chain(ROOT, path)
    arrays, theirs = found.AsNumpy(COLUMNS), expected.AsNumpy(COLUMNS)
    for name in COLUMNS:
        assert arrays[name].dtype == theirs[name].dtype, name
        assert np.array_equal(arrays[name], theirs[name]), name
    assert found.Count().GetValue() == expected.Count().GetValue() == len(arrays["id"])
    flow = {cut.label: (cut.entries, cut.passed) for cut in found.Report().GetValue()}
    assert flow == {cut.GetName(): (cut.GetAll(), cut.GetPass()) for cut in expected.Report()}
    ranged = real.RDataFrame("events", path).Range(10, 100, 7).AsNumpy(["id"])["id"]
    assert np.array_equal(
        ROOT.RDataFrame("events", path).Range(10, 100, 7).AsNumpy(["id"])["id"], ranged
    )


def test_answers(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    frame = ROOT.RDataFrame("events", path).Filter("x > 0", "positive")
    count = frame.Count()
    assert int(count) == count.GetValue() == frame.frame.count()
    frame.Report().Print()
    assert "positive" in capsys.readouterr().out
    assert len(frame.Range(5).AsNumpy(["id"])["id"]) == 5
    assert len(frame.Range(5, 0).AsNumpy(["id"])["id"]) == count.GetValue() - 5
    vectors = frame.AsNumpy(["pt"])["pt"]
    assert vectors.dtype == object
    assert vectors[0].dtype == np.float32
    assert "id" not in frame.AsNumpy(exclude=["id"])
    assert frame.Define("a", "x").GetColumnNames()[0] == "a"


def test_meanings_of_cpp(path: str) -> None:
    frame = ROOT.RDataFrame("events", path)
    with pytest.raises(ExpressionTypeError, match="there is no // in C"):
        frame.Define("a", "n // 2")
    with pytest.raises(ExpressionTypeError, match="must not be negative"):
        frame.Define("a", "pt[-1]")


@pytest.mark.parametrize("create", [ROOT.CreateNumPyGenerators, ROOT.CreatePyTorchGenerators])
def test_vectors_as_features(path: str, create: Any) -> None:
    if create is ROOT.CreatePyTorchGenerators:
        pytest.importorskip("torch")
    frame = ROOT.RDataFrame("events", path)
    arguments = {"columns": ["x", "pt", "n"], "max_vec_sizes": {"pt": 3}, "vec_padding": -1}
    made = create(frame, 100, 500, 50, target="n", set_seed=1, **arguments)
    train = made[0] if isinstance(made, tuple) else made
    with pytest.warns(CutVectorWarning):
        batches = [(np.asarray(x), np.asarray(y)) for x, y in train]
    assert train.train_columns == ["x", "pt_0", "pt_1", "pt_2"]
    rows = np.concatenate([np.hstack(batch) for batch in batches])
    with uproot.open(f"{path}:events") as tree:
        events = tree.arrays(["x", "pt", "n"])
    pt = np.asarray(ak.to_numpy(ak.fill_none(ak.pad_none(events.pt, 3, clip=True), -1)))
    expected = np.column_stack([np.asarray(events.x), pt, np.asarray(events.n)])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.astype("f4").tolist()))
    with pytest.raises(ArgumentError, match=r"give their length, max_vec_sizes=\{'pt': n\}"):
        create(frame, 100, 500, 50, columns=["x", "pt"])
