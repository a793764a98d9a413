"""`clbench list`, `show` and `validate`: what there is, and whether files are right."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pydantic

from clbench import composition, config, import_paths, mistakes, registry, resolve
from clbench.cli.arguments import integer
from clbench.errors import UserError, shown, unknown
from clbench.schema import keys_of

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

_KINDS = ("streams", "strategies", "datasets", "models", "metrics")
_SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "stream": config.StreamConfig,
    "protocol": config.Protocol,
    "training": config.Training,
    "evaluation": config.Evaluation,
    "numerics": config.Numerics,
    "seeds": config.Seeds,
    "watch": config.Watch,
}

_SENTENCE_END = re.compile(r"[.!?](?=$| [A-Z`])")


def add(verbs: Verbs) -> None:
    """The verbs."""
    listing = verbs.add_parser("list", help="what there is")
    listing.add_argument("kind", choices=_KINDS, metavar="|".join(_KINDS))
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(act=_list)

    show = verbs.add_parser("show", help="a benchmark, strategy, data set, model, metric or section in full")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--seed", type=integer(0), metavar="N", help="of a stream's card; default 0")
    show.add_argument("--markdown", action="store_true", help="only the card of a stream, as Markdown")
    show.add_argument("--deep", action="store_true", help="also look for test samples in the training set")
    show.set_defaults(act=_show)

    validate = verbs.add_parser("validate", help="check YAML files without running them")
    validate.add_argument("files", nargs="+", metavar="FILE")
    validate.set_defaults(act=_validate)


def _summary(text: str | None) -> str:
    """The sentences that end in the first line of a text, or the first one, however long it is.

    >>> _summary("One. Two. Three that goes\\non.")
    'One. Two.'
    >>> _summary("One that goes\\n    on, i.e. further. Two.")
    'One that goes on, i.e. further.'
    """
    first, *_ = inspect.cleandoc(text or "").split("\n\n")
    line = first.partition("\n")[0].rstrip()
    words = " ".join(first.split())
    ends = [found.end() for found in _SENTENCE_END.finditer(words)] or [len(words)]
    return words[: max((end for end in ends if end <= len(line)), default=ends[0])]


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
    if is_stream(name):
        return _show_benchmark(options)
    for flag in ("seed", "markdown", "deep"):
        value = getattr(options, flag)
        if value is not None and value is not False:
            raise UserError(f"--{flag} is for streams, and '{name}' is none; see `clbench list streams`.")
    parts = name.split("+")
    paths = [] if name in _catalogue("datasets") else [part for part in parts if import_paths.is_import_path(part)]
    if all(part in paths or part in registry.strategies() for part in parts):
        for part in parts:
            _show_strategy(part, f"{composition.key_of(part)}.KEY" if len(parts) > 1 else "KEY")
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
    if name == "model":
        print("model: a network by its name; `clbench show NAME` says what the keys of one allow.")
        print("\n".join(_kinds(config.Network)))
        return 0
    if name == "strategy":
        print(
            "strategy: a method by its name or import path, with its hyper-parameters beside it; `clbench list "
            "strategies` says which there are, `clbench show NAME` what the keys of one allow.\n"
            f"{_fields(config.StrategyConfig)}\n{_fields(config.Parameters)}"
        )
        return 0
    known = {n: s for kind in _KINDS for n, s in _catalogue(kind).items()}
    if name not in known:
        allowed = [*known, *_SECTIONS, "model", "strategy"]
        raise UserError(unknown("name", name, allowed, "or a strategy's import path like package.module:Name"))
    model = next((m for m in mistakes.member_models(config.Network) if name in mistakes.tags(m)), None)
    if model is None:
        print(f"{name}: {known[name]}")
    else:
        print(f"{name}: {inspect.cleandoc(model.__doc__ or '')}\n{_fields(model)}")
    return 0


def is_stream(name: str) -> bool:
    return registry.benchmark_path(name) is not None or name.endswith((".yaml", ".yml"))


def _show_benchmark(options: argparse.Namespace) -> int:
    """The resolved YAML and the card, or the card alone. Where there is no data, the card says why it is short."""
    from clbench import card
    from streams.compile import definition_hash

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
        known = outline(benchmark.stream)
    except UserError as error:
        reason = " ".join(str(error).split())
        if options.markdown:
            print(card.to_markdown(card.without_data(benchmark, definition_hash(benchmark.stream), reason)))
        else:
            print(f"# no card: {reason}")
        return 0
    stream = compiled(options.name, benchmark, seeds, options.seed, known)
    data = _load(benchmark.stream) if options.deep else None
    try:
        made = card.make(benchmark, stream, data)
    except UserError as error:
        raise UserError(*(f"{options.name}: {problem}" for problem in error.problems)) from None
    print(card.to_markdown(made) if options.markdown else f"\n{card.to_text(made)}")
    return 0


def outline(said: config.StreamConfig) -> Any:
    """The data set without its inputs. What a download or code of the user's own prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().outline(said.data, said.synthetic, said.size)


def _load(said: config.StreamConfig) -> Any:
    with contextlib.redirect_stdout(sys.stderr):
        return registry.datasets().load(said.data, said.synthetic, said.size)


def compiled(name: str, benchmark: config.Benchmark, seeds: config.Seeds, seed: int | None, data: Any) -> Any:
    """The stream that a run of this seed has, by an outline of its data set."""
    from streams.compile import compile_stream

    try:
        return compile_stream(benchmark.stream, seeds.for_stream(seed or 0), data)
    except UserError as error:
        raise UserError(*(f"{name}: {problem}" for problem in error.problems)) from None


def _show_strategy(name: str, key: str) -> None:
    if name not in registry.strategies():
        _show_imported(name, key)
        return
    module = importlib.import_module(registry.strategies()[name].partition(":")[0])
    print(f"{name}\n\n{(module.__doc__ or '').strip()}\n\nhyper-parameters (strategy.{key}):")
    print(_fields(registry.strategy_config(name)) or "  none")


def _show_imported(path: str, key: str) -> None:
    """A strategy of the user's own; of a class or function that is none, what may be given to it."""
    with contextlib.redirect_stdout(sys.stderr):
        found = registry.strategy(path)
    from clbench.strategy import is_strategy

    if not callable(found):
        raise UserError(f"{path}: expected a strategy's class or a function that makes one, found {shown(found)}.")
    text = f"{path}\n\n{inspect.cleandoc(found.__doc__ or '')}".strip()
    if is_strategy(found):
        print(f"{text}\n\nhyper-parameters (strategy.{key}):\n{_fields(found.Config) or '  none'}")
        return
    from clbench import bridge

    try:
        parameters = bridge.keywords(found)
    except ValueError:
        raise UserError(f"{path}: no clbench Strategy, and Python does not tell its parameters.") from None
    of = "its constructor" if isinstance(found, type) else "the function"
    beside = f"hyper-parameters (strategy.{key}) are the parameters of {of} that a benchmark does not give"
    print(f"{text}\n\nno clbench Strategy; {beside}:")
    for parameter, default in parameters.items():
        required = default is inspect.Parameter.empty
        plain = default is None or isinstance(default, bool | int | float | str | list | dict)
        said = _plain(default) if plain else getattr(default, "__name__", type(default).__name__)
        print(f"  {parameter}: {'required' if required else f'default {said}'}")
    if not parameters:
        print("  none")


def _fields(model: type[pydantic.BaseModel]) -> str:
    """Each key with what it allows, its default, the text below it in the source, and the keys that stand below it."""
    lines = []
    for key in keys_of(model):
        field = model.model_fields[key]
        default = "required" if field.is_required() else f"default {_plain(field.default)}"
        lines.append(f"  {key}: {mistakes.describe(mistakes.annotation_of(field))}; {default}")
        lines += [f"      {line}" for line in (field.description or "").splitlines()]
        lines += [f"    {line}" for line in _kinds(field.annotation)]
    return "\n".join(lines)


def _plain(default: Any) -> str:
    """A default in one line; of keys and values the kind, and what differs from their own defaults."""
    if isinstance(default, pydantic.BaseModel):
        kind = {key: getattr(default, key) for key in ("by", "name") if hasattr(default, key)}
        default = {**kind, **default.model_dump(exclude_defaults=True)}
    return shown(default).replace("'", "")


def _kinds(annotation: Any) -> list[str]:
    """A line for each kind of keys and values that a type allows: its tag, and the keys beside that."""
    lines = []
    for model in mistakes.member_models(annotation):
        tag = next((key for key in ("by", "name") if key in model.model_fields and mistakes.tags(model)), None)
        named = "" if tag is None else f"{tag}: {' or '.join(mistakes.tags(model))}"
        beside = ", ".join(key for key in keys_of(model) if key != tag)
        lines.append(f"  {', with '.join(filter(None, [named, beside]))}")
    return lines


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
