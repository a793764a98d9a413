"""Names of the field: each stands for one stated definition, however it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.cli import main
from clbench.errors import UserError
from clbench.metrics import METRICS
from clbench.metrics.field_names import FIELD_NAMES, asked
from support import ROOT

REFERENCE = ROOT / "results" / "reference"


def test_each_name_stands_for_one_metric_and_no_metric_has_the_name_of_another() -> None:
    keys = [field.name.casefold() for field in FIELD_NAMES]
    assert len(set(keys)) == len(keys)
    for field in FIELD_NAMES:
        assert {field.metric, *field.others} <= METRICS.keys(), field
        assert field.metric not in field.others
        assert field.name not in METRICS


@pytest.mark.parametrize(
    ("text", "metric", "heading"),
    [
        ("ACC", "average_accuracy", "ACC"),
        ("acc", "average_accuracy", "ACC"),
        ("Min_Acc", "min_acc", "min-ACC"),
        ("min_acc", "min_acc", "min_acc"),
        ("WF^10", "wf_10", "WF10"),
        ("Forgetting", "forgetting.after_learning", "forgetting"),
        ("fm", "forgetting.chaudhry", "FM"),
        ("bwt", "backward_transfer.gem", "BWT"),
        ("Gap.Depth", "gap.depth", "gap.depth"),
    ],
)
def test_capitals_and_hyphens_do_not_count(text: str, metric: str, heading: str) -> None:
    found = asked(text, "--metric")
    assert (found.metric, found.heading) == (metric, heading)


def test_a_name_with_several_definitions_says_which() -> None:
    note = asked("BWT", "--metric").note
    assert note == (
        "BWT: backward_transfer.gem, mean_j R[V-1, j] - R[f(j), j] (Lopez-Paz and Ranzato 2017); "
        "also called so: backward_transfer.all_pairs"
    )
    assert asked("average_accuracy", "--metric").note is None
    with pytest.raises(
        UserError,
        match="--metric: unknown metric 'min_ac'. Did you mean 'min_acc'?".replace(".", r"\.").replace("?", r"\?"),
    ):
        asked("min_ac", "--metric")


def test_every_verb_takes_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["compare", "split_digits-v1:er", "split_digits-v1:naive", "--in", str(REFERENCE), "--metric"]
    assert main([*arguments, "acc"]) == 0
    out, err = capsys.readouterr()
    assert "average_accuracy %" in out
    assert err == ""
    assert main([*arguments, "forgetting"]) == 0
    out, err = capsys.readouterr()
    assert "forgetting.after_learning %" in out
    assert err.startswith("forgetting: forgetting.after_learning, ")
    assert err.endswith("; also called so: forgetting.chaudhry, forgetting.max_including_last\n")
