"""The headline's script, with a stand-in for the authors' code, which clbench does not ship."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import headline
import pytest

from support import ROOT

MAIN = """
import argparse, os
from pathlib import Path
import numpy as np
from torchvision.datasets import MNIST

parser = argparse.ArgumentParser()
for name in ("experiment", "scenario", "replay", "budget", "iters", "seed", "data-dir", "results-dir"):
    parser.add_argument("--" + name, required=True)
for name in ("model-dir", "plot-dir"):
    parser.add_argument("--" + name)
for name in ("time", "no-gpus", "no-save"):
    parser.add_argument("--" + name, action="store_true", required=True)
options = parser.parse_args()
expected = np.load(Path(os.environ["CLBENCH_DATA"]) / "mnist.npz")
for part in ("train", "test"):
    data = MNIST(options.data_dir + "/MNIST", train=part == "train")
    assert np.array_equal(data.data.numpy(), expected[part + "_x"].reshape(-1, 28, 28))
    assert np.array_equal(data.targets.numpy(), expected[part + "_y"])
results = Path(options.results_dir)
(results / f"acc-i{options.iters}.txt").write_text("0.5")
(results / f"time-i{options.iters}.txt").write_text("1e9")
"""


def turn(row: str, seed: int, seconds: float) -> headline.Turn:
    return headline.Turn(row, 1, seed, seconds, 2 * seconds, 0.5, 0, "its setting", {})


def test_a_ratio_is_taken_within_a_round() -> None:
    turns = [turn("reference", 0, 80.0), turn("every update", 0, 20.0)]
    turns += [turn("every update", 1, 5.0), turn("reference", 1, 10.0)]
    assert headline.ratios(turns, "every update", 1, lambda t: t.training_s).tolist() == [4.0, 2.0]


@pytest.mark.slow
def test_both_sides_run_on_the_same_arrays(tmp_path: Path) -> None:
    if not (Path(os.environ.get("CLBENCH_DATA", "")) / "mnist.npz").exists():
        pytest.skip("needs mnist.npz in CLBENCH_DATA")
    (tmp_path / "main.py").write_text(MAIN)
    script = ROOT / "benchmarks" / "speed" / "headline.py"
    command = [sys.executable, str(script), "--reference", str(tmp_path), "--out", str(tmp_path / "out")]
    command += ["--rounds", "1", "--threads", "1", "--iterations", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    turns = json.loads((tmp_path / "out" / "headline.json").read_text())["turns"]
    by_row = {found["row"]: found for found in turns}
    assert list(by_row) == list(headline.ROWS)
    assert by_row["reference"]["setting"] == "i2"
    assert by_row["reference"]["training_s"] == 1e9
    assert by_row["around tasks"]["evaluations"] == 2 * headline.TASKS
    assert by_row["every update"]["evaluations"] > by_row["around tasks"]["evaluations"]
    assert by_row["every update"]["accuracy"] == by_row["around tasks"]["accuracy"]
    assert all(name in done.stdout for name in headline.ROWS)


def test_a_folder_without_the_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["headline.py", "--reference", str(tmp_path)])
    with pytest.raises(SystemExit) as refused:
        headline.main()
    assert refused.value.code == 2
