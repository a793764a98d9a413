"""Kills runs at random moments until they are finished, and compares their bytes with those of runs left alone.

    python benchmarks/kills.py                                  # every strategy of the table on Split-Digits, 50 kills
    python benchmarks/kills.py --strategy my_lab.methods:Mine --benchmark split_mnist-v1 --kills 10

Each run is a process of its own, `clbench run`, and is ended from outside by SIGKILL at a moment that is uniform over
the time that a run of its own takes, start-up included; then the same command is given again. A trace (trace.npz), the
weights' SHA-256 and everything in run.json but costs and provenance must be those of the run that was left alone. Do
not edit the suite meanwhile: changed code begins anew. Prints one line for each strategy and benchmark; exit status 1
where anything differs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from clbench import registry, results

_TRIES = 1000
"""Most kills of one run: more would mean that it does not get on."""


def command(benchmark: str, strategy: str, out: Path, options: argparse.Namespace) -> list[str]:
    """The same for every attempt."""
    given = [part for override in options.overrides for part in ("-o", override)]
    return [
        sys.executable, "-m", "clbench", "run", benchmark, "--strategy", strategy, "--seed", str(options.seed), *given,
        "--threads", "1", "--device", options.device, "--checkpoint", options.checkpoint, "--quiet", "--out", str(out),
    ]  # fmt: skip


def files(out: Path) -> tuple[bytes, dict[str, Any]]:
    """What must be equal of the one run below a folder."""
    [directory] = results.find_runs(out)
    record = results.read_run(directory)
    left = sorted(p.name for p in directory.iterdir())
    compared = {k: v for k, v in record.items() if k not in ("costs", "provenance")}
    return (directory / "trace.npz").read_bytes(), {**compared, "files": left}


def attempt(arguments: list[str], kill_after_s: float | None) -> tuple[bool, float]:
    """Whether it was killed, and how long it took."""
    begin = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, said = process.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"{' '.join(arguments)}: exit status {process.returncode}\n{said.decode()}")
    return process.returncode != 0, time.monotonic() - begin


def trial(benchmark: str, strategy: str, draw: random.Random, options: argparse.Namespace, kills: int) -> bool:
    """Prints the line of one strategy on one benchmark; whether all was equal."""
    killed, resumes, runs, equal, needed_s = 0, 0, 0, True, 0.0
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        for _ in range(2):  # the second finds caches as those that are killed will
            shutil.rmtree(alone, ignore_errors=True)
            _, needed_s = attempt(command(benchmark, strategy, alone, options), None)
        expected = files(alone)
        while killed < kills:
            out, before = Path(folder) / str(runs), killed
            arguments = command(benchmark, strategy, out, options)
            runs += 1
            while killed < kills and killed - before < _TRIES:
                done = not attempt(arguments, draw.uniform(0, needed_s))[0]
                if done:
                    break
                killed += 1
            attempt(arguments, None)
            equal = equal and files(out) == expected
            [directory] = results.find_runs(out)
            resumes += len(json.loads((directory / "run.json").read_text())["costs"]["resumed_at"])
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
