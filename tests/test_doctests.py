"""Examples: those in docstrings of every module, under the name that it has once installed, and the pages of docs/."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkout
import clbench
from clbench import cli, source
from clbench.testing import check_resume, make_trace
from support import make_run

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
    return [
        textwrap.dedent(block).strip("\n") + "\n"
        for block in re.findall(r"(?:^    .*\n|(?<=\n)\n+(?=    ))+", text, re.MULTILINE)
    ]


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


# ------------------------------------------------------------------------------------------------ from an empty file on
FILE = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")
SMALLER = {
    "v1, permuted_digits-v1]": "v1]",
    "iterations: 100": "iterations: 2",
    "iterations: 50": "iterations: 2",
    '"iterations": 100': '"iterations": 2',
    "seeds: 5": "seeds: 1",
    "range(5)": "range(2)",
}
"""What a page says, and what is done."""


def follow(page: str, names: dict[str, Any]) -> None:
    """Does what a page says: writes its files, runs its commands and its Python, with fewer updates and seeds."""
    verbs = {verb for verb in vars(cli) if not verb.startswith("_")}
    for block in blocks(page):
        for text, smaller in SMALLER.items():
            block = block.replace(text, smaller)
        parts = re.split(r"\n\n(?=clbench )", block)  # commands may stand below a file, after an empty line
        for part in parts:
            if named := FILE.match(part):
                Path(named[1]).parent.mkdir(exist_ok=True)
                Path(named[1]).write_text(part, encoding="utf-8")
                importlib.invalidate_caches()
            elif part.startswith("clbench "):
                for line in part.strip().splitlines():
                    _, verb, *words = shlex.split(line, comments=True)
                    words = [
                        str(next(Path("results").rglob("seed-0"))) if word == "RUN_DIR" else word for word in words
                    ]
                    if verb != "report" or "report" in verbs:
                        assert cli.main([verb, *words]) == 0, line
            else:
                exec(compile(part, page, "exec"), names)


@pytest.mark.parametrize("page", ["own_strategy", "own_stream", "own_metric", "own_data"])
def test_a_page_from_an_empty_file_to_the_report(
    page: str, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path.cwd())
    try:
        follow(f"tutorials/{page}.md", names)
        CHECKS[page](names)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
            del sys.modules[name]


def _strategy(names: dict[str, Any]) -> None:
    assert names["run"].note == "finished earlier, not repeated"
    assert [run.status for run in names["runs"]] == ["completed"] * 5
    importlib.import_module("my_lab.test_methods")
    check_resume(make_run("my_lab.methods:Anchored", "stream.tasks.count=2", iterations=2))
    rows = clbench.leaderboard("results").frame.query("strategy == 'my_lab.methods:Anchored'")
    assert rows["memory_bytes"].gt(0).all()


def _stream(names: dict[str, Any]) -> None:
    visits = names["benchmark"].compile(0).visit_matrix().astype(int).tolist()
    assert visits[3] == [1, 1, 0, 0, 0]
    assert len(visits) == 6
    assert len(names["control"].trace.visits) == 5
    assert len(clbench.read_runs("results")) == 5


def _metric(names: dict[str, Any]) -> None:
    trace = make_trace(np.array([[0.0, 0.8, 0.3, 0.5, 0.5]]).reshape(1, 5, 1), every=2)  # below 0.4 once
    assert names["updates_below_half"](trace, "class") == 2
    definition = importlib.import_module("my_lab.definitions").BELOW_HALF
    assert clbench.score(trace, definition)["value"].tolist() == pytest.approx([1 / 3])
    assert names["frame"]["updates_below_half"].tolist() == [
        names["updates_below_half"](run.trace, "class") for run in clbench.read_runs("results")
    ]
    assert Path("first_task.png").exists()


def _data(names: dict[str, Any]) -> None:
    assert names["run"].record.stream.samples == 144  # 178 without every fifth of 59, 71 and 48
    assert {run.status for run in clbench.read_runs("results")} == {"completed"}
    assert Path("accuracy.png").exists()


CHECKS = {"own_strategy": _strategy, "own_stream": _stream, "own_metric": _metric, "own_data": _data}
"""What is true after a page."""
