"""HDF5 files: what becomes a column, how chunks are read, and what goes wrong; h5py is the oracle."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    DuplicateNameWarning,
    MissingFileError,
    MissingObjectError,
    RootfeedError,
    UnsupportedColumnError,
    UnsupportedFileError,
)
from rootfeed.schema import Jagged
from rootfeed.sources import Location, Scratch
from rootfeed.sources import hdf5 as source
from rootfiles.values import any_values, generator
from samples import File, epoch_ids, values, write
from servers import serve

h5py = pytest.importorskip("h5py")

Array = np.ndarray


def written(folder: Path, sets: dict[str, Any], **options: Any) -> str:
    """Write data sets, and return the path."""
    path = folder / "file.h5"
    with h5py.File(path, "w") as file:
        for name, each in sets.items():
            file.create_dataset(name, data=each, **options)
    return str(path)


def jets_and_tracks(entries: int = 500, most: int = 8, seed: int = 0) -> tuple[Array, Array]:
    """Return tables as ATLAS' dumper writes them: a row per jet, and its tracks, padded."""
    random = np.random.default_rng(seed)
    fields = [("pt", "f4"), ("eta", "f4"), ("flavour", "i4"), ("eventNumber", "i8")]
    jets = np.zeros(entries, fields)
    jets["pt"], jets["eta"] = random.exponential(50, entries), random.normal(size=entries)
    jets["flavour"], jets["eventNumber"] = random.choice([0, 4, 5], entries), np.arange(entries)
    tracks = np.zeros((entries, most), [("d0", "f4"), ("z0", "f2"), ("hits", "u1"), ("valid", "?")])
    tracks["valid"] = np.arange(most) < random.integers(0, most + 1, entries)[:, None]
    tracks["d0"] = np.where(tracks["valid"], random.normal(size=tracks.shape), np.nan)
    tracks["z0"] = np.where(tracks["valid"], random.normal(size=tracks.shape), np.nan)
    tracks["hits"] = random.integers(0, 9, tracks.shape)
    return jets, tracks


def read(index: Any, names: Sequence[str], start: int = 0, stop: int | None = None) -> dict[str, Any]:
    end = index.entries if stop is None else stop

    def out_for(name: str) -> Array:
        return np.empty(end - start, index.dtype(name))

    pairs = source.read(index, names, start, end, out_for, Scratch(), threading.Event())
    return {
        name: got.copy() if isinstance(got, Jagged) else got for name, got in pairs
    }  # scratch's memory ends with it


def through_the_library(index: Any) -> Any:
    """Return the index of the same columns, which h5py reads."""
    sets = {id(part.data): replace(part.data, is_plain=False) for part in index.parts.values()}
    parts = {
        name: replace(part, data=sets[id(part.data)], valid=part.valid)
        for name, part in index.parts.items()
    }
    return replace(index, parts=parts)


# --- jets and tracks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (100, 3)}, {"chunks": (64, 8), "compression": "lzf"}]
)
def test_padded_tracks_come_back_as_array_and_mask(options: Any, tmp_path: Path) -> None:
    jets, tracks = jets_and_tracks()
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["jets"] = jets
        file.create_dataset("tracks", data=tracks, **options)
    loader = rf.Loader(
        rf.open(tmp_path / "x.h5").filter("`jets.pt` > 20"),
        features={
            "jets": ["jets.pt", "jets.eta"],
            "tracks": rf.padded(["tracks.d0", "tracks.z0", "tracks.valid"], length=8),
        },
        target="jets.flavour",
        batch_size=64,
        shuffle=False,
    )
    batches = [*loader]
    x = {name: np.concatenate([batch[0][name] for batch in batches]) for name in batches[0][0]}
    kept = jets["pt"] > 20
    assert np.array_equal(x["jets"], np.stack([jets["pt"], jets["eta"]], 1)[kept])
    assert np.array_equal(np.concatenate([batch[1] for batch in batches]).ravel(), jets["flavour"][kept])
    mask = tracks["valid"][kept]
    assert np.array_equal(x["tracks_mask"], mask)
    assert np.array_equal(x["tracks"][..., 2] != 0, mask)
    for number, name in enumerate(("d0", "z0")):
        assert np.array_equal(x["tracks"][..., number], np.where(mask, tracks[name][kept], 0))


def test_what_is_not_valid_is_left_out_wherever_it_is(tmp_path: Path) -> None:
    _, tracks = jets_and_tracks()
    tracks["valid"] = np.random.default_rng(1).integers(0, 2, tracks.shape)
    frame = rf.open(written(tmp_path, {"tracks": tracks}, chunks=(70, 8), compression="gzip"))
    got = frame.arrays(["tracks.hits", "tracks.valid"])
    want = [row["hits"][row["valid"]].tolist() for row in tracks]
    assert got["tracks.hits"].to_list() == want
    assert got["tracks.valid"].to_list() == [[True] * len(each) for each in want]


def test_without_a_flag_rows_are_arrays(tmp_path: Path) -> None:
    _, tracks = jets_and_tracks()
    plain = np.zeros(tracks.shape, [("d0", "f4"), ("valid", "u1")])
    plain["d0"] = tracks["d0"]
    frame = rf.open(written(tmp_path, {"tracks": plain}))
    assert frame.columns["tracks.d0"].shape == (8,)
    assert np.array_equal(
        ak.to_numpy(frame.arrays("tracks.d0")["tracks.d0"]), plain["d0"], equal_nan=True
    )


def test_the_bytes_of_padded_rows_are_estimated(tmp_path: Path) -> None:
    _, tracks = jets_and_tracks(4000)
    path = written(tmp_path, {"tracks": tracks}, chunks=(500, 8), compression="gzip")
    index = source.index(Location(path, None), ["tracks.d0", "tracks.hits"])
    assert source.vector_bytes(index, "tracks.d0") == pytest.approx(4 * 4 + 8, rel=0.1)
    assert source.vector_bytes(index, "tracks.hits") == pytest.approx(4 + 8, rel=0.1)


def test_flags_of_any_byte_are_flags(tmp_path: Path) -> None:
    path = written(tmp_path, {"x": np.zeros(4, "?")})
    contents = bytearray(Path(path).read_bytes())
    with h5py.File(path) as file:
        place = file["x"].id.get_offset()
    contents[place : place + 4] = bytes([0, 1, 2, 255])
    Path(path).write_bytes(contents)
    got = rf.open(path).arrays("x")["x"]
    assert got.view("u1").tolist() == [0, 1, 1, 1]


# --- names --------------------------------------------------------------------------------------


def test_names_of_data_sets_groups_and_several(tmp_path: Path) -> None:
    jets, tracks = jets_and_tracks(20)
    sets = {"jets": jets, "tracks": tracks, "more/a/x": np.arange(20), "more/y": np.arange(20) * 2}
    path = written(tmp_path, sets)
    assert {"jets.pt", "tracks.d0", "more.a.x", "more.y"} < set(rf.open(path).columns)
    assert set(rf.open(f"{path}:jets").columns) == {"pt", "eta", "flavour", "eventNumber"}
    assert set(rf.open(f"{path}:/more/").columns) == {"a.x", "y"}
    assert set(rf.open(f"{path}:more/a/x").columns) == {"x"}
    several = rf.open(f"{path}:jets,more/a")
    assert set(several.columns) == {"jets.pt", "jets.eta", "jets.flavour", "jets.eventNumber", "a.x"}
    assert several.define("z", "`a.x` + 1").arrays("z")["z"].tolist() == [*range(1, 21)]
    with pytest.raises(MissingObjectError, match=r"no data set or group 'jet'\. Did you mean 'jets'"):
        rf.open(f"{path}:jet")


def test_data_sets_of_different_lengths_must_be_named(tmp_path: Path) -> None:
    sets = {"jets": np.arange(5.0), "tracks": np.zeros((5, 2)), "events": np.arange(3), "version": 7}
    path = written(tmp_path, sets)
    with pytest.raises(MissingObjectError, match=r"3 in 'events'; 5 in 'jets', 'tracks'.*:jets,tracks'"):
        rf.open(path)
    assert rf.open(f"{path}:jets,tracks").num_entries == 5
    assert rf.open(f"{path}:events").arrays("events")["events"].tolist() == [0, 1, 2]
    with pytest.raises(MissingObjectError, match="no data set with entries"):
        rf.open(f"{path}:version")


def test_of_columns_of_one_name_the_first_counts(tmp_path: Path) -> None:
    path = written(tmp_path, {"a/b": np.arange(3), "a.b": np.arange(3) * 2})
    with pytest.warns(DuplicateNameWarning, match="several columns of the name 'a.b'"):
        frame = rf.open(path)
    assert frame.arrays("a.b")["a.b"].tolist() in ([0, 1, 2], [0, 2, 4])


# --- types --------------------------------------------------------------------------------------


def test_types(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    texts = ["", "é", "électron" * 9]
    with h5py.File(path, "w") as file:
        file["half"] = np.array([0.5, -1, 65504], "f2")
        file["enum"] = np.array([0, 2, 1], h5py.enum_dtype({"a": 0, "b": 1, "c": 2}, "i2"))
        file["swapped"] = np.array([1, 2, 3], ">u4")
        file["fixed"] = np.array([b"ab", b"", b"abcde"])
        file["texts"] = texts
        vectors = file.create_dataset("vectors", 3, h5py.vlen_dtype("f4"))
        for number in range(3):
            vectors[number] = np.arange(number)
        kind = h5py.h5t.STD_I32LE.copy()
        kind.set_precision(24)  # bits that NumPy has no dtype for
        made = h5py.h5d.create(file.id, b"bits", kind, h5py.h5s.create_simple((3,)))
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([-5, 0, 2047], "i4"))
        file["image"] = np.arange(3 * 4 * 5, dtype="i2").reshape(3, 4, 5)
        file["table"] = np.zeros(3, [("deep", [("v", ">f4", (2,)), ("s", "S3")])])
        file["complex"] = np.zeros(3, "c8")
        file["long"] = np.zeros(3, "g")
        file["empty"] = h5py.Empty("f4")
    frame = rf.open(path)
    got = frame.arrays([name for name in frame.columns if frame.columns[name].kind != "other"])
    assert got["half"].dtype == np.float32
    assert got["half"].tolist() == [0.5, -1, 65504]
    assert (got["enum"].dtype, got["enum"].tolist()) == (np.int16, [0, 2, 1])
    assert (got["swapped"].dtype, got["swapped"].tolist()) == (np.uint32, [1, 2, 3])
    assert got["fixed"].to_list() == ["ab", "", "abcde"]
    assert got["texts"].to_list() == texts
    assert got["vectors"].to_list() == [[], [0], [0, 1]]
    assert got["bits"].tolist() == [-5, 0, 2047]
    assert frame.columns["image"].shape == (4, 5)
    assert ak.to_numpy(got["image"]).ravel().tolist() == [*range(60)]
    assert ak.to_numpy(got["table.deep.v"]).shape == (3, 2)
    assert got["table.deep.s"].to_list() == ["", "", ""]
    for name in ("complex", "long"):
        with pytest.raises(UnsupportedColumnError, match=f"column '{name}' is of type .*no native"):
            frame.arrays(name)


# --- random data sets ---------------------------------------------------------------------------

CODES = ("?", "i1", ">i2", "i4", "i8", "u1", "u2", ">u4", "u8", "f2", ">f2", "f4", ">f8", "S3")
cases = st.fixed_dictionaries(
    {
        "codes": st.lists(st.sampled_from(CODES), min_size=1, max_size=5),
        "inner": st.sampled_from([(), (3,), (2, 5)]),
        "sub": st.sampled_from([(), (2,)]),
        "is_table": st.booleans(),
        "entries": st.integers(0, 150),
        "chunk": st.sampled_from([0, 1, 7, 64, 200]),
        "cut": st.integers(1, 3),
        "filters": st.sampled_from([{}, {"compression": "gzip"}, {"compression": "lzf"}]),
        "shuffle": st.booleans(),
        "missing": st.booleans(),
        "ends": st.tuples(st.floats(0, 1), st.floats(0, 1)),
    }
)


def random_values(code: str, shape: tuple[int, ...], words: str) -> Array:
    random, size = generator(2, words), int(np.prod(shape))
    if code == "S3":
        return random.choice([b"", b"a", b"xyz"], size).astype(code).reshape(shape)
    if code.endswith("f2"):
        return random.normal(size=size).astype(code).reshape(shape)
    return any_values(code.lstrip(">"), size, random).astype(code).reshape(shape)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases)
def test_random_data_sets_are_read_as_h5py_reads_them(case: Any, tmp_path: Path) -> None:
    entries, inner = case["entries"], case["inner"]
    sets: dict[str, Array] = {}
    if case["is_table"]:
        sub = case["sub"] if "S3" not in case["codes"] else ()
        fields = [(f"c{n}", code, sub) for n, code in enumerate(case["codes"])]
        table = sets["t"] = np.zeros((entries, *inner), fields)
        for number, code in enumerate(case["codes"]):
            table[f"c{number}"] = random_values(code, (entries, *inner, *sub), f"{code} {number}")
    else:
        for number, code in enumerate(case["codes"]):
            sets[f"c{number}"] = random_values(code, (entries, *inner), f"{code} {number}")
    path = tmp_path / "random.h5"
    with h5py.File(path, "w") as file:
        for name, array in sets.items():
            options = dict(case["filters"], shuffle=case["shuffle"]) if case["chunk"] else {}
            chunk = (case["chunk"], *(-(-size // case["cut"]) for size in inner))
            options |= {"chunks": chunk, "maxshape": (None, *inner)} if case["chunk"] else {}
            made = file.create_dataset(name, array.shape, array.dtype, **options)
            made[: entries // 2 if case["missing"] else entries] = array[
                : entries // 2 if case["missing"] else entries
            ]
    with h5py.File(path) as file:
        truth = {name: file[name][()] for name in sets}
    _, types = source.types(Location(str(path), None))
    names = [name for name, type_ in types.items() if type_.kind != "other"]
    index = source.index(Location(str(path), None), names)
    start, stop = sorted(round(end * entries) for end in case["ends"])
    for low, high in ((0, entries), (start, stop)):
        got = read(index, names, low, high)
        other = read(through_the_library(index), names, low, high)
        assert list(got) == names
        for name in names:
            table, _, field = name.partition(".")
            want = (truth[table][field] if field else truth[table])[low:high]
            if want.dtype.kind == "S":
                assert got[name].as_awkward().to_list() == [each.decode() for each in want.tolist()]
                continue
            native = want.dtype.newbyteorder("=")
            native = np.dtype("f4") if native == "f2" else native
            for each in (got[name], other[name]):
                flat = each.values if isinstance(each, Jagged) else each
                assert flat.dtype == native
                assert flat.tobytes() == want.astype(native).tobytes(), name


# --- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, 2])
def test_texts_of_fixed_length_end_as_their_padding_says(chunks: int | None, tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    texts = {
        h5py.h5t.STR_NULLPAD: [b"sig\0zz\0\0", b"bg  \0\0\0\0", b"12345678"],
        h5py.h5t.STR_NULLTERM: [b"sig\0zz  ", b"bg  \0\0\0\0", b"1234567\0"],
        h5py.h5t.STR_SPACEPAD: [b"sig     ", b"b g     ", b"12345678"],
    }
    with h5py.File(path, "w") as file:
        for padding, rows in texts.items():
            kind = h5py.h5t.C_S1.copy()
            kind.set_size(8)
            kind.set_strpad(padding)
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            if chunks:
                plist.set_chunk((chunks,))
                plist.set_shuffle()
                plist.set_deflate(1)
            space = h5py.h5s.create_simple((len(rows),))
            data = h5py.h5d.create(file.id, f"p{padding}".encode(), kind, space, plist)
            data.write(space, space, np.array(rows, "S8"), mtype=kind)
    with h5py.File(path) as file:
        want = {name: [each.decode() for each in data[:].tolist()] for name, data in file.items()}
    assert want[f"p{h5py.h5t.STR_SPACEPAD}"][0] == want[f"p{h5py.h5t.STR_NULLTERM}"][0] == "sig"
    got = rf.open(str(path)).arrays()
    assert {name: texts.to_list() for name, texts in got.items()} == want


def test_chunks_that_nobody_wrote_hold_the_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        for name, options in {"chunked": {"chunks": (10,), "compression": "gzip"}, "whole": {}}.items():
            file.create_dataset(name, (35,), "f4", fillvalue=7.5, **options)
        file["chunked"][12:14] = 1
        file.create_dataset("never", (35,), "i4")
    got = rf.open(path).arrays()
    want = np.full(35, 7.5, "f4")
    assert got["whole"].tolist() == want.tolist()
    assert got["never"].tolist() == [0] * 35
    want[12:14] = 1
    assert got["chunked"].tolist() == want.tolist()


def test_layouts_that_only_the_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("x", data=np.arange(100), chunks=(30,), compression="gzip")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((100,))
        made = h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT64, space, plist)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(100) * 2)
        file.create_dataset("sum", data=np.arange(100), chunks=(30,), fletcher32=True)
        file.create_dataset("scaled", data=np.arange(100), chunks=(30,), scaleoffset=0)
    index = source.index(Location(str(path), None), ["x", "compact", "sum", "scaled"])
    assert not any(part.data.is_plain for part in index.parts.values())
    for start, stop in ((0, 100), (17, 64), (5, 5)):
        got = read(index, list(index.columns), start, stop)
        for name, each in got.items():
            assert each.tolist() == [(1 + (name == "compact")) * n for n in range(start, stop)]


def test_incompressible_chunks_and_zstd(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    noise = np.random.default_rng(0).integers(0, 256, 4000).astype("u1")
    with h5py.File(path, "w") as file:
        noisy = file.create_dataset("noise", data=noise, chunks=(500,), compression="lzf")
        assert noisy.id.get_chunk_info(0).filter_mask == 1  # lzf gave it up
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((500,))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # zstd, as hdf5plugin writes it
        space = h5py.h5s.create_simple((4000,))
        made = h5py.h5d.create(file.id, b"zstd", h5py.h5t.STD_U8LE, space, plist)
        for start in range(0, 4000, 500):
            packed = zstandard.compress((noise[start : start + 500] % 4).tobytes())
            made.write_direct_chunk((start,), packed)
    got = rf.open(path).arrays()
    assert np.array_equal(got["noise"], noise)
    assert np.array_equal(got["zstd"], noise % 4)


def test_a_filter_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((5,))
        plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((5,)), plist)
        made.write_direct_chunk((0,), b"12345")
        file["y"] = np.arange(5)
    frame = rf.open(path)
    assert frame.arrays("y")["y"].tolist() == [*range(5)]
    with pytest.raises(UnsupportedFileError, match=r"HDF5's filter 32099.*pip install hdf5plugin"):
        frame.arrays("x")


def test_blocks_end_where_chunks_do(tmp_path: Path) -> None:
    jets, tracks = jets_and_tracks(1000)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("jets", data=jets, chunks=(130,), compression="gzip")
        file.create_dataset("tracks", data=tracks, chunks=(130, 3), compression="gzip")
    index = source.index(Location(str(tmp_path / "x.h5"), None), ["jets.pt", "tracks.d0"])
    for column in index.columns.values():
        assert column.entry_bounds.tolist() == [*range(0, 1000, 130), 1000]
        assert (column.pages.stored_bytes > 0).all()
    assert index.parts["tracks.d0"].data.offset.shape == (8, 3)


# --- files that lead elsewhere ------------------------------------------------------------------


def test_values_in_other_files_are_refused(tmp_path: Path) -> None:
    other = written(tmp_path, {"x": np.arange(10)})
    path = tmp_path / "leads.h5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((10,), "i8")
        layout[:] = h5py.VirtualSource(other, "x", (10,))
        file.create_virtual_dataset("virtual", layout)
        file["link"] = h5py.ExternalLink(other, "x")
        file["soft"] = h5py.SoftLink("/here")
        file["here"] = np.arange(10)
        file.create_dataset("raw", (10,), "i8", external=[(str(tmp_path / "raw.bin"), 0, 80)])
        file["here_too"] = file["here"]
        file["round/trip"] = file["/"]
    (tmp_path / "raw.bin").write_bytes(bytes(80))
    frame = rf.open(path)
    assert set(frame.columns) == {"virtual", "here", "here_too", "raw"}
    with pytest.raises(UnsupportedFileError, match=r"virtual one.*such as .*file\.h5"):
        frame.arrays("virtual")
    with pytest.raises(UnsupportedFileError, match=r"another file, .*raw\.bin"):
        frame.arrays("raw")
    for name, target in (("link", r"file\.h5"), ("soft", "/here")):
        with pytest.raises(
            UnsupportedFileError, match=f"'{name}' is a link to .*{target}.*not followed"
        ):
            rf.open(f"{path}:{name}")


# --- with all the rest --------------------------------------------------------------------------

NAMES = ("id", "half", "code", "label", "flag", "weight")


def sample(path: Path, file: File, **options: Any) -> str:
    """Write the columns that `samples` writes into ROOT files, as a table in chunks."""
    table = np.zeros(file.entries, [(name, values(name, file.ids).dtype) for name in NAMES])
    for name in NAMES:
        table[name] = values(name, file.ids)
    with h5py.File(path, "w") as made:
        made.create_dataset("events", data=table, chunks=(100,), compression="gzip", **options)
    return str(path)


def test_files_of_several_formats_in_one_loader(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = [File(500), File(700, first=500), File(300, first=1200), File(300, first=1500)]
    columns = {name: values(name, files[2].ids) for name in NAMES}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    with open(tmp_path / "x.csv", "w") as text:
        print(*NAMES, sep=",", file=text)
        for row in zip(*(values(name, files[3].ids).tolist() for name in NAMES), strict=True):
            print(*row, sep=",", file=text)
    paths = [
        write(tmp_path / "x.root", files[0]),
        sample(tmp_path / "x.h5", files[1]) + ":events",
        str(tmp_path / "x.parquet"),
        str(tmp_path / "x.csv"),
    ]
    frames = [rf.open(path).define("twice", "2 * half").filter("label != 3") for path in paths]
    loader = rf.Loader(frames, features=["id", "half"], batch_size=64, seed=3, memory="10 MB")
    every = np.arange(1800)
    want = every[values("label", every) != 3]
    assert np.sort(epoch_ids(loader)).tolist() == want.tolist()
    parts = loader.split({"train": 0.7, "val": 0.3})
    ids = [epoch_ids(part) for part in parts.values()]
    assert np.sort(np.concatenate(ids)).tolist() == want.tolist()


def test_the_same_rows_as_from_root(tmp_path: Path) -> None:
    file = File(1000)
    want = rf.open(write(tmp_path / "x.root", file))
    got = rf.open(sample(tmp_path / "x.h5", file) + ":events")
    for frame in (want, got):
        assert frame.filter("flag && half > 3").count() == 331
    for name in NAMES:
        assert got.arrays(name)[name].tobytes() == want.arrays(name)[name].tobytes()
    assert want.join(got, prefix="other_").filter("id == other_id").count() == 1000


def test_states_go_on_where_they_were(tmp_path: Path) -> None:
    path = sample(tmp_path / "x.h5", File(1000))

    def loader(frame: Any) -> Any:
        return rf.Loader(frame, features=["id"], batch_size=50, seed=1, memory="4 MB")

    first = loader(rf.open(path + ":events"))
    batches = iter(first)
    seen = [next(batches) for _ in range(7)]
    state = first.state_dict()
    moved = Path(path).rename(tmp_path / "moved.h5")
    second = loader(pickle.loads(pickle.dumps(rf.open(f"{moved}:events"))))
    second.load_state_dict(state)
    seen += [*second]
    assert np.sort(np.concatenate(seen).ravel()).tolist() == [*range(1000)]


@pytest.mark.thorough("spawn-False", "spawn-True")
@pytest.mark.parametrize("fletcher32", [False, True])  # by us, and through the library
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_worker_processes(way: str, fletcher32: bool, tmp_path: Path) -> None:
    data = pytest.importorskip("torch.utils.data")
    path = sample(tmp_path / "x.h5", File(1000), fletcher32=fletcher32)
    loader = rf.Loader(rf.open(path + ":events"), features=["id"], batch_size=50, seed=1)
    assert len([*loader]) == 20  # so that h5py has read in this process, too
    workers = data.DataLoader(
        loader.torch(), batch_size=None, num_workers=2, multiprocessing_context=way
    )
    seen = np.concatenate([np.asarray(batch).ravel() for batch in workers])
    assert np.sort(seen).tolist() == [*range(1000)]


def test_over_http(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    contents = Path(sample(tmp_path / "x.h5", File(5000))).read_bytes()
    with serve({"/data.h5": contents}) as web:
        for query in ("", "?token=a.root"):
            frame = rf.open({f"{web.url}/data.h5{query}": "events"})
            assert frame.arrays("id")["id"].tolist() == [*range(5000)]
        loader = rf.Loader(frame, features=["id", "half"], batch_size=100)
        assert np.sort(epoch_ids(loader)).tolist() == [*range(5000)]


# --- what goes wrong ----------------------------------------------------------------------------


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, {"x": np.arange(10)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnsupportedFileError, match=r"pip install 'rootfeed\[hdf5\]'"):
        rf.open(path)


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    path = Path(written(tmp_path, {"x": np.arange(1000), "y": np.arange(1000)}))
    frame = rf.open(path)
    frame.arrays("x")
    index = source.index(Location(str(path), None), ["x", "y"])
    reading = source.read(
        index, ["x", "y"], 0, 1000, lambda _: np.empty(1000, "i8"), Scratch(), threading.Event()
    )
    next(iter(reading))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ChangedFileError):
        list(reading)
    written(tmp_path, {"x": np.arange(1000) + 1, "y": np.arange(1000)})
    with pytest.raises(ChangedFileError, match="Open it again"):
        frame.arrays("x")
    path.unlink()
    with pytest.raises(MissingFileError):
        frame.arrays("x")


def test_identities_tell_files_apart_and_stay_with_them(tmp_path: Path) -> None:
    seen = set()
    for number in range(4):
        (tmp_path / f"{number}").mkdir()
        path = written(tmp_path / f"{number}", {"x": np.arange(1000) + number, "y": np.arange(1000)})
        identity = source.index(Location(path, None), []).identity
        moved = Path(path).rename(tmp_path / f"{number}" / "other.h5")
        assert source.index(Location(str(moved), None), ["x"]).identity == identity
        assert source.index(Location(str(moved), "x"), ["x"]).identity != identity
        seen.add(identity)
    assert len(seen) == 4


def test_every_truncation_is_told(tmp_path: Path) -> None:
    path = Path(written(tmp_path, {"x": np.arange(3000)}, chunks=(100,), compression="gzip"))
    whole = path.read_bytes()
    cut = tmp_path / "cut.h5"
    for size in (0, 1, 8, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError, match="Copy or produce the file again"):
            rf.open(cut).arrays()


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_damage_is_told_or_harmless(compression: str, tmp_path: Path) -> None:
    """Flipped bytes give an error of ours, or values; nothing else."""
    jets, tracks = jets_and_tracks(300)
    sets = {"jets": jets, "tracks": tracks, "x": np.arange(300)}
    path = Path(written(tmp_path, sets, compression=compression))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    broken = tmp_path / "broken.h5"
    told = 0
    for trial in range(120):
        copy = whole.copy()
        copy[random.integers(0, len(copy) if trial % 2 else 4000, 3)] ^= random.integers(
            1, 256, 3
        ).astype("u1")
        broken.write_bytes(copy.tobytes())
        with contextlib.suppress(RootfeedError):
            rf.open(broken).arrays()
            continue
        told += 1
    assert told > 30


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    path = Path(written(tmp_path, {"x": np.arange(3000)}, chunks=(1000,), compression="gzip"))
    frame = rf.open(path)
    part = source.index(Location(str(path), None), ["x"]).parts["x"].data
    contents = bytearray(path.read_bytes())
    contents[int(part.offset[1, 0]) : int(part.offset[1, 0]) + 40] = bytes(40)
    path.write_bytes(contents)
    frame = rf.open(path)
    with pytest.raises(
        DamagedFileError, match=r"file\.h5: the entries .* of the data set 'x' are damaged"
    ):
        frame.arrays("x")


@pytest.mark.parametrize(
    ("content", "kind", "text"),
    [
        (b"root" + bytes(100), UnsupportedFileError, "is a ROOT file: rename it"),
        (b"<html>" + bytes(2000), DamagedFileError, "is no HDF5 file: it has .* begins with"),
    ],
)
def test_other_files_are_told(content: bytes, kind: Any, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(kind, match=text):
        rf.open(path)


def test_more_than_a_file_can_hold_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (1 << 50,), "f8", chunks=(1 << 20,))
    with pytest.raises(DamagedFileError, match="claims 1125899906842624 entries"):
        rf.open(path).arrays("x")


def test_files_without_entries(tmp_path: Path) -> None:
    jets, tracks = jets_and_tracks(0)
    path = written(tmp_path, {"jets": jets, "tracks": tracks, "t": np.zeros(0, "S3")})
    frame = rf.open(path)
    assert frame.num_entries == 0
    assert {len(each) for each in frame.arrays().values()} == {0}
