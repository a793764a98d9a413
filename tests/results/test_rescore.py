"""Old runs: read by today's program, their metrics computed again, what changed told and, if asked, written."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.cli import main
from clbench.errors import UserError
from clbench.metrics import METRICS, compute
from clbench.results import files, load
from clbench.results.record import read
from clbench.results.rescore import differences, rescore, same
from clbench.trace import SCHEMA
from support import TRACES

RUNS = sorted(path.parent for path in TRACES.rglob("run.json"))
SPLIT = "split_synthetic-v1-er"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the historic runs, from the folder above it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TRACES / "schema-1", "runs")
    return Path("runs")


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[list[str], list[str]]:
    assert main(["rescore", *arguments]) == status
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def changed(directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A run whose run.json was changed."""
    record = json.loads((directory / "run.json").read_text())
    change(record)
    files.write_json(directory / "run.json", record)
    return directory


def test_last_digits_are_told_and_written(runs: Path) -> None:
    """Sums of another order, as programs before 0.2 made them: no value changed, and yet the file does."""
    directory = runs / SPLIT
    rescore(directory, write=True)
    before = (directory / "run.json").read_bytes()
    assert rescore(directory, write=True) == [f"{directory}: nothing changed"]

    def rounded(record: dict[str, Any]) -> None:
        for name in ("average_accuracy", "anytime_accuracy"):
            entry = record["metrics"]["class"][name]
            entry["value"] = math.nextafter(entry["value"], 1)

    changed(directory, rounded)
    assert rescore(directory) == [f"{directory}: last digits of 2 metrics"]
    assert rescore(directory, write=True) == [f"{directory}: last digits of 2 metrics, written"]
    assert (directory / "run.json").read_bytes() == before


# ------------------------------------------------------------------------------------------------ history
def test_the_folder_of_history_is_not_empty() -> None:
    assert [d.relative_to(TRACES).as_posix() for d in RUNS][:2] == [
        "schema-1/rotated_digits-v1-naive",
        f"schema-1/{SPLIT}",
    ]


@pytest.mark.parametrize("directory", RUNS, ids=lambda d: d.name)
def test_an_old_run_is_read_and_its_metrics_come_out_the_same(directory: Path) -> None:
    """Every value and every part that the program of its day wrote, up to the order of a sum."""
    run = load.read(directory)
    new = compute(run.trace)
    for view, values in run.record.metrics.items():
        assert len(values) >= 7
        for name, old in values.items():
            assert same(new[view][name]["value"], old["value"]), (view, name)
            if "per_task" in new[view][name]:
                assert same(new[view][name]["per_task"], old["per_task"]), (view, name)


@pytest.mark.parametrize("directory", RUNS, ids=lambda d: d.name)
def test_an_old_run_holds_nothing_of_the_machine_that_made_it(directory: Path) -> None:
    record = json.loads((directory / "run.json").read_text())
    assert record["provenance"]["git"] is None
    assert "/" not in "".join(record["provenance"]["command"])
    assert not {record["provenance"][k] for k in ("cpu", "platform", "started_utc")} - {"", None}


def test_an_old_trace_is_what_it_was_in_the_new_schema() -> None:
    trace = load.read(TRACES / "schema-1" / SPLIT).trace
    assert int(files.read_arrays(TRACES / "schema-1" / SPLIT / "trace.npz")["schema"]) == 1
    assert trace.correct["class"].shape == (70, 10)
    assert trace.every == 1
    assert trace.bits == {}
    np.testing.assert_array_equal(trace.cell_population, trace.cell_size)
    np.testing.assert_array_equal(trace.origin, np.arange(5))


# ------------------------------------------------------------------------------------------------ what is told
def test_nothing_changed(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    told(capsys, "runs", "--write")
    names = sorted(d.name for d in runs.iterdir())
    before = [(runs / n / "run.json").read_bytes() for n in names]
    assert told(capsys, "runs") == ([f"runs/{n}: nothing changed" for n in names], [])
    assert told(capsys, "runs", "--write") == ([f"runs/{n}: nothing changed" for n in names], [])
    assert [(runs / n / "run.json").read_bytes() for n in names] == before


def test_new_changed_and_gone_metrics_have_a_line_each(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    directory = runs / SPLIT
    told(capsys, str(directory), "--write")

    def edit(record: dict[str, Any]) -> None:
        values = record["metrics"]["class"]
        values["min_acc"]["value"] = 0.5
        values["wc_acc"]["per_task"][0] = 0.25
        values["old_name"] = {"value": 0.125, "per_task": [None] * 5}
        values["old_blank"] = {"value": None, "per_task": [None] * 5}
        del values["average_accuracy"]
        record["metrics"]["task"] = {"min_acc": {"value": 0.75, "per_task": [0.75] * 5}}

    changed(directory, edit)
    before = (directory / "run.json").read_bytes()
    (head, *lines), err = told(capsys, str(directory))
    assert err == []
    assert head == f"{directory}: 6 differences"
    assert sorted(lines) == [
        "  class average_accuracy: new, 0.885",
        "  class min_acc: changed from 0.5 to 0.8125",
        "  class old_blank: gone, was undefined",
        "  class old_name: gone, was 0.125",
        "  class wc_acc: same value, per_task changed",
        "  task min_acc: gone, was 0.75",
    ]
    assert (directory / "run.json").read_bytes() == before, "nothing is written unless asked for"


def test_a_run_of_the_first_schema_gets_the_metrics_of_today(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    """The old values stay, so every line is of something new, or of parts whose kind changed."""
    old = json.loads((runs / SPLIT / "run.json").read_text())["metrics"]["class"]
    (_, *lines), _ = told(capsys, str(runs / SPLIT))
    new = {line.split()[1].rstrip(":") for line in lines if ": new, " in line}
    assert new == {name for name, metric in METRICS.items() if metric.record is None} - set(old)
    assert not [line for line in lines if ": changed " in line or ": gone" in line]


def test_differences_of_parts_and_errors() -> None:
    old = {"class": {"a": {"value": 0.5, "per_task": [0.5]}, "b": {"value": 0.5}}}
    new = {"class": {"a": {"value": 0.5, "per_experience": [1.0], "se": 0.1}, "b": {"value": None}}}
    assert differences(old, new) == [
        "class a: same value, per_task gone, per_experience new, se new",
        "class b: changed from 0.5 to undefined",
    ]


def test_another_order_of_a_sum_is_no_change_and_one_sample_is() -> None:
    values = np.random.default_rng(0).uniform(size=10_000)
    assert values.sum() != values[::-1].sum() or values.cumsum()[-1] != values.sum()
    assert same(float(values.cumsum()[-1] / 1e4), float(values.sum() / 1e4))
    assert not same(0.9, 0.9 + 1 / 100_000 / 100_000), "one of 100,000 samples at one of 100,000 evaluations"
    assert not same(None, 0.0)
    assert not same([0.5], [0.5, 0.5])


# ------------------------------------------------------------------------------------------------ what is written
def test_only_the_metrics_are_written(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    directory = runs / SPLIT
    changed(directory, lambda record: record.update(a_key_of_tomorrow={"kept": [1, 2.5, None]}))
    changed(directory, lambda record: record["metrics"]["class"].pop("min_acc"))
    changed(directory, lambda record: record["metrics"]["class"].pop("wc_acc"))
    before = json.loads((directory / "run.json").read_text())
    trace = (directory / "trace.npz").read_bytes()
    (head, *_), _ = told(capsys, str(directory), "--write")
    assert head.endswith(" differences, written")
    after = json.loads((directory / "run.json").read_text())
    assert after.pop("metrics") == json.loads(json.dumps(compute(load.read(directory).trace)))
    before.pop("metrics")
    assert after == before
    assert (directory / "trace.npz").read_bytes() == trace
    assert sorted(p.name for p in directory.iterdir()) == ["run.json", "trace.npz"]


def test_a_full_disk_leaves_the_old_file(
    capsys: pytest.CaptureFixture[str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for directory in runs.iterdir():
        changed(directory, lambda record: record.update(metrics={}))
    before = {path: path.read_bytes() for path in runs.rglob("*.*") if path.is_file()}

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out, err = told(capsys, "runs", "--write", status=2)
    assert out == []
    assert err == [f"{d}/run.json: cannot be written: No space left on device." for d in sorted(runs.iterdir())]
    assert {path: path.read_bytes() for path in runs.rglob("*.*") if path.is_file()} == before


# ------------------------------------------------------------------------------------------------ what is left alone
def test_failed_and_unfinished_runs_are_named_and_left_alone(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    shutil.copytree(runs / SPLIT, runs / "a")
    shutil.copytree(runs / SPLIT, runs / "b")
    told(capsys, "runs", "--write")
    failure = {"kind": "nan_loss", "message": "the loss became NaN at iteration 3", "iteration": 3}
    changed(runs / "a", lambda record: record.update(status="failed", failure=failure, metrics={}))
    changed(runs / "b", lambda record: record.update(status="running", metrics={}))
    (runs / "b" / "trace.npz").unlink()
    before = [(runs / name / "run.json").read_bytes() for name in "ab"]
    out, err = told(capsys, "runs", "--write")
    assert out == [
        "runs/a: failed (the loss became NaN at iteration 3), skipped",
        "runs/b: unfinished, skipped",
        "runs/rotated_digits-v1-naive: nothing changed",
        f"runs/{SPLIT}: nothing changed",
    ]
    assert err == []
    assert [(runs / name / "run.json").read_bytes() for name in "ab"] == before


def arrays_changed(path: Path, **changes: Any) -> None:
    files.write_arrays(path, {**files.read_arrays(path), **changes})


NEWEST = SCHEMA


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "damaged or truncated ("),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged or truncated ("),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"\xff" * 500), "damaged or truncated ("),
        (
            lambda path: arrays_changed(path, schema=np.array(NEWEST + 1)),
            f"schema version {NEWEST + 1}, this program reads 1 to {NEWEST}.",
        ),
        (
            lambda path: arrays_changed(path, iteration=np.arange(69)),
            "array 'experience' has the shape (70,), expected (69,).",
        ),
        (
            lambda path: arrays_changed(path, **{"correct.class": np.zeros((70, 9), np.int32)}),
            "array 'correct.class' has the shape (70, 9), expected (70, 10).",
        ),
        (
            lambda path: arrays_changed(path, **{"correct.class": np.zeros((70, 10))}),
            "damaged; array 'correct.class' is of the kind float64, expected integers.",
        ),
        (
            lambda path: arrays_changed(path, **{"correct.class": np.full((70, 10), 21, np.int32)}),
            "damaged; array 'correct.class' holds a count beyond the cell's size.",
        ),
        (
            lambda path: arrays_changed(path, experience=np.full(70, 5, np.int32)),
            "damaged; array 'experience' is not ascending from 0 to 4.",
        ),
        (
            lambda path: arrays_changed(path, iteration=np.arange(70)[::-1]),
            "damaged; array 'iteration' is not ascending from 0.",
        ),
        (lambda path: arrays_changed(path, phase=np.full(70, 9, np.int8)), "damaged; array 'phase' holds an unknown"),
        (
            lambda path: arrays_changed(path, visits=np.ones((5, 5), np.int8)),
            "damaged; array 'visits' is of the kind int8, expected bool.",
        ),
    ],
)
def test_a_damaged_trace_is_one_sentence_and_the_others_are_done(
    capsys: pytest.CaptureFixture[str], runs: Path, damage: Callable[[Path], object], message: str
) -> None:
    shutil.copytree(runs / SPLIT, runs / "a")
    told(capsys, "runs", "--write")
    path = runs / "a" / "trace.npz"
    damage(path)
    out, err = told(capsys, "runs", "--write", status=2)
    assert out == ["runs/rotated_digits-v1-naive: nothing changed", f"runs/{SPLIT}: nothing changed"]
    (line,) = err
    assert line.startswith(f"{path}: {message}")
    assert line.endswith(".")


def test_a_run_of_which_run_json_alone_was_kept(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    shutil.copytree(runs / SPLIT, runs / "a")
    told(capsys, "runs", "--write")
    (runs / "a" / "trace.npz").unlink()
    out, err = told(capsys, "runs")
    assert out == ["runs/rotated_digits-v1-naive: nothing changed", f"runs/{SPLIT}: nothing changed"]
    assert err == ["skipped: 1 of 3 runs have no trace.npz, such as runs/a"]
    out, err = told(capsys, "runs/a", status=2)
    assert (out, err) == ([], ["runs/a/trace.npz: no such file."])


@pytest.mark.parametrize("at", range(0, 2700, 19))
def test_no_changed_byte_of_a_trace_is_a_traceback(runs: Path, at: int) -> None:
    """Read as it was, or refused in one sentence."""
    path = runs / SPLIT / "trace.npz"
    payload = bytearray(path.read_bytes())
    payload[at] ^= 0xFF
    path.write_bytes(payload)
    try:
        trace = load.read(runs / SPLIT).trace
    except UserError as caught:
        error = str(caught)
        told_where = error.startswith(f"{path}: ") and "\n" not in error
    else:
        old = load.read(TRACES / "schema-1" / SPLIT).trace
        told_where = np.array_equal(trace.correct["class"], old.correct["class"])
    assert told_where


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(schema_version=99), "schema version 99, this program reads "),
        (lambda record: record.pop("metrics"), "damaged; 'metrics' is missing."),
        (lambda record: record.update(metrics=None), "damaged; 'metrics' is missing or of the wrong kind."),
        (lambda record: record.update(metrics={"class": [1]}), "damaged; 'metrics' does not hold views of metrics."),
        (
            lambda record: record["config"].pop("strategy"),
            "damaged; 'config.strategy.name' is missing or of the wrong kind.",
        ),
        (lambda record: record.update(config=[]), "damaged; 'config.seed' is missing or of the wrong kind."),
        (lambda record: record["config"].update(seed="0"), "damaged; 'config.seed' is missing or of the wrong kind."),
    ],
)
def test_a_damaged_record_is_one_sentence(
    capsys: pytest.CaptureFixture[str], runs: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    changed(runs / SPLIT, change)
    out, err = told(capsys, "runs", status=2)
    assert out[0].startswith("runs/rotated_digits-v1-naive: ")
    (line,) = err
    assert line.startswith(f"runs/{SPLIT}/run.json: {message}")


def test_a_record_that_no_table_takes_can_still_be_computed_again(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    """A reader of traces asks less of run.json: rescoring mends what keeps a run off the leaderboard."""
    wrong = {"class": {"average_accuracy": {"value": 7.0}}}
    changed(runs / SPLIT, lambda record: record.update(metrics=wrong, provenance=None, costs=[]))
    with pytest.raises(UserError, match="damaged; "):
        read(runs / SPLIT)
    run = load.read(runs / SPLIT)
    assert (run.label, run.record.raw["costs"]) == ("split_synthetic-v1* er 1e3712 seed 0", [])
    out, _ = told(capsys, f"runs/{SPLIT}")
    assert any(line.startswith("  class average_accuracy: changed from 7.0 to ") for line in out)


def test_a_record_nested_without_end_is_one_sentence(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    (runs / SPLIT / "run.json").write_text("[" * 100_000)
    _, (line,) = told(capsys, f"runs/{SPLIT}", status=2)
    assert line.startswith(f"runs/{SPLIT}/run.json: damaged")


def test_folders_without_runs(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    Path("empty").mkdir()
    assert told(capsys, "empty", "nowhere", "runs", status=2) == (
        [],
        ["empty: no run.json there or below.", "nowhere: no such folder."],
    )


def test_a_run_named_twice_is_done_once(runs: Path) -> None:
    assert load.directories([runs, runs / SPLIT]) == [runs / "rotated_digits-v1-naive", runs / SPLIT]
    assert rescore(runs / SPLIT)[0].startswith(f"runs/{SPLIT}: ")


@pytest.mark.parametrize("verb", [["rescore", "runs"], ["score", f"runs/{SPLIT}"]])
def test_numbers_import_neither_torch_nor_pandas_nor_matplotlib(runs: Path, verb: list[str]) -> None:
    code = (
        "import sys; from clbench.cli import main; status = main(sys.argv[1:]); "
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *verb], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
