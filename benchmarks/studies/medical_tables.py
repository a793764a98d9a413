"""A medical table as a stream over domains and tasks: two label spaces, in women and in men, one after the other.

    pip install --no-deps scikit-survival==0.28.0        # or all of it: make medical-table
    python benchmarks/studies/medical_tables.py FOLDER   # writes the data sets, the benchmark and the study
    cd FOLDER && clbench grid study.yaml && clbench leaderboard --columns strategy,ACC,forgetting

Assay of serum free light chains of 7,874 residents of Olmsted County (Dispenzieri et al. 2012, Mayo Clinic Proceedings
87), as scikit-survival ships it in plain text, checked by its SHA-256. The inputs of all tasks are kappa, lambda, the
year of the sample, and creatinine (missing in 1,350: its median, and a column that says so). Tasks: who died within
the follow-up, and the decade of life (from 50, 60, 70, and 80 up); each first for women, then for men. Women and men
share the classes, and so the head, of a task.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHA256 = "bf2600ec437dd19071f73bdad82de681780457d1141ec36ed551b0026e6e5773"
FILE = "datasets/data/flchain.arff"
BENCHMARK = """id: free_light_chains
title: medical table, death and decade of life in women and in men
stream:
  data: ["npz:women_death.npz", "npz:women_decade.npz", "npz:men_death.npz", "npz:men_decade.npz"]
  labels: [death, decade, death, decade]
  tasks: {by: given}
  setting: task
  normalise: standard
model: {name: mlp, hidden: [64]}
training: {iterations: 300, batch_size: 32, optimizer: {name: sgd, lr: 0.05}}
evaluation: {every: 10}
"""
STUDY = """id: medical_tables
streams: [free_light_chains.yaml]
strategies: [separate, joint, naive, {name: er, memory: [100, 500]}]
seeds: 5
"""


def table() -> tuple[list[str], NDArray[np.str_]]:
    """The names of the columns, and the rows as text."""
    spec = importlib.util.find_spec("sksurv")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("needs scikit-survival: pip install --no-deps scikit-survival==0.28.0")
    content = (Path(spec.submodule_search_locations[0]) / FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise SystemExit("flchain.arff is another file than that of scikit-survival 0.28.0.")
    head, _, body = content.decode("utf-8").partition("@data\n")
    names = [line.split()[1] for line in head.splitlines() if line.startswith("@attribute")]
    return names, np.array([line.split(",") for line in body.splitlines() if line])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the files are written")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    names, rows = table()
    column = {name: rows[:, i] for i, name in enumerate(names)}
    missing = column["creatinine"] == "?"
    creatinine = np.where(missing, "nan", column["creatinine"]).astype(np.float64)
    creatinine[missing] = np.median(creatinine[~missing])
    numbers = [column[name].astype(np.float64) for name in ("kappa", "lambda", "sample.yr")]
    x = np.stack([*numbers, creatinine, missing.astype(np.float64)], axis=1).astype(np.float32)
    labels = {
        "death": (column["death"] == "dead").astype(np.int64),
        "decade": np.clip(column["age"].astype(np.int64) // 10 - 5, 0, 3),
    }
    for sex, who in (("F", "women"), ("M", "men")):
        own = column["sex"] == sex
        for task, y in labels.items():
            np.savez_compressed(folder / f"{who}_{task}.npz", x=x[own], y=y[own])
    (folder / "free_light_chains.yaml").write_text(BENCHMARK, encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")


if __name__ == "__main__":
    main()
