"""The engine for SLURM: submitit's processes on this machine, and commands that only say how they were called."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from clbench.config.engines import SlurmSettings
from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.results.files import read_run
from clbench.runner import run_record
from clbench.runner.checkpoint import Checkpoints
from clbench.studies.engines import base, slurm
from clbench.studies.engines.base import FinishedJob, Job
from clbench.studies.engines.worker import run_worker
from support import Warnings

pytest.importorskip("submitit")

MINE = ""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working directory, and elsewhere a method of the user's own."""
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    name = f"mine_{tmp_path.name}"
    shutil.copy(Path(__file__).with_name("odd_strategy.py"), tmp_path / f"{name}.py")
    monkeypatch.setitem(globals(), "MINE", f"{name}:Odd")
    return work


def job(out: str, strategy: str = "naive", *overrides: str, seed: int = 0) -> Job:
    small = ["training={iterations: 7, epochs: null, batch_size: 60}", "numerics.device=cpu", *overrides]
    return Job(make_run("split_synthetic-v1", strategy=strategy, seed=seed, threads=1, overrides=small), Path(out))


def odd(out: str, act: str, seed: int = 0) -> Job:
    return job(out, MINE, f"strategy.act={act}", f"strategy.sign={act}-{seed}", seed=seed)


def here(**more: Any) -> SlurmSettings:
    return SlurmSettings(name="slurm", cluster="local", **more)


def all_done(settings: Any, jobs: list[Job], heard: Warnings | None = None) -> list[FinishedJob]:
    ended = dict(base.engine(settings, 1, False).run(jobs, heard or Warnings()))
    return [ended[number] for number in range(len(jobs))]


def bytes_of(done: FinishedJob) -> tuple[bytes, str]:
    """The part of a run that does not depend on its place."""
    assert done.status == "completed", done.message
    return (done.directory / "trace.npz").read_bytes(), read_run(done.directory)["weights_sha256"]


def until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextlib.contextmanager
def soon(sign: Path, act: Callable[[], None]) -> Iterator[None]:
    """Does something as soon as there is a sign."""

    def wait() -> None:
        until(sign.exists)
        act()

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        waiting.join()


# ------------------------------------------------------------------------------------------------ on this machine
def test_runs_share_a_job() -> None:
    """Two runs a job; bytes are those of this process; what submitit wrote is gone."""

    def study(out: str) -> list[Job]:
        return [odd(out, "none"), job(out, "er"), odd(out, "none", 1)]

    there = all_done(here(runs_per_job=2), study("slurm"))
    pids, _, threads = zip(*(Path(f"none-{seed}").read_text().split() for seed in (0, 1)), strict=True)
    assert threads == ("1", "1")
    assert [bytes_of(d) for d in there] == [bytes_of(run_worker(j)) for j in study("here")]
    assert there[1].directory.parts[0] == "slurm", "as the output folder was given"
    assert len({*pids, str(os.getpid())}) == 3
    assert [p.name for p in Path("slurm").iterdir()] == ["split_synthetic-v1"]


def test_preempted() -> None:
    """The signal that announces it saves the run at its next update; queued again, the job goes on there."""
    heard = Warnings()

    def announce() -> None:
        os.kill(int(Path("wait-0").read_text().split()[0]), signal.SIGUSR2)
        Path("go").touch()

    with soon(Path("wait-0"), announce):
        (done,) = all_done(here(), [odd("slurm", "wait")], heard)
    assert heard.warnings == []
    assert read_run(done.directory)["costs"]["resumed_at"] == [20]
    assert bytes_of(done) == bytes_of(run_worker(odd("here", "wait")))


def test_a_job_dies() -> None:
    """Its runs are submitted again, each by itself: the one to blame is a failed row with its reason."""
    heard = Warnings()
    first, dead = all_done(here(runs_per_job=2, retries=1), [job("slurm"), odd("slurm", "die")], heard)
    assert (first.status, dead.status) == ("completed", "failed")
    assert sorted(number for number, _ in heard.warnings) == [0, 1]
    failure = read_run(dead.directory)["failure"]
    assert failure["kind"] == "process_lost"
    assert failure["message"] == dead.message
    assert dead.message.endswith(", 2 times")
    log = Path(dead.message.partition("(")[2].partition(")")[0])
    assert log.is_file(), "which the message names"


def test_closed() -> None:
    """The run under way is saved, the next one not begun, and no process is left."""
    jobs = [job("slurm"), odd("slurm", "linger"), job("slurm", seed=1)]
    with soon(Path("linger-0"), lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(KeyboardInterrupt):
        all_done(here(runs_per_job=3), jobs)
    assert not Path("/proc", Path("linger-0").read_text().split()[0]).exists()
    assert Checkpoints(run_record.directory_of(jobs[1].run, Path("slurm")))
    assert not run_record.directory_of(jobs[2].run, Path("slurm")).exists()
    assert read_run(run_worker(jobs[1]).directory)["costs"]["resumed_at"] == [20]


# ------------------------------------------------------------------------------------------------ without SLURM
COMMANDS = {
    # A job that is killed is queued again.
    "sbatch": """
        cp "$1" script
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        export SLURM_JOB_ID=$$
        for i in $(seq 0 ${last:-0}); do
            (
                if [ "$last" ]; then export SLURM_JOB_ID=$(($$ + i)) SLURM_ARRAY_JOB_ID=$$ SLURM_ARRAY_TASK_ID=$i; fi
                bash "$1"
                if [ $? = 137 ]; then SLURM_RESTART_COUNT=1 bash "$1"; fi
            ) > /dev/null 2> /dev/null &
        done
        echo "Submitted batch job $$"
    """,
    "srun": 'exec "${@:6}" >> said 2>> said',
    "scancel": 'echo "$@" >> cancelled',
    "sacct": 'echo "JobID|State|NodeList"; cat states',
}


@pytest.fixture
def commands(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of SLURM that run the jobs of an array here, all at once."""
    folder = work / "bin"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text("#!/bin/bash\n" + textwrap.dedent(text))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_POLL_S", {"slurm": 0.2})
    (work / "states").touch()
    return folder


def there(**more: Any) -> SlurmSettings:
    return SlurmSettings(name="slurm", **more)


def test_what_sbatch_is_given(commands: Path) -> None:
    """An array of jobs with the study's options; its results are those of this process."""

    def study(out: str) -> list[Job]:
        return [job(out), job(out, "er"), odd(out, "none")]

    options = {"account": "a b", "exclusive": True, "nice": 5}
    settings = there(partition="small", minutes=30, runs_per_job=2, parallel=7, memory_gb=3, options=options)
    done = all_done(settings, study("slurm"))
    assert [bytes_of(d) for d in done] == [bytes_of(run_worker(j)) for j in study("here")]
    given = Path("script").read_text().splitlines()
    assert {line.removeprefix("#SBATCH --") for line in given if line.startswith("#SBATCH")} >= {
        "array=0-1%2",
        "partition=small",
        "time=30",
        "mem=3GB",
        "cpus-per-task=1",
        "signal=USR2@90",
        "requeue",
        "account='a b'",
        "exclusive",
        "nice=5",
    }
    assert not [line for line in given if "gpus" in line]
    assert " env OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 " in given[-1]
    assert [p.name for p in Path("slurm").iterdir()] == ["split_synthetic-v1"]


@pytest.mark.parametrize(
    ("settings", "cuda", "written", "not_written"),
    [
        ({"gpus": 2}, True, "gpus-per-node=2", "mem-per"),
        ({}, True, "gpus-per-node=1", "mem-per"),
        ({"gpus": 2}, False, "mem=4GB", "gpus"),
        ({"options": {"mem-per-cpu": "2G"}}, False, "mem-per-cpu=2G", "mem="),
        ({"minutes": 2}, False, "signal=USR2@30", "gpus"),
    ],
)
def test_resources(commands: Path, settings: dict[str, Any], cuda: bool, written: str, not_written: str) -> None:
    engine = slurm.OnSlurm(there(**settings), 2, cuda)
    text = engine._executor(Path("x"), 1)._executor._make_submission_file_text("command", "1")
    given = [line.removeprefix("#SBATCH --") for line in text.splitlines()]
    assert {written, "cpus-per-task=2"} <= set(given)
    assert not [line for line in given if line.startswith(not_written)]


def test_ended_by_slurm(commands: Path) -> None:
    """SIGTERM saves the run, and the job waits for its end, as one that returns is not queued again."""

    def end() -> None:
        process = int(Path("linger-0").read_text().split()[0])
        os.kill(process, signal.SIGTERM)
        folder = run_record.directory_of(run.run, run.out)
        until(lambda: Checkpoints(folder) and not (folder / ".lock").exists())
        time.sleep(1.5)
        os.kill(process, signal.SIGKILL)  # fails where it returned

    run = odd("slurm", "linger")
    with soon(Path("linger-0"), end):
        (done,) = all_done(there(), [run])
    assert read_run(done.directory)["costs"]["resumed_at"] == [20]


def test_cancelled_and_closed(commands: Path) -> None:
    """A job that somebody cancelled is not submitted again; those of a study that is closed are cancelled."""
    (commands / "srun").write_text("#!/bin/bash\n")
    going = base.engine(there(), 1, False).run([job("slurm"), job("slurm", "er")], Warnings())
    submit = slurm.OnSlurm._submitted

    def submitted(*given: Any) -> Any:
        made = submit(*given)
        Path("states").write_text(f"{made[0][0].job_id}|CANCELLED by 0|n1\n{made[1][0].job_id}|RUNNING|n1\n")
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm.OnSlurm, "_submitted", submitted)
        number, done = next(going)
    assert (number, done.status, done.message) == (0, "interrupted", "its job was cancelled")
    going.close()
    array = Path("states").read_text().partition("_")[0]
    assert Path("cancelled").read_text() == f"{array}\n"


def test_refused(commands: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (commands / "sbatch").write_text("#!/bin/bash\necho 'sbatch: error: Invalid account' >&2; exit 1\n")
    with pytest.raises(UserError) as said:
        all_done(there(), [job("slurm")])
    assert str(said.value) == "engine 'slurm': the jobs cannot be submitted: sbatch: error: Invalid account"
    assert capfd.readouterr() == ("", "")


def test_no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"^engine 'slurm': no command sbatch, srun, scancel here; it needs a login"):
        base.engine(there(), 1, False)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"^engine 'slurm': the package submitit cannot be .*clbench\[slurm\]"):
        base.engine(here(), 1, False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"time": 3}, "'time' is set by 'minutes'"),
        ({"array": "0-3"}, "'array' is set by the engine"),
        ({"--account": "a"}, "got {--account: 'a'}. Allowed: sbatch's long options without dashes"),
        ({"account": "a\nb"}, "got {account: 'a\\nb'}. Allowed: sbatch's long options without dashes"),
    ],
)
def test_options_that_are_not_free(options: dict[str, Any], why: str) -> None:
    with pytest.raises(pydantic.ValidationError) as said:
        there(options=options)
    assert why in str(said.value)
