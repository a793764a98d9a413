"""Copies of the repository. Imports neither torch nor the package, so that scripts can use it too."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("strategies/", "streams/")


def files() -> list[str]:
    """Files of the repository to copy, relative: committed and new ones; without git what is no result and no cache."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [name for name in listed if (ROOT / name).is_file()]
    tops = [path for path in ROOT.iterdir() if path.name not in ("build", "dist") and not path.name.startswith(".")]
    paths = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file()]
    skipped = {"__pycache__", "trace", "trace.npz", "checkpoint"}
    return [path.relative_to(ROOT).as_posix() for path in paths if not skipped & {*path.parts}]


def place(name: str) -> str:
    """Path of a file once installed: strategies and streams lie within the package.

    >>> place("streams/online.py"), place("tests/conftest.py")
    ('clbench/streams/online.py', 'tests/conftest.py')
    """
    return f"clbench/{name}" if name.startswith(PARTS) else name


def copy(names: Iterable[str], folder: Path, *, installed: bool) -> None:
    """Copies files of the repository.

    Args:
        names: as `files` gives them.
        folder: where to.
        installed: whether they are laid out as installed, so that PYTHONPATH alone finds all of the package.
    """
    for name in names:
        target = folder / (place(name) if installed else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
