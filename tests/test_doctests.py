"""Examples: those in docstrings of every module, under the name that it has once installed, and docs/python.md."""

from __future__ import annotations

import doctest
import importlib
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import checkout
from clbench import source
from clbench.cli import main

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


def test_the_page_on_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (checkout.ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    streams, plugin, results, predictions = re.findall(r"(?:^    .*\n|(?<=\n)\n(?=    ))+", page, re.MULTILINE)
    assert main(["run", "split_digits-v1", "--strategy", "er", "-o", "training.iterations=2", "--keep", "weights"]) == 0
    names: dict[str, Any] = {}
    for block in (streams, plugin, results, predictions):
        exec(compile(textwrap.dedent(block), "docs/python.md", "exec"), names)
    assert len(names["benchmark"].train_stream) == 5
    assert {int(v) for v in names["watch"].trace().experience} == set(range(5))
    assert names["record"]["costs"]["iterations"] == names["trace"].iteration[-1] == 10
    assert (names["correct"] == names["trace"].correct["class"][-1]).all()
