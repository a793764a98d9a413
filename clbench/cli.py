"""The command line. Verbs that need no training import neither torch nor pandas."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from clbench import __version__, config, mistakes, registry, resolve
from clbench.errors import UserError, hint, shown, unknown
from clbench.schema import keys_of

if TYPE_CHECKING:
    import pydantic

_KINDS = ("streams", "strategies", "datasets", "models", "metrics")
_BUSY = 75
"""Exit status where another process is at a run: the system's own for "try again later"."""
_SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "training": config.Training,
    "evaluation": config.Evaluation,
    "numerics": config.Numerics,
    "seeds": config.Seeds,
    "watch": config.Watch,
}


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one sentence, with the nearest match, and leaves with status 2."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        flags = [text.partition("=")[0] for text in rest if text.startswith("-")]
        if flags:
            self.error(unknown("flag", flags[0], self._option_string_actions).rstrip("."))
        if rest:
            self.error(f"got {' '.join(rest)}, one argument too many")
        return options, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            words = list(action.choices)
            raise argparse.ArgumentError(action, f"got '{value}'.{hint(value, words)} Allowed: {', '.join(words)}")

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message.removeprefix('argument ')}. See '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(2)


def _integer(least: int, most: int | None = None) -> Callable[[str], int]:
    allowed = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"

    def read(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) < 100
        if not digits or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: {allowed}")
        return int(text)

    return read


def _interval(text: str) -> tuple[float, int]:
    """Seconds, or updates."""
    digits = text.removesuffix("s")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: seconds like 60s, updates like 500, or 0 for never")
    return (float(digits), 0) if digits != text else (0.0, int(digits))


def _integers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: integers >= 0 with commas between, like 0,1")
    return [int(part) for part in parts]


def _parser() -> _Parser:
    parser = _Parser(prog="clbench", description="Continual-learning benchmarks, watched at every iteration.")
    parser.add_argument("--version", action="version", version=f"clbench {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    run = verbs.add_parser("run", help="train a strategy on a benchmark")
    run.add_argument("benchmark", metavar="BENCHMARK", help="an id (see `clbench list streams`) or a path to YAML")
    run.add_argument("--strategy", action="append", metavar="NAME", help="a name or import path; repeat for several")
    run.add_argument("--seed", action="append", type=_integer(0), metavar="N", help="default 0; repeat for several")
    run.add_argument(
        "-o", dest="overrides", action="append", default=[], metavar="KEY.PATH=VALUE", help="override a key"
    )
    run.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default ./results")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument("--threads", type=_integer(1, 1024), metavar="N", help="CPU threads; default: the machine's cores")
    run.add_argument("--json", action="store_true", help="one JSON object on stdout, and nothing else there")
    run.add_argument("--quiet", action="store_true", help="no progress, no estimate")
    run.add_argument("--force", action="store_true", help="begin anew, whatever there is of the run")
    run.add_argument(
        "--checkpoint",
        type=_interval,
        metavar="N",
        help="how often the state is saved: 60s (default), 500 for every 500 updates, 0 for never",
    )
    run.add_argument("--profile", action="store_true", help="also print where the time went")
    run.set_defaults(act=_run)

    listing = verbs.add_parser("list", help="what there is")
    listing.add_argument("kind", choices=_KINDS, metavar="|".join(_KINDS))
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(act=_list)

    show = verbs.add_parser("show", help="a benchmark, strategy, data set, model, metric or section in full")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--seed", type=_integer(0), metavar="N", help="of a stream's card; default 0")
    show.add_argument("--markdown", action="store_true", help="only the card of a stream, as Markdown")
    show.add_argument("--deep", action="store_true", help="also look for test samples in the training set")
    show.set_defaults(act=_show)

    validate = verbs.add_parser("validate", help="check YAML files without running them")
    validate.add_argument("files", nargs="+", metavar="FILE")
    validate.set_defaults(act=_validate)

    board = verbs.add_parser("leaderboard", help="the table of all runs under a folder")
    board.add_argument("directory", nargs="?", type=Path, default=Path("results"), metavar="DIR")
    board.add_argument("--csv", type=Path, metavar="FILE", help="also write the full table")
    board.set_defaults(act=_leaderboard)

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
    plot.add_argument("--seed", type=_integer(0), metavar="N", help="of a stream; default 0")
    plot.add_argument("--view", metavar="VIEW", help="default: each run's primary view")
    plot.add_argument("--tasks", type=_integers, metavar="N,N", help="tasks to draw; default: all")
    plot.add_argument("--loss", action="store_true", help="also the training loss")
    plot.add_argument(
        "--first", type=_integer(1, 2**31 - 1), metavar="N", help="only the first N updates of each experience"
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
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command `clbench`. Returns the exit status: 0, 1 for a failed run, 2 for a user's mistake, 75 for a run that
    another process is at, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options))
    except UserError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(str(stop) or "interrupted; the same command starts again.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `clbench list ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# ------------------------------------------------------------------------------------------------ run
def _run(options: argparse.Namespace) -> int:
    strategies, seeds = options.strategy or [None], options.seed or [0]
    several = len(strategies) * len(seeds) > 1
    if options.json and several:
        raise UserError("--json describes one run; give one --strategy and one --seed.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    overrides = list(options.overrides)
    if options.threads is not None:
        overrides.append(f"numerics.threads={options.threads}")
    if options.device != "auto":
        overrides.append(f"numerics.device={options.device}")
    planned = [  # everything is checked before torch is imported
        resolve.make_run(options.benchmark, strategy=s, seed=n, overrides=overrides, threads=cores)
        for s in strategies
        for n in seeds
    ]
    stream = planned[0].benchmark.stream
    try:
        registry.datasets().require(stream.data, stream.synthetic)
    except UserError as error:
        raise UserError(*(f"{options.benchmark}: stream.data: {p}" for p in error.problems)) from None
    _writable(options.out)

    import torch

    from clbench import runner
    from clbench.checkpoint import Every
    from clbench.profile import Profile

    every = None if options.checkpoint is None else Every(*options.checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    status = 0
    for plan in planned:
        run = plan
        if "device" not in plan.numerics.model_fields_set:
            run = plan.model_copy(update={"numerics": plan.numerics.model_copy(update={"device": device})})
        label = f"{run.benchmark.id} {run.strategy.name} seed {run.seed}"
        say = None if options.quiet else _say(label)
        profile = Profile() if options.profile else None
        with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
            outcome = runner.execute(
                run,
                options.out,
                force=options.force,
                say=say,
                warn=_say(label),
                progress=None if options.quiet else _Bar(label),
                every=every,
                profile=profile,
            )
        record = outcome.record
        failed = record["status"] == "failed"
        status = max(status, int(failed), _BUSY if outcome.busy else 0)
        if outcome.busy:
            print(f"{label}: {outcome.busy} is at it; left to that. ({outcome.directory})", file=sys.stderr)
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
    return status


def _writable(out: Path) -> None:
    """Fails before training where results could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be made a folder: {error.strerror}.") from None


def _say(label: str) -> Callable[[str], None]:
    return lambda text: print(f"{label}: {text}", file=sys.stderr, flush=True)


class _Bar:
    """A progress bar with an ETA, on a terminal; nothing elsewhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None

    def start(self, total: int, done: int) -> None:
        from tqdm import tqdm

        silent = not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=self._label,
            unit="it",
            file=sys.stderr,
            dynamic_ncols=True,
            disable=silent,
            leave=False,
        )

    def update(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


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


def _line(label: str, outcome: Any) -> str:
    record = outcome.record
    values = record["metrics"][record["primary_view"]]

    def percent(name: str) -> str:
        value = values[name]["value"]
        return "-" if value is None else f"{100 * value:.2f} %"

    costs = record["costs"]
    return (
        f"{label}: ACC {percent('average_accuracy')}, "
        f"forgetting.after_learning {percent('forgetting.after_learning')}, "
        f"min-ACC {percent('min_acc')}, WC-ACC {percent('wc_acc')}; "
        + (
            "finished earlier, not repeated"
            if outcome.skipped
            else f"training {costs['train_s']:.1f} s, evaluation {costs['eval_s']:.1f} s"
        )
        + f"; {outcome.directory}"
    )


# ------------------------------------------------------------------------------------------------ list, show
def _summary(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


def _words(function: Any) -> str:
    """A function's text without its examples."""
    return inspect.cleandoc(function.__doc__ or "").partition(">>>")[0].strip()


def _catalogue(kind: str) -> dict[str, str]:
    """Names of a kind with a line each."""
    if kind == "streams":
        return {
            name: resolve.flatten(resolve.load_benchmark(name)).get("title", "")
            for name in sorted(registry.benchmarks())
        }
    if kind == "strategies":
        table = registry.strategies()
        return {n: _summary(importlib.import_module(p.partition(":")[0]).__doc__) for n, p in sorted(table.items())}
    if kind == "datasets":
        found: dict[str, str] = registry.datasets().available()
        return {
            **found,
            "npz:PATH": "your own arrays: train_x, train_y, test_x, test_y, or x, y; with tasks if they have any",
            "npy:FOLDER": "the same as files train_x.npy, ..., left on the disk: for data larger than memory",
            "lazy:package.module:Name": "a torch data set whose items are read when they are wanted",
            "package.module:Name": "your own function that returns such arrays, or a data set class",
        }
    if kind == "models":
        return {mistakes.tags(m)[0]: _summary(m.__doc__) for m in mistakes.member_models(config.Network)}
    from clbench.metrics import METRICS

    return {name: metric.title for name, metric in METRICS.items()}


def _list(options: argparse.Namespace) -> int:
    names = _catalogue(options.kind)
    if options.json:
        print(json.dumps(names, indent=1))
    else:
        width = max(map(len, names))
        for name, summary in names.items():
            print(f"{name.ljust(width)}  {summary}".rstrip())
    return 0


def _show(options: argparse.Namespace) -> int:
    name = options.name
    if _is_stream(name):
        return _show_benchmark(options)
    for flag in ("seed", "markdown", "deep"):
        value = getattr(options, flag)
        if value is not None and value is not False:
            raise UserError(f"--{flag} is for streams, and '{name}' is none; see `clbench list streams`.")
    parts = name.split("+")
    if all(part in registry.strategies() for part in parts):
        for part in parts:
            _show_strategy(part, f"{part}.KEY" if len(parts) > 1 else "KEY")
        return 0
    from clbench.metrics import METRICS

    if name in METRICS:
        m = METRICS[name]
        print(f"{m.name}: {m.title}")
        print(f"  formula  {m.formula}\n  source   {m.source}\n  range    {m.range}, {m.better} is better")
        print(f"  unit     {m.unit}; parts for each {m.per}\n")
        print(_words(getattr(m.compute, "func", m.compute)))
        return 0
    if name in _SECTIONS:
        print(f"{name}: {_summary(_SECTIONS[name].__doc__)}\n{_fields(_SECTIONS[name])}")
        return 0
    known = {n: s for kind in _KINDS for n, s in _catalogue(kind).items()}
    if name not in known:
        raise UserError(unknown("name", name, [*known, *_SECTIONS]))
    print(f"{name}: {known[name]}")
    model = next((m for m in mistakes.member_models(config.Network) if name in mistakes.tags(m)), None)
    if model is not None:
        print(_fields(model))
    return 0


def _is_stream(name: str) -> bool:
    return registry.benchmark_path(name) is not None or name.endswith((".yaml", ".yml"))


def _show_benchmark(options: argparse.Namespace) -> int:
    """The resolved YAML and the card, or the card alone. Where there is no data, the card says why it is short."""
    from clbench import card
    from clbench.stream import definition_hash

    benchmark, strategy, seeds, *_ = resolve.resolve(options.name, need_strategy=False)
    if not options.markdown:
        import yaml

        resolved = benchmark.model_dump(mode="json")
        if strategy is not None:
            resolved["strategy"] = strategy.model_dump(mode="json")
        if seeds != config.Seeds():
            resolved["seeds"] = seeds.model_dump(exclude_none=True)
        print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100), end="")
        print(f"# stream definition hash {definition_hash(benchmark.stream)}")
    try:
        outline = _outline(benchmark.stream)
    except UserError as error:
        reason = " ".join(str(error).split())
        if options.markdown:
            print(card.to_markdown(card.without_data(benchmark, definition_hash(benchmark.stream), reason)))
        else:
            print(f"# no card: {reason}")
        return 0
    stream = _compiled(options.name, benchmark, seeds, options.seed, outline)
    data = _load(benchmark.stream) if options.deep else None
    try:
        made = card.make(benchmark, stream, data)
    except UserError as error:
        raise UserError(*(f"{options.name}: {problem}" for problem in error.problems)) from None
    print(card.to_markdown(made) if options.markdown else f"\n{card.to_text(made)}")
    return 0


def _outline(said: config.StreamConfig) -> Any:
    """The data set without its inputs. What a download or code of the user's own prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().outline(said.data, said.synthetic, said.size)


def _load(said: config.StreamConfig) -> Any:
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().load(said.data, said.synthetic, said.size)


def _compiled(name: str, benchmark: config.Benchmark, seeds: config.Seeds, seed: int | None, data: Any) -> Any:
    """The stream that a run of this seed has, by an outline of its data set."""
    from clbench.stream import compile_stream

    try:
        return compile_stream(benchmark.stream, (seed or 0) if seeds.stream is None else seeds.stream, data)
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from None


def _show_strategy(name: str, key: str) -> None:
    module = importlib.import_module(registry.strategies()[name].partition(":")[0])
    print(f"{name}\n\n{(module.__doc__ or '').strip()}\n\nhyper-parameters (strategy.{key}):")
    print(_fields(registry.strategy_config(name)) or "  none")


def _fields(model: type[pydantic.BaseModel]) -> str:
    """Each key with what it allows, its default, and the text below it in the source."""
    lines = []
    for key in keys_of(model):
        field = model.model_fields[key]
        default = "required" if field.is_required() else f"default {shown(field.default).replace(chr(39), '')}"
        lines.append(f"  {key}: {mistakes.describe(mistakes.annotation_of(field))}; {default}")
        lines += [f"      {line}" for line in (field.description or "").splitlines()]
    return "\n".join(lines)


def _validate(options: argparse.Namespace) -> int:
    problems: list[str] = []
    for name in options.files:
        try:
            resolve.resolve(name, need_strategy=False)
            print(f"{name}: ok")
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return 0


# ------------------------------------------------------------------------------------------------ leaderboard
def _leaderboard(options: argparse.Namespace) -> int:
    if not options.directory.is_dir():
        raise UserError(f"{options.directory}: no such folder; runs are written there by `clbench run`.")
    from clbench import leaderboard, results

    records, problems = leaderboard.collect(options.directory)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    frame = leaderboard.table(records)
    if options.csv is not None:
        results.write_bytes(options.csv, leaderboard.to_csv(frame))
    print(leaderboard.to_text(frame))
    return 0


# ------------------------------------------------------------------------------------------------ finished runs
def _plot(options: argparse.Namespace) -> int:
    from clbench import figures, finished, results

    if options.out is not None:
        figures.check_suffix(options.out)
    streams = [name for name in options.runs if not Path(name).is_dir() and _is_stream(name)]
    if streams:
        return _plot_stream(options, streams)
    if options.seed is not None:
        raise UserError("--seed is for pictures of streams; a run has its own.")
    for name in options.runs:
        guess = hint(name, registry.benchmarks())
        if guess and not Path(name).exists():
            raise UserError(f"{name}: no such folder, and no benchmark.{guess}")
    runs, left_out = finished.collect([Path(name) for name in options.runs], figures.MOST_RUNS)
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
        outline = _outline(benchmark.stream)
    except UserError as error:
        raise UserError(*(f"{streams[0]}: stream.data: {problem}" for problem in error.problems)) from None
    stream = _compiled(streams[0], benchmark, seeds, options.seed, outline)
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


def _rescore(options: argparse.Namespace) -> int:
    from clbench import finished
    from clbench.rescore import rescore

    problems: list[str] = []
    for directory in finished.directories(options.runs):
        try:
            lines = rescore(directory, write=options.write)
        except UserError as error:
            problems += error.problems
        else:
            print("\n".join(lines), flush=True)
    if problems:
        raise UserError(*problems)
    return 0


if __name__ == "__main__":
    sys.exit(main())
