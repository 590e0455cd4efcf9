"""Whether a web server's answer holds the bytes that were asked for.

fsspec takes whatever comes; here an answer is looked at before its body is read.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from rootfeed.errors import ChangedFileError, UnreachableError

__all__ = ["no_ranges", "patient", "range_options", "web_page"]

_CONNECT_SECONDS = 15
_SILENCE_SECONDS = 60
"""Of a connection; how long a body takes in all does not matter."""

_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")


def is_web(filesystem: Any) -> bool:
    """Tell whether a file system of fsspec speaks HTTP itself."""
    module = sys.modules.get("fsspec.implementations.http")  # which imports aiohttp
    return module is not None and isinstance(filesystem, module.HTTPFileSystem)


def patient(filesystem: Any) -> Any:
    """Return a file system that gives up when a server is silent, not when much takes long to come."""
    if not is_web(filesystem) or "timeout" in {*filesystem.kwargs, *filesystem.client_kwargs}:
        return filesystem  # with the user's own limits, from fsspec's configuration
    import aiohttp

    timeout = aiohttp.ClientTimeout(None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    client = {**filesystem.client_kwargs, "timeout": timeout}
    options = {**filesystem.storage_options, "client_kwargs": client}
    return type(filesystem)(*filesystem.storage_args, **options)


def range_options(filesystem: Any, url: str, file_bytes: int) -> dict[str, Any]:
    """Return what requests for parts of a file are made with: nothing unless they speak HTTP."""
    if not is_web(filesystem):
        return {}

    async def check(response: Any) -> None:
        try:
            response.raise_for_status()
            _check(url, file_bytes, response)
        except BaseException:
            response.close()  # without the body, which may be large
            raise

    # What a server compresses on the way is no range of the file any more.
    headers = {**filesystem.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
    return {"headers": headers, "raise_for_status": check}


def no_ranges(url: str) -> UnreachableError:
    """Return the error about a server that sends whole files only."""
    return UnreachableError(
        f"{url} cannot be read in parts: its server sends the whole file for each request (it has no "
        f"range requests). Download it first, or name it as 'simplecache::{url}', of which fsspec keeps "
        "a copy."
    )


def web_page(url: str) -> UnreachableError:
    """Return the error about a server that says something instead of giving the file."""
    return UnreachableError(
        f"{url} cannot be read: its server answers with a web page instead of the file. Check the "
        "address, and whether it asks you to log in."
    )


def _check(url: str, file_bytes: int, response: Any) -> None:
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", response.request_info.headers.get("Range", ""))
    if not asked:
        return
    start, last = int(asked[1]), min(int(asked[2]), file_bytes - 1)
    if response.status != 206:
        if response.content_type == "text/html":
            raise web_page(url)
        if (start, last) != (0, file_bytes - 1):
            raise no_ranges(url)
        return
    said = response.headers.get("Content-Range", "")
    found = _CONTENT_RANGE.fullmatch(said.strip())
    if not found:
        return  # the length of what comes is compared in any case
    if found[3] not in ("*", f"{file_bytes}"):
        raise ChangedFileError(
            f"{url} was changed while it was being read: it had {file_bytes} bytes when it was opened "
            f"and has {found[3]} now. Open it again."
        )
    if int(found[1]) != start or int(found[2]) > last:
        raise OSError(f"it was asked for the bytes {start}-{last} and answered with {said!r}")
