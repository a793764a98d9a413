"""The leaderboard and comparisons: pure functions of run files; ranks and pairs by hand; nothing lost, no traceback."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clbench import resolve
from clbench.cli import main
from clbench.errors import UserError
from clbench.metrics import METRICS
from clbench.reports import comparison, leaderboard, tables
from clbench.results import files
from clbench.results.record import Record, collect
from clbench.runner import run

Json = dict[str, Any]
TINY = ["training.iterations=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two strategies with three seeds, one of them failed."""
    out = tmp_path_factory.mktemp("runs")
    for strategy in ("naive", "er"):
        for seed in range(2):
            run.execute(resolve.make_run("split_synthetic-v1", strategy=strategy, seed=seed, overrides=TINY), out)
    bad = [*TINY, "training.optimizer={name: sgd, lr: 1e30}", "training.iterations=20"]
    failed = run.execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=bad), out)
    assert failed.record["status"] == "failed"
    return out


@pytest.fixture(scope="module")
def real(finished: Path) -> Json:
    """A finished run's record, with three metrics."""
    record = files.read_run(next((finished / "split_synthetic-v1" / "er").glob("*/seed-0")))
    for view, scores in record["metrics"].items():
        kept = ("average_accuracy", "forgetting.after_learning", "min_acc")
        record["metrics"][view] = {name: scores[name] for name in kept}
    return record


Make = Callable[..., Json]


@pytest.fixture
def make(real: Json) -> Make:
    """Records of one's own making."""

    def made(strategy: str = "er", seed: int = 0, accuracy: float | None = 0.5, **changes: Any) -> Json:
        """A run; `changes` are keys of the record, `a__b` for b in a."""
        record = copy.deepcopy(real)
        record["config"]["strategy"]["name"] = strategy
        record["config"]["seed"] = seed
        record["run_id"] = f"run of {strategy} {seed}"
        record["config_hash"] = f"configuration of {strategy}"
        record["stream"]["instance_hash"] = f"instance {seed}"
        record["metrics"]["class"]["average_accuracy"]["value"] = accuracy
        for path, value in changes.items():
            *above, last = path.split("__")
            part = record
            for key in above:
                part = part[key]
            part[last] = value
        return record

    return made


def failed(record: Json, message: str = "no luck") -> Json:
    return record | {"status": "failed", "failure": {"message": message}, "metrics": None}


def write(root: Path, *records: Json) -> Path:
    for i, record in enumerate(records):
        folder = root / str(i)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
    return root


def checked(records: Iterable[Json | Record]) -> list[Record]:
    """Records of files and of one's own making."""
    return [record if isinstance(record, Record) else Record.of(record) for record in records]


def table(records: Iterable[Json | Record]) -> pd.DataFrame:
    return leaderboard.table(checked(records))


def runs(records: Iterable[Json | Record]) -> pd.DataFrame:
    return leaderboard.runs(checked(records))


def row_id(record: Json | Record) -> str:
    return leaderboard.row_id(*checked([record]))


def rows(payload: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(payload.decode(), newline="")))


def board(*records: Json | Record) -> list[dict[str, str]]:
    return rows(tables.to_csv(table(records)))


def five(make: Make, strategy: str, middle: float, half: float, **changes: Any) -> list[Json]:
    """Five seeds whose 95 % interval is middle ± half: values at ±d have the deviation d, with t = 2.776 and n = 5."""
    d = half * 5**0.5 / 2.776445105198
    return [make(strategy, seed, middle + sign * d, **changes) for seed, sign in enumerate((-1, -1, 0, 1, 1))]


# ------------------------------------------------------------------------------------------------ a pure function
def test_same_bytes_in_any_order_and_from_run_json_alone(finished: Path, tmp_path: Path) -> None:
    records, problems = collect(finished)
    assert (len(records), problems) == (5, [])
    expected = [tables.to_csv(made(records)) for made in (table, runs)]
    texts = [to(table(records)) for to in (tables.to_text, tables.to_latex)]
    directories = list(files.find_runs(finished))
    for shift in range(3):
        root = tmp_path / str(shift)
        for i, directory in enumerate(directories):
            copied = root / f"{(i * 7 + shift) % len(directories)}" / "deep"
            copied.mkdir(parents=True)
            shutil.copy(directory / "run.json", copied)
        found, problems = collect(root)
        assert not problems
        random.Random(shift).shuffle(found)
        assert [tables.to_csv(made(found)) for made in (table, runs)] == expected
        assert [to(table(found)) for to in (tables.to_text, tables.to_latex)] == texts


def test_costs_and_provenance_of_any_order(make: Make) -> None:
    records = [
        make(
            seed=seed,
            costs__train_s=0.1 * seed + 1e-9,
            provenance__git={"commit": "abc"[seed], "dirty": seed == 1},
            provenance__started_utc=f"2026-0{9 - seed}-01T00:00:00Z",
            provenance__code_sha256="ff" if seed else "ee",
        )
        for seed in range(3)
    ]
    (row,) = board(*records)
    assert (row["git"], row["code_sha256"], row["n_code_sha256"]) == ("a; b+; c", "ee; ff", "2")
    assert (row["started_first"], row["started_last"]) == ("2026-07-01T00:00:00Z", "2026-09-01T00:00:00Z")
    assert float(row["train_s"]) == pytest.approx(0.1)
    for order in ([2, 0, 1], [1, 2, 0]):
        assert board(*(records[i] for i in order)) == [row]


def test_the_long_table_is_the_run_files(finished: Path) -> None:
    records, _ = collect(finished)
    long = rows(tables.to_csv(runs(records)))
    for record in (each.raw for each in records):
        mine = [row for row in long if row["run_id"] == record["run_id"]]
        assert {row["row_id"] for row in mine} == {row_id(record)}
        if record["status"] == "failed":
            (row,) = mine
            assert row["failure"] == record["failure"]["message"] != ""
            assert row["metric"] == row["value"] == row["view"] == ""
            continue
        found = {(row["view"], row["metric"]): row for row in mine}
        assert len(found) == len(mine)
        for view, scores in record["metrics"].items():
            for name, score in scores.items():
                row = found.pop((view, name))
                value, se = score["value"], score.get("se")
                assert row["value"] == ("" if value is None else repr(value))
                assert row["se"] == ("" if se is None else repr(se))
                assert (row["unit"], row["better"]) == (METRICS[name].unit, METRICS[name].better)
                assert row["primary"] == str(view == record["primary_view"]).lower()
        assert not found


def test_a_metric_that_this_program_does_not_know_is_kept_in_the_long_table(make: Make) -> None:
    record = make(metrics__class={"average_accuracy": {"value": 0.5}, "of_tomorrow": {"value": -3.0}})
    long = rows(tables.to_csv(runs([record])))
    assert [(row["metric"], row["value"], row["unit"]) for row in long if row["view"] == "class"] == [
        ("average_accuracy", "0.5", "accuracy"), ("of_tomorrow", "-3.0", ""),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ rows
def test_a_row_by_hand(make: Make) -> None:
    records = [make(seed=s, accuracy=a, costs__iterations=10 * (s + 1)) for s, a in enumerate([0.25, 0.75])]
    (row,) = board(*records, failed(make(seed=2)), make(seed=3) | {"status": "running", "metrics": None})
    assert row["seeds"] == "0 1"
    assert (row["n"], row["n_failed"], row["n_unfinished"], row["status"]) == ("2", "1", "1", "failed")
    assert row["failure"] == "seed 2: no luck"
    assert row["instance_hashes"] == "instance 0 instance 1"
    assert float(row["average_accuracy_mean"]) == 0.5
    assert float(row["average_accuracy_std"]) == pytest.approx(0.125**0.5)
    assert float(row["average_accuracy_ci95_lo"]) == pytest.approx(0.5 - 12.706204736 * 0.25)
    assert (row["average_accuracy_n"], row["average_accuracy_iqm"]) == ("2", "0.5")
    batch = records[0]["config"]["benchmark"]["training"]["batch_size"]
    assert (float(row["updates"]), float(row["samples_seen_at_most"])) == (15, 15 * batch)
    assert (row["memory_samples"], row["eval_every"], row["threads"]) == ("200", "1", "1")


def test_missing_is_empty_and_never_zero(make: Make) -> None:
    records = [make(seed=0), make(seed=1, accuracy=None), make(seed=2)]
    del records[2]["metrics"]["class"]["min_acc"]
    (row,) = board(*records)
    for name, n in (("average_accuracy", "2"), ("min_acc", "2"), ("wc_acc", "0")):
        assert [row[f"{name}_{s}"] for s in ("mean", "std", "ci95_lo", "ci95_hi", "iqm")] == [""] * 5
        assert row[f"{name}_n"] == n
    assert (
        row["rank"] == row["tuning_by"] == row["eval_subset"] == row["pretrained_sha256"] == row["seeds_stream"] == ""
    )
    text = tables.to_text(table(records))
    assert "undefined in 1" in text
    assert "undefined in 3" in text


def test_a_run_that_failed_before_it_had_data_is_not_lost(make: Make) -> None:
    early = failed(make(seed=7), "no data") | {"stream": None, "memory": None, "costs": None, "access": None}
    (row,) = board(make(seed=0), early)
    assert row["failure"] == "seed 7: no data"
    (alone,) = board(early)
    assert (alone["n"], alone["n_failed"], alone["data_sha256"]) == ("0", "1", "")
    other = make(seed=1, stream__data_sha256="other data")
    found = {row["data_sha256"]: row["n_failed"] for row in board(make(seed=0), other, early)}
    assert found == {"": "1", "other data": "0", make()["stream"]["data_sha256"]: "0"}, "whose it is, is unknown"


def test_row_id(make: Make) -> None:
    record = make()
    found = row_id(record)
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert [row["row_id"] for row in board(record)] == [found]
    assert row_id(make(seed=5, accuracy=0.9)) == found
    for key in ("definition_hash", "config_hash", "stream__data_sha256", "config__strategy__name"):
        assert row_id(make(**{key: "another"})) != found, key


def test_a_run_that_is_there_twice_counts_as_completed_wherever_it_lies(make: Make, tmp_path: Path) -> None:
    whole, broken = make(), failed(make(provenance__started_utc="2020-01-01"))
    early, late = make(provenance__started_utc="2026-01-01"), make(provenance__started_utc="2026-02-01", accuracy=0.25)
    for first, second, kept in ((whole, broken, whole), (broken, whole, whole), (late, early, early)):
        root = write(tmp_path / str(random.random()), first, second)
        (record,), (problem,) = collect(root)
        assert record.raw == kept
        assert "run.json: the same run as " in problem
        assert problem.endswith(", with other metrics.") == (kept is early)
    (record,), problems = collect(root, root)
    assert (record.raw, len(problems)) == (early, 1), "one file is one file"
    (record,), problems = collect(root, root / "0")
    assert (record.raw, len(problems)) == (late, 1), "named itself"
    assert problems[0].endswith(", which is nearer to the folder named, with other metrics.")


def nested(root: Path, record: Json) -> None:
    """A file where a run writes it."""
    folder = (
        root
        / record["benchmark"]
        / record["config"]["strategy"]["name"]
        / "c0ffee"
        / f"seed-{record['config']['seed']}"
    )
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize("reference", ["reference", "a/reference", "zzz/deeply/below"])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_folder_within_a_folder_does_not_hide_the_runs_made_here(
    reference: str, status: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """However early the others started and however they ended; and all of them are one line, also with two folders."""
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        mine = make("er", seed, 0.25, provenance__started_utc="2026-05-01")
        nested(Path("results"), failed(mine) if status == "failed" else mine)
        nested(Path("results", reference), make("er", seed, 0.75, provenance__started_utc="2020-01-01"))
    nested(Path("results", reference), make("naive", 0, 0.5))
    other = ", 6 with other metrics" if status == "completed" else ""
    line = (
        f"left out: results/{reference}: 6 runs that results holds too, where the files are nearer to the folder named"
    )
    for command in (["leaderboard", "results"], ["leaderboard", f"results/{reference}", "results"]):
        assert main(command) == 0
        out, err = capsys.readouterr()
        if len(command) == 2:
            assert err == f"{line}{other}.\n"
            assert ("75.00" in out) is False
            assert re.search(r"er +\w+ +(6 +25.00|0, 6 failed)", out), out
            assert "naive" in out
        else:
            assert len(err.splitlines()) == 1, err


@pytest.mark.parametrize("command", ["leaderboard DIR --csv a.csv --runs b.csv", "compare :er :naive --in DIR"])
def test_a_file_is_read_and_checked_once(
    command: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    counts = {"read": 0, "checked": 0}
    read_run, validate = files.read_run, Record.model_validate

    def read(directory: Path) -> Json:
        counts["read"] += 1
        return read_run(directory)

    def check(raw: Json) -> Record:
        counts["checked"] += 1
        return validate(raw)

    monkeypatch.setattr(files, "read_run", read)
    monkeypatch.setattr(Record, "model_validate", check)
    main(command.replace("DIR", str(finished)).split())
    count = len(list(files.find_runs(finished)))
    assert counts == {"read": count, "checked": count}


# ------------------------------------------------------------------------------------------------ ranks
def ranks(*records: Json) -> dict[str, str]:
    return {row["strategy"]: row["rank"] or row["unranked"] for row in board(*records)}


def test_ranks_by_hand(make: Make) -> None:
    """high overlaps middle, middle overlaps low, high does not overlap low; below is under all of them."""
    records = [
        *five(make, "high", 0.80, 0.03), *five(make, "middle", 0.76, 0.03), *five(make, "low", 0.72, 0.03),
        *five(make, "below", 0.30, 0.03),
    ]  # fmt: skip
    assert ranks(*records) == {"high": "1", "middle": "1", "low": "2", "below": "4"}
    random.Random(0).shuffle(records)
    assert list(ranks(*records)) == ["high", "middle", "low", "below"]


def test_intervals_that_touch_are_ties(make: Make) -> None:
    equal = [[make(name, seed, 0.5) for seed in range(5)] for name in ("a", "b")]
    assert ranks(*equal[0], *equal[1]) == {"a": "1", "b": "1"}


def test_who_is_not_ranked(make: Make) -> None:
    best = five(make, "best", 0.6, 0.01)
    more = [
        *five(make, "joint", 0.9, 0.01, access="stream"),
        *five(make, "cumulative", 0.9, 0.01, access="past"),
        *five(make, "few", 0.9, 0.01)[:4],
        *five(make, "breaks", 0.9, 0.01),
        failed(make("breaks", 5)),
        *five(make, "twice", 0.9, 0.01)[:4],
        make("twice", 0, 0.9, run_id="another", stream__instance_hash="another"),
        *[make("undefined", seed, None if seed == 3 else 0.9) for seed in range(5)],
    ]
    assert ranks(*best, *more) == {
        "best": "1",
        "joint": "not a continual learner (access stream)",
        "cumulative": "not a continual learner (access past)",
        "few": "4 of 5 seeds",
        "breaks": "1 failed",
        "twice": "a seed occurs with several instances",
        "undefined": "average_accuracy is undefined",
    }
    text = tables.to_text(table([*best, *more]))
    assert (
        "rank -: not a continual learner, a failed seed, fewer than 5 seeds, a seed with several instances of the "
        "stream, runs of several codes, or average_accuracy undefined\n"
    ) in f"{text}\n"
    assert re.search(r"^- +joint \(not continual\) ", text, re.M)
    assert re.search(r"^- +breaks .* 5, 1 failed ", text, re.M)
    assert "failed: split_synthetic-v1* breaks: seed 5: no luck" in text


def test_boards_are_of_one_definition_and_one_data_set(make: Make) -> None:
    records = [
        *five(make, "low", 0.3, 0.01),
        *five(make, "high", 0.9, 0.01, definition_hash="another"),
        *five(make, "other", 0.9, 0.01, stream__data_sha256="another"),
    ]
    assert ranks(*records) == {"low": "1", "high": "1", "other": "1"}
    assert tables.to_latex(table(records)).count(r"\begin{tabular}") == 3


# ------------------------------------------------------------------------------------------------ what is shown
def test_tuned_on_its_own_test_stream_is_said_everywhere(make: Make, tmp_path: Path) -> None:
    how = {"by": "test", "trials": 12, "seeds": [0], "updates": 2400}
    tuned = [make("er", s, 0.5 + s / 100, config__tuning=how, provenance__tuning={"wall_s": 3.5}) for s in range(2)]
    records = [*tuned, *(make("naive", s) for s in range(2))]
    naive, er = sorted(board(*records), key=lambda row: row["strategy"], reverse=True)
    assert (er["tuning_by"], er["tuning_trials"], er["tuning_seeds"], er["tuning_updates"], er["tuning_wall_s"]) == (
        "test", "12", "[0]", "2400", "3.5",
    )  # fmt: skip
    assert {naive[key] for key in naive if key.startswith("tuning_")} == {""}
    frame = table(records)
    for to in (tables.to_text, tables.to_markdown, tables.to_latex):
        assert to(frame).count("er (tuned on its own test stream)") == 1
    assert {row["tuning_by"] for row in rows(tables.to_csv(runs(tuned)))} == {"test"}
    found = compared(write(tmp_path, *records), "split_synthetic-v1:er", ":naive")
    assert re.search(
        r"A is er, row \w{8} \(tuned on its own test stream\); B is naive, row \w{8}\n", comparison.to_text(found)
    )
    assert {row["a_tuning_by"] + row["b_tuning_by"] for row in rows(comparison.to_csv(found))} == {"test"}


A, B = "a" * 64, "b" * 64
USER = {"provenance__user_code": {"lab": A}}
UNKNOWN = {"provenance__user_code": {"lab": None}, "provenance__code_sha256": None}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ([{"provenance__code_sha256": A}] * 5, 1),
        ([{"provenance__code_sha256": A, **USER}] * 5, 1),
        ([{"provenance__code_sha256": None}] * 5, 0),  # of an earlier version, which did not record it
        ([{"provenance__code_sha256": A}] * 4 + [{"provenance__code_sha256": B}], 2),
        ([UNKNOWN] * 5, 5),
        ([{"provenance__code_sha256": A, **USER}] * 4 + [UNKNOWN], 2),
    ],
)
def test_a_row_of_several_codes_is_marked_everywhere_and_not_ranked(
    changes: list[dict[str, Any]], codes: int, make: Make, tmp_path: Path
) -> None:
    records = [make("mine", seed, 0.5, run_id=str(seed), **change) for seed, change in enumerate(changes)]
    records += five(make, "other", 0.4, 0.01)
    [row] = [row for row in board(*records) if row["strategy"] == "mine"]
    several = codes > 1
    assert row["n_code_sha256"] == str(codes)
    assert (row["rank"], row["unranked"]) == (("", f"runs of {codes} codes") if several else ("1", ""))
    for to in (tables.to_text, tables.to_markdown, tables.to_latex):
        text = to(table(records))
        assert (f"mine ({codes} codes)" in text, "by n different codes" in text) == (several, several)
    text = comparison.to_text(compared(write(tmp_path, *records), ":mine", ":other"))
    assert (f"({codes} codes); B is" in text, "by n different codes" in text) == (several, several)
    broken = [*records[1:], failed(records[0])]
    [row] = [row for row in board(*broken) if row["strategy"] == "mine"]
    assert row["n_code_sha256"] == str(
        codes - (len(set(map(str, changes))) == len(changes) or changes == [UNKNOWN] * 5)
    )


def test_rows_that_were_tuned_otherwise_bear_no_mark(make: Make) -> None:
    frame = table([make(name, config__tuning={"by": name}) for name in ("first", "stream")])
    assert list(frame["tuning_by"]) == ["first", "stream"]
    assert "tuned" not in tables.to_text(frame)


def test_what_a_spreadsheet_would_execute_is_neutralised(make: Make) -> None:
    evil = make("=1+1", metrics__class={"average_accuracy": {"value": 0.5}, "@x": {"value": -0.25}})
    evil = failed(evil, "+boom") | {"status": "completed", "metrics": evil["metrics"]}
    evil["config"]["tuning"] = {"by": "-x", "\t": "\r"}
    long = rows(tables.to_csv(runs([evil])))
    assert {(row["strategy"], row["failure"], row["tuning_by"]) for row in long} == {("'=1+1", "'+boom", "'-x")}
    assert {row["metric"]: row["value"] for row in long if row["view"] == "class"}["'@x"] == "-0.25"
    (row,) = board(evil)
    assert (row["strategy"], row["tuning_\t"]) == ("'=1+1", "'\r")
    header = tables.to_csv(table([evil]).rename(columns={"rank": "=rank"})).decode().split(",")[2]
    assert header == "'=rank"


def test_markdown_and_latex_show_names_as_they_are(make: Make) -> None:
    frame = table([make("a_b&c%d|e$#{}\\~^<", s, 0.5 + s / 8) for s in range(2)])
    latex = tables.to_latex(frame, ["average_accuracy"])
    assert r"a\_b\&c\%d\textbar{}e\$\#\{\}\textbackslash{}\textasciitilde{}\textasciicircum{}\textless{} &" in latex
    assert r"average\_accuracy \%" in latex
    assert r"56.25 $\pm$ 79.41 &" in latex  # 12.7062 * 0.08839 / sqrt(2)
    markdown = tables.to_markdown(frame, ["average_accuracy"])
    assert r"| a\_b&c%d\|e$#{}\\\~^\< |" in markdown
    assert "| 56.25 ± 79.41 |" in markdown


def test_a_name_moves_no_cursor(make: Make) -> None:
    text = tables.to_text(table([failed(make("er\x1b[2J"), "two\nlines")]))
    assert r"er\x1b[2J" in text
    assert r"seed 0: two\nlines" in text


def test_rows_of_one_strategy_are_told_apart(make: Make) -> None:
    settings = ({"name": "er", "memory": 10, "loss": "x"}, {"name": "er", "memory": 20, "loss": "x"})
    records = [make(config__strategy=s, config_hash=str(s), run_id=str(s)) for s in settings]
    text = tables.to_text(table(records))
    assert "er (memory 10) " in text
    assert "er (memory 20) " in text
    assert "loss" not in text


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{"config__numerics__threads": 1}, {"config__numerics__threads": 2}], ["er (threads 1)", "er (threads 2)"]),
        ([{"config__seeds__order": 5}, {}], ["er (order 5)", "er"]),
        ([{"config__tuning": {"by": "first"}}, {}], ["er (tuning first)", "er"]),
        ([{"config__strategy": {"name": "er", "optimizer": {"name": "sgd", "lr": lr}}} for lr in (0.1, 0.5)],
         ["er (lr 0.1)", "er (lr 0.5)"]),
    ],
)  # fmt: skip
def test_whatever_tells_two_rows_apart_is_said_everywhere(
    changes: list[Json], labels: list[str], make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On boards, beside a failure, in comparisons and in the message that asks which one is meant."""
    records = [
        make(config_hash=str(i), run_id=f"{i} {seed}", seed=seed, **copy.deepcopy(change))
        for i, change in enumerate(changes)
        for seed in range(2)
    ]
    text = tables.to_text(table([*records, *(failed(r) for r in records)]))
    root = write(tmp_path, *records)
    one, two = ({row["row_id"] for row in board(*records) if row["config_hash"] == str(i)}.pop() for i in (0, 1))
    assert main(["compare", one, two, "--in", str(root)]) == 0
    a, b = re.findall(r"(?:A|B) is (.*?), row", capsys.readouterr().out)
    assert [a, b] == labels
    assert main(["compare", ":er", two, "--in", str(root)]) == 2
    err = capsys.readouterr().err
    for label in labels:
        assert re.search(rf"{re.escape(label)} {{2,}}", text), text
        assert f"failed: split_synthetic-v1* {label}: " in text
        assert f"{label}, row " in err


# ------------------------------------------------------------------------------------------------ files of wrong kinds
@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("metrics", [], "'metrics' is []: input should be a valid dictionary"),
        ("metrics", {}, "completed, but 'metrics' lacks the primary view"),
        ("metrics__class__average_accuracy__value", "0.5",
         "'metrics.class.average_accuracy.value' is '0.5': input should be a valid number"),
        ("metrics__class__average_accuracy__value", 87.5,
         "'metrics': class.average_accuracy is 87.5, outside [0, 1]"),
        ("config", "er", "'config' is 'er': input should be a valid dictionary or instance of Config"),
        ("config__seed", True, "'config.seed' is true: input should be a valid integer"),
        ("config__strategy", {}, "'config.strategy.name' is missing"),
        ("costs__train_s", "1 s", "'costs.train_s' is '1 s': input should be a valid number"),
        ("stream", None, "completed, but 'stream' is null"),
        ("access", "all", "'access' is 'all': input should be 'experience', 'past' or 'stream'"),
        ("status", "done", "'status' is 'done': input should be 'completed', 'failed', 'interrupted' or 'running'"),
        ("status", "failed", "failed, but 'failure' is null"),
        ("memory__bytes", -1, "'memory.bytes' is -1: input should be greater than or equal to 0"),
        ("benchmark", "\ud800", "it holds half a character."),
    ],
)  # fmt: skip
def test_a_file_of_the_wrong_kinds_is_left_out(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, sentence: str
) -> None:
    root = write(tmp_path / "runs", make(seed=0), make(seed=1, **{key: value}))
    assert main(["leaderboard", str(root)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"left out: {root}/1/run.json: damaged; {sentence}")
    assert err.count("\n") == 1
    assert re.search(r"^- +er .* 1 +50.00", out, re.M)


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in inside for path in [(*above, key), *paths(item, (*above, key))]]


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, -(10**19), 2**53 + 1, 1e308, "\ud800", "=x", "completed", "failed", "past", ""])
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_run_json_is_a_table_or_a_sentence(
    real: Json, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    record = copy.deepcopy(real)
    for _ in range(data.draw(st.integers(1, 3))):
        every = paths(record)
        if not every:
            break
        *above, last = data.draw(st.sampled_from(every))
        part: Any = record
        for key in above:
            part = part[key]
        if data.draw(st.booleans()):
            part[last] = data.draw(ANYTHING)
        else:
            del part[last]
    root = tmp_path_factory.mktemp("changed")
    write(root, record)
    (root / "good").mkdir()
    (root / "good" / "run.json").write_text(json.dumps(real | {"run_id": "another"}))
    records, problems = collect(root)
    assert len(records) + len(problems) == 2
    assert all(problem.startswith(f"{root}/0/run.json: ") for problem in problems)
    frame = table(records)
    printed = [to(frame) for to in (tables.to_text, tables.to_markdown, tables.to_latex)]
    files = [tables.to_csv(frame), tables.to_csv(runs(records))]
    assert tables.to_csv(table(records[::-1])) == files[0]
    assert all(text.encode() for text in printed)
    assert all(rows(payload) for payload in files)
    try:
        (left, right), _ = comparison.select([str(root / "good"), str(root / "0")], root)
        found = [
            f for pair in comparison.pairs(left, right)[0] for f in comparison.findings(pair, ["average_accuracy"])
        ]
    except UserError:
        return
    assert comparison.to_text(found).encode()
    assert rows(comparison.to_csv(found))


def test_a_file_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 100_000)
    records, (problem,) = collect(tmp_path)
    assert not records
    assert problem.startswith(f"{tmp_path}/run.json: damaged")


def test_records_need_nothing_that_old_files_lack(real: Json) -> None:
    """Keys added to run.json since its schema 1 began."""
    old = copy.deepcopy(real)
    for path in paths(old):
        *above, last = path
        if last in (
            "amp",
            "fused",
            "watch",
            "augmentation",
            "evaluation_precision",
            "resumed_at",
            "code_sha256",
            "report",
        ):
            part: Any = old
            for key in above:
                part = part[key]
            part.pop(last, None)
    assert Record.model_validate(old).scores == Record.model_validate(real).scores
    assert [row["average_accuracy_n"] for row in board(old)] == ["1"]


# ------------------------------------------------------------------------------------------------ the verb
def test_the_verb_writes_both_files(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    halves = [str(finished / "split_synthetic-v1" / name) for name in ("naive", "er")]
    assert main(["leaderboard", *halves, "--csv", "a.csv", "--runs", "b.csv", "--metric", "wf_10", "--markdown"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert r"| wf\_10 % |" in out
    assert r"average\_accuracy %" not in out
    records, _ = collect(finished)
    assert Path("a.csv").read_bytes() == tables.to_csv(table(records))
    assert Path("b.csv").read_bytes() == tables.to_csv(runs(records))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--metric", "wc_ac"], "--metric: unknown metric 'wc_ac'. Did you mean 'wc_acc'?"),
        (["--benchmark", "split_synthetic-v2"],
         "--benchmark: unknown benchmark 'split_synthetic-v2'. Did you mean 'split_synthetic-v1'?"),
        (["no_such"], "no_such: no such folder; runs are written there by `clbench run`."),
    ],
)  # fmt: skip
def test_mistakes(finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(["leaderboard", str(finished), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1


# ------------------------------------------------------------------------------------------------ compare
def compared(root: Path, a: str, b: str, *metrics: str) -> list[comparison.Finding]:
    (left, right), _ = comparison.select([a, b], root)
    pairs, _ = comparison.pairs(left, right)
    return [finding for pair in pairs for finding in comparison.findings(pair, metrics or ["average_accuracy"])]


def test_compare_by_hand(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = {0: 0.50, 1: 0.75, 2: 1.00, 3: 0.90}, {0: 0.25, 1: 0.25, 2: 0.25, 4: 0.10}
    records = [*(make("er", s, v) for s, v in a.items()), *(make("naive", s, v) for s, v in b.items())]
    root = write(tmp_path / "runs", *records, failed(make("naive", 3)))
    assert main(["compare", ":er", ":naive", "--in", str(root), "--csv", str(tmp_path / "c.csv")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert (
        "seeds in both: 0 1 2; without a partner, only in A: 3 (there failed); without a partner, only in B: 4" in out
    )
    line = next(line for line in out.splitlines() if line.startswith("average_accuracy"))
    # Differences 0.25, 0.5, 0.75: 0.5 ± 4.3027 * 0.25 / sqrt(3). All of A is above all of B.
    assert re.split(" {2,}", line) == [
        "average_accuracy %", "3", "75.00", "25.00", "+50.00", "-12.10 to +112.10", "1.00", "3 of 3", "5",
        "no difference shown",
    ]  # fmt: skip
    row = rows((tmp_path / "c.csv").read_bytes())[0]
    assert (row["metric"], row["seeds"], row["pairs"], row["effect_d_z"]) == ("average_accuracy", "0 1 2", "3", "2.0")
    assert (row["difference"], row["probability_of_improvement"], row["a_better"]) == ("0.5", "1.0", "3")
    assert (row["a_row_id"], row["b_row_id"]) == tuple(row_id(make(name)) for name in ("er", "naive"))


def test_less_forgetting_is_better(make: Make, tmp_path: Path) -> None:
    records = []
    for name, values in (("er", (0.125, 0.25, 0.25)), ("naive", (0.625, 0.75, 0.6875))):
        for seed, value in enumerate(values):
            forgetting = {"average_accuracy": {"value": 0.5}, "forgetting.after_learning": {"value": value}}
            records.append(make(name, seed, metrics__class=forgetting))
    root = write(tmp_path, *records)
    (finding,) = compared(root, ":er", ":naive", "forgetting.after_learning")
    assert finding.difference.mean == pytest.approx(-0.479, abs=1e-3)
    assert (finding.verdict, finding.improvement, finding.better) == ("A better", 1.0, 3)
    (back,) = compared(root, ":naive", ":er", "forgetting.after_learning")
    assert (back.verdict, back.improvement, back.better, back.worse) == ("B better", 0.0, 0, 3)


CLOSE = st.floats(0.794, 0.79402) | st.floats(0.794, 0.7941) | st.floats(0.5, 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(values=[(0.79402, 0.7940805), (0.7940805, 0.7940805), (0.7940378, 0.794)])  # two decimals differ, three do not
@given(st.lists(st.tuples(CLOSE, CLOSE), min_size=2, max_size=5))
def test_what_is_printed_bears_out_the_verdict(make: Make, values: list[tuple[float, float]]) -> None:
    """Means that differ are printed differently, and an interval is printed on the side of 0 on which it lies."""
    a, b = ([make(name, seed, v[i]) for seed, v in enumerate(values)] for i, name in enumerate(("er", "naive")))
    [pair] = comparison.pairs(*([comparison.Row(name, tuple(checked(r)))] for name, r in (("a", a), ("b", b))))[0]
    [finding] = comparison.findings(pair, ["average_accuracy"])
    line = next(line for line in comparison.to_text([finding]).splitlines() if line.startswith("average_accuracy"))
    _, _, of_a, of_b, mean, interval, chance, _, _, verdict = re.split(" {2,}", line)
    low, high = (float(word) for word in interval.split(" to "))
    assert verdict == ("A better" if low > 0 else "B better" if high < 0 else "no difference shown")
    difference = finding.difference.mean or 0.0
    if abs(difference) > 1e-11:
        assert (float(of_a) > float(of_b)) == (float(mean) > 0) == (difference > 0)
        assert float(of_a) != float(of_b)
    assert (float(chance) == 1) == (finding.improvement == 1)


def test_a_board_names_rows_of_another_processor(make: Make) -> None:
    here, there = ({"provenance__cpu": cpu, "provenance__gpu": None} for cpu in ("abacus", "slide rule"))
    rows = [make("er", **here), make("naive", **here), make("joint", **there)]
    text = tables.to_text(table(rows))
    assert "on another processor (slide rule; the others: abacus): joint" in text.splitlines()
    assert "another processor" not in tables.to_text(table(rows[:2]))


def test_nearer_to_zero_is_better_where_zero_is_best(make: Make, tmp_path: Path) -> None:
    """Of every metric: what `worth` says of each seed is what the verdict says; -45 % of bias is no good bias."""
    for metric in ("recency_bias", "backward_transfer.gem", "forgetting.after_learning", "knowledge_accumulation"):
        records = [
            make(name, seed, metrics__class={"average_accuracy": {"value": 0.5}, metric: {"value": value}})
            for name, values in (("er", (-0.45, -0.44, -0.46)), ("naive", (0.05, -0.05, 0.06)))
            for seed, value in enumerate(values)
        ]
        root = write(tmp_path / metric, *records)
        (finding,) = compared(root, ":er", ":naive", metric)
        worse = METRICS[metric].worth(-0.45) < METRICS[metric].worth(0.05)
        assert finding.verdict == ("B better" if worse else "A better"), metric
        assert finding.better == (0 if worse else 3)
        text = comparison.to_text([finding])
        if metric == "recency_bias":
            assert re.search(r"^\|recency_bias\| % +3 +45\.00 +5\.33 +\+39\.67 ", text, re.M), text
            (row,) = rows(comparison.to_csv([finding]))
            assert (row["metric"], row["better"]) == ("|recency_bias|", "zero")


@pytest.mark.parametrize(("every", "dense"), [(0, 0), (10, 0), (50, 30)])
def test_what_the_evaluations_do_not_reach_is_undefined_on_boards(make: Make, every: int, dense: int) -> None:
    """Every metric: an older version wrote numbers, which stand in no table; what is a bound is marked as one."""
    scores = {name: {"value": 0.25, "resolution": every or 800} for name, m in METRICS.items() if m.bound}
    scores |= {name: {"value": 0.25} for name, m in METRICS.items() if not m.bound}
    seldom = {"metrics__class": scores, "config__benchmark__evaluation": {"every": every, "dense": dense}}
    records = checked([make("er", seed, **copy.deepcopy(seldom)) for seed in range(2)])
    (row,) = rows(tables.to_csv(table(records)))
    text, latex = (form(table(records), list(METRICS)) for form in (tables.to_text, tables.to_latex))
    long = {r["metric"]: r["value"] for r in rows(tables.to_csv(runs(records))) if r["view"] == "class"}
    for name, metric in METRICS.items():
        why = metric.unreached(every, dense)
        assert (row[f"{name}_mean"] == "") == (long[name] == "") == (why is not None), name
        assert (f"undefined: {name} {why}" in text.splitlines()) == (why is not None), name
    assert "undefined in 2" in text
    assert "≤ 25.00 ± 0.00" in text
    assert "upper bound (≤), as not every iteration is evaluated: min_acc, wc_acc, " in text
    assert r"$\leq$ 25.00" in latex


def test_a_row_that_trains_on_more_says_how_often(make: Make) -> None:
    """Epochs are passes over an experience's own samples: a board says so where a row trains on more than these."""
    updates = {"config__benchmark__training__epochs": 1, "config__benchmark__training__iterations": None}
    more = [make("cumulative", access="past", **updates), make("joint", access="stream", **updates)]
    note = f"cumulative, joint: {tables.EQUAL_UPDATES}"
    assert note in tables.to_text(table([*more, make("er", **updates)])).splitlines()
    assert tables.EQUAL_UPDATES not in tables.to_text(table([make("er", **updates)]))
    assert tables.EQUAL_UPDATES not in tables.to_text(table([make("joint", access="stream")]))


def test_a_board_of_every_iteration_has_no_bounds(make: Make) -> None:
    text = tables.to_text(table([make("er", 0)]))
    assert "≤" not in text
    assert "undefined:" not in text


def test_what_cannot_be_said(make: Make, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (one,) = compared(write(tmp_path / "one" / "x", make("er"), make("naive")), ":er", ":naive")
    assert (one.verdict, one.needed, one.difference.interval) == ("one pair, no interval", None, None)
    same = write(tmp_path / "same", *(make(name, seed, seed / 4) for name in ("er", "naive") for seed in range(3)))
    (equal,) = compared(same, ":er", ":naive")
    assert (equal.verdict, equal.improvement, equal.better, equal.worse) == ("no difference shown", 0.5, 0, 0)
    assert equal.needed is None
    apart = [make(name, seed, seed / 4 + more) for name, more in (("er", 0.25), ("naive", 0.0)) for seed in range(3)]
    (constant,) = compared(write(tmp_path / "apart", *apart), ":er", ":naive")
    assert (constant.verdict, constant.difference.interval, constant.needed) == ("A better", (0.25, 0.25), 2)
    (undefined,) = compared(same, ":er", ":naive", "wc_acc")
    assert (undefined.verdict, undefined.a, undefined.improvement) == ("undefined", (), None)
    assert "undefined" in comparison.to_text([undefined])


def test_several_benchmarks_are_a_line_each(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        make(name, seed, 0.5, benchmark=f"bench{i}-v1", definition_hash=str(i), run_id=f"{name} {seed} {i}",
             config_hash=f"{name} {i}")
        for name in ("er", "naive") for seed in range(2) for i in range(3) if (name, i) != ("er", 2)
    ]  # fmt: skip
    root = write(tmp_path, *records)
    assert main(["compare", ":er", ":naive", "--in", str(root), "--metric", "average_accuracy"]) == 0
    out, _ = capsys.readouterr()
    assert re.findall(r"^(bench\d-v1) +average_accuracy %", out, re.M) == ["bench0-v1", "bench1-v1"]
    assert out.startswith("only in B: bench2-v1, naive, row ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"definition_hash": "another", "config__benchmark__training__batch_size": 7},
         "A and B are not of one benchmark definition: training.batch_size is 20 and 7."),
        ({"stream__instance_hash": "another"},
         "split_synthetic-v1: seed 0 had another stream on each side, instances instance 0 and another."),
        ({"stream__instance_hash": "another", "stream__data_sha256": "replaced"},
         "split_synthetic-v1: seed 0 had another stream on each side, instances instance 0 and another: "
         "the data differ (%s and replaced)."),
        ({"stream__instance_hash": "another", "config__seeds__stream": 9},
         "split_synthetic-v1: seed 0 had another stream on each side, instances instance 0 and another: "
         "seeds.stream is null and 9."),
        ({"config__seed": 3}, "split_synthetic-v1: no finished seed in common: A has 0, B has 3."),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: Json, sentence: str
) -> None:
    ours = make("er")
    batch = ours["config"]["benchmark"]["training"]["batch_size"]
    assert batch == 20
    root = write(tmp_path, ours, make("naive", **changes))
    assert main(["compare", str(root / "0"), str(root / "1"), "--in", str(root)]) == 2
    data = ours["stream"]["data_sha256"][:16]
    assert capsys.readouterr().err == (sentence % data if "%s" in sentence else sentence) + "\n"


def test_a_seed_with_two_instances_is_not_paired(make: Make, tmp_path: Path) -> None:
    root = write(tmp_path, make("er"), make("er", run_id="another", stream__instance_hash="another"), make("naive"))
    with pytest.raises(UserError, match=r"^er, row .*: seed 0 occurs with several instances of the stream.$"):
        compared(root, ":er", ":naive")


def test_other_seeds_by_axis_and_other_numerics_are_noted(make: Make, tmp_path: Path) -> None:
    root = write(tmp_path, make("er"), make("naive", config__seeds__init=4, config__numerics__threads=2))
    text = comparison.to_text(compared(root, ":er", ":naive"))
    assert "\n  seeds.init differs: null and 4\n  numerics.threads differs: 1 and 2\n" in text


def test_names_of_rows(make: Make, tmp_path: Path) -> None:
    root = write(tmp_path, *(make(name) for name in ("er", "naive")))
    one = row_id(make("er"))

    def ids(text: str) -> list[str]:
        return [row.id for row in comparison.select([text], root)[0][0]]

    assert ids(one) == ids(one[:9]) == ids("split_synthetic-v1:er") == ids(":er") == ids(str(root / "0")) == [one]
    for text, sentence in (
        ("xyz", f"xyz: no such folder, no benchmark:strategy, and no row in {root} with this prefix."),
        (":err", f"{root}: unknown row ':err'. Did you mean ':er'? Allowed: :er, :naive."),
        (str(root), f"{root}: 2 rows of split_synthetic-v1; name one of them: "),
    ):  # fmt: skip
        with pytest.raises(UserError) as caught:
            ids(text)
        assert str(caught.value).startswith(sentence)
    with pytest.raises(UserError, match="no such folder; --in names the folder of the rows"):
        comparison.select(["er"], root / "nowhere")
