"""Weights of a finished run, and predictions from them.

    weights.pt     the network's state dictionary, as `torch.save` writes it; its tensors have the hash `weights_sha256`
    strategy.pt    the strategy's state: class means, heads, memories, its optimiser; tensors of weights.pt by name

Both hold tensors and plain values alone and are read with `weights_only=True`.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.config.evaluation import Watch
from clbench.errors import RunFailed, Unsaveable, UserError
from clbench.evaluation.evaluation import Evaluation
from clbench.evaluation.twin import Twin
from clbench.results import files
from clbench.rng import fenced
from clbench.run_config import RunConfig
from clbench.runner import user_code
from clbench.runner.checkpoint import packed, unpacked
from clbench.runner.components import Components, assemble
from clbench.runner.numerics import numerics
from clbench.strategy import Learner
from clbench.streams.compile import compile_stream
from clbench.trace import outputs_of
from clbench.training.weights import state_sha256

_NAMED = "tensor of weights.pt"
"""Key that marks a tensor of the other file; part of the file format."""


def write(directory: Path, strategy: Learner, warn: Callable[[str], None]) -> None:
    """Writes the weights of a strategy's network, and its state if that can be saved.

    Args:
        directory: the run's folder.
        strategy: at its end.
        warn: prints a line for the user.

    Raises:
        UserError: a file cannot be written.
    """
    weights = {name: value for name, value in strategy.model.state_dict().items() if isinstance(value, Tensor)}
    _save(directory / files.WEIGHTS, packed(weights))
    try:
        _save(directory / files.STRATEGY, packed(_by_name(strategy.state_dict(), weights)))
    except Unsaveable as error:
        warn(f"weights are kept, but predictions cannot be made from them: {error}")


def remove(directory: Path) -> None:
    """Removes them, those of an unfinished attempt."""
    for name in (files.WEIGHTS, files.STRATEGY):
        (directory / name).unlink(missing_ok=True)


def _save(path: Path, value: Any) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    files.write_bytes(path, buffer.getbuffer())


def _by_name(value: Any, weights: Mapping[str, Tensor]) -> Any:
    """A state in which tensors that are weights are replaced by their names."""
    places = {_place(tensor): name for name, tensor in weights.items() if tensor.numel()}

    def named(part: Any) -> Any:
        if isinstance(part, Tensor):
            name = places.get(_place(part))
            return part if name is None else {_NAMED: name}
        if isinstance(part, dict):
            return {key: named(each) for key, each in part.items()}
        if type(part) in (list, tuple):
            return type(part)(map(named, part))
        return part

    return named(value)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride()


def _with_weights(value: Any, weights: Mapping[str, Tensor]) -> Any:
    """The state of which `_by_name` was made."""
    if isinstance(value, dict):
        if value.keys() == {_NAMED}:
            return weights[value[_NAMED]]
        return {key: _with_weights(each, weights) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with_weights(each, weights) for each in value)
    return value


@dataclass(frozen=True)
class Learned:
    """The learnt state of a finished run.

    Attributes:
        run: its configuration.
        components: network, strategy, stream and evaluator, as at the run's end.
    """

    run: RunConfig
    components: Components

    @property
    def model(self) -> nn.Module:
        """The network. Some strategies predict by more than it: see `scores`."""
        return self.components.strategy.model

    def scores(self, x: Tensor, task: Tensor | None = None) -> Tensor | None:
        """Scores of the strategy, (N, outputs), higher is likelier; None where it cannot predict.

        Args:
            x: inputs as the stream gives them, float32 (N, ...).
            task: the task of each, int64 (N,), for strategies that are told.
        """
        with self._as_in_the_run(), torch.inference_mode(), Twin().of(self.model) as twin:
            return self.components.strategy.predict(twin, x.to(self.components.device), task)

    def predictions(self) -> dict[str, NDArray[np.int64]]:
        """Predicted output of each test sample by view, (N,), in the order of the trace's `rows`; -1 without one."""
        predicted = self._evaluate(predictions=True).predicted
        return {view: outputs_of(outputs.cpu().numpy()) for view, outputs in predicted.items()}

    def correct(self) -> dict[str, NDArray[np.int32]]:
        """Correct test samples by view and cell, (K,): the last row of the trace, without averages of weights."""
        return {view: counts.cpu().numpy() for view, counts in self._evaluate().counts.items()}

    def _evaluate(self, predictions: bool = False) -> Evaluation:
        parts = self.components
        seen = {task for number in range(len(parts.budgets)) for task in parts.experiences.tasks(number)}
        scope = range(len(parts.stream.tasks)) if self.run.benchmark.evaluation.scope == "all" else seen
        with self._as_in_the_run():
            return parts.evaluator.evaluate(parts.strategy, scope, seen, predictions)

    @contextlib.contextmanager
    def _as_in_the_run(self) -> Iterator[None]:
        with numerics(self.run.numerics), fenced(self.run.numerics.device == "cuda"):
            yield


def load(directory: Path | str, device: Literal["cpu", "cuda"] | None = None) -> Learned:
    """The learnt state of a finished run, from run.json, weights.pt and strategy.pt.

    Args:
        directory: the folder of a run that was made with `--keep weights`.
        device: where to predict; default: as the run. Another one may round otherwise.

    Raises:
        UserError: the run is not finished; a file is missing, damaged or not of this run; the data, or the user's code
            in the run, are not what they were.
    """
    directory = Path(directory)
    record = files.read_run(directory)
    if record["status"] != "completed":
        raise UserError(f"{directory}: {record['status']}; only a finished run has weights.")
    for name in (files.WEIGHTS, files.STRATEGY):
        if not (directory / name).exists():
            raise UserError(f"{directory / name}: no such file; `clbench run --keep weights` writes it.")
    try:
        run = RunConfig.model_validate(record["config"])
    except ValueError as error:
        raise UserError(f"{directory / 'run.json'}: its configuration is none of this version: {error}.") from None
    watch = Watch(precision=run.watch.precision)
    settings = run.numerics if device is None else run.numerics.model_copy(update={"device": device})
    run = run.model_copy(update={"watch": watch, "numerics": settings})
    differ = user_code.differing(record["provenance"].get("user_code") or {}, user_code.of(run).modules)
    if differ:
        raise UserError(f"{directory}: its code is not that of today ({differ}), so predictions would not be its own.")
    with numerics(run.numerics), fenced(run.numerics.device == "cuda"):
        stream = compile_stream(run.benchmark.stream, run.stream_seed)
        if stream.instance_hash != record["stream"]["instance_hash"]:
            raise UserError(f"{directory}: its data are not those of today.")
        # Its initial weights, wherever their file is now, are of no use any more.
        network = run.benchmark.model.model_copy(update={"weights": None})
        bare = run.model_copy(update={"benchmark": run.benchmark.model_copy(update={"model": network})})
        parts = assemble(bare, stream, experience=len(stream.experiences) - 1)
        for number in range(len(parts.budgets)):
            parts.experience(number)
        weights = _read(directory / files.WEIGHTS, parts.device)
        _check(weights, record, directory / files.WEIGHTS)
        state = unpacked(_with_weights(_read(directory / files.STRATEGY, parts.device), weights))
        try:
            parts.strategy.load_state_dict(state)
        except (RuntimeError, KeyError, TypeError, ValueError, RunFailed) as error:
            raise UserError(f"{directory / files.STRATEGY}: not the state of this run's strategy ({error}).") from None
        _check(parts.strategy.model.state_dict(), record, directory / files.STRATEGY)
        parts.evaluator.renew()
        parts.evaluator.begin(parts.strategy.model)
    return Learned(run, parts)


def _read(path: Path, device: torch.device) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: damaged or truncated ({reason}).") from None


def _check(state: Mapping[str, Any], record: dict[str, Any], path: Path) -> None:
    if state_sha256(state) != record["weights_sha256"]:
        raise UserError(f"{path}: not the weights of this run; their SHA-256 is not that of run.json.")
