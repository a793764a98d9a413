"""The committed rows: made from their run files, of shipped benchmarks, and coming out again."""

from __future__ import annotations

import pytest

from clbench import registry
from clbench.cli import main
from clbench.reports import leaderboard, tables
from clbench.resolve import resolve
from clbench.results import files
from clbench.results.record import Record, collect
from clbench.studies import study, verification
from clbench.studies.execute import Grid
from support import ROOT

REFERENCE = ROOT / "results" / "reference"
AGAIN = ("split_digits-v1", "er"), ("power_law_digits-v1", "classp")
"""Of the study; the second is a tuned one."""


@pytest.fixture(scope="module")
def records() -> list[Record]:
    found, problems = collect(REFERENCE)
    assert not problems
    return found


def test_the_leaderboard_is_that_of_the_run_files(records: list[Record]) -> None:
    made = tables.to_csv(leaderboard.table(reversed(records)))
    assert made == (REFERENCE / "leaderboard.csv").read_bytes()


def test_every_run_is_what_it_says(records: list[Record]) -> None:
    definitions: dict[str, str] = {}
    for record in records:
        run = verification.configuration(record)  # its run_id is that of its configuration
        assert (run.definition_hash, run.config_hash) == (record.definition_hash, record.config_hash)
        name = run.benchmark.id
        if name not in definitions:
            assert registry.benchmark_path(name) is not None
            shipped = run.model_copy(update={"benchmark": resolve(name, need_strategy=False)[0]})
            definitions[name] = shipped.definition_hash
        assert run.definition_hash == definitions[name], f"{name} is not the shipped one"
        assert not record.modified


def test_no_seed_is_left_out(records: list[Record]) -> None:
    for row, runs in leaderboard.groups(records):
        assert sorted(r.seed for r in runs) == [0, 1, 2, 3, 4], row
        assert {r.status for r in runs} == {"completed"}, row


def test_the_study_is_done(records: list[Record]) -> None:
    """Every run of the study file, and the trials that its tuned rows speak of."""
    survey = Grid(study.read(REFERENCE / "study.yaml"), REFERENCE).survey()
    there = {record.run_id for record in records}
    asked = {planned.run.run_id for row in survey.rows for planned in row.runs}
    assert len(asked) == 3 * 12 * 5  # those among them that the trials choose
    assert asked <= there
    trials, problems = collect(REFERENCE / files.TRIALS)
    assert not problems
    tried = {planned.run.run_id for row in survey.trials for planned in row.runs}
    assert tried == {record.run_id for record in trials}
    tuned = [record for record in records if record.config.tuning is not None]
    assert len(tuned) == 3 * 4 * 5
    updates: dict[tuple[str, str], int] = {}
    for record in trials:
        key = record.benchmark, record.config.strategy.name
        updates[key] = updates.get(key, 0) + record.raw["costs"]["iterations"]
    for record in tuned:
        key = record.benchmark, record.config.strategy.name
        assert record.tuning["updates"] == updates[key]


@pytest.mark.parametrize(("benchmark", "strategy"), AGAIN)
def test_a_row_comes_out_again(
    benchmark: str, strategy: str, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = {
        leaderboard.row_id(record)
        for record in records
        if (record.benchmark, record.config.strategy.name) == (benchmark, strategy)
    }
    assert main(["verify", row, "--in", str(REFERENCE), "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said in ("reproduced bit for bit", "within its interval")
