"""Figures of runs and of studies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from clbench.api.plots import Plot
from clbench.api.runs import Run, Runs, Source, runs_of
from clbench.errors import UserError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clbench.reports.figures.figure_style import Look
    from clbench.reports.seed_curves import Band
    from clbench.results import load

KINDS = ("runs", "methods", "boundaries", "matrix", "cost", "prequential")


def plot(
    *runs: Source | Iterable[Source],
    kind: Literal["runs", "methods", "boundaries", "matrix", "cost", "prequential"] = "runs",
    view: str | None = None,
    tasks: Sequence[int] | None = None,
    loss: bool = False,
    first: int | None = None,
    window: int = 100,
    band: Band = "interval",
    labels: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
    title: str | None = None,
    width: float | None = None,
    dark: bool = False,
) -> Plot:
    """A figure of runs, as `clbench plot` draws it.

    Args:
        runs: runs, or folders with runs at or below them; of several together those without a result are left out.
        kind: "runs" is a panel for each of up to 12 runs: accuracy on every task at every evaluation. The others stand
            for strategies, over their seeds: "methods" has the mean accuracy at every evaluation, "boundaries" that on
            earlier tasks after task boundaries, "matrix" the accuracy matrix, "cost" accuracy against memory and time,
            "prequential" the accuracy on the last incoming samples before they are learnt.
        view: the view; default: each run's primary one.
        tasks: of "runs", tasks to draw; of "methods", a panel for each; default: all, and their mean.
        loss: of "runs", whether the training loss is drawn below each panel.
        first: of "runs" and "boundaries", only that many updates of each experience, >= 1.
        window: of "prequential", incoming samples, >= 1.
        band: over seeds: "interval" (95 % Student t), "deviation", "seeds" (each a thin line) or "none".
        labels: names in the figure by strategy or row.
        order: strategies or rows that come first.
        title: above the figure.
        width: in inches.
        dark: whether the ground is dark.

    Raises:
        UserError: no run, too many, one without a result or a trace, or one without that view or task.
    """
    if kind not in KINDS:
        raise UserError(f"plot(): {unknown('kind', str(kind), KINDS)}")
    several = [
        run for source in runs for run in runs_of(source) if isinstance(source, Run) or run.status == "completed"
    ]
    if not several:
        raise UserError("plot(): got no run with a result. Allowed: completed runs, or folders with such.")
    from clbench.reports.figures import run_figure
    from clbench.reports.figures.figure_style import Look

    look, renames = Look(width, title, dark), [f"{row}={label}" for row, label in (labels or {}).items()]
    if kind != "runs":
        of = Runs(several)
        return Plot(
            _of_methods(kind, of, look, renames, order, view=view, tasks=tasks, first=first, window=window, band=band)
        )
    if len(several) > run_figure.MOST_RUNS:
        raise UserError(f"plot(): got {len(several)} runs. Allowed: up to {run_figure.MOST_RUNS}; kind='methods' more.")
    loaded = [run.loaded() for run in several]
    panels = {"view": view, "tasks": tasks, "loss": loss, "first": first, "rename": renames, "order": order}
    return Plot(run_figure.figure(loaded, look=look, **panels))


def _of_methods(
    kind: str,
    runs: Runs,
    look: Look,
    renames: Sequence[str],
    order: Sequence[str],
    *,
    view: str | None,
    tasks: Sequence[int] | None,
    first: int | None,
    window: int,
    band: Band,
) -> Figure:
    from clbench.reports import after_boundaries
    from clbench.reports.figures import boundary_figure, cost_figure, matrix_figure, study_curves, study_runs

    def reduced(run: load.Run) -> Any:
        name = run.view(view)
        if kind == "matrix":
            return matrix_figure.reduced(run.trace, name)
        if kind == "boundaries":
            return after_boundaries.reduced(run.trace, name, first)
        if kind == "prequential":
            drawn = study_curves.incoming(run.trace, name, window)
            if drawn is None:
                raise UserError(f"{run.directory}: no incoming samples; they are recorded with watch.prequential.")
            return drawn
        count = run.trace.visits.shape[1]
        wrong = [task for task in tasks or () if not 0 <= task < count]
        if wrong:
            raise UserError(f"{run.directory}: tasks: there is no task {wrong[0]}. Allowed: 0 to {count - 1}.")
        return study_curves.reduced(run.trace, name, tasks)

    members: list[study_runs.Member[Any]] = [
        study_runs.Member(run.directory, run.record, None if kind == "cost" else reduced(run.loaded())) for run in runs
    ]
    boards = study_runs.boards(study_runs.once(members)[0], rename=renames, order=list(order))
    if kind == "matrix":
        return matrix_figure.figure(boards, look=look)
    if kind == "cost":
        return cost_figure.figure(boards, band=band, look=look)
    if kind == "boundaries":
        return boundary_figure.figure(boards, band=band, look=look)
    return study_curves.figure(boards, band=band, look=look)
