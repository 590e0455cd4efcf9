"""Files behind any protocol of fsspec (https, s3, root, ...), on one server or several."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from itertools import pairwise
from threading import Event
from typing import Any

import numpy as np

from rootfeed.errors import RootfeedError, UnreachableError
from rootfeed.schema import Version
from rootfeed.sources.failures import is_transient
from rootfeed.sources.storage.address import Address
from rootfeed.sources.storage.base import HEAD_BYTES, Bytes, Span, changed, too_short
from rootfeed.sources.storage.reaching import Servers
from rootfeed.sources.storage.retries import Patience
from rootfeed.sources.storage.servers import Server, tag_of

__all__ = ["RemoteStorage"]

Content = bytes | memoryview | Exception

_VAIN_SHARE = 0.125
"""Of what is wanted, how much is fetched in vain at most, so that near ranges are one."""

_SMALL_BYTES = 4096
"""Of these, as many may be in any case."""

_REQUEST_BYTES = 8 << 20
"""Ranges are not joined to larger ones, so that several run at a time."""

_ASKED_AGAIN = 3
"""How often a server is asked whether it stays with a version that is another one."""


class RemoteStorage:
    """A file on a server; ranges are fetched together.

    What fails for a passing reason is asked for again. Of a known version, nothing is asked for when it
    is opened: what comes of a web server tells its version, and `verify` asks the others.

    Parameters
    ----------
    address : Address
    version : Version, optional
        What it has to be.
    stopped : threading.Event, optional
        When it is set, the server is not waited for any more.

    Attributes
    ----------
    tag : str
        What the server calls the file's version.
    """

    def __init__(
        self, address: Address, version: Version | None = None, stopped: Event | None = None
    ) -> None:
        self.path = address.name
        self._servers = Servers(address, stopped)
        self._known = version
        self._starts: list[int] = []
        self._contents: dict[int, tuple[int, Content]] = {}
        self._tags: set[str] | None = set()
        self._is_verified = False  # and nothing was fetched since
        self.file_bytes, self.tag = (version.file_bytes, version.tag) if version else self._ask()

    @property
    def version(self) -> Version:
        """What the file was when it was opened; costs a request unless its head was prepared."""
        return self._known or Version(self.file_bytes, self._head(), self.tag)

    @property
    def evidence(self) -> tuple[int | str | bytes, ...]:
        """What the server calls this version, and its size; empty where it calls it nothing."""
        return (self.tag, self.file_bytes) if self.tag else ()

    def prepare(self, ranges: Iterable[Span]) -> None:
        """Fetch the ranges at once, near ones as one; they are kept until the file is closed."""
        ranges = sorted([(0, HEAD_BYTES), *ranges])
        self.bring(ranges)
        if self._known is not None and self._head() != self._known.head:
            self.forget()  # it may have been spoilt on its way
            self.bring(ranges)
            self._compare_head(self._known)

    def bring(self, ranges: Sequence[Span]) -> None:
        """Get those ranges (offset, size) that are not there yet."""
        missing = [
            (start, stop)
            for start, size in ranges
            # Some servers answer with an error to a range that ends after the file: `read_into` tells.
            if start < (stop := min(start + size, self.file_bytes)) and not self._has(start, stop)
        ]
        spans = _joined(missing, self._servers.gap_bytes)
        for (start, stop), content in zip(spans, self._fetch(spans), strict=True):
            self._hold(start, stop, content)

    def _hold(self, start: int, stop: int, content: Content) -> None:
        """Note what a range holds, until it is forgotten."""
        if start not in self._contents:
            insort(self._starts, start)
        self._contents[start] = stop, content

    def read_into(self, offset: int, out: Bytes) -> None:
        """Copy a range that was prepared, or fetch it."""
        stop = offset + len(out)
        if stop > self.file_bytes:
            got = max(0, self.file_bytes - offset)
            raise too_short(self.path, self.file_bytes, offset, len(out), got)
        out[:] = np.frombuffer(self.content(offset, stop), np.uint8)

    def verify(self) -> None:
        """Ask again for size and tag, unless all that came told it; without a tag, compare the head."""
        version = self.version
        if self._is_verified or (version.tag and self._tags == {version.tag}):
            return
        file_bytes, tag = self._ask()
        # Several servers behind one address can have tags of their own: those tell no versions.
        is_steady = tag == version.tag or all(self._ask()[1] == tag for _ in range(_ASKED_AGAIN))
        self._compare(file_bytes, tag if is_steady else version.tag)
        if not tag or not is_steady or (self._tags or set()) - {tag}:
            self.forget()
            self._compare_head(version)
        self._is_verified = True

    def keep(self) -> None:
        """Keep nothing."""

    def forget(self) -> bool:
        """Let go of what was fetched: on its way it may have been spoilt."""
        self._starts, self._contents = [], {}
        return True

    def close(self) -> None:
        """Forget what was fetched."""
        self.forget()

    def _ask(self) -> tuple[int, str]:
        """Return the file's size and what stands for its version."""
        return self._told(self._servers.persist(lambda server, patience: server.info(patience)))

    def _told(self, info: dict[str, Any]) -> tuple[int, str]:
        size = info.get("size")
        if size is None:
            raise UnreachableError(
                f"{self.path} cannot be read in parts: its server does not tell its size. "
                "Download it first."
            )
        # Replicas have tags of their own, which tell no versions.
        return int(size), "" if self._servers.several else tag_of(info)

    def _compare(self, file_bytes: int, tag: str) -> None:
        version = self.version
        if (file_bytes, tag) != (version.file_bytes, version.tag):
            raise changed(self.path, version, version._replace(file_bytes=file_bytes, tag=tag))

    def _compare_head(self, version: Version) -> None:
        if (head := self._head()) != version.head:
            raise changed(self.path, version, version._replace(head=head))

    def _head(self) -> bytes:
        return bytes(self.content(0, min(HEAD_BYTES, self.file_bytes)))

    def _find(self, start: int, stop: int) -> tuple[int, Content] | None:
        """Return what was fetched and holds a range, and where it begins."""
        place = bisect_right(self._starts, start)
        for first in reversed(self._starts[max(place - 2, 0) : place]):
            end, content = self._contents[first]
            if stop <= end:
                return first, content
        return None

    def _has(self, start: int, stop: int) -> bool:
        found = self._find(start, stop)
        return found is not None and not isinstance(found[1], Exception)

    def content(self, start: int, stop: int) -> bytes | memoryview:
        """Return the bytes ``[start, stop)``, which are asked for unless they are there."""
        if start == stop:
            return b""
        found = self._find(start, stop)
        first, content = found if found is not None else (start, self._fetch([(start, stop)])[0])
        if isinstance(content, Exception):
            raise self._meant(content)
        return memoryview(content)[start - first : stop - first]

    def _fetch(self, spans: Sequence[Span]) -> list[Content]:
        """Return what each span (start, stop) holds, or what it raised at last."""
        contents: list[Content] = [b""] * len(spans)
        missing = list(range(len(spans)))

        def ask(server: Server, patience: Patience) -> None:
            nonlocal missing
            asked = [spans[number] for number in missing]
            answer = server.fetch(asked, self.file_bytes, patience)
            self._note(answer.tags)
            for number, (start, stop), content in zip(missing, asked, answer.contents, strict=True):
                contents[number] = self._checked(content, stop - start)
            failures = {
                number: content
                for number in missing
                if isinstance(content := contents[number], Exception)
                and (self._servers.several or is_transient(content))
            }
            if len(failures) < len(missing):
                patience.progress()
            missing = list(failures)
            for failure in failures.values():
                raise failure

        if not spans:
            return contents
        self._is_verified = False
        try:
            self._servers.persist(ask)
        except RootfeedError as error:
            for number in missing:
                contents[number] = error
        return contents

    def _checked(self, content: Content, wanted: int) -> Content:
        if isinstance(content, Exception) or len(content) == wanted:
            return content
        if self._known is not None and (told := self._look()) is not None:
            self._compare(*told)
        return OSError(f"{len(content)} bytes came of {wanted} that were asked for")

    def _look(self) -> tuple[int, str] | None:
        """Return the file's size and tag where the server tells them at once."""
        return self._servers.once(lambda server, patience: self._told(server.info(patience)))

    def _note(self, tags: set[str] | None) -> None:
        """Keep what answers said of the file's version: of no use where some did not."""
        self._tags = None if tags is None or self._tags is None else self._tags | tags

    def _meant(self, error: Exception) -> RootfeedError:
        """Return what an exception means: perhaps that the file is another one by now."""
        if not isinstance(error, RootfeedError):
            found = self._servers.meaning(error)
            found.__cause__ = self._servers.address.without_secrets(error)
            error = found
        if self._known is not None and type(error) is UnreachableError and (told := self._look()):
            self._compare(*told)
        return error


def _joined(spans: Iterable[Span], gap_bytes: int) -> list[Span]:
    """Join near spans, which are in order, as long as little is fetched in vain."""
    spans = list(spans)
    wanted = sum(stop - start for start, stop in spans)
    gaps = sorted(
        (max(start - before, 0), number)
        for number, ((_, before), (start, _)) in enumerate(pairwise(spans), 1)
        if start - before <= gap_bytes
    )
    closed, vain = set(), 0
    for gap, number in gaps:
        vain += gap
        if vain > max(wanted * _VAIN_SHARE, _SMALL_BYTES):
            break
        closed.add(number)
    joined: list[Span] = []
    for number, (start, stop) in enumerate(spans):
        overlaps = bool(joined) and start < joined[-1][1]
        if overlaps or (number in closed and stop - joined[-1][0] <= _REQUEST_BYTES):
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined
