"""Runs as tables: frames by hand, scores of own metrics, boards, comparisons, figures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clbench
from clbench.cli import main
from clbench.metrics import METRICS, Metric, Value
from clbench.results import files, trace_files
from clbench.testing import make_trace
from clbench.trace import Trace
from support import TRACES

OLD = TRACES / "schema-1" / "split_synthetic-v1-er"
CURVES = np.array([[[0.0, np.nan], [0.8, np.nan], [0.8, np.nan]], [[0.8, 0.0], [0.2, 0.5], [0.4, 0.9]]])
"""Two experiences of one update: the first task falls from 0.8 to 0.2, and ends at 0.4."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(folder: str, memory: int = 5, seed: int = 0, failure: str = "", accuracy: float = 0.4) -> Path:
    """A run's folder around a trace that ends at an accuracy on its first task."""
    raw: dict[str, Any] = json.loads((OLD / "run.json").read_text())
    raw["config"]["seed"] = seed
    raw["config"]["strategy"]["memory"] = memory
    raw["run_id"], raw["config_hash"] = f"{memory}-{seed}", str(memory) * 8
    curves = CURVES.copy()
    curves[1, 2, 0] = accuracy
    trace = make_trace(curves, size=10)
    directory = Path(folder)
    if failure:
        raw |= {"status": "failed", "failure": {"kind": "x", "message": failure, "iteration": 0}, "metrics": None}
    else:
        raw["metrics"] = json.loads(json.dumps(clbench.metrics.compute(trace)))  # type: ignore[attr-defined]
        trace_files.TraceWriter(directory).finish(trace)
    files.write_json(directory / "run.json", raw)
    return directory


def largest_drop(trace: Trace, view: str) -> float:
    """Largest fall between two evaluations."""
    return float(np.nanmax(-np.diff(trace.task_accuracy(view)[:, 0])))


LOWEST = Metric(
    "lowest", "lowest accuracy at the end", "min_j R[V-1, j]", "this test", "higher", (0, 1), "accuracy", "task",
    lambda trace, view: Value(float(trace.task_accuracy(view)[-1].min()), trace.task_accuracy(view)[-1]),
)  # fmt: skip


def test_one_row_a_run() -> None:
    written("a/1"), written("a/2", seed=1, failure="no luck"), written("a/3", memory=9)
    runs = clbench.read_runs("a")
    frame = runs.to_frame()
    assert frame["label"].tolist() == ["er (memory 5)", "er (memory 5)", "er (memory 9)"]
    assert frame["status"].tolist() == ["completed", "failed", "completed"]
    assert frame["reason"].tolist()[1] == "no luck"
    assert frame["average_accuracy"].tolist() == pytest.approx([0.65, math.nan, 0.65], nan_ok=True)
    assert frame["min_acc"].tolist() == pytest.approx([0.2, math.nan, 0.2], nan_ok=True)
    assert frame.groupby("label")["average_accuracy"].mean().to_dict() == pytest.approx(
        {"er (memory 5)": 0.65, "er (memory 9)": 0.65}
    )
    assert frame.columns[:9].tolist() == [
        "benchmark", "modified", "definition_hash", "strategy", "label", "row_id", "seed", "status", "reason",
    ]  # fmt: skip
    board = clbench.leaderboard(runs).frame
    assert set(frame["row_id"]) == set(board["row_id"])
    assert frame["row_id"].tolist()[0] == frame["row_id"].tolist()[1] != frame["row_id"].tolist()[2]
    mine = runs.to_frame([largest_drop, LOWEST, "min_acc"])
    assert mine["largest_drop"].tolist() == pytest.approx([0.6, math.nan, 0.6], nan_ok=True)
    assert mine["lowest"].tolist() == pytest.approx([0.4, math.nan, 0.4], nan_ok=True)
    assert "average_accuracy" not in mine
    assert len(clbench.Runs([]).to_frame()) == 0


def test_one_row_an_evaluation_and_task() -> None:
    run = clbench.read_run(written("a"))
    frame = run.accuracy()
    assert frame[["iteration", "experience", "phase", "task", "accuracy"]].to_numpy().tolist() == [
        [0, 0, "before", 0, 0.0], [1, 0, "iteration", 0, 0.8], [1, 0, "end", 0, 0.8],
        [1, 1, "before", 0, 0.8], [1, 1, "before", 1, 0.0], [2, 1, "iteration", 0, 0.2], [2, 1, "iteration", 1, 0.5],
        [2, 1, "end", 0, 0.4], [2, 1, "end", 1, 0.9],
    ]  # fmt: skip
    with pytest.raises(clbench.UserError, match="unknown view 'clas'"):
        run.accuracy("clas")
    with pytest.raises(clbench.UserError, match="none of the runs has an evaluation"):
        clbench.read_run(written("b", failure="x")).accuracy()


def test_runs_show_themselves() -> None:
    written("a/1"), written("a/2", memory=9, failure="<b>\x1b[31m"), written("b/1")
    runs = clbench.read_runs("a", Path("b"))
    assert repr(runs).splitlines() == [
        "2 runs: 1 completed, 1 failed",
        "  split_synthetic-v1* er (memory 5) seed 0: ACC 65.00 %, forgetting.after_learning 40.00 %, min-ACC 20.00 %, "
        "WC-ACC 55.00 %",
        "  split_synthetic-v1* er (memory 9) seed 0: failed: <b>\\x1b[31m",
        f"  left out: {runs.left_out[0]}",
    ]
    assert runs.left_out == ["b/1/run.json: the same run as a/1/run.json, which is first by its contents."]
    assert "<b>" not in runs._repr_html_()
    assert "failed: &lt;b&gt;\\x1b[31m" in runs._repr_html_()
    assert [run.directory for run in runs[:1]] == [Path("a/1")]
    assert len(runs._repr_html_().split("<tr>")) == 4
    many = clbench.Runs([runs[0]] * 20)
    assert repr(many).splitlines()[-1] == "  ... 9 more"


def test_scores_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    folder = written("a")
    frame = clbench.score(folder)
    assert frame.index.tolist() == [name for name, metric in METRICS.items() if metric.record is None]
    assert frame.loc["average_accuracy", ["value", "unit", "better"]].tolist() == pytest.approx(
        [0.65, "accuracy", "higher"]
    )
    main(["score", str(folder), "--csv", "a.csv"])
    lines = [line.split(",") for line in Path("a.csv").read_text().splitlines()]
    values = {line[2]: float(line[3]) if line[3] else math.nan for line in lines[1:]}
    assert frame["value"].to_dict() == pytest.approx(values, nan_ok=True, abs=0)


def test_scores_of_own_metrics_of_a_run_and_of_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lab_metrics.py").write_text("def updates(trace, view):\n    return len(trace.loss)\n")
    monkeypatch.syspath_prepend(".")
    run = clbench.read_run(written("a"))
    frame = clbench.score(run, [largest_drop, LOWEST, "lab_metrics:updates"])
    assert frame["value"].to_dict() == pytest.approx({"largest_drop": 0.6, "lowest": 0.4, "updates": 2})
    assert frame["better"].tolist() == ["unstated", "higher", "unstated"]
    assert clbench.score(run.trace, LOWEST)["value"].tolist() == [0.4]
    assert (
        repr(run.trace) == "Trace of 2 tasks in 2 experiences: 6 evaluations, 2 updates, 20 test samples, views class"
    )


def test_the_command_line_takes_them_by_import_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lab_scores.py").write_text(
        "def updates(trace, view):\n    return len(trace.loss)\n\ndef broken(trace, view):\n    raise KeyError(view)\n"
    )
    monkeypatch.syspath_prepend(Path.cwd())
    folder = str(written("a"))
    assert main(["score", folder, "--metric", "lab_scores:updates", "--metric", "min_acc"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[3:]] == [
        ["updates", "2.00"],
        ["min_acc", "20.00"],
    ]
    for name, message in (
        ("updtes", "has no 'updtes'. Did you mean 'updates'?"),
        ("broken", "KeyError: 'class' (lab_"),
    ):
        assert main(["score", folder, "--metric", f"lab_scores:{name}"]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("--metric: ")
        assert message in line


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["mini_acc"], "metrics: unknown metric 'mini_acc'. Did you mean 'min_acc'? "),
        (["no_lab:x"], "metrics: 'no_lab:x' does not import: no module named 'no_lab'."),
        (
            [3],
            "metrics: got 3. Allowed: a metric's name, an import path, a Metric, or a function of a trace and a view.",
        ),
        ([lambda trace, view: "much"], "metric '<lambda>': returned 'much'. Allowed: a number, or a clbench.metrics."),
    ],
)
def test_what_is_no_metric_is_refused(metrics: Any, message: str) -> None:
    with pytest.raises(clbench.UserError) as caught:
        clbench.score(make_trace(CURVES), metrics)
    assert str(caught.value).startswith(message)


def test_the_board_is_that_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    written("results/1"), written("results/2", memory=9, accuracy=0.6)
    board = clbench.leaderboard()
    main(["leaderboard", "--csv", "a.csv"])
    assert capsys.readouterr().out.rstrip("\n") == repr(board)
    assert board.to_csv("b.csv").read_bytes() == Path("a.csv").read_bytes()
    assert board.frame["average_accuracy_mean"].tolist() == pytest.approx([0.75, 0.65])
    assert board._repr_html_().count("<tr>") == 3
    runs = clbench.read_runs("results")
    assert repr(clbench.leaderboard(runs, metrics=["min_acc"])).splitlines()[1].split() == [
        "rank", "strategy", "row", "seeds", "min_acc", "%", "memory", "bytes", "train", "s", "eval", "s",
    ]  # fmt: skip
    assert len(clbench.leaderboard(runs[0], runs[1:])) == 2
    assert clbench.leaderboard(runs).to_markdown().count("\n| -") == 2
    assert "\\toprule" in clbench.leaderboard(runs).to_latex()
    for wrong, message in (({"benchmark": "split"}, "unknown benchmark"), ({"metrics": "aac"}, "unknown metric 'aac'")):
        with pytest.raises(clbench.UserError, match=message):
            clbench.leaderboard(runs, **wrong)  # type: ignore[arg-type]
    with pytest.raises(clbench.UserError, match=r"^got 3\. Allowed: runs, or folders with runs\.$"):
        clbench.leaderboard(3)  # type: ignore[arg-type]


def test_a_comparison_is_that_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        written(f"results/a{seed}", seed=seed)
        written(f"results/b{seed}", seed=seed, memory=9, accuracy=0.6 + seed / 10)
    a, b = (
        clbench.Runs(r for r in clbench.read_runs("results") if r.config["strategy"]["memory"] == m) for m in (5, 9)
    )
    comparison = clbench.compare(b, a, metrics=["average_accuracy"])
    assert comparison.frame["difference"].tolist() == pytest.approx([0.15])  # (0.1 + 0.15 + 0.2) / 3
    rows = clbench.leaderboard("results").frame.set_index("parameters")["row_id"]
    sides = [next(row for parameters, row in rows.items() if f"memory={m}" in str(parameters)) for m in (9, 5)]
    assert main(["compare", *sides, "--metric", "average_accuracy"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == repr(comparison)
    assert repr(clbench.compare(*sides, metrics=["average_accuracy"])) == repr(comparison)
    with pytest.raises(clbench.UserError, match=r"^compare\(\): got 3\. Allowed: runs, a folder, "):
        clbench.compare(3, a)  # type: ignore[arg-type]


def test_names_of_the_field_stand_for_their_definitions_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    folder = written("a/0")
    assert list(clbench.score("a/0", ["ACC", "min-ACC"]).index) == ["average_accuracy", "min_acc"]
    assert clbench.leaderboard("a", metrics=["acc", "average_accuracy"]).metrics == ("average_accuracy",)
    assert main(["score", str(folder), "--metric", "ACC"]) == 0
    assert "average_accuracy" in capsys.readouterr().out
    with pytest.raises(clbench.UserError, match=r"leaderboard\(\): unknown metric 'AC'\. Did you mean 'ACC'"):
        clbench.leaderboard("a", metrics=["AC"])


@pytest.mark.parametrize("kind", ["methods", "boundaries", "matrix", "cost"])
def test_a_figure_of_methods_is_that_of_the_command_line(kind: str) -> None:
    for seed, accuracy in ((0, 0.4), (1, 0.6)):
        written(f"a/{seed}", seed=seed, accuracy=accuracy)
    main(["plot", "a", "--kind", kind, "--out", "b.svg", "--label", "er=Ours", "--dark", "--title", "T"])
    plot = clbench.plot("a", kind=kind, labels={"er": "Ours"}, dark=True, title="T")  # type: ignore[arg-type]
    assert plot.save("c.svg").read_bytes() == Path("b.svg").read_bytes()
    assert b"Ours" in Path("c.svg").read_bytes()


def test_a_kind_of_figure_that_is_none() -> None:
    with pytest.raises(clbench.UserError, match=r"unknown kind 'method'\. Did you mean 'methods'\?"):
        clbench.plot("a", kind="method")  # type: ignore[arg-type]


def test_a_report_is_that_of_the_command_line() -> None:
    for seed in (0, 1):
        written(f"a/{seed}", seed=seed)
    main(["report", "a", "-o", "b.html"])
    assert clbench.report("a", out="c.html") == Path("c.html")
    assert Path("c.html").read_bytes() == Path("b.html").read_bytes()
    clbench.report(clbench.read_runs("a"), clbench.read_run("a/1"), out="d.html", title="<b>", metrics=["min_acc"])
    page = Path("d.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;" in page
    assert page.count("min_acc") > 0
    Path("empty").mkdir()
    for call in (lambda: clbench.report("empty"), lambda: clbench.report("nowhere"), lambda: clbench.report([])):
        with pytest.raises(clbench.UserError):
            call()


def test_a_figure_is_that_of_the_command_line() -> None:
    folder = written("a/1")
    written("a/2", memory=9, failure="x")
    main(["plot", str(folder), "--out", "b.svg"])
    plot = clbench.plot("a")  # the failed one is left out
    assert plot.save("c.svg").read_bytes() == Path("b.svg").read_bytes()
    assert plot._repr_png_().startswith(b"\x89PNG")
    assert len(plot.figure.axes) == 1
    assert clbench.plot(clbench.read_runs("a")).save("d.svg").read_bytes() == Path("b.svg").read_bytes()
    with pytest.raises(clbench.UserError, match=r"got the suffix '\.gif'. Allowed: \.png, \.svg, \.pdf"):
        plot.save("c.gif")
    with pytest.raises(clbench.UserError, match="only a finished run has a complete trace"):
        clbench.plot(clbench.read_run("a/2"))
    with pytest.raises(clbench.UserError, match="got no run with a result"):
        clbench.plot()
    with pytest.raises(clbench.UserError, match="2 runs below it"):
        clbench.read_run("a")
