"""Every strategy of the table keeps the laws of `check_strategy`, and learns something."""

from __future__ import annotations

from typing import Any

import pytest

from clbench.testing.strategies import check_strategy
from support import CLASSIFIERS

PROMPTS = (
    [
        "model={name: transformer, patch: 4, width: 16, depth: 3, heads: 2}",
        "training.optimizer={name: adam, lr: 0.005}",
    ],
    {},
)
MEMORY = ["strategy.memory=60"]
TASK = ["stream.setting=task"]
NAIVE: dict[str, Any] = {"better_than": ("naive",)}
CASES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "chance": ([], {"better_than": ()}),
    "cumulative": ([], NAIVE),
    "joint": ([], NAIVE),
    "separate": (TASK, {"domains": None, **NAIVE}),
    # Held weights and old answers do little where all classes compete; where the task is told they should.
    "ewc": (TASK, {"domains": None, **NAIVE}),
    "si": (TASK, {"domains": None, **NAIVE}),
    "mas": (TASK, {"domains": None, **NAIVE}),
    "lwf": (TASK, {"domains": None, **NAIVE}),
    "er": (MEMORY, NAIVE),
    "er+ewc": (["strategy.er.memory=60"], NAIVE),
    "er+classp": (["strategy.er.memory=60"], {}),
    "er+ema": (["strategy.er.memory=60"], NAIVE),
    "er_ace": (MEMORY, NAIVE),
    "der": (MEMORY, NAIVE),
    "derpp": (MEMORY, NAIVE),
    "agem": (MEMORY, {}),
    "gem": (["strategy.memory=60"], NAIVE),
    "er_agem": (MEMORY, NAIVE),
    "power_law_rehearsal": (MEMORY, NAIVE),
    "ncm": ([], NAIVE),
    "slda": ([], NAIVE),
    "fecam": ([], NAIVE),
    "ranpac": (["strategy.projections=100"], NAIVE),
    "acil": (["strategy.projections=100"], NAIVE),
    "refit": (["strategy={window: 400, every: 50}"], {}),
    "fetril": ([], NAIVE),
    "pass": (["strategy.optimizer={name: adam}"], NAIVE),  # the rate that its temperature and weights are made for
    "napa_vq": ([], NAIVE),
    "l2p": PROMPTS,
    "dualprompt": PROMPTS,
    "coda_prompt": PROMPTS,
}
"""name -> overrides, and other arguments of `check_strategy` than its defaults."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*CLASSIFIERS, *CASES}))
def test_a_strategy_of_the_table_keeps_the_laws(name: str) -> None:
    overrides, options = CASES.get(name, ([], {}))
    check_strategy(name, overrides, **options)
