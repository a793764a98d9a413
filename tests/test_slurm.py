"""The engine for SLURM: submitit's processes on this machine, and commands that only say how they were called."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench import engines, runner
from clbench.checkpoint import Checkpoints
from clbench.engines import Done, Job
from clbench.engines.perform import perform
from clbench.engines.settings import SlurmSettings
from clbench.resolve import make_run
from clbench.results import read_run

pytest.importorskip("submitit")

MINE = ""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working directory, with a method of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"mine_{tmp_path.name}"
    shutil.copy(Path(__file__).with_name("odd_strategy.py"), tmp_path / f"{name}.py")
    monkeypatch.setitem(globals(), "MINE", f"{name}:Odd")
    return tmp_path


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.warnings: list[tuple[int, str]] = []

    def at(self, job: int, share: float) -> None: ...

    def warn(self, job: int, text: str) -> None:
        self.warnings.append((job, text))


def job(out: str, strategy: str = "naive", *overrides: str, seed: int = 0) -> Job:
    small = ["training={iterations: 7, epochs: null, batch_size: 60}", "numerics.device=cpu", *overrides]
    return Job(make_run("split_synthetic-v1", strategy=strategy, seed=seed, threads=1, overrides=small), Path(out))


def odd(out: str, act: str, seed: int = 0) -> Job:
    return job(out, MINE, f"strategy.act={act}", f"strategy.sign={act}-{seed}", seed=seed)


def here(**more: Any) -> SlurmSettings:
    return SlurmSettings(name="slurm", cluster="local", **more)


def all_done(settings: Any, jobs: list[Job], heard: Heard | None = None) -> list[Done]:
    ended = dict(engines.engine(settings, 1, False).run(jobs, heard or Heard()))
    return [ended[number] for number in range(len(jobs))]


def bytes_of(done: Done) -> tuple[bytes, str]:
    """What may not depend on where a run is done."""
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
    pids = [Path(f"none-{seed}").read_text().split()[0] for seed in (0, 1)]
    assert [bytes_of(d) for d in there] == [bytes_of(perform(j)) for j in study("here")]
    assert there[1].directory.parts[0] == "slurm", "as the output folder was given"
    assert len({*pids, str(os.getpid())}) == 3
    assert [p.name for p in Path("slurm").iterdir()] == ["split_synthetic-v1"]


def test_preempted() -> None:
    """The signal that announces it saves the run at its next update; queued again, the job goes on there."""
    heard = Heard()

    def announce() -> None:
        os.kill(int(Path("wait-0").read_text().split()[0]), signal.SIGUSR2)
        Path("go").touch()

    with soon(Path("wait-0"), announce):
        (done,) = all_done(here(), [odd("slurm", "wait")], heard)
    assert heard.warnings == []
    assert read_run(done.directory)["costs"]["resumed_at"] == [20]
    assert bytes_of(done) == bytes_of(perform(odd("here", "wait")))


def test_a_job_dies() -> None:
    """Its runs are submitted again, each by itself: the one to blame is a failed row with its reason."""
    heard = Heard()
    first, dead, last = all_done(
        here(runs_per_job=3, retries=1), [job("slurm"), odd("slurm", "die"), job("slurm", seed=1)], heard
    )
    assert (first.status, dead.status, last.status) == ("completed", "failed", "completed")
    assert sorted(number for number, _ in heard.warnings) == [0, 1, 2]
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
    assert Checkpoints(runner.directory_of(jobs[1].run, Path("slurm")))
    assert not runner.directory_of(jobs[2].run, Path("slurm")).exists()
    heard = Heard()
    (again,) = all_done(here(), jobs[1:2], heard)
    assert heard.warnings == []
    assert read_run(again.directory)["costs"]["resumed_at"] == [20]
