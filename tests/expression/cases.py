"""The expressions on which this package and ROOT must agree, in C++'s dialect."""

from __future__ import annotations

from itertools import product

from expression.oracle import SHORT

TYPES = tuple(SHORT.values())
INTEGERS = tuple(name for name in TYPES if name[0] in "iu")

ARITHMETIC = [f"{a} {op} k_{b}" for (a, b), op in zip(product(TYPES, TYPES), "+-*" * 41, strict=False)]
COMPARISONS = [
    f"{a} {op} k_{b}"
    for a, b, op in [
        *(("i4", "i4", op) for op in ("<", "<=", ">", ">=", "==", "!=")),
        *(("i4", "u4", op) for op in ("<", "==")),
        *(("i8", "u8", op) for op in ("<", ">=")),
        *(
            ("i1", "u1", ">"),
            ("b", "i2", "=="),
            ("f4", "i8", "<"),
            ("f8", "u8", ">"),
            ("f4", "f8", "!="),
        ),
    ]
]
BITS = [
    *(f"{a} {op} k_{a}" for a, op in zip(("b", *INTEGERS), "&|^" * 3, strict=True)),
    *("i4 & k_u4", "u1 | k_i8", "i2 ^ k_u8", "~i1", "~u2", "~u4", "~i8"),
    *("i4 << 3", "i2 << 2", "u4 >> 5", "i4 >> 4", "i8 >> 9", "u8 >> 40", "u1 << u1 % 8", "i8 << 33"),
    *("i4 & 4 == 4", "b && i4 > 0 | f4 > 2", "i4 > 1 & f8 < 3"),
]
DIVISIONS = [
    *(f"{a} / (k_{a} == 0 ? 7 : k_{a})" for a in ("i1", "u2", "i4", "u4", "u8")),
    *(f"{a} % (k_{a} == 0 ? 7 : k_{a})" for a in ("i1", "u2", "i4", "u4", "u8")),
    *("i4 / 3", "i8 % 5", "u8 % 7", "-17 / 5", "-17 % 5", "f4 / k_f4", "f8 / i4", "f4 / i4", "i4 / 2.f"),
]
LITERALS = [
    *("1", "0x1F", "0xFFFFFFFF", "4294967296", "3000000000", "7u", "7ul", "7ll", "0x7fffffffffffffff"),
    *("1.5", "1.5f", ".5", "2.", "1e3", "1e-3f", "true", "false", "M_PI", "TMath::Pi()", "i4 + 1u"),
    *("rdfentry_", "rdfentry_ % 3", "rdfentry_ - 5", "2147483647 + i4", "-2147483647 - i4"),
]
SCALARS = [
    *("-i1", "+u1", "-u4", "-f4", "!f4", "!i4", "!b", "-b", "b + k_b", "i4 > 0 && f4 < 3 || !b"),
    *("i4 > 0 ? f4 : f8", "b ? i1 : i2", "b ? u4 : i4", "b ? f4 : i4", "b ? i1 : k_i1", "b ? 1 : i8"),
    *(
        "(int) f4",
        "(float) f8",
        "(double) i8",
        "static_cast<short>(i4)",
        "static_cast<unsigned char>(i8)",
    ),
    *(
        "float(i4)",
        "int(f8)",
        "double(f4)",
        "(bool) f4",
        "(long long) f8",
        "(unsigned int) i2",
        "char(i4)",
    ),
    *("abs(i4)", "abs(i2)", "abs(f4)", "abs(f8)", "std::abs(i8)", "fabs(f4)", "TMath::Abs(f8)"),
    *(
        "min(f4, k_f4)",
        "max(f8, k_f8)",
        "std::min(i4, k_i4)",
        "std::max(u8, k_u8)",
        "std::max(i1, k_i1)",
    ),
    *("TMath::Max(i4, k_i4)", "TMath::Min(f8, k_f8)", "std::isnan(f4)", "std::isinf(f4 / 0)"),
    *("std::isfinite(f8)", "std::copysign(f4, k_f4)", "std::hypot(f4, k_f4)", "std::fmod(f4, k_f4)"),
    *("fmod(f8, 3)", "std::atan2(f4, k_f4)", "atan2(f8, k_f8)", "pow(f4, 2)", "std::pow(f4, 2.f)"),
    *(
        "pow(s_pt_f, s_eta_f)",
        "pow(s_pt_d, s_eta_d)",
        "pow(i4, 2)",
        "pow(2, i1 % 5)",
        "sqrt(i4 * 0 + 2)",
    ),
    *("std::round(f4)", "round(f8 * 0 + 2.5)", "std::round(-2.5f + 0 * f4)", "std::rint(f8 * 0 + 2.5)"),
    *("std::round(f8)", "std::floor(f4)", "ceil(f8)", "std::trunc(f4)", "DeltaPhi(f4, k_f4)"),
    *("DeltaPhi(f8, k_f8)", "DeltaPhi(s_phi_f, f4)", "DeltaPhi(f4, k_f8)"),
    *("DeltaR(s_eta_f, s_unit_f, s_phi_f, f4)", "DeltaR(s_eta_d, s_unit_d, s_phi_d, f8)"),
    "ROOT::VecOps::Angle(s_pt_d, s_eta_d, s_phi_d, f8, s_mass_d, s_unit_d)",
]
# Not tgamma of floats: here it is computed in double, which is nearer to the truth than glibc's own.
FUNCTIONS = [
    *(f"std::{name}(s_mass_{t})" for t in "fd" for name in ("sqrt", "exp", "log", "cbrt")),
    *(f"std::{name}(s_mass_d)" for name in ("log2", "log10", "log1p")),
    *(f"std::{name}(s_unit_{t})" for t in "fd" for name in ("sin", "cos", "asin", "atan")),
    *(
        f"std::{name}(s_unit_d)"
        for name in ("tan", "acos", "exp2", "expm1", "cosh", "tanh", "erf", "erfc")
    ),
    *(f"std::{name}(s_unit_f)" for name in ("sinh", "asinh", "atanh", "erf")),
    *("std::acosh(1 + s_mass_f)", "std::tgamma(1 + s_mass_d)", "std::lgamma(1 + s_mass_d)"),
    *(
        "TMath::Sqrt(s_mass_f)",
        "TMath::Power(s_mass_f, 3)",
        "TMath::Sin(s_unit_f)",
        "TMath::Log(s_mass_d)",
    ),
    # Where one of two numbers is NaN, where both are 0, and where a function has no overload of 8 bits.
    *("TMath::Min(std::sqrt(f8), k_f8)", "TMath::Max(k_f4, std::sqrt(f4))", "TMath::Max(i1, k_i1)"),
    *("std::min(std::sqrt(f8), k_f8)", "std::max(k_f4, std::sqrt(f4))", "TMath::Max(b, k_b)"),
    *("TMath::ATan2(f8, k_f8)", "TMath::ATan2(i4 / 8, -0.0)", "TMath::Abs(i2)", "TMath::Abs(i1)"),
    *("not (i4 == 3)", "not b && k_b", "not -i4"),
    *("sin(i4)", "exp(i1 % 5)"),
]
VECTORS = [
    *(
        f"v_{a} {op} w_{b}"
        for (a, b), op in zip(product(TYPES[::2], TYPES[::3]), "+-*" * 9, strict=False)
    ),
    *(f"v_{a} {op} 2" for a, op in zip(TYPES, "+-*" * 4, strict=False)),
    *(f"{a} * v_f4" for a in TYPES),
    *(f"-v_{a}" for a in TYPES),
    *(f"!v_{a}" for a in ("b", "i2", "i4", "f4", "f8")),
    *(
        "~v_i2",
        "~v_u4",
        "v_i4 & w_i4",
        "v_u1 | 3",
        "v_i8 ^ w_i2",
        "v_b & w_b",
        "(v_f4 > 0) & (w_f4 > 0)",
    ),
    *("(v_f4 > 0) | (w_f4 > 0)", "(v_f4 > 0) ^ (w_f4 > 0)", "(v_f4 > 0) + (w_f4 > 0)", "-(v_f4 > 0)"),
    *("v_f4 > 0", "v_i4 == w_i4", "v_i4 < w_u4", "3 <= v_f8", "v_i1 != 0", "v_f4 > 0 && w_i4 > 0"),
    *(
        "v_f4 > 0 || b",
        "v_i4 && w_i4",
        "!(v_f4 > 0)",
        "~(v_f4 > 0)",
        "v_i4 / 3",
        "v_i4 % 5",
        "v_f4 / w_f4",
    ),
    *(
        "abs(v_f4)",
        "abs(v_i4)",
        "abs(v_i1)",
        "abs(v_i4 > 0)",
        "sqrt(pt_f)",
        "sqrt(v_u1)",
        "pow(pt_f, 2)",
    ),
    *(
        "pow(pt_f, 2.f)",
        "pow(pt_f, eta_f)",
        "pow(pt_d, unit_d)",
        "pow(2, unit_d)",
        "exp(eta_f)",
        "log(pt_d)",
    ),
    *("sin(phi_f)", "cosh(eta_d)", "atan2(pt_f, eta_f)", "hypot(pt_f, pt2_f)", "hypot(pt_d, eta_d)"),
    *("round(v_f4)", "floor(v_f8)", "fmod(v_f8, 2)", "erf(unit_d)", "asinh(eta_f)", "cbrt(v_f8)"),
    *(f"v_{a}[v_{a} > 1]" for a in TYPES),
    *("v_f4[v_b]", "v_f4[v_i4 & 1]", "v_f4[v_i1 > 0 && w_f4 > 0]", "v_f4[v_f4 > 0] * w_f4[v_f4 > 0]"),
    *("v_f4[v_i4 > 0][v_f4[v_i4 > 0] > 0]", "(v_f4 * 2)[w_f4 > 0] + 1", "v_f4.size()", "v_f4.empty()"),
    *("v_f4[v_f4 > 0].size()", "v_f4.size() - 3", "some_pt_f[0]", "some_pt_d[some_pt_d.size() - 1]"),
    *("v_f4.size() > 1 && v_f4[1] > 0", "v_f4.size() > 1 ? v_f4[1] : -1", "some_pt_f.at(0)"),
]
REDUCTIONS = [
    *(f"Sum(v_{a})" for a in TYPES),
    *(f"Mean(v_{a})" for a in TYPES),
    *(f"Product(v_{a})" for a in TYPES),
    *(f"{name}(v_{a})" for name in ("Var", "StdDev") for a in ("b", *INTEGERS)),
    *(f"Dot(v_{a}, w_{a})" for a in ("b", *INTEGERS)),
    *(f"{name}(v_{a} + w_{a})" for name in ("Sum", "Mean", "Var") for a in ("b", "i1", "u1", "u2")),
    *(f"{name}({v})" for name in ("Var", "StdDev") for v in ("pt_f", "pt_d", "v_i4 % 100")),
    *(f"{name}(some_{v})" for name in ("Max", "Min") for v in ("pt_f", "eta_d")),
    *(f"{name}({v})" for name in ("ArgMax", "ArgMin") for v in ("v_f4", "v_i4", "v_u8")),
    *(f"{name}({v})" for name in ("Any", "All") for v in ("v_f4 > 0", "v_b", "v_i4")),
    *("Dot(pt_f, pt2_f)", "Dot(v_i1, w_i1)", "Dot(v_i4, w_f8)", "Sum(v_f4[v_f4 > 0])", "Sum(v_f4 > 0)"),
    *(
        "Mean(v_f4[v_f4 > 0])",
        "Sum(pt_f * cos(phi_f))",
        "Sum(v_f4) / 2",
        "Sum(v_f4 > 0 && w_f4 > 0) > 1",
    ),
]
REORDERED = [
    *(f"Sort(v_{a})" for a in ("i1", "u8", "f4", "f8")),
    *(f"Reverse(v_{a})" for a in ("i1", "i4", "f4", "u8")),
    *("Argsort(pt_f)", "Argsort(-pt_d)", "Argsort(v_i1)", "Take(pt_f, Argsort(eta_f))", "Nonzero(v_i4)"),
    *("Nonzero(v_f4 > 0)", "Take(v_f4, Nonzero(w_f4 > 0))", "Take(some_pt_f, 1)", "Take(some_pt_d, -1)"),
    *("Take(v_f4, 3, -1.f)", "Take(v_i4, -4, 9)", "Reverse(Sort(pt_f))", "Sort(pt_f[eta_f > 0])"),
    *("Reverse(pt_f[eta_f > 0])", "Where(v_f4 > 0, v_f4, w_f4)", "Where(v_f4 > 0, v_f4, -1)"),
    *("Where(v_i4 > 0, 1, v_i4)", "Where(v_f4 > 0, 1.5, 2.5)", "Concatenate(v_f4, w_f8)"),
    *(
        "Concatenate(v_i2, w_i2)",
        "Concatenate(pt_f[eta_f > 0], pt2_f)",
        "Range(v_f4.size())",
        "Range(2, 5)",
    ),
    *("Range(-1, -11, -4)", "Range(1, 8, 3)", "ROOT::RVec<float>{f4, 2}", "RVecF{1, 2, 3}", "RVecD{}"),
    *(
        "ROOT::RVecI{i4, k_i4}",
        "Sum(RVecF{f4, k_f4})",
        "Take(some_pt_f, {0, 0})",
        "Sort(v_f4)[v_f4 > 0]",
    ),
]
PHYSICS = [
    *(
        "DeltaPhi(phi_f, phi2_f)",
        "DeltaPhi(phi_d, phi2_d)",
        "DeltaPhi(phi_f, f4)",
        "DeltaPhi(f8, phi_d)",
    ),
    *("DeltaR(eta_f, eta2_f, phi_f, phi2_f)", "DeltaR(eta_d, eta2_d, phi_d, phi2_d)"),
    *("DeltaR2(eta_f, eta2_f, phi_f, phi2_f)", "DeltaR2(eta_d, eta2_d, phi_d, phi2_d)"),
    *("InvariantMass(pt_f, eta_f, phi_f, mass_f)", "InvariantMass(pt_d, eta_d, phi_d, mass_d)"),
    "InvariantMass(pt_d[eta_d > 0], eta_d[eta_d > 0], phi_d[eta_d > 0], mass_d[eta_d > 0])",
    "InvariantMasses(pt_f, eta_f, phi_f, mass_f, pt2_f, eta2_f, phi2_f, mass2_f)",
    "InvariantMasses(pt_d, eta_d, phi_d, mass_d, pt2_d, eta2_d, phi2_d, mass2_d)",
]

GROUPS = {
    "arithmetic": ARITHMETIC[::4],
    "comparisons": COMPARISONS,
    "bits": BITS,
    "divisions": DIVISIONS,
    "literals": LITERALS,
    "scalars": SCALARS,
    "functions": FUNCTIONS,
    "vectors": VECTORS[::3],
    "more vectors": VECTORS[1::3],
    "still more vectors": VECTORS[2::3],
    "reductions": REDUCTIONS,
    "reordered": REORDERED,
    "physics": PHYSICS,
}
"""Tested together, a few in a kernel."""

EXPRESSIONS = tuple(dict.fromkeys(text for group in GROUPS.values() for text in group))

CUTS = (
    # Scalars of every type.
    *("!b", "i1 > 3", "u1 >= k_u1", "i2 < k_i2", "u2 != 5", "i4 == 3 || i4 < -5", "u4 < 7", "i8 <= -2"),
    *("u8 > 9", "f4 > 0", "f8 < k_f8", "rdfentry_ % 3 == 1", "k_b == b"),
    # Both signs, and several types.
    *("i4 < k_u4", "i8 < k_u8", "i1 > k_u1", "i2 == u4", "-1 < u4 || b", "-1 < u1 && b", "f4 < 2.5"),
    *("i8 > k_f4", "i2 * 1.5f > k_i1", "f8 > 0.1f"),
    # Arithmetic of integers.
    *("i4 / 3 == -1", "i4 % 3 == -1", "u4 - k_u4 > 10", "i1 + k_i1 < 0", "u1 * k_u1 % 7 == 3"),
    *("i8 / 4 * 4 == i8", "u2 / 3u < u4 % 5", "1 / 2 + i2 > 2", "i1 * 100 > 300"),
    # What stands on the right would end the process, or read what is not there.
    *("k_i4 != 0 && i4 / k_i4 > 1", "k_i4 == 0 || i4 % k_i4 == 0", "v_f4.size() > 1 && v_f4[1] > -5"),
    *("!(v_u1.size() < 3 || v_u1[2] > 9)", "some_pt_f.size() > 2 and some_pt_f[2] > 40 or not b"),
    # Choices.
    *("b ? f4 > 0 : i4 > 0", "(i4 > 0 ? i4 : -i4) > 5", "v_f4.size() > 2 ? v_f4[2] > 0 : f8 > 0"),
    *("b ? true : k_b", "(b ? i4 : k_u4) > 4", "b ? k_b ? i4 > 0 : f4 > 0 : i8 > 0"),
    # NaN and infinity.
    *(
        "std::sqrt(f4) > 1",
        "!(std::sqrt(f4) > 1)",
        "b && std::sqrt(f4) != 2",
        "std::sqrt(f8) == std::sqrt(f8)",
    ),
    *("std::isnan(std::log(f4))", "b && (bool) std::sqrt(f4)", "b || !std::sqrt(f8)", "f4 / 0 > 0"),
    *("0.f / 0 < f4 || b", "std::max(std::sqrt(f4), 1.f) > 1", "Sum(v_f4 / 0) > 0"),
    # Bits.
    *("(i4 & 3) == 1", "(u8 >> 3 & 1) != 0", "(i2 ^ k_i2) < 0", "(~u1 & 6) == 2", "(b & k_b) != 0"),
    *("(u4 << 30) != 0", "(bool) (i8 & 4)", "!(i4 & 1)", "(i8 >> 2) < -1", "i4 & 1 && b"),
    # Casts.
    *(
        "(int) f4 == 3",
        "static_cast<unsigned char>(i4) > 200",
        "(unsigned int) i4 > 100",
        "int(f8) % 2 == 0",
    ),
    *("float(i8) < 4.f", "(char) u2 < 0", "(double) i4 / 7 > 0.5", "(short) i8 != i8"),
    # Vectors of every type.
    *(f"Any(v_{a} > k_{a})" for a in TYPES if a != "b"),
    *(
        "Any(v_b)",
        "All(v_b == w_b)",
        "All(v_f4 > -4)",
        "Sum(v_i1) > 2",
        "Sum(v_b) > 1",
        "Sum(v_u1 > 3) == 2",
    ),
    *("Sum(v_f8[w_f4 > 0]) < 1", "Max(some_pt_f) > 50", "v_i4.empty()", "v_f4[v_b].size() > 1"),
    *("v_f4.size() - 3 > 0", "Sum(v_u4 & 1) > Sum(v_u4 & 2)", "Sum(DeltaPhi(phi_f, phi2_f) > 0) > 1"),
    # Comparisons of comparisons.
    *("i1 < k_i1 == b", "i4 < k_i4 < 1", "-5 < i4 < 1", "b == i4 > 0 != k_b", "f4 < f8 <= i4 == k_b"),
)
"""Cuts, each of which passes the same entries as in ROOT: some of them, but never none or all."""

CUT_FLOW = (
    "f4 > -5",
    "v_f4.size() > 1 && v_f4[0] > -5",
    "Sum(pt_f) > 90",
    "i4 % 3 != 0",
    "Any(eta_f < 1)",
)
"""Cuts that stand one after another."""

NO_CUTS = (
    "f4",
    "i4",
    "u1",
    "i4 % 3",
    "b & k_b",
    "v_f4.size()",
    "f4 > 0 & i4 > 0",
    "v_b",
    "v_f4 > 0",
    "b ? 1 : 0",
)
"""What ROOT refuses as a cut: numbers, and vectors."""
