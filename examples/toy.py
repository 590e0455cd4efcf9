"""A TOY of proton collisions with two muons and missing energy, written into ROOT files.

It has the shape of a search for charginos, p p -> chargino+ chargino- -> W+ W- and two neutralinos
-> mu+ mu- and missing transverse momentum, among its backgrounds W+ W-, t tbar and Z -> mu+ mu-. It
is a toy: invariant masses and transverse boosts are drawn from simple falling shapes, every decay
is isotropic, and the detector is a handful of Gaussian resolutions. What is right is the
kinematics: masses, boosts, momentum balance. Nothing here is a simulation to read physics from.

Energies, momenta and masses are in GeV with c = 1, angles in radians.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import numpy as np
import uproot
from numpy.typing import NDArray

from kinematics import (
    Floats,
    azimuth,
    decay,
    four_vector,
    invariant_mass,
    pseudorapidity,
    stransverse_mass,
    transverse_mass,
    transverse_momentum,
)

__all__ = [
    "COLUMNS",
    "MASS_PAIRS",
    "TREE",
    "Collisions",
    "Process",
    "Seen",
    "ToyFile",
    "detect",
    "measure",
    "processes",
    "sample",
    "selected",
    "write",
]

VERSION = 1
TREE = "events"
CLUSTERS = 8
LUMINOSITY = 140.0  # 1 / fb, of the size of the LHC's second run
BEAM_ENERGY = 13_000.0

MASS_PAIRS = ((150, 25), (200, 50), (300, 50), (300, 150), (400, 50))

# Particle Data Group, Review of Particle Physics, rounded: (mass, width) in GeV.
W_BOSON, Z_BOSON, TOP = (80.4, 2.09), (91.2, 2.50), (172.6, 1.42)
MUON_MASS, BOTTOM_MASS = 0.10566, 4.8
W_TO_MUON = 0.1063  # branching fraction W -> mu nu, the same source

# Selection, and what counts as a jet.
LEADING_PT, SECOND_PT, MUON_ETA, SMALLEST_MET = 25.0, 20.0, 2.5, 40.0
JET_PT, JET_ETA = 25.0, 4.5

KINEMATICS = "mu1_pt mu1_eta mu1_phi mu2_pt mu2_eta mu2_phi m_mumu m_T met m_T2 n_jets"
MASSES = "m_chargino m_neutralino"
COLUMNS: dict[str, np.dtype[Any]] = dict.fromkeys(
    [*KINEMATICS.split(), *MASSES.split(), "weight"], np.dtype(np.float32)
)
COLUMNS |= {"n_jets": np.dtype(np.int32), "label": np.dtype(np.int32), "event": np.dtype(np.int64)}

Random = np.random.Generator
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Collisions:
    """Collisions before the detector: four-vectors `(4, n)`, GeV.

    `recoil` is what the initial partons radiated, so that muons, invisible, bottoms and recoil have
    no transverse momentum in sum. `bottoms` holds no, or two, arrays.
    """

    muons: tuple[Floats, Floats]
    invisible: Floats
    bottoms: tuple[Floats, ...]
    recoil: Floats

    def __len__(self) -> int:
        return self.recoil.shape[1]


@dataclass(frozen=True)
class Seen:
    """Events in the toy's detector: muons `(4, n)`, the leading one first, missing transverse
    momentum `(2, n)`, both in GeV, and the number of jets `(n,)`."""

    muon1: Floats
    muon2: Floats
    missing: Floats
    jets: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.intp]) -> Seen:
        return Seen(self.muon1[:, rows], self.muon2[:, rows], self.missing[:, rows], self.jets[rows])


@dataclass(frozen=True)
class Process:
    """One way to make two muons.

    Attributes
    ----------
    name : stem of the file that holds its events.
    title : for people, in Matplotlib's mathtext.
    label : 1 for signal, 0 for background.
    cross_section : fb, decays into muons included.
    collisions : draws n collisions.
    masses : chargino and neutralino mass of a signal (GeV); backgrounds have none.
    """

    name: str
    title: str
    label: int
    cross_section: float
    collisions: Callable[[int, Random], Collisions]
    masses: tuple[int, int] | None = None


@dataclass(frozen=True)
class ToyFile:
    """A written file: its process, its format ("TTree" or "RNTuple") and its number of entries."""

    process: str
    path: Path
    format: str
    entries: int

    @property
    def spec(self) -> str:
        """`file:tree`, as `rootfeed.open` takes it."""
        return f"{self.path}:{TREE}"


def processes() -> list[Process]:
    """The signals, one for each pair of masses, then the backgrounds.

    Every signal has the cross-section of 10 fb, so that no pair of masses rules the training.
    The backgrounds' are rounded predictions at 13 TeV: W+ W- 118.7 pb (T. Gehrmann et al.,
    arXiv:1408.5243), t tbar 832 pb (M. Czakon, A. Mitov, arXiv:1112.5675), Z 1.9 nb a flavour.
    """
    signals = [
        Process(
            name=f"signal_{chargino}_{neutralino}",
            title=rf"$\tilde{{\chi}}^{{\pm}}\,({chargino})\to W\tilde{{\chi}}^0\,({neutralino})$",
            label=1,
            cross_section=10.0,
            collisions=partial(charginos, chargino=chargino, neutralino=neutralino),
            masses=(chargino, neutralino),
        )
        for chargino, neutralino in MASS_PAIRS
    ]
    both_muons = W_TO_MUON**2
    return [
        *signals,
        Process("background_ww", "$W^+W^-$", 0, 118_700.0 * both_muons, w_pair),
        Process("background_tt", r"$t\bar{t}$", 0, 832_000.0 * both_muons, top_pair),
        Process("background_z", r"$Z\to\mu\mu$", 0, 1_900_000.0, z_boson),
    ]


def breit_wigner(n: int, random: Random, pole: tuple[float, float], low: float, high: float) -> Floats:
    """Draw n masses (GeV) between `low` and `high` around a pole (mass, width).

    Source: relativistic Breit-Wigner shape 1 / ((s - m^2)^2 + m^2 width^2) in s, Particle Data
    Group, Review of Particle Physics, "Resonances"; drawn through its inverse distribution.
    """
    mass, width = pole
    start, stop = (np.arctan((edge**2 - mass**2) / (mass * width)) for edge in (low, high))
    return np.sqrt(mass**2 + mass * width * np.tan(random.uniform(start, stop, n)))


def system(mass: Floats, random: Random) -> tuple[Floats, Floats]:
    """Give produced systems of the given masses (GeV) their boosts.

    Returns the four-vectors `(4, n)` of the systems and of the massless radiation that they recoil
    against. The toy's shapes: p_T^2 falls as (1 + p_T^2 / p_0^2)^-2.5 with p_0 = 5 GeV + 12 % of
    the mass, the rapidity is a Gaussian as wide as a quarter of what the beams allow.
    """
    n = len(mass)
    scale = 5.0 + 0.12 * mass
    pt = scale * np.sqrt(random.uniform(size=n) ** (-1.0 / 1.5) - 1.0)
    phi = random.uniform(-np.pi, np.pi, n)
    rapidity = random.normal(0.0, 0.25 * np.log(BEAM_ENERGY / mass))
    px, py = pt * np.cos(phi), pt * np.sin(phi)
    pz = np.sqrt(mass**2 + pt**2) * np.sinh(rapidity)
    recoil_pz = pt * np.sinh(random.normal(0.0, 1.5, n))
    return four_vector(mass, px, py, pz), four_vector(0.0, -px, -py, recoil_pz)


def parents(m1: Floats, m2: Floats, random: Random) -> tuple[Floats, Floats, Floats]:
    """Produce pairs of the given masses (GeV): four-vectors `(4, n)` of both, and of the recoil.

    The toy's shape of the pair's invariant mass: (m1 + m2) (1 + x), x from a gamma distribution.
    """
    mass = (m1 + m2) * (1.0 + random.gamma(1.5, 0.25, len(m1)))
    pair, recoil = system(mass, random)
    return *decay(pair, m1, m2, random), recoil


def charginos(n: int, random: Random, chargino: float, neutralino: float) -> Collisions:
    """p p -> two charginos, each of which decays to W neutralino, the W to mu nu. Masses in GeV."""
    fixed = np.full(n, float(chargino))
    first, second, recoil = parents(fixed, fixed, random)
    highest = min(100.0, chargino - neutralino - 1.0)
    muons, invisible = [], np.zeros((4, n))
    for parent in (first, second):
        w_mass = breit_wigner(n, random, W_BOSON, 60.0, highest)
        w, lightest = decay(parent, w_mass, float(neutralino), random)
        muon, neutrino = decay(w, MUON_MASS, 0.0, random)
        muons.append(muon)
        invisible = invisible + lightest + neutrino
    return Collisions((muons[0], muons[1]), invisible, (), recoil)


def w_pair(n: int, random: Random) -> Collisions:
    """p p -> W+ W- -> mu+ mu- and two neutrinos."""
    m1, m2 = (breit_wigner(n, random, W_BOSON, 60.0, 100.0) for _ in range(2))
    first, second, recoil = parents(m1, m2, random)
    muon1, neutrino1 = decay(first, MUON_MASS, 0.0, random)
    muon2, neutrino2 = decay(second, MUON_MASS, 0.0, random)
    return Collisions((muon1, muon2), neutrino1 + neutrino2, (), recoil)


def top_pair(n: int, random: Random) -> Collisions:
    """p p -> t tbar -> W+ W- and two bottoms, the W to mu nu."""
    m1, m2 = (breit_wigner(n, random, TOP, 165.0, 180.0) for _ in range(2))
    first, second, recoil = parents(m1, m2, random)
    muons, bottoms, invisible = [], [], np.zeros((4, n))
    for top in (first, second):
        w, bottom = decay(top, breit_wigner(n, random, W_BOSON, 60.0, 100.0), BOTTOM_MASS, random)
        muon, neutrino = decay(w, MUON_MASS, 0.0, random)
        muons.append(muon)
        bottoms.append(bottom)
        invisible = invisible + neutrino
    return Collisions((muons[0], muons[1]), invisible, tuple(bottoms), recoil)


def z_boson(n: int, random: Random) -> Collisions:
    """p p -> Z -> mu+ mu-: missing momentum comes from the detector alone."""
    z, recoil = system(breit_wigner(n, random, Z_BOSON, 60.0, 120.0), random)
    return Collisions(decay(z, MUON_MASS, MUON_MASS, random), np.zeros((4, n)), (), recoil)


def detect(collisions: Collisions, random: Random) -> Seen:
    """What the toy's detector sees of every collision.

    Muons: sigma(p_T) / p_T = 1 % and 0.01 % per GeV, in quadrature. Missing transverse momentum:
    12 GeV and 60 % of sqrt(GeV) of the hadrons' scalar sum, in quadrature, along x and y each, and
    what the muons are mismeasured by. Jets: bottoms within acceptance, and a Poisson number that
    grows with the recoil.
    """
    n = len(collisions)
    hadrons = [collisions.recoil, *collisions.bottoms]
    sigma = np.hypot(12.0, 0.6 * np.sqrt(sum(transverse_momentum(p) for p in hadrons)))
    missing = collisions.invisible[1:3] + sigma * random.normal(size=(2, n))
    muons = []
    for true in collisions.muons:
        resolution = np.hypot(0.01, 1e-4 * transverse_momentum(true))
        factor = np.maximum(1.0 + resolution * random.normal(size=n), 0.05)
        muons.append(four_vector(MUON_MASS, *(factor * true[1:])))
        missing += true[1:3] - muons[-1][1:3]
    jets = random.poisson(0.2 + transverse_momentum(collisions.recoil) / 60.0)
    for bottom in collisions.bottoms:
        jets += (transverse_momentum(bottom) > JET_PT) & (np.abs(pseudorapidity(bottom)) < JET_ETA)
    swap = transverse_momentum(muons[1]) > transverse_momentum(muons[0])
    muon1, muon2 = np.where(swap, muons[::-1], muons)
    return Seen(muon1, muon2, missing, jets)


def selected(seen: Seen) -> NDArray[np.intp]:
    """Rows of the events that are kept: two central muons and missing transverse momentum."""
    central = [np.abs(pseudorapidity(muon)) < MUON_ETA for muon in (seen.muon1, seen.muon2)]
    hard = transverse_momentum(seen.muon1) > LEADING_PT
    hard &= transverse_momentum(seen.muon2) > SECOND_PT
    return np.flatnonzero(central[0] & central[1] & hard & (np.hypot(*seen.missing) > SMALLEST_MET))


def measure(seen: Seen) -> Columns:
    """The kinematic columns of events; m_T is that of the leading muon and the missing momentum."""
    muon1, muon2 = seen.muon1, seen.muon2
    return {
        "mu1_pt": transverse_momentum(muon1),
        "mu1_eta": pseudorapidity(muon1),
        "mu1_phi": azimuth(muon1),
        "mu2_pt": transverse_momentum(muon2),
        "mu2_eta": pseudorapidity(muon2),
        "mu2_phi": azimuth(muon2),
        "m_mumu": invariant_mass(muon1 + muon2),
        "m_T": transverse_mass(muon1[1:3], seen.missing),
        "met": np.hypot(*seen.missing),
        "m_T2": stransverse_mass(muon1[1:3], muon2[1:3], seen.missing),
        "n_jets": seen.jets,
    }


def sample(process: Process, entries: int, seed: int, first_event: int = 0) -> Columns:
    """All columns of `entries` selected events of a process, in the dtypes of `COLUMNS`.

    The weight of an event is cross-section x luminosity / generated collisions, so that the weights
    add up to the yield at `LUMINOSITY`. Backgrounds carry masses drawn from those of the signals,
    as a network that has the masses among its inputs needs it (P. Baldi et al., arXiv:1601.07913).
    `event` counts from `first_event`. The same process, entries and seed give the same events.
    """
    random = np.random.default_rng([seed, *process.name.encode()])
    size = min(max(2 * entries, 1_000), 50_000)
    kept: list[Columns] = []
    missing, generated = entries, 0
    while missing > 0:
        seen = detect(process.collisions(size, random), random)
        rows = selected(seen)[:missing]
        generated += size if len(rows) < missing else int(rows[-1]) + 1
        missing -= len(rows)
        kept.append(measure(seen[rows]))
    out = {name: np.concatenate([block[name] for block in kept]) for name in kept[0]}

    fixed = [process.masses] if process.masses else MASS_PAIRS
    pair = random.integers(len(fixed), size=entries)
    out["m_chargino"], out["m_neutralino"] = np.array(fixed)[pair].T
    out["weight"] = np.full(entries, process.cross_section * LUMINOSITY / generated)
    out["label"] = np.full(entries, process.label)
    out["event"] = first_event + np.arange(entries)
    return {name: out[name].astype(dtype) for name, dtype in COLUMNS.items()}


def write_file(path: Path, columns: Columns, identity: UUID, *, rntuple: bool) -> None:
    """Write columns into a file of zstd pages, `CLUSTERS` clusters, as a TTree or an RNTuple.

    `identity` is the file's UUID, by which rootfeed knows it: written again, it is split again alike.
    """
    edges = np.linspace(0, len(columns["event"]), CLUSTERS + 1, dtype=int)
    with uproot.recreate(path, compression=uproot.ZSTD(3), uuid_function=lambda: identity) as file:
        make = file.mkrntuple if rntuple else file.mktree
        written = make(TREE, dict(COLUMNS))
        for start, stop in pairwise(edges):
            written.extend({name: values[start:stop] for name, values in columns.items()})


def write(folder: Path, entries: int, seed: int) -> Iterator[ToyFile]:
    """Write the dataset of about `entries` events, a file a process, and yield each file when done.

    Half of the events are signal. The formats alternate: TTree, RNTuple, TTree, ... The file
    `toy.json` is written last and says what the folder holds; where it says what is asked for,
    nothing is written.
    """
    every = processes()
    wanted = {"version": VERSION, "entries": entries, "seed": seed}
    catalogue = folder / "toy.json"
    if catalogue.exists():
        known = json.loads(catalogue.read_text())
        files = [ToyFile(**{**each, "path": folder / each["path"]}) for each in known["files"]]
        if known["wanted"] == wanted and all(file.path.exists() for file in files):
            yield from files
            return
        catalogue.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, process in enumerate(every):
        alike = sum(other.label == process.label for other in every)
        share = max(entries // (2 * alike), CLUSTERS)
        path = folder / f"{process.name}.root"
        rntuple = number % 2 == 1
        columns = sample(process, share, seed, first_event=(number + 1) * 10**10)
        identity = uuid5(NAMESPACE_OID, f"toy {VERSION} {process.name} {share} {seed}")
        write_file(path, columns, identity, rntuple=rntuple)
        files.append(ToyFile(process.name, path, "RNTuple" if rntuple else "TTree", share))
        yield files[-1]
    entry = [{**asdict(file), "path": file.path.name} for file in files]
    catalogue.write_text(json.dumps({"wanted": wanted, "files": entry}, indent=1) + "\n")
