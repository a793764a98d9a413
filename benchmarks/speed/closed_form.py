"""A RanPAC pass over feature vectors, against scikit-learn's ridge regression on the same projected matrix.

    .venv/bin/python benchmarks/speed/closed_form.py [--samples 50000] [--projections 2000] [--rounds 5]

Both project the features, which takes the same time in both, and end with the weights of all classes:

ours, float64    batches of 4,096 through `Ranpac.step`, as in a run: sums in double precision, one solution at the end
ridge, float64   `Ridge(fit_intercept=False, solver="cholesky").fit` on the projected matrix in double precision
ours, float32    the same with `products: float32`
ridge, float32   on the projected matrix in single precision

Rows take turns, and ratios are within a round. One thread. It also says how far the weights are from each other, and
prints the time of a solution and of the selection of lambda, which ridge regression does not do.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pairs import measure, table
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits
from torch import nn

from clbench.rng import Generator
from clbench.strategies.ranpac import Ranpac, selected
from clbench.strategies.shared.ridge import RidgeSums
from clbench.strategy import Batch, Setup

PENALTY, CLASSES, BATCH = 1e4, 100, 4096


def strategy(features: int, projections: int, products: str) -> Ranpac:
    """RanPAC on vectors, with a fixed penalty."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(features, CLASSES))
    training: Any = type("Training", (), {"augmentation": (), "active_outputs": None, "loss": "cross_entropy"})()
    samples: Any = None
    setup = Setup(
        model=net,
        make_optimizer=lambda parameters: torch.optim.SGD(parameters, 0.1),
        samples=samples,
        training=training,
        generator=Generator(0, "strategy"),
        new_generator=lambda name: Generator(0, name),
        outputs=CLASSES,
        task_outputs=(tuple(range(CLASSES)),),
        input_shape=(features,),
        device=torch.device("cpu"),
    )
    options = {"extractor": "frozen", "projections": projections, "penalty": PENALTY, "products": products}
    return Ranpac(Ranpac.Config.model_validate(options), setup)


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("samples", 50_000), ("features", 512), ("projections", 2000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(args.samples) % CLASSES
    centres = torch.randn((CLASSES, args.features), generator=generator)
    x = (centres[y] + torch.randn((args.samples, args.features), generator=generator)).relu()
    one_hot = np.eye(CLASSES)[y.numpy()]
    weights: dict[str, np.ndarray] = {}

    def ours(products: str) -> Callable[[], int]:
        def work() -> int:
            made = strategy(args.features, args.projections, products)
            for a in range(0, args.samples, BATCH):
                made.step(Batch(x[a : a + BATCH], y[a : a + BATCH], torch.arange(a, min(a + BATCH, args.samples)), 0))
            made.refresh()
            weights[f"ours, {products}"] = made.head.rule.numpy()
            return 1

        return work

    def ridge(dtype: str) -> Callable[[], int]:
        def work() -> int:
            h = strategy(args.features, args.projections, dtype).head.expand(x).numpy().astype(dtype, copy=False)
            fit = Ridge(alpha=PENALTY, fit_intercept=False, solver="cholesky").fit(h, one_hot.astype(dtype))
            weights[f"ridge, {dtype}"] = fit.coef_
            return 1

        return work

    rows = {f"{name}, {dtype}": make(dtype) for dtype in ("float64", "float32") for name, make in
            (("ours", ours), ("ridge", ridge))}  # fmt: skip
    with threadpool_limits(1), torch.inference_mode(False):
        timings = measure(rows, args.rounds)
        sums = RidgeSums(args.projections, CLASSES, torch.device("cpu"))
        sums.add(strategy(args.features, args.projections, "float64").head.expand(x[:5000]).double(), y[:5000])
        alone = seconds(lambda: sums.solution(PENALTY)), seconds(lambda: selected(sums, sums))
    exact = weights["ridge, float64"]
    lines = []
    for name in rows:
        off = np.linalg.norm(weights[name] - exact) / np.linalg.norm(exact)
        base = name.replace("ours", "ridge")
        ratio = timings.ratio(name, base)
        shown = "" if name == base else f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        lines.append([name, f"{timings.median_s(name):.2f}", shown, f"{off:.1e}"])
    print(f"{args.samples:,} vectors of {args.features} features, M = {args.projections:,}, {CLASSES} classes")
    print(table(["", "s", "of ridge's (95 %)", "weights off by"], lines))
    print(f"a solution: {alone[0]:.2f} s; a selection of lambda (17 solutions): {alone[1]:.2f} s")


if __name__ == "__main__":
    main()
