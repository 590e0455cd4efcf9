"""Vectors: every layout that ROOT and uproot write, read by our kernels and compared with both."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from rootfeed import sources
from rootfeed.errors import UnsupportedColumnError
from rootfeed.schema import ABSENT, Column, FileIndex, Jagged, Pages
from rootfeed.sources import Location, Scratch, lots, pages, root, storage
from rootfiles import COMPRESSIONS
from rootfiles.values import generator
from rootfiles.vectors import (
    ELEMENT_ENCODINGS,
    Vector,
    Vectors,
    ntuple_vectors,
    read_vectors_with_root,
    tree_vectors,
)

Array = np.ndarray

needs_root = [
    pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

#: Columns whose values ROOT alters when it writes them.
ALTERED = ("packed_", "triple_", *ELEMENT_ENCODINGS)

#: Columns that uproot reads as something else: packed reals as plain ones, or rounded.
NOT_BY_UPROOT = ("packed_", "triple_", "quantized")


@dataclass(frozen=True)
class Case:
    id: str
    write: Callable[..., Vectors] = field(hash=False)
    entries: int
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


CASES = (
    *(
        Case(f"{kind}-{compression}", write, 900, {"compression": compression})
        for kind, write in [("tree", tree_vectors), ("ntuple", ntuple_vectors)]
        for compression in COMPRESSIONS
    ),
    *(
        Case(f"{kind}-{pattern}", write, 700, {"pattern": pattern})
        for kind, write in [("tree", tree_vectors), ("ntuple", ntuple_vectors)]
        for pattern in ("rare", "never", "long")
    ),
    *(
        Case(f"{kind}-tiny", write, 150, {"cluster_entries": 7, size: 70})
        for kind, write, size in [
            ("tree", tree_vectors, "basket_bytes"),
            ("ntuple", ntuple_vectors, "page_bytes"),
        ]
    ),
    *(
        Case(f"{kind}-one-entry", write, 1)
        for kind, write in [("tree", tree_vectors), ("ntuple", ntuple_vectors)]
    ),
    Case("tree-large", tree_vectors, 2000, {"cluster_entries": 2001, "basket_bytes": 64_000}),
    Case("ntuple-large", ntuple_vectors, 2000, {"cluster_entries": 2001, "page_bytes": 64_000}),
    Case("tree-embedded", tree_vectors, 700, {"embedded": True}),
    Case("tree-embedded-only", tree_vectors, 40, {"embedded": True}),
    Case("tree-without-positions", tree_vectors, 900, {"positions": False}),
    Case("tree-without-anything", tree_vectors, 700, {"positions": False, "pattern": "never"}),
    Case("ntuple-late", ntuple_vectors, 900, {"late": 400}),
    Case("ntuple-late-between", ntuple_vectors, 900, {"late": 300, "cluster_entries": 300}),
)


@dataclass(frozen=True, eq=False)
class Sample:
    """A written file, what it holds, and the index of all its columns."""

    case: Case
    location: Location
    given: Vectors
    index: FileIndex

    @functools.cached_property
    def whole(self) -> dict[str, Any]:
        """Everything, in memory of its own."""
        names = [name for name, column in self.index.columns.items() if column.type.dtype is not None]
        return self.read(names, 0, self.case.entries)

    @property
    def names(self) -> list[str]:
        return numbers(self.index)

    def read(self, names: list[str], start: int, stop: int, scratch: Scratch | None = None) -> Any:
        return read(self.index, names, start, stop, scratch)


def numbers(index: FileIndex) -> list[str]:
    """Return the vectors of numbers."""
    types = {name: column.type for name, column in index.columns.items()}
    return [name for name, type_ in types.items() if type_.kind == "vector" and type_.dtype is not None]


def read(
    index: FileIndex, names: list[str], start: int, stop: int, scratch: Scratch | None = None
) -> dict[str, Any]:
    def out_for(name: str) -> Array:
        type_ = index.columns[name].type
        assert type_.kind == "scalar"
        return np.full(stop - start, 77, type_.dtype)

    reading = sources.read(index, names, start, stop, out_for, scratch or Scratch(), threading.Event())
    pairs = list(reading)
    assert [name for name, _ in pairs] == names
    return dict(pairs)


def index_all(location: Location) -> FileIndex:
    return sources.index(location, list(sources.types(location)[1]))


@pytest.fixture(scope="session")
def make_sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Sample]:
    folder = tmp_path_factory.mktemp("vectors")

    @functools.cache
    def make(case: Case) -> Sample:
        path = folder / f"{case.id}.root"
        given = case.write(path, case.entries, **case.options)
        location = Location(str(path), "events")
        return Sample(case, location, given, index_all(location))

    return make


Make = Callable[[Case], Sample]


def every(*ids: str) -> Any:
    chosen = [case for case in CASES if not ids or case.id in ids]
    assert len(chosen) == (len(ids) or len(CASES))
    return pytest.mark.parametrize("case", [pytest.param(each, id=each.id) for each in chosen])


def assert_same(got: Jagged, want: Vector | Jagged, what: str) -> None:
    """Compare bit for bit."""
    assert got.offsets.dtype == np.int64, what
    assert got.offsets.tolist() == want.offsets.tolist(), what
    assert got.values.dtype == want.values.dtype, what
    assert len(got.values) == got.offsets[-1], what
    assert got.values.tobytes() == want.values.tobytes(), what


def flattened(values: ak.Array, dtype: Any) -> Vector:
    counts = ak.to_numpy(ak.num(values, axis=1))
    flat = ak.to_numpy(ak.flatten(values, axis=1))
    # uproot leaves reals as they are stored.
    assert flat.dtype == dtype or (flat.dtype.kind == "f" and np.can_cast(flat.dtype, dtype))
    return Vector(flat.astype(dtype), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def part(whole: Vector | Jagged, start: int, stop: int) -> Vector:
    offsets = whole.offsets[start : stop + 1]
    return Vector(whole.values[offsets[0] : offsets[-1]], offsets - offsets[0])


@pytest.mark.usefixtures("make_sample")
class TestFilesOfRoot:
    """Parametrized over `CASES`."""

    pytestmark = needs_root

    @every()
    def test_every_vector_is_what_root_was_given(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        assert set(sample.given) <= set(sample.names)
        scratch = Scratch()
        for names in (sample.names, sample.names[::-1]):  # twice with one scratch
            got = sample.read(names, 0, case.entries, scratch)
            for name, want in sample.given.items():
                if not name.startswith(ALTERED):
                    assert_same(got[name], want, name)
                else:
                    assert got[name].offsets.tolist() == want.offsets.tolist()

    @every()
    def test_every_vector_goes_through_our_kernels(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        columns = sample.index.columns
        assert [name for name in sample.names if columns[name].pages is None] == []
        assert len(sample.names) >= 40
        assert columns["nested"].type.dtype is None

    @every("tree-zstd", "ntuple-zstd", "ntuple-late", "tree-embedded")
    def test_every_vector_is_what_root_reads(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        got = sample.read(sample.names, 0, case.entries)
        # Members are branches that TTreeReader finds, and fields that RNTupleView does not.
        names = [name for name in sample.given if "." not in name]
        dtypes = {name: str(got[name].values.dtype) for name in names}
        for name, want in read_vectors_with_root(sample.location.path, "events", dtypes).items():
            assert_same(got[name], want, name)

    @every("tree-without-positions")
    def test_positions_come_from_counts(self, case: Case, make_sample: Make) -> None:
        # Not compared with ROOT, which takes the three bytes of a Float16_t for four there.
        sample = make_sample(case)
        other = make_sample(next(case for case in CASES if case.id == "tree-zstd"))
        counted = [name for name in sample.names if name.startswith(("leaf_", "packed_"))]
        for name in counted:
            column = sample.index.columns[name]
            assert column.counts is not None
            assert column.counts.name == "n"
            assert other.index.columns[name].counts is None
        for name in sample.names:
            assert_same(sample.whole[name], other.whole[name], name)

    # Where positions are left out, uproot takes the counts of the basket with the same number, whatever
    # its entries are.
    @pytest.mark.thorough(but=["tree-tiny", "ntuple-tiny", "tree-long", "ntuple-late"])
    @every(*(case.id for case in CASES if not case.id.startswith("tree-without")))
    def test_every_vector_is_what_uproot_reads(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        names = [name for name in sample.names if not name.startswith(NOT_BY_UPROOT)]
        got = sample.read(names, 0, case.entries)
        with uproot.open(sample.location.path) as file:
            events = file["events"]
            for name in names:
                column = sample.index.columns[name]
                is_ntuple = sample.index.format == "RNTuple"
                field = events.all_fields[int(column.key)] if is_ntuple else events[column.key]
                want = field.array()
                assert_same(got[name], flattened(want, column.type.dtype), name)
                plain = sources.read_awkward(sample.index, name, 0, case.entries)
                assert plain.type == want.type or name in ELEMENT_ENCODINGS
                assert_same(got[name], flattened(plain, column.type.dtype), name)

    @pytest.mark.parametrize("kind", ["tree", "ntuple"])
    @given(data=st.data())
    def test_parts_are_parts_of_the_whole(
        self, kind: str, data: st.DataObject, make_sample: Make
    ) -> None:
        cases = [case for case in CASES if case.id.startswith(kind)]
        case = data.draw(st.sampled_from(cases))
        sample = make_sample(case)
        start = data.draw(st.integers(0, case.entries))
        stop = data.draw(st.integers(start, case.entries))
        scalars = [name for name, column in sample.index.columns.items() if column.type.kind == "scalar"]
        names = data.draw(st.lists(st.sampled_from([*sample.names, *scalars]), unique=True, max_size=6))
        whole = sample.whole
        for name, got in sample.read(names, start, stop).items():
            if isinstance(got, Jagged):
                assert_same(got, part(whole[name], start, stop), name)
            else:
                assert got.tobytes() == whole[name][start:stop].tobytes()

    @pytest.mark.thorough("ntuple-tiny")
    @every("tree-tiny", "ntuple-tiny", "tree-embedded", "ntuple-late", "tree-without-positions")
    def test_parts_at_every_page_boundary(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        scratch = Scratch()
        whole = sample.whole
        for name in sample.names:
            column = sample.index.columns[name]
            bounds = column.entry_bounds.tolist()
            assert bounds[0] == 0
            assert bounds[-1] == case.entries
            assert np.all(np.diff(bounds) > 0)
            if column.offsets is not None:
                assert set(bounds) <= set(column.offsets.bounds.tolist())
                bounds = column.offsets.bounds.tolist()
            for bound in bounds[:: 1 + len(bounds) // 12]:
                for start in {max(0, bound - 1), bound}:
                    for stop in {min(bound + 1, case.entries), case.entries}:
                        got = sample.read([name], start, max(start, stop), scratch)[name]
                        assert_same(got, part(whole[name], start, max(start, stop)), name)

    @every("ntuple-zstd")
    def test_columns_of_a_collection_share_their_offsets(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        names = ["points.x", "points.y", "vector_float32", "also_float32", "rvec_float32"]
        got = sample.read(names, 100, 500)
        assert got["points.x"].offsets is got["points.y"].offsets
        assert got["also_float32"].offsets is got["vector_float32"].offsets
        assert got["rvec_float32"].offsets is not got["vector_float32"].offsets
        columns = sample.index.columns
        assert columns["points.x"].offsets is columns["points.y"].offsets
        assert columns["points.x"].type.text == "ROOT::VecOps::RVec<float>"
        assert columns["points"].type.dtype is None

    @every("ntuple-zstd", "ntuple-tiny", "ntuple-never")
    def test_sizes_of_collections_come_from_offsets(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        column = sample.index.columns["n_points"]
        assert column.pages is None
        assert column.offsets is sample.index.columns["points.x"].offsets
        for start, stop in [(0, case.entries), (70, 149), (33, 33)]:
            got = sample.read(["n_points"], start, stop)["n_points"]
            assert got.dtype == np.uint64
            want = np.diff(sample.given["points.x"].offsets)[start:stop]
            assert got.tolist() == want.tolist()

    @every("tree-zstd", "ntuple-zstd")
    def test_vectors_stay_valid_while_others_are_read(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        scratch = Scratch()
        first, second = sample.names[::2], sample.names[1::2]
        kept = sample.read(first, 0, 300, scratch) | sample.read(second, 300, 900, scratch)
        for name, got in kept.items():
            start, stop = (0, 300) if name in first else (300, 900)
            assert_same(got, sample.read([name], start, stop)[name], name)

    @every("tree-zstd", "ntuple-zstd")
    def test_vectors_of_vectors_come_as_awkward_arrays(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        with uproot.open(sample.location.path) as file:
            want = file["events"]["nested"].array()
        got = sources.read_awkward(sample.index, "nested", 100, 500)
        assert ak.array_equal(got, want[100:500], equal_nan=True)
        with pytest.raises(UnsupportedColumnError) as raised:
            sample.read(["nested"], 0, 10)
        assert str(raised.value) == (
            f"{sample.index.where}: column 'nested' ({sample.index.columns['nested'].type.text}) is no "
            "vector of numbers: read it with read_awkward."
        )

    @every("tree-zstd", "ntuple-zstd")
    def test_without_tables_uproot_reads_the_same(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        columns = {
            name: replace(column, pages=None, offsets=None, length=0)
            for name, column in sample.index.columns.items()
            if not name.startswith(NOT_BY_UPROOT)
        }
        index = replace(sample.index, columns=columns)
        scratch = Scratch()
        for name, got in read(index, numbers(index), 250, 730, scratch).items():
            assert_same(got, part(sample.whole[name], 250, 730), name)
            assert_same(read(index, [name], 9, 9, scratch)[name], part(sample.whole[name], 9, 9), name)
        scratch.close()

    @every("ntuple-zstd")
    def test_records_come_as_awkward_arrays(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        got = sources.read_awkward(sample.index, "points", 100, 500)
        want = part(sample.given["points.y"], 100, 500)
        assert_same(Jagged(want.values, want.offsets), flattened(got["y"], np.dtype("f8")), "points")

    @every()
    def test_sizes_are_known_before_reading(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        got = sample.read(sample.names, 0, case.entries)
        for name, jagged in got.items():
            estimate = sources.vector_bytes(sample.index, name)
            real = jagged.values.nbytes / case.entries + 8
            if "tree" not in case.id or sample.index.columns[name].length:
                assert estimate == pytest.approx(real)
            elif "embedded" not in case.id:
                assert real <= estimate <= 1.3 * real + 60

    @every("ntuple-large", "ntuple-tiny")
    def test_only_pages_that_are_needed_are_read(
        self, case: Case, make_sample: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sample = make_sample(case)
        monkeypatch.setattr(lots.Lots, "fill", lambda *_: False)
        fetched: list[tuple[Pages, int]] = []
        contents = pages.PageReader.contents

        def recording(self: Any, table: Pages, page: int, *rest: Any) -> Array:
            fetched.append((table, page))
            return contents(self, table, page, *rest)

        monkeypatch.setattr(pages.PageReader, "contents", recording)
        for name in sample.names:
            column = sample.index.columns[name]
            start, stop = case.entries // 2, case.entries // 2 + 3
            whole = sample.given[name].offsets
            fetched.clear()
            sample.read([name], start, stop)
            assert column.pages is not None
            values = [page for table, page in fetched if table is column.pages]
            bounds = column.pages.bounds
            needed = [
                page
                for page in range(len(column.pages))
                if max(bounds[page], whole[start]) < min(bounds[page + 1], whole[stop])
                and column.pages.offset[page] != ABSENT
            ]
            assert values == needed
            assert len(fetched) - len(values) <= (3 if column.offsets is not None else 0)

    @every("tree-zstd", "ntuple-zstd", "tree-without-positions", "ntuple-late")
    def test_all_that_is_read_was_announced(
        self, case: Case, make_sample: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pages of a remote file are fetched at once, not one by one."""
        announced: set[tuple[int, int]] = set()

        class Announced(storage.LocalStorage):
            def prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
                announced.clear()  # as a remote storage forgets
                announced.update(ranges)

            def read_into(self, offset: int, out: Array) -> None:
                assert (offset, len(out)) in announced
                super().read_into(offset, out)

        sample = make_sample(case)
        monkeypatch.setattr(lots, "_GAP_BYTES", -1)  # as of remote files
        monkeypatch.setattr(
            root, "open_storage", lambda address, version, _: Announced(address.urls[0], version)
        )
        for start, stop in [(0, case.entries), (399, 401), (301, 302), (7, 7)]:
            sample.read(sample.names, start, stop)

    @every("tree-zstd", "ntuple-zstd")
    def test_a_stopped_reading_yields_nothing_more(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        stopped = threading.Event()
        reading = sources.read(sample.index, sample.names, 0, 900, pytest.fail, Scratch(), stopped)
        next(iter(reading))
        stopped.set()
        assert list(reading) == []

    @every("tree-zstd", "ntuple-zstd", "tree-without-positions")
    def test_kernels_are_compiled_before(self, case: Case, make_sample: Make) -> None:
        sample = make_sample(case)
        sources.prepare([sample.index])
        from rootfeed import kernels

        names = ("basket_ends", "strip", "page_ends", "unsplit")
        before = {name: len(getattr(kernels, name).signatures) for name in names}
        sample.read(sample.names, 3, case.entries)
        assert {name: len(getattr(kernels, name).signatures) for name in names} == before


# ------------------------------------------------------------------------------- files written by uproot

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def uproot_vectors(entries: int) -> dict[str, ak.Array]:
    columns = {}
    for dtype in DTYPES:
        random = generator(0, "uproot", dtype)
        counts = random.integers(0, 4, entries)
        flat = random.integers(0, 100, int(counts.sum())).astype(dtype)
        columns[f"v_{dtype.replace('?', 'bool')}"] = ak.unflatten(flat, counts)
    return columns


@pytest.mark.parametrize("format", ["TTree", "RNTuple"])
def test_files_of_uproot(format: str, tmp_path: Path) -> None:
    columns = uproot_vectors(500)
    columns["scalar"] = ak.Array(np.arange(500.0))
    columns["fixed"] = ak.Array(np.arange(1500, dtype="i4").reshape(500, 3))
    path = tmp_path / "vectors.root"
    with uproot.recreate(path) as file:
        make: Any = file.mktree if format == "TTree" else file.mkrntuple
        events = make("events", {name: column.type.content for name, column in columns.items()})
        for start in range(0, 500, 130):
            part = {name: column[start : start + 130] for name, column in columns.items()}
            events.extend(part if format == "TTree" else ak.zip(part, depth_limit=1))
    index = index_all(Location(str(path), "events"))
    names = numbers(index)
    assert set(names) == set(columns) - {"scalar"}
    assert all(index.columns[name].pages is not None for name in names)
    for start, stop in [(0, 500), (129, 131), (130, 390), (17, 17), (499, 500)]:
        got = read(index, [*names, "scalar"], start, stop)
        for name in names:
            dtype = index.columns[name].type.dtype
            assert_same(got[name], flattened(columns[name][start:stop], dtype), name)
        assert got["scalar"].tolist() == list(range(start, stop))


def test_entry_bounds_of_arrays_lie_between_entries() -> None:
    nothing = np.zeros(4, np.int64)
    table = Pages(
        bounds=np.array([0, 4, 6, 11, 12]),
        offset=nothing,
        stored_bytes=nothing,
        encoding=nothing.astype(np.uint8),
        checksum=nothing.astype(np.bool_),
        encodings=(),
    )
    column = Column("a", None, table, "a", length=3)
    assert column.entry_bounds.tolist() == [0, 2, 4]
