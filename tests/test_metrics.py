"""Metrics: numbers worked by hand, and an oracle written as plainly as the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clbench import metrics
from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace

# R of three tasks; rows are experiences. Worked by hand below.
R = np.array([[0.80, 0.10, 0.10], [0.60, 0.90, 0.10], [0.70, 0.50, 1.00]])
ONCE = np.eye(3, dtype=bool)


def make_trace(accuracy: NDArray[np.float64], visits: NDArray[np.bool_], iterations: int, size: int = 1000) -> Trace:
    """A trace of single-cell tasks: in each experience one evaluation before, then one an update, one at the end.

    accuracy: (V, iterations + 2, T).
    """
    experiences, per, tasks = accuracy.shape
    assert per == iterations + 2
    counts = np.rint(accuracy.reshape(-1, tasks) * size).astype(np.int32)
    within = np.array([0, *range(1, iterations + 1), iterations])
    return Trace(
        correct={"class": counts},
        cell_domain=np.zeros(tasks, np.int32),
        cell_class=np.arange(tasks, dtype=np.int32),
        cell_size=np.full(tasks, size, np.int32),
        task_cells=np.eye(tasks, dtype=bool),
        visits=visits,
        iteration=np.concatenate([within + v * iterations for v in range(experiences)]).astype(np.int64),
        experience=np.repeat(np.arange(experiences), per).astype(np.int32),
        phase=np.tile([Phase.BEFORE, *[Phase.ITERATION] * iterations, Phase.END], experiences).astype(np.int8),
        loss=np.zeros(experiences * iterations, np.float32),
        every=1,
    )


def value(trace: Trace, name: str) -> float:
    return metrics.METRICS[name].compute(trace, "class")[1]


def test_matrix_metrics_by_hand() -> None:
    assert metrics.average_accuracy(R, ONCE)[1] == pytest.approx((0.7 + 0.5 + 1.0) / 3)
    assert metrics.average_incremental_accuracy(R, ONCE)[1] == pytest.approx((0.8 + 0.75 + 2.2 / 3) / 3)
    assert metrics.forgetting_after_learning(R, ONCE)[1] == pytest.approx(((0.8 - 0.7) + (0.9 - 0.5)) / 2)
    assert metrics.backward_transfer(R, ONCE)[1] == pytest.approx(-0.25)
    # Chaudhry: best of 0.80 and 0.60 for task 0; 0.90 for task 1.
    assert metrics.forgetting_chaudhry(R, ONCE)[1] == pytest.approx(0.25)


def test_chaudhry_looks_at_earlier_rows_and_not_at_the_last() -> None:
    matrix = np.array([[0.5, 0, 0], [0.8, 0.9, 0], [0.9, 0.6, 1.0]])
    per_task, mean = metrics.forgetting_chaudhry(matrix, ONCE)
    assert per_task[:2].tolist() == pytest.approx([0.8 - 0.9, 0.9 - 0.6])
    assert mean == pytest.approx(0.1)


def test_worst_case_metrics_by_hand() -> None:
    """Task 0 dips to 0.2 in experience 1 and to 0.4 in experience 2; task 1 dips to 0.3 in experience 2."""
    accuracy = np.array(
        [
            # before, two updates, end
            [[0.1, 0.1, 0.1], [0.6, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]],
            [[0.8, 0.1, 0.1], [0.2, 0.5, 0.1], [0.6, 0.9, 0.1], [0.6, 0.9, 0.1]],
            [[0.6, 0.9, 0.1], [0.4, 0.3, 0.7], [0.7, 0.5, 1.0], [0.7, 0.5, 1.0]],
        ]
    )
    trace = make_trace(accuracy, ONCE, iterations=2)
    assert metrics.accuracy_matrix(trace, "class") == pytest.approx(R)
    per_task, minimum = metrics.minimum_accuracy(trace, "class")
    assert per_task[:2].tolist() == pytest.approx([0.2, 0.3])
    assert math.isnan(per_task[2])
    assert minimum == pytest.approx(0.25)
    # k = 3: 1/3 of the current task, 2/3 of min-ACC.
    assert value(trace, "wc_acc") == pytest.approx(1.0 / 3 + 2 / 3 * 0.25)


def test_minimum_starts_after_the_last_update_of_the_first_visit() -> None:
    """A dip at n = |T_0| (the last update on task 0, and its end) does not count: the paper's n is strictly larger."""
    accuracy = np.full((2, 3, 2), 0.9)
    accuracy[0, 1:, 0] = 0.3
    accuracy[1, 0, 0] = 0.3  # before the first update of experience 1: still n = |T_0|
    assert value(make_trace(accuracy, np.eye(2, dtype=bool), 1), "min_acc") == pytest.approx(0.9)


def test_minimum_leaves_out_later_visits() -> None:
    """Tasks 0, 1, 0: what happens to task 0 while it is visited again is not forgetting."""
    visits = np.array([[True, False], [False, True], [True, False]])
    accuracy = np.full((3, 3, 2), 0.9)
    accuracy[2, 1, 0] = 0.1
    accuracy[1, 1, 0] = 0.5
    accuracy[2, 1, 1] = 0.4
    trace = make_trace(accuracy, visits, 1)
    assert metrics.minimum_accuracy(trace, "class")[0].tolist() == pytest.approx([0.5, 0.4])
    # The last experience visits task 0: its accuracy counts as current, task 1 with its minimum.
    assert value(trace, "wc_acc") == pytest.approx((0.9 + 0.4) / 2)


def test_one_task_is_its_accuracy_and_forgets_nothing_that_could_be_measured() -> None:
    trace = make_trace(np.full((1, 3, 1), 0.6), np.ones((1, 1), bool), 1)
    assert value(trace, "wc_acc") == pytest.approx(0.6)
    for name in ("min_acc", "forgetting.after_learning", "forgetting.chaudhry", "backward_transfer.gem"):
        assert math.isnan(value(trace, name)), name
    assert metrics.compute(trace)["class"]["min_acc"]["value"] is None


@pytest.mark.parametrize("missing", [NOT_EVALUATED, UNAVAILABLE])
def test_a_gap_in_the_record_is_a_gap_in_the_metric(missing: int) -> None:
    trace = make_trace(np.full((2, 3, 2), 0.5), np.eye(2, dtype=bool), 1)
    trace.correct["class"][-1, 0] = missing
    found = metrics.compute(trace)["class"]["average_accuracy"]
    assert found == {"value": None, "per_task": [None, 0.5]}


@given(st.floats(0, 1), st.integers(2, 5), st.integers(1, 4))
def test_a_constant_model_has_its_accuracy_as_minimum_and_forgets_nothing(
    a: float, tasks: int, iterations: int
) -> None:
    trace = make_trace(np.full((tasks, iterations + 2, tasks), a), np.eye(tasks, dtype=bool), iterations)
    exact = round(a * 1000) / 1000
    for name in ("average_accuracy", "average_incremental_accuracy", "min_acc", "wc_acc"):
        assert value(trace, name) == pytest.approx(exact, abs=1e-12), name
    for name in ("forgetting.after_learning", "forgetting.chaudhry", "backward_transfer.gem"):
        assert value(trace, name) == pytest.approx(0, abs=1e-12), name


# ------------------------------------------------------------------------------------------------ the oracle
def oracle(trace: Trace) -> dict[str, float]:
    """De Lange et al. 2023, Lopez-Paz and Ranzato 2017, Chaudhry et al. 2018: loops over tasks and iterations.

    For streams that visit every task once, task i in experience i.
    """
    k = len(trace.visits)
    size = int(trace.cell_size[0])
    at_end = {}
    for e in range(len(trace.iteration)):
        if trace.phase[e] == Phase.END:
            at_end[int(trace.experience[e])] = [c / size for c in trace.correct["class"][e].tolist()]
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
        minima.append(min(trace.correct["class"][e][i] / size for e in later))
    out["min_acc"] = sum(minima) / (k - 1)
    out["wc_acc"] = at_end[k - 1][k - 1] / k + (1 - 1 / k) * out["min_acc"]
    return out


@st.composite
def random_traces(draw: st.DrawFn) -> Trace:
    tasks, iterations = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    accuracy = np.random.default_rng(seed).random((tasks, iterations + 2, tasks))
    return make_trace(accuracy, np.eye(tasks, dtype=bool), iterations)


@settings(max_examples=200)
@given(random_traces())
def test_metrics_agree_with_the_oracle_and_stay_in_their_ranges(trace: Trace) -> None:
    for name, expected in oracle(trace).items():
        assert value(trace, name) == pytest.approx(expected, abs=1e-12), name
    for metric in metrics.METRICS.values():
        found = metric.compute(trace, "class")[1]
        assert math.isnan(found) or metric.range[0] <= found <= metric.range[1], metric.name


@given(random_traces(), st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter(trace: Trace, rng: object) -> None:
    """Cells may be stored in any order: what a task is, is said by `task_cells`."""
    order = np.array(rng.sample(range(len(trace.cell_size)), len(trace.cell_size)))  # type: ignore[attr-defined]
    other = Trace(
        **{
            **vars(trace),
            "correct": {"class": trace.correct["class"][:, order]},
            "cell_class": trace.cell_class[order],
            "cell_size": trace.cell_size[order],
            "task_cells": trace.task_cells[:, order],
        }
    )
    assert metrics.compute(other) == metrics.compute(trace)


def test_tasks_of_several_cells_weigh_samples() -> None:
    trace = make_trace(np.full((1, 3, 2), 0.5), np.ones((1, 1), bool), 1)
    trace = Trace(**{**vars(trace), "task_cells": np.ones((1, 2), bool), "cell_size": np.array([1000, 3000], np.int32)})
    assert trace.task_accuracy("class")[-1, 0] == pytest.approx((500 + 500) / 4000)


def test_every_metric_says_what_it_is() -> None:
    for name, metric in metrics.METRICS.items():
        assert metric.name == name
        assert all([metric.formula, metric.source, metric.title])
        assert metric.better in ("higher", "lower")
