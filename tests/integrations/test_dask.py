"""A Dask cluster on this machine goes through all files: the same values as on threads."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    DamagedFileError,
    EvaluationError,
    ExecutorError,
    SkippedFileWarning,
)
from rootfeed.frame import view_of
from samples import File, in_a_row, write_all

distributed = pytest.importorskip("distributed")

FILES = in_a_row(
    File(300, page=40), File(0), File(200, format="RNTuple"), File(500, page=70), File(130), File(90)
)
SECRET = "dont-tell-0123456789"

pytestmark = [
    pytest.mark.timeout(240),  # a cluster starts, and its workers import
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # Dask's own
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def executor(client: Any) -> Executor:
    return client.get_executor(retries=0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_all(tmp_path_factory.mktemp("files"), FILES)


def opened(paths: list[str], **options: Any) -> rf.Frame:
    return rf.open(dict.fromkeys(paths, "events"), **options)


def answers(frame: rf.Frame) -> list[Any]:
    cut = frame.define("z", "root * 2 + half").filter("code > 0").filter("half < 400", "half")
    ranged = frame.filter("flag").range(3, 400, 2).filter("id % 3 > 0")
    vectorized = frame.define("h", np.hypot, columns=["half", "root"], vectorized=True).filter("h > 9")
    found: list[Any] = [frame.num_entries]
    for each in (cut, ranged, vectorized):
        masks = [mask.tobytes() for mask in view_of(each).selection().masks]
        found += [each.count(), str(each.report()), masks, dict(each.describe())]
    return [*found, dict(frame.filter("code > 0").describe())]


def test_values_are_those_of_threads(paths: list[str], executor: Executor) -> None:
    assert answers(opened(paths, executor=executor)) == answers(opened(paths))


def test_loaders(paths: list[str], executor: Executor) -> None:
    found = []
    for each in (None, executor):
        frame = opened(paths, executor=each).filter("code > 0")
        found.append([bytes(x) for x in rf.Loader(frame, 32, ["id", "half"], seed=1)])
    assert found[0] == found[1]


def test_errors(paths: list[str], executor: Executor, tmp_path: Path) -> None:
    frame = opened(paths, executor=executor)
    with pytest.raises(ArgumentError, match="cannot be sent to the executor's processes"):
        frame.filter(lambda id: id > 5).count()
    with pytest.raises(EvaluationError, match="in entry"):
        frame.filter("1 // (id * 0) > 1").count()
    bad = [*paths, *write_all(tmp_path, in_a_row(File(10), File(10)))]
    broken = opened(bad, executor=executor)
    skipping = opened(bad, executor=executor, on_error="skip")
    for path in bad[-2:]:
        Path(path).write_bytes(b"root")
    with pytest.raises(DamagedFileError, match="2 of 8 files"):
        broken.num_entries  # noqa: B018
    with pytest.warns(SkippedFileWarning, match="2 of 8 files"):
        assert skipping.count() == 1220


def test_secrets_are_in_no_log(
    paths: list[str], client: Any, executor: Executor, caplog: pytest.LogCaptureFixture
) -> None:
    frame = opened(paths, executor=executor, storage_options={"token": SECRET})
    with caplog.at_level(logging.DEBUG):
        assert frame.filter("code > 0").count() > 0
        with pytest.raises(EvaluationError) as caught:
            frame.filter("1 // (id * 0) > 1").count()
    logs = [str(client.get_worker_logs()), str(client.get_scheduler_logs()), caplog.text]
    assert all(SECRET not in text for text in [*logs, str(caught.value)])


def test_a_client_that_has_ended(paths: list[str], client: Any) -> None:
    with distributed.Client(client.scheduler.address, set_as_default=False) as other:
        executor = other.get_executor()
        frame = opened(paths, executor=executor)
        assert frame.num_entries == 1220
    with pytest.raises(ExecutorError, match=r"the executor \(ClientExecutor\)"):
        frame.filter("id > 3").count()
    with pytest.raises(ArgumentError, match=r"Give its get_executor\(\)"):
        opened(paths, executor=client)
