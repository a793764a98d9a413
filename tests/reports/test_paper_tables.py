"""Tables for papers: chosen columns and rows, deviations, the best rows by hand, LaTeX that is balanced, terminals."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pandas as pd
import pytest

from clbench.cli import main
from clbench.errors import UserError
from clbench.reports import best_rows, board_layout, columns, leaderboard, tables
from clbench.results.record import Record
from support import ROOT, TRACES

REFERENCE = ROOT / "results" / "reference"
BASE = json.loads((TRACES / "schema-1" / "split_synthetic-v1-er" / "run.json").read_text())


def made(strategy: str, values: dict[int, float], **changes: Any) -> list[Record]:
    """Runs by seed with an accuracy."""
    out = []
    for seed, accuracy in values.items():
        record = copy.deepcopy(BASE)
        record["config"]["strategy"]["name"] = strategy
        record["config"]["seed"] = seed
        record |= {"run_id": f"{strategy} {seed}", "config_hash": strategy, **changes}
        record["stream"]["instance_hash"] = f"instance {seed}"
        scores = record["metrics"]["class"]
        record["metrics"]["class"] = {
            n: scores[n] for n in ("average_accuracy", "forgetting.after_learning", "min_acc")
        }
        scores["average_accuracy"]["value"] = accuracy
        scores["forgetting.after_learning"]["value"] = 1 - accuracy
        out.append(Record.of(record))
    return out


# Paired with "high" over seeds 0, 1, 2: "near" differs by 0.1, -0.1, 0.06 (mean 0.02, interval with 0);
# "low" by 0.4, 0.42, 0.44 (mean 0.42 ± 4.303 * 0.02 / sqrt(3) = ± 0.0497, interval without 0).
HIGH, NEAR, LOW = {0: 0.9, 1: 0.7, 2: 0.86}, {0: 0.8, 1: 0.8, 2: 0.8}, {0: 0.5, 1: 0.28, 2: 0.42}


def table(*records: list[Record]) -> pd.DataFrame:
    return leaderboard.table(record for several in records for record in several)


def ids(records: list[Record]) -> str:
    return leaderboard.row_id(records[0])


# ------------------------------------------------------------------------------------------------ best
def test_the_best_and_those_that_do_not_differ_from_it_by_hand() -> None:
    high, near, low = made("high", HIGH), made("near", NEAR), made("low", LOW)
    records = [*high, *near, *low]
    found = best_rows.best(records, ["average_accuracy", "forgetting.after_learning"])
    assert found == {(ids(r), m) for r in (high, near) for m in ("average_accuracy", "forgetting.after_learning")}
    assert best_rows.best([*high, *near], ["average_accuracy"]) == frozenset(), "no row differs from the best"
    assert best_rows.best(records, ["average_accuracy"], [ids(near), ids(low)]) == {(ids(near), "average_accuracy")}


def test_what_is_not_continual_or_not_paired_is_not_the_best() -> None:
    high, low = made("high", HIGH), made("low", LOW)
    joint = made("joint", {0: 0.99, 1: 0.99, 2: 0.99}, access="stream")
    alone = made("alone", {2: 0.86})
    found = best_rows.best([*high, *low, *joint, *alone], ["average_accuracy"])
    assert found == {(ids(high), "average_accuracy")}
    elsewhere = made("elsewhere", {0: 0.1, 1: 0.1, 2: 0.1}, definition_hash="another")
    assert best_rows.best([*high, *elsewhere], ["average_accuracy"]) == frozenset(), "boards are not compared"


def test_the_best_are_marked_and_the_rule_is_said() -> None:
    high, near, low = made("high", HIGH), made("near", NEAR), made("low", LOW)
    frame = table(high, near, low)
    best = best_rows.best([*high, *near, *low], ["average_accuracy"])
    choice = tables.Choice(columns.chosen(["strategy", "ACC"], "std"), "std", best=best)
    latex = tables.to_latex(frame, choice=choice).splitlines()
    assert latex[5:8] == [
        r"high & \textbf{82.00 $\pm$ 10.58} \\",
        r"near & \textbf{80.00 $\pm$ 0.00} \\",
        r"low & 40.00 $\pm$ 11.14 \\",
    ]
    markdown = tables.to_markdown(frame, choice=choice)
    assert "| high | **82.00 ± 10.58** |" in markdown
    assert "| low | 40.00 ± 11.14 |" in markdown
    text = tables.to_text(frame, choice=choice)
    assert re.search(r"^near +»80.00 ± 0.00$", text, re.M)
    assert f"»: {best_rows.RULE}" in text
    assert "mean over seeds ± standard deviation over seeds (n - 1)" in text
    assert "ACC: average_accuracy, 1/T sum_j R[V-1, j] (Lopez-Paz and Ranzato 2017)" in text
    assert "rank" not in text.splitlines()[1]


# ------------------------------------------------------------------------------------------------ columns and rows
def test_columns_rows_and_names_are_chosen() -> None:
    frame = table(made("high", HIGH), made("near", NEAR), made("low", LOW))
    picked = columns.chosen(["rank", "strategy", "seeds", "time", "Forgetting", "memory"])
    choice = tables.Choice(picked, rename=["high=Ours | $x$"], strategies=["low", "high"])
    (board,) = tables.boards(frame, choice=choice)
    assert board.headings == ("rank", "strategy", "seeds", "train + eval s", "forgetting %", "memory bytes")
    assert [row[1] for row in board.rows] == ["Ours | $x$", "low"]
    assert board.rows[0][3] == "0.1"
    assert r"Ours \textbar{} \$x\$" in tables.to_latex(frame, choice=choice)
    assert r"| Ours \| $x$ |" in tables.to_markdown(frame, choice=choice)
    for wrong, sentence in (
        ({"strategies": ["lo"]}, "--strategies: unknown row 'lo'. Did you mean 'low'?"),
        ({"rename": ["hi=x"]}, "--rename: unknown row 'hi'."),
        ({"rename": ["high"]}, "--rename: got 'high'. Allowed: a row and its new name, like er=Ours."),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            tables.boards(frame, choice=tables.Choice(**wrong))  # type: ignore[arg-type]


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["leaderboard", str(REFERENCE), "--benchmark", "split_digits-v1"]
    more = ["--columns", "strategy,ACC,BWT", "--strategies", "er,naive", "--rename", "er=Ours", "--std", "--best"]
    assert main([*arguments, *more]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[1].split() == ["strategy", "ACC", "%", "BWT", "%"]
    assert re.fullmatch(r"Ours +»[0-9.]+ ± [0-9.]+ +»-[0-9.]+ ± [0-9.]+", lines[3])
    assert re.fullmatch(r"naive +[0-9.]+ ± [0-9.]+ +-[0-9.]+ ± [0-9.]+", lines[4])
    assert any(line.endswith("also called so: backward_transfer.all_pairs") for line in lines)
    assert main([*arguments, "--columns", "ACC", "--metric", "ACC"]) == 2
    assert capsys.readouterr().err == "--metric and --columns: one of them; --columns names metrics too.\n"
    assert main([*arguments, "--columns", "strateg"]) == 2
    assert capsys.readouterr().err.startswith("--columns: unknown column 'strateg'. Did you mean 'strategy'?")
    assert main([*arguments, "--columns", ","]) == 2
    assert capsys.readouterr().err.startswith("--columns: no name. Allowed: metrics, rank, strategy,")


def test_a_metric_is_headed_by_the_name_it_was_asked_by(capsys: pytest.CaptureFixture[str]) -> None:
    for name, heading in (("min-acc", "min-ACC %"), ("min_acc", "min_acc %")):
        assert main(["leaderboard", str(REFERENCE), "--metric", name]) == 0
        assert re.search(rf"seeds +{heading} +memory", capsys.readouterr().out)


# ------------------------------------------------------------------------------------------------ LaTeX
HOSTILE = ["a_b&c%d#e$f{g}h~i^j\\k", "[1] x", "*", "実験", "é|<>\"'`", "\\end{tabular}", "${"]


def balanced(latex: str) -> list[list[str]]:
    """The cells of a tabular; fails where a brace, a dollar or a cell is too many, or a character is active."""
    begin, layout = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", latex), []
    rows = []
    for line in latex.splitlines():
        if line.startswith("%") or not line.endswith(r"\\"):
            continue
        assert not line.startswith(("[", "*")), "an argument of the line before"
        body = re.sub(r"\\[_%&#${}]", "", line.removesuffix(r"\\"))
        depth = 0
        for c in body:
            depth += (c == "{") - (c == "}")
            assert depth >= 0, line
        assert depth == 0, line
        assert body.count("$") % 2 == 0, line
        assert not re.search(r"[%#~^_]", re.sub(r"\$[^$]*\$", "", body)), line
        assert all(ord(c) < 256 for c in line), line
        words = set(re.findall(r"\\([a-z]+)", body))
        assert words <= {"textbf", "pm", "leq", "geq", "textbackslash", "textasciitilde", "textasciicircum",
                         "textless", "textgreater", "textbar", "ldots"}, words  # fmt: skip
        rows.append(body.split("&"))
        layout.append(len(rows[-1]))
    assert set(layout) == {len(begin[0])}
    return rows


def test_latex_is_balanced_whatever_names_are() -> None:
    frame = table(*(made(name, {0: 0.5, 1: 0.6}) for name in HOSTILE))
    for names in (["strategy", "ACC", "forgetting"], ["ACC", "strategy"]):
        choice = tables.Choice(columns.chosen(names), rename=[f"{HOSTILE[0]}=[{HOSTILE[4]}"])
        rows = balanced(tables.to_latex(frame, choice=choice))
        assert len(rows) == 1 + len(HOSTILE)
    assert r"{}[1] x & " in tables.to_latex(frame, choice=tables.Choice(columns.chosen(["strategy", "ACC"])))
    assert "[U+5B9F][U+9A13]" in tables.to_latex(frame)


# ------------------------------------------------------------------------------------------------ terminals
@pytest.fixture(scope="module")
def wide() -> board_layout.Board:
    names = ("er with a long name (memory 200)", "er with a long name (memory 500)", "naive")
    (board,) = tables.boards(table(*(made(name, HIGH) for name in names)))
    return board


@pytest.mark.parametrize("width", range(45, 170, 5))
def test_a_table_fits_its_terminal_and_says_what_is_missing(wide: board_layout.Board, width: int) -> None:
    board = board_layout.fitted(wide, width)
    lines = tables.aligned([*board.head, *board.rows], board.words)
    assert max(map(len, lines)) <= width
    missing = [h for c, h in zip(wide.columns, wide.headings, strict=True) if c not in board.columns]
    assert bool(missing) == (len(board.notes) > len(wide.notes))
    assert all(heading in board.notes[-1] for heading in missing)
    labels = [row[board.columns.index("strategy")] for row in board.rows]
    assert len(set(labels)) == 3, "rows stay apart"


def test_nothing_is_missing_where_there_is_room_and_headings_break_first(wide: board_layout.Board) -> None:
    assert board_layout.fitted(wide, 1000) == wide
    board = board_layout.fitted(wide, 150)
    assert board.columns == wide.columns
    assert [line[5] for line in board.head] == ["forgetting.", "after_", "learning %"]


def test_a_pipe_gets_everything_and_a_terminal_what_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["leaderboard", str(REFERENCE)]) == 0
    piped = capsys.readouterr().out
    assert "memory bytes  train s  eval s" in piped
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["leaderboard", str(REFERENCE)]) == 0
    shown = capsys.readouterr().out
    assert "too wide for this terminal: eval s, train s, memory bytes, row, " in shown
    table_lines = [line for line in shown.splitlines() if re.match(r"rank {2}|----|[0-9-]+ {2}", line)]
    assert max(map(len, table_lines)) <= 60
    assert main(["leaderboard", str(REFERENCE), "--markdown"]) == 0
    assert "| memory bytes | train s | eval s |" in capsys.readouterr().out
