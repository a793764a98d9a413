"""Components of a run, built from its configuration: model, strategy, samples, batches, evaluator."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from clbench import composition, run_config
from clbench.config.networks import Head
from clbench.evaluation.cells import lay_out_cells
from clbench.evaluation.competition import views_of
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.schedule import evaluations
from clbench.evaluation.test_then_train import TestThenTrain
from clbench.malloc import give_back
from clbench.rng import Chance, global_state, set_global_state
from clbench.runner.build_strategy import build_strategy, check_measures, configuration_of, imported
from clbench.runner.watching import test_then_train
from clbench.strategy import Experience, Learner, Setup, is_strategy
from clbench.stream import Stream
from clbench.training import heads, models
from clbench.training import recipe as recipes
from clbench.training.augmentation import Augmenter
from clbench.training.batches import Batches
from clbench.training.budget import budgets, updates_by_task_block
from clbench.training.experiences import Experiences
from clbench.training.inputs import InputTransform
from clbench.training.rates import Rates
from clbench.training.training_set import TrainingSet

_SAMPLES_BYTES = 128 << 20
"""Largest size of packed per-sample correctness, or of the numbers of a measure, that is recorded by default."""

_PREDICTIONS_BYTES = 32 << 20
"""Largest size of predicted outputs that are recorded by default."""


@dataclass
class Components:
    """The components of a run; two instances share nothing that training changes."""

    run: run_config.RunConfig
    stream: Stream
    device: torch.device
    samples: TrainingSet
    evaluator: Evaluator
    strategy: Learner
    batches: Batches
    budgets: tuple[int, ...]
    """Updates in each experience, (V,)."""
    recipe: recipes.Recipe
    experiences: Experiences
    augmenters: tuple[Augmenter, ...]
    listeners: list[Callable[[], None]]
    """Called after a change of the strategy's predictions without an update."""
    prequential: TestThenTrain | None
    """Predicts incoming samples; None where that is not watched, or the strategy's batches cannot be seen."""
    remake: Callable[[], Learner]
    """Another strategy as constructed, on the same samples. The caller fences the global generators."""

    def experience(self, number: int) -> Experience:
        """The strategy's view of an experience, whose samples become accessible."""
        for accessible in self.experiences.newly_accessible(number):
            self.samples.admit(accessible)
        experience = self.experiences(number)
        heads.admit(self.strategy.model, experience.outputs)
        return experience

    def state_dict(self) -> dict[str, Any]:
        """State that training changes.

        Raises:
            Unsaveable: the strategy's state cannot be saved.
        """
        return {
            "strategy": self.strategy.state_dict(),
            "batches": self.batches.state_dict(),
            "augmenters": [augmenter.state_dict() for augmenter in self.augmenters],
            "evaluator": self.evaluator.state_dict(),
            "prequential": None if self.prequential is None else self.prequential.state_dict(),
            "globals": global_state(self.device.type == "cuda"),
        }

    def load_state_dict(self, state: dict[str, Any], experience: int, within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience, or before it."""
        for number in range(experience):
            for accessible in self.experiences.newly_accessible(number):
                self.samples.admit(accessible)
        if within:
            self.experience(experience)
        self.recipe.enter(last_begun(experience, within))
        self.strategy.load_state_dict(state["strategy"])
        self.batches.load_state_dict(state["batches"], within)
        for augmenter, its_state in zip(self.augmenters, state["augmenters"], strict=True):
            augmenter.load_state_dict(its_state)
        self.evaluator.load_state_dict(state["evaluator"])
        if self.prequential is not None:
            self.prequential.load_state_dict(state["prequential"])
        set_global_state(state["globals"])

    def release(self) -> None:
        """Frees the memory of the components at the end of a run, whoever still refers to this object.

        Nothing of ours does, but others may: pyparsing, which Matplotlib and so Avalanche import, leaves exceptions of
        its import in cycles, and with them the frames of everything that was running, until Python's collector comes
        by. Components that were assembled beside these keep what they share.
        """
        samples = weakref.ref(self.samples)
        vars(self).clear()
        if samples() is not None:  # in a cycle of the strategy: those of Avalanche and their plugins name each other
            gc.collect()


def assemble(
    run: run_config.RunConfig, stream: Stream, beside: Components | None = None, experience: int = 0
) -> Components:
    """Builds model, strategy and evaluator of a run.

    Args:
        run, stream: the configuration, and its compiled stream.
        beside: components of the same run and stream, whose samples and test inputs are shared, because training does
            not change them; they stay as they are.
        experience: number of the one whose optimiser the strategy is made with: of a checkpoint that is to be loaded,
            the last one that had begun.

    Raises:
        UserError: the strategy's name, its hyper-parameters, or a model that does not fit the data.
    """
    target = imported(run.strategy)
    models.import_parts(run.benchmark.model)
    head = run.benchmark.model.head or Head()
    if head.multi:
        stream = heads.by_task(stream)
    config = configuration_of(target, run.strategy) if is_strategy(target) else None
    check_measures(run, target, stream)
    replacement = composition.optimizer_of(config)
    recipes.import_parts(run.benchmark.training, replacement)
    chance = Chance(run.seed, run.seeds.model_dump(exclude_none=True))
    device, bench = torch.device(run.numerics.device), run.benchmark
    if beside is None:
        transform = InputTransform(stream, device)
        samples = TrainingSet(stream, transform, device)
        samples.fence()
        new_evaluator: Callable[[], Evaluator] = partial(
            Evaluator.of_stream,
            stream,
            transform,
            device,
            bench.evaluation,
            run.watch,
            chance.seeds["stream"],
            _keeps(run, stream, run.watch.bits, 1 / 8),
            bench.task_at_test,
            _keeps(run, stream, run.watch.values, 4),
            _keeps_predictions(run, stream),
        )
    else:
        samples, new_evaluator = beside.samples.fresh(), lambda: beside.evaluator.fresh()
    shape = tuple(stream.data.train_x.shape[1:])
    training = bench.training
    if training.active_outputs is None:
        active = "task" if stream.setting == "task" or head.multi else "seen" if head.growing else "all"
        training = training.model_copy(update={"active_outputs": active})

    def augmenter(consumer: str) -> Augmenter:
        of_consumer = chance.generator("augmentation", consumer)
        return Augmenter(training.augmentation, of_consumer, shape, stream.data.top, device)

    of_experiences = budgets(training, stream)
    recipe = recipes.Recipe(training, stream, of_experiences, replacement, run.numerics.fused)
    recipe.enter(experience)

    def learner(augmenters: tuple[Augmenter, ...], mark_updated: Callable[[], None]) -> Learner:
        chance.seed_globals("init")
        model = models.build(bench.model, shape, stream.outputs).to(device)
        rates = Rates(training.rates, model)
        setup = Setup(
            model=model,
            make_optimizer=recipe.make_optimizer(rates),
            samples=samples.augmented(augmenters[-1]) if augmenters else samples,
            training=training,
            generator=chance.generator("strategy"),
            new_generator=partial(chance.generator, "strategy"),
            outputs=stream.outputs,
            task_outputs=tuple(tuple(sorted(set(t.targets))) for t in stream.all_tasks),
            input_shape=shape,
            device=device,
            autocast=partial(torch.autocast, device.type, torch.bfloat16) if run.numerics.amp else nullcontext,
            mark_updated=mark_updated,
            adapt=partial(recipe.adapt, rates=rates),
            label_smoothing=recipe.label_smoothing,
        )
        chance.seed_globals("strategy")
        built = build_strategy(target, config, run, setup, stream)
        rates.check(run.strategy.name)
        return built

    # Samples fetched by a strategy do not change the augmentation of the stream's batches.
    augmenters = tuple(augmenter(who) for who in (("batches", "strategy") if training.augmentation else ()))
    for_batches = samples.augmented(augmenters[0]) if augmenters else samples
    listeners: list[Callable[[], None]] = []
    strategy = learner(augmenters, partial(_notify, listeners))
    batches = Batches(for_batches, chance.generator("order"), bench.training, device)
    built = Components(
        run=run,
        stream=stream,
        device=device,
        samples=samples,
        evaluator=new_evaluator(),  # no local variable, which would be kept with this frame: see `release`
        strategy=strategy,
        batches=batches,
        budgets=of_experiences,
        recipe=recipe,
        experiences=Experiences(stream, strategy.access, bench.protocol),
        augmenters=augmenters,
        listeners=listeners,
        prequential=test_then_train(run, stream, samples, strategy, batches, of_experiences, device),
        remake=lambda: learner((augmenter("strategy"),) if training.augmentation else (), lambda: None),
    )
    give_back()  # memory of the transform of the inputs
    return built


def last_begun(experience: int, within: bool) -> int:
    """Number of the last experience that had begun where a run stopped within an experience, or before it."""
    return experience if within else max(experience - 1, 0)


def _notify(listeners: list[Callable[[], None]]) -> None:
    for listen in listeners:
        listen()


def _keeps(run: run_config.RunConfig, stream: Stream, configured: bool | None, each: float) -> bool:
    """True if something of so many bytes is recorded of each sample: as configured, by default if the record stays
    small."""
    if configured is not None:
        return configured
    evaluation = run.benchmark.evaluation
    of_block = updates_by_task_block(budgets(run.benchmark.training, stream), stream)
    looks = sum(evaluations(evaluation, n) for n in of_block)
    return looks * _views(run, stream) * math.ceil(_tested(run, stream) * each) <= _SAMPLES_BYTES


def _keeps_predictions(run: run_config.RunConfig, stream: Stream) -> bool:
    """True if predicted outputs are recorded at the ends of experiences: as configured, by default if the record stays
    small. Numbers to predict have none."""
    if stream.data.train_target is not None:
        return False
    if run.watch.predictions is not None:
        return run.watch.predictions
    ends, each = len(set(stream.origins().tolist())), 1 if stream.outputs <= 255 else 2
    return ends * _views(run, stream) * _tested(run, stream) * each <= _PREDICTIONS_BYTES


def _tested(run: run_config.RunConfig, stream: Stream) -> int:
    """Number of evaluated test samples."""
    return int(lay_out_cells(stream, run.benchmark.evaluation.subset).size.sum())


def _views(run: run_config.RunConfig, stream: Stream) -> int:
    """Number of recorded views, those of averaged weights included."""
    views = len(views_of(stream.setting, run.benchmark.evaluation))
    return views * (1 + len(run.watch.ema) + len(run.watch.last))
