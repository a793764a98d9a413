"""The architecture: rooms of the package in their order, every import downwards, and no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from clbench import source

FLOORS = (
    "errors lazy malloc source apportion summation formatting labels rng moved names weak prequential measures",
    "__init__",
    "schema trace on_disk import_paths tracebacks",
    "messages dataset metrics",
    "stream",
    "streams",
    "config",
    "strategy results",
    "composition training",
    "strategies registry pretrained",
    "run_config initial_weights",
    "resolve loggers evaluation",
    "reports",
    "avalanche estimators",
    "runner",
    "testing studies extraction",
    "cli",
    "api",
    "__main__",
)
"""From the ground up. A room is a file or a folder at the top of the package."""

LONGEST_FILE = 500
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
FILES = {label.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for label, path in source.files()}


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imports(module: str, path: Path) -> Iterator[tuple[str, int]]:
    """Modules of the package that a file imports anywhere, with the line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if module == "clbench":  # the package names its interface for type checkers, and imports it at the first use
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))]
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else node.module for name in below]
        yield from ((name, node.lineno) for name in names if name in FILES and name != module)


def test_every_room_has_a_floor() -> None:
    assert FLOOR.keys() == {room(module) for module in FILES}


def test_every_import_runs_downwards() -> None:
    wrong = [
        f"{path}:{line}: {room(module)} imports {room(name)}"
        for module, path in FILES.items()
        for name, line in imports(module, path)
        if room(module) != room(name) and FLOOR[room(module)] <= FLOOR[room(name)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    below = {module: {name for name, _ in imports(module, path)} for module, path in FILES.items()}
    while leaves := {module for module, names in below.items() if not names & below.keys()}:
        below = {module: names for module, names in below.items() if module not in leaves}
    assert not below, sorted(below)


def test_no_file_is_long() -> None:
    long = {
        module: n for module, path in FILES.items() if (n := len(path.read_text("utf-8").splitlines())) > LONGEST_FILE
    }
    assert not long
