"""Resolution of a reference and flags to checked configuration.

A file is read in four steps: strict YAML, `base:` (another benchmark that it modifies), overrides from the command
line, and the models of `clbench.config.benchmark`. All mistakes that can be detected without loading data or torch are
reported at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic.fields import FieldInfo

from clbench import names, registry
from clbench.config import strategy_names, strict_yaml
from clbench.config.augmentation import augmentation_mistakes
from clbench.config.benchmark import Benchmark, Numerics, Protocol, Seeds, StrategyConfig, contradictions
from clbench.config.evaluation import Watch
from clbench.config.networks import Network
from clbench.config.optimizers import Optimizer
from clbench.config.schedules import Schedule
from clbench.config.training import Training
from clbench.errors import UserError, shown, unknown
from clbench.initial_weights import identified
from clbench.messages import (
    Layer,
    annotation_of,
    check_section,
    dotted,
    key_paths,
    member_models,
    tags,
    unknown_key,
    where,
)
from clbench.run_config import RunConfig
from clbench.schema import Mistake, Model
from clbench.streams.definition import StreamConfig

_BESIDE: dict[str, type[Model]] = {"seeds": Seeds, "numerics": Numerics, "watch": Watch}

_SECTIONS: dict[str, Any] = {**Benchmark.model_fields, "strategy": StrategyConfig, **_BESIDE}

_NUMBERED = ["training", "experiences"]
"""Path of the mapping whose keys are numbers."""

_LISTED = "`clbench list strategies` lists them"

_REQUIRED = [name for name, field in Benchmark.model_fields.items() if field.is_required()]


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`: mappings merge key by key, everything else is replaced.

    Where both name a kind (`by` or `name`) and the kinds differ, the upper mapping stands alone.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    for tag in ("by", "name"):
        if tag in above and tag in below and above[tag] != below[tag]:
            return dict(above)
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


Reference = str | Mapping[str, Any]
"""A shipped benchmark's id, a path to YAML, or the contents of such a file."""


def source_of(reference: Reference) -> str:
    """Name of a reference in messages."""
    return reference if isinstance(reference, str) else "benchmark"


def load_benchmark(reference: Reference) -> list[Layer]:
    """The raw mappings of a benchmark: its own, that of its `base:`, of the base of that, and so on.

    Args:
        reference: of a mapping, the path of a base is relative to the working directory.

    Raises:
        UserError: no such benchmark or file, or one that is no mapping.
    """
    name = source_of(reference)
    if isinstance(reference, str):
        path = registry.benchmark_path(reference)
        if path is None:
            path = Path(reference)
            if not (path.suffix in (".yaml", ".yml") or {"/", os.sep} & {*reference} or path.exists()):
                raise UserError(unknown("benchmark", reference, registry.benchmarks(), "or a path to a YAML file"))
        layers = [(name, _read(path, name))]
    else:
        path = Path("benchmark")  # in the working directory
        layers = [(name, _contents(dict(reference), name, "FILE"))]
    seen = {path.resolve()}
    while "base" in layers[-1][1]:
        base = layers[-1][1].pop("base")
        name += ": base"
        if not isinstance(base, str):
            raise UserError(f"{name}: got {shown(base)}. Allowed: a benchmark's id or a path to a YAML file.")
        below = registry.benchmark_path(base)
        if below is None and not base.endswith((".yaml", ".yml")):
            raise UserError(f"{name}: {unknown('benchmark', base, registry.benchmarks(), 'or a path to a YAML file')}")
        path = below or path.parent / base
        name += f": {base}"
        if path.resolve() in seen:
            raise UserError(f"{name} leads back to itself.")
        seen.add(path.resolve())
        layers.append((name, _read(path, name)))
    return layers


def _read(path: Path, name: str) -> dict[str, Any]:
    return _contents(strict_yaml.parse_file(path, name), name, str(path))


def _contents(content: dict[str, Any], name: str, file: str) -> dict[str, Any]:
    if {"streams", "strategies"} <= content.keys():
        raise UserError(f"{name}: a study, not a benchmark; `clbench grid {file}` runs it.")
    return {key: strategy_names.as_mapping(value) if key == "strategy" else value for key, value in content.items()}


def parse_overrides(overrides: Iterable[str]) -> list[Layer]:
    """A mapping for each `key.path=value`, the last one first.

    Raises:
        UserError: every text that is not of that form.
    """
    layers: list[Layer] = []
    problems: list[str] = []
    for text in overrides:
        key_path, equals, value_text = text.partition("=")
        path = [key.strip() for key in key_path.split(".")]
        flag = f"-o {text}"
        if not equals or not all(path):
            problems.append(f"{flag}: expected key.path=value, for example -o training.batch_size=64.")
        elif any("[" in key or (key.isdigit() and path[:n] != _NUMBERED) for n, key in enumerate(path)):
            problems.append(f"{flag}: items of a list cannot be set alone; give the list, for example [100, 100].")
        elif path == ["base"]:
            problems.append(f"{flag}: only a file can name its base.")
        else:
            try:
                value = strict_yaml.parse(value_text, flag)
            except UserError as error:
                problems += error.problems
                continue
            if path == ["strategy"]:
                value = strategy_names.as_mapping(value)
            for key in reversed(path):
                value = {key: value}
            layers.insert(0, (flag, value))
    if problems:
        raise UserError(*problems)
    return layers


def canonical_strategy(strategy: Any) -> Any:
    """A strategy's mapping with its names as the table has them, the keys of a composition's parts too.

    >>> canonical_strategy({"name": "ER+EWC", "EWC": {"strength": 2}, "optimizer": {"name": "SGD"}})
    {'name': 'er+ewc', 'ewc': {'strength': 2}, 'optimizer': {'name': 'sgd'}}
    """
    if not isinstance(strategy, dict):
        return strategy
    strategy = _tagged(strategy, "optimizer", Optimizer)
    name = strategy.get("name")
    if not isinstance(name, str):
        return strategy
    name = registry.strategy_name(name)
    parts = strategy_names.parts_of(name)
    keys = [strategy_names.key_of(part) for part in parts] if len(parts) > 1 else []
    return {names.match(key, keys) or key: name if key == "name" else value for key, value in strategy.items()}


def _canonical(layers: Iterable[Layer]) -> list[Layer]:
    """Mappings with names as their tables have them: `strategy: ER`, `data: CIFAR-10`, `name: MLP`, `name: SGD`."""
    out = []
    for source, content in layers:
        content = _tagged(dict(content), "model", Network)
        for section, change in (("strategy", canonical_strategy), ("stream", _stream), ("training", _training)):
            if section in content:
                content[section] = change(content[section])
        out.append((source, content))
    return out


def _tagged(mapping: dict[str, Any], key: str, annotation: Any) -> dict[str, Any]:
    """A mapping with the name below a key as one of the kinds of a union has it, where one has it."""
    value = mapping.get(key)
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return mapping
    name = names.match(value["name"], [tag for model in member_models(annotation) for tag in tags(model)])
    return mapping if name is None else {**mapping, key: {**value, "name": name}}


def _training(training: Any) -> Any:
    if not isinstance(training, dict):
        return training
    training = _tagged(_tagged(training, "optimizer", Optimizer), "schedule", Schedule)
    if isinstance(experiences := training.get("experiences"), dict):
        single = {str(key) if type(key) is int else key: _training(of) for key, of in experiences.items()}
        training = {**training, "experiences": single}
    return training


def _stream(stream: Any) -> Any:
    data = stream.get("data") if isinstance(stream, dict) else None
    if isinstance(data, str):
        return {**stream, "data": registry.dataset_name(data)}
    if isinstance(data, list):
        return {**stream, "data": [registry.dataset_name(d) if isinstance(d, str) else d for d in data]}
    return stream


def flatten(layers: Iterable[Layer]) -> dict[str, Any]:
    """Layers, the uppermost first, merged into one mapping."""
    out: dict[str, Any] = {}
    for _, content in reversed(list(layers)):
        out = merge(out, content)
    return out


def resolve(
    reference: Reference,
    overrides: list[str] | None = None,
    strategy: str | None = None,
    need_strategy: bool = True,
    above: Iterable[Layer] = (),
) -> tuple[Benchmark, StrategyConfig | None, Seeds, Numerics, Watch]:
    """A benchmark reference and flags to checked configuration.

    Args:
        reference: a shipped id, a path to YAML, or the contents of such a file.
        overrides: `key.path=value` texts; they go over the file.
        strategy: a name or import path; it goes over the file's `strategy.name`.
        need_strategy: whether a missing strategy is a mistake.
        above: mappings that go over the file and below the flags, the uppermost first, each with its source.

    Returns:
        benchmark, strategy (None where none is named and none is needed), seeds, numerics and watch.

    Raises:
        UserError: every mistake found, all of them at once.
    """
    flags = parse_overrides(overrides or [])
    if strategy is not None:
        if strategy.lstrip().startswith(("[", "{")):
            raise UserError(_not_a_name(strategy))
        flags.append(("--strategy", {"strategy": {"name": strategy}}))
    flags = _canonical([*flags, *above])
    files = _canonical(load_benchmark(reference))
    source, layers = source_of(reference), [*flags, *files]
    # Flags are merged with each other first: `-o optimizer.lr=1 -o optimizer.name=adam` keeps both, in any order.
    raw = merge(flatten(files), flatten(flags))

    known = _key_paths(raw)
    others = [path for path in known if path not in raw]  # a key of YAML may be written `training.epochs`
    problems = [
        f"{where(source, layers, [key])}: {key}: {unknown_key(_down(key, raw[key]), [*_SECTIONS, 'base'], others)}"
        for key in raw
        if key not in _SECTIONS
    ]
    parts: dict[str, Any] = {}
    for name, field in _SECTIONS.items():
        if name in raw:
            annotation = annotation_of(field) if isinstance(field, FieldInfo) else field
            parts[name], sentences = check_section(source, name, annotation, raw[name], layers, known)
            problems += sentences
        elif name in _REQUIRED:
            problems.append(f"{source}: {name}: required, but not given.")
    if parts.get("stream") is not None:
        problems += [
            f"{where(source, layers, path)}: {dotted(path)}: {sentence}"
            for path, sentence in [
                *check_stream(parts["stream"]),
                *check_augmentation(parts["stream"], parts.get("training")),
            ]
        ]
    if parts.get("model") is not None:
        parts["model"], sentences = identified(source, parts["model"], layers)
        problems += sentences
    problems += _contradictions(source, parts, layers)
    chosen: StrategyConfig | None = parts.get("strategy")
    if chosen is not None:
        problems += _check_strategy(source, chosen, layers, known)
    elif need_strategy and "strategy" not in raw:
        problems.append(f"{source}: strategy: required, but not given; name one with --strategy ({_LISTED}).")
    if problems:
        raise UserError(*problems)
    benchmark = Benchmark(**{k: v for k, v in parts.items() if k in Benchmark.model_fields})
    strategy_config = complete_strategy(chosen) if chosen else None
    if strategy_config is not None:
        needed = registry.strategy_needs(strategy_config.name, strategy_config.parameters)
        problems += [f"{source}: {sentence}" for sentence in denied(benchmark, strategy_config.name, needed)]
    if problems:
        raise UserError(*problems)
    seeds, numerics, watch = (parts.get(name, kind()) for name, kind in _BESIDE.items())
    return benchmark, strategy_config, seeds, numerics, watch


def all_keys() -> list[str]:
    """The dotted paths of all keys of a benchmark's file that have a value, of every kind of a section."""
    paths = _key_paths({})
    return [path for path in paths if not any(other.startswith(f"{path}.") for other in paths)]


def _key_paths(raw: dict[str, Any]) -> list[str]:
    """The dotted paths of all keys that a configuration has, for hints."""
    paths: list[str] = []
    for name, field in _SECTIONS.items():
        annotation = annotation_of(field) if isinstance(field, FieldInfo) else field
        paths += [name, *key_paths(annotation, raw.get(name), name)]
    strategy = raw.get("strategy")
    if isinstance(strategy, dict) and isinstance(strategy.get("name"), str):
        with contextlib.suppress(UserError):  # reported by the check of the strategy
            paths += key_paths(registry.strategy_config(strategy["name"]), strategy, "strategy")
    return list(dict.fromkeys(paths))


def _down(key: str, value: Any) -> str:
    """A key with those below it, as long as each is the only one: `-o optimizer.lr=1` gives `optimizer.lr`."""
    while isinstance(value, dict) and len(value) == 1:
        [(below, value)] = value.items()
        key += f".{below}"
    return key


def _not_a_name(value_text: str) -> str:
    """Message for a list or a mapping given to `--strategy`."""
    value = strategy_names.as_mapping(strict_yaml.parse(value_text, "--strategy"))
    name = value.get("name") if isinstance(value, dict) else None
    named = name if isinstance(name, str) else "er+ewc"
    text = f"--strategy: got {shown(value_text)}. Allowed: names with '+' between them, like {named}"
    return f'{text}; a list or a mapping is given by -o "strategy={value_text.strip()}".'


def check_stream(stream: StreamConfig) -> list[Mistake]:
    """Mistakes that need the data set's facts (its name, its number of classes): key paths and sentences.

    Nothing is known here of user-defined data; compilation reports their mistakes.
    """
    try:
        facts = registry.datasets().facts(stream.data, **stream.reading)
    except UserError as error:
        return [(["stream", "data"], problem) for problem in error.problems]
    if facts.classes is None or facts.image is None:
        return []
    mistakes = stream.data_mistakes(stream.data_name, facts.classes, facts.image, facts.tasks, facts.numbers)
    return [(["stream", *path], sentence) for path, sentence in mistakes]


def check_augmentation(stream: StreamConfig, training: Training | None) -> list[Mistake]:
    """Parts of `training.augmentation` that the data set's samples cannot be given to: key paths and sentences."""
    if training is None or not training.augmentation:
        return []
    try:
        facts = registry.datasets().facts(stream.data, **stream.reading)
    except UserError:
        return []  # `check_stream` reports it
    if facts.image is None:
        return []
    mistakes = augmentation_mistakes(training.augmentation, f"'{stream.data_name}'", facts.image)
    return [(["training", *path], sentence) for path, sentence in mistakes]


def denied(benchmark: Benchmark, strategy: str, needed: Iterable[str]) -> list[str]:
    """A sentence for each piece of information that a strategy requires and the protocol denies."""
    protocol = benchmark.protocol
    granted = {
        "task_in_training": protocol.task_in_training,
        "task_at_test": benchmark.task_at_test,
        "boundaries": protocol.boundaries,
    }
    words = {
        "task_in_training": "the task labels of training samples",
        "task_at_test": "the task labels of test samples",
        "boundaries": "the boundaries of experiences",
    }
    return [
        f"strategy '{strategy}' needs {words[key]} as it is configured, which protocol.{key} of {benchmark.id} denies."
        for key in sorted(needed)
        if not granted[key]
    ]


def _contradictions(source: str, parts: dict[str, Any], layers: list[Layer]) -> list[str]:
    """Sections that do not fit each other, where all of them are right in themselves."""
    sections = [parts.get("stream"), parts.get("training"), parts.get("protocol", Protocol())]
    if any(section is None for section in sections):
        return []
    sections.append(parts.get("model"))
    return [
        f"{where(source, layers, list(key.split('.')))}: {key}: {sentence}."
        for key, sentence in contradictions(*sections)
    ]


def _check_strategy(source: str, strategy: StrategyConfig, layers: list[Layer], known: list[str]) -> list[str]:
    """Mistakes in a strategy's name or hyper-parameters, without importing torch for built-in strategies."""
    try:
        registry.check_strategy_name(strategy.name)
    except UserError as error:
        giver = where(source, layers, ["strategy", "name"])
        return [f"{giver}: strategy.name: {problem}" for problem in error.problems]
    try:
        model = registry.strategy_config(strategy.name)
    except UserError as error:
        return [f"{where(source, layers, ['strategy', 'name'])}: {problem}" for problem in error.problems]
    return check_section(source, "strategy", model, strategy.parameters, layers, known)[1] if model else []


def complete_strategy(strategy: StrategyConfig) -> StrategyConfig:
    """The strategy with its defaults written out, so that the saved configuration contains them."""
    model = registry.strategy_config(strategy.name)
    if model is None:
        return strategy
    return StrategyConfig(name=strategy.name, **model.model_validate(strategy.parameters).model_dump(mode="json"))


def make_run(
    reference: Reference,
    *,
    strategy: str | None = None,
    seed: int = 0,
    overrides: list[str] | None = None,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    above: Iterable[Layer] = (),
) -> RunConfig:
    """The resolved configuration of one run.

    Args:
        reference: see `resolve`.
        strategy: a name or import path; overrides the file's.
        seed: the run's seed, >= 0.
        overrides: `key.path=value` texts.
        threads, device: used where the configuration's `numerics` does not set them; part of the run's id.
        above: see `resolve`.

    Raises:
        UserError: see `resolve`.
    """
    benchmark, chosen, seeds, numerics, watch = resolve(reference, overrides, strategy, above=above)
    assert chosen is not None
    machine = {"threads": threads, "device": device}
    unsaid = {k: v for k, v in machine.items() if v is not None and k not in numerics.model_fields_set}
    run = RunConfig(
        benchmark=benchmark,
        strategy=chosen,
        seed=seed,
        seeds=seeds,
        numerics=numerics.model_copy(update=unsaid),
        watch=watch,
        modified=True,
    )
    shipped = registry.benchmark_path(benchmark.id)
    if shipped is None:
        return run
    original = run.model_copy(update={"benchmark": resolve(benchmark.id, need_strategy=False)[0]})
    return run.model_copy(update={"modified": run.definition_hash != original.definition_hash})
