"""How long until a loader is made over thousands of files, and in how much memory?

Files of a production are one file under many names: NanoAOD as TTree and as RNTuple, PHYSLITE, from the
folder that ``ROOTFEED_TEST_DATA`` names, or of as many columns and written by ROOT. `uproot.open` opens
the same objects, and lists no branches; ROOT's ``RDataFrame(...).Count()`` goes through the same files.
Each measurement is a process of its own, kernels compiled; "again" is one that finds what another one
has kept on disk.

    python benchmarks/index.py
    python benchmarks/index.py --cases nano-tree --files 100 --no-peers
    python benchmarks/index.py --remote            # needs nginx: scripts/servers
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

FOLDER = Path(tempfile.gettempdir(), "rootfeed-index")
COLUMNS = 3


@dataclass(frozen=True)
class Case:
    """Files of one production.

    Attributes
    ----------
    source : str
        In the folder that ``ROOTFEED_TEST_DATA`` names.
    tree, format : str
    files : int
    columns : int
        Of a file that is written because there is no such folder.
    """

    source: str
    tree: str
    format: str
    files: int
    columns: int


CASES = {
    "nano-tree": Case("coffea/nano_tt_v12.root", "Events", "TTree", 1000, 654),
    "nano-ntuple": Case("coffea/nano_dy_rntuple.root", "Events", "RNTuple", 1000, 1903),
    "physlite": Case("coffeagit/PHYSLITE_example.root", "CollectionTree", "TTree", 200, 1494),
}


def write(path: Path, case: Case) -> None:
    """Write a file of as many columns, half of them vectors, as ROOT's Snapshot does."""
    import ROOT

    names = [f"c{number}" for number in range(case.columns)]
    frame = ROOT.RDataFrame(200)
    for number, name in enumerate(names):
        value = f"(float)(rdfentry_ + {number})"
        vector = f"ROOT::RVecF(rdfentry_ % 4, {value})"
        frame = frame.Define(name, value if number % 2 else vector)
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, f"k{case.format}")
    frame.Snapshot(case.tree, str(path), names, options)


def named(name: str, count: int) -> list[str]:
    """Return the names of a case's files, which are one file."""
    case, folder = CASES[name], FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "0000.root"
    data = os.environ.get("ROOTFEED_TEST_DATA")
    if not first.exists():
        if data is not None and (Path(data) / case.source).exists():
            shutil.copyfile(Path(data) / case.source, first)
        else:
            write(first, case)
    for number in range(1, count):
        path = folder / f"{number:04}.root"
        if not path.exists():
            os.link(first, path)
    return [str(folder / f"{number:04}.root") for number in range(count)]


def resident() -> int:
    """Return the bytes that this process has in memory now, without those that it could give back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def some(frame: Any) -> list[str]:
    numbers = [name for name, type_ in frame.columns.items() if type_.kind == "scalar"]
    vectors = [name for name, type_ in frame.columns.items() if type_.kind == "vector" and type_.dtype]
    return (numbers if len(numbers) >= COLUMNS else [*numbers, *vectors])[:COLUMNS]


def ours(paths: list[str], tree: str, columns: list[str]) -> dict[str, float]:
    """Return seconds until a loader is made, and bytes a file, beyond what the first one took."""
    import warnings

    import rootfeed as rf

    warnings.simplefilter("ignore")
    started = time.perf_counter()
    frame = rf.open(dict.fromkeys(paths, tree))
    opened, before = time.perf_counter(), resident()
    loader = rf.Loader(frame, 100, columns)
    done = time.perf_counter()
    assert loader is not None
    return {"open": opened - started, "all": done - started, "bytes": (resident() - before) / len(paths)}


def uproots(paths: list[str], tree: str) -> dict[str, float]:
    import uproot

    started = time.perf_counter()
    for path in paths:
        with uproot.open(path) as file:
            assert file[tree].num_entries >= 0
    return {"all": time.perf_counter() - started}


def roots(paths: list[str], tree: str) -> dict[str, float]:
    import ROOT

    started = time.perf_counter()
    ROOT.RDataFrame(tree, paths).Count().GetValue()
    return {"all": time.perf_counter() - started}


def away(name: str, round_trip: float) -> dict[str, float]:
    """Return seconds and requests until a loader is made, and until its first batch, over one file."""
    import rootfeed as rf
    from proxy import Proxy
    from realservers import running

    case = CASES[name]
    with running("nginx") as server:
        found: list[dict[str, float]] = []
        for number in range(4):
            file = f"{number}.root"
            shutil.copy(named(name, 1)[0], server.folder / file)
            proxy = Proxy(server.port, True)
            proxy.round_trip = round_trip
            started = time.perf_counter()
            frame = rf.open({server.url(file, proxy.port): case.tree})
            loader = rf.Loader(frame, 8, some(frame))
            made, requests = time.perf_counter(), len(proxy.requests)
            next(iter(loader))
            done = time.perf_counter()
            found.append(
                {
                    "all": made - started,
                    "requests": requests,
                    "batch": done - started,
                    "more": len(proxy.requests) - requests,
                }
            )
    return {"first": found[0]["batch"]} | {
        key: statistics.median(each[key] for each in found[1:]) for key in found[0]
    }


def imported() -> float:
    """Return the seconds of `import rootfeed` in an interpreter that has imported nothing else."""
    timed = "from time import perf_counter as now; start = now(); import rootfeed; print(now() - start)"
    # As installed: pip compiles the modules to bytecode.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


def measured(job: dict[str, Any], cache: str = "off") -> dict[str, float]:
    """Run a measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ROOTFEED_CACHE": cache},
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run(job: dict[str, Any]) -> dict[str, float]:
    what = job["what"]
    if what == "remote":
        return away(job["case"], job["round_trip"])
    paths, tree = named(job["case"], job["files"]), CASES[job["case"]].tree
    if what == "columns":
        import rootfeed as rf

        return dict.fromkeys(some(rf.open({paths[0]: tree})), 0.0)
    if what == "rootfeed":
        return ours(paths, tree, job["columns"])
    return {"uproot": uproots, "ROOT": roots}[what](paths, tree)


def main(
    cases: str = ",".join(CASES),
    files: Annotated[int, typer.Option(help="Of each case; 0 for as many as it has.")] = 0,
    peers: bool = True,
    remote: bool = False,
    round_trip: Annotated[float, typer.Option(help="In milliseconds.")] = 20.0,
    repeat: int = 3,
    job: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print tables: files on the disk, files on a server, and the import."""
    if job:
        print(json.dumps(run(json.loads(job))))
        return
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for name in cases.split(","):
        of = {"case": name, "files": files or CASES[name].files}
        of["columns"] = list(measured({"what": "columns", **of}))
        medians[name] = {
            what: _median([measured({"what": what, **of}) for _ in range(repeat)])
            for what in ("rootfeed", *(("uproot", "ROOT") if peers else ()))
        }
        with tempfile.TemporaryDirectory() as cache:
            warm = {"what": "rootfeed", **of}
            measured(warm, cache)
            medians[name]["again"] = _median([measured(warm, cache) for _ in range(repeat)])
    print("| files | rootfeed | of it `open` | a file | memory a file | again | uproot | ROOT's Count |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, found in medians.items():
        count = files or CASES[name].files
        own = found["rootfeed"]
        others = [f"{found[what]['all']:.1f} s" if what in found else "–" for what in ("uproot", "ROOT")]
        print(
            f"| {count} {name} | {own['all']:.2f} s | {own['open']:.2f} s "
            f"| {own['all'] / count * 1e3:.1f} ms | {own['bytes'] / 1e3:.0f} kB "
            f"| {found['again']['all']:.2f} s "
            f"| {' | '.join(others)} |"
        )
    if remote:
        print(f"\nOne file on nginx, {round_trip:g} ms a round trip\n")
        print("| file | loader made | requests | first batch | requests | the process's first |")
        print("|---|---:|---:|---:|---:|---:|")
        for name in cases.split(","):
            far = measured({"what": "remote", "case": name, "round_trip": round_trip / 1e3})
            print(
                f"| {name} | {far['all']:.2f} s | {far['requests']:.0f} | {far['batch']:.2f} s "
                f"| {far['more']:.0f} | {far['first']:.2f} s |"
            )
    imported()  # which compiles what is not
    print(f"\nimport rootfeed: {statistics.median(imported() for _ in range(5)):.2f} s")


def _median(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.median([each[key] for each in found])) for key in found[0]}


if __name__ == "__main__":
    typer.run(main)
