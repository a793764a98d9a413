"""What a benchmark and a run are, as frozen, checked configuration.

A file is read in four steps: strict YAML, `base:` (another benchmark that it changes), overrides from the command
line, and the models below. Every mistake that can be told without loading data or torch is told at once, with its
key path. The resolved configuration is what is saved, and its canonical JSON is what is hashed.
"""

from __future__ import annotations

import hashlib
import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench import registry, strict_yaml
from clbench.errors import UserError, nearest, unknown


class Model(pydantic.BaseModel):
    """A frozen piece of configuration: unknown keys are mistakes, numbers are finite."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


# ------------------------------------------------------------------------------------------------ streams
class ClassTasks(Model):
    """Each task is a block of classes."""

    by: Literal["classes"]
    count: Annotated[int, Field(ge=1)] | None = None
    """Number of tasks; classes are shared out as equally as possible, earlier tasks take one more."""
    order: Literal["seed", "natural"] | list[Annotated[int, Field(ge=0)]] = "seed"
    """Order in which classes enter: drawn by the stream seed, 0..C-1, or a list."""
    blocks: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] | None = None
    """The classes of each task, instead of `count` and `order`."""
    labels: Literal["class", "within_task"] = "class"
    """What is predicted: the class, or its place within its task (Split-MNIST's domain-incremental form)."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ClassTasks:
        if (self.count is None) == (self.blocks is None):
            raise ValueError("give either 'count' or 'blocks'")
        if self.blocks is not None and self.order != "seed":
            raise ValueError("'blocks' fixes the order of classes; leave out 'order'")
        listed = [c for block in self.blocks or [] for c in block]
        for name, classes in (("blocks", listed), ("order", self.order if isinstance(self.order, list) else [])):
            twice = sorted({c for c in classes if classes.count(c) > 1})
            if twice:
                raise ValueError(f"'{name}' lists class {', '.join(map(str, twice))} twice")
        return self


class PermutationTasks(Model):
    """Each task is all classes under a fixed permutation of the pixels (Permuted-MNIST)."""

    by: Literal["permutations"]
    count: Annotated[int, Field(ge=1)]
    first: Literal["identity", "permuted"] = "identity"
    """Whether the first task sees the pixels as they are."""


class RotationTasks(Model):
    """Each task is all classes, rotated by a fixed angle about the centre (Rotated-MNIST)."""

    by: Literal["rotations"]
    degrees: Annotated[list[Annotated[float, Field(ge=-360, le=360)]], Field(min_length=1)]
    """Counter-clockwise angles, one a task; bilinear interpolation, zero outside."""


Tasks = Annotated[ClassTasks | PermutationTasks | RotationTasks, Field(discriminator="by")]


class SequentialSchedule(Model):
    """Every task once, in order."""

    by: Literal["sequential"] = "sequential"


class StreamConfig(Model):
    """data set x tasks x schedule x supervision (supervision: every training sample, with its label)."""

    data: str
    tasks: Tasks
    schedule: SequentialSchedule = SequentialSchedule()
    setting: Literal["class", "task", "domain"]
    """Class-incremental, task-incremental (the task is known at test time) or domain-incremental."""
    normalise: Literal["unit", "standard"] = "unit"
    """`unit`: pixels in [0, 1], arrays of floats as they are. `standard`: then minus mean, by deviation, per channel."""
    synthetic: SyntheticData | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> StreamConfig:
        by_class = isinstance(self.tasks, ClassTasks)
        if not by_class and self.setting != "domain":
            raise ValueError(
                f"setting '{self.setting}' needs tasks by classes; {self.tasks.by} make domains of the same"
            )
        if by_class and (self.setting == "domain") != (self.tasks.labels == "within_task"):  # type: ignore[union-attr]
            raise ValueError("tasks by classes are domains exactly where tasks.labels is 'within_task'")
        if (self.data == "synthetic") != (self.synthetic is not None):
            raise ValueError("data 'synthetic' and the key 'synthetic' need each other")
        return self


class SyntheticData(Model):
    """Gaussian classes with unit covariance and random means; nothing to download."""

    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    features: Annotated[int, Field(ge=1)] = 32
    train_per_class: Annotated[int, Field(ge=1)] = 100
    test_per_class: Annotated[int, Field(ge=1)] = 20
    separation: Annotated[float, Field(gt=0)] = 4.0
    """Root mean square distance between two class means, in standard deviations of a class."""
    seed: Annotated[int, Field(ge=0)] = 0


StreamConfig.model_rebuild()


# ------------------------------------------------------------------------------------------------ model, budget, protocol
class Mlp(Model):
    """Linear layers with ReLU between them."""

    name: Literal["mlp"]
    hidden: list[Annotated[int, Field(ge=1)]] = [400, 400]


class Linear(Model):
    """One linear layer."""

    name: Literal["linear"]


class Cnn(Model):
    """conv3x3-ReLU-pool twice, one hidden layer: a small network for images of 8x8 and more."""

    name: Literal["cnn"]
    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=4)] = [16, 32]
    hidden: Annotated[int, Field(ge=1)] = 128


class SlimResNet18(Model):
    """ResNet-18 with 20 initial filters (Lopez-Paz and Ranzato 2017); 64 filters give the full width."""

    name: Literal["slim_resnet18"]
    filters: Annotated[int, Field(ge=1)] = 20


Network = Annotated[Mlp | Linear | Cnn | SlimResNet18, Field(discriminator="name")]

LearningRate = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


class Sgd(Model):
    name: Literal["sgd"]
    lr: LearningRate
    momentum: BelowOne = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


class Adam(Model):
    name: Literal["adam"]
    lr: LearningRate = 1e-3
    betas: Annotated[list[BelowOne], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Adam):
    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NonNegative = 0.01


class Adagrad(Model):
    name: Literal["adagrad"]
    lr: LearningRate = 1e-2
    eps: Annotated[float, Field(gt=0)] = 1e-10
    weight_decay: NonNegative = 0.0


class RmsProp(Model):
    name: Literal["rmsprop"]
    lr: LearningRate = 1e-2
    alpha: BelowOne = 0.99
    eps: Annotated[float, Field(gt=0)] = 1e-8
    momentum: BelowOne = 0.0
    weight_decay: NonNegative = 0.0


Optimizer = Annotated[Sgd | Adam | AdamW | Adagrad | RmsProp, Field(discriminator="name")]


class Training(Model):
    """The budget of learning, the same for every strategy on a benchmark."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the data of each experience."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Updates in each experience, instead of `epochs`; the data is reshuffled whenever it has been seen."""
    batch_size: Annotated[int, Field(ge=1)]
    drop_last: bool = False
    """Whether the last batch of a pass is left out where it is smaller than the others."""
    optimizer: Optimizer
    optimizer_state: Literal["keep", "reset"] = "keep"
    """What happens to the optimiser's state (moments) at the start of each experience."""
    active_outputs: Literal["all", "seen", "task"] | None = None
    """Outputs that take part in the training loss. Default: the task's own in the task setting, else all."""

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Training:
        if (self.epochs is None) == (self.iterations is None):
            raise ValueError("give either 'epochs' or 'iterations'")
        return self


class Evaluation(Model):
    """When and on what the learner is watched. The whole test set is used, always."""

    every: Annotated[int, Field(ge=0)] = 1
    """Period in iterations, counted within each experience; 0: only before and after each experience."""
    scope: Literal["seen", "all"] = "seen"
    """Cells evaluated after an iteration. Points before a first update evaluate all."""
    batch_size: Annotated[int, Field(ge=1)] = 1000
    """Samples per forward pass. Part of the protocol, because it can change the last bit of a logit."""


class Numerics(Model):
    """What decides the last bits of a result."""

    threads: Annotated[int, Field(ge=1)]
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32"] = "float32"
    deterministic: bool = True


class StrategyConfig(pydantic.BaseModel):
    """A strategy by name or import path, with its hyper-parameters beside it; each strategy has its own model."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Benchmark(Model):
    """One YAML file of `streams/`: stream, model, training budget and evaluation protocol under a versioned id."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*-v[1-9][0-9]*$", max_length=80)]
    title: str = ""
    source: str = ""
    stream: StreamConfig
    model: Network
    training: Training
    evaluation: Evaluation = Evaluation()


class Seeds(Model):
    """Seeds of single axes, where they shall not follow the run's."""

    stream: Annotated[int, Field(ge=0)] | None = None
    init: Annotated[int, Field(ge=0)] | None = None
    order: Annotated[int, Field(ge=0)] | None = None
    augmentation: Annotated[int, Field(ge=0)] | None = None
    strategy: Annotated[int, Field(ge=0)] | None = None


_SECTIONS: dict[str, Any] = {
    **{name: field for name, field in Benchmark.model_fields.items()},
    "seeds": Seeds,
    "strategy": StrategyConfig,
}
_REQUIRED = ("id", "stream", "model", "training")


# ------------------------------------------------------------------------------------------------ hashes
def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one meaning, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


class RunConfig(pydantic.BaseModel):
    """Everything that a run is a function of, resolved."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    benchmark: Benchmark
    strategy: StrategyConfig
    seed: int
    seeds: Seeds
    numerics: Numerics
    modified: bool
    """Whether the benchmark differs from the shipped one of its id (or no such one is shipped)."""

    @property
    def definition_hash(self) -> str:
        """Of the benchmark: stream, model, budget and protocol, without names and seeds. Boards are keyed by it."""
        definition = self.benchmark.model_dump(mode="json", exclude={"id", "title", "source"})
        return content_hash(definition)

    @property
    def config_hash(self) -> str:
        """Of everything except the run's seed: runs that differ only in the seed share it."""
        return content_hash(self._identity())

    @property
    def run_id(self) -> str:
        """Of everything: two runs with one id end in the same bytes on the same machine and software."""
        return content_hash({**self._identity(), "seed": self.seed})

    def _identity(self) -> dict[str, Any]:
        return {
            "benchmark_id": self.benchmark.id,
            "definition": self.definition_hash,
            "strategy": self.strategy.model_dump(mode="json"),
            "seeds": self.seeds.model_dump(mode="json", exclude_none=True),
            "numerics": self.numerics.model_dump(mode="json"),
        }


# ------------------------------------------------------------------------------------------------ reading
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


def load_benchmark(reference: str) -> tuple[dict[str, Any], str]:
    """The raw mapping of a shipped id or of a YAML file, `base:` applied, and the name to use in messages."""
    path = registry.benchmark_path(reference)
    source = reference if path is not None else None
    if path is None:
        if not reference.endswith((".yaml", ".yml")) and "/" not in reference:
            raise UserError(
                unknown("benchmark", reference, registry.benchmarks()).rstrip(".") + ", or a path to a YAML file."
            )
        path = Path(reference)
    raw = strict_yaml.parse_file(path, source)
    name = source or str(path)
    seen = {path.resolve()}
    while "base" in raw:
        base = raw.pop("base")
        if not isinstance(base, str):
            raise UserError(f"{name}: base: expected a benchmark id or a path, got {base!r}.")
        below = registry.benchmark_path(base)
        if below is None and not base.endswith((".yaml", ".yml")):
            raise UserError(f"{name}: base: {unknown('benchmark', base, registry.benchmarks())}")
        below = below or (path.parent / base)
        if below.resolve() in seen:
            raise UserError(f"{name}: base: '{base}' leads back to itself.")
        seen.add(below.resolve())
        raw, path = merge(strict_yaml.parse_file(below), raw), below
    return raw, name


def apply_overrides(raw: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """`key.path=value` pairs over a raw mapping; also which path came from which flag, for messages."""
    origin: dict[tuple[str, ...], str] = {}
    for text in overrides:
        path_text, equals, value_text = text.partition("=")
        path = tuple(path_text.strip().split("."))
        if not equals or not all(path):
            raise UserError(f"-o {text}: expected key.path=value, for example -o training.batch_size=64.")
        layer: Any = strict_yaml.parse(value_text, f"-o {text}")
        for key in reversed(path):
            layer = {key: layer}
        raw = merge(raw, layer)
        origin[path] = f"-o {text}"
    return raw, origin


def _literal_values(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [v for part in typing.get_args(annotation) for v in _literal_values(part)]


def member_models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in member_models(part)]


def _key_path(section: str, annotation: Any, loc: tuple[Any, ...]) -> tuple[list[str], type[pydantic.BaseModel] | None]:
    """The user's key path of a pydantic location, and the model that its last key belongs to.

    pydantic writes the tag of a union, and the types it tried, into the location; the reader of a file knows neither.
    """
    path, models = [section], member_models(annotation)
    owner: type[pydantic.BaseModel] | None = None
    for step in loc:
        if isinstance(step, int):
            path[-1] += f"[{step}]"
        elif len(models) > 1:  # the tag of a union
            models = [m for m in models if step in tags(m)]
        elif models:
            owner = models[0]
            path.append(step)
            field = owner.model_fields.get(step)
            models = member_models(field.annotation) if field else []
        # else: the name of a type that pydantic tried
    return path, owner


def tags(model: type[pydantic.BaseModel]) -> list[Any]:
    return [
        v
        for tag in ("by", "name")
        if tag in model.model_fields
        for v in _literal_values(model.model_fields[tag].annotation)
    ]


def _hint(given: str, allowed: list[str]) -> str:
    guess = nearest(given, allowed)
    return f" Did you mean '{guess}'?" if guess else ""


def _sentence(error: Any, path: list[str], owner: type[pydantic.BaseModel] | None) -> str:
    """One clear sentence for one pydantic error."""
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        allowed = list(owner.model_fields) if owner else []
        return f"unknown key.{_hint(path[-1], allowed)} Allowed: {', '.join(allowed)}."
    if kind == "missing":
        return "required, but not given."
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = context["discriminator"].strip("'")
        allowed = (
            [w.strip(" '") for w in context.get("expected_tags", "").split(",")] if "expected_tags" in context else []
        )
        if kind == "union_tag_not_found":
            if not isinstance(given, dict):
                return f"expected keys and values with the key '{tag}', got {given!r}."
            return f"the key '{tag}' is required here, but not given."
        return f"{tag}: {unknown('kind', str(context.get('tag')), allowed)}"
    if kind == "literal_error":
        allowed = [a.strip(" '") for a in context["expected"].replace(" or ", ", ").split(",")]
        return f"got {given!r}.{_hint(str(given), allowed)} Allowed: {', '.join(allowed)}."
    limits = {
        "greater_than": "a number > {gt}",
        "greater_than_equal": "a number >= {ge}",
        "less_than": "a number < {lt}",
        "less_than_equal": "a number <= {le}",
        "finite_number": "a finite number",
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "string_type": "a word",
        "bool_type": "true or false",
        "list_type": "a list",
        "model_type": "keys and values",
        "model_attributes_type": "keys and values",
        "dict_type": "keys and values",
        "too_short": "a list of at least {min_length}",
        "too_long": "a list of at most {max_length}",
        "string_pattern_mismatch": "a name like split_digits-v1 (small letters, digits, _, then -v and a number)",
        "string_too_long": "at most {max_length} letters",
    }
    if kind in limits:
        shown = (
            f"a list of {len(given)}" if kind in ("too_short", "too_long") and isinstance(given, list) else repr(given)
        )
        return f"got {shown}. Allowed: {limits[kind].format(**context)}."
    if kind == "value_error":
        return f"{context['error']}."
    return f"{error['msg']} (got {given!r})."


def check_section(
    source: str, section: str, annotation: Any, value: Any, origin: dict[tuple[str, ...], str]
) -> tuple[Any, list[str]]:
    """Validates one section; returns the model (or None) and one sentence per mistake."""
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value), []
    except pydantic.ValidationError as failure:
        problems: list[str] = []
        for error in failure.errors():
            # `order: [0, 0.5]` also fails to be the word 'seed'; only the list's own mistake helps.
            if error["type"] == "literal_error" and isinstance(error["input"], list):
                continue
            path, owner = _key_path(section, annotation, error["loc"])
            where = next((flag for key, flag in origin.items() if tuple(path[: len(key)]) == key), source)
            line = f"{where}: {'.'.join(path)}: {_sentence(error, path, owner)}"
            if line not in problems:
                problems.append(line)
        return None, problems


def resolve(
    reference: str, overrides: list[str] | None = None, strategy: str | None = None, need_strategy: bool = True
) -> tuple[Benchmark, StrategyConfig | None, Seeds, str]:
    """A benchmark reference and flags to checked configuration.

    Args:
        reference: a shipped id or a path to YAML.
        overrides: `key.path=value` texts; they go over the file.
        strategy: a name or import path; it goes over the file's `strategy.name`.
        need_strategy: whether a missing strategy is a mistake.

    Returns:
        benchmark, strategy (None where none is named and none is needed), seeds, and the source's name.

    Raises:
        UserError: every mistake found, all of them at once.
    """
    raw, source = load_benchmark(reference)
    if strategy is not None:
        if not isinstance(raw.get("strategy", {}), dict):
            raw["strategy"] = {}
        raw = merge(raw, {"strategy": {"name": strategy}})
    raw, origin = apply_overrides(raw, overrides or [])

    problems = [
        f"{next((f for k, f in origin.items() if k[0] == key), source)}: {key}: unknown key."
        f"{_hint(key, [*_SECTIONS, 'base'])} Allowed: {', '.join([*_SECTIONS, 'base'])}."
        for key in raw
        if key not in _SECTIONS
    ]
    parts: dict[str, Any] = {}
    for name, field in _SECTIONS.items():
        if name not in raw:
            if name in _REQUIRED:
                problems.append(f"{source}: {name}: required, but not given.")
            continue
        annotation = field if isinstance(field, type) else _annotation(field)
        parts[name], found = check_section(source, name, annotation, raw[name], origin)
        problems += found
    if parts.get("stream") is not None:
        problems += [f"{source}: {p}" for p in check_stream(parts["stream"])]
    chosen: StrategyConfig | None = parts.get("strategy")
    if "strategy" not in raw:
        if need_strategy:
            problems.append(f"{source}: strategy: required, but not given; name one with --strategy.")
    elif chosen is not None:
        problems += check_strategy(source, chosen, origin)
    if problems:
        raise UserError(*problems)
    benchmark = Benchmark(**{k: v for k, v in parts.items() if k in Benchmark.model_fields})
    return benchmark, complete_strategy(chosen) if chosen else None, parts.get("seeds", Seeds()), source


def _annotation(field: Any) -> Any:
    """A field's type with its constraints, as a TypeAdapter takes it."""
    extras = list(field.metadata)
    if field.discriminator:
        extras.append(Field(discriminator=field.discriminator))
    return Annotated[(field.annotation, *extras)] if extras else field.annotation


def check_stream(stream: StreamConfig) -> list[str]:
    """Mistakes that need the data set's facts: its name, its number of classes."""
    datasets = registry.datasets()
    try:
        facts = datasets.facts(stream.data, stream.synthetic)
    except UserError as error:
        return [f"stream.data: {p}" for p in error.problems]
    tasks, problems = stream.tasks, []
    if isinstance(tasks, ClassTasks):
        if tasks.count is not None and tasks.count > facts.classes:
            problems.append(
                f"stream.tasks.count: {tasks.count} tasks, but '{stream.data}' has {facts.classes} classes."
            )
        listed = (tasks.blocks and [c for b in tasks.blocks for c in b]) or (
            tasks.order if isinstance(tasks.order, list) else None
        )
        if listed is not None:
            where = "blocks" if tasks.blocks else "order"
            beyond = sorted({c for c in listed if c >= facts.classes})
            if beyond:
                problems.append(
                    f"stream.tasks.{where}: class {', '.join(map(str, beyond))} does not exist; "
                    f"'{stream.data}' has classes 0 to {facts.classes - 1}."
                )
            absent = sorted(set(range(facts.classes)) - set(listed))
            if absent and where == "order":
                problems.append(f"stream.tasks.order: class {', '.join(map(str, absent))} is missing.")
        if tasks.labels == "within_task" and tasks.blocks and len({len(b) for b in tasks.blocks}) > 1:
            problems.append("stream.tasks.blocks: labels within the task need blocks of one size.")
        if tasks.labels == "within_task" and tasks.count and facts.classes % tasks.count:
            problems.append(
                f"stream.tasks.count: labels within the task need blocks of one size; "
                f"{facts.classes} classes do not divide by {tasks.count}."
            )
    elif isinstance(tasks, RotationTasks) and not facts.image:
        problems.append(f"stream.tasks: rotations need images, and '{stream.data}' holds vectors.")
    return problems


def check_strategy(source: str, strategy: StrategyConfig, origin: dict[tuple[str, ...], str]) -> list[str]:
    """Mistakes in a strategy's name or hyper-parameters, without importing torch for strategies of the table."""
    where = next((flag for key, flag in origin.items() if key == ("strategy", "name")), source)
    try:
        registry.check_strategy_name(strategy.name)
    except UserError as error:
        return [f"{where}: strategy.name: {p}" for p in error.problems]
    model = registry.strategy_config(strategy.name)
    if model is None:
        return []
    _, problems = check_section(source, "strategy", model, strategy.parameters, origin)
    return problems


def complete_strategy(strategy: StrategyConfig) -> StrategyConfig:
    """The strategy with its defaults written out, so that the saved configuration says them."""
    model = registry.strategy_config(strategy.name)
    if model is None:
        return strategy
    return StrategyConfig(name=strategy.name, **model.model_validate(strategy.parameters).model_dump(mode="json"))


def make_run(
    reference: str,
    *,
    strategy: str | None = None,
    seed: int = 0,
    overrides: list[str] | None = None,
    threads: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
) -> RunConfig:
    """The resolved configuration of one run.

    Args:
        reference: a shipped benchmark id or a path to YAML.
        strategy: a name or import path, over the file's own.
        seed: the run's seed, >= 0.
        overrides: `key.path=value` texts.
        threads: CPU threads for torch; part of the run's id.
        device: where to train.

    Raises:
        UserError: see `resolve`.
    """
    benchmark, chosen, seeds, _ = resolve(reference, overrides, strategy)
    assert chosen is not None
    run = RunConfig(
        benchmark=benchmark,
        strategy=chosen,
        seed=seed,
        seeds=seeds,
        numerics=Numerics(threads=threads, device=device),
        modified=True,
    )
    shipped = registry.benchmark_path(benchmark.id)
    if shipped is None:
        return run
    original = run.model_copy(update={"benchmark": resolve(benchmark.id, need_strategy=False)[0]})
    return run.model_copy(update={"modified": run.definition_hash != original.definition_hash})
