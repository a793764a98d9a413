"""`training.order`: the samples of an experience in the order of the data, also of a run that resumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clbench.resolve import make_run
from clbench.strategies.naive import Naive
from clbench.strategy import Batch
from clbench.testing.resume import check_resume


class Noting(Naive):
    """Notes the rows of every batch."""

    rows: list[list[int]] = []  # noqa: RUF012 - read by the test

    def step(self, batch: Batch) -> Any:
        Noting.rows.append(batch.index.tolist())
        return super().step(batch)


@pytest.mark.parametrize("passes", [1, 2])
def test_samples_come_in_the_order_of_the_data(tmp_path: Any, passes: int) -> None:
    from clbench.runner.run import execute

    Noting.rows = []
    overrides = [
        f"training={{epochs: {passes}, iterations: null, batch_size: 7, order: data}}",
        "evaluation={every: 0}",
    ]
    strategy = f"{__name__}:Noting"
    run = make_run("split_synthetic-v1", strategy=strategy, overrides=overrides)
    assert execute(run, tmp_path).record["status"] == "completed"
    rows = [np.array(batch) for batch in Noting.rows]
    of_data = np.concatenate(rows)
    assert len(of_data) == passes * 1000
    for part in of_data.reshape(5 * passes, 200):
        assert (np.diff(part) > 0).all()
    assert max(map(len, rows)) == 7


def test_a_run_in_the_order_of_the_data_resumes() -> None:
    overrides = ["training.order=data", "strategy.memory=50", "stream.tasks.count=2", "stream.synthetic.classes=4"]
    check_resume(make_run("split_synthetic-v1", strategy="er", overrides=overrides))
