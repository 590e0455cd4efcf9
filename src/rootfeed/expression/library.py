"""Compiled functions that kernels call: what is no single operation, and what works on whole vectors.

Physics and vector functions follow ``ROOT/RVec.hxx`` of ROOT 6.40, types included.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_inline = njit(nogil=True, inline="never", error_model="numpy")


@_inline
def divide_truncated(a, b):
    """Divide integers as C++ does; the divisor is not 0."""
    if b == -1:
        return -a  # the only case that overflows, where the processor would stop the program
    q = a // b
    if q * b != a and (a < 0) != (b < 0):
        q += 1
    return q


@_inline
def remainder_truncated(a, b):
    """Return what `divide_truncated` leaves."""
    if b == -1:
        return a - a
    return a - divide_truncated(a, b) * b


@_inline
def divide_floored(a, b):
    """Divide integers as Python does; the divisor is not 0."""
    if b == -1:
        return -a
    return a // b


@_inline
def remainder_floored(a, b):
    """Return what `divide_floored` leaves."""
    if b == -1:
        return a - a
    return a - (a // b) * b


@_inline
def shift_left(a, count, bits):
    """Shift left; nothing is left after as many bits as there are."""
    if count < 0 or count >= bits:
        return a - a
    return a << count


@_inline
def shift_right(a, count, bits):
    """Shift right; the sign is left after as many bits as there are."""
    if count < 0 or count >= bits:
        return a >> (bits - 1)
    return a >> count


@_inline
def sign(x):
    """Return -1, 0 or 1; NaN stays."""
    if x > 0:
        return x - x + 1
    if x < 0:
        return x - x - 1
    return x


@_inline
def delta_phi(a, b):
    """Return the angle from a to b, in [-pi, pi]."""
    r = np.fmod(b - a, 2.0 * np.pi)
    if r < -np.pi:
        r += 2.0 * np.pi
    elif r > np.pi:
        r -= 2.0 * np.pi
    return r


@_inline
def delta_phi32(a, b):
    """Return `delta_phi` as ROOT computes it for floats: pi is a float, the rest is double."""
    c = np.float32(np.pi)
    r = np.fmod(np.float64(np.float32(b - a)), 2.0 * c)
    if r < -c:
        r += 2.0 * c
    elif r > c:
        r -= 2.0 * c
    return np.float32(r)


@_inline
def angle(x1, y1, z1, x2, y2, z2):
    """Return the angle between two three-vectors."""
    cx = y1 * z2 - y2 * z1
    cy = x1 * z2 - x2 * z1
    cz = x1 * y2 - x2 * y1
    c = np.sqrt(cx * cx + cy * cy + cz * cz)
    d = x1 * x2 + y1 * y2 + z1 * z2
    return np.arctan2(c, d)


@_inline
def pair_mass(pt1, eta1, phi1, mass1, pt2, eta2, phi2, mass2):
    """Return the invariant mass of two particles (``InvariantMasses_PxPyPzM``)."""
    x1, y1, z1 = pt1 * np.cos(phi1), pt1 * np.sin(phi1), pt1 * np.sinh(eta1)
    x2, y2, z2 = pt2 * np.cos(phi2), pt2 * np.sin(phi2), pt2 * np.sinh(eta2)
    first = x1 * x1 + y1 * y1 + z1 * z1
    second = x2 * x2 + y2 * y2 + z2 * z2
    if first <= 0 and second <= 0:
        return mass1 + mass2
    if first <= 0:
        sum_ = mass1 + np.sqrt(mass2 * mass2 + second)
        return np.sqrt(np.abs(sum_ * sum_ - second))
    if second <= 0:
        sum_ = mass2 + np.sqrt(mass1 * mass1 + first)
        return np.sqrt(np.abs(sum_ * sum_ - first))
    m1, m2 = mass1 * mass1, mass2 * mass2
    r1, r2 = m1 / first, m2 / second
    x = r1 + r2 + r1 * r2
    a = angle(x1, y1, z1, x2, y2, z2)
    cosine = np.cos(a)
    if cosine >= 0:
        y = (x + np.sin(a) * np.sin(a)) / (np.sqrt(x + 1) + cosine)
    else:
        y = np.sqrt(x + 1) - cosine
    return np.sqrt(m1 + m2 + y * (2 * np.sqrt(first * second)))


@_inline
def sorted_copy(values):
    """Return the values in ascending order, NaN last."""
    return np.sort(values)


@_inline
def argsorted(values):
    """Return the positions of the values in ascending order; equal ones keep their order."""
    return np.argsort(values, kind="mergesort").astype(np.uint64)


@_inline
def grown(values, size):
    """Return a larger array with the same beginning."""
    larger = np.empty(max(2 * values.size, size, 1024), values.dtype)
    larger[: values.size] = values
    return larger


@_inline
def power(base, exponent):
    """Raise to an integer power of at least 0 by multiplication."""
    result = base - base + 1
    for _ in range(exponent):
        result = result * base
    return result


erf, erfc, gamma, lgamma = math.erf, math.erfc, math.gamma, math.lgamma  # Numba knows these


@_inline
def rounded(x):
    """Round to the nearest integer, halves away from 0, as C++ does."""
    whole = np.trunc(x)
    if np.abs(x - whole) >= 0.5:
        return whole + np.copysign(x - x + 1, x)
    return whole
