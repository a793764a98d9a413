"""Does CLASSP keep more than SGD, Adagrad, Adam and EWC, at equal tuning effort?

The page is strategies/studies/classp_study.md.

    CLBENCH_DATA=... python benchmarks/studies/optimisers.py --reviews text_amazon4.npz
    python benchmarks/studies/optimisers.py --table                               # the page's tables from the CSV

Every method has the same number of trials on each stream. A trial sees the first two tasks, of which a part of the
*training* samples is held out; the parameters with the best accuracy on that part at the end of the second task are
taken. With these, whole streams are run with other seeds. Every run is a line of results/optimisers.csv; runs that
exist are not run again, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pages import Line, Place, interval, percent, read, write

from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.rng import Generator
from clbench.run_config import RunConfig
from clbench.schema import canonical

ROOT = Path(__file__).resolve().parent.parent.parent
VALUES = ROOT / "results" / "optimisers.csv"
PAGE = Place(
    ROOT / "strategies" / "studies" / "classp_study.md",
    "<!-- tables: written by benchmarks/studies/optimisers.py -->",
    "<!-- end of tables -->",
)

SEEDS = (0, 1, 2, 3, 4)
TRIAL_SEED = 1000
"""Of all trials; no whole stream is run with it."""
METRICS = {"accuracy": "average_accuracy", "forgetting": "forgetting.after_learning"} | {
    name: name for name in ("min_acc", "wc_acc")
}
KEY = ["stage", "stream", "method", "parameters", "seed"]
COLUMNS = [*KEY, "updates", *METRICS, "learnt", "suppressed", "memory_bytes", "run_id", "failure"]
Parameters = dict[str, float]

WATCHED = "evaluation={every: 20, dense: 30, subset: 500}"
"""Of whole streams: the first 30 updates of each task, where the gap is, and then every 20th."""
AT_THE_END = "evaluation={every: 0, dense: 0, subset: null}"
"""Of trials."""
FIRST_TWO = "stream.tasks.count=2"


# ------------------------------------------------------------------------------------------------ what is compared
@dataclass(frozen=True)
class Stream:
    """A stream and its first two tasks.

    Attributes:
        name: in the table.
        benchmark: what is changed: a shipped id, or a file that is written beside the data.
        selection: the data set of trials: training samples of `data`, and where tasks are classes only those of two
            tasks, so that the network has no outputs for others yet.
        both: changes for trials and whole streams.
        trial, whole: those of one of them.
        strengths: of EWC. It counts each piece of an online stream as an experience, and adds up their springs.
    """

    name: str
    benchmark: str
    selection: str
    both: tuple[str, ...]
    trial: tuple[str, ...]
    whole: tuple[str, ...] = ()
    strengths: tuple[float, ...] = (1, 10, 100)

    def overrides(self, trial: bool) -> list[str]:
        """The same as overrides of `clbench run -o`."""
        if trial:
            return [*self.both, *self.trial, f"stream.data={self.selection}", AT_THE_END]
        return [*self.both, *self.whole, WATCHED]


def _online(tasks: int) -> str:
    lessons = ", ".join(f"{{tasks: [{t}], samples: 2000}}" for t in range(tasks))
    return f"stream.schedule={{by: explicit, experiences: [{lessons}]}}"


SMALL = "model.hidden=[100, 100]"
STREAMS = (
    Stream("split MNIST", "split_mnist-v1", "mnist_0123_selection", ("training.iterations=200", SMALL), (FIRST_TWO,)),
    Stream(
        "permuted MNIST", "permuted_mnist-v1", "mnist_selection", ("training={iterations: 200, epochs: null}",),
        (FIRST_TWO,), ("stream.tasks.count=10",),
    ),
    Stream(
        "power-law MNIST", "power_law_mnist-v1", "mnist_selection", ("training.iterations=200", SMALL), (FIRST_TWO,)
    ),
    Stream(
        "online MNIST", "online_mnist-v1", "mnist_0123_selection",
        (SMALL, "stream.tasks.order=seed"), (FIRST_TWO, _online(2)), (_online(5),),
        strengths=(0.01, 0.1, 1),
    ),
    Stream("reviews", "reviews.yaml", "reviews_selection", (), ()),
)  # fmt: skip

REVIEWS_YAML = """\
id: reviews-v1
title: domain-incremental sentiment of product reviews, four domains
source: Blitzer, Dredze and Pereira 2007, ACL
stream: {data: reviews, tasks: {by: given}, setting: domain}
model: {name: mlp, hidden: [100]}
training: {epochs: 5, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""
REVIEWS_SHA256 = "c10de269d9ba095ae363ac47cd9bfbdc77c08a776030008501a55247171d6e98"
DOMAINS = ["books", "dvd", "electronics", "kitchen"]
FEATURES = 2048


@dataclass(frozen=True)
class Method:
    """A method and what is tried of it.

    Attributes:
        name: in the table.
        strategy: its name for clbench.
        grid: values of each parameter, ascending; every combination is tried. An empty one is the stream's.
        flags: overrides, with the parameters' names in braces.
    """

    name: str
    strategy: str
    grid: dict[str, tuple[float, ...]]
    flags: tuple[str, ...]

    def on(self, stream: Stream) -> dict[str, tuple[float, ...]]:
        """The grid on a stream."""
        return {key: values or stream.strengths for key, values in self.grid.items()}

    def trials(self, stream: Stream) -> list[Parameters]:
        """All that is tried."""
        grid = self.on(stream)
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

    def edges(self, stream: Stream, chosen: Parameters) -> list[str]:
        """Parameters whose chosen value is the smallest or the largest that was tried; 0 is no edge, but off."""
        return [k for k, v in chosen.items() if v in (self.on(stream)[k][0], self.on(stream)[k][-1]) and v != 0]


def _steps(least: float) -> tuple[float, ...]:
    """Twelve values, 1-2-5 steps from the least."""
    return tuple(float(f"{least * step * 10**decade:.3g}") for decade in range(4) for step in (1, 2, 5))


def _optimiser(name: str, least: float) -> Method:
    flag = "strategy.optimizer={{name: NAME, lr: {lr}}}".replace("NAME", name.lower())
    return Method(name, "naive", {"lr": _steps(least)}, (flag,))


METHODS = (
    _optimiser("SGD", 1e-3),
    _optimiser("Adagrad", 1e-4),
    _optimiser("Adam", 1e-5),
    Method(
        "EWC", "ewc", {"lr": (0.01, 0.03, 0.1, 0.3), "strength": ()},
        ("strategy.optimizer={{name: sgd, lr: {lr}}}", "strategy.strength={strength}", "strategy.fisher_samples=1000"),
    ),
    Method(
        "EWC, online", "ewc", {"lr": (0.01, 0.03, 0.1, 0.3), "strength": ()},
        ("strategy.optimizer={{name: sgd, lr: {lr}}}", "strategy.strength={strength}", "strategy.fisher_samples=1000",
         "strategy.mode=online", "strategy.decay=0.5"),
    ),
    Method(
        "CLASSP", "classp", {"lr": (0.002, 0.02, 0.2, 2.0), "threshold": (0.0, 1e-9, 1e-6)},
        ("strategy.lr={lr}", "strategy.threshold={threshold}"),
    ),
    Method(
        "CLASSP, published code", "classp", {"lr": _steps(1e-3)},
        ("strategy.lr={lr}", "strategy.variant=official", "strategy.threshold=0.5"),
    ),
)  # fmt: skip
OURS = "CLASSP"


# ------------------------------------------------------------------------------------------------ data
def held_out(groups: NDArray[np.int64], share: float, purpose: str) -> NDArray[np.bool_]:
    """Which rows are put aside: a share of each group, rounded, drawn by a seed of the purpose's own; bool (N,).

    >>> held_out(np.array([0] * 10 + [1] * 5), 0.2, "test").astype(int)[:10].sum()
    2
    """
    aside = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        aside[rows[Generator(0, "optimisers", purpose, int(group)).sample(len(rows), round(share * len(rows)))]] = True
    return aside


def selection(train_x: NDArray[Any], train_y: NDArray[np.int64], share: float) -> dict[str, NDArray[Any]]:
    """A data set of training samples alone, whose "test" part is held out of them, the same share of each class."""
    aside = held_out(train_y, share, "selection")
    return {"train_x": train_x[~aside], "train_y": train_y[~aside], "test_x": train_x[aside], "test_y": train_y[aside]}


def reviews(x: NDArray[Any], y: NDArray[np.int64], task: NDArray[np.int64]) -> dict[str, dict[str, NDArray[Any]]]:
    """Both data sets of labelled samples of several domains: the whole, and what trials see of the first two."""
    groups, found = 2 * task + y, dict[str, dict[str, NDArray[Any]]]()
    test = held_out(groups, 0.2, "test")
    early = np.flatnonzero(~test & (task < 2))
    aside = held_out(groups[early], 0.2, "selection")
    for name, train, other in (
        ("reviews", np.flatnonzero(~test), np.flatnonzero(test)),
        ("reviews_selection", early[~aside], early[aside]),
    ):
        parts = {"train": train, "test": other}
        arrays = {"x": x, "y": y, "task": task}
        found[name] = {f"{p}_{key}": v[rows] for p, rows in parts.items() for key, v in arrays.items()}
    return found


def texts(path: Path) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Word counts of title and text, hashed to `FEATURES` numbers with mean square 1; labels; domains.

    The file has for `text` and `title` all strings one after the other in UTF-8 (`_bytes`), and where each begins
    (`_offsets`).

    Raises:
        UserError: another file.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    if hashlib.sha256(path.read_bytes()).hexdigest() != REVIEWS_SHA256:
        raise UserError(f"{path}: not the file of the study, whose SHA-256 is {REVIEWS_SHA256}.")
    with np.load(path, allow_pickle=False) as held:
        assert held["domains"].tolist() == DOMAINS

        def strings(name: str) -> list[str]:
            text, at = held[f"{name}_bytes"].tobytes(), held[f"{name}_offsets"]
            return [text[a:b].decode() for a, b in itertools.pairwise(at)]

        whole = [f"{title}\n{text}" for title, text in zip(strings("title"), strings("text"), strict=True)]
        y, domain = held["y"].astype(np.int64), held["domain"].astype(np.int64)
    hashed = HashingVectorizer(n_features=FEATURES).transform(whole).toarray()
    return (hashed * math.sqrt(FEATURES)).astype(np.float32), y, domain


def prepare(root: Path, path: Path | None) -> None:
    """Writes the data sets that are missing into a data root of the study's own.

    Args:
        root: the folder.
        path: of the reviews; None for streams without them.
    """
    from clbench.streams.datasets import load

    root.mkdir(parents=True, exist_ok=True)
    if not (root / "mnist_selection.npz").exists():
        d = load.load("mnist")
        x, test_x = (np.asarray(part)[:, 0] for part in (d.train_x, d.test_x))  # files have no axis of one channel
        few = d.train_y < 4
        _write(root / "mnist.npz", {"train_x": x, "train_y": d.train_y, "test_x": test_x, "test_y": d.test_y})
        _write(root / "mnist_0123_selection.npz", selection(x[few], d.train_y[few], 1 / 6))
        _write(root / "mnist_selection.npz", selection(x, d.train_y, 1 / 6))
    if path is not None and not (root / "reviews.npz").exists():
        made = reviews(*texts(path))
        for name in reversed(made):
            _write(root / f"{name}.npz", made[name])
    (root / "reviews.yaml").write_text(REVIEWS_YAML)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # not compressed: every run reads it
    temporary.replace(path)


# ------------------------------------------------------------------------------------------------ runs
@dataclass(frozen=True)
class Job:
    """One run: a trial, or a whole stream."""

    stream: Stream
    method: Method
    parameters: Parameters
    seed: int
    trial: bool

    def configuration(self, root: Path, quick: bool = False) -> RunConfig:
        """As clbench resolves it.

        Args:
            root: the data root.
            quick: a few updates, to see that it runs.
        """
        name = self.stream.benchmark
        flags = [flag.format(**self.parameters) for flag in self.method.flags]
        if quick:
            flags += ["training.iterations=3", "evaluation={every: 0, dense: 0, subset: 100}"]
        return make_run(
            str(root / name) if name.endswith(".yaml") else name,
            strategy=self.method.strategy, seed=self.seed, overrides=[*self.stream.overrides(self.trial), *flags],
            threads=1, device="cpu",
        )  # fmt: skip

    @property
    def key(self) -> Line:
        stage = "trial" if self.trial else "whole"
        values = (stage, self.stream.name, self.method.name, canonical(self.parameters), str(self.seed))
        return dict(zip(KEY, values, strict=True))


def once(job: Job, root: Path, out: Path, quick: bool = False) -> Line:
    """Runs it, unless it has been; its line."""
    from clbench.runner.run import execute

    outcome = execute(job.configuration(root, quick), out)
    if outcome.busy is not None:
        raise UserError(f"{outcome.directory}: {outcome.busy}")
    return {**job.key, **line(outcome.record)}


def line(record: dict[str, Any]) -> Line:
    """The values kept of a run's record; none that is undefined or of a failed run."""
    found: dict[str, Any] = {"run_id": record["run_id"], "updates": record["costs"]["iterations"]}
    if record["status"] != "completed":
        found["failure"] = record["failure"]["message"]
    else:
        metrics = record["metrics"][record["primary_view"]]
        found |= {name: metrics[metric]["value"] for name, metric in METRICS.items()}
        # forgetting_j is what task j had after its first visit, minus what it has at the end.
        at_end, lost = (metrics[METRICS[name]]["per_task"] for name in ("accuracy", "forgetting"))
        known = [a + (f or 0.0) for a, f in zip(at_end, lost, strict=True) if a is not None]
        found |= {"learnt": sum(known) / len(known), "suppressed": record["report"].get("suppressed")}
        found["memory_bytes"] = record["memory"]["bytes"]
    return {name: "" if found.get(name) is None else str(found[name]) for name in COLUMNS if name not in KEY}


def choose(lines: Iterable[Line]) -> Line:
    """The trial with the best accuracy on what was held out, the first of equals; a failed one is worse than any."""
    return max(lines, key=lambda each: float(each["accuracy"] or -math.inf))


class Study:
    """Runs the jobs of streams, in processes that import once.

    Attributes:
        lines: of the CSV file, in order.
    """

    def __init__(self, root: Path, out: Path, jobs: int, quick: bool) -> None:
        self._root, self._out, self._quick = root, out, quick
        self._pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
        self._begin, self._done, self._total = time.monotonic(), 0.0, 0.0

    def run(self, streams: list[Stream], known: list[Line]) -> Iterator[list[Line]]:
        """Yields all lines whenever there are more; of streams that are run, only those of this time."""
        trials = {s.name: [Job(s, m, p, TRIAL_SEED, True) for m in METHODS for p in self._few(m, s)] for s in streams}
        seeds = SEEDS[:2] if self._quick else SEEDS
        # A whole stream, watched, takes about five times as long as a trial.
        self._total = sum(len(t) for t in trials.values()) + 5.0 * len(streams) * len(seeds) * len(METHODS)
        for stream in streams:
            lines = [each for each in known if each["stream"] != stream.name]
            tried = list[Line]()
            for found in self._all(trials[stream.name], 1.0):
                tried.append(found)
                yield [*lines, *tried]
            whole = []
            for method in METHODS:
                best = choose(one for one in ordered(tried) if one["method"] == method.name)
                whole += [Job(stream, method, json.loads(best["parameters"]), seed, False) for seed in seeds]
            ended = list[Line]()
            for found in self._all(sorted(whole, key=lambda job: job.seed), 5.0):
                ended.append(found)
                yield [*lines, *tried, *ended]
            known = [*lines, *tried, *ended]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _few(self, method: Method, stream: Stream) -> list[Parameters]:
        return method.trials(stream)[: 2 if self._quick else None]

    def _all(self, jobs: list[Job], weight: float) -> Iterator[Line]:
        running = {self._pool.submit(once, job, self._root, self._out, self._quick): job for job in jobs}
        for future in as_completed(running):
            found = future.result()
            self._done += weight
            spent = (time.monotonic() - self._begin) / 60
            left = spent / self._done * (self._total - self._done)
            shown = found["failure"] or f"{100 * float(found['accuracy']):.2f}"
            where = " ".join(found[key] for key in KEY)
            print(f"[{spent:.1f} min, about {left:.0f} left] {where}: {shown}", flush=True)
            yield found


# ------------------------------------------------------------------------------------------------ the table
def ordered(lines: Iterable[Line]) -> list[Line]:
    """By stream, stage, method, trial and seed, as they stand in this file."""
    streams, methods = [s.name for s in STREAMS], [m.name for m in METHODS]

    def place(each: Line) -> tuple[int, ...]:
        s, m = streams.index(each["stream"]), methods.index(each["method"])
        trials = METHODS[m].trials(STREAMS[s])
        return s, each["stage"] == "whole", m, trials.index(json.loads(each["parameters"])), int(each["seed"])

    return sorted(lines, key=place)


SHOWN = {"accuracy": "accuracy", "learnt": "when learnt", "forgetting": "forgetting", "min_acc": "min-ACC",
         "wc_acc": "WC-ACC"}  # fmt: skip


def tables(lines: list[Line]) -> str:
    """Markdown: for each stream what was chosen, what came out, and differences; percent and percentage points."""
    out = []
    for stream in STREAMS:
        of_stream = [each for each in ordered(lines) if each["stream"] == stream.name]
        if not any(each["stage"] == "whole" for each in of_stream):
            out += [f"### {stream.name}", "", "**Not run.**", ""]
            continue
        out += [
            f"### {stream.name}",
            "",
            *_chosen(stream, of_stream),
            "",
            *_whole(of_stream),
            "",
            *_paired(of_stream),
            "",
        ]
    return "\n".join(out).rstrip()


def _chosen(stream: Stream, lines: list[Line]) -> Iterator[str]:
    yield "| | trials | updates of all trials | chosen | accuracy held out | failed trials |"
    yield "|---|---|---|---|---|---|"
    for method in METHODS:
        tried = [each for each in lines if each["stage"] == "trial" and each["method"] == method.name]
        if not tried:
            continue
        best = choose(tried)
        chosen = json.loads(best["parameters"])
        at_edge = method.edges(stream, chosen)
        said = ", ".join(f"{k} {v:g}{' (edge)' if k in at_edge else ''}" for k, v in chosen.items())
        failed, updates = sum(bool(each["failure"]) for each in tried), sum(int(each["updates"]) for each in tried)
        held = "-" if best["failure"] else f"{100 * float(best['accuracy']):.2f}"
        yield f"| {method.name} | {len(tried)} | {updates:,} | {said} | {held} | {failed} |"


def _values(lines: list[Line], method: str, column: str) -> dict[str, float]:
    """By seed, of whole streams; without those that failed or have none."""
    return {
        each["seed"]: float(each[column])
        for each in lines
        if each["stage"] == "whole" and each["method"] == method and each[column] != ""
    }


def _whole(lines: list[Line]) -> Iterator[str]:
    yield f"| | seeds | {' | '.join(SHOWN.values())} | suppressed | kept, KiB |"
    yield f"|---|---|{'---|' * len(SHOWN)}---|---|"
    for method in METHODS:
        runs = [each for each in lines if each["stage"] == "whole" and each["method"] == method.name]
        if not runs:
            continue
        failed = sum(bool(each["failure"]) for each in runs)
        cells = [method.name, f"{len(runs)}{f', {failed} failed' if failed else ''}"]
        for column in (*SHOWN, "suppressed"):
            found = list(_values(lines, method.name, column).values())
            cells.append(percent(*interval([100 * v for v in found])) if found else "")
        kept = {round(v / 1024) for v in _values(lines, method.name, "memory_bytes").values()}
        cells.append(", ".join(f"{v:,}" for v in sorted(kept)))
        yield f"| {' | '.join(cells)} |"


def _paired(lines: list[Line]) -> Iterator[str]:
    yield f"| {OURS} minus | {' | '.join(SHOWN.values())} |"
    yield f"|---|{'---|' * len(SHOWN)}"
    for method in METHODS:
        if method.name == OURS:
            continue
        cells = [method.name]
        for column in SHOWN:
            ours, theirs = _values(lines, OURS, column), _values(lines, method.name, column)
            both = [100 * (ours[seed] - theirs[seed]) for seed in ours if seed in theirs]
            mean, half = interval(both) if both else (math.nan, math.inf)
            said = percent(mean, half, "+") if both else ""
            cells.append(f"**{said}**" if abs(mean) > half else said)
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[s.name for s in STREAMS], help="a stream; default: all")
    parser.add_argument("--reviews", type=Path, help="text_amazon4.npz, for the stream of reviews")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side (default: cores)")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "optimisers", help="where runs are kept")
    parser.add_argument("--table", action="store_true", help="run nothing; write the tables of what was run")
    parser.add_argument(
        "--quick", action="store_true", help="two trials and three updates on one stream; keeps nothing"
    )
    options = parser.parse_args()
    if options.table:
        lines = read(VALUES)
        write(VALUES, COLUMNS, ordered(lines))
        PAGE.write(tables(lines))
        return
    wanted = [s for s in STREAMS if not options.only or s.name in options.only]
    if options.quick:
        wanted = wanted[:1]
    if options.reviews is None and any(s.name == "reviews" for s in wanted):
        parser.error("the stream of reviews needs --reviews; others can be chosen by --only")
    with tempfile.TemporaryDirectory() as passing:
        out = Path(passing) if options.quick else options.out
        prepare(out / "data", options.reviews)
        os.environ["CLBENCH_DATA"] = str((out / "data").resolve())  # what was prepared, for all processes
        study = Study((out / "data").resolve(), out, options.jobs, options.quick)
        lines = [] if options.quick else read(VALUES)
        try:
            for now in study.run(wanted, lines):
                lines = now
                if not options.quick:
                    write(VALUES, COLUMNS, ordered(lines))
        finally:
            study.close()
    if options.quick:
        print(tables(lines))
    else:
        PAGE.write(tables(lines))


if __name__ == "__main__":
    main()
