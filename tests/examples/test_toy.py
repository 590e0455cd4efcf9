"""The toy generator of the examples: kinematics, events and files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import kinematics
import toy

PROCESSES = {process.name: process for process in toy.processes()}
EVENTS = 2_000


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


def particles(random: np.random.Generator, mass: float, n: int = EVENTS) -> np.ndarray:
    return kinematics.four_vector(mass, *random.normal(0.0, 200.0, (3, n)))


def transverse(random: np.random.Generator, n: int) -> np.ndarray:
    """Transverse vectors `(2, n)` whose sizes cover three orders of magnitude."""
    size, phi = np.exp(random.uniform(0.0, 7.0, n)), random.uniform(-np.pi, np.pi, n)
    return np.stack([size * np.cos(phi), size * np.sin(phi)])


def scanned_stransverse_mass(p1: np.ndarray, p2: np.ndarray, missing: np.ndarray) -> float:
    """m_T2 of one event from its definition: a scan of all divisions of the missing momentum, on
    a grid that shrinks around its best point."""
    steps = np.stack(np.meshgrid(*2 * [np.linspace(-1.0, 1.0, 41)])).reshape(2, -1)
    centre, half, best = missing / 2, 3 * sum(map(np.linalg.norm, (p1, p2, missing))), np.inf
    for _ in range(160):
        first = centre[:, None] + half * steps
        masses = np.maximum(
            kinematics.transverse_mass(p1[:, None] + 0 * first, first),
            kinematics.transverse_mass(p2[:, None] + 0 * first, missing[:, None] - first),
        )
        centre, best = first[:, np.argmin(masses)], min(best, masses.min())
        half *= 0.85
    return float(best)


def true_stransverse_mass(collisions: toy.Collisions) -> np.ndarray:
    """m_T2 without a detector."""
    muon1, muon2 = collisions.muons
    return kinematics.stransverse_mass(muon1[1:3], muon2[1:3], collisions.invisible[1:3])


@pytest.mark.parametrize(
    ("mass", "m1", "m2"), [(400.0, 50.0, 80.4), (91.2, 0.1, 0.1), (80.0, 80.0, 0.0)]
)
def test_a_decay_conserves_momentum_and_puts_products_on_shell(random, mass, m1, m2):
    parent = particles(random, mass)
    first, second = kinematics.decay(parent, m1, m2, random)
    np.testing.assert_allclose(first + second, parent, rtol=1e-9, atol=1e-6)
    for product, expected in ((first, m1), (second, m2)):
        squared = product[0] ** 2 - np.square(product[1:]).sum(axis=0)
        np.testing.assert_allclose(squared, expected**2, atol=1e-8 * product[0].max() ** 2)


def test_a_decay_is_isotropic_in_the_rest_frame_of_its_parent(random):
    at_rest = kinematics.four_vector(100.0, *np.zeros((3, 200_000)))
    first, _ = kinematics.decay(at_rest, 10.0, 20.0, random)
    direction = first[1:] / kinematics.two_body_momentum(100.0, 10.0, 20.0)
    np.testing.assert_allclose(np.linalg.norm(direction, axis=0), 1.0, rtol=1e-9)
    np.testing.assert_allclose(direction.mean(axis=1), 0.0, atol=0.01)
    np.testing.assert_allclose(np.cov(direction), np.eye(3) / 3.0, atol=0.01)


def test_a_boost_carries_a_particle_at_rest_to_its_parents_velocity(random):
    parent = particles(random, 91.2)
    at_rest = kinematics.four_vector(30.0, *np.zeros((3, EVENTS)))
    np.testing.assert_allclose(kinematics.boost(at_rest, parent), parent * 30.0 / 91.2, rtol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
def test_collisions_balance_in_transverse_momentum(random, name):
    collisions = PROCESSES[name].collisions(EVENTS, random)
    parts = [*collisions.muons, collisions.invisible, *collisions.bottoms, collisions.recoil]
    np.testing.assert_allclose(sum(part[1:3] for part in parts), 0.0, atol=1e-6)
    assert len(collisions.bottoms) == (2 if name == "background_tt" else 0)
    for muon in collisions.muons:
        squared = muon[0] ** 2 - np.square(muon[1:]).sum(axis=0)
        np.testing.assert_allclose(squared, toy.MUON_MASS**2, atol=1e-8 * muon[0].max() ** 2)


def test_stransverse_mass_agrees_with_a_scan_of_its_definition(random):
    p1, p2, missing = (transverse(random, 60) for _ in range(3))
    found = kinematics.stransverse_mass(p1, p2, missing)
    assert np.count_nonzero(found) > 20
    for i, value in enumerate(found):
        scanned = scanned_stransverse_mass(p1[:, i], p2[:, i], missing[:, i])
        assert value <= scanned * (1.0 + 1e-9)
        if value > 0.0:
            assert value == pytest.approx(scanned, rel=2e-3)
        else:
            # The scan comes to zero along a narrow valley, more slowly than to any other value.
            assert scanned < 0.1 * np.linalg.norm(missing[:, i])


def test_stransverse_mass_agrees_with_the_program_of_lester_and_nachman():
    # Values of the program that comes with arXiv:1411.4312, as released in mt2 on PyPI.
    events = np.array(
        [
            (50.0, 10.0, -20.0, 40.0, 30.0, -60.0),
            (30.0, -40.0, 25.0, 60.0, -90.0, -20.0),
            (45.0, 5.0, 40.0, 15.0, -70.0, 35.0),
            (25.0, 30.0, -400.0, 100.0, 500.0, -300.0),
        ]
    ).T
    expected = [52.04224638523746, 71.7880066428777, 77.51725567135094, 184.30441553511608]
    found = kinematics.stransverse_mass(events[:2], events[2:4], events[4:])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_stransverse_mass_without_recoil_is_the_contransverse_mass(random):
    # M. Serna, arXiv:0804.3344: m_T2^2 = 2 (|p1| |p2| + p1 . p2) where s = -(p1 + p2).
    p1, p2 = transverse(random, EVENTS), transverse(random, EVENTS)
    product = np.hypot(*p1) * np.hypot(*p2) + (p1 * p2).sum(axis=0)
    found = kinematics.stransverse_mass(p1, p2, -(p1 + p2))
    np.testing.assert_allclose(found, np.sqrt(2.0 * product), rtol=1e-6, atol=1e-6)


def test_stransverse_mass_is_zero_for_missing_momentum_between_the_visible(random):
    p1, p2 = transverse(random, EVENTS), transverse(random, EVENTS)
    shares = random.uniform(0.1, 2.0, (2, EVENTS))
    assert not kinematics.stransverse_mass(p1, p2, shares[0] * p1 + shares[1] * p2).any()


def test_stransverse_mass_knows_both_orders_and_parallel_momenta(random):
    p1, p2, missing = (transverse(random, EVENTS) for _ in range(3))
    found = kinematics.stransverse_mass(p1, p2, missing)
    swapped = kinematics.stransverse_mass(p2, p1, missing)
    np.testing.assert_allclose(found, swapped, rtol=1e-6, atol=1e-6)
    # One direction for both: the two sides balance at a = b, m_T2^2 = 2 a (|s| - e . s).
    size = 1.0 / (1.0 / np.hypot(*p1) + 0.5 / np.hypot(*p1))
    limit = 2.0 * size * (np.hypot(*missing) - (p1 * missing).sum(axis=0) / np.hypot(*p1))
    parallel = kinematics.stransverse_mass(p1, 2.0 * p1, missing)
    np.testing.assert_allclose(parallel, np.sqrt(limit), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("masses", toy.MASS_PAIRS)
def test_stransverse_mass_of_signal_ends_at_its_kinematic_endpoint(random, masses):
    # The endpoint without recoil, (M^2 - m^2) / M for massless test particles, and M with any
    # recoil: M. Burns, K. Kong, K. T. Matchev, M. Park, arXiv:0810.5576.
    chargino, neutralino = masses
    collisions = toy.charginos(50_000, random, chargino, neutralino)
    found = true_stransverse_mass(collisions)
    assert found.max() <= chargino

    pair = sum(collisions.muons) + collisions.invisible
    still = collisions.recoil[:, :1] * 0.0
    muons = [unboosted(muon, pair) for muon in collisions.muons]
    invisible = unboosted(collisions.invisible, pair)
    balanced = toy.Collisions((muons[0], muons[1]), invisible, (), still)
    endpoint = (chargino**2 - neutralino**2) / chargino
    found = true_stransverse_mass(balanced)
    assert found.max() <= endpoint
    assert found.max() > 0.7 * endpoint


def unboosted(p: np.ndarray, system: np.ndarray) -> np.ndarray:
    """The four-vectors in the frame in which the system does not move."""
    return kinematics.boost(p, system * np.array([[1.0], [-1.0], [-1.0], [-1.0]]))


def test_stransverse_mass_of_w_pairs_ends_at_the_mass_of_the_heavier(random):
    found = true_stransverse_mass(toy.w_pair(50_000, random))
    assert 80.0 < found.max() <= 100.0
    assert np.mean(found > 85.0) < 0.01


def test_top_pairs_have_the_most_jets_and_z_bosons_their_peak():
    jets = {name: toy.sample(PROCESSES[name], EVENTS, 3)["n_jets"].mean() for name in PROCESSES}
    assert max(jets, key=jets.__getitem__) == "background_tt"
    peak = toy.sample(PROCESSES["background_z"], EVENTS, 3)["m_mumu"]
    assert np.median(peak) == pytest.approx(91.2, abs=0.3)


@pytest.mark.parametrize("name", ["signal_300_50", "background_ww"])
def test_the_same_seed_gives_the_same_events_and_another_gives_others(name):
    first, again, other = (toy.sample(PROCESSES[name], EVENTS, seed) for seed in (5, 5, 6))
    for column, values in first.items():
        np.testing.assert_array_equal(values, again[column])
    assert not np.intersect1d(first["met"], other["met"]).size > EVENTS // 100


@pytest.mark.parametrize("name", PROCESSES)
def test_a_sample_holds_selected_events_in_the_promised_types(name):
    process = PROCESSES[name]
    columns = toy.sample(process, EVENTS, 11, first_event=10**10)
    assert {key: values.dtype for key, values in columns.items()} == toy.COLUMNS
    assert all(len(values) == EVENTS and np.isfinite(values).all() for values in columns.values())
    assert (columns["mu1_pt"] >= columns["mu2_pt"]).all()
    assert columns["mu1_pt"].min() > toy.LEADING_PT
    assert columns["met"].min() > toy.SMALLEST_MET
    assert (columns["label"] == process.label).all()
    assert (np.diff(columns["event"]) == 1).all()
    assert columns["event"][0] == 10**10
    masses = set(zip(columns["m_chargino"].tolist(), columns["m_neutralino"].tolist(), strict=True))
    assert masses == ({process.masses} if process.masses else set(toy.MASS_PAIRS))
    expected = process.cross_section * toy.LUMINOSITY
    assert 0.0 < columns["weight"].sum(dtype=np.float64) < expected


@pytest.mark.parametrize("name", ["signal_200_50", "background_tt"])
def test_weights_add_up_to_the_same_yield_whatever_the_number_of_events(name):
    few, many = (
        toy.sample(PROCESSES[name], entries, 2)["weight"].sum(dtype=np.float64)
        for entries in (3_000, 40_000)
    )
    assert few == pytest.approx(many, rel=0.05)


def test_files_hold_all_columns_in_both_formats_and_several_clusters(tmp_path):
    files = list(toy.write(tmp_path, 2_000, 1))
    assert [file.format for file in files] == ["TTree", "RNTuple"] * 4
    assert {file.process for file in files} == set(PROCESSES)
    events = []
    for file in files:
        with uproot.open(file.spec) as tree:
            names = tree.keys()
            assert set(names) == set(toy.COLUMNS)
            arrays = {name: np.asarray(tree[name].array()) for name in names}
            if file.format == "TTree":
                assert tree["met"].num_baskets == toy.CLUSTERS
            else:
                assert len(tree.cluster_summaries) == toy.CLUSTERS
        assert {key: values.dtype for key, values in arrays.items()} == toy.COLUMNS
        expected = toy.sample(PROCESSES[file.process], file.entries, 1, int(arrays["event"][0]))
        for key, values in arrays.items():
            np.testing.assert_array_equal(values, expected[key])
        events.append(arrays["event"])
    assert len(np.unique(np.concatenate(events))) == sum(file.entries for file in files)


def test_a_written_dataset_is_used_again_until_something_else_is_asked_for(tmp_path):
    def times() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("*.root"))]

    first, before = list(toy.write(tmp_path, 2_000, 1)), times()
    assert list(toy.write(tmp_path, 2_000, 1)) == first
    assert times() == before
    list(toy.write(tmp_path, 2_000, 2))
    assert all(now != then for now, then in zip(times(), before, strict=True))


@pytest.mark.thorough
def test_a_dataset_written_twice_has_the_same_identity(tmp_path):
    def identities(folder: str, seed: int) -> list[str]:
        found = []
        for file in toy.write(tmp_path / folder, 2_000, seed):
            with uproot.open(file.path) as opened:
                found.append(str(opened.file.uuid))
        return found

    first, again, other = (identities(*each) for each in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert not set(first) & set(other)
    assert len(set(first)) == len(PROCESSES)


def test_an_interrupted_writing_is_not_taken_for_a_dataset(tmp_path):
    writing = toy.write(tmp_path, 2_000, 1)
    next(writing)
    writing.close()
    assert not (tmp_path / "toy.json").exists()
    assert len(list(toy.write(tmp_path, 2_000, 1))) == len(PROCESSES)
