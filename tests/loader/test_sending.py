"""What is sent to other processes, and what cannot be: the error names the column."""

from __future__ import annotations

import copy
import functools
import io
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

import rootfeed as rf
from processes import run
from rootfeed.errors import ArgumentError
from samples import File, in_a_row

FILES = in_a_row(File(100, page=50), File(50, page=30, format="RNTuple"))


def double(id: Any) -> Any:
    return id * 2


class Scaled:
    """A function with something that it holds."""

    def __init__(self, held: Any = None) -> None:
        self.held = held

    def __call__(self, ids: Any) -> Any:
        return ids * 2.0


def local(name: str) -> Callable[..., Any]:
    factor = 3

    def inner(id: Any) -> Any:
        return id * factor

    class Inner(Scaled):
        pass

    return {"a closure": inner, "a local class": Inner()}[name]


UNSENDABLE: dict[str, tuple[Any, str]] = {
    "a lambda": (lambda id: id * 2, "<lambda>"),
    "a closure": (local("a closure"), "local.<locals>.inner"),
    "a local class": (local("a local class"), "an object of local.<locals>.Inner"),
    "an open handle": (Scaled(os.scandir()), "an object of Scaled"),
    "a lock": (Scaled(threading.Lock()), "an object of Scaled"),
    "a partial lambda": (functools.partial(lambda ids: ids * 2.0), "an object of partial"),
}
UNSENDABLE["an open handle"][0].held.close()
SENDABLE: dict[str, Any] = {
    "a function": double,
    "a text": "id * 2",
    "an object": Scaled(3),
    "a partial": functools.partial(Scaled()),
}


def define(frame: rf.Frame, how: Any) -> rf.Frame:
    if isinstance(how, str) or hasattr(how, "__code__"):
        return frame.define("z", how)
    return frame.define("z", how, columns=["id"], vectorized=True)


def make(frame: rf.Frame) -> rf.Loader:
    return rf.Loader(frame, 10, ["id"], seed=3)


def shape(loader: Any) -> int:
    return len(loader)


@pytest.mark.parametrize("what", UNSENDABLE)
def test_a_function_that_cannot_be_pickled_is_named(frame: rf.Frame, what: str) -> None:
    how, called = UNSENDABLE[what]
    made = define(frame, how)
    for sent in (made, make(made), make(made).split(0.5), [made.filter("z > 2")]):
        with pytest.raises(ArgumentError) as caught:
            pickle.dumps(sent)
        text = str(caught.value)
        assert text.startswith(
            f"column 'z' is made by {called}, which cannot be sent to another process ("
        )
        assert 'Write it as text, such as "x * 2", or as a function of a module' in text
        assert 'DataLoader(..., multiprocessing_context="fork")' in text


def test_a_cut_is_named_by_its_label(frame: rf.Frame) -> None:
    for cut, label in (
        (frame.filter(lambda id: id > 3, "large"), "large"),
        (frame.filter(lambda id: id > 3), "<lambda>"),
    ):
        with pytest.raises(ArgumentError, match=f"the cut '{label}' is made by "):
            pickle.dumps(make(cut))


class Tagged(rf.Loader):
    tag = ""


def test_parts_and_copies_are_of_the_users_class(frame: rf.Frame) -> None:
    loader = Tagged(frame, 20, ["id"], seed=1)
    loader.tag = "mine"
    fold = loader.folds(3)[0]
    parts = [*loader.split(0.4), *loader.split({"a": 0.5, "b": 0.5}).values(), *fold]
    copies = [copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))]
    for each in (*parts, *copies):
        assert isinstance(each, Tagged)
        assert each.tag == "mine"
        next(iter(each))
    assert loader.state_dict()["epoch"] == 0  # each counts for itself
    assert loader.state_dict()["batches"] == 0


@pytest.mark.parametrize("what", SENDABLE)
def test_the_rest_is_sent(frame: rf.Frame, what: str) -> None:
    loader = make(define(frame, SENDABLE[what]))
    assert len(pickle.loads(pickle.dumps(loader))) == len(loader) == 15
    for parts in (loader.split(0.4), loader.folds(3)[1]):
        again = pickle.loads(pickle.dumps(parts))
        assert isinstance(again, rf.Split)
        assert [list(map(bytes, each)) for each in again] == [list(map(bytes, each)) for each in parts]
    if what == "a function":
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert pool.submit(shape, loader).result(60) == 15


@pytest.mark.parametrize("what", ["a lambda", "a closure", "a local class"])
def test_copies_within_a_process_are_none_of_it(frame: rf.Frame, what: str) -> None:
    made = define(frame, UNSENDABLE[what][0])
    for twin in (copy.copy, copy.deepcopy):
        assert list(twin(made).columns) == list(made.columns)
        assert len(twin(make(made))) == 15


def test_a_pickler_that_takes_functions_along(frame: rf.Frame) -> None:
    # As cloudpickle does, which need not be installed.
    script = """
import pickle
class Pickler(pickle.Pickler):
    def reducer_override(self, what):
        return (eval, ("len",)) if getattr(what, "__name__", "") == "<lambda>" else NotImplemented
    def dump(self, what):
        return super().dump(what)
"""
    names: dict[str, Any] = {"__name__": "cloudpickle"}
    exec(script, names)
    names["Pickler"](io.BytesIO()).dump(make(define(frame, UNSENDABLE["a lambda"][0])))


@pytest.mark.thorough
def test_workers_that_are_not_forked(paths: list[str]) -> None:
    pytest.importorskip("torch")
    outcome = run(
        """
        import multiprocessing, sys
        import rootfeed as rf
        from torch.utils.data import DataLoader

        def named(id):
            return id * 2.0

        frame = rf.open(dict.fromkeys(sys.argv[1:], "events"))
        multiprocessing.set_forkserver_preload(["torch"])  # once, not in each worker
        for how in ("spawn", "forkserver"):
            for function in (lambda id: id * 2.0, named):  # of no file that another process could import
                batches = rf.Loader(frame.define("z", function), 10, ["z"], seed=1).torch()
                try:
                    list(DataLoader(
                        batches, batch_size=None, num_workers=1, multiprocessing_context=how
                    ))
                except rf.errors.ArgumentError as error:
                    print(str(error).split(",")[0])
        """,
        *paths,
    )
    made = ["column 'z' is made by <lambda>", "column 'z' is made by named"]
    assert outcome.lines == made * 2, outcome
