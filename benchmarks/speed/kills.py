"""Kills runs at random moments until they are finished, and compares their bytes with those of runs left alone.

    python benchmarks/speed/kills.py                    # every strategy of the table on Split-Digits, 50 kills
    python benchmarks/speed/kills.py --strategy my_lab.methods:Mine --benchmark split_mnist-v1 --kills 10

Each run is a process of its own, `clbench run`, and is ended from outside by SIGKILL; then the same command is given
again. The moment is uniform over the time that training takes, from its start, and at every fifth kill over the time
that the process takes, start-up included. A trace (trace.npz), the
weights' SHA-256 and everything in run.json but costs and provenance must be those of the run that was left alone. Do
not edit the suite meanwhile: changed code begins anew. Prints one line for each strategy and benchmark; exit status 1
where anything differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clbench import registry
from clbench.results import files as results

_TRIES = 1000
"""Most kills of one run: more would mean that it does not get on."""


def command(benchmark: str, strategy: str, out: Path, options: argparse.Namespace) -> list[str]:
    """The same for every attempt."""
    given = [part for override in options.overrides for part in ("-o", override)]
    return [
        sys.executable, "-m", "clbench", "run", benchmark, "--strategy", strategy, "--seed", str(options.seed), *given,
        "--threads", "1", "--device", options.device, "--checkpoint", options.checkpoint, "--out", str(out),
    ]  # fmt: skip


def files(out: Path) -> tuple[bytes, dict[str, Any]]:
    """The part of the one run below a folder that has to be equal."""
    [directory] = results.find_runs(out)
    record = results.read_run(directory)
    left = sorted(p.name for p in directory.iterdir())
    compared = {k: v for k, v in record.items() if k not in ("costs", "provenance")}
    return (directory / "trace.npz").read_bytes(), {**compared, "files": left}


def attempt(arguments: list[str], kill_after_s: float | None, training_in: Path | None = None) -> tuple[bool, int]:
    """Run a command and perhaps kill it: whether it was killed, and how often it resumed from a checkpoint.

    Args:
        arguments: the command.
        kill_after_s: when to kill; None not to.
        training_in: the run's folder, to count from where training begins, not from the start of the process.
    """

    def written() -> int:
        record = [] if training_in is None else list(training_in.rglob("run.json"))
        return record[0].stat().st_mtime_ns if record else 0

    before = written()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while training_in is not None and written() == before and process.poll() is None:
        time.sleep(0.002)
    try:
        _, said = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(arguments)}: exit status {process.returncode}\n{said.decode()}")
    return process.returncode != 0, said.count(b": resumes after update ")


def trial(benchmark: str, strategy: str, draw: random.Random, options: argparse.Namespace, kills: int) -> bool:
    """Prints the line of one strategy on one benchmark; whether all was equal."""
    killed, resumes, runs, equal = 0, 0, 0, True
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        for _ in range(2):  # the second finds caches as those that are killed will
            shutil.rmtree(alone, ignore_errors=True)
            begin = time.monotonic()
            attempt(command(benchmark, strategy, alone, options), None)
            process_s = time.monotonic() - begin
        expected = files(alone)
        [directory] = results.find_runs(alone)
        costs = results.read_run(directory)["costs"]
        while killed < kills:
            out, before = Path(folder) / str(runs), killed
            arguments = command(benchmark, strategy, out, options)
            runs += 1
            while killed < kills and killed - before < _TRIES:
                anywhere = draw.random() < 0.2
                most_s = process_s if anywhere else costs["wall_s"] - costs["setup_s"]
                was_killed, went_on = attempt(arguments, draw.uniform(0, most_s), None if anywhere else out)
                resumes += went_on
                if not was_killed:
                    break
                killed += 1
            else:
                resumes += attempt(arguments, None)[1]
            equal = equal and files(out) == expected
    verdict = "yes" if equal else "NO"
    print(f"| {strategy} | {benchmark} | {runs} | {killed} | {resumes} | {verdict} |", flush=True)
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--strategy", action="append", help="a name or an import path; default: the whole table")
    parser.add_argument("--benchmark", action="append", help="default split_digits-v1")
    parser.add_argument("-o", dest="overrides", action="append", default=[], help="as of clbench run")
    parser.add_argument("--kills", type=int, default=50, help="in all, at least; default 50")
    parser.add_argument("--checkpoint", default="7", help="as of clbench run; default every 7 updates")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", type=int, help="seed of the moments; default: another one each time")
    options = parser.parse_args()
    moments = random.SystemRandom().randrange(10**6) if options.moments is None else options.moments
    draw = random.Random(moments)
    strategies, benchmarks = options.strategy or sorted(registry.strategies()), options.benchmark or ["split_digits-v1"]
    pairs = [(b, s) for b in benchmarks for s in strategies]
    print(f"--moments {moments}, checkpoint every {options.checkpoint}\n")
    print("| strategy | benchmark | runs | kills | resumes | equal |\n|---|---|--:|--:|--:|---|", flush=True)
    return int(not all([trial(b, s, draw, options, -(-options.kills // len(pairs))) for b, s in pairs]))


if __name__ == "__main__":
    sys.exit(main())
