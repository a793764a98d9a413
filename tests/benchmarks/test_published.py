"""The table of published numbers: its commands are right, and its rule of agreement says what it should."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest

from clbench import run_config

reproduce: Any = importlib.import_module("reproduce")
COMMANDS = [command for row in reproduce.rows() for command in (row.run, row.minus) if command]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_rows_command_is_right(command: str) -> None:
    run = reproduce.planned(command)
    assert isinstance(run, run_config.RunConfig)


def row(**more: object) -> Any:
    return reproduce.Row(name="a", run="", published=50.0, source="", sure="", **more)


def test_intervals_that_overlap_agree() -> None:
    """Mean 52, deviation 1, n 5: half width 2.776 / sqrt 5 = 1.2416."""
    values = [50.735, 51.3675, 52.0, 52.6325, 53.265]
    mean, half = reproduce.interval(values)
    assert (mean, half) == (pytest.approx(52.0), pytest.approx(1.2416, abs=1e-3))
    assert reproduce.verdict(row(error={"sem": 0.4}), values) == "agrees", "1.24 + 0.784 > 2"
    assert reproduce.verdict(row(error={"sem": 0.3}), values) == "**higher by 2.00**"
    assert reproduce.verdict(row(), values) == "**higher by 2.00**"
    assert reproduce.verdict(row(), [52.0]) == "1 seed: +2.00"
    assert reproduce.verdict(row(), [51.0, 53.0]) == "2 seeds: +2.00"
    assert reproduce.verdict(row(), []) == "not run"
    assert reproduce.verdict(row(), [v - 4 for v in values]) == "**lower by 2.00**"


def test_the_width_of_a_published_number() -> None:
    assert row(error={"sem": 0.5}).half_width() == pytest.approx(0.98)
    assert row(error={"sd": 2.8, "n": 5}).half_width() == pytest.approx(2.776 * 2.8 / math.sqrt(5), abs=1e-3)
    assert row(digits=0).half_width() == 0.5


def test_a_value_is_read_from_the_streams_own_view() -> None:
    record = {"metrics": {"task": {"average_accuracy": 0.9}, "class": {"average_accuracy": 0.25}}}
    assert reproduce.value_of(record, "average_accuracy") == 25.0
    assert reproduce.value_of({"metrics": None}, "average_accuracy") is None
