"""A classifier with Accelerate, on as many processes as ``accelerate launch`` starts.

Usage: accelerate launch accelerate_training.py "data/*.root:events"
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator

import rootfeed as rf
from rootfeed.integrations.accelerate import prepare

FEATURES = ["mu1_pt", "mu2_pt", "m_mumu", "m_T", "met", "m_T2", "n_jets"]


def main(files: str, epochs: int = 3, save: str = "kept", resume: str | None = None) -> float:
    """Train up to an epoch, save each, and return the accuracy on the test part."""
    accelerator = Accelerator()
    train, test = rf.Loader(files, 1024, FEATURES, "label", seed=42).split(0.3)
    batches = prepare(accelerator, train)
    model = torch.nn.Sequential(
        torch.nn.BatchNorm1d(len(FEATURES)),
        torch.nn.Linear(len(FEATURES), 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )
    model, optimizer = accelerator.prepare(model, torch.optim.Adam(model.parameters(), lr=0.01))
    if resume is not None:
        accelerator.load_state(resume)
    while batches.state_dict()["epoch"] < epochs:
        for x, y in batches:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.save_state(save)
    model.eval()
    right = rows = torch.zeros((), device=accelerator.device)
    with torch.no_grad():
        for x, y in prepare(accelerator, test, register=False):
            right = right + ((model(x) > 0) == y.bool()).sum()
            rows = rows + len(x)
    right, rows = accelerator.reduce(right), accelerator.reduce(rows)
    accelerator.print(f"{int(rows)} test rows, accuracy {right / rows:.3f}")
    return float(right / rows)


if __name__ == "__main__":
    main(sys.argv[1])
