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

from clbench import resolve, run_config
from clbench.errors import UserError
from clbench.evaluation.recorder import Recorder
from clbench.rng import Generator
from clbench.runner import components, observer, training_loop
from clbench.strategies import agem, er, gem, power_law_rehearsal
from clbench.strategies.shared.buffers import Buffer
from clbench.strategy import Strategy
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from support import assembled, unwatched, user_module

SPLIT = "split_synthetic-v1"
ONLINE = ["stream.online=50", "training.iterations=2"]  # four experiences of each task


def explicit(*tasks: int) -> list[str]:
    """A stream that visits these tasks."""
    visits = ", ".join(f"{{tasks: [{t}]}}" for t in tasks)
    return [f"stream.schedule={{by: explicit, experiences: [{visits}]}}", f"stream.tasks.count={max(tasks) + 1}"]


def plan(strategy: str, *overrides: str, benchmark: str = SPLIT) -> run_config.RunConfig:
    settings = ["training={iterations: 5, epochs: null, batch_size: 40, optimizer: {name: sgd, lr: 0.1}}", *overrides]
    return resolve.make_run(benchmark, strategy=strategy, overrides=settings)


def bench(strategy: str, *overrides: str, benchmark: str = SPLIT) -> components.Components:
    run = plan(strategy, *overrides, benchmark=benchmark)
    return assembled(run)


def trained(strategy: str, *overrides: str, benchmark: str = SPLIT) -> Any:
    return unwatched(bench(strategy, *overrides, benchmark=benchmark)).strategy


def weights(strategy: str, *overrides: str, benchmark: str = SPLIT) -> Tensor:
    return flat(trained(strategy, *overrides, benchmark=benchmark).model)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def watched(strategy: str, see: Any, *overrides: str, benchmark: str = SPLIT) -> components.Components:
    """Trains, and calls see(strategy, batch) after every update."""
    b = bench(strategy, *overrides, benchmark=benchmark)
    step = b.strategy.step

    def seen(batch: Any) -> Tensor:
        loss = step(batch)
        see(b.strategy, batch)
        return loss

    b.strategy.step = seen  # type: ignore[method-assign]
    unwatched(b)
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
    """Against lists: who holds two less than a largest group takes the oldest from it, else the own oldest leaves."""
    sizes: dict[str, Any] = {"per_group": capacity} if per_group else {"capacity": capacity}
    buffer = Buffer(Generator(0, "b"), keep="last", **sizes)
    # Groups come one after the other, and again.
    group = np.random.default_rng(seed).integers(groups, size=samples) * np.arange(samples) // max(1, samples)
    lists: dict[int, deque[int]] = {}
    for start in range(0, samples, batch):
        index = np.arange(start, min(start + batch, samples))
        position, slot = buffer.add(index, index % 3, group[index])
        assert (buffer.index_of[slot] == index[position]).all()
        for g in np.unique(group[index]).tolist():
            mine = lists.setdefault(g, deque())
            for row in index[group[index] == g].tolist():
                largest = max(reversed(lists.values()), key=len)
                full = len(mine) == capacity if per_group else sum(map(len, lists.values())) == capacity
                if full and not per_group and len(largest) > len(mine) + 1:
                    largest.popleft()
                elif full and not mine:
                    continue
                elif full:
                    mine.popleft()
                mine.append(row)
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
@pytest.mark.parametrize("strategy", ["der", "derpp"])
def test_an_empty_memory_is_naive(strategy: str) -> None:
    """In the first update there is nothing to replay yet."""
    one = ["stream.tasks.count=1", "training.iterations=1"]
    assert torch.equal(weights(strategy, *one), weights("naive", *one))
    two = [one[0], "training.iterations=2"]
    assert not torch.equal(weights(strategy, *two), weights("naive", *two))


def test_er_ace_without_a_memory_is_naive_among_the_classes_of_the_batch() -> None:
    one = ["stream.tasks.count=1"]
    ace = weights("er_ace", *one, "strategy.fill=after")
    assert torch.allclose(ace, weights("naive", *one, "training.active_outputs=batch"), rtol=0, atol=0)
    assert not torch.equal(ace, weights("er_ace", *one))


def test_weights_of_zero() -> None:
    assert torch.equal(weights("der", "strategy.alpha=0"), weights("naive"))
    assert torch.equal(weights("derpp", "strategy.alpha=0", "strategy.beta=0"), weights("naive"))
    assert torch.equal(weights("derpp", "strategy.beta=0"), weights("der"))
    assert not torch.equal(weights("der"), weights("naive"))


# ------------------------------------------------------------------------------------------------ DER
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("overrides", [[], ONLINE, ["strategy.buffer=class_balanced", "strategy.memory_per_class=3"]])
def test_derpp_is_a_loop_by_hand(alpha: float, overrides: list[str]) -> None:
    """Bit for bit. Draws for the labels and what is kept come from one source, draws for the outputs from another."""
    sizes = [] if "strategy.memory_per_class=3" in overrides else ["strategy.memory=50"]
    settings = [f"strategy.alpha={alpha}", "strategy.beta=0.4", "strategy.replay_batch=16", *sizes, *overrides]
    ours = trained("derpp", *settings)

    b = bench("derpp", *settings)
    model, samples, setup = b.strategy.model, b.samples, b.strategy.setup
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    buffer = b.strategy.buffer  # type: ignore[attr-defined] # empty, and nobody else uses it here
    draws, logits_of = setup.new_generator("stored outputs"), dict[int, Tensor]()
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
    b = bench("der", "strategy.memory=60")
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
    b = bench("er_ace", "strategy.memory=30", "strategy.replay_batch=8", "strategy.fill=after")
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


# ------------------------------------------------------------------------------------------------ A-GEM
class Against(agem.AveragedGradientMemory):
    """Its reference is the gradient of the update, times a factor; what it does to the gradient is remembered."""

    factor = 1.0

    def before_update(self, batch: Any) -> None:
        parameters = agem.learning(self.model)
        before = agem.flat(parameters, [p.grad for p in parameters])
        self._projections.apply(self.model, lambda g: agem.projected(g, self.factor * before))
        self.change = agem.flat(parameters, [p.grad for p in parameters]) - before
        self.norm = before.norm()


def test_where_the_constraint_holds_it_is_naive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit; where the reference is the gradient's opposite, nothing is left of it."""
    user_module(monkeypatch, Against, name="against")
    held = trained("against:Against")
    assert torch.equal(flat(held.model), weights("naive"))
    assert held.report() == {"constrained_updates": 25.0, "projected_updates": 0.0}
    monkeypatch.setattr(Against, "factor", -1.0)

    def see(strategy: Any, batch: Any) -> None:
        assert strategy.change.norm() == pytest.approx(strategy.norm.item(), rel=1e-5)

    against = watched("against:Against", see).strategy
    assert against.report() == {"constrained_updates": 25.0, "projected_updates": 25.0}


@pytest.mark.parametrize("strategy", ["agem", "gem"])
def test_one_experience_is_naive(strategy: str) -> None:
    """Nothing is past: there is no constraint."""
    assert torch.equal(weights(strategy, "stream.tasks.count=1"), weights("naive", "stream.tasks.count=1"))
    assert trained(strategy, "stream.tasks.count=1").report()["constrained_updates"] == 0
    several = trained(strategy)
    assert several.report()["constrained_updates"] == 20
    assert 0 < several.report()["projected_updates"] <= 20
    assert not torch.equal(flat(several.model), weights("naive"))


def test_a_gem_in_the_plane() -> None:
    g, r = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0])  # g . r = -1, r . r = 10
    found = agem.projected(g, r)
    assert found is not None
    assert found.tolist() == pytest.approx([2.1, -0.7])
    assert torch.dot(found, r).item() == pytest.approx(0, abs=1e-6)
    assert agem.projected(torch.tensor([3.0, -1.0]), r) is None, "a right angle is not against"


def test_a_gem_is_a_loop_by_hand() -> None:
    settings = ["strategy.memory=40", "strategy.replay_batch=16"]
    ours = trained("agem", *settings)
    b = bench("agem", *settings)
    model, buffer = b.strategy.model, b.strategy.buffer  # type: ignore[attr-defined]
    optimizer, projected_updates = torch.optim.SGD(model.parameters(), lr=0.1), 0
    for number, budget in enumerate(b.budgets):
        experience = b.experience(number)
        for batch in b.batches.of(experience, budget):
            if len(buffer):
                slots = buffer.slots(16)
                x, y = b.samples.fetch(*(torch.from_numpy(of[slots]) for of in (buffer.index_of, buffer.task_of)))
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                r = torch.cat([p.grad.flatten() for p in model.parameters()])
            optimizer.zero_grad()
            F.cross_entropy(model(batch.x), batch.y).backward()
            g = torch.cat([p.grad.flatten() for p in model.parameters()])
            if len(buffer) and g @ r < 0:
                g = g - (g @ r) / (r @ r) * r
                projected_updates += 1
            start = 0
            for p in model.parameters():
                p.grad = g[start : start + p.numel()].view_as(p)
                start += p.numel()
            optimizer.step()
        buffer.add(experience.index, experience.task, b.stream.data.train_y[experience.index])
    assert torch.equal(flat(model), flat(ours.model))
    assert ours.report() == {"constrained_updates": 20, "projected_updates": projected_updates}


class Push(Strategy):
    """A penalty whose gradient is 3 everywhere."""

    def penalty(self) -> Tensor:
        return 3.0 * torch.stack([p.sum() for p in self.model.parameters()]).sum()


def test_a_gem_projects_the_gradient_of_the_whole_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    user_module(monkeypatch, Push, name="push")
    given: list[Tensor] = []
    real = agem.projected
    monkeypatch.setattr(agem, "projected", lambda g, r: given.append(g.clone()) or real(g, r))
    b = bench("agem+push:Push")
    for v in range(2):
        b.strategy.begin_experience(b.experience(v))
        for batch in b.batches.of(b.experience(v), 2):
            before = copy.deepcopy(b.strategy.model)
            b.strategy.step(batch)
            if v:
                own = torch.autograd.grad(F.cross_entropy(before(batch.x), batch.y), list(before.parameters()))
                assert torch.allclose(given[-1], torch.cat([g.flatten() for g in own]) + 3.0, atol=1e-6)
        b.strategy.end_experience(b.experience(v))
    assert len(given) == 2
    assert b.strategy.report()["agem.constrained_updates"] == 2


def test_replay_with_the_projection_uses_the_batch_that_it_replays() -> None:
    """After an update that was projected, the step is at a right angle to the gradient of the samples replayed."""
    b = bench(
        "er_agem", "strategy.loss=weighted", "strategy.new_weight=0.9", "strategy.memory=30", "strategy.replay_batch=10"
    )
    strategy: Any = b.strategy
    found = []
    for v in range(3):
        strategy.begin_experience(b.experience(v))
        for batch in b.batches.of(b.experience(v), 5):
            before = copy.deepcopy(strategy.model)
            state, projections = strategy.setup.generator.state_dict(), strategy.report()["projected_updates"]
            old = strategy.buffer.state_dict()
            loss = strategy.step(batch)
            step = flat(strategy.model) - flat(before)
            if strategy.report()["projected_updates"] > projections:
                again = Buffer(Generator(0, "b"), capacity=30)
                again.load_state_dict(old)
                again._generator.load_state_dict(state)
                slots = again.slots(10)
                x, y = b.samples.fetch(*(torch.from_numpy(of[slots]) for of in (again.index_of, again.task_of)))
                replayed = F.cross_entropy(before(x), y)
                own = 0.9 * F.cross_entropy(before(batch.x), batch.y) + 0.1 * replayed
                assert loss.item() == pytest.approx(own.item(), rel=1e-5), "the same batch"
                r = torch.cat([g.flatten() for g in torch.autograd.grad(replayed, list(before.parameters()))])
                found.append(torch.cosine_similarity(step, r, 0).item())
    assert found, "some were projected"
    assert max(map(abs, found)) < 1e-3


# ------------------------------------------------------------------------------------------------ GEM
@given(
    tasks=st.integers(1, 6),
    size=st.integers(2, 12),
    strength=st.sampled_from([0.0, 0.5, 2.0]),
    scale=st.sampled_from([0.01, 1.0, 100.0]),
    seed=st.integers(0, 2**20),
)
def test_the_dual_meets_its_optimality_conditions(
    tasks: int, size: int, strength: float, scale: float, seed: int
) -> None:
    """Karush-Kuhn-Tucker: v >= s, the gradient of the dual is not negative, and is zero where v > s. The problem being
    convex, they are sufficient. Also with more tasks than dimensions."""
    chance = np.random.default_rng(seed)
    constraints, g = scale * chance.standard_normal((tasks, size)), scale * chance.standard_normal(size)
    gram, products = constraints @ constraints.T + 1e-3 * np.eye(tasks), constraints @ g
    v = gem.multipliers(gram, products, strength)
    slope, size_of = gram @ v + products, np.abs(gram) @ np.abs(v) + np.abs(products)
    assert (v >= strength).all()
    assert (slope >= -1e-9 * size_of).all()
    assert (np.abs(slope) * (v - strength) <= 1e-9 * size_of * np.maximum(1, v)).all()
    double = torch.from_numpy(constraints), torch.from_numpy(g)
    found = gem.projected(double[1], double[0], strength)
    if (products >= 0).all():
        assert found is None
    else:
        assert found is not None
        assert np.allclose(found.numpy(), g + constraints.T @ v, rtol=1e-9, atol=1e-9 * scale)
        if strength == 0:
            # G g~ = slope - ridge v: no constraint is violated by more than the ridge allows.
            assert (constraints @ found.numpy() >= -1e-3 * v - 1e-9 * size_of).all()


def test_gem_by_hand() -> None:
    """Two constraints at right angles, one violated; the ridge of 1e-3 as the authors have it."""
    g, constraints = torch.tensor([-3.0, 4.0], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    found = gem.projected(g, constraints, 0.0)
    assert found is not None
    assert found.tolist() == pytest.approx([-3 + 3 / 1.001, 4.0])
    pulled = gem.projected(g, constraints, 0.5)
    assert pulled is not None
    assert pulled.tolist() == pytest.approx([-3 + 3 / 1.001, 4.5]), "v is at least the memory strength everywhere"
    assert gem.projected(-g, constraints[:1], 0.5) is None


@given(st.integers(0, 2**20))
def test_gem_with_one_constraint_is_a_gem(seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    g, r = torch.randn(2, 20, generator=chance, dtype=torch.float64)
    one, other = gem.projected(g, r[None], 0.0, 0.0), agem.projected(g, r)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("overrides", [[], ONLINE])
@pytest.mark.parametrize("per", ["task", "experience"])
def test_gem_is_constrained_by_every_other_task(
    per: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many constraints as tasks that came before, each the gradient on that task's memory alone; online
    sub-experiences of one task are one."""
    numbers, tasks = [], []
    real = gem.projected

    def counted(g: Tensor, constraints: Tensor, *args: Any) -> Tensor | None:
        numbers.append(len(constraints))
        return real(g, constraints, *args)

    fetched = gem.GradientEpisodicMemory.fetch

    def seen(self: Any, slots: Any) -> Any:
        found = fetched(self, slots)
        tasks.append(set(found[2].tolist()))
        assert len(slots) == 15
        return found

    monkeypatch.setattr(gem, "projected", counted)
    monkeypatch.setattr(gem.GradientEpisodicMemory, "fetch", seen)
    strategy = trained("gem", f"strategy.per={per}", "strategy.memory_each=15", *overrides)
    updates = 8 if overrides else 5
    assert numbers == [k for k in range(1, 5) for _ in range(updates)]
    assert tasks == [{t} for k in range(1, 5) for _ in range(updates) for t in range(k)]
    assert strategy.memory().samples == 75


def test_a_task_that_comes_again_does_not_constrain_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    again = explicit(0, 1, 0)
    numbers: list[int] = []
    real = gem.projected
    monkeypatch.setattr(gem, "projected", lambda g, c, *a: numbers.append(len(c)) or real(g, c, *a))
    trained("gem", *again)
    assert numbers == [1] * 10
    numbers.clear()
    trained("gem", "strategy.per=experience", *again)
    assert numbers == [1] * 5 + [2] * 5


# ------------------------------------------------------------------------------------------------ power-law rehearsal
def test_the_weights_of_power_law_rehearsal_by_hand() -> None:
    lags = np.array([1, 2, 4])
    assert power_law_rehearsal.chances(lags, 1.0).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    assert power_law_rehearsal.chances(lags, 2.0).tolist() == pytest.approx([16 / 21, 4 / 21, 1 / 21])
    assert power_law_rehearsal.chances(lags, 1e-12).tolist() == pytest.approx([1 / 3] * 3)
    assert power_law_rehearsal.chances(np.array([10, 20]), 1000.0).tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize("overrides", [[], ONLINE])
def test_tasks_are_drawn_with_these_weights(overrides: list[str]) -> None:
    """20,000 draws in the last of five experiences; lags 4 to 1, however finely an online stream was cut.

    Chi-square of four counts: below 16.3 with probability 0.999; the seed is fixed.
    """
    b = bench("power_law_rehearsal", "strategy.exponent=1.5", "strategy.memory=50", *overrides)
    strategy: Any = b.strategy
    for v in range(len(b.budgets)):
        strategy.begin_experience(b.experience(v))
        for batch in b.batches.of(b.experience(v), 2):
            strategy.step(batch)
        if v < len(b.budgets) - 1:
            strategy.end_experience(b.experience(v))
    x, y, task = strategy.replayed(20_000)
    counts = np.bincount(task.numpy(), minlength=5)
    assert counts[4] == 0, "what is being learnt is not rehearsed"
    weights = np.array([4.0, 3.0, 2.0, 1.0]) ** -1.5
    expected = 20_000 * weights / weights.sum()
    assert ((counts[:4] - expected) ** 2 / expected).sum() < 16.3
    within = [np.bincount(y.numpy()[task.numpy() == t]) for t in range(4)]
    assert all(len(np.flatnonzero(c)) == 2 for c in within), "both classes of each"
    assert len(x) == 20_000


def test_the_clock_of_a_task_that_comes_again_is_set_back() -> None:
    b = bench("power_law_rehearsal", "strategy.memory=30", *explicit(0, 1, 2, 0, 2))
    lags = []
    for v in range(5):
        b.strategy.begin_experience(b.experience(v))
        last, clock = b.strategy._last, b.strategy._clock  # type: ignore[attr-defined]
        lags.append({t: clock - n for t, n in last.items()})
    assert lags == [{0: 0}, {0: 1, 1: 0}, {0: 2, 1: 1, 2: 0}, {0: 0, 1: 2, 2: 1}, {0: 1, 1: 3, 2: 0}]


def test_power_law_rehearsal_replays_as_many_as_er(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[str, list[int]] = {}
    for name in ("power_law_rehearsal", "er"):
        b = bench(name, "strategy.memory=40", "strategy.fill=after")
        forward, seen = b.strategy.model.forward, sizes.setdefault(name, [])
        b.strategy.model.forward = lambda x, f=forward, s=seen: (s.append(len(x)), f(x))[1]  # type: ignore
        unwatched(b)
    assert sizes["power_law_rehearsal"] == sizes["er"] == [40] * 5 + [80] * 20


# ------------------------------------------------------------------------------------------------ averaged weights
def test_averaged_weights_by_hand_and_training_untouched() -> None:
    average: list[Tensor] = []

    def see(strategy: Any, batch: Any) -> None:
        average.append(0.9 * (average[-1] if average else first) + 0.1 * flat(strategy.model))

    first = flat(bench("ema").strategy.model)
    strategy: Any = watched("ema", see, "strategy.momentum=0.9").strategy
    assert torch.allclose(torch.cat([t.flatten() for t in strategy._average.values()]), average[-1], atol=1e-6)
    assert torch.equal(flat(strategy.model), weights("naive"))
    x = torch.randn(7, 32)
    model = copy.deepcopy(strategy.model)
    nn.utils.vector_to_parameters(average[-1], model.parameters())
    assert torch.allclose(strategy.predict(strategy.model, x, None), model(x), atol=1e-5)
    assert strategy.memory().bytes == 4 * len(first)
    assert torch.equal(weights("er+ema"), weights("er+naive"))


def test_what_the_average_predicts_is_what_is_recorded_beside_the_weights() -> None:
    recorded = []
    for name, overrides in (("naive", ["watch.ema=[0.8]"]), ("ema", ["strategy.momentum=0.8"])):
        b = bench(name, *overrides)
        recorder = Recorder(b.device)
        training_loop.train(b, observer.Observation(b, recorder, lambda: None))
        recorded.append(recorder.chunk())
    counts = [{k: v for k, v in chunk.items() if "correct" in k} for chunk in recorded]
    assert sorted(counts[1]) == ["correct.class", "correct.task"]
    for key, found in counts[1].items():
        assert (found == counts[0][f"{key}.ema_0.8"]).all()
        assert (found != counts[0][key]).any()


def test_averaged_weights_under_batch_norm_and_watched() -> None:
    """The average has running statistics of its own; being watched changes neither it nor the network."""
    norm = [
        "model={name: slim_resnet18, filters: 2}",
        "stream.tasks.count=2",
        "training={iterations: 3, batch_size: 8}",
    ]
    strategy: Any = trained("er+ema", *norm, benchmark="split_digits-v1")
    b = bench("er+ema", *norm, benchmark="split_digits-v1")
    training_loop.train(b, observer.Observation(b, Recorder(b.device), lambda: None))
    assert_same(b.strategy.state_dict(), strategy.state_dict())
    member = strategy.members["ema"]
    means = [n for n in member._average if n.endswith("running_mean")]
    assert means
    assert not torch.equal(member._average[means[0]], strategy.model.state_dict()[means[0]])


# ------------------------------------------------------------------------------------------------ what is held
REPLAYING = [
    ("er", []),
    ("der", []),
    ("derpp", []),
    ("er_ace", []),
    ("agem", ["strategy.fill=online"]),
    ("er_agem", []),
]


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
    ("agem", ["strategy.fill=online"]),
    ("er", ["strategy.buffer=ring", "strategy.memory_per_class=4"]),
    ("er", ["strategy.buffer=task_ring", "strategy.memory=20"]),
    ("derpp", ["strategy.buffer=class_balanced", "strategy.memory_per_class=4"]),
    ("er_ace", ["strategy.fill=after"]),
    ("gem", ["strategy.memory=20", "strategy.keep=random"]),
    ("gem", ["strategy.per=experience", "strategy.memory_each=20", *ONLINE]),
    ("power_law_rehearsal", ["strategy.buffer=class_balanced", *ONLINE]),
    ("er+ema", []),
    ("er+agem", []),
]
"""Those with their defaults are among the tests of the whole table, in runner/test_resume.py."""


@pytest.mark.parametrize(("strategy", "overrides"), RESUMED)
def test_stopped_anywhere_it_goes_on_the_same(strategy: str, overrides: list[str]) -> None:
    check_resume(plan(strategy, *overrides))


@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [("der", []), ("er_ace", []), ("gem", []), ("er_agem", []), ("ema", []), ("agem", ["strategy.fill=online"])],
)
def test_boundaries_need_not_be_known(strategy: str, overrides: list[str]) -> None:
    denied = trained(strategy, "protocol.boundaries=false", *overrides)
    assert torch.equal(flat(denied.model), flat(trained(strategy, *overrides).model))


@pytest.mark.parametrize("strategy", ["derpp", "er_ace", "agem", "gem", "er_agem", "power_law_rehearsal"])
def test_domains_augmentation_and_batch_norm(strategy: str) -> None:
    """Classes that come in several tasks, images that are changed anew whenever they are fetched, two networks."""
    trained(strategy, "training.augmentation=[{name: random_crop, padding: 1}]", benchmark="permuted_digits-v1")
    norm = "model={name: slim_resnet18, filters: 2}"
    trained(strategy, norm, "stream.tasks.count=2", "training.iterations=2", benchmark="split_digits-v1")


def test_a_share_counts_an_experience_once_however_finely_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[float]()

    def weighted(new: Tensor, replayed: Tensor, new_weight: float) -> Tensor:
        told.append(new_weight)
        return new_weight * new + (1 - new_weight) * replayed

    monkeypatch.setattr(er, "weighted_loss", weighted)
    trained("er", "strategy.loss=weighted", "strategy.memory=50", *ONLINE)
    # Two updates in each of four pieces of five experiences; nothing is held at the first of all.
    assert told == [1.0 / k for k in range(1, 6) for _ in range(8)][1:]


def test_gem_of_huge_gradients_that_are_nearly_equal() -> None:
    """As in a run that diverges: 1e-3 is nothing beside 1e17, and the two constraints are one to rounding."""
    one = torch.full((50,), 3e7)
    constraints = torch.stack([one, one * (1 + 1e-7)])
    found = gem.projected(-one, constraints, 0.0)
    assert found is not None
    assert float(((constraints @ found) / constraints.square().sum(1)).min()) > -1e-4


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("strategy", "overrides", "sentence"),
    [
        ("er", ["strategy.buffer=class_balanced", "strategy.memory=9"],
         "strategy.memory: got 9, which is less than a sample for each of the 10 classes. Allowed: 10 or more."),
        ("der", ["strategy.buffer=task_ring", "strategy.memory=4"],
         "strategy.memory: got 4, which is less than a sample for each of the 5 tasks. Allowed: 5 or more."),
        ("er_ace", ["training.loss=squared_error"],
         "training.loss: got 'squared_error', and ER-ACE is a cross-entropy."),
        ("er_ace", ["training.active_outputs=batch"],
         "training.active_outputs: got 'batch', and ER-ACE says itself which outputs compete."),
        ("er", ["strategy.buffer=ring", "strategy.fill=after"],
         "'buffer: ring' keeps the last samples learnt from and needs 'fill: online'."),
        ("der", ["strategy.memory_per_class=9"],
         "'memory_per_class' needs 'buffer: class_balanced' or 'buffer: ring'."),
        ("der", ["strategy.alpha=-1"], "Allowed: a number >= 0."),
        ("gem", ["strategy.memory=4"],
         "strategy.memory: got 4, which is less than a sample for each of the 5 tasks. Allowed: 5 or more."),
        ("gem", ["strategy.memory=40", "strategy.memory_each=4"], "give either 'memory' or 'memory_each'."),
        ("gem", ["strategy.memory=40", "strategy.per=experience"],
         "'per: experience' needs 'memory_each': how many experiences will share is not known."),
        ("gem", ["protocol.task_in_training=false"], "task_in_training"),
        ("power_law_rehearsal", ["strategy.exponent=0"], "strategy.exponent: got 0. Allowed: a number > 0."),
        ("power_law_rehearsal", ["strategy.buffer=reservoir"], "Allowed: task_balanced, class_balanced."),
        ("power_law_rehearsal", ["protocol.boundaries=false"], "boundaries"),
    ],
)  # fmt: skip
def test_what_is_refused(strategy: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        bench(strategy, *overrides)
    assert sentence in str(caught.value)
