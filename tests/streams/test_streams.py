"""Streams: partition and coverage, hashes, and what each family of tasks does to inputs and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench import dataset, messages
from clbench.rng import Generator
from clbench.stream import Domain
from clbench.streams import definition
from clbench.streams.compile import compile_stream, definition_hash
from clbench.streams.datasets import load
from clbench.training.inputs import InputTransform, resampling
from clbench.training.training_set import TrainingSet

CPU = torch.device("cpu")


def stream_config(**changes: Any) -> definition.StreamConfig:
    base = {"data": "digits", "tasks": {"by": "classes", "count": 5}, "setting": "class"}
    found, problems = messages.check_section("test", "stream", definition.StreamConfig, {**base, **changes}, {})
    assert not problems
    return found


@pytest.fixture(scope="module")
def digits() -> dataset.DataSet:
    return load.load("digits")


@settings(max_examples=25)
@given(count=st.integers(1, 10), seed=st.integers(0, 1000))
def test_classes_are_shared_out_and_none_is_lost(count: int, seed: int) -> None:
    """Also where classes do not divide by tasks: 10 classes in 3 tasks are 4, 3, 3."""
    data = load.load("digits")
    stream = compile_stream(stream_config(tasks={"by": "classes", "count": count}), seed, data)
    sizes = [len(t.classes) for t in stream.tasks]
    assert sorted(c for t in stream.tasks for c in t.classes) == list(range(10))
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    rows = np.concatenate([v.index for v in stream.experiences])
    assert sorted(rows.tolist()) == list(range(len(data.train_y))), "every sample once"
    for experience in stream.experiences:
        (task,) = experience.tasks
        assert set(data.train_y[experience.index]) == set(stream.tasks[task].classes)
        assert (experience.task == task).all()


def test_seed_decides_the_order_and_only_the_seed(digits: dataset.DataSet) -> None:
    orders = {tuple(t.classes for t in compile_stream(stream_config(), s, digits).tasks) for s in range(20)}
    assert len(orders) > 15
    again = [compile_stream(stream_config(), 3, digits).instance_hash for _ in range(2)]
    assert again[0] == again[1]


def test_compiling_leaves_global_generators_alone(digits: dataset.DataSet) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())
    compile_stream(stream_config(), 0, digits)
    compile_stream(stream_config(tasks={"by": "permutations", "count": 3}, setting="domain"), 0, digits)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_golden_hashes(digits: dataset.DataSet) -> None:
    """Made by compile_stream on this data set; any machine and any supported NumPy must give them, exactly."""
    assert digits.sha256 == "145b48fcae08296daf13c0658f889701ddab5cb9bb3ec66f13264349e063c6e0"
    found = {
        "classes": compile_stream(stream_config(), 0, digits),
        "permutations": compile_stream(
            stream_config(tasks={"by": "permutations", "count": 3}, setting="domain"), 0, digits
        ),
        "rotations": compile_stream(
            stream_config(tasks={"by": "rotations", "degrees": [0, 30]}, setting="domain"), 0, digits
        ),
    }
    assert {k: s.instance_hash for k, s in found.items()} == {
        "classes": "e5aac34ea6f48d03e1c65a77b189ea65a090d0e8e0a841235f60d271ab4b74de",
        "permutations": "cc72e5abdb94fda34b87a2aba813b68d4a3f81110b5a8c3eb166351fd03579a9",
        "rotations": "e810eca920567ff4253b1471bcbf75dc16d65c0804cf2a1718c88a573846d79f",
    }


def test_the_definition_hash_knows_meaning_and_not_order_of_keys() -> None:
    one = stream_config(tasks={"by": "classes", "count": 5, "order": "natural"})
    other = messages.check_section(
        "t", "stream", definition.StreamConfig,
        {"setting": "class", "tasks": {"order": "natural", "count": 5, "by": "classes"}, "data": "digits"}, {},
    )[0]  # fmt: skip
    assert definition_hash(one) == definition_hash(other)
    assert definition_hash(one) != definition_hash(stream_config())


def test_orders_and_blocks_of_ones_own(digits: dataset.DataSet) -> None:
    natural = compile_stream(stream_config(tasks={"by": "classes", "count": 5, "order": "natural"}), 9, digits)
    assert [t.classes for t in natural.tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    listed = compile_stream(stream_config(tasks={"by": "classes", "blocks": [[7, 1], [3]]}), 9, digits)
    assert [t.classes for t in listed.tasks] == [(7, 1), (3,)]
    assert listed.outputs == 8


def test_labels_within_the_task(digits: dataset.DataSet) -> None:
    tasks = {"by": "classes", "count": 5, "order": "natural", "labels": "within_task"}
    stream = compile_stream(stream_config(tasks=tasks, setting="domain"), 0, digits)
    assert stream.outputs == 2
    samples = TrainingSet(stream, InputTransform(stream, CPU), CPU)
    for experience in stream.experiences:
        _, y = samples.fetch(torch.from_numpy(experience.index), experience.tasks[0])
        assert y.tolist() == (digits.train_y[experience.index] % 2).tolist()


# ------------------------------------------------------------------------------------------------ domains
def test_right_angles_are_exact_rotations() -> None:
    image = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    for degrees in (0, 90, 180, 270, 360, -90):
        source, weight = resampling(Domain(degrees=degrees), 6, 6)
        turned = (weight * image.ravel()[source]).sum(0).reshape(6, 6)
        assert np.array_equal(turned, np.rot90(image, degrees // 90)), degrees


def test_rotation_is_bilinear_and_zero_outside() -> None:
    """Against torchvision's own, which without a fill value also takes zeros from outside."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    image = torch.rand(3, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    for degrees in (10.0, 80.0, 160.0, -33.3):
        source, weight = resampling(Domain(degrees=degrees), 9, 9)
        ours = (image.flatten(2)[:, :, torch.from_numpy(source)] * torch.from_numpy(weight)).sum(2).view_as(image)
        theirs = rotate(image, degrees, InterpolationMode.BILINEAR)
        assert torch.allclose(ours, theirs, atol=1e-5), degrees
    _, weight = resampling(Domain(degrees=45.0), 9, 9)
    assert weight[:, 0].sum() == 0, "the corner comes from outside"
    assert np.allclose(weight.reshape(4, 9, 9)[:, 3:6, 3:6].sum(0), 1)


@pytest.mark.parametrize("tasks", [{"by": "permutations", "count": 3}, {"by": "rotations", "degrees": [0, 30, 90]}])
def test_a_batch_may_mix_tasks(digits: dataset.DataSet, tasks: dict[str, Any]) -> None:
    """One fetch of samples from several domains is what single fetches give, bit for bit."""
    for normalise in ("unit", "standard"):
        stream = compile_stream(stream_config(tasks=tasks, setting="domain", normalise=normalise), 0, digits)
        samples = TrainingSet(stream, InputTransform(stream, CPU), CPU)
        index, task = torch.arange(12), torch.arange(12) % 3
        mixed, y = samples.fetch(index, task)
        for i in range(12):
            alone, target = samples.fetch(index[i : i + 1], int(task[i]))
            assert torch.equal(mixed[i], alone[0])
            assert y[i] == target[0] == digits.train_y[i]


def test_permutations_move_pixels_and_lose_none(digits: dataset.DataSet) -> None:
    stream = compile_stream(stream_config(tasks={"by": "permutations", "count": 4}, setting="domain"), 0, digits)
    transform = InputTransform(stream, CPU)
    stored = torch.from_numpy(digits.train_x[:5])
    assert torch.equal(transform(stored, 0), stored / 16.0), "the first task sees pixels as they are"
    for t in range(1, 4):
        moved = transform(stored, t)
        assert not torch.equal(moved, transform(stored, 0))
        assert torch.equal(moved.flatten(1).sort(1).values, transform(stored, 0).flatten(1).sort(1).values)
    all_moved = {"by": "permutations", "count": 2, "first": "permuted"}
    stream = compile_stream(stream_config(tasks=all_moved, setting="domain"), 0, digits)
    assert stream.domains[0].kind == "permutation"


def test_normalisation_is_that_of_the_training_set(digits: dataset.DataSet) -> None:
    stream = compile_stream(stream_config(normalise="standard"), 0, digits)
    samples = TrainingSet(stream, InputTransform(stream, CPU), CPU)
    x, _ = samples.fetch(torch.arange(len(digits.train_y)), 0)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)


# ------------------------------------------------------------------------------------------------ chance
@given(st.integers(0, 2**63), st.integers(1, 200))
def test_a_permutation_is_one(seed: int, n: int) -> None:
    assert sorted(Generator(seed, "x").permutation(n).tolist()) == list(range(n))


@given(st.integers(0, 2**63), st.integers(1, 300), st.data())
def test_a_sample_has_different_members(seed: int, bound: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, bound))
    drawn = Generator(seed, "x").sample(bound, n).tolist()
    assert len(set(drawn)) == len(drawn) == n
    assert all(0 <= d < bound for d in drawn)


def test_samples_and_integers_are_uniform() -> None:
    """Chi-square of 20,000 draws over 10 cells, 9 degrees of freedom: 27.9 is exceeded once in 1,000 seeds."""
    generator = Generator(0, "uniform")
    draws = {
        "below": generator.below(10, 20_000),
        "sample, Floyd": np.concatenate([generator.sample(10, 2) for _ in range(10_000)]),
        "sample, first place": np.array([generator.sample(100, 5)[0] // 10 for _ in range(20_000)]),
        "permutation": np.array([generator.permutation(10)[0] for _ in range(20_000)]),
    }
    for name, values in draws.items():
        counts = np.bincount(values, minlength=10)
        expected = len(values) / 10
        assert ((counts - expected) ** 2 / expected).sum() < 27.9, name


def test_golden_bits() -> None:
    """NumPy promises the raw output of its bit generators for ever; these are Philox with our keys."""
    generator = Generator(0, "golden")
    assert [hex(int(w)) for w in generator.raw(2)] == ["0x2c3dca6e5e68439f", "0x73c97adac6444c40"]
    assert generator.permutation(8).tolist() == [7, 0, 6, 4, 1, 5, 3, 2]
