from __future__ import annotations

import os
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import nanoaod
import rootfeed as rf


def write(path: Path, entries: int) -> str:
    """Write events in the shape of NanoAOD."""
    random = np.random.default_rng(0)
    columns = {}
    for name, mean in (("Electron", 2), ("Muon", 2), ("Jet", 5)):
        lengths = random.poisson(mean, entries)
        total = int(lengths.sum())
        for member in ("pt", "eta", "phi", "mass"):
            values = (
                random.exponential(30, total) if member in ("pt", "mass") else random.normal(size=total)
            )
            columns[f"{name}_{member}"] = ak.unflatten(values.astype(np.float32), lengths)
    with uproot.recreate(path) as file:
        types = dict.fromkeys(columns, "var * float32")
        counts = {f"n{name}": "int32" for name in ("Electron", "Muon", "Jet")}
        tree = file.mktree("Events", types | counts, counter_name=lambda name: f"number_of_{name}")
        whole = {
            f"n{name}": np.asarray(ak.num(columns[f"{name}_pt"])).astype(np.int32)
            for name in ("Electron", "Muon", "Jet")
        }
        tree.extend(columns | whole)
    return str(path)


def check(path: str) -> None:
    frame = nanoaod.select(rf.open(f"{path}:Events"))
    with uproot.open(f"{path}:Events") as tree:
        names = [f"{name}_{m}" for name in ("Electron", "Muon") for m in ("pt", "eta", "phi", "mass")]
        events = tree.arrays([*names, "Jet_pt"])
    events = events[(ak.num(events.Electron_pt) >= 2) & (ak.num(events.Muon_pt) >= 2)]
    assert frame.count() == len(events) > 0
    arrays = frame.arrays(list(nanoaod.LEPTONS))
    assert np.array_equal(arrays["electron_pt"], np.asarray(events.Electron_pt[:, 0]))
    assert np.array_equal(arrays["electron_pt_2"], np.asarray(events.Electron_pt[:, 1]))
    assert np.array_equal(arrays["muon_pt_2"], np.asarray(events.Muon_pt[:, 1]))
    pt, eta, phi, mass = (
        np.asarray(events[f"Muon_{m}"][:, :2]).astype(np.float64) for m in ("pt", "eta", "phi", "mass")
    )
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    e = np.sqrt(x**2 + y**2 + z**2 + mass**2)
    squared = sum(s * part.sum(axis=1) ** 2 for s, part in ((1, e), (-1, x), (-1, y), (-1, z)))
    assert np.allclose(arrays["dimuon_mass"] ** 2, squared, rtol=1e-2, atol=1.0)
    jets = 0
    for batch in nanoaod.make_loader(frame):
        assert list(batch) == ["leptons", "jets", "jets_mask"]
        assert batch["leptons"].shape[1] == len(nanoaod.LEPTONS)
        assert batch["jets"].shape[1:] == (8, 3)
        assert (np.diff(batch["jets"][:, :, 0], axis=1) <= 0).all()
        jets += int(batch["jets_mask"].sum())
    assert jets == np.minimum(np.asarray(ak.num(events.Jet_pt)), 8).sum()


@pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning")
def test_the_selection(tmp_path: Path) -> None:
    check(write(tmp_path / "nano.root", 800))


@pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning")
@pytest.mark.parametrize("name", ["coffea/nano_tt_v12.root"])
def test_a_file_of_the_experiment(name: str) -> None:
    folder = os.environ.get("ROOTFEED_TEST_DATA")
    if not folder:
        pytest.skip("ROOTFEED_TEST_DATA names no folder")
    check(str(Path(folder) / name))
