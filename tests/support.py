"""Helpers of all tests: folders of the repository, small runs, training without files, modules of a user's own."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench import registry, resolve
from clbench.evaluation.recorder import Recorder
from clbench.run_config import RunConfig
from clbench.runner import training_loop
from clbench.runner.components import Components, assemble
from clbench.runner.observer import Observation
from clbench.runner.run import execute
from clbench.streams.compile import compile_stream
from clbench.testing.strategies import needed_overrides
from clbench.trace import Trace

__all__ = ["execute"]

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT / "tests" / "traces"
FORECASTERS = ("persistence",)
"""Strategies of the table that are refused where classes are told."""
PROMPTED = ("coda_prompt", "dualprompt", "l2p")
"""Strategies of the table that need a transformer, which the small runs have not; see `test_prompts`."""
CLASSIFIERS = sorted(set(registry.strategies()) - {*FORECASTERS, *PROMPTED})
SPLIT, DIGITS, DOMAIN = "split_synthetic-v1", "split_digits-v1", "permuted_digits-v1"
SMALL = {"ranpac": ["strategy.projections=50"], "acil": ["strategy.projections=50"]}
"""Overrides of strategies that are made for larger networks."""
USER_MODULE = "a_users_module"


# ------------------------------------------------------------------------------------------------ runs
def budget(iterations: int, **more: Any) -> str:
    """The override for a budget of updates an experience.

    >>> budget(6, batch_size=8)
    'training={iterations: 6, epochs: null, batch_size: 8}'
    """
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    return f"training={{iterations: {iterations}, epochs: null{keys}}}"


def make_run(
    strategy: str, *overrides: str, benchmark: str = SPLIT, iterations: int | None = 5, seed: int = 0
) -> RunConfig:
    """A small run, with what its strategy must know at test time.

    Args:
        strategy: a name or an import path.
        overrides: `key.path=value` texts, after those of the budget.
        benchmark: its id, or a file.
        iterations: updates an experience; None leaves the benchmark's budget.
        seed: of the run.
    """
    small = [] if iterations is None else [budget(iterations)]
    needed = needed_overrides(strategy, benchmark) if ":" not in strategy else []
    return resolve.make_run(
        benchmark, strategy=strategy, seed=seed, overrides=[*small, *needed, *SMALL.get(strategy, []), *overrides]
    )


# ------------------------------------------------------------------------------------------------ training
def assembled(run: RunConfig) -> Components:
    return assemble(run, compile_stream(run.benchmark.stream, run.stream_seed))


def watched(components: Components, at_end: Callable[[], None] = lambda: None) -> Recorder:
    """Trains without files and evaluates; returns what was recorded. `at_end` is called after each experience."""
    recorder = Recorder(components.device)
    training_loop.train(components, Observation(components, recorder, lambda: None), at_end)
    return recorder


def unwatched(components: Components) -> Components:
    """Trains without files and without evaluation."""
    training_loop.train(components, Observation(components, None, lambda: None))
    return components


def trained(run: RunConfig, watch: bool = True) -> Components:
    components = assembled(run)
    if watch:
        watched(components)
    else:
        unwatched(components)
    return components


def learned(components: Components) -> dict[str, Any]:
    """Everything that chance and learning move."""
    strategy = components.strategy
    return {
        "strategy": strategy.state_dict(),
        "modes": [m.training for m in strategy.model.modules()],
        "gradients": [p.grad for p in strategy.model.parameters()],
        "requires_grad": [p.requires_grad for p in strategy.model.parameters()],
        "batches": components.batches.state_dict(),
        **generators(),
    }


def generators() -> dict[str, Any]:
    """The states of the global generators."""
    return {"python": random.getstate(), "numpy": np.random.get_state()[1], "torch": torch.get_rng_state()}


def trace_of(components: Components, recorder: Recorder) -> Trace:
    """The recorded trace, as a run's file has it."""
    recorder.chunk()
    stream, evaluation = components.stream, components.run.benchmark.evaluation
    cells = components.evaluator.cells
    return recorder.trace(cells, stream.visit_matrix(), stream.origins(), evaluation.every, evaluation.dense)


class CrashAt:
    """A progress callback that ends a run after an update, as a crash would: without a checkpoint there."""

    def __init__(self, update: int) -> None:
        self._update = update

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None:
        if done == self._update:
            raise KeyboardInterrupt

    def close(self) -> None: ...


class Warnings:
    """A listener of an engine that keeps its warnings, each with the number of its job."""

    def __init__(self) -> None:
        self.warnings: list[tuple[int, str]] = []

    def at(self, job: int, share: float) -> None: ...

    def warn(self, job: int, text: str) -> None:
        self.warnings.append((job, text))


# ------------------------------------------------------------------------------------------------ modules of a user
def user_module(monkeypatch: pytest.MonkeyPatch, *members: Any, name: str = USER_MODULE) -> str:
    """Makes classes and functions importable from a module of that name, as a user's own are; returns the name."""
    module = types.ModuleType(name)
    for member in members:
        setattr(module, member.__name__, member)
    monkeypatch.setitem(sys.modules, name, module)
    return name
