"""Examples: those in docstrings of every module, under the name that it has once installed, and docs/python.md."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

import checkout
import clbench
from clbench import source

MODULES = sorted(
    label.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for label, path in source.files()
    if ">>>" in path.read_text(encoding="utf-8")
)


def test_most_of_what_can_have_an_example_is_found() -> None:
    assert {"clbench.metrics.gap", "clbench.strategies.ewc", "clbench.streams.schedules.draws"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0, name


def blocks(page: str) -> list[str]:
    """The code of a page: indented blocks, in their order."""
    text = (checkout.ROOT / "docs" / page).read_text(encoding="utf-8")
    return [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|(?<=\n)\n(?=    ))+", text, re.MULTILINE)]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a notebook, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    return vars(notebook)


def test_the_page_on_python_runs_as_it_stands(names: dict[str, Any]) -> None:
    """With fewer updates in every run but the first."""
    for block in blocks("python.md"):
        exec(compile(block.replace('"iterations": 20', '"iterations": 2'), "docs/python.md", "exec"), names)
    assert [run.status for run in names["runs"]] == ["completed"] * 8
    assert sorted(names["frame"]["label"]) == ["a_notebook:Smoothed", "er", "er", "er (memory 50)", "er+ewc"]
    assert len(names["exported"].train_stream) == 5
    assert {int(v) for v in names["watch"].trace().experience} == set(range(5))
    assert clbench.read_run(names["folder"]).record.made_by == "script"
    assert (names["correct"] == names["run"].trace.correct["class"][-1]).all()
