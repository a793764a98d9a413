"""CLASSP as an optimiser of torch: small updates are suppressed, and weights that have changed much change less.

Reference: Ludwig 2024, "CLASSP: a Biologically-Inspired Approach to Continual Learning through Adjustment Suppression
and Sparsity Promotion", arXiv 2405.09637, equation 1 and algorithm 1. For each weight w with gradient g, and an
accumulator A that begins at 0:

    open:   g^2 > threshold
    A <- A + |g|^p                           where open
    w <- w - lr g / (epsilon + A)^(1/p)      where open, with decay
    w <- w - lr g                            where open, without decay

Equation 1 sums gradients up to t - 1, algorithm 1 up to t; this is algorithm 1. With threshold 0 and p = 2 it is
Adagrad with epsilon as the first value of its accumulator.

`variant="official"` is the published code (oswaldoludwig/CLASSP, CLASSP.py), which is another method:

    open:   any(g^2) > threshold             one truth value, 0 or 1, for a whole tensor: with a threshold below 1 open
                                             wherever one gradient of it is not 0, from 1 on never
    A <- A + |g|                             whatever p is; p is in the root alone

Differs from the published code: each parameter group has its own hyper-parameters (there those of the first group are
used for all that follow); hyper-parameters are changed in the groups, not given to `step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

Variant = Literal["paper", "official"]


def gate(gradient: Tensor, threshold: float, variant: Variant) -> Tensor:
    """1 where the gate is open, else 0, in the gradient's type: of its shape, or one value for the tensor.

    >>> gate(torch.tensor([0.1, -0.5, 0.6]), 0.25, "paper")  # a square equal to the threshold is not above it
    tensor([0., 0., 1.])
    >>> gate(torch.tensor([0.1, 0.0]), 0.25, "official"), gate(torch.tensor([9.0]), 1.0, "official")
    (tensor(1.), tensor(0.))
    """
    squares = gradient * gradient
    return (squares if variant == "paper" else squares.any().to(gradient.dtype)).gt_(threshold)


def accumulate(accumulator: Tensor, gradient: Tensor, power: float) -> None:
    """A <- A + |g|^p.

    >>> total = torch.tensor([1.0, 2.0])
    >>> accumulate(total, torch.tensor([-3.0, 0.0]), 2.0)
    >>> total
    tensor([10.,  2.])
    """
    if power == 2:
        accumulator.addcmul_(gradient, gradient)
    else:
        accumulator.add_(gradient.abs() if power == 1 else gradient.abs().pow_(power))


def scale(accumulator: Tensor, epsilon: float, power: float) -> Tensor:
    """(epsilon + A)^(1/p).

    >>> scale(torch.tensor([8.0, 15.0]), 1.0, 2.0)
    tensor([3., 4.])
    """
    total = accumulator + epsilon
    return total.sqrt_() if power == 2 else total if power == 1 else total.pow_(1 / power)


class CLASSP(Optimizer):
    """Optimiser CLASSP.

    Args:
        params: parameters, or groups of them with hyper-parameters of their own.
        lr: learning rate, >= 0.
        threshold: of squared gradients, >= 0.
        epsilon: in the root, >= 0.
        power: p, > 0.
        variant: the paper's rule, or that of the published code.
        apply_decay: whether steps shrink by the accumulator, which grows anyway. Section 4.1 of the paper: not in the
            first task, then always. To be changed in the groups.
        foreach: whether to go through all tensors of a group operation by operation instead of tensor by tensor: on
            a CPU the same bits. Default: where all of them are on a GPU.

    Each group counts the coordinates that it has been given (`tested`) and those of them whose gate was open (`opened`,
    on the device: nothing waits for it).

    Raises:
        ValueError: a hyper-parameter out of its range.
        RuntimeError: a gradient that is sparse or complex.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.2,
        threshold: float = 0.0,
        epsilon: float = 1e-5,
        power: float = 1.0,
        *,
        variant: Variant = "paper",
        apply_decay: bool = True,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "threshold": threshold,
            "epsilon": epsilon,
            "power": power,
            "variant": variant,
            "apply_decay": apply_decay,
            "foreach": foreach,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with separate hyper-parameters.

        Raises:
            ValueError: a hyper-parameter out of its range.
        """
        group = {**self.defaults, **param_group}
        for name in ("lr", "threshold", "epsilon", "power"):
            value = group[name]
            number = isinstance(value, (int, float)) and math.isfinite(value)
            if not number or value < 0 or (name == "power" and value == 0):
                raise ValueError(f"Invalid {name}: {value!r}")
        if group["variant"] not in ("paper", "official"):
            raise ValueError(f"Invalid variant: {group['variant']!r}")
        if not isinstance(group["apply_decay"], bool):
            raise ValueError(f"Invalid apply_decay: {group['apply_decay']!r}")
        super().add_param_group(param_group)

    @property
    def suppressed(self) -> float:
        """The share of coordinates whose gate was closed, among all so far, in [0, 1]; 0 before the first step."""
        tested: int = sum(group.get("tested", 0) for group in self.param_groups)
        opened = sum(float(group["opened"]) for group in self.param_groups if "opened" in group)
        return 1.0 - opened / tested if tested else 0.0

    @property
    def accumulator_bytes(self) -> int:
        """Memory of the accumulators."""
        return sum(state["accumulator"].nbytes for state in self.state.values())

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update. Parameters without a gradient are unchanged.

        Args:
            closure: computes the gradients again and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads, accumulators = [], []
        for p in params:
            assert p.grad is not None
            if p.grad.is_sparse or p.grad.is_complex():
                raise RuntimeError(f"CLASSP does not support {'sparse' if p.grad.is_sparse else 'complex'} gradients")
            state = self.state[p]
            if not state:
                state["accumulator"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            grads.append(p.grad)
            accumulators.append(state["accumulator"])
        if "opened" not in group:
            group["opened"], group["tested"] = torch.zeros((), dtype=torch.float64, device=params[0].device), 0
        group["tested"] += sum(p.numel() for p in params)
        foreach = group["foreach"]
        if foreach is None:
            foreach = all(p.is_cuda for p in params)
        (_all_at_once if foreach else _one_by_one)(group, params, grads, accumulators)


def _count(group: dict[str, Any], opened: Tensor, size: int) -> None:
    # Sums of ones: in float64 they are exact, and sooner done than in integers.
    group["opened"] += opened.sum(dtype=torch.float64).mul_(size // opened.numel()).to(group["opened"].device)


def _one_by_one(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], accumulators: list[Tensor]) -> None:
    """The specification, one tensor at a time."""
    lr, epsilon, power = group["lr"], group["epsilon"], group["power"]
    for p, gradient, accumulator in zip(params, grads, accumulators, strict=True):
        opened = gate(gradient, group["threshold"], group["variant"])
        _count(group, opened, p.numel())
        g = gradient * opened
        accumulate(accumulator, g, power if group["variant"] == "paper" else 1)
        if not group["apply_decay"]:
            p.add_(g, alpha=-lr)
            continue
        divisor = scale(accumulator, epsilon, power)
        if epsilon == 0:
            divisor.masked_fill_(divisor == 0, 1.0)  # nothing accumulated: g is 0, and 0 / 0 is no update
        p.addcdiv_(g, divisor, value=-lr)


def _all_at_once(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], accumulators: list[Tensor]) -> None:
    """The same with torch's operations on lists of tensors."""
    lr, epsilon, power = group["lr"], group["epsilon"], group["power"]
    gates = [gate(gradient, group["threshold"], group["variant"]) for gradient in grads]
    for p, opened in zip(params, gates, strict=True):
        _count(group, opened, p.numel())
    gs = torch._foreach_mul(grads, gates)
    grown = power if group["variant"] == "paper" else 1
    if grown == 2:
        torch._foreach_addcmul_(accumulators, gs, gs)
    else:
        sizes = torch._foreach_abs(gs)
        if grown != 1:
            torch._foreach_pow_(sizes, grown)
        torch._foreach_add_(accumulators, sizes)
    if not group["apply_decay"]:
        torch._foreach_add_(params, gs, alpha=-lr)
        return
    divisors = torch._foreach_add(accumulators, epsilon)
    if power == 2:
        torch._foreach_sqrt_(divisors)
    elif power != 1:
        torch._foreach_pow_(divisors, 1 / power)
    if epsilon == 0:
        for divisor in divisors:
            divisor.masked_fill_(divisor == 0, 1.0)
    torch._foreach_addcdiv_(params, gs, divisors, value=-lr)
