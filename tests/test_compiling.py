"""Numba's cache is never needed: what cannot be read or written there is compiled in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numba
import numpy as np
import pytest
import uproot
from numba.core import caching

from rootfeed import compiling
from rootfeed.errors import CacheWarning

SOURCE = "def function(x):\n    return x * {factor} + 1\n"


@pytest.fixture(autouse=True)
def not_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_warned", False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def fresh(folder: Path, factor: int = 2) -> Any:
    """The function of a source file, not compiled yet in this process."""
    path = folder / "source.py"
    path.write_text(SOURCE.format(factor=factor))
    names: dict[str, Any] = {"__name__": "source"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return compiling.compiler(names["function"])


def hits(function: Any) -> int:
    return sum(function.stats.cache_hits.values())


def kept(folder: Path, suffix: str) -> list[Path]:
    return sorted((folder / "cache").rglob(f"*{suffix}"))


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
        (path / "something").touch()
    elif how == "unreadable":
        path.chmod(0)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut short": whole[: len(whole) // 2],
                "its last byte missing": whole[:-1],
                "garbage": np.random.default_rng(1).bytes(len(whole)),
                "zeros": bytes(len(whole)),
                "one bit turned": whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:],
            }[how]
        )


FORMS = ["removed", "empty", "cut short", "its last byte missing", "garbage", "zeros", "unreadable"]


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("how", [*FORMS, "one bit turned"])
def test_what_cannot_be_read_is_compiled_and_written_again(folder: Path, suffix: str, how: str) -> None:
    assert fresh(folder)(3) == 7
    again = fresh(folder)
    assert (again(3), hits(again)) == (7, 1)
    for path in kept(folder, suffix):
        damage(path, how)
    function = fresh(folder)
    assert function(3) == 7
    again = fresh(folder)
    assert (again(3), hits(again)) == (7, 1)
    assert not kept(folder, ".tmp*")


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_folder_in_place_of_a_file_is_left_alone(folder: Path, suffix: str) -> None:
    fresh(folder)(3)
    for path in kept(folder, suffix):
        damage(path, "a folder")
    with pytest.warns(CacheWarning) as caught:
        assert fresh(folder)(3) == 7
    assert len(caught) == 1
    for word in (str(folder / "cache"), "IsADirectoryError", "NUMBA_CACHE_DIR"):
        assert word in str(caught[0].message)
    # Once in a process.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh(folder)(3) == 7
    assert not kept(folder, ".tmp*")


def test_code_of_another_source_or_signature_is_never_run(folder: Path) -> None:
    function = fresh(folder)
    assert (function(3), function(1.5)) == (7, 4.0)
    first, second = kept(folder, ".nbc")
    old, other = first.read_bytes(), second.read_bytes()
    # What an interrupted writer or an index of another time may leave: each in the other's place.
    first.write_bytes(other)
    second.write_bytes(old)
    function = fresh(folder)
    assert (function(3), function(1.5), hits(function)) == (7, 4.0, 0)
    # The index of a newer source, and the code of the older one.
    older = kept(folder, ".nbc")[0].read_bytes()
    assert fresh(folder, factor=5)(3) == 16
    kept(folder, ".nbc")[0].write_bytes(older)
    assert fresh(folder, factor=5)(3) == 16


def test_an_index_names_only_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    write = caching.IndexDataCacheFile._open_for_write

    def noted(self: Any, path: str) -> Any:
        names.append(Path(path).suffix)
        return write(self, path)

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", noted)
    fresh(folder)(3)
    assert names == [".nbc", ".nbi"]


def rejecting(*_: Any, **__: Any) -> Any:
    raise OSError(122, "Disk quota exceeded")


def full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", rejecting)


def vanished_folder(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "cache")
    (folder / "cache").touch()


def unpicklable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.IndexDataCacheFile, "_dump", rejecting)


def renamed_within_numba(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(caching.IndexDataCacheFile, "_data_path")


@pytest.mark.parametrize(
    "trouble", [full_disk, vanished_folder, unpicklable, renamed_within_numba], ids=lambda f: f.__name__
)
def test_what_cannot_be_written_stays_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None]
) -> None:
    function = fresh(folder)
    trouble(folder, monkeypatch)
    with pytest.warns(CacheWarning, match="cannot be kept") as caught:
        assert (function(3), function(1.5), fresh(folder)(3)) == (7, 4.0, 7)
    assert len(caught) == 1


def test_without_any_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function = fresh(folder)
    with pytest.warns(CacheWarning, match="on disk") as caught:
        assert (function(3), function(1.5)) == (7, 4.0)
    assert len(caught) == 1


def test_numba_has_what_the_cache_stands_on() -> None:
    for name in ("_load_index", "_save_index", "_data_name", "_data_path", "_open_for_write", "_dump"):
        assert callable(getattr(caching.IndexDataCacheFile, name))
    for name in ("load_overload", "_load_overload", "save_overload"):
        assert callable(getattr(caching.FunctionCache, name))
    function = numba.njit(lambda: 1)
    assert isinstance(function._cache, caching.NullCache)
    assert callable(function._compilation_chain_init_hook)


OTHER_NUMBA = """
import sys
import numba
from numba.core import caching
names = dict(vars(caching))
exec(sys.argv[1])
from rootfeed import compiling, kernels
vars(caching).update(names)  # Numba itself needs them
import numpy as np
out = np.empty(5, np.uint32)
kernels.permute(np.uint64(1), np.empty(0, np.uint32), out)
assert sorted(out) == [0, 1, 2, 3, 4]
del compiling._declared[2:]  # all take some seconds
compiling.compile_declared()
print(sum(kernels.permute.stats.cache_hits.values()))
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("missing", "kept"),
    [
        ("del caching.NullCache", True),
        ("del caching.IndexDataCacheFile", False),
        ("caching.FunctionCache.__init__ = object.__init__", False),
    ],
)
def test_a_numba_that_is_built_otherwise(tmp_path: Path, missing: str, kept: bool) -> None:
    hits = []
    for _ in range(2):
        command = [sys.executable, "-W", "error", "-c", OTHER_NUMBA, missing]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        hits.append(int(done.stdout) > 0)
    assert hits == [False, kept]


WARM = """
import sys
import rootfeed as rf
frame = rf.open(sys.argv[1]).define("made", "sqrt(id) + sum(v)").filter("id > 2")
loader = rf.Loader(frame, 16, {"x": ["id", "made"], "v": rf.padded("v", 3)}, "id", seed=1)
total = sum(float(x["x"].sum()) + float(x["v"].sum()) for x, _ in loader)
print(total, sorted({"awkward", "numba.np.arraymath"} & set(sys.modules)))
"""


def test_what_is_kept_is_loaded_without_what_only_compilation_needs(tmp_path: Path) -> None:
    numbers = np.arange(100)
    vectors = ak.Array([numbers[: number % 4].astype("f4") for number in numbers])
    path = str(tmp_path / "data.root")  # whose columns are known without uproot
    with uproot.recreate(path) as file:
        file.mkrntuple("events", ak.Array({"id": numbers, "v": vectors}))
    expected = sum(number + number**0.5 + sum(range(number % 4)) * 2 for number in range(3, 100))
    for _ in range(2):  # the first one may compile
        command = [sys.executable, "-c", WARM, path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        total, imported = done.stdout.split(maxsplit=1)
        assert float(total) == pytest.approx(expected)
    assert imported == "[]\n"


def test_a_function_that_calls_another_one(folder: Path) -> None:
    inner = fresh(folder)
    assert numba.njit(lambda x: inner(x) + 1)(3) == 8


@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_a_fork_waits_for_a_compilation(whose: str) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("nothing is forked here")
    program = """if True:
        import os, sys, threading
        from numba.core.compiler_lock import global_compiler_lock
        from rootfeed import compiling
        inside, done = threading.Event(), []
        ours = sys.argv[1] == "ours"
        compiled = compiling._interruptible if ours else lambda work: global_compiler_lock(work)()
        def work():
            inside.set()
            threading.Event().wait(0.5)
            done.append(True)
        thread = threading.Thread(target=lambda: compiled(work))
        thread.start()
        inside.wait()
        child = os.fork()
        if child == 0:
            compiling._interruptible(global_compiler_lock(lambda: None))
            os._exit(3 if done else 4)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    command = [sys.executable, "-W", "ignore", "-c", program, whose]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == ("3\n", "")


PROGRAM = """
import resource, shutil, sys, warnings
import numpy as np
if "full" in sys.argv:  # files cannot grow, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from rootfeed import compiling, kernels
from rootfeed.expression import Definition, compile_outputs, parse
from rootfeed.schema import ColumnType
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    states = np.zeros(2, np.uint64)
    kernels.stir(states, states)
    types = {"x": ColumnType("double", "scalar", np.dtype("f8"))}
    for text in ("x * 2 + 1", "x * 3 + 1"):
        made = compile_outputs([Definition("r", parse(text))], ["r"], types, "python")
    outs = {"r": np.empty(1)}
    made.run({"x": np.array([2.0])}, 0, 0, np.arange(1, dtype=np.int32), "file", outs)
assert outs["r"][0] == 7
if caught:
    print(len(caught), caught[0].category.__name__)
"""


def run(cache: Path, *arguments: str) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files(cache: Path) -> Iterator[Path]:
    return (path for path in cache.rglob("*") if path.is_file())


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="limits of resources are those of Unix")
def test_a_full_disk(tmp_path: Path) -> None:
    assert run(tmp_path, "full") == "1 CacheWarning"
    assert not [path for path in files(tmp_path) if ".tmp" in path.name]
    assert run(tmp_path) == ""
    assert run(tmp_path, "full") == ""  # nothing has to be written


@pytest.mark.thorough
@pytest.mark.parametrize("suffix", [".py", ".nbc", ".nbi"])
def test_whatever_is_damaged_is_written_again(tmp_path: Path, suffix: str) -> None:
    assert run(tmp_path) == ""
    whole = {path for path in files(tmp_path) if path.suffix == suffix}
    assert whole
    for path in whole:
        path.write_bytes(b"\xff\xfe" + path.read_bytes()[:300])
    assert run(tmp_path) == ""
    assert run(tmp_path, "full") == ""
    assert {path for path in files(tmp_path) if path.suffix == suffix} == whole


@pytest.mark.thorough(but=["within"])
@pytest.mark.parametrize("cache", ["file/below", ""], ids=["above", "within"])
def test_a_folder_that_is_a_file(tmp_path: Path, cache: str) -> None:
    for name in ("file", "rootfeed"):
        (tmp_path / name).touch()
    assert run(tmp_path / cache) == "1 CacheWarning"
