"""`clbench list`, `show` and `validate`: what there is, and whether files are right."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

from clbench import config, mistakes, registry, resolve
from clbench.cli.arguments import integer
from clbench.errors import UserError, shown, unknown
from clbench.schema import keys_of

if TYPE_CHECKING:
    import pydantic

    from clbench.cli.arguments import Verbs

_KINDS = ("streams", "strategies", "datasets", "models", "metrics")
_SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "training": config.Training,
    "evaluation": config.Evaluation,
    "numerics": config.Numerics,
    "seeds": config.Seeds,
    "watch": config.Watch,
}


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
    if is_stream(name):
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


def is_stream(name: str) -> bool:
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
