"""Files on real servers, near, far and faulty: the same rows, or in time an error that tells why."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from chosen import in_turns
from proxy import FAULTS, Proxy, proxied
from realservers import KINDS, Server, missing, running
from rootfeed import sources
from rootfeed.errors import (
    AccessError,
    ArgumentError,
    ChangedFileError,
    DamagedFileError,
    MissingFileError,
    RootfeedError,
    UnreachableError,
)
from rootfeed.sources.storage import cached
from rootfeed.sources.storage import web as web_storage
from samples import File, write

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*rows mix badly", "ignore::DeprecationWarning", "ignore::ResourceWarning"
)

ENTRIES = 4000
PAGE = 250
FORMATS = ("TTree", "RNTuple")
TABLES = {"Parquet": ".parquet", "Arrow": ".arrow"}
PASSING = [fault for fault in FAULTS if fault != "stall"]
ON_SERVERS = [
    pytest.param(kind, marks=pytest.mark.skipif(bool(missing(kind)), reason=missing(kind)))
    for kind in KINDS
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("served")
    for format in FORMATS:
        write(folder / f"{format}.root", File(ENTRIES, page=PAGE, format=format))
    found = {format: folder / f"{format}.root" for format in FORMATS}
    if importlib.util.find_spec("pyarrow"):
        found |= write_tables(folder, found["RNTuple"])
    return found


def write_tables(folder: Path, of: Path) -> dict[str, Path]:
    """Write the same rows, in groups that end where pages do, with members of structs and texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = rf.open({of: "events"}).arrays(["id", "root", "half", "code"])
    table = pa.table(
        {
            "before": pa.array([f"text {number % 9}" for number in range(ENTRIES)]).dictionary_encode(),
            **columns,
            "pair": pa.StructArray.from_arrays(
                [pa.array(columns["id"]), pa.array(columns["half"])], "ab"
            ),
            "lists": pa.array([[number] * (number % 3) for number in range(ENTRIES)]),
            "few": pa.array([f"{number % 5}" for number in range(ENTRIES)]).dictionary_encode(),
        }
    )
    found = {format: folder / f"{format}{suffix}" for format, suffix in TABLES.items()}
    pq.write_table(table, found["Parquet"], PAGE)
    with pa.ipc.new_file(found["Arrow"], table.schema) as file:
        file.write_table(table, PAGE)
    return found


@pytest.fixture(scope="module")
def started(files: dict[str, Path]) -> Iterator[dict[str, Server]]:
    """Return servers by kind; each is started when it is first asked for."""
    servers: dict[str, Server] = {}
    contexts: list[Any] = []

    class Started(dict[str, Server]):
        def __missing__(self, kind: str) -> Server:
            context = running(kind)
            servers[kind] = context.__enter__()
            contexts.append(context)
            for path in files.values():
                shutil.copy(path, servers[kind].folder)
            self[kind] = servers[kind]
            return servers[kind]

    yield Started()
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def server(request: pytest.FixtureRequest, started: dict[str, Server]) -> Iterator[Server]:
    found = started[request.param]
    yield found
    if found.process is None:
        found.start()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.port, server.kind != "xrootd") as found:
        yield found


on_servers = pytest.mark.parametrize("server", ON_SERVERS, indirect=True)
on_nginx = pytest.mark.parametrize("server", ON_SERVERS[:1], indirect=True)
on_root = pytest.mark.parametrize("server", ON_SERVERS[3:], indirect=True)


def address(server: Server, proxy: Proxy, format: str = "RNTuple") -> str:
    return server.url(f"{format}{TABLES.get(format, '.root')}", proxy.port)


def options(server: Server, proxy: Proxy, timeout: float = 10.0) -> dict[str, Any]:
    return {"storage_options": server.options(proxy.port), "timeout": timeout}


def loader_of(frame: rf.Frame, **more: Any) -> rf.Loader:
    settings: dict[str, Any] = {"chunk_entries": 1000, "block_entries": PAGE, "seed": 7, "dtype": "f8"}
    return rf.Loader(frame, 100, ["id", "root"], **{**settings, **more})


def rows_of(loader: rf.Loader) -> np.ndarray:
    return np.concatenate(list(loader))


def expected(files: dict[str, Path], format: str = "RNTuple") -> np.ndarray:
    return rows_of(loader_of(rf.open({files[format]: "events"})))


# --- the contract ---------------------------------------------------------------------------------


@on_servers
@pytest.mark.parametrize("format", FORMATS)
def test_a_server_gives_what_the_disk_gives(
    server: Server, proxy: Proxy, files: dict[str, Path], format: str
) -> None:
    frame = rf.open({address(server, proxy, format): "events"}, **options(server, proxy))
    assert frame.num_entries == ENTRIES
    np.testing.assert_array_equal(rows_of(loader_of(frame)), expected(files, format))
    assert frame.filter("id % 2 == 0").count() == ENTRIES // 2
    assert proxy.most_open <= 40  # connections of a few clients, each of a bounded number


@on_servers
def test_files_by_pattern_and_files_that_are_missing(server: Server, proxy: Proxy) -> None:
    pattern = server.url("*.root", proxy.port)
    frame = rf.open({pattern: "events"}, **options(server, proxy))
    assert frame.num_entries == 2 * ENTRIES
    started = time.monotonic()
    for name in ("none.root", "none*.root"):
        with pytest.raises(MissingFileError):
            rf.open({server.url(name, proxy.port): "events"}, **options(server, proxy))
    assert time.monotonic() - started < 5  # what will not come is not waited for


@on_servers
def test_little_is_moved_beside_what_is_asked_for(
    server: Server, proxy: Proxy, files: dict[str, Path]
) -> None:
    frame = rf.open({address(server, proxy, "TTree"): "events"}, **options(server, proxy))
    loader = loader_of(frame)
    proxy.reset()
    rows_of(loader)
    columns = [
        frame._view.index(["id", "root"])[0].columns[name].pages  # what these columns occupy
        for name in ("id", "root")
    ]
    occupied = sum(int(pages.stored_bytes.sum()) for pages in columns if pages is not None)
    blocks = ENTRIES // PAGE
    assert proxy.moved <= 1.15 * occupied + 2000 * blocks  # of a block of a few kilobytes, mostly lines
    if server.kind in ("nginx", "rclone http"):
        assert len(proxy.requests) <= blocks + 1  # many ranges in a request, and no HEAD beside them


@on_servers
@pytest.mark.parametrize("format", TABLES)
def test_tables_are_read_as_from_the_disk_in_one_request_a_block(
    server: Server, proxy: Proxy, files: dict[str, Path], format: str
) -> None:
    pytest.importorskip("pyarrow")
    frame = rf.open(address(server, proxy, format), **options(server, proxy))
    near = rf.open(files[format])
    loader = loader_of(frame)
    proxy.reset()
    np.testing.assert_array_equal(rows_of(loader), rows_of(loader_of(near)))
    blocks, index = ENTRIES // PAGE, frame._view.index(["id", "root"])[0]
    occupied = sum(int(index.columns[name].pages.stored_bytes.sum()) for name in ("id", "root"))
    always = sum(size for _, size in index.always)
    assert proxy.moved <= 1.15 * occupied + (2500 + always) * blocks
    if server.kind in ("nginx", "rclone http"):
        assert len(proxy.requests) <= blocks + 1
    names = ["before", "code", "pair.a", "pair.b", "lists", "few"]
    far, expected = frame.arrays(names), near.arrays(names)
    for name in names:
        assert far[name].tolist() == expected[name].tolist()


@on_nginx
@pytest.mark.parametrize("format", TABLES)
def test_of_tables_all_that_reading_needs_is_fetched_ahead(
    server: Server, proxy: Proxy, files: dict[str, Path], format: str
) -> None:
    pytest.importorskip("pyarrow")
    frame = rf.open(address(server, proxy, format), **options(server, proxy))
    [index] = frame._view.index(list(frame.columns))
    for name in frame.columns:
        if index.columns[name].type.kind == "other":
            continue
        for start, stop in ((0, PAGE), (PAGE + 7, 2 * PAGE + 9), (ENTRIES - 1, ENTRIES)):
            fetched = sources.fetch(index, [name], start, stop, threading.Event())
            proxy.reset()
            dtype = index.columns[name].dtype
            list(
                sources.read(
                    index,
                    [name],
                    start,
                    stop,
                    lambda _, size=stop - start, dtype=dtype: np.empty(size, dtype),
                    sources.Scratch(),
                    threading.Event(),
                    fetched,
                )
            )
            assert not proxy.requests, name


@on_nginx
@pytest.mark.parametrize("format", ["RNTuple", *TABLES])
def test_latency_is_hidden(server: Server, proxy: Proxy, files: dict[str, Path], format: str) -> None:
    if format not in files:
        pytest.skip("pyarrow is not installed")
    tree = None if format in TABLES else "events"
    loader = loader_of(  # in whose memory eight blocks or more are fetched ahead
        rf.open({address(server, proxy, format): tree}, **options(server, proxy)), chunk_entries=3000
    )
    rows_of(loader)
    proxy.round_trip = 0.1
    started = time.monotonic()
    rows_of(loader)
    blocks = ENTRIES // PAGE
    assert time.monotonic() - started < 0.6 * blocks * proxy.round_trip


@on_servers
@pytest.mark.thorough("rclone http")
def test_the_second_epoch_and_the_next_process_move_nothing(
    server: Server, proxy: Proxy, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**options(server, proxy), "cache": tmp_path}
    for format in FORMATS:
        monkeypatch.setattr(cached, "_stores", {})
        paths = {address(server, proxy, format): "events"}
        np.testing.assert_array_equal(
            rows_of(loader_of(rf.open(paths, **given))), expected(files, format)
        )
        for _ in range(2):
            monkeypatch.setattr(cached, "_stores", {})  # as in another process
            monkeypatch.setattr(cached, "_proven", {})
            loader = loader_of(rf.open(paths, **given))
            proxy.reset()
            np.testing.assert_array_equal(rows_of(loader), expected(files, format))
            assert sorted(rows_of(loader)[:, 0].tolist()) == list(range(ENTRIES))
            assert not [asked for asked in proxy.requests if asked.startswith("GET /RN")]
            assert proxy.moved < 30 * 1000  # some words about the version


@on_servers
@pytest.mark.thorough("rclone http", "rclone s3")
def test_a_file_that_is_replaced_is_read_anew(
    server: Server, proxy: Proxy, files: dict[str, Path], tmp_path: Path
) -> None:
    given = {**options(server, proxy), "cache": tmp_path}
    url, path = server.url("replaced", proxy.port), server.folder / "replaced"
    try:
        for first in (0, ENTRIES):
            write(tmp_path / "new.root", File(ENTRIES, first=first, page=PAGE, format="RNTuple"))
            shutil.copy(tmp_path / "new.root", path)
            os.utime(path, (1e9 + first, 1e9 + first))
            rows = rows_of(loader_of(rf.open({url: "events"}, **given)))
            assert sorted(rows[:, 0].tolist()) == list(range(first, first + ENTRIES))
    finally:
        path.unlink()


@on_nginx
@pytest.mark.thorough  # of stores, there is a test that runs always
def test_a_process_is_killed_while_it_fills_a_cache(
    server: Server, proxy: Proxy, files: dict[str, Path], tmp_path: Path
) -> None:
    url = address(server, proxy)
    script = f"""
import os, signal, warnings
import rootfeed as rf
from rootfeed.sources.storage import packs
warnings.simplefilter("ignore")
write, seen = packs.os.pwrite, []
def killed(file, data, offset):
    seen.append(data)
    if len(seen) == 40:  # in the middle of an entry
        write(file, data[: len(data) // 2], offset)
        os.kill(os.getpid(), signal.SIGKILL)
    return write(file, data, offset)
packs.os.pwrite = killed
loader = rf.Loader({url + ":events"!r}, 100, ["id", "root"], cache={str(tmp_path)!r})
for _ in loader:
    pass
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    kept = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert kept > 10_000
    frame = rf.open({url: "events"}, **options(server, proxy), cache=tmp_path)
    np.testing.assert_array_equal(rows_of(loader_of(frame)), expected(files))


# --- faults ---------------------------------------------------------------------------------------


@on_nginx
@pytest.mark.thorough(but=[f"{case}-nginx" for case in in_turns(PASSING, FORMATS)])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("fault", PASSING)
def test_passing_faults_are_waited_out(
    server: Server, proxy: Proxy, files: dict[str, Path], fault: Any, format: str
) -> None:
    frame = rf.open({address(server, proxy, format): "events"}, **options(server, proxy))
    loader = loader_of(frame)
    proxy.reset()
    every = 7 if fault == "wrong" else 3  # what is damaged three times counts as damaged
    proxy.fault = lambda number, _: fault if number % every == 0 else None
    if fault == "wrong" and format == "TTree":
        return  # whose pages have no checksums, unless they are compressed: see the random faults
    np.testing.assert_array_equal(rows_of(loader), expected(files, format))


@on_servers
@pytest.mark.thorough(but=in_turns(["killed", "stall", "cut"], KINDS))
@pytest.mark.parametrize("way", ["cut", "stall", "killed"])
def test_a_server_that_comes_back_in_time(
    server: Server, proxy: Proxy, files: dict[str, Path], way: str
) -> None:
    frame = rf.open({address(server, proxy): "events"}, **options(server, proxy, timeout=6.0))
    batches = []
    for number, batch in enumerate(loader_of(frame)):
        batches.append(batch)
        if number == 5:
            if way == "cut":
                proxy.cut()
            elif way == "stall":
                proxy.stalled = True
                threading.Timer(0.5, lambda: (setattr(proxy, "stalled", False), proxy.cut())).start()
            else:
                server.kill()
                proxy.cut()
                threading.Timer(0.5, server.start).start()
    np.testing.assert_array_equal(np.concatenate(batches), expected(files))


@on_servers
@pytest.mark.thorough(but=["killed-nginx", "stall-xrootd"])
@pytest.mark.parametrize("way", ["killed", "stall"])
def test_a_server_that_stays_away(server: Server, proxy: Proxy, way: str) -> None:
    timeout = 1.5
    frame = rf.open({address(server, proxy): "events"}, **options(server, proxy, timeout))
    loader = loader_of(frame)
    iterator = iter(loader)
    next(iterator)
    if way == "killed":
        server.kill()
        proxy.die()
    else:
        proxy.stalled = True
    started = time.monotonic()
    with pytest.raises(UnreachableError) as raised:
        for _ in iterator:
            pass
    assert time.monotonic() - started < timeout + 2
    shown = address(server, proxy)
    assert str(raised.value).startswith(shown)
    assert "ried" in str(raised.value)
    assert "Reading the entries [" in str(raised.value)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and ours():
        time.sleep(0.02)
    assert ours() == []


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rootfeed")]


@on_servers
@pytest.mark.thorough(but=["xrootd"])
def test_a_server_that_is_dead_when_files_are_opened(server: Server, proxy: Proxy) -> None:
    for way in ("stall", "dead"):
        proxy.stalled = way == "stall"
        if way == "dead":
            proxy.die()
        for name in ("RNTuple.root", "*.root"):
            started = time.monotonic()
            with pytest.raises(UnreachableError):
                rf.open({server.url(name, proxy.port): "events"}, **options(server, proxy, 1.0))
            assert time.monotonic() - started < 3


@on_nginx
@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told_at_once(server: Server, proxy: Proxy, status: int) -> None:
    frame = rf.open({address(server, proxy): "events"}, **options(server, proxy))
    loader = loader_of(frame)
    proxy.fault = lambda number, _: status
    started = time.monotonic()
    for attempt in (
        lambda: rows_of(loader),
        lambda: rf.open({address(server, proxy): "events"}, **options(server, proxy)),
    ):
        with pytest.raises(AccessError, match=f"{status}"):
            attempt()
    assert time.monotonic() - started < 3


@on_nginx
def test_bytes_that_are_always_wrong_are_damage(server: Server, proxy: Proxy) -> None:
    loader = loader_of(rf.open({address(server, proxy): "events"}, **options(server, proxy)))
    data = (server.folder / "RNTuple.root").read_bytes()
    middle = len(data) // 2
    try:
        (server.folder / "RNTuple.root").write_bytes(
            data[:2000] + bytes(byte ^ 0x55 for byte in data[2000:middle]) + data[middle:]
        )
        with pytest.raises((DamagedFileError, rf.errors.ChangedFileError)):
            rows_of(loader)
    finally:
        (server.folder / "RNTuple.root").write_bytes(data)


def schedules(seed: int) -> dict[int, int | str]:
    """Return which requests fail, and how: most schedules pass, some are too much."""
    chance = random.Random(seed)
    rate = chance.choice([0.05, 0.2, 0.5])
    kinds = chance.sample([fault for fault in FAULTS if fault not in ("stall",)], 3)
    kinds += ["stall"] if chance.random() < 0.2 else []
    kinds += [chance.choice([401, 403, 404])] if chance.random() < 0.1 else []
    return {number: chance.choice(kinds) for number in range(1, 400) if chance.random() < rate}


@on_nginx
def test_random_faults(server: Server, proxy: Proxy, files: dict[str, Path], tmp_path: Path) -> None:
    """Right rows or the right error, in time: never a wrong or missing row.

    More schedules: ROOTFEED_FAULTS=2000, from ROOTFEED_FAULTS_FROM on.
    """
    web_storage._one_by_one.clear()
    count, first = (
        int(os.environ.get("ROOTFEED_FAULTS", 6)),
        int(os.environ.get("ROOTFEED_FAULTS_FROM", 0)),
    )
    rights = {format: expected(files, format) for format in FORMATS}
    outcomes: dict[str, int] = {}
    for seed in range(first, first + count):
        format = FORMATS[seed % 2]
        plan = schedules(seed)
        if format == "TTree":  # a few of whose bytes nothing checks
            plan = {number: fault for number, fault in plan.items() if fault != "wrong"}
        proxy.reset()
        proxy.fault = lambda number, _, plan=plan: plan.get(number)  # type: ignore[misc]
        error: RootfeedError | None = None
        started = time.monotonic()
        try:
            # Every third one has a cache, in which what went wrong before must have left nothing.
            cache = {"cache": tmp_path / f"{seed // 30}"} if seed % 3 == 2 else {}
            frame = rf.open({address(server, proxy, format): "events"}, timeout=1.0, **cache)
            found = rows_of(loader_of(frame))
        except RootfeedError as raised:
            error = raised
        assert time.monotonic() - started < 20, seed
        if error is None:
            np.testing.assert_array_equal(found, rights[format], err_msg=f"{seed}")
        else:
            reasons: dict[type[RootfeedError], set[Any]] = {
                AccessError: {401, 403},
                MissingFileError: {404},
                DamagedFileError: {"wrong"},
                ChangedFileError: {"wrong"},  # where the head is that tells versions
            }
            allowed = reasons.get(type(error), set(FAULTS))
            assert allowed & set(plan.values()), (seed, error)
            assert type(error) in (UnreachableError, *reasons), (seed, error)
        outcome = "right" if error is None else type(error).__name__
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes.get("right", 0) > 0
    print(outcomes)


# --- replicas and secrets -------------------------------------------------------------------------


@pytest.mark.parametrize("server", [ON_SERVERS[0], ON_SERVERS[3]], indirect=True)
@pytest.mark.parametrize("dead", ["port", "missing", "later"])
def test_replicas_are_tried_in_order(
    server: Server, proxy: Proxy, files: dict[str, Path], dead: str
) -> None:
    good = server.url("RNTuple.root")
    bad = {
        "port": server.url("RNTuple.root", 9),
        "missing": server.url("none.root"),
        "later": address(server, proxy),
    }[dead]
    frame = rf.open({f"{bad}|{good}": "events"}, timeout=5.0)
    batches = []
    for number, batch in enumerate(loader_of(frame)):
        batches.append(batch)
        if number == 3:
            proxy.die()
    np.testing.assert_array_equal(np.concatenate(batches), expected(files))
    assert rf.open(f"{bad}|{good}:events", timeout=5.0).num_entries == ENTRIES


@on_nginx
def test_replicas_that_all_fail_are_all_told(server: Server, proxy: Proxy) -> None:
    one, two = server.url("none.root"), server.url("other.root")
    with pytest.raises(MissingFileError) as raised:
        rf.open({f"{one}|{two}": "events"})
    assert one in str(raised.value)
    assert two in str(raised.value)


@on_nginx
def test_replicas_and_patterns(server: Server, proxy: Proxy) -> None:
    dead, live = server.url("*.root", 9), server.url("*.root")
    frame = rf.open({f"{dead}|{live}": "events"}, timeout=5.0)
    assert frame.num_entries == 2 * ENTRIES
    with pytest.raises(ArgumentError, match="must have the same pattern"):
        rf.open({f"{dead}|{server.url('RN*.root')}": "events"})


SECRET = "hushhush42"


@on_nginx
def test_secrets_are_shown_nowhere(
    server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.WARNING)
    url = f"{address(server, proxy)}?authz={SECRET}"
    given = {"headers": {"Authorization": f"Bearer {SECRET}"}}
    frame = rf.open({url: "events"}, storage_options=given, timeout=0.5)
    assert any(f"authz={SECRET}" in asked for asked in proxy.requests)  # the server is told
    loader = loader_of(frame)
    rows_of(loader)
    shown = [repr(frame), str(frame.files), frame._repr_html_(), json.dumps(loader.state_dict())]
    shown += [repr(loader), repr(frame._view.files.locations), repr(frame._view.index(["id"]))]
    for fault in (503, 401, 404, "reset", "stall", "drop"):
        proxy.fault = lambda number, _, fault=fault: fault  # type: ignore[misc]
        for attempt in (lambda: rows_of(loader), lambda: rf.open({url: "x"}, timeout=0.5)):
            with pytest.raises(RootfeedError) as raised:
                attempt()
            shown += traceback.format_exception(raised.value)
    with pytest.raises(RootfeedError) as raised:
        rf.open(f"http://user:{SECRET}@127.0.0.1:9/f.root?x={SECRET}", timeout=0.5)
    shown += traceback.format_exception(raised.value)
    captured = capsys.readouterr()
    shown += [caplog.text, captured.out, captured.err]
    assert not [text for text in shown if SECRET in text]
    assert "authz=***" in shown[0]
    proxy.fault = None
    again = pickle.loads(pickle.dumps(loader))  # a worker needs them
    assert len(rows_of(again)) == ENTRIES


@on_nginx
def test_a_loader_takes_what_open_takes(server: Server, proxy: Proxy) -> None:
    loader = rf.Loader(
        f"{address(server, proxy)}:events",
        100,
        ["id"],
        storage_options={"headers": {"X-A": "b"}},
        timeout=5,
    )
    assert sum(map(len, loader)) == ENTRIES
    with pytest.raises(ArgumentError, match="storage_options"):
        rf.Loader(rf.open(address(server, proxy)), 100, ["id"], storage_options={"a": 1})


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "30", None, True])
def test_timeouts_that_are_none(timeout: Any) -> None:
    with pytest.raises(ArgumentError, match="timeout must be a positive number of seconds"):
        rf.open("x.root", timeout=timeout)


def test_options_that_are_none() -> None:
    for given in ("secret", ["a"], {1: 2}):
        with pytest.raises(ArgumentError, match="storage_options must be a dict") as raised:
            rf.open("x.root", storage_options=given)  # type: ignore[arg-type]
        assert "secret" not in str(raised.value)
