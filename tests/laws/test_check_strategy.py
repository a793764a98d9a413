"""`check_strategy` names the law that a strategy breaks, and passes those that keep them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from clbench import registry
from clbench.strategies.er import ExperienceReplay
from clbench.strategy import Batch, Memory, Strategy
from clbench.testing.strategies import check_strategy

QUICK: dict[str, Any] = {"better_than": (), "online": None, "domains": None}


def test_replay_of_the_table_keeps_them_all() -> None:
    check_strategy("er", ["strategy.memory=30"], better_than=("naive",), seeds=(0, 1))


def test_one_that_is_not_deterministic(named: Any) -> None:
    class Mine(Strategy):
        def loss(self, batch: Batch) -> torch.Tensor:
            return super().loss(batch) * float(np.random.default_rng().random())

    with pytest.raises(AssertionError, match=r"two runs of one seed do not end the same: another strategy.model"):
        check_strategy(named(Mine), **QUICK)


def test_one_that_learns_when_it_is_asked(named: Any) -> None:
    asked = {"times": 0}

    class Mine(Strategy):
        def __init__(self, config: Any, setup: Any) -> None:
            super().__init__(config, setup)
            asked["times"] = 0

        def predict(self, model: Any, x: Any, task: Any) -> Any:
            asked["times"] += 1
            return super().predict(model, x, task)

        def loss(self, batch: Batch) -> torch.Tensor:
            return super().loss(batch) * (1 + 0.1 * (asked["times"] % 7))

    with pytest.raises(AssertionError, match=r"being watched changes it: without, it ends with another strategy.model"):
        check_strategy(named(Mine), **QUICK)


def test_one_that_holds_more_than_it_may(named: Any) -> None:
    class Mine(ExperienceReplay):
        def held(self) -> Any:
            index, task = super().held()
            return np.append(index, index[:1]), np.append(task, task[:1])

    with pytest.raises(AssertionError, match="it holds 31 samples, and its memory is 30"):
        check_strategy(named(Mine), ["strategy.memory=30"], **QUICK)
    with pytest.raises(AssertionError, match="it holds a sample of a task twice"):
        check_strategy(named(Mine), ["strategy.memory=1000"], **QUICK)


def test_one_that_does_not_say_what_it_holds(named: Any) -> None:
    class Mine(ExperienceReplay):
        def memory(self) -> Memory:
            return Memory(0, 0)

    with pytest.raises(AssertionError, match=r"memory\(\) says 0 samples, and held\(\) gives 30"):
        check_strategy(named(Mine), ["strategy.memory=30", "training.batch_size=30"], **QUICK)


def test_one_whose_memory_misses_a_task(named: Any) -> None:
    class Mine(ExperienceReplay):
        def after_update(self, batch: Batch) -> None:
            if len(self.buffer) < 30:
                super().after_update(batch)

    with pytest.raises(
        AssertionError, match=r"at the end of online_digits-v1 it holds no sample of tasks \[1, 2, 3, 4\]"
    ):
        check_strategy(named(Mine), ["strategy.memory=30"], **{**QUICK, "online": "online_digits-v1"})


def test_one_that_reads_the_number_of_a_task(named: Any) -> None:
    class Mine(Strategy):
        def loss(self, batch: Batch) -> torch.Tensor:
            assert isinstance(batch.task, int)
            return super().loss(batch) / (1 + batch.task)

    with pytest.raises(AssertionError, match="it reads the tasks' numbers, which it does not say that it needs"):
        check_strategy(named(Mine), **{**QUICK, "domains": "permuted_digits-v1"})

    class Honest(Mine):
        @classmethod
        def needs(cls, config: Any) -> Any:
            return frozenset({"task_in_training"})

    check_strategy(named(Honest), **{**QUICK, "domains": "permuted_digits-v1"})


def test_one_that_forgets_its_state(named: Any) -> None:
    class Mine(Strategy):
        def __init__(self, config: Any, setup: Any) -> None:
            super().__init__(config, setup)
            self.updates = 0

        def after_update(self, batch: Batch) -> None:
            self.updates += 1

    with pytest.raises(AssertionError, match="Mine: attribute 'updates' is another than before load_state_dict"):
        check_strategy(named(Mine), **QUICK)


def test_one_that_is_no_better(named: Any) -> None:
    class Mine(Strategy):
        def loss(self, batch: Batch) -> torch.Tensor:
            return super().loss(batch) * 0

    with pytest.raises(
        AssertionError, match=r"its mean accuracy 0\.\d{4} on split_digits-v1 is not above 0\.\d{4} of 'naive'"
    ):
        check_strategy(named(Mine), seeds=(0,), **{**QUICK, "better_than": ("naive",)})
    assert "naive" in registry.strategies()
