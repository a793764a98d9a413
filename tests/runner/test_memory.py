"""Memory of a run ends with the run: nothing waits for Python's collector, which is off here."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.runner import run as runner
from clbench.runner import single_samples
from clbench.runner.components import Components, assemble
from clbench.runner.run import execute
from clbench.strategies.naive import Naive
from clbench.strategy import Batch, Experience, Setup
from support import CrashAt, assembled, make_run, user_module, watched

HOSTED: Any = pytest.param("avalanche.training.supervised:Replay", marks=pytest.mark.filterwarnings("ignore"))
"""What its imports warn of is not looked at."""
FRAMES: list[FrameType] = []


class Raises(Naive):
    """Fails at its first loss."""

    def loss(self, batch: Batch) -> Tensor:
        raise ValueError("no luck")


class Diverges(Naive):
    """Its loss is not a number."""

    def loss(self, batch: Batch) -> Tensor:
        return super().loss(batch) * float("nan")


class InACycle(Naive):
    """Refers to itself, as many a class of users does."""

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self.update = self.step


class KeepsFrames(Naive):
    """Keeps the frames of all that is running, as an exception does that a library remembers."""

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        FRAMES.append(sys._getframe())

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        FRAMES.append(sys._getframe())


class KeepsItsProgress:
    """Progress that is still there after the run, with what it was handed."""

    def watch(self, latest: Callable[[], tuple[float | None, float | None]], view: str) -> None:
        self._latest = latest

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None:
        self._latest()

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        FRAMES.clear()
        gc.enable()


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What lives of all components that were assembled: evaluators, their tensors, training samples."""
    held: list[tuple[str, weakref.ref[Any]]] = []

    def note(bench: Components) -> None:
        tensors = {name: v for name, v in vars(bench.evaluator).items() if isinstance(v, Tensor)}
        ready = bench.evaluator._inputs.ready
        assert ready is not None
        assert ready.nbytes >= bench.stream.data.test_x.nbytes
        parts = {"evaluator": bench.evaluator, "_inputs": ready, **tensors, "samples": bench.samples}
        held.extend((name, weakref.ref(part)) for name, part in parts.items())

    def noted(*arguments: Any, **more: Any) -> Components:
        bench = assemble(*arguments, **more)
        note(bench)  # not here, where the names would be in a frame that a strategy's constructor can keep
        return bench

    monkeypatch.setattr(runner, "assemble", noted)
    monkeypatch.setattr(single_samples, "assemble", noted)

    def living() -> list[str]:
        assert held
        return [name for name, reference in held if reference() is not None]

    return living


def bytes_of_tensors() -> int:
    # Not by isinstance, which asks lazy objects of torch for their class, and these warn.
    return sum(t.nbytes for t in gc.get_objects() if issubclass(type(t), Tensor))


@pytest.mark.parametrize("estimated", [False, True])
@pytest.mark.parametrize("strategy", ["naive", "er", "er+ewc", "ema", HOSTED])
def test_a_run_leaves_nothing_behind(
    strategy: str, estimated: bool, tmp_path: Path, alive: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    if ":" not in strategy:  # Avalanche has cycles, and its import leaves tensors
        monkeypatch.setattr(gc, "collect", lambda: pytest.fail("the collector was needed"))
    before = bytes_of_tensors()
    outcome = execute(make_run(strategy), tmp_path, say=said.append if estimated else None)
    assert alive() == []
    assert outcome.record["status"] == "completed"
    assert any("evaluations of up to" in line for line in said) == estimated
    assert ":" in strategy or bytes_of_tensors() <= before


@pytest.mark.parametrize(
    ("kind", "status"),
    [(Raises, "failed"), (Diverges, "failed"), (InACycle, "completed")],
)
def test_a_run_of_the_users_leaves_nothing_behind(
    kind: type, status: str, tmp_path: Path, alive: Callable[[], list[str]], named: Callable[[type], str]
) -> None:
    for say in (None, lambda line: None):
        assert execute(make_run(named(kind)), tmp_path, say=say, force=True).record["status"] == status
        assert alive() == []


@pytest.mark.parametrize("say", [None, lambda line: None])
def test_test_inputs_are_freed_whoever_keeps_the_frames(
    say: Callable[[str], None] | None, tmp_path: Path, alive: Callable[[], list[str]], named: Callable[[type], str]
) -> None:
    assert execute(make_run(named(KeepsFrames)), tmp_path, say=say).record["status"] == "completed"
    assert set(alive()) == {"samples"}  # the strategy is in a frame, and knows them
    assert FRAMES


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, alive: Callable[[], list[str]]) -> None:
    try:
        execute(make_run("er"), tmp_path, progress=CrashAt(3))
    except KeyboardInterrupt:
        assert not {"evaluator", "_inputs"} & set(alive())  # the exception has the frames
    else:
        pytest.fail("nothing interrupted it")
    assert alive() == []


def test_progress_that_outlives_the_run_keeps_no_test_inputs(tmp_path: Path, alive: Callable[[], list[str]]) -> None:
    progress = KeepsItsProgress()
    execute(make_run("er"), tmp_path, progress=progress)
    assert alive() == []


def normalised(shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(shape[0], 8), nn.BatchNorm1d(8), nn.Linear(8, outputs))


def test_a_refused_run_leaves_nothing_behind(
    tmp_path: Path, alive: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch normalisation is tried on batches of one sample and of two, with components of their own."""
    factory = f"{user_module(monkeypatch, normalised)}:normalised"
    run = make_run("naive", f"model={{name: imported, factory: '{factory}'}}", "training.batch_size=1")
    with pytest.raises(UserError, match="a single sample"):
        execute(run, tmp_path)
    assert alive() == []


def test_components_that_are_used_without_a_run_are_in_no_cycle() -> None:
    components = assembled(make_run("er"))
    evaluator = weakref.ref(components.evaluator)
    watched(components)
    del components
    assert evaluator() is None
