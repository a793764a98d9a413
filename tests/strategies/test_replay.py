"""Replay: the buffer's statistics and bounds, the reductions of ER, and its loss by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench import resolve
from clbench.rng import Generator
from clbench.runner import components
from clbench.strategies.shared.buffers import Buffer
from support import assembled, unwatched


def filled(buffer: Buffer, samples: int, groups: int, batch: int = 7) -> Buffer:
    """Offers rows 0..samples-1 in batches; the group of row i is i % groups, its task i % 3."""
    for start in range(0, samples, batch):
        index = np.arange(start, min(start + batch, samples))
        buffer.add(index, index % 3, index % groups)
    return buffer


# ------------------------------------------------------------------------------------------------ the buffer
@given(capacity=st.integers(1, 40), samples=st.integers(0, 120), groups=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_bounds_and_shares(capacity: int, samples: int, groups: int, seed: int) -> None:
    buffer = filled(Buffer(Generator(seed, "b"), capacity=capacity), samples, groups)
    held = buffer.index
    assert len(held) == len(buffer) <= capacity
    assert len(set(held.tolist())) == len(held), "nothing twice"
    assert (buffer.task == held % 3).all(), "a row keeps its task"
    offered = [len(range(rank, samples, groups)) for rank in range(groups)]
    sizes = [int((held % groups == rank).sum()) for rank in range(groups)]
    assert sum(sizes) == min(capacity, samples)
    assert all(size == n or size >= max(sizes) - 1 for size, n in zip(sizes, offered, strict=True))


@settings(max_examples=300)
@given(
    capacity=st.integers(1, 40),
    offers=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), max_size=12),
    keep=st.sampled_from(["random", "last"]),
    seed=st.integers(0, 2**32),
)
def test_no_slot_is_empty_while_there_are_samples(
    capacity: int, offers: list[tuple[int, int]], keep: Any, seed: int
) -> None:
    """Groups of any sizes in any order: what small ones leave is held by the others, and nobody has more than another
    that lost something."""
    buffer, offered, sizes = Buffer(Generator(seed, "b"), capacity=capacity, keep=keep), [0] * 6, [0] * 6
    group_of: list[int] = []
    for group, number in offers:
        index = np.arange(len(group_of), len(group_of) + number)
        position, slot = buffer.add(index, index % 3, np.full(number, group))
        assert len(set(slot.tolist())) == len(slot)
        assert (buffer.index_of[slot] == index[position]).all()
        group_of += [group] * number
        offered[group] += number
        held = buffer.index.tolist()
        assert len(set(held)) == len(held) == min(capacity, sum(offered))
        sizes = [sum(group_of[row] == g for row in held) for g in range(6)]
        assert all(size == n or size >= max(sizes) - 1 for size, n in zip(sizes, offered, strict=True))
        share = capacity // sum(n > 0 for n in offered)
        assert all(size >= min(n, share) for size, n in zip(sizes, offered, strict=True))
    for g in buffer.groups:
        rows = [row for row, of in enumerate(group_of) if of == g]
        kept = buffer.index_of[buffer.slots_of(g)].tolist()
        assert len(kept) == sizes[g]
        if keep == "last":
            assert sorted(kept) == rows[len(rows) - len(kept) :]


def test_a_group_holds_its_quota_once_it_has_met_enough() -> None:
    buffer = filled(Buffer(Generator(0, "b"), capacity=100), 5000, 7)
    counts = np.bincount(buffer.index % 7, minlength=7)
    assert counts.tolist() == [15, 15, 14, 14, 14, 14, 14]
    per_group = filled(Buffer(Generator(0, "b"), per_group=9), 5000, 7)
    assert np.bincount(per_group.index % 7).tolist() == [9] * 7


@pytest.mark.parametrize("groups", [1, 2])
def test_every_sample_is_kept_with_the_same_probability(groups: int) -> None:
    """Inclusion counts over 4,000 buffers of 10 from 50: binomial(4000, 0.2), deviation 25.3; 4.5 of them is 114.

    With two groups the second takes half of the first one's slots as it appears; the samples stay uniform.
    """
    counts = np.zeros(50)
    for seed in range(4000):
        buffer = Buffer(Generator(seed, "b"), capacity=10)
        order = np.arange(50) if groups == 1 else np.concatenate([np.arange(0, 50, 2), np.arange(1, 50, 2)])
        for part in np.array_split(order, 6):
            buffer.add(part, np.zeros_like(part), part % groups)
        counts[buffer.index] += 1
    assert counts.sum() == 40_000
    assert np.abs(counts - 800).max() < 114


def test_a_group_that_holds_what_others_leave_keeps_a_uniform_sample() -> None:
    """Rows 10, 25 and 40 of 43 are a group of their own: 3 of 10 slots; binomial(4000, 7 / 40), 4.5 deviations 109."""
    counts, small = np.zeros(43), np.array([10, 25, 40])
    for seed in range(4000):
        buffer = Buffer(Generator(seed, "b"), capacity=10)
        for part in np.array_split(np.arange(43), 7):
            buffer.add(part, np.zeros_like(part), np.isin(part, small).astype(np.int64))
        counts[buffer.index] += 1
    assert (counts[small] == 4000).all()
    assert np.abs(np.delete(counts, small) - 700).max() < 109


def test_draws_are_uniform_and_different() -> None:
    buffer = filled(Buffer(Generator(1, "b"), capacity=20), 20, 1)
    counts = np.zeros(20)
    for _ in range(4000):
        rows, tasks = buffer.sample(5)
        assert len(set(rows.tolist())) == 5
        assert (tasks == rows % 3).all()
        counts[rows] += 1
    assert np.abs(counts - 1000).max() < 4.5 * np.sqrt(4000 * 0.25 * 0.75)
    assert sorted(buffer.sample(99)[0].tolist()) == list(range(20))


@given(st.integers(0, 150), st.integers(0, 150), st.booleans())
def test_state_round_trip(before: int, after: int, per_group: bool) -> None:
    sizes: dict[str, Any] = {"per_group": 4} if per_group else {"capacity": 20}
    generator = Generator(3, "b")
    one = filled(Buffer(generator, **sizes), before, 5)
    state, chance = copy.deepcopy(one.state_dict()), generator.state_dict()
    other_generator = Generator(0, "else")
    other = Buffer(other_generator, **sizes)
    other.load_state_dict(state)
    other_generator.load_state_dict(chance)
    for buffer in (one, other):
        filled(buffer, after, 5)
    assert one.index.tolist() == other.index.tolist()
    assert one.sample(6)[0].tolist() == other.sample(6)[0].tolist()


# ------------------------------------------------------------------------------------------------ the strategy
def bench(*overrides: str, strategy: str = "er", iterations: int = 6) -> components.Components:
    run = resolve.make_run(
        "split_synthetic-v1", strategy=strategy, overrides=[f"training.iterations={iterations}", *overrides]
    )
    return assembled(run)


def weights(b: components.Components) -> torch.Tensor:
    unwatched(b)
    return torch.cat([p.detach().flatten() for p in b.strategy.model.parameters()])


def test_a_weight_of_one_on_the_new_loss_is_naive() -> None:
    """The replayed part is multiplied by zero; one forward pass over both rounds as one over the new samples alone."""
    replay = weights(bench("strategy.loss=weighted", "strategy.new_weight=1"))
    assert torch.allclose(replay, weights(bench(strategy="naive")), atol=1e-6)


def test_an_empty_buffer_is_naive() -> None:
    """One experience, filled after it: the buffer is empty all along."""
    one = ["stream.tasks.count=1", "strategy.fill=after"]
    assert torch.equal(weights(bench(*one)), weights(bench(one[0], strategy="naive")))


def test_the_loss_by_hand() -> None:
    b = bench("strategy.loss=weighted", "strategy.fill=after", "strategy.memory=30", "strategy.replay_batch=8")
    strategy: Any = b.strategy
    for v in range(2):
        experience = b.experience(v)
        strategy.begin_experience(experience)
        for batch in b.batches.of(experience, 3):
            strategy.step(batch)
        strategy.end_experience(experience)
    strategy.begin_experience(b.experience(2))
    batch = next(b.batches.of(b.experience(2), 1))
    state = strategy.setup.generator.state_dict()
    loss = strategy.loss(batch)
    strategy.setup.generator.load_state_dict(state)
    x, y, _ = strategy.replayed(8)
    ce = torch.nn.functional.cross_entropy
    expected = ce(strategy.model(batch.x), batch.y) / 3 + ce(strategy.model(x), y) * 2 / 3
    assert len(y) == 8
    assert torch.allclose(loss, expected)
    first_two = {o for t in b.stream.tasks[:2] for o in t.targets}
    assert set(y.tolist()) <= first_two


def test_the_task_setting_masks_each_sample_by_its_own_task() -> None:
    b = bench("stream.setting=task", "strategy.memory=40")
    strategy: Any = b.strategy
    logits, y = torch.zeros(2, 10), torch.tensor([b.stream.tasks[0].targets[0], b.stream.tasks[3].targets[1]])
    assert strategy.criterion(logits, y, torch.tensor([0, 3])).item() == pytest.approx(np.log(2))
    weights(b)


@pytest.mark.parametrize("fill", ["online", "after"])
@pytest.mark.parametrize("buffer", ["reservoir", "class_balanced"])
def test_the_memory_bound_is_kept_and_every_task_is_in_it(fill: str, buffer: str) -> None:
    b = bench(f"strategy.fill={fill}", f"strategy.buffer={buffer}", "strategy.memory=50", iterations=20)
    weights(b)
    strategy: Any = b.strategy
    assert len(strategy.buffer) == 50
    assert strategy.memory().samples == 50
    assert strategy.memory().bytes == 50 * (32 * 4 + 8)
    assert set(strategy.buffer.task.tolist()) == set(range(5))
    labels = b.stream.data.train_y[strategy.buffer.index]
    if buffer == "class_balanced":
        assert np.bincount(labels).tolist() == [5] * 10


def test_replay_forgets_less_than_naive_and_no_less_than_joint() -> None:
    """On a stream where it should; one seed, wide margins."""

    def accuracy(*overrides: str, strategy: str) -> float:
        b = bench(*overrides, strategy=strategy, iterations=40)
        weights(b)
        counts = b.evaluator.evaluate(b.strategy, range(5), range(5)).counts["class"]
        return counts.sum().item() / b.evaluator.samples

    naive, replay, joint = accuracy(strategy="naive"), accuracy(strategy="er"), accuracy(strategy="joint")
    assert naive < 0.45 < 0.7 < replay <= joint + 0.02
