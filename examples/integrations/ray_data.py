"""Rows from ROOT files in Ray: a dataset with a definition and a cut, and a training on two workers.

Usage: python ray_data.py "data/*.root:events"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint
from ray.train.torch import TorchTrainer, prepare_model

import rootfeed as rf
from rootfeed.integrations.ray import read_root

FEATURES = ["mu1_pt", "mu2_pt", "m_mumu", "m_T", "met", "m_T2", "n_jets"]


def means(files: str) -> dict[int, float]:
    """Return the mean mass of both classes, for events with some missing energy."""
    frame = rf.open(files).define("m_GeV", "m_mumu / 1000").filter("met > 10")
    rows = read_root(frame, ["m_GeV", "label"])
    return {row["label"]: row["mean(m_GeV)"] for row in rows.groupby("label").mean("m_GeV").iter_rows()}


def train(config: dict[str, Any]) -> None:
    """Train on one worker: its rank is found by itself. After a failure, go on with the last epoch."""
    loader = rf.Loader(config["files"], 1024, FEATURES, "label", seed=42)
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(len(FEATURES)), torch.nn.Linear(len(FEATURES), 1))
    model = prepare_model(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder, "state.pt"))
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        loader.load_state_dict(state["loader"])
    batches = loader.torch()
    while batches.state_dict()["epoch"] < 3:
        right = rows = 0
        for x, y in batches:
            logits = model(x)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right, rows = right + int(((logits > 0) == y.bool()).sum()), rows + len(x)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state | {"loader": batches.state_dict()}, Path(folder, "state.pt"))
            first = ray.train.get_context().get_world_rank() == 0
            kept = Checkpoint.from_directory(folder) if first else None
            ray.train.report({"right": right / rows, "rows": rows}, checkpoint=kept)


def main(files: str) -> float:
    """Return the accuracy of the last epoch, on the first worker's rows."""
    print("mean of m_GeV by label:", means(files))
    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            train,
            train_loop_config={"files": files},
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(storage_path=str(Path(folder).resolve())),
        )
        metrics = trainer.fit().metrics
    print(f"{metrics['rows']} rows of the first worker, accuracy {metrics['right']:.3f}")
    return float(metrics["right"])


if __name__ == "__main__":
    main(*sys.argv[1:])
