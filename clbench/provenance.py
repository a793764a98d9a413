"""Where a result comes from: code, packages, machine. Recorded beside a result, never part of its identity."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import clbench


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
    """SHA-256 over the source files of the suite and of the modules that some objects come from.

    Args:
        objects: classes or functions; a method of the user's own, for one.
    """
    home = Path(__file__).resolve().parent.parent
    files = {path for package in ("clbench", "strategies", "streams") for path in (home / package).glob("**/*.py")}
    for each in objects:
        file = getattr(sys.modules.get(getattr(each, "__module__", "")), "__file__", None)
        if file is not None:
            files.add(Path(file).resolve())
    digest = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(home) if path.is_relative_to(home) else path.name
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            digest.update(f"{name}|{len(content)}|".encode() + content)
    return digest.hexdigest()


def packages() -> dict[str, str | None]:
    """Versions of the packages that may change a result; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in ("torch", "torchvision", "numpy", "scikit-learn", "pandas", "avalanche-lib"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _git() -> dict[str, Any] | None:
    """Commit of the checkout that the package runs from; None for an installed package."""
    home = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "clbench/provenance.py") is None:
        return None
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_rss_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def weights_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dictionary's tensors, in the order of their keys."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()
