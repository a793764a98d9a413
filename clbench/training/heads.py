"""Heads: the last layer of a network, as an option that any network may have.

    linear     s_c = w_c . f + b_c
    cosine     s_c = eta cos(f, w_c)            eta fixed, or learned from 1 on

A *growing* head has units for the classes that have come, and gets further ones, initialised as it was, when their
classes come. All units exist from the start, so that nothing that knows the parameters has to follow: until its class
comes, the weights of a unit are 0 and its logit is the constant 0. Its gradient is 0 then, and so is its weight decay,
its momentum and its moments: whatever optimiser there is, a unit begins with its initial weights when its class comes,
as new rows of a layer that really grows do, beside old rows that keep their momentum. In predictions its logit is -inf,
and a class without a unit is *unavailable*. That it does not compete in training is `training.active_outputs: seen`.

A *multi* head is a linear layer for each task, chosen by the task of a sample in training and at test. Where each task
has output units of its own, as in the setting `task`, that is what the layer is already. Where tasks share them, each
task gets its own here, behind one another in one layer; the loss and the evaluation know the task of a sample, and let
its units compete alone.

Reference: cosine, eta and no bias: Hou et al. 2019 (CVPR, LUCIR), equation 1; their weights are drawn as PyTorch draws
a linear layer's.

Differs from layers in separate modules: rows of tasks or classes that have come, and are absent from a batch, have the
gradient 0 and not none, so that weight decay and momentum go on moving them, as in any linear layer. Differs from rows
that are added: the distance that SI measures of a new unit begins at 0 and not at its initial weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.config import networks
from clbench.errors import UserError
from clbench.stream import Stream, Task


class Head(nn.Linear):
    """A cosine head, a growing one, or both. Its inputs are the network's features for the whole suite.

    Args:
        linear: the layer that it replaces, (C, F), whose weights it takes over.
        config: its options.

    Attributes:
        scale: eta of a cosine head, a parameter (1,) or a number; None of a linear one.
        growing: whether classes have units only when they come.
        predicting: set in the evaluator's copies of the network: classes without a unit have the logit -inf.
        absent: output units of classes that have not come.
        came: of a growing head, the classes that have come, bool (C,).
    """

    rowwise = True
    came: Tensor

    def __init__(self, linear: nn.Linear, config: networks.Head) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.scale: nn.Parameter | float | None = None
        cosine = config.kind == "cosine"
        self.register_parameter("bias", None if cosine else linear.bias)
        if cosine and config.scale == "learned":
            self.scale = nn.Parameter(torch.ones(1))
        elif cosine:
            self.scale = float(config.scale)
        self.growing, self.predicting = config.growing, False
        self.absent: frozenset[int] = frozenset()
        self._initial: list[Tensor] = []  # not saved: a resumed run initialises the same
        if self.growing:
            self.register_buffer("came", torch.ones(self.out_features, dtype=torch.bool))

    def forward(self, features: Tensor) -> Tensor:
        if self.scale is None:
            logits = F.linear(features, self.weight, self.bias)
        else:
            logits = self.scale * F.linear(F.normalize(features), F.normalize(self.weight))
        if not self.absent:
            return logits
        return logits.masked_fill(~self.came, float("-inf") if self.predicting else 0.0)

    @torch.no_grad()
    def withhold(self) -> None:
        """Takes the units of all classes away until `admit`."""
        self._initial = [p.detach().clone() for p in self._rows()]
        for parameter in self._rows():
            parameter.zero_()
        self.came.zero_()
        self.absent = frozenset(range(self.out_features))

    @torch.no_grad()
    def admit(self, outputs: Iterable[int]) -> None:
        """Gives units to classes that come now; the others stay as they are."""
        new = sorted(self.absent.intersection(outputs))
        if not new:
            return
        rows = torch.tensor(new, device=self.weight.device)
        for parameter, initial in zip(self._rows(), self._initial, strict=True):
            parameter[rows] = initial.to(parameter)[rows]
        self.came[rows] = True
        self.absent -= {*new}

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if self.growing:
            self.absent = frozenset(torch.nonzero(~self.came).flatten().tolist())

    def _rows(self) -> list[Tensor]:
        return [self.weight, *([] if self.bias is None else [self.bias])]


def split(model: nn.Module) -> tuple[nn.Sequential, nn.Linear]:
    """The feature extractor of a network and its last layer; they share the network's modules.

    Raises:
        UserError: a network that is no sequence ending in a linear layer.
    """
    if type(model) is not nn.Sequential or len(model) < 2 or not isinstance(model[-1], nn.Linear):
        raise UserError("model: features need a network that is an nn.Sequential and ends in an nn.Linear.")
    return model[:-1], model[-1]


def with_head(model: nn.Module, config: networks.Head) -> nn.Module:
    """The network with its last layer replaced.

    Raises:
        UserError: a network that is no sequence ending in a linear layer.
    """
    if config.kind == "linear" and not config.growing:
        return model
    if type(model) is not nn.Sequential or not isinstance(model[-1], nn.Linear):
        raise UserError("model.head: needs a network that is an nn.Sequential and ends in an nn.Linear.")
    model[-1] = Head(model[-1], config)
    return model


def heads_of(model: nn.Module) -> Iterator[Head]:
    """The heads in a network, or in several."""
    if type(model) is nn.Sequential:
        if len(model) and isinstance(model[-1], Head):
            yield model[-1]
        return
    yield from (module for module in model.modules() if isinstance(module, Head))


def admit(model: nn.Module, outputs: Iterable[int]) -> None:
    """Tells growing heads of a network that classes come: before the experience that brings them.

    Args:
        model: the network in training.
        outputs: their output units.
    """
    for head in heads_of(model):
        head.admit(outputs)


def absent(model: nn.Module) -> frozenset[int]:
    """Output units that a network does not have yet."""
    return frozenset().union(*(head.absent for head in heads_of(model)))


def require_linear(linear: nn.Linear) -> None:
    """For methods that put a head in the place of the network's, or compute it.

    Raises:
        UserError: the network's head is another one than a linear layer.
    """
    if isinstance(linear, Head):
        kind = "cosine" if linear.scale is not None else "growing"
        raise UserError(f"model.head: got a {kind} head, and the strategy has its own. Allowed: null.")


def by_task(stream: Stream) -> Stream:
    """The stream with output units of its own for each task; itself where they have them already.

    Tasks come behind one another, the units of each in their order; variants have those of the task they stand for.
    """
    units = [sorted(set(task.targets)) for task in stream.tasks]
    if sum(map(len, units)) == len({unit for of_task in units for unit in of_task}):
        return replace(stream, own_outputs=True)
    first = [sum(map(len, units[:t])) for t in range(len(units))]

    def moved(task: Task) -> Task:
        t = task.id if task.stands_for is None else task.stands_for
        return replace(task, targets=tuple(first[t] + units[t].index(unit) for unit in task.targets))

    return replace(
        stream,
        tasks=tuple(map(moved, stream.tasks)),
        variants=tuple(map(moved, stream.variants)),
        outputs=sum(map(len, units)),
        own_outputs=True,
    )
