"""`clbench init`: files that validate and run as they are. `clbench validate`: benchmarks, studies, folders."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from clbench.cli import main
from clbench.studies.engines.worker import run_worker
from clbench.testing import check_strategy


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> list[str]:
    assert main(list(arguments)) == status
    out, err = capsys.readouterr()
    return (err if status else out).splitlines()


def test_a_benchmark_validates_and_runs_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "init", status=0) == ["my_benchmark.yaml"]
    assert told(capsys, "validate", "my_benchmark.yaml", status=0) == ["my_benchmark.yaml: ok"]
    assert main(["run", "my_benchmark.yaml", "--quiet", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "completed"
    assert Path(shown["run_dir"]).parts[:3] == ("results", "my_benchmark", "er")


def test_a_study_validates_and_runs_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SimpleNamespace(run=lambda jobs, _: ((number, run_worker(job)) for number, job in enumerate(jobs)))
    monkeypatch.setattr("clbench.studies.engines.base.engine", lambda *_: here)
    assert told(capsys, "init", "study", "Studies/First-Try.yaml", status=0) == ["Studies/First-Try.yaml"]
    assert told(capsys, "validate", "Studies", status=0) == ["Studies/First-Try.yaml: ok"]
    assert main(["grid", "Studies/First-Try.yaml", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["list", "runs", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert sorted({entry["label"] for entry in entries}) == ["er (memory 200)", "er (memory 50)", "joint", "naive"]
    assert {entry["status"] for entry in entries} == {"completed"}
    assert len(entries) == 8


def test_a_strategy_keeps_the_laws(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(capsys, "init", "strategy", "weight_anchor.py", status=0) == ["weight_anchor.py"]
    assert main(["show", "weight_anchor:WeightAnchor"]) == 0
    assert "  strength: a number >= 0; default 0.1\n" in capsys.readouterr().out
    check_strategy("weight_anchor:WeightAnchor", split="split_synthetic-v1", domains=None, online=None, seeds=[0])


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my_study.yaml").write_text("mine")
    assert told(capsys, "init", "study") == ["my_study.yaml: exists already; it is left as it is. Give another name."]
    assert Path("my_study.yaml").read_text() == "mine"
    Path("link.yaml").symlink_to("nowhere.yaml")
    assert told(capsys, "init", "benchmark", "link.yaml")[0].startswith("link.yaml: exists already")
    assert not Path("nowhere.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "a.py"], "a.py: got the ending '.py'. Allowed for a study: .yaml, .yml."),
        (["strategy", "a-b.py"], "a-b.py: got the name 'a-b'. Allowed: a Python module's, like my_strategy.py."),
        (["strategy", "class.py"], "class.py: got the name 'class'. Allowed: a Python module's, like my_strategy.py."),
        (["benchmark", "my_benchmark.yaml/x.yaml"], "my_benchmark.yaml/x.yaml: cannot be written: "),
    ],
)
def test_names_that_cannot_be(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    Path("my_benchmark.yaml").touch()
    [line] = told(capsys, "init", *arguments)
    assert line.startswith(message)


# ------------------------------------------------------------------------------------------------ validate
STUDY = """\
id: s
streams: [split_digits-v1, {name: permuted_digits-v1, training: {batch_size: 5}}]
strategies: [naive, {name: er, memory: [5, 0], loss: concatenated}, {name: ewc, strength: {min: -1, max: 3, steps: 3}}]
"""


def test_every_mistake_of_a_study_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("study.yaml").write_text(STUDY)
    Path("mine.yaml").write_text("base: split_digits-v1\ntraining: {batch_size: 0}\n")
    assert told(capsys, "validate", "study.yaml", "mine.yaml") == [
        "study.yaml: strategies[1]: strategy.memory: got 0. Allowed: an integer >= 1.",
        "study.yaml: strategies[2]: strategy.strength: got -1. Allowed: a number >= 0.",
        "mine.yaml: training.batch_size: got 0. Allowed: an integer >= 1.",
    ]
    Path("study.yaml").write_text(
        STUDY.replace("strategies:", "strategie:").replace("[split_digits-v1", "[split_digit-v1")
    )
    lines = told(capsys, "validate", "study.yaml")
    assert [line.split(". ")[0] for line in lines] == [
        "study.yaml: strategie: unknown key",
        "study.yaml: strategies: required, but not given.",
        "study.yaml: streams[0]: unknown benchmark 'split_digit-v1'",
    ]


def test_mistakes_of_trials(capsys: pytest.CaptureFixture[str]) -> None:
    tuning = "tuning: {by: first, experiences: 2, changes: {training: {batch_size: 0}}}\n"
    Path("study.yaml").write_text(
        "id: s\nstreams: [split_digits-v1]\nstrategies: [{name: er, memory: [5, 6]}]\n" + tuning
    )
    [line] = told(capsys, "validate", "study.yaml")
    assert line.endswith("training.batch_size: got 0. Allowed: an integer >= 1.")
    assert "tuning.changes" in line


def test_a_folder_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("files/.hidden").mkdir(parents=True)
    Path("files/b.yml").write_text("base: split_digits-v1\n")
    Path("files/a.yaml").write_text(STUDY.replace(", 0]", "]").replace("min: -1", "min: 1"))
    Path("files/.hidden/c.yaml").write_text("[")
    Path("files/notes.txt").write_text("[")
    assert told(capsys, "validate", "files", status=0) == ["files/a.yaml: ok", "files/b.yml: ok"]
