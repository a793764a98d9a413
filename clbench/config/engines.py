"""What each engine may be told: the section `engine` of a study."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from clbench.errors import shown
from clbench.schema import Count, Model, mistake


class LocalSettings(Model):
    """Processes of this machine; each does many runs, and a GPU is shared by all of them."""

    name: Literal["local"]
    processes: Count | None = None
    """Default: as many as the machine's cores, by the threads of a run, give work."""


class RaySettings(Model):
    """Ray, here or on a cluster whose nodes share the output folder."""

    name: Literal["ray"]
    address: str | None = None
    """Of a running cluster; `auto` for the one of this machine. Default: one is started here."""
    gpus: Annotated[float, Field(gt=0, le=1)] | None = None
    """GPUs of one run; 0.25 for four runs on one. Default: 1 for runs on a GPU."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a run is begun again, on another node, where its own is lost."""


_SAID_ELSEWHERE = {
    "partition": "partition",
    "time": "minutes",
    "mem": "memory_gb",
    "gpus-per-node": "gpus",
    "cpus-per-task": "numerics.threads",
}
_ENGINES_OWN = {
    "array", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "job-name", "nodes", "ntasks",
    "ntasks-per-node", "wrap", "wait",
}  # fmt: skip


class SlurmSettings(Model):
    """SLURM through submitit: an array of jobs that are queued again where they are pre-empted."""

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
    """Further ones of sbatch, without their dashes: {account: cl, constraint: a100, exclusive: true}."""
    retries: Annotated[int, Field(ge=0)] = 1
    """How often a run is submitted again whose job died; one that is pre-empted is queued again anyway."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: submitit's processes on this machine, to try a study before it is submitted."""

    @pydantic.field_validator("options")
    @classmethod
    def _are_free(cls, options: dict[str, Any]) -> dict[str, Any]:
        for key, value in options.items():
            said = isinstance(value, (str, int)) and value is not False and "\n" not in str(value)
            if not re.fullmatch("[a-z]+(-[a-z]+)*", key) or not said:
                raise mistake(
                    f"got {shown({key: value})}. Allowed: sbatch's long options without dashes, with text in one line, "
                    "a whole number, or true"
                )
            if key in _SAID_ELSEWHERE:
                raise mistake(f"'{key}' is said by '{_SAID_ELSEWHERE[key]}'")
            if key in _ENGINES_OWN:
                raise mistake(f"'{key}' is the engine's own")
        return options


Settings = Annotated[LocalSettings | RaySettings | SlurmSettings, Field(discriminator="name")]
