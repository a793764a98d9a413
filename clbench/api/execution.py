"""Execution in Python: one run, and a study of many."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clbench import registry, resolve
from clbench.api import display
from clbench.api.benchmarks import Reference, reference_of
from clbench.api.runs import PathLike, Run, Runs, of_record
from clbench.config import strategy_names
from clbench.errors import UserError, shown
from clbench.studies.engines.environment import waiting

if TYPE_CHECKING:
    from clbench.run_config import RunConfig
    from clbench.studies.study import Study

Strategy = str | Callable[..., Any] | Mapping[str, Any] | Sequence[Any]
"""A strategy: a name or import path, with `+` between several; a class, or a factory of an Avalanche strategy; a
mapping of `name` (one of these) and hyper-parameters; or a list of these, a composition."""


def run(
    benchmark: Reference,
    strategy: Strategy | None = None,
    *,
    seed: int = 0,
    out: PathLike = "results",
    overrides: Sequence[str] = (),
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    force: bool = False,
    other_code: Literal["keep", "again"] | None = None,
    keep: Sequence[str] = (),
    log: Sequence[str] = (),
    progress: bool | None = None,
    **sections: Any,
) -> Run:
    """Trains a strategy on a benchmark, as `clbench run` does: the same id, files and bytes.

    A completed run is not repeated, an unfinished one resumes. A run that fails raises nothing: its status is "failed",
    and its `reason` says why, in a table too; so a loop over strategies goes on.

    Args:
        benchmark: an id, a path to YAML, the contents of such a file, or a loaded benchmark.
        strategy: a name or import path; a class, of a notebook too; a mapping with hyper-parameters beside `name`; or a
            list of these, a composition. Default: the one that the benchmark's file names.
        seed: of the run, >= 0.
        out: the results folder.
        overrides: "key.path=value" texts, as after `-o` on the command line.
        threads: CPU threads; default: 1 for a small network, else the machine's cores. Part of the run's id.
        device: default: a GPU if there is one.
        force: whether it restarts, whatever exists of it.
        other_code: what to do where it was completed by other code; see `clbench run --other-code`.
        keep: ("weights",) for the final weights too.
        log: "tensorboard", "wandb".
        progress: whether a progress bar is shown; default: on a terminal and in a notebook.
        sections: sections of the benchmark with the keys to change, such as `training={"iterations": 50}`; also
            `seeds`, `numerics` and `watch`.

    Raises:
        UserError: every mistake in the configuration, data that are not available, a folder that cannot be written to.
        KeyboardInterrupt: it was stopped; the same call resumes it.

    >>> import clbench, tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     er = {"name": "er", "memory": 20}
    ...     run = clbench.run("split_synthetic-v1", er, out=out, training={"epochs": None, "iterations": 2})
    ...     len(run.trace.loss)  # 2 iterations in each of 5 experiences
    10
    >>> run.status, run.strategy, "average_accuracy" in run.metrics
    ('completed', 'er', True)
    """
    changes = list(overrides)
    changes += [] if threads is None else [f"numerics.threads={threads}"]
    changes += [] if device == "auto" else [f"numerics.device={device}"]
    if "strategy" in sections:
        raise UserError("run(): 'strategy' is an argument of its own.")
    above = display.as_yaml(sections)
    if strategy is not None:
        above = {"strategy": as_mapping(strategy), **above}
    plan = _with_machine(
        resolve.make_run(reference_of(benchmark), seed=_seed(seed), overrides=changes, above=[("run()", above)])
    )
    from clbench.cli.run import writable
    from clbench.loggers import base

    base.check(list(log))
    folder = Path(out)
    writable(folder)
    _before_torch()
    from clbench.cli.progress import OneRun
    from clbench.runner.run import execute

    label = f"{plan.benchmark.id} {plan.strategy.name} seed {plan.seed}"
    shows = display.is_interactive() if progress is None else progress
    outcome = execute(
        plan,
        folder,
        force=force,
        other_code=other_code,
        warn=lambda text: print(f"{label}: {text}", file=sys.stderr, flush=True),
        progress=OneRun(label, shown=True) if shows else None,
        log=list(log),
        keep=_names(keep),
    )
    code = f" with other code ({outcome.difference})" if outcome.other_code == "user" else ""
    note = f"finished earlier{code}, not repeated" if outcome.skipped else ""
    return of_record(outcome.directory, outcome.record, note=note, busy=outcome.busy)


def _names(names: Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _seed(seed: Any) -> int:
    value = display.as_yaml(seed)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserError(f"seed: got {shown(value)}. Allowed: an integer >= 0.")
    return value


def _before_torch() -> None:
    """Lets OpenMP's threads sleep where they wait, as the command line does; read as torch is loaded."""
    if "torch" not in sys.modules:
        os.environ.update(waiting())


def _with_machine(plan: RunConfig) -> RunConfig:
    """The run with threads and device of this machine where the configuration says nothing of them."""
    from clbench.cli.run import threads

    benchmark = plan.benchmark
    try:
        registry.datasets().require(benchmark.stream.data, **benchmark.stream.reading)
        usual: dict[str, Any] = {"threads": threads(benchmark)}
    except UserError as error:
        raise UserError(*(f"{benchmark.id}: stream.data: {problem}" for problem in error.problems)) from None
    _before_torch()
    import torch

    usual["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    unsaid = {key: value for key, value in usual.items() if key not in plan.numerics.model_fields_set}
    return plan.model_copy(update={"numerics": plan.numerics.model_copy(update=unsaid)})


# ------------------------------------------------------------------------------------------------ strategies
def as_mapping(strategy: Strategy) -> Any:
    """A strategy as a YAML file has it: a mapping with a name.

    Raises:
        UserError: a class or function that has no import path, or something else than a strategy.

    >>> from clbench.strategies.er import ExperienceReplay
    >>> as_mapping(ExperienceReplay), as_mapping(["naive", {"name": "ewc", "strength": 2}])
    ({'name': 'er'}, {'name': 'naive+ewc', 'naive': {}, 'ewc': {'strength': 2}})
    """
    return strategy_names.as_mapping(_named(strategy))


def _named(strategy: Any) -> Any:
    """The same, with names in place of classes."""
    if isinstance(strategy, str):
        return strategy
    if isinstance(strategy, Mapping):
        return {**display.as_yaml(strategy), **({"name": _named(strategy["name"])} if "name" in strategy else {})}
    if isinstance(strategy, Sequence):
        return [_named(part) for part in strategy]
    if callable(strategy):
        return import_path(strategy)
    allowed = "a name, an import path, a class, a mapping with a name, or a list of these"
    raise UserError(f"strategy: got {shown(strategy)}. Allowed: {allowed}.")


def import_path(strategy: Any) -> str:
    """The name by which a class or a factory is imported: that of a built-in strategy, or `module:Name`.

    Raises:
        UserError: it is defined inside a function or class, or its module no longer has it.
    """
    module, name = getattr(strategy, "__module__", None), getattr(strategy, "__qualname__", None)
    path = f"{module}:{name}"
    built_in = {place: known for known, place in registry.strategies().items()}
    if path in built_in:
        return built_in[path]
    if not module or not name or not name.isidentifier():
        raise UserError(
            f"strategy: {name or shown(strategy)} is not at the top level of a module, a script or a notebook; "
            "only there can a run find it again."
        )
    if getattr(sys.modules.get(module), name, None) is not strategy:
        raise UserError(f"strategy: {path} is another object by now; hand over the one that is defined last.")
    return path


# ------------------------------------------------------------------------------------------------ studies
def run_study(
    study: PathLike | Mapping[str, Any],
    *,
    out: PathLike = "results",
    processes: int | None = 1,
    retry_failed: bool = False,
    other_code: Literal["keep", "again"] | None = None,
    keep: Sequence[str] = (),
    progress: bool | None = None,
) -> Runs:
    """Runs a study, as `clbench grid` does: completed runs are not repeated, failed ones are among the results.

    Args:
        study: the path of its YAML file, or a mapping like its contents, in which a strategy may be a class.
        out: the results folder.
        processes: 1 runs it in this process, one run after the other. More start processes of their own, which import
            anew: a script that asks for them needs `if __name__ == "__main__":`, and the classes of a notebook are out
            of their reach. None is the study's own engine, by default a process per core.
        retry_failed: whether failed runs are repeated.
        other_code, keep: see `run`.
        progress: whether progress is shown; default: on a terminal and in a notebook.

    Returns:
        the reported runs, seed by seed, without the trials of a tuning.

    Raises:
        UserError: every mistake in the study, or data that are not available.
        KeyboardInterrupt: it was stopped; the same call resumes it.

    >>> import clbench, tempfile
    >>> strategies = ["naive", {"name": "er", "memory": [5, 9]}]
    >>> study = {"id": "two", "streams": ["split_synthetic-v1"], "strategies": strategies, "seeds": 1}
    >>> with tempfile.TemporaryDirectory() as out:
    ...     runs = clbench.run_study({**study, "budget": {"iterations": 2}}, out=out)
    >>> runs.to_frame().groupby("label")["seed"].count().to_dict()
    {'er (memory 5)': 1, 'er (memory 9)': 1, 'naive': 1}
    """
    from clbench.cli.progress import Shown, Silent
    from clbench.cli.run import writable
    from clbench.loggers import base
    from clbench.results import record
    from clbench.runner.run_record import directory_of

    checked = _study(study)
    base.check(checked.config.log)
    folder = Path(out)
    writable(folder)
    _before_torch()
    from clbench.studies.execute import Grid

    grid = Grid(checked, folder, retry=retry_failed, other_code=other_code, keep=_names(keep))
    shows = display.is_interactive() if progress is None else progress
    grid.run(_engine(checked, processes), Shown() if shows else Silent())
    runs, left_out = list[Run](), list[str]()
    rows = grid.survey().rows
    for planned in (row.runs[k] for k in range(len(checked.seeds)) for row in rows):
        directory = directory_of(planned.run, folder)
        if (directory / "run.json").exists():
            try:
                runs.append(Run(directory, record.read(directory)))
            except UserError as error:
                left_out += error.problems
    return Runs(runs, left_out)


def _study(study: PathLike | Mapping[str, Any]) -> Study:
    from clbench.studies.study import check, read

    if not isinstance(study, Mapping):
        return read(Path(study))
    contents = {key: value if key == "strategies" else display.as_yaml(value) for key, value in study.items()}
    strategies = contents.get("strategies")
    if isinstance(strategies, Sequence) and not isinstance(strategies, str):
        contents["strategies"] = [_named(entry) for entry in strategies]
    return check(contents, "study", Path())


def _engine(study: Study, processes: int | None) -> Any:
    from clbench.config.engines import LocalSettings
    from clbench.studies.engines.base import engine
    from clbench.studies.engines.in_process import InProcess

    numerics = study.config.numerics
    if processes == 1:
        return InProcess()
    parts = [part for mapping in study.strategies for part in str(mapping["name"]).split("+")]
    for part in parts:
        module = sys.modules.get(part.partition(":")[0]) if ":" in part else None
        if module is not None and getattr(module, "__file__", None) is None:
            raise UserError(f"processes: {part} is of a notebook, which no other process can import. Allowed: 1.")
    settings = study.config.engine
    if processes is not None:
        if isinstance(processes, bool) or not isinstance(processes, int) or processes < 1:
            raise UserError(f"processes: got {shown(processes)}. Allowed: an integer >= 1, or None.")
        settings = LocalSettings(name="local", processes=processes)
    return engine(settings, numerics.threads, numerics.device == "cuda")
