"""Models of the engines: the section `engine` of a study."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.errors import shown
from clbench.schema import Count, Model, mistake


class LocalSettings(Model):
    """Processes of this machine; each executes many runs, and all share a GPU."""

    name: Literal["local"]
    processes: Count | None = None
    """Default: the machine's cores divided by the threads of a run."""


class RaySettings(Model):
    """Ray, here or on a cluster whose nodes share the output folder."""

    name: Literal["ray"]
    address: str | None = None
    """Of a running cluster; `auto` for the one of this machine. Default: one is started here."""
    gpus: Annotated[float, Field(gt=0, le=1)] | None = None
    """GPUs of one run; 0.25 for four runs on one. Default: 1 for runs on a GPU."""
    retries: Annotated[int, Field(ge=0)] = 3
    """Restarts of a run on another node after its node is lost."""


_SET_BY_KEYS = {
    "partition": "partition",
    "time": "minutes",
    "mem": "memory_gb",
    "gpus-per-node": "gpus",
    "cpus-per-task": "numerics.threads",
}
_SET_BY_ENGINE = {
    "array", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "job-name", "nodes", "ntasks",
    "ntasks-per-node", "wrap", "wait",
}  # fmt: skip


class SlurmSettings(Model):
    """SLURM through submitit: an array of jobs, requeued after pre-emption."""

    name: Literal["slurm"]
    partition: str | None = None
    minutes: Count = 60
    """Time limit of one job of the array."""
    runs_per_job: Count = 1
    """Small runs that share one job, and its imports."""
    parallel: Count = 256
    """Jobs of the array that run at a time."""
    memory_gb: Count = 4
    """Of one job, unless `options` say mem-per-cpu or mem-per-gpu."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of one job. Default: 1 for runs on a GPU."""
    options: dict[str, Any] = {}
    """Further options of sbatch, without dashes: {account: cl, constraint: a100, exclusive: true}."""
    retries: Annotated[int, Field(ge=0)] = 1
    """Resubmissions of a run whose job died; a pre-empted job is requeued anyway."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: submitit's processes on this machine, to try a study before it is submitted."""

    @pydantic.field_validator("options")
    @classmethod
    def _are_free(cls, options: dict[str, Any]) -> dict[str, Any]:
        for key, value in options.items():
            allowed = isinstance(value, (str, int)) and value is not False and "\n" not in str(value)
            if not re.fullmatch("[a-z]+(-[a-z]+)*", key) or not allowed:
                raise mistake(
                    f"got {shown({key: value})}. Allowed: sbatch's long options without dashes, with text in one line, "
                    "a whole number, or true"
                )
            if key in _SET_BY_KEYS:
                raise mistake(f"'{key}' is set by '{_SET_BY_KEYS[key]}'")
            if key in _SET_BY_ENGINE:
                raise mistake(f"'{key}' is set by the engine")
        return options


Settings = Annotated[LocalSettings | RaySettings | SlurmSettings, Field(discriminator="name")]
