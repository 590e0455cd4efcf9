"""Relativistic kinematics of whole arrays of events, as far as the toy needs it.

A four-vector is an array of shape `(4, n)` with the rows energy, p_x, p_y, p_z; a transverse
vector is an array of shape `(2, n)` with the rows p_x, p_y. Energies, momenta and masses are in GeV
with c = 1, angles in radians. The beams run along z.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "azimuth",
    "boost",
    "cross",
    "decay",
    "four_vector",
    "invariant_mass",
    "pseudorapidity",
    "stransverse_mass",
    "transverse_mass",
    "transverse_momentum",
    "two_body_momentum",
]

Floats = NDArray[np.float64]

BISECTIONS = 48
SMALLEST_ANGLE = 1e-6


def four_vector(mass: Floats | float, px: Floats, py: Floats, pz: Floats) -> Floats:
    """Four-vectors `(4, n)` of particles with the given masses and momenta (GeV)."""
    return np.stack([np.sqrt(np.square(mass) + px**2 + py**2 + pz**2), px, py, pz])


def invariant_mass(p: Floats) -> Floats:
    """Invariant mass (GeV) of the four-vectors `(4, n)`; rounding below zero counts as zero."""
    return np.sqrt(np.maximum(p[0] ** 2 - p[1] ** 2 - p[2] ** 2 - p[3] ** 2, 0.0))


def transverse_momentum(p: Floats) -> Floats:
    """Momentum across the beams (GeV) of the four-vectors `(4, n)`."""
    return np.hypot(p[1], p[2])


def pseudorapidity(p: Floats) -> Floats:
    """Pseudorapidity -ln tan(theta / 2), theta being the angle to the z axis."""
    return np.arcsinh(p[3] / transverse_momentum(p))


def azimuth(p: Floats) -> Floats:
    """Azimuthal angle around the beams, in (-pi, pi]."""
    return np.arctan2(p[2], p[1])


def two_body_momentum(mass: Floats | float, m1: Floats | float, m2: Floats | float) -> Floats:
    """Momentum (GeV) of both products of a two-body decay in the rest frame of the parent.

    Source: Particle Data Group, Review of Particle Physics, "Kinematics", two-body decays.
    """
    squared = np.square(mass)
    product = (squared - np.square(m1 + m2)) * (squared - np.square(m1 - m2))
    return np.asarray(np.sqrt(np.maximum(product, 0.0)) / (2 * mass))


def boost(p: Floats, parent: Floats) -> Floats:
    """Carry `p` from the rest frame of `parent` into the frame in which `parent` is given.

    Both are four-vectors `(4, n)`. Source: J. D. Jackson, Classical Electrodynamics, 3rd edition,
    section 11.3, with beta = P / E and gamma = E / M put in.
    """
    mass = invariant_mass(parent)
    along = np.einsum("in,in->n", parent[1:], p[1:])
    energy = (parent[0] * p[0] + along) / mass
    shift = (along / (parent[0] + mass) + p[0]) / mass
    return np.concatenate([energy[None], p[1:] + shift * parent[1:]])


def decay(
    parent: Floats, m1: Floats | float, m2: Floats | float, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Decay every parent isotropically in its rest frame into products of the masses m1 and m2.

    Returns the four-vectors `(4, n)` of both products in the frame of the parents.
    """
    n = parent.shape[1]
    momentum = two_body_momentum(invariant_mass(parent), m1, m2)
    cosine = random.uniform(-1.0, 1.0, n)
    phi = random.uniform(-np.pi, np.pi, n)
    across = momentum * np.sqrt(1.0 - cosine**2)
    px, py, pz = across * np.cos(phi), across * np.sin(phi), momentum * cosine
    return (
        boost(four_vector(m1, px, py, pz), parent),
        boost(four_vector(m2, -px, -py, -pz), parent),
    )


def cross(a: Floats, b: Floats) -> Floats:
    """The z component of the cross product of transverse vectors `(2, n)`."""
    return np.asarray(a[0] * b[1] - a[1] * b[0])


def transverse_mass(visible: Floats, missing: Floats) -> Floats:
    """Transverse mass (GeV) of a massless visible particle and massless missing momentum.

    m_T^2 = 2 (|p| |q| - p . q) for the transverse vectors p and q, each `(2, n)`. Source: Particle
    Data Group, Review of Particle Physics, "Kinematics", transverse mass.
    """
    product = np.hypot(*visible) * np.hypot(*missing) - np.einsum("in,in->n", visible, missing)
    return np.sqrt(2.0 * np.maximum(product, 0.0))


def stransverse_mass(p1: Floats, p2: Floats, missing: Floats) -> Floats:
    """Stransverse mass m_T2 (GeV) of massless visible and massless invisible particles.

    m_T2^2 = min over q of max(m_T^2(p1, q), m_T^2(p2, s - q)), where s is the missing transverse
    momentum and the q are all its divisions between the two sides.

    Parameters
    ----------
    p1, p2 : transverse momenta `(2, n)` of the visible particle of each side, GeV.
    missing : missing transverse momentum s, `(2, n)`, GeV.

    Notes
    -----
    Definition: C. G. Lester, D. J. Summers, hep-ph/9906349. That the massless case has a solution
    in closed form, a quartic equation: C. G. Lester, arXiv:1103.5682. A bisection is steadier than
    its roots (compare C. G. Lester, B. Nachman, arXiv:1411.4312); the one here uses that both
    m_T^2 are convex in q. So m_T2^2 is the maximum over t in (0, 1) of the concave function
    h(t) = min over q of t m_T^2(p1, q) + (1 - t) m_T^2(p2, s - q). With a = t |p1|,
    b = (1 - t) |p2|, unit vectors e1, e2 of the visible momenta and c = a e1 - b e2, the gradient
    in q vanishes where q points along u and s - q along v, the mirror images of e1, e2 about c.
    There h(t) = 4 a b (e1 x e2) (s x c) / |c|^2, and the slope of h is the difference of the two
    m_T^2. For t above `high` the minimum is at q = 0, below `low` at q = s, where one of the two
    m_T^2 is zero: the maximum of h lies between. Where s lies between e1 and e2, m_T2 = 0.
    """
    size1, size2 = np.hypot(*p1), np.hypot(*p2)
    e1, e2 = p1 / size1, p2 / size2
    # Parallel momenta are a limit: turn them apart by an angle that changes nothing visible.
    turn = np.where(np.abs(cross(e1, e2)) < SMALLEST_ANGLE, SMALLEST_ANGLE, 0.0)
    e2 = np.stack([e2[0] - turn * e2[1], e2[1] + turn * e2[0]])
    # A mirror image of the event in which e2 lies counter-clockwise of e1 has the same m_T2.
    handed = np.where(cross(e1, e2) < 0.0, -1.0, 1.0)
    sine = handed * cross(e1, e2)
    versine = 0.5 * np.square(e1 - e2).sum(axis=0)
    cosine = 1.0 - versine
    across1, across2 = handed * cross(e1, missing), handed * cross(e2, missing)
    along1 = np.einsum("in,in->n", e1, missing)
    along2 = np.einsum("in,in->n", e2, missing)

    size = np.hypot(*missing)
    away1, away2 = size1 * (size - along1), size2 * (size - along2)
    low = size2 * np.maximum(cosine * size - along2, 0.0)
    low /= np.maximum(away1 + low, np.finfo(float).tiny)
    high = size1 * np.maximum(cosine * size - along1, 0.0)
    high = away2 / np.maximum(away2 + high, np.finfo(float).tiny)
    for _ in range(BISECTIONS):
        t = 0.5 * (low + high)
        a, b = t * size1, (1.0 - t) * size2
        # s = |q| u + |s - q| v, seen along c and across it, gives |q| and |s - q| times one
        # positive factor.
        along = a * along1 - b * along2
        across = a * across1 - b * across2
        length1 = a * sine * along + (a * cosine - b) * across
        length2 = -b * sine * along - (a - b * cosine) * across
        rising = size1 * b**2 * length1 > size2 * a**2 * length2
        low, high = np.where(rising, t, low), np.where(rising, high, t)

    t = 0.5 * (low + high)
    a, b = t * size1, (1.0 - t) * size2
    across = a * across1 - b * across2
    squared = -4.0 * a * b * sine * across / ((a - b) ** 2 + 2.0 * a * b * versine)
    between = (across1 >= 0.0) & (across2 <= 0.0)
    return np.where(between, 0.0, np.sqrt(np.maximum(squared, 0.0)))
