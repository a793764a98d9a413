"""`clbench show`: a benchmark, strategy, data set, model, metric or section in full."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from clbench import import_paths, messages, names, registry, resolve
from clbench.cli.arguments import integer, say_left_out
from clbench.cli.catalogue import KINDS, catalogue, summary, words
from clbench.cli.stream_argument import compiled, is_stream, load, named, outline
from clbench.config import evaluation, networks, schedules, strategy_names, training
from clbench.config.benchmark import Numerics, Protocol, Seeds, StrategyConfig
from clbench.errors import UserError, shown
from clbench.schema import keys_of
from clbench.streams import definition

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs
    from clbench.metrics import Metric

_SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "stream": definition.StreamConfig,
    "head": networks.Head,
    "protocol": Protocol,
    "training": training.Training,
    "evaluation": evaluation.Evaluation,
    "numerics": Numerics,
    "seeds": Seeds,
    "watch": evaluation.Watch,
}


def add(verbs: Verbs) -> None:
    """The verb."""
    show = verbs.add_parser("show", help="a benchmark, strategy, data set, model, metric, section, run or row in full")
    show.add_argument(
        "name", metavar="NAME|RUN|ROW", help="a name; a run's folder; or a prefix of the row_id in a leaderboard"
    )
    show.add_argument(
        "--in", dest="within", type=Path, default=Path("results"), metavar="DIR", help="folder of the rows"
    )
    show.add_argument("--seed", type=integer(0), metavar="N", help="of a stream's card; default 0")
    show.add_argument("--markdown", action="store_true", help="only the card of a stream, as Markdown")
    show.add_argument(
        "--deep",
        action="store_true",
        help="of a stream, also check for test samples in the training set; of a run, also its whole configuration, "
        "all its metrics, and the traceback of a failure",
    )
    show.set_defaults(act=_show)


def _metric(metric: Metric) -> str:
    """A definition in full."""
    lines = [
        f"{metric.name}: {metric.title}",
        f"  formula  {metric.formula}",
        f"  source   {metric.source}",
        f"  range    {metric.range}, {metric.direction}",
        f"  unit     {metric.unit}; parts for each {metric.per}",
    ]
    return "\n".join(lines)


def _words(metric: Metric) -> str:
    return words(getattr(metric.compute, "func", metric.compute))


def _show(options: argparse.Namespace) -> int:
    name = options.name = named(options.name)
    if is_stream(name):
        return _show_benchmark(options)
    status = _show_runs(options)
    if status is not None:
        return status
    for flag in ("seed", "markdown", "deep"):
        value = getattr(options, flag)
        if value is not None and value is not False:
            raise UserError(f"--{flag} is for streams, and '{name}' is none; see `clbench list streams`.")
    name = _canonical(name)
    parts = name.split("+")
    paths = [] if name in catalogue("datasets") else [part for part in parts if import_paths.is_import_path(part)]
    if all(part in paths or part in registry.strategies() for part in parts):
        for part in parts:
            _show_strategy(part, f"{strategy_names.key_of(part)}.KEY" if len(parts) > 1 else "KEY")
        return 0
    from clbench.metrics import METRICS
    from clbench.metrics.field_names import NUMBERS

    definitions = [known[name] for known in (METRICS, NUMBERS) if name in known]
    if definitions:
        several = list(dict.fromkeys(definitions))
        print("\n\n".join([_metric(each) for each in several] + [_words(several[0])]).rstrip())
        return 0
    if name in _SECTIONS:
        print(f"{name}: {summary(_SECTIONS[name].__doc__)}\n{_fields(_SECTIONS[name])}")
        return 0
    if name == "model":
        print("model: a network by its name; `clbench show NAME` prints the allowed keys of one.")
        print("\n".join(_kinds(networks.Network)))
        return 0
    if name == "schedule":
        print("training.schedule: a factor on the learning rate, one of these.")
        for kind in messages.member_models(schedules.Schedule):
            print(f"\n{' or '.join(messages.tags(kind))}: {inspect.cleandoc(kind.__doc__ or '')}\n{_fields(kind)}")
        return 0
    if name == "strategy":
        print(
            "strategy: a method by its name or import path, with its hyper-parameters beside it; `clbench list "
            "strategies` prints their names, `clbench show NAME` the allowed keys of one.\n"
            f"{_fields(StrategyConfig)}\n{_fields(training.Parameters)}"
        )
        return 0
    known = {n: s for kind in KINDS for n, s in catalogue(kind).items()}
    if name not in known and Path(name).is_dir():
        raise UserError(f"{name}: a folder, not a run's; `clbench list runs {name}` lists the runs below it.")
    if name not in known:
        allowed = [*known, *_SECTIONS, "model", "schedule", "strategy"]
        more = "a strategy's import path like package.module:Name, or a run's folder or row_id"
        raise UserError(registry.unknown_strategy("name", name, allowed, more))
    network = next((m for m in messages.member_models(networks.Network) if name in messages.tags(m)), None)
    if network is None:
        print(f"{name}: {known[name]}")
    else:
        print(f"{name}: {inspect.cleandoc(network.__doc__ or '')}\n{_fields(network)}")
    return 0


_ROW = re.compile(r"[0-9a-f]{4,16}")


def _show_runs(options: argparse.Namespace) -> int | None:
    """Prints a run or a row; None where the name is neither's."""
    from clbench.reports import run_summary, selection
    from clbench.results import record
    from clbench.runner.lock import holder

    directory = selection.run_directory(options.name)
    if directory is None and not (_ROW.fullmatch(options.name) and _canonical(options.name) not in _names()):
        return None
    for flag in ("seed", "markdown"):
        if getattr(options, flag) not in (None, False):
            raise UserError(f"--{flag} is for streams, and '{options.name}' is none; see `clbench list streams`.")
    if directory is not None:
        print("\n".join(run_summary.of_run(directory, record.read(directory), holder(directory), options.deep)))
        return 0
    row, problems = selection.row(options.name, options.within)
    say_left_out(problems)
    if len(row.runs) == 1 or options.deep:
        runs = (run_summary.of_run(r.directory, r.record, holder(r.directory), options.deep) for r in row.runs)
        print("\n\n".join([f"row {row.id}", *("\n".join(lines) for lines in runs)]))
    else:
        print("\n".join(run_summary.of_row(row, holder)))
    return 0


def _names() -> set[str]:
    return {name for kind in KINDS for name in catalogue(kind)}


def _canonical(name: str) -> str:
    """A name as its table has it, where it stands for one in any of them."""
    strategy = registry.strategy_name(name)
    if all(part in registry.strategies() for part in strategy.split("+")):
        return strategy
    models = [tag for model in messages.member_models(networks.Network) for tag in messages.tags(model)]
    return names.match(name, models) or registry.dataset_name(name)


def _show_benchmark(options: argparse.Namespace) -> int:
    """Prints the resolved YAML and the card, or the card alone; without data the card gives the reason."""
    from clbench.reports import stream_card
    from clbench.streams.compile import definition_hash

    benchmark, strategy, seeds, *_ = resolve.resolve(options.name, need_strategy=False)
    if not options.markdown:
        import yaml

        resolved = benchmark.model_dump(mode="json")
        if strategy is not None:
            resolved["strategy"] = strategy.model_dump(mode="json")
        if seeds != Seeds():
            resolved["seeds"] = seeds.model_dump(exclude_none=True)
        print(yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100), end="")
        print(f"# stream definition hash {definition_hash(benchmark.stream)}")
    try:
        known = outline(benchmark.stream)
    except UserError as error:
        reason = " ".join(str(error).split())
        if options.markdown:
            print(
                stream_card.to_markdown(stream_card.without_data(benchmark, definition_hash(benchmark.stream), reason))
            )
        else:
            print(f"# no card: {reason}")
        return 0
    stream = compiled(options.name, benchmark, seeds, options.seed, known)
    data = load(benchmark.stream) if options.deep else None
    try:
        card = stream_card.make(benchmark, stream, data)
    except UserError as error:
        raise UserError(*(f"{options.name}: {problem}" for problem in error.problems)) from None
    print(stream_card.to_markdown(card) if options.markdown else f"\n{stream_card.to_text(card)}")
    return 0


def _show_strategy(name: str, key: str) -> None:
    if name not in registry.strategies():
        _show_imported(name, key)
        return
    module = importlib.import_module(registry.strategies()[name].partition(":")[0])
    print(f"{name}\n\n{(module.__doc__ or '').strip()}\n\nhyper-parameters (strategy.{key}):")
    print(_fields(registry.strategy_config(name)) or "  none")


def _show_imported(path: str, key: str) -> None:
    """Prints a user-defined strategy; for another class or function, its parameters."""
    with contextlib.redirect_stdout(sys.stderr):
        target = registry.strategy(path)
    from clbench.strategy import is_strategy

    if not callable(target):
        raise UserError(f"{path}: expected a strategy's class or a function that makes one, found {shown(target)}.")
    text = f"{path}\n\n{inspect.cleandoc(target.__doc__ or '')}".strip()
    if is_strategy(target):
        print(f"{text}\n\nhyper-parameters (strategy.{key}):\n{_fields(target.Config) or '  none'}")
        return
    from clbench.avalanche import construction

    try:
        parameters = construction.keywords(target)
    except ValueError:
        raise UserError(f"{path}: no clbench Strategy, and its signature is unknown.") from None
    of = "its constructor" if isinstance(target, type) else "the function"
    beside = f"hyper-parameters (strategy.{key}) are the parameters of {of} that a benchmark does not set"
    print(f"{text}\n\nno clbench Strategy; {beside}:")
    for parameter, default in parameters.items():
        required = default is inspect.Parameter.empty
        plain = default is None or isinstance(default, bool | int | float | str | list | dict)
        default_text = _plain(default) if plain else getattr(default, "__name__", type(default).__name__)
        print(f"  {parameter}: {'required' if required else f'default {default_text}'}")
    if not parameters:
        print("  none")


def _fields(model: type[pydantic.BaseModel]) -> str:
    """Each key with its allowed values, its default, its description, and its nested keys."""
    lines = []
    for key in keys_of(model):
        field = model.model_fields[key]
        default = "required" if field.is_required() else f"default {_plain(field.default)}"
        lines.append(f"  {key}: {messages.describe(messages.annotation_of(field))}; {default}")
        lines += [f"      {line}" for line in (field.description or "").splitlines()]
        lines += [f"    {line}" for line in _kinds(field.annotation)]
    return "\n".join(lines)


def _plain(default: Any) -> str:
    """A default in one line; of keys and values the kind, and the differences from their defaults."""
    if isinstance(default, pydantic.BaseModel):
        kind = {key: getattr(default, key) for key in ("by", "name") if hasattr(default, key)}
        default = {**kind, **default.model_dump(exclude_defaults=True)}
    return shown(default).replace("'", "")


def _kinds(annotation: Any) -> list[str]:
    """A line for each kind of keys and values that a type allows: its tag, and the keys beside that."""
    lines = []
    for model in messages.member_models(annotation):
        tag = next((key for key in ("by", "name") if key in model.model_fields and messages.tags(model)), None)
        named = "" if tag is None else f"{tag}: {' or '.join(messages.tags(model))}"
        beside = ", ".join(key for key in keys_of(model) if key != tag)
        lines.append(f"  {', with '.join(filter(None, [named, beside]))}")
    return lines
