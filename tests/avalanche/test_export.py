"""The exit: any stream of ours as an Avalanche benchmark, and Avalanche's strategies hosted on any stream of ours."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from clbench import dataset, messages, resolve, run_config
from clbench.avalanche import hosting, plugin, quiet
from clbench.avalanche.benchmark import benchmark as as_avalanche
from clbench.avalanche.benchmark import to_avalanche
from clbench.config import evaluation
from clbench.errors import RunFailed, UserError
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.recorder import Recorder
from clbench.rng import fenced
from clbench.runner import components, observer, training_loop
from clbench.runner.run import execute
from clbench.strategy import Setup, Strategy, Watcher
from clbench.stream import Stream
from clbench.streams import definition
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from clbench.training.inputs import InputTransform
from clbench.training.training_set import TrainingSet
from support import assembled, unwatched

# After the bridge, which knows what its dependencies say when they are imported.
from avalanche.benchmarks import CLScenario, OnlineCLExperience  # isort: skip
from avalanche.benchmarks.scenarios.generic_scenario import MaskedAttributeError  # isort: skip
from avalanche.core import SupervisedPlugin  # isort: skip
from avalanche.evaluation.metrics import accuracy_metrics  # isort: skip
from avalanche.logging import BaseLogger  # isort: skip
from avalanche.models import IncrementalClassifier, MTSimpleMLP, MultiHeadClassifier, MultiTaskModule  # isort: skip
from avalanche.training.plugins import AGEMPlugin, EvaluationPlugin, ReplayPlugin  # isort: skip
from avalanche.training.storage_policy import ReservoirSamplingBuffer  # isort: skip
from avalanche.training.supervised import EWC, Cumulative, Naive  # isort: skip

CPU = torch.device("cpu")
HERE = f"{__name__}:"
CLASSES, NATURAL = {"by": "classes", "count": 5}, {"by": "classes", "count": 5, "order": "natural"}
ROTATIONS = {"by": "rotations", "degrees": [0, 45, 90]}
POWER = {"by": "power_law", "rehearsed": 40, "new": 50}
NOISY = {"by": "transforms", "transforms": [{}, {"noise": 0.2, "brightness": 0.7}, {"invert": True, "rotation": 30}]}

KINDS: dict[str, dict[str, Any]] = {
    "class": {},
    "ten classes in three tasks": {"tasks": {"by": "classes", "count": 3}},
    "task": {"setting": "task"},
    "domain": {"tasks": {**CLASSES, "labels": "within_task"}, "setting": "domain"},
    "instances": {"tasks": {"by": "instances", "count": 4}, "setting": "domain"},
    "classes and instances": {"tasks": {"by": "classes_and_instances", "count": 3, "parts": 2}},
    "permutations": {"tasks": {"by": "permutations", "count": 3}, "setting": "domain", "normalise": "standard"},
    "rotations": {"tasks": ROTATIONS, "setting": "domain"},
    "transforms": {"tasks": NOISY, "setting": "domain"},
    "given": {"tasks": {"by": "given"}, "setting": "class"},
    "power law": {"schedule": POWER},
    "power law, task": {"schedule": POWER, "setting": "task"},
    "power law, domain": {"tasks": ROTATIONS, "setting": "domain", "schedule": POWER},
    "amount": {"schedule": {"by": "exponential", "variant": "amount", "new": 60}},
    "recurrence": {"schedule": {"by": "power_law", "variant": "recurrence", "probability": 1.0, "new": 60}},
    "random subsets": {
        "tasks": {"by": "classes", "count": 10},
        "schedule": {"by": "random_subsets", "experiences": 16},
    },
    "repetition": {"schedule": {"by": "repetition", "experiences": 8, "samples": 60}},
    "blurry": {"schedule": {"by": "blurry", "experiences": 12}},
    "blurry, task": {"schedule": {"by": "blurry", "experiences": 12, "boundary": "gaussian"}, "setting": "task"},
    "drift": {"tasks": ROTATIONS, "setting": "domain", "schedule": {"by": "drift", "experiences": 7}},
    "drift with samples": {
        "tasks": ROTATIONS, "setting": "domain", "schedule": {"by": "drift", "experiences": 7, "samples": 50},
    },
    "explicit": {"schedule": {"by": "explicit", "experiences": [{"tasks": [0, 2]}, {"tasks": [1, 3, 4], "repeat": 2}]}},
    "online": {"online": 30},
    "online, recurring": {"online": 16, "schedule": POWER, "setting": "task"},
    "label noise": {"supervision": {"noise": {"rate": 0.4}}},
    "unlabelled": {"supervision": {"labelled": 0.2}},
    "few shots": {"supervision": {"shots": 5}},
    "long tail": {"supervision": {"long_tail": {"ratio": 20}}},
}  # fmt: skip


def stream_config(**changes: Any) -> definition.StreamConfig:
    base = {"data": "digits", "tasks": CLASSES, "setting": "class"}
    found: definition.StreamConfig
    found, problems = messages.check_section("test", "stream", definition.StreamConfig, {**base, **changes}, {})
    assert not problems
    return found


def make(kind: str | None = None, seed: int = 0, **changes: Any) -> Stream:
    changes = {**KINDS[kind or "class"], **changes}
    data = load.load("digits")
    if changes.get("tasks") == {"by": "given"}:
        data = dataclasses.replace(data, train_task=data.train_y // 4, test_task=data.test_y // 4)
    return compile_stream(stream_config(**changes), seed, data)


def told(stream: Stream, task: int) -> int:
    """The task label that Avalanche's own benchmarks would have."""
    stands_for = stream.all_tasks[task].stands_for
    return 0 if stream.setting != "task" else task if stands_for is None else stands_for


def items(experience: Any) -> tuple[torch.Tensor, list[int], list[int]]:
    x, y, label = zip(*experience.dataset, strict=True)
    return torch.stack(x), list(y), list(label)


def chance() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist(), torch.get_rng_state().tolist()


# ------------------------------------------------------------------------------------------------ the round trip
@pytest.mark.parametrize("kind", KINDS)
def test_training_experiences_are_ours_sample_by_sample(kind: str) -> None:
    stream = make(kind)
    samples = TrainingSet(stream, InputTransform(stream, CPU), CPU)
    before = chance()
    benchmark = as_avalanche(stream)
    assert isinstance(benchmark, CLScenario)
    assert len(benchmark.train_stream) == len(stream.experiences)
    for v, (experience, converted) in enumerate(zip(stream.experiences, benchmark.train_stream, strict=True)):
        assert converted.current_experience == v
        assert converted is benchmark.train_stream[v]
        assert converted.benchmark is benchmark.train_stream.benchmark is benchmark
        wanted_x, wanted_y = samples.fetch(torch.from_numpy(experience.index), torch.from_numpy(experience.task))
        wanted_labels = [told(stream, t) for t in experience.task.tolist()]
        x, y, labels = items(converted)
        assert torch.equal(x, wanted_x)
        assert y == wanted_y.tolist()
        assert min(y) >= 0
        assert labels == wanted_labels
        assert list(converted.dataset.targets) == y
        assert list(converted.dataset.targets_task_labels) == labels
        assert converted.task_labels == sorted(set(labels))
        if len(set(labels)) == 1:
            assert converted.task_label == labels[0]
        else:
            assert not hasattr(converted, "task_label")
    assert chance() == before, "a global generator was moved"


@pytest.mark.parametrize("kind", KINDS)
def test_test_experiences_are_what_our_evaluator_sees(kind: str) -> None:
    """One for each task, and none for the steps of a drift."""
    stream = make(kind)
    ours = Evaluator.of_stream(
        stream, InputTransform(stream, CPU), CPU, evaluation.Evaluation(), evaluation.Watch(), 0, False, False
    )
    assert ours._inputs.ready is not None
    before = chance()
    test = as_avalanche(stream).test_stream
    assert len(test) == len(stream.tasks)
    for t, experience in enumerate(test):
        x, y, labels = items(experience)
        assert torch.equal(x, ours._inputs.ready[ours._task == t])
        assert y == ours._targets[ours._task == t].tolist()
        assert labels == [told(stream, t)] * len(y)
        assert experience.task_label == told(stream, t)
        rows = np.concatenate(stream.test_rows[t])
        assert y == stream.targets(stream.data.test_y[rows], t).tolist(), "targets are right in the test"
    assert chance() == before


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_the_past_and_those_to_come(kind: str) -> None:
    """Against sets of the targets; `with_classes_timeline` takes a class that returns for none to come."""
    benchmark = as_avalanche(make(kind))
    for stream in (benchmark.train_stream, benchmark.test_stream):
        here = [set(e.dataset.targets) for e in stream]
        for v, experience in enumerate(stream):
            assert experience.classes_in_this_experience == sorted(here[v])
            assert set(experience.previous_classes) == set().union(*here[:v])
            assert set(experience.classes_seen_so_far) == set().union(*here[: v + 1])
            assert set(experience.future_classes) == set().union(*here[v + 1 :])
    train = benchmark.train_stream
    if KINDS[kind].get("schedule") == POWER:
        assert set(train[1].future_classes) & set(train[1].previous_classes), "some return"
    entered = list(itertools.accumulate(benchmark.n_classes_per_exp, initial=0))
    for v, (a, b) in enumerate(itertools.pairwise(entered)):
        new = set(train[v].classes_in_this_experience) - set(train[v].previous_classes)
        assert set(benchmark.classes_order[a:b]) == new
        assert b - a == len(new)


def test_the_kinds_show_what_they_are_for() -> None:
    """Else the checks above could pass on streams without it."""
    made = {kind: make(kind) for kind in KINDS}
    flipped, sparse, drift = made["label noise"], made["unlabelled"], made["drift"]
    assert (flipped.labels != flipped.data.train_y).mean() > 0.3
    assert all(v.unlabelled for v in sparse.experiences)
    assert drift.variants
    assert any(t >= len(drift.tasks) for v in drift.experiences for t, _ in v.parts)
    for kind in ("power law, task", "blurry, task", "online, recurring"):
        assert any(len(e.task_labels) > 1 for e in as_avalanche(made[kind]).train_stream)
    assert made["given"].task_labels_given
    assert [len(t.classes) for t in made["ten classes in three tasks"].tasks] == [4, 3, 3]
    moved = [d for d in made["transforms"].domains if d.noise]
    assert moved


def test_a_variant_has_the_label_of_its_task() -> None:
    """No family of tasks gives a drift in the task setting so far; a stream may be put together by hand."""
    stream = dataclasses.replace(make("drift"), setting="task")
    for experience, converted in zip(stream.experiences, as_avalanche(stream).train_stream, strict=True):
        assert items(converted)[2] == [experience.tasks[0]] * experience.samples
        assert experience.tasks[0] < len(stream.tasks)


# ------------------------------------------------------------------------------------------------ known faults
def test_no_class_is_dropped() -> None:
    train = as_avalanche(make("ten classes in three tasks")).train_stream
    assert [len(e.classes_in_this_experience) for e in train] == [4, 3, 3]
    assert sorted(c for e in train for c in e.classes_in_this_experience) == list(range(10))
    assert sum(len(e.dataset) for e in train) == len(load.load("digits").train_y)


@pytest.mark.parametrize("access", [False, True])
@pytest.mark.parametrize("samples", [100, 20, 30])
def test_sub_experiences(samples: int, access: bool) -> None:
    """100 samples a task: in one part, in five equal ones, in three and a smaller one."""
    schedule = {"by": "explicit", "experiences": [{"tasks": [t, t + 1], "samples": 50} for t in (0, 2, 1)]}
    stream = make(tasks={"by": "classes", "count": 4}, schedule=schedule, online=samples)
    train = as_avalanche(stream, access_task_boundaries=access).train_stream
    sizes = {100: [100], 20: [20] * 5, 30: [30, 30, 30, 10]}[samples]
    per = len(sizes)
    assert len(train) == 3 * per
    assert [len(e.dataset) for e in train] == sizes * 3
    if per == 1:
        assert not any(isinstance(e, OnlineCLExperience) for e in train)
        return
    assert all(isinstance(e, OnlineCLExperience) for e in train)
    assert [e.is_first_subexp for e in train] == ([True] + [False] * (per - 1)) * 3
    assert [e.is_last_subexp for e in train] == ([False] * (per - 1) + [True]) * 3
    assert [e.sub_stream_length for e in train] == [per] * 3 * per
    assert [e.subexp_size for e in train] == sizes * 3
    assert [e.origin_experience.current_experience for e in train] == [v for v in range(3) for _ in range(per)]
    assert [e.current_experience for e in train] == list(range(3 * per))
    for e in train:
        assert e.access_task_boundaries is access
    for v in range(3):
        mine = train[v * per : (v + 1) * per]
        whole = train[v * per].origin_experience
        assert len(mine) == per
        assert all(e.origin_experience is whole for e in mine)
        assert torch.equal(items(whole)[0], torch.cat([items(e)[0] for e in mine]))
        assert items(whole)[1] == [y for e in mine for y in items(e)[1]]
        assert whole.classes_in_this_experience == sorted({c for e in mine for c in e.classes_in_this_experience})
        assert set(whole.future_classes) == {
            c for e in train[(v + 1) * per :] for c in e.origin_experience.classes_in_this_experience
        }
    trained = train[1].train()
    if access:
        assert trained.is_first_subexp is False
    else:
        with pytest.raises(MaskedAttributeError):
            assert trained.is_first_subexp
    with pytest.raises(MaskedAttributeError):
        assert trained.test_experiences
    assert train[1].test_experiences == stream.experiences[1].tasks
    assert not as_avalanche(stream).train_stream[0].access_task_boundaries, "as Avalanche has it"


def test_a_task_block_may_mix_tasks_that_none_of_its_parts_mixes() -> None:
    schedule = {"by": "explicit", "experiences": [{"tasks": [0, 1], "samples": 3}]}
    train = as_avalanche(make(tasks={"by": "classes", "count": 2}, setting="task", schedule=schedule, online=1))
    assert sorted(e.task_label for e in train.train_stream) == [0, 0, 0, 1, 1, 1]
    whole = train.train_stream[0].origin_experience
    assert whole.task_labels == [0, 1]
    assert items(whole)[2] == [e.task_label for e in train.train_stream]


def test_streams_are_lists() -> None:
    train = as_avalanche(make("online")).train_stream
    assert len(train) == sum(-(-v.samples // 30) for v in make().experiences)
    assert len(list(train)) == len(list(train)) == len(train), "more than once"
    tail = train[5:]
    assert len(tail) == len(train) - 5
    assert tail[0] is train[5]
    assert train[-1] is list(train)[-1]


def test_seeds_differ_and_one_seed_does_not() -> None:
    """Avalanche's `new_instances_benchmark` gives all seeds the same experiences."""
    a, b, c = (as_avalanche(make("instances", seed)).train_stream for seed in (0, 0, 1))
    assert torch.equal(items(a[0])[0], items(b[0])[0])
    assert not torch.equal(items(a[0])[0], items(c[0])[0])
    assert len(a[0].classes_in_this_experience) == 10, "no contiguous blocks of classes"


def test_inputs_are_made_at_first_use_and_once() -> None:
    stream = make("random subsets")
    samples = TrainingSet(stream, InputTransform(stream, CPU), CPU)
    asked: list[int] = []
    fetch = samples.fetch

    def counting(index: torch.Tensor, task: Any) -> Any:
        asked.append(len(index))
        return fetch(index, task)

    samples.fetch = counting  # type: ignore[method-assign]
    train = to_avalanche(stream, samples, CPU).train_stream
    assert not asked
    for experience in (train[3], train[3], *train):
        items(experience)
    assert asked[0] == stream.experiences[3].samples
    different = {(t, r) for v in stream.experiences for t, rows in v.parts for r in rows.tolist()}
    assert sum(asked) == len(different) < sum(v.samples for v in stream.experiences)


def test_an_outline_cannot_be_trained_on() -> None:
    data = load.load("digits")
    fields = {f.name: getattr(data, f.name) for f in dataclasses.fields(dataset.Outline)}
    stream = compile_stream(stream_config(), 0, dataset.Outline(**fields))
    with pytest.raises(UserError, match="'digits' is an outline without inputs"):
        as_avalanche(stream)


# ------------------------------------------------------------------------------------------------ in a stock script
class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.head = IncrementalClassifier(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x))
        return out


class Heads(MultiTaskModule):  # type: ignore[misc]
    """Avalanche's `MTSimpleMLP` with heads that are told of several tasks at once, which its own mask refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
        self.head = MultiHeadClassifier(64, initial_out_features=10, masking=False)

    def forward(self, x: torch.Tensor, task_labels: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x), task_labels)
        return out


def silent(*measures: Any) -> EvaluationPlugin:
    return EvaluationPlugin(*measures, loggers=[BaseLogger()])


def stock(model: nn.Module, benchmark: Any, plugins: list[Any] | None = None, epochs: int = 1) -> dict[str, Any]:
    """Plain `Naive` on the whole stream; what its own evaluation says at the end."""
    torch.manual_seed(0)
    random.seed(0)
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), train_mb_size=16, train_epochs=epochs,
        eval_mb_size=200, evaluator=silent(accuracy_metrics(experience=True)), plugins=plugins or [],
    )  # fmt: skip
    with quiet.hushed():
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
        found: dict[str, Any] = strategy.eval(benchmark.test_stream)
    return found


def last(found: dict[str, Any], experience: int) -> float:
    (value,) = (v for k, v in found.items() if k.startswith("Top1_Acc_Exp") and k.endswith(f"Exp{experience:03d}"))
    return float(value)


def test_stock_naive_with_a_growing_head() -> None:
    with fenced():
        torch.manual_seed(0)
        model = Growing()
        found = stock(model, as_avalanche(make("ten classes in three tasks")))
    assert model.head.classifier.out_features == 10
    assert last(found, 2) > 0.5, "among its own three classes a third is right by chance"


def test_stock_naive_with_a_head_for_each_task() -> None:
    with fenced():
        torch.manual_seed(0)
        model = MTSimpleMLP(input_size=64, hidden_size=64)
        found = stock(model, as_avalanche(make("task")), epochs=2)
    assert set(model.classifier.classifiers) == {"0", "1", "2", "3", "4"}
    assert last(found, 4) > 0.8, "one in two is right by chance"
    assert np.mean([last(found, t) for t in range(5)]) > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_stock_naive_trains_on_every_kind(kind: str) -> None:
    """Growing heads; in the task setting a head for each task, experiences with several among them."""
    stream = make(kind)
    ours = as_avalanche(stream)
    with fenced():
        torch.manual_seed(0)
        model: nn.Module = Heads() if stream.setting == "task" else Growing()
        watch = plugin.ContinualEvaluation(ours.test_stream, setting=stream.setting, outputs=stream.outputs, every=0)
        found = stock(model, ours, [watch])
    assert len([k for k in found if k.startswith("Top1_Acc_Exp")]) == len(stream.tasks)
    trace = watch.trace()
    whole = [
        v
        for v, experience in enumerate(stream.experiences)
        if not v or experience.origin != stream.experiences[v - 1].origin
    ]
    assert np.array_equal(trace.visits, stream.visit_matrix()[whole]), (
        "the plugin knows which tasks a task block is about"
    )


# ------------------------------------------------------------------------------------------------ hosted
def growing_naive(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    return Naive(
        model=Growing(), optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent()
    )


def growing_replay(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    replay = ReplayPlugin(mem_size=30, storage_policy=ReservoirSamplingBuffer(max_size=30))
    return Naive(
        model=Growing(), optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent(),
        plugins=[replay],
    )  # fmt: skip


def growing_ewc(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> EWC:
    return EWC(
        model=Growing(), optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent(),
        ewc_lambda=1.0, mode="online", decay_factor=0.5,
    )  # fmt: skip


def growing_cumulative(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Cumulative:
    return Cumulative(
        model=Growing(), optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent()
    )


def peeking(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int, at: int = 1) -> Naive:
    """Looks at the data of another experience of the stream."""

    class Peek(SupervisedPlugin[Any]):  # type: ignore[misc]
        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            here = strategy.experience
            there = here.origin_stream[here.logging().current_experience + at]
            assert len(there.dataset[0]) == 3

    options = {"optimizer": optimizer, "criterion": criterion, "train_mb_size": train_mb_size}
    return Naive(model=model, plugins=[Peek()], evaluator=silent(), **options)


def peeking_at_the_whole(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    """Looks at the end of the task block that its sub-experience is a part of."""

    class Peek(SupervisedPlugin[Any]):  # type: ignore[misc]
        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            whole = strategy.experience.origin_experience.dataset
            assert len(whole[len(whole) - 1]) == 3

    options = {"optimizer": optimizer, "criterion": criterion, "train_mb_size": train_mb_size}
    return Naive(model=model, plugins=[Peek()], evaluator=silent(), **options)


def make_run(name: str, stream: dict[str, Any], *overrides: str, **parameters: Any) -> run_config.RunConfig:
    given = [f"stream.{k}={json.dumps(v)}" for k, v in stream.items()]
    given += [f"strategy.{k}={json.dumps(v)}" for k, v in parameters.items()]
    budget = "training={iterations: 3, epochs: null}"
    return resolve.make_run("split_digits-v1", strategy=name, overrides=[budget, *given, *overrides])


def run_through(run: run_config.RunConfig) -> components.Components:
    with fenced():
        bench = assembled(run)
        training_loop.train(bench, observer.Observation(bench, Recorder(bench.device), lambda: None))
    return bench


HOSTED_ON = [k for k in KINDS if k != "given"]  # digits has no tasks of its own


@pytest.mark.parametrize("kind", HOSTED_ON)
def test_a_hosted_replay_with_a_growing_head_runs_on_every_kind(kind: str) -> None:
    bench = run_through(make_run(HERE + "growing_replay", KINDS[kind]))
    strategy = bench.strategy
    assert isinstance(strategy, hosting.Hosted)
    assert strategy.memory().samples == 30
    assert strategy.model.head.classifier.out_features == bench.stream.outputs  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")  # of Avalanche's EWC when a head grows
@pytest.mark.parametrize("kind", ["recurrence", "random subsets", "online", "drift", "blurry"])
@pytest.mark.parametrize("name", ["growing_naive", "growing_ewc", "growing_cumulative"])
def test_hosted_strategies_run_where_classes_return_and_task_blocks_come_in_parts(name: str, kind: str) -> None:
    run_through(make_run(HERE + name, KINDS[kind]))


def test_a_hosted_strategy_has_the_training_stream_alone() -> None:
    run = make_run(HERE + "growing_naive", {"online": 100})
    bench = assembled(run)
    assert isinstance(bench.strategy, hosting.Hosted)
    assert list(bench.strategy._experiences.benchmark.streams) == ["train"]
    assert bench.strategy._experiences[0].train().is_first_subexp, "it is told boundaries, as `needs` says"
    assert Watcher().after_iteration(torch.zeros(())) is True


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [
        ("peeking", "class", {}),
        ("peeking", "online", {}),
        ("peeking", "drift", {}),
        ("peeking", "power law, domain", {}),
        ("peeking_at_the_whole", "online", {}),
    ],
)
def test_a_hosted_strategy_that_looks_ahead_fails(
    tmp_path: Path, name: str, kind: str, parameters: dict[str, Any]
) -> None:
    run = make_run(HERE + name, KINDS[kind], **parameters)
    with pytest.raises(RunFailed, match="no experience has brought so far"):
        run_through(run)
    outcome = execute(run, tmp_path)
    assert (outcome.record["status"], outcome.record["failure"]["kind"]) == ("failed", "data_to_come")


@pytest.mark.parametrize("kind", ["class", "online"])
def test_a_hosted_strategy_may_look_at_what_it_has(kind: str) -> None:
    run_through(make_run(HERE + "peeking", KINDS[kind], at=0))


def test_the_optimisers_state_is_reset_at_every_sub_experience() -> None:
    seen: list[tuple[int, int]] = []

    class Looking(SupervisedPlugin[Any]):  # type: ignore[misc]
        def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            seen.append((strategy.experience.logging().current_experience, len(strategy.optimizer.state)))

    extra = ["training.optimizer.momentum=0.9", "training.optimizer_state=reset"]
    run = make_run("avalanche.training.supervised:Naive", {"online": 100}, *extra)
    bench = assembled(run)
    assert isinstance(bench.strategy, hosting.Hosted)
    bench.strategy.hosted.plugins.append(Looking())
    unwatched(bench)
    assert len(bench.stream.experiences) > len(bench.stream.tasks)
    assert seen == [(v, n) for v in range(len(bench.stream.experiences)) for n in (0, 4, 4)]


# ------------------------------------------------------------------------------------------------ outputs of the batch
def test_group_masking_is_that_of_our_own_strategies() -> None:
    """Loss and gradient, on a batch without some classes, and with a head that has not grown to all outputs yet."""
    setup = setup_of(make_run("naive", {}, "training.active_outputs=batch"))
    ours, theirs = Strategy(None, setup), hosting._ActiveCrossEntropy(setup)
    generator = torch.Generator().manual_seed(0)
    for width in (10, 6):
        out = torch.randn(12, width, generator=generator)
        y = torch.tensor([1, 4, 4, 1, 5, 5, 5, 1, 1, 4, 5, 1])
        a, b = out.clone().requires_grad_(), out.clone().requires_grad_()
        one, other = ours.criterion(a, y, 0), theirs(b, y)
        assert torch.equal(one, other)
        only = nn.functional.cross_entropy(out[:, [1, 4, 5]], torch.tensor([0, 1, 1, 0, 2, 2, 2, 0, 0, 1, 2, 0]))
        assert other.item() == pytest.approx(only.item(), rel=1e-6)
        one.backward()  # type: ignore[no-untyped-call]
        other.backward()  # type: ignore[no-untyped-call]
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
        assert (b.grad[:, [0, 2, 3]] == 0).all()  # type: ignore[index]


@pytest.mark.parametrize("active", ["seen", "batch", "task"])
def test_a_strategy_that_compares_losses_of_samples_has_them(active: str) -> None:
    """MIR sets the reduction of its criterion, as of torch's, for a while."""
    chosen = ["training={iterations: 3, epochs: null, batch_size: 20}", f"training.active_outputs={active}"]
    parameters = [f"strategy.{key}={n}" for key, n in (("mem_size", 40), ("subsample", 20), ("batch_size_mem", 10))]
    run = resolve.make_run(
        "split_digits-v1", strategy="avalanche.training.supervised:MIR",
        overrides=["stream.tasks.count=2", "evaluation.every=0", *chosen, *parameters],
    )  # fmt: skip
    strategy: Any = unwatched(assembled(run)).strategy
    loss = strategy.hosted._criterion
    assert loss.reduction == "mean"
    y = torch.tensor([0, 1, 1, 2])
    out = torch.randn(4, strategy.setup.outputs, generator=torch.Generator().manual_seed(0))
    mean = loss(out, y)
    loss.reduction = "none"
    assert loss(out, y).shape == (4,)
    assert float(loss(out, y).mean()) == pytest.approx(float(mean), rel=1e-6)


def setup_of(run: run_config.RunConfig) -> Setup:
    return assembled(run).strategy.setup


def test_group_masking_reaches_a_hosted_strategy() -> None:
    """Outputs that no batch has keep their bias, which a loss over all outputs would push down."""
    for active, still in (("batch", True), ("all", False)):
        chosen = f"training.active_outputs={active}"
        run = make_run("avalanche.training.supervised:Naive", {"tasks": {**NATURAL, "count": 2}}, chosen)
        bench = assembled(run)
        before = list(bench.strategy.model.parameters())[-1].detach().clone()
        watcher = observer.Observation(bench, None, lambda: None)
        watcher.enter(0)
        bench.strategy.fit(bench.experience(0), 3, watcher)  # type: ignore[attr-defined]
        after = list(bench.strategy.model.parameters())[-1].detach()
        assert torch.equal(before[5:], after[5:]) is still
        assert not torch.equal(before[:5], after[:5])


def criterion_of_its_own(model: nn.Module, optimizer: Any, train_mb_size: int) -> Naive:
    return Naive(model=model, optimizer=optimizer, train_mb_size=train_mb_size, evaluator=silent())


@pytest.mark.parametrize("active", ["seen", "batch"])
def test_a_criterion_of_its_own_does_not_silently_ignore_active_outputs(active: str) -> None:
    run = make_run(HERE + "criterion_of_its_own", {}, f"training.active_outputs={active}")
    with pytest.raises(UserError, match=f"has its own criterion, so training.active_outputs '{active}' has no effect"):
        setup_of(run)
    setup_of(make_run(HERE + "criterion_of_its_own", {}, "training.active_outputs=all"))


# ------------------------------------------------------------------------------------------------ outputs of the task
def sharing_classes(setting: str) -> Stream:
    """Three tasks of the data's making that share classes: 0 to 4, 3 to 7 and 6 to 9."""
    data = load.load("digits")
    tasks = []
    for y in (data.train_y, data.test_y):
        odd = np.arange(len(y)) % 2
        tasks.append(np.select([y < 3, y < 5, y < 6, y < 8], [0, odd, 1, 1 + odd], 2))
    data = dataclasses.replace(data, train_task=tasks[0], test_task=tasks[1])
    return compile_stream(stream_config(tasks={"by": "given"}, setting=setting), 0, data)


def replaying(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    return Naive(
        model=model, optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent(),
        plugins=[ReplayPlugin(60)],
    )  # fmt: skip


def averaging(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    """Looks at gradients of batches from memory, which its loader concatenates task by task."""
    return Naive(
        model=model, optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent(),
        plugins=[AGEMPlugin(40, 30)],
    )  # fmt: skip


def one_by_one(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    """Collates its batches itself."""

    class Collating(Naive):  # type: ignore[misc]
        def make_train_dataloader(self, **options: Any) -> None:
            self.dataloader = DataLoader(
                self.adapted_dataset, batch_size=32, collate_fn=lambda rows: default_collate(rows)
            )

    return Collating(
        model=model, optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent()
    )


@pytest.mark.parametrize("active", ["task", "seen"])
@pytest.mark.parametrize(
    ("setting", "factory"),
    [
        ("class", "replaying"),
        ("task", "replaying"),
        ("class", "averaging"),
        ("task", "averaging"),
        ("task", "one_by_one"),
    ],
)
def test_the_hosted_loss_of_tasks_that_share_classes_is_the_native_one(
    setting: str, factory: str, active: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every sample by its own task, replayed ones too, whose task is looked up by their input."""
    run = make_run(HERE + factory, {"setting": setting}, f"training.active_outputs={active}")
    stream = sharing_classes(setting)
    bench = components.assemble(run, stream)
    native = Strategy(None, bench.strategy.setup)
    unfenced, task_of = TrainingSet(stream, InputTransform(stream, CPU), CPU), dict[bytes, int]()
    for experience in stream.experiences:
        for task, index in experience.parts:
            x, _ = unfenced.fetch(torch.from_numpy(index), task)
            task_of.update((row.numpy().tobytes(), task) for row in x)
    batches: list[torch.Tensor] = []
    inputs, forward = [], nn.Sequential.forward
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: inputs.append(x) or forward(self, x))
    loss = hosting._ActiveCrossEntropy.__call__

    def compared(self: hosting._ActiveCrossEntropy, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x = next(x for x in reversed(inputs) if len(x) == len(y))
        tasks = torch.tensor([task_of[row.numpy().tobytes()] for row in x])
        batches.append(tasks)
        native._outputs_seen = set(self.seen)
        native._active = native._active_outputs()
        assert torch.equal(loss(self, out, y), native.criterion(out, y, tasks))
        return loss(self, out, y)

    monkeypatch.setattr(hosting._ActiveCrossEntropy, "__call__", compared)
    unwatched(bench)
    assert len(batches) >= 9
    several = any(len(tasks.unique()) > 1 for tasks in batches)
    assert several is (factory != "one_by_one")


def test_the_mask_of_a_hosted_loss_is_made_once_for_all_updates_with_the_same_outputs() -> None:
    run = make_run(HERE + "replaying", {"setting": "task"}, "training.active_outputs=seen")
    criterion = hosting._ActiveCrossEntropy(setup_of(run))
    out, y = torch.zeros(4, 10), torch.tensor([0, 1, 2, 3])
    criterion(out, y)
    mask = criterion._mask
    criterion(out, y)
    assert criterion._mask is mask
    criterion.seen |= {0, 1}
    criterion(out, y)
    assert criterion._mask is not mask
