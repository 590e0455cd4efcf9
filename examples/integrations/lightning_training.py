"""A classifier in Lightning, in two jobs: the second one goes on where the first one was stopped.

Usage: python lightning_training.py "data/*.root:events"
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import rootfeed as rf
from rootfeed.integrations.lightning import DataModule

FEATURES = ["mu1_pt", "mu2_pt", "m_mumu", "m_T", "met", "m_T2", "n_jets"]


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(
            torch.nn.BatchNorm1d(len(FEATURES)),
            torch.nn.Linear(len(FEATURES), 32),
            torch.nn.ReLU(),
            torch.nn.Linear(32, 1),
        )

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        x, y = batch
        return torch.nn.functional.binary_cross_entropy_with_logits(self.network(x), y)

    def validation_step(self, batch: Any, _: int) -> None:
        x, y = batch
        self.log("right", ((self.network(x) > 0) == y.bool()).float().mean(), batch_size=len(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def job(files: str, folder: str, epochs: int, checkpoint: str | None = None) -> float:
    """Train up to an epoch and return the share of validated rows that were right."""
    loader = rf.Loader(files, 1024, FEATURES, "label", seed=42, sampling=rf.balanced("label"))
    data = DataModule(loader.split({"train": 0.7, "val": 0.3}))
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="auto",
        callbacks=[ModelCheckpoint(dirpath=folder, save_last=True)],
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(Classifier(), datamodule=data, ckpt_path=checkpoint)
    return float(trainer.callback_metrics["right"])


def main(files: str) -> float:
    """Train for two epochs, and for two more in a second job."""
    with tempfile.TemporaryDirectory() as folder:
        job(files, folder, 2)
        right = job(files, folder, 4, f"{folder}/last.ckpt")
    print(f"accuracy {right:.3f}")
    return right


if __name__ == "__main__":
    main(*sys.argv[1:])
