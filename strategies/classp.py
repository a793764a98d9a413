"""CLASSP: the training of `naive` with an optimiser that suppresses small updates and those of weights that have
changed much. The optimiser, its equations and the paper are in `clbench.strategies.classp_optimizer`; it can be used
alone:

    from clbench.strategies.classp import CLASSP

As an optimiser it composes with every method that does not bring another: `strategy: [er, classp]`.

Schedule (section 4.1 of the paper): without decay in the first experience, with it afterwards. An experience that was
cut into sub-experiences counts as one.

Differs from the paper: the benchmark determines whether an optimiser's state is kept between experiences. The paper
keeps the accumulator for the whole stream, as `training.optimizer_state: keep` does; with `reset` it restarts in each
experience. `numerics.fused` has no effect: there is no such kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from clbench.config.optimizers import LearningRate, NonNegative
from clbench.schema import Model
from clbench.strategy import Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from clbench.strategies.classp_optimizer import CLASSP as CLASSP


def __getattr__(name: str) -> Any:
    if name == "CLASSP":  # a subclass of torch's Optimizer; what lists strategies does not import torch
        from clbench.strategies.classp_optimizer import CLASSP

        return CLASSP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ClasspConfig(Model):
    """Hyper-parameters of CLASSP. There is no `optimizer`: it is one."""

    lr: LearningRate = 0.2
    """Learning rate; default, as for `epsilon` and `power`, of the published code."""
    threshold: NonNegative = 0.0
    """Gate: squared gradients up to it are suppressed. 0 as in the published experiment on the second task; the code's
    0.5 has no effect there."""
    epsilon: NonNegative = 1e-5
    """Added to the accumulator under the root."""
    power: Annotated[float, Field(gt=0)] = 1.0
    """p: exponent of the accumulated gradients, and of the root."""
    variant: Literal["paper", "official"] = "paper"
    """Rule of the paper, or of the published code: one gate a tensor, and sums of absolute gradients for every p."""
    apply_decay: Literal["after_first_experience", "always", "never"] = "after_first_experience"
    """Experiences in which steps are divided by the accumulator, which grows in all."""
    foreach: bool | None = None
    """All tensors are updated together, or one by one. Default: together on a GPU."""


class Classp(Strategy):
    """Minimises the loss with CLASSP."""

    regresses = True

    Config = ClasspConfig

    @classmethod
    def needs(cls, config: ClasspConfig) -> frozenset[Knowledge]:
        """The end of the first experience, where the schedule depends on it."""
        return frozenset({"boundaries"} if config.apply_decay == "after_first_experience" else ())

    @classmethod
    def optimizer_maker(
        cls, config: ClasspConfig, setup: Setup
    ) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
        from clbench.strategies.classp_optimizer import CLASSP

        options = config.model_dump(exclude={"apply_decay"})
        return partial(CLASSP, **options, apply_decay=config.apply_decay == "always")

    def __init__(self, config: ClasspConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: ClasspConfig = config

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.config.apply_decay == "after_first_experience":
            for group in self.optimizer.param_groups:
                group["apply_decay"] = experience.number > experience.part

    def memory(self) -> Memory:
        """The memory of the accumulator."""
        return Memory(0, self._classp.accumulator_bytes)

    def report(self) -> dict[str, float]:
        """Share of the coordinates of all gradients whose gate was closed (with `training.optimizer_state: reset` of
        those of the last experience), and bytes of the accumulator."""
        return {"suppressed": self._classp.suppressed, "accumulator_bytes": float(self._classp.accumulator_bytes)}

    @property
    def _classp(self) -> CLASSP:
        return self.optimizer  # type: ignore[return-value]
