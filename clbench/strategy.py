"""The protocol of a strategy: a way to learn from a stream.

A method usually overrides `loss` alone. It knows its model, its generator, the current experience, and the
samples seen so far; it knows nothing of files, evaluation, or later experiences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeGuard

import numpy as np
import pydantic

from clbench import moved
from clbench.config.training import Parameters, Training
from clbench.lazy import F, torch
from clbench.rng import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Knowledge = Literal["task_in_training", "task_at_test", "boundaries"]
"""Information that a protocol may deny; see `clbench.config.benchmark.Protocol`."""


class NoParameters(Parameters):
    """Config of a strategy without hyper-parameters."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch.

    Attributes:
        x: inputs, float32 (N, ...).
        y: targets, int64 (N,); of a regression float32 (N, D).
        index: rows of the training set, int64 (N,); the entries of a replay buffer.
        task: the task (or variant) of every sample: one number, or int64 (N,) where tasks are mixed. It is the handle
            by which `Samples.fetch` finds the sample's input; as knowledge it needs `needs`.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    task: Tensor | int


@dataclass(frozen=True)
class Experience:
    """Information about the current experience that a strategy may use under the protocol.

    `clbench.stream.StreamExperience` is the experience itself, which only the runner has.

    Attributes:
        number: 0..V-1.
        tasks: ids of the tasks in it, ascending; empty where the protocol denies them in training.
        outputs: output units of these tasks, ascending.
        index: rows of the training set, int64 (N,), on the host.
        task: the task (or variant) of each row, int64 (N,), on the host, for `Samples.fetch`.
        part, parts: which sub-experience of its origin it is, from 0, and of how many; 0 of 1 where it is whole.
        unlabelled: rows that come without a label, int64 (M,).
        unlabelled_task: the task of each, int64 (M,).
    """

    number: int
    tasks: tuple[int, ...]
    outputs: tuple[int, ...]
    index: NDArray[np.int64]
    task: NDArray[np.int64]
    part: int
    parts: int
    unlabelled: NDArray[np.int64]
    unlabelled_task: NDArray[np.int64]


class Samples(Protocol):
    """The training samples, by row and task; those of experiences to come are out of reach.

    Attributes:
        classes: different classes of the stream's tasks.
        sample_bytes: bytes of one stored sample and its label, as a buffer of copies would hold them.
    """

    classes: int
    sample_bytes: int

    def fetch(self, index: Tensor, task: Tensor | int, *, plain: bool = False) -> tuple[Tensor, Tensor]:
        """Inputs and targets of rows of the training set.

        Args:
            index: rows, int64 (N,), on the device.
            task: the task (or variant) of all, or of each.
            plain: whether samples are returned without augmentation: for class means, herding.

        Returns:
            x (N, ...) float32 and y (N,) int64, -1 for a sample without a label; of a regression y (N, D) float32.

        Raises:
            RunFailed: samples of experiences to come. On a GPU, where looking would mean waiting, the process ends with
                a device-side assertion.
        """
        ...

    def labels_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Training labels of rows, on the host, (N,); -1 for unlabelled samples."""
        ...


@moved.old_keywords
@dataclass(frozen=True)
class Setup:
    """Arguments of a strategy from the runner.

    Attributes:
        model: the freshly initialised network, on the device.
        make_optimizer: parameters, or pairs of a name and a parameter as of `named_parameters`, -> the benchmark's
            optimiser. Names decide the rates of named parts (`training.rates`).
        samples: see `Samples`.
        training: the budget.
        generator: the strategy's random generator.
        new_generator: makes a further, independent generator for a name; the strategy saves its state.
        outputs: number of output units.
        task_outputs: output units of each task and variant, lists.
        input_shape: of one sample.
        device: where the model is.
        autocast: a context for forward passes and losses of training; it changes nothing but where `numerics.amp` asks.
        mark_updated: to be called after a change of the predictions without an update, such as new class means between
            two stages of `end_experience`: an evaluation follows at once. The end of `begin_experience`, every
            update and the end of `end_experience` are evaluated anyway.
        adapt: makes a factory of optimisers take named parameters and follow the benchmark's recipe.
        label_smoothing: `training.label_smoothing` of the current experience.
    """

    model: nn.Module
    make_optimizer: Callable[[Iterable[Any]], torch.optim.Optimizer]
    samples: Samples
    training: Training
    generator: Generator
    new_generator: Callable[[str], Generator]
    outputs: int
    task_outputs: tuple[tuple[int, ...], ...]
    input_shape: tuple[int, ...]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    mark_updated: Callable[[], None] = lambda: None
    adapt: Callable[[Callable[[Any], torch.optim.Optimizer]], Callable[[Any], torch.optim.Optimizer]] = lambda make: (
        make
    )
    label_smoothing: Callable[[], float] = lambda: 0.0
    another = moved.OldAttribute()
    changed = moved.OldAttribute()


@dataclass(frozen=True)
class Memory:
    """Memory that a strategy keeps beside the model and its optimiser; None where unknown.

    Attributes:
        samples: past samples held.
        bytes: size of the samples as copies, and of all else: logits, importances, anchors, class means.
    """

    samples: int | None = 0
    bytes: int | None = 0


class Learner:
    """The contract between a strategy and a run.

    It keeps no state of training, so that a composition of strategies and the host of another framework's derive from
    it too. A method derives from `Strategy`.

    Args:
        config: hyper-parameters, an instance of its `Config`.
        setup: model, data and sources of randomness from the runner.

    Attributes:
        model: the network to predict with.
        optimizer: the optimiser that `step` uses; a strategy that drives itself may have none.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer

    Config: ClassVar[type[pydantic.BaseModel]] = NoParameters
    learns_by_outputs: ClassVar[bool] = True
    """True if the training objective is a loss of the model's outputs. Otherwise, as with a head that predicts in one
    way and is trained in another, it does not compose with a method that needs the outputs' gradients."""
    differentiates_outputs: ClassVar[bool] = False
    """True if the method needs gradients of a function of `model(x)` beside that of the update."""
    regresses: ClassVar[bool] = False
    """True if the method is valid where numbers are to be predicted, y float32 (N, D). Each class says so itself; it is
    not inherited."""
    transient: ClassVar[tuple[str, ...]] = ()
    """Names of attributes that are rebuilt where they are needed, such as caches: a resumed run does not miss them, and
    `state_dict` may leave them out. Others are compared, see `state_dict`."""
    access: Literal["experience", "past", "stream"] = "experience"
    """Data of one training phase: the experience; all up to it (`cumulative`); the whole stream (`joint`)."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Information that the method requires; a protocol that denies it refuses the method."""
        return frozenset()

    @classmethod
    def optimizer_maker(cls, config: Any, setup: Setup) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        """Factory of the optimiser of some parameters; a method that is an optimiser overrides it."""
        return setup.make_optimizer

    @classmethod
    def recipe_maker(cls, config: Any, setup: Setup) -> Callable[[Iterable[Any]], torch.optim.Optimizer]:
        """The factory of `optimizer_maker`, which takes named parameters too and follows the benchmark's recipe."""
        make = cls.optimizer_maker(config, setup)
        return make if make is setup.make_optimizer else setup.adapt(make)

    def __init__(self, config: Any, setup: Setup) -> None:
        self.config = config
        self.setup = setup

    def begin_experience(self, experience: Experience) -> None:
        """Called before the first update of an experience; not again where a run resumes within one, see
        `load_state_dict`."""

    def step(self, batch: Batch) -> Tensor:
        """One iteration: forward, loss, backward, optimiser. Returns the loss, a scalar without a graph."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.setup.autocast():
            loss = self.loss(batch)
            penalty = self.penalty()
            if penalty is not None:
                loss = loss + penalty
        loss.backward()  # type: ignore[no-untyped-call]
        self.before_update(batch)
        self.optimizer.step()
        self.after_update(batch)
        return loss.detach()

    def loss(self, batch: Batch) -> Tensor:
        """Training objective on a batch, a scalar."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """Penalty added to the loss, a scalar function of the parameters alone; None where there is none."""
        return None

    def before_update(self, batch: Batch) -> None:
        """Called after the backward pass: a method may change the gradients."""

    def after_update(self, batch: Batch) -> None:
        """Called after the optimiser's step: the batch may be stored."""

    def end_experience(self, experience: Experience) -> None:
        """Called after the last update of an experience: consolidation, class means, buffers."""

    def available(self) -> bool:
        """True once the strategy can predict; `predict` is not called before."""
        return True

    def refresh(self) -> None:
        """Computes what predictions rest on and training does not, such as weights in closed form.

        Called before every evaluation, however many updates come between two; what is learnt must not depend on that.
        A method that overrides it calls it at the end of an experience and in `state_dict` too.
        """

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        """Scores (N, outputs), higher is likelier, or None where there is nothing to predict with yet.

        Args:
            model: a read-only twin of `self.model` in evaluation mode; use it, not `self.model`.
            x: inputs (N, ...).
            task: the task of each sample where the protocol grants it at test time, else None.
        """
        scores: Tensor = model(x)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """State to resume from, as tensors, arrays and plain values: all that training changes.

        At checkpoints of a strategy that is not built-in, another one of the same configuration loads it, and the
        attributes of both are compared. If one differs that is not in `transient`, a warning names it, and the run
        restarts when it is stopped.
        """
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken.

        A resumed run constructs the strategy and calls this next. If it was stopped within an experience,
        `begin_experience` is called again only for the following one. Objects that `begin_experience` makes, such as a
        scheduler, are therefore made here too, before the optimiser's state is loaded: a scheduler sets learning rates.
        """
        raise NotImplementedError

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the past samples held now, and the task of each, (n,) and (n,)."""
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def memory(self) -> Memory:
        """Memory in use; a method that keeps more than samples adds it here."""
        samples = len(self.held()[0])
        return Memory(samples, samples * self.setup.samples.sample_bytes)

    def report(self) -> dict[str, float]:
        """Figures of the method at the end of a run, by name, for its record."""
        return {}


class Strategy(Learner):
    """Fine-tuning on incoming data: the base of all methods, and itself the strategy `naive`.

    Args:
        config: the strategy's hyper-parameters, an instance of its `Config`.
        setup: see `Setup`.
    """

    visits = moved.OldAttribute()
    regresses = True

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self.model = setup.model
        self.maker = self.recipe_maker(config, setup)
        self.optimizer = self.maker(self.model.named_parameters())
        self.experiences = 0
        """Experiences begun so far; the number of the current one, counted from 1."""
        self.task_blocks = 0
        """The same, where the pieces of one that was cut (a task block) count once."""
        self._outputs_seen: set[int] = set()
        self._active = self._active_outputs()

    def begin_experience(self, experience: Experience) -> None:
        if self.experiences and self.setup.training.optimizer_state == "reset":
            self.optimizer = self.maker(self.model.named_parameters())
        self.experiences += 1
        self.task_blocks += experience.part == 0
        self._outputs_seen.update(experience.outputs)
        self._active = self._active_outputs()

    def loss(self, batch: Batch) -> Tensor:
        return self.criterion(self.model(batch.x), batch.y, batch.task)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "experiences": self.experiences,
            "visits": self.task_blocks,
            "outputs_seen": sorted(self._outputs_seen),
            "generator": self.setup.generator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.experiences, self.task_blocks = state["experiences"], state["visits"]
        self._outputs_seen = set(state["outputs_seen"])
        self._active = self._active_outputs()
        self.setup.generator.load_state_dict(state["generator"])

    # -------------------------------------------------------------------------------- for methods
    def criterion(self, logits: Tensor, y: Tensor, task: Tensor | int) -> Tensor:
        """Mean of `training.loss` over the active logits, see `training.active_outputs`.

        Args:
            logits: (N, outputs).
            y: targets, int64 (N,); of a regression float32 (N, outputs).
            task: of all samples, or of each, int64 (N,).
        """
        if y.is_floating_point():
            error = logits - y
            return error.abs().mean() if self.setup.training.loss == "absolute_error" else 0.5 * error.square().mean()
        allowed: Tensor | None = None
        if self.setup.training.active_outputs == "batch":
            allowed = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
            allowed[y] = True
        elif self._active is not None:
            allowed = self._active[task]
        if self.setup.training.loss == "squared_error":
            error = logits - F.one_hot(y, logits.shape[1])
            return 0.5 * (error if allowed is None else error * allowed).square().sum(1).mean()
        masked = logits if allowed is None else logits.masked_fill(~allowed, float("-inf"))
        smoothing = self.setup.label_smoothing()
        return smoothed_cross_entropy(masked, y, smoothing) if smoothing else F.cross_entropy(masked, y)

    def plain_batches(self, experience: Experience, size: int = 1000) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The labelled samples of an experience, once each in its order and not augmented: inputs, targets, tasks.

        Args:
            experience: whose samples.
            size: of a batch.
        """
        for a in range(0, len(experience.index), size):
            index, task = (
                torch.from_numpy(v[a : a + size]).to(self.setup.device) for v in (experience.index, experience.task)
            )
            yield *self.setup.samples.fetch(index, task, plain=True), task

    def _active_outputs(self) -> Tensor | None:
        """Which outputs are active for samples of each task, bool (T, outputs); None where all are."""
        mode = self.setup.training.active_outputs
        if mode in (None, "all", "batch"):
            return None
        tasks = self.setup.task_outputs
        active = torch.zeros((len(tasks), self.setup.outputs), dtype=torch.bool, device=self.setup.device)
        for t, units in enumerate(tasks):
            active[t, sorted({*units, *self._outputs_seen}) if mode == "seen" else list(units)] = True
        return active


def smoothed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float, reduction: str = "mean") -> Tensor:
    """Cross-entropy with targets of which a share is spread evenly over the active outputs.

        L = -(1 - s) log p_y - s/A sum over the A active outputs k of log p_k

    That of torch on the active columns alone; on logits that are masked by -inf torch's is infinite.

    Args:
        logits: (N, outputs), -inf where an output is not active.
        y: targets, int64 (N,).
        smoothing: s, in [0, 1).
        reduction: "mean", "sum" or "none".

    >>> masked = torch.tensor([[1.0, 2.0, float("-inf")]])
    >>> bool(smoothed_cross_entropy(masked, torch.tensor([0]), 0.1)
    ...      == F.cross_entropy(masked[:, :2], torch.tensor([0]), label_smoothing=0.1))
    True
    """
    log_p = logits.log_softmax(1)
    masked = logits == float("-inf")
    spread = -log_p.masked_fill(masked, 0.0).sum(1) / (~masked).sum(1)
    each = (1 - smoothing) * F.nll_loss(log_p, y, reduction="none") + smoothing * spread
    return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; after it every module is in the mode in which it was, frozen ones too."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Watcher:
    """Callbacks of a strategy that drives itself, the runner's side of `SelfDriven.fit`."""

    def before_first_update(self) -> None:
        """Called when the model is ready for the first update of the experience."""

    def after_iteration(self, loss: Tensor) -> bool:
        """Called after each update. Returns True while the budget allows another one."""
        return True


class SelfDrivenLearner(Learner):
    """The contract of a strategy with a training loop, such as one of another framework."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        return frozenset({"boundaries"})  # its loop is called once for each experience

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        """Trains on an experience, calling the watcher at every iteration.

        Args:
            experience: the training data.
            iterations: updates that the budget allows; a strategy may do fewer.
            watcher: to be called before the first update and after each.
        """
        raise NotImplementedError


class SelfDriven(SelfDrivenLearner, Strategy):
    """A strategy with a custom training loop."""


def is_strategy(candidate: Any) -> TypeGuard[type[Learner]]:
    """True if an object is the class of a strategy, and not of another framework or a function."""
    return isinstance(candidate, type) and issubclass(candidate, Learner)
