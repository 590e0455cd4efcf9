"""Local and remote files: the same bytes, and the same reading."""

from __future__ import annotations

import http.server
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed import sources
from rootfeed.errors import (
    AccessError,
    ChangedFileError,
    DamagedFileError,
    MissingFileError,
    UnreachableError,
)
from rootfeed.sources import Location, Scratch
from rootfeed.sources.storage import (
    Address,
    LocalStorage,
    RemoteStorage,
    is_remote,
    open_storage,
    remote,
    servers,
)
from samples import File, write

Array = np.ndarray

BYTES = bytes(range(256)) * 4


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Python's own server answers no range requests, on which every reader of remote files lives."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    ranges: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted:
            self.ranges.append(wanted)
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data) - 1) + 1, len(data))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            data = data[start:stop]
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    for format in ("TTree", "RNTuple"):
        write(folder / f"{format}.root", File(1000, page=90, format=format))
    (folder / "bytes.root").write_bytes(BYTES)
    return folder


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    for path in folder.iterdir():
        filesystem.pipe_file(f"/storage/{path.name}", path.read_bytes())
    yield "memory://storage"
    filesystem.rm("/storage", recursive=True)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # connections stay open, as they do on real servers


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    def handler(*arguments: Any) -> RangeHandler:
        return RangeHandler(*arguments, directory=str(folder))

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


needs_aiohttp = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp"
)
ORIGINS = [
    "local",
    "file",
    "memory",
    pytest.param("web", marks=needs_aiohttp),
]


@pytest.fixture(params=ORIGINS)
def origin(request: pytest.FixtureRequest, folder: Path) -> str:
    """Return what precedes a file's name; the fixtures of servers are started when asked for."""
    if request.param in ("memory", "web"):
        return str(request.getfixturevalue(request.param))
    return f"file://{folder}" if request.param == "file" else str(folder)


def read(location: Location, start: int, stop: int) -> dict[str, Array]:
    _, types = sources.types(location)
    index = sources.index(location, list(types))
    reading = sources.read(
        index,
        list(types),
        start,
        stop,
        lambda name: np.empty(stop - start, types[name].dtype),
        Scratch(),
        threading.Event(),
    )
    return dict(reading)


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_wherever_a_file_lies_it_reads_the_same(origin: str, format: str, folder: Path) -> None:
    for start, stop in [(0, 1000), (87, 401), (999, 1000)]:
        want = read(Location(str(folder / f"{format}.root"), "events"), start, stop)
        got = read(Location(f"{origin}/{format}.root", "events"), start, stop)
        assert list(got) == list(want)
        for name, values in want.items():
            assert got[name].dtype == values.dtype
            assert got[name].tobytes() == values.tobytes()


def test_any_range_of_bytes(origin: str) -> None:
    storage = open_storage(f"{origin}/bytes.root")
    assert storage.file_bytes == len(BYTES)
    storage.prepare([(0, 10), (100, 3), (1000, 24), (100, 3)])
    for offset, size in [(1000, 24), (100, 3), (100, 3), (0, 10), (5, 700), (0, 1024), (1023, 1)]:
        out = np.zeros(size, np.uint8)
        storage.read_into(offset, out)
        assert out.tobytes() == BYTES[offset : offset + size]
    storage.close()


@pytest.mark.parametrize(("offset", "got"), [(1000, 24), (1024, 0), (5000, 0)])
@pytest.mark.parametrize("prepared", [False, True])
def test_ranges_beyond_the_end(origin: str, offset: int, got: int, prepared: bool) -> None:
    path = f"{origin}/bytes.root"
    storage = open_storage(path)
    if prepared:
        storage.prepare([(0, 1024), (offset, 25)])
    with pytest.raises(DamagedFileError) as raised:
        storage.read_into(offset, np.empty(25, np.uint8))
    assert str(raised.value) == (
        f"{path.removeprefix('file://')} is truncated: expected 25 bytes at position {offset}, "
        f"got {got}. Copy or produce the file again."
    )
    storage.close()


def test_missing_files(origin: str) -> None:
    path = f"{origin}/none.root"
    for attempt in (open_storage, lambda path: sources.types(Location(path, None))):
        with pytest.raises(MissingFileError) as raised:
            attempt(path)
        assert str(raised.value) == (
            f"{path} does not exist (its server answered 404 Not Found). Check the address."
            if path.startswith("http")
            else f"{path.removeprefix('file://')} does not exist."
        )


def test_files_that_may_not_be_read(folder: Path) -> None:
    with pytest.raises(MissingFileError) as raised:
        open_storage(str(folder))
    assert str(raised.value) == (
        f"{folder} is a directory. To take the files in it, say '{folder}/*.root'."
    )
    if os.getuid() != 0:
        secret = folder / "secret.root"
        secret.touch(mode=0)
        with pytest.raises(AccessError, match=r"cannot be opened: Permission denied \(EACCES\)\."):
            open_storage(str(secret))


def test_protocols_that_nobody_knows() -> None:
    with pytest.raises(UnreachableError) as raised:
        open_storage("gopher://host/f.root")
    assert str(raised.value) == (
        "gopher://host/f.root cannot be read: ValueError: Protocol not known: gopher. Check the address."
    )


def test_protocols_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(url: str, **_: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with pytest.raises(UnreachableError) as raised:
        open_storage("s3://bucket/f.root")
    assert str(raised.value) == "s3://bucket/f.root cannot be reached: Install s3fs to access S3."


class Recorder:
    """Stands for a file system whose requests are counted, and can fail."""

    def __init__(self, size: int, failing: int = -1) -> None:
        self.content = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
        self.failing = failing
        self.requests: list[tuple[int, int]] = []

    def info(self, _: str) -> dict[str, Any]:
        return {"size": len(self.content)}

    def cat_file(self, _: str, start: int, end: int) -> bytes:
        self.requests.append((start, end))
        return self.content[start:end]

    def cat_ranges(self, names: list[str], starts: list[int], stops: list[int]) -> list[Any]:
        assert len(names) == len(starts) == len(stops)
        found: list[Any] = []
        for start, stop in zip(starts, stops, strict=True):
            found.append(self.cat_file("", start, stop))
            if start <= self.failing < stop:
                found[-1] = OSError("connection reset")
        return found


@pytest.fixture
def make_recorder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Recorder, RemoteStorage]]:

    def make(size: int, failing: int = -1) -> tuple[Recorder, RemoteStorage]:
        recorder = Recorder(size, failing)
        monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **_: (recorder, "f.root"))
        return recorder, RemoteStorage(Address(("recorder://host/f.root",), timeout=0.3))

    return make


MakeRecorder = Callable[..., tuple[Recorder, RemoteStorage]]


def test_near_ranges_are_one_request(make_recorder: MakeRecorder) -> None:
    recorder, storage = make_recorder(40 << 20)
    near = [(1000 + 300 * i, 280) for i in range(50)]
    far = [(1 << 20, 100), (30 << 20, 9 << 20)]
    large = [((2 << 20) + (1 << 20) * i, 1 << 20) for i in range(20)]
    ranges = near + far + large
    storage.prepare(reversed(ranges))
    prepared = list(recorder.requests)
    assert prepared[0] == (0, 1000 + 300 * 49 + 280)  # and the head with them: little is in vain
    assert prepared[1] == (1 << 20, (1 << 20) + 100)
    assert (30 << 20, 39 << 20) in prepared
    assert len(prepared) == 6  # and 20 MiB in three requests
    for offset, size in ranges:
        out = np.empty(size, np.uint8)
        storage.read_into(offset, out)
        assert out.tobytes() == recorder.content[offset : offset + size]
    assert recorder.requests == prepared
    crossing = np.empty(200, np.uint8)  # begins in what was prepared and ends behind it
    storage.read_into((1 << 20) + 50, crossing)
    assert crossing.tobytes() == recorder.content[(1 << 20) + 50 : (1 << 20) + 250]
    storage.close()
    storage.read_into(1000, np.empty(10, np.uint8))
    assert recorder.requests[-1] == (1000, 1010)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), max_size=12))
def test_prepared_ranges_may_overlap(ranges: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        recorder = Recorder(6000)
        patch.setattr(fsspec.core, "url_to_fs", lambda url, **_: (recorder, "f.root"))
        patch.setattr(servers.Server, "gap_bytes", 50)
        patch.setattr(remote, "_REQUEST_BYTES", 2000)
        storage = RemoteStorage(Address(("recorder://host/f.root",)))
        storage.prepare(ranges)
        for offset, size in ranges:
            out = np.empty(size, np.uint8)
            if offset + size > 6000:
                with pytest.raises(DamagedFileError):
                    storage.read_into(offset, out)
            else:
                storage.read_into(offset, out)
                assert out.tobytes() == recorder.content[offset : offset + size]


def test_a_server_that_fails_while_it_is_read(make_recorder: MakeRecorder) -> None:
    recorder, storage = make_recorder(40 << 20, failing=20 << 20)
    storage.prepare([(0, 5), (20 << 20, 5)])
    again = (20 << 20, (20 << 20) + 5)
    assert recorder.requests[:4] == [(0, 75), again, again, again]  # only what failed, again
    assert set(recorder.requests[1:]) == {again}
    storage.read_into(0, np.empty(5, np.uint8))
    with pytest.raises(UnreachableError) as raised:
        storage.read_into(20 << 20, np.empty(5, np.uint8))
    assert re.fullmatch(
        r"recorder://host/f\.root cannot be read: OSError: connection reset\. "
        r"Check the network, and try again\. \(Tried \d+ times in 0\.\d+ s\.\)",
        str(raised.value),
    )


def test_what_is_remote() -> None:
    assert is_remote("https://host/f")
    assert is_remote("simplecache::https://host/f")
    assert not is_remote("file:///f.root")
    assert not is_remote("/data/f.root")
    assert not is_remote("C:/f.root:events")
    storage = open_storage(f"file://{__file__}")
    assert isinstance(storage, LocalStorage)
    storage.close()


def test_a_colon_in_a_name(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.root:b.root"
    path.write_bytes((folder / "TTree.root").read_bytes())
    name, types = sources.types(Location(str(path), None))
    assert name == "events"
    assert len(types) == 8


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_a_file_that_changed_since_it_was_indexed(format: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "changed.root"
    data = (folder / f"{format}.root").read_bytes()
    path.write_bytes(data)
    index = sources.index(Location(str(path), "events"), ["id"])

    def attempt() -> str:
        out = np.empty(10, np.int64)
        with pytest.raises((ChangedFileError, MissingFileError)) as raised:
            list(sources.read(index, ["id"], 0, 10, lambda _: out, Scratch(), threading.Event()))
        return str(raised.value)

    path.write_bytes(data[:-10])
    assert attempt() == (
        f"{path} was changed while it was being read: it had {len(data)} bytes when it was opened "
        f"and has {len(data) - 10} now. Open it again. (Reading the entries [0, 10) of 'id'.)"
    )
    path.unlink()
    assert attempt() == f"{path} does not exist. (Reading the entries [0, 10) of 'id'.)"


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc lists")
def test_nothing_stays_open_after_an_error(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DamagedFileError):
        sources.types(Location(str(folder / "bytes.root"), None))
    assert len(os.listdir("/proc/self/fd")) == before
