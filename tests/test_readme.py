"""The README's code runs, and what it says about it is true."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import CutVectorWarning

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def block(word: str) -> str:
    """Return the only block of code that has a word."""
    (found,) = [each for each in BLOCKS if word in each]
    return found


def ran(text: str, **names: Any) -> dict[str, Any]:
    names = {"rf": rf, **names}
    exec(compile(text, str(README), "exec"), names)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the names and columns that the README has."""
    folder = tmp_path_factory.mktemp("readme")
    random = np.random.default_rng(0)
    (folder / "data").mkdir()
    for number in range(2):
        label = random.choice(3, 12_000, p=[0.5, 0.3, 0.2])
        columns = {name: random.normal(1, 0.1, len(label)) for name in ("pt", "eta", "phi", "genWeight")}
        columns |= {"label": label, "eventNumber": np.arange(len(label)) + number * len(label)}
        with uproot.recreate(folder / f"data/{number}.root") as file:
            file.mktree("events", {name: values.dtype for name, values in columns.items()})
            file["events"].extend(columns)
    (folder / "nano").mkdir()
    records, single = {}, {"MET_pt": random.exponential(30, 3000)}
    for name, mean, fields in (("Jet", 5, ("pt", "eta", "phi")), ("Muon", 2.5, ("pt", "eta"))):
        counts = random.poisson(mean, 3000)
        values = {each: ak.unflatten(random.exponential(40, counts.sum()), counts) for each in fields}
        records[name] = ak.zip(values)
    with uproot.recreate(folder / "nano/1.root") as file:
        types = {name: ak.type(values).content for name, values in records.items()}
        file.mktree("Events", {**types, "MET_pt": "float64"})
        file["Events"].extend({**records, **single})
    return folder


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_quick_start() -> None:
    pytest.importorskip("torch")
    names = ran(block("loader.split(0.2)"))
    train, test = names["train"], names["test"]
    assert (train.num_rows, test.num_rows) == (19_200, 4_800)
    x, y = next(iter(train.torch()))
    assert (tuple(x.shape), tuple(y.shape), str(x.dtype)) == ((1024, 3), (1024, 1), "torch.float32")


def test_definitions() -> None:
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CutVectorWarning)
        names = ran(block('rf.flat("Muon_pt"'))
        x = next(iter(names["loader"].torch()))
    assert tuple(x["event"].shape) == (256, 4)
    assert (tuple(x["jets"].shape), tuple(x["jets_mask"].shape)) == ((256, 16, 3), (256, 16))
    assert x["muons"].shape[1:] == (2,)
    assert tuple(x["muons_offsets"].shape) == (257,)


def test_exact_epochs_and_other_loops() -> None:
    data = pytest.importorskip("torch.utils.data")
    text = block("rf.balanced")
    whole = ran(text)
    assert Path("checkpoint.json").stat().st_size < 2000  # "one or two kilobytes"
    # After a restart: the last state is that of the first batch of the last epoch.
    again = ran(text)
    for one, two in zip(whole["x"], again["x"], strict=True):
        assert one.equal(two)
    shares = np.unique(whole["y"].numpy(), return_counts=True)[1] / len(whole["y"])
    assert np.allclose(shares, [0.5, 0.3, 0.2], atol=1 / 1024)
    train = whole["parts"]["train"]
    assert train.plan().batch_rows == len(train) * 1024 < train.num_rows
    text = block("batches.set_epoch").replace(", num_workers=2", "")  # what workers do, others test
    ran(text, batches=train.torch(), DataLoader=data.DataLoader, first_epoch=9)


def test_a_sampler() -> None:
    loader = ran(block("rf.Sampler"))["loader"]
    assert 0 < loader.plan(0).batch_rows < loader.num_rows == 24_000
    assert loader.plan(0).batch_rows != loader.plan(1).batch_rows  # other rows in each epoch
    assert sum(len(x) for x, _ in loader) == loader.plan(0).batch_rows


def test_code_written_for_roots_loader() -> None:
    pytest.importorskip("torch")
    found = importlib.util.find_spec("ROOT")
    if found is None or found.origin is None:
        pytest.skip("ROOT is not installed")
    file = Path(found.origin).parent / "tutorials/machine_learning/data/Higgs_data.root"
    Path("Higgs_data.root").symlink_to(file)
    names = ran(block("rootfeed.root"))
    assert (tuple(names["x"].shape), tuple(names["y"].shape)) == ((128, 28), (128, 1))


def test_every_block_is_tested() -> None:
    words = (
        "loader.split(0.2)",
        'rf.flat("Muon_pt"',
        "rf.balanced",
        "batches.set_epoch",
        "rf.Sampler",
        "rootfeed.root",
    )
    assert sorted(map(block, words)) == sorted(BLOCKS)


def test_what_is_named_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for path in re.findall(r"(?:scripts|benchmarks|examples|docs)/[\w./-]+", text):
        assert (README.parent / path.rstrip(".")).exists(), path
    for name in re.findall(r"\brf\.(\w+)", text):
        assert name in rf.__all__, name
