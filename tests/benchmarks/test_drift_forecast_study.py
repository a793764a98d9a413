"""The study of forecasts through failures: what it measures, and the tables made of its lines."""

from __future__ import annotations

import importlib
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

study: Any = importlib.import_module("drift_forecast")


def record() -> tuple[np.ndarray, Any]:
    """Errors of three tasks at nine evaluations: 2 updates in the first regime, 8 in the failure, 2 after it."""
    experience = np.array([0, 0, 1, 1, 1, 1, 1, 2, 2])
    phase = np.array([0, 3, 0, 1, 1, 1, 3, 0, 3])
    iteration = np.array([0, 2, 2, 3, 4, 8, 10, 10, 12])
    errors = np.full((9, 3), np.nan)
    errors[:, 0] = [4, 2, 2, 2, 2, 2, 2, 2, 2]
    errors[1:, 1] = [24, 24, 18, 9, 4, 2, 2, 2]  # in units of persistence 12, 12, 9, 4.5, 2, 1
    return errors, SimpleNamespace(experience=experience, phase=phase, iteration=iteration)


def test_a_failure_is_described_in_units_of_persistence() -> None:
    errors, trace = record()
    [failure] = study.failures(errors, trace, np.array([1.0, 2.0, 1.0]), [0.0, 0.25, 0.0])
    assert (failure.moved, failure.before, failure.at, failure.after) == (0.25, 2.0, 12.0, 1.0)
    # 12 to 9 in one update, to 4.5 in one, to 2 in four, to 1 in two
    assert failure.mean == pytest.approx((10.5 + 6.75 + 13.0 + 3.0) / 8)
    assert failure.updates == 6  # 90 % of the rise from 2 to 12 is regained at 3, and the first below is 2


def test_what_never_comes_back_took_for_ever_and_no_rise_takes_nothing() -> None:
    errors, trace = record()
    errors[2:, 1] = 24
    [failure] = study.failures(errors, trace, np.array([1.0, 2.0, 1.0]), [0.0, 0.25, 0.0])
    assert failure.updates == math.inf
    errors[1:, 1] = 3
    [failure] = study.failures(errors, trace, np.array([1.0, 2.0, 1.0]), [0.0, 0.25, 0.0])
    assert failure.updates == 0


def line(learner: str, seed: int, moved: float, mean: float, updates: float = 5) -> dict[str, str]:
    numbers = {"moved": moved, "before": 1.0, "at": 3.0, "after": 1.5, "mean": mean, "updates": updates}
    texts = {name: f"{value:g}" for name, value in numbers.items()}
    return {"learner": learner, "seed": str(seed), "failure": "0", "choice": "", "samples": f"{updates * 4:g}", **texts}


def test_tables_keep_severities_apart_and_say_how_many_came_back() -> None:
    lines = [line("MLP, online", 0, 0.05, 2.0, 3), line("MLP, online", 1, 0.5, 8.0, math.inf)]
    lines += [line("MLP, online", 2, 0.6, 6.0, 7), line("MLP, online", 3, 0.3, 7.0, 9)]
    text = study.tables(lines)
    assert "| MLP, online | 1.00 | 3.00 | 2.00 | 1.50 | 1 of 1 | 3 | 12 |" in text
    assert "| MLP, online | 1.00 | 3.00 | 7.00 | 1.50 | 2 of 3 | 9 | 36 |" in text
    assert "0 failures." in text


def test_a_median_of_mostly_lost_failures_is_no_number() -> None:
    assert study.middle([1.0, math.inf, math.inf]) == "more than there are"
    assert study.middle([1.0, 2.0, math.inf]) == "2"


def test_pairs_are_compared_seed_by_seed() -> None:
    first, second = study.PAIRS[0]
    lines = [line(first, s, 0.5, v) for s, v in ((0, 3.0), (1, 4.0), (2, 5.0))]
    lines += [line(second, s, 0.5, v) for s, v in ((2, 6.0), (0, 2.0), (4, 1.0), (1, 4.0))]
    row = next(row for row in study.differences(lines) if row.startswith(f"| {first} | {second} "))
    assert row.endswith("| too few | too few | +0.00 ± 2.48 (3 seeds) |")


def test_every_learner_has_a_grid_of_three_or_nothing_to_choose() -> None:
    assert {len(learner.grid) for learner in study.LEARNERS} == {1, 3}
    assert [learner.name for learner in study.LEARNERS if len(learner.grid) == 1] == [
        "persistence", "seasonal persistence",
    ]  # fmt: skip
    names = {learner.name for learner in study.LEARNERS}
    assert {name for pair in study.PAIRS for name in pair} <= names
    assert study.HELD_OUT not in study.SEEDS


def test_the_series_is_that_of_the_benchmark() -> None:
    assert study.parameters(3).seed == 3
    assert study.parameters(3).days_before * study.parameters(3).steps_per_day * 4 // 5 == study._FIRST
