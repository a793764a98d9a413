"""Metrics: numbers worked by hand for each, plain loops beside every short cut, and what must hold of any trace."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import hypergeom

from clbench import metrics
from clbench.metrics import definition, gap, worst_case
from clbench.metrics.dialects import ONLY_ONCE, Dialect, dialects
from clbench.metrics.sampling import standard_error
from clbench.testing.traces import make_trace
from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace

NAN = float("nan")


def found(trace: Trace, name: str, view: str = "class") -> definition.Value:
    return metrics.METRICS[name].compute(trace.by_origin(), view)


def ends(R: list[list[float]], visits: NDArray[np.bool_] | None = None, **options: object) -> Trace:
    """A trace of which only the ends of experiences matter: the accuracy is R[v] all through experience v."""
    return make_trace(np.array(R)[:, None].repeat(3, 1), visits, **options)  # type: ignore[arg-type]


def alternating(curve_first: list[float], *later: list[float]) -> Trace:
    """Task 0, task 1, task 0, task 0 and so on with task 1 between: curves of task 0 in its visits; task 1 has 0.5."""
    per, curves = len(curve_first), [curve_first, *later]
    accuracy = np.full((2 * len(curves) - 1, per, 2), 0.5)
    accuracy[::2, :, 0] = curves
    visits = np.zeros((len(accuracy), 2), bool)
    visits[::2, 0], visits[1::2, 1] = True, True
    return make_trace(accuracy, visits)


# Three tasks, one after another, two updates each: before, after one, after two, at the end.
CURVES = np.array(
    [
        [[0.1, 0.2, 0.0], [0.5, 0.2, 0.0], [0.8, 0.2, 0.0], [0.8, 0.2, 0.0]],
        [[0.8, 0.3, 0.1], [0.2, 0.5, 0.1], [0.6, 0.9, 0.1], [0.6, 0.9, 0.1]],
        [[0.6, 0.9, 0.2], [0.4, 0.3, 0.7], [0.7, 0.5, 1.0], [0.7, 0.5, 1.0]],
    ]
)
MIXED = [[0.5, 0.0, 0.0], [0.8, 0.9, 0.0], [0.9, 0.6, 1.0]]  # R where the three forgettings differ
N0, N1, N2 = 1 + 0.22 / 0.3, 1 + 0.31 / 0.4, 1 + 0.2 / 0.3  # updates until 0.72, 0.81, 0.9

BY_HAND = {
    # name: (value, parts)
    "average_accuracy": (2.2 / 3, [0.7, 0.5, 1.0]),
    "average_incremental_accuracy": ((0.8 + (0.6 + 0.9) / 2 + 2.2 / 3) / 3, [NAN] * 3),
    "forgetting.after_learning": (0.25, [0.1, 0.4, NAN]),
    "forgetting.chaudhry": (0.25, [0.1, 0.4, NAN]),
    "forgetting.max_including_last": (0.25, [0.1, 0.4, NAN]),
    "backward_transfer.gem": (-0.25, [-0.1, -0.4, NAN]),
    "backward_transfer.all_pairs": ((-0.2 - 0.1 - 0.4) / 3, [-0.15, -0.4, NAN]),
    "forward_transfer.gem": (NAN, [NAN] * 3),  # a view `class`
    "forward_transfer.all_pairs": ((0.3 + 0.1 + 0.2) / 3, [NAN, 0.3, 0.15]),
    "min_acc": (0.25, [0.2, 0.3, NAN]),
    "wc_acc": ((0.2 + 0.3 + 1.0) / 3, [0.2, 0.3, 1.0]),
    "wf_10": ((0.6 + 0.6 + 0.0) / 3, [0.6, 0.6, 0.0]),
    "wf_100": ((0.6 + 0.6 + 0.0) / 3, [0.6, 0.6, 0.0]),
    "wp_10": ((0.5 + 0.4 + 0.3) / 3, [0.5, 0.4, 0.3]),
    "wp_100": ((0.5 + 0.4 + 0.3) / 3, [0.5, 0.4, 0.3]),
    "min_acc.redraw_1000": (0.25, [0.2, 0.3, NAN]),  # 1,000 samples: used whole
    "wc_acc.redraw_1000": ((0.2 + 0.3 + 1.0) / 3, [0.2, 0.3, 1.0]),
    "lca_10.a_gem": (NAN, [NAN] * 3),  # two updates
    "lca_10.de_lange": (NAN, [NAN] * 3),
    "anytime_accuracy": (
        (0.95 + (0.9 + 1.1) / 2 + (1.05 + 1.0 + 1.3) / 3) / 6,
        [(0.95 + 0.9 + 1.05) / 6, (1.1 + 1.0) / 4, 1.3 / 2],
    ),
    "forward_facilitation.90": (1 - (N1 + N2) / 2 / N0, [N0, N1, N2]),
    "savings.90": (NAN, [NAN] * 3),  # nothing is visited twice
    "savings.90_reached": (NAN, [NAN] * 3),
    "knowledge_accumulation": (1.4 / 3, [0.8 / 3, 1.5 / 3, 2.2 / 3]),
    "recency_bias": ((0.3 + 0.4) / 2, [0.7 - 2.2 / 3, 0.5 - 2.2 / 3, 1.0 - 2.2 / 3]),
    "sessions.average": ((0.8 + 0.75 + 2.2 / 3) / 3, [0.8, 0.75, 2.2 / 3]),
    "sessions.final": (2.2 / 3, [0.8, 0.75, 2.2 / 3]),
    "sessions.performance_drop": (0.8 - 2.2 / 3, [0.0, 0.05, 0.8 - 2.2 / 3]),
    "sessions.base": (0.7, [0.8, 0.6, 0.7]),
    "sessions.new": (0.75, [NAN, 0.9, 0.75]),
    "sessions.harmonic_mean": (2 * 0.7 * 0.75 / 1.45, [NAN, 2 * 0.6 * 0.9 / 1.5, 2 * 0.7 * 0.75 / 1.45]),
    "recency.predicted_newest": (NAN, [NAN] * 3),  # no predictions; see test_predicted.py
    # Task 0 from 0.8: 0.8, 0.2, 0.6. Task 0 from 0.6: 0.6, 0.4, 0.7. Task 1 from 0.9: 0.9, 0.3, 0.5.
    "gap.depth": (1.4 / 3, [0.4, 0.6, NAN]),
    "gap.iterations_to_trough": (1.0, [1.0, 1.0, NAN]),
    "gap.recovery_90": (1 + 0.14 / 0.3, [1 + 0.14 / 0.3, NAN, NAN]),
    "gap.recovery_95": (1 + 0.17 / 0.3, [1 + 0.17 / 0.3, NAN, NAN]),
    "gap.recovery_100": (1 + 0.20 / 0.3, [1 + 0.20 / 0.3, NAN, NAN]),
    "gap.recovered_90": (1 / 3, [0.5, 0.0, NAN]),
    "gap.recovered_95": (1 / 3, [0.5, 0.0, NAN]),
    "gap.recovered_100": (1 / 3, [0.5, 0.0, NAN]),
    # 0.6 / 2 + (0.6 + 0.2) / 2; 0.2 / 2 + a triangle of 2/3 by 0.2; 0.6 / 2 + (0.6 + 0.4) / 2
    "gap.area": ((0.7 + 0.1 + 0.2 / 3 + 0.8) / 3, [(0.7 + 0.1 + 0.2 / 3) / 2, 0.8, NAN]),
    "gap.transient": (0.8 / 3, [0.3, 0.2, NAN]),
    "gap.permanent": (0.6 / 3, [0.1, 0.4, NAN]),
    "gap.regained": (0.8 / 1.4, [0.6 / 0.8, 0.2 / 0.6, NAN]),
    "gap.depth.trained_again": (NAN, [NAN] * 3),
    "gap.area.trained_again": (NAN, [NAN] * 3),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_three_tasks_by_hand(name: str) -> None:
    value, parts = BY_HAND[name]
    got = found(make_trace(CURVES), name)
    assert got.value == pytest.approx(value, abs=1e-12, nan_ok=True)
    assert got.parts.tolist() == pytest.approx(parts, abs=1e-12, nan_ok=True)


def test_every_metric_is_worked_by_hand_and_says_what_it_is() -> None:
    """Those of incoming samples are worked in `test_prequential.py`."""
    assert [name for name, metric in metrics.METRICS.items() if metric.record is None] == list(BY_HAND)
    for name, metric in metrics.METRICS.items():
        assert metric.name == name
        assert all([metric.formula, metric.source, metric.title])
        assert metric.better in ("higher", "lower", "zero")
        assert metric.unit in ("accuracy", "iterations", "accuracy x iterations", "share")
        assert metric.per in ("task", "experience", "class")
        assert metric.range[0] < metric.range[1]


# ---------------------------------------------------------------------------------------- end of the stream
def test_forgetting_differs_by_what_the_maximum_is_over() -> None:
    trace = ends(MIXED)
    assert found(trace, "forgetting.after_learning").parts[:2].tolist() == pytest.approx([0.5 - 0.9, 0.9 - 0.6])
    assert found(trace, "forgetting.chaudhry").parts[:2].tolist() == pytest.approx([0.8 - 0.9, 0.9 - 0.6])
    assert found(trace, "forgetting.max_including_last").parts[:2].tolist() == pytest.approx([0.0, 0.9 - 0.6])
    assert found(trace, "backward_transfer.gem").value == pytest.approx((0.4 - 0.3) / 2)
    assert found(trace, "backward_transfer.all_pairs").value == pytest.approx((0.3 + 0.4 - 0.3) / 3)


def test_forward_transfer_is_from_the_untrained_model_and_not_of_views_whose_competitors_change() -> None:
    task = make_trace(CURVES, view="task.ema_0.9")
    assert found(task, "forward_transfer.gem", "task.ema_0.9").value == pytest.approx((0.3 - 0.2 + 0.2 - 0.0) / 2)
    assert found(task, "forward_transfer.gem", "task.ema_0.9").parts[1:].tolist() == pytest.approx([0.1, 0.2])
    averaged = make_trace(CURVES, view="class.ema_0.9")
    assert math.isnan(found(averaged, "forward_transfer.gem", "class.ema_0.9").value)
    assert np.isnan(found(averaged, "forward_transfer.gem", "class.ema_0.9").parts).all()


@pytest.mark.parametrize("name", ["backward_transfer.all_pairs", "forward_transfer.all_pairs"])
def test_all_pairs_are_of_streams_that_visit_every_task_once_in_order(name: str) -> None:
    order = np.array([[False, True, False], [True, False, False], [False, False, True]])
    assert math.isnan(found(make_trace(CURVES, order), name).value)
    assert math.isnan(found(make_trace(CURVES[:1, :, :1]), name).value)


def test_what_comes_after_the_first_visit_is_seen_from_its_end() -> None:
    """Tasks 1, 0, 1: task 1 was learnt in experience 0."""
    visits = np.array([[False, True], [True, False], [False, True]])
    trace = ends([[0.1, 0.9], [0.8, 0.4], [0.7, 0.6]], visits)
    assert found(trace, "forgetting.after_learning").parts.tolist() == pytest.approx([0.8 - 0.7, 0.9 - 0.6])
    assert found(trace, "average_incremental_accuracy").value == pytest.approx((0.9 + 0.6 + 0.65) / 3)


def test_a_task_that_is_never_visited_counts_only_where_the_definition_says_so() -> None:
    visits = np.array([[True, False, False], [False, True, False]])
    trace = ends([[0.9, 0.0, 0.3], [0.5, 0.8, 0.3]], visits)
    assert found(trace, "average_accuracy").value == pytest.approx(0.65)
    assert math.isnan(found(trace, "average_accuracy").parts[2])
    assert found(trace, "wc_acc").value == pytest.approx((0.5 + 0.8) / 2)
    assert found(trace, "knowledge_accumulation").parts.tolist() == pytest.approx([0.9 / 3, 1.3 / 3])
    assert found(trace, "recency_bias").parts.tolist() == pytest.approx([-0.15, 0.15, NAN], nan_ok=True)
    assert math.isnan(found(trace, "anytime_accuracy").parts[2])


# ---------------------------------------------------------------------------------------- worst case
def test_minimum_starts_after_the_last_update_of_the_first_visit() -> None:
    """A dip at n = |T_0| (the last update on task 0, and its end) does not count: the paper's n is strictly larger."""
    accuracy = np.full((2, 3, 2), 0.9)
    accuracy[0, 1:, 0] = 0.3
    accuracy[1, 0, 0] = 0.3  # before the first update of experience 1: still n = |T_0|
    assert found(make_trace(accuracy), "min_acc").value == pytest.approx(0.9)


def test_minimum_leaves_out_later_visits() -> None:
    """Tasks 0, 1, 0: what happens to task 0 while it is visited again is not forgetting."""
    visits = np.array([[True, False], [False, True], [True, False]])
    accuracy = np.full((3, 3, 2), 0.9)
    accuracy[2, 1, 0] = 0.1
    accuracy[1, 1, 0] = 0.5
    accuracy[2, 1, 1] = 0.4
    trace = make_trace(accuracy, visits)
    assert found(trace, "min_acc").parts.tolist() == pytest.approx([0.5, 0.4])
    # The last experience visits task 0: its accuracy counts as current, task 1 with its minimum.
    assert found(trace, "wc_acc").value == pytest.approx((0.9 + 0.4) / 2)
    assert found(trace, "wc_acc.redraw_1000").value == pytest.approx((0.9 + 0.4) / 2)


def test_an_earlier_task_that_is_never_left_has_no_minimum() -> None:
    """Both experiences visit both tasks (parts of one distribution)."""
    trace = make_trace(np.full((2, 4, 2), 0.5), np.ones((2, 2), bool))
    assert math.isnan(found(trace, "min_acc").value)
    assert found(trace, "min_acc").resolution is None
    assert found(trace, "wc_acc").value == pytest.approx(0.5)


def test_resolution_is_the_widest_gap_between_evaluations() -> None:
    trace = make_trace(np.full((2, 5, 2), 0.5), every=7)  # at 0, 7, 14, 21, 21; 21, 28, 35, 42, 42
    for name in ("min_acc", "wc_acc", "min_acc.redraw_1000", "wc_acc.redraw_1000", "wf_10", "wp_100", "gap.depth"):
        assert found(trace, name).resolution == 7, name
    keep = np.delete(np.arange(10), [6, 7])  # none at 28 and 35
    assert found(_evaluations(trace, keep), "min_acc").resolution == 21
    keep = np.delete(np.arange(10), 6)  # none at 28
    assert found(_evaluations(trace, keep), "gap.depth").resolution == 14
    # Task 0 is visited again in between: that is no gap in its record.
    assert found(alternating([0.0, 0.8, 0.8, 0.8], [0.8] * 4, [0.8] * 4), "min_acc").resolution == 1


@pytest.mark.parametrize("name", [name for name, metric in metrics.METRICS.items() if metric.bound])
def test_fewer_evaluations_move_a_value_to_the_side_that_its_bound_says(name: str) -> None:
    moved = []
    for seed in range(5):
        curve = np.random.default_rng(seed).uniform(0.1, 0.9, (3, 14, 2))
        trace = make_trace(curve, np.array([[True, False], [False, True], [True, False]]))
        fewer = _evaluations(trace, np.flatnonzero(np.isin(np.arange(42) % 14, [0, 1, 5, 9, 12, 13])))
        exact, bound = found(trace, name), found(fewer, name)
        assert (exact.resolution, bound.resolution) == (1, 4)
        moved.append((bound.value - exact.value) * (1 if metrics.METRICS[name].bound == "upper" else -1))
    assert min(moved) >= 0
    assert max(moved) > 0.01


def test_resolution_is_of_the_evaluations_that_a_value_is_over() -> None:
    """Tasks 0, then 1, then both: the last experience, evaluated once within, is one that trains both again."""
    visits = np.array([[True, False], [False, True], [True, True]])
    trace = make_trace(np.full((3, 6, 2), 0.5), visits)
    trace = _evaluations(trace, np.delete(np.arange(18), [14, 15]))  # the last at 8, 9, 12, 12
    assert found(trace, "gap.depth").resolution == 1
    assert found(trace, "gap.depth.trained_again").resolution == 3
    assert found(trace, "wc_acc").resolution is None  # all tasks are current: nothing is a minimum


SCHEDULES = [(0, 0), (1, 0), (9, 0), (10, 0), (11, 0), (99, 0), (100, 0), (0, 10), (0, 9), (10, 10), (50, 30)]


@pytest.mark.parametrize(("every", "dense"), SCHEDULES)
def test_a_metric_that_a_schedule_does_not_reach_is_undefined_and_says_why(every: int, dense: int) -> None:
    """Every metric: undefined exactly where it gives a reason, or where evaluating each iteration is no help."""
    visits = np.array([[True, False], [False, True], [True, False]])
    accuracy = np.random.default_rng(3).uniform(0.1, 0.9, (3, 242, 2))
    accuracy[::2, -2:, 0] = accuracy[1, -2:, 1] = 0.5  # so that 90 % of it are reached within every visit
    accuracy[::2, 0, 0] = 0.0  # and not before
    fine = make_trace(accuracy, visits, view="domain")
    within = fine.iteration - 240 * fine.experience
    due = (within <= dense) | (within % every == 0 if every else False)
    keep = np.flatnonzero(due | (fine.phase != Phase.ITERATION))
    seldom = dataclasses.replace(_evaluations(fine, keep), every=every, dense=dense)
    for name, metric in metrics.METRICS.items():
        exact, got = (found(trace, name, "domain").value for trace in (fine, seldom))
        reason = metric.unreached(every, dense)
        assert math.isnan(got) == (math.isnan(exact) or reason is not None), (name, got, reason)


def test_what_needs_evaluations_within_experiences_says_so() -> None:
    """Metrics without a reach are of the evaluations around experiences, or bounds that hold with any."""
    free = {name for name, metric in metrics.METRICS.items() if metric.unreached(0, 0) is None}
    bounds = {name for name in free if metrics.METRICS[name].bound}
    assert bounds == {"min_acc", "wc_acc", "min_acc.redraw_1000", "wc_acc.redraw_1000"}
    trace = dataclasses.replace(make_trace(np.random.default_rng(0).uniform(0, 1, (4, 9, 4))), every=0)
    around = _evaluations(trace, np.flatnonzero(trace.phase != Phase.ITERATION))
    for name in free - bounds:
        assert found(trace, name).value == pytest.approx(found(around, name).value, nan_ok=True), name


def test_the_better_direction_of_a_metric_that_is_best_at_zero_is_towards_it() -> None:
    """A model that prefers what is old is as biased as one that prefers what is new."""
    zero = [name for name, metric in metrics.METRICS.items() if metric.better == "zero"]
    assert zero == ["recency_bias"]
    metric = metrics.METRICS["recency_bias"]
    old, new, none = (
        found(ends(R), "recency_bias").value
        for R in ([[0.9, 0.0], [0.9, 0.4]], [[0.9, 0.0], [0.4, 0.9]], [[0.9, 0.0], [0.6, 0.6]])
    )
    assert (old, new, none) == (pytest.approx(-0.5), pytest.approx(0.5), 0)
    assert metric.worth(old) == pytest.approx(metric.worth(new))
    assert metric.worth(new) < metric.worth(none) == 0
    assert metric.compared(old) == pytest.approx(0.5)
    for one in metrics.METRICS.values():
        assert (one.worth(0.2) > one.worth(0.1)) == (one.better == "higher")
        assert one.better == "zero" or one.compared(-0.45) == -0.45


def _evaluations(trace: Trace, keep: NDArray[np.int64]) -> Trace:
    """The same run evaluated less often."""
    return dataclasses.replace(
        trace,
        correct={view: counts[keep] for view, counts in trace.correct.items()},
        bits={view: bits[keep] for view, bits in trace.bits.items()},
        iteration=trace.iteration[keep],
        experience=trace.experience[keep],
        phase=trace.phase[keep],
    )


@pytest.mark.parametrize(("window", "every"), [(10, 1), (100, 11)])
def test_a_window_holds_so_many_iterations(window: int, every: int) -> None:
    """From n = every on the curve falls from 1.0; it is at 0.4 after window - 1 iterations and at 0.1 after more."""
    curve = np.full(13, 0.4)
    curve[0], curve[1], curve[2:10], curve[10], curve[11:] = 0.0, 1.0, 0.7, 0.4, 0.1
    trace = make_trace(curve.reshape(1, 13, 1), every=every)  # 1.0 at 1, 0.4 at 10, 0.1 at 11 and at the end
    assert found(trace, f"wf_{window}").value == pytest.approx(1.0 - 0.4)
    rising = make_trace(1 - curve.reshape(1, 13, 1), every=every)
    assert found(rising, f"wp_{window}").value == pytest.approx(0.6)
    assert found(rising, f"wf_{window}").value == pytest.approx(0.0)


def test_plasticity_counts_rises_from_below_the_largest_value_so_far() -> None:
    """The published code starts only where a new maximum is: it would see 0.1 of this rise of 0.7."""
    curve = np.array([0.0, 0.8, 0.2, 0.9, 0.9]).reshape(1, 5, 1)
    assert found(make_trace(curve), "wp_10").value == pytest.approx(0.7)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=40), st.integers(1, 12), st.integers(2, 30))
def test_windows_agree_with_all_pairs(values: list[float], every: int, window: int) -> None:
    trace = make_trace(np.array(values).reshape(1, -1, 1), every=every)
    accuracy, n = trace.task_accuracy("class")[:, 0], trace.iteration
    after = [e for e in range(len(n)) if n[e] > 0]
    pairs = [(p, q) for p in after for q in after if p < q and n[q] - n[p] <= window - 1]
    if every > window - 1:
        assert math.isnan(worst_case.windowed_forgetting(trace, "class", window).value)
        assert math.isnan(worst_case.windowed_plasticity(trace, "class", window).value)
        return
    falls = [accuracy[p] - accuracy[q] for p, q in pairs]
    assert worst_case.windowed_forgetting(trace, "class", window).value == pytest.approx(max([0, *falls]))
    assert worst_case.windowed_plasticity(trace, "class", window).value == pytest.approx(max([0, *(-f for f in falls)]))


@pytest.mark.parametrize(("size", "count"), [(1001, 1000), (2000, 0), (2000, 2000), (2000, 1200), (10_000, 9_900)])
def test_redraws_are_hypergeometric(size: int, count: int) -> None:
    """Against whole numbers of ways to draw; the tolerance is that of 1,000 products rounded one after the other."""
    least, distribution = worst_case._hypergeometric(size, count)
    ways = [math.comb(count, k) * math.comb(size - count, 1000 - k) for k in range(min(1000, count) + 1)]
    assert sum(ways) == math.comb(size, 1000)
    assert not any(ways[:least])
    exact = [float(Fraction(right, sum(ways))) for right in itertools.accumulate(ways[least:])]
    assert distribution == pytest.approx(exact, rel=1e-12, abs=1e-15)


def test_redrawn_minimum_of_a_constant_model_is_that_of_the_binomial_noise() -> None:
    """Expectation of the smallest of m draws: sum over k >= 1 of P(X >= k)^m, met within 5 standard errors."""
    trace = make_trace(np.full((2, 302, 2), 0.9), size=10_000)
    exact, m = hypergeom(10_000, 9_000, 1000), 301  # 300 updates and the end
    survival = exact.sf(np.arange(1000)) ** m  # P(min > k)
    expected = survival.sum()
    spread = math.sqrt((survival * (2 * np.arange(1000) + 1)).sum() - expected**2)
    got = found(trace, "min_acc.redraw_1000").value * 1000
    assert abs(got - expected) < 5 * spread / math.sqrt(worst_case.REPLICATES)
    assert expected < 880  # the bias is real: 2 points and more
    assert found(trace, "min_acc").value == pytest.approx(0.9)
    # The end is drawn once: unbiased.
    end = found(trace, "wc_acc.redraw_1000").parts[1] * 1000
    assert abs(end - 900) < 5 * exact.std() / math.sqrt(worst_case.REPLICATES)


def test_redraws_are_the_same_every_time_and_independent_between_evaluations_tasks_and_replicates() -> None:
    trace = make_trace(np.full((2, 52, 2), 0.5), size=2000)
    curve = trace.task_accuracy("class")[:3, 0]
    one, again, other = worst_case.redrawn_accuracy(curve, 2000, 0, np.array([0, 0, 1])).T
    assert np.array_equal(one, again), "one moment, one draw"
    assert not np.array_equal(one, other)
    moment = np.unique(trace.iteration, return_inverse=True)[1]
    accuracy = trace.task_accuracy("class")
    first, second = (worst_case.redrawn_accuracy(accuracy[:, i], 2000, i, moment) for i in (0, 1))
    assert first.shape == (worst_case.REPLICATES, 104)
    assert np.array_equal(first, worst_case.redrawn_accuracy(accuracy[:, 0], 2000, 0, moment))
    assert found(trace, "wc_acc.redraw_1000").parts.tolist() == pytest.approx(
        [first[:, 53:].min(1).mean(), second[:, -1].mean()]
    )
    for a, b in ((first[0], second[0]), (first[0], first[1]), (first[:, 1], first[:, 2])):
        assert (a != b).mean() > 0.8


# ---------------------------------------------------------------------------------------- learning
def test_learning_curve_areas_by_hand() -> None:
    first = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9, 0.9, 0.0, 0.0]  # 11 updates, of which ten count
    second = [0.0, *[0.5] * 10, 1.0, 1.0]
    trace = make_trace(np.stack([[first, first], [second, second]]).transpose(0, 2, 1))
    # 0.1 + 6.2 and 0.0 + 5.0
    assert found(trace, "lca_10.a_gem").parts.tolist() == pytest.approx([6.3 / 11, 5.0 / 11])
    assert found(trace, "lca_10.de_lange").parts.tolist() == pytest.approx([0.62, 0.5])
    assert found(trace, "lca_10.a_gem").value == pytest.approx((6.3 + 5.0) / 22)
    assert found(trace, "lca_10.de_lange").value == pytest.approx(0.56)


def test_learning_curve_area_takes_the_update_itself_and_not_the_end() -> None:
    curve = np.array([0.0, *[0.5] * 10, 1.0]).reshape(1, 12, 1)  # the end is after ten updates too
    assert found(make_trace(curve), "lca_10.de_lange").value == pytest.approx(0.5)
    assert math.isnan(found(make_trace(curve, every=2), "lca_10.de_lange").value)


def test_anytime_accuracy_weighs_evaluations_by_the_iterations_they_stand_for() -> None:
    """Evaluated at 0, 1, 2 and 12: (0.0 + 0.4) / 2 + (0.4 + 0.8) / 2 + 10 * (0.8 + 1.0) / 2 over 12 iterations."""
    trace = make_trace(np.array([0.0, 0.4, 0.8, 1.0, 1.0]).reshape(1, 5, 1))
    trace = dataclasses.replace(trace, iteration=np.array([0, 1, 2, 12, 12]))
    assert found(trace, "anytime_accuracy").value == pytest.approx((0.2 + 0.6 + 9.0) / 12)


def test_an_experience_that_is_not_evaluated_from_its_start_has_no_integral() -> None:
    trace = make_trace(CURVES)
    late = _evaluations(trace, np.delete(np.arange(12), 4))  # nothing before the first update of experience 1
    assert math.isnan(found(late, "anytime_accuracy").value)
    assert found(late, "anytime_accuracy").parts.tolist() == pytest.approx([NAN, NAN, 0.65], nan_ok=True)
    assert math.isnan(found(late, "gap.area").value)
    assert found(late, "gap.depth").value == pytest.approx(1.4 / 3)
    assert math.isnan(found(late, "forward_facilitation.90").value)


def test_facilitation_is_undefined_where_the_first_task_is_known_at_once() -> None:
    accuracy = np.full((2, 4, 2), 0.8)
    assert found(make_trace(accuracy), "forward_facilitation.90").parts.tolist() == [0.0, 0.0]
    assert math.isnan(found(make_trace(accuracy), "forward_facilitation.90").value)


def test_facilitation_compares_with_the_lowest_task_of_the_first_experience() -> None:
    """Tasks 1 and 2 start together, task 0 comes later: n = 1.8, 0.9 of 0.5 in the same time, and 0.9."""
    visits = np.array([[False, True, True], [True, False, False]])
    accuracy = np.zeros((2, 4, 3))
    accuracy[0, :, 1] = 0.0, 0.5, 1.0, 1.0
    accuracy[0, :, 2] = 0.0, 1.0, 1.0, 1.0
    accuracy[1, :, 0] = 0.0, 1.0, 1.0, 1.0
    got = found(make_trace(accuracy, visits), "forward_facilitation.90")
    assert got.parts.tolist() == pytest.approx([0.9, 1.8, 0.9])
    assert got.value == pytest.approx(0.5)


def test_savings_by_hand() -> None:
    """Task 0 needs 1.8 updates for 0.9; then 0.9, then none, then it does not get there."""
    first, faster, at_once, never = (
        [0.0, 0.5, 1.0, 1.0],
        [0.0, 1.0, 1.0, 1.0],
        [0.95, 0.2, 0.2, 0.2],
        [0.0, 0.5, 0.8, 0.8],
    )
    trace = alternating(first, faster, at_once, never)
    assert found(trace, "savings.90").parts[0] == pytest.approx((0.5 + 1.0) / 2)
    assert found(trace, "savings.90_reached").parts[0] == pytest.approx(2 / 3)
    # Task 1 is visited three times and known before the first update of each: its n is 0.
    assert math.isnan(found(trace, "savings.90").value)
    assert found(trace, "savings.90_reached").value == pytest.approx((2 + 2) / 5)
    alone = alternating(first, faster)
    assert found(alone, "savings.90").value == pytest.approx(0.5)
    assert found(alternating(first, never), "savings.90_reached").value == 0
    assert math.isnan(found(alternating(first, never), "savings.90").value)
    assert found(alternating(first, [0.0, 0.0, 0.9, 0.9]), "savings.90").value == pytest.approx(1 - 2 / 1.8)


def test_samples_weigh_the_same_where_the_definition_says_so() -> None:
    """Task 0 of three cells, task 1 of one: R = [[0.8, 0], [0.6, 0.2]] with sizes 3,000 and 1,000."""
    accuracy = [[0.9, 0.9, 0.6, 0.0], [0.8, 0.6, 0.4, 0.2]]
    trace = ends(accuracy, np.zeros((2, 4), bool))
    trace = dataclasses.replace(
        trace,
        task_cells=np.array([[True, True, True, False], [False, False, False, True]]),
        visits=np.eye(2, dtype=bool),
    )
    assert definition.accuracy_matrix(trace, "class") == pytest.approx(np.array([[0.8, 0.0], [0.6, 0.2]]))
    assert found(trace, "average_accuracy").value == pytest.approx(0.4)
    assert found(trace, "sessions.final").value == pytest.approx((3 * 0.6 + 0.2) / 4)
    assert found(trace, "sessions.average").value == pytest.approx((0.8 + 0.5) / 2)
    assert found(trace, "sessions.performance_drop").value == pytest.approx(0.3)
    assert found(trace, "sessions.base").value == pytest.approx(0.6)
    assert found(trace, "sessions.new").value == pytest.approx(0.2)
    assert found(trace, "sessions.harmonic_mean").value == pytest.approx(0.3)
    assert found(trace, "knowledge_accumulation").parts.tolist() == pytest.approx([0.6, 0.5])
    assert found(trace, "knowledge_accumulation").value == pytest.approx(-0.1)
    assert found(trace, "recency_bias").value == pytest.approx(-0.4)
    assert found(trace, "recency_bias").parts.tolist() == pytest.approx([0.3, 0.1, -0.1, -0.3])
    together = dataclasses.replace(trace, cell_class=np.array([5, 3, 5, 3], np.int32))  # classes 3 and 5
    assert found(together, "recency_bias").parts.tolist() == pytest.approx([0.4 - 0.5, 0.6 - 0.5])


def test_recency_compares_what_is_visited_with_what_was_visited_before_only() -> None:
    """Tasks 0 and 1, then 1 and 2, then all: the last has nothing to compare with."""
    visits = np.array([[True, True, False], [False, True, True], [True, True, True]])
    trace = ends([[0.9, 0.9, 0.0], [0.3, 0.6, 0.8], [0.1, 0.2, 0.3]], visits)
    assert found(trace, "recency_bias").value == pytest.approx((0.6 + 0.8) / 2 - 0.3)


def test_harmonic_mean_of_nothing_is_nothing() -> None:
    trace = ends([[0.9, 0.0], [0.0, 0.0]])
    assert found(trace, "sessions.harmonic_mean").value == 0
    assert math.isnan(found(ends([[0.9]]), "sessions.harmonic_mean").value)
    assert math.isnan(found(ends([[0.9]]), "sessions.new").value)
    assert found(ends([[0.9]]), "sessions.performance_drop").value == 0


# ---------------------------------------------------------------------------------------- the gap
def _one_gap(curve: list[float], before: float = 0.8, every: int = 1) -> gap.Gap:
    """The gap of task 0, at `before` until the switch, whose curve in experience 1 is given."""
    accuracy = np.full((2, len(curve), 2), before)
    accuracy[1, :, 0] = curve
    [only] = gap.anatomy(make_trace(accuracy, every=every), "class")
    return only


def test_anatomy_by_hand() -> None:
    """Evaluated every 10 iterations: 0.8, 0.5, 0.3, 0.3, 0.7, 0.9, 0.6, and 0.6 at the end."""
    one = _one_gap([0.8, 0.5, 0.3, 0.3, 0.7, 0.9, 0.6, 0.6], every=10)
    assert (one.experience, one.task, one.trained_again) == (1, 0, False)
    assert one.before == pytest.approx(0.8)
    assert one.depth == pytest.approx(0.5)
    assert one.iterations_to_trough == 20  # the first of two minima
    assert one.recovery[0.90] == pytest.approx(40 + 10 * 0.02 / 0.2)  # 0.72 between 0.7 and 0.9
    assert one.recovery[0.95] == pytest.approx(40 + 10 * 0.06 / 0.2)
    assert one.recovery[1.00] == pytest.approx(45)
    # 0.3 / 2, (0.3 + 0.5) / 2, 0.5, (0.5 + 0.1) / 2, 0.1 over half a period, and 0.2 over the last two thirds
    assert one.area == pytest.approx(10 * (0.15 + 0.4 + 0.5 + 0.3 + 0.05 / 2 + 0.2 * (2 / 3) / 2))
    assert one.permanent == pytest.approx(0.2)
    assert one.transient == pytest.approx(0.3)


def test_the_end_of_an_experience_is_its_last_point() -> None:
    """Work of the strategy after the last update, such as class means, counts."""
    one = _one_gap([0.8, 0.2, 0.5, 0.7])
    assert (one.permanent, one.transient) == (pytest.approx(0.1), pytest.approx(0.5))


def test_an_accuracy_that_stays_above_what_it_was_has_no_trough() -> None:
    accuracy = np.full((2, 4, 2), 0.8)
    accuracy[1, :, 0] = 0.95, 0.9, 0.85, 0.95
    [one] = gap.anatomy(make_trace(accuracy), "class")
    assert (one.depth, one.iterations_to_trough, one.area) == (0, 0, 0)
    assert one.recovery == {0.90: 0.0, 0.95: 0.0, 1.00: 0.0}


def test_recovery_is_looked_for_after_the_trough_only() -> None:
    one = _one_gap([0.6, 0.8, 0.4, 0.6, 0.6])
    assert one.iterations_to_trough == 2
    assert one.recovery == {0.90: None, 0.95: None, 1.00: None}


def test_a_dip_that_stays_above_a_level_has_recovered_from_the_start() -> None:
    one = _one_gap([0.8, 0.74, 0.74, 0.74])
    assert one.recovery == {0.90: 0.0, 0.95: None, 1.00: None}
    exact = _one_gap([0.1, 0.09, 0.1, 0.1], before=0.1)  # 0.9 * 0.1 > 0.09 in floating point
    assert exact.recovery[0.90] == 0.0


def test_nothing_lost_has_no_trough_and_no_regain() -> None:
    accuracy = np.full((2, 4, 2), 0.8)
    trace = make_trace(accuracy)
    assert found(trace, "gap.depth").value == 0
    assert math.isnan(found(trace, "gap.iterations_to_trough").value)
    assert math.isnan(found(trace, "gap.regained").value)
    assert found(trace, "gap.recovery_100").value == 0
    assert found(trace, "gap.recovered_100").value == 1


def test_recovery_is_averaged_over_gaps_that_recover_and_troughs_over_gaps_that_are_there() -> None:
    """Task 0 is back after 2 updates in experience 1; in experience 2 it does not move and task 1 does not return."""
    accuracy = np.full((3, 4, 3), 0.5)
    accuracy[1, :, 0] = 0.5, 0.0, 0.5, 0.5
    accuracy[2, :, 1] = 0.5, 0.2, 0.1, 0.1
    trace = make_trace(accuracy)
    assert found(trace, "gap.recovery_100").value == pytest.approx((2 + 0) / 2)
    assert found(trace, "gap.recovered_100").value == pytest.approx(2 / 3)
    assert found(trace, "gap.iterations_to_trough").value == pytest.approx((1 + 2) / 2)
    assert found(trace, "gap.regained").value == pytest.approx(0.5 / (0.5 + 0.4))


def test_gaps_of_tasks_that_are_trained_on_again_stand_apart() -> None:
    trace = alternating([0.0, 0.8, 0.8, 0.8], [0.5, 0.6, 1.0, 1.0])  # 0.5 for task 0 in between
    first, again, other = gap.anatomy(trace, "class")
    assert [(g.experience, g.task, g.trained_again) for g in (first, again, other)] == [
        (1, 0, False), (2, 0, True), (2, 1, False),
    ]  # fmt: skip
    assert found(trace, "gap.depth").parts.tolist() == pytest.approx([0.3, 0.0])
    # Task 0 is at 0.5 before experience 2 and rises from there.
    assert found(trace, "gap.depth.trained_again").value == 0
    dip = alternating([0.0, 0.8, 0.8, 0.8], [0.3, 0.1, 0.7, 0.7])  # a0 = 0.5: 0.2, 0.4, then a triangle of 2/3 by 0.4
    assert found(dip, "gap.depth.trained_again").value == pytest.approx(0.4)
    assert found(dip, "gap.depth.trained_again").resolution == 1
    assert found(dip, "gap.regained").value == 0  # task 0 fell from 0.8 to 0.5 in between and stayed there
    assert found(dip, "gap.area.trained_again").value == pytest.approx((0.2 + 0.4) / 2 + 0.4 * (2 / 3) / 2)
    assert found(dip, "gap.area.trained_again").parts.tolist() == pytest.approx([0.3 + 0.4 / 3, NAN], nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=12), st.floats(0, 1), st.integers(1, 9))
def test_area_agrees_with_a_fine_sum(curve: list[float], before: float, every: int) -> None:
    one = _one_gap(curve, before, every)
    trace = make_trace(np.array(curve).reshape(1, -1, 1), every=every)
    n = np.linspace(0, trace.iteration[-1], 20_001)
    loss = np.maximum(0, one.before - np.interp(n, trace.iteration[:-1], trace.task_accuracy("class")[:-1, 0]))
    assert one.area == pytest.approx(np.trapezoid(loss, n), abs=1e-3 * max(1, trace.iteration[-1]))


@given(st.lists(st.floats(0, 1), min_size=6, max_size=30), st.integers(1, 5))
def test_what_only_rises_has_no_gap(values: list[float], tasks: int) -> None:
    curve = np.sort(values)
    per = len(curve) // 2
    accuracy = np.repeat(curve[: 2 * per].reshape(2, per, 1), tasks, axis=2)
    visits = np.ones((2, tasks), bool)
    visits[1, 0] = False
    trace = make_trace(accuracy, visits)
    for one in gap.anatomy(trace, "class"):
        assert (one.depth, one.area, one.transient, one.permanent) == (0, 0, 0, 0)


def test_a_task_outside_the_scope_has_no_gap_and_a_hole_makes_it_unknown() -> None:
    trace = make_trace(np.full((3, 4, 2), 0.8), np.array([[True, False], [False, True], [False, True]]))
    trace.correct["class"][4:8, 0] = NOT_EVALUATED
    gaps = gap.anatomy(trace, "class")
    assert [(g.experience, g.task) for g in gaps] == [(2, 0), (2, 1)]
    assert math.isnan(gaps[0].before)
    assert math.isnan(gaps[0].depth)
    assert math.isnan(found(trace, "gap.depth").value)
    trace = make_trace(CURVES)
    trace.correct["class"][9, 0] = UNAVAILABLE
    holed = {(g.experience, g.task): g for g in gap.anatomy(trace, "class")}
    assert math.isnan(holed[2, 0].depth)
    assert all(math.isnan(v) for v in holed[2, 0].recovery.values() if v is not None)
    assert holed[2, 0].recovery[0.9] is not None
    assert holed[1, 0].depth == pytest.approx(0.6)
    assert found(trace, "gap.depth").parts.tolist() == pytest.approx([NAN, 0.6, NAN], nan_ok=True)
    for name in metrics.METRICS:
        if name.startswith("gap.") and "again" not in name:
            assert math.isnan(found(trace, name).value), name


# ---------------------------------------------------------------------------------------- sampling error
def test_sampling_error_by_hand() -> None:
    """Four samples a task. Task 0 has 3 right and then the first 1 of them; task 1 ends with 2."""
    trace = ends([[0.75, 0.0], [0.25, 0.5]], size=4)
    # A / 2 each: 1/4 (p (1 - p) / 3), p = 1/4 and 1/2
    got = metrics.compute(trace)["class"]
    assert got["average_accuracy"]["se"] == pytest.approx(math.sqrt((3 / 16 + 1 / 4) / 3 / 4))
    # y = 0, 1/4, 1/4, 0 for task 0: variance 1/64, times 16 / 3
    assert got["forgetting.after_learning"]["se"] == pytest.approx(math.sqrt(16 / 3 / 64))
    assert got["backward_transfer.gem"]["se"] == pytest.approx(math.sqrt(16 / 3 / 64))
    # Task 0 at its minimum (1 of 4), task 1 at its end (2 of 4)
    assert got["wc_acc"]["se"] == pytest.approx(math.sqrt((3 / 16 + 1 / 4) / 3 / 4))
    assert got["min_acc"]["se"] == pytest.approx(math.sqrt(3 / 16 / 3))
    assert got["forgetting.chaudhry"]["se"] == got["forgetting.after_learning"]["se"], "the best is the first here"
    assert "se" not in got["min_acc.redraw_1000"]


def test_sampling_error_without_bits_is_known_only_where_no_sample_counts_twice() -> None:
    trace = ends([[0.75, 0.0], [0.25, 0.5]], size=4)
    blind = metrics.compute(dataclasses.replace(trace, bits={}))["class"]
    assert blind["average_accuracy"]["se"] == pytest.approx(math.sqrt((3 / 16 + 1 / 4) / 3 / 4))
    assert blind["forgetting.after_learning"]["se"] is None
    assert blind["average_incremental_accuracy"]["se"] is None  # task 0 twice, task 1 once
    assert blind["forgetting.after_learning"]["value"] == pytest.approx(0.5)


def test_sampling_error_is_stratified_by_cell() -> None:
    """One task of two classes, one always right and one always wrong: anew drawn, it would be half right again."""
    trace = dataclasses.replace(ends([[1.0, 0.0]], np.ones((1, 2), bool), size=50), task_cells=np.ones((1, 2), bool))
    trace = dataclasses.replace(trace, visits=np.ones((1, 1), bool))
    got = metrics.compute(trace)["class"]["average_accuracy"]
    assert (got["value"], got["se"]) == (0.5, 0.0)


def test_sampling_error_needs_two_samples_of_a_class() -> None:
    assert metrics.compute(ends([[1.0]], size=1))["class"]["average_accuracy"]["se"] is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 3))
def test_sampling_error_agrees_with_the_definition(seed: int, size: int, tasks: int) -> None:
    """Loops over samples; bits are random, not those of make_trace."""
    rng = np.random.default_rng(seed)
    trace = make_trace(np.zeros((2, 3, tasks)), np.ones((2, tasks), bool), size=size)
    bits = rng.random((6, tasks * size)) < rng.random((6, 1))
    counts = bits.reshape(6, tasks, size).sum(2).astype(np.int32)
    trace = dataclasses.replace(trace, correct={"class": counts}, bits={"class": np.packbits(bits, axis=1)})
    weights = rng.normal(size=(6, tasks)) * (rng.random((6, tasks)) < 0.7)
    variance = 0.0
    for i in range(tasks):
        y = [sum(weights[e, i] * bits[e, i * size + s] / size for e in range(6)) for s in range(size)]
        average = sum(y) / size
        variance += size**2 / (size - 1) * sum((v - average) ** 2 for v in y) / size
    assert standard_error(trace, "class", weights) == pytest.approx(math.sqrt(variance), abs=1e-12)


def test_sampling_error_does_not_depend_on_how_bits_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = make_trace(CURVES, size=100)
    weights = np.random.default_rng(0).normal(size=(12, 3))
    whole = standard_error(trace, "class", weights)
    monkeypatch.setattr("clbench.metrics.sampling._BLOCK", 5 * 300)  # 12 evaluations in blocks of five
    assert standard_error(trace, "class", weights) == whole


# ---------------------------------------------------------------------------------------- any trace
@st.composite
def random_traces(draw: st.DrawFn, square: bool = False) -> Trace:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tasks, per = draw(st.integers(1, 4)), draw(st.integers(3, 14))
    visits = np.eye(tasks, dtype=bool)
    if not square:
        visits = rng.random((draw(st.integers(1, 5)), tasks)) < 0.5
        visits[np.arange(len(visits)), rng.integers(0, tasks, len(visits))] = True
    view = draw(st.sampled_from(["class", "task"]))
    accuracy = rng.random((len(visits), per, tasks))
    return make_trace(accuracy, visits, size=int(rng.integers(2, 30)), every=draw(st.integers(1, 3)), view=view)


@settings(max_examples=200)
@given(random_traces() | random_traces(square=True))
def test_values_stay_in_their_ranges_and_are_what_their_weights_say(trace: Trace) -> None:
    [view] = trace.correct
    accuracy = trace.task_accuracy(view)
    sizes = {"task": trace.visits.shape[1], "experience": len(trace.visits), "class": len(trace.cell_class)}
    for metric in metrics.METRICS.values():
        got = metric.compute(trace, view)
        assert got.parts.shape == (sizes[metric.per],), metric.name
        assert (got.resolution is not None) <= (metric.bound is not None), metric.name
        if math.isnan(got.value):
            continue
        low, high = metric.range
        assert low - 1e-12 <= got.value <= high + 1e-12, metric.name
        if got.weights is not None:
            used = got.weights != 0
            assert (got.weights[used] * accuracy[used]).sum() == pytest.approx(got.value, abs=1e-12), metric.name


@settings(max_examples=60)
@given(random_traces(), st.data())
def test_a_hole_in_the_record_is_a_hole_in_the_metric(trace: Trace, data: st.DataObject) -> None:
    """Whatever a metric weighs, taken away, makes it undefined; what it does not, changes nothing."""
    [view] = trace.correct
    e = data.draw(st.integers(0, len(trace.iteration) - 1))
    i = data.draw(st.integers(0, trace.visits.shape[1] - 1))
    missing = data.draw(st.sampled_from([NOT_EVALUATED, UNAVAILABLE]))
    holed = dataclasses.replace(trace, correct={view: trace.correct[view].copy()})
    holed.correct[view][e, i] = missing
    for metric in metrics.METRICS.values():
        before, after = metric.compute(trace, view), metric.compute(holed, view)
        if before.weights is None or math.isnan(before.value):
            continue
        if before.weights[e, i] != 0:
            assert math.isnan(after.value), metric.name
        elif metric.name in ("min_acc", "wc_acc", "forgetting.chaudhry", "forgetting.max_including_last"):
            continue  # a minimum or maximum is over more than it weighs
        elif len(trace.visits) > 1 or metric.name not in ("knowledge_accumulation", "sessions.performance_drop"):
            # Of one experience those two are a value minus itself.
            assert after.value == pytest.approx(before.value), metric.name


@pytest.mark.parametrize(
    ("name", "e", "i"),
    [
        ("forgetting.chaudhry", 7, 0),  # the end of experience 1
        ("forgetting.max_including_last", 7, 0),
        ("min_acc", 6, 0),
        ("wc_acc", 6, 0),
        ("min_acc.redraw_1000", 6, 0),
        ("wc_acc.redraw_1000", 11, 2),
        ("wf_10", 4, 0),
        ("wp_100", 5, 1),
        ("forward_facilitation.90", 5, 1),  # before 90 % are reached
        ("sessions.harmonic_mean", 11, 1),
    ],
)
def test_a_hole_in_a_maximum_is_a_hole(name: str, e: int, i: int) -> None:
    trace = make_trace(CURVES, size=1500)
    assert not math.isnan(found(trace, name).value)
    trace.correct["class"][e, i] = NOT_EVALUATED
    assert math.isnan(found(trace, name).value)


def test_a_hole_before_a_task_is_learnt_again_hides_whether_it_was() -> None:
    trace = alternating([0.0, 0.5, 1.0, 1.0], [0.0, 0.5, 0.8, 0.8])
    trace.correct["class"][9, 0] = NOT_EVALUATED
    assert math.isnan(found(trace, "savings.90_reached").value)
    after = alternating([0.0, 0.5, 1.0, 1.0], [0.0, 1.0, 0.8, 0.8])
    after.correct["class"][10, 0] = NOT_EVALUATED  # it had been reached by then
    assert found(after, "savings.90").value == pytest.approx(0.5)


@given(random_traces(), st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter(trace: Trace, rng: object) -> None:
    """Cells may be stored in any order: what a task is, is said by `task_cells`."""
    [view] = trace.correct
    order = np.array(rng.sample(range(len(trace.cell_size)), len(trace.cell_size)))  # type: ignore[attr-defined]
    size = trace.cell_size[0]
    bits = trace.sample_correct(view).reshape(len(trace.iteration), -1, size)[:, order]
    other = dataclasses.replace(
        trace,
        correct={view: trace.correct[view][:, order]},
        bits={view: np.packbits(bits.reshape(len(bits), -1), axis=1)},
        cell_class=trace.cell_class[order],
        task_cells=trace.task_cells[:, order],
    )
    one, two = metrics.compute(other)[view], metrics.compute(trace)[view]
    for name in two:
        assert one[name]["value"] == two[name]["value"], name
        assert one[name].get("se") == two[name].get("se"), name


@given(random_traces(), st.data())
def test_values_do_not_depend_on_how_a_pass_was_cut(trace: Trace, data: st.DataObject) -> None:
    """Experiences of one origin, cut anywhere: the end of a part and the start of the next are added to the record."""
    [view] = trace.correct
    e = data.draw(st.sampled_from(np.flatnonzero(trace.phase == Phase.ITERATION).tolist()))
    v = int(trace.experience[e])
    twice = np.sort(np.append(np.arange(len(trace.iteration)), [e, e]))  # the update, the end, the start of the rest
    cut = _evaluations(trace, twice)
    phase, experience = cut.phase.copy(), cut.experience.copy()
    phase[e + 1], phase[e + 2] = Phase.END, Phase.BEFORE
    experience[e + 2 :] += 1
    origin = np.insert(trace.origin, v, trace.origin[v])
    visits = np.insert(trace.visits, v, trace.visits[v], axis=0)
    cut = dataclasses.replace(cut, phase=phase, experience=experience, origin=origin, visits=visits)
    one, two = metrics.compute(cut)[view], metrics.compute(trace)[view]
    for name in two:
        if ".redraw_" not in name:  # draws once more where it looks once more
            assert one[name]["value"] == pytest.approx(two[name]["value"]), name


@given(st.floats(0, 1), st.integers(2, 5), st.integers(1, 4))
def test_a_constant_model_has_its_accuracy_everywhere_and_loses_nothing(a: float, tasks: int, iterations: int) -> None:
    trace = make_trace(np.full((tasks, iterations + 2, tasks), a))
    exact = round(a * 1000) / 1000
    for name in ("average_accuracy", "average_incremental_accuracy", "min_acc", "wc_acc", "anytime_accuracy",
                 "min_acc.redraw_1000", "sessions.average", "sessions.base", "sessions.new"):  # fmt: skip
        assert found(trace, name).value == pytest.approx(exact, abs=1e-12), name
    for name in ("forgetting.after_learning", "forgetting.chaudhry", "forgetting.max_including_last", "wf_10", "wp_100",
                 "backward_transfer.gem", "backward_transfer.all_pairs", "recency_bias", "gap.depth", "gap.area",
                 "sessions.performance_drop"):  # fmt: skip
        assert found(trace, name).value == pytest.approx(0, abs=1e-12), name


def test_integrals_and_interpolations_depend_little_on_how_often_was_evaluated() -> None:
    """A smooth dip, at every iteration and at every fourth."""
    n = np.concatenate([np.arange(401), [400]])
    dip = 0.8 - 0.5 * np.exp(-(((n - 60) / 25) ** 2))
    rise = 0.8 * (1 - np.exp(-n / 60))
    trace = make_trace(np.stack([np.stack([rise, rise], 1), np.stack([dip, rise], 1)]), size=100_000)
    trace = dataclasses.replace(trace, bits={})
    coarse = _evaluations(trace, np.flatnonzero((trace.iteration % 4 == 0) | (trace.phase != Phase.ITERATION)))
    for name, tolerance in (
        ("anytime_accuracy", 1e-4), ("gap.area", 0.02), ("gap.recovery_90", 0.2), ("forward_facilitation.90", 1e-3),
    ):  # fmt: skip
        # Errors of the trapezoid rule and of linear interpolation are of the square of the period times a curvature.
        assert found(coarse, name).value == pytest.approx(found(trace, name).value, abs=tolerance), name
    assert found(coarse, "min_acc").resolution == 4


# ---------------------------------------------------------------------------------------- interface
@pytest.mark.parametrize("missing", [NOT_EVALUATED, UNAVAILABLE])
def test_a_gap_in_the_record_is_null_in_json(missing: int) -> None:
    trace = make_trace(np.full((2, 3, 2), 0.5))
    trace.correct["class"][-1, 0] = missing
    got = metrics.compute(trace)["class"]["average_accuracy"]
    assert got == {"value": None, "per_task": [None, 0.5], "se": None}


def test_one_task_is_its_accuracy_and_forgets_nothing_that_could_be_measured() -> None:
    trace = make_trace(np.full((1, 3, 1), 0.6), np.ones((1, 1), bool))
    assert found(trace, "wc_acc").value == pytest.approx(0.6)
    for name in ("min_acc", "forgetting.after_learning", "forgetting.chaudhry", "forgetting.max_including_last",
                 "backward_transfer.gem", "forward_transfer.gem", "recency_bias", "gap.depth"):  # fmt: skip
        assert math.isnan(found(trace, name).value), name
        assert metrics.compute(trace)["class"][name]["value"] is None


def test_what_compute_gives_is_plain_json_of_every_view() -> None:
    trace = make_trace(CURVES)
    trace = dataclasses.replace(
        trace, correct={"class": trace.correct["class"], "task": trace.correct["class"] // 2}, bits=trace.bits
    )
    got = metrics.compute(trace)
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert list(got) == ["class", "task"]
    for values in got.values():
        assert list(values) == list(BY_HAND)
        for name, value in values.items():
            metric = metrics.METRICS[name]
            keys = {"value", f"per_{metric.per}", *(["resolution"] if metric.bound else [])}
            assert set(value) - {"se"} == keys, name
    assert got["class"]["min_acc"]["resolution"] == 1
    assert got["task"]["average_accuracy"]["value"] == pytest.approx(1.1 / 3)
    assert got["task"]["average_accuracy"]["se"] is not None  # by the binomial: no bits of this view
    assert got["task"]["forward_transfer.gem"]["value"] == pytest.approx(0.075)


def test_computing_all_is_computing_each() -> None:
    """Shared intermediate results change nothing."""
    trace = make_trace(CURVES, size=1500)
    got = metrics.compute(trace)["class"]
    for name in got:
        alone = metrics.METRICS[name].compute(trace, "class").value
        assert got[name]["value"] == (None if math.isnan(alone) else alone), name


def test_metrics_need_no_torch() -> None:
    code = "import sys, clbench.metrics, clbench.metrics.dialects; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------------------------- dialects
GOLDEN = [[0.80, 0, 0, 0], [0.85, 0.90, 0, 0], [0.70, 0.60, 0.88, 0], [0.72, 0.75, 0.91, 0.95]]
PRINTED = {
    # Checked by hand from each library's code, to four digits.
    ("Avalanche 0.6", "forgetting"): 0.0667,
    ("Mammoth", "forgetting"): 0.0933,
    ("PyCIL, PILOT", "forgetting"): 0.0933,
    ("CL-Gym", "forgetting"): 0.0933,
    ("FACIL", "forgetting"): 0.0833,
    ("Continuum 1.2.7", "forgetting"): 0.0933,
    ("Renate", "forgetting"): 0.0833,
    ("LibContinual a399ed4", "forgetting"): 0.0767,
    ("Avalanche 0.6", "backward transfer"): -0.0667,
    ("Mammoth", "backward transfer"): -0.0667,
    ("Continuum 1.2.7", "backward transfer"): -0.0550,
    ("Renate", "backward transfer"): -0.0667,
    ("LibContinual a399ed4", "backward transfer"): -0.0550,
    ("CapyMOA 0.15.1", "backward transfer"): -0.0917,
}


def of_more_than_ends(dialect: Dialect) -> bool:
    """True for what is not computed from the ends of experiences; see `test_prequential.py`."""
    return dialect.name.endswith("looks") or dialect.name == "ttt.cumulative"


def test_dialects_of_a_golden_matrix() -> None:
    got = [d for d in dialects(ends(GOLDEN), "class") if not of_more_than_ends(d)]
    assert {(d.library, d.quantity): round(d.value or 0, 4) for d in got if d.quantity != "accuracy"} == PRINTED
    final = (0.72 + 0.75 + 0.91 + 0.95) / 4
    rows = (0.8 + 0.875 + 2.18 / 3 + final) / 4
    incremental = ("Average Accuracy (CNN)", "Overall Avg Acc")
    for d in got:
        if d.quantity == "accuracy":
            assert d.value == pytest.approx(rows if d.name in incremental else final), d
        assert d.ours is None or d.ours in metrics.METRICS
        assert d.name
        assert d.rule


def test_dialects_say_ours_where_the_rule_is_ours() -> None:
    trace = ends(GOLDEN)
    for d in dialects(trace, "class"):
        if of_more_than_ends(d):
            assert d.value is None, "batches and incoming samples are not in this trace"
        elif d.ours is not None:
            assert d.value == pytest.approx(found(trace, d.ours).value), d
        else:
            assert d.library in ("Continuum 1.2.7", "LibContinual a399ed4")


@pytest.mark.parametrize(
    ("R", "forgetting", "backward_transfer"),
    [
        ([[100, 0], [0, 100]], 0.0, 0.0),
        ([[80, 0, 0, 0], [85, 90, 0, 0], [70, 60, 88, 0], [72, 75, 91, 95]], 0.09333333333333334, -0.055),
        ([[85, 64, 51, 27, 31], [4, 7, 1, 17, 82], [65, 92, 50, 61, 98], [73, 63, 54, 56, 94], [28, 82, 67, 0, 39]],
         0.125, 0.059),
    ],
)  # fmt: skip
def test_continuum_prints_these_numbers(R: list[list[int]], forgetting: float, backward_transfer: float) -> None:
    """`forgetting` and `backward_transfer` of continuum 1.2.7, continuum/metrics/metrics.py, as run on R / 100."""
    got = {d.name: d.value for d in dialects(ends((np.array(R) / 100).tolist()), "class") if "1.2.7" in d.library}
    assert got["forgetting"] == pytest.approx(forgetting, abs=1e-15)
    assert got["backward_transfer"] == pytest.approx(backward_transfer, abs=1e-15)


@pytest.mark.parametrize(
    "visits",
    [np.ones((2, 2), bool), np.array([[False, True], [True, False]]), np.array([[True, False], [True, False]])],
)
def test_dialects_are_of_streams_that_visit_each_task_once(visits: NDArray[np.bool_]) -> None:
    got = dialects(ends([[0.5, 0.5], [0.5, 0.5]], visits), "class")
    assert len(got) == len(dialects(ends(GOLDEN), "class"))
    assert {(d.value, d.rule) for d in got} == {(None, ONLY_ONCE)}


def test_dialects_of_what_was_not_evaluated_are_unknown() -> None:
    trace = ends(GOLDEN)
    trace.correct["class"][-1, 0] = NOT_EVALUATED
    assert {d.value for d in dialects(trace, "class") if d.quantity == "forgetting"} == {None}


# ---------------------------------------------------------------------------------------- the papers, plainly
def oracle(trace: Trace) -> dict[str, float]:
    """De Lange et al. 2023, Lopez-Paz and Ranzato 2017, Chaudhry et al. 2018: loops over tasks and iterations.

    For streams that visit every task once, task i in experience i.
    """
    [view] = trace.correct
    k, size = len(trace.visits), int(trace.cell_size[0])
    at_end = {}
    for e in range(len(trace.iteration)):
        if trace.phase[e] == Phase.END:
            at_end[int(trace.experience[e])] = [c / size for c in trace.correct[view][e].tolist()]
    out = {"average_accuracy": sum(at_end[k - 1]) / k}
    out["average_incremental_accuracy"] = sum(sum(at_end[v][: v + 1]) / (v + 1) for v in range(k)) / k
    if k == 1:
        return out
    out["forgetting.after_learning"] = sum(at_end[i][i] - at_end[k - 1][i] for i in range(k - 1)) / (k - 1)
    out["backward_transfer.gem"] = -out["forgetting.after_learning"]
    best = [max(at_end[v][i] for v in range(i, k - 1)) for i in range(k - 1)]
    out["forgetting.chaudhry"] = sum(best[i] - at_end[k - 1][i] for i in range(k - 1)) / (k - 1)
    minima = []
    for i in range(k - 1):
        ended = max(int(n) for n, v in zip(trace.iteration, trace.experience, strict=True) if v == i)
        later = [e for e in range(len(trace.iteration)) if trace.iteration[e] > ended]
        minima.append(min(trace.correct[view][e][i] / size for e in later))
    out["min_acc"] = sum(minima) / (k - 1)
    out["wc_acc"] = at_end[k - 1][k - 1] / k + (1 - 1 / k) * out["min_acc"]
    return out


@given(random_traces(square=True))
def test_metrics_agree_with_the_papers_formulas(trace: Trace) -> None:
    [view] = trace.correct
    for name, expected in oracle(trace).items():
        assert found(trace, name, view).value == pytest.approx(expected, abs=1e-12), name
