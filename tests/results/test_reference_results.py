"""The committed rows: made from their run files, of shipped benchmarks, and coming out again."""

from __future__ import annotations

import csv

import pandas as pd
import pytest

from clbench import registry
from clbench.cli import main
from clbench.metrics import METRICS
from clbench.reports import leaderboard, statistics, tables
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


@pytest.fixture(scope="module")
def made(records: list[Record]) -> pd.DataFrame:
    """The leaderboard of the committed runs, with a column for every metric of today."""
    return leaderboard.table(reversed(records))


@pytest.fixture(scope="module")
def columns() -> list[str]:
    """Columns of the committed file."""
    with (REFERENCE / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def test_the_leaderboard_is_that_of_the_run_files(made: pd.DataFrame, columns: list[str]) -> None:
    """In the columns that the committed file has, in their order."""
    assert [name for name in made.columns if name in columns] == columns
    assert tables.to_csv(made[columns]) == (REFERENCE / "leaderboard.csv").read_bytes()


def test_columns_that_the_committed_file_lacks_are_those_of_later_metrics(
    made: pd.DataFrame, columns: list[str], records: list[Record]
) -> None:
    later = [n for n, metric in METRICS.items() if metric.record is None and f"{n}_mean" not in columns]
    further = [name for name in made.columns if name not in columns]
    assert further == [f"{name}_{statistic}" for name in later for statistic in (*statistics.summary([]), "iqm")]
    assert not any(name in record.scores for record in records for name in later)
    for name in further:
        assert (made[name] == 0).all() if name.endswith("_n") else made[name].isna().all(), name
    if later:
        pytest.skip(
            f"the committed runs ended before there was {', '.join(later)}, whose columns are empty for them and not "
            "in the file; `make bench OUT=results/again` runs the study with all metrics"
        )


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
    assert main(["verify", row, "--in", str(REFERENCE), "--seeds", "2", "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(("reproduced bit for bit", "within its interval"))
