"""Metrics of incoming samples, against their definitions in exact fractions."""

from __future__ import annotations

import dataclasses
import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench import metrics
from clbench.metrics.dialects import dialects
from clbench.metrics.prequential import FADING, WINDOWS, fading_curve, window_curve
from clbench.prequential import Prequential
from clbench.testing.traces import make_trace
from clbench.trace import Phase, Trace

NAMES = [name for name, metric in metrics.METRICS.items() if metric.record == "prequential"]
Results = dict[str, tuple[Fraction | None, list[Fraction | None]]]


def share(right: list[int]) -> Fraction | None:
    return Fraction(sum(right), len(right)) if right else None


def faded(right: list[int], factor: Fraction) -> Fraction | None:
    if not right:
        return None
    n = len(right)
    above = sum((factor ** (n - 1 - s) * right[s] for s in range(n)), Fraction(0))
    return above / sum((factor ** (n - 1 - s) for s in range(n)), Fraction(0))


def by_definition(right: list[list[int]], unavailable: list[int]) -> Results:
    """Values of all metrics, with those of each experience.

    Args:
        right: of each experience, in order of arrival.
        unavailable: samples without a prediction in each experience.
    """
    so_far = [[c for of in right[: v + 1] for c in of] for v in range(len(right))]
    shares = [share(of) for of in right]
    known = [p for p in shares if p is not None]
    missing = [Fraction(u, len(of)) if of else None for u, of in zip(unavailable, right, strict=True)]
    everything = so_far[-1]
    out: Results = {
        "prequential.accuracy": (share(everything), shares),
        "prequential.experience_average": (sum(known, Fraction(0)) / len(known) if known else None, shares),
        "prequential.unavailable": (Fraction(sum(unavailable), len(everything)) if everything else None, missing),
    }
    for w in WINDOWS:
        curve = [share(of[-w:]) for of in so_far]
        out[f"prequential.windowed_{w}"] = curve[-1], curve
    for a in FADING:
        curve = [faded(of, Fraction(str(a))) for of in so_far]
        out[f"prequential.fading_{a}"] = curve[-1], curve
    if not everything:
        return {name: (None, [None] * len(right)) for name in out}
    return out


def check(trace: Trace, expected: Results) -> None:
    got = metrics.compute(trace)["class"]
    assert expected.keys() == set(NAMES)
    for name, (value, parts) in expected.items():
        pairs = [(got[name]["value"], value), *zip(got[name]["per_experience"], parts, strict=True)]
        for ours, exact in pairs:
            assert (ours is None) == (exact is None), name
            assert ours is None or exact is None or ours == pytest.approx(float(exact), abs=1e-12), name


def build(right: list[list[list[int]]], unavailable: list[list[int]]) -> Trace:
    """A trace of experiences of equally many updates: for each experience and update, what is right."""
    trace = make_trace(np.zeros((len(right), len(right[0]) + 2, len(right))))
    flat = [c for of in right for update in of for c in update]
    incoming = np.array([len(update) for of in right for update in of], np.int32)
    missing = np.array([n for of in unavailable for n in of], np.int32)
    record = Prequential({"class": np.array(flat, bool)}, incoming, 0 * incoming, missing)
    return dataclasses.replace(trace, prequential=record)


def test_by_hand() -> None:
    """Six samples in three updates, then nothing new, then two."""
    trace = build([[[0, 1], [1, 1], [0, 1]], [[], [], []], [[1], [], [1]]], [[1, 0, 0], [0] * 3, [0] * 3])
    got = metrics.compute(trace)["class"]
    assert got["prequential.accuracy"] == {"value": 6 / 8, "per_experience": [4 / 6, None, 1.0]}
    assert got["prequential.experience_average"]["value"] == pytest.approx(5 / 6)
    assert got["prequential.windowed_100"] == {"value": 6 / 8, "per_experience": [4 / 6, 4 / 6, 6 / 8]}
    assert got["prequential.unavailable"] == {"value": 1 / 8, "per_experience": [1 / 6, None, 0.0]}
    a = 0.99
    weights = [a**k for k in range(8)]  # the newest first: 1 1 1 0 1 1 1 0
    value = sum(w for w, c in zip(weights, [1, 1, 1, 0, 1, 1, 1, 0], strict=True) if c) / sum(weights)
    assert got["prequential.fading_0.99"]["value"] == pytest.approx(value)
    check(trace, by_definition([[0, 1, 1, 1, 0, 1], [], [1, 1]], [1, 0, 0]))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([0, 1, 3, 60]),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    st.integers(0, 2**20),
)
def test_any_record(experiences: int, updates: int, most: int, skill: float, seed: int) -> None:
    chance = random.Random(seed)
    right = [
        [[int(chance.random() < skill) for _ in range(chance.randint(0, most))] for _ in range(updates)]
        for _ in range(experiences)
    ]
    unavailable = [[chance.randint(0, update.count(0)) for update in of] for of in right]
    trace = build(right, unavailable)
    flat = [[c for update in of for c in update] for of in right]
    expected = by_definition(flat, [sum(of) for of in unavailable])
    check(trace, expected)
    check(Trace.from_arrays(trace.arrays()), expected)


def test_many_samples_leave_no_trace_of_what_is_left_out() -> None:
    """More samples than a fading factor's sum reaches back."""
    right = np.random.default_rng(0).random(60_000) < 0.7
    right[:5000] = False
    for factor in (0.9, 0.999):
        tail = [int(c) for c in right[-30_000:]]
        exact, weight = math.fsum(factor**k * c for k, c in enumerate(tail[::-1])), (1 - factor**60_000) / (1 - factor)
        [value] = fading_curve(right, np.array([len(right)]), factor)
        assert value == pytest.approx(exact / weight, abs=1e-12)
    assert window_curve(right, np.array([60_000]), 1000)[0] == right[-1000:].mean()


def test_a_pass_that_is_cut_into_pieces_has_the_values_of_the_whole() -> None:
    right = np.array([[False, True, True, False, True, True]] * 2)
    whole = make_trace(np.zeros((2, 5, 2)), prequential=right)
    pieces = make_trace(
        np.zeros((4, 4, 2)),
        np.array([[True, False]] * 2 + [[False, True]] * 2),
        origin=np.array([0, 0, 2, 2], np.int32),
        prequential=right.reshape(4, 3),
    )
    one, two = (metrics.compute(trace)["class"] for trace in (whole, pieces))
    assert (pieces.phase == Phase.END).sum() == 4
    for name in NAMES:
        assert one[name] == two[name], name


def test_without_the_record_they_are_left_out_and_asked_for_they_are_undefined() -> None:
    trace = make_trace(np.zeros((2, 4, 2)))
    assert not set(metrics.compute(trace)["class"]) & set(NAMES)
    asked = metrics.compute(trace, [metrics.METRICS[name] for name in NAMES])["class"]
    assert {name: entry["value"] for name, entry in asked.items()} == dict.fromkeys(NAMES)
    other = make_trace(np.zeros((2, 4, 2)), prequential=np.ones((2, 4), bool))
    other = dataclasses.replace(other, correct={**other.correct, "class.ema_0.9": other.correct["class"]})
    got = metrics.compute(other)
    assert set(NAMES) <= set(got["class"])
    assert not set(NAMES) & set(got["class.ema_0.9"]), "averaged weights do not predict incoming samples"


def numbers(values: list[list[float]]) -> Trace:
    """A trace of one update an experience, of the squared error of its samples."""
    view, n = "domain:squared_error", np.array([len(of) for of in values], np.int32)
    trace = make_trace(np.zeros((len(values), 3, len(values))), view="domain")
    flat = np.array([v for of in values for v in of], np.float32)
    record = Prequential({}, n, 0 * n, np.array([sum(map(math.isnan, of)) for of in values], np.int32), 0, {view: flat})
    sums = {view: np.zeros((3 * len(values), len(values)))}
    return dataclasses.replace(trace, correct={}, bits={}, sums=sums, prequential=record)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1e6, width=32), max_size=150), min_size=1, max_size=4))
def test_any_numbers(values: list[list[float]]) -> None:
    """Sums of numbers are rounded once, whatever their order."""
    trace = numbers(values)
    for one in (trace, Trace.from_arrays(trace.arrays())):
        got = metrics.compute(one)["domain:squared_error"]
        exact = [[Fraction(v) for v in of] for of in values]
        so_far = [[c for of in exact[: v + 1] for c in of] for v in range(len(exact))]
        if not so_far[-1]:
            assert got["prequential.average"] == {"value": None, "per_experience": [None] * len(values)}
            continue
        means = [sum(of, Fraction(0)) / len(of) if of else None for of in exact]
        parts = zip(got["prequential.average"]["per_experience"], means, strict=True)
        assert all(ours == (None if m is None else pytest.approx(float(m), rel=1e-15)) for ours, m in parts)
        assert got["prequential.average"]["value"] == pytest.approx(float(sum(so_far[-1]) / len(so_far[-1])), rel=1e-15)
        last = so_far[-1][-100:]
        assert got["prequential.windowed_100"]["value"] == pytest.approx(float(sum(last) / len(last)), rel=1e-15)
        fading = faded(so_far[-1], Fraction(99, 100))  # type: ignore[arg-type]
        assert got["prequential.fading_0.99"]["value"] == pytest.approx(float(fading or 0), rel=1e-12)
        known = [m for m in means if m is not None]
        assert got["prequential.experience_average"]["value"] == pytest.approx(
            float(sum(known) / len(known)), rel=1e-12
        )


def test_a_number_that_is_missing_is_not_averaged_away() -> None:
    got = metrics.compute(numbers([[1.0, math.nan], [3.0, 5.0]]))["domain:squared_error"]
    assert got["prequential.average"] == {"value": None, "per_experience": [None, 4.0]}
    assert got["prequential.experience_average"]["value"] is None
    assert got["prequential.windowed_100"]["value"] is None
    assert got["prequential.unavailable"] == {"value": 0.25, "per_experience": [0.5, 0.0]}


def test_capymoa_counts_every_epoch_and_its_matrix_depends_on_the_looks() -> None:
    """As run by `findings/capymoa_prequential_epochs.sh`: 15 batches a task, a learner knows what it learnt."""
    batches = np.arange(16) / 15
    first = np.concatenate([batches, [1.0]])
    curves = np.stack([np.stack([first, 0 * first], 1), np.stack([0 * first + 1, first], 1)])
    trace = make_trace(curves, size=150, prequential=np.zeros((2, 150), bool))
    got = {d.name: d.value for d in dialects(trace, "class") if d.library == "CapyMOA 0.15.1"}
    assert got == {
        "ttt.cumulative": 0.0,
        "accuracy_final": 1.0,
        "backward_transfer": 0.0,
        "accuracy_final, 10 looks": pytest.approx(0.8333, abs=1e-4),
        "backward_transfer, 10 looks": pytest.approx(0.3333, abs=1e-4),
    }
    assert trace.prequential is not None
    again = dataclasses.replace(trace.prequential, repeated=1 + trace.prequential.repeated)
    got = {d.name: d.value for d in dialects(dataclasses.replace(trace, prequential=again), "class")}
    assert got["ttt.cumulative"] is None, "of several epochs it has another number there"
