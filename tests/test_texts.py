"""Columns of text: in expressions, as labels, in functions; compared with Python's own strings."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.errors import (
    ArgumentError,
    DamagedFileError,
    ExpressionError,
    ExpressionTypeError,
    UnsupportedColumnError,
)
from rootfeed.expression import texts as texts_module
from rootfeed.expression.texts import decoded, distinct, encoded, equal, same
from rootfeed.frame import Frame, view_of
from rootfeed.schema import Encoding, Texts
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.pages import Basket
from rootfeed.sources.strings import text_parts, text_places
from rootfiles.texts import FORMATS, TEXTS, write_texts

ENTRIES = 333
WRITTEN = [TEXTS[entry * 7919 % 997 % len(TEXTS)] for entry in range(ENTRIES)]
STRINGS = [decoded(text) for text in WRITTEN]


@pytest.fixture(scope="module", params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_texts(tmp_path_factory.mktemp("texts") / "t.root", request.param, WRITTEN)


@pytest.fixture
def frame(path: str) -> rf.Frame:
    return rf.open(path)


def columns(frame: rf.Frame) -> list[str]:
    return [name for name, type_ in frame.columns.items() if type_.kind == "text" and name != "same"]


def ids(frame: rf.Frame) -> list[int]:
    return frame.arrays("id")["id"].tolist()


def test_texts_are_read_as_they_are_written(frame: rf.Frame) -> None:
    names = columns(frame)
    assert names in (["c", "s", "ts"], ["s"])
    for name in names:
        assert frame.arrays(name)[name].to_list() == STRINGS
        assert frame.filter("id >= 300").arrays(name)[name].to_list() == STRINGS[300:]
    empty = frame.filter("id < 0").arrays("s")["s"]
    assert len(empty) == 0
    assert "string" in str(empty.type)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ('{} == "Zbl"', lambda text: text == "Zbl"),
        ("{} != 'Zbl'", lambda text: text != "Zbl"),
        ('"Zbl" == {}', lambda text: text == "Zbl"),
        ('{} == ""', lambda text: text == ""),
        ('{} == "Z→ee"', lambda text: text == "Z→ee"),
        (f'{{}} == "{decoded(TEXTS[5])}"', lambda text: text == decoded(TEXTS[5])),
        (f'{{}} == "{decoded(TEXTS[-1])}"', lambda text: text == decoded(TEXTS[-1])),
        ('{} == "none"', lambda text: False),
        ('{} in ["Zbl", "ttb"]', lambda text: text in ("Zbl", "ttb")),
        ("{} in ('Zbl')", lambda text: text == "Zbl"),
        ('{} in {{"Zbl", ""}}', lambda text: text in ("Zbl", "")),
        ('{} not in ["Zbl", "ttb"]', lambda text: text not in ("Zbl", "ttb")),
        ('not {} in ["Zbl"] and !({} == "ttb")', lambda text: text not in ("Zbl", "ttb")),
        ('{} == "Zbl" || {} == "ttb" ? 1 : 0', lambda text: text in ("Zbl", "ttb")),
    ],
)
def test_comparisons_mean_what_they_mean_in_python(frame: rf.Frame, expression: str, holds: Any) -> None:
    expected = [entry for entry, text in enumerate(STRINGS) if holds(text)]
    for name in columns(frame):
        text = expression.format(name, name)
        assert ids(frame.filter(text)) == expected
        assert frame.filter(text).count() == len(expected)
        made = frame.define("z", f"({text}) ? id : -1").filter("z >= 0")
        assert made.arrays("z")["z"].tolist() == expected
        # Where cuts before it leave entries out, and in the spelling of C++.
        assert ids(frame.filter("id % 3 == 1").filter(text)) == [e for e in expected if e % 3 == 1]
    cpp = Frame(view_of(frame).in_dialect("c++")).define("z", expression.format("s", "s"))
    assert np.flatnonzero(cpp.arrays("z")["z"]).tolist() == expected


def test_columns_of_text_are_compared(frame: rf.Frame) -> None:
    others = [name for name, type_ in frame.columns.items() if type_.kind == "text" and name != "s"]
    for other in others:
        expected = [a == b for a, b in zip(STRINGS, frame.arrays(other)[other].to_list(), strict=True)]
        assert frame.define("z", f"s == {other}").arrays("z")["z"].tolist() == expected
        assert (
            frame.define("z", f"{other} != s").arrays("z")["z"].tolist()
            == (~np.array(expected)).tolist()
        )
    both = frame.define("z", f's in ["Zbl", {others[0]}]').arrays("z")["z"]
    assert both.all() if others[0] != "same" else not both.all()


def test_in_works_for_numbers(frame: rf.Frame) -> None:
    assert ids(frame.filter("id in [3, 5, 1000]")) == [3, 5]
    many = ", ".join(map(str, range(101)))
    with pytest.raises(ExpressionTypeError, match="at most 100 numbers, got 101"):
        frame.filter(f"id in [{many}]")
    assert ids(frame.filter("id not in [3, 5] and id < 8")) == [0, 1, 2, 4, 6, 7]
    found = frame.define("z", "Sum(line[line in {0, 5, 7.0}])").arrays("z")["z"]
    assert found.tolist()[:4] == [0, 5, 7, 0]
    # `in` is a column's name where no operator can be.
    assert list(
        frame.define("in", "id").define("inner", "in + 1").filter("inner in [5]").arrays("in")
    ) == ["in"]


def test_a_redefined_text_is_what_it_was_made(frame: rf.Frame) -> None:
    made = frame.filter('s != "ttb"').redefine("s", 's == "Zbl"').filter("s")
    assert made.columns["s"].kind == "scalar"
    assert made.count() == STRINGS.count("Zbl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s + 1", "which holds text, can only be compared with text"),
        ("s", "which holds text, can only be compared with text"),
        ("s ? 1 : 2", "vectorized=True"),
        ("Sum(s)", "can only be compared"),
        ("s[0]", "can only be compared"),
        ("-s", "can only be compared"),
        ("(int) s", "can only be compared"),
        ('id > 0 ? "a" : "b"', "a text in quotes can only be compared"),
        ('max("a", "b")', "can only be compared"),
        ('"a" == "b"', "can only be compared"),
        ('id == "a"', "can only be compared"),
        ("s == id", "is compared with a number; a text stands in quotes"),
        ("s == 1", "is compared with a number; a text stands in quotes"),
        ('s in [1, "a"]', "is compared with a number"),
        ('s < "a"', "two at a time, by == or !="),
        ('s == "a" == s', "two at a time, by == or !="),
        ("id in [line]", "a vector"),
    ],
)
@pytest.mark.parametrize("dialect", ["python", "c++"])
def test_other_uses_say_what_works(path: str, text: str, message: str, dialect: Any) -> None:
    frame = Frame(view_of(rf.open(path)).in_dialect(dialect))
    uses = [lambda: frame.define("z", text), lambda: frame.filter(text)]
    for use in uses[text == "s" :]:  # a text may have another name
        with pytest.raises(ExpressionTypeError, match=re.escape(message)) as caught:
            use()
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('s == "Zbl', 'does not end: " is missing'),
        ("s == 'Zbl\"", "does not end: ' is missing"),
        ('s == "a\\tb"', "cannot hold a backslash"),
        ('s == "\ud800"', "no Unicode"),
        ("s in []", "not expected here"),
        ('s in "a"', "not expected here"),
    ],
)
def test_texts_that_are_no_expressions(frame: rf.Frame, text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(message)):
        frame.filter(text)


def test_no_text_enters_a_kernel(
    frame: rf.Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    secret = "a_text_of_the_users"
    number = 12.0625 if "ts" in frame.columns else 13.0625  # a kernel that nothing else has compiled
    made = frame.define("z", f's == "{secret}" or s in ["other_{secret}"] ? id + {number} : 0')
    assert not made.arrays("z")["z"].any()
    kernels = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert kernels
    assert not any(secret.encode() in each.read_bytes() for each in kernels)


def test_functions_of_many_entries_get_texts(frame: rf.Frame) -> None:
    def starts(s: Any, id: Any) -> Any:
        assert isinstance(s, ak.Array)
        return np.array([text.startswith("Z") for text in s.to_list()], bool) & (id >= 0)

    made = frame.filter("id > 10").define("z", starts, vectorized=True)
    assert made.arrays("z")["z"].tolist() == [text.startswith("Z") for text in STRINGS[11:]]
    named = frame.define("n", lambda x: ak.num(x), columns=["s"], vectorized=True)
    assert named.arrays("n")["n"].tolist() == list(map(len, WRITTEN))
    batches = rf.Loader(made, 50, ["z"], target="id", seed=1)
    assert all((x[:, 0] == [STRINGS[int(e)].startswith("Z") for e in y[:, 0]]).all() for x, y in batches)
    with pytest.raises(ExpressionTypeError, match=r"which holds text\. Give vectorized=True"):
        frame.define("z", lambda s: 1)


def test_a_text_may_have_another_name(frame: rf.Frame) -> None:
    def lengths(k: Any) -> Any:
        return ak.num(k)

    first = frame.alias("k", "s").define("z", "`k`").select(["k", "z", "id"])
    zbl = [entry for entry in range(ENTRIES) if STRINGS[entry] == "Zbl"]
    for made in (first, first.redefine("s", "id * 2"), first.define("n", lengths, vectorized=True)):
        assert made.columns["k"].kind == "text"
        assert ids(made.filter('z == "Zbl"')) == ids(made.filter('k in ["Zbl"] && k == z')) == zbl
        assert made.filter("id > 9").arrays("k")["k"].to_list() == STRINGS[10:]
        assert made.arrays(["k", "z"])["z"].to_list() == STRINGS
        assert made.filter("id < 0").arrays("k")["k"].to_list() == []
    counted = first.define("n", lengths, vectorized=True).filter('n == 3 && z != "ttb"')
    assert ids(counted) == zbl
    assert counted.arrays("k")["k"].to_list() == ["Zbl"] * len(zbl)
    again = first.redefine("k", 'k == "Zbl"').alias("l", "z").filter('k || l == "ttb"')
    assert ids(again) == [entry for entry in range(ENTRIES) if STRINGS[entry] in ("Zbl", "ttb")]


def test_another_name_for_a_text_is_a_label(frame: rf.Frame, two: rf.Frame) -> None:
    def epoch(made: rf.Frame, parts: dict[str, str], **options: Any) -> list[Any]:
        loader = rf.Loader(made, 8, ["id"], target="id", seed=1, **options)
        sides = (loader, *(loader.split(0.3, **parts) if parts else ()))
        return [each.tolist() for side in sides for batch in side for each in batch]

    def epochs(name: str) -> list[Any]:
        all_, some = (frame, two) if name == "s" else (frame.alias(name, "s"), two.alias(name, "s"))
        return [
            epoch(some, {}, sampling=rf.balanced(name)),
            epoch(some, {"by": name}, weights=rf.normalized("id + 1", per=name)),
            epoch(all_, {"stratify": name}),
        ]

    assert epochs("k") == epochs("s")


def test_a_column_called_text_is_not_what_texts_are_asked(frame: rf.Frame) -> None:
    for name in ("text", "s_0", "kernel"):
        made = frame.define(name, lambda id: id * 2, vectorized=True)
        held = made.filter(f's == "Zbl" && {name} > 300')
        assert ids(held) == [entry for entry in range(151, ENTRIES) if STRINGS[entry] == "Zbl"]
        signed = made.define("signed", f's == "Zbl" ? {name} : -{name}').arrays("signed")["signed"]
        assert signed.tolist() == [
            2 * entry if text == "Zbl" else -2 * entry for entry, text in enumerate(STRINGS)
        ]


# --- labels -----------------------------------------------------------------------------------

SIZES = {"in memory": {}, "streamed": {"chunk_entries": 40, "block_entries": 10}}


@pytest.fixture
def two(frame: rf.Frame) -> rf.Frame:
    return frame.filter('s in ["Zbl", "ttb"]')


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_classes_that_are_texts(two: rf.Frame, sizes: Any) -> None:
    for name in columns(two):
        sampling = rf.balanced(name, {"ttb": 0.75, "Zbl": 0.25})
        loader = rf.Loader(two, 8, ["id"], sampling=sampling, seed=4, **sizes)
        for x in itertools.islice(loader, len(loader) - 1):
            assert Counter(STRINGS[int(entry)] for entry in x[:, 0]) == {"ttb": 6, "Zbl": 2}
        assert loader.plan().batch_rows >= len(loader) * 8 - 8
        assert isinstance(loader.explain(), str)
        equal_shares = rf.Loader(two, 8, ["id"], sampling=rf.balanced(name), seed=4)
        assert equal_shares._pipeline.spec.strata.values == ("Zbl", "ttb")


def test_all_texts_can_be_classes(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 9, ["id"], sampling=rf.balanced("s"), seed=2)
    assert loader._pipeline.spec.strata.values == tuple(sorted(set(STRINGS)))
    state = json.loads(json.dumps(loader.state_dict()))
    rf.Loader(frame, 9, ["id"], sampling=rf.balanced("s"), seed=2).load_state_dict(state)
    with pytest.raises(ArgumentError, match=r"'Zb'.*Did you mean 'Zbl'"):
        rf.Loader(frame, 9, ["id"], sampling=rf.balanced("s", dict.fromkeys([*set(STRINGS), "Zb"], 1.0)))


def test_too_many_texts(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "t.root", "RNTuple", [b"%d" % (entry % 256) for entry in range(1000)])
    with pytest.raises(ArgumentError, match="more than 255 values"):
        rf.Loader(rf.open(path), 9, ["id"], sampling=rf.balanced("s"))


def test_parts_are_stratified_by_text(frame: rf.Frame) -> None:
    for name in columns(frame):
        train, test = rf.Loader(frame, 10, ["id"], seed=1).split(0.25, stratify=name)
        found = Counter(STRINGS[int(entry)] for x in test for entry in x[:, 0])
        counts = Counter(STRINGS)
        assert all(abs(found[text] - 0.25 * counts[text]) <= 1 for text in counts)
        assert train.num_rows + test.num_rows == ENTRIES


def test_texts_decide_a_split(frame: rf.Frame) -> None:
    def sides(by: Any) -> list[set[str]]:
        fractions = {"a": 0.3, "b": 0.3, "c": 0.4}
        parts = rf.Loader(frame, 10, ["id"], seed=6).split(fractions, by=by, seed=6).values()
        return [{STRINGS[int(entry)] for x in part for entry in x[:, 0]} for part in parts]

    every = [sides(name) for name in columns(frame)]
    assert set.union(*every[0]) == set(STRINGS)
    assert sum(map(len, every[0])) == len(set(STRINGS))  # no text is on two sides
    assert all(found == every[0] for found in every)  # whatever holds it
    # On every platform and in every release: states and published splits rest on it.
    assert every[0] == [{decoded(TEXTS[number]) for number in part} for part in SIDES]
    assert sum(len(part) for part in sides(["s", "id"])) > len(set(STRINGS))


#: Which of the texts are on each side.
SIDES = ((3,), (0, 1, 2, 6), (4, 5, 7, 8))


@pytest.mark.parametrize("to", [None, dict.fromkeys(set(STRINGS), 3.0)], ids=["equal", "given"])
def test_weights_are_normalized_by_text(frame: rf.Frame, to: Any) -> None:
    weights = rf.normalized("id + 1", per="s", to=to)
    sums: Counter[str] = Counter()
    for x, _, w in rf.Loader(frame, 40, ["id"], target="id", weights=weights):
        for entry, weight in zip(x[:, 0], w[:, 0].astype(float), strict=True):
            sums[STRINGS[int(entry)]] += weight
    expected = 3.0 if to else sum(range(1, ENTRIES + 1)) / len(set(STRINGS))
    assert set(sums) == set(STRINGS)
    assert list(sums.values()) == pytest.approx([expected] * len(sums), rel=1e-5)


def test_a_label_is_text_in_all_files_or_in_none(path: str, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "n.root") as file:
        file["t"] = {"s": np.arange(10), "id": np.arange(10)}
    numbers = str(tmp_path / "n.root")
    both = rf.open([path, numbers])
    for use in (
        lambda: rf.Loader(both, 5, ["id"], sampling=rf.balanced("s")),
        lambda: rf.Loader([rf.open(path), rf.open(numbers)], 5, ["id"], sampling=rf.balanced("s")),
        lambda: both.arrays("s"),
    ):
        with pytest.raises(UnsupportedColumnError, match="column 's' is a") as caught:
            use()
        assert path in str(caught.value)
        assert numbers in str(caught.value)
    with pytest.raises(ExpressionTypeError, match=re.escape(numbers)):
        both.filter('s == "Zbl"').count()


@pytest.mark.parametrize("use", ["features", "target"])
def test_a_text_is_no_number(frame: rf.Frame, use: str) -> None:
    with pytest.raises(UnsupportedColumnError, match="holds text; it cannot be") as caught:
        rf.Loader(frame, 5, **({"features": ["id"]} | {use: ["s"]}))
    advice = re.search(r"frame = (frame\.define\(.*\)), and name that", str(caught.value))
    assert advice
    made = eval(advice[1].replace("signal", "Zbl"), {"frame": frame})
    assert sum(x[:, 0].sum() for x in rf.Loader(made, 5, ["number"])) == STRINGS.count("Zbl")


def test_roots_words(path: str) -> None:
    df = ROOT.RDataFrame("t", path)
    assert int(df.Filter('s == "Zbl"').Count()) == STRINGS.count("Zbl")
    assert df.Define("z", 's != "Zbl"').AsNumpy(["z"])["z"].sum() == ENTRIES - STRINGS.count("Zbl")
    assert df.AsNumpy(["s"])["s"].tolist() == STRINGS


SPAWNED = """
    import sys
    import rootfeed as rf
    from torch.utils.data import DataLoader

    def main():
        frame = rf.open(sys.argv[1]).filter('s in ["Zbl", "ttb"]').define("z", 's == "Zbl"')
        loader = rf.Loader(
            frame, 8, {"z": ["id", "z"], "image": rf.array("image")}, seed=3, threads=1,
            sampling=rf.balanced("s"), weights=rf.normalized("id + 1", per="s"), target="id",
        )
        batches = DataLoader(loader.torch(), batch_size=None, num_workers=1,
                             multiprocessing_context="spawn", timeout=50)
        print([(x["z"].tolist(), x["image"].tolist()) for x, y, w in batches])

    if __name__ == "__main__":
        main()
"""


@pytest.mark.thorough
def test_workers_that_are_spawned(path: str, tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    script.write_text(textwrap.dedent(SPAWNED))
    ran = subprocess.run(
        [sys.executable, str(script), path],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = eval(ran.stdout)
    seen = [int(entry) for z, _ in found for entry, _ in z]
    assert len(set(seen)) == len(seen) > 50
    for z, image in found:
        for (entry, is_z), array in zip(z, image, strict=True):
            assert bool(is_z) == (STRINGS[int(entry)] == "Zbl")
            assert array == (6 * entry + np.arange(6.0)).reshape(2, 3).tolist()


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_page_of_texts_is_found(tmp_path: Path) -> None:
    texts = [b"%03d" % (entry * 7919 % 997) * 3 for entry in range(400)]
    path = Path(write_texts(tmp_path / "t.root", "RNTuple", texts))
    pages = view_of(rf.open(path)).index(["s"])[0].columns["s"].pages
    assert pages is not None
    data = bytearray(path.read_bytes())
    data[int(pages.offset[0]) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="column 's'"):
        rf.open(path).filter('s == "001001001"').count()


def basket(texts: list[bytes], encoding: Encoding, nothing_of_empty: bool) -> tuple[Basket, np.ndarray]:
    """What ROOT writes of some texts, and where each lies."""
    written = []
    for text in texts:
        length = len(text).to_bytes(4, "big")
        if encoding.name == "text":
            length = bytes([len(text)]) if len(text) < 255 else b"\xff" + length
        whole = bytes(encoding.header_bytes) + length + text
        written.append(b"" if nothing_of_empty and not text else whole)
    data = np.frombuffer(b"".join(written), np.uint8)
    return Basket(data, 0, len(data)), np.cumsum([0, *map(len, written)])


@given(
    st.lists(st.binary(max_size=5) | st.integers(250, 260).map(bytes), min_size=1, max_size=8),
    st.sampled_from(["text", "counted text"]),
    st.sampled_from([0, 6]),
    st.booleans(),
    st.data(),
)
def test_baskets_of_texts(
    texts: list[bytes], name: str, header_bytes: int, nothing_of_empty: bool, data: Any
) -> None:
    encoding = Encoding(name, np.dtype("u1"), header_bytes=header_bytes)
    found, places = basket(texts, encoding, nothing_of_empty)
    firsts, ends = text_parts(found, encoding, places, 0)
    lengths = np.diff(ends, prepend=0)
    raw = found.raw.tobytes()
    assert [raw[a : a + n] for a, n in zip(firsts, lengths, strict=True)] == texts
    if not nothing_of_empty or b"" not in texts:
        told = text_places(found, encoding, len(texts)).view(">i4")
        assert told.tolist() == places.tolist()
    # Whatever the bytes and the positions are: texts within the basket, or an error.
    noise = np.array(data.draw(st.lists(st.integers(0, 255), max_size=9)), np.uint8)
    inside = np.sort(np.array(data.draw(st.lists(st.integers(0, len(noise)), min_size=2, max_size=5))))
    for places in (inside, text_places(Basket(noise, 0, len(noise)), encoding, 3).view(">i4")):
        try:
            firsts, ends = text_parts(Basket(noise, 0, len(noise)), encoding, places.astype(int), 0)
        except DamagedPageError:
            continue
        assert ((firsts >= 0) & (firsts + np.diff(ends, prepend=0) <= len(noise))).all()


# --- the arithmetic ---------------------------------------------------------------------------


def held(*texts: bytes, before: bytes = b"") -> Texts:
    """Texts by hand, which need not begin at the first byte."""
    offsets = len(before) + np.cumsum([0, *map(len, texts)])
    return Texts(np.frombuffer(before + b"".join(texts) + b"z", np.uint8), offsets.astype(np.int64))


some_bytes = st.one_of(
    st.sampled_from(
        [b"", b"a", b"b", b"ab", b"a\0", b"\0", b"\xff", b"x" * 64, b"x" * 65, b"x" * 64 + b"y"]
    ),
    st.binary(max_size=80),
)


@given(st.lists(some_bytes, min_size=1), st.binary(max_size=3), some_bytes, st.data())
def test_texts_are_compared_as_bytes(
    texts: list[bytes], before: bytes, wanted: bytes, data: Any
) -> None:
    mine = held(*texts, before=before)
    take = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1))), np.int32)
    for each in (wanted, texts[0]):
        assert equal(mine, each, take).tolist() == [texts[entry] == each for entry in take]
    others = data.draw(
        st.lists(st.sampled_from([*texts, wanted]), min_size=len(texts), max_size=len(texts))
    )
    found = same(mine, held(*others), take).tolist()
    assert found == [texts[entry] == others[entry] for entry in take]
    assert mine.taken(take).as_awkward().to_list() == [decoded(texts[entry]) for entry in take]
    values, codes = distinct(mine, 1000)
    assert [encoded(values[code]) for code in codes] == texts
    assert len(set(values)) == len(values)


def test_long_texts_are_compared_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "_PIECE_BYTES", 7)
    texts = [b"%05d" % number * (number % 4) for number in range(50)]
    others = [text if number % 3 else text[::-1] for number, text in enumerate(texts)]
    found = same(held(*texts), held(*others), np.arange(50))
    assert found.tolist() == [a == b for a, b in zip(texts, others, strict=True)]
