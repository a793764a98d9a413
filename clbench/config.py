"""What a benchmark and a strategy may be told: frozen models, one for every key of a YAML file.

The stream's own keys are in `streams/definition.py`. The text below a field is what `clbench show` says of it.
`clbench.resolve` reads files into these models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.errors import shown
from clbench.schema import Mistake, canonical, mistake, one_of
from clbench.schema import Model as Model
from streams.definition import StreamConfig as StreamConfig


# ------------------------------------------------------------------------------------------------ model and protocol
class _Network(Model):
    weights: str | None = None
    """A file of the network's own (a state dictionary by `torch.save`): it starts with these. The last layer may be
    missing in it."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", title="64 hexadecimal digits")] | None = None
    """Of that file. Where not given it is that of the file as found; runs with other files have other ids."""


class Mlp(_Network):
    """Linear layers with ReLU between them."""

    name: Literal["mlp"]
    hidden: list[Annotated[int, Field(ge=1)]] = [400, 400]
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability by which each hidden unit is left out of an update."""


class Linear(_Network):
    """One linear layer."""

    name: Literal["linear"]


class Cnn(_Network):
    """conv3x3-ReLU-pool twice, one hidden layer: a small network for images of 8x8 and more."""

    name: Literal["cnn"]
    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=4)] = [16, 32]
    hidden: Annotated[int, Field(ge=1)] = 128


class SlimResNet18(_Network):
    """ResNet-18 with 20 initial filters (Lopez-Paz and Ranzato 2017); 64 filters give the full width."""

    name: Literal["slim_resnet18"]
    filters: Annotated[int, Field(ge=1)] = 20


class Imported(_Network):
    """A network of your own: `factory` is called with an input's shape and the number of outputs. An `nn.Sequential`
    that ends in an `nn.Linear` has a front that can be frozen."""

    name: Literal["imported"]
    factory: Annotated[
        str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", title="an import path like package.module:name")
    ]


Network = Annotated[Mlp | Linear | Cnn | SlimResNet18 | Imported, Field(discriminator="name")]

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


class Parameters(Model):
    """Hyper-parameters of a strategy; those of every strategy of the table."""

    optimizer: Optimizer | None = None
    """Instead of the benchmark's: a method's own learning rate, as papers have it; the benchmark stays the same."""

    @pydantic.model_serializer(mode="wrap")
    def _said(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `optimizer` where it is the benchmark's: ids from before there was the key stay what they are."""
        said: dict[str, Any] = serialise(self)
        return said if self.optimizer is not None else {k: v for k, v in said.items() if k != "optimizer"}


class RandomCrop(Model):
    """A window of the image's own size, at a random place of the image with zeros around it."""

    name: Literal["random_crop"]
    padding: Annotated[int, Field(ge=1)] = 4
    """Pixels of zeros on each side."""


class HorizontalFlip(Model):
    """Left and right change places."""

    name: Literal["horizontal_flip"]
    probability: Annotated[float, Field(gt=0, le=1)] = 0.5


class Rotation(Model):
    """About the centre, by an angle uniform in [-degrees, degrees]; nearest pixel, zero outside."""

    name: Literal["rotation"]
    degrees: Annotated[float, Field(gt=0, le=180)] = 15.0


class ColorJitter(Model):
    """Changes of colour, each by a factor of its own, in random order. Grey images have no saturation and no hue."""

    name: Literal["color_jitter"]
    brightness: NonNegative = 0.0
    """Factor uniform in [max(0, 1 - b), 1 + b]; likewise contrast and saturation."""
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Shift uniform in [-hue, hue], as a share of the colour circle."""

    @pydantic.model_validator(mode="after")
    def _changes_something(self) -> ColorJitter:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise mistake("needs 'brightness', 'contrast', 'saturation' or 'hue' above 0")
        return self


Augmentation = Annotated[RandomCrop | HorizontalFlip | Rotation | ColorJitter, Field(discriminator="name")]


def augmentation_mistakes(
    parts: Sequence[Augmentation], data: str, image: bool, channels: int | None = None
) -> list[Mistake]:
    """What an augmentation asks of data that cannot give it.

    Args:
        parts: `training.augmentation`.
        data: what sentences call the data set.
        image: whether samples are images.
        channels: of an image; None where that is not known yet.

    Returns:
        Key paths below `training`, each with a sentence.
    """
    if not image:
        return [(["augmentation"], f"needs images, and {data} holds vectors.")] if parts else []
    problems: list[Mistake] = []
    for i, part in enumerate(parts):
        if not isinstance(part, ColorJitter) or channels in (None, 3):
            continue
        if channels != 1:
            problems.append((["augmentation", i], f"needs images of 1 or 3 channels, and {data} has {channels}."))
            continue
        for key in ("saturation", "hue"):  # torchvision leaves grey images as they are, without a word
            if getattr(part, key):
                problems.append((["augmentation", i, key], f"needs images of 3 channels, and {data} has 1."))
    return problems


class Training(Model):
    """The budget of learning, the same for every strategy on a benchmark."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Passes over the data of each experience."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Updates in each experience, instead of `epochs`; the data is reshuffled whenever it has been seen."""
    budget: Literal["experience", "stream"] = "experience"
    """What `epochs` or `iterations` count: each experience, or the whole stream, whose updates (`epochs`: passes over
    its different samples) its experiences share in proportion to their samples."""
    batch_size: Annotated[int, Field(ge=1)]
    drop_last: bool = False
    """Whether the last batch of a pass is left out where it is smaller than the others."""
    optimizer: Optimizer
    optimizer_state: Literal["keep", "reset"] = "keep"
    """What happens to the optimiser's state (moments) at the start of each experience."""
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    """Of the labels: cross-entropy, or half the squared distance of the outputs from the one-hot label."""
    active_outputs: Literal["all", "seen", "task", "batch"] | None = None
    """Outputs that take part in the training loss: all, those of classes seen, the task's own, or those that occur in
    the batch (group masking). Default: the task's own in the task setting, else all."""
    augmentation: list[Augmentation] = []
    """Random changes of training images as they are stored, in this order, drawn anew each time a sample comes."""

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Training:
        one_of(self, "epochs", "iterations")
        return self


View = Literal["class", "task", "domain"]


class Evaluation(Model):
    """When and on what the learner is watched."""

    every: Annotated[int, Field(ge=0)] = 1
    """Period in iterations, counted within each visit (an experience, or what sub-experiences were cut from); 0: only
    before and after each visit."""
    dense: Annotated[int, Field(ge=0)] = 0
    """Iterations at the start of each visit that are all evaluated, whatever the period."""
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
            raise mistake(f"got {shown(self.views)}. Allowed: each value once", "views")
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
                raise mistake(f"got {shown(values)}. Allowed: each value once", key)
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
    amp: Literal["bfloat16"] | None = None
    """Forward passes of training under torch's autocast to this type; parameters and evaluation stay in `dtype`."""
    fused: bool = False
    """Whether optimisers take a whole step in one kernel: sooner done, with other last bits."""

    @property
    def off(self) -> set[str]:
        """Options that are not used."""
        return {name for name in ("amp", "fused") if not getattr(self, name)}


def _finite(value: Any) -> Any:
    try:
        canonical(value)
    except ValueError:
        raise mistake(f"got {shown(value)}. Allowed: finite numbers") from None
    return value


class StrategyConfig(pydantic.BaseModel):
    """A strategy by name or import path, with its hyper-parameters beside it; each strategy has its own model."""

    model_config = pydantic.ConfigDict(extra="allow", frozen=True, strict=True)

    name: str
    __pydantic_extra__: dict[str, Annotated[Any, pydantic.AfterValidator(_finite)]] = Field(init=False)

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Protocol(Model):
    """What a strategy may know. One that needs what is denied is refused before it runs."""

    task_in_training: bool = True
    """Whether it is told the tasks of an experience."""
    task_at_test: bool | None = None
    """Whether it is told the task of a test sample. Default: in the task setting."""
    boundaries: bool = True
    """Whether it is told where experiences begin and end. If not, the stream is one long experience to it."""


def knows_task_at_test(setting: str, task_at_test: bool | None) -> bool:
    """Whether a strategy knows the task of a test sample; by default in the task setting alone.

    Args:
        setting: of the stream.
        task_at_test: of the protocol.
    """
    return setting == "task" if task_at_test is None else task_at_test


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
    protocol: Protocol = Protocol()

    @property
    def task_at_test(self) -> bool:
        """Whether a strategy knows the task of a test sample."""
        return knows_task_at_test(self.stream.setting, self.protocol.task_at_test)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        for key, sentence in contradictions(self.stream, self.training, self.protocol):
            raise mistake(sentence, key)
        return self


def contradictions(stream: StreamConfig, training: Training, protocol: Protocol) -> list[tuple[str, str]]:
    """Sections that do not fit each other: key paths, and sentences without a full stop."""
    setting, active = stream.setting, training.active_outputs
    if active is None and setting == "task":
        active = "task"
    denied, found = "which needs the boundaries that the protocol denies", []
    by_default, chosen = knows_task_at_test(setting, None), knows_task_at_test(setting, protocol.task_at_test)
    if setting != "domain" and chosen != by_default:
        sentence = f"got {str(chosen).lower()}. Allowed in the setting '{setting}': {str(by_default).lower()}"
        found.append(("protocol.task_at_test", sentence))
    if not protocol.task_in_training and active == "task":
        found.append(("training.active_outputs", "got 'task', which needs the tasks that the protocol denies"))
    if not protocol.boundaries and active == "seen":
        found.append(("training.active_outputs", f"got 'seen', {denied}"))
    if not protocol.boundaries and training.optimizer_state == "reset":
        found.append(("training.optimizer_state", f"got 'reset', {denied}"))
    return found


class Seeds(Model):
    """Seeds of single axes, where they shall not follow the run's."""

    stream: Annotated[int, Field(ge=0)] | None = None
    init: Annotated[int, Field(ge=0)] | None = None
    order: Annotated[int, Field(ge=0)] | None = None
    augmentation: Annotated[int, Field(ge=0)] | None = None
    strategy: Annotated[int, Field(ge=0)] | None = None

    def for_stream(self, run_seed: int) -> int:
        """Seed that the stream of a run is compiled with.

        >>> Seeds().for_stream(3), Seeds(stream=0).for_stream(3)
        (3, 0)
        """
        return run_seed if self.stream is None else self.stream


class Tuning(Model):
    """How a strategy's hyper-parameters came to be what they are: part of what a row is."""

    by: Literal["first", "stream", "test"]
    """Chosen on the first experiences, tested on training samples put aside; on another stream; or on the test samples
    of the stream that is then reported."""
    experiences: Annotated[int, Field(ge=1)] | None = None
    """Of `first`."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `first`: share of each class's training samples that was put aside."""
    definition_hash: str
    """Of the benchmark that trials ran on."""
    metric: str
    """What was best."""
    search: Literal["grid", "optuna"]
    trials: Annotated[int, Field(ge=1)]
    """Configurations that were tried."""
    seeds: list[Annotated[int, Field(ge=0)]]
    """Of each trial."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Runs of trials that failed."""
    updates: Annotated[int, Field(ge=0)]
    """Of all trials together: what choosing cost."""
