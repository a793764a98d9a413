"""Prequential evaluation of a run, where its configuration asks for it and its strategy allows it."""

from __future__ import annotations

import torch

from clbench import run_config
from clbench.errors import UserError
from clbench.evaluation.competition import views_of
from clbench.evaluation.test_then_train import TestThenTrain
from clbench.measures import recorded
from clbench.strategy import Learner, SelfDrivenLearner
from clbench.stream import Stream
from clbench.training.batches import Batches
from clbench.training.budget import batches_in_a_pass
from clbench.training.training_set import TrainingSet


def test_then_train(
    run: run_config.RunConfig,
    stream: Stream,
    samples: TrainingSet,
    strategy: Learner,
    batches: Batches,
    budgets: tuple[int, ...],
    device: torch.device,
) -> TestThenTrain | None:
    """Predicts the incoming samples of a run; None where none is asked for, or the strategy does not allow it.

    Raises:
        UserError: a delay, and a stream that is learnt in more than one pass.
    """
    watch, bench = run.watch, run.benchmark
    if not watch.prequential:
        return None
    to_come = None
    if watch.prequential_delay:
        for number, (experience, budget) in enumerate(zip(stream.experiences, budgets, strict=True)):
            one_pass = batches_in_a_pass(experience.samples, bench.training)
            if budget > one_pass:
                raise UserError(
                    f"watch.prequential_delay: got {watch.prequential_delay}, and experience {number} is learnt in "
                    f"{budget:,} updates, more than one pass ({one_pass:,}), while the target of a forecast arrives "
                    "once. Allowed: 0, or a budget of one pass."
                )
        if strategy.access == "experience":
            to_come = batches.to_come(
                lambda number: (stream.experiences[number].index, stream.experiences[number].task), budgets
            )
    if not_watched(run, strategy):
        return None
    views = views_of(stream.setting, bench.evaluation)
    names = recorded(watch.measures, stream.data.train_target is not None)
    delay = watch.prequential_delay
    return TestThenTrain(stream, views, samples, bench.task_at_test, device, delay, to_come, names)


def not_watched(run: run_config.RunConfig, strategy: Learner) -> str:
    """Reason why the incoming samples of a strategy are not predicted though that is asked for; else an empty text."""
    if not run.watch.prequential:
        return ""
    name = f"no prequential record: {run.strategy.name}"
    if isinstance(strategy, SelfDrivenLearner):
        return f"{name} has a training loop of its own, whose batches cannot be seen before its updates"
    if run.watch.prequential_delay and strategy.access != "experience":
        return f"{name} trains on past samples again, so that no target arrives later (watch.prequential_delay)"
    return ""
