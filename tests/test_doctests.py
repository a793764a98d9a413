"""Examples in docstrings: those of every module, under the name that it has once installed."""

from __future__ import annotations

import doctest
import importlib

import pytest

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
