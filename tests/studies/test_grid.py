"""A study done: nothing twice, nothing lost, and the same bytes as a run by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.cli import main
from clbench.cli.status import BUSY
from clbench.config.engines import LocalSettings
from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.results import files
from clbench.runner.lock import Lock
from clbench.runner.run import execute
from clbench.studies import study
from clbench.studies.engines.base import FinishedJob, Job, Listener, engine
from clbench.studies.engines.worker import run_worker
from clbench.studies.execute import Grid

BASE = """
id: s
streams: [split_digits-v1]
seeds: 2
budget: {iterations: 4}
changes: {evaluation: {every: 2}, model: {hidden: [8]}}
"""
HEAD = BASE + "strategies: [naive, {name: er, memory: [10, 20]}]\n"


def synthetic(text: str) -> str:
    """The study on data that need no scikit-learn, which takes a process of its own a second to import."""
    return text.replace("split_digits-v1", "split_synthetic-v1")


class Quiet:
    """Listens and remembers."""

    def __init__(self) -> None:
        self.warned: list[str] = []
        self.labels: Sequence[str] = ()
        self.ended: list[FinishedJob] = []

    def begin(self, labels: Sequence[str], seconds: Sequence[float | None]) -> None:
        self.labels = labels

    def at(self, job: int, share: float) -> None: ...

    def warn(self, job: int, text: str) -> None:
        self.warned.append(text)

    def done(self, job: int, done: FinishedJob) -> None:
        self.ended.append(done)

    def end(self) -> None: ...


class Here:
    """Does jobs in this process, the last first: the order must not count."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job], listener: Listener) -> Iterator[tuple[int, FinishedJob]]:
        for number in reversed(range(len(jobs))):
            self.jobs.append(jobs[number])
            yield number, run_worker(jobs[number])


def made(folder: Path, text: str = HEAD, **options: Any) -> Grid:
    path = folder / "study.yaml"
    path.write_text(text)
    return Grid(study.read(path), folder / "out", **options)


def records(folder: Path) -> list[dict[str, Any]]:
    return [files.read_run(place) for place in files.find_runs(folder)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with strategies of the user's own, some of which end badly."""
    (tmp_path / "bad_methods.py").write_text(
        """
import os, signal, time
from pathlib import Path
from clbench.strategy import Strategy
from clbench.errors import UserError

class Fails(Strategy):
    def step(self, batch):
        raise RuntimeError("boom")

class Refuses(Strategy):
    def __init__(self, config, setup):
        raise UserError("not on this machine.")

class Dies(Strategy):
    def step(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)

class DiesOnce(Strategy):
    def step(self, batch):
        mark = Path(os.environ["MARK"])
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(batch)

class Dawdles(Strategy):
    def step(self, batch):
        if not Path(os.environ["MARK"]).exists():
            Path(f"{os.environ['MARK']}-{os.getpid()}").touch()
            time.sleep(0.1)
        return super().step(batch)

class Tells(Strategy):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        with open(os.environ["MARK"], "a") as file:
            file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
"""
    )
    for name in ("bad_methods", "good_methods"):  # of the folder of another test
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    return tmp_path


# ------------------------------------------------------------------------------------------------ what is done
def test_every_run_is_done_once_and_only_once(tmp_path: Path) -> None:
    first = made(tmp_path).run(Here(), Quiet())
    assert (first.completed, first.existed, first.failed, first.unfinished) == (6, 0, [], [])
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")}
    assert len(before) == 6
    here = Here()
    second = made(tmp_path).run(here, Quiet())
    assert (second.completed, second.existed) == (0, 6)
    assert not here.jobs
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("run.json")} == before
    wider = made(tmp_path, HEAD.replace("[10, 20]", "[10, 20, 30]")).run(Here(), Quiet())
    assert (wider.completed, wider.existed) == (2, 6)
    assert wider.lines()[-1] == "8 runs: 2 done, 6 existed"


def test_seed_by_seed(tmp_path: Path) -> None:
    quiet = Quiet()
    made(tmp_path).run(Here(), quiet)
    assert [label[-1] for label in quiet.labels] == ["0", "0", "0", "1", "1", "1"]


def test_two_entries_that_mean_the_same_are_one(tmp_path: Path) -> None:
    path = "clbench.strategies.er:ExperienceReplay"
    er = f"{{name: '{path}'}}, {{name: '{path}', buffer: reservoir}}"
    text = BASE + f"strategies: [naive, {{name: naive}}, {{name: er, memory: [10, 10]}}, {er}]\n"
    here = Here()
    assert made(tmp_path, text).run(here, Quiet()).completed == len(here.jobs) == 6
    assert made(tmp_path, text).run(Here(), Quiet()).existed == 6


def test_other_data_is_another_result(tmp_path: Path) -> None:
    made(tmp_path).run(Here(), Quiet())
    one = next(iter(sorted(tmp_path.rglob("run.json"))))
    record = json.loads(one.read_text())
    record["stream"]["data_sha256"] = "0" * 64
    record["stream"]["instance_hash"] = "0" * 64
    one.write_text(json.dumps(record))
    summary = made(tmp_path).run(Here(), Quiet())
    assert (summary.completed, summary.existed) == (1, 5)


@pytest.mark.parametrize("kept", [False, True], ids=["new grid", "same grid"])
def test_data_that_grew_in_between_is_other_data(kept: bool, tmp_path: Path) -> None:
    def write_data(samples: int) -> None:
        generator = np.random.default_rng(0)
        for part in ("train", "test"):
            np.save(folder / f"{part}_x.npy", generator.integers(0, 256, (samples, 4, 4), np.uint8))
            np.save(folder / f"{part}_y.npy", np.arange(samples) % 4)

    folder = tmp_path / "data"
    folder.mkdir()
    write_data(40)
    text = f"""
id: s
streams: [{{name: split_digits-v1, stream: {{data: 'npy:{folder}', tasks: {{count: 2}}}}}}]
strategies: [naive]
seeds: 1
budget: {{iterations: 2}}
changes: {{evaluation: {{every: 2}}, model: {{hidden: [8]}}}}
"""
    grid = made(tmp_path, text)
    assert grid.run(Here(), Quiet()).completed == 1
    assert grid.survey().rows[0].states == ["completed"]
    write_data(80)
    again = grid if kept else made(tmp_path, text)
    assert again.survey().rows[0].states == ["outdated"]
    before = records(tmp_path / "out")
    assert again.run(Here(), Quiet()).completed == 1
    [place] = files.find_runs(tmp_path / "out")
    assert [files.read_run(place / files.SUPERSEDED / "1")] == before


def test_runs_of_edited_code_are_outdated_and_done_again(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failures of that code too; what only clbench changed is kept, and said in one line."""
    method = mine / "good_methods.py"
    method.write_text("from clbench.strategy import Strategy\nclass Good(Strategy):\n    pass\n")
    text = BASE + "strategies: ['good_methods:Good', 'bad_methods:Fails', naive]\n"
    made(tmp_path, text).run(Here(), Quiet())
    assert [row.states for row in made(tmp_path, text).survey().rows] == [
        ["completed"] * 2,
        ["failed"] * 2,
        ["completed"] * 2,
    ]
    for path in (method, mine / "bad_methods.py"):
        path.write_text(path.read_text() + "# edited\n")
    survey = made(tmp_path, text).survey()
    assert [row.states for row in survey.rows] == [["outdated"] * 2, ["outdated"] * 2, ["completed"] * 2]
    kept = made(tmp_path, text, other_code="keep").survey()
    assert [row.states for row in kept.rows] == [["completed"] * 2, ["failed"] * 2, ["completed"] * 2]
    assert kept.kept == ["user", "user", "none", "none"]
    command = ["grid", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*command, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "good_methods:Good  seeds 0 1: 2 outdated" in out
    assert err == ""
    assert main([*command, "--dry-run", "--other-code", "keep"]) == 0
    assert capsys.readouterr().err == "finished runs kept: 2 by other code; --other-code again does them anew\n"
    for place in files.find_runs(tmp_path / "out"):
        record = files.read_run(place)
        record["provenance"]["code_sha256"] = "0" * 64
        files.write_json(place / "run.json", record)
    assert main([*command, "--dry-run"]) == 0
    expected = "finished runs kept: 2 by other code of clbench; --other-code again does them anew\n"
    assert capsys.readouterr().err == expected
    survey = made(tmp_path, text, other_code="again").survey()
    assert [row.states for row in survey.rows] == [["outdated"] * 2, ["outdated"] * 2, ["outdated"] * 2]


def test_a_file_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path).run(Here(), Quiet())
    first, second, third, *_ = sorted(tmp_path.rglob("run.json"))
    newer = json.loads(first.read_text()) | {"schema_version": 99}
    first.write_text(json.dumps(newer))
    second.write_text(json.dumps(json.loads(second.read_text()) | {"status": "failed", "failure": None}))
    third.write_text(json.dumps(json.loads(third.read_text()) | {"stream": []}))
    for retry in (False, True):
        here = Here()
        summary = made(tmp_path, retry=retry).run(here, Quiet())
        assert (summary.existed, len(summary.failed), here.jobs) == (3, 3, [])
        assert any("schema version 99, this program reads 1. Remove the file, and" in said for said in summary.failed)
    assert json.loads(first.read_text()) == newer
    assert main(["grid", str(tmp_path / "study.yaml"), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("damaged") == 2  # rows: two seeds of er, one of another


def test_what_a_run_is_noted_with(tmp_path: Path) -> None:
    made(tmp_path).run(Here(), Quiet())
    assert {r["provenance"]["study"] for r in records(tmp_path / "out")} == {"s"}


# ------------------------------------------------------------------------------------------------ what fails
def test_a_failed_run_is_a_row_with_its_reason(mine: Path) -> None:
    text = BASE + "strategies: [naive, 'bad_methods:Fails', 'bad_methods:Refuses']\n"
    summary = made(mine, text).run(Here(), Quiet())
    assert summary.completed == 2
    assert [re.sub(r"line \d+", "line N", line) for line in sorted(summary.failed)] == [
        *(
            f"split_digits-v1 bad_methods:Fails seed {seed}: RuntimeError: boom (bad_methods.py line N, in step: raise "
            'RuntimeError("boom"))'
            for seed in (0, 1)
        ),
        "split_digits-v1 bad_methods:Refuses seed 0: not on this machine.",
        "split_digits-v1 bad_methods:Refuses seed 1: not on this machine.",
    ]
    assert sorted(r["status"] for r in records(mine / "out")) == ["completed"] * 2 + ["failed"] * 4
    here = Here()
    again = made(mine, text).run(here, Quiet())
    assert not here.jobs  # what failed is not tried again
    assert sorted(again.failed) == sorted(summary.failed)
    here = Here()
    made(mine, text, retry=True).run(here, Quiet())
    assert len(here.jobs) == 4


def test_a_process_that_dies_is_a_failed_run_and_stops_nothing(mine: Path) -> None:
    text = BASE.replace("seeds: 2", "seeds: 1") + "strategies: ['bad_methods:DiesOnce', naive, 'bad_methods:Dies']\n"
    quiet, started = Quiet(), list[int]()
    local: Any = engine(LocalSettings(name="local", processes=1), 1, False)
    start = local._start
    local._start = lambda place: started.append(place) or start(place)
    summary = made(mine, synthetic(text)).run(local, quiet)
    assert len(started) == 3, "none for nothing after the last job"
    assert summary.completed == 2
    assert summary.failed == ["split_synthetic-v1 bad_methods:Dies seed 0: its process was killed by SIGKILL, 2 times"]
    assert quiet.warned == ["its process was killed by SIGKILL; it resumes in another"] * 2
    died = next(r for r in records(mine / "out") if r["status"] == "failed")
    assert died["failure"]["kind"] == "process_lost"


def test_a_machine_that_fails_is_a_failed_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clbench.runner.run.execute", full)
    one = "split_digits-v1 naive seed 0: OSError: [Errno 28] No space left on device"
    assert made(tmp_path, BASE + "strategies: [naive]\n").run(Here(), Quiet()).failed[-1].startswith(one)
    assert {r["failure"]["kind"] for r in records(tmp_path / "out")} == {"OSError"}
    monkeypatch.setattr("clbench.runner.run_record.write_failure", full)  # that cannot be written either
    retried = made(tmp_path, BASE + "strategies: [naive]\n", retry=True)
    assert retried.run(Here(), Quiet()).failed[-1].startswith(one)


# ------------------------------------------------------------------------------------------------ local processes
def test_workers_import_once_threads_are_shared_out_and_bytes_are_those_of_a_run_by_itself(mine: Path) -> None:
    text = HEAD.replace("naive,", "naive, 'bad_methods:Tells',")
    local = engine(LocalSettings(name="local", processes=1), 1, False)
    assert made(mine, synthetic(text)).run(local, Quiet()).completed == 8
    told = [line.split() for line in (mine / "mark").read_text().splitlines()]
    assert len(told) == 2
    assert len({pid for pid, *_ in told}) == 1
    assert os.getpid() not in {int(pid) for pid, *_ in told}
    assert {threads for _, threads, _ in told} == {"1"}
    for place in files.find_runs(mine / "out"):
        record = files.read_run(place)
        strategy = record["config"]["strategy"]
        memory = [f"strategy.memory={strategy['memory']}"] if "memory" in strategy else []
        run = make_run(
            "split_synthetic-v1", strategy=strategy["name"], seed=record["config"]["seed"],
            overrides=[*memory, "training.iterations=4", "evaluation.every=2", "model.hidden=[8]"], threads=1,
        )  # fmt: skip
        alone = execute(run, mine / "alone")
        assert alone.record["run_id"] == record["run_id"]
        assert alone.record["weights_sha256"] == record["weights_sha256"]
        assert (alone.directory / "trace.npz").read_bytes() == (place / "trace.npz").read_bytes()


def test_gpus_are_dealt_out(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"numerics\.device: got 'cuda', but torch sees no CUDA device here\."):
        engine(LocalSettings(name="local"), 1, True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    local: Any = engine(LocalSettings(name="local", processes=3), 1, True)
    assert [local._device(place)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["5", "7", "5"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "10,2")
    assert [local._device(place)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["10", "2", "10"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 12)
    assert [local._device(place)["CUDA_VISIBLE_DEVICES"] for place in (2, 10, 12)] == ["2", "10", "0"]


LONG = synthetic(BASE.replace("iterations: 4", "iterations: 100")) + "strategies: ['bad_methods:Dawdles']\n"


def _begun(folder: Path) -> bool:
    return len(list(folder.glob("mark-*"))) == 2  # both are in a step


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_it_goes_on(number: signal.Signals, mine: Path) -> None:
    (mine / "study.yaml").write_text(LONG)
    command = [sys.executable, "-m", "clbench", "grid", "study.yaml", "--processes", "2"]
    running = subprocess.Popen(command, cwd=mine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _wait(lambda: _begun(mine))
    workers = _children(running.pid)
    assert len(workers) >= 2
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "0 of 2 runs are done, and the same command resumes." in said
    assert "Traceback" not in said
    _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert list((mine / "results").rglob("checkpoint/*"))
    (mine / "mark").touch()
    finished = made(mine, LONG)
    finished.out = mine / "results"
    assert finished.run(Here(), Quiet()).completed == 2
    assert all(r["costs"]["resumed_at"] for r in records(mine / "results"))


def test_workers_leave_with_whoever_started_them(mine: Path) -> None:
    (mine / "study.yaml").write_text(LONG)
    command = [sys.executable, "-m", "clbench", "grid", "study.yaml", "--processes", "2", "--quiet"]
    running = subprocess.Popen(command, cwd=mine, stderr=subprocess.DEVNULL)
    _wait(lambda: _begun(mine))
    workers = _children(running.pid)
    running.kill()
    running.wait()
    _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def _wait(until: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------ choosing
TUNING = (
    BASE
    + """
strategies: [naive, {name: er, memory: [10, 20], optimizer: {name: sgd, lr: [0.05, %s]}}]
tuning: {by: first, experiences: 2, seeds: [7, 8], changes: {evaluation: {every: 0}}}
"""
)


def test_the_best_trial_is_taken_and_every_row_says_how(tmp_path: Path) -> None:
    grid = made(tmp_path, TUNING % 0.1)
    first = grid.survey()
    assert [len(r.runs) for r in first.trials] == [2] * 4
    assert (len(first.rows), first.to_choose) == (1, 1)
    summary = grid.run(Here(), Quiet())
    assert summary.completed == 4
    trials = records(tmp_path / "out" / "trials")
    assert len(trials) == 8
    assert {r["config"]["seed"] for r in trials} == {7, 8}
    assert all(r["config"]["benchmark"]["stream"]["selection"]["experiences"] == 2 for r in trials)
    means: dict[tuple[int, float], float] = {}
    for r in trials:
        strategy = r["config"]["strategy"]
        key = strategy["memory"], strategy["optimizer"]["lr"]
        means[key] = means.get(key, 0.0) + r["metrics"]["class"]["average_accuracy"]["value"]
    best = max(means, key=lambda key: means[key])
    assert len({round(v, 9) for v in means.values()}) > 1
    done = records(tmp_path / "out")
    assert len(done) == 4  # trials stand on no board
    tuned = [r for r in done if r["config"]["strategy"]["name"] == "er"]
    for r in tuned:
        assert (r["config"]["strategy"]["memory"], r["config"]["strategy"]["optimizer"]["lr"]) == best
        how = r["config"]["tuning"]
        assert (how["by"], how["experiences"], how["trials"], how["seeds"], how["failed"]) == ("first", 2, 4, [7, 8], 0)
        assert how["updates"] == sum(t["costs"]["iterations"] for t in trials) == 8 * 2 * 4
        assert r["provenance"]["tuning"]["wall_s"] == pytest.approx(sum(t["costs"]["wall_s"] for t in trials))
        assert r["config"]["benchmark"]["stream"]["selection"] is None
    assert all(r["config"]["tuning"] is None for r in done if r["config"]["strategy"]["name"] == "naive")
    here = Here()
    again = made(tmp_path, TUNING % 0.1)
    last = again.survey()
    assert [r.states for r in [*last.trials, *last.rows]] == [["completed"] * 2] * 6
    assert (last.later, last.to_choose) == (0, 0)
    assert again.run(here, Quiet()).existed == 4
    assert not here.jobs


def test_a_trial_that_fails_is_not_chosen_and_is_counted(tmp_path: Path) -> None:
    summary = made(tmp_path, TUNING % 1e30).run(Here(), Quiet())
    assert summary.completed == 4
    tuned = [r["config"] for r in records(tmp_path / "out") if r["config"]["tuning"]]
    assert {c["strategy"]["optimizer"]["lr"] for c in tuned} == {0.05}
    assert {c["tuning"]["failed"] for c in tuned} == {4}


def test_where_no_trial_ends_well_nothing_is_chosen(tmp_path: Path) -> None:
    summary = made(tmp_path, (TUNING % 1e30).replace("[0.05, ", "[1.0e+31, ")).run(Here(), Quiet())
    assert summary.completed == 2
    (said,) = summary.failed
    assert said.startswith("split_digits-v1 er: all trials failed: the loss became")


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    text = (TUNING % 0.4).replace("by: first,", "by: first, metric: forgetting.after_learning,")
    made(tmp_path, text).run(Here(), Quiet())
    values: dict[str, float] = {}
    for r in records(tmp_path / "out" / "trials"):
        value = r["metrics"]["class"]["forgetting.after_learning"]["value"]
        key = json.dumps(r["config"]["strategy"])
        values[key] = values.get(key, 0.0) + value
    chosen = next(r["config"]["strategy"] for r in records(tmp_path / "out") if r["config"]["tuning"])
    assert len(set(values.values())) > 1
    assert values[json.dumps(chosen)] == min(values.values())


OPTUNA = (
    BASE
    + """
strategies: [{name: er, memory: [10, 20], optimizer: {name: sgd, lr: {min: 0.01, max: 1, scale: log}}}]
tuning: {by: test, search: optuna, trials: 3, seeds: [7]}
"""
)


def test_optuna_asks_for_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    first = made(tmp_path, OPTUNA).run(Here(), Quiet())
    assert first.completed == 2
    trials = records(tmp_path / "out" / "trials")
    assert len(trials) == 3
    assert all(0.01 <= r["config"]["strategy"]["optimizer"]["lr"] <= 1 for r in trials)
    how = records(tmp_path / "out")[0]["config"]["tuning"]
    assert (how["search"], how["trials"], how["by"], how["updates"]) == ("optuna", 3, "test", 60)
    here = Here()
    again = made(tmp_path, OPTUNA).run(here, Quiet())
    assert (again.existed, here.jobs) == (2, [])
    assert again.chosen == first.chosen


def test_a_dry_run_of_optuna_tells_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    grid, out = made(tmp_path, OPTUNA), str(tmp_path / "out")
    command = ["grid", str(tmp_path / "study.yaml"), "--dry-run", "--out", out, "--processes", "2"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "1 runs, 0 exist", "then 2 runs of trials that depend on earlier ones",
        "then 2 runs with the values that the trials select", "time: unknown for 5 runs",
    ]  # fmt: skip
    grid.run(Here(), Quiet())
    assert main(command) == 0
    *_, last, counted, time = capsys.readouterr().out.splitlines()
    assert last.startswith("split_digits-v1 er (lr ")
    assert (counted, time) == ("5 runs, 5 exist", "time: 0 s with 2 processes, from existing runs")


def test_optuna_draws_what_a_range_says(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = OPTUNA.replace("memory: [10, 20]", "memory: {min: 5, max: 500, scale: log}")
    drawn = made(tmp_path, text.replace("min: 0.01, max: 1,", "min: 0.5, max: 1,")).survey().trials[0].runs[0]
    assert isinstance(drawn.combination["memory"], int)
    assert isinstance(drawn.combination["optimizer.lr"], float)


def test_without_optuna_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna cannot be imported .*; pip install 'clbench\[optuna\]'"):
        made(tmp_path, OPTUNA)


def test_nothing_is_chosen_while_a_trial_is_at_work_elsewhere(tmp_path: Path) -> None:
    grid = made(tmp_path, TUNING % 0.1)
    busy = grid.survey().trials[0].runs[0].run
    with Lock(busy.directory(tmp_path / "out" / "trials")):
        summary = grid.run(Here(), Quiet())
    (said,) = summary.unfinished
    assert said.startswith(
        "split_digits-v1 er: nothing is selected: the trial split_digits-v1 er (lr 0.05, memory 10) "
    )
    assert summary.completed == 2
    assert {r["config"]["strategy"]["name"] for r in records(tmp_path / "out")} == {"naive"}  # the others go on


def test_trials_that_two_entries_share_are_done_once(tmp_path: Path) -> None:
    text = (TUNING % 0.1).replace("naive, ", "{name: er, memory: [20, 20, 30]}, ")
    text = text.replace("streams: [split_digits-v1]", "streams: [split_digits-v1, power_law_digits-v1]")
    text = text.replace(
        "by: first, experiences: 2, seeds: [7, 8]", "by: stream, stream: permuted_digits-v1, seeds: [7]"
    )
    here = Here()
    grid = made(tmp_path, text)
    listed = [r.runs[0].run.run_id for r in grid.survey().trials]
    assert len(listed) == len(set(listed)) == 2 + 4
    assert grid.run(here, Quiet()).completed == 2 * 2 * 2
    runs = [job.run.run_id for job in here.jobs]
    assert len(runs) == len(set(runs)) == 6 + 8
    tuning = {json.dumps(r["config"]["tuning"], sort_keys=True) for r in records(tmp_path / "out")}
    assert {(how["trials"], how["updates"]) for how in map(json.loads, tuning)} == {(2, 2 * 20), (4, 4 * 20)}


def test_choosing_on_the_stream_itself_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{base: split_digits-v1, id: mine-v1, training: {batch_size: 9}}")
    text = (TUNING % 0.1).replace("by: first, experiences: 2", "by: stream, stream: mine.yaml")
    with pytest.raises(UserError, match=r"tuning\.stream: is streams\[0\] itself; .* is by: test\."):
        made(tmp_path, text)


def test_data_of_trials_is_missed_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    text = (TUNING % 0.1).replace("by: first, experiences: 2", "by: stream, stream: split_mnist-v1")
    with pytest.raises(UserError, match=r"split_mnist-v1: stream\.data: "):
        made(tmp_path, text)


# ------------------------------------------------------------------------------------------------ the command line
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is one of this process; one of processes: test_interrupted_it_goes_on, and those of the wheel."""
    given: list[LocalSettings] = []
    monkeypatch.setattr("clbench.studies.engines.base.engine", lambda settings, *_: given.append(settings) or Here())
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(HEAD)
    assert main(["grid", "study.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "split_digits-v1 er (memory 20)  seeds 0 1: 2 missing" in said
    assert "6 runs, 0 exist\n" in said
    assert "unknown for 6 runs" in said
    assert not Path("results").exists()
    assert main(["grid", "study.yaml", "--processes", "1"]) == 0
    assert [settings.processes for settings in given] == [1]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2:] == ["6 runs: 6 done, 0 existed", "results/leaderboard.csv, results/runs.csv"]
    assert captured.err.count("completed") == 6  # no terminal: a line for each
    assert "[6/6]" in captured.err
    assert len(Path("results/leaderboard.csv").read_text().splitlines()) == 1 + 3
    assert main(["grid", "study.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2 completed, about" in said
    assert "6 runs, 6 exist" in said
    assert main(["grid", "study.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == "6 runs: 0 done, 6 existed"


def test_a_failure_is_an_exit_status(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clbench.studies.engines.base.engine", lambda *_: Here())
    path = mine / "study.yaml"
    path.write_text(BASE + "strategies: ['bad_methods:Refuses']\n")
    out = ["--out", str(mine / "out"), "--quiet"]
    assert main(["grid", str(path), *out]) == 1
    said = capsys.readouterr().out
    assert "failed: split_digits-v1 bad_methods:Refuses seed 0: not on this machine." in said
    assert "2 runs: 0 done, 0 existed, 2 failed" in said
    path.write_text(BASE + "strategies: [naive]\n")
    place = made(mine, path.read_text()).survey().rows[0].runs[0].run
    with Lock(place.directory(mine / "out")):
        assert main(["grid", str(path), *out]) == BUSY
    said = capsys.readouterr().out
    assert f"unfinished: split_digits-v1 naive seed 0: process {os.getpid()} on " in said
    assert "2 runs: 1 done, 0 existed, 1 unfinished" in said


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--address", "a:1"], "--address is for the engine 'ray', not for 'local'."),
        (["--engine", "ray", "--processes", "2"], "--processes is for the engine 'local', not for 'ray'."),
        (["--engine", "raay"], "got 'raay'. Did you mean 'ray'? Allowed: local, ray, slurm."),
    ],
)
def test_mistakes(flags: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(HEAD)
    try:
        status = main(["grid", str(path), *flags])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 2
    assert sentence in capsys.readouterr().err


def test_what_became_of_runs_is_told_where_boards_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path).run(Here(), Quiet())
    (tmp_path / "out" / "runs.csv").mkdir()
    command = ["grid", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr()
    assert said.out == "6 runs: 0 done, 6 existed\n"
    assert "runs.csv: cannot be written: it is a folder." in said.err
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(command) == 2
    assert capsys.readouterr() == ("", f"--out {tmp_path / 'out'}: cannot be written to.\n")


def test_data_that_is_not_there_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    with pytest.raises(UserError, match=r"split_mnist-v1: stream\.data: "):
        made(tmp_path, HEAD.replace("split_digits-v1", "split_mnist-v1"))
