"""One run: a strategy is trained on a stream while the evaluator watches, and everything is written down."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.utils.deterministic as _deterministic_module
from torch import Tensor, nn

from clbench import config as cfg
from clbench import metrics, mistakes, models, provenance, registry, resolve, results
from clbench.budget import batches_in_a_pass, budgets
from clbench.cells import lay_out_cells
from clbench.chance import Chance, Generator, fenced
from clbench.errors import RunFailed, UserError
from clbench.evaluator import Evaluator, views_of
from clbench.experiences import Experiences
from clbench.internals import norm
from clbench.memory import give_back
from clbench.recorder import Recorder
from clbench.store import InputTransform, TrainingSet
from clbench.strategy import Batch, Experience, Memory, SelfDriven, Setup, Strategy, Watcher
from clbench.stream import Stream, compile_stream
from clbench.trace import Phase

_PROBE_STEPS = 8
"""Updates timed before a run."""

_BITS_BYTES = 128 << 20
"""Bits of test samples, packed, up to which they are recorded by default."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        directory: its files.
        record: its run.json.
        skipped: whether it existed already.
    """

    directory: Path
    record: dict[str, Any]
    skipped: bool = False


# ------------------------------------------------------------------------------------------------ assembling
@dataclass
class Workbench:
    """Everything a run is made of, built from its configuration; two of them share nothing that training changes."""

    run: resolve.RunConfig
    stream: Stream
    device: torch.device
    samples: TrainingSet
    evaluator: Evaluator
    strategy: Strategy
    order: Generator
    budgets: tuple[int, ...]
    """Updates in each experience, (V,)."""
    experiences: Experiences
    listeners: list[Callable[[], None]]
    """Called where the strategy has changed what it predicts without an update."""

    def experience(self, number: int) -> Experience:
        """What the strategy is given in an experience. Its samples are in its reach from here on."""
        for visit in self.experiences.visits(number):
            self.samples.admit(visit)
        return self.experiences(number)

    def batches(self, experience: Experience, iterations: int) -> Iterator[Batch]:
        """`iterations` batches, reshuffled at every pass by the axis "order"."""
        training, one = self.run.benchmark.training, int(experience.task[0])
        single = bool((experience.task == one).all())
        n, size, done = len(experience.index), training.batch_size, 0
        while done < iterations:
            order = self.order.permutation(n)
            index = torch.from_numpy(experience.index[order]).to(self.device)
            task = one if single else torch.from_numpy(experience.task[order]).to(self.device)
            for b in range(min(batches_in_a_pass(n, training), iterations - done)):
                rows = index[b * size : (b + 1) * size]
                of = task if isinstance(task, int) else task[b * size : (b + 1) * size]
                x, y = self.samples.fetch(rows, of)
                yield Batch(x=x, y=y, index=rows, task=of)
                done += 1


def optimizer(settings: cfg.Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The benchmark's optimiser over some parameters."""
    options = settings.model_dump(exclude={"name"})
    if isinstance(settings, cfg.Adam):
        options["betas"] = tuple(settings.betas)
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[settings.name](parameters, **options)


def assemble(run: resolve.RunConfig, stream: Stream) -> Workbench:
    """Builds model, strategy and evaluator of a run.

    Raises:
        UserError: the strategy's name, its hyper-parameters, or a model that does not fit the data.
    """
    found = _imported(run.strategy)
    chance = Chance(run.seed, run.seeds.model_dump(exclude_none=True))
    device, bench = torch.device(run.numerics.device), run.benchmark
    transform = InputTransform(stream, device)
    samples = TrainingSet(stream, transform, device)
    samples.fence()
    shape = tuple(stream.data.train_x.shape[1:])
    listeners: list[Callable[[], None]] = []
    chance.seed_globals("init")
    model = models.build(bench.model, shape, stream.outputs).to(device)
    training = bench.training
    if training.active_outputs is None:
        training = training.model_copy(update={"active_outputs": "task" if stream.setting == "task" else "all"})
    setup = Setup(
        model=model,
        make_optimizer=lambda parameters: optimizer(training.optimizer, parameters),
        samples=samples,
        training=training,
        generator=chance.generator("strategy"),
        outputs=stream.outputs,
        task_outputs=tuple(tuple(sorted(set(t.targets))) for t in stream.all_tasks),
        input_shape=shape,
        device=device,
        changed=partial(_tell, listeners),
    )
    chance.seed_globals("strategy")
    strategy = _strategy(found, run, setup, stream)
    return Workbench(
        run=run,
        stream=stream,
        device=device,
        samples=samples,
        evaluator=Evaluator.of_stream(
            stream,
            transform,
            device,
            bench.evaluation,
            run.watch,
            chance.seeds["stream"],
            _keeps_bits(run, stream),
            bench.task_at_test,
        ),
        strategy=strategy,
        order=chance.generator("order"),
        budgets=budgets(bench.training, stream),
        experiences=Experiences(stream, strategy.access, bench.protocol),
        listeners=listeners,
    )


def _tell(listeners: list[Callable[[], None]]) -> None:
    for listen in listeners:
        listen()


def _keeps_bits(run: resolve.RunConfig, stream: Stream) -> bool:
    """Whether each test sample is recorded: as the configuration says, or where the record stays small."""
    if run.watch.bits is not None:
        return run.watch.bits
    evaluation = run.benchmark.evaluation
    evaluations = sum(_evaluations(evaluation, n) for n in _by_visit(budgets(run.benchmark.training, stream), stream))
    samples = int(lay_out_cells(stream, evaluation.subset).size.sum())
    views = len(views_of(stream.setting, evaluation)) * (1 + len(run.watch.ema) + len(run.watch.last))
    return evaluations * views * -(-samples // 8) <= _BITS_BYTES


def _by_visit(budgets: tuple[int, ...], stream: Stream) -> list[int]:
    """Updates in each visit: those of the sub-experiences that it was cut into together."""
    origins = stream.origins()
    starts = np.flatnonzero(np.concatenate([[True], origins[1:] != origins[:-1]]))
    return [int(n) for n in np.add.reduceat(np.array(budgets), starts)]


def _evaluations(evaluation: cfg.Evaluation, updates: int) -> int:
    """Evaluations made in a visit, the ones before and after it included.

    >>> _evaluations(cfg.Evaluation(every=5, dense=3), 12) - 2
    5
    """
    first = min(evaluation.dense, updates)
    return 2 + first + (updates // evaluation.every - first // evaluation.every if evaluation.every else 0)


def is_due(evaluation: cfg.Evaluation, n: int) -> bool:
    """Whether the n-th update of a visit (n >= 1) is followed by an evaluation.

    >>> [n for n in range(1, 13) if is_due(cfg.Evaluation(every=5, dense=3), n)]
    [1, 2, 3, 5, 10]
    """
    return n <= evaluation.dense or bool(evaluation.every and n % evaluation.every == 0)


def _imported(chosen: cfg.StrategyConfig) -> Any:
    """The strategy's class or factory. Modules are imported before anything is seeded: some draw or seed themselves."""
    found = registry.strategy(chosen.name)
    if not _is_ours(found):
        from clbench import bridge  # the only way to Avalanche, which takes seconds to import

        bridge.import_parts(chosen.parameters)
    torch.set_default_dtype(torch.float32)  # whatever a module did to it
    return found


def _is_ours(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Strategy)


def _configuration(found: Any, chosen: cfg.StrategyConfig) -> Any:
    source = f"strategy '{chosen.name}'"
    configuration, problems = mistakes.check_section(source, "strategy", found.Config, chosen.parameters, [])
    if problems:
        raise UserError(*problems)
    return configuration


def _completed(run: resolve.RunConfig, found: Any) -> resolve.RunConfig:
    """The run with the defaults of a strategy of the user's own written out."""
    if not _is_ours(found):
        return run
    values = _configuration(found, run.strategy).model_dump(mode="json")
    return run.model_copy(update={"strategy": cfg.StrategyConfig(name=run.strategy.name, **values)})


def _strategy(found: Any, run: resolve.RunConfig, setup: Setup, stream: Stream) -> Strategy:
    chosen = run.strategy
    if _is_ours(found):
        configuration = _configuration(found, chosen)
        problems = resolve.denied(run.benchmark, chosen.name, found.needs(configuration))
        if problems:
            raise UserError(*problems)
        strategy: Strategy = found(configuration, setup)
        return strategy
    from clbench import bridge

    problems = resolve.denied(run.benchmark, chosen.name, bridge.needs(stream))
    if problems:
        raise UserError(*problems)
    return bridge.host(found, chosen, setup, stream)


# ------------------------------------------------------------------------------------------------ watching
_deterministic: Any = _deterministic_module  # its one attribute is a property that type checkers do not see


class _Stop(Exception):
    """Ends a probe."""


class Observation(Watcher):
    """The runner's watcher: evaluates by the benchmark's schedule and records.

    Periods count from the start of a visit, and so do the evaluations before and after it: an online stream is looked
    at as often as the one it was cut from.

    Args:
        bench: what is watched.
        recorder: where it is written; None to watch nothing (training must not notice).
        on_iteration: called after every update, for progress and for ending a probe.
        on_full: called where the recorder holds so much that it is to be written.
    """

    def __init__(
        self,
        bench: Workbench,
        recorder: Recorder | None,
        on_iteration: Callable[[], None],
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        self._bench = bench
        self._recorder = recorder
        self._on_iteration = on_iteration
        self._on_full = on_full
        self._gradients = bench.run.watch.gradients
        self._evaluation = bench.run.benchmark.evaluation
        self._tasks = range(len(bench.stream.tasks))
        self._seen: set[int] = set()
        self._number = 0
        self._origins = bench.stream.origins().tolist()
        self._in_experience = 0
        self._in_visit = 0
        self._budget = 0
        self.iterations = 0
        self.eval_s = 0.0
        bench.listeners.append(self.after_change)

    def enter(self, number: int) -> None:
        """A new experience; its tasks count as seen from here on."""
        self._number, self._in_experience, self._budget = number, 0, self._bench.budgets[number]
        if self._begins:
            self._in_visit = 0
        self._seen.update(self._bench.experiences.tasks(number))
        self._bench.evaluator.renew()
        if self._recorder is not None and not self.iterations:
            self._bench.evaluator.begin(self._bench.strategy.model)

    def before_first_update(self) -> None:
        self._bench.evaluator.renew()
        if self._begins:
            self._evaluate(Phase.BEFORE)

    @property
    def _begins(self) -> bool:
        """Whether a visit begins with this experience."""
        return not self._number or self._origins[self._number] != self._origins[self._number - 1]

    @property
    def visit_ends(self) -> bool:
        """Whether a visit ends with this experience."""
        return self._number + 1 == len(self._origins) or self._origins[self._number] != self._origins[self._number + 1]

    def after_iteration(self, loss: Tensor) -> bool:
        self.iterations += 1
        self._in_experience += 1
        self._in_visit += 1
        if self._recorder is not None:
            start = time.perf_counter()
            model = self._bench.strategy.model
            gradients = [p.grad for p in model.parameters() if p.grad is not None] if self._gradients else None
            self._recorder.add_loss(loss, None if gradients is None else norm(gradients))
            self._bench.evaluator.after_update(model)
            self.eval_s += time.perf_counter() - start
        if is_due(self._evaluation, self._in_visit):
            self._evaluate(Phase.ITERATION)
        self._on_iteration()
        return self._in_experience < self._budget

    def after_change(self) -> None:
        """The strategy has changed what it predicts, without an update."""
        self._bench.evaluator.renew()
        self._evaluate(Phase.CHANGE)

    def leave(self) -> None:
        """The strategy has ended the experience."""
        self._bench.evaluator.renew()
        if self.visit_ends:
            self._bench.evaluator.learned(self._bench.stream.visits[self._number].tasks)
            self._evaluate(Phase.END)

    def _evaluate(self, phase: Phase) -> None:
        if self._recorder is None:
            return
        start = time.perf_counter()
        everything = phase is Phase.BEFORE or self._evaluation.scope == "all"
        found = self._bench.evaluator.evaluate(
            self._bench.strategy, self._tasks if everything else self._seen, self._seen
        )
        self._recorder.add(found, self.iterations, self._number, phase)
        self.eval_s += time.perf_counter() - start
        if self._recorder.full:
            self._on_full()


def train(bench: Workbench, watcher: Observation, on_visit: Callable[[], None] = lambda: None) -> None:
    """Trains the strategy on the whole stream.

    Args:
        bench: what a run is made of.
        watcher: is told of every update.
        on_visit: called after each visit.
    """
    strategy, bounded = bench.strategy, bench.run.benchmark.protocol.boundaries
    last = len(bench.budgets) - 1
    for number, budget in enumerate(bench.budgets):
        experience = bench.experience(number)
        told = experience if bounded else bench.experiences.unbounded()
        watcher.enter(number)
        if isinstance(strategy, SelfDriven):
            strategy.fit(experience, budget, watcher)
        else:
            if bounded or number == 0:
                strategy.begin_experience(told)
            watcher.before_first_update()
            for batch in bench.batches(experience, budget):
                watcher.after_iteration(strategy.step(batch))
            if bounded or number == last:
                strategy.end_experience(told)
        watcher.leave()
        if watcher.visit_ends:
            on_visit()


# ------------------------------------------------------------------------------------------------ a run
class Progress(Protocol):
    """Somebody who wants to know how far a run is."""

    def start(self, total: int) -> None:
        """Training begins; `total` updates are planned."""

    def update(self, done: int) -> None:
        """So many updates are done."""

    def close(self) -> None:
        """Training has ended, well or not."""


class _Nobody:
    def start(self, total: int) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...


def execute(
    run: resolve.RunConfig,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs a configuration and writes its files; a finished run of the same id is recognised and not repeated.

    Args:
        run: the resolved configuration.
        out: the results folder.
        force: repeat a finished run.
        progress: is told of every update; None for silence.
        say: prints a line for the user; None for silence, and then no time is spent on the estimate.

    Raises:
        UserError: data cannot be had, or something in the configuration shows to be wrong only here.

    A run that fails is no exception: its record has the status "failed" and says why.
    """
    cuda = run.numerics.device == "cuda"
    with _numerics(run.numerics), fenced(cuda):
        started = time.perf_counter()
        run = _completed(run, _imported(run.strategy))
        directory = results.run_directory(out, run)
        record = _new_record(run)
        try:
            stream = compile_stream(run.benchmark.stream, run.seed if run.seeds.stream is None else run.seeds.stream)
            if not force and (known := _finished(directory, run, stream)) is not None:
                return Outcome(directory, known, skipped=True)
            record["stream"] = _describe(stream)
            record["provenance"]["data"] = stream.data.origin
            if say is not None:
                with fenced(cuda):
                    _say_estimate(run, stream, say)
            bench = assemble(run, stream)
        except UserError:
            raise
        except Exception as error:
            _fail(record, error, 0)
            results.TraceWriter(directory).start()
            results.write_json(directory / "run.json", record)
            return Outcome(directory, record)
        record["access"] = bench.strategy.access
        record["parameters"] = sum(p.numel() for p in bench.strategy.model.parameters())
        return _run(bench, directory, record, progress or _Nobody(), started)


def _finished(directory: Path, run: resolve.RunConfig, stream: Stream) -> dict[str, Any] | None:
    """The record of a finished run of the same id on the same data, or None."""
    if not (directory / "run.json").exists():
        return None
    try:
        record = results.read_run(directory)
    except UserError as error:
        raise UserError(*(f"{p} Repeat the run with --force, or remove the file." for p in error.problems)) from None
    same = record["run_id"] == run.run_id and (record["stream"] or {}).get("instance_hash") == stream.instance_hash
    return record if same and record["status"] == "completed" else None


def _new_record(run: resolve.RunConfig) -> dict[str, Any]:
    return {
        "schema_version": results.SCHEMA,
        "run_id": run.run_id,
        "status": "running",
        "failure": None,
        "benchmark": run.benchmark.id,
        "modified": run.modified,
        "config": run.model_dump(mode="json"),
        "definition_hash": run.definition_hash,
        "config_hash": run.config_hash,
        "stream": None,
        "metrics": None,
        "primary_view": run.benchmark.stream.setting,
        "weights_sha256": None,
        "memory": None,
        "access": None,
        "parameters": None,
        "costs": None,
        "provenance": {
            **provenance.collect(run.numerics.device),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }


def _describe(stream: Stream) -> dict[str, Any]:
    return {
        "definition_hash": stream.definition_hash,
        "instance_hash": stream.instance_hash,
        "data_sha256": stream.data.sha256,
        "experiences": len(stream.visits),
        "tasks": len(stream.tasks),
        "classes": len({c for task in stream.tasks for c in task.classes}),
        "samples": sum(v.samples for v in stream.visits),
    }


def _say_estimate(run: resolve.RunConfig, stream: Stream, say: Callable[[str], None]) -> None:
    probe = assemble(run, stream)
    try:
        say(estimate(probe))
    except Exception as error:  # the run meets it too, and records it
        say(f"no estimate: {type(error).__name__}: {error}")


def _run(
    bench: Workbench,
    directory: Path,
    record: dict[str, Any],
    progress: Progress,
    started: float,
) -> Outcome:
    total = sum(bench.budgets)
    recorder, evaluation = Recorder(bench.device), bench.run.benchmark.evaluation
    writer = results.TraceWriter(directory)
    observation = Observation(
        bench,
        recorder,
        on_iteration=lambda: progress.update(observation.iterations),
        on_full=lambda: writer.append(recorder.chunk()),
    )
    writer.start()
    results.write_json(directory / "run.json", record)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    setup_s, begin = time.perf_counter() - started, time.perf_counter()
    progress.start(total)
    try:
        train(bench, observation, partial(_on_visit, recorder, writer))
        trace = recorder.trace(
            bench.evaluator.cells,
            bench.stream.visit_matrix(),
            bench.stream.origins(),
            evaluation.every,
            evaluation.dense,
        )
        writer.finish(trace)
        record["metrics"] = metrics.compute(trace)
        record["weights_sha256"] = provenance.weights_sha256(bench.strategy.model)
        memory: Memory = bench.strategy.memory()
        record["memory"] = {"samples": memory.samples, "bytes": memory.bytes}
        record["status"] = "completed"
    except Exception as error:
        _fail(record, error, observation.iterations)
        if isinstance(error, UserError):
            raise
    except KeyboardInterrupt as error:
        _fail(record, error, observation.iterations)
        raise
    finally:
        progress.close()
        if record["status"] == "failed" and not (directory / "trace.npz").exists():
            recorder.strict = False
            with contextlib.suppress(UserError):  # what was seen of the experience that it failed in
                writer.append(recorder.chunk())
        elapsed = time.perf_counter() - begin
        record["costs"] = {
            "wall_s": round(setup_s + elapsed, 3),
            "setup_s": round(setup_s, 3),
            "eval_s": round(observation.eval_s, 3),
            "train_s": round(elapsed - observation.eval_s, 3),
            "iterations": observation.iterations,
            "evaluations": sum(len(c["iteration"]) for c in recorder.chunks) + len(recorder.iteration),
            "evaluation_precision": bench.evaluator.report(),
            "peak_rss_bytes": provenance.peak_rss_bytes(),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if bench.device.type == "cuda" else None,
        }
        results.write_json(directory / "run.json", record)
    return Outcome(directory, record)


def _on_visit(recorder: Recorder, writer: results.TraceWriter) -> None:
    writer.append(recorder.chunk())
    give_back()


def _fail(record: dict[str, Any], error: BaseException, iterations: int) -> None:
    """Writes into a record why a run ended: one sentence, and a traceback where nobody foresaw it."""
    kind, message, iteration = type(error).__name__, f"{type(error).__name__}: {error}", iterations
    if isinstance(error, RunFailed):
        kind, message, iteration = error.kind, error.message, iterations if error.iteration is None else error.iteration
    elif isinstance(error, KeyboardInterrupt):
        kind, message = "interrupted", "interrupted by the user"
    elif isinstance(error, UserError):
        kind, message = "user_error", str(error)
    record["status"] = "failed"
    record["failure"] = {"kind": kind, "message": message, "iteration": iteration}
    if kind == type(error).__name__:
        record["failure"]["traceback"] = "".join(traceback.format_exception(error))


class _numerics:
    """Threads and determinism of a run, as long as it lasts."""

    def __init__(self, numerics: cfg.Numerics) -> None:
        self._numerics = numerics

    def __enter__(self) -> None:
        if self._numerics.device == "cuda":
            if not torch.cuda.is_available():
                raise UserError("--device cuda: torch sees no CUDA device here.")
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        self._threads, self._dtype, self._grad = (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )
        torch.set_default_dtype(getattr(torch, self._numerics.dtype))
        torch.set_grad_enabled(True)
        self._algorithms = torch.are_deterministic_algorithms_enabled()
        self._fill = _deterministic.fill_uninitialized_memory
        torch.set_num_threads(self._numerics.threads)
        torch.use_deterministic_algorithms(self._numerics.deterministic, warn_only=True)
        _deterministic.fill_uninitialized_memory = False  # costs time, and reading it would be a bug anyway

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._threads)
        torch.set_default_dtype(self._dtype)
        torch.set_grad_enabled(self._grad)
        torch.use_deterministic_algorithms(self._algorithms)
        _deterministic.fill_uninitialized_memory = self._fill


# ------------------------------------------------------------------------------------------------ the estimate
def estimate(bench: Workbench) -> str:
    """What a run will take, from a few timed updates and evaluations of a bench that is thrown away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step_s = _step_s(bench)
    everything = range(len(bench.stream.tasks))
    largest = int(np.argmax(np.diff(bench.evaluator.cells.start)))
    # Five, because the first passes of reduced precision are audits, which a run makes rarely.
    times = [_timed(lambda: bench.evaluator.evaluate(bench.strategy, [largest], everything)) for _ in range(5)]
    pass_s = min(times) * bench.evaluator.samples / max(1, int(np.diff(bench.evaluator.cells.start)[largest]))
    evaluation, seen = bench.run.benchmark.evaluation, set[int]()
    updates, passes, work = 0, 0, 0.0
    sizes = np.diff(bench.evaluator.cells.start) / max(1, bench.evaluator.samples)
    stops = np.cumsum(_by_visit(bench.budgets, bench.stream)).tolist()
    done, visit = 0, 0
    for number, n in enumerate(bench.budgets):
        seen.update(bench.experiences.tasks(number))
        done += n
        if done < stops[visit]:
            continue
        length = stops[visit] - updates
        within = _evaluations(evaluation, length) - 1
        updates, passes, visit = stops[visit], passes + within + 1, visit + 1
        work += 1.0 + within * (1.0 if evaluation.scope == "all" else float(sizes[sorted(seen)].sum()))
    train_s, eval_s = updates * step_s, work * pass_s
    return (
        f"about {_duration(train_s + eval_s)}: training {_duration(train_s)} ({updates:,} updates), "
        f"evaluation {_duration(eval_s)} ({passes:,} evaluations of up to {bench.evaluator.samples:,} samples)"
    )


def _step_s(bench: Workbench) -> float:
    """Seconds of an update. In the second experience, where replay has begun; a strategy with a loop of its own is
    timed in the first, because it could not be stopped between two."""
    if isinstance(bench.strategy, SelfDriven):
        times: list[float] = []

        def stop() -> None:
            times.append(time.perf_counter())
            if len(times) > _PROBE_STEPS:
                raise _Stop

        with contextlib.suppress(_Stop):
            train(bench, Observation(bench, None, stop))
        return float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    bounded = bench.run.benchmark.protocol.boundaries
    for number in range(min(2, len(bench.stream.visits))):
        experience, times = bench.experience(number), [time.perf_counter()]
        if bounded or not number:
            bench.strategy.begin_experience(experience if bounded else bench.experiences.unbounded())
        for batch in bench.batches(experience, _PROBE_STEPS):
            bench.strategy.step(batch)
            times.append(time.perf_counter())
        if bounded:
            bench.strategy.end_experience(experience)
    return float(np.median(np.diff(times)))


def _timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _duration(seconds: float) -> str:
    """
    >>> _duration(3.2), _duration(75), _duration(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
