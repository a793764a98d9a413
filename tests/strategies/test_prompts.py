"""Methods with prompts: equations against loops, whole updates by hand, what later experiences leave, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import support
from clbench.errors import UserError
from clbench.evaluation.twin import is_ordinary
from clbench.runner import observer, training_loop
from clbench.strategies.shared import prompt_rules
from clbench.testing.resume import check_resume

NAMES = ("l2p", "dualprompt", "coda_prompt")
MODEL = "model={name: transformer, patch: 4, width: 16, depth: 3, heads: 2}"
ADAM = "training.optimizer={name: adam, lr: 0.01, weight_decay: 0.1}"
SGD = "training.optimizer={name: sgd, lr: 0.01, momentum: 0.9, weight_decay: 0.1}"
TWO = "stream.tasks.count=2"
AGAIN = (
    "stream.schedule={by: explicit, experiences: [{tasks: [0], samples: 60}, {tasks: [1]}, {tasks: [0], samples: 60}]}"
)
SMALL = {
    "l2p": "strategy={pool: 6, length: 2, top: 2}",
    "dualprompt": "strategy={tasks: 5, expert_length: 4}",
    "coda_prompt": "strategy={pool: 10, experiences: 5, length: 4}",
}


def run(name: str, *overrides: str, benchmark: str = support.DIGITS) -> Any:
    return support.make_run(name, MODEL, SMALL[name], *overrides, benchmark=benchmark, iterations=4)


def grown(name: str, *overrides: str, benchmark: str = support.DIGITS, after: Any = None) -> Any:
    """The bench after the stream; `after(strategy)` is called at the end of each experience."""
    bench = support.assembled(run(name, *overrides, benchmark=benchmark))
    training_loop.train(
        bench,
        observer.Observation(bench, None, lambda: None),
        lambda: None if after is None else after(bench.strategy),
    )
    return bench


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ equations
def test_attention_and_assembly_are_those_of_a_loop() -> None:
    """Double precision: sums of some tens of terms agree to 1e-12."""
    q, a, k, p = random(5, 7), random(2, 3, 7, seed=1), random(2, 3, 7, seed=2), random(2, 3, 4, 7, seed=3)
    weights = prompt_rules.attention(q, a, k)
    whole = prompt_rules.assembled(weights, p)
    for b in range(2):
        for n in range(5):
            expected = torch.zeros(4, 7, dtype=torch.float64)
            for m in range(3):
                alpha = F.cosine_similarity(q[n] * a[b, m], k[b, m], dim=0)
                torch.testing.assert_close(weights[b, n, m], alpha, rtol=1e-12, atol=1e-12)
                expected += alpha * p[b, m]
            torch.testing.assert_close(whole[b, n], expected, rtol=1e-12, atol=1e-12)
    assert prompt_rules.orthogonality(torch.stack([torch.eye(3), 2 * torch.eye(3)])).item() == 27.0


def test_the_pull_is_over_a_samples_own_keys() -> None:
    similarities = random(6, 5)
    chosen = prompt_rules.closest(similarities, 2)
    by_hand = [sum(1 - similarities[n, m] for m in chosen[n]) for n in range(6)]
    torch.testing.assert_close(prompt_rules.pull(similarities, chosen), torch.stack(by_hand).mean(), rtol=1e-12, atol=0)
    assert [set(row.tolist()) for row in chosen] == [set(np.argsort(-row)[:2].tolist()) for row in similarities.numpy()]


def test_new_components_are_orthonormal_and_orthogonal_to_older_ones() -> None:
    older, drawn = random(3, 8), random(4, 8, seed=1)
    rows = prompt_rules.orthonormal(drawn, older)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows @ older.T, torch.zeros(4, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    too_many = prompt_rules.orthonormal(random(6, 8), older)
    torch.testing.assert_close(too_many.norm(dim=1), torch.ones(6, dtype=torch.float64), rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------ updates by hand
def by_hand(strategy: Any, x: Tensor, y: Tensor, allowed: list[int], name: str) -> Tensor:
    """The loss of the first experience, sample by sample."""
    encoder, head, pool = strategy.prompted.encoder, strategy.head, strategy.prompts
    total = torch.zeros(())
    for sample, target in zip(x, y, strict=True):
        q = encoder(sample[None]).detach()[0]
        prompts, prefixes, term = None, None, torch.zeros(())
        if name == "l2p":
            cosines = F.cosine_similarity(q[None], pool.keys, dim=1)
            best = cosines.argsort(descending=True)[:2]
            prompts = torch.cat([pool.prompts[m] for m in best])[None]
            term = 0.1 * sum(1 - cosines[m] for m in best)
        elif name == "dualprompt":
            prefixes = {b: (g[:3], g[3:]) for b, g in zip((0, 1), pool.general, strict=True)}
            prefixes[2] = pool.expert[0][0, :2], pool.expert[0][0, 2:]
            term = 1 - F.cosine_similarity(q, pool.keys[0], dim=0)
        else:
            prefixes = {}
            for b in range(3):
                p, k, a = (part[0][b] for part in (pool.components, pool.keys, pool.attention))
                mixed = sum(F.cosine_similarity(q * a[m], k[m], dim=0) * p[m] for m in range(2))
                prefixes[b] = mixed[:2], mixed[2:]
                for rows in (p.flatten(1), k, a):
                    term = term + 0.1 * (rows @ rows.T - torch.eye(2)).square().sum()
        logits = head(encoder(sample[None], prompts, prefixes))[0, allowed]
        total = total + term - logits.log_softmax(0)[allowed.index(int(target))]
    return total / len(x)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_a_loss_by_hand(name: str) -> None:
    """In float32, of sums in another order: a few thousand units in the last place."""
    bench = support.assembled(run(name))
    strategy, experience = bench.strategy, bench.experience(0)
    strategy.begin_experience(experience)
    batch = next(iter(bench.batches.of(experience, bench.budgets[0])))
    wanted = [p for p in strategy.model.parameters() if p.requires_grad]
    loss = strategy.loss(batch)
    expected = by_hand(strategy, batch.x, batch.y, list(experience.outputs), name)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    pairs = zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True)
    for ours, others in pairs:
        torch.testing.assert_close(ours, others, rtol=1e-3, atol=1e-5)
    others = [c for c in range(10) if c not in experience.outputs]
    loss = strategy.loss(batch)
    assert not torch.autograd.grad(loss, strategy.head.weight)[0][others].any(), "no gradient, as exp(-inf) is 0"


# ------------------------------------------------------------------------------------------------ laws
@pytest.mark.parametrize("optimizer", [ADAM, SGD])
@pytest.mark.parametrize("name", ["dualprompt", "coda_prompt"])
def test_later_experiences_leave_earlier_prompts_bit_for_bit(name: str, optimizer: str) -> None:
    kept: list[list[Tensor]] = []

    def look(strategy: Any) -> None:
        for number, before in enumerate(kept):
            now = [parameters[number] for parameters in strategy.prompts.parts]
            assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
        kept.append([parameters[len(kept)].detach().clone() for parameters in strategy.prompts.parts])

    start = support.assembled(run(name, optimizer)).strategy
    bench = grown(name, optimizer, after=look)
    assert len(kept) == 5
    first = start.prompts.parts[-1][0]
    assert not torch.equal(kept[0][-1], first), "the first experience trained its own"
    encoders = (s.prompted.encoder.state_dict() for s in (start, bench.strategy))
    assert all(torch.equal(a, b) for a, b in zip(*(e.values() for e in encoders), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_records_are_those_of_predictions_one_by_one(name: str) -> None:
    """The last evaluation recorded what the model predicts for each test sample alone, in the plain way: a choice of
    prompts jumps, which neither selection nor reduced precision expects."""
    bench = support.assembled(run(name))
    recorder = support.watched(bench)
    evaluator, strategy = bench.evaluator, bench.strategy
    assert not is_ordinary(strategy.model)
    with torch.no_grad():
        x = evaluator._inputs.between(0, evaluator.samples)
        alone = torch.cat([strategy.predict(strategy.model, row[None], None) for row in x])
    right = int((alone.argmax(1) == evaluator._targets).sum())
    assert recorder.chunk()["correct.class"][-1].sum() == right


@pytest.mark.parametrize("name", NAMES)
def test_it_resumes_bit_for_bit(name: str) -> None:
    check_resume(run(name, ADAM))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("benchmark", "overrides"),
    [
        ("split_digits-v1", ["stream.setting=task"]),
        ("permuted_digits-v1", ["stream.tasks.count=3"]),
        ("split_digits-v1", [TWO, AGAIN]),
        ("split_digits-v1", [TWO, "stream.online=200"]),
    ],
)  # fmt: skip
def test_every_setting(name: str, benchmark: str, overrides: list[str]) -> None:
    """Task-incremental, domain-incremental, a task that comes again, an online stream: weights stay finite, and the
    pools are open where they should be."""
    bench = grown(name, *overrides, benchmark=benchmark)
    assert all(bool(p.isfinite().all()) for p in bench.strategy.model.parameters())
    tasks = len(bench.stream.tasks)
    known = {"l2p": None, "dualprompt": tasks, "coda_prompt": tasks + (AGAIN in overrides)}
    assert getattr(bench.strategy.prompts, "known", None) == known[name]


def test_memory_is_counted_by_hand() -> None:
    bytes_of = {name: support.assembled(run(name)).strategy.memory().bytes for name in NAMES}
    assert bytes_of == {
        "l2p": 4 * 6 * (2 * 16 + 16),
        "dualprompt": 4 * (2 * 6 * 16 + 5 * (4 * 16 + 16)),
        "coda_prompt": 4 * 3 * 10 * (4 * 16 + 2 * 16),
    }


def test_a_majority_is_taken_in_training_alone() -> None:
    bench = grown("l2p", "strategy={pool: 6, length: 2, top: 2, selection: majority}")
    strategy = bench.strategy
    experience = bench.experience(0)
    rows, task = (torch.from_numpy(v[:40]) for v in (experience.index, experience.task))
    x, _ = bench.samples.fetch(rows, task, plain=True)
    with torch.no_grad():
        whole, single = strategy.model(x), torch.cat([strategy.model(row[None]) for row in x])
    torch.testing.assert_close(whole, single, rtol=1e-4, atol=1e-5)  # float32, batches of other sizes


# ------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("l2p", ["model={name: mlp}"], "'l2p' needs an encoder that takes prompts"),
        ("l2p", ["strategy.top=7"], "Allowed: 1 to 6"),
        ("l2p", ["training.loss=squared_error"], "Allowed: cross_entropy"),
        ("coda_prompt", ["strategy.blocks=[3]"], "got 3, and the encoder has 3 blocks. Allowed: 0 to 2"),
        ("coda_prompt", ["strategy.length=5"], "even numbers"),
        ("coda_prompt", ["strategy.experiences=11"], "at least one component for each"),
        ("dualprompt", ["strategy.expert_blocks=[1]"], "none with both"),
        ("dualprompt", ["protocol.task_in_training=false"], "task_in_training"),
    ],
)
def test_bad_input_is_one_sentence(name: str, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        support.assembled(run(name, *overrides))


@pytest.mark.parametrize(("name", "key"), [("coda_prompt", "experiences"), ("dualprompt", "tasks")])
def test_more_experiences_than_the_pool_was_divided_for(name: str, key: str) -> None:
    with pytest.raises(UserError, match=rf"strategy.{key}: got 2, and .*Allowed: at least"):
        grown(name, f"strategy.{key}=2")


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [("er+l2p", "both define the training objective"), ("l2p+ewc", "by which 'l2p' does not learn")],
)
def test_compositions_are_refused_in_one_sentence(parts: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        support.assembled(support.make_run(parts, MODEL, benchmark=support.DIGITS))
