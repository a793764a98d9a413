"""Batches of hosted Avalanche strategies: those of Avalanche's own loaders, made at once."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from clbench import resolve, run_config
from clbench.avalanche import hosting, quiet
from clbench.avalanche.batches import Rows, _Batches, gathered
from clbench.avalanche.benchmark import benchmark as as_avalanche
from clbench.errors import RunFailed
from clbench.rng import fenced
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same
from clbench.training.inputs import InputTransform
from clbench.training.training_set import TrainingSet
from support import assembled, unwatched

# After the bridge, which knows what its dependencies say when they are imported.
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline  # isort: skip
from avalanche.benchmarks.scenarios.task_aware import with_task_labels  # isort: skip
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, make_avalanche_dataset  # isort: skip
from avalanche.benchmarks.utils import _make_taskaware_tensor_classification_dataset  # isort: skip
from avalanche.benchmarks.utils.data_loader import GroupBalancedDataLoader, ReplayDataLoader  # isort: skip
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader  # isort: skip
from avalanche.benchmarks.utils.data_loader import TaskBalancedDataLoader  # isort: skip
from avalanche.benchmarks.utils.utils import concat_datasets  # isort: skip
from avalanche.logging import BaseLogger  # isort: skip
from avalanche.training import supervised  # isort: skip
from avalanche.training.plugins import EvaluationPlugin  # isort: skip

CPU = torch.device("cpu")
SUPERVISED = "avalanche.training.supervised:"
HERE = f"{__name__}:"


# ------------------------------------------------------------------------------------------------ helpers
@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts batches made at once, and samples loaded one by one."""
    counts = {"batches": 0, "samples": 0}
    at_once, one = _Batches.__getitems__, Rows.__getitem__

    def batch(self: Any, index: list[int]) -> Any:
        counts["batches"] += 1
        return at_once(self, index)

    def sample(self: Any, i: int) -> Any:
        counts["samples"] += 1
        return one(self, i)

    monkeypatch.setattr(_Batches, "__getitems__", batch)
    monkeypatch.setattr(Rows, "__getitem__", sample)
    return counts


def make_run(name: str, parameters: dict[str, Any], *overrides: str) -> run_config.RunConfig:
    given = [f"strategy.{k}={json.dumps(v)}" for k, v in parameters.items()]
    budget = ["stream.tasks.count=3", "training={iterations: null, epochs: 1}"]
    return resolve.make_run("split_digits-v1", strategy=name, overrides=[*budget, *given, *overrides])


def trained(run: run_config.RunConfig) -> tuple[hosting.Hosted, dict[str, Any]]:
    """Trains without looking; returns the strategy and all that chance and learning move."""
    with fenced():
        bench = assembled(run)
        unwatched(bench)
        assert isinstance(bench.strategy, hosting.Hosted)
        optimizer = bench.strategy.hosted.optimizer
        return bench.strategy, {
            "model": bench.strategy.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "python": random.getstate(),
            "numpy": np.random.get_state()[1],
            "torch": torch.get_rng_state(),
        }


def data(setting: str, **stream: Any) -> tuple[Stream, list[Any]]:
    """A stream and the training data of its experiences."""
    overrides = [f"stream.setting={setting}", *(f"stream.{k}={json.dumps(v)}" for k, v in stream.items())]
    run = resolve.make_run("split_digits-v1", strategy="naive", overrides=overrides)
    compiled = compile_stream(run.benchmark.stream, 0)
    return compiled, [e.dataset for e in as_avalanche(compiled).train_stream]


def batches(load: Callable[[], Any], most: int = 40) -> tuple[list[Any], torch.Tensor]:
    """Two epochs of a loader, and the state of chance after them."""
    torch.manual_seed(7)
    loader = load()
    found = [batch for _ in range(2) for batch in itertools.islice(loader, most)]
    return found, torch.get_rng_state()


def assert_same_batches(load: Callable[[], Any], made: dict[str, int]) -> None:
    with fenced():
        theirs, after = batches(load)
        assert made["batches"] == 0
        made["samples"] = 0
        with gathered():
            ours, after_ours = batches(load)
    assert made["batches"] == len(ours)
    assert made["samples"] == 0
    assert len(ours) == len(theirs) > 2
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        assert [(x.dtype, x.shape, x.stride()) for x in a] == [(x.dtype, x.shape, x.stride()) for x in b]
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(after, after_ours)


# ------------------------------------------------------------------------------------------------ batch for batch
TURNED = {"by": "transforms", "transforms": [{}, {"rotation": 30}, {"noise": 0.2, "brightness": 0.7}]}
STREAMS: dict[str, dict[str, Any]] = {
    "classes": {"setting": "class"},
    "tasks": {"setting": "task"},
    "several tasks in an experience": {
        "setting": "task", "schedule": {"by": "blurry", "experiences": 5, "boundary": "gaussian"},
    },
    "inputs that depend on the task": {"setting": "domain", "tasks": TURNED},
    "wrong labels": {"setting": "class", "supervision": {"noise": {"rate": 0.4}}},
}  # fmt: skip


def replay(of: list[Any], balanced: bool) -> Any:
    memory = concat_datasets([d.subset(list(range(0, len(d), 3))) for d in of[:-1]])
    return ReplayDataLoader(
        of[-1], memory, batch_size=16, batch_size_mem=9, oversample_small_tasks=True,
        task_balanced_dataloader=balanced, shuffle=True, drop_last=balanced,
    )  # fmt: skip


LOADERS: dict[str, Callable[[list[Any]], Any]] = {
    "plain": lambda of: DataLoader(of[1], batch_size=10, shuffle=True),
    "in order, the last dropped": lambda of: DataLoader(of[1].eval(), batch_size=50, drop_last=True),
    "a generator of its own": lambda of: DataLoader(
        of[1], batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "task-balanced": lambda of: TaskBalancedDataLoader(
        concat_datasets(of), batch_size=20, oversample_small_groups=True, shuffle=True
    ),
    "group-balanced": lambda of: GroupBalancedDataLoader(of, batch_size=13, shuffle=True),
    "without end": lambda of: GroupBalancedInfiniteDataLoader(of[:3], batch_size=5, shuffle=True),
    "replay": lambda of: replay(of, balanced=False),
    "replay, task-balanced": lambda of: replay(of, balanced=True),
    "subset of a concatenation": lambda of: DataLoader(
        concat_datasets(of).subset(torch.arange(400, 40, -3)).subset([5, 5, *range(60)]), batch_size=7
    ),
    "repeated": lambda of: DataLoader(of[0].concat(of[0]).concat(of[1].subset([3, 1])), batch_size=90, shuffle=True),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("stream", STREAMS)
def test_batches_are_those_of_avalanches_loaders(stream: str, loader: str, made: dict[str, int]) -> None:
    _, of = data(**STREAMS[stream])
    assert_same_batches(lambda: LOADERS[loader](of), made)


def test_values_that_samples_carry_are_carried_by_the_batch(made: dict[str, int]) -> None:
    """Numbers and tensors; as DER's logits are."""
    _, of = data("class")
    n = len(of[0])
    carried = {
        "logits": list(torch.randn(n, 4)),
        "number": list(range(n)),
        "share": [i / n for i in range(n)],
        "point": [torch.tensor(i) for i in range(n)],
    }
    attributes = [DataAttribute(v, name=k, use_in_getitem=True) for k, v in carried.items()]
    both = [make_avalanche_dataset(of[0], data_attributes=attributes), None]
    both[1] = both[0].subset(list(range(30, 9, -1)))
    assert_same_batches(lambda: DataLoader(both[0], batch_size=20, shuffle=True), made)
    made.update(batches=0)
    assert_same_batches(lambda: GroupBalancedDataLoader(both, batch_size=8, shuffle=True), made)
    batch = batches(lambda: DataLoader(both[0], batch_size=3))[0][0]
    assert [tuple(part.shape) for part in batch] == [(3, 1, 8, 8), (3,), (3,), (3, 4), (3,), (3,), (3,)]


@pytest.mark.parametrize("mixed", [False, True])
def test_values_that_are_no_tensors_are_carried_too(mixed: bool, made: dict[str, int]) -> None:
    _, of = data("class")
    named = DataAttribute([f"sample {i}" for i in range(len(of[0]))], name="name", use_in_getitem=True)
    carrying = make_avalanche_dataset(of[0], data_attributes=[named])
    whole = concat_datasets([carrying, doubled(carrying)]) if mixed else carrying
    with fenced():
        theirs, _ = batches(lambda: DataLoader(whole, batch_size=20, shuffle=True))
        with gathered():
            ours, _ = batches(lambda: DataLoader(whole, batch_size=20, shuffle=True))
    assert made["batches"] == len(ours)
    assert_same(ours, theirs)
    assert all(name.startswith("sample ") for name in ours[0][3])


# ------------------------------------------------------------------------------------------------ what is left alone
class Doubling(AvalancheDataset[Any]):  # type: ignore[misc]
    """Fetches samples in a way of its own."""

    def __getitem__(self, i: Any) -> Any:
        x, *rest = super().__getitem__(i)
        return [2 * x, *rest]


class Loader(DataLoader[Any]):
    """Of the user's own."""


def lists(samples: list[Any]) -> list[torch.Tensor]:
    """A collate function of the user's own."""
    return [torch.stack([s[0] for s in samples]).flatten(1), torch.tensor([s[1] for s in samples])]


class Unsized(torch.utils.data.Dataset[Any]):
    """Has no length, and is loaded by a list of batches."""

    def __getitem__(self, i: int) -> list[torch.Tensor]:
        return [torch.full((2,), float(i))]


def doubled(of: Any, group: str = "train") -> Any:
    return make_avalanche_dataset(of, transform_groups={group: (lambda x: 2 * x, None)})


FOREIGN: dict[str, Callable[[Any], Any]] = {
    "a class of its own": lambda d: DataLoader(Doubling([d]), batch_size=30, shuffle=True),
    "a loader of its own": lambda d: Loader(d, batch_size=30, shuffle=True),
    "a collate function of its own": lambda d: DataLoader(d, batch_size=30, shuffle=True, collate_fn=lists),
    "a transform": lambda d: DataLoader(doubled(d), batch_size=30, shuffle=True),
    "a frozen transform": lambda d: DataLoader(doubled(d).freeze_transforms(), batch_size=30, shuffle=True),
    "a transform in a replaced group": lambda d: DataLoader(
        d.replace_current_transform_group(lambda x: 2 * x), batch_size=30, shuffle=True
    ),
    "data of unknown length": lambda d: DataLoader(
        Unsized(), batch_sampler=[[3, 1], [2, 2], [0, 5]]  # type: ignore[arg-type]
    ),
    "a plain subset": lambda d: DataLoader(torch.utils.data.Subset(d, range(80)), batch_size=30, shuffle=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_ours_alone_is_loaded_as_it_was(kind: str, made: dict[str, int]) -> None:
    _, of = data("class")
    with fenced():
        theirs, after = batches(lambda: FOREIGN[kind](of[0]))
        with gathered():
            ours, after_ours = batches(lambda: FOREIGN[kind](of[0]))
    assert made["batches"] == 0
    assert len(ours) > 2
    assert_same(ours, theirs)
    assert torch.equal(after, after_ours)


def others(n: int) -> Any:
    x = torch.arange(64 * n, dtype=torch.float32).view(n, 1, 8, 8)
    return _make_taskaware_tensor_classification_dataset(x, torch.full((n,), 3), targets=1, task_labels=0)


class Drawing(TensorDataset):
    """Draws at every sample, as a random transform does."""

    def __getitem__(self, i: int) -> Any:
        return [super().__getitem__(i)[0] + torch.rand(()), 3, 0]


MIXED: dict[str, Callable[[Any], Any]] = {
    "other samples among ours": lambda d: DataLoader(concat_datasets([d, others(60)]), batch_size=30, shuffle=True),
    "many others": lambda d: DataLoader(concat_datasets([others(200), d]).subset(range(230)), batch_size=9),
    "another data set beside": lambda d: GroupBalancedDataLoader([d, others(60)], batch_size=12, shuffle=True),
    "a class of its own beside": lambda d: DataLoader(
        ConcatDataset([Drawing(torch.ones(60, 1, 8, 8)), d]), batch_size=30, shuffle=True
    ),
    "a transform of a part": lambda d: DataLoader(concat_datasets([d, doubled(d)]), batch_size=30, shuffle=True),
}


@pytest.mark.parametrize("kind", MIXED)
def test_other_samples_are_loaded_as_they_were_among_ours(kind: str, made: dict[str, int]) -> None:
    _, of = data("class")
    with fenced():
        theirs, after = batches(lambda: MIXED[kind](of[0]))
        alone, made["samples"] = made["samples"], 0
        with gathered():
            ours, after_ours = batches(lambda: MIXED[kind](of[0]))
    assert made["batches"] == len(ours) > 2
    assert made["samples"] <= alone / 2
    assert_same(ours, theirs)
    assert torch.equal(after, after_ours)


def test_a_transform_that_is_not_in_force_is_no_hindrance(made: dict[str, int]) -> None:
    _, of = data("class")
    assert_same_batches(lambda: DataLoader(doubled(of[0], "other"), batch_size=30, shuffle=True), made)


def test_samples_of_two_streams_are_not_gathered_from_one() -> None:
    (_, a), (_, b) = data("class"), data("class", normalise="standard")
    assert not torch.equal(a[0][0][0], b[0][0][0])
    with fenced():
        theirs, _ = batches(lambda: DataLoader(concat_datasets([a[0], b[0]]), batch_size=30, shuffle=True))
        with gathered():
            ours, _ = batches(lambda: DataLoader(concat_datasets([a[0], b[0]]), batch_size=30, shuffle=True))
    assert_same(ours, theirs)


def test_loaders_are_as_before_afterwards() -> None:
    begin = DataLoader.__iter__
    within = contextlib.ExitStack()
    within.enter_context(gathered())
    assert DataLoader.__iter__ is not begin
    with pytest.raises(LookupError), within:
        raise LookupError
    assert DataLoader.__iter__ is begin


def test_code_of_the_users_own_finds_batches_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Avalanche's code moves batches to the device, and so does who pins memory."""
    where: list[bool] = []
    at_once = _Batches.__getitems__

    def batch(self: Any, index: list[int]) -> Any:
        where.append(self.on_host)
        return at_once(self, index)

    monkeypatch.setattr(_Batches, "__getitems__", batch)
    _, of = data("class")
    with gathered():
        for load in (DataLoader(of[0]), DataLoader(of[0], pin_memory=True), GroupBalancedDataLoader([of[0]])):
            next(iter(load))
    assert where == [True, False, False]


# ------------------------------------------------------------------------------------------------ whole strategies
def er_ace(model: nn.Module, optimizer: Any, train_mb_size: int, evaluator: Any) -> Any:
    return supervised.ER_ACE(
        model=model, optimizer=optimizer, train_mb_size=train_mb_size, evaluator=evaluator, mem_size=40,
        batch_size_mem=10,
    )  # fmt: skip


STRATEGIES: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Cumulative": {},
    "Replay": {"mem_size": 40},
    "EWC": {"ewc_lambda": 1.0},
    "SynapticIntelligence": {"si_lambda": 1.0},
    "MAS": {},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "AGEM": {"patterns_per_exp": 20},
    "GDumb": {"mem_size": 40},
    "CWRStar": {"cwr_layer_name": "3"},
    "ICaRL": {"memory_size": 40, "buffer_transform": None, "fixed_memory": True},
    "DER": {"mem_size": 40, "batch_size_mem": 10},
    "er_ace": {},
    "MIR": {"mem_size": 40, "subsample": 20, "batch_size_mem": 10},
    "CoPE": {"mem_size": 40, "n_classes": 10, "p_size": 10},
}


def named(name: str) -> str:
    return (HERE if name in globals() else SUPERVISED) + name


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_learns_the_same_from_batches_made_at_once(
    name: str, made: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(named(name), STRATEGIES[name])
    _, at_once = trained(run)
    assert made["batches"] >= 6
    assert made["samples"] == 0, "nothing is loaded in the old way beside"
    monkeypatch.setattr(hosting, "gathered", contextlib.nullcontext)
    _, one_by_one = trained(run)
    assert made["samples"] > 100
    assert_same(at_once, one_by_one)


@pytest.mark.parametrize("name", ["Replay", "GDumb", "DER", "ICaRL"])
def test_buffers_hold_indices(name: str) -> None:
    hosted, _ = trained(make_run(named(name), STRATEGIES[name]))
    inputs = {leaf.inputs for leaf in leaves(hosted._experiences[0].dataset._flat_data)}
    assert [len(one._made) for one in inputs] == [0], "no input was made to be kept"


def leaves(data: Any) -> Iterator[Any]:
    for part in data._datasets if hasattr(data, "_datasets") else []:
        yield from leaves(part)
    if not hasattr(data, "_datasets"):
        yield data


def test_training_data_is_augmented_each_time_and_evaluation_data_never() -> None:
    crop = "training.augmentation=[{name: random_crop, padding: 3}]"
    run = make_run(SUPERVISED + "Naive", {}, crop)
    bench = assembled(run)
    bench.experience(0)
    assert isinstance(bench.strategy, hosting.Hosted)
    of = bench.strategy._experiences[0].dataset
    stored = TrainingSet(bench.stream, InputTransform(bench.stream, CPU), CPU)
    x, _ = stored.fetch(torch.from_numpy(bench.stream.experiences[0].index), bench.stream.experiences[0].parts[0][0])
    with gathered():
        (a,), (b,) = ([batch[0] for batch in DataLoader(of.train(), batch_size=len(of))] for _ in range(2))
        (plain,) = (batch[0] for batch in DataLoader(of.eval(), batch_size=len(of)))
    assert not torch.equal(a, b)
    assert not torch.equal(a, x)
    assert torch.equal(plain, x)
    one, other = (torch.stack([of[i][0] for i in range(20)]) for _ in range(2))
    assert not torch.equal(one, other), "nor do single samples stay as they were made first"


class Ahead(supervised.Naive):  # type: ignore[misc]
    """Loads the next experience."""

    def _before_training_exp(self, **options: Any) -> None:
        super()._before_training_exp(**options)
        here = self.experience.logging()
        list(DataLoader(here.origin_stream[here.current_experience + 1].dataset, batch_size=10))


def test_a_loader_over_data_to_come_fails() -> None:
    with pytest.raises(RunFailed, match="no experience has brought so far"):
        trained(make_run(HERE + "Ahead", {}))


# ------------------------------------------------------------------------------------------------ as a stock script
def stock(name: str, options: dict[str, Any], run: run_config.RunConfig) -> dict[str, Any]:
    """An ordinary Avalanche script on ready float tensors; chance stands as at the start of a hosted training."""
    with fenced():
        bench = assembled(run)
        chance = random.getstate(), np.random.get_state(), torch.get_rng_state()
        model = copy.deepcopy(bench.strategy.model)
        samples = TrainingSet(bench.stream, InputTransform(bench.stream, CPU), CPU)
        parts = []
        for experience in bench.stream.experiences:
            x, y = samples.fetch(torch.from_numpy(experience.index), torch.from_numpy(experience.task))
            parts.append(_make_taskaware_tensor_classification_dataset(x, y, targets=1, task_labels=0))
        benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=parts)))
        options = dict(options)
        if name == "ICaRL":
            first = {"feature_extractor": model[:-1], "classifier": model[-1]}  # type: ignore[index]
        else:
            first = {"model": model, "criterion": nn.CrossEntropyLoss()}
        strategy = getattr(supervised, name)(
            **first, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), train_mb_size=32, train_epochs=1,
            evaluator=EvaluationPlugin(loggers=[BaseLogger()]), **options,
        )  # fmt: skip
        random.setstate(chance[0])
        np.random.set_state(chance[1])
        torch.set_rng_state(chance[2])
        with quiet.hushed():
            for experience in benchmark.train_stream:
                strategy.train(experience, eval_streams=[])
        return {"model": strategy.model.state_dict(), "torch": torch.get_rng_state(), "python": random.getstate()}


@pytest.mark.parametrize(
    "name",
    ["Naive", "Cumulative", "Replay", "EWC", "SynapticIntelligence", "MAS", "LwF", "AGEM", "GDumb", "CWRStar", "DER"],
)
def test_a_hosted_strategy_ends_in_the_weights_of_a_stock_script(name: str) -> None:
    run = make_run(SUPERVISED + name, STRATEGIES[name])
    _, hosted = trained(run)
    theirs = stock(name, STRATEGIES[name], run)
    assert_same({"model": hosted["model"], "torch": hosted["torch"], "python": hosted["python"]}, theirs)
