"""Tables of runs: their scores, the leaderboard, and paired comparisons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.api import display
from clbench.api.runs import PathLike, Run, Runs, Source, read_run, runs_of
from clbench.errors import UserError, shown, unknown
from clbench.metrics.chosen import Choices, chosen
from clbench.metrics.field_names import asked
from clbench.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from clbench.reports.comparison import Finding
    from clbench.reports.rows import Row


def score(run: PathLike | Run | Trace, metrics: Choices | None = None, view: str | None = None) -> pd.DataFrame:
    """The metrics of a run, computed from its trace.

    Args:
        run: a run, its folder, or a trace (`ContinualEvaluation.trace` gives one). Of a run that is not completed the
            experiences that have ended are scored.
        metrics: names (`available("metrics")`), import paths, `clbench.metrics.Metric`s, or functions of a trace and a
            view that return a number. Default: all that clbench defines.
        view: of the trace; default: the run's primary one, of a trace the first.

    Returns:
        one row for each metric, by its name: value, unrounded, accuracies in [0, 1], NaN where undefined; se, its
        sampling standard error; resolution, the iterations between the evaluations that a minimum or maximum was taken
        over; unit; better, the better direction.

    Raises:
        UserError: an unknown metric or view; a run without its trace, or in which no experience has ended.

    >>> import clbench, numpy as np
    >>> from clbench.testing import make_trace
    >>> trace = make_trace(np.array([[[0.5, 0.0]], [[0.25, 1.0]]]).repeat(3, 1))
    >>> def worst_task(trace, view):
    ...     return trace.task_accuracy(view)[-1].min()
    >>> clbench.score(trace, ["average_accuracy", worst_task])["value"]
    metric
    average_accuracy    0.625
    worst_task          0.250
    Name: value, dtype: float64
    """
    import pandas as pd

    from clbench.reports import score as scores

    definitions = None if metrics is None else chosen(metrics)
    if isinstance(run, Trace):
        trace, of = run, view or next(iter(run.correct))
        if of not in trace.correct:
            raise UserError(f"score(): {unknown('view', of, trace.correct)}")
    else:
        loaded = (run if isinstance(run, Run) else read_run(run)).loaded(partial=True)
        trace, of = loaded.scored(), loaded.view(view)
    table = scores.of_trace(trace, of, definitions)
    frame = pd.DataFrame(table.rows, columns=["metric", *table.columns[1:]]).set_index("metric")
    frame["value"], frame["se"] = frame["value"].astype(float), frame["se"].astype(float)
    return frame[["value", "se", "resolution", "unit", "better"]]


# ------------------------------------------------------------------------------------------------ the leaderboard
class Leaderboard:
    """Rows of runs that differ in their seed alone, board by board; `leaderboard` makes it.

    Attributes:
        frame: the whole table, one row for each benchmark definition, data and configuration of a strategy; the columns
            are those of leaderboard.csv.
        metrics: names of those that its text shows.
        left_out: a sentence for each file that does not count.
    """

    def __init__(self, frame: pd.DataFrame, metrics: Sequence[str], left_out: Sequence[str]) -> None:
        self.frame = frame
        self.metrics = tuple(metrics)
        self.left_out = list(left_out)

    def to_markdown(self) -> str:
        """As `clbench leaderboard --markdown`."""
        from clbench.reports import tables

        return tables.to_markdown(self.frame, self.metrics)

    def to_latex(self) -> str:
        """As `clbench leaderboard --latex`: needs the package booktabs."""
        from clbench.reports import tables

        return tables.to_latex(self.frame, self.metrics)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Writes the whole table, as `clbench leaderboard --csv`. Returns the path."""
        from clbench.reports import tables
        from clbench.results import files

        files.write_bytes(Path(path), tables.to_csv(self.frame))
        return Path(path)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        from clbench.reports import tables

        return tables.to_text(self.frame, self.metrics)

    def _repr_html_(self) -> str:
        from clbench.reports import tables

        if not len(self.frame):
            return "<p>no runs</p>"
        parts = []
        for board in tables.boards(self.frame, self.metrics):
            parts.append(display.table(board.headings, board.rows, title=board.title, words=board.words))
            parts += [f"<p>{display.text(note)}</p>" for note in board.notes]
        return "".join(parts)


def leaderboard(
    *runs: Source | Iterable[Source], benchmark: str | None = None, metrics: Sequence[str] | None = None
) -> Leaderboard:
    """The leaderboard of some runs, as `clbench leaderboard` prints it: ranks, means over seeds, intervals.

    Args:
        runs: runs, or folders with runs at or below them; default: "results".
        benchmark: only runs of this one.
        metrics: names of those to show; all are in the frame.

    Raises:
        UserError: no run, or an unknown benchmark or metric.
    """
    several = runs_of(*(runs or ("results",)))
    if benchmark is not None:
        known = {run.benchmark for run in several}
        if benchmark not in known:
            raise UserError(f"leaderboard(): {unknown('benchmark', benchmark, known)}")
        several = Runs((run for run in several if run.benchmark == benchmark), several.left_out)
    from clbench.reports import leaderboard as boards
    from clbench.reports.columns import default_metrics

    frame = boards.table(run.record for run in several)
    return Leaderboard(frame, metric_names(metrics, "leaderboard()") or default_metrics(frame), several.left_out)


def metric_names(metrics: Sequence[str] | None, function: str) -> list[str]:
    """Names of metrics that are recorded with runs, each once; names of the field stand for theirs.

    Raises:
        UserError: an unknown name.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics or ())
    return list(dict.fromkeys(asked(str(name), function).metric for name in names))


# ------------------------------------------------------------------------------------------------ comparisons
class Comparison:
    """Two strategies paired by seed; `compare` makes it.

    Attributes:
        frame: one row for each benchmark and metric; the columns are those of `clbench compare --csv`.
        alone: a sentence for each row that has no partner.
        left_out: a sentence for each file that does not count.
    """

    def __init__(self, findings: Sequence[Finding], alone: Sequence[str], left_out: Sequence[str]) -> None:
        import pandas as pd

        from clbench.reports import comparison

        self.frame = pd.DataFrame(comparison.cells(findings))
        self.alone = list(alone)
        self.left_out = list(left_out)
        self._text = "\n".join([*alone, comparison.to_text(findings)])

    def __repr__(self) -> str:
        return self._text


def compare(
    a: Source | Iterable[Run],
    b: Source | Iterable[Run],
    *,
    within: PathLike = "results",
    metrics: Sequence[str] | None = None,
) -> Comparison:
    """Two strategies on the same streams, paired by seed: differences, intervals, and the seeds that they would need.

    Args:
        a, b: runs; a folder with runs; "benchmark:strategy", or ":strategy" for every benchmark; or the start of a
            row_id of the leaderboard.
        within: folder of rows that are named.
        metrics: names of those to compare; default: those that the leaderboard shows.

    Raises:
        UserError: no such row, several on one board, or no seed of one stream in common.
    """
    from clbench.reports import comparison
    from clbench.reports.columns import SHOWN

    left_out = list[str]()
    sides = [_rows(side, Path(within), left_out) for side in (a, b)]
    pairs, alone = comparison.pairs(*sides)
    names = metric_names(metrics, "compare()") or SHOWN
    findings = [finding for pair in pairs for finding in comparison.findings(pair, names)]
    return Comparison(findings, alone, list(dict.fromkeys(left_out)))


def _rows(side: Source | Iterable[Run], within: Path, left_out: list[str]) -> list[Row]:
    """One side of a comparison."""
    from clbench.reports import comparison
    from clbench.reports.rows import Row, groups

    if isinstance(side, (str, os.PathLike)):
        [rows], problems = comparison.select([os.fspath(side)], within)
        left_out += problems
        return rows
    if not isinstance(side, (Run, Iterable)):
        raise UserError(f"compare(): got {shown(side)}. Allowed: runs, a folder, benchmark:strategy, or a row_id.")
    records = [run.record for run in runs_of(side)]
    if not records:
        raise UserError("compare(): got no run.")
    return [Row(row, tuple(group)) for row, group in groups(records)]
