"""The time of a run before its first update, beyond the imports, by parts.

    .venv/bin/python benchmarks/speed/setup.py [--turns 15] [--before CHECKOUT]

A run is `clbench run split_mnist-v1 --strategy er`, once with one update in each experience and once as it is. Each
turn is a process of its own that first imports all modules that such a run imports, torch's compiler with its first
optimiser among them; then it counts from the call of the command line to the first evaluation of training. Parts
exclude the parts within them. With `--before` the same is measured of another checkout, in turns, and ratios within a
round are the result. Data come from CLBENCH_DATA; how they are compressed there is in the result.

Written to results/setup.json and results/setup.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pairs import Timings, table, write_json

RESULTS = Path(__file__).resolve().parent.parent / "results"
ROOT = Path(__file__).resolve().parents[2]
RUNS = {"one update an experience": ["-o", "training.iterations=1"], "as it is": []}

PARTS = (
    ("clbench.streams.datasets.load", "_one", "reading of the data"),
    ("clbench.streams.datasets.load", "_finish", "checks of the data"),
    ("clbench.streams.datasets.load", "_read_through", "digest of the data"),
    ("clbench.streams.datasets.moments", "ImageMoments.add", "moments"),
    ("clbench.runner.run", "compile_stream", "index lists and hash of the stream"),
    ("clbench.runner.run", "new_record", "provenance"),
    ("clbench.results.provenance", "code_sha256", "hash of the code"),
    ("clbench.runner.user_code", "of", "hash of the code"),
    ("clbench.runner.run", "assemble", "assembly"),
    ("clbench.evaluation.evaluator", "Evaluator.of_stream", "test inputs"),
    ("clbench.runner.run", "estimate", "estimate"),
)
"""Module, attribute, and the part that its time counts to."""

CHILD = """
import importlib, json, os, sys, tempfile, time
tree, modules, parts, arguments = json.loads(sys.stdin.read())
sys.path.insert(0, tree)
begin = time.perf_counter()
for name in modules:
    try:
        importlib.import_module(name)
    except Exception:
        pass
from clbench.cli import main
import clbench.cli.run, clbench.runner.run, torch
assert clbench.runner.run.__file__.startswith(tree), clbench.runner.run.__file__
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
imports_s = time.perf_counter() - begin

seconds, stack = {}, []

def change(part):
    now = time.perf_counter()
    if stack:
        seconds[stack[-1][0]] = seconds.get(stack[-1][0], 0.0) + now - stack[-1][1]
        stack[-1][1] = now
    return now

def timed(part, function):
    def call(*args, **kwargs):
        stack.append([part, change(part)])
        try:
            return function(*args, **kwargs)
        finally:
            change(part)
            stack.pop()
            if stack:
                stack[-1][1] = time.perf_counter()
    return call

for module, path, part in parts:
    *holders, name = path.split(".")
    holder = importlib.import_module(module)
    for each in holders:
        holder = getattr(holder, each)
    function = vars(holder).get(name)
    if isinstance(function, classmethod):
        setattr(holder, name, classmethod(timed(part, function.__func__)))
    elif function is not None:
        setattr(holder, name, timed(part, function))

import clbench.runner.attempt as attempt
def trains(*args, **kwargs):
    change("")
    measured = {"imports_s": imports_s, "seconds": seconds, "cpu_s": time.process_time() - cpu}
    print("\\n" + json.dumps({**measured, "modules": list(sys.modules)}), flush=True)
    os._exit(0)
attempt.train = trains
with tempfile.TemporaryDirectory() as out:
    cpu = time.process_time()
    stack.append(["rest", time.perf_counter()])
    main([*arguments, "--out", out])
"""


def links(checkout: Path, folder: Path) -> Path:
    """A folder from which the package of a checkout is imported as it is installed."""
    package = folder / "clbench"
    package.mkdir(parents=True)
    sources = [*(checkout / "clbench").iterdir(), checkout / "strategies", checkout / "streams"]
    for source in sources:
        if source.name != "__pycache__":
            (package / source.name).symlink_to(source)
    return folder


def turn(tree: Path, modules: list[str], options: list[str]) -> dict[str, Any]:
    """Seconds of one run's parts, in a process of its own."""
    arguments = ["run", "split_mnist-v1", "--strategy", "er", "--device", "cpu", *options]
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([str(tree), modules, PARTS, arguments]),
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert not done.returncode, done.stderr
    assert done.stdout, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(trees: dict[str, Path], options: list[str], turns: int) -> tuple[Timings, dict[str, Any]]:
    """Seconds before the first update of each checkout in turns, and the medians of its parts."""
    known = {name: turn(tree, [], options)["modules"] for name, tree in trees.items()}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for n in range(turns):
        for name in list(trees)[:: 1 if n % 2 else -1]:
            runs[name].append(turn(trees[name], known[name], options))
    timings = Timings({name: np.array([sum(r["seconds"].values()) for r in each]) for name, each in runs.items()})
    parts = {
        name: {
            "imports": float(np.median([r["imports_s"] for r in each])),
            "parts": {
                part: float(np.median([r["seconds"].get(part, 0.0) for r in each]))
                for part in (*dict.fromkeys(part for _, _, part in PARTS), "rest")
            },
            "cpu_s": float(np.median([r["cpu_s"] for r in each])),
            "least_s": float(timings.seconds[name].min()),
            "median_s": timings.median_s(name),
        }
        for name, each in runs.items()
    }
    return timings, parts


def compression() -> str:
    """How the npz file of MNIST is compressed, where the data root has one."""
    path = Path(os.environ.get("CLBENCH_DATA", "")) / "mnist.npz"
    if not path.is_file():
        return "no mnist.npz"
    names = {0: "not compressed", 8: "deflate", 12: "bzip2", 14: "LZMA"}
    with zipfile.ZipFile(path) as archive:
        kinds = sorted({names.get(member.compress_type, "unknown") for member in archive.infolist()})
    return f"mnist.npz, {', '.join(kinds)}"


def page(document: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        f"Milliseconds of `clbench run split_mnist-v1 --strategy er` before the first update, beyond the imports; "
        f"medians of {document['turns']} processes each ({document['data']}; {document['cores']} cores, Python "
        f"{document['python']}). Made by `make benchmark-setup`.",
    ]
    for title, row in document["runs"].items():
        columns = list(row["checkouts"])
        parts = list(row["checkouts"][columns[0]]["parts"])
        body = [
            [part, *(f"{1000 * row['checkouts'][c]['parts'][part]:.0f}" for c in columns)]
            for part in parts
            if any(row["checkouts"][c]["parts"][part] >= 0.0005 for c in columns)
        ]
        body.append(["**together**", *(f"**{1000 * row['checkouts'][c]['median_s']:.0f}**" for c in columns)])
        body.append(["time of the processor", *(f"{1000 * row['checkouts'][c]['cpu_s']:.0f}" for c in columns)])
        body.append(["least of all", *(f"{1000 * row['checkouts'][c]['least_s']:.0f}" for c in columns)])
        body.append(["imports, not counted", *(f"{1000 * row['checkouts'][c]['imports']:.0f}" for c in columns)])
        lines.append(f"## {title[0].upper()}{title[1:]}\n\n" + table(["part", *columns], body))
        if ratio := row["ratio"]:
            low, high = ratio["ci95"]
            lines.append(f"Now / before: {ratio['median']:.2f} ({low:.2f} to {high:.2f}).")
    return "# Before the first update\n\n" + "\n\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--quick", action="store_true", help="two turns; nothing is written")
    options = parser.parse_args()
    turns, before_load = 2 if options.quick else options.turns, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"now": ROOT} if options.before is None else {"before": options.before.resolve(), "now": ROOT}
        trees = {name: links(path, Path(folder) / name) for name, path in checkouts.items()}
        runs: dict[str, Any] = {}
        for title, settings in RUNS.items():
            timings, parts = measure(trees, settings, turns)
            ratio = None
            if options.before is not None:
                of = timings.ratio("now", "before")
                ratio = {"median": of.median, "ci95": [of.low, of.high]}
            runs[title] = {
                "checkouts": parts, "ratio": ratio, "seconds": {n: s.tolist() for n, s in timings.seconds.items()}
            }  # fmt: skip
    document = {
        "turns": turns, "data": compression(), "cores": os.cpu_count(), "python": platform.python_version(),
        "load": [before_load, os.getloadavg()[0]], "runs": runs,
    }  # fmt: skip
    print(page(document))
    if not options.quick:
        write_json(RESULTS / "setup.json", document)
        (RESULTS / "setup.md").write_text(page(document))


if __name__ == "__main__":
    main()
