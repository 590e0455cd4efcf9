"""The examples train on toy collisions, and learn something."""

from __future__ import annotations

import importlib.util
import sys
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
