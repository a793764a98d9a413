"""Source folders of the suite: one package, whose folders `strategies` and `streams` lie beside it in a checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
PARTS = ("strategies", "streams")
"""Subpackages that a checkout keeps at its top."""


def folder(part: str) -> Path:
    """The folder of `clbench.strategies` or `clbench.streams`: within the package once installed, else beside it."""
    inside = PACKAGE / part
    return inside if inside.is_dir() else PACKAGE.parent / part


def files() -> Iterator[tuple[str, Path]]:
    """Modules of the suite with their names as installed, such as `clbench/strategies/er.py`, in either layout."""
    roots = {"clbench": PACKAGE} | {f"clbench/{part}": folder(part) for part in PARTS}
    for label, root in roots.items():
        for path in sorted(root.glob("**/*.py")):
            if root is PACKAGE and path.relative_to(root).parts[0] in PARTS:
                continue
            yield f"{label}/{path.relative_to(root).as_posix()}", path
