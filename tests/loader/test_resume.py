"""An epoch goes on where a state says, to the last bit."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import StateError
from rootfeed.frame import view_of
from rootfeed.loader.position import Position
from rootfeed.loader.state import Fingerprint, loaded, saved
from samples import File, in_a_row, open_events, write_all, write_columns

FILES = in_a_row(File(300, page=40), File(177, page=25, format="RNTuple"), File(0), File(150, page=60))
ENTRIES = 627
LAZY = {"chunk_entries": 150, "block_entries": 20}
SMALL = {"chunk_entries": 64, "block_entries": 7}  # several chunks between two states
MEMORY = {"memory": "20 kB"}


@pytest.fixture(scope="module")
def classes(folder: Path) -> rf.Frame:
    """Three classes, one of them rare: mixed in one file, one after another in two others."""
    random = np.random.default_rng(1)
    mixed = random.choice(3, 300, p=[0.7, 0.25, 0.05])
    labels = np.concatenate([mixed, np.sort(mixed)]).astype(np.int32)
    paths = []
    for number, part in enumerate(np.split(np.arange(600), [300, 420])):
        columns = {"id": part.astype(np.int64), "label": labels[part], "x": part * 0.5}
        kind = "RNTuple" if number == 1 else "TTree"
        paths.append(write_columns(folder / f"classes-{number}.root", columns, 30, kind))
    return open_events(paths)


@pytest.fixture(scope="module")
def vectors(folder: Path) -> rf.Frame:
    """Vectors of zero to six elements."""
    import awkward as ak
    import uproot

    lengths = np.arange(200) % 7
    values_ = ak.unflatten(np.arange(lengths.sum(), dtype=np.float32), lengths)
    path = folder / "vectors.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {"id": "i8", "v": "var * float32"})
        for start in range(0, 200, 40):
            part = slice(start, start + 40)
            tree.extend({"id": np.arange(200)[part], "v": values_[part]})
    return open_events(str(path))


def flat(batch: Any) -> list[np.ndarray]:
    """Return all arrays of a batch."""
    if isinstance(batch, dict):
        return [array for key in sorted(batch) for array in flat(batch[key])]
    if isinstance(batch, tuple):
        return [array for part in batch for array in flat(part)]
    return [batch]


def same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    return len(one) == len(two) and all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for first, second in zip(one, two, strict=True)
        for a, b in zip(flat(first), flat(second), strict=True)
    )


def take(loader: Iterable[Any], count: int) -> list[Any]:
    return list(itertools.islice(iter(loader), count))


def stored(loader: Any) -> Any:
    """Return a loader's state as a file gives it back."""
    text = json.dumps(loader.state_dict())
    assert len(text) < 4096
    return json.loads(text)


def plain(frame: rf.Frame, **changes: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id", "half"], "batch_size": 32, "seed": 5}
    return rf.Loader(frame, **(settings | changes))


CASES: dict[str, Any] = {
    "in memory": lambda f, c, v, **more: plain(f, **more),
    "lazy": lambda f, c, v, **more: plain(f, **LAZY, **more),
    "small chunks": lambda f, c, v, **more: plain(f, **SMALL, **more),
    "a budget": lambda f, c, v, **more: plain(f, **MEMORY, **more),
    "in order": lambda f, c, v, **more: plain(f, shuffle=False, **LAZY, **more),
    "in order, in memory": lambda f, c, v, **more: plain(f, shuffle=False, **more),
    "drop_last": lambda f, c, v, **more: plain(f, drop_last=True, **LAZY, **more),
    "weights": lambda f, c, v, **more: rf.Loader(
        f, 25, ["id", "root"], ["label", "flag"], "weight * 2", seed=1, **LAZY, **more
    ),
    "cuts": lambda f, c, v, **more: plain(f.filter("code > -5000"), **LAZY, **more),
    "several frames": lambda f, c, v, **more: plain(
        [f.filter("flag"), f.filter("!flag")], **LAZY, **more
    ),
    "a part": lambda f, c, v, **more: plain(f, **LAZY, **more).split(0.4)[1],
    "a part in memory": lambda f, c, v, **more: plain(f, **more).split(0.4)[0],
    "a part of a part": lambda f, c, v, **more: (
        plain(f, batch_size=9, **LAZY, **more)
        .split({"a": 0.2, "b": 0.3, "c": 0.5})["b"]
        .split(where="flag")
        .test
    ),
    "a fold": lambda f, c, v, **more: plain(f, **LAZY, **more).folds(3, by="id")[1].train,
    "balanced": lambda f, c, v, **more: rf.Loader(
        c, 15, ["id"], "label", seed=2, sampling=rf.balanced("label"), **more
    ),
    "balanced, lazy": lambda f, c, v, **more: rf.Loader(
        c,
        20,
        ["id"],
        "label",
        seed=2,
        sampling=rf.balanced("label", {0: 0.6, 1: 0.3, 2: 0.1}),
        **LAZY,
        **more,
    ),
    "longest": lambda f, c, v, **more: rf.Loader(
        c,
        20,
        ["id"],
        "label",
        seed=2,
        sampling=rf.balanced("label", {0: 0.4, 1: 0.4, 2: 0.2}, epoch="longest"),
        **LAZY,
        **more,
    ),
    "longest, nothing kept": lambda f, c, v, **more: rf.Loader(
        c,
        40,
        ["id"],
        "label",
        seed=2,
        sampling=rf.balanced("label", {0: 0.3, 1: 0.4, 2: 0.3}, epoch="longest"),
        chunk_entries=60,
        block_entries=20,
        **more,
    ),
    "balanced in order": lambda f, c, v, **more: rf.Loader(
        c, 20, ["id"], "label", seed=2, shuffle=False, sampling=rf.balanced("label"), **LAZY, **more
    ),
    "drawn": lambda f, c, v, **more: rf.Loader(
        c, 20, ["id"], "label", seed=2, sampling=rf.balanced("label", epoch=25, replacement=True), **more
    ),
    "drawn, lazy": lambda f, c, v, **more: rf.Loader(
        c,
        20,
        ["id"],
        "label",
        seed=2,
        sampling=rf.balanced("label", epoch=25, replacement=True),
        **LAZY,
        **more,
    ),
    "mixed": lambda f, c, v, **more: rf.Loader(
        rf.mixed([f.filter("flag"), f.filter("!flag")], [0.7, 0.3]), 25, ["id"], seed=2, **LAZY, **more
    ),
    "a balanced part": lambda f, c, v, **more: (
        rf.Loader(c, 10, ["id"], "label", seed=2, sampling=rf.balanced("label"), **LAZY, **more)
        .split(0.3, stratify="label")
        .train
    ),
    "collections": lambda f, c, v, **more: rf.Loader(
        v,
        13,
        {
            "event": ["id", rf.flat("v", length=2)],
            "padded": rf.padded(["v"], length=6),
            "ragged": rf.ragged(["v"]),
        },
        seed=3,
        chunk_entries=50,
        block_entries=9,
        **more,
    ),
    "collections in memory": lambda f, c, v, **more: rf.Loader(
        v, 13, {"event": ["id"], "ragged": rf.ragged(["v"])}, seed=3, **more
    ),
    "a rank": lambda f, c, v, **more: plain(f, rank=1, world_size=3, **SMALL, **more),
    "a padded rank": lambda f, c, v, **more: plain(f, rank=3, world_size=4, tail="pad", **SMALL, **more),
    "a rank in memory": lambda f, c, v, **more: plain(
        f, rank=0, world_size=4, tail="uneven", batch_size=13, **more
    ),
}


@pytest.fixture(params=CASES)
def make(request: Any, frame: rf.Frame, classes: rf.Frame, vectors: rf.Frame) -> Any:
    return functools.partial(CASES[request.param], frame, classes, vectors)


@pytest.mark.thorough(
    "longest",
    "longest, nothing kept",
    "small chunks",
    "drawn, lazy",
    "weights",
    "balanced, lazy",
    "in order",
    "in order, in memory",
    "several frames",
    "a part in memory",
    "a part of a part",
    "balanced in order",
    "collections in memory",
    "a padded rank",
    "a rank in memory",
)
@pytest.mark.filterwarnings("ignore::rootfeed.errors.CutVectorWarning")
def test_the_rest_is_the_same_from_every_step(make: Any) -> None:
    whole = make(threads=2)
    epochs = [list(whole) for _ in range(2)]
    assert len(epochs[0]) == len(whole) > 4
    before, after = make(threads=1), make(threads=3)
    for step in range(len(whole) + 1):
        before.set_epoch(0)
        assert same(take(before, step), epochs[0][:step])
        state = stored(before)
        after.load_state_dict(state)
        expected = (epochs[0][step:], epochs[1]) if step < len(whole) else (epochs[1],)
        for number, batches in enumerate(expected[: 1 + (step == 3)]):
            assert same(list(after), batches), (step, number)
        if step == len(whole):
            assert (state["epoch"], state["batches"], state["segments"]) == (1, 0, [])


def test_every_epoch_goes_on(frame: rf.Frame) -> None:
    loader, other = plain(frame, **LAZY), plain(frame, **LAZY)
    for epoch in range(3):
        expected = []
        for step, batch in enumerate(loader):
            expected.append(batch)
            if step == 7:
                state = stored(loader)
        other.load_state_dict(state)
        assert state["epoch"] == epoch
        assert same(list(other), expected[8:])


def test_a_state_can_be_saved_after_it_was_loaded(frame: rf.Frame) -> None:
    # A chain of jobs, each of which gets three batches far.
    loader = plain(frame, **LAZY)
    expected = list(loader)
    found: list[Any] = []
    state = stored(plain(frame, **LAZY))
    while len(found) < len(expected):
        job = plain(frame, **LAZY)
        job.load_state_dict(state)
        assert stored(job) == state  # before the first batch
        found += take(job, 3)
        state = stored(job)
    assert same(found, expected)
    assert (state["epoch"], state["batches"]) == (1, 0)


def test_a_state_is_that_of_the_last_batch_received(frame: rf.Frame) -> None:
    # Others were gathered long since.
    loader = plain(frame, batch_size=4, threads=4)
    for count, _ in enumerate(itertools.islice(loader, 100), 1):
        state = loader.state_dict()
        assert (state["epoch"], state["batches"]) == (0, count)


def test_a_state_before_and_between_epochs(frame: rf.Frame) -> None:
    loader = plain(frame)
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (0, 0)
    iterator = iter(loader)
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (0, 0)
    for _ in iterator:
        pass
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (1, 0)
    loader.set_epoch(7)
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (7, 0)
    take(loader, 2)
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (7, 2)
    loader.set_epoch(8)
    assert (stored(loader)["epoch"], stored(loader)["batches"]) == (8, 0)


def test_a_loaded_state_is_used_once(frame: rf.Frame) -> None:
    loader = plain(frame, **LAZY)
    epochs = [list(loader) for _ in range(3)]
    source = plain(frame, **LAZY)
    take(source, 5)
    loader.load_state_dict(stored(source))
    assert same(list(loader), epochs[0][5:])
    assert same(list(loader), epochs[1])
    assert same(list(loader), epochs[2])


def test_set_epoch_after_a_state_was_loaded(frame: rf.Frame) -> None:
    loader = plain(frame, **LAZY)
    epochs = [list(loader) for _ in range(3)]
    source = plain(frame, **LAZY)
    source.set_epoch(1)
    take(source, 5)
    state = stored(source)
    # As PyTorch's loops do before each epoch: the same one goes on,
    loader.load_state_dict(state)
    loader.set_epoch(1)
    assert same(list(loader), epochs[1][5:])
    loader.set_epoch(2)
    assert same(list(loader), epochs[2])
    # another one begins at its beginning,
    loader.load_state_dict(state)
    loader.set_epoch(2)
    assert same(list(loader), epochs[2])
    # and an epoch that was gone through begins anew.
    loader.set_epoch(1)
    assert same(list(loader), epochs[1])


def test_the_state_of_an_iterator_that_was_left(frame: rf.Frame) -> None:
    loader = plain(frame, **LAZY)
    expected = list(loader)
    loader.set_epoch(0)
    for step, _ in enumerate(loader):
        if step == 3:
            break
    other = plain(frame, **LAZY)
    other.load_state_dict(stored(loader))
    assert same(list(other), expected[4:])


# --- the sizes of chunks and blocks ---------------------------------------------------------------


@pytest.mark.thorough(but=["60-small", "20-lazy", "auto-20 kB", "lazy-auto", "lazy-small"])
@pytest.mark.parametrize("before", [{}, LAZY, SMALL, MEMORY], ids=["auto", "lazy", "small", "20 kB"])
@pytest.mark.parametrize(
    "after", [{}, LAZY, MEMORY, {"memory": "60 kB"}], ids=["auto", "lazy", "20", "60"]
)
def test_the_sizes_are_those_of_the_state(
    frame: rf.Frame, before: dict[str, Any], after: dict[str, Any]
) -> None:
    loader = plain(frame, **before)
    epochs = [list(loader) for _ in range(2)]
    loader.set_epoch(0)
    take(loader, 9)
    other = plain(frame, **after)
    other.load_state_dict(stored(loader))
    assert same(list(other), epochs[0][9:])
    assert same(list(other), epochs[1])
    # Also where only the start of an epoch is told.
    other = plain(frame, **after)
    take(other, 2)
    other.load_state_dict(stored(plain(frame, **before)))
    assert same(list(other), epochs[0])


def test_the_sizes_are_those_of_the_state_for_parts_and_classes(
    frame: rf.Frame, classes: rf.Frame
) -> None:
    def part(**sizes: Any) -> rf.Loader:
        found: rf.Loader = plain(frame, **sizes).split(0.4, by="id").test
        return found

    def balanced(**sizes: Any) -> rf.Loader:
        sampling = rf.balanced("label", epoch="longest")
        return rf.Loader(classes, 20, ["id"], "label", seed=2, sampling=sampling, **sizes)

    for make_one in (part, balanced):
        for before, after in (({}, LAZY), (LAZY, {}), (SMALL, MEMORY)):
            loader = make_one(**before)
            expected = list(loader)
            loader.set_epoch(0)
            take(loader, 4)
            other = make_one(**after)
            other.load_state_dict(stored(loader))
            assert same(list(other), expected[4:])


# --- another process ------------------------------------------------------------------------------


def test_a_state_goes_on_in_another_process(paths: list[str], folder: Path) -> None:
    # Where functions have other addresses, and texts other hashes.
    module = folder / "made_up_functions.py"
    module.write_text("def twice(half):\n    return half * 2\n")
    script = f"""
        import json, sys
        sys.path.insert(0, {str(folder)!r})
        import numpy as np
        import rootfeed as rf
        from made_up_functions import twice

        frame = rf.open(dict.fromkeys({paths!r}, "events"))
        frame = frame.define("double", twice).filter("double > 10").define("root2", "sqrt(root)")
        frame = frame.define("vectorized", lambda code: code + 1, vectorized=True)
        loader = rf.Loader(
            frame, 32, ["id", "double"], weights="weight + 1", seed=5, target="vectorized",
            sampling=rf.balanced("label"), chunk_entries=150, block_entries=20,
        ).split(0.3, stratify="label").train
        if len(sys.argv) > 1:
            loader.load_state_dict(json.loads(sys.argv[1]))
            print(json.dumps([x[:, 0].tolist() for x, _, _ in loader]))
        else:
            iterator = iter(loader)
            next(iterator)
            print(json.dumps(loader.state_dict()))
            print(json.dumps([x[:, 0].tolist() for x, _, _ in iterator]))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    second = subprocess.run([*command, first[0]], capture_output=True, text=True, check=True).stdout
    assert json.loads(second) == json.loads(first[1])
    assert len(json.loads(second)) > 1


# --- what has changed -----------------------------------------------------------------------------

COLUMNS = "the columns of a batch, or their dtypes: "

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 6}, "the seed: 5 before, 6 now"),
    "batch_size": ({"batch_size": 31}, "batch_size: 32 before, 31 now"),
    "shuffle": ({"shuffle": False}, "shuffle: True before, False now"),
    "drop_last": ({"drop_last": True}, "drop_last: False before, True now"),
    "tail": ({"tail": "pad"}, "tail: 'drop' before, 'pad' now"),
    "a feature less": ({"features": ["id"]}, COLUMNS + "'x: half' before, and not now"),
    "a feature more": (
        {"features": ["id", "half", "root"]},
        COLUMNS + "'x: root' now, and not before",
    ),
    "another feature": ({"features": ["id", "root"]}, COLUMNS + "'x: half' before, 'x: root' now"),
    "order": (
        {"features": ["half", "id"]},
        COLUMNS + "'x: id', 'x: half', 'x is float32' before, 'x: half', 'x: id', 'x is float32' now",
    ),
    "target": ({"target": "label"}, COLUMNS + "'y: label', 'y is float32' now, and not before"),
    "weights": (
        {"target": "label", "weights": "weight"},
        COLUMNS + "'y: label', 'w: weight', 'y is float32', 'w is float32' now, and not before",
    ),
    "dtype": ({"dtype": "float64"}, COLUMNS + "'x is float32' before, 'x is float64' now"),
    "target_dtype": (
        {"target": "label", "target_dtype": "i8"},
        COLUMNS + "'y: label', 'y is int64' now, and not before",
    ),
    "sampling": (
        {"sampling": rf.balanced("label", epoch=3)},
        "the sampling: 'each row once' before, 'Balanced', 'epoch=3', \"label='label'\", "
        "'replacement=False', 'shares=None' now",
    ),
}


def difference(loader: Any, state: Any) -> list[str]:
    with pytest.raises(StateError) as caught:
        loader.load_state_dict(state)
    lines = str(caught.value).split("\n")
    assert lines[0] == "the state belongs to another loader. What differs:"
    assert lines[-1] == "Make the loader as it was, or begin a new epoch: set_epoch."
    assert all(line.startswith("  ") for line in lines[1:-1])
    return [line[2:] for line in lines[1:-1]]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_option_is_named(frame: rf.Frame, change: str) -> None:
    changes, expected = CHANGES[change]
    state = stored(plain(frame))
    assert difference(plain(frame, **changes), state) == [expected]
    loader = plain(frame, **changes)
    before = list(loader)
    loader.set_epoch(0)
    with pytest.raises(StateError):
        loader.load_state_dict(state)
    assert same(list(loader), before)  # a state that is refused changes nothing


def test_a_changed_dataset_is_named(paths: list[str], folder: Path, frame: rf.Frame) -> None:
    state = stored(plain(frame))

    def named(paths: list[str]) -> list[str]:
        indexes = view_of(open_events(paths)).index(())
        return [f"'{index.identity.hex()[:16]} of {index.entries} entries'" for index in indexes]

    every = named(paths)
    files = "the files, or their order: "
    rest = ", ".join(every[2:])
    assert difference(plain(open_events(paths[:2])), state) == [f"{files}{rest} before, and not now"]
    order = f"{files}{', '.join(every)} before, {', '.join(every[::-1])} now"
    assert difference(plain(open_events(paths[::-1])), state) == [order]
    again = write_all(folder / "again", FILES)  # the same numbers, but not the same files
    others = f"{files}{', '.join(every)} before, {', '.join(named(again))} now"
    assert difference(plain(open_events(again)), state) == [others]
    assert difference(plain(open_events(paths), seed=6), state) == ["the seed: 5 before, 6 now"]
    plain(open_events(paths)).load_state_dict(state)
    cuts = "the definitions and cuts: {} now, and not before"
    for changed, what in (
        (frame.filter("flag"), "'filter flag'"),
        (frame.filter("id >= 0"), "'filter id >= 0'"),  # although all pass
        (frame.define("new", "half * 2"), "'new = half * 2'"),
        (frame.range(600), "'Range(start=0, stop=600, step=1)'"),
    ):
        assert difference(plain(changed), state) == [cuts.format(what)]
    both = difference(plain(frame.filter("flag"), seed=6), state)
    assert both == [cuts.format("'filter flag'"), "the seed: 5 before, 6 now"]
    before = stored(plain(frame.filter("id > 3").define("new", "half * 2")))
    now = plain(frame.filter("id > 4").define("new", "half * 2"))
    expected = "the definitions and cuts: 'filter id > 3' before, 'filter id > 4' now"
    assert difference(now, before) == [expected]


def test_a_changed_function_is_named(frame: rf.Frame) -> None:
    def one(half: Any) -> Any:
        return half * 2

    def two(half: Any) -> Any:
        return half * 3

    state = stored(plain(frame.define("new", one)))
    plain(frame.define("new", one)).load_state_dict(state)
    (line,) = difference(plain(frame.define("new", two)), state)
    assert re.fullmatch(
        r"the definitions and cuts: 'new = function one, version \w+' before, "
        r"'new = function two, version \w+' now",
        line,
    )
    # The same text, with another number from outside of it.
    by_two, by_three = ((lambda half, factor=factor: half * factor) for factor in (2, 3))
    (line,) = difference(
        plain(frame.define("new", by_three, columns=["half"])),
        stored(plain(frame.define("new", by_two, columns=["half"]))),
    )
    assert line.count("new = function <lambda>, version ") == 2
    # Without a source, as in an interactive session.
    made: list[Any] = []
    for factor in (2, 3, 2):
        names: dict[str, Any] = {}
        exec(f"def three(half): return half * {factor}", names)
        made.append(plain(frame.define("new", names["three"])))
    state = stored(made[0])
    (line,) = difference(made[1], state)
    assert line.count("new = function three, version ") == 2
    made[2].load_state_dict(state)


SOURCELESS = """
import sys
import rootfeed as rf
names = {}
kinds = "{'a', 'b', 'c', 'd'}"
exec(f"def made(half): return (lambda x: x * ((x.dtype.kind in {kinds}) + {sys.argv[3]}))(half)", names)
frame = rf.open(dict.fromkeys(eval(sys.argv[1]), "events"))
loader = rf.Loader(frame.define("new", names["made"], vectorized=True), 16, ["new"], seed=5)
if len(sys.argv) > 4:
    try:
        loader.load_state_dict(eval(sys.argv[4]))
        print("loaded")
    except rf.errors.StateError as error:
        print("refused", "new = function made" in str(error))
else:
    print(loader.state_dict())
"""


def test_functions_without_a_source_are_the_same_in_each_process(paths: list[str]) -> None:
    def said(hashing: str, *arguments: Any) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SOURCELESS, str(paths), hashing, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=100,
            env=os.environ | {"PYTHONHASHSEED": hashing},
        )
        assert done.stderr == ""
        return done.stdout.strip()

    state = said("1", 0)
    assert [said(hashing, 0, state) for hashing in "123"] == ["loaded"] * 3
    assert said("1", 1, state) == "refused True"


def test_a_changed_split_is_named(frame: rf.Frame) -> None:
    train, test = plain(frame).split(0.3)
    state = stored(train)
    for other in (
        test,
        plain(frame),
        plain(frame).split(0.31).train,
        plain(frame).split(0.3, by="id").train,
        plain(frame).split(0.3, unit="block").train,
        plain(frame).split(0.3, stratify="label").train,
        plain(frame).split(where="flag").train,
        plain(frame).split({"train": 0.7, "other": 0.3})["train"],
        train.split(0.5).train,
    ):
        (line,) = difference(other, state)
        assert line.startswith('the split: "split(0.3) Rule(') or "now, and not before" in line
    assert difference(plain(frame, seed=4).split(0.3).train, state) == ["the seed: 5 before, 4 now"]
    (line,) = difference(plain(frame).split(0.3, seed=4).train, state)
    assert line.startswith('the split: "split(0.3) Rule(')
    assert "split(0.3, seed=4) Rule(" in line.split(" before, ")[1]
    folds = plain(frame).folds(3)
    for one, two in ((0, "train"), (1, "train"), (0, "test")):
        if (one, two) != (0, "train"):
            (line,) = difference(folds[0].train, stored(getattr(folds[one], two)))
            assert f"folds(3), {one} Rule(" in line.split(" before, ")[0]
            assert f'{two}" before, ' in line
            assert "folds(3), 0 Rule(" in line.split(" before, ")[1]
    plain(frame, threads=1).folds(3)[1].test.load_state_dict(stored(folds[1].test))


def test_a_changed_sampling_is_named(classes: rf.Frame) -> None:
    def make(sampling: Any) -> rf.Loader:
        return rf.Loader(classes, 10, ["id"], "label", seed=2, sampling=sampling)

    state = stored(make(rf.balanced("label")))
    for sampling in (
        None,
        rf.balanced("label", {0: 0.5, 1: 0.25, 2: 0.25}),
        rf.balanced("label", epoch="longest"),
        rf.balanced("label", epoch=10),
        rf.balanced("label", replacement=True),
    ):
        (line,) = difference(make(sampling), state)
        assert line.startswith("the sampling: ")
        if sampling is None:
            assert line.endswith(" before, 'each row once' now")
        else:
            for field in ("shares", "epoch", "replacement"):
                old, new = getattr(rf.balanced("label"), field), getattr(sampling, field)
                assert (f"{field}={old!r}" in line) == (f"{field}={new!r}" in line) == (old != new)
    make(rf.balanced("label")).load_state_dict(state)


def test_vectors_are_told_apart(vectors: rf.Frame) -> None:
    def make(asked: Any) -> rf.Loader:
        return rf.Loader(vectors, 10, {"v": asked}, seed=2)

    state = stored(make(rf.padded("v", 3)))
    before = COLUMNS + "'v: v of length 3, filled with 0.0' before, 'v: "
    for asked, now in (
        (rf.padded("v", 4), "v of length 4, filled with 0.0'"),
        (rf.padded("v", 3, value=-1), "v of length 3, filled with -1.0'"),
        (rf.padded("v", 3, sort_by="v"), "v of length 3, filled with 0.0, sorted by v'"),
    ):
        assert difference(make(asked), state) == [f"{before}{now} now"]
    assert "'v is float32 and ragged' now" in difference(make(rf.ragged("v")), state)[0]


@pytest.mark.parametrize("count", [3, 60, 400, 900])
def test_columns_are_named_however_many_there_are(frame: rf.Frame, count: int) -> None:
    names = [f"a_rather_long_name_{number}" for number in range(count)]
    layouts = [names, [*names[:-1], "another"]]
    before, now = (
        Fingerprint({"columns": str(number)}, {"columns": columns})
        for number, columns in enumerate(layouts)
    )
    sizes = plain(frame)._pipeline.schedule.sizes
    state = saved(Position(0), sizes, before)
    assert len(json.dumps(state)) < 2600  # short, however many there are
    with pytest.raises(StateError) as caught:
        loaded(json.loads(json.dumps(state)), now, sizes)
    line = str(caught.value).split("\n")[1]
    if count <= 60:
        assert f"'{names[-1]}' before, 'another' now" in line
    elif count == 400:
        assert "number 400 of 400 before, 'another' now" in line
    else:
        assert line.strip() == COLUMNS[:-2]
    fewer = Fingerprint({"columns": "2"}, {"columns": names[:-1]})
    with pytest.raises(StateError) as caught:
        loaded(json.loads(json.dumps(state)), fewer, sizes)
    line = str(caught.value).split("\n")[1]
    if count <= 60:
        assert f"'{names[-1]}' before, and not now" in line
    elif count == 400:
        assert "number 400 of 400 before, and not now" in line
    else:
        assert "900 before, 899 now" in line


# --- damage ---------------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    False,
    -1,
    0,
    1,
    7,
    2**31,
    2**63,
    10**30,
    1.5,
    float("nan"),
    "1",
    "",
    [],
    [[]],
    [[1]],
    [[1, 2, 3]],
    [[0, 1]],
    [[10**9, 5]],
    [[2, 10**9]] * 1000,
    {},
    {"seed": 5},
    [True, 10**12, 1, True],
    [False, 10**12, 1, True],
    [False, 1, 10**12, False],
    [True, 1, 1, 1, 1],
    "drop",
]


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["kept", "lazy"])
def test_a_damaged_state_is_refused(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = plain(frame, **sizes)
    expected = list(loader)
    loader.set_epoch(0)
    take(loader, 3)
    state = stored(loader)
    for key, value in state.items():
        without = {name: each for name, each in state.items() if name != key}
        with pytest.raises(StateError):
            loader.load_state_dict(without)
        for hostile in VALUES:
            if hostile == value and type(hostile) is type(value):
                continue
            with pytest.raises(StateError):
                loader.load_state_dict({**state, key: hostile})
    for key, value in state["loader"].items():
        for hostile in (None, -1, 10**30, "", [], float("nan")):
            if hostile is value:
                continue
            with pytest.raises(StateError):
                loader.load_state_dict({**state, "loader": {**state["loader"], key: hostile}})
    loader.load_state_dict(state)
    assert same(list(loader), expected[3:])


@pytest.mark.parametrize(
    "state", [None, 3, "state", [], {}, {"epoch": 3}, b"bytes", [("version", 2)], {"version": 2}]
)
def test_what_is_no_state_is_refused(frame: rf.Frame, state: Any) -> None:
    with pytest.raises(StateError):
        plain(frame).load_state_dict(state)


def test_another_version_is_refused(frame: rf.Frame) -> None:
    loader = plain(frame)
    state = stored(loader)
    for version in (0, 1, "1", None):
        with pytest.raises(StateError) as caught:
            loader.load_state_dict({**state, "version": version})
        assert str(caught.value) == (
            f"the state has version {version!r}; this rootfeed reads version 3. "
            "Load it with the version of rootfeed that has written it."
        )


def test_a_deep_or_endless_state_is_refused(frame: rf.Frame) -> None:
    state = stored(plain(frame))
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for segments in (deep, endless, [10**5000]):
        with pytest.raises(StateError) as caught:
            plain(frame).load_state_dict({**state, "segments": segments})
        assert len(str(caught.value)) < 300
