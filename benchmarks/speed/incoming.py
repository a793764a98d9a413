"""What predicting incoming samples costs: training with `watch.prequential` in units of training without, in turns.

    python benchmarks/speed/incoming.py [--rounds N]

Both turns make the same updates on the same stream; every batch is new to the one that predicts, as in a first pass.
One thread. MNIST is looked up as by `clbench run`.
"""

from __future__ import annotations

import argparse
from typing import Any

import pairs
import torch

from clbench import resolve
from clbench.evaluation.recorder import Recorder
from clbench.runner.components import assemble
from clbench.runner.observer import Observation
from clbench.streams.compile import compile_stream

CASES = {
    "digits, MLP of 100, batches of 32, naive": ("split_digits-v1", "naive", []),
    "digits, MLP of 100, batches of 32, er": ("split_digits-v1", "er", []),
    "MNIST, MLP of 400-400, batches of 128, naive": ("split_mnist-v1", "naive", []),
    "MNIST, MLP of 400-400, batches of 128, er": ("split_mnist-v1", "er", []),
    "MNIST, CNN, batches of 32, naive": (
        "split_mnist-v1", "naive", ["model={name: cnn, channels: [16, 32], hidden: 64}", "training.batch_size=32"]
    ),
}  # fmt: skip
UPDATES = 20
NOTHING_CAME: dict[str, Any] = {"came": {}, "waiting": [], "to_come": None}


def turn(benchmark: str, strategy: str, overrides: list[str], predict: bool) -> pairs.Segment:
    """Makes updates of the first experience, again and again."""
    more = ["evaluation.every=0", f"watch.prequential={str(predict).lower()}", "training.epochs=null"]
    run = resolve.make_run(benchmark, strategy=strategy, overrides=[*more, "training.iterations=100000", *overrides])
    bench = assemble(run, compile_stream(run.benchmark.stream, run.stream_seed))
    recorder = Recorder(bench.device, keep=False)
    watcher = Observation(bench, recorder, lambda: None)
    experience = bench.experience(0)
    watcher.enter(0)
    bench.strategy.begin_experience(experience)
    batches = bench.batches.of(experience, 100_000)

    def updates() -> int:
        for _ in range(UPDATES):
            batch = next(batches)
            if bench.prequential is not None:
                bench.prequential.load_state_dict(NOTHING_CAME)
            watcher.before_update(batch)
            watcher.after_iteration(bench.strategy.step(batch))
        recorder.chunk()
        return UPDATES

    return updates


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = []
    for name, (benchmark, strategy, overrides) in CASES.items():
        with_it, without = (turn(benchmark, strategy, overrides, predict) for predict in (True, False))
        ratio = pairs.measure({"with": with_it, "without": without}, rounds).ratio("with", "without")
        times = f"{1e3 * ratio.base_s:.2f}", f"{1e3 * ratio.row_s:.2f}"
        rows.append([name, *times, f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"])
    print(pairs.table(["training", "ms an update", "with predictions", "ratio, 95 % interval"], rows))


if __name__ == "__main__":
    main()
