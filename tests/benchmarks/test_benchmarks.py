"""The scripts in benchmarks/ run: what they measure is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
COMMANDS = (
    "augmentation.py --quick",
    "engine.py --quick",
    "evaluation.py --quick",
    "grids.py --quick",
    "hosted.py --quick",
    "kills.py --strategy naive --kills 2",
    "larger.py --quick --gib 1",
    "long_stream.py recurrence",
    "optimisers.py --quick",
    "seeds_together.py --quick --only digits --seeds 2",
    "training.py --quick",
)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_runs(command: str, tmp_path: Path) -> None:
    if not (Path(os.environ.get("CLBENCH_DATA", "")) / "mnist.npz").exists():
        pytest.skip("needs mnist.npz in CLBENCH_DATA")
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


def test_every_script_is_run() -> None:
    parts = {"baselines.py", "pages.py", "pairs.py"}
    of_hours = {"environments.py", "prototypes.py", "reproduce.py"}
    scripts = {path.name for path in BENCHMARKS.glob("*.py")} - parts - of_hours
    assert {command.split()[0] for command in COMMANDS} == scripts
