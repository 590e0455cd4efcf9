"""Functions of physics, as ``ROOT/RVec.hxx`` has them."""

from __future__ import annotations

from collections.abc import Sequence

from rootfeed.expression.arguments import Function, expect, real, vector_of
from rootfeed.expression.builder import Builder
from rootfeed.expression.elementwise import math_function
from rootfeed.expression.nodes import Call
from rootfeed.expression.values import FLOAT32, Dtype, Value, Vector, type_text

__all__ = ["FUNCTIONS"]


def _delta_phi_name(dtype: Dtype) -> str:
    return "delta_phi32" if dtype == FLOAT32 else "delta_phi"


def _delta_phi(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 2)
    dtype = real(*(each.dtype for each in given))
    name = _delta_phi_name(dtype)
    return builder.map(
        dtype,
        lambda texts: f"{name}({texts[0]}, {texts[1]})",
        [builder.cast(each, dtype) for each in given],
    )


def _delta_r2(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 4)
    dtype = real(*(each.dtype for each in given))
    eta1, eta2, phi1, phi2 = (builder.cast(each, dtype) for each in given)
    name = _delta_phi_name(dtype)
    one = type_text(dtype)

    def code(texts: Sequence[str]) -> str:
        eta = builder.assign(dtype, f"{texts[0]} - {texts[1]}").text
        phi = builder.assign(dtype, f"{name}({texts[2]}, {texts[3]})").text
        return f"{one}({eta} * {eta}) + {one}({phi} * {phi})"

    return builder.map(dtype, code, [eta1, eta2, phi1, phi2])


def _delta_r(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    squared = _delta_r2(builder, node, given)
    return builder.map(squared.dtype, lambda texts: f"np.sqrt({texts[0]})", [squared])


def _of_reals(name: str, count: int) -> Function:
    """Return a function of the library, in the common type of its arguments."""
    return math_function(name + "(" + ", ".join(f"{{{k}}}" for k in range(count)) + ")", count)


def _invariant_mass(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 4)
    for each in given:
        vector_of(builder, node, each)
    dtype = real(*(each.dtype for each in given))
    one = type_text(dtype)
    sums = [builder.new() for _ in range(4)]
    for name in sums:
        builder.line(f"{name} = {one}(0)")

    def add(texts: Sequence[str]) -> str:
        pt, eta, phi, mass = texts
        parts = [
            builder.assign(dtype, f"{pt} * np.cos({phi})").text,
            builder.assign(dtype, f"{pt} * np.sin({phi})").text,
            builder.assign(dtype, f"{pt} * np.sinh({eta})").text,
        ]
        x, y, z = parts
        squares = f"{x} * {x} + {y} * {y} + {z} * {z} + {mass} * {mass}"
        energy = builder.assign(dtype, f"np.sqrt({squares})").text
        for name, part in zip(sums, (*parts, energy), strict=True):
            builder.line(f"{name} = {one}({name} + {part})")
        return energy

    energies = builder.map(dtype, add, [builder.cast(each, dtype) for each in given])
    assert isinstance(energies, Vector)
    energies.each(lambda _: None)
    x, y, z, e = sums
    return builder.assign(dtype, f"np.sqrt({e} * {e} - {x} * {x} - {y} * {y} - {z} * {z})")


FUNCTIONS: dict[str, Function] = {
    "DeltaPhi": _delta_phi,
    "DeltaR": _delta_r,
    "DeltaR2": _delta_r2,
    "Angle": _of_reals("angle", 6),
    "InvariantMass": _invariant_mass,
    "InvariantMasses": _of_reals("pair_mass", 8),
}
"""By name, without namespaces."""
