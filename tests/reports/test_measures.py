"""Outputs of runs whose primary view is a measure: tables, comparisons, figures and the page say its unit, and lower
is better."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import clbench
from clbench import resolve
from clbench.cli import main
from clbench.errors import UserError
from clbench.loggers.points import Curves
from clbench.metrics import METRICS
from clbench.metrics.field_names import COUNTERPARTS, NUMBERS, asked, defined
from clbench.reports import best_rows, columns, leaderboard, tables
from clbench.reports.figures import boundary_figure
from clbench.reports.html.sections import gaps
from clbench.results.record import Record, collect, read
from clbench.runner.run import execute
from clbench.studies.execute import TRIALS
from clbench.testing import write_run

TASKS, TRAIN, TEST = 2, 30, 20
SEEDS = 5
VIEW = "domain:squared_error"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a regression: two tasks, each a linear map of its own."""
    folder = tmp_path_factory.mktemp("regression")
    draw = np.random.Generator(np.random.PCG64(0))
    maps, arrays = draw.normal(size=(TASKS, 4, 2)), {}
    for part, n in (("train", TRAIN), ("test", TEST)):
        x, task = draw.normal(size=(TASKS * n, 4)), np.repeat(np.arange(TASKS), n)
        arrays |= {f"{part}_x": x.astype(np.float32), f"{part}_task": task}
        arrays[f"{part}_target"] = np.einsum("nf,nfd->nd", x, maps[task])
    np.savez(folder / "table.npz", **arrays)
    path = folder / "table.yaml"
    path.write_text(
        f"id: table\nstream: {{data: 'npz:{folder / 'table.npz'}', tasks: {{by: given}}, setting: domain}}\n"
        "model: {name: mlp, hidden: [8]}\n"
        "training: {iterations: 12, batch_size: 10, loss: squared_error, optimizer: {name: sgd, lr: 0.2}}\n"
    )
    return path


@pytest.fixture(scope="module")
def runs(table: Path) -> Path:
    """The folder of five seeds of two strategies on it."""
    out = table.parent / "runs"
    for strategy in ("naive", "er"):
        for seed in range(SEEDS):
            run = resolve.make_run(str(table), strategy=strategy, seed=seed, threads=1, device="cpu")
            assert execute(run, out).record["status"] == "completed"
    return out


@pytest.fixture(scope="module")
def classes(table: Path) -> Path:
    """The folder of two runs that classify, with their log loss."""
    out = table.parent / "classes"
    settings = ["training.iterations=3", "training.epochs=null", "watch.measures=[log_loss]"]
    for strategy in ("naive", "er"):
        run = resolve.make_run("split_digits-v1", strategy=strategy, overrides=settings, threads=1, device="cpu")
        execute(run, out)
    return out


def frame_of(folder: Path) -> pd.DataFrame:
    return leaderboard.table(collect(folder)[0])


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 0
    return capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ the leaderboard
def test_a_lower_error_ranks_higher(runs: Path) -> None:
    frame = frame_of(runs)
    rows = {row["strategy"]: row for _, row in frame.iterrows()}
    assert rows["er"]["average_ci95_hi"] < rows["naive"]["average_ci95_lo"]
    assert (rows["er"]["rank"], rows["naive"]["rank"]) == (1, 2)
    assert list(frame["strategy"]) == ["er", "naive"]
    values = [r.scores["average"].value for r in collect(runs)[0] if r.config.strategy.name == "er"]
    assert rows["er"]["average_mean"] == pytest.approx(sum(v for v in values if v is not None) / SEEDS)


def test_a_board_has_the_metrics_of_its_measure_with_the_unit(runs: Path) -> None:
    frame = frame_of(runs)
    assert "average_accuracy_mean" not in frame
    [board] = tables.boards(frame)
    shown = [heading for heading in board.headings if "units" in heading]
    assert shown == [
        "average (squared units)",
        "forgetting.after_learning (squared units)",
        "worst (squared units)",
        "worst_case (squared units)",
    ]
    text = tables.to_text(frame)
    assert "interval of average lies wholly below" in text
    assert "%" not in board.rows[0]
    first = frame.iloc[0]
    mean, half = (float(part) for part in board.rows[0][4].split(" ± "))
    assert mean == pytest.approx(first["average_mean"], rel=1e-3)
    assert half == pytest.approx((first["average_ci95_hi"] - first["average_ci95_lo"]) / 2, abs=1e-3)


def test_another_view_is_another_board(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "leaderboard", runs, "--view", "domain:absolute_error", "--metric", "average")
    assert "average (units)" in text
    assert "view domain:absolute_error" in text
    with pytest.raises(UserError, match=r"unknown view 'class'. Allowed: domain:absolute_error, domain:squared_error"):
        clbench.leaderboard(runs, view="class")


def test_boards_of_both_kinds_stand_together(runs: Path, classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "leaderboard", runs, classes)
    assert "average_accuracy %" in text
    assert "average (squared units)" in text
    assert "average_accuracy lies wholly above, or of average lies wholly below" in text
    text = said(capsys, "leaderboard", runs, classes, "--columns", "strategy,ACC")
    assert "ACC %" in text
    assert "no column: 'average_accuracy' is a metric of counts, asked of a regression run" in text


def test_files_of_the_leaderboard_have_all_metrics_of_the_measure(runs: Path, tmp_path: Path) -> None:
    main(["leaderboard", str(runs), "--csv", str(tmp_path / "a.csv"), "--runs", str(tmp_path / "b.csv")])
    header, *_ = csv.reader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8")))
    recorded = [name for name, metric in NUMBERS.items() if metric.record is None]
    assert {f"{name}_mean" for name in recorded} <= set(header)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "b.csv").read_text(encoding="utf-8"))))
    worst = [line for line in lines if line["metric"] == "worst" and line["view"] == VIEW]
    assert len(worst) == 2 * SEEDS
    assert {(line["unit"], line["better"], line["primary"]) for line in worst} == {("squared units", "lower", "true")}


def test_the_best_row_is_that_of_the_lowest_error(runs: Path) -> None:
    records, _ = collect(runs)
    er = next(row for _, row in frame_of(runs).iterrows() if row["strategy"] == "er")
    assert best_rows.best(records, ["average", "average_accuracy"]) == {(er["row_id"], "average")}


def test_an_error_of_any_size_is_read_and_told(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["training.iterations=1", "training.optimizer.lr=200"]
    run = resolve.make_run(str(table), strategy="naive", overrides=settings, threads=1, device="cpu")
    outcome = execute(run, tmp_path)
    assert outcome.record["metrics"][VIEW]["average"]["value"] > 2**53
    text = said(capsys, "leaderboard", tmp_path, "--metric", "average")
    assert re.search(r"^- +naive .* [0-9.]+e\+[0-9]+ ", text, re.MULTILINE)


# ------------------------------------------------------------------------------------------------ names
def test_names_of_one_definition_are_those_of_both_kinds() -> None:
    assert set(COUNTERPARTS) <= set(METRICS)
    assert set(COUNTERPARTS.values()) <= set(NUMBERS)
    assert not set(COUNTERPARTS) & set(NUMBERS)
    for count, number in COUNTERPARTS.items():
        assert (METRICS[count].per, METRICS[count].source) == (NUMBERS[number].per, NUMBERS[number].source)


def test_names_of_the_field_are_those_of_a_measure_where_it_has_them() -> None:
    note = asked("BWT", "--metric").note_in(VIEW)
    assert note is not None
    assert note.startswith("BWT: backward_transfer.gem, mean_j L(end of f(j), j) - L(end, j)")
    assert [column.heading for column in columns.chosen(["WORST", "average_accuracy"])] == [
        "worst (squared units)",
        "average_accuracy %",
    ]


@pytest.mark.parametrize(
    ("metric", "view", "sentence"),
    [
        ("average_accuracy", VIEW, r"'average_accuracy' is a metric of counts, asked of a regression run \(view "
         r"domain:squared_error\), where it is 'average'\.$"),
        ("wc_acc", "class:log_loss", r"asked of the log loss of a run \(view class:log_loss\), where it "
         "is 'worst_case'"),
        ("average", "class", r"'average' is a metric of errors and losses, asked of correct predictions \(view "
         r"class\), where it is 'average_accuracy'"),
        ("gap.recovery_90", VIEW, "; the nearest there is 'gap.recovery_90_of_drop'"),
    ],
)  # fmt: skip
def test_a_metric_of_the_other_kind_is_one_sentence(metric: str, view: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        defined(metric, view, "--metric")
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "ask",
    [
        lambda runs: main(["leaderboard", str(runs), "--metric", "ACC"]),
        lambda runs: main(["leaderboard", str(runs), "--columns", "strategy,ACC"]),
        lambda runs: main(["compare", ":er", ":naive", "--in", str(runs), "--metric", "ACC"]),
        lambda runs: main(["report", str(runs), "--metric", "ACC", "-o", str(runs / "report.html")]),
        lambda runs: main(["plot", str(runs), "--kind", "cost", "--metric", "ACC", "--out", str(runs / "a.png")]),
        lambda runs: clbench.leaderboard(runs, metrics=["ACC"]),
        lambda runs: clbench.compare("table:er", "table:naive", within=runs, metrics=["average_accuracy"]),
        lambda runs: clbench.score(clbench.read_runs(runs)[0], "ACC"),
        lambda runs: clbench.read_runs(runs).to_frame("ACC"),
        lambda runs: clbench.report(runs, metrics=["ACC"], out=runs / "report.html"),
    ],
)
def test_every_output_says_so(runs: Path, ask: Callable[[Path], Any], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = ask(runs)
    except UserError as error:
        message = str(error)
    else:
        assert status == 2
        message = capsys.readouterr().err
    assert "'average_accuracy' is a metric of counts, asked of a regression run" in message
    assert "where it is 'average'" in message


# ------------------------------------------------------------------------------------------------ other verbs
def test_a_comparison_is_better_where_the_error_is_lower(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "compare", ":er", ":naive", "--in", runs, "--metric", "average")
    assert "average (squared units)" in text
    assert text.splitlines()[4].endswith("A better")
    frame = clbench.compare("table:er", "table:naive", within=runs).frame
    assert list(frame["metric"]) == list(columns.usual_metrics(VIEW))
    assert set(frame["unit"]) == {"squared units"}
    assert frame.loc[0, "a_mean"] < frame.loc[0, "b_mean"]


def test_scores_of_a_run_are_in_the_unit_of_the_measure(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = clbench.read_runs(runs)[0]
    text = said(capsys, "score", run.directory, "--gap", "--view", "domain:absolute_error")
    assert f"{run.metrics['average']:.4g} squared units" in said(capsys, "score", run.directory)
    assert " units " in text
    assert "%" not in text.partition("gap.regained")[0]
    gap = next(line for line in text.splitlines() if line.startswith("1 "))
    before = run.trace.task_mean("domain:absolute_error")[run.trace.phase == 3][0, 0]
    assert f"{before:.4g} units" in gap
    assert not gap.split()[2].startswith("-")


def test_a_run_and_its_tables_show_themselves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    several = clbench.read_runs(runs)
    assert "squared error: average" in repr(several[0])
    curve = several.accuracy()
    assert "accuracy" not in curve
    assert curve["squared_error"].iloc[-1] == several[-1].trace.task_mean(VIEW)[-1, -1]
    text = said(capsys, "show", several[0].directory)
    assert f"metrics, view {VIEW}" in text
    assert "average" in said(capsys, "list", "runs", runs).splitlines()[0]
    assert "rise since the end of a task's first visit" in said(capsys, "show", "forgetting.after_learning")
    assert "average maximum of earlier tasks (of errors and losses)" in said(capsys, "list", "metrics")


def test_a_log_loss_beside_counts_is_in_every_output(classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = clbench.read_runs(classes)[0]
    assert "ACC" in repr(run)
    assert "nats" in said(capsys, "score", run.directory, "--view", "class:log_loss")
    text = said(capsys, "leaderboard", classes, "--view", "class:log_loss")
    assert "average (nats)" in text
    assert "metrics, view class:log_loss" in said(capsys, "show", run.directory, "--deep")
    assert "average_accuracy %" in said(capsys, "leaderboard", classes)


def test_rescoring_changes_nothing_and_a_row_is_verified(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = clbench.read_runs(runs)[0]
    assert "nothing changed" in said(capsys, "rescore", run.directory)
    row = frame_of(runs).iloc[0]["row_id"]
    text = said(capsys, "verify", row, "--in", runs, "--quiet")
    assert "reproduced bit for bit" in text
    assert "average: " in text
    assert "squared units (the row: " in text


def test_the_card_says_what_is_predicted(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = said(capsys, "show", table)
    assert "60 training samples, 40 test samples, 2 numbers to predict" in card
    assert "classes" not in card.partition("\n# table")[2]


def test_loggers_end_with_the_average_and_the_worst(runs: Path) -> None:
    run = clbench.read_runs(runs)[0]
    last = [point.values for point in Curves(0).points(run.trace) if "experience" in point.values][-1]
    assert last[f"{VIEW}/average_so_far"] == pytest.approx(run.metrics["average"])
    assert last[f"{VIEW}/worst_so_far"] == pytest.approx(run.metrics["worst"])


def test_a_run_that_failed_before_it_had_data_stands_in_its_row(runs: Path, table: Path, tmp_path: Path) -> None:
    records, _ = collect(runs)
    er = [record for record in records if record.config.strategy.name == "er"]
    run = resolve.make_run(str(table), strategy="er", seed=0, threads=1, device="cpu")
    failed = read(write_run(tmp_path, run, None, failure="no data"))
    assert failed.primary_view == "domain"
    [row] = leaderboard.table([failed, *er[1:]]).to_dict("records")
    assert (row["view"], row["n"], row["n_failed"]) == (VIEW, SEEDS - 1, 1)
    assert row["average_mean"] is not None


# ------------------------------------------------------------------------------------------------ studies
def tuned(table: Path, tmp_path: Path, metric: str) -> int:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"id: tuned\nstreams: ['{table}']\nseeds: 1\n"
        "strategies: [{name: naive, optimizer: {name: sgd, lr: [0.000001, 0.2]}}]\n"
        f"tuning: {{by: test, seeds: [7]{metric}}}\nengine: {{name: local, processes: 1}}\n"
    )
    return main(["grid", str(study), "--out", str(tmp_path / "out"), "--quiet"])


def test_a_search_takes_the_lower_error(table: Path, tmp_path: Path) -> None:
    assert tuned(table, tmp_path, "") == 0
    [record] = [r for r in collect(tmp_path / "out")[0] if r.tuning]
    assert record.tuning["metric"] == "average"
    errors = {_rate(r): r.scores["average"].value or 0.0 for r in collect(tmp_path / "out" / TRIALS)[0]}
    assert len(set(errors.values())) == 2
    assert _rate(record) == min(errors, key=errors.__getitem__)


def _rate(record: Record) -> float:
    optimizer = record.config.strategy.parameters["optimizer"]
    assert isinstance(optimizer, dict)
    return float(optimizer["lr"])  # type: ignore[arg-type]


def test_a_search_by_counts_is_refused_before_training(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuned(table, tmp_path, ", metric: average_accuracy") == 2
    message = capsys.readouterr().err
    assert "tuning.metric: 'average_accuracy' is a metric of counts, asked of a regression run" in message
    assert not list((tmp_path / "out").rglob("run.json"))


# ------------------------------------------------------------------------------------------------ figures
def axes_of(kind: str, runs: Path, **more: Any) -> list[Any]:
    figure = clbench.plot(runs, kind=kind, **more).figure  # type: ignore[arg-type]
    return [axes for axes in figure.axes if axes.get_ylabel()]


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        ("runs", "squared error (squared units)"),
        ("methods", "squared error on tasks so far (squared units)"),
        ("boundaries", "change on earlier tasks (squared units)"),
        ("cost", "average (squared units)"),
    ],
)
def test_axes_have_the_unit_and_hold_the_curves(runs: Path, kind: str, label: str) -> None:
    several = axes_of(kind, runs)
    assert {axes.get_ylabel() for axes in several} == {label}
    for axes in several:
        low, high = axes.get_ylim()
        drawn = [y for line in axes.lines if line.get_transform() == axes.transData for y in line.get_ydata()]
        assert drawn
        assert low <= np.nanmin(drawn)
        assert np.nanmax(drawn) <= high


def test_cells_of_a_matrix_are_errors(runs: Path) -> None:
    figure = clbench.plot(runs, kind="matrix").figure
    matrices = [r.trace.task_mean(VIEW)[r.trace.phase == 3] for r in clbench.read_runs(runs) if r.strategy == "er"]
    wanted = np.stack(matrices).mean(0)
    texts = [float(text.get_text()) for text in figure.axes[0].texts]
    known = wanted[~np.isnan(wanted)]
    assert texts == pytest.approx(known.tolist(), abs=0.05)
    assert any(axes.get_ylabel() == "squared error (squared units)" for axes in figure.axes)


def test_a_drop_is_upwards(runs: Path) -> None:
    [axes] = axes_of("boundaries", runs)
    triangles = [line for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1]
    assert triangles
    for line in triangles:
        assert line.get_ydata()[0] > 0


def test_a_rise_is_undone_at_nine_tenths_of_it() -> None:
    curve = np.array([1.0, 3.0, 1.3, 1.2, 1.0])
    assert boundary_figure.rise(curve, 1.0) == (1, 3)
    assert boundary_figure.rise(np.array([2.0, 1.0]), 2.0) == (0, 0)


def test_a_figure_has_room_for_runs_of_both_kinds(runs: Path, classes: Path) -> None:
    one = [clbench.read_runs(folder)[0] for folder in (runs, classes)]
    labels = [axes.get_ylabel() for axes in axes_of("runs", one)]  # type: ignore[arg-type]
    assert labels == ["squared error (squared units)", "accuracy (%)"]
    assert {axes.get_ylabel() for axes in axes_of("runs", runs, first=3, loss=True)} == {
        "squared error (squared units)",
        "loss",
    }
    with pytest.raises(UserError, match=r"matrix: runs of several quantities \(accuracy \(%\), squared error"):
        clbench.plot(*one, kind="matrix")


# ------------------------------------------------------------------------------------------------ the page
def test_the_page_speaks_of_errors(runs: Path, classes: Path, tmp_path: Path) -> None:
    page = clbench.report(runs, out=tmp_path / "a.html").read_text(encoding="utf-8")
    body = page.partition("<body")[2]
    for words in ("Squared error during training", "Squared error matrices", "Cost and squared error"):
        assert words in body
    assert "squared error, average maximum of earlier tasks" in body
    assert "Other libraries" not in body
    assert '"unit": "squared units"' in body or '"unit":"squared units"' in body
    both = clbench.report(runs, classes, out=tmp_path / "b.html").read_text(encoding="utf-8").partition("<body")[2]
    assert "Accuracy during training" in both
    assert 'id="metric-gap.depth"' in both
    assert 'id="metric-squared_error-gap.depth"' in both
    assert both.count('id="metric-gap.depth"') == 1


def test_gaps_of_counts_have_the_metrics_that_they_had() -> None:
    assert [name for name in gaps.METRICS if name not in METRICS] == [
        "gap.recovery_90_of_drop",
        "gap.recovered_90_of_drop",
    ]


def test_numbers_of_any_size_are_told_with_four_digits() -> None:
    assert columns.with_half(1.23456e-5, 1e-6, "nats") == "0.00001235 ± 0.00000100"
    assert columns.with_half(4.2e12, 3e11, "squared units") == "4.2e+12 ± 3e+11"
    assert columns.with_half(0.0, None, "units") == "0.000"
    assert math.isclose(float(columns.with_half(12345.678, None, "units")), 12346)


def test_a_search_on_a_table_reads_it_by_its_columns(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-{day:02},{day % 5},{3 * (day % 5) + day // 15}\n" for day in range(1, 29))
    (tmp_path / "days.csv").write_text(f"day,x,load\n{rows}")
    benchmark = tmp_path / "days.yaml"
    benchmark.write_text(
        f"id: days\nstream:\n  data: 'csv:{tmp_path / 'days.csv'}'\n"
        "  columns: {target: load, target_kind: number, time: day}\n  tasks: {by: time, count: 2}\n  setting: domain\n"
        "model: {name: linear}\ntraining:\n  {iterations: 4, batch_size: 5, loss: squared_error, "
        "optimizer: {name: sgd, lr: 0.1}}\n"
    )
    assert tuned(benchmark, tmp_path, "") == 0
    assert [r.tuning["metric"] for r in collect(tmp_path / "out")[0] if r.tuning] == ["average"]
