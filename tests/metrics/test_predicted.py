"""Predicted outputs in a trace: what is recorded, what is computed of it, and that old traces read as before."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clbench import metrics
from clbench.errors import UserError
from clbench.metrics import confusion
from clbench.results import files, read_trace
from clbench.results.load import read
from clbench.runner.run import execute
from clbench.testing.traces import make_trace
from clbench.trace import NOT_EVALUATED, UNAVAILABLE, Phase, Trace
from support import TRACES, assembled, make_run, trace_of, watched

NAN = float("nan")
EVERY = np.ones((3, 3, 3))


def share(trace: Trace, view: str = "class") -> metrics.Value:
    return metrics.METRICS["recency.predicted_newest"].compute(trace.by_origin(), view)


def predicted(*rows: str) -> NDArray[np.int64]:
    """Outputs as digits, a row for each experience; "-" where there is none."""
    return np.array([[-1 if c == "-" else int(c) for c in row] for row in rows])


def test_the_share_that_falls_on_newest_classes_by_hand() -> None:
    """Tasks 0, 1, 2 of one class and four samples each, taught one after the other."""
    rows = predicted("0000--------", "01111110----", "022212200000")
    got = share(make_trace(EVERY, size=4, predicted=rows))
    assert got.parts.tolist() == pytest.approx([NAN, 3 / 4, 5 / 8], nan_ok=True)
    assert got.value == pytest.approx((3 / 4 + 5 / 8) / 2)
    assert got.weights is None
    revisit = np.array([[True, False, False], [False, True, False], [True, False, False]])
    again = share(make_trace(EVERY, revisit, size=4, predicted=rows))
    assert again.parts.tolist() == pytest.approx([NAN, 3 / 4, 1 / 4], nan_ok=True), "class 0 is the newest once more"


def test_where_no_class_is_earlier_or_a_prediction_is_missing_it_is_undefined() -> None:
    same = np.array([[True, True, True]] * 3)
    rows = predicted("0" * 12, "0" * 12, "0" * 12)
    assert np.isnan(share(make_trace(EVERY, same, size=4, predicted=rows)).value), "all classes are the newest"
    hole = share(make_trace(EVERY, size=4, predicted=predicted("0000--------", "0000-000----", "0" * 12)))
    assert hole.parts.tolist() == pytest.approx([NAN, 0, 0], nan_ok=True), "a sample of a newest class does not count"
    hole = share(make_trace(EVERY, size=4, predicted=predicted("0000--------", "-00000000000", "0" * 12)))
    assert np.isnan(hole.value)
    assert np.isnan(share(make_trace(EVERY, size=4)).value), "not recorded"
    assert np.isnan(share(make_trace(EVERY, size=4, predicted=rows, view="task"), "task").value), (
        "others do not compete"
    )


def test_confusion_by_hand() -> None:
    trace = make_trace(EVERY, size=4, predicted=predicted("0000--------", "01111110----", "0222122-0000"))
    trace.correct["class"][trace.experience < 2, 2] = NOT_EVALUATED
    classes, counts = confusion(trace, "class")
    assert classes.tolist() == [0, 1, 2]
    assert counts.tolist() == [[1, 0, 3, 0], [0, 1, 2, 1], [4, 0, 0, 0]]
    assert confusion(trace, "class", 1)[1].tolist() == [[1, 3, 0, 0], [1, 3, 0, 0], [0] * 4], (
        "class 2 was not evaluated"
    )
    with pytest.raises(UserError, match=r"there is no experience 3. Allowed: 0 to 2"):
        confusion(trace, "class", 3)
    shared = dataclasses.replace(trace, cell_target=np.array([0, 1, 0]))
    assert confusion(shared, "class")[0].tolist() == [0, 1], "outputs, where classes share them"


def test_accuracy_of_classes_is_over_the_domains_that_were_evaluated() -> None:
    trace = make_trace(np.array([[[0.5, 0.25, 0.0]] * 3]), size=4)
    trace = dataclasses.replace(trace, cell_class=np.array([7, 5, 7], np.int32))
    trace.correct["class"][0] = [NOT_EVALUATED, NOT_EVALUATED, 1]
    trace.correct["class"][1] = [2, UNAVAILABLE, UNAVAILABLE]
    classes, accuracy = trace.class_accuracy("class")
    assert classes.tolist() == [5, 7]
    np.testing.assert_array_equal(accuracy, [[NAN, 0.25], [NAN, NAN], [0.25, 0.25]])


# ------------------------------------------------------------------------------------------------ what a run records
RUNS = {
    "replay": ("er", []),
    "every way of looking": ("er", ["evaluation.every=1", "evaluation.scope=all", "watch={ema: [0.5]}"]),
    "class means": ("ncm", []),
    "heads that grow": ("fetril", ["evaluation.scope=all"]),
    "networks": ("separate", []),
    "online": ("naive", ["stream.online=50", "training.iterations=2"]),
    "subset": ("naive", ["evaluation={every: 2, subset: 10}"]),
    "composition": ("er+ewc", []),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_sample_is_right_where_its_prediction_is_its_target(kind: str) -> None:
    strategy, overrides = RUNS[kind]
    bench = assembled(make_run(strategy, *overrides))
    trace = trace_of(bench, watched(bench))
    at_end = trace.phase == Phase.END
    target, cell = np.repeat(trace.cell_target, trace.cell_size), trace.sample_cell
    assert set(trace.predicted) == set(trace.correct)
    for view in trace.correct:
        outputs = trace.predictions(view)
        assert trace.predicted[view].dtype == np.uint8
        assert np.array_equal(outputs == target, trace.sample_correct(view)[at_end])
        assert np.array_equal(outputs < 0, (trace.correct[view][at_end] < 0)[:, cell])
        assert outputs.max() < bench.stream.outputs
    read = Trace.from_arrays(trace.arrays())
    assert all(np.array_equal(read.predicted[view], trace.predicted[view]) for view in trace.predicted)
    joined = trace.by_origin()
    assert all(len(outputs) == len(joined.visits) for outputs in joined.predicted.values())


def test_more_than_255_outputs_take_two_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = ["stream.synthetic.classes=300", "stream.synthetic.train_per_class=2", "stream.tasks.count=3"]
    bench = assembled(make_run("naive", "evaluation.every=0", *classes))
    trace = trace_of(bench, watched(bench))
    assert trace.predicted["class"].dtype == np.uint16
    target = np.repeat(trace.cell_target, trace.cell_size)
    right = trace.sample_correct("class")[trace.phase == Phase.END]
    assert np.array_equal(trace.predictions("class") == target, right)
    assert (trace.predictions("class")[0] == -1).sum() == (target >= 0).sum() * 2 // 3


def test_predictions_stand_beside_a_trace_of_the_same_bytes(tmp_path: Path) -> None:
    """By its bytes a run is verified, and earlier versions recorded no predictions."""
    outcomes = {
        keep: execute(make_run("er", f"watch.predictions={keep}"), tmp_path / keep).directory
        for keep in ("true", "false", "null")
    }
    traces = {keep: (directory / "trace.npz").read_bytes() for keep, directory in outcomes.items()}
    assert traces["true"] == traces["false"] == traces["null"]
    assert not (outcomes["false"] / files.PREDICTIONS).exists()
    without = read_trace(outcomes["false"])
    assert not without.predicted
    assert not without.cell_target.size
    assert outcomes["null"].parent.name == execute(make_run("er"), tmp_path / "null").directory.parent.name


def test_a_record_that_would_be_large_is_left_out_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.runner.components._PREDICTIONS_BYTES", 5 * 2 * 200 - 1)
    assert not assembled(make_run("naive")).evaluator.keeps_predictions
    assert assembled(make_run("naive", "watch.predictions=true")).evaluator.keeps_predictions
    monkeypatch.setattr("clbench.runner.components._PREDICTIONS_BYTES", 5 * 2 * 200)
    assert assembled(make_run("naive")).evaluator.keeps_predictions


def test_damage_is_named_and_old_traces_have_none(tmp_path: Path) -> None:
    directory = execute(make_run("naive", "evaluation.every=0"), tmp_path).directory
    arrays = files.read_arrays(directory / files.PREDICTIONS)
    files.write_arrays(directory / files.PREDICTIONS, {**arrays, "predicted.class": arrays["predicted.class"][1:]})
    with pytest.raises(UserError, match=r"array 'predicted.class' has the shape \(4, 200\), expected \(5, 200\)"):
        read(directory)
    files.write_arrays(directory / files.PREDICTIONS, {n: a for n, a in arrays.items() if n != "cell_target"})
    with pytest.raises(UserError, match="array 'cell_target' is missing"):
        read(directory)
    for path in TRACES.rglob("run.json"):
        old = read(path.parent).trace
        assert not old.predicted
        assert np.isnan(share(old, next(iter(old.correct))).value)
