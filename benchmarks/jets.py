"""Wide rows: jets of ten classes in ten files. What `shuffle.py --jets` writes and measures.

Twelve variables of up to 128 particles, as vectors of floats, 40 on average, in ROOT's default baskets
(TTree) or pages (RNTuple): padded, a row has 6 kB, of which particles are 2. A class has its own
distributions.

Run as a script, it writes files or measures an epoch, as its only argument says in JSON.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CLASSES, VARIABLES, LENGTH, BATCH_SIZE = 10, 12, 128, 512
FORMATS = ("TTree", "RNTuple")

# Raised whenever the jets change, so that no cached file of another recipe is taken for this one.
RECIPE = 1

WRITER = """
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <TFile.h>
#include <TRandom3.h>
#include <TTree.h>
#include <algorithm>
#include <cstring>

void fill(TRandom3 &random, int label, std::vector<std::vector<float> *> &variables) {
  int particles = std::clamp(static_cast<int>(random.Poisson(25 + 3.3 * label)), 1, 128);
  for (size_t number = 0; number < variables.size(); ++number) {
    variables[number]->resize(particles);
    for (float &value : *variables[number]) {
      value = random.Gaus(0.05 * label * (number % 3), 1);
      unsigned bits;  // 11 bits of mantissa, as formats of reduced precision keep
      std::memcpy(&bits, &value, 4);
      bits &= 0xfffff000;
      std::memcpy(&value, &bits, 4);
    }
  }
}

void write_TTree(const char *path, int label, int jets, int count) {
  TRandom3 random(label + 1);
  TFile file(path, "recreate");
  TTree tree("tree", "");
  tree.Branch("label", &label);
  std::vector<std::vector<float> *> variables;
  for (int number = 0; number < count; ++number) {
    variables.push_back(new std::vector<float>);
    tree.Branch(("v" + std::to_string(number)).c_str(), variables.back());
  }
  for (int jet = 0; jet < jets; ++jet) { fill(random, label, variables); tree.Fill(); }
  tree.Write();
}

void write_RNTuple(const char *path, int label, int jets, int count) {
  TRandom3 random(label + 1);
  auto model = ROOT::RNTupleModel::Create();
  *model->MakeField<int>("label") = label;
  std::vector<std::shared_ptr<std::vector<float>>> fields;
  std::vector<std::vector<float> *> variables;
  for (int number = 0; number < count; ++number) {
    fields.push_back(model->MakeField<std::vector<float>>("v" + std::to_string(number)));
    variables.push_back(fields.back().get());
  }
  auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "tree", path);
  for (int jet = 0; jet < jets; ++jet) { fill(random, label, variables); writer->Fill(); }
}
"""


@dataclass(frozen=True)
class Job:
    """Files to write, or (with a memory) to measure an epoch of."""

    paths: tuple[str, ...]
    form: str
    jets: int
    memory: str = ""
    batches: int = 0


def ensure(folder: Path, form: str, jets: int) -> tuple[str, ...]:
    """Return the files of a format, written first where they are not there."""
    kind = f"jets_{form.lower()}_{jets}_{RECIPE}"
    paths = tuple(str(folder / f"{kind}_{label}.root") for label in range(CLASSES))
    missing = tuple(path for path in paths if not Path(path).exists())
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        process(Job(missing, form, jets))
    return paths


def process(job: Job) -> dict[str, Any]:
    """Run a job in a fresh process: ROOT and its threads do not stay."""
    command = [sys.executable, "-W", "ignore", __file__, json.dumps(asdict(job))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def write(job: Job) -> dict[str, Any]:
    import ROOT

    ROOT.gInterpreter.Declare(WRITER)
    for path in job.paths:
        label = int(path.rpartition("_")[2].partition(".")[0])
        partial = f"{path}.partial"
        getattr(ROOT, f"write_{job.form}")(partial, label, job.jets, VARIABLES)
        os.replace(partial, path)
    return {}


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    share = counts / counts.sum(axis=-1, keepdims=True)
    return -np.sum(share * np.log2(share, out=np.zeros_like(share), where=share > 0), axis=-1)


def ideal_bits() -> float:
    """Return the entropy of a full shuffle's batches, to first order."""
    return math.log2(CLASSES) - (CLASSES - 1) / (2 * math.log(2)) / BATCH_SIZE


def measure(job: Job) -> dict[str, Any]:
    """Measure the labels of whole batches, and the time that a row takes."""
    import rootfeed as rf

    names = [f"v{number}" for number in range(VARIABLES)]
    loader = rf.Loader(
        rf.open([f"{path}:tree" for path in job.paths]),
        BATCH_SIZE,
        {"particles": rf.padded(names, LENGTH)},
        "label",
        memory=job.memory,
        seed=1,
        threads=2,
        drop_last=True,
    )
    plan = loader.plan()
    batches = iter(loader)
    next(batches)  # what is compiled, and opened
    counts, begun = [], time.process_time()
    for _, y in batches:
        counts.append(np.bincount(y[:, 0].astype(int), minlength=CLASSES))
        if len(counts) == job.batches:
            break
    seconds = time.process_time() - begun
    return {
        "bits": float(entropy_bits(np.array(counts)).mean()),
        "lacking": plan.lacking_bits,
        "blocks": plan.window_blocks,
        "decompressed": plan.decompressed,
        "in_memory": plan.in_memory,
        "microseconds": 1e6 * seconds / (len(counts) * BATCH_SIZE),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    record = json.loads(sys.argv[1])
    job = Job(**{**record, "paths": tuple(record["paths"])})
    print(json.dumps(measure(job) if job.memory else write(job)), flush=True)


if __name__ == "__main__":
    main()
