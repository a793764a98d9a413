"""Everything a run is made of, built from its configuration: model, strategy, samples, batches, evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from clbench import composition, mistakes, models, registry, resolve
from clbench import config as cfg
from clbench.augmentation import Augmenter
from clbench.budget import batches_in_a_pass, budgets, evaluations, updates_by_visit
from clbench.cells import lay_out_cells
from clbench.chance import Chance, Generator, global_state, set_global_state
from clbench.errors import UserError
from clbench.evaluator import Evaluator, views_of
from clbench.experiences import Experiences
from clbench.memory import give_back
from clbench.store import InputTransform, TrainingSet
from clbench.strategy import Batch, Experience, Learner, Setup, is_strategy
from clbench.stream import Stream

_BITS_BYTES = 128 << 20
"""Bits of test samples, packed, up to which they are recorded by default."""


class Batches:
    """The mini-batches of a run, reshuffled at every pass by the axis "order"; may be left and taken up again.

    Args:
        samples: where they are fetched.
        order: source of the order.
        training: batch size, and whether a smaller last batch is dropped.
        device: where they are.
    """

    def __init__(self, samples: TrainingSet, order: Generator, training: cfg.Training, device: torch.device) -> None:
        self._samples, self._order, self._training, self._device = samples, order, training, device
        self._pass: tuple[dict[str, Any], int] = order.state_dict(), 0  # the order's state before it, updates before it

    def of(self, experience: Experience, iterations: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an experience from one on.

        Args:
            experience: where from.
            iterations: batches in all.
            done: of these, how many came before the state that was loaded; 0 for a new experience.
        """
        one = int(experience.task[0])
        single = bool((experience.task == one).all())
        n, size = len(experience.index), self._training.batch_size
        before = self._pass[1] if done else 0
        while before < iterations:
            self._pass = self._order.state_dict(), before
            order = self._order.permutation(n)
            index = torch.from_numpy(experience.index[order]).to(self._device)
            task = one if single else torch.from_numpy(experience.task[order]).to(self._device)
            count = min(batches_in_a_pass(n, self._training), iterations - before)
            bounds = [(b * size, min((b + 1) * size, n)) for b in range(max(0, done - before), count)]
            for (a, b), (x, y) in zip(bounds, self._samples.in_turn(index, task, bounds), strict=True):
                yield Batch(x=x, y=y, index=index[a:b], task=task if isinstance(task, int) else task[a:b])
            before += count

    def state_dict(self) -> dict[str, Any]:
        """Where the order stood before the present pass, and the updates of the experience before it."""
        return {"order": self._pass[0], "before": self._pass[1], "now": self._order.state_dict()}

    def load_state_dict(self, state: dict[str, Any], within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience (the pass is drawn again) or between two."""
        self._pass = state["order"], state["before"]
        self._order.load_state_dict(state["order"] if within else state["now"])


@dataclass
class Workbench:
    """A run's parts; two of them share nothing that training changes."""

    run: resolve.RunConfig
    stream: Stream
    device: torch.device
    samples: TrainingSet
    evaluator: Evaluator
    strategy: Learner
    batches: Batches
    budgets: tuple[int, ...]
    """Updates in each experience, (V,)."""
    experiences: Experiences
    augmenters: tuple[Augmenter, ...]
    listeners: list[Callable[[], None]]
    """Called where the strategy has changed what it predicts without an update."""

    def experience(self, number: int) -> Experience:
        """What the strategy is given in an experience. Its samples are in its reach from here on."""
        for visit in self.experiences.visits(number):
            self.samples.admit(visit)
        return self.experiences(number)

    def state_dict(self) -> dict[str, Any]:
        """All that training changes.

        Raises:
            Unsaveable: the strategy's state cannot be saved.
        """
        return {
            "strategy": self.strategy.state_dict(),
            "batches": self.batches.state_dict(),
            "augmenters": [augmenter.state_dict() for augmenter in self.augmenters],
            "evaluator": self.evaluator.state_dict(),
            "globals": global_state(self.device.type == "cuda"),
        }

    def load_state_dict(self, state: dict[str, Any], experience: int, within: bool) -> None:
        """Continues where `state_dict` was taken: within an experience, or before it."""
        for number in range(experience):
            for visit in self.experiences.visits(number):
                self.samples.admit(visit)
        if within:
            self.experience(experience)
        self.strategy.load_state_dict(state["strategy"])
        self.batches.load_state_dict(state["batches"], within)
        for augmenter, own in zip(self.augmenters, state["augmenters"], strict=True):
            augmenter.load_state_dict(own)
        self.evaluator.load_state_dict(state["evaluator"])
        set_global_state(state["globals"])


def optimizer(
    settings: cfg.Optimizer, parameters: Iterable[nn.Parameter], fused: bool = False
) -> torch.optim.Optimizer:
    """The benchmark's optimiser over some parameters.

    Args:
        settings: its kind and hyper-parameters.
        parameters: what it changes.
        fused: see `numerics.fused`.

    Raises:
        UserError: torch has no fused step for this kind.
    """
    if fused and isinstance(settings, cfg.RmsProp):
        raise UserError("numerics.fused: torch has no fused step for 'rmsprop'. Allowed: false.")
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, cfg.Adam):
        options["betas"] = tuple(settings.betas)
    if fused:
        options["fused"] = True
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[settings.name](parameters, **options)


def assemble(run: resolve.RunConfig, stream: Stream) -> Workbench:
    """Builds model, strategy and evaluator of a run.

    Raises:
        UserError: the strategy's name, its hyper-parameters, or a model that does not fit the data.
    """
    found = imported(run.strategy)
    models.import_parts(run.benchmark.model)
    chosen = _configuration(found, run.strategy) if is_strategy(found) else None
    settings = composition.optimizer_of(chosen) or run.benchmark.training.optimizer
    chance = Chance(run.seed, run.seeds.model_dump(exclude_none=True))
    device, bench = torch.device(run.numerics.device), run.benchmark
    transform = InputTransform(stream, device)
    samples = TrainingSet(stream, transform, device)
    samples.fence()
    shape = tuple(stream.data.train_x.shape[1:])
    # What a strategy fetches for itself does not move the augmentation of the stream's batches.
    augmenters = tuple(
        Augmenter(bench.training.augmentation, chance.generator("augmentation", who), shape, stream.data.top, device)
        for who in (("batches", "strategy") if bench.training.augmentation else ())
    )
    for_batches, for_strategy = [samples.augmented(a) for a in augmenters] or [samples, samples]
    listeners: list[Callable[[], None]] = []
    chance.seed_globals("init")
    model = models.build(bench.model, shape, stream.outputs).to(device)
    training = bench.training
    if training.active_outputs is None:
        training = training.model_copy(update={"active_outputs": "task" if stream.setting == "task" else "all"})
    setup = Setup(
        model=model,
        make_optimizer=lambda parameters: optimizer(settings, parameters, run.numerics.fused),
        samples=for_strategy,
        training=training,
        generator=chance.generator("strategy"),
        another=partial(chance.generator, "strategy"),
        outputs=stream.outputs,
        task_outputs=tuple(tuple(sorted(set(t.targets))) for t in stream.all_tasks),
        input_shape=shape,
        device=device,
        autocast=partial(torch.autocast, device.type, torch.bfloat16) if run.numerics.amp else nullcontext,
        changed=partial(_tell, listeners),
    )
    chance.seed_globals("strategy")
    strategy = _strategy(found, chosen, run, setup, stream)
    built = Workbench(
        run=run,
        stream=stream,
        device=device,
        samples=samples,
        evaluator=Evaluator.of_stream(
            stream,
            transform,
            device,
            bench.evaluation,
            run.watch,
            chance.seeds["stream"],
            _keeps_bits(run, stream),
            bench.task_at_test,
        ),
        strategy=strategy,
        batches=Batches(for_batches, chance.generator("order"), bench.training, device),
        budgets=budgets(bench.training, stream),
        experiences=Experiences(stream, strategy.access, bench.protocol),
        augmenters=augmenters,
        listeners=listeners,
    )
    give_back()  # what making the inputs took
    return built


def _tell(listeners: list[Callable[[], None]]) -> None:
    for listen in listeners:
        listen()


def _keeps_bits(run: resolve.RunConfig, stream: Stream) -> bool:
    """Whether each test sample is recorded: as the configuration says, or where the record stays small."""
    if run.watch.bits is not None:
        return run.watch.bits
    evaluation = run.benchmark.evaluation
    of_visit = updates_by_visit(budgets(run.benchmark.training, stream), stream)
    looks = sum(evaluations(evaluation, n) for n in of_visit)
    samples = int(lay_out_cells(stream, evaluation.subset).size.sum())
    views = len(views_of(stream.setting, evaluation)) * (1 + len(run.watch.ema) + len(run.watch.last))
    return looks * views * -(-samples // 8) <= _BITS_BYTES


# ------------------------------------------------------------------------------------------------ the strategy
def imported(chosen: cfg.StrategyConfig) -> Any:
    """The strategy's class or factory. Modules are imported before anything is seeded: some draw or seed themselves."""
    found = registry.strategy(chosen.name)
    if not is_strategy(found):
        from clbench import bridge  # the only way to Avalanche, which takes seconds to import

        bridge.import_parts(chosen.parameters)
    torch.set_default_dtype(torch.float32)  # whatever a module did to it
    return found


def completed(run: resolve.RunConfig, found: Any) -> resolve.RunConfig:
    """The run with the defaults of a strategy of the user's own written out."""
    if not is_strategy(found):
        return run
    values = _configuration(found, run.strategy).model_dump(mode="json")
    return run.model_copy(update={"strategy": cfg.StrategyConfig(name=run.strategy.name, **values)})


def _configuration(found: Any, chosen: cfg.StrategyConfig) -> Any:
    source = f"strategy '{chosen.name}'"
    configuration, problems = mistakes.check_section(source, "strategy", found.Config, chosen.parameters, [])
    if problems:
        raise UserError(*problems)
    return configuration


def _strategy(found: Any, configuration: Any, run: resolve.RunConfig, setup: Setup, stream: Stream) -> Learner:
    chosen = run.strategy
    if is_strategy(found):
        problems = resolve.denied(run.benchmark, chosen.name, found.needs(configuration))
        if problems:
            raise UserError(*problems)
        strategy: Learner = found(configuration, setup)
        return strategy
    from clbench import bridge

    problems = resolve.denied(run.benchmark, chosen.name, bridge.needs(stream))
    if run.numerics.amp:
        problems.append(f"numerics.amp: '{chosen.name}' has a training step of its own, in float32. Allowed: null.")
    if run.benchmark.training.loss != "cross_entropy":
        problems.append(f"training.loss: '{chosen.name}' has a loss of its own. Allowed: cross_entropy.")
    if problems:
        raise UserError(*problems)
    return bridge.host(found, chosen, setup, stream)
