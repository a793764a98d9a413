"""Mean and deviation: of vectors per feature of the training part, of images per channel, up to what a network gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench import on_disk, resolve
from clbench.dataset import DataSet, identity
from clbench.runner.run import execute
from clbench.stream import Stream
from clbench.streams.compile import compile_stream, instance_hash
from clbench.streams.datasets import load
from clbench.streams.datasets.moments import moments_of
from clbench.studies.existing import sha256_of_data
from clbench.training.inputs import InputTransform

N = 60


@pytest.fixture(autouse=True)
def _places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("place"))


def scales(rows: int = N) -> Any:
    """Features of very different scales: small, large, constant, far from 0, skewed, with an outlier first."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6))
    x[:, 0] *= 0.01
    x[:, 1] = x[:, 1] * 300 + 1700
    x[:, 2] = 0.1
    x[:, 3] = x[:, 3] + 1e4
    x[:, 4] = np.exp(3 * x[:, 4])
    x[0, 5] = -9999
    return x.astype(np.float32)


def expected(x: Any) -> tuple[Any, Any]:
    """By two passes in longer floats."""
    exact = x.astype(np.longdouble)
    mean = exact.mean(0)
    std = np.sqrt(np.square(exact - mean).mean(0))
    return mean.astype(np.float64), np.where(np.ptp(x, 0) == 0, 1, std).astype(np.float64)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize("rows", [1, 2, N])
def test_vectors_have_moments_per_feature(chunk: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_VALUES", 6 * chunk)
    x = scales(rows)
    mean, std = moments_of(x, 1.0)
    assert mean == pytest.approx(expected(x)[0], rel=1e-12)
    assert std == pytest.approx(expected(x)[1], rel=1e-9)
    assert (mean[2], std[2]) == (float(x[0, 2]), 1.0), "exactly, so that a constant feature becomes 0"


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_vectors_of_whole_numbers_are_exact(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "_VALUES", chunk)
    x = np.random.default_rng(0).integers(0, 256, (64, 5), np.uint8)
    x[:, 1] = 7
    mean, std = moments_of(x, 255.0)
    assert mean == tuple((x.sum(0, dtype=np.int64) / 64 / 255).tolist())
    assert std == pytest.approx(np.where(np.arange(5) == 1, 1, x.std(0) / 255), rel=1e-12)


# ------------------------------------------------------------------------------------------------ to the network
def write(**changes: Any) -> DataSet:
    """A file whose test part is of another scale."""
    x = scales()
    held = {"train_x": x[:40], "train_y": np.arange(40) % 2, "test_x": x[40:] * 5, "test_y": np.arange(20) % 2}
    np.savez("mine.npz", **{**held, **changes})
    return load.load("npz:mine.npz")


def stream_of(data: str = "npz:mine.npz", tasks: str = "{by: classes, count: 2}", setting: str = "class") -> Stream:
    benchmark, *_ = resolve.resolve(
        "split_digits-v1",
        [
            "id=mine-v1", f"stream.data={data}", "stream.normalise=standard", f"stream.tasks={tasks}",
            f"stream.setting={setting}", "model={name: mlp, hidden: [4]}",
        ],
        need_strategy=False,
    )  # fmt: skip
    return compile_stream(benchmark.stream, 0)


def test_a_network_gets_each_feature_standardised() -> None:
    """By the moments of the training part alone; a constant feature is 0."""
    data = write()
    transform = InputTransform(stream_of(), torch.device("cpu"))
    x = transform(torch.from_numpy(np.asarray(data.train_x)), 0).numpy().astype(np.float64)
    varied = [0, 1, 3, 4, 5]
    assert x[:, varied].mean(0) == pytest.approx(np.zeros(5), abs=1e-3)
    assert x[:, varied].std(0) == pytest.approx(np.ones(5), rel=1e-3)
    assert not x[:, 2].any()
    mean, std = expected(np.asarray(data.train_x))
    test_x = np.asarray(data.test_x)
    seen = transform(torch.from_numpy(test_x), 0).numpy()
    assert np.allclose(seen, (test_x - mean) / std, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("tasks", [
    "{by: permutations, count: 3}",
    "{by: transforms, transforms: [{}, {permutation: true}, {permutation: true, brightness: 2.0}]}",
])  # fmt: skip
@pytest.mark.parametrize("mixed", [False, True])
def test_a_permuted_feature_keeps_its_moments(tasks: str, mixed: bool) -> None:
    """A task's inputs are the standardised ones in another order, for single tasks and mixed batches."""
    data = write()
    stream = stream_of(tasks=tasks, setting="domain")
    transform, x = InputTransform(stream, torch.device("cpu")), torch.from_numpy(np.asarray(data.train_x))
    mean, std = (torch.tensor(m, dtype=torch.float32) for m in (data.mean, data.std))
    for task, domain in enumerate(stream.domains):
        order = np.arange(6) if domain.permutation is None else domain.permutation
        seen = transform(x, torch.full((40,), task) if mixed else task)
        assert torch.equal(seen, ((x * domain.brightness - mean) / std)[:, order])


def test_data_on_the_disk_have_the_same_moments() -> None:
    data = write()
    Path("mine").mkdir()
    for name, array in np.load("mine.npz").items():
        np.save(f"mine/{name}.npy", array)
    for _ in range(2):  # read, and remembered
        other = load.load("npy:mine")
        assert (other.mean, other.std, other.sha256) == (data.mean, data.std, data.sha256)
    assert len(data.mean) == 6


# ------------------------------------------------------------------------------------------------ identity
def test_standardised_vectors_are_other_data_than_they_were(tmp_path: Path) -> None:
    """Their results are told from those of one mean for all features in every record; images and `unit` are not."""
    data, stream = write(), stream_of()
    assert instance_hash(stream) != instance_hash(replace(stream, normalise="unit"))
    assert identity(data, "unit") == data.sha256 != identity(data, "standard")
    images = replace(
        data, shape=(), train_x=np.zeros((40, 1, 2, 3), np.uint8), test_x=np.zeros((20, 1, 2, 3), np.uint8)
    )
    assert identity(images, "standard") == images.sha256
    run = resolve.make_run(
        "split_digits-v1", strategy="naive",
        overrides=[
            "id=mine-v1", "stream.data=npz:mine.npz", "stream.normalise=standard", "stream.tasks.count=2",
            "training.iterations=2", "model={name: mlp, hidden: [4]}",
        ],
    )  # fmt: skip
    record = execute(run, tmp_path).record
    assert record["stream"]["data_sha256"] == identity(data, "standard")
    assert sha256_of_data(run.benchmark.stream.model_dump_json()) == identity(data, "standard")
