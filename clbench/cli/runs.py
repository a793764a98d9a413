"""`clbench plot`, `score` and `rescore`: what finished runs say."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench import registry, resolve
from clbench.cli.arguments import integer, integers
from clbench.cli.catalogue import compiled, is_stream, outline
from clbench.errors import UserError, hint

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verbs."""
    folders = "a run's folder, or one above"

    plot = verbs.add_parser("plot", help="accuracy of every task at every evaluation, or a stream, as a picture")
    plot.add_argument(
        "runs", nargs="+", metavar="RUN_DIR|STREAM", help=f"{folders}; or one benchmark's id or YAML file"
    )
    plot.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".png, .svg or .pdf; default RUN_DIR/accuracy.png, ./accuracy.png; of a stream ./ID.png",
    )
    plot.add_argument("--seed", type=integer(0), metavar="N", help="of a stream; default 0")
    plot.add_argument("--view", metavar="VIEW", help="default: each run's primary view")
    plot.add_argument("--tasks", type=integers, metavar="N,N", help="tasks to draw; default: all")
    plot.add_argument("--loss", action="store_true", help="also the training loss")
    plot.add_argument(
        "--first", type=integer(1, 2**31 - 1), metavar="N", help="only the first N updates of each experience"
    )
    plot.set_defaults(act=_plot)

    score = verbs.add_parser("score", help="every metric of a finished run, from its trace")
    score.add_argument("run", type=Path, metavar="RUN_DIR", help="a run's folder")
    score.add_argument("--view", metavar="VIEW", help="default: the run's primary view")
    score.add_argument("--gap", action="store_true", help="also the gap of each earlier task after each switch")
    score.add_argument("--dialects", action="store_true", help="also what other libraries would print")
    score.add_argument("--csv", type=Path, metavar="FILE", help="also write what is printed, unrounded")
    score.set_defaults(act=_score)

    rescore = verbs.add_parser("rescore", help="metrics of finished runs computed again, and what that changes")
    rescore.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR", help=folders)
    rescore.add_argument("--write", action="store_true", help="put the new metrics into each run.json")
    rescore.set_defaults(act=_rescore)


def _plot(options: argparse.Namespace) -> int:
    from clbench import figures, finished, results

    if options.out is not None:
        figures.check_suffix(options.out)
    streams = [name for name in options.runs if not Path(name).is_dir() and is_stream(name)]
    if streams:
        return _plot_stream(options, streams)
    if options.seed is not None:
        raise UserError("--seed is for pictures of streams; a run has its own.")
    for name in options.runs:
        guess = hint(name, registry.benchmarks())
        if guess and not Path(name).exists():
            raise UserError(f"{name}: no such folder, and no benchmark.{guess}")
    runs, left_out = finished.read_all([Path(name) for name in options.runs], figures.MOST_RUNS)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    out = options.out or (runs[0].directory if len(runs) == 1 else Path()) / "accuracy.png"
    payload = figures.draw(
        runs, out.suffix, view=options.view, tasks=options.tasks, loss=options.loss, first=options.first
    )
    results.write_bytes(out, payload)
    print(out)
    return 0


def _plot_stream(options: argparse.Namespace, streams: list[str]) -> int:
    """A picture of what a stream brings."""
    if len(options.runs) > 1:
        raise UserError(f"{streams[0]}: a picture of a stream shows this one alone; got {len(options.runs)} names.")
    flags = {"view": options.view, "tasks": options.tasks, "loss": options.loss, "first": options.first}
    for flag, value in flags.items():
        if value is not None and value is not False:
            raise UserError(f"--{flag} is for pictures of runs, and {streams[0]} is a stream.")
    from clbench import results, stream_figure

    benchmark, _, seeds, *_ = resolve.resolve(streams[0], need_strategy=False)
    try:
        known = outline(benchmark.stream)
    except UserError as error:
        raise UserError(*(f"{streams[0]}: stream.data: {problem}" for problem in error.problems)) from None
    stream = compiled(streams[0], benchmark, seeds, options.seed, known)
    out = options.out or Path(f"{benchmark.id}.png")
    results.write_bytes(out, stream_figure.draw(benchmark.id, stream, out.suffix))
    print(out)
    return 0


def _score(options: argparse.Namespace) -> int:
    from clbench import finished, results, scores

    found = finished.directories([options.run])
    if len(found) > 1:
        raise UserError(f"{options.run}: {len(found)} runs below it; name one of them, such as {found[0]}.")
    run = finished.read(found[0])
    view = run.view(options.view)
    tables = [scores.metrics(run, view)]
    if options.gap:
        tables.append(scores.gaps(run, view))
    if options.dialects:
        tables.append(scores.dialects(run, view))
    if options.csv is not None:
        results.write_bytes(options.csv, scores.to_csv(tables, view))
    print(f"{run.label}, view {view}\n")
    print("\n\n".join(map(scores.to_text, tables)))
    return 0


def _without_trace(directory: Path) -> bool:
    """Whether it is a completed run of which run.json alone was kept."""
    from clbench import finished, results

    if (directory / "trace.npz").exists():
        return False
    try:
        return finished.unfinished(results.read_run(directory)) is None
    except UserError:
        return False


def _rescore(options: argparse.Namespace) -> int:
    from clbench import finished
    from clbench.rescore import rescore

    problems: list[str] = []
    found = finished.directories(options.runs)
    without = [] if len(found) == 1 else [directory for directory in found if _without_trace(directory)]
    if without:
        said = f"{len(without)} of {len(found)} runs have no trace.npz, such as {without[0]}"
        print(f"left alone: {said}", file=sys.stderr)
    for directory in found:
        if directory in without:
            continue
        try:
            lines = rescore(directory, write=options.write)
        except UserError as error:
            problems += error.problems
        else:
            print("\n".join(lines), flush=True)
    if problems:
        raise UserError(*problems)
    return 0
