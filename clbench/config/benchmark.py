"""Configuration models of a benchmark and a strategy: frozen, one for every key of a YAML file.

The keys of the stream are in `streams/definition.py`. `clbench show` prints the text below a field.
`clbench.resolve` reads files into these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.evaluation import Evaluation
from clbench.config.networks import Network
from clbench.config.training import Training
from clbench.errors import shown
from clbench.schema import Model, canonical, mistake
from clbench.streams.definition import StreamConfig


class Numerics(Model):
    """Settings that determine the last bits of a result."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of torch. Default of a single run: 1 for a small network, else the machine's cores."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of training. Default of a single run: a GPU if there is one."""
    dtype: Literal["float32"] = "float32"
    """Floating-point type of parameters and inputs."""
    deterministic: bool = True
    """Deterministic algorithms of torch where they exist."""
    amp: Literal["bfloat16"] | None = None
    """Forward passes of training under torch's autocast to this type; parameters and evaluation stay in `dtype`."""
    fused: bool = False
    """Fused optimisers, a whole step in one kernel: faster, with other last bits."""

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
    """Information available to a strategy. A strategy that requires denied information is refused before it runs."""

    task_in_training: bool = True
    """Task labels of training samples are available."""
    task_at_test: bool | None = None
    """Task labels of test samples are available. Default: in the task setting."""
    boundaries: bool = True
    """Boundaries of experiences are available. If not, the strategy sees the stream as one long experience."""


def knows_task_at_test(setting: str, task_at_test: bool | None) -> bool:
    """True if task labels of test samples are available to a strategy; by default in the task setting alone.

    Args:
        setting: of the stream.
        task_at_test: of the protocol.
    """
    return setting == "task" if task_at_test is None else task_at_test


class Benchmark(Model):
    """A benchmark's file: stream, model, training budget and evaluation protocol under an id.

    The ids of shipped ones end in a version, `-v1`; others may.
    """

    id: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$",
            max_length=80,
            title="a name like my_digits or split_digits-v1 (letters, digits, _, - and . within; up to 80 characters)",
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
        """True if task labels of test samples are available to a strategy."""
        return knows_task_at_test(self.stream.setting, self.protocol.task_at_test)

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Benchmark:
        for key, sentence in contradictions(self.stream, self.training, self.protocol, self.model):
            raise mistake(sentence, key)
        return self


def contradictions(
    stream: StreamConfig, training: Training, protocol: Protocol, model: Network | None = None
) -> list[tuple[str, str]]:
    """Sections that do not fit each other: key paths, and sentences without a full stop."""
    setting, active = stream.setting, training.active_outputs
    if active is None and setting == "task":
        active = "task"
    denied, mistakes = "which needs the boundaries that the protocol denies", []
    by_default, granted = knows_task_at_test(setting, None), knows_task_at_test(setting, protocol.task_at_test)
    if setting != "domain" and granted != by_default:
        sentence = f"got {str(granted).lower()}. Allowed in the setting '{setting}': {str(by_default).lower()}"
        mistakes.append(("protocol.task_at_test", sentence))
    if not protocol.task_in_training and active == "task":
        mistakes.append(("training.active_outputs", "got 'task', which needs the tasks that the protocol denies"))
    if not protocol.boundaries and active == "seen":
        mistakes.append(("training.active_outputs", f"got 'seen', {denied}"))
    if not protocol.boundaries and training.optimizer_state == "reset":
        mistakes.append(("training.optimizer_state", f"got 'reset', {denied}"))
    head = None if model is None else model.head
    if head is not None and head.growing:
        if not protocol.boundaries:
            mistakes.append(("model.head.growing", f"got true, {denied}"))
        if training.active_outputs == "all":
            allowed = "Allowed with a growing head: seen, task, batch"
            mistakes.append(("training.active_outputs", f"got 'all'. {allowed}"))
    if head is not None and head.multi:
        if not (granted and protocol.task_in_training):
            asked = "set protocol.task_at_test to true" if setting == "domain" else "take the setting task"
            asked = asked if protocol.task_in_training else "set protocol.task_in_training to true"
            sentence = f"got true, which needs the task of each sample, in training and at test; {asked}"
            mistakes.append(("model.head.multi", sentence))
        if training.active_outputs not in (None, "task"):
            sentence = f"got '{training.active_outputs}'. Allowed with a multi head: task"
            mistakes.append(("training.active_outputs", sentence))
    if not protocol.boundaries and training.schedule is not None and training.schedule.over == "experience":
        mistakes.append(("training.schedule.over", f"got 'experience', {denied}. Allowed: stream"))
    if not protocol.boundaries and training.experiences:
        numbers = ", ".join(training.experiences)
        mistakes.append(("training.experiences", f"got settings of experience {numbers}, {denied}"))
    return mistakes


class Seeds(Model):
    """Seeds of single sources of randomness that do not follow the run's."""

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
    """Selection of a strategy's hyper-parameters: part of the identity of a row."""

    by: Literal["first", "stream", "test"]
    """Selected on the first experiences, tested on held-out training samples; on another stream; or on the test samples
    of the reported stream."""
    experiences: Annotated[int, Field(ge=1)] | None = None
    """Of `first`."""
    held_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of `first`: share of each class's training samples that was held out."""
    definition_hash: str
    """Of the benchmark that trials ran on."""
    metric: str
    """Selection metric."""
    search: Literal["grid", "optuna"]
    trials: Annotated[int, Field(ge=1)]
    """Number of configurations tried."""
    seeds: list[Annotated[int, Field(ge=0)]]
    """Of each trial."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Runs of trials that failed."""
    updates: Annotated[int, Field(ge=0)]
    """Of all trials together: the cost of selection."""
