"""What processes tell each other of files on disk: nothing is done again, nothing old believed."""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import ArgumentError, CacheWarning, DuplicateNameWarning, RootfeedError
from rootfeed.schema import FileIndex
from rootfeed.sources import csv, known, metadata, plain
from rootfeed.sources.storage import Storage, cached, local, open_storage, packs
from rootfeed.view import selection
from samples import write_twice
from servers import serve

ENTRIES = 1000
FORMATS = ("TTree", "RNTuple")
NAMES = ["half", "code", "flag"]
CUT = "code > 0"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_twice(tmp_path_factory.mktemp("files"), FORMATS, ENTRIES)


@pytest.fixture
def files(originals: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals, tmp_path / "files"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is on; files are settled as soon as they are written."""
    monkeypatch.setattr(local, "_SETTLED_NS", -(10**12))
    monkeypatch.setenv(known.FOLDER_VARIABLE, str(tmp_path / "cache"))
    forget(monkeypatch)
    return tmp_path / "cache" / "files"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget all that this process knows, as the next one does."""
    for store in cached._stores.values():
        store.close()
    monkeypatch.setattr(cached, "_stores", {})
    metadata._kept.clear()


class Work:
    """How often files are parsed, and blocks read to evaluate cuts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: list[str] = []
        self.read: list[int] = []
        self._count(
            monkeypatch, metadata, "directly", lambda address, *_: self.parsed.append(address.name)
        )
        self._count(
            monkeypatch,
            selection,
            "read_blocks",
            lambda *_, within, **__: self.read.extend(block.file for block in within),
        )

    def _count(self, monkeypatch: Any, module: Any, name: str, note: Callable[..., Any]) -> None:
        real = getattr(module, name)

        def counted(*args: Any, **options: Any) -> Any:
            note(*args, **options)
            return real(*args, **options)

        monkeypatch.setattr(module, name, counted)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def paths_of(folder: Path) -> list[str]:
    return [str(folder / f"{format}.root") for format in FORMATS]


def index(path: Path | str, names: list[str] = NAMES) -> FileIndex:
    return sources.index(sources.expand(str(path))[0], names)


def assert_same(one: Any, other: Any) -> None:
    """Compare field by field, bit by bit."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
        assert other.flags.c_contiguous
        assert other.flags.aligned
        assert other.flags.writeable
    elif is_dataclass(one):
        for each in fields(one):
            assert_same(getattr(one, each.name), getattr(other, each.name))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def process(code: str, cache: Path, **options: Any) -> subprocess.Popen[str]:
    text = "from rootfeed.sources.storage import local; local._SETTLED_NS = -10**12\n" + code
    environment = {**os.environ, known.FOLDER_VARIABLE: str(cache.parent)}
    return subprocess.Popen([sys.executable, "-c", text], env=environment, text=True, **options)


# --- indexes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_the_next_process_parses_nothing(
    format: str, files: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(files / f"{format}.root")
    columns, first = rf.open(path).columns, index(path)
    parsed = len(work.parsed)
    assert parsed == 1  # one for both
    forget(monkeypatch)
    assert list(rf.open(path).columns.items()) == list(columns.items())
    assert_same(first, index(path))
    assert_same(first, index(path, NAMES[::-1]))
    assert len(work.parsed) == parsed
    index(path, ["half"])  # something else
    assert len(work.parsed) == parsed + 1


def test_real_processes_share_it(files: Path, cache: Path, work: Work) -> None:
    code = f"""
import rootfeed as rf
frame = rf.open({paths_of(files)!r}).filter({CUT!r})
assert frame.count() > 0
rf.Loader(frame, 10, {NAMES!r})
"""
    both = [process(code, cache) for _ in range(2)]  # at once
    assert [each.wait(120) for each in both] == [0, 0]
    frame = rf.open(paths_of(files)).filter(CUT)
    count = frame.count()
    loader = rf.Loader(frame, 10, NAMES)
    assert not work.parsed
    assert not work.read
    assert count == loader.num_rows == sum(len(x) for x in loader)


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_harms(
    files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""
import itertools
from rootfeed import sources
from rootfeed.sources.storage import open_storage
location, = sources.expand({str(files / "TTree.root")!r})
for number in itertools.count():
    sources.keep(b"x" * 16, number, bytes(number % 5000))
    sources.index(location, ["half"])
    if number == 50:
        print("running", flush=True)
"""
    worker = process(code, cache, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "running\n"
    time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    monkeypatch.setenv(known.FOLDER_VARIABLE, "off")
    expected = index(files / "TTree.root")
    monkeypatch.setenv(known.FOLDER_VARIABLE, str(cache.parent))
    for _ in range(2):
        assert_same(expected.columns, index(files / "TTree.root").columns)
        forget(monkeypatch)


def test_flipped_bytes_are_not_believed(
    files: Path, cache: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files / "RNTuple.root"
    first, count = index(path), rf.open(path).filter(CUT).count()
    forget(monkeypatch)
    [pack] = cache.glob(f"*{packs.PACK}")
    whole = pack.read_bytes()
    # At least one in each entry: those of an index are some hundred bytes.
    spoilt = bytearray(whole)
    for place in range(0, len(spoilt), 32):
        spoilt[place] ^= 1 << random.Random(place).randrange(8)
    pack.write_bytes(spoilt)
    work.parsed.clear()
    work.read.clear()
    assert rf.open(path).filter(CUT).count() == count
    assert_same(first, index(path))
    assert len(work.parsed) >= 2
    assert work.read == [0]
    forget(monkeypatch)
    work.parsed.clear()
    assert_same(first, index(path))  # it was written again
    assert not work.parsed


def test_another_file_under_the_same_name_is_indexed_anew(
    files: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files / "TTree.root"
    first, counted = index(path), rf.open(path).filter("id < 10").count()
    os.replace(files / "other" / "TTree.root", path)
    assert index(path).identity != first.identity
    assert (counted, rf.open(path).filter("id < 10").count()) == (10, 0)


@pytest.mark.parametrize("change", ["touched", "in place", "swapped"])
def test_whatever_changes_a_file_is_noticed(change: str, files: Path, work: Work) -> None:
    path = files / "TTree.root"
    index(path)
    assert len(work.parsed) == 1
    before = path.stat()
    time.sleep(0.02)  # more than a tick of the kernel's clock
    if change == "touched":
        os.utime(path)
    elif change == "in place":  # of the same size, head, and time of modification
        with path.open("r+b") as file:
            file.seek(1000)
            byte = file.read(1)
            file.seek(1000)
            file.write(byte)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        shutil.copy2(path, copy := path.with_suffix(".copy"))
        os.replace(copy, path)
    index(path)
    assert len(work.parsed) == 2


def test_a_file_that_has_just_been_written_is_not_kept(
    files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_SETTLED_NS", 10**12)
    assert index(files / "TTree.root").stamp == b""
    assert rf.open(files / "TTree.root").filter(CUT).count() > 0
    assert not cache.exists()


def test_another_version_of_the_code_is_told_nothing(
    files: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(files / "TTree.root")
    code = known._code()
    monkeypatch.setattr(known, "_code", lambda: code + b"x")
    index(files / "TTree.root")
    assert len(work.parsed) == 2


@pytest.mark.parametrize("package", ["uproot", "pyarrow"])
def test_other_versions_of_what_parses_files_are_other_code(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, code = known.version, known._code.__wrapped__
    before = code()
    assert code() == before
    monkeypatch.setattr(known, "version", lambda name: "0" if name == package else real(name))
    assert code() != before


def test_what_somebody_else_wrote_is_never_more_than_wrong(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may be shared: entries that are whole, and say anything."""
    good = 0
    for format in FORMATS:
        location = sources.expand(str(files / f"{format}.root"))[0]
        whole = plain.index_bytes(sources.index(location, NAMES))
        storage: Storage = open_storage(location.address)
        chance = random.Random(format)
        for _ in range(400):
            spoilt = bytearray(whole)
            for _ in range(chance.choice([1, 1, 2, 8])):
                spoilt[chance.randrange(len(spoilt))] = chance.choice(
                    [0, 1, 0x30, 0x39, 0x5D, 0x7F, 0xFF]
                )
            try:
                found = plain.index_from(bytes(spoilt), location, NAMES, b"", storage)
            except Exception:
                continue
            good += 1
            for name in NAMES:
                try:
                    sources.read_awkward(found, name, 0, found.entries if found.entries < 10**6 else 1)
                except RootfeedError:
                    continue
        storage.close()
    assert good  # some say something else that could be


@pytest.mark.thorough
def test_indexes_of_real_files_stay_what_they_are() -> None:
    folder = os.environ.get("ROOTFEED_TEST_DATA")
    if folder is None:
        pytest.skip("ROOTFEED_TEST_DATA names no folder")
    compared = 0
    for path in sorted(Path(folder).rglob("*.root")):
        try:
            location = sources.expand(str(path), None)[0]
            types = sources.types(location)[1]
            names = [name for name, type_ in types.items() if type_.kind != "other"][:40]
            one = sources.index(location, names)
        except (RootfeedError, Warning):
            continue  # it is none, or has columns that are refused
        with closing(open_storage(location.address)) as storage:
            other = plain.index_from(plain.index_bytes(one), location, names, one.stamp, storage)
        assert_same(one, other)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    "data", [b"", b"rfp1", b"rfp1\xff\xff\xff\xff", b"rfp1\2\0\0\0[]", b"rfp1" + bytes(100)]
)
def test_bytes_that_are_nothing_are_refused(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        plain.unpacked(data)


def test_arrays_stay_what_they_are() -> None:
    arrays = [
        np.arange(3),
        np.array([], np.uint8),
        np.array([True, False, True]),
        np.arange(6).reshape(3, 2),
        np.array([2**63], np.uint64),
    ]
    told, found = plain.unpacked(plain.packed({"a": [1, "ü", None]}, arrays))
    assert told == {"a": [1, "ü", None]}
    for pair in zip(arrays, found, strict=True):
        assert_same(*pair)


# --- where it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_it_is_off(word: str, files: Path, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(known.FOLDER_VARIABLE, word)
    monkeypatch.chdir(files)
    for _ in range(2):
        assert index(files / "TTree.root").stamp == b""
    assert len(work.parsed) == 2
    assert not (files / word).exists()


def test_it_is_in_the_users_cache_folder(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.delenv(known.FOLDER_VARIABLE)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    known._place.cache_clear()
    try:
        index(files / "TTree.root")
    finally:
        known._place.cache_clear()
    assert list((tmp_path / "rootfeed" / "files").iterdir())


def test_a_folder_that_cannot_be_written_is_said_once_where_it_was_named(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(known.FOLDER_VARIABLE, str(tmp_path / "file"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert rf.open(paths_of(files)).filter(CUT).count() > 0
        assert index(files / "TTree.root").columns
    assert [each.category for each in said] == [CacheWarning]
    # Nobody asked for the one in the user's folder.
    monkeypatch.setattr(
        known, "_place", lambda *_: (cached.Cache(str(tmp_path / "file" / "x"), 10**9), False)
    )
    assert rf.open(paths_of(files)).filter(CUT).count() > 0


def test_a_full_disk_harms_nothing(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packs, "_write", full)
    with pytest.warns(CacheWarning, match=r"cannot be written \(No space left on device\)"):
        assert index(files / "TTree.root").columns
    assert rf.open(paths_of(files)).filter(CUT).count() > 0


def test_its_size_is_bounded(files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(known.SIZE_VARIABLE, "1 MB")
    first = index(files / "TTree.root")
    for number in range(3000):
        sources.keep(first.stamp, number, bytes(1000))
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 1_000_000
    monkeypatch.setenv(known.SIZE_VARIABLE, "plenty")
    with pytest.raises(ArgumentError, match="ROOTFEED_CACHE_SIZE must look like '500 MB'"):
        index(files / "TTree.root")


# --- cuts -----------------------------------------------------------------------------------------


def flow(frame: rf.Frame) -> list[Any]:
    return list(frame.report())


def test_the_next_process_evaluates_no_cut(
    files: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> rf.Frame:
        frame = rf.open(paths_of(files)).define("twice", "2 * half").filter("twice > 100", "twice")
        return frame.define("more", "code + 1").filter("more > 0 && flag")

    first, rows = flow(cut()), cut().arrays(["id"])["id"]
    assert work.read == [0, 1]
    forget(monkeypatch)
    again = cut()
    assert np.array_equal(again.arrays(["id"])["id"], rows)
    assert flow(again) == first
    assert flow(cut().define("unused", "half + 1")) == first
    # A name of a cut is no part of what it means.
    renamed = rf.open(paths_of(files)).define("twice", "2 * half").filter("twice > 100", "another name")
    assert flow(renamed)[0].label == "another name"
    assert work.read == [0, 1, 0, 1]  # one cut is another question than two
    # Ranges come after the cuts, or are not kept.
    ranged = cut().range(7)
    assert ranged.count() == 7
    assert work.read == [0, 1, 0, 1]


def test_only_a_new_file_is_read(files: Path, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = paths_of(files)
    one = rf.open(paths[0]).filter(CUT).count()
    two = rf.open(paths[1]).filter(CUT).count()
    other = rf.open(str(files / "other" / "TTree.root")).filter(CUT).count()
    work.read.clear()
    forget(monkeypatch)
    frame = rf.open([str(files / "other" / "RNTuple.root"), *paths]).filter(CUT)
    assert frame.count() == one + two + other
    assert work.read == [0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda frame: frame.filter("half > 10"), lambda frame: frame.filter("half > 11")),
        (lambda frame: frame.filter("half > 10"), lambda frame: frame.filter("half >= 10")),
        (
            lambda frame: frame.define("a", "half").filter("a > 10"),
            lambda frame: frame.define("a", "half + 1").filter("a > 10"),
        ),
        (
            lambda frame: frame.define("a", "half").define("b", "a").filter("b > 10"),
            lambda frame: frame.define("a", "-half").define("b", "a").filter("b > 10"),
        ),
        (
            lambda frame: frame.filter("code > 0").filter("half > 10"),
            lambda frame: frame.range(100).filter("code > 0").filter("half > 10"),
        ),
    ],
)
def test_other_cuts_are_another_question(
    one: Callable[[rf.Frame], rf.Frame],
    other: Callable[[rf.Frame], rf.Frame],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def counts() -> list[int]:
        frame = rf.open(files / "TTree.root")
        return [one(frame).count(), other(frame).count(), one(frame).count()]

    monkeypatch.setenv(known.FOLDER_VARIABLE, "off")
    expected = counts()
    assert expected[0] != expected[1]
    monkeypatch.setenv(known.FOLDER_VARIABLE, str(files / "cache"))
    assert counts() == expected
    assert counts() == expected


def test_the_number_of_an_entry_depends_on_the_files_before(files: Path) -> None:
    paths = paths_of(files)
    assert rf.open(paths).filter("entry < 1500").count() == 1500
    assert rf.open(paths[1]).filter("entry < 1500").count() == 1000
    assert rf.open(paths[::-1]).filter("entry >= 1500").count() == 500
    assert rf.open(paths[0]).filter("entry >= 1500").count() == 0


def test_functions_are_called_again(files: Path, work: Work) -> None:
    least = [10]

    def above(half: Any) -> Any:
        return np.asarray(half) > least[0]

    def count() -> int:
        frame = rf.open(files / "TTree.root").define("above", above, vectorized=True)
        return frame.filter("above").count()

    first = count()
    least[0] = 100
    assert count() < first


def test_files_beside_each_other_are_not_kept(files: Path, work: Work) -> None:
    def count(other: str) -> int:
        frame = rf.open(files / "TTree.root")
        return (
            frame.join(rf.open(other).select(["code"]), prefix="other_").filter("other_code > 0").count()
        )

    path = str(files / "RNTuple.root")
    one = count(path)
    assert one == count(path)
    assert work.read == [0, 0]


def test_lines_of_a_table_are_counted_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.csv"
    lines = [
        f"{number},{number * 0.5},word{number},{number if number % 7 else ''}" for number in range(3000)
    ]
    path.write_text("\n".join(["n,half,word,n", *lines]))

    def told() -> tuple[Any, ...]:
        csv._known.clear()
        forget(monkeypatch)
        with pytest.warns(DuplicateNameWarning):
            frame = rf.open(path)
        return dict(frame.columns), index(path, ["n", "word"]), frame.filter("half > 100").count()

    passes: list[str] = []

    def scanned(path: str, *args: Any) -> Any:
        passes.append(path)
        return real(path, *args)

    real = csv.scanned
    monkeypatch.setattr(csv, "scanned", scanned)
    first = told()
    assert first[2] == 2799
    for pair in zip(first, told(), strict=True):
        assert_same(*pair)
    assert len(passes) == 1
    path.write_text(path.read_text() + "\n1,1.0,x,1")
    assert told()[1].entries == 3001
    assert len(passes) == 2


def test_values_that_stand_for_missing_ones_are_part_of_the_question(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.csv"
    path.write_text("n,m\n" + "".join(f"{number},{'' if number % 2 else 3}\n" for number in range(100)))
    for _ in range(2):
        found = [rf.open(path, fill_null=value).filter("m > 5").count() for value in (1, 9)]
        assert found == [0, 50]


# --- files on servers -----------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp")
def test_of_a_file_on_a_server_the_version_is_asked_for(
    files: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve({"/a.root": (files / "TTree.root").read_bytes()}) as web:
        url = f"{web.url}/a.root"
        first = index(url)
        forget(monkeypatch)
        web.asked.clear()
        assert_same(first.columns, index(url).columns)
        assert len(web.asked) == 1
        for token in ("abc", "def"):
            assert index(f"{url}?token={token}").identity == first.identity
        assert len(work.parsed) == 2
        web.files["/a.root"] = (files / "other" / "TTree.root").read_bytes()
        assert index(url).identity != first.identity
        web.tags = False  # nothing tells a version
        forget(monkeypatch)
        for _ in range(2):
            assert index(url).stamp == b""
        assert len(work.parsed) == 5


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    for store in cached._stores.values():
        store.close()
