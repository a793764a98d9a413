"""An update of L2P, DualPrompt and CODA-Prompt, beside loops by hand of the same computation. Nothing is evaluated.

    .venv/bin/python benchmarks/speed/prompting.py [--pairs 30] [--threads 1] [--quick]

Digits, a transformer of width 64 and 4 blocks that is not trained, batches of 32, Adam; the second of two experiences,
so that CODA-Prompt has old and new components. A loop by hand has its images as floats in memory, one batch after the
other, and no parameter that it does not train in its optimiser. The goal is 1.15.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from pairs import Host, Segment, measure, table
from torch import Tensor

from clbench import resolve
from clbench.runner import components
from clbench.streams.compile import compile_stream

UPDATES, BATCH = 10, 32
STRATEGIES = {
    "l2p": "{}",
    "dualprompt": "{tasks: 2, expert_length: 20}",
    "coda_prompt": "{pool: 20, experiences: 2}",
}


def bench(name: str) -> Any:
    """A strategy at the start of its second experience."""
    run = resolve.make_run(
        "split_digits-v1",
        strategy=name,
        overrides=[
            "id=prompting-v1",
            "stream.tasks.count=2",
            "model={name: transformer, patch: 2, width: 64, depth: 4, heads: 4}",
            f"training={{iterations: 1000000, batch_size: {BATCH}, optimizer: {{name: adam, lr: 0.001}}}}",
            f"strategy={STRATEGIES[name]}",
            "evaluation.every=0",
        ],
        threads=torch.get_num_threads(),
        device="cpu",
    )
    made = components.assemble(run, compile_stream(run.benchmark.stream, run.seed))
    for number in range(2):
        made.strategy.begin_experience(made.experience(number))
    return made


def ours(made: Any) -> Segment:
    """So many updates a turn of the strategy."""
    batches = made.batches.of(made.experience(1), made.budgets[1])

    def segment() -> int:
        for batch in islice(batches, UPDATES):
            made.strategy.step(batch)
        return UPDATES

    return segment


def _l2p(q: Tensor, pool: Any) -> tuple[Tensor | None, Any, Tensor]:
    cosines = F.normalize(q) @ F.normalize(pool.keys).T
    best = cosines.topk(5, 1).indices
    return pool.prompts[best].flatten(1, 2), None, 0.1 * (1 - cosines.gather(1, best)).sum(1).mean()


def _dualprompt(q: Tensor, pool: Any) -> tuple[Tensor | None, Any, Tensor]:
    general, expert = pool.general, pool.expert[1]
    prefixes = {0: (general[0, :3], general[0, 3:]), 1: (general[1, :3], general[1, 3:])}
    prefixes |= {2 + i: (expert[i, :10], expert[i, 10:]) for i in range(2)}
    return None, prefixes, (1 - F.cosine_similarity(q, pool.keys[1][None])).mean()


def _coda_prompt(q: Tensor, pool: Any) -> tuple[Tensor | None, Any, Tensor]:
    p, k, a = (torch.cat(list(parts), 1) for parts in (pool.components, pool.keys, pool.attention))
    alpha = (q @ (a * F.normalize(k, dim=2)).mT) / (q.square() @ a.square().mT).sqrt()
    mixed = (alpha @ p.flatten(2)).view(*alpha.shape[:2], *p.shape[2:])
    eye, penalty = torch.eye(p.shape[1]), torch.zeros(())
    for rows in (p.flatten(2), k, a):
        penalty = penalty + (rows @ rows.mT - eye).square().sum()
    return None, {b: (mixed[b, :, :4], mixed[b, :, 4:]) for b in range(4)}, 0.1 * penalty


RULES: dict[str, Callable[[Tensor, Any], tuple[Tensor | None, Any, Tensor]]] = {
    "l2p": _l2p, "dualprompt": _dualprompt, "coda_prompt": _coda_prompt,
}  # fmt: skip


def by_hand(name: str, made: Any) -> Segment:
    """The same updates in plain PyTorch."""
    experience = made.experience(1)
    index, task = (torch.from_numpy(v) for v in (experience.index, experience.task))
    x, y = made.samples.fetch(index, task, plain=True)
    model = copy.deepcopy(made.strategy.model)
    encoder, pool, head = model[0].encoder, model[0].prompts, model[1]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.001)
    inactive = torch.ones(10, dtype=torch.bool)
    inactive[list(experience.outputs)] = False
    at = 0

    def segment() -> int:
        nonlocal at
        for _ in range(UPDATES):
            at = 0 if at + BATCH > len(x) else at
            images, labels = x[at : at + BATCH], y[at : at + BATCH]
            at += BATCH
            with torch.no_grad():
                q = encoder(images)
            prompts, prefixes, term = RULES[name](q, pool)
            logits = head(encoder(images, prompts, prefixes)).masked_fill(inactive, float("-inf"))
            optimizer.zero_grad(set_to_none=True)
            (F.cross_entropy(logits, labels) + term).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return UPDATES

    return segment


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=30, help="rounds (30)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--quick", action="store_true", help="2 rounds: shows that it works, and no more")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = []
    for name in STRATEGIES:
        made = bench(name)
        rows: dict[str, Segment | Host] = {"by hand": by_hand(name, made), name: ours(made)}
        r = measure(rows, 2 if given.quick else given.pairs).ratio(name, "by hand")
        lines.append([name, f"{r.median:.3f}", f"{r.low:.3f} to {r.high:.3f}", f"{1e3 * r.row_s:.2f}"])
    print(table(["method", "in units of the loop by hand", "95 % interval", "median ms an update"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
