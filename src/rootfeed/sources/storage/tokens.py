"""The bearer token that a user has: by WLCG's rules for finding it, as XRootD's client does."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

__all__ = ["bearer_token", "may_send"]

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def bearer_token() -> str | None:
    """Return the token in ``BEARER_TOKEN``, or in the file that the environment or a custom names.

    It is looked for each time: tokens last an hour, and something else renews their files.
    """
    if token := os.environ.get("BEARER_TOKEN", "").strip():
        return token
    if given := os.environ.get("BEARER_TOKEN_FILE"):
        return _in_file(given)
    name = f"bt_u{os.geteuid()}" if hasattr(os, "geteuid") else ""
    folder = os.environ.get("XDG_RUNTIME_DIR")
    found = _in_file(os.path.join(folder, name)) if folder and name else None
    return found or (_in_file(f"/tmp/{name}") if name else None)


def may_send(url: str) -> bool:
    """Tell whether nobody on the way can read a token: by https, or within this machine."""
    parts = urlsplit(url)
    return parts.scheme.lower() == "https" or parts.hostname in _THIS_MACHINE


def _in_file(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, UnicodeError):
        return None
