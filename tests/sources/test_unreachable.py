"""Bytes that cannot be had: waited for, or told as what they are, and never as damage or as numbers."""

from __future__ import annotations

import builtins
import errno
import importlib.util
import json
import os
import pickle
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import uproot

import processes
import rootfeed as rf
import rootfeed.root as ROOT
from chosen import in_turns
from rootfeed import sources
from rootfeed.errors import (
    AccessError,
    ArgumentError,
    ChangedFileError,
    DamagedFileError,
    LimitError,
    MissingFileError,
    MissingObjectError,
    RootfeedError,
    UnreachableError,
    UnsupportedFileError,
)
from rootfeed.sources import Location, Scratch, metadata, storage
from rootfeed.sources.failures import is_transient, unavailable
from rootfeed.sources.paths import spelled
from rootfeed.sources.storage import reaching, remote, retries
from rootfiles.vectors import ntuple_vectors
from samples import File, write, write_columns
from servers import FAILURES, Web, serve

Array = np.ndarray

needs_aiohttp = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp"
)
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and limits of POSIX")

ENTRIES = 1000
FORMATS = ("TTree", "RNTuple")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return files as servers have them."""
    folder = tmp_path_factory.mktemp("unreachable")
    for format in FORMATS:
        write(folder / f"{format}.root", File(ENTRIES, page=90, format=format))
    return {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures that last are given up soon, and pauses are short."""
    monkeypatch.setattr(retries, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(storage.Address.__init__, "__defaults__", ({}, 0.3, None))


@pytest.fixture
def web(contents: dict[str, bytes], impatient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    if importlib.util.find_spec("aiohttp") is None:
        pytest.skip("fsspec reads http with aiohttp")
    # So small that these files take many requests.
    monkeypatch.setattr(storage.web.WebServer, "gap_bytes", 100)
    monkeypatch.setattr(metadata, "_ENDS_BYTES", 1000)
    with serve(contents) as web:
        yield web


def index_of(path: str) -> Any:
    return sources.index(Location(path, "events"), ["id", "root"])


def read_of(index: Any, start: int = 100, stop: int = 400) -> dict[str, Array]:
    def out_for(name: str) -> Array:
        return np.full(stop - start, 77, index.dtype(name))

    names = list(index.columns)
    return dict(sources.read(index, names, start, stop, out_for, Scratch(), threading.Event()))


# --- servers --------------------------------------------------------------------------------------

PASSING = (500, 502, 503, 504, 429, 408, "reset", "drop", "short", "shifted")


@pytest.mark.thorough(
    but=["408-1", "429-2", "500-3", "503-1", "504-2", "drop-3", "shifted-1", "short-2"]
)
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("wrong", PASSING)
def test_failures_that_pass_are_waited_out(web: Web, wrong: Any, number: int) -> None:
    for format in FORMATS:
        path = f"{web.url}/{format}.root"
        for step in (lambda: index_of(path), lambda: read_of(index)):  # noqa: B023 - called at once
            web.asked.clear()
            web.fails = lambda asked, _: wrong if asked == number else None
            found = step()
            if isinstance(found, dict):
                np.testing.assert_array_equal(found["id"], np.arange(100, 400))
                np.testing.assert_array_equal(found["root"], np.sqrt(np.arange(100, 400)))
            else:
                index = found


LASTING: dict[int | str, tuple[type[RootfeedError], str]] = {
    503: (UnreachableError, "its server answered 503 Service Unavailable"),
    507: (UnreachableError, "its server answered 507 Insufficient Storage"),
    400: (UnreachableError, "its server answered 400 Bad Request. Check the address."),
    401: (
        AccessError,
        "its server answered 401 Unauthorized. Check the access rights, and that your token",
    ),
    403: (AccessError, "its server answered 403 Forbidden"),
    404: (MissingFileError, "does not exist (its server answered 404 Not Found)"),
    410: (MissingFileError, "does not exist"),
    "reset": (UnreachableError, "cannot be read"),
    "drop": (UnreachableError, "cannot be read"),
    "short": (UnreachableError, "bytes came of"),
    "shifted": (UnreachableError, "answered with 'bytes"),
    "whole": (UnreachableError, "it has no range requests). Download it first"),
    "page": (UnreachableError, "a web page instead of the file"),
}


@pytest.mark.thorough(but=in_turns(LASTING, FORMATS))
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("wrong", LASTING)
def test_failures_that_last_are_named(web: Web, wrong: Any, format: str) -> None:
    kind, words = LASTING[wrong]
    path = f"{web.url}/{format}.root"
    web.fails = lambda number, method: wrong
    with pytest.raises(RootfeedError) as raised:
        index_of(path)
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert str(raised.value).startswith(path)
    web.fails = None
    index = index_of(path)
    web.fails = lambda number, method: wrong
    with pytest.raises(RootfeedError) as raised:
        read_of(index)
    assert type(raised.value) is kind
    message = str(raised.value)
    assert words in message
    assert message.startswith(path)
    assert "'id'" in message
    assert "entries [" in message


def test_every_failure_of_the_server_is_tried() -> None:
    assert {name for name in LASTING if isinstance(name, str)} == set(FAILURES)


def test_a_loader_survives_a_bad_line(web: Web) -> None:
    """Each third request fails, in another way each time."""
    web.fails = lambda number, _: PASSING[number // 3 % len(PASSING)] if number % 3 == 0 else None
    loader = rf.Loader(rf.open(f"{web.url}/TTree.root"), 100, ["id"], chunk_entries=300, seed=1)
    assert sorted(np.concatenate([x[:, 0] for x in loader])) == list(range(ENTRIES))


def test_a_server_without_ranges_and_the_remedy_that_is_named(web: Web) -> None:
    web.fails = lambda number, method: "whole"
    with pytest.raises(UnreachableError) as raised:
        rf.open(f"{web.url}/TTree.root")
    name = str(raised.value).split("name it as '")[1].split("'")[0]
    frame = rf.open(name)
    x = np.concatenate(list(rf.Loader(frame, 100, ["id"])))
    assert sorted(x[:, 0]) == list(range(ENTRIES))


def test_the_whole_file_is_a_range_too(web: Web) -> None:
    web.files["/tiny"] = bytes(range(60))
    web.fails = lambda number, method: "whole"
    reached = storage.open_storage(f"{web.url}/tiny")
    out = np.empty(60, np.uint8)
    reached.read_into(0, out)
    assert out.tobytes() == bytes(range(60))


def test_a_file_that_is_really_truncated(web: Web) -> None:
    web.files["/TTree.root"] = web.files["/TTree.root"][:-500]
    with pytest.raises(DamagedFileError, match="is truncated: expected"):
        index_of(f"{web.url}/TTree.root")


def test_a_server_that_is_not_there(impatient: None) -> None:
    pytest.importorskip("aiohttp")
    for url in ("http://127.0.0.1:9/f.root", "http://nowhere.invalid/f.root"):
        with pytest.raises(UnreachableError) as raised:
            rf.open(url, timeout=0.5)
        assert str(raised.value).startswith(f"{url} cannot be read: ClientConnector")
        assert "Cannot connect to host" in str(raised.value)


def test_patterns_on_a_server_that_fails(web: Web) -> None:
    web.fails = lambda number, method: 503
    with pytest.raises(UnreachableError, match="503"):
        rf.open(f"{web.url}/*.root", timeout=0.3)


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    class Never(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            now[0] += timeout or 0.0
            return False

    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    attempts: list[float] = []

    def attempt(seconds: float) -> None:
        attempts.append(now[0])
        now[0] += seconds
        raise TimeoutError

    servers = reaching.Servers(storage.Address(("memory://f",)), Never())
    for seconds, least, most in [(0.0, 12, 24), (200.0, 1, 1), (25.0, 2, 3)]:
        attempts.clear()
        start = now[0]
        with pytest.raises(UnreachableError, match="no answer came in time") as raised:
            servers.persist(lambda *_, seconds=seconds: attempt(seconds))
        assert least <= len(attempts) <= most
        assert attempts[-1] - start <= 30
        times = "once" if len(attempts) == 1 else f"{len(attempts)} times"
        assert f"Tried {times} in {now[0] - start:.3g} s." in str(raised.value)
    attempts.clear()
    with pytest.raises(UnreachableError, match="TypeError"):
        servers.persist(lambda *_: attempts.append(0) or len(3))  # type: ignore[arg-type,func-returns-value]
    assert len(attempts) == 1  # what cannot pass is not tried again


@needs_aiohttp
@on_posix
def test_an_interrupt_ends_the_waiting() -> None:
    outcome = processes.interrupt(
        """
        import socket, threading
        import rootfeed as rf
        silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
        threading.Timer(1, print, ["READY"]).start()
        rf.open(f"http://127.0.0.1:{silent.getsockname()[1]}/f.root")
        """
    )
    assert outcome.seconds < 20
    assert "KeyboardInterrupt" in outcome.err


# --- files that are replaced ----------------------------------------------------------------------


def twins(folder: Path, format: str = "TTree") -> tuple[bytes, bytes]:
    """Return two files of equal size whose every page is a good page of the other."""
    made = []
    for number in range(2):
        path = folder / f"twin{number}.root"
        with uproot.recreate(path, compression=uproot.ZLIB(0)) as file:
            ids = np.arange(2000.0) + 1e6 * number
            make: Any = file.mktree if format == "TTree" else file.mkrntuple
            events = make("events", {"id": np.dtype("f8")})
            for start in range(0, 2000, 200):
                events.extend({"id": ids[start : start + 200]})
        made.append(path.read_bytes())
    assert len(made[0]) == len(made[1])
    return made[0], made[1]


def with_head_of(data: bytes, other: bytes) -> bytes:
    """Give a file the header and UUID of another: only what a server says tells them apart."""
    return other[:100] + data[100:]


Put = Callable[[bytes], None]


PLACES = ("memory", "web", "web without tags", "local")
WHEN = ("mid-epoch", "before", "pickled", "resumed")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Put]]:
    """Return a path, and a function that puts a file there."""
    if request.param == "local":
        path = tmp_path / "replaced.root"
        yield str(path), lambda data: (path.write_bytes(data), None)[1]
    elif request.param == "memory":
        memory = fsspec.filesystem("memory")
        yield "memory://replaced.root", lambda data: memory.pipe_file("/replaced.root", data)
        memory.rm("/replaced.root")
    else:
        web = request.getfixturevalue("web")
        web.tags = request.param == "web"
        put = lambda data: web.files.__setitem__("/replaced.root", data)  # noqa: E731
        yield f"{web.url}/replaced.root", put


@pytest.mark.thorough(but=in_turns(PLACES, WHEN, FORMATS))
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("when", WHEN)
def test_rows_of_two_files_are_never_mixed(
    place: tuple[str, Put], tmp_path: Path, format: str, when: str
) -> None:
    path, put = place
    old, new = twins(tmp_path, format)
    put(old)
    settings: dict[str, Any] = {
        "dtype": "f8",
        "chunk_entries": 400,
        "block_entries": 200,
        "seed": 1,
        "threads": 1,
    }
    loader = rf.Loader(rf.open(path), 100, ["id"], **settings)
    rows: list[Array] = []
    if when == "before":
        put(new)
    elif when == "pickled":
        loader = pickle.loads(pickle.dumps(loader))
        put(new)

    def go_on() -> None:
        for number, x in enumerate(loader):
            rows.append(x[:, 0].copy())
            if when == "mid-epoch" and number == 0:
                put(new)
            elif when == "resumed" and number == 0:
                state = json.loads(json.dumps(loader.state_dict()))
                put(new)
                loader.load_state_dict(state)
                break
        if when == "resumed":
            list(loader)

    with pytest.raises(ChangedFileError, match="was changed while it was being read") as raised:
        go_on()
    assert str(raised.value).startswith(path)
    assert "Open it again." in str(raised.value)
    assert all(np.all(x < 1e6) for x in rows)


def test_a_new_file_is_another_dataset(place: tuple[str, Put], tmp_path: Path) -> None:
    path, put = place
    old, new = twins(tmp_path)
    put(old)
    loader = rf.Loader(rf.open(path), 100, ["id"], seed=1)
    next(iter(loader))
    state = loader.state_dict()
    put(new)
    with pytest.raises(rf.errors.StateError):
        rf.Loader(rf.open(path), 100, ["id"], seed=1).load_state_dict(state)


@pytest.mark.parametrize("tags", [True, False])
def test_a_file_replaced_between_the_ranges_of_a_block(
    web: Web, tmp_path: Path, tags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_REQUEST_BYTES", 1)
    old, new = twins(tmp_path)
    web.tags = tags
    web.files["/f.root"] = old
    index = sources.index(Location(f"{web.url}/f.root", None), ["id"])
    noticed = []
    for number in range(1, 9):
        web.files["/f.root"] = old
        web.asked.clear()
        web.before = lambda asked, last=number: web.files.update(
            {"/f.root": new} if asked > last else {}
        )
        try:
            found = read_of(index, 0, 1000)
        except ChangedFileError:
            noticed.append(number)
        else:  # nothing of the new one was read
            np.testing.assert_array_equal(found["id"], np.arange(1000.0))
    assert noticed == list(range(1, len(noticed) + 1))
    assert len(noticed) >= 4


#: What servers behind one address say of one file, each of them in its turn.
UNSTEADY = {
    "each": lambda number, tag: f'"{number}"',
    "two": lambda number, tag: f'"{number % 2}"',
    "weak": lambda number, tag: "W/" * (number % 2) + tag,
}


@pytest.mark.parametrize("kind", UNSTEADY)
def test_servers_that_do_not_agree_on_a_version(web: Web, tmp_path: Path, kind: str) -> None:
    old, new = twins(tmp_path)
    web.files["/f.root"] = old
    web.tag = UNSTEADY[kind]
    index = sources.index(Location(f"{web.url}/f.root", None), ["id"])
    for _ in range(4):
        np.testing.assert_array_equal(read_of(index, 0, 1000)["id"], np.arange(1000.0))
    web.files["/f.root"] = new
    with pytest.raises(ChangedFileError):
        read_of(index)


def test_an_address_that_leads_back_to_itself(web: Web) -> None:
    def redirect(handler: Any, *_: object) -> None:
        handler.send(HTTPStatus.FOUND, b"", {"Location": handler.path})

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAILURES, "reset", redirect)
        web.fails = lambda number, method: "reset"
        with pytest.raises(UnreachableError, match="TooManyRedirects"):
            rf.open(f"{web.url}/TTree.root")


def test_a_file_with_the_same_head(web: Web, tmp_path: Path) -> None:
    old, new = twins(tmp_path)
    web.files["/f.root"] = old
    index = sources.index(Location(f"{web.url}/f.root", None), ["id"])
    web.files["/f.root"] = with_head_of(new, old)
    with pytest.raises(ChangedFileError, match="its server calls this version"):
        read_of(index)


@pytest.mark.parametrize("kind", ["shorter", "longer", "empty", "damaged"])
def test_other_changes(place: tuple[str, Put], tmp_path: Path, kind: str) -> None:
    path, put = place
    old, new = twins(tmp_path)
    put(old)
    index = sources.index(Location(path, None), ["id"])
    put(
        {
            "shorter": new[: len(new) // 4],
            "longer": new + b"more",
            "empty": b"",
            "damaged": bytes(len(new)),
        }[kind]
    )
    with pytest.raises(ChangedFileError, match="was changed"):
        read_of(index)


def test_columns_that_uproot_reads_are_of_one_file_too(place: tuple[str, Put], tmp_path: Path) -> None:
    path, put = place
    made = []
    for name, entries in (("old", 400), ("new", 500)):
        ntuple_vectors(tmp_path / name, entries)
        made.append((tmp_path / name).read_bytes())
    put(made[0])
    index = sources.index(Location(path, None), ["nested"])
    assert index.columns["nested"].pages is None
    scratch = Scratch()
    later = sources.read_awkward(index, "nested", 3, 6).tolist()
    assert len(sources.read_awkward(index, "nested", 0, 3, scratch)) == 3
    put(made[1])
    error = "Column 'nested', entries \\[3, 6\\)"
    # Of a server, all that is needed may have come together, of the old file.
    with (
        pytest.raises(ChangedFileError, match=error) if "://" not in path else suppress(ChangedFileError)
    ):
        assert sources.read_awkward(index, "nested", 3, 6, scratch).tolist() == later
    with pytest.raises(ChangedFileError, match="Column 'nested', entries \\[3, 6\\)"):
        sources.read_awkward(index, "nested", 3, 6)
    scratch.close()


# --- this machine ---------------------------------------------------------------------------------


class Failing:
    """A file whose disk fails after some reads."""

    def __init__(self, file: Any, number: int, good: int) -> None:
        self.file, self.number, self.good = file, number, good

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def _fail(self) -> None:
        self.good -= 1
        if self.good < 0:
            raise OSError(self.number, os.strerror(self.number))

    def read(self, *arguments: Any) -> Any:
        self._fail()
        return self.file.read(*arguments)

    def readinto(self, out: Any) -> Any:
        self._fail()
        return self.file.readinto(out)


SYSTEM = {
    errno.EIO: (UnreachableError, "Input/output error (EIO). The file may be whole"),
    errno.ESTALE: (UnreachableError, "(ESTALE)"),
    errno.ETIMEDOUT: (UnreachableError, "no answer came in time"),
    errno.ENOMEM: (LimitError, "out of memory"),
    errno.EACCES: (AccessError, "Permission denied (EACCES). Check the access rights"),
    errno.EPERM: (AccessError, "(EPERM)"),
    errno.ENODEV: (UnreachableError, "(ENODEV)"),
}


@on_posix
@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("number", SYSTEM)
def test_disks_that_fail(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, good: int
) -> None:
    kind, words = SYSTEM[number]
    path = tmp_path / "f.root"
    path.write_bytes(contents["/RNTuple.root"])
    index = index_of(str(path))
    really = builtins.open

    def fail(name: Any, *arguments: Any, **options: Any) -> Any:
        file = really(name, *arguments, **options)
        return Failing(file, number, good) if name == str(path) else file

    monkeypatch.setattr(builtins, "open", fail)
    for attempt, names in ((lambda: index_of(str(path)), False), (lambda: read_of(index), True)):
        if good > 1 and not names:
            continue  # all metadata came with two readings
        with pytest.raises(RootfeedError) as raised:
            attempt()
        assert type(raised.value) is kind
        assert words in str(raised.value)
        assert str(raised.value).startswith(str(path))
        if names:
            assert "'id'" in str(raised.value) or "'root'" in str(raised.value)
            assert "entries [" in str(raised.value)


@on_posix
@pytest.mark.parametrize("number", SYSTEM)
def test_files_that_cannot_be_opened(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    kind, words = SYSTEM[number]
    path = tmp_path / "f.root"
    path.write_bytes(contents["/TTree.root"])

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(builtins, "open", fail)
    with pytest.raises(RootfeedError) as raised:
        rf.open(path)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"{path} cannot be opened")
    assert words in str(raised.value)


def test_memory_that_runs_out_is_no_damage(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.root"
    path.write_bytes(contents["/TTree.root"])
    index = index_of(str(path))

    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(Scratch, "array", fail)
    with pytest.raises(UnreachableError, match=r"out of memory .*3 GiB.*'id'"):
        read_of(index)
    monkeypatch.setattr(metadata, "Tree", fail)
    with pytest.raises(UnreachableError, match="out of memory"):
        index_of(str(path))


@on_posix
def test_too_many_open_files(contents: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "f.root").write_bytes(contents["/TTree.root"])
    outcome = processes.run(
        """
        import os, resource, sys
        import rootfeed as rf
        from rootfeed import errors
        rf.open(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 90))
        kept = []
        try:
            while True:
                kept.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        try:
            rf.open(sys.argv[1])
        except errors.UnreachableError as error:
            print(error)
        """,
        tmp_path / "f.root",
    )
    assert outcome.out == (
        f"{tmp_path}/f.root cannot be opened: too many open files (EMFILE): this process may have 50 "
        "(`ulimit -n`). Raise it in the shell (`ulimit -n 90`), or close files that are not needed any "
        "more.\n"
    ), outcome.err


def test_one_open_file_is_enough(contents: dict[str, bytes], tmp_path: Path) -> None:
    """Metadata comes from our storage alone, on the thread that asks."""
    path = tmp_path / "f.root"
    path.write_bytes(contents["/TTree.root"])
    before = threading.active_count()
    with sources.root.open_object(storage.Address((str(path),)), None) as found:
        assert type(found.handle.file.source).__name__ == "StorageSource"
        assert threading.active_count() == before
        descriptors = Path("/proc/self/fd")
        if descriptors.exists():
            links = [os.readlink(link) for link in descriptors.iterdir() if link.is_symlink()]
            assert links.count(str(path)) == 1


@on_posix
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f.root" if kind == "pipe" else Path("/dev/null")
    if kind == "pipe":
        os.mkfifo(path)
    for attempt in (lambda: rf.open(path), lambda: sources.types(Location(str(path), None))):
        with pytest.raises(UnsupportedFileError, match=f"is a {kind}, which can be read only once"):
            attempt()


def test_a_server_that_fails_behind_another_error() -> None:
    """fsspec says of whatever fails that the file is missing, and so do packages of others."""

    class AnswerError(Exception):
        def __init__(self, status: int) -> None:
            self.status = status

    def nested(cause: Exception) -> Exception:
        error = FileNotFoundError("f")
        error.__cause__ = cause
        return error

    class BotoError(Exception):
        response: ClassVar = {"ResponseMetadata": {"HTTPStatusCode": 403}}

    cases: list[tuple[Exception, type[RootfeedError] | None, bool]] = [
        (nested(AnswerError(503)), UnreachableError, True),
        (nested(AnswerError(401)), AccessError, False),
        (nested(AnswerError(404)), MissingFileError, False),
        (FileNotFoundError("f"), MissingFileError, False),
        (PermissionError(13, "Permission denied"), AccessError, False),
        (PermissionError("Access Denied"), AccessError, False),
        (BotoError(), AccessError, False),
        (
            OSError("[ERROR] Server responded with an error: [3011] No such file"),
            MissingFileError,
            False,
        ),
        (OSError("[ERROR] Server responded with an error: [3010] denied"), AccessError, False),
        (OSError("[FATAL] Auth failed: No protocols left to try"), AccessError, False),
        (ConnectionResetError(104, "Connection reset by peer"), UnreachableError, True),
        (TimeoutError(), UnreachableError, True),
        (OSError("expected 3 bytes"), None, True),
        (ValueError("not a ROOT file"), None, False),
    ]
    for error, kind, transient in cases:
        found = unavailable("f", "cannot be read", error)
        assert (None if found is None else type(found)) is kind, error
        assert is_transient(error) is transient, error


def test_errors_are_the_builtin_ones_too() -> None:
    denied = unavailable("f", "cannot be read", PermissionError(13, "Permission denied"))
    assert isinstance(denied, PermissionError)
    lost = unavailable("f", "cannot be read", OSError(errno.EIO, "Input/output error"))
    assert isinstance(lost, OSError)
    assert time.monotonic() > 0


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture
def two_trees(tmp_path: Path) -> Path:
    path = tmp_path / "two.root"
    with uproot.recreate(path) as file:
        for name in ("t", "dir/t"):
            file.mktree(name, {"x": "f8"})
            file[name].extend({"x": np.arange(40.0)})
    return path


def advice(path: Any) -> Any:
    with pytest.raises(MissingObjectError) as raised:
        rf.open(path)
    return eval(str(raised.value).split("Name one: ")[1].removesuffix("."))


def test_the_advice_of_a_message_can_be_pasted(
    web: Web, two_trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = two_trees.read_bytes()
    web.files["/two.root"] = data
    monkeypatch.chdir(tmp_path)
    for name in ("run[1].root", "a:b.root", "it's.root", "100%?.root", "x#y.root", "q?#t.root"):
        Path(name).write_bytes(data)
        assert rf.open(advice(Path(name))).num_entries == 40
    for query in ("", "?authz=abc", "?authz=zteos64:MDAw&x=1", "?a=b#"):
        web.asked.clear()
        url = f"{web.url}/two.root{query}"
        told = repr(advice(url)).replace("x=***", "x=1").replace("a=***", "a=b")
        token = "zteos64:MDAw" if "zteos64" in query else "abc"
        assert token not in told  # which is for its owner to put there again
        assert rf.open(eval(told.replace("***", token))).num_entries == 40
        assert {asked for _, asked, _ in web.asked} == {f"/two.root{query.removesuffix('#')}"}


@pytest.mark.parametrize("tree", ["t", "a:b", "dir/t", "t;2", "a#b", "a'b", "RNT:CollectionTree"])
@pytest.mark.parametrize(
    "path",
    [
        "/d/f.root",
        "/d/x:y.root",
        "https://h/f.root",
        "https://h:80/f.root?a=b:c",
        "root://h//f.root?t=1:2",
    ],
)
def test_what_is_spelled_out_means_the_same(path: str, tree: str) -> None:
    text = eval(spelled(path, tree))
    if isinstance(text, str):
        assert sources.paths._split_object(text) == (path, tree)
    else:
        assert text == {path: tree}


def test_a_data_frame_takes_names_as_names(web: Web, two_trees: Path, tmp_path: Path) -> None:
    web.files["/two.root"] = two_trees.read_bytes()
    for files in (
        two_trees,
        str(two_trees),
        [two_trees],
        f"{tmp_path}/*.root",
        f"{web.url}/two.root?authz=abc",
        f"{web.url}/two.root?authz=a:b",
    ):
        assert ROOT.RDataFrame("dir/t", files).Count().GetValue() == 40
    assert all(":t" not in path and "dir" not in path for _, path, _ in web.asked)
    colon = tmp_path / "a:t"
    colon.write_bytes(two_trees.read_bytes())
    assert ROOT.RDataFrame("t", str(colon)).Count().GetValue() == 40
    with pytest.raises(ArgumentError, match="is named twice"):
        ROOT.RDataFrame("t", [two_trees, two_trees])
    for tree, files in [
        (3, two_trees),
        ("", two_trees),
        (b"t", two_trees),
        ("t", 3),
        ("t", b"f"),
        ("t", {"f": "t"}),
    ]:
        with pytest.raises(ArgumentError):
            ROOT.RDataFrame(tree, files)  # type: ignore[arg-type]


@pytest.mark.parametrize("tree", [3, "", "/", b"t", [], [None], ["t", 3], {"object_path": "t"}, 1.5])
def test_trees_that_are_no_names(two_trees: Path, tree: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        rf.open({two_trees: tree})
    assert str(raised.value) == (
        f"the tree or ntuple in '{two_trees}' must be given by its name, got {tree!r}. Write "
        f"{{'{two_trees}': 'name'}}, a list of names for several of them, or None for the only one."
    )


def test_several_trees_of_one_file(two_trees: Path) -> None:
    frame = rf.open({two_trees: ["t", "dir/t"]})
    assert frame.num_entries == 80
    assert frame.files == (str(two_trees), str(two_trees))
    with pytest.raises(ArgumentError, match="named twice"):
        rf.open({two_trees: ["t", "t"]})


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"a.root"


@pytest.mark.parametrize("files", [b"a.root", [b"a.root"], {b"a.root": "t"}, BytesPath(), [BytesPath()]])
def test_paths_of_bytes(files: Any) -> None:
    with pytest.raises(ArgumentError, match=r"must be named by a str or a Path.* Write 'a.root'\.$"):
        rf.open(files)


def test_the_working_directory_may_change(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/f.root").write_bytes(contents["/TTree.root"])
    os.symlink("sub", tmp_path / "link")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("f.root", contents["/TTree.root"])
    for name in (
        "sub/f.root", "./sub/f.root", "sub/*.root", "file://sub/f.root", "local://sub/f.root",
        "link/../sub/f.root", "zip://f.root::z.zip", Path("sub/f.root"),
    ):  # fmt: skip
        monkeypatch.chdir(tmp_path)
        frame = rf.open(name)
        loader = rf.Loader(frame, 100, ["id"], chunk_entries=300, seed=3)
        next(iter(loader))
        state = loader.state_dict()
        monkeypatch.chdir("/")
        assert sum(len(x) for x in rf.Loader(frame, 100, ["id"], chunk_entries=300)) == ENTRIES
        again = rf.Loader(rf.open(tmp_path / "sub/f.root"), 100, ["id"], chunk_entries=300, seed=3)
        again.load_state_dict(state)


@on_posix
def test_links_are_not_followed_by_name(contents: dict[str, bytes], tmp_path: Path) -> None:
    """`a/..` is the folder that the link leads to lies in."""
    (tmp_path / "deep/inner").mkdir(parents=True)
    (tmp_path / "deep/f.root").write_bytes(contents["/TTree.root"])
    os.symlink("deep/inner", tmp_path / "link")
    assert rf.open(f"{tmp_path}/link/../f.root").num_entries == ENTRIES


@on_posix
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    os.symlink("gone.root", tmp_path / "x.root")
    os.symlink("x.root", tmp_path / "y.root")
    os.symlink("gone", tmp_path / "folder")
    os.symlink("loop.root", tmp_path / "loop.root")
    (tmp_path / "x2.root").touch()
    link = f"{tmp_path}/x.root is a link to 'gone.root', which does not exist."
    for name, message in [
        ("x.root", link),
        ("x.*t", link),
        ("y.root", f"{tmp_path}/y.root is a link to 'x.root', which does not exist."),
        (
            "folder/f.root",
            f"{tmp_path}/folder/f.root does not exist: {tmp_path}/folder is a link to 'gone', which "
            "does not exist.",
        ),
        (
            "loop.root",
            f"{tmp_path}/loop.root is a link to 'loop.root', and that leads back to it: links lead to "
            "each other.",
        ),
    ]:
        with pytest.raises(MissingFileError) as raised:
            rf.open(f"{tmp_path}/{name}")
        assert str(raised.value) == message


@on_posix
def test_folders_that_may_not_be_searched(tmp_path: Path) -> None:
    write_columns(tmp_path / "f.root", {"x": np.arange(3)})
    outcome = processes.run(
        """
        import os, sys
        import rootfeed as rf
        from rootfeed.errors import AccessError
        folder = sys.argv[1]
        os.chmod(folder, 0)
        if os.getuid() == 0:
            os.seteuid(65534)
        for name in ("f.root", "f.root:events", "*.root", "**/*.root"):
            try:
                rf.open(f"{folder}/{name}")
            except AccessError as error:
                print(error)
        """,
        tmp_path,
    )
    os.chmod(tmp_path, 0o755)
    assert len(outcome.lines) == 4, outcome
    assert all(line.startswith(str(tmp_path)) for line in outcome.lines)
    assert all("Permission denied (EACCES)" in line for line in outcome.lines)
