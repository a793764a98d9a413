"""The recipes of CONTRIBUTING.md, followed to the letter on a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkout

TABLES = {
    "A strategy": "strategies/__init__.py",
    "A metric": "clbench/metrics/__init__.py",
    "A schedule or a family of tasks": "streams/definition.py",
}
"""Section of each recipe, and the file with the rows by which the suite knows the new part."""

BLOCK = re.compile(r"^ *```(python|diff|sh)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^\d\. (?:Create|Add) .*?`([\w/]+\.(?:py|md))`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of a recipe.

    Attributes:
        kind: python (a new file), diff (a changed one) or sh (the command).
        file: the last one that a numbered step names before the block.
        text: its content, without the list's indentation.
    """

    kind: str
    file: str
    text: str


def recipe(section: str) -> list[Step]:
    """The blocks of a section of CONTRIBUTING.md."""
    text = (checkout.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {section}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    steps = []
    for block in BLOCK.finditer(body):
        number = re.findall(r"^\d\. .*?(?=\n\n)", body[: block.start()], re.MULTILINE | re.DOTALL)[-1]
        named = FILE.match(number)
        content = "".join(line.removeprefix("   ") for line in block[2].splitlines(keepends=True))
        steps.append(Step(block[1], named[1] if named else "", content))
    return steps


def changed(text: str, diff: str) -> str:
    """A text with the lines of a diff put in and taken out; its context must be there once."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    assert text.count(before) == 1, f"these lines are there {text.count(before)} times:\n{before}"
    return text.replace(before, after)


# ------------------------------------------------------------------------------------------------ a copy
@pytest.fixture
def copy(repository_files: list[str], tmp_path: Path) -> Path:
    """The repository in another folder, laid out as installed, so that PYTHONPATH alone finds all of it."""
    checkout.copy(repository_files, tmp_path, installed=True)
    return tmp_path


def follow(steps: list[Step], folder: Path, without: str | None = None) -> None:
    """Creates and changes the files of a recipe.

    Args:
        steps: of the recipe.
        folder: the copy.
        without: a file that is left as it is.
    """
    for step in steps:
        path = folder / checkout.place(step.file)
        if step.kind == "python":
            assert not path.exists(), f"{step.file} exists already"
            path.write_text(step.text, encoding="utf-8")
        elif step.kind == "diff" and step.file != without:
            path.write_text(changed(path.read_text(encoding="utf-8"), step.text), encoding="utf-8")


def run(steps: list[Step], folder: Path) -> subprocess.CompletedProcess[str]:
    """The result of a recipe's command, stopped at the first failure."""
    (command,) = (step.text for step in steps if step.kind == "sh")
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "python"
    return subprocess.run(
        [sys.executable, *map(checkout.place, arguments), "-x", "-p", "no:cacheprovider"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ tests
@pytest.mark.parametrize("section", TABLES)
def test_a_recipe_ends_green(section: str, copy: Path) -> None:
    steps = recipe(section)
    follow(steps, copy)
    done = run(steps, copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("section", TABLES)
def test_a_recipe_without_the_row_is_red(section: str, copy: Path) -> None:
    steps = recipe(section)
    assert TABLES[section] in {step.file for step in steps}
    follow(steps, copy, without=TABLES[section])
    done = run(steps, copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\d failed", done.stdout), done.stdout


def test_a_diff_whose_context_is_gone_is_an_error() -> None:
    assert changed("a\nb\n", " a\n+c\n-b\n") == "a\nc\n"
    with pytest.raises(AssertionError, match="these lines are there 0 times"):
        changed("b\n", " a\n+c\n")
