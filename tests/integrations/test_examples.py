"""The examples train on toy collisions, and learn something."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import toy  # noqa: E402  # an example itself


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("toy")
    for _ in toy.write(folder, 20_000, seed=3):
        pass
    return f"{folder}/*.root:events"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / "integrations" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_boosted_trees(files: str, library: str) -> None:
    pytest.importorskip(library)
    assert example("boosted_trees").main(library, files) > 0.85


def test_online_learning(files: str) -> None:
    pytest.importorskip("sklearn")
    assert example("online_learning").main(files) > 0.6


def test_lightning_training(files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        assert example("lightning_training").main(files) > 0.6


def test_accelerate_training(files: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    module, kept = example("accelerate_training"), str(tmp_path / "kept")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert module.main(files, epochs=2, save=kept) > 0.6
        assert module.main(files, epochs=3, resume=kept, save=kept) > 0.6


@pytest.mark.timeout(240)
@pytest.mark.filterwarnings("ignore")
def test_ray_data(files: str) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.train")
    pytest.importorskip("torch")
    ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False)
    try:
        assert example("ray_data").main(files) > 0.6
    finally:
        ray.shutdown()
