"""What a benchmark and a strategy may be told: frozen models, one for every key of a YAML file, and their hashes.

The text below a field is what `clbench show` says of it. `clbench.resolve` reads files into these models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from clbench.errors import shown


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
        raise _mistake(f"{name_classes(twice)} listed twice")


def name_classes(found: Iterable[int]) -> str:
    """
    >>> name_classes([3]), name_classes([3, 5])
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


View = Literal["class", "task", "domain"]


class Evaluation(Model):
    """When and on what the learner is watched."""

    every: Annotated[int, Field(ge=0)] = 1
    """Period in iterations, counted within each experience; 0: only before and after each experience."""
    dense: Annotated[int, Field(ge=0)] = 0
    """Iterations at the start of each experience that are all evaluated, whatever the period."""
    scope: Literal["seen", "all"] = "seen"
    """Cells evaluated after an iteration. Points before a first update evaluate all."""
    subset: Annotated[int, Field(ge=1)] | None = None
    """Test samples of each task that are used, drawn once by the stream seed and stratified by class; null: all."""
    views: Annotated[list[View], Field(min_length=1)] | None = None
    """Outputs that compete: all seen classes, the task's own, all. Default: the setting's, and task beside class."""
    batch_size: Annotated[int, Field(ge=1)] = 1000
    """Most samples of a forward pass; fewer where activations are large. It can change the last bit of a logit."""

    @pydantic.model_validator(mode="after")
    def _distinct(self) -> Evaluation:
        if self.views is not None and len(set(self.views)) < len(self.views):
            raise _mistake(f"got {shown(self.views)}. Allowed: each value once", "views")
        return self


class Watch(Model):
    """What is recorded beside the counts, and how the model is asked. Nothing here changes training or the counts."""

    bits: bool | None = None
    """Whether each test sample is recorded as right or wrong. Default: where that takes up to 128 MiB uncompressed."""
    precision: Literal["auto", "float32"] = "auto"
    """auto: bfloat16 and int8 decide what they decide safely, where the processor is fast; counts are float32's."""
    ema: list[BelowOne] = []
    """Decays of exponential moving averages of the weights, each evaluated beside the weights themselves."""
    last: list[Annotated[int, Field(ge=2)]] = []
    """Numbers of last updates whose mean weights are evaluated beside the weights themselves."""
    gradients: bool = False
    """Whether gradient norms are recorded, of each update and of each task's test loss. Several times the cost."""
    features: bool = False
    """Whether the movement of each task's features is recorded. About twice the cost."""

    @pydantic.model_validator(mode="after")
    def _distinct(self) -> Watch:
        for key in ("ema", "last"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise _mistake(f"got {shown(values)}. Allowed: each value once", key)
        return self


class Numerics(Model):
    """What decides the last bits of a result."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of torch. A single run takes the machine's cores unless told."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the model is trained. A single run takes a GPU where there is one unless told."""
    dtype: Literal["float32"] = "float32"
    """Floating-point type of parameters and inputs."""
    deterministic: bool = True
    """Whether torch is to use deterministic algorithms where it has them."""


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
    strategy: Annotated[int, Field(ge=0)] | None = None


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
