"""The protocol of a strategy: a way to learn from a stream.

A method usually overrides `loss` alone. It knows its model, its own generator, the experience it is in, and the
samples it has met; it knows nothing of files, evaluation, or later experiences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeGuard

import numpy as np
import pydantic

from clbench.config.training import Parameters, Training
from clbench.lazy import F, torch
from clbench.rng import Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

Knowledge = Literal["task_in_training", "task_at_test", "boundaries"]
"""What a protocol may deny; see `clbench.config.benchmark.Protocol`."""


class NoParameters(Parameters):
    """A strategy without hyper-parameters of its own."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch.

    Attributes:
        x: inputs, float32 (N, ...).
        y: targets, int64 (N,).
        index: rows of the training set, int64 (N,); what a replay buffer stores.
        task: the task (or variant) of every sample: one number, or int64 (N,) where tasks are mixed. It is the handle
            by which `Samples.fetch` finds the sample's input; as knowledge it needs `needs`.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    task: Tensor | int


@dataclass(frozen=True)
class Experience:
    """What a strategy may know of the experience it is in.

    Attributes:
        number: 0..V-1.
        tasks: ids of the tasks in it, ascending; empty where the protocol denies them in training.
        outputs: output units of these tasks, ascending.
        index: rows of the training set, int64 (N,), on the host.
        task: the task (or variant) of each row, int64 (N,), on the host: what `Samples.fetch` needs.
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
            plain: whether samples come as they are stored, where others are augmented: for class means, herding.

        Returns:
            x (N, ...) float32 and y (N,) int64, -1 for a sample without a label.

        Raises:
            RunFailed: samples of experiences to come. On a GPU, where looking would mean waiting, the process ends with
                a device-side assertion.
        """
        ...

    def labels_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The classes of rows as the learner is told them, on the host, (N,); -1 where it is told none."""
        ...


@dataclass(frozen=True)
class Setup:
    """What the runner hands to a strategy.

    Attributes:
        model: the freshly initialised network, on the device.
        make_optimizer: parameters -> the benchmark's optimiser.
        samples: see `Samples`.
        training: the budget.
        generator: the strategy's own source of chance.
        another: makes a further source, independent of it, for a name; its state is the strategy's to save.
        outputs: number of output units.
        task_outputs: output units of each task and variant, lists.
        input_shape: of one sample.
        device: where the model is.
        autocast: a context for forward passes and losses of training; it changes nothing but where `numerics.amp` asks.
        changed: to be called after a change of what is predicted that is no update, such as new class means between
            two stages of `end_experience`: it is evaluated there and then. The end of `begin_experience`, every
            update and the end of `end_experience` are evaluated anyway.
    """

    model: nn.Module
    make_optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    samples: Samples
    training: Training
    generator: Generator
    another: Callable[[str], Generator]
    outputs: int
    task_outputs: tuple[tuple[int, ...], ...]
    input_shape: tuple[int, ...]
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    changed: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Memory:
    """What a strategy keeps of the past, beside the model and its optimiser; None where unknown.

    Attributes:
        samples: past samples held.
        bytes: what they would take as copies, and what all else takes: logits, importances, anchors, class means.
    """

    samples: int | None = 0
    bytes: int | None = 0


class Learner:
    """The contract of a strategy: all that a run asks of one.

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
    """Whether what is learnt from data is a loss of the model's outputs. Where it is not, as with a head that predicts
    in one way and is trained in another, nothing that looks at the outputs' gradients can stand beside it."""
    differentiates_outputs: ClassVar[bool] = False
    """Whether it looks at them itself: at gradients of a function of `model(x)` beside that of the update."""
    access: Literal["experience", "past", "stream"] = "experience"
    """Data of one training phase: the experience; all up to it (`cumulative`); the whole stream (`joint`)."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """What the method must be told; it is refused by a protocol that denies it."""
        return frozenset()

    @classmethod
    def optimizer_maker(cls, config: Any, setup: Setup) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        """What makes the optimiser of some parameters; a method that is an optimiser brings its own."""
        return setup.make_optimizer

    def __init__(self, config: Any, setup: Setup) -> None:
        self.config = config
        self.setup = setup

    def begin_experience(self, experience: Experience) -> None:
        """Called before the first update of an experience."""

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
        """What is minimised on a batch, a scalar."""
        raise NotImplementedError

    def penalty(self) -> Tensor | None:
        """What is minimised beside it, a scalar function of the parameters alone; None where there is none."""
        return None

    def before_update(self, batch: Batch) -> None:
        """Called when the gradients are there: a method may change them."""

    def after_update(self, batch: Batch) -> None:
        """Called after the optimiser's step: what has been learnt from may be remembered."""

    def end_experience(self, experience: Experience) -> None:
        """Called after the last update of an experience: consolidation, class means, buffers."""

    def available(self) -> bool:
        """Whether there is something to predict with yet; `predict` is not asked before."""
        return True

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        """Scores (N, outputs), higher is likelier, or None where there is nothing to predict with yet.

        Args:
            model: a read-only twin of `self.model` in evaluation mode; use it, not `self.model`.
            x: inputs (N, ...).
            task: the task of each sample where the protocol tells it at test time, else None.
        """
        scores: Tensor = model(x)
        return scores

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, as tensors and plain values."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        raise NotImplementedError

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the past samples held now, and the task of each, (n,) and (n,)."""
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    def memory(self) -> Memory:
        """What is kept of the past now; one that keeps more than samples adds it here."""
        samples = len(self.held()[0])
        return Memory(samples, samples * self.setup.samples.sample_bytes)

    def report(self) -> dict[str, float]:
        """Figures of the method's own at the end of a run, by name, for its record."""
        return {}


class Strategy(Learner):
    """Fine-tuning on what comes: the base of all methods, and itself the strategy `naive`.

    Args:
        config: the strategy's hyper-parameters, an instance of its `Config`.
        setup: what the runner gives.
    """

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self.model = setup.model
        self.maker = self.optimizer_maker(config, setup)
        self.optimizer = self.maker(self.model.parameters())
        self.experiences = 0
        """Experiences begun so far; the number of the current one, counted from 1."""
        self.visits = 0
        """The same, where one that is cut into pieces counts once."""
        self._outputs_seen: set[int] = set()
        self._active = self._active_outputs()

    def begin_experience(self, experience: Experience) -> None:
        if self.experiences and self.setup.training.optimizer_state == "reset":
            self.optimizer = self.maker(self.model.parameters())
        self.experiences += 1
        self.visits += experience.part == 0
        self._outputs_seen.update(experience.outputs)
        self._active = self._active_outputs()

    def loss(self, batch: Batch) -> Tensor:
        return self.criterion(self.model(batch.x), batch.y, batch.task)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "experiences": self.experiences,
            "visits": self.visits,
            "outputs_seen": sorted(self._outputs_seen),
            "generator": self.setup.generator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.experiences, self.visits = state["experiences"], state["visits"]
        self._outputs_seen = set(state["outputs_seen"])
        self._active = self._active_outputs()
        self.setup.generator.load_state_dict(state["generator"])

    # -------------------------------------------------------------------------------- for methods
    def criterion(self, logits: Tensor, y: Tensor, task: Tensor | int) -> Tensor:
        """Mean of `training.loss` over the outputs that `training.active_outputs` lets take part.

        Args:
            logits: (N, outputs).
            y: targets, int64 (N,).
            task: of all samples, or of each, int64 (N,).
        """
        allowed: Tensor | None = None
        if self.setup.training.active_outputs == "batch":
            allowed = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
            allowed[y] = True
        elif self._active is not None:
            allowed = self._active[task]
        if self.setup.training.loss == "squared_error":
            error = logits - F.one_hot(y, logits.shape[1])
            return 0.5 * (error if allowed is None else error * allowed).square().sum(1).mean()
        return F.cross_entropy(logits if allowed is None else logits.masked_fill(~allowed, float("-inf")), y)

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
        for t, own in enumerate(tasks):
            active[t, sorted({*own, *self._outputs_seen}) if mode == "seen" else list(own)] = True
        return active


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
    """What a strategy that drives itself calls while it trains; the runner's side of `SelfDriven.fit`."""

    def before_first_update(self) -> None:
        """The model stands as the first update of the experience will find it."""

    def after_iteration(self, loss: Tensor) -> bool:
        """One update is done. Returns whether another one is within the budget."""
        return True


class SelfDrivenLearner(Learner):
    """The contract of a strategy that has its own training loop, such as one of another framework."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        return frozenset({"boundaries"})  # its loop is called once for each experience

    def fit(self, experience: Experience, iterations: int, watcher: Watcher) -> None:
        """Trains on an experience, calling the watcher at every iteration.

        Args:
            experience: what to train on.
            iterations: updates that the budget allows; a strategy may do fewer.
            watcher: to be called before the first update and after each.
        """
        raise NotImplementedError


class SelfDriven(SelfDrivenLearner, Strategy):
    """A strategy with its own training loop."""


def is_strategy(candidate: Any) -> TypeGuard[type[Learner]]:
    """Whether an object is the class of a strategy, and not of another framework or a function."""
    return isinstance(candidate, type) and issubclass(candidate, Learner)
