"""The numbers of one run as printed and as CSV: units, errors, resolution, gaps, other libraries' words."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clbench.cli import main
from clbench.formatting import quantity
from clbench.metrics import METRICS, compute
from clbench.reports import score
from clbench.results import files, load, trace_files
from clbench.testing.traces import make_trace
from clbench.trace import Trace
from support import TRACES

OF_TESTS = {name: metric for name, metric in METRICS.items() if metric.record is None}
"""Metrics of the test set's record, which every run has."""
HISTORY = TRACES / "schema-1"
SPLIT = HISTORY / "split_synthetic-v1-er"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(trace: Trace, directory: Path = Path("run")) -> Path:
    """A run's folder around a trace."""
    files.write_json(directory / "run.json", json.loads((SPLIT / "run.json").read_text()))
    trace_files.TraceWriter(directory).finish(trace)
    return directory


def scored(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[list[str], list[str]]:
    assert main(["score", *arguments]) == status
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def cells(line: str) -> list[str]:
    """The columns of a printed line, which two spaces part."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def row(lines: list[str], name: str) -> list[str]:
    (found,) = (cells(line) for line in lines if cells(line)[:1] == [name])
    return found


def dip() -> NDArray[np.float64]:
    """Two experiences of three updates: 0.8 falls to 0.2, then 0.5, and ends at 0.74; the second task ends at 0.9."""
    first = [0.0, 0.4, 0.6, 0.8, 0.8]
    return np.array([[[a, np.nan] for a in first], [[0.8, 0], [0.2, 0.5], [0.5, 0.7], [0.74, 0.9], [0.74, 0.9]]])


# ------------------------------------------------------------------------------------------------ metrics
def test_every_metric_has_a_line_with_its_unit_and_direction(capsys: pytest.CaptureFixture[str]) -> None:
    lines, err = scored(capsys, str(SPLIT))
    assert err == []
    assert lines[:3] == [
        "split_synthetic-v1* er 1e3712 seed 0, view class",
        "",
        lines[2],
    ]
    assert cells(lines[2]) == ["metric", "value", "sampling error"]
    assert [line.split()[0] for line in lines[3:]] == list(OF_TESTS)
    computed = compute(load.read(SPLIT).trace)["class"]
    suffix = {"accuracy": " %", "share": " %", "iterations": " iterations"}
    for line, (name, metric) in zip(lines[3:], OF_TESTS.items(), strict=True):
        assert f"  {metric.direction}" in line
        value = cells(line)[1]
        if computed[name]["value"] is None:
            assert value == "undefined"
        else:
            assert value.endswith(suffix.get(metric.unit, " % x iterations"))
            number = float(value.split()[0]) / (1 if metric.unit == "iterations" else 100)
            assert number == pytest.approx(computed[name]["value"], abs=0.0051)


def test_values_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 samples a task: ACC has the standard error sqrt(0.74 x 0.26 / 999 + 0.9 x 0.1 / 999) / 2."""
    lines, _ = scored(capsys, str(saved(make_trace(dip()))))
    error = 100 * np.sqrt((0.74 * 0.26 + 0.9 * 0.1) / 999) / 2
    assert row(lines, "average_accuracy") == ["average_accuracy", "82.00 %", f"± {error:.2f} %", "higher is better"]
    assert row(lines, "forgetting.after_learning")[:2] == ["forgetting.after_learning", "6.00 %"]
    assert row(lines, "min_acc")[:2] == ["min_acc", "20.00 %"]
    assert "bound" not in "\n".join(lines), "every update was evaluated"


def test_a_minimum_between_evaluations_says_which_bound_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = scored(capsys, str(saved(make_trace(dip(), every=10))))
    apart = "evaluations are up to 10 iterations apart"
    assert row(lines, "min_acc")[-1] == row(lines, "wc_acc")[-1] == f"upper bound: {apart}"
    assert (
        row(lines, "gap.depth")[-1] == row(lines, "wf_100")[-1] == row(lines, "wp_100")[-1] == f"lower bound: {apart}"
    )
    assert row(lines, "average_accuracy")[-1] == "higher is better"


@pytest.mark.parametrize("every", [0, 10, 50])
def test_what_the_evaluations_do_not_reach_is_undefined_with_the_reason(
    every: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every metric: a reason beside it, and nothing in the file, exactly where the schedule leaves it undefined."""
    trace = dataclasses.replace(make_trace(dip()[:, [0, 3, 4]], every=every or 150), every=every)
    table = tmp_path / "scores.csv"
    lines, _ = scored(capsys, str(saved(trace)), "--csv", str(table))
    values = {
        r["name"]: r["value"]
        for r in csv.DictReader(io.StringIO(table.read_text(), newline=""))
        if r["table"] == "metric"
    }
    reasons = {name: why for name, metric in METRICS.items() if (why := metric.unreached(every, 0))}
    assert "wf_10" in reasons
    for name, why in reasons.items():
        assert row(lines, name)[1:] == ["undefined", METRICS[name].direction, why]
        assert values[name] == ""
    assert row(lines, "average_accuracy")[1] == "82.00 %"


def test_minus_zero_is_zero() -> None:
    assert quantity(-0.0, "accuracy") == "0.00 %"
    assert quantity(-1e-6, "accuracy") == "0.00 %"
    assert quantity(-0.4, "iterations", 0) == "0 iterations"
    assert quantity(float("nan"), "accuracy") == "undefined"


# ------------------------------------------------------------------------------------------------ the gap
def test_the_gap_has_a_line_for_each_switch_and_earlier_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Level 0.8: 90 % of it is 0.72, reached at 2 + (0.72 - 0.5) / 0.24 updates; 95 % and all of it never."""
    lines, _ = scored(capsys, str(saved(make_trace(dip()))), "--gap")
    head, gap = lines[-2:]
    assert cells(head) == [
        "experience", "task", "before", "depth", "trough after", "back at 90 % after", "back at 95 % after",
        "back at 100 % after", "area", "transient", "permanent",
    ]  # fmt: skip
    never = "not within the experience"
    area = 100 * (0.6 / 2 + (0.6 + 0.3) / 2 + (0.3 + 0.06) / 2)
    assert cells(gap) == [
        "1", "0", "80.00 %", "60.00 %", "1 iteration", "2.9 iterations", never, never,
        f"{area:.2f} % x iterations", "54.00 %", "6.00 %",
    ]  # fmt: skip
    assert lines[-3] == ""


def test_one_experience_has_no_gap(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = scored(capsys, str(saved(make_trace(dip()[:1, :, :1]))), "--gap")
    assert lines[-1] == "no gap"


def test_a_task_that_is_trained_again_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = np.concatenate([dip(), dip()[1:]])
    trace = make_trace(accuracy, np.array([[True, False], [False, True], [True, False]]))
    lines, _ = scored(capsys, str(saved(trace)), "--gap")
    assert [cells(line)[:2] for line in lines[-3:]] == [["1", "0"], ["2", "0 (trained again)"], ["2", "1"]]


# ------------------------------------------------------------------------------------------------ other libraries
def test_what_other_libraries_print(capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = scored(capsys, str(saved(make_trace(dip()))), "--dialects")
    start = max(i for i, line in enumerate(lines) if not line) + 1
    assert cells(lines[start]) == ["library", "its name", "value", "our name", "rule"]
    found = {(c[0], c[3]): c[2] for c in map(cells, lines[start + 1 :])}
    assert found[("Avalanche 0.6", "forgetting.after_learning")] == "6.00 %"
    assert all(len(cells(line)) == 5 for line in lines[start:])
    libraries = " ".join(library for library, _ in found)
    assert all(name in libraries for name in ("Mammoth", "PyCIL", "FACIL", "Continuum 1.2.7", "Renate", "LibContinual"))


# ------------------------------------------------------------------------------------------------ CSV
def read(path: str) -> list[dict[str, Any]]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_csv_holds_what_is_printed_unrounded(capsys: pytest.CaptureFixture[str]) -> None:
    directory = saved(make_trace(dip() + 1e-3))
    printed, _ = scored(capsys, str(directory))
    assert scored(capsys, str(directory), "--csv", "new/a.csv")[0] == printed
    rows = read("new/a.csv")
    assert list(rows[0]) == ["table", "view", "name", "value", "unit", "se", "resolution", "better"]
    computed = compute(load.read(directory).trace)["class"]
    assert [r["name"] for r in rows] == list(OF_TESTS)
    for r in rows:
        assert (r["table"], r["view"], r["unit"]) == ("metric", "class", METRICS[r["name"]].unit)
        for key in ("value", "se", "resolution"):
            value = computed[r["name"]].get(key)
            assert r[key] == ("" if value is None else str(value))


def test_csv_of_all_tables_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    scored(capsys, str(saved(make_trace(dip()))), "--gap", "--dialects", "--csv", "a.csv")
    rows = read("a.csv")
    assert {len(r) for r in rows} == {len(rows[0])}
    assert list(dict.fromkeys(r["table"] for r in rows)) == ["metric", "gap", "dialect"]
    (gap,) = (r for r in rows if r["table"] == "gap")
    assert (gap["experience"], gap["task"], gap["trained_again"], gap["name"]) == ("1", "0", "false", "")
    assert float(gap["recovery_90"]) == pytest.approx(2 + 0.22 / 0.24)
    assert (gap["recovery_95"], gap["recovery_100"]) == ("inf", "inf"), "not the same as undefined, which is empty"
    assert all(r["rule"] and r["library"] for r in rows if r["table"] == "dialect")


def test_a_spreadsheet_executes_no_cell() -> None:
    table = score.Table("gap", ("a", "b", "c"), ("a", "b", "c"), [("=1+1", -1.5, None)], [])
    assert score.to_csv([table], "class") == b"table,view,a,b,c\ngap,class,'=1+1,-1.5,\n"


# ------------------------------------------------------------------------------------------------ mistakes
def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert scored(capsys, "nowhere", status=2) == ([], ["nowhere: no such folder."])
    assert scored(capsys, str(SPLIT), "--view", "clas", status=2) == (
        [],
        [f"{SPLIT}: unknown view 'clas'. Did you mean 'class'? Allowed: class."],
    )
    assert scored(capsys, str(HISTORY), status=2) == (
        [],
        [f"{HISTORY}: 2 runs below it; name one of them, such as {HISTORY / 'rotated_digits-v1-naive'}."],
    )
    directory = saved(make_trace(dip()))
    record = json.loads((directory / "run.json").read_text())
    files.write_json(directory / "run.json", {**record, "status": "running"})
    assert scored(capsys, "run", status=2) == ([], ["run: no evaluation is written yet."])
    files.write_json(directory / "run.json", {**record, "primary_view": "task"})
    assert scored(capsys, "run", status=2) == ([], ["run/trace.npz: the run's primary view 'task' is missing."])
    assert scored(capsys, "run", "--view", "class")[1] == []
