"""Profile of a run's time: data, forward, backward, step, strategy, evaluation, files.

Each moment belongs to the innermost part, so that the parts add up to the whole. Results are unchanged: clocks are
read, and on a GPU the device is synchronized at the ends of a part, which slows a run down there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from clbench.results import files
from clbench.runner.components import Components
from clbench.runner.observer import Observation
from clbench.strategy import SelfDrivenLearner
from clbench.training.training_set import TrainingSet

PARTS = ("data", "forward", "backward", "step", "strategy", "evaluation", "files", "unaccounted")
"""`strategy` is the work of a method beside the other parts; `unaccounted` the surrounding loop."""


class Profile:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._stack = ["unaccounted"]
        self._since = time.perf_counter()
        self._wait: Callable[[], None] = lambda: None

    def enter(self, part: str) -> None:
        """Starts a part."""
        self._turn()
        self._stack.append(part)

    def leave(self) -> None:
        """Ends a part and continues the enclosing one."""
        self._turn()
        self._stack.pop()

    def _turn(self) -> None:
        self._wait()
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def _within(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed

    @contextlib.contextmanager
    def of(self, bench: Components, watcher: Observation) -> Iterator[None]:
        """Measures a run's parts while the context lasts."""
        if bench.device.type == "cuda":
            self._wait = torch.cuda.synchronize
        strategy, call = bench.strategy, nn.Module.__call__

        def forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if module is not strategy.model or self._stack[-1] in ("forward", "evaluation"):
                return call(module, *args, **kwargs)
            return self._within("forward", call)(module, *args, **kwargs)

        methods = (
            ("fit",) if isinstance(strategy, SelfDrivenLearner) else ("begin_experience", "step", "end_experience")
        )
        patches: list[tuple[Any, str, Any]] = [
            (bench.batches, "of", lambda *args: self._batches(type(bench.batches).of(bench.batches, *args))),
            (TrainingSet, "fetch", self._within("data", TrainingSet.fetch)),
            *((strategy, name, self._within("strategy", getattr(strategy, name))) for name in methods),
            (nn.Module, "__call__", forward),
            (torch.autograd, "backward", self._within("backward", torch.autograd.backward)),
            (torch.autograd, "grad", self._within("backward", torch.autograd.grad)),
            (watcher, "_evaluate", self._within("evaluation", watcher._evaluate)),
            (bench.evaluator, "after_update", self._within("evaluation", bench.evaluator.after_update)),
            (files, "write_arrays", self._within("files", files.write_arrays)),
            (files, "write_bytes", self._within("files", files.write_bytes)),
        ]
        hooks = [
            register_optimizer_step_pre_hook(lambda *_: self.enter("step")),
            register_optimizer_step_post_hook(lambda *_: self.leave()),
        ]
        with contextlib.ExitStack() as undone:
            for owner, name, replacement in patches:
                undone.callback(_put_back, owner, name, vars(owner).get(name))
                setattr(owner, name, replacement)
            for hook in hooks:
                undone.callback(hook.remove)
            self._since = time.perf_counter()
            yield
            self._turn()

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        following = self._within("data", lambda: next(batches, None))
        while (batch := following()) is not None:
            yield batch

    def table(self, updates: int) -> str:
        """The parts, their seconds, shares, and microseconds an update."""
        whole = sum(self.seconds.values()) or 1.0
        lines = [f"{'':12}{'seconds':>10}{'share':>8}{'µs an update':>14}"]
        for part, seconds in [*self.seconds.items(), ("all", whole)]:
            lines.append(f"{part:12}{seconds:10.2f}{seconds / whole:8.1%}{1e6 * seconds / max(1, updates):14.1f}")
        return "\n".join(lines)


def _put_back(owner: Any, name: str, before: Any) -> None:
    if before is None:
        delattr(owner, name)
    else:
        setattr(owner, name, before)
