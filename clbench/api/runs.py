"""Runs in Python: one, or several as tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from clbench.api import display
from clbench.errors import UserError, hint, shown
from clbench.formatting import quantity
from clbench.labels import distinguished
from clbench.measures import measure_of
from clbench.metrics import Metric, compute, metrics_of
from clbench.metrics.chosen import Choices, chosen
from clbench.reports.columns import SIGNS, usual_metrics
from clbench.reports.tabular import plain
from clbench.results import load, trace_files
from clbench.results import record as records
from clbench.trace import Phase, Trace

if TYPE_CHECKING:
    import pandas as pd

HEADLINE = {
    "average_accuracy": "ACC",
    "forgetting.after_learning": "forgetting.after_learning",
    "min_acc": "min-ACC",
    "wc_acc": "WC-ACC",
}
"""Metrics of counts in the text of a run, with their short names there."""


class Values(dict[str, float]):
    """Values by the names of metrics; NaN where undefined."""

    reason: str | None = None
    """Reason why there are none."""

    def __missing__(self, name: str) -> float:
        raise KeyError(f"{name}: {self.reason}" if self.reason else f"no metric '{name}'.{hint(name, self)}")


class Run:
    """A run: its record, and its trace once it is asked for. `run` and `read_run` make it.

    Attributes:
        directory: its folder.
        record: its run.json, checked (`clbench.results.record.Record`); `record.raw` is the whole file.
        note: what there is to say about it, such as that it had been finished earlier; empty for nothing.
    """

    def __init__(self, directory: Path, record: records.Record, note: str = "", busy: str | None = None) -> None:
        self.directory = directory
        self.record = record
        self.note = note
        self._busy = busy

    @property
    def benchmark(self) -> str:
        """Id of the benchmark."""
        return self.record.benchmark

    @property
    def strategy(self) -> str:
        """Name or import path of the strategy."""
        return self.record.config.strategy.name

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.record.seed

    @property
    def status(self) -> str:
        """ "completed", "failed", "interrupted" or "running"."""
        return self.record.status

    @property
    def reason(self) -> str | None:
        """Reason why there is no result; None for a completed run."""
        if self._busy is not None:
            return f"{self._busy} is already running it"
        if self.status == "completed":
            return None
        return self.record.failure.message if self.record.failure else "unfinished"

    @property
    def config(self) -> dict[str, Any]:
        """The whole configuration, as in run.json."""
        config: dict[str, Any] = self.record.raw["config"]
        return config

    @property
    def costs(self) -> dict[str, Any]:
        """Seconds, updates, evaluations and memory, as in run.json; empty where it did not start."""
        return self.record.raw["costs"] or {}

    @property
    def metrics(self) -> Values:
        """Metrics of the primary view by name, accuracies in [0, 1]; NaN where undefined, empty without a result."""
        values = Values({n: math.nan if s.value is None else s.value for n, s in self.record.scores.items()})
        values.reason = self.reason and f"{self.status}: {self.reason}"
        return values

    @cached_property
    def trace(self) -> Trace:
        """The counts of every evaluation; of a run that is not completed those that were written when it was read.

        Raises:
            UserError: nothing was evaluated yet, or a file is missing or damaged.
        """
        return self.loaded(partial=True).trace

    def loaded(self, partial: bool = False) -> load.Run:
        """The run with its trace, as reports take it.

        Args:
            partial: whether a run that is not completed is read as far as it is written.

        Raises:
            UserError: see `trace`; it is not completed, where `partial` does not allow it.
        """
        return load.read(self.directory, partial=partial)

    def accuracy(self, view: str | None = None) -> pd.DataFrame:
        """The accuracy on every task at every evaluation, one row each; see `Runs.accuracy`."""
        return Runs([self]).accuracy(view)

    # ------------------------------------------------------------------------------------ how it shows itself
    @property
    def label(self) -> str:
        """Benchmark (with `*` where it is not the shipped one), strategy and seed."""
        return plain(f"{self.benchmark}{'*' if self.record.modified else ''} {self.strategy} seed {self.seed}")

    def _headline(self) -> Iterator[tuple[str, str]]:
        view, measure = self.record.primary_view, measure_of(self.record.primary_view)
        names = HEADLINE
        if measure is not None:
            first, *others = usual_metrics(view)
            names = {first: f"{measure.title}: {first}", **{name: name for name in others}}
        for name, short in names.items():
            score = self.record.scores.get(name)
            if score is not None:
                metric = metrics_of(view)[name]
                bound = SIGNS[metric.bound] if metric.bound else ""
                mark = f"{bound} " if score.resolution not in (None, 1) else ""  # extremes over the evaluations made
                yield short, mark + quantity(score.value, metric.unit)

    def __repr__(self) -> str:
        lines = [f"Run {self.label}: {self.status}{f', {plain(self.reason)}' if self.reason else ''}"]
        if self.status == "completed":
            lines.append("  " + ", ".join(f"{short} {value}" for short, value in self._headline()))
        lines += [f"  {plain(self.note)}"] * bool(self.note)
        return "\n".join([*lines, f"  {plain(str(self.directory))}"])

    def _repr_html_(self) -> str:
        status = f"{self.status}: {self.reason}" if self.reason else self.status
        notes = [("note", self.note)] if self.note else []
        rows = [("status", status), *self._headline(), *notes, ("folder", self.directory)]
        return display.table([], rows, title=self.label, words=2)


class Runs(Sequence[Run]):
    """Several runs; as tables for pandas. `read_runs` and `run_study` make it.

    Attributes:
        left_out: a sentence for each file that is not among them, and why.
    """

    def __init__(self, runs: Iterable[Run], left_out: Iterable[str] = ()) -> None:
        self._runs = list(runs)
        self.left_out = list(left_out)

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> Runs: ...

    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index], self.left_out) if isinstance(index, slice) else self._runs[index]

    @property
    def labels(self) -> list[str]:
        """The strategy of each, with the settings in which it differs from others of its name: er (memory 100)."""
        return distinguished((run.strategy, run.record.settings) for run in self._runs)

    @property
    def row_ids(self) -> list[str]:
        """The leaderboard's row that each belongs to: one definition, data and configuration, whatever the seed."""
        from clbench.reports.rows import groups

        rows = {id(record): row for row, group in groups(run.record for run in self._runs) for record in group}
        return [rows[id(run.record)] for run in self._runs]

    def to_frame(self, metrics: Choices | None = None) -> pd.DataFrame:
        """One row for each run: what it is, its status, and its metrics in its primary view.

        Args:
            metrics: see `score`; they are computed from the traces. Default: all that the runs recorded.

        Returns:
            columns benchmark, modified, definition_hash, strategy, label (the strategy with the settings that tell it
            from the others), row_id (see `row_ids`), seed, status, reason; one for each metric, unrounded, accuracies
            in [0, 1], NaN where undefined and without a result; iterations, train_s, eval_s, directory.

        Raises:
            UserError: an unknown metric, or a completed run without its trace where one is computed.
        """
        import pandas as pd

        if metrics is not None and not isinstance(metrics, (str, Metric)) and not callable(metrics):
            metrics = list(metrics)
        rows = []
        for run, label, row in zip(self._runs, self.labels, self.row_ids, strict=True):
            rows.append(
                {
                    "benchmark": run.benchmark,
                    "modified": run.record.modified,
                    "definition_hash": run.record.definition_hash,
                    "strategy": run.strategy,
                    "label": label,
                    "row_id": row,
                    "seed": run.seed,
                    "status": run.status,
                    "reason": run.reason,
                    **(dict(run.metrics) if metrics is None else _computed(run, metrics)),
                    **{key: run.costs.get(key) for key in ("iterations", "train_s", "eval_s")},
                    "directory": str(run.directory),
                }
            )
        last = ["iterations", "train_s", "eval_s", "directory"]
        columns = list(dict.fromkeys(key for row in rows for key in row if key not in last))
        return pd.DataFrame(rows, columns=[*columns, *last] if rows else None)

    def accuracy(self, view: str | None = None) -> pd.DataFrame:
        """The accuracy on every task at every evaluation: one row for each run, evaluation and task that was evaluated.

        Args:
            view: of the traces; default: the primary one of each run.

        Returns:
            columns benchmark, label, row_id, seed, status, iteration (updates done before it), experience, phase
            ("before", "iteration", "change" or "end"), task, accuracy in [0, 1] (of a measure its mean in a column of
            its name, such as squared_error). Runs that are not completed are there
            as far as they are written.

        Raises:
            UserError: a completed run's trace is missing, a trace has no such view, or no run has an evaluation.
        """
        import numpy as np
        import pandas as pd

        parts = []
        for run, label, row in zip(self._runs, self.labels, self.row_ids, strict=True):
            if run.status != "completed" and not trace_files.has_begun(run.directory):
                continue
            loaded = run.loaded(partial=True)
            trace = loaded.trace
            of = loaded.view(view)
            measure, mean = measure_of(of), trace.task_mean(of)
            at, task = np.nonzero(~np.isnan(mean))
            names = np.array([phase.name.lower() for phase in Phase])
            parts.append(
                pd.DataFrame(
                    {
                        "benchmark": run.benchmark,
                        "label": label,
                        "row_id": row,
                        "seed": run.seed,
                        "status": run.status,
                        "iteration": trace.iteration[at],
                        "experience": trace.experience[at],
                        "phase": names[trace.phase[at]],
                        "task": task,
                        "accuracy" if measure is None else measure.name: mean[at, task],
                    }
                )
            )
        if not parts:
            raise UserError("accuracy(): none of the runs has an evaluation.")
        return pd.concat(parts, ignore_index=True)

    # ------------------------------------------------------------------------------------ how they show themselves
    def _head(self) -> str:
        states = [run.status for run in self._runs]
        counted = [f"{states.count(s)} {s}" for s in ("completed", "failed", "interrupted", "running") if s in states]
        return f"{len(self)} run{'s' * (len(self) != 1)}{': ' if counted else ''}{', '.join(counted)}"

    def _lines(self) -> Iterator[tuple[str, str, str]]:
        for run, label in zip(self._runs, self.labels, strict=True):
            text = ", ".join(f"{short} {value}" for short, value in run._headline()) or f"{run.status}: {run.reason}"
            yield f"{run.benchmark}{'*' if run.record.modified else ''} {label}", str(run.seed), text

    def __repr__(self) -> str:
        lines = [f"  {plain(name)} seed {seed}: {plain(text)}" for name, seed, text in self._lines()]
        notes = [f"  left out: {plain(text)}" for text in self.left_out]
        return "\n".join([self._head(), *_few(lines), *_few(notes)])

    def _repr_html_(self) -> str:
        rows = list(self._lines())
        more = [("...", "", f"{len(rows) - _MOST} more")] if len(rows) > _MOST else []
        notes = "".join(f"<p>{display.text(f'left out: {note}')}</p>" for note in self.left_out[:_MOST])
        return display.table(["run", "seed", ""], [*rows[:_MOST], *more], title=self._head(), words=3) + notes


_MOST = 12
"""Lines of each kind in the text of several runs."""


def _few(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _MOST else [*lines[: _MOST - 1], f"  ... {len(lines) - _MOST + 1} more"]


def _computed(run: Run, metrics: Choices) -> dict[str, float]:
    """Metrics of a run's primary view from its trace; NaN without a result."""
    definitions = chosen(metrics, view=run.record.primary_view)
    if run.status != "completed":
        return dict.fromkeys((metric.name for metric in definitions), math.nan)
    loaded = run.loaded()
    view = loaded.view()
    values = compute(loaded.trace, definitions, [view])[view]
    return {name: math.nan if value["value"] is None else value["value"] for name, value in values.items()}


# ------------------------------------------------------------------------------------------------ reading
PathLike = str | os.PathLike[str]
Source = PathLike | Run | Runs
"""A run, several, or a folder with runs at or below it."""


def read_run(path: PathLike) -> Run:
    """A run from its folder, whatever became of it.

    Args:
        path: the folder, or one above that holds this run alone.

    Raises:
        UserError: no run there, or several; a run.json that is damaged or of another version.
    """
    folders = load.directories([Path(path)])
    if len(folders) > 1:
        raise UserError(f"{path}: {len(folders)} runs below it; name one of them, such as {folders[0]}.")
    return Run(folders[0], records.read(folders[0]))


def read_runs(*paths: PathLike | Iterable[PathLike]) -> Runs:
    """The runs at or below some folders, each once; failed and unfinished ones too, with their reasons.

    Args:
        paths: run folders, or folders above them.

    Returns:
        the runs, ordered by folder; `left_out` has a sentence for each file that does not count, such as a damaged one
        or a second copy of a run.

    Raises:
        UserError: a path that is no folder, or holds no run.
    """
    roots = [Path(path) for path in _flat(paths)]
    load.directories(roots)  # for its messages
    kept, problems = records.located(*roots)
    return Runs((Run(directory, record) for directory, record in kept), problems)


def runs_of(*sources: Source | Iterable[Source]) -> Runs:
    """Runs, and the runs at or below folders.

    Raises:
        UserError: see `read_runs`; something else than runs and paths.
    """
    out, left_out = list[Run](), list[str]()
    for source in sources:
        if isinstance(source, Run):
            out.append(source)
        elif isinstance(source, (str, os.PathLike, Iterable)):
            several = read_runs(source) if isinstance(source, (str, os.PathLike)) else source
            several = several if isinstance(several, Runs) else runs_of(*several)
            out += several
            left_out += several.left_out
        else:
            raise UserError(f"got {shown(source)}. Allowed: runs, or folders with runs.")
    return Runs(out, left_out)


def _flat(paths: Iterable[PathLike | Iterable[PathLike]]) -> Iterator[PathLike]:
    for path in paths:
        if isinstance(path, (str, os.PathLike)):
            yield path
        else:
            yield from path


def of_record(directory: Path, raw: dict[str, Any], **more: Any) -> Run:
    """A run from the contents of its run.json.

    Raises:
        UserError: see `clbench.results.record.check`.
    """
    return Run(directory, records.check(directory / "run.json", json.loads(json.dumps(raw))), **more)
