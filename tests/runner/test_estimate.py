"""Lines before a run: a hint where inputs are large and not standardised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clbench import resolve
from clbench.runner.run import execute


def said(out: Path, data: Path, *overrides: str) -> list[str]:
    """Lines that a run of one update an experience says before it trains."""
    benchmark = {
        "id": "mine",
        "stream": {"data": f"npz:{data}", "tasks": {"by": "classes", "count": 2}, "setting": "class"},
        "model": {"name": "linear"},
        "training": {"iterations": 1, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    lines: list[str] = []
    execute(resolve.make_run(benchmark, strategy="naive", overrides=list(overrides)), out, say=lines.append)
    return lines


@pytest.mark.parametrize(
    ("scale", "overrides", "hint"),
    [
        (
            [1.0, 500.0],
            [],
            "inputs are large: feature 1 has a mean of 1,000 and a deviation of 500; "
            "-o stream.normalise=standard standardises them",
        ),
        ([1.0, 500.0], ["stream.normalise=standard"], ""),
        ([1.0, 5.0], [], ""),
    ],
)
def test_large_inputs_are_hinted_at(scale: list[float], overrides: list[str], hint: str, tmp_path: Path) -> None:
    signs = np.tile([[1.0], [-1.0]], (20, 1))
    x = ((2 + signs) * scale).astype(np.float32)  # mean 2 and deviation 1, in units of the scale
    y = np.repeat([0, 1], 20)
    np.savez(tmp_path / "data.npz", train_x=x, train_y=y, test_x=x, test_y=y)
    lines = said(tmp_path / "out", tmp_path / "data.npz", *overrides)
    assert [line for line in lines if line.startswith("inputs")] == ([hint] if hint else [])
