"""Every strategy of the installed Avalanche: it runs when it is named, or here is why it cannot."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pkgutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from clbench import resolve, run_config
from clbench.avalanche import hosting, quiet
from clbench.config import avalanche_names
from clbench.errors import UserError
from clbench.runner.run import execute

# After the bridge, which knows what its dependencies say when they are imported.
import avalanche.training  # isort: skip
from avalanche.models import PNN, MTSimpleMLP, SCRModel, SimpleMLP  # isort: skip
from avalanche.models.expert_gate import ExpertGate  # isort: skip
from avalanche.models.generator import MlpVAE  # isort: skip
from avalanche.models.packnet import packnet_simple_mlp  # isort: skip
from avalanche.training import supervised  # isort: skip
from avalanche.training.templates.base import BaseTemplate  # isort: skip

pytestmark = [
    pytest.mark.usefixtures("_never_hangs"),
    pytest.mark.filterwarnings("ignore:This strategy is currently in the alpha stage"),  # ExpertGate
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),  # Avalanche's, with a head that grows
    pytest.mark.filterwarnings("ignore:Avalanche is transitioning to strategy constructors"),  # of its own, too
]

HERE = f"{__name__}:"
ABSTRACT = {"BaseTemplate", "BaseSGDTemplate", "SupervisedTemplate", "SupervisedMetaLearningTemplate"}


@pytest.fixture
def _never_hangs() -> Iterator[None]:
    """Some of these strategies wait for ever when they are given what they do not expect."""

    def over(*_: Any) -> None:
        raise TimeoutError("two minutes are over")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages that Avalanche does not depend on, wherever the tests run."""
    for package in ("quadprog", "higher", "timm"):
        monkeypatch.setitem(sys.modules, package, None)


# ------------------------------------------------------------------------------------------------ factories
def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def scr(model: Any, optimizer: Any, train_mb_size: int, evaluator: Any) -> Any:
    network = SCRModel(model[:-1], nn.Linear(model[-1].in_features, 16))
    return supervised.SCR(
        model=network, optimizer=optimizer, train_mb_size=train_mb_size, evaluator=evaluator, mem_size=40,
        batch_size_mem=10,
    )  # fmt: skip


def lfl(optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    return supervised.LFL(
        model=SimpleMLP(input_size=64, hidden_size=16), optimizer=optimizer, criterion=criterion, lambda_e=1.0,
        train_mb_size=train_mb_size, evaluator=evaluator,
    )  # fmt: skip


def pnn(optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    return supervised.PNNStrategy(
        model=PNN(num_layers=1, in_features=64, hidden_features_per_column=16), optimizer=optimizer,
        criterion=criterion, train_mb_size=train_mb_size, evaluator=evaluator,
    )  # fmt: skip


def feature_replay(train_mb_size: int, evaluator: Any) -> Any:
    model = SimpleMLP(input_size=64, hidden_size=16)
    return supervised.FeatureReplay(
        model=model, optimizer=sgd(model), mem_size=40, train_mb_size=train_mb_size, evaluator=evaluator
    )


def la_maml(train_mb_size: int, evaluator: Any) -> Any:
    """Calls its model with task labels, whether it takes any or not."""
    from avalanche.training.supervised.lamaml_v2 import LaMAML

    model = MTSimpleMLP(input_size=64, hidden_size=16)
    return LaMAML(model=model, optimizer=sgd(model), train_mb_size=train_mb_size, evaluator=evaluator)


def packnet(train_mb_size: int, evaluator: Any) -> Any:
    model = packnet_simple_mlp(input_size=64, hidden_size=16, drop_rate=0)
    return supervised.PackNet(
        model=model, optimizer=sgd(model), post_prune_epochs=1, prune_proportion=0.5, train_mb_size=train_mb_size,
        evaluator=evaluator,
    )  # fmt: skip


def vae(train_mb_size: int, evaluator: Any) -> Any:
    model = MlpVAE((1, 8, 8), nhid=4)
    return supervised.VAETraining(
        model=model, optimizer=torch.optim.Adam(model.parameters()), train_mb_size=train_mb_size, evaluator=evaluator
    )


def generative_replay(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    """Its own generator is one of images of 28 x 28 pixels."""
    return supervised.GenerativeReplay(
        model=model, optimizer=optimizer, criterion=criterion, replay_size=10, train_mb_size=train_mb_size,
        generator_strategy=vae(train_mb_size, quiet.SilentEvaluator()), evaluator=evaluator,
    )  # fmt: skip


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.feature_module = nn.Identity()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x)


def autoencoder(train_mb_size: int, evaluator: Any) -> Any:
    model = Autoencoder()
    return supervised.AETraining(
        model=model, optimizer=sgd(model), train_mb_size=train_mb_size, evaluator=evaluator, device="cpu"
    )


def expert_gate(train_mb_size: int, evaluator: Any) -> Any:
    """Not its default, which loads weights from the network."""
    model = ExpertGate(shape=(1, 8, 8), device="cpu", pretrained_flag=False)
    return supervised.ExpertGateStrategy(model=model, optimizer=sgd(model), evaluator=evaluator)


# ------------------------------------------------------------------------------------------------ the two tables
RUNS: dict[str, tuple[str | None, dict[str, Any], list[str]]] = {
    "cumulative:Cumulative": (None, {}, []),
    "deep_slda:StreamingLDA": (
        None, {"slda_model": {"name": "torch.nn:Flatten"}, "input_size": 64, "num_classes": 10}, [],
    ),
    "der:DER": (None, {"mem_size": 40, "batch_size_mem": 10}, []),
    "er_ace:ER_ACE": (None, {"mem_size": 40, "batch_size_mem": 10}, []),
    "er_aml:ER_AML": (None, {"mem_size": 320}, []),  # for each class as many as a batch has
    "feature_replay:FeatureReplay": ("feature_replay", {}, []),
    "icarl:ICaRL": (None, {"memory_size": 40, "buffer_transform": None, "fixed_memory": True}, []),
    "lamaml_v2:LaMAML": ("la_maml", {}, []),
    "mer:MER": (None, {"mem_size": 40, "batch_size_mem": 10}, []),
    "strategy_wrappers:AGEM": (None, {"patterns_per_exp": 20}, []),
    "strategy_wrappers:CWRStar": (None, {"cwr_layer_name": "3"}, []),
    "strategy_wrappers:CoPE": (None, {"mem_size": 40, "n_classes": 10, "p_size": 10}, []),
    "strategy_wrappers:EWC": (None, {"ewc_lambda": 1.0}, []),
    "strategy_wrappers:FromScratchTraining": (None, {}, []),
    "strategy_wrappers:GDumb": (None, {"mem_size": 40}, []),
    # At each update the memory holds a batch or more: from the second experience on, of new and replayed samples.
    "strategy_wrappers:GSS_greedy": (
        None, {"mem_size": 100, "mem_strength": 10, "input_size": [1, 8, 8]},
        ["training.batch_size=10", "training.iterations=10"],
    ),
    "strategy_wrappers:GenerativeReplay": ("generative_replay", {}, []),
    "strategy_wrappers:LFL": ("lfl", {}, []),
    "strategy_wrappers:LwF": (None, {"alpha": 1.0, "temperature": 2.0}, []),
    "strategy_wrappers:MAS": (None, {}, []),
    "strategy_wrappers:MIR": (None, {"mem_size": 40, "subsample": 20, "batch_size_mem": 10}, []),
    "strategy_wrappers:Naive": (None, {}, []),
    "strategy_wrappers:PNNStrategy": ("pnn", {}, []),
    # Tasks have labels; pruning is at an epoch; until the task block ends, no other task is evaluated.
    "strategy_wrappers:PackNet": (
        "packnet", {}, ["stream.setting=task", "training.iterations=null", "training.epochs=2"],
    ),
    "strategy_wrappers:Replay": (None, {"mem_size": 40}, []),
    "strategy_wrappers:SynapticIntelligence": (None, {"si_lambda": 1.0}, []),
    "strategy_wrappers_online:OnlineNaive": (None, {}, []),
    "supervised_contrastive_replay:SCR": ("scr", {}, []),
}  # fmt: skip
"""Strategy -> factory, where its constructor alone will not do; parameters; further settings of the run."""

CANNOT: dict[str, tuple[str | None, dict[str, Any], str] | None] = {
    "ar1:AR1": None,  # its constructor loads the weights of a MobileNet from the network, with no way not to
    "expert_gate:ExpertGateStrategy": ("expert_gate", {}, "cannot be built: 'NONE'."),  # torchvision has no such name
    "joint_training:JointTraining": (
        None, {}, "it is trained once, on a whole stream, and refuses a second experience; use 'joint'.",
    ),
    "l2p:LearningToPrompt": (
        None, {"model_name": "vit_tiny_patch16_224", "pretrained": False},
        "cannot be built: timm is not found, if you want to use L2P please install avalanche with the detection "
        "dependencies: pip install avalanche-lib[l2p].",
    ),
    "lamaml:LaMAML": (None, {}, "LaMAML needs the package higher, which is not installed."),
    "naive_object_detection:ObjectDetectionTemplate": (
        None, {}, "AttributeError: 'Tensor' object has no attribute 'items'",  # boxes
    ),
    "strategy_wrappers:AETraining": (
        "autoencoder", {}, "ValueError: predict returned the shape (355, 1, 8, 8) for 355 samples",
    ),
    "strategy_wrappers:BiC": (
        None, {"mem_size": 40}, "BiCPlugin needs torch < 2.7, whose MultiStepLR takes 'verbose'.",
    ),
    "strategy_wrappers:GEM": (
        None, {"patterns_per_exp": 20, "memory_strength": 0.5},
        "GEMPlugin needs the package quadprog, which is not installed.",
    ),
    "strategy_wrappers:VAETraining": ("vae", {}, "its evaluation gives tuple, and not scores of classes"),
}  # fmt: skip
"""Strategy -> factory, parameters, and what the run or its refusal says; None: not to be tried."""


def strategies() -> set[str]:
    found = set()
    for module in pkgutil.walk_packages(avalanche.training.__path__, "avalanche.training."):
        for value in vars(importlib.import_module(module.name)).values():
            of = inspect.unwrap(value) if callable(value) else value  # a deprecated class is within a function
            if inspect.isclass(of) and issubclass(of, BaseTemplate) and of.__name__ not in ABSTRACT:
                found.add(f"{of.__module__}:{of.__name__}".removeprefix("avalanche.training.supervised."))
    return found


def make_run(name: str, factory: str | None, parameters: dict[str, Any], *overrides: str) -> run_config.RunConfig:
    path = HERE + factory if factory else f"avalanche.training.supervised.{name}"
    small = ["stream.tasks.count=3", "training={iterations: 4, epochs: null, batch_size: 32}", "evaluation.every=0"]
    given = [f"strategy.{k}={json.dumps(v)}" for k, v in parameters.items()]
    return resolve.make_run("split_digits-v1", strategy=path, overrides=[*small, *given, *overrides])


def test_each_strategy_of_avalanche_is_in_one_of_the_two_tables() -> None:
    assert not RUNS.keys() & CANNOT.keys()
    assert RUNS.keys() | CANNOT.keys() == strategies()


def test_messages_know_the_strategies_that_avalanche_exports() -> None:
    exported = {
        name
        for name, value in vars(supervised).items()
        if inspect.isclass(of := inspect.unwrap(value) if callable(value) else value)
        and issubclass(of, BaseTemplate)
        and of.__module__.startswith(supervised.__name__)
    }
    assert exported | {"LaMAML"} == set(avalanche_names.STRATEGIES)


def accuracy(run: run_config.RunConfig, directory: Path, view: str = "class") -> float:
    record = execute(run, directory).record
    assert record["status"] == "completed", record["failure"]
    value = record["metrics"][view]["average_accuracy"]["value"]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    factory, parameters, overrides = RUNS[name]
    run = make_run(name, factory, parameters, *overrides)
    assert math.isfinite(accuracy(run, tmp_path, run.benchmark.stream.setting))


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize("name", [name for name, why in CANNOT.items() if why])
def test_it_cannot_and_says_why(name: str, tmp_path: Path) -> None:
    if name.endswith(":BiC") and "verbose" in inspect.signature(MultiStepLR).parameters:
        pytest.skip("with this torch it runs")
    factory, parameters, message = CANNOT[name] or ("", {}, "")
    run = make_run(name, factory, parameters)
    try:
        failure = execute(run, tmp_path).record["failure"]["message"]
    except UserError as error:
        failure = str(error).removeprefix(f"strategy '{run.strategy.name}': ")
    assert failure == message


def test_a_method_that_is_only_a_plugin_runs(tmp_path: Path) -> None:
    plugin = {"name": "avalanche.training.plugins:RWalkPlugin", "ewc_lambda": 0.1, "delta_t": 2}
    assert math.isfinite(accuracy(make_run("strategy_wrappers:Naive", None, {"plugins": [plugin]}), tmp_path))


@pytest.mark.parametrize(
    ("plugin", "what"),
    [
        ({"name": "GEMPlugin", "patterns_per_experience": 20, "memory_strength": 0.5}, "the package quadprog"),
        ({"name": "BiCPlugin", "mem_size": 40}, "torch < 2.7"),
    ],
)
@pytest.mark.usefixtures("_bare")
def test_what_a_plugin_needs_is_told_before_the_training(
    plugin: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {**plugin, "name": f"avalanche.training.plugins:{plugin['name']}"}
    run = make_run("strategy_wrappers:Naive", None, {"plugins": [found]})
    monkeypatch.setattr(hosting.Hosted, "fit", lambda *_: pytest.fail("it was trained"))
    if plugin["name"] == "BiCPlugin" and "verbose" in inspect.signature(MultiStepLR).parameters:
        pytest.skip("with this torch it runs")
    with pytest.raises(UserError, match=f"{plugin['name']} needs {what}"):
        execute(run, tmp_path)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("er_aml:ER_AML", {"mem_size": 40}, "for a batch of 32 out of 6 samples"),
        ("feature_replay:FeatureReplay", {}, "for a batch of 10 out of 4 samples"),
    ],
)
def test_where_avalanche_would_wait_for_ever_the_run_fails(
    name: str, parameters: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `cycle` over a loader that drops incomplete batches, and has no other."""
    if not parameters:
        whole = supervised.FeatureReplay
        monkeypatch.setattr(supervised, "FeatureReplay", lambda **given: whole(**{**given, "mem_size": 4}))
    factory = RUNS[name][0]
    failure = execute(make_run(name, factory, parameters), tmp_path).record["failure"]
    assert (failure["kind"], failure["message"]) == ("no_batch", f"Avalanche would wait for ever {message}")
