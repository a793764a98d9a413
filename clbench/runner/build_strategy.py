"""Construction of a run's strategy: built-in, composed, user-defined, or hosted."""

from __future__ import annotations

from typing import Any

import torch

from clbench import estimators, messages, registry, resolve, run_config
from clbench.composition import Composed
from clbench.config.benchmark import StrategyConfig
from clbench.errors import UserError
from clbench.estimators.hosting import Estimator, refused
from clbench.measures import MEASURES
from clbench.strategy import Learner, Setup, is_strategy
from clbench.stream import Stream


def imported(chosen: StrategyConfig) -> Any:
    """The strategy's class or factory. Modules are imported before anything is seeded: some draw or seed themselves."""
    target = estimators.as_strategy(chosen.name, registry.strategy(chosen.name))
    if not is_strategy(target):
        from clbench.avalanche import construction  # the only way to Avalanche, which takes seconds to import

        construction.import_parts(chosen.parameters)
    torch.set_default_dtype(torch.float32)  # whatever a module did to it
    return target


def completed(run: run_config.RunConfig, target: Any) -> run_config.RunConfig:
    """The run with the defaults of a user-defined strategy written out."""
    if not is_strategy(target):
        return run
    values = configuration_of(target, run.strategy).model_dump(mode="json")
    return run.model_copy(update={"strategy": StrategyConfig(name=run.strategy.name, **values)})


def configuration_of(target: Any, strategy: StrategyConfig) -> Any:
    source = f"strategy '{strategy.name}'"
    configuration, problems = messages.check_section(source, "strategy", target.Config, strategy.parameters, [])
    if problems:
        raise UserError(*problems)
    return configuration


def check_measures(run: run_config.RunConfig, target: Any, stream: Stream) -> None:
    """Checks that loss, views and measures suit the targets, and that the strategy learns such.

    Raises:
        UserError: all mistakes.
    """
    numbers, data = stream.data.train_target is not None, f"'{stream.data.name}'"
    training, problems = run.benchmark.training, []
    for name in run.watch.measures or ():
        if (MEASURES[name].of == "numbers") is not numbers:
            has = "numbers to predict" if numbers else "classes to tell"
            allowed = ", ".join(n for n, m in MEASURES.items() if (m.of == "numbers") is numbers)
            problems.append(f"watch.measures: got '{name}', but {data} has {has}. Allowed: {allowed}.")
    if not numbers and training.loss == "absolute_error":
        problems.append(f"training.loss: got 'absolute_error', but {data} has classes to tell.")
    if numbers:
        if training.loss == "cross_entropy":
            problems.append(
                f"training.loss: got 'cross_entropy', but {data} has numbers to predict. "
                "Allowed: squared_error, absolute_error."
            )
        if training.active_outputs not in (None, "all"):
            problems.append(f"training.active_outputs: got '{training.active_outputs}', but {data} has no classes.")
        if run.benchmark.model.head is not None:
            problems.append(f"model.head: is for classes, and {data} has numbers to predict.")
        for key in ("gradients", "features"):
            if getattr(run.watch, key):
                problems.append(f"watch.{key}: is for classes, and {data} has numbers to predict.")
        if not regresses(target):
            problems.append(f"strategy: '{run.strategy.name}' tells classes, and {data} has numbers to predict.")
    if problems:
        raise UserError(*problems)


def regresses(target: Any) -> bool:
    """True if a strategy is valid where numbers are to be predicted; see `Learner.regresses`."""
    parts = getattr(target, "parts", None)
    if is_strategy(target) and issubclass(target, Composed) and parts:
        return all(regresses(part) for part in parts.values())
    return bool(vars(target).get("regresses", False)) if isinstance(target, type) else False


def build_strategy(target: Any, configuration: Any, run: run_config.RunConfig, setup: Setup, stream: Stream) -> Learner:
    chosen = run.strategy
    if is_strategy(target):
        problems = resolve.denied(run.benchmark, chosen.name, target.needs(configuration))
        if issubclass(target, Estimator):
            problems += refused(run)
        if problems:
            raise UserError(*problems)
        strategy: Learner = target(configuration, setup)
        return strategy
    from clbench.avalanche import hosting

    problems = resolve.denied(run.benchmark, chosen.name, hosting.needs(stream))
    if run.numerics.amp:
        problems.append(f"numerics.amp: '{chosen.name}' has its own training step, in float32. Allowed: null.")
    if run.benchmark.training.loss != "cross_entropy":
        problems.append(f"training.loss: '{chosen.name}' has its own loss. Allowed: cross_entropy.")
    if problems:
        raise UserError(*problems)
    return hosting.host(target, chosen, setup, stream)
