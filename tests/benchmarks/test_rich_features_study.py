"""The study of features side by side: its networks, and the tables made of its lines."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from clbench.config.networks import Cnn
from clbench.training import models

study: Any = importlib.import_module("rich_features")


def test_parameters_are_those_of_the_networks_and_one_network_has_as_many_as_all() -> None:
    for channels, hidden in ((study.CHANNELS, study.HIDDEN), study.wide()):
        network = models.build(Cnn(name="cnn", channels=channels, hidden=hidden), (1, 8, 8), 5)
        assert sum(p.numel() for p in network.parameters()) == study.parameters(channels, hidden)
    all_of_them = study.NETWORKS * study.parameters(study.CHANNELS, study.HIDDEN)
    assert study.parameters(*study.wide()) == pytest.approx(all_of_them, rel=0.01)  # a hidden unit has 38 of 6,228


def test_repetitions_share_no_seed() -> None:
    seeds = [{seed for row in study.rows(r, 1) for seed in row.seeds} for r in study.REPETITIONS]
    assert sum(map(len, seeds)) == len(set().union(*seeds)) == study.NETWORKS * len(seeds)


def test_differences_are_within_repetitions() -> None:
    lines = []
    for number, row in enumerate(study.ROWS):
        for repetition, base in enumerate((50.0, 70.0, 90.0)):
            for target in study.TARGETS:
                lines += [
                    {
                        "features": row, "repetition": str(repetition), "parameters": "1557", "width": "32",
                        "target": target, "head": head, "accuracy": str(base + number),
                    }
                    for head in study.HEADS
                ]  # fmt: skip
    text = study.tables(lines)
    assert text.count("| *side by side, less one network* | | | +5.00 ± 0.00 |") == len(study.HEADS)
    assert f"| {study.ROWS[-1]} | 1,557 | 32 | 75.00 ± 49.68 |" in text  # t(2) 4.303, deviation 20, sqrt(3)
