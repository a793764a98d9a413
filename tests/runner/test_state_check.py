"""State that a user's strategy forgets is named at a checkpoint, and its run restarts instead of resuming wrongly."""

from __future__ import annotations

import copy
import itertools
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from clbench.rng import Generator, fenced
from clbench.runner.checkpoint import Every
from clbench.runner.numerics import numerics
from clbench.runner.signals import Interrupted
from clbench.runner.state_check import StateCheck
from clbench.runner.state_leaves import leaves
from clbench.strategy import Batch, Strategy
from support import CLASSIFIERS, CrashAt, assembled, execute, make_run, unwatched

EVERY = Every(0, 2)


class Helper:
    """A plain object of a user's."""

    def __init__(self) -> None:
        self.count = 0
        self.started = random.Random().random()


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Keeps(Strategy):
    """A method that keeps something which it does not save."""

    def after_update(self, batch: Batch) -> None:
        self.work(batch)

    def work(self, batch: Batch) -> None: ...


class Teacher(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.teacher = copy.deepcopy(self.model)

    def work(self, batch: Batch) -> None:
        for mine, new in zip(self.teacher.parameters(), self.model.parameters(), strict=True):
            mine.data.lerp_(new.data, 0.1)


class LateTeacher(Keeps):
    teacher: nn.Module | None = None

    def end_experience(self, experience: Any) -> None:
        self.teacher = copy.deepcopy(self.model)


class Scheduler(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)

    def work(self, batch: Batch) -> None:
        self.scheduler.step()


class SecondOptimizer(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scale = torch.ones(3, requires_grad=True)
        self.second = torch.optim.Adam([self.scale])

    def work(self, batch: Batch) -> None:
        self.scale.square().sum().backward()
        self.second.step()


class Generators(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.of_torch = torch.Generator().manual_seed(1)
        self.of_numpy = np.random.default_rng(1)
        self.old = np.random.RandomState(1)
        self.of_python = random.Random(1)
        self.of_setup = self.setup.new_generator("mine")

    def work(self, batch: Batch) -> None:
        torch.rand(1, generator=self.of_torch), self.of_numpy.random(), self.old.rand()
        self.of_python.random(), self.of_setup.raw(1)


class Unseeded(Keeps):
    """Drawn anew at each construction, and never changed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.projection = np.random.default_rng().random((3, 3))


class Plain(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.count, self.rate, self.phase, self.warm = 0, 1.0, "first", True

    def work(self, batch: Batch) -> None:
        self.count, self.rate, self.phase, self.warm = self.count + 1, self.rate * 0.9, "second", False


class Containers(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recent: list[int] = []
        self.per_class: dict[int, torch.Tensor] = {}
        self.seen: set[int] = set()
        self.counts = np.zeros(20)

    def work(self, batch: Batch) -> None:
        self.recent.append(1)
        self.per_class[len(self.per_class)] = batch.x.mean(0)
        self.seen.add(len(self.seen))
        self.counts[0] += 1


class Objects(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.helper, self.slotted = Helper(), Slotted()

    def work(self, batch: Batch) -> None:
        self.helper.count += 1
        self.slotted.count += 1


class OfClass(Keeps):
    history: ClassVar[list[int]] = []

    def work(self, batch: Batch) -> None:
        self.history.append(1)


class OfModel(Keeps):
    """A rate of dropout on a schedule, a frozen layer and a buffer that is not saved, of the model itself."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.model = nn.Sequential(nn.Dropout(0.5), self.model)
        self.model.register_buffer("mean", torch.zeros(2), persistent=False)

    def work(self, batch: Batch) -> None:
        self.model[0].p = 0.1  # type: ignore[index]
        self.model.mean += 1  # type: ignore[operator, union-attr]
        next(self.model.parameters()).requires_grad_(False)


class Iterates(Keeps):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.numbers = iter([1, 2, 3])


FORGETFUL = {
    Teacher: "'teacher' (a module)",
    LateTeacher: "'teacher' (a module)",
    Scheduler: "'scheduler' (a scheduler)",
    SecondOptimizer: "'scale' (a tensor) and 'second' (an optimiser)",
    Generators: ", ".join(f"'of_{n}' (a generator)" for n in ("numpy", "python", "setup", "torch")) + " and 1 more",
    Unseeded: "'projection' (an array)",
    Plain: "'count' (a number), 'phase' (a text), 'rate' (a number) and 'warm' (a flag)",
    Containers: "'counts' (an array), 'per_class' (a dictionary), 'recent' (a list) and 'seen' (a set)",
    Objects: "'helper.count' (a number) and 'slotted.count' (a number)",
    OfClass: "'OfClass.history' (a list of the class)",
    OfModel: "'model' (a module)",
    Iterates: "'numbers' (an iterator)",
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGETFUL, ids=lambda kind: kind.__name__)
def test_forgotten_state_is_named_and_the_run_restarts(kind: type[Strategy], named: Any, tmp_path: Path) -> None:
    run, warnings, lines = make_run(named(kind)), list[str](), list[str]()
    fault = f"{kind.__name__} keeps {FORGETFUL[kind]}, which state_dict() leaves out"
    with pytest.raises(Interrupted, match=r"^interrupted; the same command restarts the run\.$"):
        execute(run, tmp_path / "a", every=EVERY, warn=warnings.append, progress=CrashAt(9))
    remedy = "(save and load it, or name it in 'transient' if it is rebuilt where it is needed)"
    assert warnings == [f"no checkpoints: {fault}; if stopped, the run restarts {remedy}"]
    again = execute(run, tmp_path / "a", every=Every(0, 0), warn=lines.append)
    at = 6 if kind is LateTeacher else 2
    assert lines == [f"checkpoint at update {at} cannot be used: {fault}; the run restarts"]
    assert again.record["costs"]["resumed_at"] == []
    assert again.record["trace_sha256"] == execute(run, tmp_path / "b", every=Every(0, 0)).record["trace_sha256"]


class SavesAll(Generators, Containers):
    """Saves what changes; a cache, a time and constants are none of it."""

    transient = ("cache",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cache: Any = None
        self.path, self.constant, self.table = Path("x"), Helper(), torch.arange(5)
        self.lock = itertools
        self.helper = Helper()
        self.alias = self.model

    def work(self, batch: Batch) -> None:
        Generators.work(self, batch)
        Containers.work(self, batch)
        self.cache, self.helper.count = batch.x, self.helper.count + 1

    def state_dict(self) -> dict[str, Any]:
        generators = [self.of_numpy.bit_generator.state, list(self.of_python.getstate()), self.of_torch.get_state()]
        return {
            **super().state_dict(), "generators": generators, "old": self.old.get_state(legacy=False),
            "of_setup": self.of_setup.state_dict(), "recent": self.recent, "per_class": self.per_class,
            "seen": sorted(self.seen), "counts": self.counts, "helper": self.helper.count,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.of_numpy.bit_generator.state = state["generators"][0]
        self.of_python.setstate(tuple(state["generators"][1]))
        self.of_torch.set_state(state["generators"][2])
        self.old.set_state(state["old"])
        self.of_setup.load_state_dict(state["of_setup"])
        self.recent, self.per_class, self.counts = state["recent"], state["per_class"], state["counts"]
        self.seen, self.helper.count = set(state["seen"]), state["helper"]


class Growing(Strategy):
    """A scheduler that is made in `begin_experience`, and a list that grows with the stream."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.anchors: list[torch.Tensor] = []

    def make_scheduler(self) -> None:
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 / (1 + step))

    def begin_experience(self, experience: Any) -> None:
        super().begin_experience(experience)
        self.make_scheduler()

    def after_update(self, batch: Batch) -> None:
        self.scheduler.step()

    def end_experience(self, experience: Any) -> None:
        self.anchors.append(next(self.model.parameters()).detach().clone())

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scheduler": self.scheduler.state_dict(), "anchors": self.anchors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.make_scheduler()  # before the optimiser is loaded: it sets learning rates
        super().load_state_dict(state)
        self.scheduler.load_state_dict(state["scheduler"])
        self.anchors = state["anchors"]


@pytest.mark.parametrize("kind", [SavesAll, Growing])
@pytest.mark.parametrize("reset", ["keep", "reset"])
def test_complete_state_resumes_without_a_word(kind: type[Strategy], reset: str, named: Any, tmp_path: Path) -> None:
    run, warnings = make_run(named(kind), f"training.optimizer_state={reset}"), list[str]()
    whole = execute(run, tmp_path / "whole", every=Every(0, 0)).record
    for update in (4, 9, 14):
        with pytest.raises(Interrupted):
            execute(run, tmp_path / "parts", every=EVERY, warn=warnings.append, progress=CrashAt(update))
    parts = execute(run, tmp_path / "parts", every=EVERY, warn=warnings.append).record
    assert warnings == []
    assert parts["costs"]["resumed_at"] == [2, 8, 12]
    assert all(parts[key] == whole[key] for key in ("trace_sha256", "weights_sha256"))


def test_a_check_does_not_move_the_run(named: Any, tmp_path: Path) -> None:
    """The same bytes with checkpoints and without, where augmentation, the strategy and third parties draw."""

    class Draws(SavesAll):
        def loss(self, batch: Batch) -> torch.Tensor:
            x, _ = self.setup.samples.fetch(batch.index, batch.task)
            return super().loss(batch) * (1 + 0.1 * float(torch.rand(()))) + 1e-3 * self.model(x).square().mean()

    overrides = ["training.augmentation=[{name: random_crop, padding: 1}]", "watch.gradients=true"]
    run = make_run(named(Draws), *overrides, benchmark="split_digits-v1", iterations=3)
    records = [execute(run, tmp_path / str(n), every=Every(0, n)).record for n in (0, 1)]
    assert records[1]["costs"]["checkpoints"] == 15
    assert records[0]["trace_sha256"] == records[1]["trace_sha256"]


def test_a_state_that_cannot_be_loaded_is_told_while_it_can_be_mended(named: Any, tmp_path: Path) -> None:
    class Stuck(Strategy):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise KeyError("prototypes")

    warnings: list[str] = []
    assert execute(make_run(named(Stuck)), tmp_path, every=EVERY, warn=warnings.append).record["status"] == "completed"
    [warning] = warnings
    start = "no checkpoints: load_state_dict() of Stuck fails with what state_dict() returned: KeyError: 'prototypes' ("
    assert warning.startswith(f"{start}test_state_check.py line ")
    line = ', in load_state_dict: raise KeyError("prototypes")); if stopped, the run restarts'
    assert warning.endswith(line)


def test_parts_of_a_composition_are_checked_too(named: Any, tmp_path: Path) -> None:
    warnings: list[str] = []
    run = make_run(f"er+{named(Plain)}")
    execute(run, tmp_path, every=EVERY, warn=warnings.append)
    assert len(warnings) == 1
    assert "keeps 'Plain.count' (a number), 'Plain.phase' (a text)," in warnings[0]


@pytest.mark.parametrize("strategy", [*CLASSIFIERS, "er+ewc", "lwf+si"])
def test_the_table_saves_everything(strategy: str) -> None:
    run = make_run(strategy, "training.optimizer={name: adam}", "stream.tasks.count=2", iterations=2)
    with numerics(run.numerics), fenced():
        components = assembled(run)
        check = StateCheck(components.strategy, components.remake)
        assert check.fault(components.strategy.state_dict()) is None
        unwatched(components)
        assert check.fault(components.strategy.state_dict()) is None


# ------------------------------------------------------------------------------------------------ leaves
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.arange(5.0), torch.arange(1, 6.0)),
        (torch.zeros(700, 128), torch.zeros(700, 128).index_fill_(0, torch.tensor([3]), 1e-9)),
        (torch.arange(1280.0).view(10, 128), torch.arange(1280.0).view(10, 128).flip(0)),
        (torch.zeros(3), -torch.zeros(3)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (torch.zeros(4), torch.zeros(2, 2)),
        (torch.full((3,), float("nan")), torch.zeros(3)),
        (torch.ones(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.bfloat16)),
        (np.arange(3), np.arange(3.0)),
        (np.array([{}, 1], object), np.array([{}, 2], object)),
        ({"a": [1, {2}]}, {"a": [1, {3}]}),
        ({1, 2}, {1, 3}),
        (True, 1),
        (nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.Dropout(0.1), nn.Dropout(0.1).eval()),
        (Generator(0, "a"), Generator(0, "b")),
    ],
)
def test_a_leaf_tells_a_difference(one: Any, other: Any) -> None:
    first, same, second = (leaves(value, "x") for value in (one, copy.deepcopy(one), other))
    assert all(leaf.same(same[path]) and leaf.digest() == same[path].digest() for path, leaf in first.items())
    paths = first.keys() | second.keys()
    differ = [p for p in paths if p not in first or not first[p].same(second.get(p))]
    assert differ
    assert all(p not in first or p not in second or first[p].digest() != second[p].digest() for p in differ)


def test_circles_and_views_are_walked() -> None:
    helper: Any = Helper()
    helper.itself, helper.view = helper, torch.arange(100, dtype=torch.uint8)[1:98:3]
    assert set(leaves(helper, "h")) == {"h.count", "h.started", "h.view"}
    assert leaves(helper, "h")["h.view"].digest() == leaves(helper.view.clone(), "h")["h"].digest()
