"""`clbench init`: a commented file to begin from."""

from __future__ import annotations

import argparse
import keyword
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.errors import UserError

if TYPE_CHECKING:
    from clbench.cli.arguments import Verbs

BENCHMARK = """\
# A benchmark of your own. `clbench show stream` (model, training, evaluation, protocol) prints all keys;
# docs/howto/write_a_benchmark.md explains them.
id: {name}
title: five tasks of two digits each

stream:
  data: digits                  # `clbench list datasets`; or npz:PATH, with arrays of yours
  tasks: {{by: classes, count: 5, order: seed}}
  schedule: {{by: sequential}}    # or power_law, blurry, drift, ...: `clbench show stream`
  setting: class                # class, task or domain: what a prediction has to tell

model: {{name: mlp, hidden: [100]}}

training:                       # the budget of every strategy
  iterations: 100               # updates of each experience; or epochs
  batch_size: 32
  optimizer: {{name: sgd, lr: 0.1}}

evaluation:
  every: 1                      # updates between evaluations; 0: only at the ends of experiences

strategy: {{name: er, memory: 200}}     # where the command line names none

# clbench validate {file}
# clbench run {file} --seeds 3
"""

STUDY = """\
# A study: every strategy on every stream, with the same seeds. docs/howto/studies.md explains the keys.
id: {name}

streams:                        # ids of `clbench list streams`, or paths of your own files
  - split_digits-v1

strategies:
  - naive                       # lower-bound baseline
  - joint                       # upper-bound baseline
  - {{name: er, memory: [50, 200]}}     # a list: each value
  # - [er, ewc]                 # a composition
  # - my_strategy:MyStrategy    # of `clbench init strategy`

seeds: 2                        # 0 and 1; a ranking needs 5 or more
budget: {{iterations: 20}}        # updates of each experience, instead of each benchmark's

# tuning: {{by: first, experiences: 2}}   # chooses `memory` on held-out training samples

# clbench validate {file}
# clbench grid {file} --dry-run
# clbench grid {file}
"""

STRATEGY = '''\
"""{cls}: every weight is held near its value at the end of the last experience. Change it into a method of your own.

    L = L_new + strength/2 sum_i (w_i - w*_i)^2     w* the weights at the end of the last experience

docs/howto/write_a_strategy.md says what a strategy may override.

    clbench show {module}:{cls}
    clbench run split_digits-v1 --strategy {module}:{cls} -o strategy.strength=0.5
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from clbench.config import Parameters
from clbench.strategy import Experience, Memory, Setup, Strategy


class {cls}Config(Parameters):
    """Hyper-parameters: keys of `strategy` in a file, `-o strategy.KEY=VALUE` on the command line."""

    strength: Annotated[float, Field(ge=0)] = 0.1
    """0 is fine-tuning."""


class {cls}(Strategy):
    """Fine-tuning with a penalty on the distance from the weights of the last experience."""

    Config = {cls}Config

    def __init__(self, config: {cls}Config, setup: Setup) -> None:
        super().__init__(config, setup)
        self.config: {cls}Config = config
        self.anchor: list[Tensor] = []  # the weights at the end of the last experience

    def penalty(self) -> Tensor | None:
        """Added to the loss of each minibatch."""
        if not self.anchor:
            return None
        distance = sum((w - a).square().sum() for w, a in zip(self.model.parameters(), self.anchor, strict=True))
        return self.config.strength / 2 * distance

    def end_experience(self, experience: Experience) -> None:
        """Called after the last update of an experience."""
        self.anchor = [w.detach().clone() for w in self.model.parameters()]

    def memory(self) -> Memory:
        """What is kept beside the network: samples and bytes."""
        held = super().memory()
        return Memory(held.samples, (held.bytes or 0) + sum(a.nbytes for a in self.anchor))

    def state_dict(self) -> dict[str, Any]:
        """All that training changes, so that a stopped run resumes."""
        return {{**super().state_dict(), "anchor": self.anchor}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.anchor = state["anchor"]
'''

DEFAULTS = {"benchmark": "my_benchmark.yaml", "study": "my_study.yaml", "strategy": "my_strategy.py"}
"""Kinds of files, and their names."""

_TEXTS = {"benchmark": BENCHMARK, "study": STUDY, "strategy": STRATEGY}
_ENDS = {"benchmark": (".yaml", ".yml"), "study": (".yaml", ".yml"), "strategy": (".py",)}


def add(verbs: Verbs) -> None:
    """The verb."""
    init = verbs.add_parser("init", help="write a commented file to begin from: a benchmark, a study or a strategy")
    init.add_argument("kind", nargs="?", choices=tuple(DEFAULTS), default="benchmark", metavar="|".join(DEFAULTS))
    init.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help=f"default {', '.join(DEFAULTS.values())}; never overwritten"
    )
    init.set_defaults(act=_init)


def _init(options: argparse.Namespace) -> int:
    from clbench.results import files

    kind = options.kind
    path = options.file or Path(DEFAULTS[kind])
    if path.suffix not in _ENDS[kind]:
        raise UserError(f"{path}: got the ending '{path.suffix}'. Allowed for a {kind}: {', '.join(_ENDS[kind])}.")
    stem = re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_") or f"my_{kind}"
    if kind == "strategy" and (stem != path.stem or not stem.isidentifier() or keyword.iskeyword(stem)):
        raise UserError(f"{path}: got the name '{path.stem}'. Allowed: a Python module's, like my_strategy.py.")
    name = stem.lower() if kind == "study" else stem  # ids of studies are in small letters
    cls = "".join(part[:1].upper() + part[1:] for part in stem.split("_"))
    text = _TEXTS[kind].format(name=name, file=path, module=stem, cls=cls)
    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; it is left as it is. Give another name.")
    files.write_bytes(path, text.encode())
    print(path)
    return 0
