"""The scripts in benchmarks/ run: what they measure is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

BENCHMARKS = ROOT / "benchmarks"
COMMANDS = (
    "speed/augmentation.py --quick",
    "speed/closed_form.py --samples 2000 --projections 100 --rounds 1",
    "speed/engine.py --quick",
    "speed/evaluation.py --quick",
    "speed/features.py --images 600 --rounds 1 --threads 1",
    "speed/grids.py --quick",
    "speed/hosted.py --quick",
    "speed/incoming.py --rounds 1",
    "speed/kills.py --strategy naive --kills 2",
    "speed/larger.py --quick --gib 1",
    "speed/long_stream.py recurrence",
    "speed/memory.py --quick --strategies naive",
    "studies/optimisers.py --quick",
    "speed/prompting.py --quick",
    "studies/rich_features.py --quick",
    "speed/report.py --runs 10 --evaluations 100",
    "speed/seeds_together.py --quick --only digits --seeds 2",
    "speed/setup.py --quick",
    "speed/threads.py --rounds 1 --updates 2",
    "speed/training.py --quick",
    "speed/watching.py --only mlp --updates 20 --points 3",
    "speed/watching.py --only mlp --updates 20 --audit",
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
    imported = {"speed/pairs.py", "studies/pages.py"}
    of_hours = {
        "studies/drift_forecast.py", "studies/environments.py", "studies/prototypes.py", "studies/reproduce.py",
    }  # fmt: skip
    with_other_packages = {"studies/medical_tables.py"}
    of_real_networks = {"studies/pretrained_gap.py", "studies/pretrained_texts.py"}  # test_pretrained_study.py
    beside_other_code = {"speed/headline.py"}  # tests/benchmarks/test_headline.py
    scripts = {path.relative_to(BENCHMARKS).as_posix() for path in BENCHMARKS.glob("*/*.py")}
    scripts -= imported | with_other_packages | of_real_networks | of_hours | beside_other_code
    assert {command.split()[0] for command in COMMANDS} == scripts
