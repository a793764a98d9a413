"""Internals of a model, recorded on demand: gradients and features per task. Off by default; they cost.

    gradient_norm        norm of the gradient that the last update used, as the strategy left it, per update
    task_gradient_norm   norm of the gradient of the mean cross-entropy over a task's evaluated test samples, in the
                         stream's own view
    feature_step         mean over a task's test samples of the squared Euclidean distance between the features now and
                         at the evaluation before (De Lange et al. 2023: features just before and after an update)
    feature_drift        the same against the features at the end of the task's first visit

Features are the inputs of the model's last linear layer. NaN where a task was not evaluated, or without a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from clbench.errors import RunFailed
from clbench.evaluation.twin import Twin

Passes = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""Inputs and targets of a task, a forward pass at a time."""


class Internals:
    """Measures gradients and features on a twin of the model.

    Args:
        gradients, features: quantities to measure.
        tasks: number of tasks, T.
    """

    def __init__(self, gradients: bool, features: bool, tasks: int) -> None:
        self.wanted = gradients or features
        self._gradients, self._features, self._tasks = gradients, features, tasks
        self._before: dict[int, Tensor] = {}
        self._learned: dict[int, Tensor] = {}
        self._to_keep: set[int] = set()

    def state_dict(self) -> dict[str, dict[int, Tensor]]:
        """The reference features of later measurements."""
        return {"before": dict(self._before), "learned": dict(self._learned)}

    def load_state_dict(self, state: dict[str, dict[int, Tensor]]) -> None:
        """Continues where `state_dict` was taken."""
        self._before, self._learned = dict(state["before"]), dict(state["learned"])

    def learned(self, tasks: Iterable[int]) -> None:
        """Marks the next measurement as the end of an experience with these tasks."""
        self._to_keep = {t for t in tasks if t not in self._learned}

    def measure(
        self, model: nn.Module, passes: Passes, scope: Iterable[int], allowed: Callable[[int], tuple[int, ...]]
    ) -> dict[str, Tensor]:
        """Per name, float32 (T,), NaN outside the scope.

        Args:
            model: the model in training; unchanged.
            passes: inputs and targets of a task.
            scope: tasks to measure.
            allowed: task -> active logits.

        Raises:
            RunFailed: the model has no linear layer whose inputs could be its features.
        """
        tasks = sorted(scope)
        with Twin().of(model) as twin:
            out = {}
            if self._gradients:
                out["task_gradient_norm"] = self._over(
                    tasks, {t: _gradient_norm(twin, list(passes(t)), allowed(t)) for t in tasks}
                )
            if self._features:
                steps: dict[int, Tensor] = {}
                drifts: dict[int, Tensor] = {}
                for t in tasks:
                    now = _features(twin, passes(t))
                    for distances, base in ((steps, self._before.get(t)), (drifts, self._learned.get(t))):
                        if base is not None and base.shape == now.shape:
                            distances[t] = (now - base).square().sum(1).mean()
                    self._before[t] = now
                    if t in self._to_keep:
                        self._learned[t] = now
                self._to_keep = set()
                out["feature_step"], out["feature_drift"] = self._over(tasks, steps), self._over(tasks, drifts)
        return out

    def _over(self, tasks: list[int], values: dict[int, Tensor]) -> Tensor:
        known = next(iter(values.values()), torch.zeros(()))
        out = torch.full((self._tasks,), float("nan"), device=known.device)
        for t in tasks:
            if t in values:
                out[t] = values[t]
        return out


def _gradient_norm(model: nn.Module, parts: list[tuple[Tensor, Tensor]], outputs: tuple[int, ...]) -> Tensor:
    """Norm of the gradient of the mean cross-entropy, without touching `.grad`."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    n = sum(len(y) for _, y in parts)
    total: list[Tensor] | None = None
    with torch.enable_grad():
        for x, y in parts:
            logits: Tensor = model(x)
            width = logits.shape[1]
            if int(y.max()) >= width:  # a head that grows has no score for this task yet
                return torch.tensor(float("nan"))
            if not logits.requires_grad:  # nothing in it learns, such as class means on a frozen feature extractor
                return logits.new_zeros(())
            absent = torch.ones(width, dtype=torch.bool, device=x.device)
            absent[[o for o in outputs if o < width]] = False
            loss = nn.functional.cross_entropy(logits.masked_fill(absent, float("-inf")), y, reduction="sum") / n
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            pieces = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
            total = pieces if total is None else [a + b for a, b in zip(total, pieces, strict=True)]
    return norm(total or [])


def norm(tensors: list[Tensor]) -> Tensor:
    """Euclidean norm over all elements, float32, a scalar."""
    if not tensors:
        return torch.zeros(())
    total: Tensor = torch.stack(torch._foreach_norm(tensors)).to(torch.float32).square().sum().sqrt()
    return total


@torch.no_grad()
def _features(model: nn.Module, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Inputs of the last linear layer, (N, D)."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not linear:
        raise RunFailed("features", "watch.features needs a model with a linear layer, whose inputs are its features")
    features: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(lambda module, args: features.append(args[0].detach().flatten(1)))
    try:
        for x, _ in parts:
            model(x)
    finally:
        handle.remove()
    return torch.cat(features)
