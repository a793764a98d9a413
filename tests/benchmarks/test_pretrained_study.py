"""The study of pretrained networks: which texts are tested on, its files, and the page made of its runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clbench import resolve
from clbench.config.study import StudyConfig
from clbench.pretrained import packages
from clbench.resolve import make_run
from clbench.runner.run import execute
from support import ROOT

texts: Any = importlib.import_module("pretrained_texts")
page: Any = importlib.import_module("pretrained_gap")
FOLDER = ROOT / "benchmarks" / "studies" / "pretrained"


# ------------------------------------------------------------------------------------------------ texts
def packed(name: str, words: list[str]) -> dict[str, Any]:
    data = [word.encode() for word in words]
    offsets = np.cumsum([0, *map(len, data)])
    return {f"{name}_bytes": np.frombuffer(b"".join(data), np.uint8), f"{name}_offsets": offsets}


def test_strings_are_those_that_were_packed() -> None:
    words = ["né", "", "plain", "中文"]
    assert texts.strings(packed("t", words), "t") == words


def test_a_part_has_the_smallest_digests_of_each_class_and_no_text_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "TRAIN", 3)
    monkeypatch.setattr(texts, "TEST", 2)
    samples = [texts.Sample(f"text {i // 2}", i % 2, i % 5 == 0) for i in range(60)]  # each text with either label
    chosen = list(texts.chosen(samples))
    assert len({sample.text for sample in chosen}) == len(chosen)
    counts = {(label, test): 0 for label in (0, 1) for test in (False, True)}
    for sample in chosen:
        counts[sample.label, sample.test] += 1
    assert counts == {(0, False): 3, (1, False): 3, (0, True): 2, (1, True): 2}
    least = sorted((s for s in samples if s.test and s.label == 0), key=lambda s: texts.digest(s.text))[:2]
    assert {s.text for s in chosen if s.test and s.label == 0} == {s.text for s in least}
    assert list(texts.chosen(samples[::-1])) == chosen, "in whatever order they come"


def test_classes_are_numbered_over_parts_unless_they_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "tokenise", lambda rows, length: np.array([[len(row)] for row in rows], np.int32))
    names = ("negative", "positive")
    of = [
        [texts.Sample(f"{part}{y}{test}" + "x" * part, y, test) for y in (0, 1) for test in (0, 1)] for part in (0, 1)
    ]
    for separate, numbers in ((True, [0, 1, 2, 3]), (False, [0, 1, 0, 1])):
        made = texts.arrays([texts.Part(tuple(samples), names, separate) for samples in of])
        for part in ("train", "test"):
            assert sorted(zip(made[f"{part}_task"], made[f"{part}_y"], strict=True)) == list(
                zip([0, 0, 1, 1], numbers, strict=True)
            )
        assert made["train_x"].dtype == np.float32


# ------------------------------------------------------------------------------------------------ files
def test_studies_and_benchmarks_are_valid_but_for_data_that_are_not_at_hand(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    rows, classes = 40, {"text_topics": 10, "text_sentiment": 2, "text_tasks": 10}
    for name, number in classes.items():
        y, task = np.arange(rows * 5) % number, np.arange(rows * 5) % number // 2
        task = np.arange(rows * 5) // rows if name == "text_sentiment" else task
        held = {"x": np.ones((rows * 5, 4), np.float32), "y": y, "task": task}
        np.savez(tmp_path / f"{name}.npz", **{k: v for k, v in held.items() if k != "task" or name != "text_topics"})
    for study in ("study.yaml", "study_vit.yaml"):
        content = yaml.safe_load((FOLDER / study).read_text())
        StudyConfig.model_validate(content)
        for stream in content["streams"]:
            benchmark, *_ = resolve.resolve(str(FOLDER / stream), need_strategy=False)
            assert benchmark.id in page.BENCHMARKS
            assert benchmark.model.weights_sha256 in [p.sha256 for p in packages.OF_MODULE.values()]
            assert ("saliency" in benchmark.title) == ("vit_s14" in benchmark.model.factory), "the caveat is shown"


# ------------------------------------------------------------------------------------------------ page
def test_the_tables_are_those_of_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "BENCHMARKS", {"split_digits-v1": "digits"})
    records = {}
    for seed in (0, 1):
        for memory in (5, 10):
            flags = [f"strategy.memory={memory}", "training={iterations: 2, epochs: null}"]
            run = make_run("split_digits-v1", strategy="er", seed=seed, overrides=flags)
            records[memory, seed] = execute(run, tmp_path).record
    head, _, *lines = page.table(page.rows(tmp_path, "split_digits-v1"))
    assert [line.split("|")[1].strip() for line in lines] == ["`er, memory 10`", "`er, memory 5`"]
    column = [cell.strip() for cell in head.split("|")].index("ACC")
    for line, memory in zip(lines, (10, 5), strict=True):
        values = [records[memory, seed]["metrics"]["class"]["average_accuracy"]["value"] for seed in (0, 1)]
        half = 12.706204736 * abs(values[0] - values[1]) / 2  # t of one degree of freedom; deviation / sqrt(2)
        assert line.split("|")[column].strip() == f"{50 * sum(values):.2f} ± {100 * half:.2f}"
        assert line.split("|")[-2].strip() == "0, 1"


def test_the_caveat_stands_above_what_the_vision_transformer_reached(tmp_path: Path, monkeypatch: Any) -> None:
    record = {"stream": {"experiences": 1}, "costs": {"iterations": 1}}
    monkeypatch.setattr(page, "table", lambda of: [])
    for factory, shown in (("clbench.pretrained.vit_s14:network", True), ("clbench.pretrained.minilm:network", False)):
        whole = {**record, "config": {"benchmark": {"model": {"factory": factory}}}}
        monkeypatch.setattr(page, "rows", lambda root, benchmark, of=whole: [page.Row("naive", {}, {0: of})])
        assert (page.CAVEAT in page.tables(tmp_path)) == shown
