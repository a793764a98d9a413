"""Runs for Weights & Biases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clbench.loggers.points import Point, final_metrics, identity


class WeightsAndBiases:
    """A W&B run: project = benchmark, group = strategy and configuration, id = run id. Steps count points.

    Points that the server has already are not sent again: those of an earlier attempt are the same, since a run is a
    pure function of its id. Begun anew, a run replaces the one of its id. `WANDB_MODE`, `WANDB_PROJECT` and the other
    variables of W&B count; only its folder is always the run's.

    Args:
        folder: where W&B's files go; those of earlier attempts are removed.
        record: the run's run.json.
        resumed: whether an earlier attempt is continued.
    """

    def __init__(self, folder: Path, record: dict[str, Any], resumed: bool) -> None:
        import wandb

        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)  # W&B would take another place where it cannot write
        preset: dict[str, Any] = {
            "console": "off",  # it would put itself before sys.stdout
            "quiet": True,
            "finish_timeout": 300.0,  # a study does not wait for ever for a network
        }
        strategy = record["config"]["strategy"]["name"]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or record["benchmark"],
            group=f"{strategy} {record['config_hash'][:16]}",
            name=f"{strategy} seed {record['config']['seed']}",
            id=record["run_id"],
            resume="allow" if resumed else None,
            dir=str(folder.parent),
            config={**record["config"], **identity(record)},
            settings={k: v for k, v in preset.items() if f"WANDB_{k.upper()}" not in os.environ},
        )
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")
        self._there = self._run.starting_step
        self._code = 1

    def add(self, points: Iterable[Point]) -> None:
        for number, iteration, values in points:
            if number >= self._there:
                self._run.log({"iteration": iteration, **values}, step=number)

    def end(self, record: dict[str, Any]) -> None:
        if record["status"] == "completed":
            self._run.summary.update(final_metrics(record))
            self._code = 0
        self._run.summary.update({"status": record["status"], "failure": (record["failure"] or {}).get("message")})

    def close(self) -> None:
        self._run.finish(exit_code=self._code)
