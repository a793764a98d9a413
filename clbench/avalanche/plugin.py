"""The continual evaluator as a plugin for scripts that train with Avalanche."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from avalanche.benchmarks import CLExperience
from avalanche.core import SupervisedPlugin
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.avalanche import script_run
from clbench.avalanche.predictions import scores
from clbench.config.benchmark import Benchmark
from clbench.errors import UserError
from clbench.evaluation.cells import Cells, lay_out_cells
from clbench.evaluation.evaluation import Evaluation
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.recorder import Recorder
from clbench.rng import fenced
from clbench.stream import Stream
from clbench.trace import Phase, Trace


class _Watched:
    """Adapter of an Avalanche strategy during an experience to the evaluator."""

    def __init__(self, strategy: Any, labels: Tensor) -> None:
        self._strategy, self._labels = strategy, labels

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self._strategy.model
        return model

    def predict(self, model: nn.Module, x: Tensor, task: Tensor | None) -> Tensor | None:
        return scores(self._strategy, model, x, self._labels[task], self._strategy.experience)


class ContinualEvaluation(SupervisedPlugin[Any]):  # type: ignore[misc]
    """Our evaluator as a plugin of an Avalanche strategy: evaluates every `every` iterations, changes nothing.

    Args:
        test_stream: the experiences to evaluate on; number i of it belongs to number i of the training stream, or a
            single one to all; those of `benchmark` know theirs. Each has one task label, which models with a head for
            each task are given.
        setting: "class", "task" or "domain": active logits, see `Evaluator`. In Avalanche's evaluation all outputs of
            the model are active, as in "domain".
        outputs: number of output units; default: the largest class + 1.
        every: period in iterations within an experience, >= 0; 0 evaluates around experiences only.
        batch_size: samples per forward pass.
        device: where the model is.

    Put it last in the list of plugins. Afterwards `trace()` returns the record, `clbench.score` every metric of it, and
    `save` writes a run's folder, from which clbench makes tables and figures. Test data are read once, here, in
    evaluation transforms. Sub-experiences of an online stream count as one experience.

    Raises:
        UserError: a wrong setting or period, an experience that mixes task labels; in training, an experience that
            has none in the test stream.
    """

    supports_distributed = False

    def __init__(
        self,
        test_stream: Iterable[CLExperience],
        *,
        setting: str = "class",
        outputs: int | None = None,
        every: int = 1,
        batch_size: int = 1000,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if setting not in ("class", "task", "domain"):
            raise UserError(f"ContinualEvaluation: setting '{setting}'. Allowed: class, task, domain.")
        if every < 0:
            raise UserError(f"ContinualEvaluation: every {every}. Allowed: 0 and more.")
        self._device = torch.device(device)
        tests = list(test_stream)
        with fenced(self._device.type == "cuda"):
            x, y, task, labels = _materialise(tests)
        self._setting = setting
        self._stream = _exported(tests)
        self._test_sha256 = script_run.sha256_of(x, y, task, labels)
        cells = _cells(y, task, setting, outputs)
        inputs = x[torch.from_numpy(cells.rows)]
        if self._stream is not None and setting == self._stream.setting and outputs in (None, self._stream.outputs):
            cells, inputs = lay_out_cells(self._stream), x  # exported in this order
        elif self._stream is not None:
            self._stream = None
        self._labels = torch.tensor(labels, device=self._device)
        self._scenario = getattr(tests[0], "benchmark", None)
        self._only_exported = self._stream is not None
        self._learner: Any = None
        self._clock = script_run.Clock()
        self._evaluator = Evaluator(
            cells,
            inputs.to(self._device),
            views=(setting,),
            device=self._device,
            batch_size=batch_size,
            tell_task=True,
        )
        self._recorder = Recorder(self._device, strict=False)  # a NaN is the script's affair
        self._every = every
        self._visits: list[tuple[int, ...]] = []
        self._seen: set[int] = set()
        self._origin: Any = None
        self._end: Evaluation | None = None
        self._iterations = self._within = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._clock.start()
        self._record_end()
        self._learner = strategy
        experience = strategy.experience.logging()
        origin = getattr(experience, "origin_experience", None)
        again = origin is not None and origin is self._origin
        self._origin = origin
        self._evaluator.renew()
        self._only_exported &= getattr(origin or experience, "benchmark", None) is self._scenario
        if again:
            self._clock.train()
            return
        tests = self._evaluator.cells.tasks
        number = int((origin or experience).current_experience)
        about = (0,) if tests == 1 else getattr(origin or experience, "test_experiences", (number,))
        if max(about) >= tests:
            raise UserError(
                f"ContinualEvaluation: training experience {max(about)}, but test_stream ends at {tests - 1}."
            )
        self._visits.append(about)
        self._seen.update(about)
        self._within = 0
        self._record(self._counts(strategy, range(tests)), Phase.BEFORE)
        self._clock.train()

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._iterations += 1
        self._within += 1
        self._recorder.add_loss(strategy.loss.detach().reshape(()))
        if self._every and self._within % self._every == 0:
            self._record(self._counts(strategy, self._seen), Phase.ITERATION)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._clock.pause()
        self._evaluator.renew()
        self._end = self._counts(strategy, self._seen, predictions=True)

    def after_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if self._end is not None:  # some strategies (SCR) are not ready before all their plugins are
            self.after_training_exp(strategy)
        self._record_end()
        self._clock.stop()

    def _record_end(self) -> None:
        if self._end is not None:
            self._record(self._end, Phase.END)
        self._end = None

    def _counts(self, strategy: Any, scope: Iterable[int], predictions: bool = False) -> Evaluation:
        with self._clock.evaluation():
            return self._evaluator.evaluate(_Watched(strategy, self._labels), set(scope), self._seen, predictions)

    def _record(self, evaluation: Evaluation, phase: Phase) -> None:
        self._recorder.add(evaluation, self._iterations, len(self._visits) - 1, phase)

    def trace(self) -> Trace:
        """The record so far.

        Raises:
            UserError: nothing was trained.
        """
        if not self._visits:
            raise UserError("ContinualEvaluation: no experience was trained with this plugin, so there is no trace.")
        self._record_end()
        self._recorder.chunk()
        visits = np.zeros((len(self._visits), self._evaluator.cells.tasks), np.bool_)
        for v, about in enumerate(self._visits):
            visits[v, list(about)] = True
        origin = np.arange(len(self._visits), dtype=np.int32)
        return self._recorder.trace(self._evaluator.cells, visits, origin, self._every, 0)

    def save(
        self,
        out: str | os.PathLike[str] = "results",
        *,
        benchmark: str | os.PathLike[str] | Benchmark,
        strategy: str,
        seed: int,
        parameters: Mapping[str, Any] | None = None,
        access: Literal["experience", "past", "stream"] | None = None,
        memory_samples: int | None = None,
    ) -> Path:
        """Writes the record as a run's folder, which `leaderboard`, `score`, `plot` and `compare` read.

        Data, updates, batch size, optimiser, network, seconds and versions are observed; the arguments are recorded as
        they are. The row is marked as that of a script and not ranked, since clbench cannot run it again. Where the
        stream is exported by `clbench.avalanche.benchmark`, and all that is observed agrees with a benchmark, it
        stands on the board of that benchmark; else on a board of its own, and `differences` in its run.json says what
        does not agree.

        A run with NaN in its losses or scores is written as failed. A folder with another result of this
        configuration and seed keeps that in `superseded/`.

        Args:
            out: the results folder.
            benchmark: a shipped id or the path of a benchmark's YAML file to compare with; or any name.
            strategy: a name for the method.
            seed: of the script, >= 0; runs that differ in it alone are one row.
            parameters: hyper-parameters of the method, plain values; they tell its rows apart.
            access: data of one training phase: the experience, all up to it, or the whole stream, as by joint training.
            memory_samples: past samples kept.

        Returns:
            the run's folder.

        Raises:
            UserError: nothing was trained, a name that no folder can have, or values that are not plain.
        """
        trace = self.trace()
        script = script_run.Script(
            trace=trace,
            setting=self._setting,
            learner=self._learner,
            stream=self._stream if self._only_exported else None,
            test_sha256=self._test_sha256,
            device=self._device,
            clock=self._clock,
        )
        claims = script_run.Claims(strategy, seed, dict(parameters or {}), access, memory_samples)
        return script_run.write(script, claims, benchmark, Path(out))


def _exported(tests: list[Any]) -> Stream | None:
    """The stream whose whole test part some experiences are; None for others."""
    scenario = getattr(tests[0], "benchmark", None) if tests else None
    stream: Stream | None = getattr(scenario, "clbench_stream", None)
    if stream is None:
        return None
    whole = list(scenario.test_stream)  # type: ignore[union-attr]
    return stream if len(tests) == len(whole) and all(a is b for a, b in zip(tests, whole, strict=True)) else None


def _materialise(
    test_stream: Iterable[CLExperience],
) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64], list[int]]:
    """All test samples: inputs, targets, the experience of each; and the task label of each experience."""
    x, y, task = [], [], []
    labels: list[int] = []
    for number, experience in enumerate(test_stream):
        task_labels: set[int] = set()
        for item in experience.dataset.eval():
            x.append(torch.as_tensor(item[0]))
            y.append(int(item[1]))
            task.append(number)
            task_labels.add(int(item[2]) if len(item) > 2 else 0)
        if len(task_labels) != 1:
            what = f"mixes task labels {', '.join(map(str, sorted(task_labels)))}" if task_labels else "is empty"
            raise UserError(f"ContinualEvaluation: test experience {number} {what}; each needs samples of one task.")
        labels += task_labels
    return torch.stack(x), np.array(y, np.int64), np.array(task, np.int64), labels


def _cells(y: NDArray[np.int64], task: NDArray[np.int64], setting: str, outputs: int | None) -> Cells:
    """One cell for each class of each experience."""
    pairs = np.unique(np.stack([task, y], 1), axis=0)
    size = np.array([((task == t) & (y == c)).sum() for t, c in pairs], np.int32)
    return Cells(
        domain=(pairs[:, 0] if setting == "domain" else np.zeros(len(pairs))).astype(np.int32),
        label=pairs[:, 1].astype(np.int32),
        size=size,
        population=size,
        task=pairs[:, 0].astype(np.int64),
        target=pairs[:, 1].astype(np.int64),
        outputs=outputs or int(y.max()) + 1,
        rows=np.lexsort((y, task)).astype(np.int64),
    )
