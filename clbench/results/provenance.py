"""Provenance of a result: code, packages, machine, stream. Recorded beside a result."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import clbench
from clbench import source
from clbench.dataset import identity
from clbench.lazy import torch
from clbench.stream import Stream


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


def code_sha256(user: Mapping[str, str | None] | None = None) -> str | None:
    """SHA-256 over the source files of the suite and a user's modules; None where one of these is unknown.

    Args:
        user: module -> SHA-256, see `clbench.runner.user_code.UserCode.modules`.
    """
    digest = hashlib.sha256()
    for label, path in sorted(source.files()):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            digest.update(f"{label}|{len(content)}|".encode() + content)
    for module, sha256 in sorted((user or {}).items()):
        if sha256 is None:
            return None
        digest.update(f"{module}|{sha256}|".encode())
    return digest.hexdigest()


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


def describe_stream(stream: Stream) -> dict[str, Any]:
    """Hashes and sizes of a stream, as plain JSON values."""
    return {
        "definition_hash": stream.definition_hash,
        "instance_hash": stream.instance_hash,
        "data_sha256": identity(stream.data, stream.normalise),
        "experiences": len(stream.experiences),
        "tasks": len(stream.tasks),
        "classes": len({c for task in stream.tasks for c in task.classes}),
        "samples": sum(v.samples for v in stream.experiences),
    }
