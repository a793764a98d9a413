"""What each engine may be told: the section `engine` of a study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clbench.schema import Count, Model


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
    gpus: Annotated[float, Field(gt=0)] | None = None
    """GPUs of one run; 0.25 for four runs on one. Default: 1 for runs on a GPU."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a run is begun again, on another node, where its own is lost."""


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
    """Of one job."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs of one job. Default: 1 for runs on a GPU."""
    options: dict[str, str | int] = {}
    """Further ones of sbatch, without their dashes: {account: cl, constraint: a100}."""
    cluster: Literal["slurm", "local"] = "slurm"
    """`local`: submitit's processes on this machine, to try a study before it is submitted."""


Settings = Annotated[LocalSettings | RaySettings | SlurmSettings, Field(discriminator="name")]
