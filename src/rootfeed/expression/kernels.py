"""Kernels: steps in one loop over entries. Their source, the compiled function, and how it is run.

Compiled functions are kept in the process, and on disk where no function of the user's is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

import rootfeed.expression.library as library
from rootfeed.compiling import compiler, warn_of_cache
from rootfeed.errors import EvaluationError, RootfeedError
from rootfeed.expression.builder import Scalar, Vector
from rootfeed.expression.emission import Emitter
from rootfeed.expression.grammar import MOST_DEPTH
from rootfeed.expression.nodes import Expression
from rootfeed.expression.steps import TypedStep
from rootfeed.expression.typed import BOOL, Column, type_text
from rootfeed.schema import Array, Jagged

__all__ = ["Entries", "Kernel", "Known", "compiled"]

Known = Mapping[str, Array | Jagged]
"""Stored columns by name, for all entries of a block; made ones by key, for the entries in work."""

_STATUS = 4
"""Numbers in which a kernel tells why it stopped: a failure, an entry, and two for the message."""

_NO_CUTS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Entries:
    """Those that a program works on.

    Attributes
    ----------
    take : ndarray of int32
        Relative to the first one of the block.
    first_entry, first_number : int
        Number of that in its file, and in the whole dataset.
    where : str
        The file, for messages.
    """

    take: npt.NDArray[np.int32]
    first_entry: int
    first_number: int
    where: str

    def among(self, kept: npt.NDArray[np.int32]) -> Entries:
        """Return some of them."""
        return replace(self, take=self.take[kept])

    def failed(self, error: Exception, what: str) -> RootfeedError:
        """Return an error that names the place, for what a function of the user's raised."""
        if isinstance(error, RootfeedError):
            return error
        return EvaluationError(
            f"{self.where}: {what} failed in the entries from {self.first_entry} on: "
            f"{type(error).__name__}: {error}."
        )


class Kernel:
    """Some steps of a program, compiled into one loop over entries.

    Parameters
    ----------
    steps : sequence of TypedStep
    outputs : collection of str
        Keys of the columns that something after the kernel needs.
    uses : mapping of str to int
        How often the column of a key is used.

    Attributes
    ----------
    cuts : int
    stored : tuple of str
        Stored columns that it needs.
    source : str
    """

    def __init__(
        self, steps: Sequence[TypedStep], outputs: Collection[str], uses: Mapping[str, int]
    ) -> None:
        self._emitter = emitter = Emitter()
        self.cuts = sum(step.made is None for step in steps)
        made = [
            step.made for step in steps if isinstance(step.made, Column) and step.made.key in outputs
        ]
        self._scalars = {each.key: each.dtype for each in made if not each.is_vector}
        self._vectors = {each.key: each.dtype for each in made if each.is_vector}
        self._nested: dict[str, int] = {}
        self._write(steps, uses)
        asked = (name for test in emitter.tests for name in (test.column, *test.columns))
        numbers = (key for key, column in emitter.inputs.items() if not column.is_made)
        self.stored = tuple(dict.fromkeys([*numbers, *asked]))
        self._failures = tuple(emitter.failures)
        self.compiled = compiled(self.source, emitter.functions, self._nothing())

    # --- its source ---------------------------------------------------------------------------

    def _write(self, steps: Sequence[TypedStep], uses: Mapping[str, int]) -> None:
        """Write the source.

        Of a cut ``x > 1.5`` it is::

            def kernel(status, first_number, take, passed, passing, a0):
                for j in range(take.size):
                    i = np.int64(take[j])
                    t1 = np.bool_((a0[i] > np.float64(1.5)))
                    if not t1:
                        continue
                    passing[0] += 1
                    passed[i] = 1
        """
        emitter = self._emitter
        arrays = [f"v_{number}" for number in range(len(self._vectors))]
        returns = not self.cuts or bool(self._scalars or self._vectors)
        emitter.leave = f"return ({', '.join([*arrays, '0'])},)" if returns else "return"
        # Of the entries that pass the cuts, which are fewer.
        at = "passes" if self.cuts and returns else "j"
        with emitter.block(""):
            for array, dtype in zip(arrays, self._vectors.values(), strict=True):
                emitter.line(f"{array} = np.empty(1024, {type_text(dtype)})")
                emitter.line(f"n_{array} = 0")
            if at != "j":
                emitter.line(f"{at} = 0")
            with emitter.block("for j in range(take.size):"):
                emitter.line("i = np.int64(take[j])")
                cuts = 0
                for step in steps:
                    if isinstance(step.made, Column):
                        self._write_definition(step, step.made.key, uses)
                    else:
                        self._write_cut(step, cuts)
                        cuts += 1
                for number, key in enumerate(self._scalars):
                    scalar = emitter.values[key]
                    assert isinstance(scalar, Scalar)
                    emitter.line(f"s_{number}[{at}] = {scalar.text}")
                for number, key in enumerate(self._vectors):
                    vector = emitter.values[key]
                    assert isinstance(vector, Vector)
                    self._write_vector(vector, arrays[number], f"o_{number}[{at} + 1]")
                if self.cuts:
                    emitter.line("passed[i] = 1")
                if at != "j":
                    emitter.line(f"{at} += 1")
            if returns:
                emitter.line(f"return ({', '.join([*(f'{a}[:n_{a}]' for a in arrays), '0'])},)")
        head = ["status", "first_number", "take", *(["passed", "passing"] if self.cuts else [])]
        head += [f"s_{number}" for number in range(len(self._scalars))]
        head += [f"o_{number}" for number in range(len(self._vectors))]
        for number, column in enumerate(emitter.inputs.values()):
            head += [f"a{number}_v", f"a{number}_o"] if column.is_vector else [f"a{number}"]
        lines = [f"def kernel({', '.join(head)}):", *emitter.lines[1:]]
        self.source = "\n".join(lines) + "\n"

    def _write_definition(self, step: TypedStep, key: str, uses: Mapping[str, int]) -> None:
        """Write a definition for the steps that follow, stored where it is used several times.

        It is also stored where operations on its elements nest too deeply: Python's stack is finite.
        """
        assert step.tree is not None
        value = self._emitter.emit(step.tree, step.step.text)
        if isinstance(value, Vector):
            how = step.step.how
            nested = max((self._nested.get(need, 0) for need in step.needs), default=0)
            nested += how.node.depth if isinstance(how, Expression) else 1
            if uses[key] > 1 or nested > MOST_DEPTH:
                value = self._emitter.stored(value)
            else:
                self._nested[key] = nested
        self._emitter.values[key] = value

    def _write_cut(self, step: TypedStep, number: int) -> None:
        assert step.tree is not None
        emitter = self._emitter
        value = emitter.emit(step.tree, step.step.text)
        assert isinstance(value, Scalar)
        fails = f"not {value.text}" if value.dtype == BOOL else f"{value.text} == 0"
        with emitter.block(f"if {fails}:"):
            emitter.line("continue")
        emitter.line(f"passing[{number}] += 1")

    def _write_vector(self, vector: Vector, array: str, end: str) -> None:
        emitter, one = self._emitter, type_text(vector.dtype)
        with emitter.block(f"if n_{array} + {vector.most} > {array}.size:"):
            emitter.line(f"{array} = grown({array}, n_{array} + {vector.most})")

        def store(element: str) -> None:
            emitter.line(f"{array}[n_{array}] = {one}({element})")
            emitter.line(f"n_{array} += 1")

        vector.each(store)
        emitter.line(f"{end} = n_{array}")

    def _nothing(self) -> tuple[Any, ...]:
        """Return arguments of the types that it is called with, for no entries."""
        known: dict[str, Array | Jagged] = {}
        for key, column in self._emitter.inputs.items():
            values = np.empty(0, column.dtype)
            known[key] = Jagged(values, np.zeros(1, np.int64)) if column.is_vector else values
        scalars = [np.empty(0, dtype) for dtype in self._scalars.values()]
        none, passed = np.empty(0, np.int32), np.empty(0, np.uint8)
        return self._arguments(known, 0, none, scalars, passed, np.zeros(self.cuts, np.int64))

    # --- running it ---------------------------------------------------------------------------

    def _arguments(
        self,
        known: Known,
        first_number: int,
        take: npt.NDArray[np.int32],
        scalars: Sequence[Array],
        passed: Array,
        passing: Array,
    ) -> tuple[Any, ...]:
        flat: list[Array] = []
        for name in self._emitter.inputs:
            value = known[name]
            flat += [value.values, value.offsets] if isinstance(value, Jagged) else [value]
        offsets = (np.zeros(len(take) + 1, np.int64) for _ in self._vectors)
        counts = (passed, passing) if self.cuts else ()
        return (np.zeros(_STATUS, np.int64), first_number, take, *counts, *scalars, *offsets, *flat)

    def run(
        self,
        known: Known,
        entries: Entries,
        outs: Mapping[str, Array],
        passed: Array = _NO_CUTS,
        passing: Array = _NO_CUTS,
    ) -> dict[str, Any]:
        """Evaluate it for some entries; return the definitions that are needed after it, by key.

        Parameters
        ----------
        known : mapping of str to ndarray or Jagged
        entries : Entries
        outs : mapping of str to ndarray
            Receives scalars; for others there is fresh memory.
        passed : ndarray of uint8
            Of all entries of the block; set to 1 for those that pass the cuts.
        passing : ndarray of int64, shape (cuts,)
            The number of entries that passed a cut is added.
        """
        scalars = [
            outs[key] if key in outs else np.empty(len(entries.take), dtype)
            for key, dtype in self._scalars.items()
        ]
        if self._emitter.tests:
            tests = self._emitter.tests.items()
            known = {**known, **{key: test.run(known, entries.take) for test, key in tests}}
        given = self._arguments(known, entries.first_number, entries.take, scalars, passed, passing)
        try:
            vectors = self.compiled(*given)
        except Exception as error:
            raise entries.failed(error, "a function") from error
        self._check(given[0], entries)
        found: dict[str, Any] = dict(zip(self._scalars, scalars, strict=True))
        begin = 3 + 2 * bool(self.cuts) + len(scalars)
        ends = given[begin : begin + len(self._vectors)]
        for key, values, offsets in zip(self._vectors, vectors or (), ends, strict=False):
            found[key] = Jagged(values, offsets)
        return found

    def _check(self, status: Array, entries: Entries) -> None:
        if status[0] == 0:
            return
        text, message = self._failures[int(status[0]) - 1]
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        what = message.format(a=int(status[2]), b=int(status[3]))
        raise EvaluationError(
            f"{entries.where}: {what}, in entry {entries.first_entry + int(status[1])}, evaluating:\n"
            f"  {shown}\n"
            "Guard it, as in 'n > 0 && v[0] > 3', or give a default: 'at(v, 0, -1)'."
        )


# --- compiling ------------------------------------------------------------------------------------

_HEAD = '''"""A kernel made by rootfeed from expressions. It may be deleted."""
import numpy as np
from rootfeed.expression.library import *
from rootfeed.expression.library import erf, erfc, gamma, lgamma


'''

_known: dict[tuple[Any, ...], Any] = {}
_lock = RLock()


def _renew_lock() -> None:
    """Forget, in a forked child, that a thread of its parent was compiling."""
    global _lock
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def compiled(
    source: str, functions: Mapping[str, Callable[..., Any]], arguments: tuple[Any, ...]
) -> Any:
    """Return the function ``kernel`` of a source, compiled for some arguments.

    Parameters
    ----------
    source : str
        A function ``kernel``. It holds nothing that a user wrote.
    functions : mapping of str to function
        Compiled functions that it calls, besides those of the library; with any, nothing is kept on
        disk.
    arguments : tuple
        Arguments of the types that it will be called with; it is called with them once.
    """
    key = (source, *functions.values())
    with _lock:
        if key not in _known:
            _known[key] = _loaded(source, functions)
        kernel = _known[key]
        kernel(*arguments)
    return kernel


def _loaded(source: str, functions: Mapping[str, Callable[..., Any]]) -> Any:
    if not functions:
        folder = None
        try:
            folder = _folder()
            return _from_file(source, folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
            warn_of_cache(folder, error)
    names = {name: getattr(library, name) for name in dir(library) if not name.startswith("_")}
    names |= {"np": np, **functions}
    exec(compile(source, "<rootfeed kernel>", "exec"), names)
    return compiler(names["kernel"], keep=False, error_model="numpy")


def _from_file(source: str, folder: Path) -> Any:
    """Return a kernel whose source is a file, without which Numba keeps nothing."""
    text = _HEAD + source
    versions = f"{numba.__version__} {np.__version__} {sys.version}"
    library_text = Path(library.__file__).read_text(encoding="utf-8")
    digest = hashlib.sha256("\0".join((text, versions, library_text)).encode()).hexdigest()[:32]
    path = folder / f"kernel_{digest}.py"
    _write(path, text.encode())
    # Not imported: a file with Python's own compiled code beside it may be cut short, too.
    module = ModuleType(f"rootfeed_kernel_{digest}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return compiler(module.__dict__["kernel"], error_model="numpy")


def _write(path: Path, contents: bytes) -> None:
    """Write a file in one step, unless it is there: several processes may do so at a time."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == contents:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(contents)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _folder() -> Path:
    """Return the folder for kernels, in Numba's cache where one was chosen, or in the user's."""
    if base := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(base, "rootfeed")
    import platformdirs  # some milliseconds, which `import rootfeed` need not take

    return platformdirs.user_cache_path("rootfeed")
