"""`clbench plot`: figures of runs, of studies and of streams."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clbench import registry, resolve
from clbench.cli.arguments import integer, integers
from clbench.cli.stream_argument import compiled, is_stream, named, outline
from clbench.errors import UserError, hint, unknown
from clbench.measures import measure_of

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.reports.figures.confusion_figure import Confusions
    from clbench.reports.figures.figure_style import Look
    from clbench.reports.figures.study_runs import Board, Member
    from clbench.reports.seed_curves import Band
    from clbench.results.load import Run
    from clbench.trace import Trace

KINDS = {
    "runs": "a panel for each run: accuracy on every task at every evaluation",
    "methods": "mean over seeds at every evaluation, all methods on one axis",
    "boundaries": "accuracy on earlier tasks after task boundaries: depth of the gap and recovery",
    "matrix": "the accuracy matrix of each method",
    "cost": "accuracy against memory and time, with the Pareto front",
    "prequential": "accuracy on the last incoming samples before they are learnt, of runs with watch.prequential",
    "confusion": "the confusion matrix of each method at the end, or after some experiences",
}

MOST_RUNS = 10_000
"""Largest number of runs of a figure of methods."""

_FLAGS = {
    "view": {"runs", "methods", "boundaries", "matrix", "prequential", "confusion"},
    "tasks": {"runs", "methods"},
    "loss": {"runs"},
    "first": {"runs", "boundaries"},
    "per_task": {"methods"},
    "window": {"prequential"},
    "band": {"methods", "boundaries", "cost", "prequential"},
    "absolute": {"boundaries"},
    "metric": {"cost"},
    "experience": {"confusion"},
}
"""Flags that some kinds of figures have not."""

_OF_RUNS = (*_FLAGS, "kind", "width", "title", "label", "order", "dark")

_T = TypeVar("_T")


def add(verbs: Verbs) -> None:
    """The verb."""
    plot = verbs.add_parser("plot", help="runs, a study or a stream as a picture")
    plot.add_argument(
        "runs",
        nargs="+",
        metavar="RUN_DIR|STREAM",
        help="a run's folder, or one above; or one benchmark's id or YAML file",
    )
    plot.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".png, .svg or .pdf; default RUN_DIR/accuracy.png, ./accuracy.png, ./KIND.png; of a stream ./ID.png",
    )
    plot.add_argument("--seed", type=integer(0), metavar="N", help="of a stream; default 0")
    kinds = "; ".join(f"{kind}: {words}" for kind, words in KINDS.items())
    plot.add_argument(
        "--kind", choices=list(KINDS), help=f"{kinds}; default: methods where runs share a benchmark, else runs"
    )
    plot.add_argument("--confusion", dest="kind", action="store_const", const="confusion", help="--kind confusion")
    plot.add_argument(
        "--experience", type=integers, metavar="N,N", help="confusion: after these experiences; default: at the end"
    )
    plot.add_argument("--view", metavar="VIEW", help="default: each run's primary view")
    plot.add_argument("--tasks", type=integers, metavar="N,N", help="tasks to draw; default: all")
    plot.add_argument("--loss", action="store_true", help="runs: also the training loss")
    plot.add_argument(
        "--first",
        type=integer(1, 2**31 - 1),
        metavar="N",
        help="runs: only the first N updates of each experience; boundaries: only N updates after a boundary",
    )
    plot.add_argument(
        "--window", type=integer(1, 2**31 - 1), metavar="N", help="prequential: incoming samples; default 100"
    )
    plot.add_argument("--per-task", action="store_true", help="methods: a panel for each task")
    plot.add_argument(
        "--band",
        choices=["interval", "deviation", "seeds", "none"],
        help="over seeds: 95 %% Student t interval (default), standard deviation, each seed as a thin line, or nothing",
    )
    plot.add_argument("--absolute", action="store_true", help="boundaries: accuracy, not its change since the boundary")
    plot.add_argument("--metric", metavar="NAME", help="cost: against the costs; default average_accuracy")
    plot.add_argument(
        "--width", type=_inches, metavar="N", help="1 or 2: columns of a two-column paper; else inches, like 5.5"
    )
    plot.add_argument("--title", metavar="TEXT", help="above the figure")
    plot.add_argument(
        "--label", action="append", default=[], metavar="ROW=TEXT", help="a name, like er='Ours'; may be repeated"
    )
    plot.add_argument("--order", default="", metavar="ROW,ROW", help="methods that come first")
    plot.add_argument("--dark", action="store_true", help="on a dark ground")
    plot.set_defaults(act=_plot)


def _inches(text: str) -> float:
    """Inches of a width in columns or inches."""
    from clbench.reports.figures.figure_style import COLUMNS

    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if text in ("1", "2"):
        return COLUMNS[int(text)]
    if not 2 <= number <= 30:
        raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: 1 or 2 columns, or 2.0 to 30 inches")
    return number


def _plot(options: argparse.Namespace) -> int:
    from clbench.reports.figures import figure_style
    from clbench.results import files, load

    if options.out is not None:
        figure_style.check_suffix(options.out)
    options.runs = [name if Path(name).exists() else named(name) for name in options.runs]
    streams = [name for name in options.runs if not Path(name).is_dir() and is_stream(name)]
    if streams:
        return _plot_stream(options, streams)
    if options.seed is not None:
        raise UserError("--seed is for pictures of streams; a run has its own.")
    for name in options.runs:
        guess = hint(name, registry.benchmarks())
        if guess and not Path(name).exists():
            raise UserError(f"{name}: no such folder, and no benchmark.{guess}")
    _check_flags(options, options.kind)
    raws, left_out = load.choose([Path(name) for name in options.runs], MOST_RUNS, partial=True)
    kind = options.kind or _usual_kind(options, raws)
    _check_flags(options, kind)
    look = figure_style.Look(options.width, _line(options.title), options.dark)
    of_one = kind == "runs" and len(raws) == 1
    name = "accuracy" if kind == "runs" else kind
    out = options.out or (next(iter(raws)) if of_one else Path()) / f"{name}.png"
    if kind == "runs":
        payload = _runs(options, raws, out.suffix, look)
    else:
        payload, copies = _study(options, kind, raws, out.suffix, look)
        left_out += copies
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    files.write_bytes(out, payload)
    print(out)
    return 0


def _line(title: str | None) -> str | None:
    from clbench.reports.tabular import plain

    return None if title is None else plain(title)


def _is_set(options: argparse.Namespace, flag: str) -> bool:
    return getattr(options, flag) not in (None, False, [], "")


def _check_flags(options: argparse.Namespace, kind: str | None) -> None:
    """Refuses a flag that a kind of figure has not."""
    for flag, kinds in _FLAGS.items():
        if kind is not None and kind not in kinds and _is_set(options, flag):
            names = " and ".join(sorted(kinds, key=list(KINDS).index))
            raise UserError(f"--{flag.replace('_', '-')} is for figures of {names}; this is one of {kind}.")
    if kind == "methods" and options.tasks is not None and not options.per_task:
        raise UserError("--tasks of methods needs --per-task, a panel for each of them.")


def _usual_kind(options: argparse.Namespace, raws: dict[Path, dict[str, Any]]) -> str:
    """The kind of a figure where none is named."""
    for flag, kind in (
        ("per_task", "methods"),
        ("absolute", "boundaries"),
        ("metric", "cost"),
        ("window", "prequential"),
    ):
        if _is_set(options, flag):
            return kind
    if _is_set(options, "loss") or _is_set(options, "first") or _is_set(options, "tasks"):
        return "runs"
    boards: dict[tuple[Any, Any], set[Any]] = {}
    for raw in raws.values():
        stream = raw.get("stream")
        data = stream.get("data_sha256") if isinstance(stream, dict) else None
        boards.setdefault((str(raw.get("definition_hash")), str(data)), set()).add(str(raw.get("run_id")))
    return "methods" if any(len(runs) > 1 for runs in boards.values()) else "runs"


def _order(options: argparse.Namespace) -> list[str]:
    from clbench.reports.rows import listed

    return listed(options.order)


# ------------------------------------------------------------------------------------------------ runs
def _runs(options: argparse.Namespace, raws: dict[Path, dict[str, Any]], suffix: str, look: Look) -> bytes:
    """Draws a panel for each run."""
    from clbench.reports.figures import run_figure
    from clbench.results import load
    from clbench.results.record import scan

    if len(raws) > run_figure.MOST_RUNS:
        where = ", ".join(options.runs)
        more = "name some of them" if options.kind else "name some of them, or draw --kind methods"
        raise UserError(f"{where}: {len(raws)} runs, allowed are up to {run_figure.MOST_RUNS}; {more}.")
    problems: list[str] = []
    runs = [run for _, run in scan(raws, lambda path: load.read(path, raws[path], partial=True, bits=False), problems)]
    if problems:
        raise UserError(*problems)
    return run_figure.draw(
        runs, suffix, look=look, view=options.view, tasks=options.tasks, loss=options.loss, first=options.first,
        rename=options.label, order=_order(options),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ methods of a study
def _study(
    options: argparse.Namespace, kind: str, raws: dict[Path, dict[str, Any]], suffix: str, look: Look
) -> tuple[bytes, list[str]]:
    """Draws methods, and gives a sentence for each run that is there twice."""
    from clbench.reports import after_boundaries
    from clbench.reports.figures import boundary_figure, confusion_figure, cost_figure, matrix_figure, study_curves

    band: Band = options.band or "interval"
    if kind == "cost":
        from clbench.cli.arguments import metrics_named

        metrics = metrics_named(None if options.metric is None else [options.metric]) or ["average_accuracy"]
        costs: tuple[list[Board[None]], list[str]] = _boards(options, raws, None)
        boards, copies = costs
        return cost_figure.draw(boards, suffix, metric=metrics[0], band=band, look=look), copies
    if kind == "confusion":
        members, copies = _finished(raws)
        drawn = _named(options, [_confusions(member, options.view, options.experience) for member in members])
        return confusion_figure.draw(drawn, suffix, look=look), copies
    if kind == "matrix":
        matrices, copies = _boards(options, raws, lambda run: matrix_figure.reduced(run.trace, run.view(options.view)))
        return matrix_figure.draw(matrices, suffix, look=look), copies
    if kind == "boundaries":
        after, copies = _boards(
            options, raws, lambda run: after_boundaries.reduced(run.trace, run.view(options.view), options.first)
        )
        return boundary_figure.draw(after, suffix, band=band, absolute=options.absolute, look=look), copies
    if kind == "prequential":

        def incoming(run: Run) -> study_curves.Drawn:
            drawn = study_curves.incoming(run.trace, run.view(options.view), options.window or study_curves.WINDOW)
            if measure_of(run.view(options.view)):
                raise UserError(f"{run.directory}: --kind prequential draws accuracies; this run predicts numbers.")
            if drawn is None:
                raise UserError(f"{run.directory}: no incoming samples as yet.")
            return drawn

        watched = {path: raw for path, raw in raws.items() if (raw["config"].get("watch") or {}).get("prequential")}
        if not watched:
            where = ", ".join(options.runs)
            raise UserError(f"{where}: no run with incoming samples; they are recorded with -o watch.prequential=true.")
        arriving, copies = _boards(options, watched, incoming)
        copies += [f"{path}: no incoming samples were recorded." for path in raws if path not in watched]
        return study_curves.draw(arriving, suffix, band=band, look=look), copies

    def curves(run: Run) -> study_curves.Drawn:
        tasks = None
        if options.per_task:
            count = run.trace.visits.shape[1]
            tasks = range(count) if options.tasks is None else sorted(set(options.tasks))
            wrong = [task for task in tasks if task >= count]
            if wrong:
                raise UserError(f"{run.directory}: --tasks: there is no task {wrong[0]}. Allowed: 0 to {count - 1}.")
        return study_curves.reduced(run.trace, run.view(options.view), tasks)

    lines, copies = _boards(options, raws, curves)
    return study_curves.draw(lines, suffix, band=band, look=look), copies


def _boards(
    options: argparse.Namespace, raws: dict[Path, dict[str, Any]], reduce: Callable[[Run], _T] | None
) -> tuple[list[Board[_T]], list[str]]:
    """The boards of runs, each trace read once and reduced to what is drawn; without `reduce` no trace is read."""
    from clbench.reports.figures import study_runs
    from clbench.results import load, record
    from clbench.results.record import scan

    def member(directory: Path) -> Member[Any]:
        checked = record.check(directory / "run.json", raws[directory])
        if reduce is None:
            return study_runs.Member(directory, checked, None, load.unfinished(raws[directory]))
        run = load.read(directory, raws[directory], partial=True, bits=False)
        reason = None if run.unfinished is None else f"{run.unfinished}, update {run.at:,}"
        return study_runs.Member(directory, checked, reduce(run), reason)

    problems: list[str] = []
    members, copies = study_runs.once(each for _, each in scan(raws, member, problems))
    if problems:
        raise UserError(*problems)
    return _named(options, members), copies


def _named(options: argparse.Namespace, members: list[Member[_T]]) -> list[Board[_T]]:
    from clbench.reports.figures import study_runs

    return study_runs.boards(members, rename=options.label, order=_order(options))


def _finished(raws: dict[Path, dict[str, Any]]) -> tuple[list[Member[None]], list[str]]:
    """The finished runs, and a sentence for each other one."""
    from clbench.reports.figures import study_runs
    from clbench.results import load, record

    left_out = [f"{path}: {reason}." for path, raw in raws.items() if (reason := load.unfinished(raw))]
    done = [path for path, raw in raws.items() if load.unfinished(raw) is None]
    if not done:
        raise UserError(*left_out)
    members = [study_runs.Member(path, record.check(path / "run.json", raws[path]), None) for path in done]
    once, copies = study_runs.once(members)
    return once, [*left_out, *copies]


def _confusions(member: Member[None], view: str | None, experiences: list[int] | None) -> Member[Confusions]:
    """The confusion matrices of a run: from its trace, or from kept weights where that holds no predictions."""
    from clbench.metrics import confusion
    from clbench.reports.figures import study_runs
    from clbench.reports.figures.confusion_figure import Confusion
    from clbench.results import load

    run = load.read(member.directory, member.record.raw, bits=False)
    trace, name = run.trace, run.view(view)
    if name not in trace.predicted:
        trace = _predicted_again(run, name, experiences)
    ends: list[int | None] = [None] if experiences is None else [*experiences]
    try:
        drawn = [Confusion.of(name, e, *confusion(trace, name, -1 if e is None else e)) for e in ends]
    except UserError as error:
        raise UserError(f"{member.directory}: --experience: {error}") from None
    return study_runs.Member(member.directory, member.record, tuple(drawn))


def _predicted_again(run: Run, view: str, experiences: list[int] | None) -> Trace:
    """The trace of a run without recorded predictions, with those that its kept weights make at its end."""
    import dataclasses

    import numpy as np

    from clbench.results import files
    from clbench.runner import kept_weights
    from clbench.trace import Phase

    missing = [name for name in (files.WEIGHTS, files.STRATEGY) if not (run.directory / name).exists()]
    if missing or experiences:
        again = "and its weights give those after the last experience alone"
        again = f"and {missing[0]}, which gives those at the end, is missing" if missing else again
        raise UserError(
            f"{run.directory}: its predictions were not recorded, {again}; with watch.predictions and --force "
            "the run is done again."
        )
    learned = kept_weights.load(run.directory)
    predictions = learned.predictions()
    if view not in predictions:
        raise UserError(f"{run.directory}: {unknown('view', view, predictions)}")
    ends = int((run.trace.phase == Phase.END).sum())
    outputs = predictions[view].astype(np.uint16)  # -1 is the largest number
    target = learned.components.evaluator.cells.target
    return dataclasses.replace(
        run.trace, predicted={view: np.broadcast_to(outputs, (ends, len(outputs)))}, cell_target=target
    )


# ------------------------------------------------------------------------------------------------ streams
def _plot_stream(options: argparse.Namespace, streams: list[str]) -> int:
    """Draws the figure of a stream."""
    if len(options.runs) > 1:
        raise UserError(f"{streams[0]}: a picture of a stream shows this one alone; got {len(options.runs)} names.")
    for flag in _OF_RUNS:
        if _is_set(options, flag):
            raise UserError(f"--{flag.replace('_', '-')} is for pictures of runs, and {streams[0]} is a stream.")
    from clbench.reports.figures import stream_figure
    from clbench.results import files

    benchmark, _, seeds, *_ = resolve.resolve(streams[0], need_strategy=False)
    try:
        known = outline(benchmark.stream)
    except UserError as error:
        raise UserError(*(f"{streams[0]}: stream.data: {problem}" for problem in error.problems)) from None
    stream = compiled(streams[0], benchmark, seeds, options.seed, known)
    out = options.out or Path(f"{benchmark.id}.png")
    files.write_bytes(out, stream_figure.draw(benchmark.id, stream, out.suffix))
    print(out)
    return 0
