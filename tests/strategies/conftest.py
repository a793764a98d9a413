"""A small transformer that the suite pretrains in seconds, for the methods that start from one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clbench import resolve
from clbench.runner import pretraining

PRETRAINED = "split_glyphs-v1"
NETWORK = "model={name: transformer, patch: 4, width: 16, depth: 2, heads: 2}"


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of `split_glyphs-v1`: a network of 16 units and two blocks, with weights from 60 updates on other
    characters, and few samples."""
    torch.set_num_threads(1)
    few = ["stream.glyphs={classes: 10, train_per_class: 30}", "training.iterations=60", "training.batch_size=30"]
    run = resolve.make_run("glyphs_pretraining-v1", strategy="naive", overrides=[NETWORK, *few])
    path: Path = tmp_path_factory.mktemp("pretrained") / "glyphs.pt"
    pretraining.write(path, pretraining.train_weights(run), head=False)
    stream = "stream={glyphs: {classes: 6, train_per_class: 20, test_per_class: 5, seed: 1}, tasks: {count: 3}}"
    return [NETWORK, f"model.weights={path}", stream, "training={iterations: 5, batch_size: 10}"]
