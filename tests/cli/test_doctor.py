"""`clbench doctor`: each broken thing is a finding with a remedy, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clbench import source
from clbench.cli import doctor, main
from clbench.runner import lock

Finding = doctor.Finding

TORCH = """
from types import SimpleNamespace
__version__ = "2.9.0+cpu"
version = SimpleNamespace(cuda=None)
cuda = SimpleNamespace(device_count=lambda: 0, get_device_name=str)
set_ = []
def use_deterministic_algorithms(on): set_.append(on)
def are_deterministic_algorithms_enabled(): return set_[-1]
def get_num_threads(): return 4
def ones(n): return SimpleNamespace(sum=lambda: n)
print("noise of an import")
"""
"""A stand-in for torch: what the doctor asks of it."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLBENCH_DATA", "data")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts packages of that source before those that are installed, for other processes."""

    def put(**packages: str) -> None:
        for name, text in packages.items():
            (tmp_path / "fakes" / name).mkdir(parents=True)
            (tmp_path / "fakes" / name / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))

    return put


def by_name(findings: Iterator[Finding] | list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# ------------------------------------------------------------------------------------------------ versions
def test_this_environment_fits() -> None:
    findings = by_name(doctor.versions())
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert findings["torch"].text == f"{metadata.version('torch')} (allowed >=2.6)"
    assert findings["python"].text.endswith(sys.executable)
    assert "ray" not in findings
    packages = {"tensorboard", "wandb", "optuna", "ray", "submitit", "pyarrow", "ncps", "river", "peft", "capymoa"}
    assert by_name(doctor.extras()).keys() == packages


def test_packages_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    versions = {"numpy": "1.25.0", "pandas": None, "tqdm": "", "torch": "2.6.0+cu124", "ray": "2.9"}

    def version(name: str) -> Any:
        if name not in versions:
            return real(name)
        if versions[name] is None:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.14.0")
    findings = by_name(doctor.versions())
    wrong = {name for name, finding in findings.items() if finding.state != "ok"}
    assert wrong == {"python", "numpy", "pandas", "tqdm"}
    assert findings["numpy"] == Finding(
        "versions", "numpy", "wrong", "1.25.0 (allowed >=1.26)", 'pip install "numpy>=1.26"'
    )
    assert findings["pandas"].text == "not installed (allowed >=2.2)"
    assert findings["tqdm"].text == "installed incompletely"
    assert findings["python"].remedy == "make an environment with Python >=3.11,<3.14"
    assert by_name(doctor.extras())["ray"] == Finding(
        "extras", "ray", "note", "2.9 (allowed >=2.10)", "pip install 'clbench[ray]'"
    )


def test_requirements_of_an_installed_package_and_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = doctor._declared()
    monkeypatch.setattr(source, "PACKAGE", tmp_path / "site-packages" / "clbench")
    installed = doctor._declared()
    assert declared is not None
    assert installed is not None
    assert {*installed[0].split(",")} == {*declared[0].split(",")}
    assert "torch>=2.6" in declared[1]
    assert "torch>=2.6" in installed[1]

    def nothing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "distribution", nothing)
    findings = by_name(doctor.guarded("versions", doctor.versions))
    assert findings["requirements"].state == "wrong"
    assert doctor.guarded("extras", doctor.extras) == []


def test_a_mixture_of_two_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench import registry
    from clbench.errors import UserError

    def mixed(name: str) -> Any:
        raise UserError("clbench was imported from /a and clbench.strategies from /b.")

    monkeypatch.setattr(registry, "_part", mixed)
    parts = by_name(doctor.versions())["parts"]
    assert (parts.state, parts.remedy) == ("wrong", "pip install --editable . in the checkout")
    assert "from /b" in parts.text


# ------------------------------------------------------------------------------------------------ torch
def test_a_torch_for_the_processor(fake: Callable[..., None]) -> None:
    fake(torch=TORCH, torchvision="")
    findings = by_name(doctor.torch(deep=False))
    assert findings["import torch"].text == "2.9.0+cpu, for the CPU, 4 threads by default"
    assert findings["torchvision"] == Finding("torch", "torchvision", "ok", "from the same source as torch")
    assert findings["GPU"].text == "this torch is for the CPU; runs use the CPU"
    assert findings["deterministic algorithms"].state == "ok"


def test_torch_and_torchvision_of_two_sources(fake: Callable[..., None]) -> None:
    fake(torch=TORCH, torchvision="raise RuntimeError('operator torchvision::nms does not exist')")
    pair = by_name(doctor.torch(deep=False))["torchvision"]
    assert pair.state == "wrong"
    assert "do not match (operator torchvision::nms does not exist). Install both from the same place" in pair.text
    assert pair.remedy


def test_a_gpu(fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = TORCH.replace("device_count=lambda: 0, get_device_name=str", "device_count=lambda: 2, get_device_name=chr")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    fake(torch=gpu.replace("cuda=None", "cuda='13.0'").replace("return set_[-1]", "return False"), torchvision="")
    findings = by_name(doctor.torch(deep=False))
    assert findings["import torch"].text.startswith("2.9.0+cpu, for CUDA 13.0, ")
    assert findings["GPU"].state == "ok"
    assert findings["deterministic algorithms"].state == findings["CUBLAS_WORKSPACE_CONFIG"].state == "wrong"
    assert findings["CUBLAS_WORKSPACE_CONFIG"].remedy.startswith("unset it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ImportError('libcudart.so.13: cannot open\\n shared object')",
         "ImportError: libcudart.so.13: cannot open shared object"),
        ("raise OSError('no such library')", "OSError: no such library"),
        ("import os, sys; print('Illegal instruction', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)",
         "the process that imports it died, killed by signal 9: Illegal instruction"),
        ("import os; os._exit(3)", "the process that imports it died, exit status 3"),
    ],
)  # fmt: skip
def test_a_torch_that_does_not_import(fake: Callable[..., None], text: str, said: str) -> None:
    fake(torch=text)
    finding = by_name(doctor.torch(deep=False))["import torch"]
    assert (finding.state, finding.text) == ("wrong", said)
    assert finding.remedy.startswith("reinstall torch and torchvision; ")


def test_a_torch_that_hangs(fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_S", 0.2)
    fake(torch="import time; time.sleep(60)")
    assert by_name(doctor.torch(deep=False))["import torch"].text == "no answer within 0.2 s"


def test_deep_imports_each_package(fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_IMPORTS", ("yaml", "whole", "broken"))
    fake(torch=TORCH, torchvision="", whole="", broken="raise ValueError('numpy.dtype size changed')")
    findings = by_name(doctor.torch(deep=True))
    assert findings["import broken"].text == "ValueError: numpy.dtype size changed"
    assert "imports" not in findings
    assert "import whole" not in findings


# ------------------------------------------------------------------------------------------------ processor
def test_limits_of_control_groups(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    assert doctor.cgroup_cores(root, membership) is None
    (root / "pod" / "job").mkdir(parents=True)
    membership.write_text("0::/pod/job\n")
    (root / "pod" / "job" / "cpu.max").write_text("max 100000\n")
    assert doctor.cgroup_cores(root, membership) is None
    (root / "pod" / "cpu.max").write_text("150000 100000\n")
    (root / "cpu.max").write_text("800000 100000\n")
    assert doctor.cgroup_cores(root, membership) == 1.5
    membership.write_text("3:cpu,cpuacct:/a\n2:memory:/b\n")  # version 1
    (root / "cpu,cpuacct" / "a").mkdir(parents=True)
    (root / "cpu,cpuacct" / "a" / "cpu.cfs_quota_us").write_text("50000\n")
    (root / "cpu,cpuacct" / "a" / "cpu.cfs_period_us").write_text("100000\n")
    assert doctor.cgroup_cores(root, membership) == 0.5
    (root / "cpu,cpuacct" / "a" / "cpu.cfs_quota_us").write_text("-1\n")
    assert doctor.cgroup_cores(root, membership) == 8


def test_a_busy_and_limited_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("os.getloadavg", lambda: (5.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(doctor, "cgroup_cores", lambda: 2.5)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    findings = by_name(doctor.processor())
    assert findings["cores"].text == "8 of 16 usable by this process"
    limit = findings["limit of the container"]
    assert (limit.state, limit.text) == ("note", "2.5 cores")
    assert limit.remedy.startswith("--threads 2 for a run, --processes 2 for a study")
    assert (findings["load"].state, findings["OpenMP"].state) == ("note", "note")
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 0.0, 0.0), raising=False)
    monkeypatch.setattr(doctor, "cgroup_cores", lambda: 8.0)
    findings = by_name(doctor.processor())
    assert findings["load"] == Finding("processor", "load", "ok", "1.0 in the last minute on 8 cores")
    assert "limit of the container" not in findings


# ------------------------------------------------------------------------------------------------ data and results
def test_data(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = by_name(doctor.data())
    assert findings["data root"].text == "data (CLBENCH_DATA), not made yet"
    assert (findings["mnist"].state, findings["mnist"].text) == ("note", "not present")
    assert findings["downloads"].text == "forbidden by CLBENCH_OFFLINE"
    Path("data").mkdir()
    for name in ("mnist.npz", "plankton.npz"):
        (Path("data") / name).touch()
    findings = by_name(doctor.data())
    assert findings["mnist"] == Finding("data", "mnist", "ok", "data/mnist.npz")
    assert findings["plankton"].text == "your own arrays, data/plankton.npz"
    Path("file").touch()
    monkeypatch.setenv("CLBENCH_DATA", "file")
    [finding] = doctor.data()
    assert (finding.state, finding.text) == ("wrong", "file (CLBENCH_DATA) is no folder that can be read")


def test_a_results_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = by_name(doctor.results(Path("new/results")))
    assert findings["folder"].text == f"new/results, to be made in {Path.cwd()}; can be written to"
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert findings["locks"].text == "work: two processes do not train one run"
    assert list(Path().iterdir()) == []  # nothing stays
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    assert by_name(doctor.results(Path()))["space"].text == "0.5 GiB free"


def test_a_results_folder_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    [finding] = doctor.results(Path("file/results"))
    assert (finding.state, finding.text) == ("wrong", f"file/results: {Path.cwd() / 'file'} is no folder")

    def refused(**_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "mkdtemp", refused)
    [finding] = doctor.results(Path())
    assert (finding.state, finding.text) == ("wrong", ".: cannot be written to: Permission denied")


def test_locks_that_do_nothing_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "lock_descriptor", lambda *_, **__: True)
    finding = by_name(doctor.results(Path()))["locks"]
    assert (finding.state, finding.text) == ("note", "do nothing on this file system")

    def broken(*_: Any, **__: Any) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lock, "lock_descriptor", broken)
    finding = by_name(doctor.results(Path()))["locks"]
    assert finding.state == "wrong"
    assert "Input/output error" in finding.text


# ------------------------------------------------------------------------------------------------ the verb
def checks(monkeypatch: pytest.MonkeyPatch, **of: Callable[..., Iterator[Finding]]) -> None:
    """Replaces the checks; those without a replacement find nothing."""
    for name in ("versions", "torch", "processor", "data", "results", "extras"):
        monkeypatch.setattr(doctor, name, of.get(name, lambda *_: iter(())))


def test_status_and_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fine = Finding("versions", "a", "ok", "1")
    note = Finding("versions", "long", "note", "two\x1b[2J", "do this")
    checks(monkeypatch, versions=lambda: iter([fine, note]))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == (
        "versions\n  ok     a     1\n  note   long  two?[2J; do this\n\nall that is required is fine\n"
    )

    def breaks(_: bool) -> Iterator[Finding]:
        yield Finding("torch", "import torch", "ok", "2")
        raise ValueError("no\nluck")

    checks(monkeypatch, versions=lambda: iter([fine]), torch=breaks)
    assert main(["doctor", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [(f["name"], f["state"], f["text"]) for f in report["findings"]] == [
        ("a", "ok", "1"), ("import torch", "ok", "2"), ("torch", "wrong", "cannot be looked at: ValueError: no luck"),
    ]  # fmt: skip
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("\n1 wrong\n")


def test_the_command_where_what_it_imports_is_missing(fake: Callable[..., None]) -> None:
    missing = "raise ModuleNotFoundError(\"No module named '{0}'\", name='{0}')"
    fake(**{name: missing.format(name) for name in ("pydantic", "numpy", "yaml", "filelock", "packaging")}, torch="1/0")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "clbench", *arguments]
        path = f"{os.environ['PYTHONPATH']}{os.pathsep}{source.PACKAGE.parent}"
        return subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})

    done = command("doctor", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    wrong = [finding for finding in json.loads(done.stdout)["findings"] if finding["state"] == "wrong"]
    assert all(finding["remedy"] for finding in wrong)
    said = " ".join(finding["text"] for finding in wrong)
    assert "ZeroDivisionError" in said
    assert "No module named 'pydantic'" in said
    listed = command("list", "strategies")
    assert (listed.returncode, listed.stdout) == (2, "")
    [line] = listed.stderr.splitlines()
    assert line.startswith("No module named '")
    assert line.endswith("'; `clbench doctor` says what this environment lacks.")
