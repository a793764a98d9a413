"""Progress of a study: the state of each of its runs, for reports."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from clbench.errors import UserError
from clbench.reports.html.sections.progress import Progress, Row
from clbench.studies import execute
from clbench.studies.existing import is_completed
from clbench.studies.study import Study


def survey(study: Study, out: Path) -> tuple[Progress, frozenset[str] | None]:
    """The state of a study's runs, and the ids of those known so far, trials excluded.

    Runs whose hyper-parameters are still to be chosen by tuning are counted and have no id yet.

    Args:
        study: the study.
        out: its results folder.

    Returns:
        The state; and the ids, or None where the runs cannot be planned, as without their data.
    """
    try:
        with _without_downloads():
            surveyed = execute.Grid(study, out).survey()
    except UserError as error:
        return Progress((), problem=" ".join(error.problems)), None
    rows = [
        Row(row.runs[0].row, Counter(row.states), trial)
        for trial, several in ((True, surveyed.trials), (False, surveyed.rows))
        for row in several
    ]
    ids = frozenset(is_completed(planned.run).run_id for row in surveyed.rows for planned in row.runs)
    return Progress(rows, surveyed.to_choose * len(study.seeds)), ids


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    """A report fetches nothing, also where the study itself would download its data first."""
    before = os.environ.get("CLBENCH_OFFLINE")
    os.environ["CLBENCH_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CLBENCH_OFFLINE"]
        else:
            os.environ["CLBENCH_OFFLINE"] = before
