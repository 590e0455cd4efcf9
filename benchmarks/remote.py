"""Epochs over files on a server that is far away: entries a second, bytes, requests, time to a batch.

The same files are read from the disk, and from real servers (nginx, XRootD, rclone's S3, whichever are
there: `scripts/servers` fetches the first two) behind a proxy that makes each round trip longer. Server,
proxy and reader are processes of their own. Beside it, `uproot.iterate` and a pass of ROOT's RDataFrame
(with two threads, where this ROOT knows the protocol) read the same columns, once and in order.

    python benchmarks/remote.py
    python benchmarks/remote.py --servers nginx --round-trips 0,20 --columns 3
    python benchmarks/remote.py --cache "200 GB"   # epochs after the first come from a cache on disk
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from proxy import Proxy
from realservers import KINDS, missing, running

FILES, ENTRIES, COLUMNS = 8, 250_000, 31
FORMATS = {"TTree": ".root", "RNTuple": ".root", "Parquet": ".parquet", "Arrow": ".arrow"}
GROUP = 50_000  # entries of a row group, or record batch
BATCH = 1024
FOLDER = Path(tempfile.gettempdir(), "rootfeed-remote")


def write(folder: Path) -> None:
    """Write eight files of 31 columns of float32: ROOT's as Snapshot does by default."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ROOT

    rng = np.random.default_rng(1)
    names = [f"f{number}" for number in range(COLUMNS)]
    for number in range(FILES):
        columns = {name: rng.normal(size=ENTRIES).astype("f4") for name in names}
        table = pa.table(columns)
        options = {"compression": "zstd", "use_dictionary": False}
        pq.write_table(table, folder / f"Parquet{number}.parquet", GROUP, **options)
        with pa.ipc.new_file(folder / f"Arrow{number}.arrow", table.schema) as file:
            file.write_table(table, GROUP)
        frame = ROOT.RDF.FromNumpy(columns)
        for format in ("TTree", "RNTuple"):
            options = ROOT.RDF.RSnapshotOptions()
            options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, f"k{format}")
            frame.Snapshot("events", str(folder / f"{format}{number}.root"), names, options)


def tables(paths: list[str]) -> dict[str, str | None]:
    """Return which tree each file holds; a file of Parquet or Arrow has none."""
    return {path: "events" if path.endswith(".root") else None for path in paths}


def _proxy(pipe: Any, upstream: int, is_web: bool) -> None:
    proxy = Proxy(upstream, is_web)
    pipe.send(proxy.port)
    while (asked := pipe.recv()) is not None:
        proxy.round_trip = asked
        pipe.send((len(proxy.requests), proxy.moved, proxy.most_open))
        proxy.reset()


class Distance:
    """A proxy in a process of its own."""

    def __init__(self, upstream: int, is_web: bool) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_proxy, args=(other, upstream, is_web), daemon=True)
        self._process.start()
        self.port = self._pipe.recv()

    def take(self, seconds: float) -> tuple[int, int, int]:
        """Set the round trip; return requests, bytes and connections since the last time."""
        self._pipe.send(seconds)
        return self._pipe.recv()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()


def epochs(
    paths: list[str], columns: list[str], memory: str, repeat: int, options: Any, kept: Any
) -> dict[str, float]:
    """Return entries a second and seconds to the first batch: medians, after an epoch that warms up."""
    import rootfeed as rf

    warnings.simplefilter("ignore", rf.errors.MixingWarning)
    opened = time.perf_counter()
    frame = rf.open(tables(paths), storage_options=options, **kept)
    loader = rf.Loader(frame, BATCH, columns, memory=memory, seed=1)
    opened = time.perf_counter() - opened
    rates, firsts = [], []
    for number in range(repeat + 1):
        started = time.perf_counter()
        rows, first = 0, 0.0
        for batch in loader:
            first = first or time.perf_counter() - started
            rows += len(batch)
        if number:
            rates.append(rows / (time.perf_counter() - started))
            firsts.append(first)
        assert rows == len(paths) * ENTRIES
    return {"rate": statistics.median(rates), "first": statistics.median(firsts), "open": opened}


def iterated(paths: list[str], columns: list[str], options: Any) -> float:
    """Return the entries a second of `uproot.iterate`, which reads in order, and once."""
    import uproot

    started = time.perf_counter()
    rows = 0
    for arrays in uproot.iterate(
        dict.fromkeys(paths, "events"), columns, library="np", step_size="20 MB", **(options or {})
    ):
        rows += len(arrays[columns[0]])
    assert rows == len(paths) * ENTRIES
    return rows / (time.perf_counter() - started)


def summed(paths: list[str], columns: list[str]) -> float:
    """Return the entries a second of a pass of RDataFrame, which sums the columns."""
    import ROOT

    ROOT.EnableImplicitMT(2)
    started = time.perf_counter()
    frame = ROOT.RDataFrame("events", paths)
    sums = [frame.Sum(name) for name in columns]
    rows = frame.Count()
    assert rows.GetValue() == len(paths) * ENTRIES
    assert all(each.GetValue() is not None for each in sums)
    return len(paths) * ENTRIES / (time.perf_counter() - started)


def occupied(paths: list[str], columns: list[str]) -> int:
    """Return the bytes that some columns take in the files."""
    from rootfeed import sources

    return sum(
        int(column.pages.stored_bytes.sum())
        for path, tree in tables(paths).items()
        for column in sources.index(sources.Location(path, tree), columns).columns.values()
    )


def measured(job: dict[str, Any]) -> dict[str, float]:
    """Run a measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": 1.0, "why": done.stderr.strip().splitlines()[-1]}  # type: ignore[dict-item]
    return json.loads(done.stdout.splitlines()[-1])


def run(job: dict[str, Any]) -> dict[str, float]:
    if job["what"] == "rootfeed":
        return epochs(
            job["paths"], job["columns"], job["memory"], job["repeat"], job["options"], job["kept"]
        )
    if job["what"] == "RDataFrame":
        return {"rate": summed(job["paths"], job["columns"])}
    return {"rate": iterated(job["paths"], job["columns"], job["options"])}


def beside(job: dict[str, Any], of_root: bool) -> str:
    """Return what others reach, as cells of the table."""
    cells = []
    for what in ("uproot", "RDataFrame"):
        found = measured({"what": what, **job}) if of_root else {}
        cells.append(f"{found['rate'] / 1e6:.2f} M" if "rate" in found else "–")
    return " | ".join(cells)


@contextmanager
def served(kind: str, folder: Path) -> Iterator[Any]:
    with running(kind) as server:
        for format, suffix in FORMATS.items():
            for number in range(FILES):
                shutil.copy(folder / f"{format}{number}{suffix}", server.folder)
        yield server


def named(folder: Path, format: str, copies: int) -> list[str]:
    """Return the names of a format's files in a folder, each linked to as often as is wanted."""
    names = []
    for number in range(FILES * copies):
        name = f"{format}{number}{FORMATS[format]}"
        if not (folder / name).exists():
            os.link(folder / f"{format}{number % FILES}{FORMATS[format]}", folder / name)
        names.append(name)
    return names


def main(
    data: Annotated[Path, typer.Option(help="Where the files are, or are written.")] = FOLDER,
    servers: str = ",".join(KINDS),
    round_trips: Annotated[str, typer.Option(help="In milliseconds.")] = "0,5,20,100",
    columns: Annotated[str, typer.Option(help="How many of 31.")] = "3,31",
    formats: str = ",".join(FORMATS),
    memory: Annotated[str, typer.Option(help="For 3 columns; more in proportion.")] = "40 MB",
    copies: Annotated[int, typer.Option(help="Each file so often, to make a larger dataset.")] = 1,
    repeat: int = 3,
    peers: bool = True,
    cache: Annotated[str, typer.Option(help="The size of a cache on disk, if there is to be one.")] = "",
    job: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print a table for each format and number of columns."""
    if job:
        print(json.dumps(run(json.loads(job))))
        return
    data.mkdir(exist_ok=True)
    if not all((data / f"{format}{FILES - 1}{suffix}").exists() for format, suffix in FORMATS.items()):
        write(data)
    wanted = [(format, int(count)) for format in formats.split(",") for count in columns.split(",")]
    for format, count in wanted:
        names = [f"f{number}" for number in range(count)]
        size, unit = memory.split()
        given = {
            "columns": names,
            "memory": f"{float(size) * count / 3:.0f} {unit}",
            "repeat": repeat,
            "kept": {},
        }
        local = [str(data / name) for name in named(data, format, copies)]
        least = occupied(local, names)
        near = measured({"what": "rootfeed", "paths": local, "options": None, **given})
        print(f"\n{format}, {count} of {COLUMNS} columns: {least / 1e6:.1f} MB, in {given['memory']}\n")
        print(
            "| | round trip | entries/s | of disk | first batch | moved | requests | uproot.iterate "
            "| RDataFrame |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
        of_root = peers and FORMATS[format] == ".root"
        peer = beside({"paths": local, "options": None, **given}, of_root)
        print(f"| disk | | {near['rate'] / 1e6:.2f} M | 1 | {near['first'] * 1e3:.0f} ms | | | {peer} |")
        for kind in servers.split(","):
            if why := missing(kind):
                print(f"| {why} | | | | | | | | |")
                continue
            with served(kind, data) as server:
                names_there = named(server.folder, format, copies)
                distance = Distance(server.port, kind != "xrootd")
                for trip in map(float, round_trips.split(",")):
                    distance.take(trip / 1e3)
                    far = {
                        "paths": [server.url(name, distance.port) for name in names_there],
                        "options": server.options(distance.port) or None,
                        **given,
                    }
                    with tempfile.TemporaryDirectory() as folder:
                        kept = {"kept": {"cache": folder, "cache_size": cache} if cache else {}}
                        found = measured({"what": "rootfeed", **far, **kept})
                    requests, moved, _ = distance.take(trip / 1e3)
                    peer = beside(far, of_root and trip in (0, 20))
                    distance.take(trip / 1e3)
                    if "failed" in found:
                        print(f"| {kind} | {trip:g} ms | {found['why']} | | | | | | |")
                        continue
                    share, requests = moved / (repeat + 1) / least, round(requests / (repeat + 1))
                    print(
                        f"| {kind} | {trip:g} ms | {found['rate'] / 1e6:.2f} M "
                        f"| {found['rate'] / near['rate']:.2f} | {found['first'] * 1e3:.0f} ms "
                        f"| {share:.2f} × | {requests or '–'} | {peer} |",
                        flush=True,
                    )
                distance.close()


if __name__ == "__main__":
    typer.run(main)
