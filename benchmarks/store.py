"""What a page costs that is put into a cache on disk, and that is read from it.

Beside `Store`: a file for each entry, SQLite, and diskcache where that is installed. All compare a
checksum when they read. The disk is what holds the temporary folder, mostly in the kernel's memory.

    python benchmarks/store.py
    python benchmarks/store.py --sizes 10000,50000 --megabytes 1000
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import typer
import xxhash

from rootfeed.sources.storage.store import Store

Put, Get = Callable[[bytes, bytes], None], Callable[[bytes], bytes | None]

LIMIT = 50_000_000_000


def checked(data: bytes | None) -> bytes | None:
    if data is None or xxhash.xxh3_128_digest(data[16:]) != data[:16]:
        return None
    return data[16:]


def sealed(data: bytes) -> bytes:
    return xxhash.xxh3_128_digest(data) + data


def packs(folder: Path) -> tuple[Put, Get]:
    store = Store(str(folder), LIMIT)
    return store.put, store.get


def files(folder: Path) -> tuple[Put, Get]:
    """Return a file an entry, written beside and renamed, in 256 folders."""

    def path(key: bytes) -> Path:
        name = hashlib.blake2b(key, digest_size=16).hexdigest()
        return folder / name[:2] / name

    for number in range(256):
        (folder / f"{number:02x}").mkdir(parents=True)

    def put(key: bytes, data: bytes) -> None:
        place = path(key)
        beside = place.with_suffix(".part")
        beside.write_bytes(sealed(data))
        os.replace(beside, place)

    return put, lambda key: checked(path(key).read_bytes())


def sqlite(folder: Path) -> tuple[Put, Get]:
    """Return a table with a transaction for each entry, which is not waited for."""
    folder.mkdir()
    base = sqlite3.connect(folder / "base", isolation_level=None)
    base.execute("pragma journal_mode = wal")
    base.execute("pragma synchronous = normal")
    base.execute("create table entries (key blob primary key, data blob) without rowid")

    def put(key: bytes, data: bytes) -> None:
        base.execute("insert or replace into entries values (?, ?)", (key, sealed(data)))

    def get(key: bytes) -> bytes | None:
        return checked(base.execute("select data from entries where key = ?", (key,)).fetchone()[0])

    return put, get


def diskcache(folder: Path) -> tuple[Put, Get]:
    import diskcache

    cache = diskcache.Cache(str(folder), size_limit=LIMIT, eviction_policy="least-recently-used")
    return lambda key, data: cache.__setitem__(key, sealed(data)), lambda key: checked(cache.get(key))


def main(sizes: str = "10000,50000,1000000", megabytes: int = 300) -> None:
    """Print microseconds for each kind and size."""
    print("| | size | put, µs | get, µs | files |\n|---|---:|---:|---:|---:|")
    for size in map(int, sizes.split(",")):
        count = megabytes * 1_000_000 // size
        data = random.Random(1).randbytes(size)
        keys = [f"{number}".encode() for number in range(count)]
        for kind in (packs, files, sqlite, diskcache):
            with tempfile.TemporaryDirectory() as top:
                try:
                    put, get = kind(Path(top) / "cache")
                except ImportError:
                    continue
                started = time.perf_counter()
                for key in keys:
                    put(key, data)
                puts = time.perf_counter() - started
                random.Random(2).shuffle(keys)
                started = time.perf_counter()
                for key in keys:
                    assert get(key) == data
                gets = time.perf_counter() - started
                found = sum(path.is_file() for path in Path(top).rglob("*"))
                print(
                    f"| {kind.__name__} | {size} | {puts / count * 1e6:.0f} | {gets / count * 1e6:.0f} "
                    f"| {found} |",
                    flush=True,
                )


if __name__ == "__main__":
    typer.run(main)
