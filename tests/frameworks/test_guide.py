"""The guide's page on frameworks does what it says: its lines run here, where the frameworks are."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

PAGE = Path(__file__).parents[2] / "docs/guide/frameworks.md"
SECTIONS = {
    title: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for title, text in re.findall(
        r"^#+ (.+?)$(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
}
NEEDED = {
    "TensorFlow": ["tensorflow", "keras"],
    "Keras": ["keras"],
    "JAX": ["jax"],
    "XGBoost": ["xgboost"],
    "LightGBM": ["lightgbm"],
    "scikit-learn": ["sklearn"],
    "Lightning": ["torch", "lightning"],
    "Accelerate": ["torch", "accelerate"],
    "Ray": ["ray.data"],
    "Resuming": ["keras"],
}
TRAINERS = ("Lightning", "Accelerate", "Ray")


def test_all_sections_are_run() -> None:
    assert list(SECTIONS)[1:] == list(NEEDED)
    assert all(SECTIONS.values())


@pytest.mark.parametrize("title", NEEDED)
def test_a_section(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDED[title]:
        found = pytest.importorskip(module)
    if title == "TensorFlow" and found.backend.backend() != "tensorflow":
        pytest.skip("Keras has another backend: KERAS_BACKEND=tensorflow")
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(8)
    label = random.integers(0, 2, 10_000)
    with uproot.recreate("data.root") as file:
        file["events"] = {
            "pt": random.exponential(1, len(label)) * (1 + label),
            "eta": random.normal(0, 1.5 - 0.5 * label),
            "label": label,
        }
    names: dict[str, Any] = {"__name__": "guide"}
    with warnings.catch_warnings():
        if title in TRAINERS:
            warnings.simplefilter("ignore")  # their own, of which there are many
        for block in [*SECTIONS[next(iter(SECTIONS))], *SECTIONS[title]]:
            exec(compile(block, f"{PAGE.name}, {title}", "exec"), names)
    if title == "Lightning":
        assert names["trainer"].current_epoch == 4
    if title == "Accelerate":
        assert names["batches"].state_dict()["epoch"] == 2
    if title == "Resuming":
        assert names["train"].state_dict()["epoch"] == 5
    if title == "JAX":
        assert names["weights"][0] > 0.1  # it learns
