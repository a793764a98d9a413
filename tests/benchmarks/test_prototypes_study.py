"""The study of prototypes: its front, its runs, and the tables made of its lines."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

study: Any = importlib.import_module("prototypes")


# ------------------------------------------------------------------------------------------------ the front
def weights(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a front with two channels, all of whose convolutions pass on what they get, the first one red and green."""
    found = {"conv1_w": torch.zeros(2, 3, 3, 3), "conv1_b": torch.zeros(2)}
    found["conv1_w"][[0, 1], [0, 1], 1, 1] = 1.0
    for block in range(1, 13):
        centre = torch.zeros(2, 1, 3, 3)
        centre[:, 0, 1, 1] = 1.0
        found |= {f"dw{block}_w": centre, f"pw{block}_w": torch.eye(2)[..., None, None]}
        found |= {f"{kind}{block}_b": torch.zeros(2) for kind in ("dw", "pw")}
    return {**found, **changed}


def test_a_front_that_passes_all_on_has_the_colours_between_0_and_1() -> None:
    x = torch.tensor([255, 191, 0], dtype=torch.uint8)[None, :, None, None].expand(4, 3, 32, 32)
    assert torch.allclose(study.mobilenet(weights(), 32)(x), torch.tensor([[1.0, 191 / 127.5 - 1]]).expand(4, 2))


def test_a_front_adds_biases_and_ends_at_6() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)  # -1, and after ReLU6 0
    assert study.mobilenet(weights(pw12_b=torch.tensor([0.5, 9.0])), 64)(x).tolist() == [[0.5, 6.0]]


def test_a_front_with_stride_2_pads_at_the_right_and_the_bottom_alone() -> None:
    x = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    x[:, :, 1, 1] = 255  # what the centre of the first window is on
    found = study.mobilenet(weights(), 32)
    x_elsewhere = x.roll((1, 1), (2, 3))
    # 32 -> 16 takes rows 1, 3, 5, ...; 16 -> 8 -> 4 -> 2 -> 1 take row 31 of the image in the end.
    assert found(x).tolist() == found(x_elsewhere).tolist() == [[0.0, 0.0]]
    x[:, :, 31, 31] = 255
    assert found(x).tolist() == [[1.0, 1.0]]


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    other = tmp_path / "other.npz"
    np.savez(other, conv1_w=np.zeros(1))
    with pytest.raises(study.UserError, match="not the file of the study"):
        study.prepare(other)
    with pytest.raises(study.UserError, match="needs --weights"):
        study.prepare(None)


# ------------------------------------------------------------------------------------------------ runs
@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with small data in the place of the study's."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (400, 28, 28), np.uint8)
    characters = chance.integers(0, 256, (659, 28, 28), np.uint8)
    vectors = chance.random((400, 8), np.float32)
    sets = {"mnist": images, "fashion_mnist": images, "omniglot": characters, study.FEATURES: vectors}
    for name, x in sets.items():
        y = np.arange(len(x)) % (659 if name == "omniglot" else 10)
        np.savez(tmp_path / f"{name}.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    monkeypatch.setenv("CLBENCH_DATA", str(tmp_path))
    return tmp_path


def test_all_of_a_stream_have_its_budget_its_network_and_its_seed(root: Path) -> None:
    configurations = {(j.stream.name, j.method.name): j.configuration() for j in study.jobs(study.STREAMS, (3,))}
    assert len(configurations) == sum(len(s.methods) for s in study.STREAMS)
    assert len({c.run_id for c in configurations.values()}) == len(configurations)
    for stream in study.STREAMS:
        benchmarks = [configurations[stream.name, m.name].benchmark for m in stream.methods]
        assert all(b == benchmarks[0] for b in benchmarks)
    assert {c.seed for c in configurations.values()} == {3}
    frozen = {m: c for (s, m), c in configurations.items() if s.endswith("frozen features")}
    assert {m: c.strategy.parameters.get("extractor") for m, c in frozen.items()} == {
        "chance": None, "naive": None, "NCM": "frozen", "FeTrIL": "frozen", "FeTrIL, fc": "frozen",
        "ER, 200 samples": None, "joint": None,
    }  # fmt: skip


def test_a_run_is_a_line_and_is_not_run_again(root: Path, tmp_path: Path) -> None:
    stream = next(s for s in study.STREAMS if s.name == "CIFAR-10, frozen features")
    [job] = [j for j in study.jobs([stream], (0,)) if j.method.name == "NCM"]
    found = study.once(job, tmp_path / "out")
    assert found.keys() == set(study.COLUMNS)
    assert found["failure"] == ""
    sessions = [float(v) for v in found["sessions"].split()]
    assert len(sessions) == 6
    assert sessions[-1] == pytest.approx(float(found["final"]), abs=1e-6)
    assert np.mean(sessions) == pytest.approx(float(found["incremental"]), abs=1e-6)
    [record] = (tmp_path / "out").rglob("run.json")
    before = record.stat().st_mtime_ns
    assert study.once(job, tmp_path / "out") == found
    assert record.stat().st_mtime_ns == before


# ------------------------------------------------------------------------------------------------ lines and tables
def line(method: str, seed: int, incremental: str, stream: str = "MNIST", **more: str) -> dict[str, str]:
    given = {"stream": stream, "method": method, "seed": str(seed), "incremental": incremental}
    return {**dict.fromkeys(study.COLUMNS, ""), **given, **more}


def test_new_lines_take_the_place_of_old_ones_in_the_order_of_the_study() -> None:
    old = [line("PASS", 1, "0.1"), line("naive", 0, "0.2"), line("of an older study", 0, "0.2")]
    found = study.merged(old, [line("PASS", 1, "0.3"), line("PASS", 0, "0.4")])
    assert [(e["method"], e["seed"], e["incremental"]) for e in found] == [
        ("naive", "0", "0.2"), ("PASS", "0", "0.4"), ("PASS", "1", "0.3"),
    ]  # fmt: skip


def test_claims_are_held_against_differences_paired_by_seed() -> None:
    lines = [line("PASS", s, v) for s, v in ((0, "0.50"), (1, "0.60"), (2, "0.70"))]
    lines += [line("FeTrIL", s, v) for s, v in ((2, "0.73"), (0, "0.52"), (1, "0.61"))]
    lines += [line("NAPA-VQ", s, v) for s, v in ((0, "0.40"), (1, "0.51"), (3, "0.99"))]
    text = study.tables(lines)
    # +2, +1, +3: 2 and 4.303 / sqrt(3) of a deviation of 1. The other two seeds: -12 and -10.
    assert "| FeTrIL minus PASS | +2.8 / +3.4 | +2.00 ± 2.48 | open | within |" in text
    assert "| NAPA-VQ minus FeTrIL | +4.1 / +3.8 | -11.00 ± 12.71 | open | below |" in text
    assert "| NAPA-VQ minus PASS | +6.9 / +7.2 | **-9.50 ± 6.35** | reversed | below |" in text
    assert "| FeTrIL minus FeTrIL, fc | +1.6 / +1.8 |  |  |  |" in text
    assert "**Incomplete: 41 of 50 runs missing.**" in text
    assert "**Not run yet: 15 runs missing.**" in text


def test_failed_runs_are_counted_and_few_shots_are_told_session_by_session() -> None:
    few = "few-shot MNIST"
    lines = [line("NCM", s, "0.6", few, sessions=f"0.9 0.{s} 0.5", memory_bytes="512") for s in (4, 6)]
    text = study.tables([*lines, line("naive", 0, "", few, failure="the loss became NaN")])
    assert "| NCM | 2 | 90.00 ± 0.00 | 50.00 ± 127.06 | 50.00 ± 0.00 | 60.00 ± 0.00 |  | 0.5 |" in text
    assert "| naive | 1, 1 failed |  |  |  |  |  |  |" in text
