"""Runs that are stopped at any moment, in any way, end in the same bytes; what is damaged is not used."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench import registry
from clbench.cli import main
from clbench.errors import Unsaveable, UserError
from clbench.evaluation.frozen_features import Front
from clbench.evaluation.inputs import TestInputs
from clbench.results import files, provenance, trace_files
from clbench.rng import Generator
from clbench.run_config import RunConfig
from clbench.runner import attempt
from clbench.runner.checkpoint import Checkpoints, Due, Every
from clbench.runner.lock import Busy, Lock
from clbench.runner.signals import Interrupted
from clbench.schema import Model
from clbench.strategy import Batch, Strategy
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import CLASSIFIERS, SPLIT, execute, make_run

TABLE = CLASSIFIERS
SMALL = "training={iterations: 7, epochs: null, batch_size: 60}"  # 4 updates a pass, 35 in all
NEVER = Every(0, 0)

CONFIGURATIONS: dict[str, tuple[str, list[str]]] = {
    "plain": (SPLIT, []),
    "momentum": (SPLIT, ["training.optimizer={name: sgd, lr: 0.1, momentum: 0.9}"]),
    "adam, reset": (SPLIT, ["training.optimizer={name: adam}", "training.optimizer_state=reset"]),
    "drop_last": (SPLIT, ["training.drop_last=true"]),
    "online": (SPLIT, ["stream.online=50", "training.iterations=2", "evaluation={every: 3, dense: 2}"]),
    "no boundaries": (SPLIT, ["stream.online=50", "training.iterations=2", "protocol.boundaries=false"]),
    "blurry": ("blurry_digits-v1", ["stream.schedule.experiences=12", "training.iterations=3"]),
    "recurrent": ("power_law_digits-v1", ["training.iterations=2"]),
    "permuted": ("permuted_digits-v1", ["training.iterations=4", "training.budget=experience"]),
    "averages": (SPLIT, ["watch={ema: [0.5, 0.9], last: [3]}", "evaluation.every=3"]),
    "averages, seldom": (SPLIT, ["watch={ema: [0.9], last: [4]}", "evaluation.every=0"]),
    "internals": (SPLIT, ["watch={gradients: true, features: true}"]),
    "subset, no bits": (SPLIT, ["evaluation={every: 1, subset: 10}", "watch.bits=false"]),
    "float32": (SPLIT, ["watch.precision=float32", "training.active_outputs=seen"]),
    "cnn": ("split_digits-v1", ["model={name: cnn, channels: [4, 8], hidden: 16}", "training.iterations=3"]),
    "batch norm": (
        "split_digits-v1",
        ["model={name: slim_resnet18, filters: 2}", "training={iterations: 2, batch_size: 16}", "stream.tasks.count=3"],
    ),
    "prequential": (SPLIT, ["watch.prequential=true"]),
    "prequential, delayed": (SPLIT, ["training.batch_size=30", "watch={prequential: true, prequential_delay: 2}"]),
    "recipe, reset": (SPLIT, [
        "training={optimizer_state: reset, clip: {norm: 0.1}, schedule: {name: cosine, unit: updates}, "
        "experiences: {0: {iterations: 9, optimizer: {name: adam}, clip: {value: 0.01}}, 2: {label_smoothing: 0.1}}}",
    ]),
    "recipe, kept": (SPLIT, [
        "training={optimizer: {name: sgd, lr: 0.1, momentum: 0.9}, rates: {front: 0.5}, "
        "schedule: {name: linear, unit: updates, over: stream}, "
        "experiences: {1: {iterations: 4, optimizer: {name: sgd, lr: 0.3, weight_decay: 0.1}}}}",
    ]),
    "augmented": ("split_digits-v1", ["training.augmentation=[{name: random_crop, padding: 1}]"]),
}  # fmt: skip
FEW = "stream.tasks.count=3"  # 21 updates in all, 24 online; the third experience has two past ones
REPLAY = {
    "class_balanced": ["strategy.buffer=class_balanced", "strategy.memory=30"],
    "per class": ["strategy.buffer=class_balanced", "strategy.memory_per_class=5"],
    "weighted, after": ["strategy.loss=weighted", "strategy.fill=after", "strategy.memory=40"],
    "small": ["strategy.memory=17", "strategy.replay_batch=5"],
}


def plan(strategy: str = "naive", *overrides: str, benchmark: str = SPLIT) -> RunConfig:
    return make_run(strategy, SMALL, *overrides, benchmark=benchmark)


class At:
    """Does something after some updates."""

    def __init__(self, updates: set[int], act: Callable[[], Any]) -> None:
        self._updates, self._act = updates, act
        self.total = self.started = 0

    def start(self, total: int, done: int) -> None:
        self.total, self.started = total, done

    def update(self, done: int) -> None:
        if done in self._updates:
            self._act()

    def close(self) -> None: ...


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise KeyboardInterrupt  # no wish, and so no checkpoint here


def raises(error: Exception) -> Callable[..., Any]:
    def failing(*arguments: Any) -> Any:
        raise error

    return failing


def outcome(directory: Path) -> tuple[bytes, dict[str, Any]]:
    """The part of a finished run that is equal in another one of the same id."""
    record = files.read_run(directory)
    assert record["status"] == "completed", record["failure"]
    left = {p.name for p in directory.iterdir()} - {files.SUPERSEDED}
    assert left - {files.PREDICTIONS} == {"run.json", "trace.npz"}, "nothing else is left"
    written = b"".join((directory / name).read_bytes() for name in sorted(left - {"run.json"}))
    return written, {k: v for k, v in record.items() if k not in ("costs", "provenance")}


def stopped(run: RunConfig, out: Path, stops: list[tuple[int, Callable[[], None]]], every: Every) -> attempt.Outcome:
    """The same command again and again, stopped after each of some updates in its way."""
    for n, act in stops:
        with pytest.raises(Interrupted):
            execute(run, out, every=every, progress=At({n}, act), say=print)
    return execute(run, out, every=every, say=print)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a user's file with a strategy; returns its import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(body: str) -> str:
        (tmp_path / "a_lab.py").write_text(f"import os, signal\nfrom clbench.strategy import Strategy\n{body}\n")
        monkeypatch.delitem(sys.modules, "a_lab", raising=False)
        return "a_lab:Mine"

    return write


# ------------------------------------------------------------------------------------------------ the same bytes
def everywhere(total: int) -> list[int]:
    """The first update, the last of an experience and its neighbours, a second pass, the last one, and some more."""
    return sorted({1, 7, 8, 13, total - 1} & set(range(1, total)))


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_stopped_anywhere_it_ends_in_the_same_bytes(configuration: str, tmp_path: Path) -> None:
    benchmark, overrides = CONFIGURATIONS[configuration]
    run = plan("er", FEW, *overrides, benchmark=benchmark)
    compare(run, tmp_path)
    if configuration == "plain":  # without a checkpoint but where it was asked to stop
        again = stopped(run, tmp_path / "wish", [(n, ctrl_c) for n in (1, 8)], NEVER)
        assert again.record["costs"]["resumed_at"] == [1, 8]
        assert outcome(again.directory) == outcome(run.directory(tmp_path / "whole"))


PARTS = {"agem", "derpp", "ewc", "fetril", "lwf", "pass"}
"""Stopped within a cut experience too: memories, importances, class means, a teacher, prototypes."""


@pytest.mark.parametrize(
    ("strategy", "configuration"),
    [(s, "adam, reset") for s in TABLE if s != "er"] + [(s, "online") for s in sorted(PARTS)],
)
def test_each_strategy_goes_on_from_its_files(strategy: str, configuration: str, tmp_path: Path) -> None:
    """After an experience, from a checkpoint before a crash, and before the end; `check_resume` stops it elsewhere."""
    benchmark, overrides = CONFIGURATIONS[configuration]
    run, progress = plan(strategy, FEW, *overrides, benchmark=benchmark), At(set(), ctrl_c)
    whole = outcome(execute(run, tmp_path / "whole", every=NEVER, progress=progress).directory)
    last = progress.total - 1
    again = stopped(run, tmp_path / "parts", [(7, ctrl_c), (13, crash), (last, ctrl_c)], Every(0, 3))
    assert again.record["costs"]["resumed_at"] == [7, 12, last]
    assert outcome(again.directory) == whole


@pytest.mark.parametrize("replay", REPLAY)
def test_replay_goes_on_with_the_memory_it_had(replay: str, tmp_path: Path) -> None:
    compare(plan("er", FEW, *REPLAY[replay]), tmp_path)


def compare(run: RunConfig, tmp_path: Path) -> None:
    """Asked to stop, and ended by a crash some updates after a checkpoint."""
    progress = At(set(), ctrl_c)
    whole = outcome(execute(run, tmp_path / "whole", every=NEVER, progress=progress).directory)
    crashes = [(n, crash) for n in (5, progress.total - 1)]
    stops = sorted([*crashes, *((n, ctrl_c) for n in everywhere(progress.total))], key=lambda s: (s[0], s[1] is ctrl_c))
    again = stopped(run, tmp_path / "parts", stops, Every(0, 3))
    expected = [0]
    for n, act in stops:
        expected.append(n if act is ctrl_c else max(expected[-1], (n - 1) // 3 * 3))
    assert again.record["costs"]["resumed_at"] == sorted({*expected} - {0})
    assert outcome(again.directory) == whole


class Noisy(Strategy):
    """Draws from every global generator and its own, has dropout, batch norm, a frozen layer and two optimisers."""

    def __init__(self, configuration: Any, setup: Any) -> None:
        super().__init__(configuration, setup)
        width = setup.input_shape[0]
        self.model = nn.Sequential(
            nn.BatchNorm1d(width), nn.Linear(width, width).requires_grad_(False), nn.Dropout(0.3), self.model
        )
        self.scale = torch.ones((), requires_grad=True)
        self.second = torch.optim.Adam([self.scale], lr=0.01)

    def loss(self, batch: Batch) -> torch.Tensor:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(())) + float(np.random.normal())
        return super().loss(batch) * (self.scale + 0.1 * noise + 0.1 * self.setup.generator.uniform(1)[0])

    def step(self, batch: Batch) -> torch.Tensor:
        self.second.zero_grad()
        loss = super().step(batch)
        self.second.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scale": self.scale, "second": self.second.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scale.data.copy_(state["scale"])
        self.second.load_state_dict(state["second"])


def test_what_third_parties_draw_goes_on_where_it_was(named: Any, tmp_path: Path) -> None:
    compare(plan(named(Noisy)), tmp_path)
    check_resume(plan(named(Noisy)))


@pytest.mark.parametrize("strategy", TABLE)
def test_the_table_says_all_of_its_state(strategy: str) -> None:
    """Of whole experiences and of parts, with an optimiser that keeps its state and one that does not."""
    adam = "training.optimizer={name: adam}"
    check_resume(plan(strategy, FEW, adam))
    parts = ["stream.online=100", "training.iterations=4", "evaluation.every=0"]
    free = "boundaries" not in registry.strategy_needs(strategy, {})
    last = "protocol.boundaries=false" if free else "training.optimizer_state=reset"
    check_resume(plan(strategy, FEW, adam, *parts, last), at=[4, 6, 21])  # between two parts, within the next, at last


def test_stopped_after_the_very_last_update_nothing_is_left_to_do() -> None:
    check_resume(plan("er", "watch.gradients=true"), {35})


# ------------------------------------------------------------------------------------------------ what is forgotten
class Forgets(Strategy):
    """Has state of many kinds, says all of it but `forgotten`, and learns with it."""

    class Config(Model):
        forgotten: str = ""

    def __init__(self, configuration: Any, setup: Any) -> None:
        super().__init__(configuration, setup)
        self.counter = 0
        self.prototypes = torch.zeros(3)
        self.recent: deque[int] = deque(maxlen=5)
        self.classes: set[int] = set()
        self.own = torch.Generator().manual_seed(3)
        self.draws = Generator(5, "mine")
        self.cache: Any = None

    def loss(self, batch: Batch) -> torch.Tensor:
        self.counter += 1
        self.prototypes[self.counter % 3] += batch.x.mean()
        self.recent.append(int(batch.index[0]))
        self.classes.update(batch.y.tolist())
        self.cache = batch.x
        weight = 1 + 1e-3 * (self.counter + sum(self.recent) + len(self.classes) + float(self.prototypes.sum()))
        chance = (
            float(torch.rand((), generator=self.own)) + self.draws.uniform(1)[0] + self.setup.generator.uniform(1)[0]
        )
        return super().loss(batch) * (weight + 0.1 * chance)

    def state_dict(self) -> dict[str, Any]:
        state = {
            **super().state_dict(),
            "counter": self.counter,
            "prototypes": self.prototypes,
            "recent": list(self.recent),
            "classes": sorted(self.classes),
            "own": self.own.get_state(),
            "draws": self.draws.state_dict(),
        }
        return {k: v for k, v in state.items() if k != self.config.forgotten}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = {**Forgets.state_dict(self), self.config.forgotten: None} | state
        if state["generator" if self.config.forgotten == "generator" else "model"] is None:
            state["generator"] = self.setup.generator.state_dict()
        super().load_state_dict(state)
        if self.config.forgotten != "counter":
            self.counter = state["counter"]
        if self.config.forgotten != "prototypes":
            self.prototypes = state["prototypes"]
        if self.config.forgotten != "recent":
            self.recent.extend(state["recent"])
        if self.config.forgotten != "classes":
            self.classes = set(state["classes"])
        if self.config.forgotten != "own":
            self.own.set_state(state["own"])
        if self.config.forgotten != "draws":
            self.draws.load_state_dict(state["draws"])


@pytest.mark.parametrize("forgotten", ["counter", "prototypes", "recent", "classes", "own", "draws", "generator"])
def test_who_forgets_something_is_told_what(forgotten: str, named: Any) -> None:
    run = plan(named(Forgets), f"strategy.forgotten={forgotten}")
    attribute = "setup.generator" if forgotten == "generator" else forgotten
    with pytest.raises(AssertionError) as caught:
        check_resume(run, remade=["cache"])
    assert str(caught.value) == (
        f"Forgets: attribute '{attribute}' is another than before load_state_dict, after update 1; is it in "
        "state_dict? (What is rebuilt where it is needed goes into the strategy's `transient`)."
    )


def test_who_forgets_nothing_passes_and_caches_are_to_be_named(named: Any) -> None:
    check_resume(plan(named(Forgets)), remade=["cache"])
    with pytest.raises(AssertionError, match=r"^Forgets: attribute 'cache' is another than before load_state_dict"):
        check_resume(plan(named(Forgets)))


def test_what_is_no_attribute_is_noticed_at_the_end(named: Any) -> None:
    class Hidden(Strategy):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            count = 0

            def further() -> int:
                nonlocal count
                count += 1
                return count

            self.further = further

        def loss(self, batch: Batch) -> torch.Tensor:
            return super().loss(batch) * self.further()

    with pytest.raises(AssertionError) as caught:
        check_resume(plan(named(Hidden)), at=[9])
    assert str(caught.value) == (
        "Hidden: everything that can be compared was restored after update 9, and yet it ends with another "
        "state_dict.model.1.weight."
    )


def test_a_state_dict_that_moves_the_strategy_is_noticed(named: Any) -> None:
    class Moves(Strategy):
        def state_dict(self) -> dict[str, Any]:
            torch.rand(())
            self.setup.generator.raw(1)
            return super().state_dict()

    class Odd(Strategy):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "odd": {1.5}}

    with pytest.raises(AssertionError, match=r"^Moves: asked for its state_dict, it ends with another state_dict\.gen"):
        check_resume(plan(named(Moves)), at=[3])
    with pytest.raises(AssertionError) as caught:
        check_resume(plan(named(Odd)), at=[3])
    assert str(caught.value) == "Odd: state.strategy.odd: set is neither a tensor, an array nor a plain value."
    with pytest.raises(AssertionError) as caught:
        check_resume(plan("naive"), at=[99])
    assert str(caught.value) == "Naive: the run was at none of the updates [99]."


# ------------------------------------------------------------------------------------------------ SIGKILL
SERVER = """
import gc, json, os, resource, signal, sys, tempfile, time
from pathlib import Path
import torch
from clbench import resolve, source
from clbench.results import files
from clbench.results import provenance
from clbench.runner.run import execute
from clbench.runner.checkpoint import Every

sources, packages = tuple(source.files()), provenance.packages()
provenance._git, provenance.packages, source.files = lambda: None, lambda: dict(packages), lambda: sources

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Watch:
    def __init__(self, job): self.job = job
    def start(self, total, done): Path(self.job["out"] + ".started").touch()
    def close(self): pass
    def update(self, done):
        if done == self.job.get("kill"): die()
        if done == self.job.get("wait"):
            Path(self.job["out"] + ".waits").touch()
            time.sleep(600)

def counted(name, job):
    real, calls = getattr(os, name), [0]
    def call(*arguments):
        calls[0] += 1
        if calls[0] == job["call"][1]: die()
        return real(*arguments)
    return call

def work(job):
    if "call" in job: setattr(os, job["call"][0], counted(job["call"][0], job))
    if "limit" in job: resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    run = resolve.RunConfig.model_validate_json(job["run"])
    execute(run, Path(job["out"]), every=Every(*job["every"]), progress=Watch(job))

torch.set_num_threads(1)
warm = resolve.make_run("split_synthetic-v1", strategy="er", overrides=["training.iterations=1"])
with tempfile.TemporaryDirectory() as folder:
    execute(warm, Path(folder))  # what is imported late is imported once
gc.freeze()  # else each child copies the pages that its collector walks through
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        try:
            work(job)
        except BaseException as error:
            print("error", json.dumps(str(error)), flush=True)
            os._exit(3)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Processes:
    """Runs in processes of their own, forked from one that has imported everything."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.error = ""

    def start(self, run: RunConfig, out: Path, every: tuple[float, int] = (0, 4), **job: Any) -> int:
        """Begins; returns the process id."""
        assert self._server.stdin is not None
        line = {"run": run.model_dump_json(exclude_unset=True), "out": str(out), "every": every, **job}
        self._server.stdin.write(json.dumps(line) + "\n")
        self._server.stdin.flush()
        return int(self._line())

    def end(self) -> int:
        """The signal that ended it as a negative number, or its exit status; `error` is what was raised."""
        self.error, line = "", self._line()
        if line.startswith("error"):
            self.error, line = json.loads(line.removeprefix("error")), self._line()
        return os.waitstatus_to_exitcode(int(line))

    def _line(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()


@pytest.mark.parametrize("strategy", TABLE)
def test_killed_after_any_update_it_ends_in_the_same_bytes(strategy: str, processes: Processes, tmp_path: Path) -> None:
    run, draw = plan(strategy, FEW, "watch.ema=[0.9]"), random.Random(strategy)
    whole = outcome(execute(run, tmp_path / "whole").directory)
    for n in sorted(draw.sample(range(1, 22), 3)):
        processes.start(run, tmp_path / "out", kill=n)
        assert processes.end() == -signal.SIGKILL
    processes.start(run, tmp_path / "out")
    assert processes.end() == 0, processes.error
    assert outcome(folder(run, tmp_path / "out")) == whole


def folder(run: RunConfig, out: Path) -> Path:
    return run.directory(out)


def test_killed_in_any_write_it_ends_in_the_same_bytes(processes: Processes, tmp_path: Path) -> None:
    """Before the n-th renaming: of chunk, checkpoint, trace and record, and so between each two of them too."""
    run, killed = plan("er", "strategy.memory=20", "training.iterations=3"), 0
    whole = outcome(execute(run, tmp_path / "whole").directory)
    for n in range(1, 99):
        processes.start(run, tmp_path / str(n), call=["replace", n])
        status = processes.end()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
        assert outcome(execute(run, tmp_path / str(n), every=Every(0, 4)).directory) == whole
    assert killed >= 1 + 2 * 3 + 3, "run.json; chunk and state, three times; last chunk, trace.npz, run.json"


def test_killed_from_outside_at_any_time_it_ends_in_the_same_bytes(processes: Processes, tmp_path: Path) -> None:
    """Once while it is idle, and then at times that a machine's speed may put after its end: that decides nothing."""
    draw, run = random.Random(0), plan("er", "training.iterations=60")
    whole = outcome(execute(run, tmp_path / "whole").directory)
    out, started, waits = tmp_path / "out", tmp_path / "out.started", tmp_path / "out.waits"
    process = processes.start(run, out, every=(0, 5), wait=17)
    while not waits.exists():
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    assert processes.end() == -signal.SIGKILL
    for delay in (draw.uniform(0, 0.2) for _ in range(4)):
        started.unlink(missing_ok=True)
        process = processes.start(run, out, every=(0, 5))
        while not started.exists() and Path(f"/proc/{process}").exists():
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(process, signal.SIGKILL)
        if processes.end() == 0:
            break
    processes.start(run, out, every=(0, 5))
    assert processes.end() == 0, processes.error
    assert outcome(folder(run, out)) == whole


def test_killed_after_its_end_nothing_is_left_and_nothing_repeated(tmp_path: Path, monkeypatch: Any) -> None:
    run = plan()
    with monkeypatch.context() as patch:
        patch.setattr(trace_files.TraceWriter, "clear", lambda self: crash())
        with pytest.raises(KeyboardInterrupt):
            execute(run, tmp_path, every=Every(0, 5))
    left = {p.name for p in folder(run, tmp_path).iterdir()}
    assert left == {"run.json", "trace.npz", "predictions.npz", "trace", "checkpoint"}
    again = execute(run, tmp_path)
    assert again.skipped
    outcome(again.directory)


# ------------------------------------------------------------------------------------------------ two processes
def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, path
        time.sleep(0.01)


def test_of_two_processes_one_runs(processes: Processes, tmp_path: Path, capsys: Any) -> None:
    run, out = plan(), tmp_path / "out"
    whole = outcome(execute(run, tmp_path / "whole").directory)
    holder = processes.start(run, out, wait=10)
    wait_for(tmp_path / "out.waits")
    who = f"process {holder} on {socket.gethostname()}"
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    second = execute(run, out)
    assert (second.busy, second.skipped) == (who, False)
    command = ["run", SPLIT, "--strategy", "naive", "--threads", "1", "--quiet", "-o", SMALL, "--out", str(out)]
    assert main(command) == 75
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr == f"{SPLIT} naive seed 0: {who} is already running it; left to that. ({folder(run, out)})\n"
    assert main([*command, "--json"]) == 75
    assert json.loads(capsys.readouterr().out)["busy"] == who
    assert main([*command, "--force"]) == 75
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before, "nothing was touched"
    os.kill(holder, signal.SIGKILL)
    assert processes.end() == -signal.SIGKILL
    assert (folder(run, out) / ".lock").read_text().strip() == who, "stale, and no obstacle"
    capsys.readouterr()
    assert main(command) == 0
    assert outcome(folder(run, out)) == whole


def test_a_lock_holds_within_a_process_and_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    with Lock(tmp_path / "a"), pytest.raises(Busy, match=f"process {os.getpid()} on"), Lock(tmp_path / "a"):
        pass
    with Lock(tmp_path / "a"):
        (tmp_path / "a" / ".lock").unlink()
        with Lock(tmp_path / "a"):  # who takes the file away takes the lock away
            pass
    assert not list((tmp_path / "a").iterdir())

    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clbench.runner.lock._write_name", full)
        with Lock(tmp_path / "a"), pytest.raises(Busy, match="another process"), Lock(tmp_path / "a"):
            pass
    with Lock(tmp_path / "a"):
        pass

    def none(*arguments: Any, **options: Any) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("clbench.runner.lock.lock_descriptor", none)
    with Lock(tmp_path / "a"):
        pass


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux lists the open files of a process there")
def test_a_lock_where_open_files_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which refuses to remove a file that anybody has open."""

    def refuses(path: Path, missing_ok: bool = False) -> None:
        if str(path) in {os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()}:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        os.unlink(path)

    monkeypatch.setattr("clbench.runner.lock._OPEN_FILES_CAN_BE_REMOVED", False)
    monkeypatch.setattr(Path, "unlink", refuses)
    with Lock(tmp_path), pytest.raises(Busy, match=f"^process {os.getpid()} on"), Lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
    first = Lock(tmp_path)
    first.__enter__()
    late = os.open(tmp_path / ".lock", os.O_RDWR)  # of a process that is about to ask for the lock
    first.__exit__(None, None, None)
    assert (tmp_path / ".lock").exists()
    with Lock(tmp_path):
        pass
    os.close(late)


def test_a_lock_is_one_of_threads_too(tmp_path: Path) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with Lock(tmp_path):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    with pytest.raises(Busy), Lock(tmp_path):
        pass
    done.set()
    thread.join()
    with Lock(tmp_path):
        pass


# ------------------------------------------------------------------------------------------------ signals
STOPS = """
class Mine(Strategy):
    transient = ("done",)

    def step(self, batch):
        self.done = getattr(self, "done", 0) + 1
        if self.done in {at}:
            for number in {signals}:
                os.kill(os.getpid(), number)
        return super().step(batch)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_runs_of_a_command_with_one_line(number: int, lab: Any, tmp_path: Path, capsys: Any) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    name = lab(STOPS.format(at={9}, signals=[int(number)]))
    command = ["run", SPLIT, "--strategy", name, "--threads", "1", "--quiet", "-o", SMALL, "--out", str(tmp_path / "o")]
    several = [*command, "--seed", "0", "--seed", "1"]
    assert main(several) == 130
    assert capsys.readouterr() == ("", "interrupted; the same command resumes after update 9.\n")
    [record] = (tmp_path / "o").rglob("run.json")
    assert json.loads(record.read_text())["status"] == "interrupted"
    assert main(several) == 130, "9 updates further"
    assert capsys.readouterr().err == "interrupted; the same command resumes after update 18.\n"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    lab(STOPS.format(at=set(), signals=[]))
    said = main([*command[:6], *command[7:]])
    err = capsys.readouterr().err
    assert (said, f"made by other code ({name.partition(':')[0]} changed)\n" in err) == (0, True), err


def test_a_second_ctrl_c_stops_at_once(lab: Any, tmp_path: Path, capsys: Any) -> None:
    name = lab(STOPS.format(at={9}, signals=[2, 2]))
    command = ["run", SPLIT, "--strategy", name, "--threads", "1", "--quiet", "-o", SMALL, "--out", str(tmp_path / "o")]
    assert main(command) == 130
    assert capsys.readouterr().err == "interrupted; the same command restarts the run.\n"
    assert main([*command, "--checkpoint", "4"]) == 130
    assert capsys.readouterr().err == "interrupted; the same command resumes after update 8.\n"
    [record] = (tmp_path / "o").rglob("run.json")
    assert json.loads(record.read_text())["failure"]["iteration"] == 8


def test_a_signal_at_the_end_stops_the_command_and_says_how_the_run_ended(
    lab: Any, tmp_path: Path, capsys: Any
) -> None:
    ends = "class Mine(Strategy):\n    def memory(self):\n        os.kill(os.getpid(), 2)\n        {then}\n"
    command = ["run", SPLIT, "--strategy", "a_lab:Mine", "--threads", "1", "--quiet", "-o", SMALL, "--seed", "0",
               "--seed", "1", "--out", str(tmp_path / "o")]  # fmt: skip
    for then, said, status in (
        (
            "raise OSError('no luck')",
            "interrupted, but the run had failed: OSError: no luck (a_lab.py line 6, in memory: "
            "raise OSError('no luck')).\n",
            "failed",
        ),
        ("return super().memory()", "interrupted, but the run is finished and written.\n", "completed"),
    ):
        lab(ends.format(then=then))
        assert main(command) == 130
        assert capsys.readouterr() == ("", said)
        [record] = (tmp_path / "o").rglob("run.json")
        assert json.loads(record.read_text())["status"] == status


# ------------------------------------------------------------------------------------------------ full disks
def test_on_a_disk_that_is_full_at_any_write_nothing_is_lost(tmp_path: Path, monkeypatch: Any) -> None:
    run, real = plan("er", "strategy.memory=20", "training.iterations=3"), os.fsync
    whole = outcome(execute(run, tmp_path / "whole").directory)
    left = 0

    def full(*given: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    def message(out: Path) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                execute(run, out, every=Every(0, 4))
            except UserError as error:
                return str(error)
        return ""

    for n in range(99):
        out, left = tmp_path / str(n), n
        if not (said := message(out)):
            break
        assert said == f"{folder(run, out) / 'run.json'}: cannot be written: No space left on device.", "what came last"
        assert not list(out.rglob(".*.tmp"))
        there = sorted(int(p.stem) for p in out.rglob("*.state"))
        again = execute(run, out, every=Every(0, 4))
        assert again.record["costs"]["resumed_at"] == there[-1:]
        assert outcome(again.directory) == whole
    assert n >= 10, "run.json; chunk and state, three times; last chunk, trace.npz, run.json"
    left = 0
    monkeypatch.setattr(os, "fsync", full)
    assert execute(run, tmp_path / "whole").skipped, "finished, and repeated on a full disk"
    assert outcome(folder(run, tmp_path / "whole")) == whole


def test_a_file_that_may_not_grow_is_a_message(processes: Processes, tmp_path: Path) -> None:
    """The system itself refuses: the state has some 30 kB."""
    run, out = plan(), tmp_path / "out"
    processes.start(run, out, every=(0, 4), limit=12_000)
    assert processes.end() == 3
    assert (
        processes.error
        == f"{folder(run, out) / 'checkpoint' / '000000000004.state'}: cannot be written: File too large."
    )
    assert json.loads((folder(run, out) / "run.json").read_text())["status"] == "failed"
    whole = outcome(execute(run, tmp_path / "whole").directory)
    assert outcome(execute(run, out).directory) == whole


def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: Any) -> None:
    run = plan()
    done = execute(run, tmp_path)
    monkeypatch.setattr(os, "open", lambda *given: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
    again = execute(run, tmp_path)
    assert again.skipped
    assert again.record == done.record
    other = plan("er")
    with pytest.raises(UserError) as caught:
        execute(other, tmp_path)
    assert str(caught.value) == f"{folder(other, tmp_path)}: cannot be written to: Read-only file system."
    monkeypatch.setattr(
        "clbench.runner.run.compile_stream", lambda *given: (_ for _ in ()).throw(ValueError("no data today"))
    )
    with pytest.raises(UserError, match="cannot be written to"):
        execute(run, tmp_path)


# ------------------------------------------------------------------------------------------------ damage
def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


@pytest.fixture
def left(tmp_path: Path) -> tuple[RunConfig, Path, Any]:
    """A run left after 13 updates with checkpoints at 8 and 12, and what it is to come to."""
    run = plan("er", "strategy.memory=20")
    whole = outcome(execute(run, tmp_path / "whole").directory)
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "out", every=Every(0, 4), progress=At({13}, crash))
    place = folder(run, tmp_path / "out")
    assert sorted(p.name for p in (place / "checkpoint").iterdir()) == ["000000000008.state", "000000000012.state"]
    return run, place, whole


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_said_and_the_one_before_used(damage: Any, left: Any, tmp_path: Path) -> None:
    run, place, whole = left
    newest, said = place / "checkpoint" / "000000000012.state", []
    damage(newest)
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "out", every=Every(0, 3), say=said.append, progress=At({10}, crash))
    why = "damaged: its SHA-256 is not that of its content"
    if damage is not Path.unlink:
        assert said.pop(0) == f"checkpoint at update 12 cannot be used: {newest}: {why}"
    assert said == ["resumes after update 8 of 35"]
    assert sorted(int(p.stem) for p in (place / "checkpoint").iterdir()) == [8, 9], "the damaged one crowds out nobody"
    again = execute(run, tmp_path / "out")
    assert again.record["costs"]["resumed_at"] == [8, 9]
    assert outcome(again.directory) == whole


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_piece_of_the_trace_is_said_and_the_checkpoint_before_used(
    damage: Any, left: Any, tmp_path: Path
) -> None:
    run, place, whole = left
    pieces = sorted((place / "trace").glob("chunk-*"))
    assert len(pieces) == 4, "one each after 4, 8, 12 updates, and what was seen last"
    damage(pieces[2])
    said: list[str] = []
    again = execute(run, tmp_path / "out", say=said.append)
    why = ": No such file or directory." if damage is Path.unlink else ": damaged: its SHA-256 is not the recorded one."
    assert said == [
        f"checkpoint at update 12 cannot be used: {pieces[2]}{why}",
        "resumes after update 8 of 35",
    ]
    assert outcome(again.directory) == whole


def test_where_no_checkpoint_is_whole_the_run_begins_anew(left: Any, tmp_path: Path) -> None:
    run, place, whole = left
    for path in (place / "checkpoint").iterdir():
        cut(path)
    (place / "checkpoint" / "000000000012.state").write_bytes(b"")
    said: list[str] = []
    again = execute(run, tmp_path / "out", say=said.append)
    assert [line.split(": ")[0] for line in said[:2]] == [f"checkpoint at update {n} cannot be used" for n in (12, 8)]
    assert said[0].endswith("000000000012.state: no checkpoint of this version, or cut short")
    assert again.record["costs"]["resumed_at"] == []
    assert outcome(again.directory) == whole


def test_a_damaged_record(left: Any, tmp_path: Path) -> None:
    """Of an unfinished run it is written anew; of a finished one it is for the user to say."""
    run, place, whole = left
    cut(place / "run.json")
    said: list[str] = []
    again = execute(run, tmp_path / "out", say=said.append)
    assert said[0].startswith(f"{place / 'run.json'}: damaged or truncated (")
    assert said[1:] == ["resumes after update 12 of 35"]
    assert outcome(again.directory) == whole
    cut(place / "run.json")
    with pytest.raises(UserError) as caught:
        execute(run, tmp_path / "out")
    assert str(caught.value).endswith("Repeat the run with --force, or remove the file.")
    assert {p.name for p in place.iterdir()} == {"run.json", "trace.npz", "predictions.npz"}
    assert outcome(execute(run, tmp_path / "out", force=True).directory) == whole


def test_what_was_left_half_written_is_swept_away(left: Any, tmp_path: Path) -> None:
    run, place, whole = left
    for name in (".run.json.1.tmp", "trace/.chunk-000000.npz.1.tmp", "checkpoint/.000000000012.state.1.tmp"):
        (place / name).write_bytes(b"half")
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "out", progress=At({14}, crash))
    assert not list(place.rglob("*.tmp"))
    assert outcome(execute(run, tmp_path / "out").directory) == whole


# ------------------------------------------------------------------------------------------------ what has changed
def test_other_packages_and_other_code_begin_anew(left: Any, tmp_path: Path, monkeypatch: Any) -> None:
    run, _, whole = left
    monkeypatch.setattr(provenance, "packages", lambda: {"torch": "0.1"})
    monkeypatch.setattr(provenance, "code_sha256", lambda user: "0")
    said: list[str] = []
    again = execute(run, tmp_path / "out", say=said.append)
    why = "made by other code (clbench changed), packages"
    assert said[:2] == [f"checkpoint at update {n} cannot be used: {why}" for n in (12, 8)]
    assert again.record["costs"]["resumed_at"] == []
    assert outcome(again.directory) == whole


def test_other_data_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    given = [
        "id=split_mine-v1",
        f"stream.data=npz:{path}",
        "stream.synthetic=null",
        "stream.tasks.count=2",
        "model.hidden=[8]",
    ]
    for seed in range(2):
        x = np.random.default_rng(seed).random((400, 4), np.float32)
        np.savez(path, train_x=x, train_y=np.arange(400) % 4, test_x=x[:8], test_y=np.arange(8) % 4)
        run, said = plan("naive", *given), []
        with pytest.raises(Interrupted):
            execute(run, tmp_path / "out", say=said.append, progress=At({5}, ctrl_c))
        if seed:
            assert said[0] == "checkpoint at update 5 cannot be used: made by other data"
    whole = outcome(execute(run, tmp_path / "whole").directory)
    assert outcome(execute(run, tmp_path / "out").directory) == whole


def test_force_begins_anew(left: Any, tmp_path: Path) -> None:
    run, _, whole = left
    again = execute(run, tmp_path / "out", force=True)
    assert again.record["costs"]["resumed_at"] == []
    assert outcome(again.directory) == whole


# ------------------------------------------------------------------------------------------------ runs that fail
class Diverges(Strategy):
    """Scores are NaN after the ninth update, and the tenth one's loss is."""

    done = 0

    def step(self, batch: Batch) -> torch.Tensor:
        self.done += 1
        return super().step(batch) * (float("nan") if self.done == 10 else 1)

    def predict(self, model: nn.Module, x: torch.Tensor, task: torch.Tensor | None) -> torch.Tensor:
        return model(x) * (float("nan") if self.done == 9 else 1)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.done = state["done"]


@pytest.mark.parametrize("every", [Every(0, n) for n in (1, 3, 4)])
def test_a_run_that_fails_fails_in_the_same_way_with_checkpoints(every: Every, named: Any, tmp_path: Path) -> None:
    """Scores become NaN one update before the loss does: which is said must not depend on checkpoints."""
    run = plan(named(Diverges))
    records = [execute(run, tmp_path / "whole", every=NEVER).record]
    assert records[0]["failure"]["message"] == "the loss became NaN at iteration 10"
    for _ in range(3):
        records.append(execute(run, tmp_path / "out", every=every).record)
        assert files.read_run(folder(run, tmp_path / "out")) == records[-1]
    assert records[-1]["costs"]["resumed_at"], "it went on from a checkpoint"
    apart = [{k: v for k, v in r.items() if k not in ("costs", "provenance")} for r in records]
    assert apart == apart[:1] * 4


def test_a_strategy_that_cannot_be_saved_runs_to_its_end(named: Any, tmp_path: Path) -> None:
    class Odd(Strategy):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "odd": {"of": {1.5}}}

    said: list[str] = []
    run = plan(named(Odd))
    message = (
        "no checkpoints: state.strategy.odd.of: set is neither a tensor, an array nor a plain value; if stopped, "
        "the run restarts"
    )
    with pytest.raises(Interrupted) as caught:
        execute(run, tmp_path, every=Every(0, 2), say=said.append, progress=At({9}, ctrl_c))
    assert said[1:] == [message]
    assert str(caught.value) == "interrupted; the same command restarts the run."
    outcome(execute(run, tmp_path, every=Every(0, 2), say=said.append).directory)
    assert said.count(message) == 2


def test_a_state_that_cannot_be_taken_back_is_a_failed_run_and_stays(
    named: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    class Stuck(Strategy):
        pass

    run = plan(named(Stuck))
    with pytest.raises(Interrupted):
        execute(run, tmp_path, progress=At({9}, ctrl_c))
    monkeypatch.setattr(Stuck, "load_state_dict", raises(KeyError("prototypes")))
    again = execute(run, tmp_path)
    assert again.record["failure"]["message"].startswith("KeyError: 'prototypes'")
    assert files.read_run(again.directory)["status"] == "failed"
    assert len(list(again.directory.rglob("*.state"))) == 1


def test_a_failure_while_a_run_is_built_loses_nothing(left: Any, tmp_path: Path, monkeypatch: Any) -> None:
    run, place, whole = left
    with monkeypatch.context() as patch:
        patch.setattr("clbench.runner.run.assemble", raises(MemoryError("for now")))
        assert execute(run, tmp_path / "out").record["status"] == "failed"
    again = execute(run, tmp_path / "out")
    assert again.record["costs"]["resumed_at"] == [12]
    assert outcome(again.directory) == whole
    monkeypatch.setattr(
        "clbench.runner.run.compile_stream", lambda *given: (_ for _ in ()).throw(MemoryError("for now"))
    )
    assert execute(run, tmp_path / "out").record["failure"]["message"].startswith("MemoryError: for now")
    assert outcome(place) == whole


# ------------------------------------------------------------------------------------------------ the files
def test_states_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "arrays": [np.array([0, 1, 1], t) for t in (np.uint8, np.uint64, np.int32, np.float16, np.bool_)],
        "empty": np.zeros((0, 2)), "scalar": np.array(1.5), "plain": [None, True, 1, 2.5, "x", (1, "y")],
        "tensors": {3: torch.ones(2, dtype=torch.bfloat16), "view": torch.arange(10**6)[:3]},
    }  # fmt: skip
    there = Checkpoints(tmp_path)
    assert not there
    there.write(7, state)
    assert there
    [(updates, back)] = there.read()
    assert updates == 7
    assert isinstance(back, dict)
    back["tensors"][3], state["tensors"][3] = (d["tensors"][3].float() for d in (back, state))  # type: ignore[index]
    assert_same(back, state)
    assert (tmp_path / "checkpoint" / "000000000007.state").stat().st_size < 20_000, "a view is written alone"
    with pytest.raises(Unsaveable, match=r"^state\.a\[1\]\.b: object is neither a tensor, an array nor a plain value$"):
        there.write(8, {"a": [1, {"b": object()}]})
    with pytest.raises(Unsaveable, match=r"^state\.a: a key is float, neither text nor an integer$"):
        there.write(8, {"a": {1.5: 0}})
    for n in (8, 9, 10):
        there.write(n, {})
    assert [n for n, _ in there.read()] == [10, 9]


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    import hashlib
    import io

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'pwned'}",)

    buffer = io.BytesIO()
    torch.save({"x": Evil()}, buffer)
    there = Checkpoints(tmp_path)
    there.write(1, {})
    path = tmp_path / "checkpoint" / "000000000001.state"
    content = buffer.getvalue()
    path.write_bytes(path.read_bytes()[:21] + hashlib.sha256(content).digest() + content)
    [(_, why)] = there.read()
    assert isinstance(why, str)
    assert "Weights only load failed" in why
    assert not (tmp_path / "pwned").exists()


def test_when_a_checkpoint_is_due(monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("clbench.runner.checkpoint.time.monotonic", lambda: now[0])
    due = Due(Every(0, 4), 0)
    assert [n for n in range(1, 10) if due(n)] == [4, 5, 6, 7, 8, 9], "until it is made"
    due.made(5, 0.0)
    assert [n for n in range(6, 10) if due(n)] == [8, 9]
    due = Due(Every(60), 0)
    assert not due(10**6)
    now[0] += 60
    assert due(1)
    due.made(1, 2.0)  # two seconds are 1 % of 200
    now[0] += 199
    assert not due(2)
    now[0] += 1
    assert due(2)
    assert not any(Due(NEVER, 0)(n) for n in (1, 10**9))


def test_costs_count_all_attempts(tmp_path: Path) -> None:
    run = plan()
    with contextlib.suppress(Interrupted):
        execute(run, tmp_path, progress=At({20}, lambda: (time.sleep(0.5), ctrl_c())))
    costs = execute(run, tmp_path, every=NEVER).record["costs"]
    assert costs["wall_s"] >= 0.5, "time slept before the stop"
    assert (costs["iterations"], costs["evaluations"], costs["checkpoints"]) == (35, 45, 1)


def test_a_front_that_was_not_looked_at_between_two_stops_is_made_in_the_passes_of_the_first() -> None:
    front = Front(1 << 20)
    front.load_state_dict({"passes": 3})
    assert front.state_dict() == {"passes": 3}
    again = Front(1 << 20)
    again.load_state_dict(front.state_dict())
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
    with torch.no_grad():
        again.split(model, TestInputs(torch.randn(8, 2)), lambda n: 1)
    assert again.state_dict() == {"passes": 3}
