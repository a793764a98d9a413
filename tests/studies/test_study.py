"""A study's file: what it stands for, and every mistake in it told at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench.config.study import Range
from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.studies.study import Planned, Study, read, tuning_record

PLAIN = {"id": "s", "streams": ["split_digits-v1"], "strategies": ["naive"]}


def write(folder: Path, content: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(content)
    return path


def study_of(folder: Path, content: str) -> Study:
    return read(write(folder, content))


def planned(study: Study) -> list[Planned]:
    return [
        each
        for i in range(len(study.config.streams))
        for j in range(len(study.strategies))
        for given, combination in study.combinations(j)
        for each in study.runs(i, j, given, combination)
    ]


# ------------------------------------------------------------------------------------------------ what it stands for
def test_streams_times_strategies_times_values_times_seeds(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        """
        id: s
        streams: [split_digits-v1, permuted_digits-v1]
        strategies:
          - naive
          - {name: er, memory: [50, 100], optimizer: {name: sgd, lr: [0.1, 0.2]}}
          - [er, {name: ewc, strength: [1, 2]}]
        seeds: [3, 7]
        """,
    )
    found = planned(study)
    assert len(found) == 2 * (1 + 4 + 2) * 2
    assert len({p.run.run_id for p in found}) == len(found)
    assert {p.run.seed for p in found} == {3, 7}
    er = [p for p in found if p.run.strategy.name == "er" and p.stream == 1 and p.run.seed == 3]
    assert [p.combination for p in er] == [{"memory": m, "optimizer.lr": lr} for m in (50, 100) for lr in (0.1, 0.2)]
    assert [(p.run.strategy.parameters["memory"], p.run.strategy.parameters["optimizer"]["lr"]) for p in er] == [
        (50, 0.1), (50, 0.2), (100, 0.1), (100, 0.2),
    ]  # fmt: skip
    both = next(p for p in found if p.run.strategy.name == "er+ewc")
    assert both.combination == {"ewc.strength": 1}
    assert both.label == "split_digits-v1 er+ewc (strength 1) seed 3"


def test_entries_of_one_strategy_are_told_apart_in_every_label(tmp_path: Path) -> None:
    """By values that are listed, by values that are fixed, and by a default beside a value."""
    study = study_of(
        tmp_path,
        """
        id: s
        streams: [split_digits-v1]
        strategies:
          - er
          - {name: er, memory: 200}
          - {name: er, memory: [50, 100]}
          - {name: er, memory: 200, loss: weighted}
          - {name: ewc, strength: 3}
          - naive
        seeds: 1
        """,
    )
    runs = planned(study)
    assert [p.label.removeprefix("split_digits-v1 ").removesuffix(" seed 0") for p in runs] == [
        "er (loss concatenated)", "er (loss concatenated, memory 200)", "er (loss concatenated, memory 50)",
        "er (loss concatenated, memory 100)", "er (loss weighted, memory 200)", "ewc", "naive",
    ]  # fmt: skip
    assert study.names == [
        "er", "er (memory 200)", "er (memory [50, 100])", "er (memory 200, loss weighted)", "ewc", "naive",
    ]  # fmt: skip


def test_a_run_of_a_study_is_that_of_the_command_line(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        """
        id: s
        streams: [{name: split_digits-v1, model: {hidden: [50]}}]
        strategies: [{name: er, memory: 60}]
        seeds: 2
        budget: {iterations: 7}
        changes: {evaluation: {every: 3}}
        axes: {init: 5}
        watch: {ema: [0.9]}
        """,
    )
    by_hand = make_run(
        "split_digits-v1", strategy="er", seed=1,
        overrides=["model.hidden=[50]", "strategy.memory=60", "training.iterations=7", "evaluation.every=3",
                   "seeds.init=5", "watch.ema=[0.9]"],
        threads=1, device="cpu",
    )  # fmt: skip
    assert planned(study)[1].run == by_hand


def test_what_is_nearer_counts(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        """
        id: s
        streams: [{name: split_digits-v1, training: {iterations: 9}}, split_digits-v1]
        strategies: [naive]
        seeds: 1
        budget: {iterations: 8, batch_size: 16}
        changes: {training: {iterations: 7, batch_size: 64, drop_last: true}}
        """,
    )
    one, other = (p.run.benchmark.training for p in planned(study))
    assert (one.iterations, one.batch_size, one.drop_last) == (9, 16, True)
    assert (other.iterations, other.batch_size, other.drop_last) == (8, 16, True)


def test_one_kind_of_budget_takes_the_place_of_the_other(tmp_path: Path) -> None:
    text = "id: s\nstreams: [split_digits-v1, permuted_digits-v1]\nstrategies: [naive]\nseeds: 1\nbudget: {%s: 3}"
    for given, absent in (("epochs", "iterations"), ("iterations", "epochs")):
        for each in planned(study_of(tmp_path, text % given)):
            assert getattr(each.run.benchmark.training, given) == 3
            assert getattr(each.run.benchmark.training, absent) is None


def test_a_value_that_is_a_list_stands_within_one(tmp_path: Path) -> None:
    text = "optimizer: {name: adam, betas: [[0.9, 0.99], [0.5, 0.9]]}"
    study = study_of(tmp_path, f"id: s\nstreams: [split_digits-v1]\nstrategies: [{{name: naive, {text}}}]\nseeds: 1")
    assert [p.run.strategy.parameters["optimizer"]["betas"] for p in planned(study)] == [[0.9, 0.99], [0.5, 0.9]]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ({"min": 1, "max": 100, "steps": 3, "scale": "log"}, [1, 10, 100]),
        ({"min": 1.0, "max": 100, "steps": 3, "scale": "log"}, [1.0, 10.0, 100]),
        ({"min": 0.1, "max": 0.4, "steps": 4}, [0.1, 0.2, 0.3, 0.4]),
        ({"min": 10, "max": 40, "steps": 4}, [10, 20, 30, 40]),
        ({"min": 0, "max": 1, "steps": 5}, [0, 0.25, 0.5, 0.75, 1]),  # none is lost
        ({"min": 1234567, "max": 1234569, "steps": 2}, [1234567, 1234569]),  # the ends are what they are
        ({"min": -1e300, "max": 1e300, "steps": 3}, [-1e300, 0.0, 1e300]),
    ],
)
def test_ranges(text: dict[str, Any], values: list[float]) -> None:
    found = Range.model_validate(text).values()
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


def test_streams_of_one_name_are_told_apart(tmp_path: Path) -> None:
    streams = "[split_digits-v1, {name: split_digits-v1, model: {hidden: [9]}}, permuted_digits-v1]"
    study = study_of(tmp_path, f"id: s\nstreams: {streams}\nstrategies: [naive]\nseeds: 1")
    assert [p.label for p in planned(study)] == [
        "split_digits-v1 (streams[0]) naive seed 0",
        "split_digits-v1 (streams[1]) naive seed 0",
        "permuted_digits-v1 naive seed 0",
    ]


def test_paths_are_relative_to_the_study(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: split_digits-v1\nid: mine-v1\n")
    study = study_of(tmp_path, "id: s\nstreams: [mine.yaml]\nstrategies: [naive]\nseeds: 1")
    assert planned(study)[0].run.benchmark.id == "mine-v1"


def test_planning_imports_no_torch(tmp_path: Path) -> None:
    path = write(tmp_path, "id: s\nstreams: [split_digits-v1]\nstrategies: [er, classp, {name: ewc, strength: [1, 2]}]")
    code = "import sys; from clbench.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code, "grid", str(path), "--dry-run", "--out", str(tmp_path / "out")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "20 runs, 0 exist" in done.stdout
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------ choosing
TUNED = """
id: s
streams: [split_digits-v1]
strategies: [naive, {name: er, memory: [50, 100]}]
seeds: 2
tuning: {by: %s}
"""


def test_trials_on_the_first_experiences(tmp_path: Path) -> None:
    study = study_of(tmp_path, TUNED % "first, experiences: 3, seeds: [5], changes: {evaluation: {every: 0}}")
    assert (study.is_tuned(0), study.is_tuned(1)) == (False, True)
    (trial,) = study.trials(0, 1, *study.combinations(1)[0])
    selection = trial.run.benchmark.stream.selection
    assert selection is not None
    assert (selection.experiences, selection.held_out) == (3, 0.2)
    assert (trial.run.seed, trial.run.benchmark.evaluation.every) == (5, 0)
    final = study.runs(0, 1, *study.combinations(1)[0])[0].run
    assert final.benchmark.stream.selection is None
    assert final.benchmark.evaluation.every == 1


def test_one_value_leaves_nothing_to_choose(tmp_path: Path) -> None:
    study = study_of(tmp_path, (TUNED % "first").replace("[50, 100]", "[50]"))
    assert not study.is_tuned(1)
    (only,) = study.combinations(1)
    assert study.runs(0, 1, *only)[0].run.strategy.parameters["memory"] == 50


def test_trials_on_another_stream_and_on_the_test_samples(tmp_path: Path) -> None:
    study = study_of(tmp_path, TUNED % "stream, stream: permuted_digits-v1")
    (trial,) = study.trials(0, 1, *study.combinations(1)[0])
    assert trial.run.benchmark.id == "permuted_digits-v1"
    study = study_of(tmp_path, TUNED % "test, seeds: [0]")
    (trial,) = study.trials(0, 1, *study.combinations(1)[0])
    assert trial.run == study.runs(0, 1, *study.combinations(1)[0])[0].run


def test_how_a_row_was_tuned_is_part_of_its_identity(tmp_path: Path) -> None:
    study = study_of(tmp_path, TUNED % "first")
    assert study.config.tuning is not None
    plain = study.runs(0, 1, *study.combinations(1)[0])[0].run
    trial = study.trials(0, 1, *study.combinations(1)[0])[0].run
    tuned = [tuning_record(study.config.tuning, "average_accuracy", trial, n, 0, 100) for n in (2, 3)]
    rows = [plain.model_copy(update={"tuning": each}) for each in tuned]
    assert len({r.config_hash for r in (plain, *rows)}) == 3
    assert len({r.definition_hash for r in (plain, *rows)}) == 1
    assert plain.config_hash == make_run("split_digits-v1", strategy="er", overrides=["strategy.memory=50"]).config_hash


# ------------------------------------------------------------------------------------------------ mistakes
MISTAKES = [
    ("{}", ["id: required, but not given.", "streams: required, but not given.", "strategies: required, but"]),
    ("id: S!", ["id: got 'S!'. Allowed: a name like my_study."]),
    ("strems: [a]", ["strems: unknown key. Did you mean 'streams'?"]),
    ("streams: []", ["streams: got []. Allowed: a list of one or more"]),
    ("streams: [{training: {epochs: 1}}]", ["streams[0].name: required, but not given."]),
    ("streams: [{name: split_digits-v1, modle: {}}]", ["streams[0].modle: unknown key. Did you mean 'model'?"]),
    ("streams: [split_digit-v1]", ["streams[0]: unknown benchmark 'split_digit-v1'. Did you mean 'split_digits-v1'?"]),
    ("strategies: [{memory: 1}]", ["strategies[0].name: required, but not given."]),
    ("strategies: [{name: [a, b]}]", ["strategies[0].name: got ['a', 'b']. Allowed: text."]),
    ("strategies: [[3, er]]", ["strategies[0]: got [3, 'er']. Allowed: a list of names, or of mappings with a name."]),
    ("strategies: [{name: er, memory: []}]", ["strategies[0].memory: got []. Allowed: one or more values."]),
    ("strategies: [{name: ewc, strength: {min: 2, max: 1, steps: 3}}]",
     ["strategies[0].strength.max: got 1. Allowed: a number above 'min', which is 2."]),
    ("strategies: [{name: ewc, strength: {min: 0, max: 1, steps: 3, scale: log}}]",
     ["strategies[0].strength.min: got 0. Allowed with the scale 'log': a number > 0."]),
    ("strategies: [{name: ewc, strength: {min: 1, max: 2}}]",
     ["strategies[0].strength.steps: required where every value is tried, but not given."]),
    ("strategies: [{name: ewc, strength: {min: 1, max: 2, stps: 3}}]",
     ["strategies[0].strength.stps: unknown key. Did you mean 'steps'?"]),
    ("seeds: 0", ["seeds: got 0. Allowed: an integer from 1 to 10000, or a list of one or more integers >= 0."]),
    ("seeds: true", ["seeds: got true. Allowed: an integer from 1 to 10000, or"]),
    ("seeds: ['1']", ["seeds[0]: got '1'. Allowed: an integer >= 0."]),
    ("seeds: 2.0", ["seeds: got 2.0."]),
    ("strategies: [null]", ["strategies[0]: got null. Allowed: text, or keys and values, or a list of these."]),
    ("streams: [{name: split_digits-v1, model: null}]", ["streams[0].model: got null. Allowed: keys and values."]),
    ("changes: {training: 3}", ["changes.training: got 3. Allowed: keys and values."]),
    ("strategies: [{name: ewc, strength: {min: 0, max: 1e308, steps: 3}}]",
     ["strategies[0].strength.max: got 1e+308. Allowed: a finite number up to 1e300 in size."]),
    ("seeds: [1, 1]", ["seeds: got [1, 1]. Allowed: each seed once."]),
    ("budget: {epoch: 1}", ["budget.epoch: unknown key. Did you mean 'epochs'?"]),
    ("changes: {id: other-v1}", ["changes.id: unknown key."]),
    ("tuning: {by: frist}", ["tuning.by: got 'frist'. Did you mean 'first'?"]),
    ("tuning: {by: stream}", ["tuning.stream: required for tuning by 'stream', but not given."]),
    ("tuning: {by: stream, stream: split_digit-v1}", ["tuning.stream: unknown benchmark 'split_digit-v1'."]),
    ("tuning: {by: test, experiences: 2}", ["tuning.experiences: is for tuning by 'first', not by 'test'."]),
    ("tuning: {by: first, search: optuna}", ["tuning.trials: required for a search by Optuna, but not given."]),
    ("tuning: {by: first, trials: 3}", ["tuning.trials: is for a search by Optuna; a grid has its combinations."]),
    ("tuning: {by: first, metric: acuracy}", ["tuning.metric: unknown metric 'acuracy'."]),
    ("tuning: {by: first, changes: {stream: {data: mnist}}}",
     ["tuning.changes: trials by 'first' are on the stream itself, as it is."]),
    ("tuning: {by: first, seeds: [1, 1]}", ["tuning.seeds: got [1, 1]. Allowed: each seed once."]),
    ("strategies: [{name: ewc, strength: {min: 1, max: 2}}]\ntuning: {by: first, search: optuna, trials: 0}",
     ["tuning.trials: got 0. Allowed: an integer >= 1."]),
    ("strategies: [{name: ewc, strength: {min: 1, max: 2}}]\ntuning: null",
     ["strategies[0].strength.steps: required where every value is tried, but not given."]),
    ("strategies: [{name: ewc, strength: {min: 1, max: 2}}]\ntuning: {by: first}",
     ["strategies[0].strength.steps: required where every value is tried, but not given."]),
    ("engine: {name: locl}", ["engine.name: got 'locl'. Did you mean 'local'?"]),
    ("engine: {name: local, processes: 0}", ["engine.processes: got 0. Allowed: an integer >= 1."]),
    ("engine: {name: slurm, options: {account: [a]}}",
     ["engine.options: got {account: ['a']}. Allowed: sbatch's long options without dashes, with text in one line, a"]),
    ("engine: {name: slurm, options: {exclusive: false}}", ["engine.options: got {exclusive: false}. Allowed: "]),
    ("log: [tensorbord]", ["log[0]: got 'tensorbord'. Did you mean 'tensorboard'?"]),
    ("numerics: {threads: 0}", ["numerics.threads: got 0."]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentences"), MISTAKES)
def test_mistakes(text: str, sentences: list[str], tmp_path: Path) -> None:
    base = "" if text == "{}" else "".join(
        line for key, line in (("id", "id: s\n"), ("streams", "streams: [split_digits-v1]\n"),
                               ("strategies", "strategies: [naive]\n")) if not text.startswith(f"{key}:")
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        study_of(tmp_path, base + text)
    for sentence in sentences:
        assert f"study.yaml: {sentence}" in str(caught.value)
    assert len(caught.value.problems) == len(sentences)


def test_mistakes_in_what_is_run_name_their_place(tmp_path: Path) -> None:
    from clbench.studies.execute import Grid

    study = study_of(
        tmp_path,
        """
        id: s
        streams: [split_digits-v1, {name: permuted_digits-v1, training: {epochs: -1}}]
        strategies: [nave, {name: er, memory: [10, many], memry: 3}]
        """,
    )
    with pytest.raises(UserError) as caught:
        Grid(study, tmp_path)
    said = str(caught.value)
    for sentence in (
        "study.yaml: streams[1]: training.epochs: got -1. Allowed: an integer >= 1.",
        "study.yaml: strategies[0]: strategy.name: unknown strategy 'nave'. Did you mean 'naive'?",
        "study.yaml: strategies[1]: strategy.memory: got 'many'. Allowed: an integer >= 1.",
        "study.yaml: strategies[1]: strategy.memry: unknown key. Did you mean 'memory'?",
    ):
        assert sentence in said, said
    assert len(caught.value.problems) == len(set(caught.value.problems))


def test_too_many_combinations_are_a_slip(tmp_path: Path) -> None:
    ranges = ", ".join(f"{key}: {{min: 1, max: 900, steps: 900}}" for key in ("memory", "replay_batch"))
    with pytest.raises(UserError, match=r"810,000 combinations. Allowed: up to 100,000\."):
        study_of(tmp_path, f"id: s\nstreams: [split_digits-v1]\nstrategies: [{{name: er, {ranges}}}]")
