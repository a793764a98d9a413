"""LoRA: low-rank adapters learn in a frozen network; one for all experiences, one for each task, or merged after each.

    h = W x + b + (alpha / r) B A x      W frozen; A (r, in) and B (out, r) learn, B from 0; and the head learns

Reference: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen 2022 (ICLR, arXiv 2106.09685), by the package peft. With
one adapter it is what continual-learning papers call sequential LoRA fine-tuning.

    single     one adapter learns in all experiences
    per_task   a new adapter for each task; those of other tasks are frozen
               `prediction: task`   a sample goes through the adapter of its task alone, which must be known at test
                                    time; an adapter learns again when its task returns. A task that has not come yet is
                                    predicted by the network without an adapter
               `prediction: sum`    the adapters so far are summed, in training and at test, so that no task need be
                                    known: h = W x + b + (alpha / r) sum_(k <= t) B_k A_k x. Each task block has a new
                                    one. The form of O-LoRA (Wang et al. 2023, Findings of EMNLP, arXiv 2310.14152) and
                                    InfLoRA (Liang and Li 2024, CVPR, arXiv 2404.00228)
    merged     W <- W + (alpha / r) B A at the end of each task block, and the adapter starts anew

With `orthogonality` lambda > 0 and `prediction: sum` the loss is O-LoRA's,

    L = criterion + lambda sum_(k < t) sum_layers sum_ij |A_k A_t^T|_ij

`layers`: by default the linear layers of attention, by the names that implementations give them (`qkv`, `out`, `query`,
...), and in a network without attention all linear layers before the head.

Differs from the papers: (1) the head always learns, from the benchmark's initialisation, with all of its outputs;
(2) the frozen network is in evaluation mode throughout: its dropout is off, statistics of batch normalisation stay;
(3) Hu et al. adapt W_q and W_v of language models, here queries, keys, values and output by default; (4) O-LoRA's paper
sums squares of A_k A_t^T, its code absolute values, which is what is here; (5) InfLoRA's choice of A by the inputs of
past tasks is not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.config.training import Parameters
from clbench.errors import UserError
from clbench.lazy import torch
from clbench.schema import mistake
from clbench.strategies.shared.adapters import Adapters, activate, chosen_layers, freeze_all_but, linear_layers
from clbench.strategy import Batch, Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

_ONLY = "adapter"
"""Name of the adapter where there is one."""


class LoraConfig(Parameters):
    """Hyper-parameters of LoRA."""

    adapters: Literal["single", "per_task", "merged"] = "single"
    """One adapter for all experiences; one for each task; or one that is merged into the weights after each task
    block and starts anew."""
    prediction: Literal["task", "sum"] | None = None
    """Of `per_task`, whose default is `task`: by the adapter of a sample's task, or by the sum of all."""
    rank: Annotated[int, Field(ge=1)] = 8
    """r."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """An adapter's output is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability of an adapter's inputs."""
    layers: list[Annotated[str, Field(min_length=1)]] | None = None
    """Linear layers, by their names in the network or by the ends of these: `qkv` is all whose names end so. Default:
    those of attention."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.0
    """Strength of O-LoRA's penalty on common directions of the adapters, for `prediction: sum`."""

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> LoraConfig:
        if self.prediction is not None and self.adapters != "per_task":
            raise mistake("'prediction' needs 'adapters: per_task'")
        if self.orthogonality and self.prediction != "sum":
            raise mistake("'orthogonality' needs 'adapters: per_task' and 'prediction: sum'")
        if self.layers is not None and not self.layers:
            raise mistake("an empty list adapts nothing", "layers")
        return self

    @property
    def by_task(self) -> bool:
        """True if samples go through the adapter of their task."""
        return self.adapters == "per_task" and self.prediction != "sum"


class Lora(Strategy):
    """Trains adapters and the head.

    Raises:
        UserError: a network without linear layers before the head, `layers` that it has not, or no peft.
    """

    Config = LoraConfig
    regresses = True

    @classmethod
    def needs(cls, config: LoraConfig) -> frozenset[Knowledge]:
        """The task, where samples go through its adapter; boundaries, where adapters come or are merged there."""
        if config.by_task:
            return frozenset({"task_in_training", "task_at_test"})
        return frozenset() if config.adapters == "single" else frozenset({"boundaries"})

    def __init__(self, config: LoraConfig, setup: Setup) -> None:
        layers, head = linear_layers(setup.model, "lora")
        names = chosen_layers(list(layers), config.layers)
        freeze_all_but(setup.model, head)
        self.config: LoraConfig = config
        self.drawn = setup.new_generator("adapters")
        self.adapters = Adapters(setup.model, names, config.rank, config.alpha, config.dropout, self.drawn)
        self.learning: list[str] = []
        """Names of the adapters that learn."""
        if config.adapters != "per_task":
            self.adapters.add(_ONLY)
            self._learn(setup.model, [_ONLY])
        if not config.by_task:
            self.predict = super().predict  # type: ignore[method-assign]  # as the model, on evaluation's faster path
        super().__init__(config, setup)

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if self.config.adapters != "per_task":
            return
        if self.config.by_task:
            if not set(experience.task.tolist()) <= set(experience.tasks):
                raise UserError("strategy 'lora': the stream has variants of tasks, which are no tasks of their own.")
            names = [_of_task(task) for task in experience.tasks]
        else:
            names = [f"block_{self.task_blocks - 1}"]
        new = [name for name in names if name not in self.adapters.names]
        for name in new:
            self.adapters.add(name)
        self._learn(self.model, names)
        if new:
            self._renew_optimizer()

    def _learn(self, model: nn.Module, names: list[str]) -> None:
        """Makes adapters learn, and take part in the network at rest: these, or with `sum` all."""
        self.learning = names
        self.adapters.train(*names)
        activate(model, self._at_rest)

    @property
    def _at_rest(self) -> list[str]:
        return self.adapters.names if self.config.prediction == "sum" else self.learning[:1]

    def _renew_optimizer(self) -> None:
        """An optimiser of the parameters there are now, with the old one's state of those that it had."""
        state = self.optimizer.state
        self.optimizer = self.maker(self.model.parameters())
        self.optimizer.state.update(state)

    def loss(self, batch: Batch) -> Tensor:
        if not self.config.by_task:
            return super().loss(batch)
        return self.criterion(self._routed(self.model, batch.x, batch.task), batch.y, batch.task)

    def penalty(self) -> Tensor | None:
        if not self.config.orthogonality or len(self.adapters.names) < 2:
            return None
        *old, now = (list(self.adapters.inputs(name)) for name in self.adapters.names)
        overlaps = [overlap(a, b) for past in old for a, b in zip(past, now, strict=True)]
        return self.config.orthogonality * torch.stack(overlaps).sum()

    def _routed(self, model: nn.Module, x: Tensor, task: Tensor | int) -> Tensor:
        """Scores of each sample through the adapter of its task; without one where there is none yet.

        Between calls the adapters at rest are active, in the network and in its twin for evaluation.
        """
        tasks = [task] if isinstance(task, int) else torch.unique(task).tolist()
        pieces = [self._through(model, x if len(tasks) == 1 else x[task == each], each) for each in tasks]
        if len(pieces) == 1:
            return pieces[0]
        assert not isinstance(task, int)
        order = torch.argsort(task, stable=True)
        return torch.cat(pieces)[torch.argsort(order)]

    def _through(self, model: nn.Module, x: Tensor, task: int) -> Tensor:
        names = [name for name in [_of_task(task)] if name in self.adapters.names]
        if names == self._at_rest:
            scores: Tensor = model(x)
            return scores
        activate(model, names)
        try:
            scores = model(x)
        finally:
            activate(model, self._at_rest)
        return scores

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        if not self.config.by_task:
            return super().predict(model, x, task)
        assert task is not None
        return self._routed(model, x, task)

    def end_experience(self, experience: Experience) -> None:
        super().end_experience(experience)
        if self.config.adapters == "merged" and experience.part == experience.parts - 1:
            self.adapters.merge(_ONLY)
            for p in self.adapters.parameters(_ONLY):
                self.optimizer.state.pop(p, None)

    def memory(self) -> Memory:
        """All adapters: the network has them beside its weights."""
        return Memory(0, self.adapters.nbytes)

    def report(self) -> dict[str, float]:
        each = sum(p.numel() for name in self.adapters.names[:1] for p in self.adapters.parameters(name))
        return {"adapters": float(len(self.adapters.names)), "adapter_parameters": float(each)}

    def state_dict(self) -> dict[str, Any]:
        fields = {"adapters": list(self.adapters.names), "learning": list(self.learning)}
        return {**super().state_dict(), **fields, "drawn": self.drawn.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in state["adapters"][len(self.adapters.names) :]:
            self.adapters.add(name)
        self._learn(self.model, list(state["learning"]))
        self.optimizer = self.maker(self.model.parameters())
        super().load_state_dict(state)
        self.drawn.load_state_dict(state["drawn"])


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """sum_ij |A B^T|_ij of two matrices (r, in) and (s, in), a scalar.

    >>> float(overlap(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 5.0]])))
    2.0
    """
    return (a @ b.T).abs().sum()


def _of_task(task: int) -> str:
    return f"task_{task}"
