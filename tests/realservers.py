"""Real servers on this machine, each in a process of its own: nginx, XRootD, and rclone (S3 and HTTP).

`scripts/servers` puts their programs where they are looked for here; nothing of it needs root. What
cannot be had is skipped, and the suite says so in one line (`missing`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Server", "missing", "running"]

KINDS = ("nginx", "rclone http", "rclone s3", "xrootd")

_FOLDER = Path(os.environ.get("ROOTFEED_SERVERS", Path(__file__).parents[1] / ".cache" / "servers"))
_START_SECONDS = 20.0
_NOBODY = 65534

# What a client needs beside fsspec.
_CLIENTS = {
    "nginx": "aiohttp",
    "rclone http": "aiohttp",
    "rclone s3": "s3fs",
    "xrootd": "fsspec_xrootd",
}


def program(kind: str) -> str | None:
    """Return the path of a server's program; None where there is none."""
    name = kind.split()[0]
    places = [Path(sys.executable).parent / name]
    places += [_FOLDER / folder / name for folder in ("usr/sbin", "usr/bin")]
    for place in places:
        if os.access(place, os.X_OK):
            return str(place)
    return shutil.which(name)


def missing(kind: str) -> str:
    """Return why a server cannot be tested; empty where it can."""
    if program(kind) is None:
        return f"{kind}: there is no program (scripts/servers fetches it)"
    if importlib.util.find_spec(_CLIENTS[kind]) is None:
        return f"{kind}: {_CLIENTS[kind]} is not installed"
    return ""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Server:
    """A server that runs, and can be killed and started again at the same address.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    folder : Path
        What is served.
    more : str
        Added to its configuration.
    port : int
    options : dict
        What a client is told beside the address: `rootfeed.open(..., storage_options=...)`.
    """

    kind: str
    folder: Path
    work: Path
    more: str = ""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def url(self, name: str, port: int | None = None) -> str:
        """Return the address of a file, perhaps through a proxy at another port."""
        port = self.port if port is None else port
        if self.kind == "xrootd":
            return f"root://127.0.0.1:{port}//{name}"
        if self.kind == "rclone s3":
            return f"s3://data/{name}"
        return f"http://127.0.0.1:{port}/{name}"

    def options(self, port: int | None = None) -> dict[str, Any]:
        """Return what a client is told beside the address."""
        if self.kind != "rclone s3":
            return {}
        port = self.port if port is None else port
        return {"endpoint_url": f"http://127.0.0.1:{port}", "key": "somebody", "secret": "whisper"}

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        path = program(self.kind)
        assert path is not None
        libraries = _FOLDER / "usr/lib/x86_64-linux-gnu"
        environment = os.environ | {"LD_LIBRARY_PATH": str(libraries)} if str(_FOLDER) in path else None
        log = (self.work / "log").open("ab")
        user = _NOBODY if self.kind == "xrootd" and os.getuid() == 0 else None
        with log:
            self.process = subprocess.Popen(
                [path, *self._arguments()], stdout=log, stderr=log, env=environment, user=user, cwd="/"
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        told = (self.work / "log").read_text(errors="replace")[-2000:]
        self.kill()
        raise RuntimeError(f"{self.kind} does not start: {told}")

    def kill(self) -> None:
        """Kill it, without a word to its clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _arguments(self) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        common = ["--addr", address, "--config", "/dev/null", "--dir-cache-time", "0s"]
        if self.kind == "rclone http":
            return ["serve", "http", str(self.folder), *common]
        if self.kind == "rclone s3":
            key = ["--auth-key", "somebody,whisper"]
            parent = str(self.folder.parent)  # its folders are buckets
            return ["serve", "s3", parent, *common, *key]
        configuration = self.work / "configuration"
        text = _NGINX if self.kind == "nginx" else _XROOTD
        configuration.write_text(text.format(**vars(self)))
        if self.kind == "nginx":
            return ["-p", str(self.work), "-c", str(configuration)]
        return ["-c", str(configuration), "-n", "test"]


# One process, so that killing it kills all of it.
_NGINX = """
daemon off;
master_process off;
pid {work}/pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {work}/t1;
    proxy_temp_path {work}/t2;
    fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4;
    scgi_temp_path {work}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        autoindex on;
        {more}
    }}
}}
"""

_XROOTD = """
xrd.port {port}
xrd.network nodnr
oss.localroot {folder}
all.export /
all.adminpath {work}
all.pidpath {work}
{more}
"""


@contextmanager
def running(kind: str, more: Callable[[Path], str] | None = None) -> Iterator[Server]:
    """Run a server over an empty folder, which whoever asked fills.

    `more` returns what is added to its configuration, and is given a folder that the server may read.
    """
    # Not pytest's folders, which nobody else may enter: XRootD does not run as root.
    top = Path(tempfile.mkdtemp(prefix="rootfeed-server-", dir="/tmp"))
    folder, work = top / "served" / "data", top / "work"
    folder.mkdir(parents=True)
    work.mkdir()
    if kind == "xrootd" and os.getuid() == 0:
        top.chmod(0o755)
        os.chown(work, _NOBODY, _NOBODY)
    server = Server(kind, folder, work, more(work) if more is not None else "")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(top, ignore_errors=True)
