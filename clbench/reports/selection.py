"""Runs and rows as the command line names them: a folder, a run.json, or the first digits of a row's id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clbench.errors import UserError
from clbench.labels import Labels
from clbench.results import files, record
from clbench.results.record import Record


@dataclass(frozen=True)
class Located:
    """A run and its folder."""

    directory: Path
    record: Record


@dataclass(frozen=True)
class Row:
    """Runs of one row of a leaderboard, by seed.

    Attributes:
        id: of the row.
        runs: at least one.
    """

    id: str
    runs: tuple[Located, ...]


def located(root: Path, superseded: list[Path] | None = None) -> tuple[list[Located], list[str]]:
    """The runs below a folder, by name, and a sentence for each file that cannot be read.

    Args:
        root: the folder.
        superseded: see `files.find_runs`.
    """
    problems: list[str] = []
    runs = record.scan(files.find_runs(root, superseded), record.read, problems)
    return [Located(*run) for run in runs], problems


def labels(runs: Iterable[Record]) -> dict[str, str]:
    """A label for each run, by its id: the strategy with what tells it from others of its benchmark."""
    boards: dict[str, list[Record]] = {}
    for run in runs:
        boards.setdefault(run.definition_hash, []).append(run)
    out: dict[str, str] = {}
    for board in boards.values():
        label = Labels((run.config.strategy.name, run.settings) for run in board)
        out |= {run.run_id: label(run.config.strategy.name, run.settings) for run in board}
    return out


def run_directory(text: str) -> Path | None:
    """The folder of a run, from its path or that of its run.json; None where the text is neither."""
    path = Path(text)
    if path.name == "run.json" and path.is_file():
        path = path.parent
    return path if (path / "run.json").is_file() else None


def row(prefix: str, within: Path) -> tuple[Row, list[str]]:
    """The row whose id begins with some digits, and a sentence for each file that cannot be read.

    Raises:
        UserError: no such folder, no such row, or several.
    """
    if not re.fullmatch(r"[0-9a-f]{1,16}", prefix):
        raise UserError(f"{prefix}: no run's folder, and no row_id of a leaderboard.")
    if not within.is_dir():
        raise UserError(f"{within}: no such folder; --in names the folder of the rows.")
    from clbench.reports.rows import groups

    runs, problems = located(within)
    by_record = {id(run.record): run for run in runs}
    rows = [(row_id, group) for row_id, group in groups(run.record for run in runs) if row_id.startswith(prefix)]
    if not rows:
        raise UserError(f"{prefix}: no run, and no row in {within} whose row_id begins with it.")
    if len(rows) > 1:
        raise UserError(f"{prefix}: the ids of {len(rows)} rows begin with it: {', '.join(key for key, _ in rows)}.")
    [(row_id, group)] = rows
    return Row(row_id, tuple(by_record[id(each)] for each in group)), problems
