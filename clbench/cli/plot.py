"""`clbench plot`: figures of runs and of streams."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench import registry, resolve
from clbench.cli.arguments import integer, integers
from clbench.cli.stream_argument import compiled, is_stream, named, outline
from clbench.errors import UserError, hint

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """The verb."""
    plot = verbs.add_parser("plot", help="accuracy of every task at every evaluation, or a stream, as a picture")
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


def _plot(options: argparse.Namespace) -> int:
    from clbench.reports import figure_style, run_figure
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
    runs, left_out = load.read_all([Path(name) for name in options.runs], run_figure.MOST_RUNS)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    out = options.out or (runs[0].directory if len(runs) == 1 else Path()) / "accuracy.png"
    payload = run_figure.draw(
        runs, out.suffix, view=options.view, tasks=options.tasks, loss=options.loss, first=options.first
    )
    files.write_bytes(out, payload)
    print(out)
    return 0


def _plot_stream(options: argparse.Namespace, streams: list[str]) -> int:
    """Draws the figure of a stream."""
    if len(options.runs) > 1:
        raise UserError(f"{streams[0]}: a picture of a stream shows this one alone; got {len(options.runs)} names.")
    flags = {"view": options.view, "tasks": options.tasks, "loss": options.loss, "first": options.first}
    for flag, value in flags.items():
        if value is not None and value is not False:
            raise UserError(f"--{flag} is for pictures of runs, and {streams[0]} is a stream.")
    from clbench.reports import stream_figure
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
