"""Check that an interrupted run resumes without any difference."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clbench.errors import Unsaveable
from clbench.evaluation.recorder import Recorder
from clbench.rng import fenced
from clbench.run_config import RunConfig
from clbench.runner.build_strategy import completed, imported
from clbench.runner.checkpoint import Checkpoints
from clbench.runner.components import Components, assemble, last_begun
from clbench.runner.numerics import numerics
from clbench.runner.observer import Observation, Position
from clbench.runner.state_check import state_of
from clbench.runner.state_leaves import Leaf, leaves
from clbench.runner.training_loop import train
from clbench.strategy import Learner, SelfDrivenLearner
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same, require
from clbench.training.budget import batches_in_a_pass


def check_resume(run: RunConfig, at: Collection[int] | None = None, *, remade: Collection[str] = ()) -> None:
    """Checks that a strategy's `state_dict` suffices for an interrupted run to end as an uninterrupted one.

    The run is trained without interruption; then it is restored, from a checkpoint file into a new strategy, after some
    updates, and resumed. Its attributes and its state there must be those of the uninterrupted run, and so must its
    weights, losses and the whole record at the end: bit for bit.

    State shared by several strategies of one process is not detected, such as attributes of the class.

    Args:
        run: a configuration of at least two experiences, preferably small, from `clbench.resolve.make_run`.
        at: updates to resume after; by default the first, the last of the first experience (there also after
            `end_experience`), the first of the second, one in the middle of a second pass over the same samples where
            there is one, and the last but one. A self-driven strategy can be stopped after experiences only.
        remade: attributes that may differ, beside those in `Learner.transient`.

    Raises:
        AssertionError: something is not saved; the message names the attribute, or else the difference.
        RunFailed: the run fails even when it is not stopped.
    """
    with numerics(run.numerics), fenced(run.numerics.device == "cuda"), tempfile.TemporaryDirectory() as folder:
        run = completed(run, imported(run.strategy))
        stream = compile_stream(run.benchmark.stream, run.stream_seed)
        undisturbed = _Resumable(run, stream)
        undisturbed.train()
        whole = _Resumable(run, stream)
        name = type(whole.bench.strategy).__name__
        whole.stops = set(_stops(whole.bench) if at is None else at)
        whole.folder, whole.remade = Path(folder), remade
        try:
            whole.train()
        except Unsaveable as error:
            raise AssertionError(f"{name}: {error}.") from None
        require(bool(whole.saved), f"{name}: the run was at none of the updates {sorted(whole.stops)}")
        _agree(undisturbed.outcome(), whole.outcome(), f"{name}: asked for its state_dict, it ends with")
        for position, before in whole.saved.items():
            [(done, state)] = Checkpoints(_place(Path(folder), position)).read()
            assert isinstance(state, dict)
            again = _Resumable(run, stream, last_begun(position.experience, bool(position.done)))
            again.restore(state, position)
            forgot = _forgotten(before, _attributes(again.bench.strategy, remade))
            several = len(forgot) > 1
            require(
                not forgot,
                f"{name}: attribute{'s' * several} {', '.join(map(repr, forgot))} {'are' if several else 'is'} another "
                f"than before load_state_dict, after update {done:,}; {'are they' if several else 'is it'} in "
                "state_dict? (What is rebuilt where it is needed goes into the strategy's `transient`)",
            )
            _agree(
                _content(state["strategy"]),
                _content(again.bench.strategy.state_dict()),
                f"{name}: restored after update {done:,}, state_dict has",
            )
            again.train(position)
            _agree(
                _tail(whole.outcome(), again.outcome()),
                again.outcome(),
                f"{name}: everything that can be compared was restored after update {done:,}, and yet it ends with",
            )


def _stops(bench: Components) -> set[int]:
    """Updates of every kind: see `check_resume`."""
    total, first = sum(bench.budgets), bench.budgets[0]
    updates = {1, first, first + 1, total - 1}
    begin = 0
    for number, budget in enumerate(bench.budgets):
        one_pass = batches_in_a_pass(bench.stream.experiences[number].samples, bench.run.benchmark.training)
        if bench.strategy.access == "experience" and budget > one_pass:
            updates.add(begin + min(budget, one_pass + one_pass // 2 + 1))
            break
        begin += budget
    return {n for n in updates if 1 <= n <= total}


class _Resumable:
    """A resumable training.

    Attributes:
        stops: updates after which a checkpoint is written, below `folder`.
        saved: positions of these, and the strategy's attributes there.
    """

    def __init__(self, run: RunConfig, stream: Stream, experience: int = 0) -> None:
        self.bench = assemble(run, stream, experience=experience)
        self._recorder = Recorder(self.bench.device)
        self._seen = Observation(self.bench, self._recorder, self._on_iteration)
        self.stops: set[int] = set()
        self.folder = Path()
        self.saved: dict[Position, dict[str, Leaf]] = {}
        self.remade: Collection[str] = ()

    def train(self, start: Position | None = None) -> None:
        train(self.bench, self._seen, self._stop, start)
        self._recorder.chunk()

    def _on_iteration(self) -> None:
        if not isinstance(self.bench.strategy, SelfDrivenLearner):
            self._stop()

    def _stop(self) -> None:
        if self._seen.iterations not in self.stops:
            return
        state = {**self.bench.state_dict(), "observation": self._seen.state_dict()}
        Checkpoints(_place(self.folder, self._seen.position)).write(self._seen.iterations, state)
        self.saved[self._seen.position] = _attributes(self.bench.strategy, self.remade)

    def restore(self, state: dict[str, Any], position: Position) -> None:
        self.bench.load_state_dict(state, position.experience, within=bool(position.done))
        self._seen.load_state_dict(state["observation"], position)

    def outcome(self) -> dict[str, Any]:
        """State and record."""
        state = {"state_dict": _content(self.bench.strategy.state_dict())}
        return {**state, "model": _content(self.bench.strategy.model), **self._recorder.chunks[0]}


def _place(folder: Path, position: Position) -> Path:
    return folder / f"{position.experience}-{position.done}"


def _tail(whole: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """The whole outcome without the part of the record from before the rest."""
    tail = {n: v[len(v) - len(rest[n]) :] if isinstance(v, np.ndarray) and n in rest else v for n, v in whole.items()}
    # A chunk without evaluations has no arrays of them, and one without updates none of gradients.
    return {n: v for n, v in tail.items() if n in rest or len(rest["loss" if "gradient" in n else "iteration"])}


def _agree(a: Any, b: Any, sentence: str) -> None:
    try:
        assert_same(a, b)
    except AssertionError as error:
        raise AssertionError(f"{sentence} another {str(error).lstrip('.') or 'value'}.") from None


def _attributes(strategy: Learner, remade: Collection[str]) -> dict[str, Leaf]:
    """A copy of the strategy's comparable attributes."""
    return {path: leaf.copy() for path, leaf in state_of(strategy, remade).items() if leaf.value is not None}


def _forgotten(before: dict[str, Leaf], after: dict[str, Leaf]) -> list[str]:
    """Names of the attributes that differ, ascending."""
    paths = before.keys() | after.keys()
    different = (path for path in paths if path not in before or not before[path].same(after.get(path)))
    return sorted({(before.get(path) or after[path]).name for path in different})


def _content(value: Any) -> dict[str, Any]:
    """A copy of a value as arrays and texts, by path."""
    content = {}
    for path, leaf in leaves(value, "").items():
        copied = leaf.copy().value
        if isinstance(copied, torch.Tensor):
            copied = (copied.float() if copied.dtype == torch.bfloat16 else copied).numpy(force=True)
        content[re.sub(r"\['([^']*)'\]", r".\1", path).lstrip(".")] = copied
    return content
