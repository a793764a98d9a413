"""Hosted Avalanche strategies stopped after an experience: they end in the same bytes, or say why they begin anew."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import resolve, run_config
from clbench.avalanche import hosting
from clbench.avalanche.state import Parts
from clbench.errors import RunFailed, Unsaveable
from clbench.results import files
from clbench.runner.checkpoint import Checkpoints, Every
from clbench.runner.run import execute
from clbench.runner.signals import Interrupted
from clbench.streams.datasets.load import load
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import CrashAt, assembled

# After the bridge, which knows what its dependencies say when they are imported.
from avalanche.core import SupervisedPlugin  # isort: skip
from avalanche.models import IncrementalClassifier, SCRModel, SimpleMLP, as_multitask  # isort: skip
from avalanche.models import PNN  # isort: skip
from avalanche.training import supervised  # isort: skip
from avalanche.training.plugins import EWCPlugin, ReplayPlugin  # isort: skip

pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # Avalanche's LwF, with a head that grows

SUPERVISED = "avalanche.training.supervised:"
HERE = f"{__name__}:"


def make_run(name: str, parameters: dict[str, Any], *overrides: str) -> run_config.RunConfig:
    given = [f"strategy.{k}={json.dumps(v)}" for k, v in parameters.items()]
    small = ["stream.tasks.count=3", "training={iterations: 5, epochs: null, batch_size: 32}", "evaluation.every=2"]
    path = name if ":" in name else (HERE if name in globals() else SUPERVISED) + name
    return resolve.make_run("split_digits-v1", strategy=path, overrides=[*small, *given, *overrides])


# ------------------------------------------------------------------------------------------------ factories
def er_ace(model: nn.Module, optimizer: Any, train_mb_size: int, evaluator: Any) -> Any:
    return supervised.ER_ACE(
        model=model, optimizer=optimizer, train_mb_size=train_mb_size, evaluator=evaluator, mem_size=40,
        batch_size_mem=10,
    )  # fmt: skip


def scr(model: nn.Module, optimizer: Any, train_mb_size: int, eval_mb_size: int, evaluator: Any) -> Any:
    network = SCRModel(model[:-1], nn.Linear(model[-1].in_features, 16))  # type: ignore[index]
    return supervised.SCR(
        model=network, optimizer=optimizer, train_mb_size=train_mb_size, eval_mb_size=eval_mb_size,
        mem_size=40, batch_size_mem=10, evaluator=evaluator,
    )  # fmt: skip


def lfl(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    """Draws from the global generators, by dropout."""
    return supervised.LFL(
        model=SimpleMLP(input_size=64, hidden_size=32, drop_rate=0.1), optimizer=optimizer, criterion=criterion,
        train_mb_size=train_mb_size, lambda_e=1.0, evaluator=evaluator,
    )  # fmt: skip


def pnn(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    return supervised.PNNStrategy(
        model=PNN(num_layers=1, in_features=64, hidden_features_per_column=20), optimizer=optimizer,
        criterion=criterion, train_mb_size=train_mb_size, evaluator=evaluator,
    )  # fmt: skip


def heads(model: nn.Module, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    """A head for each task, an optimiser with a state for each parameter, and a path integral over them."""
    network = as_multitask(SimpleMLP(input_size=64, hidden_size=32, drop_rate=0), "classifier")
    return supervised.SynapticIntelligence(
        model=network, optimizer=torch.optim.Adam(network.parameters()), criterion=criterion,
        train_mb_size=train_mb_size, si_lambda=1.0, evaluator=evaluator,
    )  # fmt: skip


def growing(model: nn.Module, optimizer: Any, criterion: Any, train_mb_size: int, evaluator: Any) -> Any:
    """Outputs that grow, buffers, a copy of the network, and three methods in one."""
    network = nn.Sequential(nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), IncrementalClassifier(20, 1))
    return supervised.LwF(
        model=nn.Sequential(nn.Flatten(), *network), optimizer=optimizer, criterion=criterion,
        train_mb_size=train_mb_size, alpha=1.0, temperature=2.0, evaluator=evaluator,
        plugins=[ReplayPlugin(40), EWCPlugin(1.0)],
    )  # fmt: skip


class Replacing(supervised.Naive):  # type: ignore[misc]
    """Trains a subset of the data in its place, and another network from each experience on."""

    def _before_training_exp(self, **options: Any) -> None:
        kept = self.experience.dataset.subset(range(0, len(self.experience.dataset), 2))
        self.experience.logging().dataset = kept
        super()._before_training_exp(**options)

    def _after_training_exp(self, **options: Any) -> None:
        super()._after_training_exp(**options)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with torch.no_grad():
            network[1].weight.copy_(self.model[-1].weight[:, :1] * 0.1)
        self.model = network


STRATEGIES: dict[str, tuple[str, dict[str, Any]]] = {
    "naive": ("Naive", {}),
    "cumulative": ("Cumulative", {}),
    "replay": ("Replay", {"mem_size": 40}),
    "ewc": ("EWC", {"ewc_lambda": 1.0}),
    "ewc, online": ("EWC", {"ewc_lambda": 1.0, "mode": "online", "decay_factor": 0.5}),
    "si": ("SynapticIntelligence", {"si_lambda": 1.0}),
    "mas": ("MAS", {}),
    "lwf": ("LwF", {"alpha": 1.0, "temperature": 2.0}),
    "agem": ("AGEM", {"patterns_per_exp": 20}),
    "gdumb": ("GDumb", {"mem_size": 40}),
    "cwr*": ("CWRStar", {"cwr_layer_name": "3"}),
    "icarl": ("ICaRL", {"memory_size": 40, "buffer_transform": None, "fixed_memory": True}),
    "der": ("DER", {"mem_size": 40, "batch_size_mem": 10}),
    "er-ace": ("er_ace", {}),
    "mir": ("MIR", {"mem_size": 40, "subsample": 20, "batch_size_mem": 10}),
    "mer": ("MER", {"mem_size": 40, "batch_size_mem": 10}),
    "cope": ("CoPE", {"mem_size": 40, "n_classes": 10, "p_size": 10}),
    "scr": ("scr", {}),
    "streaming lda": (
        "StreamingLDA",
        {"slda_model": {"name": "torch.nn:Flatten"}, "input_size": 64, "num_classes": 10},
    ),
    "lfl": ("lfl", {}),
    "pnn": ("pnn", {}),
    "from scratch": ("FromScratchTraining", {}),
    "heads": ("heads", {}),
    "growing": ("growing", {}),
    "replacing": ("Replacing", {}),
}
LESS = {"cope": {1, 2}}
"""Updates after which a strategy that does fewer than it may can be stopped."""


# ------------------------------------------------------------------------------------------------ whole strategies
@pytest.mark.parametrize("name", STRATEGIES)
def test_stopped_after_any_experience_it_goes_on_as_if_it_had_not_been(name: str) -> None:
    path, parameters = STRATEGIES[name]
    check_resume(make_run(path, parameters), LESS.get(name, {5, 10}))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("replay", ["training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}"]),
        ("replay", ["training.optimizer={name: adam}", "training.optimizer_state=reset"]),
        ("ewc", ["training.active_outputs=seen"]),
        ("heads", ["stream.setting=task"]),
        ("lwf", ["model={name: slim_resnet18, filters: 2}", "training.iterations=2"]),
        ("replay", ["training.augmentation=[{name: random_crop, padding: 1}]"]),
        ("agem", ["stream.online=150", "training.iterations=2"]),
        ("growing", ["stream.online=150", "training.iterations=2"]),
    ],
)
def test_on_other_streams_and_with_other_training_too(name: str, overrides: list[str]) -> None:
    path, parameters = STRATEGIES[name]
    run = make_run(path, parameters, *overrides)
    several = {4, 10} if "stream.online=150" in overrides else {4, 5}
    check_resume(run, several)


@pytest.mark.parametrize("name", ["naive", "replay"])
def test_stopped_after_the_very_last_update_nothing_is_left_to_do(name: str) -> None:
    path, parameters = STRATEGIES[name]
    check_resume(make_run(path, parameters), {15})


def test_a_loss_by_task_goes_on_where_tasks_share_classes(tmp_path: Path) -> None:
    data = load("digits")
    task = [np.select([y < 4, y < 7], [0, np.arange(len(y)) % 2], 1) for y in (data.train_y, data.test_y)]
    np.savez(
        tmp_path / "data.npz", train_x=data.train_x[:, 0], train_y=data.train_y, train_task=task[0],
        test_x=data.test_x[:, 0], test_y=data.test_y, test_task=task[1],
    )  # fmt: skip
    stream = f"stream={{data: npz:{tmp_path / 'data.npz'}, setting: task, tasks: {{by: given}}}}"
    run = resolve.make_run(
        "split_digits-v1", strategy=f"{SUPERVISED}Replay",
        overrides=[stream, "training={iterations: 5, epochs: null, batch_size: 32}", "strategy.mem_size=40"],
    )  # fmt: skip
    check_resume(run, {5})


def outcome(directory: Path) -> tuple[bytes, dict[str, Any]]:
    record = files.read_run(directory)
    assert record["status"] == "completed", record["failure"]
    return (directory / "trace.npz").read_bytes(), {k: v for k, v in record.items() if k not in ("costs", "provenance")}


ELSEWHERE = """
import sys
sys.path[:0] = sys.argv[2:]
import test_hosted_resume as tests
from pathlib import Path
from clbench.runner.run import execute
run = tests.make_run("test_hosted_resume:growing", {})
execute(run, Path(sys.argv[1]), every=tests.Every(0, 1), say=lambda text: print(text, file=sys.stderr))
"""


def test_killed_and_resumed_in_another_process_it_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(__file__).parent
    monkeypatch.syspath_prepend(str(folder))
    run = make_run("test_hosted_resume:growing", {})
    whole = execute(run, tmp_path / "whole").directory
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "parts", every=Every(0, 1), progress=CrashAt(12))
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(tmp_path / "parts"), str(folder), str(folder.parent)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "resumes after update 10 of 15" in done.stderr, done.stderr
    [parts] = [path.parent for path in (tmp_path / "parts").rglob("run.json")]
    assert outcome(whole) == outcome(parts)


# ------------------------------------------------------------------------------------------------ what cannot be saved
class Counting(SupervisedPlugin[Any]):  # type: ignore[misc]
    """Holds a generator from its start, and asks it."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = {"drawn": (n for n in range(99))}

    def before_training_exp(self, strategy: Any, **options: Any) -> None:
        next(self.numbers["drawn"])


OPEN: list[Any] = []


class Writing(SupervisedPlugin[Any]):  # type: ignore[misc]
    def before_training_exp(self, strategy: Any, **options: Any) -> None:
        self.file = OPEN[0]


class Helper:
    pass


class Making(SupervisedPlugin[Any]):  # type: ignore[misc]
    """Makes something at the end of an experience."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.made = what, None

    def after_training(self, strategy: Any, **options: Any) -> None:
        makes: dict[str, Callable[[], Any]] = {
            "helper": Helper,
            "function": lambda: lambda: None,
            "graph": lambda: strategy.model[-1].weight.sum(),
            "objects": lambda: np.array([None]),
            "list": lambda: type("Numbers", (list,), {})(),
            "iterator": lambda: [iter([1])],
            "shared": lambda: np.split(np.zeros(4), 2),
            "key": lambda: {frozenset([1]): 2, range(3): 1},
        }
        self.made = makes[self.what]()


@pytest.mark.parametrize(
    ("plugin", "parameters", "said"),
    [
        ("Counting", {}, "plugin Counting: attribute 'numbers['drawn']' is a generator"),
        ("Writing", {}, "plugin Writing: attribute 'file' is a TextIOWrapper"),
        ("Making", {"what": "helper"}, "is a Helper that it was not built with, of a class that is not Avalanche's"),
        ("Making", {"what": "function"}, "plugin Making: attribute 'made' is a function that it was not built with"),
        ("Making", {"what": "graph"}, "plugin Making: attribute 'made' is a tensor with the graph that it came from"),
        ("Making", {"what": "objects"}, "plugin Making: attribute 'made' is an array of object"),
        ("Making", {"what": "list"}, "plugin Making: attribute 'made' is a Numbers"),
        ("Making", {"what": "iterator"}, "plugin Making: attribute 'made[0]' is a list_iterator"),
        ("Making", {"what": "shared"}, "plugin Making: attribute 'made[1]' is an array that shares its memory"),
        ("Making", {"what": "key"}, "plugin Making: attribute 'made' is a container with a frozenset for a key"),
    ],
)
def test_what_cannot_be_saved_is_told_in_one_sentence(
    plugin: str, parameters: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("Naive", {"plugins": [{"name": HERE + plugin, **parameters}]})
    with open(os.devnull, "w") as file:
        monkeypatch.setattr(sys.modules[__name__], "OPEN", [file])
        with pytest.raises(AssertionError) as caught:
            check_resume(run, {5})
    assert str(caught.value).endswith(f"{said}."), caught.value


def test_a_run_that_cannot_be_saved_says_so_and_begins_anew(tmp_path: Path) -> None:
    run = make_run("Naive", {"plugins": [{"name": HERE + "Counting"}]})
    said: list[str] = []
    message = (
        "no checkpoints: plugin Counting: attribute 'numbers['drawn']' is a generator; if stopped, the run restarts"
    )
    with pytest.raises(Interrupted, match=r"the same command restarts the run\."):
        execute(run, tmp_path / "parts", every=Every(0, 1), say=said.append, progress=CrashAt(12))
    assert said[1:] == [message]
    parts = execute(run, tmp_path / "parts", every=Every(0, 1), say=said.append).directory
    assert said.count(message) == 2
    assert not any("goes on" in text for text in said)
    assert outcome(parts) == outcome(execute(run, tmp_path / "whole").directory)


# ------------------------------------------------------------------------------------------------ the graph of objects
class Thing:
    """A strategy of one's own, as far as the graph is concerned."""

    def __init__(self) -> None:
        self.model = nn.Linear(3, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.draws = random.Random(0), np.random.default_rng(0), np.random.RandomState(0), torch.Generator()
        self.told: list[Any] = []
        count = 0

        def counter() -> int:
            nonlocal count
            count += 1
            return count

        self.counter = counter
        self.array = np.arange(6).reshape(2, 3)


def live(thing: Thing) -> None:
    """Actions that training may take."""
    thing.model(torch.ones(1, 3)).sum().backward()
    thing.optimizer.step()
    rows = torch.arange(12.0).reshape(3, 4)
    old = [thing]
    thing.__dict__.update(
        cycle=old,
        again=old,
        alias=thing.model.weight,
        rows=[rows[0], rows[2], rows.t()],
        bag=deque([1, 2, 3], maxlen=3),
        by=defaultdict(list, {1: [2], (0, "a"): [thing.model.bias], 2.5: []}),
        order=OrderedDict(b=1, a={3, 1, 2}, c=frozenset([4])),
        numbers=list(range(50)),
        atoms=(None, math.inf, 2**80, -0.0, np.int16(7), torch.float64, torch.device("cpu"), b"ab", range(2, 9, 3)),
        turned=np.arange(6).reshape(2, 3).T,
        head=nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)),
        size=torch.Size([2, 3]),
        half=torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
    )
    thing.told.append(thing.told)
    thing.array[:] += 1
    del thing.optimizer.param_groups[0]["nesterov"]
    for draw in (thing.draws[0].random, thing.draws[1].random, thing.draws[2].rand, thing.counter):
        draw()
    torch.rand(3, generator=thing.draws[3])


def restored(tmp_path: Path) -> tuple[Thing, Thing]:
    one, other = Thing(), Thing()
    parts, others = Parts(one, []), Parts(other, [])
    live(one)
    Checkpoints(tmp_path).write(1, parts.state_dict(more={"with": one.again}))
    [(_, state)] = Checkpoints(tmp_path).read()
    assert isinstance(state, dict)
    more = others.load_state_dict(state)
    assert more["with"] is other.again
    return one, other


def test_what_was_shared_is_shared_again_and_what_was_there_is_the_same_object(tmp_path: Path) -> None:
    one, other = restored(tmp_path)
    assert other.cycle[0] is other
    assert other.cycle is other.again
    assert other.told == [other.told]
    assert other.alias is other.model.weight
    assert other.by[0, "a"][0] is other.model.bias
    [group] = other.optimizer.param_groups
    assert group["params"][0] is other.model.weight
    assert list(other.optimizer.state) == [other.model.weight, other.model.bias]
    with torch.no_grad():
        other.rows[0][1] = 7.0
    assert other.rows[2][1, 0] == 7.0, "both look at the same memory"
    assert other.rows[2].stride() == one.rows[2].stride()


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    one, other = restored(tmp_path)
    assert_same(one.model.state_dict(), other.model.state_dict())
    assert_same(one.optimizer.state_dict(), other.optimizer.state_dict())
    assert_same(one.model.weight.grad, other.model.weight.grad)
    assert_same(one.head.state_dict(), other.head.state_dict())
    assert_same([one.array, one.turned], [other.array, other.turned])
    assert other.turned.flags.f_contiguous
    assert (other.bag, other.bag.maxlen) == (deque([1, 2, 3]), 3)
    assert list(other.by) == [1, (0, "a"), 2.5]
    assert other.by["new"] == []
    assert list(other.order.items()) == list(one.order.items())
    assert other.numbers == one.numbers
    assert other.atoms == one.atoms
    assert [type(v) for v in other.atoms] == [type(v) for v in one.atoms]
    assert math.copysign(1, other.atoms[3]) == -1
    assert type(other.size) is torch.Size
    assert other.half.requires_grad
    assert torch.equal(one.half, other.half)
    assert one.counter() == other.counter() == 2
    for a, b in zip(one.draws[:3], other.draws[:3], strict=True):
        assert np.asarray(a.random()) == np.asarray(b.random())
    assert_same(torch.rand(3, generator=one.draws[3]), torch.rand(3, generator=other.draws[3]))


def test_a_strategy_of_other_parts_is_refused() -> None:
    one, other = Thing(), Thing()
    other.model = nn.Sequential(nn.Linear(3, 2))
    state = Parts(one, []).state_dict()
    with pytest.raises(RunFailed, match="Thing is built of other parts than before"):
        Parts(other, []).load_state_dict(state)


@pytest.mark.parametrize(
    "name",
    [
        "subprocess:Popen",
        "os:system",
        "torch.nn.functional:torch.load",
        "torch.nn.modules.module:functools.partial",
        "avalanche.training.plugins.mir:copy.deepcopy",
        "avalanche.training.plugins.mir:update_temp",
        "avalanche.training.utils:_ParameterGroup.nothing",
    ],
)
def test_a_file_makes_nothing_but_parts_of_a_method(name: str) -> None:
    thing = Thing()
    parts = Parts(thing, [])
    for node in ({"kind": "object", "class": name, "names": []}, {"kind": "generator", "value": name}):
        state = parts.state_dict()
        state["nodes"].append({**node, "of": []})
        with pytest.raises(RunFailed, match="that is imported"):
            parts.load_state_dict(state)


def test_a_set_whose_order_tells_its_history_is_refused() -> None:
    thing = Thing()
    parts = Parts(thing, [])
    thing.told = [set(range(100))]
    for n in {*range(100)} - {33, 64, 99}:
        thing.told[0].discard(n)  # which leaves the table as large as before, so that 33 stays before 64
    with pytest.raises(Unsaveable, match=r"strategy Thing: attribute 'told\[0\]' is a set whose order tells how"):
        parts.state_dict()


def test_checkpoints_name_experiences_and_hold_no_data(tmp_path: Path) -> None:
    """A buffer over the stream's samples is a list of their numbers."""
    run = make_run("Cumulative", {}, "stream.tasks.count=2")
    bench = assembled(run)
    assert isinstance(bench.strategy, hosting.Hosted)
    strategy = bench.strategy
    strategy.hosted.kept = strategy._experiences[1]
    strategy._experiences[0].dataset = strategy._experiences[0].dataset.subset(range(7))
    strategy.hosted.dataset = strategy._experiences[1].dataset.subset([3, 1, 2])
    Checkpoints(tmp_path).write(1, strategy.state_dict())
    [(_, state)] = Checkpoints(tmp_path).read()
    again = assembled(run).strategy
    assert isinstance(again, hosting.Hosted)
    assert isinstance(state, dict)
    again.load_state_dict(state)
    assert again.hosted.kept is again._experiences[1]
    assert len(again._experiences[0].dataset) == 7, "a strategy may have replaced it"
    flat = again.hosted.dataset._flat_data
    assert flat._datasets[0] is again._experiences[1].dataset._flat_data._datasets[0]
    assert [int(i) for i in flat._indices] == [int(i) for i in strategy.hosted.dataset._flat_data._indices]
    arrays = [node["value"] for node in state["hosted"]["nodes"] if isinstance(node.get("value"), np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 2_000
