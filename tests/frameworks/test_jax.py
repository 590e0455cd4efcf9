"""Batches for JAX: on devices, in one shape, and of several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from processes import run
from rootfeed.errors import ArgumentError

jax = pytest.importorskip("jax")
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402  # jax may be missing

from rootfeed.formats.jax import ToJax  # noqa: E402

ENTRIES = 1300
BATCH = 64  # 21 batches, the last of 20 rows


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id", "half"], "target": "label", "seed": 3}
    return rf.Loader(frame, BATCH, **(settings | options))


def test_arrays_are_those_that_were_gathered(frame: rf.Frame) -> None:
    # Batches of odd sizes, too: there are gaps between them.
    for size in (64, 50):
        loader = rf.Loader(frame, size, ["id", "half"], "label", seed=3)
        kept = list(loader)
        for batch, arrays in zip(loader.jax()._format(iter(kept)), kept, strict=True):
            for array, gathered in zip(batch, arrays, strict=True):
                assert array.unsafe_buffer_pointer() == gathered.ctypes.data


def test_memory_is_not_used_again_while_jax_reads_it(frame: rf.Frame) -> None:
    reference = [np.asarray(x, np.float64).sum() for x, _ in make(frame)]

    @jax.jit
    def slow(x: Any) -> Any:
        wide = jax.numpy.broadcast_to(x[:, :1], (len(x), 512))
        for _ in range(3):
            wide = wide @ jax.numpy.eye(512)
        return wide[:, 0].sum() + x[:, 1].sum()

    # Nobody waits for a result before the next batches come.
    for _ in range(3):
        loader = make(frame)
        found = [slow(x) for x, _ in loader.jax()]
        assert np.allclose([float(each) for each in found], reference, rtol=1e-5)


def test_batches_on_a_device(frame: rf.Frame) -> None:
    device = jax.devices()[2]
    for (x, y), (a, b) in zip(make(frame).jax(device), make(frame), strict=True):
        assert x.devices() == y.devices() == {device}
        assert np.array_equal(x, a)
        assert np.array_equal(y, b)
    x, _ = next(iter(make(frame).jax()))
    assert x.devices() == {jax.devices()[0]}


@pytest.mark.parametrize("prefetch", [0, 1, 2, 30])
def test_batches_that_are_copied_ahead(
    frame: rf.Frame, monkeypatch: pytest.MonkeyPatch, prefetch: int
) -> None:
    # As on an accelerator: the format asks for some more before it gives the first.
    monkeypatch.setattr(ToJax, "_copies", property(lambda _: True))
    reference = make(frame)
    whole = [x[:, 0] for _ in range(2) for x, _ in reference]
    loader = make(frame)
    iterator = iter(loader.jax(prefetch=prefetch))
    for expected in whole[:7]:
        assert np.array_equal(next(iterator)[0][:, 0], expected)
    # What is ahead was not received.
    other = make(frame)
    other.load_state_dict(loader.state_dict())
    rest = [np.asarray(x)[:, 0] for x, _ in other.jax(prefetch=prefetch)]
    assert len(rest) == 14
    for found, expected in zip(rest, whole[7:], strict=False):
        assert np.array_equal(found, expected)
    for found, expected in zip(iterator, whole[7:21], strict=True):
        assert np.array_equal(found[0][:, 0], expected)


def test_all_batches_have_one_shape(frame: rf.Frame) -> None:
    compiled = []

    @jax.jit
    def total(x: Any, y: Any, w: Any, mask: Any) -> Any:
        compiled.append(x.shape)
        return (x[:, 0] * mask).sum(), (x[:, 0] * ~mask).sum(), w.sum()

    loader = make(frame, weights="weight", features=["id"])
    sums, weights, rows = 0.0, 0.0, 0
    for (x, y, w, mask), (a, b, c) in zip(
        loader.jax(remainder="pad"), make(frame, weights="weight", features=["id"]), strict=True
    ):
        assert (x.shape, y.shape, w.shape, mask.shape) == ((64, 1), (64, 1), (64, 1), (64,))
        assert (mask.dtype, int(mask.sum())) == (np.bool_, len(a))
        assert np.array_equal(x[: len(a)], a)
        assert np.array_equal(y[: len(a)], b)
        real, filled, weight = total(x, y, w, mask)
        assert filled == 0
        assert np.isclose(weight, c.sum(), rtol=1e-4)
        sums, weights, rows = sums + float(real), weights + float(weight), rows + int(mask.sum())
    assert compiled == [(64, 1)]
    assert (rows, sums) == (ENTRIES, ENTRIES * (ENTRIES - 1) / 2)
    x, mask = next(iter(make(frame, target=None).jax(remainder="pad")))
    assert (x.shape, mask.shape) == ((64, 2), (64,))
    features = {"a": ["id"], "b": ["half"]}
    x, _, mask = list(make(frame, features=features).jax(remainder="pad"))[-1]
    assert (x["a"].shape, x["b"].shape, int(mask.sum())) == ((64, 1), (64, 1), 20)


@pytest.mark.parametrize(
    ("options", "argument", "other"),
    [
        ({"dtype": "float64"}, "dtype", "float32"),
        ({"target_dtype": "int64"}, "target_dtype", "int32"),
        ({"target_dtype": "uint64"}, "target_dtype", "uint32"),
    ],
)
def test_no_number_loses_bits_silently(
    frame: rf.Frame, options: dict[str, Any], argument: str, other: str
) -> None:
    loader = make(frame, **options)
    batches = loader.jax()
    with pytest.raises(ArgumentError) as caught:
        iter(batches)
    assert f"make {other} of {options[argument]}" in str(caught.value)
    assert f"choose {argument}={other!r}" in str(caught.value)
    assert 'jax.config.update("jax_enable_x64", True)' in str(caught.value)
    assert loader.state_dict()["epoch"] == 0
    jax.config.update("jax_enable_x64", True)
    try:
        batch = next(iter(batches))
        wanted = next(iter(make(frame, **options)))
        assert [array.dtype for array in batch] == [array.dtype for array in wanted]
    finally:
        jax.config.update("jax_enable_x64", False)


def test_offsets_are_as_wide_as_jax_has_integers(tmp_path: Any) -> None:
    import awkward as ak
    import uproot

    with uproot.recreate(tmp_path / "v.root") as file:
        file["events"] = {"pt": ak.unflatten(np.arange(600, dtype="f4"), np.arange(25) % 5 * 12)}
    loader = rf.Loader(f"{tmp_path}/v.root:events", 10, {"pt": rf.ragged(["pt"])}, seed=1)
    wanted = [batch["pt_offsets"] for batch in loader]
    loader.set_epoch(0)
    found = [batch["pt_offsets"] for batch in loader.jax()]
    assert {array.dtype.name for array in found} == {"int32"}
    assert all(np.array_equal(one, two) for one, two in zip(found, wanted, strict=True))
    for options in ({"remainder": "pad"}, {"sharding": data_sharding(2)}):
        with pytest.raises(ArgumentError, match="ragged inputs have another shape in each batch"):
            loader.jax(**options)


def data_sharding(count: int) -> Any:
    return NamedSharding(Mesh(np.array(jax.devices()[:count]), ("data",)), PartitionSpec("data"))


@pytest.mark.parametrize("options", [{"drop_last": True}, {}])
def test_sharded_batches(frame: rf.Frame, options: dict[str, Any]) -> None:
    sharding = data_sharding(4)
    remainder = "keep" if options else "pad"
    loader = make(frame, **options)
    batches = loader.jax(sharding=sharding, remainder=remainder)
    for batch, (a, b) in zip(batches, make(frame, **options), strict=True):
        assert all(array.sharding == sharding for array in batch)
        assert {shard.data.shape for shard in batch[0].addressable_shards} == {(16, 2)}
        assert np.array_equal(np.asarray(batch[0])[: len(a)], a)
        assert np.array_equal(np.asarray(batch[1])[: len(a)], b)
    assert len(batches) == 21 - bool(options)


def test_arguments(frame: rf.Frame) -> None:
    with pytest.raises(ArgumentError, match="cannot be divided evenly among devices"):
        make(frame).jax(sharding=data_sharding(4))
    uneven = make(frame, tail="uneven", rank=0, world_size=2)
    with pytest.raises(ArgumentError, match=r'choose tail="pad" or tail="drop"'):
        uneven.jax(sharding=data_sharding(4), remainder="pad")
    with pytest.raises(ArgumentError, match="give a device or a sharding, not both"):
        make(frame).jax(jax.devices()[0], sharding=data_sharding(4), remainder="pad")
    with pytest.raises(ArgumentError, match='remainder must be "keep" or "pad", got \'drop\''):
        make(frame).jax(remainder="drop")


PROCESSES = """
    import os, sys
    rank, port, paths = map(eval, sys.argv[1:])
    import jax, numpy as np
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, rank)
    import rootfeed as rf
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    from rootfeed.errors import ArgumentError
    frame = rf.open(dict.fromkeys(paths, "events"))
    try:
        next(iter(rf.Loader(frame, 64, ["id"], seed=3).jax()))
    except ArgumentError as error:
        print("refused", "rank=jax.process_index(), world_size=jax.process_count()" in str(error))
    loader = rf.Loader(
        frame, 64, ["id"], seed=3, rank=jax.process_index(), world_size=jax.process_count()
    )
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    total = jax.jit(lambda x, mask: ((x[:, 0] * mask).sum(), mask.sum()))
    sums, rows = 0.0, 0
    for x, mask in loader.jax(sharding=sharding, remainder="pad"):
        assert x.shape == (128, 1), x.shape
        each, count = total(x, mask)
        sums, rows = sums + float(each), rows + int(count)
    print(len(loader), rows, sums)
"""


def test_processes_share_an_epoch(frame: rf.Frame) -> None:
    import socket
    from concurrent.futures import ThreadPoolExecutor

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = list(frame.files)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda rank: run(PROCESSES, rank, port, paths), range(2)))
    for outcome in outcomes:
        assert outcome.code == 0, outcome.err
        # What Gloo says may be broken over lines: both of its parts are left out.
        said = ("Gloo", "peer ranks")
        lines = [line for line in outcome.lines if not any(each in line for each in said)]
        assert lines == ["refused True", f"11 {ENTRIES} {ENTRIES * (ENTRIES - 1) / 2}"]
