"""Runs and studies in Python: the files of the command line, strategies of every form, failures that are results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import clbench
from clbench.api import execution
from clbench.cli import main
from clbench.runner.signals import Interrupted
from clbench.strategies.er import ExperienceReplay
from clbench.strategy import Strategy
from clbench.studies.engines import in_process
from clbench.studies.engines.base import FinishedJob
from support import SPLIT, CrashAt, execute, make_run, user_module

QUICK = {"training": {"epochs": None, "iterations": 2}, "evaluation": {"every": 0}}


class Louder(Strategy):
    """Twice the loss."""

    def loss(self, batch: Any) -> Any:
        return 2 * super().loss(batch)


class Broken(Strategy):
    def loss(self, batch: Any) -> Any:
        raise LookupError("no <luck>")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_has_the_files_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["-o", "training={epochs: null, iterations: 2}", "-o", "evaluation.every=0"]
    assert main(["run", SPLIT, "--strategy", "er", "-o", "strategy.memory=9", "--quiet", *overrides, "--out", "a"]) == 0
    capsys.readouterr()
    run = clbench.run(SPLIT, {"name": "er", "memory": 9}, out=Path("b"), **QUICK)
    assert capsys.readouterr() == ("", ""), "quiet where nobody looks"
    [theirs], ours = Path("a").rglob("run.json"), run.directory
    assert ours.relative_to("b") == theirs.parent.relative_to("a")
    assert (ours / "trace.npz").read_bytes() == (theirs.parent / "trace.npz").read_bytes()
    assert run.config == clbench.read_run(theirs.parent).config
    assert run.metrics == pytest.approx(dict(clbench.read_run("a").metrics), abs=0, nan_ok=True)
    assert (run.status, run.reason, run.note) == ("completed", None, "")
    again = clbench.run(SPLIT, ExperienceReplay, overrides=["strategy.memory=9"], out="b", **QUICK)
    assert (again.directory, again.note) == (ours, "finished earlier, not repeated")


def test_progress_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    clbench.run(SPLIT, "naive", progress=True, **QUICK)
    assert f"{SPLIT} naive seed 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("strategy", "mapping"),
    [
        ("er", {"name": "er"}),
        ("er+ewc", {"name": "er+ewc"}),
        (ExperienceReplay, {"name": "er"}),
        ({"name": ExperienceReplay, "memory": 3}, {"name": "er", "memory": 3}),
        (["er", {"name": "ewc", "strength": 2}], {"name": "er+ewc", "er": {}, "ewc": {"strength": 2}}),
        ([Louder], {"name": f"{__name__}:Louder"}),
    ],
)
def test_a_strategy_has_many_forms(strategy: Any, mapping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Louder.__module__])
    assert execution.as_mapping(strategy) == mapping


def test_a_class_of_a_notebook_runs_alone_and_in_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    module = user_module(monkeypatch, Louder, name="a_notebook")  # has no file, as a notebook's __main__
    monkeypatch.setattr(Louder, "__module__", module)
    run = clbench.run(SPLIT, Louder, **QUICK)
    assert (run.strategy, run.status) == ("a_notebook:Louder", "completed")
    study = {"id": "s", "streams": [SPLIT], "strategies": ["naive", Louder], "seeds": range(2), "changes": QUICK}
    runs = clbench.run_study(study)
    assert [(r.strategy, r.seed) for r in runs] == [
        ("naive", 0), ("a_notebook:Louder", 0), ("naive", 1), ("a_notebook:Louder", 1),
    ]  # fmt: skip
    assert {r.status for r in runs} == {"completed"}
    assert runs[1].record.config_hash == run.record.config_hash
    with pytest.raises(clbench.UserError, match=r"^processes: a_notebook:Louder is of a notebook, .*\. Allowed: 1\.$"):
        clbench.run_study(study, processes=2)


def test_a_class_that_no_run_can_find_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(Strategy):
        """Of a function."""

    with pytest.raises(clbench.UserError, match=r"\.<locals>\.Inner is not at the top level of a module"):
        clbench.run(SPLIT, Inner)
    monkeypatch.setattr(Louder, "__module__", user_module(monkeypatch, name="a_notebook"))
    with pytest.raises(clbench.UserError, match="a_notebook:Louder is another object by now"):
        clbench.run(SPLIT, Louder)


def test_a_failed_run_is_a_result_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "__module__", user_module(monkeypatch, Broken, name="a_notebook"))
    run = clbench.run(SPLIT, Broken, **QUICK)
    assert run.status == "failed"
    assert run.reason is not None
    assert run.reason.startswith("LookupError: no <luck>")
    assert repr(run).startswith(f"Run {SPLIT}* a_notebook:Broken seed 0: failed, LookupError: no <luck>")
    assert "no &lt;luck&gt;" in run._repr_html_()
    assert "<luck>" not in run._repr_html_()
    assert run.metrics == {}
    with pytest.raises(KeyError, match="min_acc: failed: LookupError"):
        run.metrics["min_acc"]
    assert run.trace.iteration.tolist() == [0], "as far as it came"
    with pytest.raises(clbench.UserError, match=r"failed \(LookupError.*; no experience has ended yet"):
        clbench.score(run)
    study = {"id": "s", "streams": [SPLIT], "strategies": [Broken], "seeds": 1, "changes": QUICK}
    assert [(r.status, r.reason) for r in clbench.run_study(study)] == [("failed", run.reason)]


def test_a_stopped_run_is_read_as_far_as_it_came() -> None:
    plan = make_run("naive", "stream.tasks.count=2")  # 5 updates an experience
    with pytest.raises(KeyboardInterrupt):
        execute(plan, Path("results"), progress=CrashAt(7))
    [run] = clbench.read_runs("results")
    assert (run.status, run.reason) == ("interrupted", run.record.raw["failure"]["message"])
    assert repr(run).startswith(f"Run {SPLIT}* naive seed 0: interrupted, interrupted; ")
    assert len(run.trace.loss) == 7
    frame = run.accuracy()
    assert (set(frame["status"]), frame["iteration"].max(), frame["experience"].max()) == ({"interrupted"}, 7, 1)
    finished = clbench.read_run(execute(plan, Path("whole")).directory)
    both = pd.concat([frame, finished.accuracy()]).duplicated(["iteration", "phase", "task", "accuracy"])
    assert both.sum() == len(frame), "the beginning of the same run"
    assert clbench.score(run, "average_accuracy")["value"].tolist() == [
        frame.query("experience == 0 and phase == 'end' and task == 0")["accuracy"].item()
    ]


def test_a_study_of_a_file_is_the_study_of_its_contents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(
        f"id: s\nstreams: [{SPLIT}]\nstrategies: [naive]\nseeds: [4]\n"
        "changes: {training: {epochs: null, iterations: 2}, evaluation: {every: 0}}\n"
    )
    [one] = clbench.run_study("study.yaml", progress=True)
    assert f"[1/1] {SPLIT} naive seed 4: completed" in capsys.readouterr().err
    [other] = clbench.run_study(
        {"id": "s", "streams": (SPLIT,), "strategies": ["naive"], "seeds": [4], "changes": QUICK}
    )
    assert one.directory == other.directory
    assert one.record.provenance.study == "s"


def test_a_stopped_study_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = FinishedJob("interrupted", Path("x"), "interrupted")
    monkeypatch.setattr(in_process, "run_worker", lambda *arguments: stopped)
    study = {"id": "s", "streams": [SPLIT], "strategies": ["naive"], "seeds": 2, "changes": QUICK}
    with pytest.raises(Interrupted, match="0 of 2 runs are done, and the same command resumes"):
        clbench.run_study(study)


def test_progress_within_a_run_is_a_share_of_its_updates() -> None:
    class Listener:
        def __init__(self) -> None:
            self.shares: list[float] = []

        def at(self, job: int, share: float) -> None:
            self.shares.append(share)

        def warn(self, job: int, text: str) -> None: ...

    listener = Listener()
    progress = in_process._Progress(0, listener)
    progress.start(400, 0)
    for done in range(1, 9):
        progress.update(done)
    assert listener.shares == [0.01, 0.02]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clbench.run(SPLIT, 3), "strategy: got 3. Allowed: a name, an import path, a class, a mapping with a "),
        (lambda: clbench.run(SPLIT, "er", seed=-1), "seed: got -1. Allowed: an integer >= 0."),
        (lambda: clbench.run(SPLIT, "er", seed=True), "seed: got true. Allowed: an integer >= 0."),
        (lambda: clbench.run(SPLIT, "er", memory=5), "run(): memory: unknown key. Did you mean 'strategy.memory'? "),
        (
            lambda: clbench.run(SPLIT, {"name": "er", "memroy": 5}),
            "run(): strategy.memroy: unknown key. Did you mean 'memory'? ",
        ),
        (lambda: clbench.run(SPLIT), f"{SPLIT}: strategy: required, but not given"),
        (lambda: clbench.run_study({"id": "s", "streams": [SPLIT]}), "study: strategies: required, but not given."),
        (
            lambda: clbench.run_study(
                {"id": "s", "streams": [SPLIT], "strategies": ["naive"], "seeds": 1}, processes=0
            ),
            "processes: got 0. Allowed: an integer >= 1, or None.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(make: Any, message: str) -> None:
    with pytest.raises(clbench.UserError) as caught:
        make()
    assert str(caught.value).startswith(message)
