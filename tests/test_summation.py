"""Numbers that are reported end in the same bits on every machine."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

CORE_TYPES = "Prescott", "Haswell", "Zen", "SkylakeX", "Cooperlake"
"""Kernels of OpenBLAS that add in different orders; on a processor that is none of theirs the variable does nothing."""

SCRIPT = """
import dataclasses, hashlib, json
import numpy as np
from clbench import metrics
from clbench.reports import statistics
from clbench.testing import make_trace

rng, values = np.random.default_rng(0), []
visits = rng.random((12, 9)) < 0.4
visits[np.arange(12), np.arange(12) % 9] = True
for few, square in ((False, True), (True, False)):
    trace = make_trace(rng.random((9 if square else 12, 33, 9)), np.eye(9, dtype=bool) if square else visits, size=101)
    shared = trace.task_cells | (rng.random((9, 9)) < 0.3)  # tasks of several cells, cells of several tasks
    trace = dataclasses.replace(trace, task_cells=shared)
    if few:
        trace = dataclasses.replace(trace, bits={})
    values.append(metrics.compute(trace))
seeds = rng.random((2, 11)).tolist()
values += [statistics.summary(seeds[0]), statistics.interquartile_interval(seeds[0])]
values += [statistics.probability_of_improvement(*seeds)]
print(hashlib.sha256(json.dumps(values).encode()).hexdigest())
"""


def digest(**variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "NPY_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment | variables, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def here() -> str:
    return digest()


@pytest.mark.parametrize("core", CORE_TYPES)
def test_metrics_and_statistics_are_those_of_any_kernel(core: str, here: str) -> None:
    assert digest(OPENBLAS_CORETYPE=core) == here


def test_metrics_and_statistics_do_not_depend_on_wide_instructions(here: str) -> None:
    wide = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    assert digest(NPY_DISABLE_CPU_FEATURES=wide, ATEN_CPU_CAPABILITY="default") == here
