"""Verbs about runs on the disk: `show`, `list runs`, `remove`. Run files are copies of those of the reference study."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clbench import resolve
from clbench.cli import main, remove
from clbench.cli.status import BUSY
from clbench.reports.rows import row_id
from clbench.results import files, record
from clbench.runner.lock import Lock, holder
from support import ROOT, CrashAt, execute

REFERENCE = ROOT / "results" / "reference"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lay(strategy: str = "er", seed: int = 0, change: Change = lambda r: None, out: str = "results") -> Path:
    """A run's folder as `clbench run` leaves it, but for what is in its trace."""
    [place] = (REFERENCE / "split_digits-v1" / strategy).glob(f"*/seed-{seed}/run.json")
    content = json.loads(place.read_text())
    change(content)
    directory = Path(out) / place.parent.relative_to(REFERENCE)
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps(content))
    (directory / "trace.npz").write_bytes(b"0" * 1000)
    return directory


def failed(content: dict[str, Any]) -> None:
    failure = {
        "kind": "ValueError",
        "message": "no\x1b[2J luck",
        "iteration": 7,
        "traceback": "Traceback ...\n  in mine.py",
    }
    content.update(status="failed", failure=failure, metrics=None)


def interrupted(content: dict[str, Any]) -> None:
    failure = {"kind": "interrupted", "message": "interrupted", "iteration": 230}
    content.update(status="interrupted", failure=failure, metrics=None)


def row(directory: Path) -> str:
    return row_id(record.read(directory))


# ------------------------------------------------------------------------------------------------ show
def test_a_run_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay("lwf", 3)
    assert main(["show", str(directory)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    raw = json.loads((directory / "run.json").read_text())
    lines = out.splitlines()
    assert lines[:3] == [
        "split_digits-v1 lwf seed 3: completed", f"  folder: {directory}", "  seeds: seed 3",
    ]  # fmt: skip
    chosen = raw["config"]["strategy"]["alpha"]
    assert f"    strategy.alpha: {chosen} (default: 1.0)" in lines
    assert "    tuning: by first, 3 trials, grid search, by average_accuracy" in lines
    accuracy = raw["metrics"]["class"]["average_accuracy"]["value"]
    [shown] = [line for line in lines if line.startswith("    average_accuracy")]
    assert shown.split()[1] == f"{100 * accuracy:.2f}"
    for digest in ("run_id", "config_hash", "definition_hash", "weights_sha256", "trace_sha256"):
        assert raw[digest] in out
    assert "500 updates, 510 evaluations" in out
    assert "clbench grid results/reference/study.yaml" in out
    assert "gap.depth" not in out
    assert main(["show", str(directory / "run.json"), "--deep"]) == 0
    deep = capsys.readouterr().out
    assert "    benchmark.training.batch_size: 32" in deep.splitlines()
    assert "gap.depth" in deep


def test_differences_from_the_shipped_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    def change(content: dict[str, Any]) -> None:
        content["modified"] = True
        content["config"]["benchmark"]["training"]["optimizer"]["lr"] = 0.5
        content["config"]["benchmark"]["model"]["hidden"] = [7]
        content["config"]["numerics"]["threads"] = 3
        content["config"]["seeds"]["order"] = 5

    assert main(["show", str(lay("naive", change=change))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "split_digits-v1* naive seed 0: completed"
    assert "  seeds: seed 0, order 5" in lines
    start = lines.index("  differs from the shipped configuration") + 1
    assert lines[start : start + 3] == [
        "    model.hidden: [7] (shipped: [100])",
        "    numerics.threads: 3 (default: 1)",
        "    training.optimizer.lr: 0.5 (shipped: 0.1)",
    ]
    assert main(["show", str(lay("naive", 1))]) == 0
    assert "  differs from the shipped configuration: nothing" in capsys.readouterr().out.splitlines()

    def own(content: dict[str, Any]) -> None:
        content["config"]["benchmark"]["id"] = "Mine"

    assert main(["show", str(lay("naive", 2, own))]) == 0
    assert "benchmark: 'Mine' is not shipped; --deep prints all of it" in capsys.readouterr().out


def test_a_failed_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay(change=failed)
    assert main(["show", str(directory)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("split_digits-v1 er seed 0: failed at update 7: no\\x1b[2J luck\n")
    assert "in mine.py" not in out
    assert main(["show", str(directory), "--deep"]) == 0
    assert "  traceback\n    Traceback ...\n      in mine.py\n" in capsys.readouterr().out


def test_an_unfinished_run_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay(change=interrupted)
    assert main(["show", str(directory)]) == 0
    assert capsys.readouterr().out.startswith(
        "split_digits-v1 er seed 0: unfinished, stopped at update 230, without a checkpoint, 500 updates planned\n"
    )
    (directory / "checkpoint").mkdir()
    for updates in (200, 230):
        (directory / "checkpoint" / f"{updates:012d}.state").touch()
    assert main(["show", str(directory)]) == 0
    assert "stopped at update 230, last checkpoint at update 230, 500" in capsys.readouterr().out
    with Lock(directory):
        assert main(["show", str(directory)]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"split_digits-v1 er seed 0: running (process {os.getpid()} on ")
        assert "stopped" not in out


def test_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    directories = [lay(seed=seed, change=failed if seed == 2 else lambda r: None) for seed in (0, 1, 2)]
    lay("naive")
    prefix = row(directories[0])[:7]
    assert main(["show", prefix]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"row {row(directories[0])}: split_digits-v1 er", "  completed seeds: 0, 1"]
    assert [line.split()[:2] for line in lines if line.lstrip().startswith(("0 ", "1 ", "2 "))] == [
        ["0", "completed"], ["1", "completed"], ["2", "failed"],
    ]  # fmt: skip
    assert "  unfinished or failed: seed 2: no\\x1b[2J luck" in lines
    assert [line.split()[0] for line in lines[-3:]] == ["configuration", "definition", "data"]  # what runs share
    assert main(["show", row(lay("lwf", out="other")), "--in", "other"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2] == "split_digits-v1 lwf seed 0: completed"


def test_names_that_are_neither(capsys: pytest.CaptureFixture[str]) -> None:
    lay()
    assert main(["show", "0123456789"]) == 2
    assert capsys.readouterr().err == "0123456789: no run, and no row in results whose row_id begins with it.\n"
    assert main(["show", "abcd", "--in", "nowhere"]) == 2
    assert capsys.readouterr().err == "nowhere: no such folder; --in names the folder of the rows.\n"
    assert main(["show", "results"]) == 2
    assert capsys.readouterr().err == (
        "results: a folder, not a run's; `clbench list runs results` lists the runs below it.\n"
    )
    assert main(["show", str(lay(seed=1)), "--markdown"]) == 2
    assert capsys.readouterr().err.startswith("--markdown is for streams")


def test_rows_are_compared_by_names_as_people_type_them(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        lay(seed=seed)
        lay("er_ace", seed)
    assert main(["compare", "split_digits-v1:er", "split_digits-v1:er_ace"]) == 0
    exact = capsys.readouterr()
    assert main(["compare", "Split_Digits:ER", ":er-ace"]) == 0
    assert capsys.readouterr() == exact


# ------------------------------------------------------------------------------------------------ list
def test_runs_of_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    def other_memory(content: dict[str, Any]) -> None:
        content["config"]["strategy"]["memory"] = 7
        content["run_id"] = "0" * 64

    first, second = lay(), lay(seed=1, change=other_memory)
    third = lay("naive", change=interrupted)
    (third / ".lock").write_text(f"\nprocess {os.getpid()} on {os.uname().nodename}")
    damaged = Path("results/damaged/run.json")
    damaged.parent.mkdir()
    damaged.write_text("{}")
    assert main(["list", "runs"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"left out: {damaged}: not a run of clbench")
    header, *lines = (line.split("  ") for line in out.splitlines())
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [cell.strip() for cell in header if cell.strip()] == [
        "benchmark", "strategy", "seed", "status", "ACC", "started", "folder",
    ]  # fmt: skip
    started = json.loads((first / "run.json").read_text())["provenance"]["started_utc"]
    accuracy = json.loads((first / "run.json").read_text())["metrics"]["class"]["average_accuracy"]["value"]
    assert cells[0] == [
        "split_digits-v1", "er (memory 100)", "0", "completed", f"{100 * accuracy:.2f} %",
        started.replace("T", " ").rstrip("Z"), str(first),
    ]  # fmt: skip
    assert cells[1][1] == "er (memory 7)"
    assert (cells[2][1], cells[2][3], cells[2][4]) == ("naive", "running", "-")
    assert main(["list", "runs", "results", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["run_dir"] for entry in entries] == [str(first), str(second), str(third)]
    assert entries[0]["average_accuracy"] == accuracy
    assert (entries[2]["status"], entries[2]["average_accuracy"]) == ("running", None)


def test_folders_without_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "runs", "nowhere"]) == 2
    assert capsys.readouterr().err == "nowhere: no such folder; runs are written there by `clbench run`.\n"
    Path("empty").mkdir()
    assert main(["list", "runs", "empty"]) == 0
    assert capsys.readouterr().out == "empty: no run there or below\n"
    assert main(["list", "streams", "empty"]) == 2
    assert capsys.readouterr().err == "got empty, a folder; of one, `clbench list runs DIR` lists the runs.\n"


def test_data_sets_with_their_place(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_DATA", "data")
    Path("data/USPS").mkdir(parents=True)
    for name in ("mnist.npz", "usps.bz2", "usps.t.bz2"):
        (Path("data") / name).touch()
    Path("data/cifar-10-batches-py").mkdir()

    def places() -> dict[str, str]:
        assert main(["list", "datasets"]) == 0
        return {line.split()[0]: line.split("; ", 1)[-1] for line in capsys.readouterr().out.splitlines()}

    listed = places()
    assert (listed["mnist"], listed["usps"]) == ("in data/mnist.npz", "in data")
    assert listed["cifar10"] == "in data/cifar-10-batches-py"
    assert listed["kmnist"] == (
        "not present: put kmnist.npz or torchvision's KMNIST/raw into data; CLBENCH_OFFLINE forbids downloads"
    )
    monkeypatch.delenv("CLBENCH_OFFLINE")
    assert places()["kmnist"] == (
        "not present: downloaded from codh.rois.ac.jp when it is used, or put kmnist.npz or torchvision's KMNIST/raw "
        "into data"
    )


# ------------------------------------------------------------------------------------------------ remove
def test_runs_are_listed_and_removed_with_the_folders_that_they_leave_empty(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, other = lay(), lay(seed=1), lay("naive")
    for folder in ("trace", "checkpoint", "tensorboard"):
        (first / folder).mkdir()
        (first / folder / "part").touch()
    assert main(["remove", str(first), "--yes"]) == 0
    assert capsys.readouterr() == (f"{first}: split_digits-v1 er seed 0, completed\nremoved: 1 run\n", "")
    assert not first.exists()
    assert (second / "trace.npz").exists()
    assert main(["remove", row(second)[:8], str(second / "run.json"), "--yes"]) == 0  # one run, named twice
    assert capsys.readouterr().out.endswith("removed: 1 run\n")
    assert sorted(p.name for p in Path("results/split_digits-v1").iterdir()) == ["naive"]
    assert main(["remove", str(other), "--yes"]) == 0
    assert not Path("results/split_digits-v1").exists()
    assert Path("results").is_dir()


def test_it_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = lay()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["remove", str(directory)]) == 2
    out, err = capsys.readouterr()
    assert out == f"{directory}: split_digits-v1 er seed 0, completed\n"
    assert err == "nothing removed: no terminal to ask on; --yes removes without asking.\n"

    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.answer

    for answer in ("\n", "n\n", "", "yess\n"):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        assert main(["remove", str(directory)]) == 0
        assert capsys.readouterr().out.endswith(" MiB? [y/N] nothing removed\n")
        assert (directory / "trace.npz").exists()
    monkeypatch.setattr("sys.stdin", Terminal("Y\n"))
    assert main(["remove", str(directory)]) == 0
    assert not directory.exists()


def test_only_what_clbench_wrote_goes(capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay()
    (directory / "notes.txt").write_text("mine")
    precious = Path("precious")
    (precious / "deep").mkdir(parents=True)
    (precious / "deep" / "file").touch()
    (directory / "tensorboard").symlink_to(precious.absolute(), target_is_directory=True)
    (directory / "trace").mkdir()
    (directory / "trace" / "link").symlink_to(precious.absolute(), target_is_directory=True)
    assert main(["remove", str(directory), "--yes"]) == 0
    assert "completed; stays: notes.txt\n" in capsys.readouterr().out
    assert [path.name for path in directory.iterdir()] == ["notes.txt"]
    assert (precious / "deep" / "file").exists()


def test_what_is_no_run_folder_is_refused_and_then_nothing_goes(capsys: pytest.CaptureFixture[str]) -> None:
    good = lay()
    Path("link").symlink_to(good.absolute(), target_is_directory=True)
    for name, content in (("foreign", "{}"), ("broken", "{")):
        Path(name).mkdir()
        (Path(name) / "run.json").write_text(content)
    assert main(["remove", str(good), "link", "results", "foreign", "broken", "ffff", "--yes"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "results: no run of clbench; it holds no run.json.",
        "ffff: no run, and no row in results whose row_id begins with it.",
    ]
    assert main(["remove", str(good), "link", "foreign", "broken", "--yes"]) == 2
    link, foreign, broken = capsys.readouterr().err.splitlines()
    assert link == "link: a link; name the folder that it leads to."
    assert foreign == "foreign/run.json: not a run of clbench; 'schema_version' is missing."
    assert broken.startswith("broken/run.json: damaged or truncated")
    assert (good / "run.json").exists()
    assert (good / "trace.npz").exists()


def test_a_run_in_use_stays(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = lay(), lay(seed=1)
    with Lock(busy):
        assert main(["remove", str(busy), "--yes"]) == BUSY
        assert capsys.readouterr().err.startswith(f"{busy}: in use by process {os.getpid()} on ")
        monkeypatch.setattr("clbench.runner.lock.holder", lambda folder: None)  # it starts after the look
        assert main(["remove", str(busy), str(idle), "--yes"]) == BUSY
        out, err = capsys.readouterr()
        assert err.startswith(f"{busy}: in use by process {os.getpid()} on ")
        assert out.endswith("removed: 1 run\n")
        assert (busy / "trace.npz").exists()
    assert not idle.exists()


def test_results_that_were_replaced_go_only_when_named(capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay()
    kept = files.supersede(directory)
    (directory / "run.json").write_bytes((kept / "run.json").read_bytes())
    assert main(["remove", str(kept), "--yes"]) == 2
    assert capsys.readouterr().err == f"{kept}: a result that was replaced; --superseded removes it.\n"
    assert main(["remove", str(directory), "--yes"]) == 0
    assert "; stays: superseded\n" in capsys.readouterr().out
    assert (kept / "trace.npz").exists()
    with Lock(directory):
        assert main(["remove", str(kept), "--superseded", "--yes"]) == BUSY
    assert main(["remove", str(kept), "--superseded", "--yes"]) == 0
    assert not directory.exists()
    directory = lay()
    files.supersede(directory)
    directory = lay(out="again")
    (directory / "superseded" / "1").mkdir(parents=True)
    assert main(["remove", str(directory), "--superseded", "--yes"]) == 0
    assert not directory.exists()


def test_a_stopped_removal_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = lay()
    (directory / "checkpoint").mkdir()

    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(remove.shutil, "rmtree", broken)
        assert main(["remove", str(directory), "--yes"]) == 2
    assert (directory / "run.json").exists()
    assert main(["remove", str(directory), "--yes"]) == 0
    assert not directory.exists()


def test_the_holder_of_a_lock(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with Lock(tmp_path):
        assert str(holder(tmp_path)).startswith(f"process {os.getpid()} on ")
    assert holder(tmp_path) is None
    path, host = tmp_path / ".lock", os.uname().nodename
    path.write_text(f"\nprocess 999999999 on {host}")  # killed
    assert holder(tmp_path) is None
    path.write_text("\nprocess 999999999 on another-host")
    assert holder(tmp_path) == "process 999999999 on another-host"
    path.write_text("")
    assert holder(tmp_path) == "another process"


def test_an_unfinished_run_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["training.iterations=5", "stream.tasks.count=2"]
    run = resolve.make_run("split_synthetic-v1", strategy="naive", overrides=overrides)
    with pytest.raises(KeyboardInterrupt):
        execute(run, Path("results"), progress=CrashAt(7))
    [directory] = files.find_runs(Path("results"))
    assert main(["show", str(directory)]) == 0
    assert capsys.readouterr().out.startswith(
        "split_synthetic-v1* naive seed 0: unfinished, stopped at update 7, evaluated up to update 7, "
        "1 of 2 experiences ended, without a checkpoint, 10 updates planned\n"
    )
