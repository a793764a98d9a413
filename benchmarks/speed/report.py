"""Size and speed of `clbench report` on a large folder: 200 runs of 10,000 evaluations.

    .venv/bin/python benchmarks/speed/report.py [--runs 200] [--evaluations 10000] [--keep FOLDER]

Makes a folder of runs with invented accuracies (two benchmarks, twenty settings of replay, five seeds, five tasks, a
stability gap after each boundary), builds the report, and opens it in headless Chromium where that is installed:

build          seconds of `clbench report`, imports included
size           of the file
interactive    milliseconds from navigation until tables sort and the first picture is drawn
drawn          milliseconds for all pictures, as on paper
switch         milliseconds to show another task in the first picture
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clbench.resolve import make_run
from clbench.testing import make_trace
from clbench.testing.runs import write_run

CLBENCH = [sys.executable, "-m", "clbench"]
BENCHMARKS = ("split_digits-v1", "split_synthetic-v1")
TASKS, SEEDS = 5, 5
CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip


def accuracies(evaluations: int, strength: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Accuracies (V, P, T) of a learner with a gap after each boundary; more strength forgets less."""
    per = evaluations // TASKS
    n = np.linspace(0, 1, per)
    curves = np.full((TASKS, per, TASKS), np.nan)
    for v in range(TASKS):
        curves[v, :, v] = 0.1 + 0.85 * (1 - np.exp(-8 * n))
        for task in range(v):
            kept = curves[v - 1, -1, task] * (1 - 0.4 * (1 - strength) * n)
            curves[v, :, task] = kept - (0.5 - 0.3 * strength) * np.exp(-(((n - 0.03) / 0.02) ** 2))
    noise = generator.normal(0, 0.02, curves.shape)
    return np.asarray(np.clip(curves + noise, 0, 1))


def make_folder(out: Path, runs: int, evaluations: int) -> None:
    """Writes the runs."""
    methods = max(1, runs // (len(BENCHMARKS) * SEEDS))
    for benchmark in BENCHMARKS:
        for method in range(methods):
            for seed in range(SEEDS):
                generator = np.random.default_rng([method, seed, len(benchmark)])
                run = make_run(benchmark, strategy="er", seed=seed, overrides=[f"strategy.memory={20 + 10 * method}"])
                trace = make_trace(accuracies(evaluations, method / methods, generator), size=200)
                costs = {"train_s": 10.0 + method, "eval_s": 5.0, "wall_s": 16.0 + method}
                write_run(out, run, trace, costs=costs, memory_bytes=1000 * (2 + method))


def timed_build(out: Path, report: Path) -> float:
    """Seconds of the command."""
    begin = time.perf_counter()
    subprocess.run([*CLBENCH, "report", str(out), "-o", str(report)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def timed_in_browser(report: Path, times: int = 3) -> dict[str, float] | None:
    """Milliseconds in headless Chromium, medians; None where it is not installed."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in CHROMIUM_FLAGS:
        options.add_argument(flag)
    measured: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options.add_argument(f"--user-data-dir={profile}")
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.set_script_timeout(120)
            for _ in range(times):
                browser.get(report.as_uri())
                for name, script in _SCRIPTS.items():
                    measured.setdefault(name, []).append(float(browser.execute_async_script(script)))
        finally:
            browser.quit()
    return {name: statistics.median(values) for name, values in measured.items()}


_SCRIPTS = {
    "interactive": """
        const done = arguments[0];
        document.querySelector("[data-figure=accuracy]").scrollIntoView();
        const look = () => document.querySelector("[data-figure=accuracy][data-drawn] .drawing path")
            ? done(performance.now()) : setTimeout(look, 5);
        look();""",
    "switch": """
        const done = arguments[0];
        const select = document.querySelector("[data-control=task]");
        const begin = performance.now();
        select.value = "0";
        select.dispatchEvent(new Event("change"));
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin), 0));""",
    "drawn": """
        const done = arguments[0];
        const begin = performance.now();
        dispatchEvent(new Event("beforeprint"));
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin), 0));""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="make the folder there, or take the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = options.keep or Path(folder) / "out"
        if not out.exists():
            make_folder(out, options.runs, options.evaluations)
        report = (out.parent / f"{out.name}.html").resolve()
        figures: dict[str, float | None] = {"runs": len(list(out.rglob("run.json")))}
        figures["build_s"] = round(timed_build(out, report), 1)
        figures["size_MiB"] = round(report.stat().st_size / 2**20, 2)
        browser = timed_in_browser(report)
        figures |= {f"{name}_ms": round(value) for name, value in (browser or {}).items()}
        print(json.dumps(figures, indent=1))
        if browser is None:
            print("chromium and chromedriver are not installed; nothing was timed there", file=sys.stderr)


if __name__ == "__main__":
    main()
