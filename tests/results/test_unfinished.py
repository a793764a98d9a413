"""Runs that are not finished: read as far as they are written, scored on the experiences that have ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench import resolve
from clbench.cli import main
from clbench.errors import UserError
from clbench.metrics import compute
from clbench.results import find_runs, load, read_trace
from clbench.run_config import RunConfig
from clbench.runner import attempt
from clbench.runner.run import execute
from clbench.testing import assert_same
from clbench.testing.traces import make_trace
from support import CrashAt

TINY = ["training.iterations=5", "stream.tasks.count=2"]


def planned(*overrides: str) -> RunConfig:
    return resolve.make_run("split_synthetic-v1", strategy="naive", overrides=[*TINY, *overrides])


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """The folder of the finished run: two experiences of five updates."""
    return execute(planned(), tmp_path / "whole").directory


def stopped(out: Path, update: int) -> Path:
    with pytest.raises(KeyboardInterrupt):
        execute(planned(), out, progress=CrashAt(update))
    (directory,) = find_runs(out)
    return directory


def test_its_trace_is_the_beginning_of_the_finished_one(tmp_path: Path, whole: Path) -> None:
    directory = stopped(tmp_path / "part", 7)
    with pytest.raises(UserError, match="only a finished run has a complete trace"):
        load.read(directory)
    run, finished = load.read(directory, partial=True), read_trace(whole)
    assert (run.unfinished, run.at, run.planned) == ("unfinished", 7, 2)
    rows = len(run.trace.iteration)
    for name, array in run.trace.arrays().items():
        expected = finished.arrays()[name]
        if name.startswith("predicted."):
            assert_same(array, expected[:1])
            continue
        grows = name.partition(".")[0] in ("correct", "bits", "extra", "iteration", "experience", "phase")
        assert_same(array, expected[: 7 if name == "loss" else rows] if grows or name == "loss" else expected)
    assert len(run.trace.loss) == 7
    assert rows < len(finished.iteration)


def test_its_scores_are_those_of_the_experiences_that_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = stopped(tmp_path / "part", 7)
    run = load.read(directory, partial=True)
    matrix = run.scored().task_accuracy("class")[-1]
    assert compute(run.scored())["class"]["average_accuracy"]["value"] == matrix[0]
    assert main(["score", str(directory), "--gap", "--dialects"]) == 0
    assert "unfinished: update 7; values of the first 1 of 2 experiences" in capsys.readouterr().out


def test_before_an_experience_has_ended_it_has_no_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = stopped(tmp_path / "part", 3)
    run = load.read(directory, partial=True)
    assert run.trace.visits.tolist() == [[True, False]]
    assert main(["score", str(directory)]) == 2
    assert capsys.readouterr().err == f"{directory}: unfinished; no experience has ended yet.\n"


def test_a_run_of_which_nothing_is_written_is_left_out(tmp_path: Path, whole: Path) -> None:
    directory = stopped(tmp_path / "part", 3)
    for chunk in (directory / "trace").glob("chunk-*"):
        chunk.unlink()
    runs, left_out = load.read_all([tmp_path], 9, partial=True)
    assert [run.directory for run in runs] == [whole]
    assert left_out == [f"{directory}: unfinished, without an evaluation."]
    with pytest.raises(UserError, match=r"unfinished, without an evaluation\.$"):
        load.read_all([directory], 9, partial=True)
    with pytest.raises(UserError, match=r"no evaluation is written yet\.$"):
        load.read(directory, partial=True)


def test_several_are_read_with_finished_ones(tmp_path: Path, whole: Path) -> None:
    directory = stopped(tmp_path / "part", 7)
    runs, left_out = load.read_all([tmp_path], 9, partial=True)
    assert {(run.directory, run.unfinished) for run in runs} == {(directory, "unfinished"), (whole, None)}
    assert left_out == []


class Reader:
    """Reads the run below a folder that it is the progress of, and what the run says of itself."""

    def __init__(self, out: Path | None = None) -> None:
        self._out = out
        self.read: list[tuple[int, int, int]] = []
        self.latest: list[tuple[float | None, float | None]] = []

    def watch(self, latest: Callable[[], tuple[float | None, float | None]]) -> None:
        self._latest = latest

    def start(self, total: int, done: int) -> None: ...

    def update(self, done: int) -> None:
        self.latest.append(self._latest())
        if self._out is not None and done > 1:
            (directory,) = find_runs(self._out)
            run = load.read(directory, partial=True)
            self.read.append((done, run.at, len(run.trace.visits)))

    def close(self) -> None: ...


def test_a_run_can_be_read_while_it_trains(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_CHUNK_S", -1.0)
    monkeypatch.setattr(attempt, "_CHUNK_SHARE", -1.0)
    reader = Reader(tmp_path / "seen")
    outcome = execute(planned(), tmp_path / "seen", progress=reader)
    assert reader.read == [(n, n - 1, 1 if n <= 6 else 2) for n in range(2, 11)], (
        "each update is written before the next"
    )
    assert (outcome.directory / "trace.npz").read_bytes() == (whole / "trace.npz").read_bytes()
    assert not (outcome.directory / "trace").exists()


def test_progress_shows_the_accuracy_so_far_and_the_loss(tmp_path: Path) -> None:
    reader = Reader()
    trace = read_trace(execute(planned("evaluation.scope=all"), tmp_path, progress=reader).directory)
    right, size = trace.correct["class"], trace.cell_size
    rows = [int(np.flatnonzero(trace.iteration == n)[trace.experience[trace.iteration == n] == (n - 1) // 5][0])
            for n in range(1, 11)]  # fmt: skip
    seen = [trace.task_cells[: 1 + (n - 1) // 5].any(0) for n in range(1, 11)]
    assert [a for a, _ in reader.latest] == [right[r][s].sum() / size[s].sum() for r, s in zip(rows, seen, strict=True)]
    assert [loss for _, loss in reader.latest] == trace.loss.tolist()


def test_the_parts_of_a_trace_by_hand() -> None:
    curve: Any = np.array([[[0.5, 0], [0.75, 0], [0.75, 0]], [[0.75, 0], [0.25, 0.5], [0.5, 0.5]]])
    trace = make_trace(curve, size=4)
    ended = trace.ended()
    assert ended is not None
    assert ended.visits.shape == (2, 2)
    first = trace._until(1)
    assert (first.visits.tolist(), first.origin.tolist(), len(first.loss)) == (
        [[True, False]],
        [0],
        first.iteration[-1],
    )
    assert first.task_accuracy("class")[:, 0].tolist() == [0.5, 0.75, 0.75]
    assert first.begun() is first
