"""Rows once more: equal, near enough, or not; and what may not be verified."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clbench.cli import main, verify
from clbench.errors import UserError
from clbench.reports.rows import row_id
from clbench.resolve import make_run
from clbench.results import files
from clbench.results.record import Record
from clbench.runner.run import execute
from clbench.runner.run_record import write_failure
from clbench.studies import verification
from clbench.studies.engines.base import FinishedJob, Job
from clbench.studies.engines.worker import run_worker

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A row of four seeds, and one of another strategy beside it."""
    out = tmp_path_factory.mktemp("row")
    tiny = ["training.iterations=6", "evaluation.every=2", "model.hidden=[8]"]
    runs = [make_run("split_digits-v1", strategy="er", seed=n, overrides=tiny, threads=1) for n in range(4)]
    runs.append(make_run("split_digits-v1", strategy="naive", overrides=tiny, threads=1))
    return [Record.of(execute(run, out).record) for run in runs]


def laid_down(folder: Path, records: list[Record]) -> Path:
    """Run files alone, as they are sent."""
    for n, record in enumerate(records):
        (folder / str(n)).mkdir(parents=True)
        (folder / str(n) / "run.json").write_text(json.dumps(record.raw))
    return folder


def changed(records: list[Record], change: Change) -> list[Record]:
    copies: list[dict[str, Any]] = json.loads(json.dumps([record.raw for record in records]))
    for copy in copies:
        change(copy)
    return list(map(Record.of, copies))


def accuracy(record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record["metrics"]["class"]["average_accuracy"]
    return found


# ------------------------------------------------------------------------------------------------ the command
def test_a_row_comes_out_again(
    row: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SimpleNamespace(run=lambda jobs, _: ((number, run_worker(job)) for number, job in enumerate(jobs)))
    monkeypatch.setattr("clbench.studies.engines.base.engine", lambda *_: here)
    board = laid_down(tmp_path / "board", row)
    kept = tmp_path / "kept"
    command = ["verify", row_id(row[0])[:10], "--in", str(board), "--seeds", "2", "--quiet", "--out", str(kept)]
    assert main(command) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{row_id(row[0])}: split_digits-v1 er, seeds 0, 1 of 0, 1, 2, 3"
    assert said[-1] == "reproduced bit for bit: weights and traces are equal, and metrics to 1e-12"
    assert len(list(files.find_runs(kept))) == 2
    board = laid_down(tmp_path / "other", changed(row, lambda r: r.update(weights_sha256="0" * 64)))
    assert main([*command[:3], str(board), *command[4:]]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("within its interval: not equal, but the mean of average_accuracy lies in ")
    assert "  seed 0: other weights" in said


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["zzz"], "no row 'zzz'. Allowed: the row_id of a leaderboard of these runs, or its start."),
        ([""], "'' is the start of 2 rows: "),
        (["ROW", "--seeds", "5"], "--seeds: got 5. Allowed: 1 to 4, the completed runs of the row."),
        (["ROW", "--out", "HERE"], "holds the row itself, whose runs would not be repeated."),
        (["ROW", "--out", "HERE/.."], "holds the row itself, whose runs would not be repeated."),
        (["ROW", "--out", "HERE/new"], "holds the row itself, whose runs would not be repeated."),
    ],
)
def test_mistakes(
    flags: list[str], sentence: str, row: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = laid_down(tmp_path / "board", row)
    flags = [row_id(row[0]) if flag == "ROW" else flag.replace("HERE", str(board)) for flag in flags]
    assert main(["verify", *flags, "--in", str(board)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "abc", "--in", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'none'}: no such folder.\n"


# ------------------------------------------------------------------------------------------------ what is verified
def test_a_row_whose_runs_failed_cannot_be(row: list[Record]) -> None:
    failed = changed(
        row[:2], lambda r: r.update(status="failed", failure={"kind": "nan", "message": "m", "iteration": 1})
    )
    with pytest.raises(UserError, match="has no completed run"):
        verification.row(failed, row_id(row[0]), "here")


def test_a_configuration_that_was_changed_is_found(row: list[Record]) -> None:
    (one,) = changed(row[:1], lambda r: r["config"]["strategy"].update(memory=77))
    with pytest.raises(UserError, match=r"split_digits-v1 seed 0: its run_id is not that of its configuration"):
        verification.configuration(one)
    for section, change in (("benchmark", {"titel": ""}), ("strategy", {"memory": "many"})):
        (one,) = changed(row[:1], lambda r, s=section, c=change: r["config"][s].update(c))  # type: ignore[misc]
        with pytest.raises(UserError, match="its configuration is none of this version"):
            verification.configuration(one)
    assert verification.configuration(row[0]).run_id == row[0].run_id


@pytest.mark.parametrize("key", ["definition_hash", "config_hash", "benchmark", "primary_view"])
def test_a_row_on_a_board_that_is_not_its_own_is_found(key: str, row: list[Record]) -> None:
    other = "permuted_digits-v1"
    (one,) = changed(row[:1], lambda r: (r.update({key: other}), r["metrics"].update({other: r["metrics"]["class"]})))
    with pytest.raises(UserError, match=f"its {key} is not that of its configuration"):
        verification.configuration(one)


def test_a_changed_benchmark_cannot_pass_for_the_shipped_one(row: list[Record]) -> None:
    (one,) = changed(row[:1], lambda r: r.update(modified=False))
    with pytest.raises(UserError, match="says that its benchmark is the shipped one, which it is not"):
        verification.configuration(one)


def test_a_seed_counts_once(row: list[Record]) -> None:
    (double,) = changed(row[1:2], lambda r: r["stream"].update(instance_hash="0"))
    with pytest.raises(UserError, match=r"has several runs of one seed: \[0, 1, 1, 2, 3\]"):
        verification.row([*row, double], row_id(row[0]), "here")


# ------------------------------------------------------------------------------------------------ the verdict
def test_every_part_counts(row: list[Record]) -> None:
    er = row[:4]
    assert verification.compare(er, er[:2]).verdict == "reproduced bit for bit"
    for change, word, verdict in (
        (lambda r: r.update(weights_sha256="0"), "weights", "within its interval"),
        (lambda r: r.update(trace_sha256="0"), "trace", "within its interval"),
        (lambda r: (accuracy(r).update(se=0.5), r.update(trace_sha256="0")), "metrics, trace", "within its interval"),
        (lambda r: accuracy(r).update(se=0.5), "metrics", "not reproduced"),  # of one trace there is one metric
        (lambda r: accuracy(r).update(value=accuracy(r)["value"] + 2e-12), "metrics", "not reproduced"),
        (lambda r: r["stream"].update(instance_hash="0"), "stream", "not reproduced"),
        (lambda r: r["memory"].update(bytes=0), "memory", "not reproduced"),
        (lambda r: r.update(parameters=1), "parameters", "not reproduced"),
        (lambda r: r.update(access="past"), "access", "not reproduced"),
    ):
        found = verification.compare(er, changed(er[:2], change))
        assert found.different == dict.fromkeys((0, 1), tuple(word.split(", ")))
        assert found.verdict == verdict
    rounded = changed(er[:1], lambda r: accuracy(r).update(value=math.nextafter(accuracy(r)["value"], 1)))
    assert verification.compare(er, rounded).verdict == "reproduced bit for bit"  # other sums of the same trace
    assert verification.compare(er, rounded).different == {}
    older = changed(er, lambda r: r.pop("trace_sha256"))  # from before there was one
    assert verification.compare(older, er[:1]).verdict == "reproduced bit for bit"
    fewer = changed(er, lambda r: r["metrics"]["class"].pop("wc_acc"))  # from before there was that metric
    assert verification.compare(fewer, er[:1]).verdict == "reproduced bit for bit"
    assert verification.compare(er, fewer[:1]).verdict == "not reproduced"


def test_a_run_that_fails_here_is_not_reproduced(row: list[Record], tmp_path: Path) -> None:
    def fails(kind: str) -> Any:
        def run(jobs: list[Job], listener: Any) -> Iterator[tuple[int, FinishedJob]]:
            for number, job in enumerate(jobs):
                yield (
                    number,
                    FinishedJob("failed", write_failure(job.run, tmp_path, kind, "the loss became nan"), "no data"),
                )

        return SimpleNamespace(run=run)

    listener = SimpleNamespace(begin=lambda *_: None, done=lambda *_: None, end=lambda: None)
    new = verification.run_again(row[:4], 1, tmp_path, fails("nan_loss"), listener)
    found = verification.compare(row[:4], new)
    assert (found.verdict, found.metrics) == ("not reproduced", ())
    assert found.different == {0: ("status", "the loss became nan")}
    with pytest.raises(UserError, match="split_digits-v1 seed 0: no data"):  # it could not even begin
        verification.run_again(row[:4], 1, tmp_path, fails("user_error"), listener)


def test_the_interval_by_hand(row: list[Record]) -> None:
    """Four seeds 0.1, 0.2, 0.3, 0.4: mean 0.25, deviation 0.129099; t(0.975, 3) = 3.182446; for a mean of two new runs
    0.25 -+ 3.182446 * 0.129099 * sqrt(1/4 + 1/2) = 0.25 -+ 0.355808."""
    er = changed(row[:4], lambda r: accuracy(r).update(value=(r["config"]["seed"] + 1) / 10))

    def again(value: float) -> verification.Verification:
        new = changed(er[:2], lambda r: (r.update(weights_sha256="0"), accuracy(r).update(value=value)))
        return verification.compare(er, new)

    metric = again(0.5).metrics[0]
    assert metric.interval == pytest.approx((0.25 - 0.355808, 0.25 + 0.355808), abs=1e-6)
    assert (metric.row, metric.claimed, metric.repeated) == pytest.approx((0.25, 0.15, 0.5))
    assert again(0.60).verdict == "within its interval"
    assert again(0.61).verdict == "not reproduced"


def test_a_row_of_one_seed_has_no_interval(row: list[Record]) -> None:
    one = [row[0]]
    assert verification.compare(one, one).verdict == "reproduced bit for bit"
    assert verification.compare(one, changed(one, lambda r: r.update(weights_sha256="0"))).verdict == "not reproduced"


def lines(old: list[Record], new: list[Record]) -> list[str]:
    return verify._lines("a row", "er", old, new, verification.compare(old, new))


@pytest.mark.parametrize("beside", [-1e-3, -1e-5, -1e-7, 0.0, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("end", [0, 1])
def test_the_numbers_printed_bear_out_yes_and_no(row: list[Record], beside: float, end: int) -> None:
    """Beside either end of the interval, however near."""
    er = changed(row[:4], lambda r: accuracy(r).update(value=(r["config"]["seed"] + 4) / 10))
    bound = verification.compare(er, er[:2]).metrics[0].interval[end]
    new = changed(er[:2], lambda r: (r.update(weights_sha256="0"), accuracy(r).update(value=bound + beside)))
    line = next(line for line in lines(er, new) if line.startswith("  average_accuracy"))
    repeated, low, high, said = re.fullmatch(r".*?: (\S+) %.*lie from (\S+) to (\S+): (yes|no)\)", line).groups()
    assert (float(low) <= float(repeated) <= float(high)) == (said == "yes"), line


def test_a_row_of_another_processor_says_so_whatever_the_verdict(row: list[Record]) -> None:
    elsewhere = changed(row[:4], lambda r: r["provenance"].update(cpu="abacus"))
    here = row[0].provenance.cpu
    for change, verdict in ((None, "reproduced bit for bit"), ("weights_sha256", "within its interval"),
                            ("access", "not reproduced")):  # fmt: skip
        new = changed(row[:2], lambda r, key=change: r.update({key: "past"} if key else {}))
        last = lines(elsewhere, new)[-1]
        assert last.startswith(f"{verdict} (on another processor: {here} here, abacus there): "), last
        assert lines(row[:4], new)[-1].startswith(f"{verdict}: ")


def test_what_is_other_here_is_told(row: list[Record]) -> None:
    def elsewhere(record: dict[str, Any]) -> None:
        record["weights_sha256"] = "0"
        record["provenance"]["packages"]["torch"] = "1.0"
        record["provenance"]["cpu"] = "abacus"

    found = verification.compare(changed(row[:4], elsewhere), row[:1])
    assert [said.partition(" ")[0] for said in found.surroundings] == ["torch", "cpu"]
    assert found.surroundings[0].endswith("here, 1.0 there")
