"""Run files and the leaderboard: atomic, readable again, loud about damage, derived from the files alone."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clbench import resolve
from clbench.config.benchmark import StrategyConfig
from clbench.errors import UserError
from clbench.reports import leaderboard, tables
from clbench.results import files, trace_files
from clbench.results.files import (
    find_runs,
    finish_superseding,
    read_arrays,
    read_run,
    supersede,
    sweep,
    write_arrays,
    write_bytes,
    write_json,
)
from clbench.results.record import collect
from clbench.runner.run import execute
from clbench.trace import SCHEMA

TINY = ["training.iterations=2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three finished runs and a failed one."""
    out = tmp_path_factory.mktemp("runs")
    for strategy, seed in (("naive", 0), ("naive", 1), ("er", 0)):
        execute(resolve.make_run("split_synthetic-v1", strategy=strategy, seed=seed, overrides=TINY), out)
    bad = [*TINY, "training.optimizer={name: sgd, lr: 1e30}", "training.iterations=20"]
    outcome = execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=bad), out)
    assert outcome.record["status"] == "failed"
    return out


def one_run(root: Path) -> Path:
    return next(d for d in find_runs(root) if read_run(d)["status"] == "completed")


def copied(root: Path, tmp_path: Path) -> Path:
    """A run's directory of one's own."""
    import shutil

    return Path(shutil.copytree(one_run(root), tmp_path / "copy"))


# ------------------------------------------------------------------------------------------------ files
def test_the_tree_is_the_one_that_is_documented(finished: Path) -> None:
    for directory in find_runs(finished):
        benchmark, strategy, config_hash, seed = directory.relative_to(finished).parts
        record = read_run(directory)
        assert benchmark == record["benchmark"] == "split_synthetic-v1"
        assert strategy == record["config"]["strategy"]["name"]
        assert record["config_hash"].startswith(config_hash)
        assert seed == f"seed-{record['config']['seed']}"
        files = {p.name for p in directory.iterdir()}
        assert files == {
            "run.json",
            *(["trace.npz", "predictions.npz"] if record["status"] == "completed" else ["trace"]),
        }


def test_a_record_says_what_ran_where_and_at_what_cost(finished: Path) -> None:
    record = read_run(one_run(finished))
    assert record["modified"], "iterations were overridden"
    assert record["provenance"]["packages"]["torch"]
    assert record["provenance"]["git"] is None or len(record["provenance"]["git"]["commit"]) == 40
    assert set(record["costs"]) >= {"train_s", "eval_s", "wall_s", "peak_rss_bytes", "iterations", "evaluations"}
    assert record["costs"]["iterations"] == 10
    assert len(record["weights_sha256"]) == 64


@pytest.mark.parametrize("name", ["../../escape:Me", "a/b:C", "..:x", "a\\b:C", "."])
def test_no_name_leads_out_of_the_results_folder(name: str, tmp_path: Path) -> None:
    run = resolve.make_run("split_synthetic-v1", strategy="naive")
    run = run.model_copy(update={"strategy": StrategyConfig(name=name)})
    assert run.directory(tmp_path).resolve().is_relative_to(tmp_path.resolve())
    assert len(run.directory(tmp_path).relative_to(tmp_path).parts) == 4


def test_a_finished_run_is_recognised_and_a_failed_one_is_tried_again(finished: Path, tmp_path: Path) -> None:
    run = resolve.make_run("split_synthetic-v1", strategy="naive", overrides=TINY)
    first = execute(run, tmp_path)
    stamp = (first.directory / "run.json").stat().st_mtime_ns
    assert execute(run, tmp_path).skipped
    assert (first.directory / "run.json").stat().st_mtime_ns == stamp
    assert not execute(run, tmp_path, force=True).skipped
    first.record["status"] = "failed"
    write_json(first.directory / "run.json", first.record)
    assert not execute(run, tmp_path).skipped


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as caught:
        write_json(path, {"new": 2})
    assert str(caught.value) == f"{path}: cannot be written: No space left on device."
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"], "nothing temporary is left"


def test_two_processes_of_one_number_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a container of its own, on a shared file system: both are process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    replace, halves = os.replace, list[str]()

    def overtaken(source: Path, target: Path) -> None:
        halves.append(source.name)
        if len(halves) == 1:
            write_bytes(tmp_path / "a", b"second")
            assert source.read_bytes() == b"first"
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    write_bytes(tmp_path / "a", b"first")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    for name in halves:  # as left by a process that was killed
        (tmp_path / name).write_bytes(b"half")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupted_run_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    run = resolve.make_run("split_synthetic-v1", strategy="naive", overrides=TINY)

    class Impatient:
        closed = False

        def start(self, total: int, done: int) -> None:
            assert (total, done) == (10, 0)

        def update(self, done: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

        def close(self) -> None:
            self.closed = True

    impatient = Impatient()
    with pytest.raises(KeyboardInterrupt):
        execute(run, tmp_path, progress=impatient)
    assert impatient.closed
    (directory,) = find_runs(tmp_path)
    record = read_run(directory)
    assert record["status"] == "interrupted"
    message = "interrupted; the same command restarts the run."
    assert record["failure"] == {"kind": "interrupted", "message": message, "iteration": 5}
    (chunk,) = (directory / "trace").glob("chunk-*")
    assert len(read_arrays(chunk)["loss"]) == 5
    assert execute(run, tmp_path).record["status"] == "completed"


def test_our_own_errors_fail_the_run_with_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.strategies.naive import Naive

    def broken(self: Any, batch: Any) -> Any:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(Naive, "loss", broken)
    outcome = execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=TINY), tmp_path)
    assert outcome.record["failure"]["message"].startswith("ZeroDivisionError: by hand")
    assert "in broken" in outcome.record["failure"]["traceback"]


# ------------------------------------------------------------------------------------------------ damage
def test_damaged_traces_are_named(finished: Path, tmp_path: Path) -> None:
    directory = copied(finished, tmp_path)
    path = directory / "trace.npz"
    arrays = read_arrays(path)

    def said(**changes: Any) -> str:
        write_arrays(path, {k: v for k, v in {**arrays, **changes}.items() if v is not None})
        with pytest.raises(UserError) as caught:
            trace_files.read_trace(directory)
        return str(caught.value)

    assert said(schema=np.array(99)) == f"{path}: schema version 99, this program reads 1 to {SCHEMA}."
    assert said(schema=None) == f"{path}: array 'schema' is missing."
    assert said(phase=None) == f"{path}: array 'phase' is missing."
    assert said(**{"correct.class": None}) == f"{path}: array 'correct.class' is missing."
    views = [name for name in arrays if name.startswith(("correct.", "bits."))]
    assert said(**dict.fromkeys(views)) == f"{path}: no array 'correct.*' and none 'sums.*'."
    n, samples = len(arrays["iteration"]), len(arrays["rows"])
    cut = {"bits.task": arrays["bits.task"][:, :-1]}
    size = -(-samples // 8)
    assert said(**cut) == f"{path}: array 'bits.task' has the shape {(n, size - 1)}, expected {(n, size)}."
    assert (
        said(rows=arrays["rows"][1:]) == f"{path}: array 'rows' has the shape ({samples - 1},), expected ({samples},)."
    )

    assert said(phase=arrays["phase"][:-1]) == f"{path}: array 'phase' has the shape ({n - 1},), expected ({n},)."
    write_arrays(path, arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"trace.npz: damaged or truncated \("):
        trace_files.read_trace(directory)
    path.unlink()
    with pytest.raises(UserError, match=r"trace.npz: no such file."):
        trace_files.read_trace(directory)


def test_damaged_records_are_named_and_do_not_hide_the_others(finished: Path, tmp_path: Path) -> None:
    directory = copied(finished, tmp_path)
    path = directory / "run.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"run.json: damaged or truncated \("):
        read_run(directory)
    path.write_text("[]")
    with pytest.raises(UserError, match=r"run.json: not a run of clbench; 'schema_version' is missing."):
        read_run(directory)
    path.write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(UserError, match=r"run.json: schema version 99, this program reads 1."):
        read_run(directory)
    execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=TINY), tmp_path)
    records, problems = collect(tmp_path)
    assert (len(records), len(problems)) == (1, 1)


# ------------------------------------------------------------------------------------------------ the leaderboard
def test_the_leaderboard_is_a_pure_function_of_run_files(finished: Path) -> None:
    records, problems = collect(finished)
    assert not problems
    expected = tables.to_csv(leaderboard.table(records))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert tables.to_csv(leaderboard.table(records)) == expected


def test_rows_by_hand(finished: Path) -> None:
    records, _ = collect(finished)
    frame = pd.read_csv(io.BytesIO(tables.to_csv(leaderboard.table(records))), keep_default_na=False)
    assert len(frame) == 3, "naive, er, and naive with the learning rate that fails"
    naive = frame[(frame.strategy == "naive") & (frame.status == "completed")].iloc[0]
    values = [
        r.scores["average_accuracy"].value
        for r in records
        if r.config_hash == naive.config_hash
    ]  # fmt: skip
    assert (naive.n, naive.seeds, naive.n_failed) == (2, "0 1", 0)
    assert float(naive.average_accuracy_mean) == pytest.approx(np.mean(values))
    assert float(naive.average_accuracy_std) == pytest.approx(np.std(values, ddof=1))
    half = 12.7062047362 * np.std(values, ddof=1) / np.sqrt(2)  # Student t, 1 degree of freedom, 0.975
    assert float(naive.average_accuracy_ci95_hi) == pytest.approx(np.mean(values) + half)
    er = frame[frame.strategy == "er"].iloc[0]
    assert er.average_accuracy_std == "", "one seed has no deviation, and it is not 0"
    assert int(float(er.memory_samples)) == 200
    failed = frame[frame.status == "failed"].iloc[0]
    assert failed.average_accuracy_mean == ""
    assert (failed.n, failed.n_failed) == (0, 1)
    assert failed.failure.startswith("seed 0: the loss became NaN at iteration ")
    assert naive.modified, "a changed benchmark does not pass for the shipped one"
    assert naive.definition_hash != failed.definition_hash


def test_the_table_for_the_terminal_shows_failures(finished: Path) -> None:
    text = tables.to_text(leaderboard.table(collect(finished)[0]))
    assert "failed: split_synthetic-v1* naive: seed 0: the loss became NaN at iteration " in text
    assert "0, 1 failed" in text
    assert tables.to_text(leaderboard.table([])) == "no runs"


def test_what_a_spreadsheet_would_execute_is_neutralised() -> None:
    frame = pd.DataFrame({"a": ["=1+1", "+x", "-x", "@x", "x=1", ""], "b": [-1.5] * 6})
    lines = tables.to_csv(frame).decode().splitlines()
    assert lines[1:] == ["'=1+1,-1.5", "'+x,-1.5", "'-x,-1.5", "'@x,-1.5", "x=1,-1.5", ",-1.5"]


# ------------------------------------------------------------------------------------------------ results replaced
def finished_folder(folder: Path, text: str = "{}") -> dict[str, str]:
    """Files of a finished run, with those of a logger and what a process keeps while it runs."""
    contents = {"run.json": text, "trace.npz": "trace", "weights.pt": "weights", "tensorboard/events": "events"}
    beside = {".lock": "", "checkpoint/1.state": "", "trace/chunk": ""}
    for name, content in {**contents, **beside}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return contents


def contents_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_results_that_are_replaced_are_moved_whole(tmp_path: Path) -> None:
    whole = finished_folder(tmp_path)
    assert supersede(tmp_path) == tmp_path / "superseded" / "1"
    assert contents_of(tmp_path / "superseded" / "1") == whole
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "checkpoint", "trace", "superseded"}
    second = finished_folder(tmp_path, "[]")
    assert supersede(tmp_path) == tmp_path / "superseded" / "2"
    assert [contents_of(tmp_path / "superseded" / n) for n in "12"] == [whole, second]


@pytest.mark.parametrize("moves", range(4))
def test_a_process_that_is_killed_while_it_moves_them_loses_nothing(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, replace = finished_folder(tmp_path), files._replace
    done: list[Path] = []

    def kill(source: Path, target: Path) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr(files, "_replace", kill)
    with pytest.raises(KeyboardInterrupt):
        supersede(tmp_path)
    monkeypatch.setattr(files, "_replace", replace)
    finish_superseding(tmp_path)
    if moves == 0:
        assert contents_of(tmp_path).items() >= whole.items(), "nothing has changed"
        supersede(tmp_path)
    assert contents_of(tmp_path / "superseded" / "1") == whole


def test_readers_leave_them_out_with_one_line(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from clbench.cli import main

    copy = shutil.copytree(finished, tmp_path / "out")
    before, problems = collect(copy)
    assert not problems
    places = list(find_runs(copy))
    for place in places[:2]:
        for n in "12":
            shutil.copytree(place, copy / "beside" / n)
        shutil.copytree(copy / "beside", place / "superseded")
        shutil.rmtree(copy / "beside")
    after, problems = collect(copy)
    assert [record.run_id for record in after] == [record.run_id for record in before]
    assert problems == [
        f"{places[0] / 'superseded' / '1'} and 3 more like it: superseded, done again since by other code, on other "
        "data, or with --force."
    ]
    assert main(["leaderboard", str(copy)]) == 0
    assert [line.startswith("left out: ") for line in capsys.readouterr().err.splitlines()] == [True]
    assert main(["score", str(places[0])]) == 0
    assert [line.startswith("left out: ") for line in capsys.readouterr().err.splitlines()] == [True]
    [record], _ = collect(places[0] / "superseded" / "1")
    assert record.run_id in {each.run_id for each in before}
