"""Programs for ROOT's loader run with one import changed: ours, and the tutorials that ROOT brings."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rootfiles.environment import load_root

EXAMPLES = Path(__file__).parents[2] / "examples/from_root"
NEEDED = {
    "torch_training": ["torch"],
    "tensorflow_training": ["tensorflow"],
    "xgboost_training": ["xgboost", "sklearn"],
}
# Vectors of these files are longer than asked for; and what Keras says of every data set of TensorFlow.
pytestmark = [
    pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning"),
    pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning"),
]
TUTORIALS = {
    "NumPy": "numpy",
    "PyTorch": "torch",
    "TensorFlow": "tensorflow",
    "filters_vectors": "numpy",
}


@pytest.fixture(scope="session")
def tutorials() -> Path:
    """Name the folder of the tutorials of ROOT's wheel."""
    found = importlib.util.find_spec("ROOT")
    folder = Path(found.origin).parent / "tutorials/machine_learning" if found and found.origin else None
    if folder is None or not folder.is_dir():
        pytest.skip("no ROOT is installed that brings tutorials")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch use one thread: more only delay such small layers, where tests run side by side."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    torch = importlib.import_module("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(text: str, name: str) -> dict[str, Any]:
    """Run a program; return its names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    return names


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_examples(name: str, tutorials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in NEEDED.get(name, []):
        pytest.importorskip(module)
    path = EXAMPLES / f"{name}.py"
    names = run(path.read_text(encoding="utf-8"), str(path))
    printed = capsys.readouterr().out
    match name:
        case "numpy_batches":
            assert printed.count("54 batches of {((128, 28), (128, 1))}") == 2
            assert printed.count("23 batches of {((128, 28), (128, 1))}") == 2
        case "torch_training" | "xgboost_training":
            assert names["accuracy"] > 0.55
        case "tensorflow_training":
            assert np.isfinite(names["history"].history["loss"]).all()
        case "filters_and_vectors":
            assert "training: [(5, 9), (5, 9)" in printed
        case "resampling":
            assert (
                printed
                == "undersampling: 2152 + 1076 rows, 0.500\noversampling: 8000 + 4000 rows, 0.500\n"
            )
        case "generators":
            assert "6.36: (128, 28) (128, 1) 23" in printed
            assert "6.38: [6912, 2944] 54" in printed
        case _:
            pytest.fail(f"nothing is asserted of {name}")


@pytest.mark.thorough(but=["resampling"])
@pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")
@pytest.mark.parametrize("name", ["numpy_batches", "resampling"])
def test_examples_say_the_same_in_root(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    load_root()
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    printed = []
    for program in (text, text.replace("import rootfeed.root as ROOT", "import ROOT")):
        run(program, name)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_of_root(name: str, tutorials: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(TUTORIALS[name])
    path = tutorials / f"ml_dataloader_{name}.py"
    text = path.read_text(encoding="utf-8")
    assert text.count("\nimport ROOT\n") == 1
    run(text.replace("\nimport ROOT\n", "\nimport rootfeed.root as ROOT\n"), str(path))
    printed = capsys.readouterr().out
    match name:
        case "NumPy":
            assert printed.count("Training batch 54 => x: (128, 28), y: (128, 1)") == 2
        case "PyTorch":
            assert printed.count("Training => accuracy") == 2 * 54
        case "filters_vectors":
            assert "Training batch 0 => (5, 9)" in printed
