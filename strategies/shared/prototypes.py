"""Shared by methods with class means: features, their moments by class, a frozen feature extractor, images in four
orientations, and the prototypes of past classes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import F, torch
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy, evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


def freeze(module: nn.Module) -> None:
    """Disables gradients and sets evaluation mode permanently."""
    module.requires_grad_(False).eval()


def rotated(x: Tensor, y: Tensor, rotations: int) -> tuple[Tensor, Tensor]:
    """Each image in R orientations, a quarter turn apart, each a separate class: R y + r.

    Args:
        x: (N, C, H, H), or anything where R is 1.
        y: (N,).
        rotations: R, 1 or 4.

    Returns:
        (R N, C, H, H) and (R N,), the orientations of a sample beside each other.

    >>> x, y = rotated(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([5]), 4)
    >>> x[1].tolist(), y.tolist()
    ([[[2, 4], [1, 3]]], [20, 21, 22, 23])
    """
    if rotations == 1:
        return x, y
    turned = torch.stack([torch.rot90(x, r, (2, 3)) for r in range(rotations)], 1)
    return turned.flatten(0, 1), (rotations * y[:, None] + torch.arange(rotations, device=y.device)).flatten()


def rotations_of(asked: bool | None, shape: tuple[int, ...]) -> int:
    """4 or 1 orientations.

    Args:
        asked: whether to rotate; None: where inputs are square images.
        shape: of an input.

    Raises:
        UserError: asked for what cannot be turned.

    >>> rotations_of(None, (1, 8, 8)), rotations_of(None, (32,)), rotations_of(False, (1, 8, 8))
    (4, 1, 1)
    """
    square = len(shape) == 3 and shape[1] == shape[2]
    if asked and not square:
        raise UserError(f"strategy.rotations: needs square images, and inputs are {'x'.join(map(str, shape))}.")
    return 4 if asked is not False and square else 1


class Moments:
    """Number, sum and squared length of the features of each class, in double precision.

    Args:
        classes: C.
        features: F.
        device: where they are.

    Attributes:
        count: (C,).
        total: sum of features, (C, F).
        square: sum of squared lengths, (C,).
    """

    def __init__(self, classes: int, features: int, device: torch.device) -> None:
        self.count = torch.zeros(classes, dtype=torch.float64, device=device)
        self.total = torch.zeros((classes, features), dtype=torch.float64, device=device)
        self.square = torch.zeros(classes, dtype=torch.float64, device=device)

    def add(self, features: Tensor, y: Tensor) -> None:
        """Adds features (N, F) of the classes (N,). A product with a one-hot matrix: its order of sums is fixed on
        a GPU too."""
        features, of = features.to(torch.float64), F.one_hot(y, len(self.count)).to(torch.float64).T
        self.count += of.sum(1)
        self.total += of @ features
        self.square += of @ features.square().sum(1)

    def merge(self, other: Moments) -> None:
        """Adds the moments of another instance."""
        for ours, its in zip(self._tensors(), other._tensors(), strict=True):
            ours += its

    def clear(self) -> None:
        for tensor in self._tensors():
            tensor.zero_()

    @property
    def known(self) -> Tensor:
        """Mask of the classes so far, bool (C,)."""
        return self.count > 0

    def mean(self) -> Tensor:
        """(C, F), 0 for a class not seen yet."""
        return self.total / self.count.clamp_min(1)[:, None]

    def variance(self) -> Tensor:
        """tr Cov_c / F with the denominator n - 1, (C,); NaN for a class with fewer than two samples."""
        spread = self.square - self.mean().square().sum(1) * self.count
        return torch.where(self.count > 1, spread / (self.count - 1) / self.total.shape[1], float("nan"))

    @property
    def nbytes(self) -> int:
        """Bytes of the classes so far."""
        return int(self.known.sum()) * 8 * (2 + self.total.shape[1])

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.count, self.total, self.square

    def state_dict(self) -> dict[str, Tensor]:
        """The moments, as copies."""
        return {"count": self.count.clone(), "total": self.total.clone(), "square": self.square.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues where `state_dict` was taken."""
        for tensor, name in zip(self._tensors(), ("count", "total", "square"), strict=True):
            tensor.copy_(state[name])


class OnFeatures(Strategy):
    """A strategy whose network is a feature extractor and a method-specific head.

    Args:
        make_head: the network's linear layer -> the head that replaces it (see `prototype_heads`).

    Raises:
        UserError: a network that does not end in a linear layer.
    """

    learns_by_outputs = False

    def __init__(self, config: Any, setup: Setup, make_head: Callable[[nn.Linear], Any]) -> None:
        from clbench.training.models import split

        front, linear = split(setup.model)
        self.head = make_head(linear)
        super().__init__(config, replace(setup, model=torch.nn.Sequential(*front, self.head)))
        self.front = self.model[:-1]  # type: ignore[index]

    def features(self, x: Tensor) -> Tensor:
        """Features in evaluation mode, without a graph, (N, F)."""
        with evaluating(self.front), torch.no_grad():
            features: Tensor = self.front(x)
        return features

    def moments(self, units: int = 1) -> Moments:
        """Empty moments of all classes, or of several units each."""
        return Moments(units * self.setup.outputs, self.head.in_features, self.setup.device)


class Extractor(OnFeatures):
    """A method on fixed features: the feature extractor is trained in the first experience by the benchmark's optimiser
    and loss, and frozen at its end; or it is frozen from the start; or (`trained`) it is never frozen.

    With a frozen feature extractor an update costs nothing: the loss is a constant zero. Evaluations are still
    scheduled by updates.

    Attributes:
        frozen: whether the front is.
    """

    def __init__(self, config: Any, setup: Setup, make_head: Callable[[nn.Linear], Any]) -> None:
        super().__init__(config, setup, make_head)
        self.frozen = False
        if config.extractor == "frozen":
            self._freeze()

    def _freeze(self) -> None:
        self.frozen = True
        freeze(self.front)

    @property
    def settling(self) -> bool:
        """True until the feature extractor is frozen."""
        return self.config.extractor == "first_experience" and not self.frozen

    def loss(self, batch: Batch) -> Tensor:
        if self.frozen:
            return torch.zeros((), device=self.setup.device, requires_grad=True)
        return self.criterion(self.head.logits(self.front(batch.x)), batch.y, batch.task)

    def end_experience(self, experience: Experience) -> None:
        super().end_experience(experience)
        if self.settling and experience.part == experience.parts - 1:
            self._freeze()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "frozen": self.frozen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["frozen"]:
            self._freeze()


class PrototypeConfig(Parameters):
    """Hyper-parameters shared by PASS and NAPA-VQ."""

    rotations: bool | None = None
    """Images in four orientations, each a separate class. Default: if they are square."""
    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Divisor of the logits in training."""
    prototype_weight: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the prototype loss."""
    distillation_weight: Annotated[float, Field(ge=0)] = 10.0
    """Weight of feature distillation from the extractor at the end of the last experience."""


class PrototypeReplay(OnFeatures):
    """Past classes are replayed from their prototypes; features are distilled.

        L = criterion + prototype_weight x L_prototypes + distillation_weight x |f(x) - f_old(x)|

    the distance over the features of the whole batch at once. A *unit* is a class in one of R orientations.

    A prototype is the mean feature of the samples of a class (or unit) in its last task block, as they are stored:
    one experience, or in an online stream the pieces of one, each of which adds its features as they are then. A class
    that is in the experience is not past there: it is learnt from its samples, not from its prototype. Where tasks
    share their classes (domain-incremental), nothing is past, and what is left is distillation.

    Attributes:
        old: the front as the last task block left it; None in the first.
        prototypes: (R C, F), and `known` (R C,) which of them there are.
        past: classes that are past in this experience, (P,).
    """

    of_orientations: ClassVar[bool]
    """Each orientation has a prototype."""

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Boundaries: they separate past classes from new ones."""
        return frozenset({"boundaries"})

    def __init__(self, config: Any, setup: Setup, make_head: Callable[[nn.Linear], Any]) -> None:
        if setup.training.loss != "cross_entropy":
            raise UserError("training.loss: the strategy has its own loss. Allowed: cross_entropy.")
        self.rotations = rotations_of(config.rotations, setup.input_shape)
        super().__init__(config, setup, make_head)
        units = self.rotations * setup.outputs
        self.old: nn.Module | None = None
        self.prototypes = torch.zeros((units, self.head.in_features), device=setup.device)
        self.known = torch.zeros(units, dtype=torch.bool, device=setup.device)
        self.past = torch.zeros(0, dtype=torch.int64, device=setup.device)
        self._task_of = torch.zeros(setup.outputs, dtype=torch.int64, device=setup.device)
        self._block = self.moments(self.rotations)

    def _active_outputs(self) -> Tensor | None:
        """A unit is active where its class is."""
        active = super()._active_outputs()
        return None if active is None else active.repeat_interleave(self.rotations, 1)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        present = torch.zeros(self.setup.outputs, dtype=torch.bool, device=self.setup.device)
        present[list(experience.outputs)] = True
        self.past = torch.nonzero(self.known[:: self.rotations] & ~present).flatten()

    def distance(self, features: Tensor, x: Tensor) -> Tensor:
        """|f(x) - f_old(x)| over the whole batch, a scalar."""
        assert self.old is not None
        with torch.no_grad():
            before = self.old(x)
        moved: Tensor = torch.linalg.vector_norm(features - before)
        return moved

    def some_past(self, n: int) -> Tensor:
        """n past classes, uniformly, (n,)."""
        drawn = self.setup.generator.below(len(self.past), n)
        return self.past[torch.from_numpy(drawn).to(self.setup.device)]

    def measure(self, experience: Experience, into: Moments) -> None:
        """Adds the features of an experience's samples as they are stored."""
        for x, y, task in self.plain_batches(experience):
            turned, unit = rotated(x, y, self.rotations) if self.of_orientations else (x, self.rotations * y)
            into.add(self.features(turned), unit)
            self._task_of[y] = task

    def end_experience(self, experience: Experience) -> None:
        super().end_experience(experience)
        self.measure(experience, self._block)
        if experience.part == experience.parts - 1:
            self.end_task_block(self._block)
            self._block.clear()

    def end_task_block(self, block: Moments) -> None:
        """Prototypes of the classes of a task block, and the front as it is now, are kept."""
        self.keep(block, block.known)
        self.old = copy.deepcopy(self.front)
        freeze(self.old)

    def keep(self, moments: Moments, units: Tensor) -> None:
        """Means of some units, bool (R C,), become their prototypes."""
        self.prototypes[units] = moments.mean()[units].to(self.prototypes.dtype)
        self.known |= units

    def memory(self) -> Memory:
        front = 0 if self.old is None else sum(t.nbytes for t in self.old.state_dict().values())
        return Memory(0, int(self.known.sum()) * self.prototypes[0].nbytes + front)

    def report(self) -> dict[str, float]:
        return {"rotations": float(self.rotations)}

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "old": None if self.old is None else self.old.state_dict(),
            "prototypes": self.prototypes.clone(),
            "known": self.known.clone(),
            "past": self.past.clone(),
            "task_of": self._task_of.clone(),
            "visit": self._block.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["old"] is not None:
            self.old = copy.deepcopy(self.front)
            self.old.load_state_dict(state["old"])
            freeze(self.old)
        for name in ("prototypes", "known", "past"):
            setattr(self, name, state[name].to(self.setup.device))
        self._task_of = state["task_of"].to(self.setup.device)
        self._block.load_state_dict(state["visit"])
