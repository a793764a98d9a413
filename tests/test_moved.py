"""Import paths that moved: the old ones work, warn once with the new one, and are used by nobody in the package."""

from __future__ import annotations

import ast
import copy
import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench import moved, resolve, source
from clbench.stream import Timetable
from tests.support import assembled

NAMES = {
    "clbench.bridge": ("ContinualEvaluation", "benchmark"),
    "clbench.grammar": ("StreamConfig", "AnySchedule"),
    "clbench.statistics": ("summary", "interquartile_mean"),
}
"""Of a module that moved, what it was imported for."""

EXPORT = "clbench.stream:Stream.to_avalanche"
ATTRIBUTES = {old: new for old, new in moved.MOVED.items() if "." in old.partition(":")[2] and old != EXPORT}
PATHS = {old: new for old, new in moved.MOVED.items() if old not in (EXPORT, *ATTRIBUTES)}

LOOK_UP = """
import importlib, json, sys, warnings

def look_up(path):
    module, _, name = path.partition(":")
    value = importlib.import_module(module)
    return getattr(value, name) if name else value

def watched(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return action(), [f"{warning.category.__name__}: {warning.message}" for warning in caught]

said, same = {}, {}
for old, (new, names) in json.loads(sys.argv[1]).items():
    value, said[old] = watched(lambda: (look_up(old), look_up(old))[0])
    target = look_up(new)
    same[old] = all(getattr(value, n) is getattr(target, n) for n in names) if names else value is target

from clbench.resolve import resolve
from clbench.streams.compile import compile_stream
stream = compile_stream(resolve("split_synthetic-v1", need_strategy=False)[0].stream, 0)
exported, export = watched(stream.to_avalanche)
same[sys.argv[2]], said[sys.argv[2]] = len(exported.train_stream) == len(stream.experiences), export
print(json.dumps([said, same]))
"""


def sentence(old: str) -> str:
    before, after = (path.replace(":", ".") for path in (old, moved.MOVED[old]))
    return f"{before} is now {after}; the old path goes with version 0.3."


def test_old_paths_lead_to_the_new_places_and_say_so_once() -> None:
    """In a process that has imported none of them, since an import warns the first time."""
    table = json.dumps({old: (new, NAMES.get(old, ())) for old, new in PATHS.items()})
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP, table, EXPORT],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, same = json.loads(done.stdout)
    paths = [*PATHS, EXPORT]
    assert said == {old: [f"DeprecationWarning: {sentence(old)}"] for old in paths}
    assert same == dict.fromkeys(paths, True)


def test_the_warning_points_at_the_import(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\n\nimport clbench.grammar\nfrom clbench.stream import definition_hash\n")
    done = subprocess.run(
        [sys.executable, "-W", "default::DeprecationWarning", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "the old path" in line]
    assert lines == [
        f"{script}:3: DeprecationWarning: {sentence('clbench.grammar')}",
        f"{script}:4: DeprecationWarning: {sentence('clbench.stream:definition_hash')}",
    ]


@pytest.fixture(scope="module")
def instances() -> dict[str, Any]:
    bench = assembled(resolve.make_run("split_synthetic-v1", strategy="naive"))
    strategy = bench.strategy
    known = (bench.stream, Timetable(list(bench.stream.experiences)), strategy.setup, strategy)
    return {base.__name__: each for each in known for base in type(each).__mro__}


@pytest.mark.parametrize("old", ATTRIBUTES)
def test_old_attributes_are_the_new_ones_and_say_so(old: str, instances: dict[str, Any]) -> None:
    holder, name = old.partition(":")[2].split(".")
    new = ATTRIBUTES[old].rpartition(".")[2]
    instance = instances[holder]
    with pytest.warns(DeprecationWarning, match=re.escape(sentence(old))) as caught:
        value = getattr(instance, name)
    assert [(str(w.message), w.filename) for w in caught] == [(sentence(old), __file__)]
    assert value is getattr(instance, new)


@pytest.mark.parametrize("old", [old for old in ATTRIBUTES if "Strategy." not in old])
def test_data_classes_take_the_old_keywords_and_say_so(old: str, instances: dict[str, Any]) -> None:
    holder, name = old.partition(":")[2].split(".")
    new, instance, other = ATTRIBUTES[old].rpartition(".")[2], instances[holder], object()
    with pytest.warns(DeprecationWarning, match=re.escape(sentence(old))) as caught:
        changed = dataclasses.replace(instance, **{name: other})
    assert [str(w.message) for w in caught] == [sentence(old)]
    assert getattr(changed, new) is other
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance) if f.name != new}
    with pytest.warns(DeprecationWarning, match=re.escape(sentence(old))) as caught:
        made = type(instance)(**values, **{name: other})
    assert [(str(w.message), w.filename) for w in caught] == [(sentence(old), __file__)]
    assert getattr(made, new) is other


def test_a_strategy_may_hold_a_value_of_its_own_under_an_old_name(instances: dict[str, Any]) -> None:
    """Users' strategies may count visits of their own."""
    strategy = copy.copy(instances["Strategy"])
    strategy.visits = 7
    assert strategy.visits == 7
    assert strategy.task_blocks == 0


@pytest.mark.parametrize("path", ["clbench.runner", "clbench.stream"])
def test_other_names_are_missing_as_ever(path: str) -> None:
    with pytest.raises(AttributeError, match=rf"^module '{path}' has no attribute 'nothing'$"):
        _ = importlib.import_module(path).nothing


def test_the_package_uses_no_old_path() -> None:
    old = set(moved.MOVED) | {path.replace(":", ".") for path in moved.MOVED}
    for label, path in source.files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            used = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                used = {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
            assert not used & old, f"{label}:{getattr(node, 'lineno', 0)}"


def test_the_table_goes_with_version_0_3() -> None:
    import clbench

    assert clbench.__version__.startswith("0.2."), "clbench/moved.py and what calls it can go"
