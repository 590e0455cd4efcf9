"""Files that an executor's processes go through: the same values as on threads, and clear failures."""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import processes
import rootfeed as rf
from rootfeed import errors
from rootfeed.errors import ArgumentError, EvaluationError, ExecutorError
from rootfeed.frame import view_of
from rootfeed.frame.answers import moments
from rootfeed.view import elsewhere, reading
from samples import File, in_a_row, write_all

FILES = in_a_row(
    File(300, page=40), File(0), File(200, format="RNTuple"), File(500, page=70), File(130), File(90)
)
SECRET = "dont-tell-0123456789"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_all(tmp_path_factory.mktemp("files"), FILES)


@pytest.fixture(scope="module")
def jagged(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, found = tmp_path_factory.mktemp("jagged"), []
    random = np.random.default_rng(5)
    for number in range(5):
        lengths = random.integers(0, 4 + number, 200)
        values = ak.unflatten(random.normal(size=lengths.sum()), lengths)
        with uproot.recreate(folder / f"{number}.root") as file:
            file.mktree("events", {"v": "var * float64"})
            file["events"].extend({"v": values})
        found.append(str(folder / f"{number}.root"))
    return found


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """Return one of two processes, which have imported what they need before."""
    with ProcessPoolExecutor(2, mp_context=get_context(request.param)) as pool:
        yield pool


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Counting(Executor):
    """Passes tasks on, and keeps what it has got."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.futures: list[Future[Any]] = []
        self.arguments: list[Any] = []

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        self.arguments.append((function, args, options))
        self.futures.append(self.executor.submit(function, *args, **options))
        return self.futures[-1]


def plain(value: Any) -> Any:
    """Return an index, or what is in it, as something that can be compared."""
    if dataclasses.is_dataclass(value):
        fields = (field.name for field in dataclasses.fields(value))
        return type(value), [(name, plain(getattr(value, name))) for name in fields]
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple) else value


def answers(paths: list[str], executor: Executor | None) -> list[Any]:
    """Return all that goes through all files."""

    def opened() -> rf.Frame:
        return rf.open(dict.fromkeys(paths, "events"), executor=executor)

    frame = opened()
    cut = frame.define("z", "root * 2 + half").filter("code > 0").filter("half < 400", "half")
    ranged = frame.filter("flag").range(3, 400, 2).define("n", "rdfentry_").filter("n % 4 > 0")
    vectorized = frame.define("h", np.hypot, columns=["half", "root"], vectorized=True).filter("h > 9")
    found: list[Any] = [frame.num_entries]
    for each in (cut, ranged, vectorized):
        selection = view_of(each).selection()
        found += [each.count(), str(each.report()), [mask.tobytes() for mask in selection.masks]]
        found += [repr(dict(each.describe()))]  # in which NaN equals itself
    # Cuts and statistics in one pass.
    found += [repr(dict(opened().filter("code > 0").define("z", "root * 2").describe()))]
    every = moments(view_of(opened().filter("label > 1")), ["root", "event"])
    found += [{name: vars(each) for name, each in every.items()}]
    return [*found, list(map(plain, view_of(frame).index(["id", "half"])))]


# --- equal to threads -----------------------------------------------------------------------------


def test_values_are_those_of_threads(paths: list[str], pool: ProcessPoolExecutor) -> None:
    counting = Counting(pool)
    expected = answers(paths, None)
    assert answers(paths, counting) == expected
    assert all(expected[number] for number in (1, 5, 9))  # some entries pass each selection
    assert len(counting.futures) > 50  # it was they who worked


def test_large_files_are_divided(
    paths: list[str], threads: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of some entries, which begin anywhere in the words of masks.
    monkeypatch.setattr(reading, "_BLOCK_ENTRIES", 50)
    counting = Counting(threads)
    assert answers(paths, counting) == answers(paths, None)
    frame = rf.open(paths[3], executor=counting)
    counting.futures.clear()
    assert frame.filter("code > 0").range(10, 200).filter("flag").count() > 0
    assert len(counting.futures) > 10


def test_vectors(jagged: list[str], threads: Executor) -> None:
    found = []
    for executor in (None, threads):
        frame = rf.open(jagged, executor=executor)
        loader = rf.Loader(frame.filter("sum(v) > 0.5"), 32, {"v": rf.padded("v", 8)}, seed=1)
        batches = [bytes(each["v"]) for each in loader]
        found.append([dict(frame.describe()), view_of(frame).longest(["v"]), batches])
    assert found[0] == found[1]


def test_loaders_ask_there(paths: list[str], threads: Executor) -> None:
    found = []
    counting = Counting(threads)
    for executor in (None, counting):
        frame = rf.open(dict.fromkeys(paths, "events"), executor=executor).filter("code > 0")
        loader = rf.Loader(frame, 32, ["id", "half"], target="flag", seed=1)
        found.append([(bytes(x), bytes(y)) for x, y in loader.split(0.3)[0]])
        assert len(frame.arrays("id")["id"]) == frame.count()
    assert found[0] == found[1]
    assert len(counting.futures) > 5


def test_few_files_in_a_task_where_there_are_many(tmp_path: Path, threads: Executor) -> None:
    paths = write_all(tmp_path, in_a_row(*[File(10)] * 150), ["id"])
    counting = Counting(threads)
    frame = rf.open(paths, executor=counting)
    assert frame.num_entries == 1500
    assert len(counting.futures) == 75
    assert frame.filter("id % 2 > 0").count() == 750
    assert len(counting.futures) < 75 + 75 + 80


def test_a_single_file_is_read_here(paths: list[str], threads: Executor) -> None:
    counting = Counting(threads)
    frame = rf.open(paths[0], executor=counting)
    assert frame.filter("code > 0").count() > 0
    assert not counting.futures


def test_friends_are_looked_for_there(tmp_path: Path, threads: Executor) -> None:
    counting = Counting(threads)
    paths = write_all(tmp_path, in_a_row(File(10), File(20), File(30)), ["id", "half"])
    frame = rf.open(paths, friends=True, executor=counting)
    assert len(counting.futures) == 3
    assert frame.num_entries == 60


def test_rows_in_memory_stay_here(paths: list[str], threads: Executor) -> None:
    counting = Counting(threads)
    frame = rf.open(paths[2:4], executor=counting)
    other = rf.from_arrays({"id": np.arange(2000), "more": np.arange(2000) * 0.5})
    joined = frame.join(other, on="id")
    before = len(counting.futures)
    assert joined.filter("more > 200").count() > 0
    assert len(counting.futures) == before


# --- what is sent ---------------------------------------------------------------------------------


def test_what_is_sent_is_small_and_shows_nothing(paths: list[str], threads: Executor) -> None:
    counting = Counting(threads)
    options = {"token": SECRET}
    frame = rf.open(paths, executor=counting, storage_options=options)
    frame.filter("code > 0 && half < 400").describe(["root", "id"])
    assert counting.arguments
    for function, args, named in counting.arguments:
        sent = pickle.dumps((function, args, named))
        assert len(sent) < 5000
        assert SECRET.encode() not in sent
        assert SECRET not in repr((function, args, named))
        assert pickle.loads(sent)
    unpacked = [elsewhere._unpacked(args[1].packed) for _, args, _ in counting.arguments]
    assert SECRET in str([pickle.dumps(each) for each in unpacked])  # they have it


def test_frames_and_loaders_are_sent_without_it(paths: list[str], threads: Executor) -> None:
    frame = rf.open(paths, executor=threads)
    assert view_of(frame).files.executor is threads
    assert view_of(frame.filter("id > 3")).files.executor is threads
    again = pickle.loads(pickle.dumps(frame))
    assert view_of(again).files.executor is None
    assert again.filter("id > 3").count() == frame.filter("id > 3").count()
    pickle.dumps(rf.Loader(frame, 10, ["id"], seed=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_forked_process_has_none(paths: list[str]) -> None:
    outcome = processes.run(
        """
        import os, sys
        from concurrent.futures import ThreadPoolExecutor
        import rootfeed as rf

        frame = rf.open(dict.fromkeys(sys.argv[1:], "events"), executor=ThreadPoolExecutor(1))
        print(frame.filter("id > 3").count(), flush=True)
        if os.fork() == 0:  # where the threads of the pool do not exist
            print(frame.filter("id > 3").count(), flush=True)
            os._exit(0)
        os.wait()
        """,
        *paths,
    )
    assert outcome.lines == ["1216", "1216"], outcome


@pytest.mark.parametrize(
    ("function", "called"),
    [(lambda id: id > 5, "<lambda>"), (functools.partial(lambda x: x > 5), "an object of partial")],
)
def test_functions_that_cannot_be_sent(
    paths: list[str], threads: Executor, function: Any, called: str
) -> None:
    counting = Counting(threads)
    frame = rf.open(paths, executor=counting)
    assert frame.num_entries == sum(file.entries for file in FILES)
    before = len(counting.futures)
    cut = frame.filter(function, "mine", columns=["id"], vectorized=True)
    defined = frame.define("z", function, columns=["id"], vectorized=True)
    asked: dict[str, Callable[[], Any]] = {
        "the cut 'mine'": cut.count,
        "column 'z'": defined.describe,
    }
    for what, ask in asked.items():
        with pytest.raises(ArgumentError, match="cannot be sent to the executor's processes") as caught:
            ask()
        assert str(caught.value).startswith(f"{what} is made by {called}")
        assert "as a function of a module" in str(caught.value)
        assert "leave executor= out" in str(caught.value)
    assert len(counting.futures) == before


MAIN = """
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
import rootfeed as rf

least = 3

def over(id):
    return id > 3

def over_least(id):
    return id > least

class Cluster(Executor):
    def submit(self, *args):
        raise RuntimeError("no task may come")

if __name__ == "__main__":
    paths = dict.fromkeys(sys.argv[1:], "events")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            print(rf.open(paths, executor=pool).filter(over).count())
        except rf.errors.ArgumentError as error:
            print(error)
        try:
            least = 5  # which the process does not see
            rf.open(paths, executor=pool).filter(over_least).count()
        except rf.errors.ArgumentError as error:
            print(error)
    frame = rf.open(paths)
    cluster = rf.open(paths, executor=Cluster())
    cluster._view.files._indexes.update(enumerate(frame._view.index(["id"])))
    try:
        cluster.filter(over).count()
    except rf.errors.ArgumentError as error:
        print(error)
"""


def test_functions_of_a_script(paths: list[str], tmp_path: Path) -> None:
    # multiprocessing runs a script again in each process, other executors do not.
    script = tmp_path / "script.py"
    script.write_text(MAIN)
    run = processes.subprocess.run(
        [sys.executable, script, *paths], capture_output=True, text=True, timeout=100, check=True
    )
    count, other, refused = run.stdout.splitlines()
    assert count == "1216"
    assert "over_least for 'over_least' is not the one that was sent here" in other
    assert "least (5, and 3 here)" in other
    assert "which they cannot import" in refused


@pytest.mark.thorough
def test_functions_of_an_interactive_session(paths: list[str]) -> None:
    outcome = processes.run(MAIN, *paths)
    assert len(outcome.lines) == 3
    for line in outcome.lines:
        assert "it is written in what runs here, `__main__`" in line


# --- failures -------------------------------------------------------------------------------------


def test_errors_are_those_of_threads(jagged: list[str], pool: ProcessPoolExecutor) -> None:
    found = []
    for executor in (None, pool):
        with pytest.raises(EvaluationError, match="in entry") as caught:
            rf.open(jagged, executor=executor).filter("v[3] > 0").count()
        found.append((type(caught.value), str(caught.value)))
    assert found[0] == found[1]


def test_an_expression_without_a_value(jagged: list[str], pool: ProcessPoolExecutor) -> None:
    counting = Counting(pool)
    with pytest.raises(EvaluationError):
        rf.open(jagged, executor=counting).filter("v[3] > 0").count()
    assert all(future.done() or future.running() for future in counting.futures)


def test_an_error_of_the_users_function_says_where_it_was(
    paths: list[str], pool: ProcessPoolExecutor
) -> None:
    function = Elsewhere(functools.partial(operator.getitem, {}))
    frame = rf.open(paths, executor=pool).filter(function, columns=["id"], vectorized=True)
    with pytest.raises(EvaluationError, match="TypeError: unhashable") as caught:
        frame.count()
    assert "Traceback" in caught.value.__notes__[0]


class Elsewhere:
    """A function of a column that does something else in other processes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.home = os.getpid()

    def __call__(self, ids: Any) -> Any:
        # What type it has is asked without entries.
        return ids > 3 if os.getpid() == self.home or not len(ids) else self.function(ids)


def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies(paths: list[str]) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        counting = Counting(pool)
        frame = rf.open(paths, executor=counting)
        cut = frame.filter(Elsewhere(die), "dies", columns=["id"], vectorized=True)
        with pytest.raises(ExecutorError, match="could not run a task: BrokenProcessPool") as caught:
            cut.count()
        assert "too little memory" in str(caught.value)
        assert all(future.done() for future in counting.futures)
        with pytest.raises(ExecutorError, match="takes no tasks: BrokenProcessPool"):
            frame.filter("id > 3").count()
    assert rf.open(paths).filter("id > 3").count() == 1216


def test_an_executor_that_has_ended(paths: list[str]) -> None:
    pool = ThreadPoolExecutor(1)
    frame = rf.open(paths, executor=pool)
    pool.shutdown()
    with pytest.raises(ExecutorError, match="takes no tasks: RuntimeError: cannot schedule"):
        frame.num_entries  # noqa: B018


def test_what_another_process_cannot_make(paths: list[str], pool: ProcessPoolExecutor) -> None:
    module = type(sys)("only_here")
    exec("def cut(ids): return ids > 3", module.__dict__)
    sys.modules["only_here"] = module
    try:
        frame = rf.open(paths, executor=pool).filter(module.cut, columns=["id"], vectorized=True)
        with pytest.raises(ExecutorError, match="cannot make what was sent to it: ModuleNotFound"):
            frame.count()
    finally:
        del sys.modules["only_here"]


def test_errors_that_cannot_be_sent() -> None:
    class LocalError(Exception):
        pass

    noted = elsewhere._sendable(ValueError("why"))
    assert "ValueError: why" in noted.__notes__[0]
    found = elsewhere._sendable(LocalError("why"))
    assert type(found) is RuntimeError
    assert str(found) == "LocalError: why"
    assert elsewhere._sendable(errors.MissingColumnError("x")).args == ("x",)


def test_ctrl_c(paths: list[str]) -> None:
    outcome = processes.interrupt(
        """
        import functools, sys, time
        from concurrent.futures import Executor, ThreadPoolExecutor
        import rootfeed as rf

        futures = []
        class Pool(ThreadPoolExecutor):
            def submit(self, *args):
                futures.append(super().submit(*args))
                return futures[-1]

        def slow(ids):
            if len(ids):  # none, where its type is asked
                print("READY", flush=True)
                time.sleep(0.5)
            return ids > 3

        with Pool(1) as pool:
            frame = rf.open(dict.fromkeys(sys.argv[1:], "events"), executor=pool)
            frame.num_entries
            futures.clear()
            try:
                frame.filter(slow, columns=["id"], vectorized=True).count()
            except KeyboardInterrupt:
                print("interrupted", [future.done() for future in futures].count(False))
        """,
        *paths,
    )
    assert outcome.lines[-1] == "interrupted 1", outcome  # the one that runs; no other is left
    assert outcome.seconds < 10


def test_executors_only(paths: list[str]) -> None:
    with pytest.raises(ArgumentError, match=r"must be a concurrent\.futures\.Executor, got str"):
        rf.open(paths, executor="processes")  # type: ignore[arg-type]

    class Client:
        get_executor = None

    with pytest.raises(ArgumentError, match=r"got Client\. Give its get_executor\(\)"):
        rf.open(paths, executor=Client())  # type: ignore[arg-type]
