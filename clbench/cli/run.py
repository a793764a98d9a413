"""`clbench run`."""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench import registry, resolve
from clbench.cli import status
from clbench.cli.arguments import MOST_SEEDS, chosen_seeds, integer, interval, seeds
from clbench.cli.progress import OneRun
from clbench.cli.stream_argument import named, outline
from clbench.config.benchmark import Benchmark
from clbench.errors import UserError
from clbench.formatting import quantity
from clbench.measures import measure_of
from clbench.studies.engines.local import cores

if TYPE_CHECKING:
    from clbench.cli.arguments import Parser, Verbs
    from clbench.run_config import RunConfig


def add(verbs: Verbs) -> None:
    """The verb."""
    run = verbs.add_parser("run", help="train a strategy on a benchmark")
    add_benchmark(run)
    run.add_argument(
        "--strategy",
        action="append",
        metavar="NAME",
        help="a name (see `clbench list strategies`), names joined by +, or an import path; repeat for several",
    )
    add_settings(run)
    run.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default ./results")
    run.add_argument("--json", action="store_true", help="one JSON object on stdout, and nothing else")
    run.add_argument("--quiet", action="store_true", help="no progress, no estimate")
    run.add_argument("--force", action="store_true", help="restart, whatever exists of the run")
    add_other_code(run)
    add_keep(run)
    run.add_argument(
        "--checkpoint",
        type=interval,
        metavar="N",
        help="interval of checkpoints: 60s (default), 500 for every 500 updates, 0 for never",
    )
    run.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="NAME",
        help="tensorboard or wandb, in the run's folder; repeatable",
    )
    run.add_argument("--profile", action="store_true", help="also print where the time went")
    run.set_defaults(act=_run)


def add_benchmark(verb: Parser) -> None:
    """The benchmark that is trained on."""
    verb.add_argument("benchmark", metavar="BENCHMARK", help="an id (see `clbench list streams`) or a path to YAML")
    verb.guess = _guess


def add_settings(verb: Parser) -> None:
    """The flags for seeds, keys, device and threads of runs."""
    verb.add_argument(
        "--seed", action="extend", type=seeds, metavar="N", help="default 0; 0,1,2 or 0-4 for several; repeatable"
    )
    verb.add_argument("--seeds", type=integer(1, MOST_SEEDS), metavar="K", help="the seeds 0 to K-1")
    verb.add_argument(
        "-o", dest="overrides", action="append", default=[], metavar="KEY.PATH=VALUE", help="override a key"
    )
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument(
        "--threads",
        type=integer(1, 1024),
        metavar="N",
        help="CPU threads; default: 1 for a small network, else the machine's cores",
    )


def _guess(argument: str) -> str:
    known = registry.strategy_name(argument)
    return f". Did you mean '--strategy {known}'?" if registry.built_in(known) else ""


def _run(options: argparse.Namespace) -> int:
    from clbench.loggers import base

    if options.json and len(options.strategy or [None]) * len(chosen_seeds(options)) > 1:
        raise UserError("--json describes one run; give one --strategy and one --seed.")
    plans, defaults = planned(options, options.strategy or [None])
    base.check(options.log)
    writable(options.out)

    from clbench.results import files
    from clbench.runner.checkpoint import Every
    from clbench.runner.profiler import Profile
    from clbench.runner.run import execute

    every = None if options.checkpoint is None else Every(*options.checkpoint)
    statuses = list[int]()
    kept, without_weights = list[str](), 0
    for run in on_this_machine(plans, defaults):
        label = f"{run.benchmark.id} {run.strategy.name} seed {run.seed}"
        say = None if options.quiet else _say(label)
        profile = Profile() if options.profile else None
        with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
            outcome = execute(
                run,
                options.out,
                force=options.force,
                other_code=options.other_code,
                say=say,
                warn=_say(label),
                progress=None if options.quiet else OneRun(label),
                every=every,
                profile=profile,
                log=options.log,
                keep=options.keep,
            )
        record = outcome.record
        kept.append(outcome.other_code)
        if outcome.skipped and "weights" in options.keep:
            without_weights += not (outcome.directory / files.WEIGHTS).exists()
        failed = record["status"] == "failed"
        statuses.append(status.BUSY if outcome.busy else status.FAILED if failed else status.DONE)
        if outcome.busy:
            print(
                f"{label}: {outcome.busy} is already running it; left to that. ({outcome.directory})", file=sys.stderr
            )
        if options.json:
            _print_json(outcome)
        elif outcome.busy:
            pass
        elif failed:
            print(
                f"{label}: failed: {record['failure']['message']} ({outcome.directory / 'run.json'})", file=sys.stderr
            )
        else:
            print(_line(label, outcome))
        if profile is not None and not outcome.skipped and not outcome.busy:
            print(profile.table(record["costs"]["iterations"]), file=sys.stderr if options.json else sys.stdout)
    say_kept(kept)
    say_without_weights(without_weights)
    return status.worst(statuses)


def planned(options: argparse.Namespace, strategies: Iterable[str | None]) -> tuple[list[RunConfig], dict[str, Any]]:
    """The runs of `add_benchmark` and `add_settings`, and the numerics where nothing says which: all but the device.

    Everything is checked before torch is imported.

    Args:
        options: the arguments.
        strategies: names; None for that of the benchmark's file.

    Raises:
        UserError: every mistake in the runs, or unavailable data.
    """
    reference, overrides = named(options.benchmark), list(options.overrides)
    if options.threads is not None:
        overrides.append(f"numerics.threads={options.threads}")
    if options.device != "auto":
        overrides.append(f"numerics.device={options.device}")
    numbers = chosen_seeds(options)
    plans = [resolve.make_run(reference, strategy=s, seed=n, overrides=overrides) for s in strategies for n in numbers]
    benchmark = plans[0].benchmark
    stream = benchmark.stream
    try:
        registry.datasets().require(stream.data, **stream.reading)
        return plans, {"threads": threads(benchmark)}
    except UserError as error:
        raise UserError(*(f"{reference}: stream.data: {p}" for p in error.problems)) from None


def on_this_machine(plans: Iterable[RunConfig], defaults: dict[str, Any]) -> list[RunConfig]:
    """The runs with default numerics and the device of this machine written out."""
    import torch

    defaults = {**defaults, "device": "cuda" if torch.cuda.is_available() else "cpu"}
    runs = []
    for plan in plans:
        unsaid = {key: value for key, value in defaults.items() if key not in plan.numerics.model_fields_set}
        runs.append(plan.model_copy(update={"numerics": plan.numerics.model_copy(update=unsaid)}))
    return runs


def add_other_code(verb: Parser) -> None:
    """The flag for finished runs that were made by other code."""
    verb.add_argument(
        "--other-code",
        choices=("keep", "again"),
        help="keep finished runs whatever code made them, or do all again that other code made, clbench's included; "
        "default: again where a module of yours changed",
    )


def add_keep(verb: Parser) -> None:
    """The flag for files of a run beside its record."""
    verb.add_argument(
        "--keep",
        action="append",
        default=[],
        choices=("weights",),
        help="also write the final weights, and the state that the strategy predicts from",
    )


def say_without_weights(runs: int) -> None:
    """Prints one line to standard error for all finished runs whose weights were not kept."""
    if runs:
        print(f"finished runs without weights: {runs}; --force of `clbench run` does them again", file=sys.stderr)


def say_kept(kinds: Iterable[str]) -> None:
    """Prints one line to standard error for all finished runs that were kept though other code made them."""
    counts = collections.Counter(kinds)
    reasons = {"suite": "other code of clbench", "unknown": "code that their records do not tell", "user": "other code"}
    words = [f"{counts[kind]} by {by}" for kind, by in reasons.items() if counts[kind]]
    if words:
        print(f"finished runs kept: {', '.join(words)}; --other-code again does them anew", file=sys.stderr)


SMALL = 5_000_000
"""Samples of a batch times weights below which a single run has one thread.

Two threads that wait passively took 1.04 to 1.16 times as long as one at 0.24 million, 0.42 to 1.11 times at 2.9
million and 0.36 to 0.52 times at 15 million, in two runs of `benchmarks/speed/threads.py` on a busy machine of two
cores."""


def threads(benchmark: Benchmark) -> int:
    """CPU threads of a single run where nothing says how many: one for a small network, else this machine's cores.

    They are part of a run's id, so the rule knows the configuration, the shape of the data and the cores, not the load.

    Raises:
        UserError: the data are unavailable.
    """
    model = benchmark.model
    if model.name not in ("mlp", "linear"):
        return cores()
    hidden, batch = getattr(model, "hidden", []), benchmark.training.batch_size
    if batch * sum(a * b for a, b in pairwise(hidden)) >= SMALL:
        return cores()
    data = outline(benchmark.stream)
    widths = [math.prod(data.shape), *hidden, data.classes]
    return 1 if batch * sum(a * b for a, b in pairwise(widths)) < SMALL else cores()


def writable(out: Path) -> None:
    """Fails before training where results could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made a folder: {error.strerror}.") from None


def _say(label: str) -> Callable[[str], None]:
    return lambda text: print(f"{label}: {text}", file=sys.stderr, flush=True)


def _print_json(outcome: Any) -> None:
    record = outcome.record
    views = record["metrics"] or {}
    shown = {
        "run_dir": str(outcome.directory),
        "status": record["status"],
        "failure": record["failure"],
        "skipped": outcome.skipped,
        "busy": outcome.busy,
        "run_id": record["run_id"],
        "weights_sha256": record["weights_sha256"],
        "metrics": {view: {k: m["value"] for k, m in values.items()} for view, values in views.items()},
    }
    print(json.dumps(shown, indent=1, sort_keys=True))


def _code(outcome: Any) -> str:
    return f" with other code ({outcome.difference})" if outcome.other_code == "user" else ""


def _line(label: str, outcome: Any) -> str:
    record = outcome.record
    values = record["metrics"][record["primary_view"]]

    measure = measure_of(record["primary_view"])
    unit, sign = ("accuracy", "≤") if measure is None else (measure.unit, "≥")

    def printed(name: str) -> str:
        mark = f"{sign} " if values[name].get("resolution") not in (None, 1) else ""  # extremes are bounds
        return mark + quantity(values[name]["value"], unit, undefined="-")

    costs, incoming = record["costs"], ""
    for name in ("prequential.accuracy", "prequential.average"):
        incoming += f", {name} {printed(name)}" if name in values else ""
    first, least, worst = ("average", "worst", "worst_case") if measure else ("average_accuracy", "min_acc", "wc_acc")
    words = (f"{measure.title}: {first}", least, worst) if measure else ("ACC", "min-ACC", "WC-ACC")
    return (
        f"{label}: {words[0]} {printed(first)}, "
        f"forgetting.after_learning {printed('forgetting.after_learning')}, "
        f"{words[1]} {printed(least)}, {words[2]} {printed(worst)}{incoming}; "
        + (
            f"finished earlier{_code(outcome)}, not repeated"
            if outcome.skipped
            else f"training {costs['train_s']:.1f} s, evaluation {costs['eval_s']:.1f} s"
        )
        + f"; {outcome.directory}"
    )
