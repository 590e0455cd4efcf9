"""Files on servers of which a cache keeps what was read: the same rows, and hardly a request."""

from __future__ import annotations

import importlib.util
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed import sources
from rootfeed.errors import ArgumentError, CacheWarning, ChangedFileError
from rootfeed.sources import storage
from rootfeed.sources.storage import Address, Cache, cached, packs
from rootfeed.sources.storage import store as stores
from samples import write_twice
from servers import Web, serve

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*rows mix badly"),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp") is None, reason="fsspec reads http with aiohttp"
    ),
]

ENTRIES = 2000
FORMATS = ("TTree", "RNTuple")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_twice(tmp_path_factory.mktemp("files"), FORMATS, ENTRIES)


@pytest.fixture
def web(files: Path) -> Iterator[Web]:
    with serve(
        {f"/{format}.root": (files / f"{format}.root").read_bytes() for format in FORMATS}
    ) as web:
        yield web


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget all that this process knows of caches, as the next one does."""
    monkeypatch.setattr(cached, "_stores", {})
    monkeypatch.setattr(cached, "_proven", {})


def loader_of(*files: Any, **access: Any) -> rf.Loader:
    frame = rf.open(dict.fromkeys(files, "events"), **access)
    return rf.Loader(
        frame, 100, ["id", "root"], chunk_entries=1000, block_entries=250, seed=7, dtype="f8"
    )


def rows_of(*files: Any, **access: Any) -> np.ndarray:
    return np.concatenate(list(loader_of(*files, **access)))


def asked(web: Web) -> list[str]:
    """Return the methods of requests since the last call."""
    methods = [method for method, _, _ in web.asked]
    web.asked.clear()
    return methods


@pytest.mark.parametrize("format", FORMATS)
def test_the_second_epoch_and_the_next_process_ask_for_the_version_alone(
    web: Web, files: Path, cache: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = rows_of(files / f"{format}.root")
    url = f"{web.url}/{format}.root"
    loader = loader_of(url, cache=cache)
    np.testing.assert_array_equal(np.concatenate(list(loader)), right)
    assert "GET" in asked(web)
    assert sum(map(len, loader)) == len(right)
    assert asked(web) == []  # the version is known from a moment ago
    monkeypatch.setattr(cached, "_proven", {})
    monkeypatch.setattr(cached, "_PROVEN_SECONDS", 1000.0)
    assert sum(map(len, loader)) == len(right)
    assert set(asked(web)) == {"HEAD"}
    forget(monkeypatch)
    np.testing.assert_array_equal(rows_of(url, cache=str(cache)), right)
    assert asked(web) == ["HEAD"]
    assert rf.open({url: "events"}, cache=cache).filter("id % 2 == 0").count() == ENTRIES // 2
    assert "GET" not in asked(web)


def test_another_process_reads_what_this_one_kept(web: Web, files: Path, cache: Path) -> None:
    right = rows_of(files / "RNTuple.root")
    script = f"""
import sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = {[str(parent) for parent in Path(__file__).parents[:2]]!r}
from test_cached import *
np.save(sys.argv[1], rows_of({web.url + "/RNTuple.root"!r}, cache={str(cache)!r}))
"""
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(cache.parent / f"{number}.npy")])
        for number in range(2)  # which fill it at once
    ]
    assert [each.wait(60) for each in started] == [0, 0]
    for number in range(2):
        np.testing.assert_array_equal(np.load(cache.parent / f"{number}.npy"), right)
    asked(web)
    np.testing.assert_array_equal(rows_of(f"{web.url}/RNTuple.root", cache=cache), right)
    assert set(asked(web)) == {"HEAD"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_byte_is_wrong_in_every_entry(
    web: Web, files: Path, cache: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{web.url}/{format}.root"
    right = rows_of(files / f"{format}.root")
    rows_of(url, cache=cache)
    for unit in packs.listed(str(cache)):
        path, chance = cache / (unit.pack + packs.PACK), random.Random(1)
        data = bytearray(path.read_bytes())
        for offset, size in packs.records(str(cache), unit.pack, 0)[["offset", "size"]].tolist():
            data[offset + chance.randrange(packs.HEAD_BYTES + size)] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    asked(web)
    for known in (True, False):  # whether the process knows where entries are
        if not known:
            forget(monkeypatch)
        np.testing.assert_array_equal(rows_of(url, cache=cache), right)
        assert ("GET" in asked(web)) == known


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_was_replaced(
    web: Web, files: Path, cache: Path, format: str, tags: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.tags = tags
    url, name = f"{web.url}/{format}.root", f"{format}.root"
    before = loader_of(url, cache=cache)
    assert sum(map(len, before)) == ENTRIES
    if not tags:
        forget(monkeypatch)
        asked(web)
        rows_of(url, cache=cache)
        heads = [span for method, _, span in web.asked if method == "GET"]
        assert set(heads) == {"bytes=0-74"}  # without tags, a file is known by its head
    web.files[f"/{name}"] = (files / "other" / name).read_bytes()
    np.testing.assert_array_equal(rows_of(url, cache=cache), rows_of(files / "other" / name))
    monkeypatch.setattr(cached, "_proven", {})  # some seconds later
    with pytest.raises(ChangedFileError):
        list(before)


def test_a_file_is_replaced_while_it_is_read(
    web: Web, files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{web.url}/RNTuple.root"
    loader = loader_of(url, cache=cache)
    web.files["/RNTuple.root"] = (files / "other" / "RNTuple.root").read_bytes()
    with pytest.raises(ChangedFileError):
        list(loader)
    web.files["/RNTuple.root"] = (files / "RNTuple.root").read_bytes()
    np.testing.assert_array_equal(rows_of(url, cache=cache), rows_of(files / "RNTuple.root"))


def test_no_byte_is_taken_for_one_of_another_version(web: Web, cache: Path) -> None:
    address = Address((f"{web.url}/bytes",), cache=Cache(str(cache), 10**6))

    def read(reached: storage.Storage, offset: int) -> int:
        out = np.empty(1000, np.uint8)
        reached.prepare([(offset, 1000)])
        reached.read_into(offset, out)
        reached.verify()
        [found] = set(out.tolist())
        return int(found)

    web.files["/bytes"] = bytes([1]) * 10_000
    before = storage.open_storage(address)
    assert read(before, 0) == 1
    version = before.version
    web.files["/bytes"] = bytes([2]) * 10_000  # of the same size
    assert read(storage.open_storage(address), 0) == 2
    assert read(storage.open_storage(address, version), 0) == 1  # from the cache, of a moment ago
    for _ in range(2):  # and nothing of what came is kept as if it were of that version
        with pytest.raises(ChangedFileError):
            read(storage.open_storage(address, version), 2000)
    assert read(storage.open_storage(address), 2000) == 2


def test_bytes_that_were_spoilt_on_their_way_are_not_kept_for_good(
    web: Web, files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = rows_of(files / "RNTuple.root")
    good = web.files["/RNTuple.root"]
    loader = loader_of(f"{web.url}/RNTuple.root", cache=cache)
    tag = f'"{hash(good)}"'
    web.tag = lambda number, _: tag

    seen: set[str] = set()

    def before(number: int) -> None:
        start = web.asked[-1][2].partition("-")[0]
        spoilt = good[:2000] + bytes(byte ^ 0x55 for byte in good[2000:])
        web.files["/RNTuple.root"] = good if start in seen else spoilt  # when it is asked for first
        seen.add(start)

    web.before = before
    np.testing.assert_array_equal(np.concatenate(list(loader)), right)
    assert len(seen) >= 8  # of each block something
    web.before, web.files["/RNTuple.root"] = None, good
    forget(monkeypatch)
    for _ in range(2):
        np.testing.assert_array_equal(rows_of(f"{web.url}/RNTuple.root", cache=cache), right)


def occupied(folder: Path) -> int:
    """Return the bytes that a folder's files take on disk, though some are removed meanwhile."""
    taken = 0
    with os.scandir(folder) as files:
        for each in files:
            with suppress(FileNotFoundError):
                taken += os.stat(each.path).st_blocks * 512
    return taken


def test_epochs_that_are_larger_than_the_cache(web: Web, files: Path, cache: Path) -> None:
    right = rows_of(files / "TTree.root")
    limit = len(web.files["/TTree.root"]) // 3
    loader = loader_of(f"{web.url}/TTree.root", cache=cache, cache_size=limit)
    for _ in range(3):
        for _ in loader:
            # A pack may go between looks at two others: so it may look like more, now and then.
            assert any(occupied(cache) <= limit for _ in range(20))
    np.testing.assert_array_equal(rows_of(f"{web.url}/TTree.root", cache=cache, cache_size=limit), right)


def test_a_folder_that_cannot_be_written_is_said_once(web: Web, files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "file" / "cache"
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(CacheWarning, match="cannot be written") as said:
        found = [rows_of(f"{web.url}/TTree.root", cache=folder) for _ in range(2)]
    for each in found:
        np.testing.assert_array_equal(each, rows_of(files / "TTree.root"))
    assert len([each for each in said if each.category is CacheWarning]) == 1


def test_a_disk_that_is_full(
    web: Web, files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def write(file: int, data: bytes, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > 50_000:
            raise OSError(28, "No space left on device")
        return pwrite(file, data, offset)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", write)
    right = rows_of(files / "TTree.root")
    with pytest.warns(CacheWarning, match=r"cannot be written \(No space left on device\)"):
        np.testing.assert_array_equal(rows_of(f"{web.url}/TTree.root", cache=cache), right)
    forget(monkeypatch)
    monkeypatch.undo()
    np.testing.assert_array_equal(rows_of(f"{web.url}/TTree.root", cache=cache), right)


def test_secrets_are_not_part_of_the_cache(web: Web, files: Path, cache: Path) -> None:
    right = rows_of(files / "TTree.root")
    for token in ("hushhush42", "another"):
        options = {"headers": {"Authorization": f"Bearer {token}"}}
        url = f"{web.url}/TTree.root?authz={token}"
        np.testing.assert_array_equal(rows_of(url, cache=cache, storage_options=options), right)
        assert ("GET" in asked(web)) == (token == "hushhush42")  # another token, the same file
    for path in cache.iterdir():
        assert b"hushhush" not in path.read_bytes() + path.name.encode()


def identity(url: str, **options: Any) -> bytes:
    return cached._identity(Address((url,), options), 100, "tag", b"")


def test_what_tells_files_apart() -> None:
    plain = identity("https://host/f.root")
    assert identity("https://host/f.root?authz=a&X-Amz-Signature=b") != identity(
        "https://host/f.root?id=1"
    )
    assert identity("https://host/d?id=1&token=a") == identity("https://host/d?id=1&token=b")
    assert identity("https://host/d?id=1") != identity("https://host/d?id=2")
    assert identity("https://me:a@host/f.root") != identity("https://you:a@other/f.root")
    assert plain == identity("https://host/f.root", headers={"Authorization": "Bearer abcdef"})
    one, two = ({"endpoint_url": f"https://{name}"} for name in ("one", "two"))
    assert identity("s3://a/b", **one) != identity("s3://a/b", client_kwargs=two)
    assert identity("s3://a/b", key="a" * 9, **one) == identity("s3://a/b", key="b" * 9, **one)


def test_files_that_nothing_tells_apart_are_not_kept(web: Web, cache: Path) -> None:
    web.tags, web.files["/bytes"] = False, bytes(range(200))
    reached = storage.open_storage(Address((f"{web.url}/bytes",), cache=Cache(str(cache), 10**6)))
    out = np.empty(100, np.uint8)
    reached.read_into(50, out)
    reached.verify()
    reached.keep()
    assert out.tobytes() == bytes(range(50, 150))
    assert not cache.exists()


def test_local_files_are_left_out(files: Path, cache: Path) -> None:
    assert len(rows_of(files / "TTree.root", cache=cache)) == ENTRIES
    assert not cache.exists()


def test_paths_of_caches(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given, made in (("~/a/b", tmp_path / "a" / "b"), ("c", tmp_path / "elsewhere" / "c")):
        frame = rf.open(f"{web.url}/TTree.root:events", cache=given, cache_size="1 MB")
        monkeypatch.chdir(tmp_path)
        assert rf.Loader(pickle.loads(pickle.dumps(frame)), 100, ["id"]).num_rows == ENTRIES
        assert made.is_dir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ArgumentError, match="there is no home directory"):
        rf.open("x.root", cache="~/a")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cache": 1}, "cache must be a folder on this machine, got 1"),
        ({"cache": ""}, "cache must be a folder"),
        ({"cache": "https://host/folder"}, "cache must be a folder on this machine"),
        ({"cache": __file__}, "is a file"),
        (
            {"cache": "a", "cache_size": "many"},
            "cache_size must look like '500 MB' or '2 GB', got 'many'",
        ),
        ({"cache": "a", "cache_size": 0}, "cache_size must be a positive number of bytes"),
        ({"cache_size": "1 GB"}, "name a folder there"),
    ],
)
def test_caches_that_are_none(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ArgumentError, match=told):
        rf.open("x.root", **given)


def test_whatever_takes_paths_takes_a_cache(web: Web, files: Path, cache: Path) -> None:
    access: Any = {"storage_options": {"headers": {"X-A": "b"}}, "timeout": 5.0, "cache": cache}
    paths = [f"{web.url}/{format}.root:events" for format in FORMATS]
    assert rf.Loader(paths, 100, ["id"], cache_size="1 GB", **access).num_rows == 2 * ENTRIES
    asked(web)
    web.files["/table.csv"] = b"x,y\n1,2.5\n3,4.5\n"
    for known in (False, True):
        table = ROOT.RDF.FromCSV(f"{web.url}/table.csv", **access, cache_size="1 GB")
        assert table.AsNumpy()["y"].tolist() == [2.5, 4.5]
        assert ("GET" in asked(web)) != known
    mixed = rf.mixed(paths, cache_size="1 GB", **access)
    assert rf.Loader(mixed, 100, ["id"]).num_rows == 2 * ENTRIES
    assert ROOT.RDataFrame("events", f"{web.url}/TTree.root", **access).Count().GetValue() == ENTRIES
    assert "GET" not in asked(web)
    frame = rf.open(paths[0], **access)
    for attempt in (
        lambda: rf.mixed([frame, frame], timeout=5.0),
        lambda: rf.Loader(frame, 100, ["id"], cache=cache),
        lambda: rf.Loader(rf.mixed([frame, frame]), 100, ["id"], cache=cache),
    ):
        with pytest.raises(ArgumentError, match="tell how files are opened, and these frames are open"):
            attempt()


def test_all_that_is_read_is_kept(
    web: Web, files: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every column of a source, through whatever reads it."""
    locations = [
        sources.expand(f"{web.url}/{format}.root", "events", cache=cache)[0] for format in FORMATS
    ]
    for known in (False, True):
        asked(web)
        for location in locations:
            _, types = sources.types(location)
            index = sources.index(location, list(types))
            for name in types:
                found = sources.read_awkward(index, name, 10, 900)
                assert len(found) == 890
        assert ("GET" in asked(web)) != known
        forget(monkeypatch)
    assert stores.Store(str(cache), 10**9).get(b"") is None
    shutil.rmtree(cache)  # by somebody, while it is in use
    assert len(rows_of(f"{web.url}/TTree.root", cache=cache)) == ENTRIES
