"""A web server on this machine that fails as it is told."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

__all__ = ["FAILURES", "Web", "serve"]

#: What a server can do wrong with a request: each is a function of the handler, the file and a range.
FAILURES: dict[str, Callable[[Any, bytes, tuple[int, int]], None]] = {}


def failure(function: Callable[[Any, bytes, tuple[int, int]], None]) -> Any:
    FAILURES[function.__name__] = function
    return function


@failure
def reset(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


@failure
def drop(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Close the connection in the middle of the body."""
    handler.send_range(data, span, data[slice(*span)][: (span[1] - span[0]) // 2])
    handler.close_connection = True


@failure
def short(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Send, and announce, fewer bytes than were asked for."""
    handler.send_range(data, (span[0], span[0] + (span[1] - span[0]) // 2))


@failure
def shifted(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Send other bytes of the same number, and say so."""
    handler.send_range(data, (span[0] + 1, span[1] + 1))


@failure
def whole(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Send the whole file, as a server without range requests."""
    handler.send(HTTPStatus.OK, data)


@failure
def page(handler: Any, data: bytes, span: tuple[int, int]) -> None:
    """Send a page to log in."""
    text = b"<!DOCTYPE html><html>" + b"Who are you? " * 100
    handler.send(HTTPStatus.OK, text, {"Content-Type": "text/html"})


@dataclass
class Web:
    """What is served, and how.

    Attributes
    ----------
    url : str
    files : dict of str to bytes
    tags : bool
        Whether files have an ETag.
    tag : function of (number, ETag), or None
        Returns what is said instead of an ETag.
    fails : function of (number, method), or None
        Returns a status, the name of a failure, or None; asked before each request.
    token : str
        What a request must bring along, as a bearer; empty where anybody may ask.
    asked : list of (method, path, range)
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tags: bool = True
    tag: Callable[[int, str], str] | None = None
    fails: Callable[[int, str], int | str | None] | None = None
    token: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    before: Callable[[int], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    handler: Any = None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    web: Web

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        web = self.web
        wanted = self.headers.get("Range", "")
        with web.lock:
            web.asked.append((self.command, self.path, wanted))
            number = len(web.asked)
            if web.before is not None:
                web.before(number)
            data = web.files.get(self.path.partition("?")[0])
            wrong = web.fails(number, self.command) if web.fails is not None else None
        if web.token and self.headers.get("Authorization") != f"Bearer {web.token}":
            wrong = HTTPStatus.UNAUTHORIZED.value
        if isinstance(wrong, int) or data is None:
            self.send(HTTPStatus(wrong if isinstance(wrong, int) else 404), b"")
            return
        if "," in wanted and wrong is None:
            self.send(HTTPStatus.OK, data)  # as a server that gives one range in a request
            return
        first, _, last = wanted.removeprefix("bytes=").partition(",")[0].partition("-")
        span = (int(first or 0), min(int(last or len(data)) + 1, len(data)))
        if wrong is not None and (wanted or wrong == "reset"):
            FAILURES[wrong](self, data, span)
        elif wanted and span[0] >= len(data):
            self.send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"")
        elif wanted:
            self.send_range(data, span)
        else:
            self.send(HTTPStatus.OK, data)

    def send_range(self, data: bytes, span: tuple[int, int], body: bytes | None = None) -> None:
        start, stop = span
        found = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
        self.send(HTTPStatus.PARTIAL_CONTENT, data[start:stop], found, body)

    def send(
        self,
        status: HTTPStatus,
        data: bytes,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        self.send_response(status)
        whole = self.web.files.get(self.path.partition("?")[0], b"")
        tag = f'"{hash(whole)}"'
        if self.web.tag is not None:
            tag = self.web.tag(len(self.web.asked), tag)
        given = {"ETag": tag} if self.web.tags else {}
        for name, value in {**given, "Content-Length": f"{len(data)}", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data if body is None else body)


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True  # connections stay open, as they do on real servers

    def handle_error(self, *_: object) -> None:
        """Say nothing of connections that a client ends."""


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Web]:
    """Serve some files, by path."""
    web = Web(files=dict(files))
    web.handler = type("Handler", (_Handler,), {"web": web})
    server = _Server(("127.0.0.1", 0), web.handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
