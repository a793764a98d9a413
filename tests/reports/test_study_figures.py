"""Figures of studies: what is drawn is what the traces hold; files that papers take; the verb's answers."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.cli import main
from clbench.errors import UserError
from clbench.metrics.predicted import tabulated
from clbench.prequential import Prequential
from clbench.reports import after_boundaries
from clbench.reports.figures import (
    boundary_figure,
    confusion_figure,
    cost_figure,
    figure_style,
    matrix_figure,
    run_figure,
    study_curves,
    study_runs,
)
from clbench.reports.figures.figure_style import DARK_PALETTE, PALETTE, Look
from clbench.reports.seed_curves import Curve, aligned, mean_and_band
from clbench.results import files, load, record, trace_files
from clbench.results.record import Record
from clbench.testing.traces import make_trace
from clbench.trace import Trace
from support import TRACES, execute, make_run

HISTORY = TRACES / "schema-1" / "split_synthetic-v1-er"
NAN = float("nan")


def raw(strategy: str = "er", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A run.json; `changes` are keys, `a__b` for b in a."""
    out = json.loads((HISTORY / "run.json").read_text())
    out["config"]["strategy"] = {"name": strategy}
    out["config"]["seed"] = seed
    out["run_id"] = f"{strategy} {seed} {changes}"
    out["config_hash"] = f"hash of {strategy}"
    out["stream"]["instance_hash"] = f"instance {seed}"
    for path, value in changes.items():
        *above, last = path.split("__")
        part = out
        for key in above:
            part = part[key]
        part[last] = value
    return out


def saved(directory: Path, trace: Trace, contents: dict[str, Any]) -> Path:
    files.write_json(directory / "run.json", contents)
    trace_files.TraceWriter(directory).finish(trace)
    return directory


def accuracies(first: float, second: float) -> Any:
    """Two tasks, two experiences of two updates: task 0 falls from 0.8 to `first` and ends at `second`."""
    return np.array(
        [[[0.0, NAN], [0.4, NAN], [0.8, NAN], [0.8, NAN]], [[0.8, 0.0], [first, 0.5], [second, 0.9], [second, 0.9]]]
    )


def study(root: Path) -> Path:
    """Two methods of two seeds."""
    for strategy, seed, first, second in (
        ("er", 0, 0.6, 0.7),
        ("er", 1, 0.4, 0.75),
        ("naive", 0, 0.1, 0.0),
        ("naive", 1, 0.3, 0.2),
    ):
        saved(root / f"{strategy}-{seed}", make_trace(accuracies(first, second)), raw(strategy, seed))
    return root


Reduce = Callable[[Trace], Any]


def boards(root: Path, reduce: Reduce, **names: Any) -> list[study_runs.Board[Any]]:
    runs, _ = load.read_all([root], 100, partial=True)
    members = [
        study_runs.Member(
            run.directory,
            record.check(run.directory / "run.json", run.record.raw),
            reduce(run.trace),
            None if run.unfinished is None else f"{run.unfinished}, update {run.at:,}",
        )
        for run in runs
    ]
    return study_runs.boards(members, **names)


def curves(trace: Trace) -> study_curves.Drawn:
    return study_curves.reduced(trace, "class")


def with_incoming(trace: Trace) -> Trace:
    """Four updates learn two new samples, none, one and one: right, wrong, wrong and right."""
    incoming = np.array([2, 0, 1, 1], np.int32)
    record = Prequential({"class": np.array([True, False, False, True])}, incoming, 0 * incoming, 0 * incoming)
    return dataclasses.replace(trace, prequential=record)


def lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    """The lines of methods, without markers and boundaries."""
    out = []
    for line in axes.lines:
        if line.get_linestyle() != "None" and line.get_linewidth() == 1.1:
            x, y = line.get_data()
            out.append((np.asarray(x).tolist(), np.round(y, 6).tolist()))
    return out


def caption(whole: Any) -> str:
    return " ".join(text.get_text() for text in whole.texts)


# ------------------------------------------------------------------------------------------------ seeds
def test_curves_of_other_evaluations_meet_on_updates_and_steps_stay() -> None:
    a = Curve(np.array([0.0, 2, 2, 4]), np.array([[0.0], [2], [10], [12]]))
    b = Curve(np.array([0.0, 1, 3]), np.array([[5.0], [5], [7]]))
    x, y = aligned([a, b])
    assert x.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert y[0, :, 0].tolist() == [0, 0, 1, 1, 2, 10, 11, 11, 12, 12]
    np.testing.assert_array_equal(y[1, :, 0], [5, 5, 5, 5, 6, 6, 7, 7, NAN, NAN])
    same, values = aligned([a, a])
    assert (same.tolist(), values.shape) == ([0, 2, 2, 4], (2, 4, 1))


def test_bands_by_hand() -> None:
    values = np.array([0.2, 0.4, 0.6])[:, None, None]
    assert [part.item() for part in mean_and_band(values, "deviation")] == pytest.approx([0.4, 0.2, 0.6])
    half = 4.302652729911 * 0.2 / 3**0.5  # Student's t with 2 degrees of freedom
    assert [part.item() for part in mean_and_band(values, "interval")] == pytest.approx([0.4, 0.4 - half, 0.4 + half])
    for kind in ("seeds", "none"):
        assert np.isnan([part.item() for part in mean_and_band(values, kind)[1:]]).all()
    assert np.isnan(mean_and_band(values[:1], "interval")[1]).all(), "one seed has no band"
    values[1] = NAN
    assert np.isnan(mean_and_band(values, "interval")[0]).all(), "the mean of some seeds is not the mean over seeds"


# ------------------------------------------------------------------------------------------------ methods
def test_a_line_of_incoming_samples_is_the_mean_of_a_window_at_each_update_that_learnt_one(tmp_path: Path) -> None:
    study(tmp_path)
    whole = study_curves.figure(boards(tmp_path, lambda t: study_curves.incoming(with_incoming(t), "class", 3)))
    (axes,) = whole.axes
    assert lines(axes) == [([1, 3, 4], [50, pytest.approx(100 / 3), pytest.approx(100 / 3)])] * 2
    assert axes.get_ylabel() == "accuracy on incoming samples (%)"
    assert "accuracy on the last 3 incoming samples, each predicted before it is learnt" in caption(whole)
    assert study_curves.incoming(make_trace(accuracies(0.1, 0.2)), "class", 3) is None


def test_a_line_is_the_mean_over_seeds_of_the_mean_over_tasks_so_far(tmp_path: Path) -> None:
    whole = study_curves.figure(boards(study(tmp_path), curves), band="deviation")
    (axes,) = whole.axes
    er, naive = lines(axes)
    assert er[0] == [0, 1, 2, 2, 2, 3, 4, 4]
    # Task 0 alone, then the mean of both: (0.8 + 0) / 2; (0.5 + 0.5) / 2; (0.725 + 0.9) / 2.
    assert er[1] == [0, 40, 80, 80, 40, 50, 81.25, 81.25]
    assert naive[1] == [0, 40, 80, 80, 40, 35, 50, 50]
    band = axes.collections[0].get_paths()[0].vertices
    heights = sorted({round(y, 3) for x, y in band.tolist() if x == 3})
    assert heights == [round(50 - 10 / 2**0.5, 3), round(50 + 10 / 2**0.5, 3)], "45 and 55: a deviation of 7.07"
    assert axes.get_title("left") == "split_synthetic-v1*, view class, 2 seeds"
    assert axes.get_xlabel() == "updates"
    assert [line.get_xdata()[0] for line in axes.lines if line.get_color() == Look().faint] == [2]
    said = caption(whole)
    assert said.startswith(
        "er naive Line: test accuracy on the tasks visited so far, averaged over tasks, mean over seeds"
    )
    assert "Band: ± standard deviation over seeds. Vertical: task boundary." in said
    assert "* Not the shipped benchmark of that id." in said


def test_a_panel_for_each_task(tmp_path: Path) -> None:
    reduced = boards(study(tmp_path), lambda trace: study_curves.reduced(trace, "class", [0, 1]))
    whole = study_curves.figure(reduced, band="none")
    assert [axes.get_title("left") for axes in whole.axes] == ["task 0", "task 1"]
    assert lines(whole.axes[0])[0][1] == [0, 40, 80, 80, 80, 50, 72.5, 72.5]
    np.testing.assert_array_equal(lines(whole.axes[1])[0][1], [*[NAN] * 4, 0, 50, 90, 90])


def test_every_seed_as_a_thin_line(tmp_path: Path) -> None:
    (axes,) = study_curves.figure(boards(study(tmp_path), curves), band="seeds").axes
    thin = [line.get_ydata()[5] for line in axes.lines if line.get_linewidth() == 0.4]
    assert thin == pytest.approx([55, 45, 30, 40])
    assert not axes.collections


def test_methods_have_other_colours_patterns_and_markers_in_light_and_dark(tmp_path: Path) -> None:
    for dark, palette in ((False, PALETTE), (True, DARK_PALETTE)):
        looks = [Look(dark=dark).line(i) for i in range(35)]
        assert len({(look["color"], str(look["linestyle"])) for look in looks}) == 35
        assert len({look["marker"] for look in looks[:7]}) == 7
        (axes,) = study_curves.figure(boards(study(tmp_path), curves), look=Look(dark=dark)).axes
        drawn = [line for line in axes.lines if line.get_linewidth() == 1.1]
        assert [line.get_color() for line in drawn] == list(palette[:2])
        assert drawn[0].get_linestyle() != drawn[1].get_linestyle()


def test_definitions_of_a_benchmark_never_share_a_panel(tmp_path: Path) -> None:
    study(tmp_path)
    other = raw("er", 0, definition_hash="another", run_id="other")
    saved(tmp_path / "other", make_trace(accuracies(0.5, 0.5)), other)
    whole = study_curves.figure(boards(tmp_path, curves))
    assert sorted(len(lines(axes)) for axes in whole.axes) == [1, 2]
    with pytest.raises(UserError, match="--per-task: got runs of 2 benchmarks"):
        study_curves.figure(boards(tmp_path, lambda t: study_curves.reduced(t, "class", [0])))


def test_names_order_and_rows_that_only_settings_tell_apart(tmp_path: Path) -> None:
    for memory in (200, 50):
        contents = raw("er", 0, config__strategy={"name": "er", "memory": memory}, config_hash=str(memory))
        saved(tmp_path / str(memory), make_trace(accuracies(0.5, 0.5)), contents)
    saved(tmp_path / "naive", make_trace(accuracies(0.5, 0.5)), raw("naive"))

    def labels(**names: Any) -> list[str]:
        (board,) = boards(tmp_path, curves, **names)
        return [method.label for method in board.methods]

    assert labels() == ["er (memory 50)", "er (memory 200)", "naive"]
    assert labels(order=["naive"], rename=["er (memory 200)=Ours = $x$"]) == ["naive", "er (memory 50)", "Ours = $x$"]
    with pytest.raises(UserError, match=r"--label: 'er' names 2 rows; name one of them: er \(memory 200\), er \(mem"):
        labels(rename=["er=Ours"])
    with pytest.raises(UserError, match=r"--order: unknown row 'nave'\. Did you mean 'naive'\?"):
        labels(order=["nave"])
    with pytest.raises(UserError, match=r"--label: got 'naive'\. Allowed: a row and its new name"):
        labels(rename=["naive"])


def test_an_unfinished_run_is_a_thin_line_with_its_name_and_in_no_mean(tmp_path: Path) -> None:
    study(tmp_path)
    part = make_trace(accuracies(0.9, 0.9))
    directory = tmp_path / "er-3"
    files.write_json(directory / "run.json", raw("er", 3, status="running", metrics=None))
    writer = trace_files.TraceWriter(directory)
    writer.describe(part)
    grows = {"iteration", "experience", "phase", "loss"}
    arrays = {
        n: a for n, a in part.arrays().items() if n in grows or n.partition(".")[0] in ("correct", "bits", "extra")
    }
    arrays["bits.class"] = part.bits["class"]
    writer.append({name: a[: 3 if name == "loss" else 6] for name, a in arrays.items()})
    reduced = boards(tmp_path, curves)
    whole = study_curves.figure(reduced)
    (axes,) = whole.axes
    assert lines(axes)[0][1] == [0, 40, 80, 80, 40, 50, 81.25, 81.25]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.6 and len(line.get_xdata()) > 2]
    assert [list(line.get_xdata()) for line in thin] == [[0, 1, 2, 2, 2, 3]]
    assert "Unfinished: er, seed 3: unfinished, update 3." in caption(whole)
    assert [text.get_text() for text in axes.texts] == ["seed 3: unfinished, update 3"]
    panel = run_figure.figure([load.read(directory, partial=True)]).axes[0]
    assert panel.get_title("left").endswith("seed 3, view class: unfinished, update 3")


def test_one_run_that_is_there_twice_counts_once_the_finished_copy(tmp_path: Path) -> None:
    whole = Record.of(raw())
    members = [
        study_runs.Member(Path(name), whole, None, reason)
        for name, reason in (("a", "unfinished"), ("b", None), ("c", None))
    ]
    kept, left_out = study_runs.once(members)
    assert [member.directory for member in kept] == [Path("b")]
    assert left_out == ["a: the same run as b.", "c: the same run as b."]


# ------------------------------------------------------------------------------------------------ boundaries
def test_after_boundaries_by_hand(tmp_path: Path) -> None:
    study(tmp_path)
    whole = boundary_figure.figure(boards(tmp_path, lambda t: after_boundaries.reduced(t, "class")), band="none")
    (axes,) = whole.axes
    er, naive = lines(axes)
    assert er[0] == [0, 1, 2, 2]
    assert er[1] == [0, -30, -7.5, -7.5]  # task 0 had 0.8; er's means are 0.5 and 0.725
    assert naive[1] == [0, -60, -70, -70]
    assert [text.get_text() for text in axes.texts] == ["70.0", "30.0"]
    rings = [line.get_data() for line in axes.lines if line.get_marker() == "o" and line.get_markersize() == 6]
    assert [[list(part) for part in ring] for ring in rings] == [[[2], [pytest.approx(-7.5)]]], "0.725 >= 0.9 * 0.8"
    whole = boundary_figure.figure(
        boards(tmp_path, lambda t: after_boundaries.reduced(t, "class", 1)), band="none", absolute=True
    )
    assert lines(whole.axes[0])[0] == ([0, 1], [80, 50])


def test_boundaries_average_over_tasks_that_are_not_trained_again() -> None:
    curve = np.full((3, 4, 3), 0.5)
    curve[1, :, 0] = 0.5, 0.3, 0.4, 0.4
    curve[2, :, 0], curve[2, :, 1] = (0.4, 0.2, 0.2, 0.2), (0.5, 0.1, 0.3, 0.3)
    after = after_boundaries.reduced(make_trace(curve), "class")
    assert after is not None
    assert after.boundaries == 2
    assert after.before == pytest.approx((0.5 + 0.4 + 0.5) / 3)
    assert after.curve.y[:, 0] == pytest.approx([1.4 / 3, 0.2, 0.3, 0.3])
    again = make_trace(curve, np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]], bool))
    assert after_boundaries.reduced(again, "class") is None
    ends = make_trace(curve[:, [0, 3, 3]], every=2)
    assert after_boundaries.reduced(Trace(**{**vars(ends), "every": 0}), "class") is None, "nothing in between"


# ------------------------------------------------------------------------------------------------ matrices
def test_matrices_are_means_over_seeds_and_say_their_numbers(tmp_path: Path) -> None:
    whole = matrix_figure.figure(boards(study(tmp_path), lambda t: matrix_figure.reduced(t, "class")))
    er, naive, bar = whole.axes
    assert [axes.get_title("left") for axes in (er, naive)] == ["er", "naive"]
    assert [text.get_text() for text in er.texts] == ["80", "72", "90"]  # 72.5, to even
    assert [text.get_text() for text in naive.texts] == ["80", "10", "90"]
    assert bar.get_ylabel() == "accuracy (%)"
    assert "Plain ground: not evaluated." in caption(whole)


def test_numbers_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    saved(tmp_path / "run", make_trace(np.full((60, 3, 60), 0.5)), raw())
    whole = matrix_figure.figure(boards(tmp_path, lambda t: matrix_figure.reduced(t, "class")), look=Look(3.25))
    assert not whole.axes[0].texts


def confused(true: list[int], predicted: list[int]) -> confusion_figure.Confusion:
    """The confusion of the classes 1 and 2, which have the outputs 1 and 0."""
    table = tabulated(np.array(true), np.array(predicted), {0: 2, 1: 1})
    return confusion_figure.Confusion.of("class", None, *table)


def test_a_confusion_matrix_by_hand() -> None:
    one = confused([1, 1, 1, 1, 2], [1, 1, 1, 0, 0])
    assert one.names == ("1", "2")
    assert one.share.tolist() == [[0.75, 0.25, 0], [0, 1, 0]]
    two = confused([1, 2], [1, 1])
    members = [study_runs.Member(Path(str(i)), Record.of(raw(seed=i)), (data,)) for i, data in enumerate((one, two))]
    whole = confusion_figure.figure(study_runs.boards(members))
    assert [text.get_text() for text in whole.axes[0].texts] == ["88", "12", "50", "50"]
    assert "mean over seeds. View: class." in caption(whole)


def test_confusion_is_that_of_the_trace_or_of_kept_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(confusion_figure, "draw", lambda of, suffix, look: drawn.extend(of) or b"")
    monkeypatch.chdir(tmp_path)
    outcome = execute(make_run("er", "evaluation.every=0"), Path("kept"), keep=["weights"])

    def shares(*more: str) -> list[Any]:
        drawn.clear()
        assert main(["plot", "kept", "--confusion", *more]) == 0
        assert capsys.readouterr().out == "confusion.png\n"
        return [one.share for one in drawn[0].methods[0].finished[0].data]

    (share,) = shares()
    trace = load.read(outcome.directory).trace
    order = np.argsort(trace.cell_class)
    right = (trace.correct["class"][-1] / trace.cell_size)[order]
    assert np.diag(share) == pytest.approx(right)
    assert share.sum(1) == pytest.approx(1)
    first, last = shares("--experience", "0,4", "--view", "task")
    assert np.isnan(first).all(1).tolist() == [c not in trace.cell_class[trace.task_cells[0]] for c in range(10)]
    assert not np.isnan(last).any()

    (outcome.directory / files.PREDICTIONS).unlink()
    assert np.array_equal(shares()[0], share), "made again from the weights"
    assert main(["plot", "kept", "--confusion", "--experience", "0"]) == 2
    assert capsys.readouterr().err == (
        f"{outcome.directory}: its predictions were not recorded, and its weights give those after the last experience "
        "alone; with watch.predictions and --force the run is done again.\n"
    )
    (outcome.directory / files.WEIGHTS).unlink()
    assert main(["plot", "kept", "--kind", "confusion"]) == 2
    assert capsys.readouterr().err == (
        f"{outcome.directory}: its predictions were not recorded, and weights.pt, which gives those at the end, is "
        "missing; with watch.predictions and --force the run is done again.\n"
    )


def test_an_experience_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = execute(make_run("naive", "evaluation.every=0"), Path("runs"))
    assert main(["plot", "runs", "--confusion", "--experience", "5"]) == 2
    line = f"{outcome.directory}: --experience: there is no experience 5. Allowed: 0 to 4.\n"
    assert capsys.readouterr().err == line
    assert main(["plot", "runs", "--kind", "matrix", "--experience", "0"]) == 2
    assert "--experience is for figures of confusion; this is one of matrix." in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ costs
def priced(
    strategy: str, values: Sequence[tuple[float, float, float]], **changes: Any
) -> list[study_runs.Member[None]]:
    """Runs by accuracy, memory in bytes and time in seconds."""
    out = []
    for seed, (accuracy, memory, time_s) in enumerate(values):
        contents = raw(strategy, seed, memory__bytes=memory, costs__train_s=time_s - 1, costs__eval_s=1.0, **changes)
        contents["metrics"]["class"]["average_accuracy"]["value"] = accuracy
        out.append(study_runs.Member(Path(strategy), Record.of(contents), None))
    return out


def test_costs_and_the_front_by_hand() -> None:
    members = [
        *priced("cheap", [(0.2, 0, 2), (0.4, 0, 4)]),
        *priced("good", [(0.8, 1000, 9), (0.8, 1000, 11)]),
        *priced("worse", [(0.7, 2000, 20), (0.7, 2000, 20)]),
        *priced("joint", [(0.9, 0, 1), (0.9, 0, 1)], access="stream"),
    ]
    (board,) = study_runs.boards(members)
    of = cost_figure.points(board, "time", "average_accuracy", "deviation")
    assert [(p.method.label, p.cost) for p in of] == [("cheap", 3), ("good", 10), ("joint", 1), ("worse", 20)]
    assert of[0].value == pytest.approx(30)
    assert of[0].cost_ends == pytest.approx((3 - 2**0.5, 3 + 2**0.5))
    assert of[0].value_ends == pytest.approx((30 - 200**0.5, 30 + 200**0.5))
    assert [p.method.label for p in cost_figure.front(of, "average_accuracy")] == ["cheap", "good"]
    whole = cost_figure.figure([board])
    assert [axes.get_xlabel() for axes in whole.axes] == ["memory of the method", "time, training and evaluation"]
    assert sorted(text.get_text() for text in whole.axes[0].texts) == ["cheap", "good", "joint", "worse"]
    assert "Hollow: not in the front" in caption(whole)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2), st.floats(0.1, 1.2)), min_size=1, max_size=12))
def test_labels_of_points_do_not_overlap(points: list[tuple[float, float, float]]) -> None:
    spots, sizes = [(x, y) for x, y, _ in points], [(wide, 0.11) for *_, wide in points]
    taken = [(x - 0.05, y - 0.05, x + 0.05, y + 0.05) for x, y in spots]
    corners = cost_figure.placed_labels(spots, sizes, taken, (3.0, 2.0))
    boxes = [(c[0], c[1], c[0] + w, c[1] + h) for c, (w, h) in zip(corners, sizes, strict=True) if c is not None]
    for i, a in enumerate(boxes):
        assert min(a[0], a[1]) >= 0
        assert (a[2] <= 3 + 1e-5, a[3] <= 2 + 1e-5) == (True, True)
        for b in [*boxes[:i], *taken]:
            over = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert min(over) <= 1e-5


# ------------------------------------------------------------------------------------------------ files
def pdf_objects(payload: bytes) -> list[bytes]:
    """The objects of a PDF by its cross-reference table, streams inflated."""
    start = int(re.findall(rb"startxref\s+(\d+)", payload)[-1])
    count = int(re.match(rb"xref\s+0 (\d+)\s", payload[start:]).group(1))  # type: ignore[union-attr]
    entries = re.findall(rb"(\d{10}) (\d{5}) ([nf])", payload[start:])
    assert len(entries) == count
    objects = []
    for offset, _, kind in entries:
        if kind == b"n":
            body = payload[int(offset) :].split(b"endobj", 1)[0]
            head, _, stream = body.partition(b"stream\n")
            objects.append(head)
            if b"/FlateDecode" in head:
                objects.append(zlib.decompressobj().decompress(stream))
    return objects


Draw = Callable[[str, Look], bytes]


@pytest.fixture(scope="module")
def every_figure(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draw]:
    """A function that draws each kind of figure of one study."""
    root = tmp_path_factory.mktemp("study")
    drawn = boards(study(root), curves)
    after = boards(root, lambda t: after_boundaries.reduced(t, "class"))
    matrices = boards(root, lambda t: matrix_figure.reduced(t, "class"))
    costs = boards(root, lambda _: None)
    arriving = boards(root, lambda t: study_curves.incoming(with_incoming(t), "class", 3))
    runs = [load.read(HISTORY)]
    one = confused([1, 2], [1, 1])
    several = study_runs.boards([study_runs.Member(Path("a"), Record.of(raw()), (one,))])
    return {
        "confusion": lambda suffix, look: confusion_figure.draw(several, suffix, look=look),
        "runs": lambda suffix, look: run_figure.draw(runs, suffix, look=look),
        "methods": lambda suffix, look: study_curves.draw(drawn, suffix, look=look),
        "boundaries": lambda suffix, look: boundary_figure.draw(after, suffix, look=look),
        "matrix": lambda suffix, look: matrix_figure.draw(matrices, suffix, look=look),
        "cost": lambda suffix, look: cost_figure.draw(costs, suffix, look=look),
        "prequential": lambda suffix, look: study_curves.draw(arriving, suffix, look=look),
    }


KINDS = ("runs", "methods", "boundaries", "matrix", "cost", "prequential", "confusion")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pdf_has_truetype_fonts_and_none_of_type_3(kind: str, every_figure: dict[str, Draw]) -> None:
    payload = every_figure[kind](".pdf", Look(3.25))
    objects = pdf_objects(payload)
    fonts = [o for o in objects if re.search(rb"/Type /Font\b", o)]
    kinds = {re.search(rb"/Subtype /(\w+)", font).group(1) for font in fonts}  # type: ignore[union-attr]
    assert kinds == {b"Type0", b"CIDFontType2"}
    assert any(b"/FontFile2" in o for o in objects), "embedded as TrueType"
    assert not any(b"/Type3" in o for o in objects)


@pytest.mark.parametrize("kind", KINDS)
def test_an_svg_has_text_as_text_in_light_and_dark_and_the_same_bytes(kind: str, every_figure: dict[str, Draw]) -> None:
    draw = every_figure[kind]
    for look in (Look(), Look(3.25, "A <title> & more", True)):
        payload = draw(".svg", look)
        with matplotlib.rc_context({"svg.fonttype": "path", "font.size": 20, "axes.facecolor": "red"}):
            assert draw(".svg", look) == payload
        root = ElementTree.fromstring(payload)
        texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert ("A <title> & more" in texts) == (look.title is not None)
        assert any(re.search(r"\b(accuracy|ACC|Cell|Line|Point)\b", text) for text in texts)
        assert root.attrib["width"] == f"{72 * look.inches(9.0 if kind == 'runs' else 6.75):g}pt"


def test_text_of_a_caption_is_no_wider_than_the_figure() -> None:
    words = "accuracy on the tasks visited so far, " * 9
    lines_ = figure_style.wrapped(words, 6.0, 3.0)
    assert " ".join(lines_) == words.strip()
    assert all(figure_style.text_width(line, 6.0) <= 3.0 for line in lines_)
    assert len(lines_) == 5


def test_a_dip_of_one_update_in_one_of_many_long_runs_is_drawn(tmp_path: Path) -> None:
    accuracy = np.full((2, 5002, 2), 0.9)
    accuracy[1, 777, 0] = 0.1
    members = [
        study_runs.Member(Path(str(seed)), Record.of(raw(seed=seed)), curves(make_trace(accuracy, size=10)))
        for seed in range(2)
    ]
    (axes,) = study_curves.figure(study_runs.boards(members)).axes
    (line,) = lines(axes)
    assert len(line[0]) < 8000
    assert min(line[1]) == pytest.approx(50)
    assert line[0][int(np.argmin(line[1]))] == 5000 + 777


# ------------------------------------------------------------------------------------------------ the verb
def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(["plot", *arguments])
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    return (status, *capsys.readouterr())


def test_runs_of_one_benchmark_are_drawn_as_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("runs"))
    assert answered(capsys, "runs") == (0, "methods.png\n", "")
    assert answered(capsys, "runs", "--absolute", "--out", "b.png") == (0, "b.png\n", "")
    assert answered(capsys, "runs", "--kind", "runs", "--first", "1") == (0, "accuracy.png\n", "")
    assert answered(capsys, "runs", "--per-task", "--tasks", "1", "--label", "er=Ours", "--out", "t.svg")[0] == 0
    texts = ["".join(t.itertext()) for t in ElementTree.parse("t.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"task 1", "Ours", "naive"} <= set(texts)
    assert not {"task 0", "er"} & set(texts)
    both = boards(Path("runs"), curves)
    assert Path("methods.png").read_bytes() == study_curves.draw(both, ".png")


def test_runs_that_recorded_no_incoming_samples_are_left_out_of_their_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("runs"))
    for seed in (0, 1):
        trace = with_incoming(make_trace(accuracies(0.1, 0.2)))
        saved(Path(f"runs/watched-{seed}"), trace, raw("ewc", seed, config__watch={"prequential": True}))
    status, out, err = answered(capsys, "runs", "--kind", "prequential")
    assert (status, out) == (0, "prequential.png\n")
    assert err.splitlines() == [
        f"left out: runs/{name}: no incoming samples were recorded." for name in ("er-0", "er-1", "naive-0", "naive-1")
    ]


def test_each_trace_is_read_once_and_without_the_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("runs"))
    read: list[tuple[Path, list[str]]] = []
    whole = trace_files.read_arrays

    def noting(path: Path, without: str | None = None) -> Any:
        arrays = whole(path, without)
        read.append((path, [name for name in arrays if name.startswith("bits")]))
        return arrays

    monkeypatch.setattr(trace_files, "read_arrays", noting)
    assert answered(capsys, "runs")[0] == 0
    assert sorted(read) == [(path, []) for path in sorted(Path("runs").glob("*/trace.npz"))]
    read.clear()
    assert answered(capsys, "runs", "--kind", "cost")[0] == 0
    assert not read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "cost", "--loss"], "--loss is for figures of runs; this is one of cost."),
        (["--kind", "matrix", "--band", "none"],
         "--band is for figures of methods and boundaries and cost and prequential; this is one of matrix."),
        (["--kind", "prequential"],
         "runs: no run with incoming samples; they are recorded with -o watch.prequential=true."),
        (["--kind", "cost", "--window", "5"], "--window is for figures of prequential; this is one of cost."),
        (["--kind", "methods", "--tasks", "1"], "--tasks of methods needs --per-task, a panel for each of them."),
        (["--per-task", "--tasks", "2"], "runs/er-0: --tasks: there is no task 2. Allowed: 0 to 1."),
        (["--view", "clas"], "runs/er-0: unknown view 'clas'. Did you mean 'class'? Allowed: class."),
        (["--label", "erx=Ours"],
         "--label: unknown row 'erx'. Did you mean 'er'? Allowed: er, naive, or the start of a row id."),
        (["--width", "wide"],
         "clbench plot: --width: got 'wide'. Allowed: 1 or 2 columns, or 2.0 to 30 inches. See 'clbench plot --help'."),
    ],
)  # fmt: skip
def test_mistakes(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("runs"))
    status, out, err = answered(capsys, "runs", *arguments)
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == message
    assert not list(Path().glob("*.png"))
