"""What a benchmark and a run are, as frozen, checked configuration.

A file is read in four steps: strict YAML, `base:` (another benchmark that it changes), overrides from the command
line, and the models below. Every mistake that can be told without loading data or torch is told at once, with its
key path. The resolved configuration is what is saved, and its canonical JSON is what is hashed.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from clbench import registry, strict_yaml
from clbench.errors import UserError, hint, shown, unknown


class Model(pydantic.BaseModel):
    """A frozen piece of configuration: unknown keys are mistakes, numbers are finite.

    The text below a field is what `clbench show` says of it.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=True, use_attribute_docstrings=True
    )


def _mistake(sentence: str, key: str = "") -> PydanticCustomError:
    """What a validator raises: a sentence without its full stop, and the key below that it is about."""
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence, "key": key})


def _one_of(model: Model, first: str, second: str) -> None:
    """Two keys of which exactly one is to be given."""
    given = [key for key in (first, second) if getattr(model, key) is not None]
    if len(given) == 2:
        raise _mistake(f"got both '{first}' and '{second}'. Allowed: one of them; null unsets a key")
    if not given:
        raise _mistake(f"needs '{first}' or '{second}'")


def _unique(classes: list[int]) -> None:
    twice = sorted({c for c in classes if classes.count(c) > 1})
    if twice:
        raise _mistake(f"{_classes(twice)} listed twice")


def _classes(found: Iterable[int]) -> str:
    """
    >>> _classes([3]), _classes([3, 5])
    ('class 3 is', 'classes 3, 5 are')
    """
    words = [str(c) for c in found]
    return f"class{'es' * (len(words) > 1)} {', '.join(words)} {'are' if len(words) > 1 else 'is'}"


ClassNumber = Annotated[int, Field(ge=0)]


# ------------------------------------------------------------------------------------------------ streams
class ClassTasks(Model):
    """Each task is a block of classes."""

    by: Literal["classes"]
    count: Annotated[int, Field(ge=1)] | None = None
    """Number of tasks; classes are shared out as equally as possible, earlier tasks take one more."""
    order: Literal["seed", "natural"] | list[ClassNumber] = "seed"
    """Order in which classes enter: drawn by the stream seed, 0..C-1, or a list."""
    blocks: Annotated[list[Annotated[list[ClassNumber], Field(min_length=1)]], Field(min_length=1)] | None = None
    """The classes of each task, instead of `count` and `order`."""
    labels: Literal["class", "within_task"] = "class"
    """What is predicted: the class, or its place within its task (Split-MNIST's domain-incremental form)."""

    @pydantic.field_validator("order")
    @classmethod
    def _order_unique(cls, order: str | list[int]) -> str | list[int]:
        if isinstance(order, list):
            _unique(order)
        return order

    @pydantic.field_validator("blocks")
    @classmethod
    def _blocks_unique(cls, blocks: list[list[int]] | None) -> list[list[int]] | None:
        _unique([c for block in blocks or [] for c in block])
        return blocks

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ClassTasks:
        _one_of(self, "count", "blocks")
        if self.blocks is not None and self.order != "seed":
            raise _mistake("leave it out; 'blocks' says the order of classes already", "order")
        return self

    def listed(self) -> tuple[str, list[int]] | None:
        """The key that lists classes, and all of them; None where none does."""
        if self.blocks is not None:
            return "blocks", [c for block in self.blocks for c in block]
        return ("order", self.order) if isinstance(self.order, list) else None


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
    """`unit`: pixels in [0, 1], float arrays as they are. `standard`: then minus mean, by deviation, per channel."""
    synthetic: SyntheticData | None = None
    """What the data set `synthetic` is made like; for that data set alone."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> StreamConfig:
        if not isinstance(self.tasks, ClassTasks):
            if self.setting != "domain":
                raise _mistake(f"got '{self.setting}'. Allowed with tasks by {self.tasks.by}: domain", "setting")
        elif self.setting == "domain" and self.tasks.labels != "within_task":
            raise _mistake("got 'domain', which needs tasks.labels to be within_task", "setting")
        elif self.setting != "domain" and self.tasks.labels == "within_task":
            raise _mistake(f"got '{self.setting}'. Allowed with labels within the task: domain", "setting")
        if self.data == "synthetic" and self.synthetic is None:
            raise _mistake("required for the data set 'synthetic', but not given", "synthetic")
        if self.data != "synthetic" and self.synthetic is not None:
            raise _mistake(f"is for the data set 'synthetic', not for '{self.data}'; null unsets it", "synthetic")
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


# ------------------------------------------------------------------------------------------------ model and protocol
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
        _one_of(self, "epochs", "iterations")
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


def _finite(value: Any) -> Any:
    try:
        canonical(value)
    except ValueError:
        raise _mistake(f"got {shown(value)}. Allowed: finite numbers") from None
    return value


class StrategyConfig(pydantic.BaseModel):
    """A strategy by name or import path, with its hyper-parameters beside it; each strategy has its own model."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True)

    name: str
    __pydantic_extra__: dict[str, Annotated[Any, pydantic.AfterValidator(_finite)]] = Field(init=False)

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Benchmark(Model):
    """One YAML file of `streams/`: stream, model, training budget and evaluation protocol under a versioned id."""

    id: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]+(_[a-z0-9]+)*-v[1-9][0-9]*$",
            max_length=80,
            title="a name like split_digits-v1 (small letters, digits, _, then -v and a number; up to 80 characters)",
        ),
    ]
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


_SECTIONS: dict[str, Any] = {**Benchmark.model_fields, "seeds": Seeds, "strategy": StrategyConfig}
_REQUIRED = [name for name, field in Benchmark.model_fields.items() if field.is_required()]


# ------------------------------------------------------------------------------------------------ hashes
def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one meaning, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


DEFAULTS_VERSION = 1
"""Raised when a default changes its value; a new key whose default means what was before leaves it."""


def definition(model: pydantic.BaseModel, exclude: set[str] | None = None) -> dict[str, Any]:
    """What a piece of configuration says beyond the defaults: a grammar that grows leaves old hashes as they are."""
    said = model.model_dump(mode="json", exclude_defaults=True, exclude=exclude)
    return {"defaults": DEFAULTS_VERSION, **said}


class RunConfig(pydantic.BaseModel):
    """Everything that a run is a function of, resolved."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    benchmark: Benchmark
    strategy: StrategyConfig
    seed: Annotated[int, Field(ge=0)]
    seeds: Seeds
    numerics: Numerics
    modified: bool
    """Whether the benchmark differs from the shipped one of its id (or no such one is shipped)."""

    @property
    def definition_hash(self) -> str:
        """Of the benchmark: stream, model, budget and protocol, without names and seeds. Boards are keyed by it."""
        return content_hash(definition(self.benchmark, exclude={"id", "title", "source"}))

    @property
    def config_hash(self) -> str:
        """Of everything except the run's seed: runs that differ only in the seed share it."""
        return content_hash(self._identity())

    @property
    def run_id(self) -> str:
        """Of everything: two runs with one id end in the same bytes on the same machine and software."""
        return content_hash({**self._identity(), "seed": self.seed})

    def _identity(self) -> dict[str, Any]:
        model = registry.strategy_config(self.strategy.name)
        parameters = self.strategy.parameters
        return {
            "benchmark_id": self.benchmark.id,
            "definition": self.definition_hash,
            "strategy": self.strategy.name,
            "parameters": definition(model.model_validate(parameters)) if model else parameters,
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


Layer = tuple[str, dict[str, Any]]
"""A mapping of the user's, and where it was given: a file's name, or a flag."""


def load_benchmark(reference: str) -> list[Layer]:
    """The raw mappings of a shipped id or of a YAML file: its own, its `base:`, the base of that, and so on.

    Raises:
        UserError: no such benchmark or file, or one that is no mapping.
    """
    path = registry.benchmark_path(reference)
    if path is None:
        path = Path(reference)
        if not (path.suffix in (".yaml", ".yml") or "/" in reference or path.exists()):
            raise UserError(unknown("benchmark", reference, registry.benchmarks(), "or a path to a YAML file"))
    name = reference
    layers = [(name, strict_yaml.parse_file(path, name))]
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
        layers.append((name, strict_yaml.parse_file(path, name)))
    return layers


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
        elif any(key.isdigit() or "[" in key for key in path):
            problems.append(f"{flag}: items of a list cannot be set alone; give the list, for example [100, 100].")
        elif path == ["base"]:
            problems.append(f"{flag}: only a file can name its base.")
        else:
            try:
                value = strict_yaml.parse(value_text, flag)
            except UserError as error:
                problems += error.problems
                continue
            for key in reversed(path):
                value = {key: value}
            layers.insert(0, (flag, value))
    if problems:
        raise UserError(*problems)
    return layers


def flatten(layers: Iterable[Layer]) -> dict[str, Any]:
    """Layers, the uppermost first, merged into one mapping."""
    out: dict[str, Any] = {}
    for _, content in reversed(list(layers)):
        out = merge(out, content)
    return out


def resolve(
    reference: str, overrides: list[str] | None = None, strategy: str | None = None, need_strategy: bool = True
) -> tuple[Benchmark, StrategyConfig | None, Seeds]:
    """A benchmark reference and flags to checked configuration.

    Args:
        reference: a shipped id or a path to YAML.
        overrides: `key.path=value` texts; they go over the file.
        strategy: a name or import path; it goes over the file's `strategy.name`.
        need_strategy: whether a missing strategy is a mistake.

    Returns:
        benchmark, strategy (None where none is named and none is needed), and seeds.

    Raises:
        UserError: every mistake found, all of them at once.
    """
    flags = parse_overrides(overrides or [])
    if strategy is not None:
        flags.append(("--strategy", {"strategy": {"name": strategy}}))
    files = load_benchmark(reference)
    source, layers = reference, [*flags, *files]
    # Flags are merged with each other first: `-o optimizer.lr=1 -o optimizer.name=adam` keeps both, in any order.
    raw = merge(flatten(files), flatten(flags))

    problems = [
        f"{where(source, layers, [key])}: {key}: {_unknown_key(key, [*_SECTIONS, 'base'])}"
        for key in raw
        if key not in _SECTIONS
    ]
    parts: dict[str, Any] = {}
    for name, field in _SECTIONS.items():
        if name in raw:
            annotation = annotation_of(field) if isinstance(field, FieldInfo) else field
            parts[name], found = check_section(source, name, annotation, raw[name], layers)
            problems += found
        elif name in _REQUIRED:
            problems.append(f"{source}: {name}: required, but not given.")
    if parts.get("stream") is not None:
        problems += [
            f"{where(source, layers, path)}: {_dotted(path)}: {sentence}"
            for path, sentence in check_stream(parts["stream"])
        ]
    chosen: StrategyConfig | None = parts.get("strategy")
    if chosen is not None:
        problems += _check_strategy(source, chosen, layers)
    elif need_strategy and "strategy" not in raw:
        problems.append(f"{source}: strategy: required, but not given; name one with --strategy.")
    if problems:
        raise UserError(*problems)
    benchmark = Benchmark(**{k: v for k, v in parts.items() if k in Benchmark.model_fields})
    return benchmark, complete_strategy(chosen) if chosen else None, parts.get("seeds", Seeds())


# ------------------------------------------------------------------------------------------------ telling mistakes
def member_models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in member_models(part)]


def tags(model: type[pydantic.BaseModel]) -> list[str]:
    """The values of a model's tag, by which it is told from the others of its union."""
    fields = [model.model_fields[tag] for tag in ("by", "name") if tag in model.model_fields]
    return [v for field in fields for v in _literals(field.annotation)]


def _literals(annotation: Any) -> list[str]:
    """The words of every closed set in a type."""
    if typing.get_origin(annotation) is Literal:
        return [str(v) for v in typing.get_args(annotation)]
    return [v for part in typing.get_args(annotation) for v in _literals(part)]


def annotation_of(field: FieldInfo) -> Any:
    """A field's type with its constraints, as a TypeAdapter takes it."""
    extras = [*field.metadata, *([Field(discriminator=field.discriminator)] if field.discriminator else [])]
    if field.title:
        extras.append(Field(title=field.title))
    return Annotated[(field.annotation, *extras)] if extras else field.annotation


def describe(annotation: Any, plural: bool = False, limits: dict[str, Any] | None = None) -> str:
    """What a type allows, in words.

    >>> describe(Annotated[int, Field(ge=1)] | Literal["all"] | None)
    'an integer >= 1, or all'
    >>> describe(Annotated[list[BelowOne], Field(min_length=2, max_length=2)])
    'a list of 2 numbers from 0 to below 1'
    """
    limits = limits or {}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, FieldInfo) and extra.title:
                return extra.title
            for constraint in extra.metadata if isinstance(extra, FieldInfo) else [extra]:
                for name in ("gt", "ge", "lt", "le", "min_length", "max_length"):
                    if getattr(constraint, name, None) is not None:
                        limits = {**limits, name: getattr(constraint, name)}
        return describe(arguments[0], plural, limits)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(dict.fromkeys(describe(part, plural, limits) for part in _branches(annotation)))
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin is list:
        low, high = limits.get("min_length", 0), limits.get("max_length")
        count = f"{low} to {high} "
        if high is None:
            count = {0: "", 1: "one or more "}.get(low, f"at least {low} ")
        elif low == high:
            count = f"{low} "
        return f"{'lists' if plural else 'a list'} of {count}{describe(arguments[0], plural=True)}"
    if annotation in (int, float):
        words = ("integers", "numbers") if plural else ("an integer", "a number")
        return words[annotation is float] + _range(limits)
    named = {str: ("text", "texts"), bool: ("true or false",) * 2}.get(annotation)
    if named is None and (origin is dict or annotation is dict or member_models(annotation)):
        named = ("keys and values", "mappings")
    return named[plural] if named else str(getattr(annotation, "__name__", annotation))


def _range(limits: dict[str, Any]) -> str:
    """
    >>> _range({"ge": 0, "lt": 1}), _range({"gt": 0.0})
    (' from 0 to below 1', ' > 0')
    """
    if "ge" in limits and ("le" in limits or "lt" in limits):
        high = f"{limits['le']:g}" if "le" in limits else f"below {limits['lt']:g}"
        return f" from {limits['ge']:g} to {high}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and".join(f" {sign} {limits[name]:g}" for name, sign in signs.items() if name in limits)


def _locate(section: str, annotation: Any, loc: tuple[Any, ...]) -> tuple[list[str | int], Any]:
    """The user's key path of a pydantic location, and the type there (for an unknown key: the model it was given to).

    pydantic writes the branch of a union that it tried into the location; the reader of a file knows nothing of it.
    """
    path: list[str | int] = [section]
    branch = annotation
    for step in loc:
        branches = _branches(branch)
        if isinstance(step, int):
            annotation = typing.Union[tuple(_items(branch)) or (Any,)]  # noqa: UP007
        elif len(branches) > 1:
            branch = next((m for m in member_models(branch) if step in (*tags(m), m.__name__)), branch)
            continue
        else:
            owner = next(iter(member_models(branch)), None)
            field = owner.model_fields.get(step) if owner else None
            annotation = annotation_of(field) if field else owner
        path.append(step)
        branch = annotation
    return path, annotation


def _branches(annotation: Any) -> list[Any]:
    """The types of a union, None left out; of another type: itself."""
    if typing.get_origin(annotation) is Annotated:
        return _branches(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [part for part in typing.get_args(annotation) if part is not type(None)]
    return [annotation]


def _items(annotation: Any) -> list[Any]:
    """The types of the items of every list in a type."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is list:
        return list(arguments)
    return [item for part in arguments for item in _items(part)]


def _dotted(path: list[str | int]) -> str:
    """
    >>> _dotted(["stream", "tasks", "blocks", 0, 1])
    'stream.tasks.blocks[0][1]'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def where(source: str, layers: Iterable[Layer], path: list[str | int]) -> str:
    """Who gave a key: the file, one of its bases, or a flag; a mapping may be given by a file and flags together."""
    flags: list[str] = []
    for name, content in layers:
        found: Any = content
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if not name.startswith("-"):
                return f"{name} with {' and '.join(flags)}" if flags else name
            flags.insert(0, name)
            if not isinstance(found, dict):
                break
    return " and ".join(flags) or source


def _unknown_key(key: str, allowed: list[str]) -> str:
    return f"unknown key.{hint(key, allowed)} Allowed: {', '.join(allowed) or 'none'}."


def _sentence(error: Any, key: str | int, annotation: Any) -> str:
    """What is wrong, in one sentence.

    Args:
        error: one of pydantic's.
        key: the last step of the key path.
        annotation: the type that is expected there.
    """
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(str(key), list(member_models(annotation)[0].model_fields))
    if kind == "missing":
        return "required, but not given."
    if kind == "union_tag_not_found":
        return f"required, but not given. Allowed: {', '.join(t for m in member_models(annotation) for t in tags(m))}."
    if kind == "union_tag_invalid":
        given = given[key]
        annotation = Literal[tuple(t for m in member_models(annotation) for t in tags(m))]
    elif kind == "mistake":
        return f"{error['ctx']['sentence']}."
    elif kind == "value_error":
        return f"{error['ctx']['error']}."
    allowed = describe(annotation)
    if kind == "finite_number":
        allowed = allowed.replace("a number", "a finite number", 1)
    guess = ""
    if isinstance(given, str):
        guess = hint(given, _literals(annotation))
        models = member_models(annotation)
        tag = next((tag for tag in ("by", "name") if models and tag in models[0].model_fields), None)
        if tag is not None:
            guess = f" Did you mean {{{tag}: {given}}}?"
    return f"got {shown(given)}.{guess} Allowed: {allowed}."


def check_section(
    source: str, section: str, annotation: Any, value: Any, layers: Iterable[Layer]
) -> tuple[Any, list[str]]:
    """Validates one section.

    Args:
        source: where it comes from, for messages.
        section: its key.
        annotation: its type.
        value: what was given.
        layers: where single keys of it come from, for messages; may be empty.

    Returns:
        the checked value (None where it is mistaken), and one sentence for each mistake.
    """
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value), []
    except pydantic.ValidationError as failure:
        found: list[tuple[list[str | int], str, list[str | int]]] = []
        for error in failure.errors(include_url=False):
            kind, context = error["type"], error.get("ctx", {})
            path, expected = _locate(section, annotation, error["loc"])
            below = context["discriminator"].strip("'") if kind.startswith("union_tag") else context.get("key")
            giver = path[:-1] if kind == "missing" else path
            if below:  # pydantic tells of the mapping, we of the key in it
                path = [*path, below]
                giver = path if kind == "union_tag_invalid" else giver
            found.append((path, _sentence(error, path[-1], expected), giver))
    # Of a union, every branch that was tried has its say; the one that got farthest is the one that was meant.
    longest = [p for p, _, _ in found]
    lines = [
        f"{where(source, layers, giver)}: {_dotted(path)}: {sentence}"
        for path, sentence, giver in found
        if not any(len(other) > len(path) and other[: len(path)] == path for other in longest)
    ]
    return None, list(dict.fromkeys(lines))


def check_stream(stream: StreamConfig) -> list[tuple[list[str | int], str]]:
    """Mistakes that need the data set's facts (its name, its number of classes): key paths and sentences."""
    try:
        facts = registry.datasets().facts(stream.data, stream.synthetic)
    except UserError as error:
        return [(["stream", "data"], problem) for problem in error.problems]
    tasks, found = stream.tasks, []
    if isinstance(tasks, ClassTasks):
        if tasks.count is not None and tasks.count > facts.classes:
            found.append(("count", f"{tasks.count} tasks, but '{stream.data}' has {facts.classes} classes."))
        key, classes = tasks.listed() or ("", [])
        beyond = sorted({c for c in classes if c >= facts.classes})
        if beyond:
            found.append(
                (key, f"{_classes(beyond)} not in '{stream.data}', which has classes 0 to {facts.classes - 1}.")
            )
        absent = sorted(set(range(facts.classes)) - set(classes))
        if key == "order" and absent:
            found.append((key, f"{_classes(absent)} missing."))
        if tasks.labels == "within_task":
            if len({len(b) for b in tasks.blocks or []}) > 1:
                found.append(("blocks", "labels within the task need blocks of one size."))
            if tasks.count is not None and facts.classes % tasks.count:
                sentence = f"labels within the task need blocks of one size, and {facts.classes} classes"
                found.append(("count", f"{sentence} do not divide by {tasks.count}."))
    elif isinstance(tasks, RotationTasks) and not facts.image:
        found.append(("by", f"rotations need images, and '{stream.data}' holds vectors."))
    return [(["stream", "tasks", key], sentence) for key, sentence in found]


def _check_strategy(source: str, strategy: StrategyConfig, layers: list[Layer]) -> list[str]:
    """Mistakes in a strategy's name or hyper-parameters, without importing torch for strategies of the table."""
    try:
        registry.check_strategy_name(strategy.name)
    except UserError as error:
        giver = where(source, layers, ["strategy", "name"])
        return [f"{giver}: strategy.name: {problem}" for problem in error.problems]
    model = registry.strategy_config(strategy.name)
    return check_section(source, "strategy", model, strategy.parameters, layers)[1] if model else []


def complete_strategy(strategy: StrategyConfig) -> StrategyConfig:
    """The strategy with its defaults written out, so that the saved configuration says them."""
    model = registry.strategy_config(strategy.name)
    if model is None:
        return strategy
    return StrategyConfig(name=strategy.name, **model.model_validate(strategy.parameters).model_dump(mode="json"))


# ------------------------------------------------------------------------------------------------ a run
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
    benchmark, chosen, seeds = resolve(reference, overrides, strategy)
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
