"""Traces with sums of measures: in files, joined, cut short, and with mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clbench.errors import UserError
from clbench.results import trace_files
from clbench.results.files import write_arrays
from clbench.testing import make_measured_trace, make_trace
from clbench.testing.states import assert_same
from clbench.trace import Phase
from support import TRACES

VIEW = "domain:squared_error"


def curve(experiences: int = 3, tasks: int = 2) -> NDArray[np.float64]:
    """Levels that are all different, with one that was not evaluated."""
    level = np.arange(experiences * 4 * tasks, dtype=np.float64).reshape(experiences, 4, tasks) / 3
    level[1, 2, 0] = np.nan
    return level


@pytest.mark.parametrize("view", [VIEW, "class.ema_0.99:log_loss"])
def test_a_trace_of_sums_alone_goes_through_a_file(view: str, tmp_path: Path) -> None:
    trace = make_measured_trace(curve(), np.eye(3, 2, dtype=bool), view=view)
    write_arrays(tmp_path / "trace.npz", trace.arrays())
    read = trace_files.read_trace(tmp_path)
    assert (read.correct, read.bits, read.views) == ({}, {}, [view])
    assert read.sums[view].dtype == np.float64
    assert read.values[view].dtype == np.float32
    assert_same(trace.arrays(), read.arrays())
    assert f"views {view}" in repr(read)
    brief = trace_files.read_trace(tmp_path, bits=False)
    assert brief.values == {}
    assert_same(trace.sums, brief.sums)


def test_a_trace_of_counts_and_sums_goes_through_a_file(tmp_path: Path) -> None:
    counted = make_trace(np.full((3, 4, 2), 0.75), np.eye(3, 2, dtype=bool), size=4)
    beside = make_measured_trace(curve(), np.eye(3, 2, dtype=bool), view="class:log_loss")
    both = replace(counted, sums=beside.sums, values=beside.values)
    write_arrays(tmp_path / "trace.npz", both.arrays())
    read = trace_files.read_trace(tmp_path)
    assert read.views == ["class", "class:log_loss"]
    assert_same(both.arrays(), read.arrays())
    assert both.arrays()["schema"] == counted.arrays()["schema"], "a program that knows no sums reads the counts"


@pytest.mark.parametrize("directory", sorted(p.parent for p in TRACES.rglob("trace.npz")), ids=lambda d: d.name)
def test_an_old_trace_has_counts_and_no_sums(directory: Path) -> None:
    trace = trace_files.read_trace(directory)
    assert (trace.sums, trace.values) == ({}, {})
    assert trace.views == list(trace.correct)
    view = trace.views[0]
    np.testing.assert_array_equal(trace.task_mean(view), trace.task_accuracy(view))
    np.testing.assert_array_equal(trace.task_total(view), np.rint(trace.task_accuracy(view) * trace.task_size))


# ------------------------------------------------------------------------------------------------ parts
def test_means_and_totals_are_of_all_cells_of_a_task() -> None:
    trace = make_measured_trace(curve(2))
    joined = replace(trace, task_cells=np.array([[True, True], [False, True]]))
    assert joined.task_size.tolist() == [8, 4]
    np.testing.assert_array_equal(joined.task_total(VIEW)[:, 1], trace.sums[VIEW][:, 1])
    np.testing.assert_array_equal(joined.task_mean(VIEW)[:, 0], trace.sums[VIEW].sum(1) / 8)
    assert np.isnan(joined.task_mean(VIEW)[6]).tolist() == [True, False]
    with pytest.raises(KeyError, match=VIEW):
        joined.task_accuracy(VIEW)


def test_joined_experiences_keep_every_sum_and_value() -> None:
    trace = make_measured_trace(curve(), np.eye(3, 2, dtype=bool), origin=np.array([0, 0, 1], np.int32))
    joined = trace.by_origin()
    assert len(joined.visits) == 2
    assert (joined.phase == Phase.CHANGE).sum() == 2
    assert_same(trace.sums, joined.sums)
    assert_same(trace.values, joined.values)


def test_what_has_begun_and_what_has_ended_hold_their_rows_of_sums_and_values() -> None:
    whole = make_measured_trace(curve(), np.eye(3, 2, dtype=bool))
    kept = np.arange(12) < 10  # the third experience has begun and not ended
    rows = {name: getattr(whole, name)[kept] for name in ("iteration", "experience", "phase")}
    sums, values = {VIEW: whole.sums[VIEW][kept]}, {VIEW: whole.values[VIEW][kept]}
    cut = replace(whole, sums=sums, values=values, **rows)
    assert cut.begun().sums[VIEW].shape == (10, 2)
    ended = cut.ended()
    assert ended is not None
    assert_same({VIEW: whole.sums[VIEW][:8]}, ended.sums)
    assert_same({VIEW: whole.values[VIEW][:8]}, ended.values)
    assert len(ended.visits) == 2


# ------------------------------------------------------------------------------------------------ mistakes
def test_mistakes_of_a_trace_of_sums_are_one_sentence(tmp_path: Path) -> None:
    path, arrays = tmp_path / "trace.npz", make_measured_trace(curve(), np.eye(3, 2, dtype=bool)).arrays()

    def said(**changes: Any) -> str:
        changed = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
        write_arrays(path, changed)
        with pytest.raises(UserError) as caught:
            trace_files.read_trace(tmp_path)
        return str(caught.value).removeprefix(f"{path}: ")

    sums, values = arrays[f"sums.{VIEW}"], arrays[f"values.{VIEW}"]
    assert said(**{f"sums.{VIEW}": sums[:, 1:]}) == f"array 'sums.{VIEW}' has the shape (12, 1), expected (12, 2)."
    assert said(**{f"values.{VIEW}": values[1:]}) == f"array 'values.{VIEW}' has the shape (11, 8), expected (12, 8)."
    missing = {f"sums.{VIEW}": None}
    assert said(**missing, **{"sums.domain:log_loss": sums}) == f"array 'sums.{VIEW}' is missing."
    assert said(**missing) == "no array 'correct.*' and none 'sums.*'."
    known = "(known: squared_error, absolute_error, log_loss)."
    for name in ("domain:pinball", "domain"):
        assert said(**{f"sums.{name}": sums}) == f"array 'sums.{name}' is of an unknown measure {known}"
