"""Methods that replay: reductions to simpler ones bit for bit, losses and projections by hand, what is held."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from clbench import resolve, runner
from clbench.chance import Generator
from clbench.errors import UserError
from clbench.stream import compile_stream
from clbench.testing import check_resume
from strategies.buffers import Buffer

SPLIT = "split_synthetic-v1"
ONLINE = ["stream.online=50", "training.iterations=2"]  # four experiences of each task
DER, DERPP, ACE = "strategies.der:DarkReplay", "strategies.der:DarkReplayPlus", "strategies.er_ace:AsymmetricReplay"


def plan(strategy: str, *overrides: str, benchmark: str = SPLIT) -> resolve.RunConfig:
    settings = ["training={iterations: 5, epochs: null, batch_size: 40, optimizer: {name: sgd, lr: 0.1}}", *overrides]
    return resolve.make_run(benchmark, strategy=strategy, overrides=settings)


def bench(strategy: str, *overrides: str, benchmark: str = SPLIT) -> runner.Workbench:
    run = plan(strategy, *overrides, benchmark=benchmark)
    return runner.assemble(run, compile_stream(run.benchmark.stream, 0))


def trained(strategy: str, *overrides: str, benchmark: str = SPLIT) -> Any:
    b = bench(strategy, *overrides, benchmark=benchmark)
    runner.train(b, runner.Observation(b, None, lambda: None))
    return b.strategy


def weights(strategy: str, *overrides: str, benchmark: str = SPLIT) -> Tensor:
    return flat(trained(strategy, *overrides, benchmark=benchmark).model)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def watched(strategy: str, see: Any, *overrides: str, benchmark: str = SPLIT) -> runner.Workbench:
    """Trains, and calls see(strategy, batch) after every update."""
    b = bench(strategy, *overrides, benchmark=benchmark)
    step = b.strategy.step

    def seen(batch: Any) -> Tensor:
        loss = step(batch)
        see(b.strategy, batch)
        return loss

    b.strategy.step = seen  # type: ignore[method-assign]
    runner.train(b, runner.Observation(b, None, lambda: None))
    return b


# ------------------------------------------------------------------------------------------------ the ring buffer
@given(
    capacity=st.integers(1, 30),
    per_group=st.booleans(),
    groups=st.integers(1, 6),
    samples=st.integers(0, 150),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2**20),
)
def test_a_ring_holds_exactly_the_last_samples_of_each_group(
    capacity: int, per_group: bool, groups: int, samples: int, batch: int, seed: int
) -> None:
    """Against lists: groups share the memory, and the oldest leave when another group is met."""
    sizes: dict[str, Any] = {"per_group": capacity} if per_group else {"capacity": capacity}
    buffer = Buffer(Generator(0, "b"), keep="last", **sizes)
    group = np.random.default_rng(seed).integers(groups, size=samples)
    lists: dict[int, deque[int]] = {}
    for start in range(0, samples, batch):
        index = np.arange(start, min(start + batch, samples))
        position, slot = buffer.add(index, index % 3, group[index])
        assert (buffer.index_of[slot] == index[position]).all()
        for g in np.unique(group[index]).tolist():
            lists.setdefault(g, deque())
            for rank, held in enumerate(lists.values()):
                share = capacity if per_group else (capacity - rank + len(lists) - 1) // len(lists)
                while len(held) > share:
                    held.popleft()
            rank = list(lists).index(g)
            share = capacity if per_group else (capacity - rank + len(lists) - 1) // len(lists)
            lists[g] = deque([*lists[g], *index[group[index] == g].tolist()], maxlen=share)
        held = buffer.index
        assert sorted(held.tolist()) == sorted(i for one in lists.values() for i in one)
        assert (buffer.task == held % 3).all()
        assert all(set(buffer.index_of[buffer.slots_of(g)].tolist()) == set(one) for g, one in lists.items())
    again = Buffer(Generator(0, "b"), keep="last", **sizes)
    again.load_state_dict(copy.deepcopy(buffer.state_dict()))
    more = np.arange(1000, 1037)
    for one in (buffer, again):
        one.add(more, more % 3, more % groups)
    assert again.index.tolist() == buffer.index.tolist()


def test_er_with_a_ring_replays_the_last_of_each_class() -> None:
    last: dict[int, deque[int]] = {}

    def see(strategy: Any, batch: Any) -> None:
        for row, label in zip(batch.index.tolist(), batch.y.tolist(), strict=True):
            last.setdefault(label, deque(maxlen=6)).append(row)
        assert sorted(strategy.buffer.index.tolist()) == sorted(row for held in last.values() for row in held)

    b = watched("er", see, "strategy.buffer=ring", "strategy.memory_per_class=6")
    assert len(b.strategy.held()[0]) == 60


# ------------------------------------------------------------------------------------------------ reductions
@pytest.mark.parametrize("strategy", [DER, DERPP])
def test_an_empty_memory_is_naive(strategy: str) -> None:
    """In the first update there is nothing to replay yet."""
    one = ["stream.tasks.count=1", "training.iterations=1"]
    assert torch.equal(weights(strategy, *one), weights("naive", *one))
    two = [one[0], "training.iterations=2"]
    assert not torch.equal(weights(strategy, *two), weights("naive", *two))


def test_er_ace_without_a_memory_is_naive_among_the_classes_of_the_batch() -> None:
    one = ["stream.tasks.count=1"]
    ace = weights(ACE, *one, "strategy.fill=after")
    assert torch.allclose(ace, weights("naive", *one, "training.active_outputs=batch"), rtol=0, atol=0)
    assert not torch.equal(ace, weights(ACE, *one))


def test_weights_of_zero() -> None:
    assert torch.equal(weights(DER, "strategy.alpha=0"), weights("naive"))
    assert torch.equal(weights(DERPP, "strategy.alpha=0", "strategy.beta=0"), weights("naive"))
    assert torch.equal(weights(DERPP, "strategy.beta=0"), weights(DER))
    assert not torch.equal(weights(DER), weights("naive"))


# ------------------------------------------------------------------------------------------------ DER
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("overrides", [[], ONLINE, ["strategy.buffer=class_balanced", "strategy.memory_per_class=3"]])
def test_derpp_is_a_loop_by_hand(alpha: float, overrides: list[str]) -> None:
    """Bit for bit. Draws for the labels and what is kept come from one source, draws for the outputs from another."""
    sizes = [] if "strategy.memory_per_class=3" in overrides else ["strategy.memory=50"]
    settings = [f"strategy.alpha={alpha}", "strategy.beta=0.4", "strategy.replay_batch=16", *sizes, *overrides]
    ours = trained(DERPP, *settings)

    b = bench(DERPP, *settings)
    model, samples, setup = b.strategy.model, b.samples, b.strategy.setup
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    buffer = b.strategy.buffer  # type: ignore[attr-defined] # empty, and nobody else uses it here
    draws, logits_of = setup.another("stored outputs"), dict[int, Tensor]()
    for number, budget in enumerate(b.budgets):
        for batch in b.batches.of(b.experience(number), budget):
            out = model(batch.x)
            loss = F.cross_entropy(out, batch.y)
            if len(buffer) and alpha:
                slots = buffer.slots(16, draws)
                x, _ = samples.fetch(*(torch.from_numpy(of[slots]) for of in (buffer.index_of, buffer.task_of)))
                stored = torch.stack([logits_of[s] for s in slots.tolist()])
                loss = loss + alpha * F.mse_loss(model(x), stored)
            if len(buffer):
                slots = buffer.slots(16)
                x, y = samples.fetch(*(torch.from_numpy(of[slots]) for of in (buffer.index_of, buffer.task_of)))
                loss = loss + 0.4 * F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            index = batch.index.numpy()
            classes = b.stream.data.train_y[index]
            position, slot = buffer.add(
                index, np.full(len(index), batch.task), np.zeros_like(index) if sizes else classes
            )
            logits_of |= {s: out[p].detach() for p, s in zip(position.tolist(), slot.tolist(), strict=True)}
    assert torch.equal(flat(model), flat(ours.model))
    assert sorted(buffer.index.tolist()) == sorted(ours.buffer.index.tolist())
    for s, logits in logits_of.items():
        assert torch.equal(ours._stored[s], logits)


def test_stored_outputs_are_those_of_the_update_that_brought_the_sample() -> None:
    b = bench(DER, "strategy.memory=60")
    strategy: Any = b.strategy
    strategy.begin_experience(b.experience(0))
    batches = b.batches.of(b.experience(0), 3)
    first = next(batches)
    with torch.no_grad():
        before = strategy.model(first.x)
    strategy.step(first)
    of = {row: before[i] for i, row in enumerate(first.index.tolist())}

    def check() -> int:
        slots = [s for s in strategy.buffer._occupied[: len(strategy.buffer)].tolist()]
        mine = [s for s in slots if int(strategy.buffer.index_of[s]) in of]
        for s in mine:
            assert torch.equal(strategy._stored[s], of[int(strategy.buffer.index_of[s])])
        return len(mine)

    assert check() == 40
    strategy.step(next(batches))
    strategy.step(next(batches))
    assert 0 < check() <= 40
    assert strategy.memory().samples == 60
    assert strategy.memory().bytes == 60 * (32 * 4 + 8) + 60 * 10 * 4, "inputs and labels, and ten outputs each"


# ------------------------------------------------------------------------------------------------ ER-ACE
def test_the_loss_of_er_ace_by_hand() -> None:
    b = bench(ACE, "strategy.memory=30", "strategy.replay_batch=8", "strategy.fill=after")
    strategy: Any = b.strategy
    for v in range(2):
        strategy.begin_experience(b.experience(v))
        for batch in b.batches.of(b.experience(v), 2):
            strategy.step(batch)
        strategy.end_experience(b.experience(v))
    batch = next(b.batches.of(b.experience(2), 1))
    state = strategy.setup.generator.state_dict()
    loss = strategy.loss(batch)
    strategy.setup.generator.load_state_dict(state)
    x, y, _ = strategy.fetch(strategy.buffer.slots(8))
    present = sorted(set(batch.y.tolist()))
    seen = sorted({o for t in b.stream.tasks[:3] for o in t.targets})
    assert (len(present), len(seen)) == (2, 6)

    def by_hand(x: Tensor, y: Tensor, among: list[int]) -> Tensor:
        z = strategy.model(x).double()
        return (z[:, among].exp().sum(1).log() - z[torch.arange(len(y)), y]).mean()

    expected = by_hand(batch.x, batch.y, present) + by_hand(x, y, seen)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    strategy.optimizer.zero_grad()
    loss.backward()
    bias = strategy.model[-1].bias.grad
    assert torch.isfinite(bias).all()
    unseen = [o for o in range(10) if o not in seen]
    assert (bias[unseen] == 0).all(), "outputs of classes not seen do not compete"
    assert (bias[seen] != 0).all()


# ------------------------------------------------------------------------------------------------ what is held
REPLAYING = [("er", []), (DER, []), (DERPP, []), (ACE, [])]


@pytest.mark.parametrize("buffer", ["reservoir", "class_balanced", "task_balanced", "ring", "task_ring"])
@pytest.mark.parametrize(("strategy", "more"), REPLAYING)
def test_the_memory_is_bounded_at_every_update_and_every_task_is_in_it(
    strategy: str, more: list[str], buffer: str
) -> None:
    sizes = []

    def see(strategy: Any, batch: Any) -> None:
        sizes.append(len(strategy.held()[0]))
        assert strategy.memory().samples == sizes[-1]

    b = watched(strategy, see, "strategy.memory=40", f"strategy.buffer={buffer}", *ONLINE, *more)
    assert len(b.budgets) == 20, "four experiences of each of five tasks"
    assert sizes[0] == 40
    assert max(sizes) == 40
    assert set(b.strategy.held()[1].tolist()) == set(range(5))
    if buffer in ("task_balanced", "task_ring"):
        assert np.bincount(b.strategy.held()[1]).tolist() == [8] * 5


RESUMED = [
    *REPLAYING,
    ("er", ["strategy.buffer=ring", "strategy.memory_per_class=4"]),
    ("er", ["strategy.buffer=task_ring", "strategy.memory=20"]),
    (DERPP, ["strategy.buffer=class_balanced", "strategy.memory_per_class=4"]),
    (ACE, ["strategy.fill=after"]),
]


@pytest.mark.parametrize(("strategy", "overrides"), RESUMED)
def test_stopped_anywhere_it_goes_on_the_same(strategy: str, overrides: list[str]) -> None:
    check_resume(plan(strategy, *overrides))


@pytest.mark.parametrize("strategy", [DERPP, ACE])
def test_domains_augmentation_and_batch_norm(strategy: str) -> None:
    """Classes that come in several tasks, images that are changed anew whenever they are fetched, two networks."""
    trained(strategy, "training.augmentation=[{name: random_crop, padding: 1}]", benchmark="permuted_digits-v1")
    norm = "model={name: slim_resnet18, filters: 2}"
    trained(strategy, norm, "stream.tasks.count=2", "training.iterations=2", benchmark="split_digits-v1")


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("strategy", "overrides", "sentence"),
    [
        ("er", ["strategy.buffer=class_balanced", "strategy.memory=9"],
         "strategy.memory: got 9, which is less than a sample for each of the 10 classes. Allowed: 10 or more."),
        (DER, ["strategy.buffer=task_ring", "strategy.memory=4"],
         "strategy.memory: got 4, which is less than a sample for each of the 5 tasks. Allowed: 5 or more."),
        (ACE, ["training.loss=squared_error"],
         "training.loss: got 'squared_error', and ER-ACE is a cross-entropy."),
        ("er", ["strategy.buffer=ring", "strategy.fill=after"],
         "'buffer: ring' keeps the last samples learnt from and needs 'fill: online'."),
        (DER, ["strategy.memory_per_class=9"],
         "'memory_per_class' needs 'buffer: class_balanced' or 'buffer: ring'."),
        (DER, ["strategy.alpha=-1"], "Allowed: a number >= 0."),
    ],
)  # fmt: skip
def test_what_is_refused(strategy: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        bench(strategy, *overrides)
    assert sentence in str(caught.value)
