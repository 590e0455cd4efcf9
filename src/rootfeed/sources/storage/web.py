"""Web servers: many ranges in one request where they can, and answers that are looked at.

fsspec takes whatever comes; here an answer is looked at before its body is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from rootfeed.errors import ChangedFileError, UnreachableError
from rootfeed.sources.failures import is_denied
from rootfeed.sources.storage.address import shown
from rootfeed.sources.storage.base import Span
from rootfeed.sources.storage.retries import Patience
from rootfeed.sources.storage.servers import Answer, Server, fsspec, tag_of
from rootfeed.sources.storage.tokens import bearer_token, may_send

__all__ = ["WebServer", "web_page"]

_SHARES = 3
_CONNECTIONS = 16
"""To one server, of one process."""

_RANGES = 64
"""In one request: its head must not become too long for a server."""

_REQUEST_BYTES = 8 << 20
"""Larger requests are divided, so that several run at a time."""

_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")
_PART_RANGE = re.compile(rb"content-range:\s*bytes\s+(\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)

Found = TypeVar("Found")

_Part = tuple[int, bytes | str, bytes | memoryview]
"""Where a part begins, the file's size as the server says it, and its bytes."""

_one_by_one: set[str] = set()
_together: set[str] = set()
"""Servers that give one range in a request, and those that have given several."""

_closed: set[str] = set()
"""Servers that have refused who did not show a token."""


class _OneByOneError(Exception):
    """A server does not give several ranges in one request."""


class WebServer(Server):
    """A file on a web server."""

    gap_bytes = 512  # a range costs a head of some lines

    def __init__(self, url: str, options: Mapping[str, Any], timeout: float, stopped: Event) -> None:
        super().__init__(url, options, timeout, stopped)
        self._host = urlsplit(url).netloc
        self._is_cautious = False
        ours = self.defaults(timeout).get("client_kwargs", {}).get("timeout")
        client = options.get("client_kwargs", {})
        self._is_limited = client.get("timeout") == ours
        headers = {**client.get("headers", {}), **options.get("headers", {})}
        self._options, self._token = options, ""
        self._has_own = (
            "auth" in client or "auth" in options or urlsplit(url).username is not None
            or "authorization" in map(str.lower, headers)
        )  # fmt: skip
        if self._host in _closed:
            self._show_token()

    @staticmethod
    def defaults(timeout: float) -> dict[str, Any]:
        """Return limits: of silence, not of how long a body takes in all; and of connections."""
        try:
            import aiohttp
        except ImportError:  # what is missing is said by whoever needs it
            return {}
        seconds = timeout / _SHARES
        limits = aiohttp.ClientTimeout(None, sock_connect=seconds, sock_read=seconds)
        return {"client_kwargs": {"timeout": limits}, "get_client": _client}

    def info(self, patience: Patience) -> dict[str, Any]:
        """Return what the server tells of the file, perhaps when it has seen the user's token."""
        return self._admitted(lambda: super(WebServer, self).info(patience))

    def glob(self, folder: str, patience: Patience) -> list[str]:
        """Return the files of this name, perhaps when the server has seen the user's token."""
        return self._admitted(lambda: super(WebServer, self).glob(folder, patience))

    def _admitted(self, attempt: Callable[[], Found]) -> Found:
        try:
            return attempt()
        except Exception as error:
            if not is_denied(error) or not self._show_token():
                raise
        return attempt()

    def _show_token(self) -> bool:
        """Send the user's token from now on; return whether there is one that was not sent before.

        Only to servers that refuse without one: a token is worth something.
        """
        token = None if self._has_own or not may_send(self.url) else bearer_token()
        if not token or token == self._token:
            return False
        self._token = token
        headers = {**self._options.get("headers", {}), "Authorization": f"Bearer {token}"}
        options = {**self._options, "headers": headers}
        self.filesystem, self.name = fsspec().core.url_to_fs(self.url, **options)
        _closed.add(self._host)
        return True

    def fetch(self, spans: Sequence[Span], file_bytes: int, patience: Patience) -> Answer:
        """Return what each span (start, stop) holds, with what was said of the file's version."""
        import asyncio  # which came with fsspec

        contents: list[bytes | memoryview | Exception] = [b""] * len(spans)
        tags: set[str] = set()

        async def fetch() -> None:
            missing = list(range(len(spans)))
            while missing:
                alone = self._host in _one_by_one or self._is_cautious
                groups = list(_grouped(spans, missing, 1 if alone else _RANGES))
                answers = await asyncio.gather(
                    *(
                        self._ask([spans[each] for each in group], file_bytes, patience)
                        for group in groups
                    ),
                    return_exceptions=True,
                )
                missing = []
                refused = [each for each in answers if isinstance(each, Exception) and is_denied(each)]
                is_known = bool(refused) and self._show_token()
                for group, answer in zip(groups, answers, strict=True):
                    if isinstance(answer, _OneByOneError) or (is_known and answer in refused):
                        missing += group
                    elif isinstance(answer, Exception):
                        # Some servers fail where several ranges are asked for: the next try shows it.
                        self._is_cautious |= len(group) > 1 and self._host not in _together
                        for each in group:
                            contents[each] = answer
                    elif isinstance(answer, BaseException):
                        raise answer
                    else:
                        tags.add(answer[1])
                        if len(group) > 1:
                            _together.add(self._host)
                        elif self._is_cautious and self._host not in _together:
                            _one_by_one.add(self._host)
                        for each, content in zip(group, answer[0], strict=True):
                            contents[each] = content

        self.wait(fetch(), None)
        return Answer(contents, tags)

    async def _ask(
        self, spans: Sequence[Span], file_bytes: int, patience: Patience
    ) -> tuple[list[bytes | memoryview], str]:
        import aiohttp

        options = dict(self.filesystem.kwargs)
        ranges = ",".join(f"{start}-{stop - 1}" for start, stop in spans)
        # What a server compresses on the way is no range of the file any more.
        options["headers"] = {
            **options.get("headers", {}), "Accept-Encoding": "identity", "Range": f"bytes={ranges}",
        }  # fmt: skip
        options.pop("raise_for_status", None)
        if self._is_limited:
            silence = patience.silence
            options["timeout"] = aiohttp.ClientTimeout(None, sock_connect=silence, sock_read=silence)
        session = await self.filesystem.set_session()
        response = await session.get(self.filesystem.encode_url(self.name), **options)
        try:
            # Before the body is read, which may be large.
            if len(spans) > 1 and response.status in (400, 416, 501):
                self._ask_one_by_one()
            response.raise_for_status()
            if response.status != 206:
                self._check_whole(response, spans, file_bytes)
                return [await response.read()], tag_of(response.headers)
            if response.content_type == "multipart/byteranges":
                parts = _parts(await response.read())
            else:
                start, size = self._range_of(response, file_bytes)
                body = await response.read()
                parts = [(spans[0][0] if start is None else start, size, body)]
        finally:
            response.close()  # a body that was not read is not waited for; else nothing is left to close
        for _, size, _ in parts:
            self._check_size(size, file_bytes)
        if len(parts) < len(spans) and not all(_within(span, parts) for span in spans):
            self._ask_one_by_one()
        return [self._cut(span, parts) for span in spans], tag_of(response.headers)

    def _ask_one_by_one(self) -> NoReturn:
        _one_by_one.add(self._host)
        raise _OneByOneError

    def _check_whole(self, response: Any, spans: Sequence[Span], file_bytes: int) -> None:
        """Refuse a whole file where parts were asked for."""
        if response.content_type == "text/html":
            raise web_page(self.url)
        if len(spans) > 1:
            self._ask_one_by_one()
        if spans[0] != (0, file_bytes):
            raise _no_ranges(self.url)

    def _range_of(self, response: Any, file_bytes: int) -> tuple[int | None, bytes | str]:
        """Return where an answer begins, and the file's size; None where it does not say."""
        said = response.headers.get("Content-Range", "")
        found = _CONTENT_RANGE.fullmatch(said.strip())
        if not found:
            return None, "*"  # the length of what comes is compared in any case
        self._check_size(found[3], file_bytes)
        return int(found[1]), found[3]

    def _check_size(self, said: bytes | str, file_bytes: int) -> None:
        size = said.decode() if isinstance(said, bytes) else said
        if size not in ("*", f"{file_bytes}"):
            raise ChangedFileError(
                f"{shown(self.url)} was changed while it was being read: it had {file_bytes} bytes when "
                f"it was opened and has {size} now. Open it again."
            )

    def _cut(self, span: Span, parts: Sequence[_Part]) -> bytes | memoryview:
        start, stop = span
        for first, _, data in parts:
            if first <= start and stop <= first + len(data):
                return data[start - first : stop - first]
            if first == start:
                raise OSError(f"{len(data)} bytes came of {stop - start} that were asked for")
        got = ", ".join(f"{first}-{first + len(data) - 1}" for first, _, data in parts)
        raise OSError(
            f"it was asked for the bytes {start}-{stop - 1} and answered with 'bytes {got[:99]}'"
        )


async def _client(**options: Any) -> Any:
    """Return a session of aiohttp that opens a few connections to a server, and no more."""
    import aiohttp

    options.setdefault("connector", aiohttp.TCPConnector(limit_per_host=_CONNECTIONS))
    return aiohttp.ClientSession(**options)


def _grouped(spans: Sequence[Span], numbers: Sequence[int], most: int) -> Iterator[list[int]]:
    """Divide spans into requests: of so many ranges at most, and of some megabytes."""
    group: list[int] = []
    size = 0
    for number in numbers:
        start, stop = spans[number]
        if group and (len(group) == most or size + stop - start > _REQUEST_BYTES):
            yield group
            group, size = [], 0
        group.append(number)
        size += stop - start
    if group:
        yield group


def _parts(body: bytes) -> list[_Part]:
    """Return the parts of a multipart/byteranges (RFC 9110, 14.6): each begins with lines of its own."""
    parts: list[_Part] = []
    view, place = memoryview(body), 0
    while (end := body.find(b"\r\n\r\n", place)) >= 0:
        found = _PART_RANGE.search(body, place, end + 2)
        if found is None:
            break
        first, last = int(found[1]), int(found[2])
        start, stop = end + 4, end + 5 + last - first
        if last < first or body[stop : stop + 4] != b"\r\n--":
            raise OSError("its answer of several parts is cut or spoilt")
        parts.append((first, found[3], view[start:stop]))
        place = stop
    if not parts:
        raise OSError("its answer of several parts has none")
    return parts


def _within(span: Span, parts: Sequence[_Part]) -> bool:
    start, stop = span
    return any(first <= start and stop <= first + len(data) for first, _, data in parts)


def _no_ranges(url: str) -> UnreachableError:
    """Return the error about a server that sends whole files only."""
    return UnreachableError(
        f"{shown(url)} cannot be read in parts: its server sends the whole file for each request (it "
        f"has no range requests). Download it first, or name it as 'simplecache::{shown(url)}', of "
        "which fsspec keeps a copy."
    )


def web_page(url: str) -> UnreachableError:
    """Return the error about a server that says something instead of giving the file."""
    return UnreachableError(
        f"{shown(url)} cannot be read: its server answers with a web page instead of the file. Check "
        "the address, and whether it asks you to log in."
    )
