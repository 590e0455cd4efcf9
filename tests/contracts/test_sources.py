"""What every source keeps: each column reads bit for bit as the format's own reader reads it.

A new source joins by a `Subject` of its own in `SUBJECTS`.
"""

from __future__ import annotations

import csv
import functools
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from rootfeed import sources
from rootfeed.errors import MissingColumnError
from rootfeed.schema import FileIndex, Jagged
from rootfeed.sources import Location, Scratch, Source
from rootfeed.sources import arrow as arrow_source
from rootfeed.sources import csv as csv_source
from rootfeed.sources import hdf5 as hdf5_source
from rootfeed.sources import root as root_source
from rootfiles import CASES, read_with_root
from rootfiles.rntuple import Field, write_fields
from rootfiles.ttree import Tree, write_leaves
from rootfiles.values import any_values, generator, reals_between

Array = np.ndarray
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Subject:
    """A file that a source reads.

    Attributes
    ----------
    id : str
    source : Source
    write : function of a path
    name : str
        The object in the file.
    truth : function of a path and a name
        Returns every scalar column, in the file's order, as the format's own reader reads it.
    large : bool
    suffix : str
        How the file's name ends.
    """

    id: str
    source: Source
    write: Callable[[Path], object]
    name: str
    truth: Callable[[Path, str], Columns]
    large: bool = False
    suffix: str = ".root"


def root_truth(path: Path, name: str) -> Columns:
    # Members of an RNTuple's base class are the class's own here, as they are in C++.
    return {column.replace(":_0.", ""): values for column, values in read_with_root(path, name).items()}


#: Leaf lists with packed reals among the leaves, which uproot does not interpret.
PACKED_LEAVES = {
    "packed": "f/f:x/F:g/f[-10,10,9]:n/I:d/d:r/d[-10,10,20]:t/d[0,0,14]:flag/O",
    "alone": "alone/f[0,0,6]",
    "array": "a[3]/f:b/I:c[2]/d[0,1,8]:e/f[0,5]",
}

#: What can stand in the brackets; ROOT accepts, and reads, more than its manual says.
RANGES = (
    *("[0,0,2]", "[0,0,14]", "[0,0,15]", "[0,0,16]", "[0,0,20]", "[0,0,32]", "[0,0]", "[0,0,0]"),
    *("[0,0,1]", "[5,5,10]", "[10,5,10]", "[5,5]", "[16,4,20]", "[0,10,1]", "[0,10,2]", "[0,10,40]"),
    *("[-1,1,16]", "[0,2*pi,10]", "[0,twopi]", "[0,2pi]", "[-pi/2,pi/2,12]", "[-pi/4,pi/4]"),
    *("[ 0 , 10 , 8 ]", "[1e-3,1e3]", "[-.5,+1.5E0,31]", "[0,10,]"),
)


def write_packed(path: Path) -> None:
    """Write leaf lists with packed reals."""
    entries = 700

    def record(**members: Any) -> Array:
        fields = [(name, values.dtype, values.shape[1:]) for name, values in members.items()]
        result = np.zeros(entries, fields)
        for name, values in members.items():
            result[name] = values
        return result

    def real(dtype: str, low: float, high: float, *words: str, per_entry: int = 0) -> Array:
        count = entries * max(1, per_entry)
        values = reals_between(dtype, low, high, count, generator(0, *words))
        return values.reshape(entries, per_entry) if per_entry else values

    columns = {
        "packed": record(
            f=any_values("f4", entries, generator(0, "f")),
            x=any_values("f4", entries, generator(0, "x")),
            g=real("f4", -10, 10, "g"),
            n=any_values("i4", entries, generator(0, "n")),
            d=any_values("f8", entries, generator(0, "d")),
            r=real("f8", -10, 10, "r"),
            t=any_values("f8", entries, generator(0, "t")),
            flag=any_values("?", entries, generator(0, "flag")),
        ),
        "alone": any_values("f4", entries, generator(0, "alone")),
        "array": record(
            a=real("f4", -1, 1, "a", per_entry=3),
            b=any_values("i4", entries, generator(0, "b")),
            c=real("f8", 0, 1, "c", per_entry=2),
            e=real("f4", 0, 5, "e"),
        ),
    }
    write_leaves(path, PACKED_LEAVES, columns, "zstd", Tree(cluster_entries=300))


def write_ranges(path: Path) -> None:
    """Write a packed real with everything in its brackets."""
    leaves, columns = {}, {}
    for code, dtype in (("f", "f4"), ("d", "f8")):
        for number, text in enumerate(RANGES):
            name = f"{code}{number}"
            leaves[name] = f"{name}/{code}{text}"
            columns[name] = generator(0, name).uniform(0.0, 0.7, 300).astype(dtype)
    write_leaves(path, leaves, columns, "zstd", Tree(cluster_entries=100))


#: Ranges whose upper end is overshot when the largest integer is scaled back.
OVERSHOT = ((8, (-4.01, -1.55)), (8, (-7.3, 2.13)), (13, (-9.18, -4.6)), (20, (-7.3, 2.13)))


def write_overshot(path: Path) -> None:
    """Write quantized reals that reach the upper end of their range."""
    fields = [
        Field(f"q{number}", "double", "f8", ("Real32Quant",), bits, limits)
        for number, (bits, limits) in enumerate(OVERSHOT)
    ]
    write_fields(path, fields, 300)


#: What files of Arrow's formats hold: numbers and vectors, and as dictionaries those of few values.
NUMBERS = ("?", *(f"{code}{size}" for code in "iu" for size in (1, 2, 4, 8)), "f4", "f8")


def arrow_table(entries: int = 1700) -> Any:
    """Return a table with columns of each type of numbers, plain, in dictionaries, and in vectors."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for code in NUMBERS:
        name = {"?": "boolean"}.get(code, np.dtype(code).name)
        values = any_values(code, entries, generator(0, "arrow", name))
        columns[name] = pa.array(values)
        columns[f"few.{name}"] = pa.array(
            values[:7].repeat(-(-entries // 7))[:entries]
        ).dictionary_encode()
        lengths = generator(0, "lengths", name).integers(0, 4, entries)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        elements = any_values(code, offsets[-1], generator(0, "elements", name))
        columns[f"vector_{name}"] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements)
        fixed = any_values(code, 6 * entries, generator(0, "fixed", name))
        columns[f"fixed_{name}"] = pa.FixedSizeListArray.from_arrays(pa.array(fixed), 6)
    columns["time"] = pa.array(any_values("i8", entries, generator(0, "time"))).cast(pa.timestamp("ns"))
    columns["text"] = pa.array([f"entry {number}" for number in range(entries)])
    return pa.table(columns)


def write_parquet(path: Path, **options: Any) -> None:
    """Write a table in row groups of 600 entries."""
    import pyarrow.parquet as pq

    pq.write_table(arrow_table(), path, row_group_size=600, **options)


def write_arrow(path: Path, compression: str | None = None) -> None:
    """Write a table in record batches of 500 entries, one of none among them."""
    import pyarrow as pa

    table = arrow_table()
    options = pa.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=True)
    with pa.ipc.new_file(path, table.schema, options=options) as file:
        file.write_table(table.slice(0, 500))
        file.write_batch(table.to_batches()[0].slice(0, 0))
        file.write_table(table.slice(500), 500)


def parquet_truth(path: Path, name: str) -> Columns:
    import pyarrow.parquet as pq

    return scalars_of(pq.read_table(path))


def arrow_truth(path: Path, name: str) -> Columns:
    import pyarrow as pa

    return scalars_of(pa.ipc.open_file(path).read_all())


def scalars_of(table: Any) -> Columns:
    """Return the columns of one number in each entry."""
    scalars = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name == "time":
            scalars[name] = column.to_numpy().view(np.int64)
        elif not name.startswith(("vector", "fixed", "text")):
            scalars[name] = column.to_numpy()
    return scalars


ARROW_SUBJECTS = (
    *(
        Subject(
            f"parquet-{id_}",
            arrow_source,
            functools.partial(write_parquet, **options),
            "",
            parquet_truth,
            suffix=".parquet",
        )
        for id_, options in {
            "zstd": {"compression": "zstd"},
            "plain": {"compression": "none", "use_dictionary": False, "write_statistics": False},
            "pages": {"data_page_size": 500, "data_page_version": "2.0", "write_page_checksum": True},
            "split": {"use_dictionary": False, "use_byte_stream_split": ["float32", "float64"]},
        }.items()
    ),
    *(
        Subject(
            f"arrow-{compression}",
            arrow_source,
            functools.partial(write_arrow, compression=compression),
            "",
            arrow_truth,
            suffix=".arrow",
        )
        for compression in (None, "lz4", "zstd")
    ),
)


def hdf5_sets(entries: int = 1700) -> dict[str, Array]:
    """Return data sets of each type of numbers: plain, with their bytes swapped, and in tables."""
    sets: dict[str, Array] = {}
    for code in NUMBERS:
        name = {"?": "boolean"}.get(code, np.dtype(code).name)
        values = any_values(code, entries, generator(0, "hdf5", name))
        sets[name] = values
        if code not in ("?", "i1", "u1"):
            sets[f"swapped/{name}"] = values.astype(f">{code}")
        sets[f"fixed/{name}"] = any_values(code, 6 * entries, generator(0, "6", name)).reshape(-1, 6)
    fields = [(f"{name}s", sets[name].dtype) for name in ("boolean", "int16", "float32", "float64")]
    jets = sets["jets"] = np.zeros(entries, [*fields, ("deep", [("a", ">u4"), ("b", "i1")])])
    for name in jets.dtype.names[:-1]:
        jets[name] = sets[name[:-1]]
    jets["deep"]["a"], jets["deep"]["b"] = sets["uint32"], sets["int8"]
    tracks = sets["tracks"] = np.zeros((entries, 5), [("d0", "f4"), ("z0", ">f8"), ("valid", "?")])
    random = generator(0, "hdf5 tracks")
    tracks["d0"] = any_values("f4", 5 * entries, random).reshape(-1, 5)
    tracks["z0"] = any_values("f8", 5 * entries, random).reshape(-1, 5)
    tracks["valid"] = random.integers(0, 2, (entries, 5))
    return sets


def write_hdf5(path: Path, chunks: int = 0, **options: Any) -> None:
    """Write data sets, in chunks of some entries or in one piece."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in hdf5_sets().items():
            shape = (chunks, *(-(-size // 2) for size in values.shape[1:])) if chunks else None
            file.create_dataset(name, data=values, chunks=shape, **options)
        file["text"] = [f"entry {number}" for number in range(1700)]


def hdf5_truth(path: Path, name: str) -> Columns:
    import h5py

    columns: dict[str, Array] = {}

    def note(name: str, values: Array) -> None:
        if values.dtype.names:
            for field in values.dtype.names:
                note(f"{name}.{field}", values[field])
        elif values.ndim == 1 and values.dtype.kind != "O":
            columns[name] = values.astype(values.dtype.newbyteorder("="))

    with h5py.File(path) as file:
        file.visititems(
            lambda name, each: (
                note(name.replace("/", "."), each[()]) if isinstance(each, h5py.Dataset) else None
            )
        )
    return columns


HDF5_SUBJECTS = tuple(
    Subject(
        f"hdf5-{id_}",
        hdf5_source,
        functools.partial(write_hdf5, **options),
        "",
        hdf5_truth,
        suffix=".h5",
    )
    for id_, options in {
        "one-piece": {},
        "plain": {"chunks": 400},
        "gzip": {"chunks": 600, "compression": "gzip"},
        "gzip-shuffled": {"chunks": 600, "compression": "gzip", "shuffle": True},
        "lzf-shuffled": {"chunks": 333, "compression": "lzf", "shuffle": True},
        "lzf": {"chunks": 1700, "compression": "lzf"},
        "checksums": {"chunks": 600, "compression": "gzip", "fletcher32": True},
    }.items()
)


def write_csv(path: Path, delimiter: str = ",", end: str = "\n") -> None:
    """Write a table of numbers and texts, in which delimiters and line breaks are quoted."""
    columns: dict[str, Sequence[object]] = {
        "integer": any_values("i8", 1700, generator(0, "csv")).tolist(),
        "int8": any_values("i1", 1700, generator(0, "csv i1")).tolist(),
        "large": [(1 << 64) - 1, *any_values("u8", 1699, generator(0, "csv u8")).tolist()],
        "real": any_values("f8", 1700, generator(0, "csv f8")).tolist(),
        "float32": any_values("f4", 1700, generator(0, "csv f4")).tolist(),
        "late": [*range(1699), 0.5],
        "boolean": [str(each) for each in any_values("?", 1700, generator(0, "csv ?"))],
        "text": [f'{number}{delimiter}"\n\né' * (number % 3) for number in range(1700)],
    }
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def csv_truth(path: Path, name: str) -> Columns:
    """Return what Python's own functions make of the texts."""
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    kinds = {"integer": "i8", "int8": "i8", "large": "u8"}
    return {
        **{name: np.array([int(text) for text in columns[name]], kinds[name]) for name in kinds},
        **{name: np.array([float(t) for t in columns[name]]) for name in ("real", "float32", "late")},
        "boolean": np.array([text == "True" for text in columns["boolean"]]),
    }


CSV_SUBJECTS = (
    Subject("csv", csv_source, write_csv, "", csv_truth, suffix=".csv"),
    Subject(
        "tsv",
        csv_source,
        functools.partial(write_csv, delimiter="\t", end="\r\n"),
        "",
        csv_truth,
        suffix=".tsv",
    ),
)

SUBJECTS = (
    *(Subject(case.id, root_source, case.write, case.name, root_truth, case.large) for case in CASES),
    Subject("tree-packed-leaf-lists", root_source, write_packed, "events", root_truth),
    Subject("tree-packed-ranges", root_source, write_ranges, "events", root_truth),
    Subject("ntuple-quantized-ends", root_source, write_overshot, "events", root_truth),
    *(ARROW_SUBJECTS if importlib.util.find_spec("pyarrow") else ()),
    *(CSV_SUBJECTS if importlib.util.find_spec("pyarrow") else ()),
    *(HDF5_SUBJECTS if importlib.util.find_spec("h5py") else ()),
)

# Most of these are written by ROOT.
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # ROOT's, about classes and merging
]


@dataclass(frozen=True)
class Sample:
    """A written file, its truth, and the index of all its scalar columns."""

    subject: Subject
    location: Location
    truth: Columns
    index: FileIndex

    def read(
        self, names: Sequence[str], start: int, stop: int, scratch: Scratch | None = None
    ) -> dict[str, Array]:
        outs = {name: np.full(stop - start, 77, self.index.columns[name].type.dtype) for name in names}
        yielded = self.subject.source.read(
            self.index,
            names,
            start,
            stop,
            outs.__getitem__,
            scratch or Scratch(),
            threading.Event(),
        )
        pairs = list(yielded)
        assert [name for name, _ in pairs] == list(names)
        assert all(out is outs[name] for name, out in pairs)
        return outs


@pytest.fixture(scope="session")
def make_sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Subject], Sample]:
    folder = tmp_path_factory.mktemp("sources")

    @functools.cache
    def make(subject: Subject) -> Sample:
        path = folder / f"{subject.id}{subject.suffix}"
        subject.write(path)
        truth = subject.truth(path, subject.name)
        location = Location(str(path), subject.name)
        return Sample(subject, location, truth, subject.source.index(location, list(truth)))

    return make


def parameters(subjects: Iterable[Subject]) -> Any:
    return pytest.mark.parametrize(
        "subject", [pytest.param(each, id=each.id, marks=marks_of(each)) for each in subjects]
    )


def marks_of(subject: Subject) -> list[pytest.MarkDecorator]:
    """Large ones run always with checksums within, and without only when tests are thorough."""
    return [pytest.mark.thorough] * (subject.large and "lz4" not in subject.id)


every_subject = parameters(SUBJECTS)
small_subjects = parameters(each for each in SUBJECTS if not each.large)
large_subjects = parameters(each for each in SUBJECTS if each.large)


def assert_same_bits(got: Array, want: Array, what: str) -> None:
    """Compare dtypes and bytes: zeros have signs, and NaNs have payloads."""
    assert got.dtype == want.dtype, what
    assert got.shape == want.shape, what
    if got.tobytes() != want.tobytes():
        words = f"u{got.dtype.itemsize}"
        places = np.flatnonzero(got.view(words) != want.view(words))[:3]
        pytest.fail(f"{what}: entries {places}: got {got[places]}, expected {want[places]}")


@every_subject
def test_columns_have_the_readers_names_and_dtypes(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    name, types = subject.source.types(sample.location)
    assert name == subject.name
    scalars = {column: type_.dtype for column, type_ in types.items() if type_.kind == "scalar"}
    # Orders differ: in a file that was merged, or where fields came late, none is the right one.
    assert scalars == {column: values.dtype for column, values in sample.truth.items()}
    assert all(type_.dtype is None for type_ in types.values() if type_.kind in ("text", "other"))


@every_subject
def test_the_index_covers_every_entry(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    index = sample.index
    assert index.path == sample.location.path
    assert index.object_path == subject.name
    assert index.file_bytes == Path(index.path).stat().st_size
    assert {index.entries} == {len(values) for values in sample.truth.values()}
    for column in index.columns.values():
        if column.pages is None:
            continue
        bounds = column.pages.bounds
        assert bounds[0] == 0
        assert bounds[-1] == index.entries
        assert np.all(np.diff(bounds) > 0)
        assert len(column.pages) == len(bounds) - 1 == len(column.pages.stored_bytes)


@every_subject
def test_whole_columns_are_the_readers_bit_for_bit(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    scratch = Scratch()
    names = list(sample.truth)
    for order in (names, names[::-1]):  # twice with one scratch, whose contents must not matter
        for name, got in sample.read(order, 0, sample.index.entries, scratch).items():
            assert_same_bits(got, sample.truth[name], name)
    scratch.close()


@small_subjects
def test_parts_of_columns_are_parts_of_the_whole(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    entries = sample.index.entries
    random = generator(0, subject.id)
    scratch = Scratch()
    ends = [(0, 0), (entries, entries), (0, min(1, entries)), (max(0, entries - 1), entries)]
    parts = [*ends, *(sorted(random.integers(0, entries + 1, 2)) for _ in range(6))]
    for column in sample.index.columns.values():
        if column.pages is not None and len(column.pages):
            # Within one page, and across the boundary of two.
            page = int(random.integers(0, len(column.pages)))
            low, high = column.pages.bounds[page : page + 2]
            parts += [((low + high) // 2, high), (low, min(high + 1, entries))]
    if len(parts) > 16:
        parts = [*ends, *(parts[i] for i in random.integers(4, len(parts), 12))]
    for start, stop in parts:
        names = list(random.permutation(list(sample.truth)))[: 1 + int(random.integers(0, 40))]
        for name, got in sample.read(names, int(start), int(stop), scratch).items():
            assert_same_bits(got, sample.truth[name][start:stop], f"{name} [{start}, {stop})")
    scratch.close()


@large_subjects
def test_parts_of_pages_in_several_pieces(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    border = ((1 << 24) - 1) // 8  # the element that lies in two pieces
    scratch = Scratch()
    for start, stop in [(border - 2, border + 3), (sample.index.entries - 1, sample.index.entries)]:
        for name, got in sample.read(list(sample.truth), start, stop, scratch).items():
            assert_same_bits(got, sample.truth[name][start:stop], f"{name} [{start}, {stop})")


@small_subjects
def test_vectors_of_numbers_are_the_plain_paths(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    """A fast path gives what `read_awkward` gives."""
    sample = make_sample(subject)
    _, types = subject.source.types(sample.location)
    names = [name for name, type_ in types.items() if type_.kind == "vector" and type_.dtype is not None]
    index = subject.source.index(sample.location, names)
    stop = index.entries
    start = stop // 3
    scratch = Scratch()
    outs = subject.source.read(index, names, start, stop, pytest.fail, scratch, threading.Event())
    got = dict(outs)
    assert list(got) == names
    for name, jagged in got.items():
        assert isinstance(jagged, Jagged)
        want = subject.source.read_awkward(index, name, start, stop, scratch)
        counts = ak.to_numpy(ak.num(want, axis=1))
        assert jagged.offsets.tolist() == np.concatenate([[0], np.cumsum(counts)]).tolist()
        assert_same_bits(jagged.values, ak.to_numpy(ak.flatten(want, axis=1)), name)
        assert subject.source.vector_bytes(index, name) >= 8
    scratch.close()


FLAT = ("tree-flat-zstd", "ntuple-flat-zstd", "parquet-zstd", "arrow-None", "hdf5-gzip-shuffled", "csv")

flat_subjects = parameters(each for each in SUBJECTS if each.id in FLAT)


@flat_subjects
def test_columns_may_share_memory(subject: Subject, make_sample: Callable[[Subject], Sample]) -> None:
    sample = make_sample(subject)
    memory = np.empty(8 * 900, np.uint8)

    def out_for(name: str) -> Array:
        dtype = sample.index.columns[name].type.dtype
        assert dtype is not None
        return memory[: 900 * dtype.itemsize].view(dtype)

    stopped = threading.Event()
    reading = subject.source.read(
        sample.index, list(sample.truth), 100, 1000, out_for, Scratch(), stopped
    )
    for name, got in reading:
        assert_same_bits(got, sample.truth[name][100:1000], name)


@flat_subjects
def test_a_stopped_reading_yields_nothing_more(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    stopped = threading.Event()
    outs = {name: np.empty(10, values.dtype) for name, values in sample.truth.items()}
    reading = subject.source.read(sample.index, list(outs), 0, 10, outs.__getitem__, Scratch(), stopped)
    next(iter(reading))
    stopped.set()
    assert list(reading) == []


@flat_subjects
def test_unknown_columns_are_named_with_the_nearest(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    with pytest.raises(MissingColumnError) as raised:
        subject.source.index(sample.location, ["boolean", "Float23"])
    where = sample.index.where
    assert str(raised.value).startswith(f"{where} has no column 'Float23'. Did you mean ")
    assert "'float32'" in str(raised.value)


@flat_subjects
def test_only_the_columns_that_were_asked_for_are_indexed(
    subject: Subject, make_sample: Callable[[Subject], Sample]
) -> None:
    sample = make_sample(subject)
    index = subject.source.index(sample.location, ["int8", "boolean", "int8"])
    assert set(index.columns) == {"int8", "boolean"}


@flat_subjects
def test_nothing_stays_open(subject: Subject, make_sample: Callable[[Subject], Sample]) -> None:
    sample = make_sample(subject)
    sample.read(["int8"], 0, 10)  # pyarrow opens a pipe for signals, once in a process
    before = set(Path("/proc/self/fd").iterdir())
    threads = threading.active_count()
    subject.source.types(sample.location)
    subject.source.index(sample.location, ["int8"])
    sample.read(["int8"], 0, 10)
    names = list(sample.truth)
    outs = {name: np.empty(10, values.dtype) for name, values in sample.truth.items()}
    unfinished = subject.source.read(
        sample.index, names, 0, 10, outs.__getitem__, Scratch(), threading.Event()
    )
    next(iter(unfinished))
    del unfinished
    assert set(Path("/proc/self/fd").iterdir()) <= before
    assert threading.active_count() == threads


def test_every_source_has_what_the_package_asks_of_it() -> None:
    asked = [name for name in vars(sources.Source) if not name.startswith("_")]
    assert len(asked) == 8
    for source in (root_source, sources.arrays, sources.joined, arrow_source):
        for name in asked:
            ours = [*inspect.signature(getattr(source, name)).parameters]
            assert ours == [*inspect.signature(getattr(sources, name)).parameters]
