"""A published experiment with an evaluation after each of its updates, beside the authors' code without any.

    .venv/bin/python benchmarks/speed/headline.py --reference FOLDER [--rounds 3] [--threads 2 1] [--iterations 2000]

The experiment is class-incremental Split-MNIST by replay of van de Ven, Tuytelaars and Tolias 2022 (Nature Machine
Intelligence 4): an MLP 400-400, Adam at 1e-3, batches of 128 and as many replayed samples, 100 samples a class in the
buffer, 5 tasks of 2,000 updates. FOLDER is a checkout of the authors' code, which is no part of clbench:

    git clone https://github.com/GMvandeVen/continual-learning FOLDER
    git -C FOLDER checkout e6d795aa81b9cef742b8de76cb71222d4d1ce00b    # the commit that was measured

Its `main.py` runs in this interpreter. It needs torch, torchvision, numpy, tqdm and matplotlib, which come with
clbench, and nothing else for this experiment (visdom is imported for its live plots only).

reference      the authors' code, which evaluates after training only
around tasks   clbench, evaluated before and after each task
every update   clbench, evaluated after every update too, on all test images of the classes seen so far

Each is a process of its own on the CPU. They take turns, with the order turned round after each round, after one short
run each that is not counted; round r has seed r in all three. *Training* is what each reports of itself: for the
reference what `--time` writes, for clbench everything from its first update to its last, evaluations, checkpoints and
choice of the buffer included. *Process* is wall time from start to exit: imports, reading of data, the last evaluation
and files as well. So that nothing but the code differs, the reference reads the same arrays, written for torchvision
into a temporary folder, all have the same variables for OpenMP's threads (OMP_WAIT_POLICY is PASSIVE unless it is set),
and progress bars are off.

Written to results/headline.json and headline.md, of other numbers of iterations only where `--out` says.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pairs import table, write_json

from clbench import registry
from clbench.config import strict_yaml
from clbench.errors import UserError
from clbench.results import provenance
from clbench.studies.engines.environment import thread_variables
from clbench.studies.engines.local import cores

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED = ROOT / "strategies" / "published.yaml"
TASKS, UPDATES = 5, 2000
REFERENCE = "reference"
ROWS = {REFERENCE: "none", "around tasks": "before and after each task", "every update": "after every update too"}
"""Name of a row -> its evaluations during training."""


@dataclass(frozen=True)
class Turn:
    """One run.

    Attributes:
        row: a key of `ROWS`.
        threads: of the process, >= 1.
        seed: number of the round.
        training_s, process_s: seconds.
        accuracy: at the end, mean over tasks, in [0, 1].
        evaluations: during training.
        setting: the name that the reference gives to its setting, the run id of clbench.
        parts: clbench's own account of the time, in seconds; empty for the reference.
    """

    row: str
    threads: int
    seed: int
    training_s: float
    process_s: float
    accuracy: float
    evaluations: int
    setting: str
    parts: dict[str, float]


def write_mnist(folder: Path) -> None:
    """MNIST as torchvision reads it: `MNIST/raw/` in a folder.

    Raises:
        UserError: the data set is not to be had.
    """
    data = registry.datasets().load("mnist")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, x, y in (("train", data.train_x, data.train_y), ("t10k", data.test_x, data.test_y)):
        _write_idx(raw / f"{part}-images-idx3-ubyte", np.asarray(x).reshape(len(y), 28, 28))
        _write_idx(raw / f"{part}-labels-idx1-ubyte", y)


def _write_idx(path: Path, values: NDArray[Any]) -> None:
    """Unsigned bytes in the IDX format: two zeros, the type, the number of axes, their lengths, the values."""
    of_bytes = 8
    header = struct.pack(f">4B{values.ndim}I", 0, 0, of_bytes, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def reference(main: Path, data: Path, iterations: int, threads: int, seed: int) -> Turn:
    """A run of the authors' code."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(main), "--experiment=splitMNIST", "--scenario=class", "--replay=buffer"]
        command += ["--budget=100", f"--iters={iterations}", f"--seed={seed}", "--time", "--no-gpus", "--no-save"]
        command += [f"--data-dir={data}", *(f"--{kind}-dir={folder}" for kind in ("results", "model", "plot"))]
        process_s, _ = _timed(command, threads)
        (accuracy,), (training,) = (list(Path(folder).glob(f"{what}-*.txt")) for what in ("acc", "time"))
        setting = accuracy.stem.removeprefix("acc-")
        took, final = float(training.read_text()), float(accuracy.read_text())
    return Turn(REFERENCE, threads, seed, took, process_s, final, 0, setting, {})


def clbench(row: str, iterations: int, threads: int, seed: int) -> Turn:
    """A run of the same setting here, that of the row `class, ER` of the reproduction."""
    rows = strict_yaml.parse_file(PUBLISHED, str(PUBLISHED))["rows"]
    setting = shlex.split(next(one["run"] for one in rows if one["name"] == "class, ER"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "clbench", "run", *setting, "-o", f"training.iterations={iterations}"]
        command += ["-o", f"evaluation.every={int(row == 'every update')}", "--seed", str(seed), "--out", folder]
        command += ["--threads", str(threads), "--device", "cpu", "--json", "--quiet"]
        process_s, printed = _timed(command, threads)
        record = json.loads((Path(json.loads(printed)["run_dir"]) / "run.json").read_text())
    costs = record["costs"]
    assert costs["iterations"] == TASKS * iterations
    return Turn(
        row,
        threads,
        seed,
        costs["wall_s"] - costs["setup_s"],
        process_s,
        record["metrics"]["class"]["average_accuracy"]["value"],
        costs["evaluations"],
        record["run_id"],
        {name: costs[name] for name in ("train_s", "eval_s", "checkpoint_s")},
    )


def _timed(command: Sequence[str], threads: int) -> tuple[float, str]:
    """Seconds of a process, and what it printed."""
    environment = {**os.environ, **thread_variables(threads), "TQDM_DISABLE": "1"}
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    took = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    return took, done.stdout


def measure(main: Path, rounds: int, threads: Sequence[int], iterations: int) -> list[Turn]:
    """Runs all rows in turns.

    Args:
        main: `main.py` of the reference.
        rounds: >= 1.
        threads: numbers of threads, each of which has its rounds.
        iterations: updates of a task.
    """
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        write_mnist(Path(folder) / "MNIST")

        def turn(row: str, iterations: int, threads: int, seed: int) -> Turn:
            if row == REFERENCE:
                return reference(main, Path(folder), iterations, threads, seed)
            return clbench(row, iterations, threads, seed)

        for row in ROWS:  # what is missing shows now, and files are in memory
            turn(row, 1, threads[0], 0)
        for count in threads:
            for seed in range(rounds):
                for row in list(ROWS)[:: -1 if seed % 2 else 1]:
                    turns.append(turn(row, iterations, count, seed))
                    print(_line(turns[-1]), file=sys.stderr, flush=True)
    return turns


def _line(turn: Turn) -> str:
    numbers = f"{turn.threads} thread{'s' * (turn.threads > 1)}, seed {turn.seed}"
    seconds = f"training {turn.training_s:.1f} s, process {turn.process_s:.1f} s"
    return f"{numbers}, {turn.row}: {seconds}, accuracy {100 * turn.accuracy:.2f} %"


# ------------------------------------------------------------------------------------------------ the table
def ratios(turns: Sequence[Turn], row: str, threads: int, seconds: Callable[[Turn], float]) -> NDArray[np.float64]:
    """Time of the reference in units of a row's, round by round, (R,)."""
    base, mine = (
        np.array([seconds(turn) for turn in turns if (turn.row, turn.threads) == (name, threads)])
        for name in (REFERENCE, row)
    )
    within: NDArray[np.float64] = base / mine
    return within


def markdown(machine: dict[str, Any], commit: str, iterations: int, turns: Sequence[Turn]) -> str:
    """The table for readers."""
    settings = {turn.setting for turn in turns if turn.row == REFERENCE}
    lines = [
        f"{machine['cpu']}, {machine['cpus']} cores; Python {machine['python']}, torch {machine['packages']['torch']}. "
        f"Class-incremental Split-MNIST by replay, {TASKS * iterations:,} updates. The reference is "
        f"github.com/GMvandeVen/continual-learning at {commit}, its setting {', '.join(sorted(settings))}. Medians, "
        "with the smallest and the largest, over rounds, each with its own seed; ratios are taken within rounds.",
        "",
    ]
    kinds: list[Callable[[Turn], float]] = [lambda turn: turn.training_s, lambda turn: turn.process_s]
    cells = []
    for threads in dict.fromkeys(turn.threads for turn in turns):
        for row, evaluations in ROWS.items():
            mine = [turn for turn in turns if (turn.row, turn.threads) == (row, threads)]
            cells.append([str(threads), row if row == REFERENCE else f"clbench, {row}", evaluations])
            for seconds in kinds:
                cells[-1].append(_spread([seconds(turn) for turn in mine], 1))
                cells[-1].append("" if row == REFERENCE else _spread(ratios(turns, row, threads, seconds), 2))
            cells[-1].append(_spread([100 * turn.accuracy for turn in mine], 2))
    header = ["threads", "", "evaluated during training", "training, s", "reference / this"]
    header += ["process, s", "reference / this", "final accuracy, %"]
    return "\n".join([*lines, table(header, cells), ""])


def _spread(values: Sequence[float] | NDArray[np.float64], places: int) -> str:
    """Median with the range.

    >>> _spread([1.0, 3.0, 2.0], 1)
    '2.0 (1.0 to 3.0)'
    """
    return f"{np.median(values):.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reference", type=Path, required=True, help="a checkout of GMvandeVen/continual-learning")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row (3)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[cores(), 1], help="numbers of threads (all cores, 1)"
    )
    parser.add_argument("--iterations", type=int, default=UPDATES, help=f"updates of a task ({UPDATES})")
    parser.add_argument("--out", type=Path, help="folder of the result files (benchmarks/results if all is run)")
    options = parser.parse_args()
    script = options.reference.resolve() / "main.py"
    if not script.is_file():
        parser.error(f"--reference: no main.py in {options.reference}")
    if min(options.rounds, options.iterations, *options.threads) < 1:
        parser.error("--rounds, --iterations and --threads: at least 1")
    before = os.getloadavg()[0]
    try:
        turns = measure(script, options.rounds, list(dict.fromkeys(options.threads)), options.iterations)
    except UserError as error:
        parser.error(str(error))
    asked = ["git", "-C", str(script.parent), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "an unknown commit"
    machine = provenance.collect("cpu")
    text = markdown(machine, commit, options.iterations, turns)
    print(text)
    out = options.out or (ROOT / "benchmarks" / "results" if options.iterations == UPDATES else None)
    if out is not None:
        document = {
            "machine": machine,
            "load": [before, os.getloadavg()[0]],
            "reference": commit,
            "iterations": options.iterations,
            "turns": [asdict(turn) for turn in turns],
        }
        write_json(out / "headline.json", document)
        (out / "headline.md").write_text(text)


if __name__ == "__main__":
    main()
