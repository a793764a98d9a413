"""The study of optimisers: what trials may see, what they cost, and the table made of its lines."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clbench.streams.compile import compile_stream

study: Any = importlib.import_module("optimisers")


# ------------------------------------------------------------------------------------------------ trials
def test_trials_of_images_see_training_samples_alone_and_each_of_them_once() -> None:
    y = np.repeat(np.arange(4), [60, 30, 12, 18])
    x = np.arange(120)
    made = study.selection(x, y, 1 / 6)
    assert sorted([*made["train_x"], *made["test_x"]]) == x.tolist()
    assert np.bincount(made["test_y"]).tolist() == [10, 5, 2, 3]
    assert (made["train_y"] == y[made["train_x"]]).all()
    assert (made["test_y"] == y[made["test_x"]]).all()


def test_trials_of_reviews_see_no_test_review_and_no_later_domain() -> None:
    task, y = np.repeat(np.arange(4), 200), np.tile([0, 1], 400)
    x = np.arange(800)
    made = study.reviews(x, y, task)
    whole, few = made["reviews"], made["reviews_selection"]
    assert sorted([*whole["train_x"], *whole["test_x"]]) == x.tolist()
    seen = [*few["train_x"], *few["test_x"]]
    assert len(set(seen)) == len(seen) == 320
    assert set(seen) < set(whole["train_x"])
    assert set(task[seen]) == {0, 1}
    for part, n in (("train", 80), ("test", 20)):  # of 100 in each domain and class
        assert np.bincount(2 * whole[f"{part}_task"] + whole[f"{part}_y"]).tolist() == [n] * 8
        assert np.bincount(2 * few[f"{part}_task"] + few[f"{part}_y"]).tolist() == [n * 4 // 5] * 4
        for arrays in (whole, few):
            assert (task[arrays[f"{part}_x"]] == arrays[f"{part}_task"]).all()
            assert (y[arrays[f"{part}_x"]] == arrays[f"{part}_y"]).all()


def test_every_method_has_the_same_number_of_different_trials() -> None:
    for stream in study.STREAMS:
        for method in study.METHODS:
            assert len({study.canonical(p) for p in method.trials(stream)}) == len(method.trials(stream)) == 12


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with small data sets in the place of the study's."""
    images = np.random.default_rng(0).integers(0, 256, (2400, 28, 28), np.uint8)
    for name, classes in (("mnist_selection", 10), ("mnist_0123_selection", 4)):
        study._write(tmp_path / f"{name}.npz", study.selection(images, np.arange(2400) % classes, 1 / 6))
    words = np.random.default_rng(0).random((800, 8), np.float32)
    for name, made in study.reviews(words, np.tile([0, 1], 400), np.repeat(np.arange(4), 200)).items():
        study._write(tmp_path / f"{name}.npz", made)
    (tmp_path / "reviews.yaml").write_text(study.REVIEWS_YAML)
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("stream", study.STREAMS, ids=lambda s: s.name)
def test_trials_are_two_tasks_of_held_out_data_and_otherwise_the_whole_stream(stream: Any, root: Path) -> None:
    for method in study.METHODS:
        parameters = method.trials(stream)[-1]
        trial = study.Job(stream, method, parameters, study.TRIAL_SEED, True).configuration(root)
        whole = study.Job(stream, method, parameters, study.SEEDS[0], False).configuration(root)
        assert trial.benchmark.stream.data == stream.selection
        assert stream.selection.endswith("_selection")
        assert whole.benchmark.stream.data in ("mnist", "reviews")
        for section in ("model", "training"):
            assert getattr(trial.benchmark, section) == getattr(whole.benchmark, section)
        assert trial.strategy == whole.strategy
        given = {**trial.strategy.parameters, **(trial.strategy.parameters.get("optimizer") or {})}
        assert {k: given[k] for k in parameters} == parameters
    assert study.TRIAL_SEED not in study.SEEDS
    if stream.name not in ("power-law MNIST", "online MNIST"):  # which need more samples than are here
        assert len(compile_stream(trial.benchmark.stream, 0).tasks) == 2


def test_a_trial_runs_once(root: Path, tmp_path: Path) -> None:
    stream, method = study.STREAMS[-1], study.METHODS[-2]
    job = study.Job(stream, method, method.trials(stream)[0], study.TRIAL_SEED, True)
    found = study.once(job, root, tmp_path / "out")
    assert found.keys() == set(study.COLUMNS)
    assert found["failure"] == ""
    assert found["updates"] == "40"  # 5 passes over 128 samples in batches of 32, twice
    [record] = (tmp_path / "out").rglob("run.json")
    before = record.stat().st_mtime_ns
    assert study.once(job, root, tmp_path / "out") == found
    assert record.stat().st_mtime_ns == before


# ------------------------------------------------------------------------------------------------ lines and tables
def line(stage: str, method: str, parameters: str, seed: int, accuracy: str, **more: str) -> dict[str, str]:
    given = (stage, "split MNIST", method, parameters, str(seed))
    return {
        **dict.fromkeys(study.COLUMNS, ""),
        **dict(zip(study.KEY, given, strict=True)),
        "accuracy": accuracy,
        **more,
    }


def test_the_best_trial_is_chosen_the_first_of_equals_and_never_a_failed_one() -> None:
    trials = [
        line("trial", "SGD", '{"lr":0.001}', 1000, "", failure="the loss became NaN"),
        line("trial", "SGD", '{"lr":0.002}', 1000, "0.0"),
        line("trial", "SGD", '{"lr":0.005}', 1000, "0.5"),
        line("trial", "SGD", '{"lr":0.01}', 1000, "0.5"),
    ]
    assert study.choose(trials) is trials[2]
    assert study.choose(trials[:2]) is trials[1]


def test_edges_of_a_grid_are_told_and_zero_is_none() -> None:
    stream, method = study.STREAMS[0], next(m for m in study.METHODS if m.name == "CLASSP")
    assert method.edges(stream, {"lr": 2.0, "threshold": 0.0}) == ["lr"]
    assert method.edges(stream, {"lr": 0.02, "threshold": 1e-6}) == ["threshold"]
    ewc = next(m for m in study.METHODS if m.name == "EWC")
    assert ewc.edges(stream, {"lr": 0.03, "strength": 10}) == []
    assert ewc.edges(stream, {"lr": 0.03, "strength": 1}) == ["strength"]


def test_what_was_learnt_is_accuracy_at_the_end_and_what_was_lost() -> None:
    metrics = {name: {"value": 0.5} for name in study.METRICS.values()}
    metrics["average_accuracy"] = {"value": 0.5, "per_task": [0.2, 0.8]}
    metrics["forgetting.after_learning"] = {"value": 0.6, "per_task": [0.6, None]}
    record = {
        "run_id": "a", "status": "completed", "primary_view": "class", "metrics": {"class": metrics}, "report": {},
        "costs": {"iterations": 7}, "memory": {"bytes": 3},
    }  # fmt: skip
    found = study.line(record)
    assert float(found["learnt"]) == pytest.approx(0.8)  # mean of 0.2 + 0.6 and 0.8
    assert (found["accuracy"], found["forgetting"], found["suppressed"]) == ("0.5", "0.6", "")
    assert (found["updates"], found["memory_bytes"]) == ("7", "3")


def test_the_table_is_made_of_the_file(tmp_path: Path) -> None:
    lines = [
        line("whole", "CLASSP", '{"lr":0.02,"threshold":0.0}', s, a, suppressed="0.25", memory_bytes="2048")
        for s, a in enumerate(("0.3", "0.4", "0.5"))
    ]
    lines += [
        line("whole", "SGD", '{"lr":0.001}', 1, "0.2"),
        line("whole", "SGD", '{"lr":0.001}', 0, "0.2"),
        line("whole", "SGD", '{"lr":0.001}', 2, "", failure="the loss became NaN"),
        line("trial", "SGD", '{"lr":0.002}', 1000, "0.125", updates="600"),
        line("trial", "SGD", '{"lr":0.001}', 1000, "0.25", updates="600"),
    ]
    study.write(tmp_path / "lines.csv", study.COLUMNS, study.ordered(lines))
    held = study.read(tmp_path / "lines.csv")
    assert [(one["stage"], one["method"], one["seed"]) for one in held[:4]] == [
        ("trial", "SGD", "1000"), ("trial", "SGD", "1000"), ("whole", "SGD", "0"), ("whole", "SGD", "1"),
    ]  # fmt: skip
    text = study.tables(held)
    assert "| SGD | 2 | 1,200 | lr 0.001 (edge) | 25.00 | 0 |" in text
    # Half-width of (30, 40, 50): t(0.975, 2) = 4.3027 times 10 / sqrt(3).
    assert "| CLASSP | 3 | 40.00 ± 24.84 |  |  |  |  | 25.00 ± 0.00 | 2 |" in text
    assert "| SGD | 3, 1 failed | 20.00 ± 0.00 |" in text
    # Seeds 0 and 1 have both: 10 and 20, t(0.975, 1) = 12.7062 times 7.0711 / sqrt(2).
    assert "| SGD | +15.00 ± 63.53 |" in text
    assert "### reviews\n\n**Not run.**" in text


def test_a_difference_whose_interval_excludes_zero_is_marked() -> None:
    lines = [line("whole", "CLASSP", '{"lr":0.02,"threshold":0.0}', s, str(0.3 + s / 100)) for s in range(3)]
    lines += [line("whole", "SGD", '{"lr":0.001}', s, str(0.1 + s / 50)) for s in range(3)]
    assert "| SGD | **+19.00 ± 2.48** |" in study.tables(lines)  # 20, 19, 18
