"""`clbench doctor`: whether this machine and environment fit, and for each thing that does not, the remedy.

Nothing that may be broken is imported here: versions are read from the metadata of packages, torch is asked in another
process, and the modules of the suite are imported where they are used, guarded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench import __version__, source
from clbench.cli import status

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

State = Literal["ok", "note", "wrong"]

_PROBE_S = 180
"""Patience with the process that imports torch: on a cold network file system it takes a minute."""

_LITTLE_SPACE = 2**30
"""Bytes of free space below which a study may not fit."""

_DETERMINISTIC = (":4096:8", ":16:8")
"""Values of CUBLAS_WORKSPACE_CONFIG with which cuBLAS is deterministic."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: heading.
        name: what was looked at.
        state: "wrong" keeps something that is required from working; "note" is worth knowing.
        text: what it is like.
        remedy: what to do; empty where nothing needs to be done.
    """

    section: str
    name: str
    state: State
    text: str
    remedy: str = ""


def add(verbs: Verbs) -> None:
    """The verb."""
    doctor = verbs.add_parser("doctor", help="whether this environment fits, with a remedy for what does not")
    doctor.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="results folder to look at")
    doctor.add_argument("--deep", action="store_true", help="also import every required package (half a minute)")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(act=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    findings = [
        finding
        for section, check in (
            ("versions", versions),
            ("torch", lambda: torch(options.deep)),
            ("processor", processor),
            ("data", data),
            ("results", lambda: results(options.out)),
            ("extras", extras),
        )
        for finding in guarded(section, check)
    ]
    wrong = [finding for finding in findings if finding.state == "wrong"]
    if options.json:
        print(json.dumps({"ok": not wrong, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        print("\n".join(_lines(findings)))
        print(f"\n{len(wrong)} wrong" if wrong else "\nall that is required is fine")
    return status.FAILED if wrong else status.DONE


def guarded(section: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a check; one that breaks is a finding too."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:  # whatever is broken here
        text = f"cannot be looked at: {type(error).__name__}: {_line(str(error))}"
        findings.append(Finding(section, section, "wrong", text, "mend what is wrong above, or reinstall clbench"))
    return findings


def _lines(findings: list[Finding]) -> Iterator[str]:
    width = max(len(finding.name) for finding in findings)
    section = None
    for finding in findings:
        if finding.section != section:
            yield f"{'' if section is None else chr(10)}{finding.section}"
            section = finding.section
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        line = f"  {finding.state.ljust(5)}  {finding.name.ljust(width)}  {finding.text}{remedy}"
        yield "".join(c if c.isprintable() else "?" for c in line)


def _line(text: str) -> str:
    """The text in one line of moderate length.

    >>> _line("a\\n  b")
    'a b'
    """
    words = " ".join(text.split())
    return words if len(words) <= 300 else f"{words[:297]}..."


# ------------------------------------------------------------------------------------------------ versions
def versions() -> Iterator[Finding]:
    """Python and the required packages, beside the ranges that this version declares."""
    section = "versions"
    yield Finding(section, "clbench", "ok", f"{__version__} in {source.PACKAGE}")
    yield from _parts(section)
    declared = _declared()
    if declared is None:
        yield Finding(section, "requirements", "wrong", "unknown: clbench is not installed", "pip install .")
        return
    python, requirements = declared
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield Finding(section, "packaging", "wrong", "not installed; versions cannot be compared", _pip("packaging"))
        return
    fits = SpecifierSet(python).contains(platform.python_version(), prereleases=True)
    remedy = "" if fits else f"make an environment with Python {python}"
    text = f"{platform.python_version()} (allowed {python}), {sys.executable}"
    yield Finding(section, "python", "ok" if fits else "wrong", text, remedy)
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _version(section, requirement, required=True)


def _parts(section: str) -> Iterator[Finding]:
    """Check that the strategies and streams that are imported are those of this checkout."""
    try:
        from clbench import registry

        registry.strategies()
        registry.benchmarks()
    except Exception as error:  # a UserError says it all; of a missing package another finding does
        yield Finding(section, "parts", "wrong", _line(str(error)), "pip install --editable . in the checkout")


def _declared() -> tuple[str, list[str]] | None:
    """Python's range and the requirements: of the checkout's pyproject.toml, else of the installed distribution."""
    path = source.PACKAGE.parent / "pyproject.toml"
    if path.is_file():
        import tomllib

        project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "clbench":
            optional = project.get("optional-dependencies", {})
            of_extras = [_of_extra(text, extra) for extra, texts in optional.items() for text in texts]
            return project["requires-python"], [*project["dependencies"], *of_extras]
    try:
        installed = metadata.distribution("clbench")
    except metadata.PackageNotFoundError:
        return None
    return installed.metadata["Requires-Python"], installed.requires or []


def _of_extra(requirement: str, extra: str) -> str:
    """A requirement with the marker of its extra, as metadata have it.

    >>> _of_extra("ray>=2.10", "ray")
    'ray>=2.10; extra == "ray"'
    """
    package, _, marker = (part.strip() for part in requirement.partition(";"))
    return f'{package}; {f"({marker}) and " if marker else ""}extra == "{extra}"'


def _version(section: str, requirement: Any, required: bool) -> Finding:
    name, allowed = requirement.name, str(requirement.specifier) or "any version"
    state: State = "wrong" if required else "note"
    remedy = _pip(f"{name}{requirement.specifier}")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(section, name, state, f"not installed (allowed {allowed})", remedy)
    if not version:  # the remains of an installation that was stopped
        return Finding(section, name, state, "installed incompletely", remedy)
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(section, name, state, f"{version} (allowed {allowed})", remedy)
    return Finding(section, name, "ok", f"{version} (allowed {allowed})")


def _pip(requirement: str) -> str:
    return f'pip install "{requirement}"'


# ------------------------------------------------------------------------------------------------ torch
_PROBE = """
import contextlib, importlib, json, sys
sys.path.append(sys.argv[1])
out = {}
with contextlib.redirect_stdout(sys.stderr):
    try:
        import torch
        out["torch"] = torch.__version__
        out["cuda"] = torch.version.cuda
        out["devices"] = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        torch.use_deterministic_algorithms(True)
        out["deterministic"] = bool(torch.are_deterministic_algorithms_enabled() and torch.ones(3).sum() == 3)
        torch.use_deterministic_algorithms(False)
        out["threads"] = torch.get_num_threads()
    except Exception as error:
        out["broken"] = f"{type(error).__name__}: {error}"
    else:
        try:
            from clbench.streams.datasets.published import check_torchvision
            check_torchvision()
        except Exception as error:
            out["pair"] = str(error)
    for name in sys.argv[2:]:
        try:
            importlib.import_module(name)
        except Exception as error:
            out.setdefault("imports", {})[name] = f"{type(error).__name__}: {error}"
print(json.dumps(out))
"""

_IMPORTS = ("numpy", "pandas", "sklearn", "scipy", "matplotlib", "pydantic", "yaml", "filelock", "tqdm", "avalanche")

_SOURCE = "https://pytorch.org/get-started/locally says the command for both, for the CPU or for one CUDA version"


def torch(deep: bool) -> Iterator[Finding]:
    """torch as another process imports it: whether it works, with torchvision, on a GPU, deterministically."""
    section = "torch"
    probe, failure = _probe(_IMPORTS if deep else ())
    broken = failure or probe.get("broken")
    if broken:
        yield Finding(section, "import torch", "wrong", _line(broken), f"reinstall torch and torchvision; {_SOURCE}")
    else:
        kind = "for the CPU" if probe["cuda"] is None else f"for CUDA {probe['cuda']}"
        yield Finding(section, "import torch", "ok", f"{probe['torch']}, {kind}, {probe['threads']} threads by default")
        pair = probe.get("pair")
        yield Finding(
            section, "torchvision", "wrong" if pair else "ok", _line(pair) if pair else "from the same source as torch",
            _SOURCE if pair else "",
        )  # fmt: skip
        yield _gpu(section, probe)
        works = probe["deterministic"]
        yield Finding(
            section, "deterministic algorithms", "ok" if works else "wrong", "work" if works else "cannot be set",
            "" if works else "reinstall torch",
        )  # fmt: skip
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if workspace is None:
        yield Finding(section, "CUBLAS_WORKSPACE_CONFIG", "ok", f"unset; a run on a GPU sets it to {_DETERMINISTIC[0]}")
    else:
        fits = workspace in _DETERMINISTIC
        remedy = "" if fits else f"unset it: results on a GPU may differ from run to run; or set {_DETERMINISTIC[0]}"
        yield Finding(section, "CUBLAS_WORKSPACE_CONFIG", "ok" if fits else "wrong", workspace or "empty", remedy)
    for name, problem in probe.get("imports", {}).items():
        yield Finding(section, f"import {name}", "wrong", _line(problem), f"reinstall the package of {name}")
    if deep and not failure and not probe.get("imports"):
        yield Finding(section, "imports", "ok", ", ".join(_IMPORTS))


def _gpu(section: str, probe: dict[str, Any]) -> Finding:
    devices = probe["devices"]
    if devices:
        return Finding(section, "GPU", "ok", ", ".join(f"{n}: {name}" for n, name in enumerate(devices)))
    if probe["cuda"] is None:
        return Finding(section, "GPU", "note", "this torch is for the CPU; runs use the CPU")
    remedy = "if there is one, check its driver with nvidia-smi, and CUDA_VISIBLE_DEVICES"
    return Finding(section, "GPU", "note", "torch sees none; runs use the CPU", remedy)


def _probe(imports: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Answer of another process about torch, and the reason where there is none; one of the two is empty."""
    command = [sys.executable, "-P", "-c", _PROBE, str(source.PACKAGE.parent), *imports]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, errors="replace")
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {_PROBE_S} s"
    except OSError as error:
        return {}, f"no process can be started: {error.strerror}"
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        how = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit status {done.returncode}"
        last = done.stderr.strip().splitlines()[-1:]
        return {}, f"the process that imports it died, {': '.join([how, *last])}"
    return (answer, "") if isinstance(answer, dict) else ({}, "the process that imports it gave no answer")


# ------------------------------------------------------------------------------------------------ processor
def processor() -> Iterator[Finding]:
    """Cores, limits and load."""
    section = "processor"
    whole = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else whole
    yield Finding(section, "cores", "ok", f"{usable} of {whole} usable by this process")
    limit = cgroup_cores()
    if limit is not None and limit < usable:
        fit = max(1, int(limit))
        remedy = f"--threads {fit} for a run, --processes {fit} for a study; by default they count {usable} cores"
        yield Finding(section, "limit of the container", "note", f"{limit:g} cores", remedy)
    set_ = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
            "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME") if name in os.environ}  # fmt: skip
    text = ", ".join(f"{name}={value}" for name, value in set_.items())
    spins = set_.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE"
    yield Finding(
        section, "OpenMP", "note" if spins else "ok", text or "no variable set; waiting threads sleep",
        "unset OMP_WAIT_POLICY: on a busy machine threads that spin are many times slower" if spins else "",
    )  # fmt: skip
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > usable / 2
        yield Finding(
            section, "load", "note" if busy else "ok", f"{load:.1f} in the last minute on {usable} cores",
            "other processes are running: runs take longer, and times measured now tell little" if busy else "",
        )  # fmt: skip


def cgroup_cores(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores that the control groups of this process allow, the least of them; None for no limit.

    Args:
        root: where control groups are mounted, version 1 or 2.
        membership: the file that names this process's.
    """
    limits = []
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    folders = {root, root / "cpu"}
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        base = root if not controllers else root / controllers if "cpu" in controllers.split(",") else None
        if base is not None:
            inner = base / path.lstrip("/")
            folders |= {inner, *(parent for parent in inner.parents if parent.is_relative_to(base))}
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            if quota != "max":
                limits.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{n}_us").read_text(encoding="utf-8") for n in ("quota", "period"))
            if int(quota) > 0:
                limits.append(int(quota) / int(period))
    return min(limits, default=None)


# ------------------------------------------------------------------------------------------------ data
def data() -> Iterator[Finding]:
    """The data root, and the published data sets in it."""
    from clbench import registry

    section, module = "data", registry.datasets()
    root = module.data_root()
    setting = "CLBENCH_DATA" if os.environ.get("CLBENCH_DATA") else "CLBENCH_DATA is unset"
    if root.exists() and not (root.is_dir() and os.access(root, os.R_OK | os.X_OK)):
        text = f"{root} ({setting}) is no folder that can be read"
        yield Finding(section, "data root", "wrong", text, "set CLBENCH_DATA to a folder, or mend its permissions")
        return
    yield Finding(section, "data root", "ok", f"{root} ({setting}){'' if root.exists() else ', not made yet'}")
    from clbench.streams.datasets.sources import offline

    if offline():
        yield Finding(section, "downloads", "note", "forbidden by CLBENCH_OFFLINE")
    else:
        yield Finding(section, "downloads", "ok", "allowed; CLBENCH_OFFLINE=1 forbids them")
    for name, known in module.DATASETS.items():
        if known.published is not None:
            presence = registry.presence(name)
            state: State = "note" if presence.place is None else "ok"
            yield Finding(section, name, state, presence.place or "not present", presence.remedy)
    for name, summary in module.available().items():
        if name not in module.DATASETS:
            yield Finding(section, name, "ok", summary)


# ------------------------------------------------------------------------------------------------ results
def results(out: Path) -> Iterator[Finding]:
    """Permission, space and locks of the results folder."""
    section = "results"
    place = out.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    where = str(out) if place == out.absolute() else f"{out}, to be made in {place}"
    if not place.is_dir():
        yield Finding(section, "folder", "wrong", f"{out}: {place} is no folder", "name another with --out")
        return
    try:
        trial = Path(tempfile.mkdtemp(prefix=".clbench-doctor-", dir=place))
    except OSError as error:
        text = f"{where}: cannot be written to: {error.strerror}"
        yield Finding(section, "folder", "wrong", text, "name another with --out, or mend its permissions")
        return
    try:
        yield Finding(section, "folder", "ok", f"{where}; can be written to")
        free = shutil.disk_usage(place).free
        little = free < _LITTLE_SPACE
        remedy = "a study may not fit; a run stops where the disk is full, and resumes" if little else ""
        yield Finding(section, "space", "note" if little else "ok", f"{free / 2**30:.1f} GiB free", remedy)
        yield _locks(section, trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def _locks(section: str, folder: Path) -> Finding:
    from clbench.runner.lock import Busy, Lock

    remedy = "start no run twice at a time there, or name a folder on a local disk with --out"
    try:
        with Lock(folder):
            try:
                with Lock(folder):
                    return Finding(section, "locks", "note", "do nothing on this file system", remedy)
            except Busy:
                return Finding(section, "locks", "ok", "work: two processes do not train one run")
    except (OSError, Busy) as error:
        return Finding(section, "locks", "wrong", f"cannot be taken: {_line(str(error))}", remedy)


# ------------------------------------------------------------------------------------------------ extras
def extras() -> Iterator[Finding]:
    """Optional packages, those of developers and of the site left out."""
    from packaging.requirements import Requirement

    _, requirements = _declared() or ("", [])
    for requirement in map(Requirement, requirements):
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker or ""))
        if extra is None or extra[1] in ("dev", "docs"):
            continue
        finding = _version("extras", requirement, required=False)
        remedy = f"pip install 'clbench[{extra[1]}]'" if finding.remedy else ""
        yield Finding("extras", finding.name, finding.state, finding.text, remedy)
