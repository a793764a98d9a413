"""Numbers and tables as text: the same words wherever they are printed, and no file that writes them a second time."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench import formatting
from clbench.formatting import consecutive, duration, ranges
from clbench.metrics import METRICS
from clbench.reports import columns, score
from clbench.reports.figures import run_figure
from clbench.reports.tabular import csv_bytes
from clbench.studies import verification


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"), (0.04, "0.0 s"), (59.9, "59.9 s"), (59.96, "1 min 0 s"), (119.6, "2 min 0 s"),
        (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (360_000.0, "100 h 0 min"),
    ],
)  # fmt: skip
def test_durations_by_hand(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.sets(st.integers(0, 60)))
def test_ranges_can_be_read_back(numbers: set[int]) -> None:
    ascending = sorted(numbers)
    assert [n for group in consecutive(ascending) for n in group] == ascending
    read = list[int]()
    for part in filter(None, ranges(ascending).split(", ")):
        first, _, last = part.partition("-")
        read += range(int(first), int(last or first) + 1)
    assert read == ascending


def test_pictures_and_cards_write_the_same_ranges() -> None:
    assert run_figure.named([0, 1, 2, 5, 6]) == f"tasks {ranges([0, 1, 2, 5, 6])}" == "tasks 0-2, 5, 6"


def test_every_metric_has_a_unit_that_is_printed() -> None:
    assert {metric.unit for metric in METRICS.values()} <= set(formatting.UNITS)


TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(TEXT, st.floats(allow_nan=False), st.booleans()), max_size=5))
def test_scores_and_leaderboards_are_one_csv(rows: list[tuple[str, float, bool]]) -> None:
    """Every table quotes a cell's content in the same places, and any reader gets it back."""
    table = score.Table("kind", ("a", "b", "c"), ("a", "b", "c"), rows, [])
    payload = score.to_csv([table], "class")
    assert payload == csv_bytes(["table", "view", "a", "b", "c"], [("kind", "class", *row) for row in rows])
    cells = list(csv.reader(io.StringIO(payload.decode(), newline="")))[1:]
    assert [row[2].removeprefix("'") for row in cells] == [text.removeprefix("'") for text, *_ in rows]
    assert [(float(row[3]), row[4]) for row in cells] == [(number, str(true).lower()) for _, number, true in rows]


def test_what_a_board_shows_is_what_a_verification_shows() -> None:

    assert verification.usual_metrics is columns.usual_metrics


def test_csv_is_written_in_one_place() -> None:
    package = Path(formatting.__file__).parent
    writers = {path.name for path in package.rglob("*.py") if "csv.writer" in path.read_text(encoding="utf-8")}
    assert writers == set()
