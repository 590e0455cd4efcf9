"""S3: limits of its client, which has many layers that try again."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Any

from rootfeed.sources.storage.servers import Server

__all__ = ["S3Server"]

_SHARES = 3
_CONNECTIONS = 16


class S3Server(Server):
    """A file in a bucket."""

    def __init__(self, url: str, options: Mapping[str, Any], timeout: float, stopped: Event) -> None:
        super().__init__(url, options, timeout, stopped)
        if hasattr(self.filesystem, "retries"):
            self.filesystem.retries = 1  # rootfeed tries again itself, and knows until when

    @staticmethod
    def defaults(timeout: float) -> dict[str, Any]:
        """Return limits; what was listed is not taken for what is there."""
        return {
            "config_kwargs": {
                "connect_timeout": timeout / _SHARES,
                "read_timeout": timeout / _SHARES,
                "retries": {"total_max_attempts": 1},
                "max_pool_connections": _CONNECTIONS,
            },
            "use_listings_cache": False,
        }
