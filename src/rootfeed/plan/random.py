"""Keys of random streams: counter-based, never from global state."""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["random_key"]


def random_key(seed: int, purpose: str, *identity: int | bytes) -> np.uint64:
    """Return the key of one stream of random numbers.

    Streams are independent for different seeds, purposes or identities, and the same on every machine
    and in every version of NumPy: BLAKE2b (RFC 7693) of the arguments.

    Parameters
    ----------
    seed : int
        The user's seed, of any size.
    purpose : str
        What the numbers decide, such as ``"split"``.
    *identity : int or bytes
        What they decide it for: epoch, segment, number of a step, file identity.

    Returns
    -------
    numpy.uint64
    """
    digest = hashlib.blake2b(digest_size=8)
    for item in (seed, purpose.encode(), *identity):
        data = item if isinstance(item, bytes) else str(item).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return np.uint64(int.from_bytes(digest.digest(), "little"))
