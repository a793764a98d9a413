"""`clbench grid`: a study of many runs."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from clbench.cli import status
from clbench.cli.arguments import integer
from clbench.errors import UserError
from clbench.formatting import duration
from clbench.studies.engines.base import ENGINES

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.studies.execute import Grid, Row, Survey
    from clbench.studies.study import Study
from clbench.cli.progress import Shown, Silent


def add(verbs: Verbs) -> None:
    """The verb."""
    from clbench.cli.run import add_keep, add_other_code

    grid = verbs.add_parser("grid", help="run a study: streams x strategies x hyper-parameters x seeds")
    grid.add_argument("study", type=Path, metavar="STUDY.yaml")
    grid.add_argument("--engine", choices=tuple(ENGINES), help="overrides the study's; default local")
    grid.add_argument("--processes", type=integer(1, 4096), metavar="N", help="of the engine local")
    grid.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster, for the engine ray")
    grid.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default ./results")
    grid.add_argument("--dry-run", action="store_true", help="print the missing runs and the expected time")
    grid.add_argument("--retry-failed", action="store_true", help="repeat failed runs")
    add_other_code(grid)
    add_keep(grid)
    grid.add_argument("--quiet", action="store_true", help="no progress")
    grid.set_defaults(act=_grid)


def _grid(options: argparse.Namespace) -> int:
    from clbench.cli.run import say_kept, say_without_weights, writable
    from clbench.loggers import base
    from clbench.studies.study import read

    try:
        study = read(options.study)
    except UserError:
        if _is_benchmark(options.study):
            name = options.study
            raise UserError(f"{name}: a benchmark, not a study; `clbench run {name}` runs it.") from None
        raise
    base.check(study.config.log)
    settings = _settings(options, study)
    from clbench.studies.execute import Grid

    grid = Grid(study, options.out, retry=options.retry_failed, other_code=options.other_code, keep=options.keep)
    numerics = study.config.numerics
    if options.dry_run:
        survey = grid.survey()
        print("\n".join(_dry_run(grid, survey, settings, numerics.threads)))
        say_kept(survey.kept)
        return 0
    writable(options.out)
    if not os.access(options.out, os.W_OK):
        raise UserError(f"--out {options.out}: cannot be written to.")
    from clbench.studies.engines.base import engine

    executor = engine(settings, numerics.threads, numerics.device == "cuda")
    signal.signal(signal.SIGTERM, _as_interrupt)
    summary = grid.run(executor, Silent() if options.quiet else Shown())
    print("\n".join(summary.lines()))
    say_kept(summary.kept)
    say_without_weights(summary.without_weights)
    _write_boards(options.out)
    print(f"{options.out / 'leaderboard.csv'}, {options.out / 'runs.csv'}")
    return status.worst([*[status.FAILED for _ in summary.failed], *[status.BUSY for _ in summary.unfinished]])


def _is_benchmark(path: Path) -> bool:
    """True if the argument is the id or the file of a benchmark."""
    from clbench import registry
    from clbench.config import strict_yaml

    if not path.exists():
        return registry.benchmark_id(str(path)) is not None
    keys = strict_yaml.parse_file(path).keys()
    return bool({"stream", "base"} & keys) and not {"streams", "strategies"} & keys


def _as_interrupt(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise KeyboardInterrupt


def _settings(options: argparse.Namespace, study: Study) -> Any:
    """The engine's settings, overridden by the command line."""
    import pydantic

    from clbench.config.engines import Settings

    values: dict[str, Any] = study.config.engine.model_dump(exclude_none=True)
    name = options.engine or values["name"]
    if name != values["name"]:
        values = {"name": name}
    for key, of in (("processes", "local"), ("address", "ray")):
        value = getattr(options, key)
        if value is not None:
            if name != of:
                raise UserError(f"--{key} is for the engine '{of}', not for '{name}'.")
            values[key] = value
    return pydantic.TypeAdapter(Settings).validate_python(values)


def _write_boards(out: Path) -> None:
    from clbench.reports import leaderboard, tables
    from clbench.results import files, record

    records, problems = record.collect(out)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    files.write_bytes(out / "leaderboard.csv", tables.to_csv(leaderboard.table(records)))
    files.write_bytes(out / "runs.csv", tables.to_csv(leaderboard.runs(records)))


def _dry_run(grid: Grid, survey: Survey, settings: Any, threads: int) -> list[str]:
    from clbench.studies.engines.local import cores

    lines = [f"{_row(row)}  (trial)" for row in survey.trials] + [_row(row) for row in survey.rows]
    everything = [*survey.trials, *survey.rows]
    todo = [(row, sum(row.states.count(s) for s in grid.to_do)) for row in everything]
    total = sum(len(row.states) for row in everything)
    lines.append(f"{total} runs, {sum(row.states.count('completed') for row in everything)} exist")
    to_choose = survey.to_choose * len(grid.study.seeds)
    if survey.later:
        lines.append(f"then {survey.later} runs of trials that depend on earlier ones")
    if to_choose:
        lines.append(f"then {to_choose} runs with the values that the trials select")
    known_s = [row.seconds for row, n in todo for _ in range(n) if row.seconds is not None]
    unknown = sum(n for _, n in todo) - len(known_s) + survey.later + to_choose
    seconds, how = sum(known_s), "in all"
    if settings.name == "local":
        processes = max(1, settings.processes or cores() // threads)
        seconds = max([seconds / processes, *known_s])
        how = f"with {processes} processes" if processes > 1 else "with 1 process"
    known_time = [f"{duration(seconds)} {how}, from existing runs"] if known_s or not unknown else []
    lines.append(f"time: {'; '.join([*known_time, *[f'unknown for {unknown} runs'] * bool(unknown)])}")
    return lines


def _row(row: Row) -> str:
    from clbench.studies.existing import State

    seeds = " ".join(str(p.run.seed) for p in row.runs)
    words = [f"{row.states.count(s)} {s}" for s in get_args(State) if s in row.states]
    each = "" if row.seconds is None else f", about {duration(row.seconds)} each"
    return f"{row.runs[0].row}  seeds {seeds}: {', '.join(words)}{each}"
