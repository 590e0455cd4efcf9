"""A proxy between a client and a real server, which is as far away, and as faulty, as it is told.

What speaks HTTP is read request by request, so that single answers can be spoilt; anything else is
passed on as it comes.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

__all__ = ["FAULTS", "Proxy", "proxied"]

FAULTS = (429, 500, 503, "reset", "drop", "short", "wrong", "stall", "slow")
"""What can become of an answer: a status; the connection is closed before it, or within its body; fewer
bytes than asked for, and announced; other bytes; none, for as long as the client waits; late."""

_CHUNK_BYTES = 1 << 16
_SLOW_SECONDS = 0.05


@dataclass
class Proxy:
    """A proxy that runs.

    Attributes
    ----------
    port, upstream : int
        Where it listens, and the server.
    is_web : bool
        Whether what passes is HTTP.
    round_trip : float
        Seconds that an answer takes longer; a new connection takes one, too.
    fault : function of the request's number, from 1 on, and its first line; or None
        Returns one of `FAULTS`, or None.
    stalled : bool
        Takes connections and passes nothing on.
    requests : list of str
        First lines and ranges of what was asked. Without HTTP empty.
    moved : int
        Bytes that came from the server.
    open, most_open : int
        Connections now, and at most.
    """

    upstream: int
    is_web: bool
    port: int = 0
    round_trip: float = 0.0
    fault: Callable[[int, str], int | str | None] | None = None
    stalled: bool = False
    requests: list[str] = field(default_factory=list)
    moved: int = 0
    open: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.listen()

    def listen(self) -> None:
        """Take connections (again)."""
        self._run(self._listen())

    def die(self) -> None:
        """Cut all connections, and refuse new ones."""
        self._run(self._die())

    def cut(self) -> None:
        """Cut all connections that there are."""
        self._run(self._cut())

    def reset(self) -> None:
        """Count from 0 again."""
        self.requests.clear()
        self.moved, self.most_open = 0, self.open

    def close(self) -> None:
        """End it."""
        self.die()
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            await asyncio.sleep(self.round_trip)
            if self.stalled:
                await reader.read()
                return
            source, upstream = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._writers.add(upstream)
            if self.is_web:
                while await self._answer(reader, writer, source, upstream):
                    pass
            else:
                await asyncio.gather(
                    self._pass_on(reader, upstream, False),
                    self._pass_on(source, writer, True),
                )
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            for each in (writer, upstream):
                if each is not None:
                    self._writers.discard(each)
                    each.close()
                    each.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_answer: bool
    ) -> None:
        """Pass bytes on; those of answers late."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                at, data = await due.get()
                if (wait := at - self._loop.time()) > 0:
                    await asyncio.sleep(wait)
                while self.stalled:
                    await asyncio.sleep(0.01)
                if not data:
                    target.transport.abort()
                    return
                target.write(data)
                await target.drain()

        sending = asyncio.ensure_future(send())
        try:
            while data := await source.read(_CHUNK_BYTES):
                self.moved += len(data) if is_answer else 0
                due.put_nowait((self._loop.time() + is_answer * self.round_trip, data))
            due.put_nowait((self._loop.time() + is_answer * self.round_trip, b""))
            await sending
        finally:
            sending.cancel()

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """Pass a request and its answer on; return whether another one may follow."""
        asked = await reader.readuntil(b"\r\n\r\n")
        lines = asked.decode("latin-1").split("\r\n")
        ranges = [line for line in lines if line.lower().startswith("range:")]
        self.requests.append(" ".join([lines[0].rpartition(" ")[0], *ranges]))
        number = len(self.requests)
        await asyncio.sleep(self.round_trip)
        fault = self.fault(number, self.requests[-1]) if self.fault is not None else None
        if self.stalled or fault == "stall":
            await reader.read()
            return False
        if fault == "reset":
            return False
        if isinstance(fault, int):
            writer.write(
                f"HTTP/1.1 {fault} {HTTPStatus(fault).phrase}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            await writer.drain()
            return True
        if fault == "slow":
            await asyncio.sleep(_SLOW_SECONDS)
        upstream.write(asked)
        await upstream.drain()
        head = await source.readuntil(b"\r\n\r\n")
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode("latin-1").split("\r\n"))
        }
        status = int(head.split(b" ", 2)[1])
        if asked.startswith(b"HEAD") or status in (204, 304):
            writer.write(head)
            await writer.drain()
            return True
        if fields.get("transfer-encoding") == "chunked":
            writer.write(head)
            while True:
                size = await source.readline()
                body = await source.readexactly(int(size, 16) + 2)
                self.moved += len(body)
                writer.write(size + body)
                if int(size, 16) == 0:
                    break
            await writer.drain()
            return True
        size = int(fields.get("content-length", 0))
        fault = fault if ranges else None  # of a whole file, which is asked for to learn its size
        if fault == "short":
            head = head.replace(f"ength: {size}\r".encode(), f"ength: {size // 2}\r".encode())
        writer.write(head)
        sent, spoilt = 0, random.Random(number).randrange(max(size, 1))
        while sent < size:
            data = await source.read(min(_CHUNK_BYTES, size - sent))
            if not data:
                return False
            self.moved += len(data)
            if fault in ("drop", "short") and sent + len(data) > size // 2:
                writer.write(data[: max(size // 2 - sent, 0)])
                await writer.drain()
                return False
            if fault == "wrong" and sent <= spoilt < sent + len(data):
                data = bytearray(data)
                data[spoilt - sent] ^= 0x55
            writer.write(data)
            await writer.drain()
            sent += len(data)
        await writer.drain()
        return True


@contextmanager
def proxied(upstream: int, is_web: bool) -> Iterator[Proxy]:
    """Run a proxy in front of a server's port."""
    proxy = Proxy(upstream, is_web)
    try:
        yield proxy
    finally:
        with suppress(Exception):
            proxy.close()
