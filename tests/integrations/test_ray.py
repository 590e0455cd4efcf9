"""Ray: datasets that a local cluster reads, and trainings whose ranks are found by themselves."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import MissingColumnError
from samples import FORMULAS, File, in_a_row, open_events, values, write_all, write_columns

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pytest.importorskip("pyarrow")

ROWS = 1027
pytestmark = [
    pytest.mark.timeout(240),  # a cluster starts, and its workers import
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(
            num_cpus=2,
            object_store_memory=100_000_000,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1])])}},
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    files = in_a_row(File(700, page=90), File(327, page=50, format="RNTuple"))
    return open_events(write_all(tmp_path_factory.mktemp("events"), files))


@pytest.mark.usefixtures("cluster")
class TestData:
    def test_all_columns_in_the_order_of_the_files(self, frame: rf.Frame) -> None:
        from rootfeed.integrations.ray import read_root

        data = read_root(frame)
        assert data.count() == ROWS
        assert data.columns() == list(FORMULAS)
        found = data.to_pandas()
        for name in FORMULAS:
            assert found[name].to_numpy().dtype == np.dtype(FORMULAS[name][0])
            assert np.array_equal(found[name].to_numpy(), values(name, np.arange(ROWS)))

    @pytest.mark.parametrize("parallelism", [1, 2, 7, 200])
    def test_any_number_of_blocks(self, frame: rf.Frame, parallelism: int) -> None:
        from rootfeed.integrations.ray import RootDatasource

        source = RootDatasource(frame.select(["id", "half"]))
        tasks = source.get_read_tasks(parallelism)
        assert min(parallelism, 2) <= len(tasks) <= parallelism + 20
        assert sum(task.metadata.num_rows for task in tasks) == ROWS
        assert source.estimate_inmemory_data_size() == ROWS * 12
        assert sum(task.metadata.size_bytes for task in tasks) == ROWS * 12
        rows = [row for task in tasks for table in task() for row in table["id"].to_pylist()]
        assert rows == list(range(ROWS))
        if parallelism == 7:
            ends = np.cumsum([task.metadata.num_rows for task in tasks])
            pages = {*range(0, 700, 90), 700, *range(700, ROWS, 50), ROWS}
            assert set(ends.tolist()) <= pages

    def test_definitions_cuts_and_ranges(self, frame: rf.Frame) -> None:
        from rootfeed.integrations.ray import read_root

        chosen = frame.define("twice", "half * 4 + 1").filter("id % 3 == 1 && flag == 0")
        for each in (chosen, chosen.range(50, 200), frame.range(20, 30).filter("id > 25")):
            names = ["twice", "id"] if "twice" in each.columns else ["id"]
            data = read_root(each, names, override_num_blocks=5)
            expected = each.arrays(names)
            found = data.to_pandas()
            assert list(found.columns) == names
            assert len(found) == len(expected["id"]) == data.count() > 0
            for name in names:
                assert np.array_equal(found[name].to_numpy(), expected[name])
        assert read_root(frame.filter("id < 0"), ["id"]).count() == 0

    def test_only_what_is_needed_is_read(self, frame: rf.Frame) -> None:
        from rootfeed.integrations.ray import RootDatasource, read_root

        source = RootDatasource(frame).apply_projection({"id": "id"})
        assert source.estimate_inmemory_data_size() == ROWS * 8
        (table, *_) = next(iter(source.get_read_tasks(1)))()
        assert table.column_names == ["id"]
        none = RootDatasource(frame).apply_projection({})
        assert sum(len(table) for task in none.get_read_tasks(3) for table in task()) == ROWS
        data = read_root(frame).select_columns(["half", "id"])
        assert sorted(row["id"] for row in data.iter_rows()) == list(range(ROWS))
        assert data.filter(expr="id < 10").count() == 10

    def test_vectors_and_texts(self) -> None:
        from rootfeed.integrations.ray import read_root

        lengths = np.arange(100) % 4
        vectors = ak.unflatten(np.arange(lengths.sum(), dtype=np.float32), lengths)
        names = ak.Array([f"number {number}" for number in range(100)])
        matrix = np.arange(600.0).reshape(100, 6)
        frame = rf.from_arrays({"pt": vectors, "name": names, "cells": matrix, "id": np.arange(100)})
        rows = read_root(frame.filter("id != 7"), override_num_blocks=4).take_all()
        kept = [number for number in range(100) if number != 7]
        assert [list(row["pt"]) for row in rows] == vectors[kept].tolist()
        assert [row["name"] for row in rows] == names[kept].tolist()
        assert [list(row["cells"]) for row in rows] == matrix[kept].tolist()

    def test_types_that_differ_between_files(self, tmp_path: Path) -> None:
        from rootfeed.integrations.ray import read_root

        first = write_columns(tmp_path / "a.root", {"x": np.arange(5, dtype=np.int32)})
        second = write_columns(tmp_path / "b.root", {"x": np.arange(5, 9) + 0.25})
        found = read_root({first: "events", second: "events"}).to_pandas()["x"].tolist()
        assert found == [0, 1, 2, 3, 4, 5.25, 6.25, 7.25, 8.25]

    def test_columns_that_are_not_there(self, frame: rf.Frame) -> None:
        from rootfeed.integrations.ray import read_root

        with pytest.raises(MissingColumnError, match="Did you mean 'half'"):
            read_root(frame, ["halv"])


def work(config: dict[str, Any]) -> None:
    """Go through two epochs on a rank."""
    loader = rf.Loader(config["files"], 16, ["id"], seed=5, threads=1)
    seen = [[int(row) for x in loader for row in x[:, 0]] for _ in range(2)]
    rank = ray.train.get_context().get_world_rank()
    (Path(config["folder"]) / f"{rank}.json").write_text(json.dumps(seen))


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("kind", ["torch", "plain"])
def test_ranks_are_the_trainers(kind: str, tmp_path: Path) -> None:
    train = pytest.importorskip("ray.train")
    if kind == "torch":
        pytest.importorskip("torch")
        from ray.train.torch import TorchTrainer as Trainer
    else:
        from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer as Trainer
    files = write_all(tmp_path / "files", [File(327, page=40)])
    trainer = Trainer(
        work,
        train_loop_config={"files": f"{files[0]}:events", "folder": str(tmp_path)},
        scaling_config=train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=train.RunConfig(storage_path=str(tmp_path / "runs"), name=kind),
    )
    trainer.fit()
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for epoch in range(2):
        rows = found[0][epoch] + found[1][epoch]
        assert len(found[0][epoch]) == len(found[1][epoch]) == 163
        assert len(set(rows)) == 326


@pytest.mark.usefixtures("cluster")
def test_outside_of_a_training_there_is_one_rank(frame: rf.Frame) -> None:
    pytest.importorskip("ray.train")
    assert len({int(row) for x in rf.Loader(frame, 16, ["id"]) for row in x[:, 0]}) == ROWS
