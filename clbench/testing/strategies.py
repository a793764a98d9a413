"""Check of the laws of the suite, for authors of strategies."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clbench import import_paths, registry, resolve
from clbench.composition import Composed
from clbench.evaluation.recorder import Recorder
from clbench.rng import Generator, fenced, global_state
from clbench.run_config import RunConfig
from clbench.runner.build_strategy import completed, imported
from clbench.runner.components import Components, assemble
from clbench.runner.numerics import numerics
from clbench.runner.observer import Observation
from clbench.runner.run import execute
from clbench.runner.training_loop import train
from clbench.strategy import Batch, Experience, Learner, SelfDrivenLearner
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same, require
from clbench.training.training_set import TrainingSet

_SHORT = "training={iterations: 6, epochs: null}"


def check_strategy(
    strategy: str,
    overrides: Sequence[str] = (),
    *,
    split: str = "split_digits-v1",
    domains: str | None = "permuted_digits-v1",
    online: str | None = "online_digits-v1",
    better_than: Sequence[str] = ("chance",),
    seeds: Sequence[int] = (0, 1, 2),
) -> None:
    """Checks that a strategy keeps the laws of the suite. It takes seconds to a minute.

    1. Two runs of one seed end in the same weights, state and predictions, bit for bit.
    2. So does one that is evaluated at every third update, or never; global generators are unchanged.
    3. Stored samples are from experiences so far, never more than its `memory` (or `memory_per_class` of each class),
       and `memory()` reports their number.
    4. If it stores samples at the end of an online stream, each task has one among them.
    5. If it does not require task labels, it ends in the same weights when tasks have other numbers.
    6. It can be interrupted and resumed: see `check_resume`.
    7. Its mean accuracy over seeds is above that of other strategies; by default, above chance level.

    Args:
        strategy: a name, or an import path, also of a module in the working directory.
        overrides: `key.path=value` texts, such as its hyper-parameters.
        split: a benchmark that is cheap, for all but 4 and 5.
        domains: one with several tasks of the same outputs, for 5; None if unsuitable for the strategy.
        online: one with many small experiences, for 4; None if unsuitable for the strategy.
        better_than: names of strategies for 7, with the same overrides of the benchmark; empty to skip it.
        seeds: for 7.

    Raises:
        AssertionError: the first violated law, in one sentence.
        UserError: the strategy cannot be run on these benchmarks at all.
    """
    import_paths.add_working_directory()
    short = resolve.make_run(split, strategy=strategy, overrides=[_SHORT, *overrides])
    whole = _trained(short)
    _equal(whole, _trained(short), "two runs of one seed do not end the same: another")
    never = _trained(short, watched=False)
    _equal({key: whole[key] for key in never}, never, "being watched changes it: without, it ends with another")
    seldom = _trained(short.model_copy(update={"benchmark": _seldom(short)}))
    _equal({key: seldom[key] for key in never}, never, "being watched seldom changes it: it ends with another")
    _check_memory(short)
    if online is not None:
        _check_memory(resolve.make_run(online, strategy=strategy, overrides=[*overrides]), covers=True)
    if domains is not None:
        _check_handles(resolve.make_run(domains, strategy=strategy, overrides=[_SHORT, *overrides]))
    check_resume(short)
    if better_than:
        _check_accuracy(strategy, overrides, split, better_than, seeds)


def needed_overrides(strategy: str, benchmark: str) -> list[str]:
    """Overrides for a built-in strategy that requires task labels at test time; none for others.

    Args:
        strategy: its name.
        benchmark: a shipped id, in the class or the domain setting.
    """
    if "task_at_test" not in registry.strategy_needs(strategy, {}):
        return []
    within = resolve.make_run(benchmark, strategy="naive").benchmark.stream.setting == "domain"
    return ["protocol.task_at_test=true" if within else "stream.setting=task"]


def _equal(a: Any, b: Any, sentence: str) -> None:
    try:
        assert_same(a, b)
    except AssertionError as error:
        raise AssertionError(f"{sentence} {str(error).lstrip('.') or 'value'}.") from None


def _seldom(run: RunConfig) -> Any:
    benchmark = run.benchmark
    return benchmark.model_copy(update={"evaluation": benchmark.evaluation.model_copy(update={"every": 3})})


def _bench(run: RunConfig) -> Components:
    run = completed(run, imported(run.strategy))
    return assemble(run, _compiled(run))


def _compiled(run: RunConfig) -> Stream:
    return compile_stream(run.benchmark.stream, run.stream_seed)


def _trained(
    run: RunConfig, watched: bool = True, prepare: Callable[[Components], Callable[[], None] | None] = lambda _: None
) -> dict[str, Any]:
    """A run's final state, and its record.

    Args:
        run: its configuration.
        watched: whether it is evaluated.
        prepare: called with the components before their use; returns a callback after each update.
    """
    with numerics(run.numerics), fenced(run.numerics.device == "cuda"):
        bench = _bench(run)
        on_iteration = prepare(bench) or (lambda: None)
        recorder = Recorder(bench.device) if watched else None
        train(bench, Observation(bench, recorder, on_iteration))
        state = {"strategy": bench.strategy.state_dict(), "weights": bench.strategy.model.state_dict()}
        state |= {"batches": bench.batches.state_dict(), "globals": global_state()}
        if recorder is not None:
            state["record"] = recorder.chunk()
        copied: dict[str, Any] = _detached(state)
        return copied


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {k: _detached(v) for k, v in value.items()}
    return [_detached(v) for v in value] if isinstance(value, (list, tuple)) else value


# ------------------------------------------------------------------------------------------------ memory
def _check_memory(run: RunConfig, covers: bool = False) -> None:
    """Checks the memory after every update; at the end, with `covers`, for every task."""
    met: list[tuple[int, set[int]]] = []

    def prepare(bench: Components) -> Callable[[], None] | None:
        strategy, samples = bench.strategy, bench.samples
        if isinstance(strategy, SelfDrivenLearner):
            return None

        def look() -> None:
            index, task = strategy.held()
            memory, held = strategy.memory(), len(index)
            require(memory.samples == held, f"memory() says {memory.samples} samples, and held() gives {held}")
            enough = memory.bytes is None or memory.bytes >= held * samples.sample_bytes
            require(enough, "memory() leaves out bytes of samples")
            for part in strategy.members.values() if isinstance(strategy, Composed) else [strategy]:
                _check_bounds(part, samples)
            if held:
                samples.fetch(*(torch.from_numpy(v).to(bench.device) for v in (index, task)))  # has it come?
            met.append((held, set(task.tolist())))

        return look

    _trained(run, watched=False, prepare=prepare)
    if covers and met and met[-1][0]:
        absent = sorted({t for experience in _compiled(run).experiences for t in experience.tasks} - met[-1][1])
        require(not absent, f"at the end of {run.benchmark.id} it holds no sample of tasks {absent}")


def _check_bounds(strategy: Learner, samples: TrainingSet) -> None:
    total, each = (getattr(strategy.config, key, None) for key in ("memory", "memory_per_class"))
    index, task = strategy.held()
    if isinstance(total, int):
        require(len(index) <= total, f"it holds {len(index)} samples, and its memory is {total}")
    if isinstance(each, int) and len(index):
        most = int(np.bincount(samples.labels_of(index)).max())
        require(most <= each, f"it holds {most} samples of a class, and its memory_per_class is {each}")
    different = len(set(zip(index.tolist(), task.tolist(), strict=True)))
    require(different == len(index), "it holds a sample of a task twice")


# ------------------------------------------------------------------------------------------------ denied information
def _check_handles(run: RunConfig) -> None:
    """Renumbers tasks for the strategy alone: it may use the numbers to fetch samples, and for nothing else."""

    def prepare(bench: Components) -> None:
        strategy, samples = bench.strategy, bench.samples
        if isinstance(strategy, SelfDrivenLearner) or "task_in_training" in strategy.needs(strategy.config):
            return
        tasks = len(bench.stream.all_tasks)
        other = Generator(0, "handles").permutation(tasks)
        if tasks > 1 and (other == np.arange(tasks)).all():
            other = np.roll(other, 1)
        forth, back = torch.from_numpy(other).to(bench.device), torch.from_numpy(np.argsort(other)).to(bench.device)
        fetch, step, begin, end = samples.fetch, strategy.step, strategy.begin_experience, strategy.end_experience

        def fetched(index: Tensor, task: Tensor | int, *, plain: bool = False) -> tuple[Tensor, Tensor]:
            return fetch(index, int(back[task]) if isinstance(task, int) else back[task], plain=plain)

        def stepped(batch: Batch) -> Tensor:
            task = int(forth[batch.task]) if isinstance(batch.task, int) else forth[batch.task]
            return step(dataclasses.replace(batch, task=task))

        def renumbered(experience: Experience) -> Experience:
            known = tuple(sorted(int(other[t]) for t in experience.tasks))
            return dataclasses.replace(
                experience, tasks=known, task=other[experience.task], unlabelled_task=other[experience.unlabelled_task]
            )

        samples.fetch = fetched  # type: ignore[method-assign]
        strategy.step = stepped  # type: ignore[method-assign]
        strategy.begin_experience = lambda experience: begin(renumbered(experience))  # type: ignore[method-assign]
        strategy.end_experience = lambda experience: end(renumbered(experience))  # type: ignore[method-assign]

    usual, renamed = _trained(run), _trained(run, prepare=prepare)
    sentence = "it reads the tasks' numbers, which it does not say that it needs: with others it ends with another"
    compared = ("weights", "record")
    before, after = ({key: state[key] for key in compared} for state in (usual, renamed))
    _equal(before, after, sentence)


# ------------------------------------------------------------------------------------------------ accuracy
def _check_accuracy(
    strategy: str, overrides: Sequence[str], split: str, better_than: Sequence[str], seeds: Sequence[int]
) -> None:
    ours = _mean_accuracy(strategy, overrides, split, seeds)
    general = [text for text in overrides if not text.startswith("strategy.")]
    for other in better_than:
        theirs = _mean_accuracy(other, general, split, seeds)
        require(ours > theirs, f"its mean accuracy {ours:.4f} on {split} is not above {theirs:.4f} of '{other}'")


def _mean_accuracy(strategy: str, overrides: Sequence[str], benchmark: str, seeds: Sequence[int]) -> float:
    accuracies = []
    for seed in seeds:
        run = resolve.make_run(benchmark, strategy=strategy, seed=seed, overrides=["evaluation.every=0", *overrides])
        with tempfile.TemporaryDirectory() as folder:
            record = execute(run, Path(folder)).record
        require(record["status"] == "completed", f"its run on {benchmark} fails: {record['failure']}")
        accuracies.append(record["metrics"][record["primary_view"]]["average_accuracy"]["value"])
    return float(np.mean(accuracies))
