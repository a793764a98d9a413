"""Ray for real: clusters whose nodes are processes of this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clbench.config.engines import RaySettings
from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.results.files import read_run
from clbench.runner import run, run_record
from clbench.runner.checkpoint import Checkpoints, Every
from clbench.studies.engines import base, local
from clbench.studies.engines import ray as on_ray
from clbench.studies.engines.base import FinishedJob, Job
from clbench.studies.engines.worker import run_worker
from support import CrashAt, Warnings

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.xdist_group("ray")  # what its tests share is made once


@pytest.fixture(scope="module", autouse=True)
def settings_of_ray() -> Iterator[None]:
    """Ray reports nothing, and its workers do not stand behind whatever else is at work here, as they do by default.

    A cluster writes its address into Ray's usual folder, whichever it is given, and does not make that one: it is
    absent where Ray never ran, and another user's where that one ran it.
    """
    usual = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # a socket's path has at most 107 characters
    (usual / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(usual))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        yield
    shutil.rmtree(usual, ignore_errors=True)


BLANK = any(character.isspace() for character in sys.executable)
"""Whether Ray cannot start workers with this interpreter; see `test_an_interpreter_in_a_folder_with_a_blank`."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that does no runs; nodes are added by who needs them."""
    if BLANK:
        pytest.skip("Ray starts no workers with an interpreter in a folder with a blank")
    from ray.cluster_utils import Cluster

    files = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    small = {"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False, "temp_dir": files}
    made = Cluster(initialize_head=True, head_node_args=small)
    yield made
    ray.shutdown()
    made.shutdown()
    shutil.rmtree(files, ignore_errors=True)


def joined(cluster: Any) -> None:
    """Adds a node of one core."""
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)


@pytest.fixture
def nodes(cluster: Any) -> Any:
    """The cluster with a node of one core, and another one for one lost."""
    if not cluster.worker_nodes:
        joined(cluster)
    return cluster


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's working directory, and elsewhere a method of the user's own."""
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    name = f"mine_{tmp_path.name.rstrip('0')}"
    shutil.copy(Path(__file__).with_name("odd_strategy.py"), tmp_path / f"{name}.py")
    monkeypatch.setitem(globals(), "MINE", f"{name}:Odd")
    return work


MINE = ""


def job(out: str, strategy: str = "naive", *overrides: str, seed: int = 0) -> Job:
    small = ["training={iterations: 7, epochs: null, batch_size: 60}", "numerics.device=cpu", *overrides]
    return Job(make_run("split_synthetic-v1", strategy=strategy, seed=seed, threads=1, overrides=small), Path(out))


def odd(out: str, act: str, sign: str, seed: int = 0) -> Job:
    return job(out, MINE, f"strategy.act={act}", f"strategy.sign={sign}", seed=seed)


def all_done(settings: Any, jobs: list[Job], heard: Warnings | None = None) -> list[FinishedJob]:
    ended = dict(base.engine(settings, 1, False).run(jobs, heard or Warnings()))
    return [ended[number] for number in range(len(jobs))]


def bytes_of(done: FinishedJob) -> tuple[bytes, str]:
    """The part of a run that does not depend on its place."""
    assert done.status == "completed", done.message
    return (done.directory / "trace.npz").read_bytes(), read_run(done.directory)["weights_sha256"]


def on(cluster: Any, **more: Any) -> RaySettings:
    return RaySettings(name="ray", address=cluster.address, **more)


def until(happened: Any) -> None:
    end = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(BLANK, reason="Ray starts no workers with an interpreter in a folder with a blank")
def test_a_cluster_of_its_own(work: Path) -> None:
    """Bytes are those of this process; a process does many runs; nothing is left behind."""

    def handler(number: int, frame: Any) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)

    def study(out: str) -> list[Job]:
        own = [odd(out, "none", f"sign-{seed}", seed) for seed in range(5)]
        return [*own, job(out, "er"), job(out, "naive", "numerics.threads=1"), odd(out, "fail", "failed")]

    here = [run_worker(each) for each in study("here")]
    there = []
    for number, done in base.engine(RaySettings(name="ray"), 1, False).run(study("ray"), Warnings()):
        assert signal.getsignal(signal.SIGTERM) is handler, "that of who runs the study"
        there.append((number, done))
    there = [done for _, done in sorted(there, key=lambda each: each[0])]
    failures = [there.pop(), here.pop()]
    assert {(d.status, d.message) for d in failures} == {("failed", failures[0].message)}
    line = r'RuntimeError: boom \(.*\.py line \d+, in loss: raise RuntimeError\("boom"\)\)'
    assert re.fullmatch(line, failures[0].message), "the line of the user's file, from another process too"
    assert [bytes_of(d) for d in there] == [bytes_of(d) for d in here]
    assert there[5].directory.parts[0] == "ray", "as the output folder was given"
    processes = {(work / f"sign-{seed}").read_text().split()[0] for seed in range(5)}
    assert (work / "sign-0").read_text().split()[2] == "1", "threads of a run"
    assert len(processes) <= local.cores()
    assert not ray.is_initialized()
    until(lambda: not any(Path("/proc", pid).exists() for pid in processes))
    assert signal.signal(signal.SIGTERM, before) is handler
    assert [p.name for p in Path("ray").iterdir()] == ["split_synthetic-v1"]


def test_closed(work: Path, nodes: Any) -> None:
    """Runs under way save their state and stop, waiting ones do not begin; the cluster, which is not ours, goes on."""
    jobs = [odd("ray", "linger", f"sign-{seed}", seed) for seed in range(2)]  # one more than there are CPUs

    def begun() -> list[int]:
        return [n for n in range(2) if (work / f"sign-{n}").exists()]

    def interrupt() -> None:
        until(begun)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        next(base.engine(on(nodes), 1, False).run(jobs, Warnings()))
    waiting.join()
    assert not ray.is_initialized()
    assert all(node.remaining_processes_alive() for node in nodes.worker_nodes)
    places = [run_record.directory_of(each.run, Path("ray")) for each in jobs]
    assert not all(place.exists() for place in places)
    stopped = begun()[0]  # Ray may begin them in any order
    assert Checkpoints(places[stopped])
    assert not (places[stopped] / ".lock").exists()
    goes_on = run_worker(jobs[stopped])
    assert read_run(goes_on.directory)["costs"]["resumed_at"] == [20]


def test_lost_too_often(work: Path, nodes: Any) -> None:
    """It is a failed row with its reason; the others are done."""
    heard = Warnings()
    dead, well = all_done(on(nodes, retries=1), [odd("ray", "die", "sign"), job("ray")], heard)
    assert (dead.status, well.status) == ("failed", "completed")
    assert len(heard.warnings) == 1
    failure = read_run(dead.directory)["failure"]
    assert failure["kind"] == "process_lost"
    assert failure["message"] == dead.message
    assert dead.message.startswith("its process was lost: ")
    assert dead.message.endswith(", 2 times")


def test_folder_is_not_shared(work: Path, nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = on_ray._marked
    monkeypatch.setattr(on_ray, "_marked", lambda folders: marked({work / "elsewhere"}))
    with pytest.raises(UserError, match=r"^engine 'ray': node .* does not see .*/ray; results need a folder that all"):
        all_done(on(nodes), [job("ray")])
    assert not Path("ray").exists()


def test_no_node_is_large_enough(work: Path, nodes: Any) -> None:
    with pytest.raises(UserError, match=r"no node has 1000 CPUs, as a run needs\. Found: .*1 CPUs and 0 GPUs"):
        list(base.engine(on(nodes), 1000, False).run([job("ray")], Warnings()))
    with pytest.raises(UserError, match=r"no node has 1 CPUs and 0\.5 GPUs"):
        list(base.engine(on(nodes, gpus=0.5), 1, True).run([job("ray")], Warnings()))


def test_a_connection_of_the_callers_own(work: Path, nodes: Any) -> None:
    """It is used, and left."""
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        with pytest.raises(UserError, match=r"Found: .*0 CPUs and 0 GPUs"):  # the head; ours would have this machine's
            list(base.engine(RaySettings(name="ray"), 1000, False).run([job("ray")], Warnings()))
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def test_a_node_dies(work: Path, nodes: Any) -> None:
    """Its run resumes elsewhere from the checkpoint; every run ends in the bytes of one that is done here."""

    def study(out: str) -> list[Job]:
        return [odd(out, "hang", "hung"), *(job(out, "er", seed=seed) for seed in range(3))]

    joined(nodes)
    jobs, heard, done = study("ray"), Warnings(), {}
    hung = jobs[0].run
    with pytest.raises(KeyboardInterrupt):  # a checkpoint of update 10
        run.execute(hung, Path("ray"), every=Every(0, 10), progress=CrashAt(12))
    for number, ended in base.engine(on(nodes), 1, False).run(jobs, heard):
        if not done:
            until(lambda: (work / "hung").exists())
            raylet = int((work / "hung").read_text().split()[1])
            node = next(n for n in nodes.worker_nodes if n.all_processes["raylet"][0].process.pid == raylet)
            nodes.remove_node(node, allow_graceful=False)
        done[number] = ended
    assert list(done)[-1] == 0
    assert [number for number, text in heard.warnings] == [0], heard.warnings
    assert read_run(done[0].directory)["costs"]["resumed_at"] == [10]
    here = [run_worker(each) for each in study("here")]  # the sign is there: none hangs
    assert [bytes_of(done[n]) for n in range(4)] == [bytes_of(d) for d in here]


@pytest.mark.skipif(BLANK, reason="Ray starts no workers with an interpreter in a folder with a blank")
def test_ctrl_c_while_a_cluster_starts() -> None:
    """It waits, so that what was started is known and stopped."""
    started = []

    def start() -> None:
        with on_ray._undisturbed():
            signal.raise_signal(signal.SIGINT)
            started.append(1)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert started == [1]


@pytest.mark.skipif(BLANK, reason="Ray starts no workers with an interpreter in a folder with a blank")
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "no cluster at address '127.0.0.1:1': Connection refused."),
        ("ray://127.0.0.1:1", "no cluster at address 'ray://127.0.0.1:1': Connection refused."),
        ("nowhere", "address: got 'nowhere'. Allowed: host:port, ray://host:port, auto."),
    ],
)
def test_no_cluster(address: str, why: str) -> None:
    with pytest.raises(UserError) as said:
        all_done(RaySettings(name="ray", address=address), [job("ray")])
    assert str(said.value) == f"engine 'ray': {why}"


def test_an_interpreter_in_a_folder_with_a_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/home/a user/.venv/bin/python")
    with pytest.raises(
        UserError, match=r"^engine 'ray': Python is in '/home/a user/\.venv/bin/python', and Ray cannot"
    ):
        base.engine(RaySettings(name="ray"), 1, False)


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^engine 'ray': the package ray cannot be imported .*clbench\[ray\]"):
        base.engine(RaySettings(name="ray"), 1, False)


@pytest.mark.parametrize(("visible", "gpu", "index"), [(None, "2", 2), ("5,2", "2", 1), ("GPU-a,GPU-b", "GPU-a", 0)])
def test_the_gpu_of_a_run(monkeypatch: pytest.MonkeyPatch, visible: str | None, gpu: str, index: int) -> None:
    """Ray names a GPU as CUDA_VISIBLE_DEVICES does; torch counts those that are visible."""
    import torch

    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    on_ray._take_gpu(gpu)
    assert taken == [index]
