"""`clbench weights`: weights for `model.weights`, trained by the suite."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clbench import resolve
from clbench.cli import status
from clbench.cli.arguments import chosen_seeds
from clbench.cli.progress import OneRun
from clbench.cli.run import add_benchmark, add_settings, on_this_machine, planned
from clbench.cli.stream_argument import named
from clbench.errors import RunFailed, UserError
from clbench.tracebacks import described

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

SUFFIXES = (".pt", ".pth", ".safetensors")


def add(verbs: Verbs) -> None:
    """The verb."""
    weights = verbs.add_parser(
        "weights", help="train on a benchmark without evaluation, and save the network's weights"
    )
    add_benchmark(weights)
    weights.add_argument("--strategy", metavar="NAME", help="default: that of the benchmark's file, else naive")
    add_settings(weights)
    weights.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"{', '.join(SUFFIXES)}; with '{{seed}}' in its name where there are several seeds",
    )
    weights.add_argument(
        "--no-head", action="store_true", help="leave out the last layer, which other classes start anew"
    )
    weights.add_argument("--quiet", action="store_true", help="no progress")
    weights.set_defaults(act=_weights)


def _weights(options: argparse.Namespace) -> int:
    _check_name(options.out, len(chosen_seeds(options)))
    options.benchmark = named(options.benchmark)
    strategy = options.strategy
    if strategy is None:
        chosen = resolve.resolve(options.benchmark, options.overrides, need_strategy=False)[1]
        strategy = None if chosen is not None else "naive"
    plans, defaults = planned(options, [strategy])

    from clbench.runner import pretraining

    pretraining.check_format(options.out)
    statuses = list[int]()
    for run in on_this_machine(plans, defaults):
        label = f"{run.benchmark.id} {run.strategy.name} seed {run.seed}"
        path = options.out.with_name(options.out.name.replace("{seed}", str(run.seed)))
        try:
            trained = pretraining.train_weights(run, None if options.quiet else OneRun(label))
        except UserError:
            raise
        except Exception as error:  # a user's strategy may do anything
            reason = error.message if isinstance(error, RunFailed) else described(error)
            print(f"{label}: failed: {reason}", file=sys.stderr)
            statuses.append(status.FAILED)
            continue
        sha256 = pretraining.write(path, trained, head=not options.no_head)
        print(f"{label}: {path}, tensors {sha256}, training loss {trained.loss:.4f}", flush=True)
        statuses.append(status.DONE)
    return status.worst(statuses)


def _check_name(path: Path, seeds: int) -> None:
    """
    Raises:
        UserError: a file of no such kind, or one name for the weights of several seeds.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"--out {path}: no kind of file that holds weights. Allowed: a name in {', '.join(SUFFIXES)}.")
    if seeds > 1 and "{seed}" not in path.name:
        example = path.with_name(f"{path.stem}-{{seed}}{path.suffix}")
        raise UserError(f"--out {path}: {seeds} seeds need '{{seed}}' in the file's name, such as {example}.")
