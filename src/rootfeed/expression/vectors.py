"""Operations on whole vectors, as lines of a kernel: what makes one number, what chooses elements.

Each is a function of the builder, the operation and the values of its operands, in `OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootfeed.expression.builder import Builder, Indexed, Scalar, Value, Vector
from rootfeed.expression.typed import FLOAT64, INT64, Fold, Operation, converted, truth, type_text

__all__ = ["OPERATIONS", "folded", "mean"]

_Written = Callable[..., Value]


# --- one number of a vector -----------------------------------------------------------------------


def folded(builder: Builder, tree: Fold, vector: Vector) -> Scalar:
    """Write ``total = code(total, element)`` over all elements, in one type."""
    one = type_text(tree.dtype)
    total = builder.variable(f"{one}({tree.first})", "t")
    vector.each(lambda element: builder.line(f"{total} = {one}({tree.code.format(total, element)})"))
    return Scalar(tree.dtype, total)


def mean(builder: Builder, tree: Fold, vector: Vector) -> Scalar:
    """Write a sum that is divided by the number of elements."""
    vector, length = _counting(builder, vector)
    total = folded(builder, tree, vector)
    result = builder.variable("0.0", "t")
    with builder.block(f"if {length} > 0:"):
        builder.line(f"{result} = np.float64({total.text}) / {length}")
    return Scalar(FLOAT64, result)


def _counting(builder: Builder, vector: Vector) -> tuple[Vector, str]:
    """Return a vector whose length is known after its loop, at the latest, and the length."""
    if vector.length is not None:
        return vector, vector.length
    count = builder.variable()

    def each(body: Callable[[str], None]) -> None:
        def counted(element: str) -> None:
            builder.line(f"{count} += 1")
            body(element)

        vector.each(counted)

    return Vector(vector.dtype, each, count, vector.most), count


def _variance(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
    """Write the variance by sums of elements and of squares in their type, as ROOT does."""
    (vector, length), dtype = _counting(builder, vector), vector.dtype
    one = type_text(dtype)
    squares, total = (builder.variable(f"{one}(0)", "t") for _ in range(2))

    def add(element: str) -> None:
        x = builder.assign(dtype, element).text
        builder.line(f"{squares} = {one}({squares} + {one}({x} * {x}))")
        builder.line(f"{total} = {one}({total} + {x})")

    vector.each(add)
    result = builder.variable("0.0", "t")
    n = f"np.float64({length})"
    with builder.block(f"if {length} > 1:"):
        builder.line(f"{total} = {one}({total} * {total})")
        builder.line(f"{result} = 1.0 / ({n} - 1.0) * ({squares} - {total} / {n})")
    return Scalar(FLOAT64, result)


def _variance_in_doubles(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
    """Write the variance in one pass that loses nothing (Welford, Technometrics 4 (1962) 419)."""
    count = builder.variable()
    mean, squares = (builder.variable("0.0", "t") for _ in range(2))

    def add(element: str) -> None:
        x = builder.assign(FLOAT64, element).text
        step = builder.assign(FLOAT64, f"{x} - {mean}").text
        builder.line(f"{count} += 1")
        builder.line(f"{mean} += {step} / {count}")
        builder.line(f"{squares} += {step} * ({x} - {mean})")

    vector.each(add)
    result = builder.variable("0.0", "t")
    with builder.block(f"if {count} > 1:"):
        builder.line(f"{result} = {squares} / ({count} - 1)")
    return Scalar(FLOAT64, result)


def _extreme(operator: str, place: bool = False) -> _Written:
    """Return a search for the largest (``>``) or the smallest (``<``) element, or for its place."""

    def written(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
        best = builder.variable(f"{type_text(vector.dtype)}(0)", "t")
        found, count = builder.variable(prefix="j"), builder.variable()

        def look(element: str) -> None:
            x = builder.assign(vector.dtype, element).text
            with builder.block(f"if {count} == 0 or {x} {operator} {best}:"):
                builder.line(f"{best} = {x}")
                builder.line(f"{found} = {count}")
            builder.line(f"{count} += 1")

        vector.each(look)
        if place:
            return builder.assign(tree.dtype, found)
        builder.fail_if(f"{count} == 0", f"{tree.called} of a vector without elements")
        return Scalar(tree.dtype, best)

    return written


def _any_all(first: bool) -> _Written:
    """``Any`` begins with False and stops at a true element; ``All`` the other way round."""

    def written(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
        result = builder.variable(f"{first}", "t")

        def look(element: str) -> None:
            test = truth(element, vector.dtype)
            with builder.block(f"if {'not ' if first else ''}{test}:"):
                builder.line(f"{result} = {not first}")

        vector.each(look)
        return Scalar(tree.dtype, result)

    return written


def _size(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
    return builder.assign(tree.dtype, _length(builder, vector))


def _empty(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
    return builder.assign(tree.dtype, f"{_length(builder, vector)} == 0")


def _length(builder: Builder, vector: Vector) -> str:
    if vector.length is not None:
        return vector.length
    count = builder.variable()
    vector.each(lambda _: builder.line(f"{count} += 1"))
    return count


def _invariant_mass(builder: Builder, tree: Operation, *vectors: Vector) -> Scalar:
    one = type_text(tree.dtype)
    sums = [builder.variable(f"{one}(0)", "t") for _ in range(4)]

    def add(texts: Sequence[str]) -> str:
        pt, eta, phi, mass = texts
        x, y, z = (
            builder.assign(tree.dtype, text).text
            for text in (f"{pt} * np.cos({phi})", f"{pt} * np.sin({phi})", f"{pt} * np.sinh({eta})")
        )
        squares = f"{x} * {x} + {y} * {y} + {z} * {z} + {mass} * {mass}"
        energy = builder.assign(tree.dtype, f"np.sqrt({squares})").text
        for name, part in zip(sums, (x, y, z, energy), strict=True):
            builder.line(f"{name} = {one}({name} + {part})")
        return energy

    energies = builder.map(tree.dtype, add, vectors)
    assert isinstance(energies, Vector)
    energies.each(lambda _: None)
    x, y, z, e = sums
    return builder.assign(tree.dtype, f"np.sqrt({e} * {e} - {x} * {x} - {y} * {y} - {z} * {z})")


# --- single elements ------------------------------------------------------------------------------


def _place(builder: Builder, index: str, length: str, from_end: bool) -> str:
    """Write an element's place, checked; with `from_end`, negative ones count from the end."""
    place = builder.variable(f"np.int64({index})", "j")
    if from_end:
        with builder.block(f"if {place} < 0:"):
            builder.line(f"{place} += {length}")
    builder.fail_if(
        f"{place} < 0 or {place} >= {length}",
        "there is no element {a} among {b}",
        f"np.int64({index})",
        length,
    )
    return place


def _or_default(builder: Builder, vector: Indexed, place: str, default: Scalar) -> str:
    """Write an element, or something else where there is none."""
    j, result = builder.variable(f"np.int64({place})", "j"), builder.variable(default.text, "t")
    with builder.block(f"if 0 <= {j} < {vector.length}:"):
        builder.line(f"{result} = {type_text(vector.dtype)}({vector.at(j)})")
    return result


def _element(from_end: bool) -> _Written:
    def written(builder: Builder, tree: Operation, vector: Vector, index: Scalar) -> Scalar:
        among = builder.indexable(vector)
        place = _place(builder, index.text, among.length, from_end)
        return builder.assign(tree.dtype, among.at(place))

    return written


def _element_or(
    builder: Builder, tree: Operation, vector: Vector, index: Scalar, default: Scalar
) -> Scalar:
    return Scalar(tree.dtype, _or_default(builder, builder.indexable(vector), index.text, default))


def _end(where: str) -> _Written:
    """``v.front()`` and ``v.back()``."""

    def written(builder: Builder, tree: Operation, vector: Vector) -> Scalar:
        among = builder.indexable(vector)
        builder.fail_if(f"{among.length} == 0", "there is no element in an empty vector")
        return builder.assign(tree.dtype, among.at(where.format(among.length)))

    return written


# --- vectors of a vector's elements ---------------------------------------------------------------


def _masked(builder: Builder, tree: Operation, vector: Vector, mask: Vector) -> Vector:
    """Keep the elements for which a mask holds."""
    kept, holds = builder.indexable(vector), builder.indexable(mask)
    builder.check_lengths([kept, holds])
    return builder.filtered(tree.dtype, kept.length, lambda k: truth(holds.at(k), mask.dtype), kept.at)


def _nonzero(builder: Builder, tree: Operation, vector: Vector) -> Vector:
    among, one = builder.indexable(vector), type_text(tree.dtype)
    return builder.filtered(
        tree.dtype, among.length, lambda k: truth(among.at(k), vector.dtype), lambda k: f"{one}({k})"
    )


def _taken(from_end: bool) -> _Written:
    """Take the elements at some places."""

    def written(builder: Builder, tree: Operation, vector: Vector, indices: Vector) -> Value:
        among = builder.indexable(vector)

        def element(texts: Sequence[str]) -> str:
            return among.at(_place(builder, texts[0], among.length, from_end))

        return builder.map(tree.dtype, element, [indices])

    return written


def _taken_or(
    builder: Builder, tree: Operation, vector: Vector, indices: Vector, default: Scalar
) -> Value:
    among = builder.indexable(vector)
    return builder.map(
        tree.dtype, lambda texts: _or_default(builder, among, texts[0], default), [indices]
    )


def _first_or_last(
    builder: Builder, tree: Operation, vector: Vector, chosen: Scalar, default: Scalar | None = None
) -> Vector:
    """Take some elements from the beginning, or where the number is negative from the end."""
    among = builder.indexable(vector)
    length = among.length
    wanted = builder.assign(INT64, chosen.text).text
    count = builder.assign(INT64, f"abs({wanted})").text
    if default is None:
        builder.fail_if(
            f"{count} > {length}", "there are no {a} elements to take among {b}", count, length
        )
    else:
        builder.fail_if(
            f"{count} > 1000000", "{a} elements are to be taken, at most 1000000 can be", count
        )
    # Of the last elements, those that are missing stand in front.
    first = builder.assign(INT64, f"0 if {wanted} >= 0 else {length} - {count}").text

    def at(k: str) -> str:
        place = f"({first} + {k})"
        return among.at(place) if default is None else _or_default(builder, among, place, default)

    return builder.counted(tree.dtype, count, at)


def _reversed(builder: Builder, tree: Operation, vector: Vector) -> Vector:
    among = builder.indexable(vector)
    length = among.length
    return builder.counted(tree.dtype, length, lambda k: among.at(f"({length} - 1 - {k})"))


def _by_library(builder: Builder, tree: Operation, vector: Vector) -> Vector:
    """Call a function of the library from an array to one of the same length."""
    array, length = builder.array(vector)
    result = builder.variable(f"{tree.name}({array})", "m")
    place = builder.variable(length)
    return builder.counted(tree.dtype, place, lambda k: f"{result}[{k}]")


def _concatenated(builder: Builder, tree: Operation, a: Vector, b: Vector) -> Vector:
    def each(body: Callable[[str], None]) -> None:
        array = builder.variable(f"np.empty({a.most} + {b.most}, {type_text(tree.dtype)})", "m")
        filled = builder.variable()
        for vector in (a, b):

            def store(element: str, vector: Vector = vector) -> None:
                builder.line(f"{array}[{filled}] = {converted(element, vector.dtype, tree.dtype)}")
                builder.line(f"{filled} += 1")

            vector.each(store)
        builder.counted(tree.dtype, filled, lambda k: f"{array}[{k}]").each(body)

    return builder.stored(Vector(tree.dtype, each, None, f"({a.most} + {b.most})"))


def _range(builder: Builder, tree: Operation, *given: Scalar) -> Vector:
    bounds = [builder.assign(INT64, each.text).text for each in given]
    start = bounds[0] if len(bounds) > 1 else "0"
    stop = bounds[1] if len(bounds) > 1 else bounds[0]
    step = bounds[2] if len(bounds) > 2 else "1"
    if len(bounds) == 3:
        builder.fail_if(f"{step} == 0", "a range has the step 0")
    count = builder.variable(f"len(range({start}, {stop}, {step}))")
    builder.fail_if(f"{count} > 1000000", "a range has {a} elements, at most 1000000 are", count)
    one = type_text(tree.dtype)
    return builder.counted(tree.dtype, count, lambda k: f"{one}({start} + {k} * {step})")


OPERATIONS: dict[str, _Written] = {
    "variance": _variance,
    "variance in doubles": _variance_in_doubles,
    "smallest": _extreme("<"),
    "largest": _extreme(">"),
    "place of the smallest": _extreme("<", place=True),
    "place of the largest": _extreme(">", place=True),
    "any": _any_all(False),
    "all": _any_all(True),
    "size": _size,
    "empty": _empty,
    "invariant mass": _invariant_mass,
    "element": _element(from_end=False),
    "element from either end": _element(from_end=True),
    "element, or a default": _element_or,
    "front": _end("0"),
    "back": _end("({} - 1)"),
    "masked": _masked,
    "nonzero": _nonzero,
    "taken": _taken(from_end=False),
    "taken from either end": _taken(from_end=True),
    "taken, or a default": _taken_or,
    "first or last": _first_or_last,
    "reversed": _reversed,
    "sorted_copy": _by_library,
    "argsorted": _by_library,
    "concatenated": _concatenated,
    "range": _range,
}
"""By the names that trees have for them."""
