"""The recipes of CONTRIBUTING.md, followed to the letter on a copy of the repository."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import checkout

pytestmark = pytest.mark.xdist_group("contributing")  # what its tests share is made once

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


SERVER = """
import json, os, runpy, sys, traceback
import numpy, pandas, pytest, scipy.stats, sklearn.datasets, torch, torch._dynamo, yaml

assert not [name for name in sys.modules if name.partition(".")[0] == "clbench"]
for line in sys.stdin:
    folder, arguments, output = json.loads(line)
    child = os.fork()
    if not child:
        written = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(written, 1), os.dup2(written, 2)
        os.chdir(folder)
        sys.path[:1] = ["", folder]  # as `python -m` and PYTHONPATH have it
        os.environ["PYTHONPATH"] = folder
        sys.argv = ["pytest", *arguments]
        status = 1
        try:
            runpy.run_module("pytest", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Pytest:
    """`python -m pytest`, in processes forked from one that has imported other packages, which takes seconds."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], folder: Path) -> tuple[int, str]:
        """Exit status and output."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        output = folder / "output"
        self._server.stdin.write(json.dumps([str(folder), arguments, str(output)]) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline()), output.read_text(encoding="utf-8")

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()


@pytest.fixture(scope="module")
def python() -> Iterator[Pytest]:
    started = Pytest()
    yield started
    started.close()


def run(steps: list[Step], folder: Path, python: Pytest) -> tuple[int, str]:
    """Exit status and output of a recipe's command, stopped at the first failure."""
    (command,) = (step.text for step in steps if step.kind == "sh")
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert [program, *arguments[:2]] == ["python", "-m", "pytest"]
    return python.run([*map(checkout.place, arguments[2:]), "-x", "-p", "no:cacheprovider"], folder)


# ------------------------------------------------------------------------------------------------ tests
@pytest.mark.parametrize("section", TABLES)
def test_a_recipe_ends_green(section: str, copy: Path, python: Pytest) -> None:
    steps = recipe(section)
    follow(steps, copy)
    status, said = run(steps, copy, python)
    assert status == 0, said


@pytest.mark.parametrize("section", TABLES)
def test_a_recipe_without_the_row_is_red(section: str, copy: Path, python: Pytest) -> None:
    steps = recipe(section)
    assert TABLES[section] in {step.file for step in steps}
    follow(steps, copy, without=TABLES[section])
    status, said = run(steps, copy, python)
    assert status == 1, said
    assert re.search(r"\d failed", said), said


def test_a_diff_whose_context_is_gone_is_an_error() -> None:
    assert changed("a\nb\n", " a\n+c\n-b\n") == "a\nc\n"
    with pytest.raises(AssertionError, match="these lines are there 0 times"):
        changed("b\n", " a\n+c\n")
