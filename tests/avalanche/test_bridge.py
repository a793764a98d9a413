"""Avalanche's strategies under our runner, and our evaluator in Avalanche's scripts. Its import takes seconds."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import metrics, resolve, run_config
from clbench.avalanche import hosting, plugin, quiet
from clbench.errors import UserError
from clbench.evaluation.recorder import Recorder
from clbench.metrics import definition
from clbench.reports import leaderboard
from clbench.results import trace_files
from clbench.results.record import collect
from clbench.rng import fenced
from clbench.runner import components, observer, training_loop
from clbench.runner.run import execute
from clbench.testing.states import assert_same
from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace
from clbench.training.inputs import InputTransform
from clbench.training.training_set import TrainingSet
from support import assembled, unwatched

# After the bridge, which knows what its dependencies say when they are imported.
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark, ni_benchmark  # isort: skip
from avalanche.benchmarks import split_online_stream, with_classes_timeline  # isort: skip
from avalanche.benchmarks.scenarios import CLScenario  # isort: skip
from avalanche.benchmarks.scenarios.task_aware import with_task_labels  # isort: skip
from avalanche.benchmarks.utils import _make_taskaware_classification_dataset  # isort: skip
from avalanche.benchmarks.utils import _make_taskaware_tensor_classification_dataset  # isort: skip
from avalanche.core import SupervisedPlugin  # isort: skip
from avalanche.evaluation.metrics import accuracy_metrics  # isort: skip
from avalanche.logging import BaseLogger  # isort: skip
from avalanche.models import IncrementalClassifier, SCRModel, SimpleMLP, as_multitask  # isort: skip
from avalanche.models.packnet import packnet_simple_mlp  # isort: skip
from avalanche.training.plugins import EvaluationPlugin  # isort: skip
from avalanche.training.supervised import SCR, CoPE, FeatureReplay, ICaRL, JointTraining, Naive  # isort: skip
from avalanche.training.supervised import PackNet, Replay, StreamingLDA  # isort: skip

SUPERVISED = "avalanche.training.supervised:"
HERE = f"{__name__}:"


# ------------------------------------------------------------------------------------------------ factories
def scr(model: nn.Module, optimizer: Any, train_mb_size: int, eval_mb_size: int, **options: Any) -> SCR:
    """A factory: SCR wants a network of its own."""
    network = SCRModel(model[:-1], nn.Linear(model[-1].in_features, 16))  # type: ignore[index]
    return SCR(
        model=network, optimizer=optimizer, train_mb_size=train_mb_size, eval_mb_size=eval_mb_size,
        mem_size=40, batch_size_mem=10, evaluator=silent(),
    )  # fmt: skip


def heads(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> Naive:
    """A factory: a network with a head for each task."""
    network = as_multitask(SimpleMLP(input_size=64, hidden_size=32, drop_rate=0), "classifier")
    return Naive(
        model=network, optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, evaluator=silent()
    )


class OwnFeatureReplay(FeatureReplay):
    """The network keeps the features of its last forward pass, with their graph; its default criterion learns."""

    def __init__(self, *, model: nn.Module, **options: Any) -> None:
        network = SimpleMLP(input_size=64, hidden_size=32, drop_rate=0.1)
        super().__init__(model=network, mem_size=40, **options)


def packnet(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int) -> PackNet:
    """A factory: the network is told the task, and takes a batch of one task only."""
    return PackNet(
        model=packnet_simple_mlp(input_size=64, hidden_size=32, drop_rate=0), optimizer=optimizer,
        criterion=criterion, train_mb_size=train_mb_size, post_prune_epochs=1, prune_proportion=0.5, evaluator=silent(),
    )  # fmt: skip


class Generator(Naive):
    """Gives no scores."""

    def forward(self) -> Any:
        return super().forward() if self.is_training else (super().forward(), 0)


class Growing(Naive):
    """A network whose outputs grow with the classes."""

    def __init__(self, *, model: nn.Module, **options: Any) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), IncrementalClassifier(20, 1))
        super().__init__(model=network, **options)


class Replacing(Naive):
    """Puts another network in place of its own at the end of every experience."""

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        self.model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p in self.model.parameters():
                p.zero_()
            list(self.model.parameters())[-1][3] = 1.0


class Idle(Naive):
    """Trains nothing."""

    def training_epoch(self, **kwargs: Any) -> None:
        pass


class Deaf(Naive):
    """Has a loop of its own that looks at the data loader and at nothing else."""

    def training_epoch(self, **kwargs: Any) -> None:
        for self.mbatch in self.dataloader:  # noqa: B020
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            self.optimizer.zero_grad()
            self.mb_output = self.forward()
            self.loss = self.criterion()
            self.loss.backward()
            self.optimizer.step()
            self._after_training_iteration(**kwargs)


class Endless(Deaf):
    """Does not even look at the data loader that it is given."""

    def training_epoch(self, **kwargs: Any) -> None:
        self.dataloader = torch.utils.data.DataLoader(self.adapted_dataset, batch_size=8)
        super().training_epoch(**kwargs)


class Broken(Naive):
    def __init__(self, *, model: nn.Module, optimizer: Any, **options: Any) -> None:
        raise LookupError("the moon is not full.")


def silent(*measures: Any) -> EvaluationPlugin:
    return EvaluationPlugin(*measures, loggers=[BaseLogger()])


# ------------------------------------------------------------------------------------------------ helpers
def make_run(name: str, parameters: dict[str, Any] | None = None, *overrides: str, iterations: int = 8) -> Any:
    given = [f"strategy.{k}={json.dumps(v)}" for k, v in (parameters or {}).items()]
    base = ["stream.tasks.count=3", f"training.iterations={iterations}"]
    return resolve.make_run("split_digits-v1", strategy=name, overrides=[*base, *given, *overrides])


def trained(run: run_config.RunConfig, watch: bool = True) -> tuple[components.Components, dict[str, Any], Any]:
    """Trains without files; returns the bench, all that chance and learning move, and the recorder."""
    with fenced():
        bench = assembled(run)
        recorder = Recorder(bench.device) if watch else None
        training_loop.train(bench, observer.Observation(bench, recorder, lambda: None))
        assert isinstance(bench.strategy, hosting.Hosted)
        model, optimizer = bench.strategy.model, bench.strategy.hosted.optimizer
        state = {
            "model": model.state_dict(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "modes": [m.training for m in model.modules()],
            "gradients": [p.grad for p in model.parameters()],
            "python": random.getstate(),
            "numpy": np.random.get_state()[1],
            "torch": torch.get_rng_state(),
        }
    return bench, state, recorder


def trace_of(bench: components.Components, recorder: Any) -> Trace:
    recorder.chunk()
    trace: Trace = recorder.trace(bench.evaluator.cells, bench.stream.visit_matrix(), bench.stream.origins(), 1, 0)
    return trace


HOSTED: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Replay": {"mem_size": 40},
    "EWC": {"ewc_lambda": 1.0},
    "AGEM": {"patterns_per_exp": 20},
    "LwF": {"alpha": 1.0, "temperature": 2.0},
    "ICaRL": {"memory_size": 40, "buffer_transform": None, "fixed_memory": True},
    "MIR": {"mem_size": 40, "subsample": 20, "batch_size_mem": 10},
    "DER": {"mem_size": 40},
    "GDumb": {"mem_size": 40},
    "CWRStar": {"cwr_layer_name": "3"},
    "CoPE": {"mem_size": 40, "n_classes": 10, "p_size": 10},
    "StreamingLDA": {"slda_model": {"name": "torch.nn:Flatten"}, "input_size": 64, "num_classes": 10},
}


# ------------------------------------------------------------------------------------------------ law 1
@pytest.mark.parametrize("name", [*HOSTED, "scr", "OwnFeatureReplay"])
def test_watching_changes_nothing(name: str) -> None:
    path = (SUPERVISED if name in HOSTED else HERE) + name
    _, never, _ = trained(make_run(path, HOSTED.get(name)), watch=False)
    for way in ("evaluation={every: 7, batch_size: 50}", "evaluation.scope=all"):
        _, watched, _ = trained(make_run(path, HOSTED.get(name), way))
        assert_same(watched, never)


@pytest.mark.parametrize("name", ["Naive", "Replay"])
def test_watching_changes_nothing_with_batch_norm_and_momentum(name: str) -> None:
    extra = ["model={name: slim_resnet18, filters: 2}", "training.optimizer.momentum=0.9", "training.batch_size=8"]
    _, never, _ = trained(make_run(SUPERVISED + name, HOSTED[name], *extra, iterations=3), watch=False)
    _, watched, _ = trained(make_run(SUPERVISED + name, HOSTED[name], *extra, iterations=3))
    assert_same(watched, never)


# ------------------------------------------------------------------------------------------------ as in stock Avalanche
def without_a_fence(bench: components.Components) -> TrainingSet:
    return TrainingSet(bench.stream, InputTransform(bench.stream, bench.device), bench.device)


def stock_benchmark(bench: components.Components) -> CLScenario[Any]:
    """The training data of a bench as Avalanche's own helpers lay it out."""
    parts, samples = [], without_a_fence(bench)
    for experience in bench.stream.experiences:
        x, y = samples.fetch(torch.from_numpy(experience.index), torch.from_numpy(experience.task))
        parts.append(_make_taskaware_tensor_classification_dataset(x, y, targets=1, task_labels=0))
    return with_task_labels(with_classes_timeline(benchmark_from_datasets(train=parts)))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["Naive", "Replay"])
def test_a_hosted_strategy_ends_in_the_weights_of_a_stock_script(name: str, momentum: float) -> None:
    epochs = ["training={iterations: null, epochs: 2}", f"training.optimizer.momentum={momentum}"]
    run = make_run(SUPERVISED + name, HOSTED[name], *epochs)
    _, hosted, recorder = trained(run)
    with fenced():
        bench = assembled(run)
        chance = random.getstate(), np.random.get_state(), torch.get_rng_state()
        model = copy.deepcopy(bench.strategy.model)
        stock = {"Naive": Naive, "Replay": Replay}[name](
            model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum),
            criterion=nn.CrossEntropyLoss(), train_mb_size=32, train_epochs=2, evaluator=silent(), **HOSTED[name],
        )  # fmt: skip
        benchmark = stock_benchmark(bench)
        random.setstate(chance[0])
        np.random.set_state(chance[1])
        torch.set_rng_state(chance[2])
        with quiet.hushed():
            for experience in benchmark.train_stream:
                stock.train(experience, eval_streams=[])
        assert_same(hosted["model"], stock.model.state_dict())
        assert_same(hosted["torch"], torch.get_rng_state())
    assert len(recorder.loss) == sum(2 * -(-len(v.index) // 32) for v in bench.stream.experiences)


@pytest.mark.parametrize("iterations", [1, 7, 20])
def test_a_budget_in_iterations_is_met_exactly(iterations: int) -> None:
    for path, parameters in ((SUPERVISED + "Replay", HOSTED["Replay"]), (HERE + "Deaf", {})):
        bench, _, recorder = trained(make_run(path, parameters, iterations=iterations))
        trace = trace_of(bench, recorder)
        assert len(trace.loss) == 3 * iterations
        assert trace.iteration[trace.phase == Phase.BEFORE].tolist() == [0, iterations, 2 * iterations]
        assert trace.iteration[trace.phase == Phase.END].tolist() == [n * iterations for n in (1, 2, 3)]
        assert (trace.phase == Phase.ITERATION).sum() == 3 * iterations


def test_drop_last_and_the_reset_of_the_optimiser_reach_the_strategy() -> None:
    seen: list[tuple[int, int]] = []

    class Looking(SupervisedPlugin[Any]):
        def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            seen.append((len(strategy.mb_y), len(strategy.optimizer.state)))

    options = ["training={iterations: null, epochs: 1, drop_last: true, optimizer_state: reset}"]
    run = make_run(SUPERVISED + "Naive", {}, *options, "training.optimizer.momentum=0.9")
    bench = assembled(run)
    assert isinstance(bench.strategy, hosting.Hosted)
    bench.strategy.hosted.plugins.append(Looking())
    unwatched(bench)
    updates = [len(v.index) // 32 for v in bench.stream.experiences]
    assert {n for n, _ in seen} == {32}
    assert len(seen) == sum(updates)
    states = [s for _, s in seen]
    assert [states[0], states[1], states[updates[0]], states[updates[0] + 1]] == [0, 4, 0, 4]


# ------------------------------------------------------------------------------------------------ quirks
@pytest.mark.parametrize("path", [SUPERVISED + "ICaRL", HERE + "scr"])
def test_class_means_that_do_not_exist_yet_are_unavailable_and_not_wrong(path: str) -> None:
    bench, _, recorder = trained(make_run(path, HOSTED.get(path.partition(":")[2])))
    trace = trace_of(bench, recorder)
    counts = trace.correct["class"]
    first = trace.experience == 0
    assert (counts[first & (trace.phase == Phase.BEFORE)] == UNAVAILABLE).all()
    within = counts[first & (trace.phase == Phase.ITERATION)]
    assert set(np.unique(within)) == {UNAVAILABLE, NOT_EVALUATED}
    assert (counts[first & (trace.phase == Phase.END)] != UNAVAILABLE).all()
    task = bench.evaluator.cells.task
    for v in range(1, 3):  # the means of earlier classes stay; those of new ones may wait for the end
        later = trace.experience == v
        assert (counts[later][:, task < v] != UNAVAILABLE).all()
        assert (counts[later & (trace.phase == Phase.END)] != UNAVAILABLE).all()
    accuracy = definition.accuracy_matrix(trace, "class")
    assert accuracy[0, 0] > 0.5


def test_a_strategy_predicts_through_its_own_evaluation_loop() -> None:
    """A strategy's change of the network's output in its forward pass (StreamingLDA, CoPE) counts."""
    for name, least in (("StreamingLDA", 0.9), ("CoPE", 0.1)):
        bench, _, recorder = trained(make_run(SUPERVISED + name, HOSTED[name], iterations=20))
        matrix = definition.accuracy_matrix(trace_of(bench, recorder), "class")
        assert matrix[0, 0] > least, name


def test_a_head_that_does_not_exist_yet_is_unavailable() -> None:
    setting = ["stream.setting=task"]
    bench, _, recorder = trained(make_run(HERE + "heads", {}, *setting))
    trace = trace_of(bench, recorder)
    task = bench.evaluator.cells.task
    for v in range(3):
        before = trace.correct["task"][(trace.experience == v) & (trace.phase == Phase.BEFORE)][0]
        assert (before[task <= v] >= 0).all()
        assert (before[task > v] == UNAVAILABLE).all()
    assert np.diag(definition.accuracy_matrix(trace, "task")).min() > 0.6
    _, never, _ = trained(make_run(HERE + "heads", {}, *setting), watch=False)
    _, watched, _ = trained(make_run(HERE + "heads", {}, *setting))
    assert_same(watched, never)


def test_a_network_that_takes_one_task_at_a_time() -> None:
    """In PackNet's phase after pruning no other task can be asked for, so it is watched around experiences only."""
    epochs = ["stream.setting=task", "training={iterations: null, epochs: 2}", "evaluation.every=0"]
    bench, watched, recorder = trained(make_run(HERE + "packnet", {}, *epochs))
    _, never, _ = trained(make_run(HERE + "packnet", {}, *epochs), watch=False)
    assert_same(watched, never)
    assert np.diag(definition.accuracy_matrix(trace_of(bench, recorder), "task")).min() > 0.6


def test_a_strategy_without_scores_fails(tmp_path: Path) -> None:
    said: list[str] = []
    record = execute(make_run(HERE + "Generator", {}), tmp_path, say=said.append).record
    assert record["failure"]["kind"] == "no_scores"
    assert record["failure"]["message"] == "its evaluation gives tuple, and not scores of classes"
    assert said == ["no estimate: RunFailed: its evaluation gives tuple, and not scores of classes"]


def test_outputs_may_grow_with_the_classes() -> None:
    bench, state, recorder = trained(make_run(HERE + "Growing", {}))
    trace = trace_of(bench, recorder)
    before = trace.phase == Phase.BEFORE
    assert (trace.correct["class"][~before] != UNAVAILABLE).all()
    assert (trace.correct["class"][before][0] == UNAVAILABLE).any(), "classes to come have no output yet"
    assert (trace.correct["class"][before][-1] != UNAVAILABLE).all(), "at last all have"
    assert definition.accuracy_matrix(trace, "class")[0, 0] > 0.3
    _, never, _ = trained(make_run(HERE + "Growing", {}), watch=False)
    assert_same(state, never)


def test_a_network_that_was_replaced_is_the_one_that_is_looked_at() -> None:
    bench, _, recorder = trained(make_run(HERE + "Replacing", {}))
    trace = trace_of(bench, recorder)
    ends = trace.correct["class"][trace.phase == Phase.END][-1]
    assert {int(c) for c, n in zip(trace.cell_class, ends, strict=True) if n} == {3}


def test_a_strategy_that_trains_nothing_has_ends_and_no_loss(tmp_path: Path) -> None:
    outcome = execute(make_run(HERE + "Idle", {}), tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    assert outcome.record["status"] == "completed"
    assert trace.phase.tolist() == [Phase.END] * 3
    assert len(trace.loss) == 0
    assert outcome.record["metrics"]["class"]["average_accuracy"]["value"] is not None


def test_a_strategy_that_goes_on_after_the_budget_fails(tmp_path: Path) -> None:
    record = execute(make_run(HERE + "Endless", {}), tmp_path).record
    assert record["status"] == "failed"
    assert record["failure"]["kind"] == "over_budget"
    assert record["failure"]["message"] == (
        "the strategy continues after the last update that training.iterations allows"
    )


# ------------------------------------------------------------------------------------------------ configuration
@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        (
            SUPERVISED + "Replay", {"mem_sise": 40},
            "unknown key 'mem_sise'. Did you mean 'mem_size'? Allowed: mem_size, plugins, peval_mode.",
        ),
        (SUPERVISED + "EWC", {}, "needs ewc_lambda; give it beside 'name' in the configuration."),
        (
            SUPERVISED + "ICaRL", {"memory_size": 1},
            "needs buffer_transform, fixed_memory; give it beside 'name' in the configuration.",
        ),
        (
            SUPERVISED + "Naive", {"train_mb_size": 8},
            "'train_mb_size' is decided by the benchmark; set training.batch_size instead.",
        ),
        (SUPERVISED + "Naive", {"evaluator": None}, "'evaluator' is decided by the benchmark."),
        (
            SUPERVISED + "JointTraining", {},
            "it is trained once, on a whole stream, and refuses a second experience; use 'joint'.",
        ),
        ("math:pi", {}, "expected a class or a function, found float."),
        (
            "torch.nn:Flatten", {},
            "neither a strategy nor a factory of one, which would take some of model, optimizer, criterion, "
            "train_mb_size, train_epochs, eval_mb_size, device, evaluator, eval_every, feature_extractor, classifier.",
        ),
        (HERE + "Broken", {}, "cannot be built: the moon is not full."),
        (
            SUPERVISED + "SCR", {},
            "cannot be built: Supervised Contrastive Replay model needs to be an instance of "
            "avalanche.models.SCRModel.",
        ),
        (
            SUPERVISED + "Naive", {"plugins": [{"name": "avalanche.training.plugins:EWCPlugni", "ewc_lambda": 1}]},
            "plugins: 'avalanche.training.plugins:EWCPlugni' does not import: "
            "module 'avalanche.training.plugins' has no 'EWCPlugni'. Did you mean 'EWCPlugin'?",
        ),
        (
            SUPERVISED + "Naive", {"plugins": [{"name": "avalanche.training.plugins:EWCPlugin"}]},
            "plugins: 'avalanche.training.plugins:EWCPlugin': cannot be built: EWCPlugin.__init__() missing 1 required "
            "positional argument: 'ewc_lambda'.",
        ),
    ],
)  # fmt: skip
def test_a_users_mistake_is_told_in_one_sentence(path: str, parameters: dict[str, Any], message: str) -> None:
    run = make_run(path, parameters)
    with pytest.raises(UserError) as caught:
        assembled(run)
    assert caught.value.problems == (f"strategy '{path}': {message}",)


def whole(shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Linear(64, outputs)


def test_a_network_that_cannot_be_cut_is_told() -> None:
    own = f"model={{name: imported, factory: '{__name__}:whole'}}"
    run = make_run(SUPERVISED + "ICaRL", HOSTED["ICaRL"], own)
    with pytest.raises(UserError, match="cannot be cut into feature extractor and classifier; use one of the suite"):
        assembled(run)
    trained(make_run(SUPERVISED + "ICaRL", HOSTED["ICaRL"], "model={name: slim_resnet18, filters: 2}"))


def test_plugins_are_built_from_the_configuration() -> None:
    plugins = [{"name": "avalanche.training.plugins:EWCPlugin", "ewc_lambda": 1.0}]
    _, composed, _ = trained(make_run(SUPERVISED + "Naive", {"plugins": plugins}))
    _, ewc, _ = trained(make_run(SUPERVISED + "EWC", {"ewc_lambda": 1.0}))
    _, naive, _ = trained(make_run(SUPERVISED + "Naive"))
    assert_same(composed, ewc)
    assert not torch.equal(composed["model"]["1.weight"], naive["model"]["1.weight"])


FACTORY = """
from avalanche.training.supervised import Replay

def my_replay(model, optimizer, criterion, train_mb_size, evaluator, memory=10):
    return Replay(model=model, optimizer=optimizer, criterion=criterion, train_mb_size=train_mb_size, mem_size=memory,
                  evaluator=evaluator)
"""
YAML = """
base: split_digits-v1
id: three_digits-v1
stream: {tasks: {count: 3}}
training: {iterations: 3}
strategy: {name: "some_lab:my_replay", memory: 40}
"""


def test_a_factory_in_a_file_lands_on_the_leaderboard_and_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "some_lab.py").write_text(FACTORY)
    (tmp_path / "bench.yaml").write_text(YAML)
    command = [
        sys.executable,
        "-m",
        "clbench",
        "run",
        "bench.yaml",
        "--out",
        "out",
        "--threads",
        "1",
        "--device",
        "cpu",
    ]
    ran = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["status"] == "completed"
    said = [line for line in ran.stderr.splitlines() if not line.startswith("three_digits-v1")]
    assert said == []


def test_an_unknown_strategy_by_import_path_is_a_row_beside_ours(tmp_path: Path) -> None:
    for name in ("naive", SUPERVISED + "Naive"):
        execute(make_run(name, {}, iterations=2), tmp_path)
    table = leaderboard.table(collect(tmp_path)[0])
    assert set(table["strategy"]) == {"naive", SUPERVISED + "Naive"}
    assert table["definition_hash"].nunique() == 1


def test_our_own_warnings_are_not_swallowed() -> None:
    with pytest.warns(UserWarning, match="ours"), quiet.hushed():
        warnings.warn("ours", UserWarning, stacklevel=1)
    with pytest.warns(DeprecationWarning, match="Call to a function of ours"), quiet.hushed():
        warnings.warn("Call to a function of ours", DeprecationWarning, stacklevel=1)


# ------------------------------------------------------------------------------------------------ the other way
def samples(seed: int, domains: int = 1) -> list[torch.utils.data.TensorDataset]:
    """Six Gaussian classes in 8 dimensions, a training and a test set for each domain."""
    g = torch.Generator().manual_seed(seed)
    means = 2.0 * torch.randn(6, 8, generator=g)
    out = []
    for _ in range(domains):
        shift = torch.randn(8, generator=g)
        for n in (40, 15):
            y = torch.arange(6).repeat_interleave(n)
            data = torch.utils.data.TensorDataset(means[y] + shift + torch.randn(len(y), 8, generator=g), y)
            data.targets = y.tolist()  # type: ignore[attr-defined]
            out.append(data)
    return out


def classes_benchmark(task_labels: bool = False) -> CLScenario[Any]:
    train, test = samples(0)
    return nc_benchmark(
        train, test, n_experiences=3, task_labels=task_labels, seed=1, class_ids_from_zero_in_each_exp=task_labels
    )


def domains_benchmark(labels: list[int]) -> CLScenario[Any]:
    """All classes in every experience, each experience with a shift and a task label of its own."""
    data = samples(5, domains=len(labels))
    parts = [_make_taskaware_classification_dataset(d, task_labels=labels[i // 2]) for i, d in enumerate(data)]
    benchmark = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=parts[::2], test=parts[1::2])))
    for stream in benchmark.streams.values():
        for experience in stream:  # Avalanche's heads cannot index with the set that its decorator leaves
            experience.classes_in_this_experience = sorted(experience.classes_in_this_experience)
    return benchmark


class Accuracies(BaseLogger):
    """Keeps what Avalanche's own evaluation says."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        if name.startswith("Top1_Acc_Exp/eval"):
            self.values.append(float(value))


def network(kind: str) -> nn.Module:
    torch.manual_seed(3)
    if kind == "growing":
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), IncrementalClassifier(16, 1))
    if kind == "heads":
        return as_multitask(SimpleMLP(num_classes=2, input_size=8, hidden_size=16, drop_rate=0), "classifier")
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 6))


def script(kind: str, benchmark: CLScenario[Any], plugins: list[Any], evaluate: bool = True) -> tuple[Any, np.ndarray]:
    """An ordinary script; returns its strategy and the accuracy on each test experience after each experience."""
    model = network(kind)
    log = Accuracies()
    options: dict[str, Any] = {
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        "train_mb_size": 10, "train_epochs": 2, "eval_mb_size": 50, "plugins": plugins,
        "evaluator": EvaluationPlugin(accuracy_metrics(experience=True), loggers=[log]),
    }  # fmt: skip
    if kind == "icarl":
        strategy: Any = ICaRL(
            feature_extractor=model[:-1], classifier=model[-1], memory_size=30,  # type: ignore[index]
            buffer_transform=None, fixed_memory=True, **options,
        )  # fmt: skip
    elif kind == "scr":
        strategy = SCR(
            model=SCRModel(model[:-1], nn.Linear(16, 8)),
            mem_size=30,
            batch_size_mem=10,
            **options,  # type: ignore[index]
        )
    elif kind == "cope":
        strategy = CoPE(model=model, criterion=nn.CrossEntropyLoss(), mem_size=30, n_classes=6, p_size=6, **options)
    elif kind == "slda":
        del options["optimizer"]
        strategy = StreamingLDA(
            slda_model=model[:1],
            criterion=nn.CrossEntropyLoss(),
            input_size=16,
            num_classes=6,
            **options,  # type: ignore[index]
        )
    else:
        strategy = Replay(model=model, criterion=nn.CrossEntropyLoss(), mem_size=30, **options)
    torch.manual_seed(4)
    with quiet.hushed():
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
            if evaluate:
                strategy.eval(benchmark.test_stream)
    return strategy, np.array(log.values).reshape(-1, len(benchmark.test_stream))


@pytest.mark.filterwarnings("ignore:Plugin .* implements incompatible callbacks")  # StreamingLDA has no backward pass
@pytest.mark.parametrize("kind", ["plain", "growing", "heads", "icarl", "scr", "cope", "slda"])
def test_the_plugin_agrees_with_avalanches_evaluation_and_changes_nothing(kind: str) -> None:
    benchmark = classes_benchmark(task_labels=kind == "heads")
    # Avalanche lets all outputs compete; with heads that are a task's own outputs.
    ours = plugin.ContinualEvaluation(benchmark.test_stream, setting="domain", outputs=6)
    watched, theirs = script(kind, benchmark, [ours])
    trace = ours.trace()
    matrix = definition.accuracy_matrix(trace, "domain")
    so_far = np.tril(np.ones((3, 3), bool))
    np.testing.assert_array_equal(matrix[so_far].astype(np.float32), theirs[so_far].astype(np.float32))
    assert matrix[so_far].max() > (0 if kind == "cope" else 0.5)
    alone, _ = script(kind, classes_benchmark(task_labels=kind == "heads"), [])
    assert_same(watched.model.state_dict(), alone.model.state_dict())
    if kind != "slda":
        assert_same(watched.optimizer.state_dict(), alone.optimizer.state_dict())
    values = metrics.compute(trace)["domain"]
    assert values["average_accuracy"]["value"] == pytest.approx(theirs[-1].mean(), abs=1e-6)
    assert values["min_acc"]["value"] is not None


def test_training_without_evaluation_ends_in_the_same_random_state() -> None:
    states = []
    for every in (1, 7, 0, None):
        benchmark = classes_benchmark()
        plugins = [] if every is None else [plugin.ContinualEvaluation(benchmark.test_stream, every=every)]
        strategy, _ = script("plain", benchmark, plugins, evaluate=False)
        states.append([strategy.model.state_dict(), torch.get_rng_state(), random.getstate()])
    for state in states[1:]:
        assert_same(state, states[0])


class Drawing(torch.utils.data.TensorDataset):
    """Draws a random number for every sample, as a random transform would."""

    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i)[0] + torch.rand(8) + random.random(), int(self.tensors[1][i])


def test_reading_the_test_stream_moves_no_chance() -> None:
    data = Drawing(*samples(0)[1].tensors)
    test = _make_taskaware_classification_dataset(data, targets=data.tensors[1].tolist(), task_labels=0)
    before = torch.get_rng_state(), random.getstate()
    plugin.ContinualEvaluation(benchmark_from_datasets(test=[test]).test_stream)
    assert_same((torch.get_rng_state(), random.getstate()), before)


def test_each_head_competes_within_its_task() -> None:
    benchmark = classes_benchmark(task_labels=True)
    ours = plugin.ContinualEvaluation(benchmark.test_stream, setting="task")
    _, theirs = script("heads", benchmark, [ours])
    trace = ours.trace()
    assert trace.correct["task"].shape[1] == 6  # three tasks of two outputs each
    before = trace.correct["task"][(trace.phase == Phase.BEFORE) & (trace.experience == 1)][0]
    assert before[:4].min() >= 0
    assert (before[4:] == UNAVAILABLE).all()
    assert definition.accuracy_matrix(trace, "task")[2] == pytest.approx(theirs[2])


def test_task_labels_are_avalanches_and_not_the_number_of_the_experience() -> None:
    """Tasks come in another order than their labels."""
    benchmark = domains_benchmark([1, 0])
    ours = plugin.ContinualEvaluation(benchmark.test_stream, setting="domain")
    _, theirs = script("heads", benchmark, [ours])
    matrix = definition.accuracy_matrix(ours.trace(), "domain")
    assert matrix[1] == pytest.approx(theirs[1])


def test_domains_trained_twice_and_in_one_call() -> None:
    benchmark = domains_benchmark([0, 0])
    ours = plugin.ContinualEvaluation(benchmark.test_stream, setting="domain", every=5)
    model = network("plain")
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05), criterion=nn.CrossEntropyLoss(),
        train_mb_size=10, plugins=[ours], evaluator=silent(),
    )  # fmt: skip
    with quiet.hushed():
        strategy.train(list(benchmark.train_stream), eval_streams=[])
        strategy.train(benchmark.train_stream[0].train(), eval_streams=[])
    trace = ours.trace()
    assert trace.visits.tolist() == [[True, False], [False, True], [True, False]]
    assert (trace.phase == Phase.END).sum() == 3
    assert trace.iteration[trace.phase == Phase.END].tolist() == [24, 48, 72]
    assert metrics.compute(trace)["domain"]["average_accuracy"]["value"] > 0.5


def test_one_test_experience_serves_all() -> None:
    train, test = samples(2)
    benchmark = ni_benchmark(train, test, n_experiences=3, seed=1)
    ours = plugin.ContinualEvaluation(benchmark.test_stream, setting="domain", every=5)
    _, theirs = script("plain", benchmark, [ours])
    assert len(benchmark.test_stream) == 1
    assert definition.accuracy_matrix(ours.trace(), "domain") == pytest.approx(theirs)


def test_sub_experiences_of_an_online_stream_are_one_task_block() -> None:
    benchmark = classes_benchmark()
    ours = plugin.ContinualEvaluation(benchmark.test_stream, every=0)
    model = network("plain")
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05), criterion=nn.CrossEntropyLoss(),
        train_mb_size=10, plugins=[ours], evaluator=silent(),
    )  # fmt: skip
    for experience in split_online_stream(benchmark.train_stream, experience_size=20, seed=1):
        strategy.train(experience.train(), eval_streams=[])
    trace = ours.trace()
    assert trace.visits.tolist() == np.eye(3, dtype=bool).tolist()
    assert (trace.phase == Phase.BEFORE).sum() == 3
    assert trace.iteration[trace.phase == Phase.END].tolist() == [2 * n for n in range(1, 13)]
    assert np.isfinite(definition.accuracy_matrix(trace, "class")[np.tril_indices(3)]).all()


def test_a_loss_that_is_not_finite_does_not_stop_the_script() -> None:
    benchmark = classes_benchmark()
    ours = plugin.ContinualEvaluation(benchmark.test_stream, every=0)
    model = network("plain")
    strategy = Naive(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05),
        criterion=lambda out, y: out.sum() * float("nan"), plugins=[ours], train_mb_size=40, evaluator=silent(),
    )  # fmt: skip
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert np.isnan(ours.trace().loss).all()
    assert len(ours.trace().loss) == 2


def test_joint_training_takes_the_plugin_too() -> None:
    benchmark = classes_benchmark()
    ours = plugin.ContinualEvaluation(benchmark.test_stream, every=4)
    model = network("plain")
    strategy = JointTraining(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.05), criterion=nn.CrossEntropyLoss(),
        train_mb_size=40, plugins=[ours], evaluator=silent(),
    )  # fmt: skip
    strategy.train(benchmark.train_stream, eval_streams=[])
    assert len(ours.trace().loss) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b: {"setting": "clas"}, "setting 'clas'. Allowed: class, task, domain."),
        (lambda b: {"every": -1}, "every -1. Allowed: 0 and more."),
    ],
)
def test_a_mistake_in_the_plugins_arguments_is_told(make: Callable[[Any], dict[str, Any]], message: str) -> None:
    benchmark = classes_benchmark()
    with pytest.raises(UserError) as caught:
        plugin.ContinualEvaluation(benchmark.test_stream, **make(benchmark))
    assert str(caught.value) == f"ContinualEvaluation: {message}"


def test_experiences_without_a_test_and_traces_without_training_are_told() -> None:
    benchmark = classes_benchmark()
    ours = plugin.ContinualEvaluation(benchmark.test_stream[:2])
    with pytest.raises(UserError, match="no experience was trained"):
        ours.trace()
    with pytest.raises(UserError, match="training experience 2, but test_stream ends at 1"):
        script("plain", benchmark, [ours], evaluate=False)
