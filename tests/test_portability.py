"""Linux, macOS and Windows: nothing is imported that one of them lacks, and no file has a name that one refuses."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from clbench import registry
from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.results import files, provenance
from clbench.runner.signals import StopRequest
from clbench.studies.engines import local
from support import ROOT

PACKAGES = ("clbench", "strategies", "streams")
POSIX = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules that Windows lacks. `posix` itself cannot be blocked: Python starts with it."""
BLOCK = f"import psutil, sys; sys.modules.update(dict.fromkeys({[name for name in POSIX if name != 'posix']}))\n"
"""psutil, which Avalanche imports, has other code on Windows and needs `resource` here."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def is_legal(name: str) -> bool:
    """True if Windows allows the name of a file or folder."""
    plain = not re.search(r'[<>:"/\\|?*\x00-\x1f]', name) and not name.endswith((".", " ")) and bool(name)
    return plain and name.partition(".")[0].casefold() not in RESERVED


# ------------------------------------------------------------------------------------------------ modules
def test_no_module_needs_what_windows_lacks() -> None:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & set(POSIX), f"{path}, line {node.lineno}"


def test_every_module_is_imported_without_them(tmp_path: Path) -> None:
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in sources()]
    modules.remove("clbench.__main__")
    python(f"import importlib\nfor name in {modules}: importlib.import_module(name)\n", tmp_path)


def test_a_run_and_a_grid_without_them(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "id: s\nstreams: [split_synthetic-v1]\nseeds: 1\nstrategies: [naive]\n"
        "changes: {training: {iterations: 2}, evaluation: {every: 0}}\n",
        encoding="utf-8",
    )
    arguments = ["run", "split_synthetic-v1", "--strategy", "naive", "-o", "training.iterations=2", "--quiet"]
    code = (
        "from clbench.cli import main\n"
        "if __name__ == '__main__':\n"
        f"    assert main({arguments}) == 0\n"
        "    assert main(['grid', 'study.yaml', '--processes', '1', '--quiet', '--out', 'studies']) == 0\n"
    )
    python(code, tmp_path)
    for out in ("results", "studies"):
        [place] = files.find_runs(tmp_path / out)
        assert files.read_run(place)["status"] == "completed"


def test_memory_is_measured_on_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known = provenance.peak_rss_bytes()
    assert known is not None
    assert known > 2**20

    class Info:
        peak_wset = 7

    class Process:
        def memory_info(self) -> Info:
            return Info()

    class Psutil:
        pass

    Psutil.Process = Process  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", Psutil)
    assert provenance.peak_rss_bytes() == 7
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert provenance.peak_rss_bytes() is None


# ------------------------------------------------------------------------------------------------ files
def test_text_files_are_utf_8_everywhere() -> None:
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _opens_text(node):
                assert "encoding" in {k.arg for k in node.keywords}, f"{path}, line {node.lineno}"


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    of = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name != "open":
        return name in ("read_text", "write_text")
    if of in ("os", "Image", "archive", "self._archive"):  # a descriptor, an image, a member of a zip file
        return False
    modes = [a.value for a in call.args[0 if of else 1 :] if isinstance(a, ast.Constant)]
    return not any("b" in str(mode) for mode in modes)


def test_every_file_and_every_benchmark_has_a_name_that_windows_takes() -> None:
    names = [*registry.benchmarks(), *registry.strategies()]
    names += [part for path in sources() for part in path.relative_to(ROOT).parts]
    names += [path.name for path in (ROOT / "streams").glob("*.yaml")]
    assert [name for name in names if not is_legal(name)] == []
    for table in (registry.benchmarks(), registry.strategies()):
        assert len({name.casefold() for name in table}) == len(table)


@pytest.mark.parametrize(
    ("strategy", "folder"),
    [("er", "er"), ("er+ewc", "er+ewc"), ("my_lab.methods:Mine", "my_lab.methods.Mine"), ("nul:Mine", "_nul.Mine"),
     ("Con.lab:Mine", "_Con.lab.Mine"), ("com1:X", "_com1.X"), ("console:X", "console.X"), ("lab.nul:X", "lab.nul.X")],
)  # fmt: skip
def test_every_folder_of_a_run_has_a_name_that_windows_takes(strategy: str, folder: str, tmp_path: Path) -> None:
    run = make_run("split_digits-v1", strategy="naive")
    run = run.model_copy(update={"strategy": run.strategy.model_copy(update={"name": strategy})})
    place = run.directory(tmp_path)
    assert place.parts[-3] == folder
    assert all(map(is_legal, place.relative_to(tmp_path).parts))


def test_files_of_a_run_have_names_that_windows_takes(tmp_path: Path) -> None:
    from clbench.runner.run import execute

    run = make_run("split_synthetic-v1", strategy="naive", overrides=["training.iterations=2"])
    execute(run, tmp_path)
    assert all(is_legal(path.name) for path in tmp_path.rglob("*"))


def test_a_file_that_is_being_read_is_replaced_a_moment_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, which refuses to replace a file that another process has open."""
    replace, refusals = os.replace, [2]

    def busy(source: Path, target: Path) -> None:
        if refusals[0]:
            refusals[0] -= 1
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr("os.replace", busy)
    with pytest.raises(PermissionError):
        files._replace(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr("clbench.results.files._WAITS_S", (0.0, 0.0))
    monkeypatch.setattr("clbench.results.files._BUSY_FILES", True)
    refusals[0] = 2
    files._replace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"old"


# ------------------------------------------------------------------------------------------------ processes
def test_a_worker_without_signals_is_asked_to_stop_through_its_pipe() -> None:
    ours, theirs = Pipe()
    teller = local._Teller(theirs)
    teller.start(10, 0)
    with StopRequest() as wish:
        teller.update(1)
        assert wish.to_stop is None
        ours.send(local._STOP)
        teller._reported_at = -10.0
        teller.update(2)
        assert wish.to_stop is signal.SIGTERM
        teller._reported_at = -10.0
        teller.update(3)  # a second signal would end the process
    assert [ours.recv()[0] for _ in range(3)] == ["at"] * 3


def test_a_grid_without_signals_saves_its_runs_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clbench.config.engines import LocalSettings
    from clbench.studies.engines.base import Job

    class Listens:
        def at(self, job: int, share: float) -> None:
            raise KeyboardInterrupt

        def warn(self, job: int, text: str) -> None: ...

    monkeypatch.setattr("clbench.studies.engines.local._HAS_SIGNALS", False)
    overrides = ["training.iterations=4000", "evaluation.every=20"]
    run = make_run("split_synthetic-v1", strategy="naive", overrides=overrides, threads=1)
    engine: Any = local.Local(LocalSettings(name="local", processes=1), 1, False)
    with pytest.raises(KeyboardInterrupt):
        list(engine.run([Job(run, tmp_path)], Listens()))
    record = json.loads((run.directory(tmp_path) / "run.json").read_text(encoding="utf-8"))
    assert record["status"] == "interrupted"
    assert (run.directory(tmp_path) / "checkpoint").exists()


def test_a_system_without_groups_of_processes_leaves_a_terminals_interrupt_to_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("os.setpgrp")
    before = signal.getsignal(signal.SIGINT)
    try:
        local.ignore_terminal()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_every_core_counts_where_the_system_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert local.cores() == 6


def test_slurm_is_refused_where_it_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.config.engines import SlurmSettings
    from clbench.studies.engines.base import engine

    monkeypatch.delattr("signal.SIGUSR2", raising=False)
    with pytest.raises(UserError) as caught:
        engine(SlurmSettings(name="slurm"), 1, False)
    assert str(caught.value) == "engine 'slurm': SLURM is not available on this system. Allowed here: local, ray."
