"""Metrics of errors and losses against an oracle. Losses of samples are eighths, so that sums over cells are exact."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench import metrics
from clbench.measures import MEASURES, measure_of
from clbench.metrics.gap import anatomy
from clbench.testing.traces import make_measured_trace
from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace
from exact import Plan, Record, attempt, bounded, build, cut, parts, plans, same, standard_error
from losses import PART, VALUE, WEIGHTED, resolution

SAMPLES = {"domain": "squared_error", "class": "log_loss", "task": "log_loss", "class.ema_0.99": "log_loss"}
"""Measure that a random record of each view is of."""


# ------------------------------------------------------------------------------------------------ comparing


def measured(plan: Plan) -> Trace:
    """The random record of a plan, of losses in eighths in place of right answers.

    A sample has one loss where it is right and another where it is wrong, and now and then that of the look before.
    """
    trace, rng = build(plan), random.Random(plan.seed)
    sums, values = {}, {}
    for view, counts in trace.correct.items():
        right = trace.sample_correct(view) if plan.recorded else None
        held = np.full((len(counts), len(trace.sample_cell)), np.nan, np.float32)
        losses = [(rng.randint(0, 16) / 8, rng.randint(0, 40) / 8) for _ in trace.sample_cell]
        for s, k in enumerate(trace.sample_cell.tolist()):
            for e in range(len(counts)):
                if counts[e, k] >= 0:
                    is_right = counts[e, k] > s % trace.cell_size[k] if right is None else right[e, s]
                    old = held[e - 1, s] if e else np.nan
                    held[e, s] = old if rng.random() < 0.2 and not np.isnan(old) else losses[s][0 if is_right else 1]
        stop = np.cumsum(trace.cell_size)
        name = f"{view}:{SAMPLES[view]}"
        sums[name] = np.add.reduceat(held.astype(np.float64), [0, *stop[:-1]], axis=1)
        values |= {name: held} if plan.recorded else {}
    return dataclasses.replace(trace, correct={}, bits={}, predicted={}, sums=sums, values=values)


def pieces(trace: Trace, seed: int, share: float = 0.3) -> Trace:
    """The same record as if passes had come in chunks."""
    marked = dataclasses.replace(trace, rows=np.arange(len(trace.iteration)))  # not read while it is cut
    look = np.arange(len(trace.iteration), dtype=np.int32)[:, None]
    split = cut(dataclasses.replace(marked, correct={"look": look}), random.Random(seed), share)
    take = split.correct["look"][:, 0]
    return dataclasses.replace(
        split,
        rows=trace.rows,
        correct={view: counts[take] for view, counts in trace.correct.items()},
        sums={name: sums[take] for name, sums in trace.sums.items()},
        values={name: values[take] for name, values in trace.values.items()},
    )


def check(trace: Trace) -> None:
    """Every metric, part, resolution and sampling error of every record of a measure."""
    computed = metrics.compute(trace)
    assert computed.keys() == {*trace.correct, *trace.sums}
    for view in trace.sums:
        r, found = Record(trace, view), computed[view]
        for name, value in VALUE.items():
            entry, where, expected = found[name], f"{view} {name}", attempt(value, r)
            same(entry["value"], None if expected is None else expected.value, where)
            for k, got in enumerate(parts(entry)):
                one = attempt(PART[name], r, k)
                same(got, None if one is None else one.value, f"{where}[{k}]")
            assert ("se" in entry) == (name in WEIGHTED), where
            if name in WEIGHTED and expected is not None:
                same(entry["se"], standard_error(trace, view, expected), f"{where} se", 1e-7)
            if "resolution" in entry:
                assert entry["resolution"] == (None if expected is None else resolution(r, name)), where


# ------------------------------------------------------------------------------------------------ agreement


def test_the_oracle_of_losses_knows_every_metric() -> None:
    """Those of incoming samples have an oracle of their own, `test_prequential.py`."""
    for measure in MEASURES:
        known = metrics.metrics_of(f"domain:{measure}")
        assert {name for name, metric in known.items() if metric.record is None} == VALUE.keys() == PART.keys()
        assert {metric.name for metric in known.values()} == known.keys()


def test_the_oracle_of_losses_by_hand() -> None:
    """Task 0 is down at 1 when task 1 comes, rises to 5 with the first update, and is at 1/2 with the fourth."""
    first = [[9, 5, 3, 2, 1, 1], [8] * 6]
    second = [[1, 5, 3, 2, 0.5, 0.5], [8, 7, 3, 2, 2, 2]]
    trace = make_measured_trace(np.array([np.transpose(first), np.transpose(second)]))
    r = Record(trace, "domain:squared_error")
    for name, exact in {
        "average": "5/4",
        "average_incremental": "9/8",  # (1 + 5/4) / 2
        "forgetting.after_learning": "-1/2",  # 1/2 - 1
        "forgetting.max_including_last": "0",
        "forgetting.share_of_learnt": "-1/16",  # -1/2 of 9 - 1
        "backward_transfer.gem": "1/2",
        "forward_transfer.gem": "0",
        "forward_transfer.all_pairs": "8",
        "worst": "5",
        "worst_case": "7/2",  # (5 + 2) / 2
        "wf_10": "2",  # (5 - 1 + 0) / 2
        "wp_10": "19/4",  # (5 - 1/2 + 7 - 2) / 2
        "anytime": "231/64",  # (15 + 13.875) / 8
        "forward_facilitation.90_of_gain": "1/4",  # 1 - 2.4 / 3.2
        "recency_bias": "-3/2",  # 1/2 - 2
        "sessions.final": "5/4",
        "sessions.performance_drop": "1/4",
        "gap.depth": "4",
        "gap.iterations_to_trough": "1",
        "gap.area": "41/6",  # 2 + 3 + 1.5 + 1/3
        "gap.recovery_90_of_drop": "3.4",  # 1.4 between 2 after 3 updates and 0.5 after 4
        "gap.recovered_90_of_drop": "1",
        "gap.permanent": "0",
        "gap.transient": "4",
        "gap.regained": "1",
    }.items():
        assert VALUE[name](r).value == Fraction(exact), (name, VALUE[name](r).value)
    assert attempt(VALUE["savings.90_of_gain"], r) is None
    check(trace)


@bounded(60)
@given(plan=plans("square"))
def test_losses_of_square_streams(plan: Plan) -> None:
    check(measured(plan))


@bounded(60)
@given(plan=plans("recurring"))
def test_losses_of_recurring_visits(plan: Plan) -> None:
    check(measured(plan))


@bounded(60)
@given(plan=plans("mixture"))
def test_losses_of_several_tasks_in_one_experience(plan: Plan) -> None:
    check(measured(plan))


@bounded(80)
@given(plan=plans(missing=True))
def test_losses_that_are_missing(plan: Plan) -> None:
    """A value that touches one is None, and never 0."""
    check(measured(plan))


@bounded(60)
@given(plan=plans(), missing=st.booleans())
def test_losses_of_chunks(plan: Plan, missing: bool) -> None:
    whole = measured(dataclasses.replace(plan, missing=0.02 if missing else 0.0))
    check(pieces(whole, plan.seed))
    one, other = metrics.compute(whole), metrics.compute(pieces(whole, plan.seed + 1))
    for view, found in one.items():
        for name, entry in found.items():
            same(entry["value"], other[view][name]["value"], name, 1e-12)


@bounded(40)
@given(plan=plans(), seed=st.integers(0, 1000))
def test_a_loss_that_is_infinite_leaves_undefined_what_it_touches(plan: Plan, seed: int) -> None:
    trace, rng = measured(plan), random.Random(seed)
    for name, sums in trace.sums.items():
        for e in range(len(sums)):
            k = rng.randrange(len(trace.cell_size))
            if rng.random() < 0.05 and not np.isnan(sums[e, k]):
                sums[e, k] = math.inf
                if plan.recorded:
                    trace.values[name][e, np.flatnonzero(trace.sample_cell == k)[0]] = math.inf
    check(trace)


def test_a_cell_in_two_tasks_counts_in_both() -> None:
    trace = measured(Plan([[0], [1]], [2, 2], [[5, 7], [6]], views=("domain",), seed=3))
    check(dataclasses.replace(trace, task_cells=np.array([[True, True, False], [False, True, True]])))


@pytest.mark.parametrize(("count", "entries"), [(NOT_EVALUATED, 0), (UNAVAILABLE, 1)])
def test_counts_beside_a_loss_say_why_it_is_missing(count: int, entries: int) -> None:
    counted = build(Plan([[0], [1]], [2, 2], [[3], [3]], views=("class",)))
    trace = measured(Plan([[0], [1]], [2, 2], [[3], [3]], views=("class",)))
    counted.correct["class"][counted.experience == 1, 0] = count
    trace.sums["class:log_loss"][trace.experience == 1, 0] = np.nan
    trace = dataclasses.replace(trace, correct=counted.correct)
    assert len(anatomy(trace, "class:log_loss")) == len(anatomy(trace, "class")) == entries
    check(trace)


# ------------------------------------------------------------------------------------------------ properties


@bounded(60)
@given(plan=plans(), missing=st.booleans())
def test_every_value_is_in_its_range_and_no_zero_is_negative(plan: Plan, missing: bool) -> None:
    for view, found in metrics.compute(measured(dataclasses.replace(plan, missing=0.02 if missing else 0.0))).items():
        for name, entry in found.items():
            low, high = metrics.metrics_of(view)[name].range
            numbers = [x for x in (entry["value"], entry.get("se"), *parts(entry)) if x is not None]
            assert not any(x == 0 and math.copysign(1, x) < 0 for x in numbers), name
            assert entry["value"] is None or low - 1e-9 <= entry["value"] <= high + 1e-9, name


@bounded(40)
@given(plan=plans(), power=st.sampled_from([-60, 40]))
def test_another_unit_moves_values_by_its_factor_and_no_share_and_no_time(plan: Plan, power: int) -> None:
    """Losses of 1e-18 and of 1e12: what counts as equal is a share of them."""
    trace, factor = measured(plan), 2.0**power
    scaled = dataclasses.replace(
        trace,
        sums={name: sums * factor for name, sums in trace.sums.items()},
        values={name: values * np.float32(factor) for name, values in trace.values.items()},
    )
    one, other = metrics.compute(trace), metrics.compute(scaled)
    for view, found in one.items():
        unit = measure_of(view).unit  # type: ignore[union-attr]
        for name, entry in found.items():
            moves = metrics.metrics_of(view)[name].unit.startswith(unit)
            for key in ("value", "se"):
                a, b = entry.get(key), other[view][name].get(key)
                assert (a is None) == (b is None), name
                assert a is None or math.isclose(a * (factor if moves else 1), b, rel_tol=1e-9, abs_tol=0), name


@bounded(30)
@given(plan=plans(), seed=st.integers(0, 1000))
def test_the_order_of_samples_and_cells_moves_no_bit(plan: Plan, seed: int) -> None:
    """Sums are rounded once, so that neither an order nor a processor is in them."""
    draw, trace = np.random.Generator(np.random.PCG64(seed)), measured(dataclasses.replace(plan, recorded=True))
    cells = draw.permutation(len(trace.cell_size))
    samples = np.concatenate([draw.permutation(np.flatnonzero(trace.sample_cell == k)) for k in cells])
    values = {name: held * draw.lognormal(size=held.shape).astype(np.float32) for name, held in trace.values.items()}

    def summed(held: Any, owner: Any) -> Any:
        return np.array([[math.fsum(row[owner == k]) for k in range(len(cells))] for row in held.astype(np.float64)])

    one = dataclasses.replace(
        trace, values=values, sums={name: summed(held, trace.sample_cell) for name, held in values.items()}
    )
    other = dataclasses.replace(
        one,
        sums={name: sums[:, cells] for name, sums in one.sums.items()},
        values={name: held[:, samples] for name, held in values.items()},
        cell_class=trace.cell_class[cells],
        cell_size=trace.cell_size[cells],
        cell_population=trace.cell_population[cells],
        task_cells=trace.task_cells[:, cells],
    )
    assert json.dumps(metrics.compute(one)) == json.dumps(metrics.compute(other))


@bounded(30)
@given(plan=plans(), step=st.integers(2, 5))
def test_fewer_looks_move_a_value_to_the_side_that_its_bound_says(plan: Plan, step: int) -> None:
    fine = measured(dataclasses.replace(plan, every=1, changes=0.0))
    start = [int(fine.iteration[fine.experience == v].min()) for v in range(len(fine.visits))]
    within = fine.iteration - np.array(start)[fine.experience]
    kept = (fine.phase != Phase.ITERATION) | (within % step == 0)
    coarse = dataclasses.replace(
        fine,
        every=step,
        sums={name: sums[kept] for name, sums in fine.sums.items()},
        values={name: held[kept] for name, held in fine.values.items()},
        **{name: getattr(fine, name)[kept] for name in ("iteration", "experience", "phase")},
    )
    exact, bound = metrics.compute(fine), metrics.compute(coarse)
    for view, found in exact.items():
        for name, entry in found.items():
            metric, a, b = metrics.metrics_of(view)[name], entry["value"], bound[view][name]["value"]
            if metric.bound is not None and a is not None and b is not None:
                assert metric.bound == "lower", "a largest loss is missed, never made up"
                assert b <= a + 1e-12, name


def test_a_metric_of_a_measure_is_computed_of_a_plain_trace_too() -> None:
    trace = measured(Plan([[0], [1], [0]], [4, 3, 5], [[5, 7], [6]], views=("domain",), seed=3))
    for name, entry in metrics.compute(trace)["domain:squared_error"].items():
        value = metrics.metrics_of("domain:squared_error")[name].compute(trace, "domain:squared_error").value
        assert (None if math.isnan(value) else value) == entry["value"], name


def test_units_and_directions_of_measures() -> None:
    for name, metric in metrics.metrics_of("domain:squared_error").items():
        if metric.record is not None:
            continue
        level = name.split(".")[0] in {"average", "average_incremental", "worst", "worst_case", "lca_10", "anytime"}
        assert metric.unit in {"squared units", "squared units x iterations", "iterations", "share"}, name
        assert not level or (metric.better, metric.range, metric.unit) == ("lower", (0, math.inf), "squared units")
        assert metric.range[0] in (0, -math.inf), name
        assert "accuracy" not in f"{metric.title} {metric.formula}", name
