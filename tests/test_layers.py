"""The layers of the package: which module may import which.

Read from the source text, so that imports inside functions count, and those for type checkers too.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "rootfeed"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE

# A module imports only from rows above its own. The package's `__init__` stands below the last row.
LAYERS = (
    ("errors", "schema", "exact", "properties"),
    ("layout", "arguments", "processes", "ranks", "compiling", "progress"),
    ("kernels", "expression"),
    ("sources", "plan", "engine", "formats", "tables"),
    ("view",),
    ("frame",),
    ("dataset",),
    ("loader",),
    ("root", "integrations"),
)
LAYER_OF = {name: number for number, row in enumerate(LAYERS) for name in row}

# uproot belongs to the sources, and its insides to one module of them: its modules (all that it
# documents at the top level are `open`, `recreate` and classes), names with an underscore, and these
# attributes of its objects.
UPROOT_USERS = f"{PACKAGE}.sources"
UPROOT_INSIDER = f"{PACKAGE}.sources.uproot_internals"
UPROOT_ATTRIBUTES = {
    "all_fields",
    "bases",
    "byte_offsets",
    "chunk",
    "cluster_group_records",
    "cluster_summaries",
    "column_records",
    "cursor",
    "embedded_baskets",
    "field_id",
    "field_records",
    "footer",
    "header",
    "instance_members",
    "known_versions",
    "members",
    "page_link_list",
    "page_list_envelopes",
    "read_locator",
}
# Public in spite of their names: methods of named tuples, and the coroutines of fsspec's file systems.
PUBLIC_UNDERSCORES = {"_asdict", "_fields", "_make", "_replace"} | {
    "_cat_ranges",
    "_glob",
    "_info",
    "_ls",
}

Files = dict[str, str]


def read_package() -> Files:
    """Source texts by path below `src`, such as `rootfeed/sources/root.py`."""
    return {
        path.relative_to(SOURCE.parent).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def top_level(module: str) -> str:
    """`sources` of `rootfeed.sources.root`; the empty string for the package itself."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def imports(path: str, text: str, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a source text imports.

    `from a import b` imports `a.b`, but `a` where `a` is of this package and `a.b` is no module.
    """
    name = module_name(path)
    package = name if path.endswith("/__init__.py") else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield node.lineno, alias.name
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = importlib.util.resolve_name("." * level + (module or ""), package)
                for alias in aliases:
                    full = f"{base}.{alias.name}"
                    is_name = is_within(base, PACKAGE) and full not in modules
                    yield node.lineno, base if is_name else full
            # importlib.import_module("a"), import_module(".a", __package__), __import__("a")
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield node.lineno, importlib.util.resolve_name(target, package)


def is_inside_uproot(name: str) -> bool:
    """Whether an absolute name such as `uproot.models.TTree` is none that uproot documents."""
    _, _, rest = name.partition(".")
    return bool(rest) and rest not in ("open", "recreate") and ("." in rest or not rest[0].isupper())


def uproot_insides(path: str, text: str, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of all in a source text that belongs to uproot's insides, or seems to."""
    for line, target in imports(path, text, modules):
        if is_within(target, "uproot") and is_inside_uproot(target):
            yield line, target
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(value=ast.Name(id="uproot"), attr=name):
                if is_inside_uproot(f"uproot.{name}"):
                    yield node.lineno, f"uproot.{name}"
            case ast.Attribute(attr=name):
                private = name.startswith("_") and not name.endswith("__")
                if name in UPROOT_ATTRIBUTES or (private and name not in PUBLIC_UNDERSCORES):
                    yield node.lineno, f".{name}"


def layer_faults(files: Files) -> Iterator[str]:
    """Modules without a layer, and imports that go up or sideways."""
    modules = {module_name(path) for path in files}
    for path, text in files.items():
        importer = module_name(path)
        if importer == PACKAGE:
            continue
        own = top_level(importer)
        if own not in LAYER_OF:
            yield f"{path}: '{own}' is in no layer"
            continue
        for line, target in imports(path, text, modules):
            other = top_level(target)
            if not is_within(target, PACKAGE) or other == own:
                continue
            if target == PACKAGE:
                yield f"{path}:{line}: imports the package itself, which stands below every module"
            elif other not in LAYER_OF:
                yield f"{path}:{line}: imports {target}, but '{other}' is in no layer"
            elif LAYER_OF[other] >= LAYER_OF[own]:
                yield (
                    f"{path}:{line}: {own} (layer {LAYER_OF[own]}) imports {target} "
                    f"(layer {LAYER_OF[other]})"
                )


def cycle_faults(files: Files) -> Iterator[str]:
    """An import cycle, the package itself left out."""
    modules = {module_name(path) for path in files} - {PACKAGE}
    graph = {
        module_name(path): {target for _, target in imports(path, text, modules)} & modules
        for path, text in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "import cycle: " + " <- ".join(error.args[1])


def uproot_faults(files: Files) -> Iterator[str]:
    """Uses of uproot outside the sources, and of its insides outside the module for them."""
    modules = {module_name(path) for path in files}
    for path, text in files.items():
        name = module_name(path)
        if not is_within(name, UPROOT_USERS):
            for line, target in imports(path, text, modules):
                if is_within(target, "uproot"):
                    yield f"{path}:{line}: only {UPROOT_USERS} imports uproot"
        elif name != UPROOT_INSIDER:
            for line, found in uproot_insides(path, text, modules):
                yield f"{path}:{line}: {found} is for {UPROOT_INSIDER} alone"


def faults(files: Files) -> list[str]:
    return [*layer_faults(files), *cycle_faults(files), *uproot_faults(files)]


def test_the_package_keeps_its_layers() -> None:
    files = read_package()
    assert f"{PACKAGE}/__init__.py" in files
    if found := faults(files):
        pytest.fail("\n".join(found))


def test_every_module_of_the_layers_exists() -> None:
    modules = {module_name(path) for path in read_package()}
    assert [name for name in LAYER_OF if f"{PACKAGE}.{name}" not in modules] == []
    assert UPROOT_INSIDER in modules


# What the checks are tried on: a package in which everything is in order.
SOUND = {
    "rootfeed/__init__.py": "from rootfeed.loader import Loader\nfrom . import errors",
    "rootfeed/errors.py": "import os",
    "rootfeed/schema.py": "",
    "rootfeed/kernels.py": "from numba import njit",
    "rootfeed/plan.py": "from .errors import ArgumentError\nfrom rootfeed import kernels, schema",
    "rootfeed/engine.py": "import threading",
    "rootfeed/sources/__init__.py": "from rootfeed.sources.root import RootSource",
    "rootfeed/sources/storage.py": "from ..errors import DamagedFileError",
    "rootfeed/sources/root.py": "import uproot\nuproot.open()\nfrom . import storage, pages",
    "rootfeed/sources/pages.py": "from uproot import AsJagged\nself._a = row._replace(uproot.AsDtype)",
    "rootfeed/sources/uproot_internals.py": "from uproot.models import TTree\nbranch._cursor.chunk",
    "rootfeed/loader.py": "import rootfeed.plan as plan\nfrom rootfeed import sources",
    "rootfeed/root.py": "def f():\n    from rootfeed.loader import Loader",
}


def test_a_sound_package_has_no_faults() -> None:
    assert faults(SOUND) == []


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (
            "rootfeed/plan.py",
            "import rootfeed.loader",
            "plan.py:1: plan (layer 3) imports rootfeed.loader",
        ),
        ("rootfeed/plan.py", "from rootfeed import loader", "imports rootfeed.loader"),
        ("rootfeed/plan.py", "from . import loader", "imports rootfeed.loader"),
        ("rootfeed/plan.py", "from .loader import Loader", "imports rootfeed.loader"),
        ("rootfeed/plan.py", "from rootfeed import sources", "imports rootfeed.sources"),
        ("rootfeed/plan.py", "\ndef f():\n    from . import loader", "plan.py:3:"),
        ("rootfeed/plan.py", "if TYPE_CHECKING:\n    from .loader import Loader", "plan.py:2:"),
        ("rootfeed/plan.py", "importlib.import_module('rootfeed.loader')", "rootfeed.loader"),
        ("rootfeed/plan.py", "import_module('.loader', __package__)", "rootfeed.loader"),
        ("rootfeed/plan.py", "from rootfeed import Loader", "imports the package itself"),
        ("rootfeed/plan.py", "import rootfeed", "imports the package itself"),
        ("rootfeed/plan.py", "from rootfeed.sources import root", "imports rootfeed.sources.root"),
        ("rootfeed/engine.py", "from rootfeed.sources.root import f", "rootfeed.sources.root"),
        ("rootfeed/formats/torch.py", "from .. import sources", "imports rootfeed.sources"),
        ("rootfeed/sources/root.py", "from rootfeed.plan import f", "imports rootfeed.plan"),
        ("rootfeed/sources/root.py", "from ..frame import Frame", "imports rootfeed.frame"),
        ("rootfeed/schema.py", "from rootfeed.errors import f", "imports rootfeed.errors"),
        ("rootfeed/errors.py", "from rootfeed.helpers import f", "but 'helpers' is in no layer"),
        ("rootfeed/helpers.py", "", "'helpers' is in no layer"),
        ("rootfeed/helpers/__init__.py", "", "'helpers' is in no layer"),
        ("rootfeed/sources/storage.py", "from . import root", "import cycle"),
        ("rootfeed/sources/storage.py", "def f():\n    from .root import g", "import cycle"),
        ("rootfeed/sources/storage.py", "from rootfeed.sources import RootSource", "import cycle"),
        ("rootfeed/frame.py", "import uproot", "frame.py:1: only rootfeed.sources imports uproot"),
        ("rootfeed/root.py", "from uproot import open", "only rootfeed.sources imports uproot"),
        ("rootfeed/sources/root.py", "import uproot.models.RNTuple", f"RNTuple is for {UPROOT_INSIDER}"),
        ("rootfeed/sources/root.py", "from uproot import models", "root.py:1: uproot.models is for"),
        ("rootfeed/sources/root.py", "from uproot.source import _x", "uproot.source._x is for"),
        ("rootfeed/sources/root.py", "import uproot\nuproot.const.kFloat16", "root.py:2: uproot.const"),
        ("rootfeed/sources/root.py", "branch._basket_lengths", "._basket_lengths is for"),
        ("rootfeed/sources/root.py", "ntuple.page_link_list[0]", ".page_link_list is for"),
    ],
)
def test_a_fault_is_found(path: str, text: str, message: str) -> None:
    found = faults(SOUND | {path: text})
    assert any(message in fault for fault in found), found
