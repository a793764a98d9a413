"""Limits of a strategy's knowledge, reach and budget, enforced over whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import support
from clbench import messages, metrics, resolve, schema
from clbench.config.training import Training
from clbench.errors import UserError
from clbench.results import trace_files
from clbench.rng import Generator
from clbench.strategy import Batch, Experience, SelfDriven, Strategy
from clbench.stream import Stream
from clbench.streams import definition
from clbench.streams.compile import compile_stream
from clbench.training.budget import budgets
from support import SPLIT

PERMUTED, BLURRY = "permuted_digits-v1", "blurry_digits-v1"
SMALL = ["training={iterations: 3, epochs: null, batch_size: 16}"]
UNBOUNDED = "protocol.boundaries=false"


def execute(out: Path, strategy: str, *overrides: str, benchmark: str = SPLIT) -> dict[str, Any]:
    run = support.make_run(strategy, *SMALL, *overrides, benchmark=benchmark)
    return support.execute(run, out).record


def trained(strategy: str, *overrides: str, benchmark: str = SPLIT) -> tuple[Any, dict[str, Any]]:
    """The assembled components, and the state of everything that chance and learning move."""
    bench = support.trained(support.make_run(strategy, *SMALL, *overrides, benchmark=benchmark))
    return bench, {"strategy": bench.strategy.state_dict(), "batches": bench.batches.state_dict()}


# ------------------------------------------------------------------------------------------------ data to come
class Reaches(Strategy):
    """Fetches, at the start of experience `at`, rows of the training set under a task."""

    class Config(schema.Model):
        at: int
        rows: list[int]
        task: int = 0

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        if experience.number == self.config.at:
            x, y = self.setup.samples.fetch(torch.tensor(self.config.rows), self.config.task)
            assert len(x) == len(y) == len(self.config.rows)


def reach(out: Path, name: str, at: int, rows: Any, task: int, *overrides: str, benchmark: str = SPLIT) -> Any:
    said = ["evaluation.every=0", f"strategy.at={at}", f"strategy.rows={list(map(int, rows))}", f"strategy.task={task}"]
    return execute(out, name, *said, *overrides, benchmark=benchmark)


def stream_of(benchmark: str, *overrides: str) -> Stream:
    return compile_stream(resolve.resolve(benchmark, [*SMALL, *overrides], need_strategy=False)[0].stream, 0)


def test_samples_of_later_experiences_are_out_of_reach(named: Any, tmp_path: Path) -> None:
    name, stream = named(Reaches), stream_of(SPLIT)
    first = [v.index[:3] for v in stream.experiences]
    for at in (0, 3):
        record = reach(tmp_path, name, at, first[at + 1], at + 1)
        assert record["status"] == "failed"
        assert record["failure"] == {
            "kind": "data_to_come",
            "message": "the strategy asked for samples that no experience has brought so far",
            "iteration": 3 * at,
        }
        for back in range(at + 1):
            assert reach(tmp_path, name, at, first[back], back)["status"] == "completed"
    one_more = reach(tmp_path, name, 1, [*first[0], first[4][0]], 0)
    assert one_more["failure"]["kind"] == "data_to_come", "one among many"


@pytest.mark.parametrize(
    ("at", "row_of", "task", "allowed"),
    [(0, 0, 0, True), (0, 0, 1, False), (1, 0, 0, True), (1, 1, 1, True), (1, 0, 1, False), (1, 1, 0, False),
     (1, 1, 2, False)],
)  # fmt: skip
def test_a_known_sample_is_out_of_reach_in_a_task_in_which_it_has_not_come(
    named: Any, tmp_path: Path, at: int, row_of: int, task: int, allowed: bool
) -> None:
    """Its image under a permutation is another sample, which a later experience may bring."""
    schedule = "stream.schedule={by: none, new: 100}"
    few = [v.index for v in stream_of(PERMUTED, schedule).experiences]
    rows = np.setdiff1d(few[row_of], few[1 - row_of])[:5]
    record = reach(tmp_path, named(Reaches), at, rows, task, schedule, benchmark=PERMUTED)
    assert (record["status"] == "completed") == allowed
    assert allowed or record["failure"]["kind"] == "data_to_come"


def test_later_pieces_of_an_experience_are_out_of_reach(named: Any, tmp_path: Path) -> None:
    stream = stream_of(SPLIT, "stream.online=50")
    assert stream.experiences[1].origin == 0
    rows = stream.experiences[1].index[:2]
    assert reach(tmp_path, named(Reaches), 0, rows, 0, "stream.online=50")["failure"]["kind"] == "data_to_come"
    assert reach(tmp_path, named(Reaches), 1, rows, 0, "stream.online=50")["status"] == "completed"


@pytest.mark.parametrize("benchmark", [SPLIT, PERMUTED, BLURRY, "drift_digits-v1", "power_law_digits-v1"])
@pytest.mark.parametrize("strategy", ["naive", "er", "joint", "cumulative"])
def test_what_keeps_to_the_rules_is_not_hindered(tmp_path: Path, strategy: str, benchmark: str) -> None:
    record = execute(tmp_path, strategy, "evaluation.every=0", benchmark=benchmark)
    assert record["failure"] is None
    assert record["status"] == "completed"


def test_samples_without_a_label_may_be_fetched_and_have_none(named: Any, tmp_path: Path) -> None:
    seen: list[int] = []

    class Looks(Strategy):
        def begin_experience(self, experience: Experience) -> None:
            super().begin_experience(experience)
            index, task = torch.from_numpy(experience.unlabelled), torch.from_numpy(experience.unlabelled_task)
            x, y = self.setup.samples.fetch(index, task)
            assert (y == -1).all()
            assert (self.setup.samples.labels_of(experience.unlabelled) == -1).all()
            assert (self.setup.samples.labels_of(experience.index) >= 0).all()
            assert x.shape == (len(y), 32)
            seen.append(len(y))

        def loss(self, batch: Batch) -> torch.Tensor:
            assert (batch.y >= 0).all()
            return super().loss(batch)

    record = execute(tmp_path, named(Looks), "stream.supervision.labelled=0.25")
    assert record["status"] == "completed", record["failure"]
    assert seen == [150] * 5


# ------------------------------------------------------------------------------------------------ boundaries
class Diary(Strategy):
    """Writes down what it is told."""

    calls: list[tuple[str, Any]] = []  # noqa: RUF012 - one for all, read by the tests

    def begin_experience(self, experience: Experience) -> None:
        super().begin_experience(experience)
        self.calls.append(("begin", experience))

    def end_experience(self, experience: Experience) -> None:
        self.calls.append(("end", experience))

    def predict(self, model: Any, x: torch.Tensor, task: torch.Tensor | None) -> Any:
        self.calls.append(("predict", task))
        return super().predict(model, x, task)


@pytest.fixture
def diary(named: Any) -> str:
    Diary.calls.clear()
    return str(named(Diary))


def test_without_boundaries_a_strategy_is_called_once_and_told_nothing(diary: str, tmp_path: Path) -> None:
    record = execute(tmp_path, diary, UNBOUNDED, "evaluation.every=0")
    assert record["status"] == "completed"
    told = [call for call in Diary.calls if call[0] != "predict"]
    assert [kind for kind, _ in told] == ["begin", "end"]
    assert [c[0] for c in Diary.calls].index("begin") == 0
    for _, experience in told:
        assert (experience.number, experience.part, experience.parts) == (0, 0, 1)
        assert experience.tasks == experience.outputs == ()
        lists = (experience.index, experience.task, experience.unlabelled, experience.unlabelled_task)
        assert [len(rows) for rows in lists] == [0] * 4


def test_with_boundaries_it_is_called_for_each(diary: str, tmp_path: Path) -> None:
    execute(tmp_path, diary, "stream.online=50", "evaluation.every=0")
    told = [(kind, e.number, e.part, e.parts) for kind, e in Diary.calls if kind != "predict"]
    expected = [(n, n % 4, 4) for n in range(20)]
    assert told == [(kind, *e) for e in expected for kind in ("begin", "end")]


@pytest.mark.parametrize("strategy", ["naive", "er", "joint", "cumulative"])
def test_denying_boundaries_changes_nothing_for_who_does_not_use_them(strategy: str, tmp_path: Path) -> None:
    """The same batches in the same order, and so the same weights."""
    one, other = (execute(tmp_path / str(i), strategy, *o) for i, o in enumerate(([], [UNBOUNDED])))
    assert one["weights_sha256"] == other["weights_sha256"]
    assert one["metrics"] == other["metrics"]


def test_who_needs_boundaries_is_refused_before_it_runs(named: Any, tmp_path: Path) -> None:
    sentence = "needs the boundaries of experiences as it is configured, which protocol.boundaries of "
    for flags in (["strategy.fill=after"], ["strategy.loss=weighted"]):
        with pytest.raises(UserError, match=f"strategy 'er' {sentence}{SPLIT} denies"):
            execute(tmp_path, "er", UNBOUNDED, *flags)
    fixed = execute(tmp_path / "fixed", "er", UNBOUNDED, "strategy.loss=weighted", "strategy.new_weight=0.5")
    assert fixed["status"] == "completed"

    class Loops(SelfDriven):
        def fit(self, experience: Experience, iterations: int, watcher: Any) -> None:
            raise AssertionError("it ran")

    with pytest.raises(UserError, match=sentence):
        execute(tmp_path / "own", named(Loops), UNBOUNDED)
    assert not list((tmp_path / "own").rglob("run.json"))
    with pytest.raises(UserError, match=f"strategy 'avalanche.training.supervised:Naive' {sentence}"):
        execute(tmp_path / "hosted", "avalanche.training.supervised:Naive", UNBOUNDED)
    assert not list((tmp_path / "hosted").rglob("run.json"))


# ------------------------------------------------------------------------------------------------ tasks
@pytest.mark.parametrize("told", [True, False])
def test_the_tasks_of_an_experience_are_told_or_not(diary: str, tmp_path: Path, told: bool) -> None:
    record = execute(tmp_path, diary, f"protocol.task_in_training={str(told).lower()}", "evaluation.every=0")
    assert record["status"] == "completed"
    begun = [e for kind, e in Diary.calls if kind == "begin"]
    assert [e.tasks for e in begun] == ([(t,) for t in range(5)] if told else [()] * 5)
    assert [len(e.index) for e in begun] == [200] * 5


@pytest.mark.parametrize(
    ("setting", "said", "told"),
    [("class", None, False), ("task", None, True), ("domain", None, False), ("domain", True, True),
     ("domain", False, False)],
)  # fmt: skip
def test_the_task_of_a_test_sample_is_told_by_the_protocol(
    diary: str, tmp_path: Path, setting: str, said: bool | None, told: bool
) -> None:
    labels = "within_task" if setting == "domain" else "class"
    flags = [f"stream.setting={setting}", f"stream.tasks.labels={labels}", "evaluation.every=0"]
    flags += [] if said is None else [f"protocol.task_at_test={str(said).lower()}"]
    record = execute(tmp_path, diary, *flags)
    assert record["status"] == "completed"
    tasks = [task for kind, task in Diary.calls if kind == "predict"]
    assert tasks
    assert all((task is not None) == told for task in tasks)
    if told:
        assert set(torch.cat(tasks).tolist()) == set(range(5))


# ------------------------------------------------------------------------------------------------ outputs of a batch
def test_outputs_of_the_batch_alone_compete() -> None:
    """Against a cross-entropy over the columns of the classes that occur, cut out by hand."""
    bench = support.assembled(support.make_run("naive", *SMALL, "training.active_outputs=batch"))
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([3, 8, 3, 3, 1, 8, 8])
    loss = bench.strategy.criterion(logits, y, 0)
    loss.backward()
    present = [1, 3, 8]
    by_hand = F.cross_entropy(logits[:, present], torch.tensor([present.index(c) for c in y.tolist()]))
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-6)
    assert logits.grad is not None
    assert logits.grad[:, [c for c in range(10) if c not in present]].abs().max() == 0
    assert (logits.grad[:, present] != 0).all()
    alone = bench.strategy.criterion(torch.randn(2, 10), torch.tensor([4, 4]), torch.tensor([0, 1]))
    assert alone.item() == 0, "one class has nobody to lose to"


def test_masking_the_batch_is_what_a_run_does(tmp_path: Path) -> None:
    hashes = {a: execute(tmp_path / a, "naive", f"training.active_outputs={a}")["weights_sha256"] for a in
              ("all", "seen", "task", "batch")}  # fmt: skip
    assert hashes["batch"] != hashes["all"]
    assert hashes["batch"] == hashes["task"], "16 samples of two classes hold both, with this seed"


# ------------------------------------------------------------------------------------------------ budgets
def of_sizes(sizes: list[int]) -> Stream:
    lessons = [{"tasks": [0], "samples": n} for n in sizes]
    said = {
        "data": "digits", "tasks": {"by": "classes", "count": 1}, "setting": "class",
        "schedule": {"by": "explicit", "experiences": lessons},
    }  # fmt: skip
    found, problems = messages.check_section("t", "stream", definition.StreamConfig, said, {})
    assert not problems
    return compile_stream(found, 0)


def training(**said: Any) -> Training:
    return Training(**{"batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}, **said})


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8), extra=st.integers(0, 500))
def test_a_budget_of_the_stream_is_shared_in_proportion(sizes: list[int], extra: int) -> None:
    """Each experience gets one update, and its share of all others, rounded; none is lost."""
    stream, total = of_sizes(sizes), len(sizes) + extra
    found = budgets(training(iterations=total, budget="stream"), stream)
    assert sum(found) == total
    assert all(abs(n - 1 - extra * size / sum(sizes)) < 1 for n, size in zip(found, sizes, strict=True))
    assert min(found) >= 1
    one = training(iterations=len(sizes) - 1, budget="stream") if len(sizes) > 1 else None
    if one is not None:
        with pytest.raises(UserError) as caught:
            budgets(one, stream)
        assert caught.value.problems == (
            f"training: {len(sizes) - 1} updates for the whole stream are fewer than its {len(sizes)} experiences.",
        )


def test_epochs_of_the_stream_are_passes_over_its_different_samples() -> None:
    again = of_sizes([1442, 1442, 1442])
    assert sum(budgets(training(epochs=2, budget="stream"), again)) == 2 * 145
    assert sum(budgets(training(epochs=2, budget="stream", drop_last=True), again)) == 2 * 144
    assert budgets(training(epochs=2), again) == (290, 290, 290)
    assert budgets(training(epochs=2, drop_last=True), of_sizes([5, 25])) == (2, 4), "a lone small batch is kept"
    domains = stream_of(PERMUTED)
    assert sum(budgets(training(epochs=1, budget="stream", batch_size=1), domains)) == 1442 * len(domains.tasks)


def test_a_run_spends_its_budget_and_too_small_a_one_is_refused(tmp_path: Path) -> None:
    flags = ["stream.online=30", "training.budget=stream"]
    record = execute(tmp_path, "naive", *flags, "training.iterations=61")
    assert record["costs"]["iterations"] == 61
    with pytest.raises(UserError, match="training: 34 updates for the whole stream are fewer than its 35 experiences"):
        execute(tmp_path, "naive", *flags, "training.iterations=34")


# ------------------------------------------------------------------------------------------------ cuts
class Wanders(Strategy):
    """Weights that are a function of the number of updates alone, whatever the samples."""

    def step(self, batch: Batch) -> torch.Tensor:
        self.updates = getattr(self, "updates", 0) + 1
        with torch.no_grad():
            for i, p in enumerate(self.model.parameters()):
                drawn = Generator(self.updates, "wander", i).uniform(p.numel()) - 0.5
                p.copy_(torch.from_numpy(drawn).to(p.dtype).view_as(p))
        return torch.zeros(())


@pytest.mark.parametrize("look", [["evaluation.every=1"], ["evaluation={every: 3, dense: 2}"], ["evaluation.every=0"]])
@pytest.mark.parametrize("pieces", [20, 40, 100])
def test_metrics_do_not_see_how_an_experience_was_cut(named: Any, tmp_path: Path, pieces: int, look: list[str]) -> None:
    """With whole batches in each piece and one pass, the updates of a task block are as many, cut or not. Which samples
    are in a batch differs, so this strategy learns from none: every count and every metric must be equal."""
    name, once = named(Wanders), "training={epochs: 1, iterations: null, batch_size: 20}"
    whole = execute(tmp_path / "whole", name, once, *look)
    cut = execute(tmp_path / "cut", name, once, f"stream.online={pieces}", *look)
    assert (whole["stream"]["experiences"], cut["stream"]["experiences"]) == (5, 1000 // pieces)
    one, other = (trace_files.read_trace(next((tmp_path / k).rglob("run.json")).parent) for k in ("whole", "cut"))
    assert one.correct.keys() == other.correct.keys()
    assert len({c.tobytes() for c in one.correct["class"]}) > 5, "there is something to see"
    for view in one.correct:
        assert np.array_equal(one.correct[view], other.correct[view])
    assert np.array_equal(one.iteration, other.iteration)
    assert np.array_equal(one.phase, other.phase)
    values, again = metrics.compute(one), metrics.compute(other)
    assert whole["metrics"] == values
    differing = [
        (view, name) for view in values for name in values[view] if values[view][name] != again[view][name]
    ]  # fmt: skip
    assert differing == []
