"""Do adaptive networks win where a failure is drastic? The page: benchmarks/results/drift_forecast.md.

    python benchmarks/studies/drift_forecast.py                    # tunes, runs, writes the page; resumes
    python benchmarks/studies/drift_forecast.py --only refit       # some learners
    python benchmarks/studies/drift_forecast.py --table            # the page's tables from the values

Every learner forecasts the load of all links of Abilene, one step ahead, on `link_load_abilene-v1`, through six
failures. Its hyper-parameters are chosen from three on another series, with failures of its own; then it runs on
five series. Errors are relative to persistence on the same test samples: 1 is as good as the last known value.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pages import Line, Place, interval, read, write

from clbench.resolve import make_run
from clbench.streams.datasets.link_load import LinkLoadData, regimes
from clbench.trace import Phase, Trace

ROOT = Path(__file__).resolve().parent.parent.parent
VALUES = ROOT / "benchmarks" / "results" / "drift_forecast.csv"
PAGE = Place(
    ROOT / "benchmarks" / "results" / "drift_forecast.md",
    "<!-- tables: written by benchmarks/studies/drift_forecast.py -->",
    "<!-- end of tables -->",
)

BENCHMARK = "link_load_abilene-v1"
SEEDS = (0, 1, 2, 3, 4)
HELD_OUT = 100
"""Seed of the series, and of the run, on which hyper-parameters are chosen."""
WATCHED = ("evaluation={every: 8, dense: 16, subset: 48}", "watch={measures: [squared_error], values: false}")
REGAINED = 0.9
CLASSES = (("mild, below 10 %", 0.0, 0.1), ("middle, 10 to 30 %", 0.1, 0.3), ("drastic, 30 % and more", 0.3, 1.01))
"""Severity: share of the traffic that takes another path."""

KEY = ["learner", "seed", "failure"]
COLUMNS = [*KEY, "choice", "links", "moved", "before", "at", "after", "mean", "updates", "samples"]


# ------------------------------------------------------------------------------------------------ what is compared
@dataclass(frozen=True)
class Learner:
    """A learner and the values that it is tuned over.

    Attributes:
        name: in tables.
        strategy: its name.
        flags: overrides of every run.
        grid: alternatives, one of which is chosen; overrides too.
    """

    name: str
    strategy: str
    flags: tuple[str, ...] = ()
    grid: tuple[tuple[str, ...], ...] = ((),)


BATCH = 4
_RATES = ("0.001", "0.003", "0.01")
_FIRST = 40 * 96 * 4 // 5
_RECENT = ("strategy.buffer=ring", "strategy.memory=384", "strategy.replay_batch=28")
_CFC = ("model={name: cfc, units: 32}",)
_LTC = ("model={name: ltc, units: 32}",)


def _rates(*more: str) -> tuple[tuple[str, ...], ...]:
    return tuple((f"training.optimizer.lr={rate}", *more) for rate in _RATES)


def _tuning(detector: str) -> tuple[str, ...]:
    return (f"strategy.detector={detector}", f"strategy.warm_up={_FIRST}", *_RECENT)


_ALARMS = tuple(
    (f"training.optimizer.lr={rate}", f"strategy.tune={samples}")
    for rate, samples in (("0.001", 192), ("0.003", 192), ("0.003", 384))
)
_FITS = tuple(
    (f"strategy.window={window}", f"strategy.every={every}") for window, every in ((192, 24), (768, 24), (768, 96))
)

LEARNERS = (
    Learner("persistence", "persistence"),
    Learner("seasonal persistence", "persistence", ("strategy.value=season",)),
    Learner("linear, re-fitted on a window", "refit", ("model={name: linear}",), _FITS),
    Learner("MLP, kept after the first regime", "drift_tuning", _tuning("none"), _rates()),
    Learner("CfC, kept after the first regime", "drift_tuning", (*_tuning("none"), *_CFC), _rates()),
    Learner("LTC, kept after the first regime", "drift_tuning", (*_tuning("none"), *_LTC), _rates()),
    Learner("MLP, replay of the last four days", "er", _RECENT, _rates()),
    Learner("CfC, replay of the last four days", "er", (*_RECENT, *_CFC), _rates()),
    Learner("MLP, online", "naive", (), _rates()),
    Learner("MLP, fine-tuned at alarms (Page-Hinkley)", "drift_tuning", _tuning("page_hinkley"), _ALARMS),
    Learner("MLP, fine-tuned at alarms (ADWIN)", "drift_tuning", _tuning("adwin"), _ALARMS),
    Learner("MLP, replay of all", "er", ("strategy.memory=3072", "strategy.replay_batch=28"), _rates()),
)
PAIRS = (
    ("CfC, kept after the first regime", "MLP, kept after the first regime"),
    ("LTC, kept after the first regime", "MLP, kept after the first regime"),
    ("CfC, replay of the last four days", "MLP, replay of the last four days"),
    ("CfC, kept after the first regime", "linear, re-fitted on a window"),
    ("CfC, replay of the last four days", "linear, re-fitted on a window"),
)
"""Compared seed by seed, in the mean relative error during failures."""


# ------------------------------------------------------------------------------------------------ one run
def task_errors(trace: Trace) -> NDArray[np.float64]:
    """Root mean squared error of each task at each evaluation, (E, T); NaN where there was no forecast."""
    return np.sqrt(trace.task_mean("domain:squared_error"))


def one(learner: Learner, choice: tuple[str, ...], seed: int, out: Path) -> Trace:
    """The trace of a run; one that is completed is not repeated.

    Raises:
        RuntimeError: the run failed.
    """
    from clbench.results.load import read as read_run
    from clbench.runner.run import execute

    series = f"stream.link_load.seed={seed}"
    overrides = [series, *WATCHED, *learner.flags, *choice]
    run = make_run(BENCHMARK, strategy=learner.strategy, seed=seed, threads=1, overrides=overrides)
    outcome = execute(run, out)
    if outcome.record["status"] != "completed":
        raise RuntimeError(f"{learner.name} seed {seed}: {outcome.record.get('failure')}")
    return read_run(outcome.directory).trace


@dataclass(frozen=True)
class Failure:
    """What a learner went through in one failure, in units of the error of persistence.

    Attributes:
        moved: severity.
        before: error on the regime before, at its end.
        at: error on the failure's test samples, before an update on it.
        after: the same at its end.
        mean: the same, averaged over the failure's updates.
        updates: until 90 % of the rise from `before` to `at` was regained; infinite if it was not, 0 without a rise.
    """

    moved: float
    before: float
    at: float
    after: float
    mean: float
    updates: float


def failures(
    errors: NDArray[np.float64], trace: Trace, reference: NDArray[np.float64], moved: list[float]
) -> list[Failure]:
    """The failures of a run: regimes 1, 3, 5, ...

    Args:
        errors: of each task at each evaluation, (E, T).
        trace: when they were evaluated.
        reference: error of persistence on each task, (T,).
        moved: severity of each regime, (T,).
    """
    relative = errors / reference
    result = []
    for t in range(1, relative.shape[1], 2):
        rows = np.flatnonzero(trace.experience == t)
        curve, updates = relative[rows, t], trace.iteration[rows] - trace.iteration[rows[0]]
        last = np.flatnonzero((trace.experience == t - 1) & (trace.phase == Phase.END))[-1]
        before, at = relative[last, t - 1], curve[0]
        regained = curve <= at - REGAINED * (at - before)
        first = 0.0 if at <= before else float(updates[regained][0]) if regained.any() else math.inf
        mean = float(((curve[1:] + curve[:-1]) / 2 * np.diff(updates)).sum() / updates[-1])
        result.append(Failure(moved[t], float(before), float(at), float(curve[-1]), mean, first))
    return result


def parameters(seed: int) -> LinkLoadData:
    """The series of a seed, as the benchmark has it."""
    run = make_run(BENCHMARK, strategy="naive", overrides=[f"stream.link_load.seed={seed}"])
    made = run.benchmark.stream.link_load
    assert made is not None
    return made


def lived(learner: Learner, choice: tuple[str, ...], seed: int, out: Path) -> list[Failure]:
    """The failures of a learner on a series."""
    trace = one(learner, choice, seed, out)
    reference = task_errors(one(LEARNERS[0], (), seed, out))[-1]
    return failures(task_errors(trace), trace, reference, [r.moved for r in regimes(parameters(seed))])


def chosen(learner: Learner, out: Path) -> tuple[str, ...]:
    """The alternative with the least mean error during the failures of the held-out series."""
    if len(learner.grid) == 1:
        return learner.grid[0]
    scores = [np.mean([f.mean for f in lived(learner, choice, HELD_OUT, out)]) for choice in learner.grid]
    return learner.grid[int(np.nanargmin(scores))]


# ------------------------------------------------------------------------------------------------ values and tables
def lines_of(learner: Learner, choice: tuple[str, ...], seed: int, out: Path) -> Iterator[Line]:
    """A line for each failure of a learner on a series."""
    names = [r.name.removeprefix("failure of ") for r in regimes(parameters(seed))[1::2]]
    for number, (failure, links) in enumerate(zip(lived(learner, choice, seed, out), names, strict=True)):
        yield {
            "learner": learner.name, "seed": str(seed), "failure": str(number), "choice": " ".join(choice),
            "links": links,
            **{name: f"{getattr(failure, name):.6g}" for name in ("moved", "before", "at", "after", "mean", "updates")},
            "samples": f"{failure.updates * BATCH:.6g}",
        }  # fmt: skip


def of_class(lines: Iterable[Line], low: float, high: float) -> list[Line]:
    """The lines of failures whose severity is in [low, high)."""
    return [line for line in lines if low <= float(line["moved"]) < high]


def middle(values: list[float]) -> str:
    """Median of numbers of which some are infinite, as text."""
    ordered = sorted(values)
    n = len(ordered)
    value = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return "not regained" if math.isinf(value) else f"{value:.0f}"


def table(lines: list[Line], low: float, high: float) -> Iterator[str]:
    """A line for each learner: its errors in failures of one class, and how they were regained."""
    yield "| learner | before | at | mean | after | regained | updates | samples |"
    yield "|---|---|---|---|---|---|---|---|"
    for learner in LEARNERS:
        of = of_class((line for line in lines if line["learner"] == learner.name), low, high)
        if not of:
            continue
        means = [f"{np.mean([float(line[name]) for line in of]):.2f}" for name in ("before", "at", "mean", "after")]
        updates = [float(line["updates"]) for line in of]
        count = f"{sum(map(math.isfinite, updates))} of {len(of)}"
        taken = middle(updates), middle([float(line["samples"]) for line in of])
        yield f"| {learner.name} | {' | '.join(means)} | {count} | {' | '.join(taken)} |"


def differences(lines: list[Line]) -> Iterator[str]:
    """A line for each pair: the difference of the mean errors during failures, by class, over seeds."""
    names = " | ".join(name for name, *_ in CLASSES)
    yield f"| mean error of | less that of | {names} |"
    yield "|---|---|" + "---|" * len(CLASSES)
    for first, second in PAIRS:
        cells = []
        for _, low, high in CLASSES:
            by_seed = []
            for seed in SEEDS:
                of = [line for line in of_class(lines, low, high) if line["seed"] == str(seed)]
                pair = [[float(line["mean"]) for line in of if line["learner"] == name] for name in (first, second)]
                if all(pair):
                    by_seed.append(float(np.mean(pair[0]) - np.mean(pair[1])))
            mean, half = interval(by_seed) if by_seed else (math.nan, math.inf)
            cells.append(f"{mean:+.2f} ± {half:.2f} ({len(by_seed)} seeds)" if half < math.inf else "not run")
        yield f"| {first} | {second} | {' | '.join(cells)} |"


def tables(lines: list[Line]) -> str:
    """All tables of the page."""
    parts = []
    for name, low, high in CLASSES:
        count = len({(line["seed"], line["failure"]) for line in of_class(lines, low, high)})
        parts += [f"### Failures that are {name}", "", f"{count} failures.", "", *table(lines, low, high), ""]
    parts += ["### Differences", "", *differences(lines), "", "### Chosen values", ""]
    choices = {line["learner"]: line["choice"] for line in lines if line["choice"]}
    parts += ["| learner | values |", "|---|---|", *(f"| {name} | `{text}` |" for name, text in choices.items())]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Runs what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/drift_forecast"), help="folder of the runs")
    parser.add_argument("--only", default="", help="learners with this in their names")
    parser.add_argument("--table", action="store_true", help="only the page, from the values")
    options = parser.parse_args(arguments)
    lines = read(VALUES)
    for learner in [] if options.table else [learner for learner in LEARNERS if options.only in learner.name]:
        missing = [s for s in SEEDS if not any((li["learner"], li["seed"]) == (learner.name, str(s)) for li in lines)]
        if not missing:
            continue
        choice = chosen(learner, options.out)
        for seed in missing:
            lines += lines_of(learner, choice, seed, options.out)
            write(VALUES, COLUMNS, lines)
            print(f"{learner.name} seed {seed}", flush=True)
    PAGE.write(tables(lines))


if __name__ == "__main__":
    main()
