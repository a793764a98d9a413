"""Construction of a run's strategy: built-in, composed, user-defined, or hosted."""

from __future__ import annotations

from typing import Any

import torch

from clbench import messages, registry, resolve, run_config
from clbench.config import benchmark as cfg
from clbench.errors import UserError
from clbench.strategy import Learner, Setup, is_strategy
from clbench.stream import Stream


def imported(chosen: cfg.StrategyConfig) -> Any:
    """The strategy's class or factory. Modules are imported before anything is seeded: some draw or seed themselves."""
    found = registry.strategy(chosen.name)
    if not is_strategy(found):
        from clbench.avalanche import construction  # the only way to Avalanche, which takes seconds to import

        construction.import_parts(chosen.parameters)
    torch.set_default_dtype(torch.float32)  # whatever a module did to it
    return found


def completed(run: run_config.RunConfig, found: Any) -> run_config.RunConfig:
    """The run with the defaults of a strategy of the user's own written out."""
    if not is_strategy(found):
        return run
    values = configuration_of(found, run.strategy).model_dump(mode="json")
    return run.model_copy(update={"strategy": cfg.StrategyConfig(name=run.strategy.name, **values)})


def configuration_of(found: Any, chosen: cfg.StrategyConfig) -> Any:
    source = f"strategy '{chosen.name}'"
    configuration, problems = messages.check_section(source, "strategy", found.Config, chosen.parameters, [])
    if problems:
        raise UserError(*problems)
    return configuration


def build_strategy(found: Any, configuration: Any, run: run_config.RunConfig, setup: Setup, stream: Stream) -> Learner:
    chosen = run.strategy
    if is_strategy(found):
        problems = resolve.denied(run.benchmark, chosen.name, found.needs(configuration))
        if problems:
            raise UserError(*problems)
        strategy: Learner = found(configuration, setup)
        return strategy
    from clbench.avalanche import hosting

    problems = resolve.denied(run.benchmark, chosen.name, hosting.needs(stream))
    if run.numerics.amp:
        problems.append(f"numerics.amp: '{chosen.name}' has a training step of its own, in float32. Allowed: null.")
    if run.benchmark.training.loss != "cross_entropy":
        problems.append(f"training.loss: '{chosen.name}' has a loss of its own. Allowed: cross_entropy.")
    if problems:
        raise UserError(*problems)
    return hosting.host(found, chosen, setup, stream)
