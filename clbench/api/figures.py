"""Figures of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clbench.api.plots import Plot
from clbench.api.runs import Run, Source, runs_of
from clbench.errors import UserError


def plot(
    *runs: Source | Iterable[Source],
    view: str | None = None,
    tasks: Sequence[int] | None = None,
    loss: bool = False,
    first: int | None = None,
) -> Plot:
    """The accuracy on every task at every evaluation, with the task boundaries: one panel for each run.

    Args:
        runs: runs, or folders with runs at or below them; of several together those without a result are left out.
            Up to 12 panels.
        view: the view; default: each run's primary one.
        tasks: tasks to draw; default: all.
        loss: whether the training loss is drawn below each panel.
        first: only that many updates of each experience, >= 1.

    Raises:
        UserError: no run, too many, one without a result or a trace, or one without that view or task.
    """
    from clbench.reports import run_figure

    several = [
        run for source in runs for run in runs_of(source) if isinstance(source, Run) or run.status == "completed"
    ]
    if not several:
        raise UserError("plot(): got no run with a result. Allowed: completed runs, or folders with such.")
    if len(several) > run_figure.MOST_RUNS:
        raise UserError(f"plot(): got {len(several)} runs. Allowed: up to {run_figure.MOST_RUNS}.")
    loaded = [run.loaded() for run in several]
    return Plot(run_figure.figure(loaded, view=view, tasks=tasks, loss=loss, first=first))
