"""Separate networks: one for each task, all from the same initialisation.

The baseline without interference and without transfer, at the cost of a network a task; it requires task labels.
"SepNets" of van de Ven, Tuytelaars and Tolias 2022 (Nature Machine Intelligence 4).

Differs from the paper: there each network is initialised by itself and has outputs for its own task alone; on
Split-MNIST its two hidden layers have 100 units where other methods have 400 (here: `-o model.hidden=[100,100]`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.errors import UserError
from clbench.lazy import torch
from clbench.strategy import Batch, Experience, Knowledge, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


def networks_of(model: nn.Module, task_outputs: Sequence[Sequence[int]]) -> nn.ModuleList:
    """A copy of a network for each task.

    Asked without a task (by what looks into models, such as `watch.gradients`), they answer together: each output is
    that of the network of the last task that has it.

    Args:
        model: the network to copy.
        task_outputs: output units of each task.
    """

    class Networks(torch.nn.ModuleList):
        def forward(self, x: Tensor) -> Tensor:
            scores = torch.stack([network(x) for network in self], 1)
            owner = torch.zeros(scores.shape[2], dtype=torch.int64, device=x.device)
            for t, outputs in enumerate(task_outputs):
                owner[list(outputs)] = t
            return scores.gather(1, owner.expand(len(x), 1, -1)).squeeze(1)

    return Networks([copy.deepcopy(model) for _ in task_outputs])


def routed(networks: nn.Module, x: Tensor, task: Tensor | int) -> Tensor:
    """Scores of each sample by the network of its task, (N, outputs).

    Args:
        networks: an `nn.ModuleList`, one for each task.
        x: inputs (N, ...).
        task: of all, or of each, int64 (N,).
    """
    assert isinstance(networks, torch.nn.ModuleList)
    present = [task] if isinstance(task, int) else sorted(set(task.tolist()))
    if len(present) == 1:
        return torch.as_tensor(networks[present[0]](x))
    each = torch.as_tensor(task)
    where = [(each == t).nonzero().squeeze(1) for t in present]
    scores = torch.cat([networks[t](x[rows]) for t, rows in zip(present, where, strict=True)])
    return scores[torch.cat(where).argsort()]


class Separate(Strategy):
    """Minimises the loss of each sample over the network of its task. Networks of absent tasks are unchanged."""

    learns_by_outputs = False

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Task labels, in training and at test time."""
        return frozenset({"task_in_training", "task_at_test"})

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, replace(setup, model=networks_of(setup.model, setup.task_outputs)))

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if not set(np.unique(experience.task).tolist()) <= set(experience.tasks):
            raise UserError("strategy 'separate': the stream has variants of tasks, which are no tasks of their own.")

    def loss(self, batch: Batch) -> Tensor:
        return self.criterion(routed(self.model, batch.x, batch.task), batch.y, batch.task)

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor:
        assert task is not None
        return routed(model, x, task)
