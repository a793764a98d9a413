"""Pictures: what is drawn is what the trace holds, from files alone, with the same bytes; and what the verb answers."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clbench.cli import main
from clbench.reports.figures import figure_lines, run_figure
from clbench.results import files, load, trace_files
from clbench.testing.traces import make_trace
from clbench.trace import Trace
from support import TRACES

HISTORY = TRACES / "schema-1"
SPLIT, ROTATED = HISTORY / "split_synthetic-v1-er", HISTORY / "rotated_digits-v1-naive"


def saved(directory: Path, trace: Trace, **changes: Any) -> Path:
    """A run's folder around a trace."""
    record = json.loads((SPLIT / "run.json").read_text()) | changes
    files.write_json(directory / "run.json", record)
    trace_files.TraceWriter(directory).finish(trace)
    return directory


def drawn(trace: Trace, tmp_path: Path, **options: Any) -> Any:
    """The axes of one run."""
    return run_figure.figure([load.read(saved(tmp_path / "drawn", trace))], **options).axes[0]


def two_tasks() -> NDArray[np.float64]:
    """Two experiences of two updates: 0.9 falls to 0.3 and comes back to 0.8 while the second task is learnt."""
    unseen = np.nan
    return np.array(
        [[[0.0, unseen], [0.5, unseen], [0.9, unseen], [0.9, unseen]], [[0.9, 0.1], [0.3, 0.6], [0.8, 0.7], [0.8, 0.7]]]
    )


def line(axes: Any, index: int) -> tuple[list[float], list[float]]:
    """A task's line; dots are a line of their own behind it."""
    x, y = axes.lines[2 * index].get_data()
    return list(x), list(np.round(y, 6))


def written(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


# ------------------------------------------------------------------------------------------------ what is drawn
def test_lines_are_the_accuracies_and_gaps_are_gaps(tmp_path: Path) -> None:
    axes = drawn(make_trace(two_tasks()), tmp_path)
    assert line(axes, 0) == ([0, 1, 2, 2, 2, 3, 4, 4], [0, 50, 90, 90, 90, 30, 80, 80])
    x, y = line(axes, 1)
    assert x == [0, 1, 2, 2, 2, 3, 4, 4]
    np.testing.assert_array_equal(y, [np.nan] * 4 + [10, 60, 70, 70])
    assert axes.get_xlim() == (0, 4)
    assert axes.get_ylim() == (-2, 102)


def test_switches_levels_names_and_title(tmp_path: Path) -> None:
    axes = drawn(make_trace(two_tasks()), tmp_path)
    switches, levels = axes.collections
    assert [s.tolist() for s in switches.get_segments()] == [[[2, -2], [2, 102]]]
    assert [s.tolist() for s in levels.get_segments()] == [[[2, 90], [4, 90]]], "task 0 before the second experience"
    assert levels.get_edgecolor().tolist() == [list(matplotlib.colors.to_rgba(axes.lines[0].get_color()))]
    assert written(axes) == ["task 0", "task 1", "task 1", "task 0"], "above the experiences, then at the lines' ends"
    assert axes.get_title(loc="left") == (
        "split_synthetic-v1* er 1e3712 seed 0, view class: ACC 75.0 %, min-ACC 30.0 %"
    )
    assert axes.get_ylabel() == "accuracy (%)"
    assert axes.get_xlabel() == "updates"


def test_parts_of_one_experience_are_not_switches(tmp_path: Path) -> None:
    accuracy = np.repeat(two_tasks(), 2, axis=0)
    visits = np.eye(2, dtype=bool).repeat(2, axis=0)
    trace = make_trace(accuracy, visits, origin=np.array([0, 0, 1, 1], np.int32))
    switches, levels = drawn(trace, tmp_path).collections
    assert [s[0, 0] for s in switches.get_segments()] == [4]
    assert [s.tolist() for s in levels.get_segments()] == [[[4, 90], [8, 90]]]


def test_a_task_that_was_not_evaluated_has_no_line_but_is_named(tmp_path: Path) -> None:
    accuracy = two_tasks()
    accuracy[:, :, 1] = np.nan
    axes = drawn(make_trace(accuracy), tmp_path)
    assert len(axes.lines) == 2, "a line and its dots"
    assert axes.get_title(loc="left").endswith("ACC undefined, min-ACC 30.0 %; task 1 never evaluated")


def test_a_point_between_two_gaps_is_seen_in_a_long_line(tmp_path: Path) -> None:
    accuracy = np.full((1, 502, 1), np.nan)
    accuracy[0, 250] = 0.7
    axes = drawn(make_trace(accuracy), tmp_path)
    assert [list(v) for v in axes.lines[1].get_data()] == [[250], [pytest.approx(70, abs=1e-9)]]
    assert axes.lines[1].get_marker() == "."


def test_only_the_tasks_asked_for(tmp_path: Path) -> None:
    axes = drawn(make_trace(two_tasks()), tmp_path, tasks=[1])
    assert len(axes.lines) == 2
    np.testing.assert_array_equal(line(axes, 0)[1], [np.nan] * 4 + [10, 60, 70, 70])
    assert axes.lines[0].get_color() == "#D55E00", "a task keeps its colour"
    assert written(axes) == ["task 0", "task 1", "task 1"]


def test_an_axis_that_starts_at_the_tenth_below_what_is_drawn(tmp_path: Path) -> None:
    assert drawn(make_trace(0.85 + 0.1 * np.nan_to_num(two_tasks())), tmp_path).get_ylim() == (78, 102)


def test_the_loss_is_drawn_below_and_what_is_not_finite_is_a_gap(tmp_path: Path) -> None:
    trace = make_trace(two_tasks())
    trace.loss[:] = [3, np.inf, 2, 1]
    run = load.read(saved(tmp_path / "run", trace))
    accuracy, loss = run_figure.figure([run], loss=True).axes
    x, y = loss.lines[0].get_data()
    assert list(x) == [1, 2, 3, 4]
    np.testing.assert_array_equal(y, [3, np.nan, 2, 1])
    assert loss.get_ylabel() == "loss"
    assert (accuracy.get_xlabel(), loss.get_xlabel()) == ("", "updates")


def test_only_the_first_updates_of_each_experience(tmp_path: Path) -> None:
    """They stand side by side, with a gap between, and below the level that the whole experience ended at."""
    axes = drawn(make_trace(two_tasks()), tmp_path, first=1)
    x, y = line(axes, 0)
    assert x == [0, 1, 1, 1, 2]
    np.testing.assert_array_equal(y, [0, 50, np.nan, 90, 30])
    switches, levels = axes.collections
    assert [s.tolist() for s in switches.get_segments()] == [[[1, -2], [1, 102]]]
    assert [s.tolist() for s in levels.get_segments()] == [[[1, 90], [2, 90]]]
    assert "ACC 75.0 %, min-ACC 30.0 %" in axes.get_title("left"), "numbers are of the whole run"
    whole = drawn(make_trace(two_tasks()), tmp_path, first=100)
    assert line(whole, 1)[0][-1] == 4


def test_runs_share_the_axis_of_updates() -> None:
    axes = run_figure.figure([load.read(ROTATED), load.read(SPLIT)]).axes
    assert [a.get_xlim() for a in axes] == [(0, 60)] * 2
    assert [a.get_title(loc="left").split()[0] for a in axes] == ["rotated_digits-v1*", "split_synthetic-v1*"]
    assert [a.get_xlabel() for a in axes] == ["", "updates"]


def test_what_marks_mean_is_said_below_the_panels() -> None:
    whole = run_figure.figure([load.read(SPLIT)])
    said = " ".join(text.get_text() for text in whole.texts)
    assert said.startswith("Line: test accuracy on a task at every evaluation. Dotted: accuracy on an earlier task")
    assert "Vertical: task boundary." in said
    assert "Dot: an evaluation." in said
    bottom = whole.axes[0].get_position().y0 * whole.get_figheight()
    assert all(text.get_position()[1] < bottom for text in whole.texts)


def test_two_runs_that_differ_in_a_setting_say_so(tmp_path: Path) -> None:
    runs = []
    for memory in (50, 70):
        directory = saved(tmp_path / str(memory), make_trace(two_tasks()))
        record = json.loads((directory / "run.json").read_text())
        record["config"]["strategy"] = {"name": "er", "loss": "mean", "memory": memory}
        files.write_json(directory / "run.json", record)
        runs.append(load.read(directory))
    titles = [a.get_title(loc="left") for a in run_figure.figure(runs).axes]
    assert [" er (memory 50) " in titles[0], " er (memory 70) " in titles[1]] == [True, True], titles


def test_many_tasks_have_a_colour_bar_and_no_labels(tmp_path: Path) -> None:
    axes = drawn(make_trace(np.full((20, 12, 20), 0.5)), tmp_path)
    assert [child.get_title() for child in axes.child_axes] == ["task"]
    assert written(axes) == [str(v) for v in range(20)], "only the experiences"
    assert len({tuple(axes.lines[2 * i].get_color()) for i in range(20)}) == 20


# ------------------------------------------------------------------------------------------------ long runs
def test_a_dip_of_one_update_stays_in_a_long_line_and_the_file_is_small(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    accuracy = 0.9 + chance.normal(0, 0.005, (5, 2002, 5))
    accuracy[2, 777, 1] = 0.25
    run = load.read(saved(tmp_path / "run", make_trace(accuracy)))
    assert len(run.trace.iteration) == 10_010
    (axes,) = run_figure.figure([run]).axes
    for task in range(5):
        x, y = axes.lines[2 * task].get_data()
        whole = 100 * run.trace.task_accuracy("class")[:, task]
        assert len(x) < 5000
        assert (y.min(), y.max()) == (whole.min(), whole.max())
    x, y = axes.lines[2].get_data()
    assert (x[y.argmin()], y.min()) == (2 * 2000 + 777, 25)
    before = time.process_time()
    sizes = {suffix: len(run_figure.draw([run], suffix)) for suffix in (".png", ".svg", ".pdf")}
    assert time.process_time() - before < 3 * 5
    assert max(sizes.values()) < 1_000_000, sizes


@given(
    st.lists(st.one_of(st.just(np.nan), st.integers(0, 100).map(float)), min_size=1, max_size=300),
    st.integers(1, 20),
    st.integers(1, 3),
)
def test_thinning_keeps_every_extreme_and_every_gap(y: list[float], columns: int, twice: int) -> None:
    values = np.array(y)
    x = np.arange(len(y)) // twice * 1.0
    limits = (0.0, float(x[-1]) or 1.0)
    kept = figure_lines.thinned(x, values, columns, limits)
    assert (np.diff(kept) > 0).all()
    column = np.clip((x * columns / limits[1]).astype(int), 0, columns - 1)
    for c in set(column.tolist()):
        mine = values[column == c]
        left = values[kept][column[kept] == c]
        assert {left[0], left[-1]} <= {mine[0], mine[-1]} or np.isnan([mine[0], mine[-1]]).any()
        if not np.isnan(mine).all():
            assert (np.nanmin(left), np.nanmax(left)) == (np.nanmin(mine), np.nanmax(mine))

    def stretches(v: NDArray[np.float64]) -> int:
        known = ~np.isnan(v)
        return int(known[0]) + int((known[1:] & ~known[:-1]).sum())

    assert stretches(values[kept]) == stretches(values)


@given(st.lists(st.floats(0, 100), max_size=16), st.floats(0.1, 6))
def test_labels_do_not_overlap(heights: list[float], least: float) -> None:
    spots = figure_lines.apart(sorted(heights), least, 0, 100)
    assert len(spots) == len(heights)
    assert (np.diff(spots) >= least - 1e-9).all()
    assert all(-1e-9 <= s <= 100 + 1e-9 for s in spots)
    if (np.diff(sorted(heights)) >= least).all():
        assert spots == pytest.approx(sorted(heights)), "nothing is moved without need"


# ------------------------------------------------------------------------------------------------ bytes
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_same_files_same_bytes_whatever_the_users_settings(suffix: str) -> None:
    runs = [load.read(SPLIT)]
    first = run_figure.draw(runs, suffix)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 20, "savefig.dpi": 30, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        assert run_figure.draw(runs, suffix) == first
        assert dict(matplotlib.rcParams) == before
    assert not re.search(rb"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}|CreationDate|dc:date|tIME", first)


def test_a_png_holds_pixels_and_no_text() -> None:
    payload, chunks, at = run_figure.draw([load.read(SPLIT)], ".PNG"), [], 8
    while at < len(payload):
        (length,) = struct.unpack(">I", payload[at : at + 4])
        chunks.append(payload[at + 4 : at + 8])
        at += 12 + length
    assert set(chunks) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_letters_that_the_font_lacks_are_no_error(tmp_path: Path) -> None:
    record = json.loads((SPLIT / "run.json").read_text())
    record["config"]["strategy"]["name"] = "実験:$x_"
    shutil.copytree(SPLIT, tmp_path / "run")
    files.write_json(tmp_path / "run" / "run.json", record)
    assert run_figure.draw([load.read(tmp_path / "run")], ".png").startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ the verb
@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the two historic runs, from the folder above it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(HISTORY, "runs")
    return Path("runs")


def plotted(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(["plot", *arguments]) == 0
    out, err = capsys.readouterr()
    return out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    try:
        status = main(["plot", *arguments])
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    return err.splitlines()


def test_one_run_is_drawn_into_its_folder(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    directory = runs / SPLIT.name
    assert plotted(capsys, str(directory)) == (f"{directory}/accuracy.png\n", "")
    assert (directory / "accuracy.png").read_bytes() == run_figure.draw([load.read(directory)], ".png")
    assert plotted(capsys, str(directory), "--out", "new/a.SVG", "--tasks", "0,1", "--loss") == ("new/a.SVG\n", "")
    assert b"<svg" in Path("new/a.SVG").read_bytes()


def test_several_runs_are_drawn_into_this_folder(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    assert plotted(capsys, "runs") == ("accuracy.png\n", "")
    both = Path("accuracy.png").read_bytes()
    assert both == run_figure.draw([load.read(runs / d.name) for d in (ROTATED, SPLIT)], ".png")
    assert plotted(capsys, "runs", f"runs/{SPLIT.name}") == ("accuracy.png\n", "")
    assert Path("accuracy.png").read_bytes() == both, "a run named twice is drawn once"


def test_other_runs_below_a_folder_are_left_out_aloud(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    record = json.loads((SPLIT / "run.json").read_text())
    failure = {"kind": "nan_loss", "message": "the loss became NaN at iteration 3", "iteration": 3}
    files.write_json(runs / "a" / "run.json", {**record, "status": "failed", "failure": failure})
    files.write_json(runs / "b" / "run.json", {**record, "status": "running"})
    out, err = plotted(capsys, "runs")
    assert out == "accuracy.png\n"
    assert err.splitlines() == [
        "left out: runs/a: failed (the loss became NaN at iteration 3), without an evaluation.",
        "left out: runs/b: unfinished, without an evaluation.",
    ]
    assert refused(capsys, "runs/a", "runs") == [
        "runs/a: failed (the loss became NaN at iteration 3), without an evaluation."
    ]
    shutil.rmtree(runs / "a")
    for directory in (ROTATED, SPLIT):
        shutil.rmtree(runs / directory.name)
    assert refused(capsys, "runs") == ["runs/b: unfinished, without an evaluation."]


def test_more_runs_than_a_picture_holds(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    for i in range(11):
        shutil.copytree(SPLIT, runs / f"copy-{i:02}")
    assert refused(capsys, "runs", "--kind", "runs") == ["runs: 13 runs, allowed are up to 12; name some of them."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/where"], "no/where: no such folder."),
        (["file"], "file: not a folder."),
        (["empty"], "empty: no run.json there or below."),
        (["runs", "--out", "a.jpg"], "--out a.jpg: got the suffix '.jpg'. Allowed: .png, .svg, .pdf."),
        (["runs", "--out", "a"], "--out a: got the suffix ''. Allowed: .png, .svg, .pdf."),
        (
            [f"runs/{SPLIT.name}", "--view", "clas"],
            f"runs/{SPLIT.name}: unknown view 'clas'. Did you mean 'class'? Allowed: class.",
        ),
        (["runs", "--tasks", "4"], f"runs/{ROTATED.name}: --tasks: there is no task 4. Allowed: 0 to 2."),
        (
            ["runs", "--tasks", "0;1"],
            "clbench plot: --tasks: got '0;1'. Allowed: integers >= 0 with commas between, like 0,1. "
            "See 'clbench plot --help'.",
        ),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], runs: Path, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    assert refused(capsys, *arguments) == [message]
    assert not list(Path().rglob("*.png"))


def test_a_damaged_run_is_named_and_an_older_picture_stays(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    Path("accuracy.png").write_bytes(b"older")
    path = runs / SPLIT.name / "trace.npz"
    path.write_bytes(path.read_bytes()[:1000])
    (line,) = refused(capsys, "runs")
    assert line.startswith(f"{path}: damaged or truncated (")
    assert Path("accuracy.png").read_bytes() == b"older"


def test_a_first_picture_has_no_warning_and_imports_neither_torch_nor_pyplot(runs: Path) -> None:
    """With an empty matplotlib cache, as on a new machine."""
    code = (
        "import sys; from clbench.cli import main; status = main(['plot', 'runs']); "
        "assert not {'torch', 'pandas', 'matplotlib.pyplot'} & set(sys.modules); sys.exit(status)"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(Path("cache").absolute())}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout) == (0, "accuracy.png\n"), (
        done.stderr
    )  # where fonts are many, it says so there
    assert any(Path("cache").iterdir()), "the cache was built by this very run"
