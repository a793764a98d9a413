"""Weights for `model.weights`: a network trained by the suite, without evaluation, and its file.

Evaluation changes nothing in training, so the tensors are those of `clbench run` of the same configuration, whose
`weights_sha256` is their hash. A file NAME.pt has its provenance beside it, in NAME.pt.json; NAME.safetensors has it in
its metadata.
"""

from __future__ import annotations

import collections
import importlib.util
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clbench.errors import RunFailed, UserError
from clbench.results import files, provenance
from clbench.rng import fenced
from clbench.run_config import RunConfig
from clbench.runner.attempt import Progress, ShownProgress
from clbench.runner.build_strategy import completed, imported
from clbench.runner.components import Components, assemble
from clbench.runner.numerics import numerics
from clbench.runner.observer import Observation
from clbench.runner.single_samples import refuse_single_samples
from clbench.runner.training_loop import train
from clbench.streams.compile import compile_stream
from clbench.training import models
from clbench.training.weights import state_sha256

LOSSES = 50
"""Updates at the end, over whose batches the final training loss is the mean."""


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        weights: its state dictionary, contiguous tensors on the CPU.
        head: names of the last layer's tensors.
        loss: mean training loss of the last updates, see `LOSSES`.
        provenance: configuration, stream, versions and machine, as plain JSON values.
    """

    weights: dict[str, Tensor]
    head: frozenset[str]
    loss: float
    provenance: dict[str, Any]


class _Losses(Observation):
    """Keeps the last losses and evaluates nothing."""

    def __init__(self, bench: Components, progress: Progress | None) -> None:
        super().__init__(bench, None, lambda: None)
        self._progress = progress
        self.losses: collections.deque[Tensor] = collections.deque(maxlen=LOSSES)

    def after_iteration(self, loss: Tensor) -> bool:
        self.losses.append(loss.detach())
        more = super().after_iteration(loss)
        if self._progress is not None:
            self._progress.update(self.iterations)
        return more

    def latest(self) -> tuple[float | None, float | None]:
        return None, float(self.losses[-1]) if self.losses else None


def train_weights(run: RunConfig, progress: Progress | None = None) -> Trained:
    """Trains a run's strategy on its stream and returns the network's weights; writes no file.

    Args:
        run: the resolved configuration.
        progress: called at every update.

    Raises:
        UserError: a mistake in the configuration, or a strategy after which the network has other tensors than before.
        RunFailed: the loss or a weight is not finite at the end.
    """
    cuda = run.numerics.device == "cuda"
    with numerics(run.numerics), fenced(cuda):
        run = completed(run, imported(run.strategy))
        stream = compile_stream(run.benchmark.stream, run.stream_seed)
        models.import_parts(run.benchmark.model)
        network = models.build(run.benchmark.model, tuple(stream.data.train_x.shape[1:]), stream.outputs)
        bench = assemble(run, stream)
        try:
            _check_network(run, bench.strategy.model, network)
            refuse_single_samples(bench)
            losses = _Losses(bench, progress)
            if progress is not None:
                if isinstance(progress, ShownProgress):
                    progress.watch(losses.latest, losses.view)
                progress.start(sum(bench.budgets), 0)
            try:
                train(bench, losses)
            finally:
                if progress is not None:
                    progress.close()
            model = bench.strategy.model
            _check_network(run, model, network)
            weights = {name: t.detach().cpu().contiguous().clone() for name, t in _tensors(model).items()}
            loss = float(torch.stack(list(losses.losses)).double().mean())
        finally:
            bench.release()
    if not math.isfinite(loss) or not all(bool(t.isfinite().all()) for t in weights.values()):
        raise RunFailed("diverged", f"training diverged: the final loss is {loss}, or a weight is not finite.")
    source = {
        "run_id": run.run_id,
        "config": run.model_dump(mode="json"),
        "stream": provenance.describe_stream(stream),
        "loss": loss,
        "made_by": provenance.collect(run.numerics.device),
    }
    return Trained(weights, _head(network), loss, source)


def check_format(path: Path) -> None:
    """
    Raises:
        UserError: the file's kind needs a package that is not installed.
    """
    if path.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
        raise UserError(f"--out {path}: needs the package safetensors: pip install safetensors. Allowed without: .pt.")


def write(path: Path, trained: Trained, head: bool = True) -> str:
    """Writes weights and their provenance; each file is written whole or not at all.

    Args:
        path: of the weights, NAME.pt, NAME.pth or NAME.safetensors.
        trained: the network.
        head: whether to write the last layer.

    Returns:
        SHA-256 of the tensors, as `model.tensors_sha256` has it.

    Raises:
        UserError: a file cannot be written.
    """
    weights = {name: t for name, t in trained.weights.items() if head or name not in trained.head}
    sha256 = state_sha256(weights)
    source = {**trained.provenance, "tensors_sha256": sha256, "head": head}
    if path.suffix == ".safetensors":
        from safetensors.torch import save

        files.write_bytes(path, save(weights, {"clbench": json.dumps(source, sort_keys=True)}))
        return sha256
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    files.write_bytes(path, buffer.getbuffer())
    files.write_json(path.with_name(f"{path.name}.json"), source)
    return sha256


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _head(model: nn.Module) -> frozenset[str]:
    """Names of the tensors of the last linear layer."""
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    return frozenset(name for name in _tensors(model) if name.startswith(tuple(f"{each}." for each in last)))


def _check_network(run: RunConfig, model: nn.Module, network: nn.Module) -> None:
    """
    Raises:
        UserError: a strategy's model has other tensors than the configured network.
    """
    now, before = ({name: t.shape for name, t in _tensors(m).items()} for m in (model, network))
    if now != before:
        raise UserError(
            f"strategy '{run.strategy.name}' changes the network, so that its weights do not fit 'model.weights'. "
            "Allowed: a strategy that keeps it, such as naive."
        )
