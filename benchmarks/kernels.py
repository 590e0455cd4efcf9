"""What the hot kernels reach on one core, beside the plain way to do the same.

Run `python benchmarks/kernels.py`. Processor time, median of some repetitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table

from rootfeed import kernels

ROWS, COLUMNS, BATCH = 1_000_000, 21, 1024
JETS, VARIABLES, LENGTH, PARTICLES, JETS_BATCH = 60_000, 12, 128, 40, 512


@njit
def plain_gather(rows, order, out):
    for i in range(order.size):
        for j in range(out.shape[1]):
            out[i, j] = rows[order[i], j]


@njit
def plain_gather_padded(rows, order, out, lengths, mask):
    for i in range(order.size):
        for j in range(out.shape[1]):
            out[i, j] = rows[order[i], j]
        for j in range(mask.shape[1]):
            mask[i, j] = j < lengths[order[i]]


@njit
def plain_pad(columns, lengths, out):
    start = 0
    for i in range(lengths.size):
        for j in range(lengths[i]):
            for c in range(columns.shape[0]):
                out[i, j * columns.shape[0] + c] = columns[c, start + j]
        for j in range(lengths[i] * columns.shape[0], out.shape[1]):
            out[i, j] = 0
        start += lengths[i]


@njit
def plain_pack(columns, out):
    for c in range(columns.shape[0]):
        for i in range(out.shape[0]):
            out[i, c] = columns[c, i]


@njit
def plain_unsplit(raw, elements, out):
    for i in range(out.size):
        word = np.uint64(0)
        for b in range(4):
            word |= np.uint64(raw[b * elements + i]) << np.uint64(8 * b)
        out[i] = word


def seconds(run: Callable[[], object], repeat: int = 5) -> float:
    run()
    taken = []
    for _ in range(repeat):
        begun = time.thread_time()
        run()
        taken.append(time.thread_time() - begun)
    return float(np.median(taken))


def jets() -> list[tuple[str, int, Callable[[], object], Callable[[], object]]]:
    """Return what vectors beside their rows cost, and what rows that hold them padded would."""
    random = np.random.default_rng(1)
    lengths = np.clip(random.poisson(PARTICLES, JETS), 1, LENGTH).astype(np.int32)
    total, element_bytes, width = int(lengths.sum()), 4 * VARIABLES, LENGTH * VARIABLES
    columns = random.integers(0, 2**32, (VARIABLES, total), np.uint32)
    elements, padded = np.empty((total, VARIABLES), np.uint32), np.empty((JETS, width), np.uint32)
    rows = np.empty((JETS, 16), np.uint8)
    starts = (np.cumsum(lengths) - lengths) * element_bytes
    rows.view(np.uint64)[:, 0] = elements.ctypes.data + starts
    rows.view(np.int32)[:, 2] = lengths
    order = random.permutation(JETS).astype(np.uint32)
    offsets, everything, places = np.array([0, 8]), np.empty(0, np.int32), np.arange(VARIABLES)
    where, how_many = np.empty((JETS_BATCH, 8), np.uint8), np.empty((JETS_BATCH, 4), np.uint8)
    padding, marks = np.zeros(4 * width, np.uint8), np.repeat(np.array([1, 0], np.uint8), LENGTH)
    out, mask = np.empty((JETS_BATCH, 4 * width), np.uint8), np.empty((JETS_BATCH, LENGTH), np.uint8)
    whole, whole_mask, sizes = out.reshape(1, -1), mask.reshape(1, -1), np.array([JETS_BATCH])
    vectors = where.view(np.uint64), how_many.view(np.int32), 0, element_bytes, sizes
    batches = range(0, JETS - JETS_BATCH, JETS_BATCH)

    def gather() -> None:
        for start in batches:
            kernels.gather(rows, order[start : start + JETS_BATCH], offsets, (where, how_many))
            kernels.gather_padded(*vectors, padding, marks, whole, whole_mask)

    def gather_plainly() -> None:
        for start in batches:
            some = order[start : start + JETS_BATCH]
            plain_gather_padded(padded, some, out.view(np.uint32), lengths, mask)

    return [
        (
            f"lay {VARIABLES} variables of {PARTICLES} particles side by side, or in padded rows",
            columns.nbytes,
            lambda: kernels.pack(columns, everything, places, elements),
            lambda: plain_pad(columns, lengths, padded),
        ),
        (f"gather them, padded to {LENGTH}", JETS * 4 * width, gather, gather_plainly),
    ]


def main() -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 2**32, (ROWS, COLUMNS), np.uint32)
    rows = words.view(np.uint8)
    columns = np.ascontiguousarray(words.T)
    packed = np.empty_like(words)
    order = np.empty(ROWS, np.uint32)
    kernels.permute(np.uint64(1), np.empty(0, np.uint32), order)
    raw = random.integers(0, 256, 1 << 20, np.uint8)
    elements = len(raw) // 4
    decoded = np.empty(elements, np.uint32)
    reals = random.normal(size=64_000).astype(np.float32)
    offsets, everything = np.zeros(1, np.int64), np.empty(0, np.int32)
    places = np.arange(COLUMNS)
    out = np.empty((BATCH, rows.shape[1]), np.uint8)
    word_out = out.view(np.uint32)
    starts = range(0, ROWS - BATCH, BATCH)

    def gather() -> None:
        for start in starts:
            kernels.gather(rows, order[start : start + BATCH], offsets, (out,))

    def gather_plainly() -> None:
        for start in starts:
            plain_gather(words, order[start : start + BATCH], word_out)

    cases = [
        ("gather random rows of 84 bytes", rows.nbytes, gather, gather_plainly),
        (
            "pack 21 columns of 4 bytes",
            words.nbytes,
            lambda: kernels.pack(columns, everything, places, packed),
            lambda: plain_pack(columns, packed),
        ),
        (
            "join byte planes of 4-byte words",
            len(raw),
            lambda: kernels.unsplit(raw, elements, 0, decoded),
            lambda: plain_unsplit(raw, elements, decoded),
        ),
        (
            "permute 1 million rows",
            order.nbytes,
            lambda: kernels.permute(np.uint64(2), np.empty(0, np.uint32), order),
            lambda: np.random.default_rng(2).permutation(ROWS),
        ),
        (
            "tell whether all of 64 000 float32 are finite",
            reals.nbytes,
            lambda: kernels.all_finite(reals),
            lambda: np.isfinite(reals).all(),
        ),
        *jets(),
    ]
    table = Table("kernel", "GB/s", "plainly, GB/s", "ratio")
    for name, size, run, plain in cases:
        fast, slow = size / seconds(run) / 1e9, size / seconds(plain) / 1e9
        table.add_row(name, f"{fast:.2f}", f"{slow:.2f}", f"{fast / slow:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
