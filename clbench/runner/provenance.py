"""Provenance of a result: code, packages, machine. Recorded beside a result, never part of its identity."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import platform
import subprocess
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import clbench
from clbench import source


def collect(device: str) -> dict[str, Any]:
    """Versions, commit and machine, as plain JSON values."""
    return {
        "clbench": clbench.__version__,
        "git": _git(),
        "python": platform.python_version(),
        "packages": packages(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cuda": torch.version.cuda if device == "cuda" else None,
    }


def code_sha256(*objects: Any) -> str:
    """SHA-256 over the source files of the suite, and of the packages of some objects and their bases.

    Of user-defined packages the loaded modules count; of installed ones the version is known (`packages`).

    Args:
        objects: classes or functions, such as a user-defined strategy.
    """
    files = {path: label for label, path in source.files()}
    bases = {base for each in objects for base in getattr(each, "__mro__", (each,))}
    tops = {str(getattr(base, "__module__", "")).partition(".")[0] for base in bases}
    tops.discard(clbench.__name__)  # all of it is among the files
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in tops and file is not None and not _is_installed(file):
            files.setdefault(Path(file).resolve(), Path(file).name)
    digest = hashlib.sha256()
    for path, label in sorted(files.items(), key=lambda item: (item[1], item[0])):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            digest.update(f"{label}|{len(content)}|".encode() + content)
    return digest.hexdigest()


def _is_installed(file: str) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> frozenset[str]:
    """Folders of the standard library and of installed packages; looking them up takes longer than a small run."""
    return frozenset(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def packages() -> dict[str, str | None]:
    """Versions of the packages that may change a result; None where one is not installed."""
    versions: dict[str, str | None] = {}
    for name in ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "avalanche-lib"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that the package runs from; None for an installed package."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(source.PACKAGE), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {"commit": git("rev-parse", "HEAD"), "dirty": dirty}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_rss_bytes() -> int | None:
    """Largest resident size of this process so far; None where the system does not report it."""
    with contextlib.suppress(ImportError):
        resource = importlib.import_module("resource")  # not on Windows
        peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return peak if sys.platform == "darwin" else peak * 1024
    with contextlib.suppress(ImportError, AttributeError):
        return int(importlib.import_module("psutil").Process().memory_info().peak_wset)  # on Windows alone
    return None


def weights_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dictionary's tensors, in the order of their keys."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()
