"""The run's folder of a script that trains with Avalanche and is watched by the plugin."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench import metrics, registry, resolve
from clbench.config.benchmark import Benchmark, Numerics, Protocol, Seeds, StrategyConfig
from clbench.errors import UserError, shown
from clbench.results import files, provenance, trace_files
from clbench.rng import fenced
from clbench.run_config import RunConfig, directory
from clbench.schema import canonical, content_hash
from clbench.stream import Stream
from clbench.streams.compile import definition_hash
from clbench.trace import NAN_SCORES, Trace
from clbench.training import models
from clbench.training.budget import budgets, updates_by_task_block
from clbench.training.optimizers import optimizer
from clbench.training.weights import state_sha256

_NAME = re.compile(r"[A-Za-z0-9]+([_.-][A-Za-z0-9]+)*")
"""Names of benchmarks, which are folders."""


@dataclass
class Clock:
    """Seconds of a script: of its training phases without evaluation, of evaluation, and of all from first to last."""

    train_s: float = 0.0
    eval_s: float = 0.0
    begun: float | None = None
    ended: float = 0.0
    started_utc: str | None = None
    _since: float | None = None

    def start(self) -> None:
        """An experience begins."""
        self.pause()
        if self.begun is None:
            self.begun = time.perf_counter()
            self.started_utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def train(self) -> None:
        """Training begins."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Training ends."""
        if self._since is not None:
            self.train_s += time.perf_counter() - self._since
        self._since = None
        self.stop()

    def stop(self) -> None:
        """The script has come this far."""
        self.ended = time.perf_counter()

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """A context for one evaluation, whose seconds are none of training."""
        begin = time.perf_counter()
        yield
        took = time.perf_counter() - begin
        self.eval_s += took
        if self._since is not None:
            self.train_s -= took

    @property
    def wall_s(self) -> float:
        """From the beginning of the first experience to the end of the last, and all that the script did between."""
        return 0.0 if self.begun is None else self.ended - self.begun


@dataclass(frozen=True)
class Script:
    """Observations of the plugin.

    Attributes:
        trace: the record.
        setting: of the evaluation.
        learner: the Avalanche strategy, trained.
        stream: the exported stream, where nothing else was trained and tested on; None for other data.
        test_sha256: of all test samples.
        device: of the evaluation.
        clock: seconds.
    """

    trace: Trace
    setting: str
    learner: Any
    stream: Stream | None
    test_sha256: str
    device: torch.device
    clock: Clock


@dataclass(frozen=True)
class Claims:
    """Statements of the script; see `ContinualEvaluation.save`."""

    strategy: str
    seed: int
    parameters: dict[str, Any] = field(default_factory=dict)
    access: Literal["experience", "past", "stream"] | None = None
    memory_samples: int | None = None


def sha256_of(x: Tensor, y: NDArray[np.int64], task: NDArray[np.int64], labels: list[int]) -> str:
    """SHA-256 of test samples: inputs, targets, the experience of each, and the task label of each experience."""
    digest = hashlib.sha256(f"{x.dtype}|{tuple(x.shape)}|{labels}|".encode())
    for array in (np.ascontiguousarray(x.detach().cpu().numpy()), y, task):
        digest.update(array.data)
    return digest.hexdigest()


def write(script: Script, claims: Claims, benchmark: str | os.PathLike[str] | Benchmark, out: Path) -> Path:
    """Writes run.json and trace.npz; see `ContinualEvaluation.save`."""
    _check(claims)
    name, defined = _defined(benchmark)
    differences = [f"no benchmark '{name}' is known"] if defined is None else _differences(script, defined)
    settings = _observed(script, name)
    if defined is not None and not differences:
        settings = defined.model_dump(mode="json")
    identity = {key: value for key, value in settings.items() if key != "id"}
    of_stream = _stream(script)
    board = content_hash({"made_by": "script", "data": of_stream["data_sha256"], **identity})
    modified = True
    if defined is not None and not differences:
        board = _definition_hash(defined)
        shipped = registry.benchmark_path(defined.id) is not None
        modified = not shipped or board != _definition_hash(resolve.resolve(defined.id, need_strategy=False)[0])
    config = {
        "benchmark": settings,
        "strategy": {"name": claims.strategy, **claims.parameters},
        "seed": claims.seed,
        "seeds": Seeds(stream=_stream_seed(script, claims)).model_dump(mode="json"),
        "numerics": _numerics(script),
        "tuning": None,
    }
    without_seed = {key: value for key, value in config.items() if key != "seed"}
    config_hash = content_hash({"made_by": "script", "definition": board, **without_seed})
    failure = _failure(script.trace)
    user_code = {"__main__": _main_sha256()}
    record = {
        "schema_version": files.SCHEMA,
        "run_id": content_hash({"config": config_hash, "seed": claims.seed}),
        "made_by": "script",
        "differences": differences,
        "status": "failed" if failure else "completed",
        "failure": failure,
        "benchmark": name,
        "modified": modified,
        "config": config,
        "definition_hash": board,
        "config_hash": config_hash,
        "stream": of_stream,
        "metrics": None if failure else metrics.compute(script.trace),
        "primary_view": script.setting,
        "weights_sha256": state_sha256(script.learner.model.state_dict()),
        "memory": {"samples": claims.memory_samples, "bytes": None},
        "access": claims.access,
        "parameters": sum(p.numel() for p in script.learner.model.parameters()),
        "costs": _costs(script),
        "provenance": {
            **provenance.collect(script.device.type),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started_utc": script.clock.started_utc,
            "data": script.stream.data.origin if script.stream else None,
            "user_code": user_code,
            "code_sha256": provenance.code_sha256(user_code),
        },
    }
    folder = directory(out, name, claims.strategy, config_hash, claims.seed)
    if (folder / "run.json").exists() and not _is_same(folder, script.trace):
        files.supersede(folder)
    if not failure:
        record["trace_sha256"] = trace_files.TraceWriter(folder).finish(script.trace)
    files.write_json(folder / "run.json", json.loads(json.dumps(record)))
    return folder


def _check(claims: Claims) -> None:
    problems = []
    if not isinstance(claims.strategy, str) or not claims.strategy.strip() or len(claims.strategy) > 80:
        problems.append(f"strategy: got {shown(claims.strategy)}. Allowed: a name of up to 80 characters.")
    if isinstance(claims.seed, bool) or not isinstance(claims.seed, int) or claims.seed < 0:
        problems.append(f"seed: got {shown(claims.seed)}. Allowed: an integer >= 0.")
    if claims.access not in (None, "experience", "past", "stream"):
        problems.append(f"access: got {shown(claims.access)}. Allowed: experience, past, stream.")
    memory = claims.memory_samples
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 0):
        problems.append(f"memory_samples: got {shown(memory)}. Allowed: an integer >= 0.")
    try:
        canonical(claims.parameters)
    except (TypeError, ValueError):
        problems.append(f"parameters: got {shown(claims.parameters)}. Allowed: plain finite values by name.")
    if "name" in claims.parameters:
        problems.append("parameters: 'name' is the strategy's own.")
    if problems:
        raise UserError(*(f"ContinualEvaluation.save: {problem}" for problem in problems))


def _defined(benchmark: str | os.PathLike[str] | Benchmark) -> tuple[str, Benchmark | None]:
    """Name of a benchmark, and its definition; None for a free name."""
    if isinstance(benchmark, Benchmark):
        return benchmark.id, benchmark
    name = os.fspath(benchmark)
    if registry.benchmark_path(name) is not None or name.endswith((".yaml", ".yml")):
        defined = resolve.resolve(name, need_strategy=False)[0]
        return defined.id, defined
    if not _NAME.fullmatch(name) or len(name) > 80:
        allowed = "a benchmark's id, a YAML file, or a name of letters, digits, _, . and -"
        raise UserError(f"ContinualEvaluation.save: benchmark: got {shown(name)}. Allowed: {allowed}.")
    return name, None


# ------------------------------------------------------------------------------------------------ what is known
def _observed(script: Script, name: str) -> dict[str, Any]:
    """The configuration as far as it shows."""
    learner, stream = script.learner, script.stream
    return {
        "id": name,
        "stream": {
            "data": stream.data.name if stream else None,
            "setting": script.setting,
            "definition_hash": stream.definition_hash if stream else None,
        },
        "model": {"name": type(learner.model).__name__, "parameters": _shapes(learner.model)},
        "training": {
            "batch_size": _count(getattr(learner, "train_mb_size", None)),
            "epochs": _count(getattr(learner, "train_epochs", None)),
            "iterations": None,
            "updates": _updates(script.trace),
            "optimizer": {"name": type(learner.optimizer).__name__, **_plain(learner.optimizer.defaults)},
            "loss": type(getattr(learner, "_criterion", None)).__name__,
        },
        "evaluation": {"every": script.trace.every, "dense": 0, "subset": None, "scope": "seen"},
    }


def _differences(script: Script, defined: Benchmark) -> list[str]:
    """A sentence for each part of a benchmark that the script does not show to be as defined."""
    stream, learner, training = script.stream, script.learner, defined.training
    if stream is None:
        return ["its data are not those of a stream that clbench.avalanche.benchmark exported"]
    if stream.definition_hash != definition_hash(defined.stream):
        return [f"its stream is another one than that of {defined.id}"]
    out = []

    def compare(what: str, observed: Any, expected: Any) -> None:
        if observed != expected:
            out.append(f"{what}: {shown(observed)}, defined is {shown(expected)}")

    if not np.array_equal(script.trace.visits, _visits(stream)):
        out.append("it did not train on each experience once, in order")
    else:
        compare("updates in each experience", _updates(script.trace), _expected_updates(defined, stream))
    compare("batch size", _count(getattr(learner, "train_mb_size", None)), training.batch_size)
    with fenced(script.device.type == "cuda"):
        model = models.build(defined.model, tuple(stream.data.shape), stream.outputs)
    compare("shapes of the network's parameters", _shapes(learner.model), _shapes(model))
    expected = optimizer(training.optimizer, model.parameters())
    compare("optimiser", type(learner.optimizer).__name__, type(expected).__name__)
    if type(learner.optimizer) is type(expected):
        compare("settings of the optimiser", _plain(learner.optimizer.defaults), _plain(expected.defaults))
    loss = getattr(learner, "_criterion", None)
    if training.loss != "cross_entropy" or type(loss) is not nn.CrossEntropyLoss:
        compare("loss", type(loss).__name__, "CrossEntropyLoss" if training.loss == "cross_entropy" else training.loss)
    evaluation = defined.evaluation
    compare("evaluation", [script.trace.every, 0, None], [evaluation.every, evaluation.dense, evaluation.subset])
    active = training.active_outputs or ("task" if defined.stream.setting == "task" else "all")
    unseen = {
        "augmentation": bool(training.augmentation),
        "schedule, clipping or label smoothing": bool(training.schedule or training.clip or training.label_smoothing),
        "rates of parts": bool(training.rates),
        "settings of single experiences": bool(training.experiences),
        "the initial weights": defined.model.weights is not None,
        "the head": defined.model.head is not None,
        f"active outputs '{active}'": active != "all",
        "the protocol": defined.protocol != Protocol(),
    }
    return [*out, *(f"{what}: a script does not show it" for what, asked in unseen.items() if asked)]


def _visits(stream: Stream) -> NDArray[np.bool_]:
    """Visits as the plugin counts them, where sub-experiences are one."""
    origins = stream.origins()
    first = np.concatenate([[True], origins[1:] != origins[:-1]])
    visits: NDArray[np.bool_] = stream.visit_matrix()[first]
    return visits


def _expected_updates(defined: Benchmark, stream: Stream) -> list[int]:
    return updates_by_task_block(budgets(defined.training, stream), stream)


def _updates(trace: Trace) -> list[int]:
    """Updates in each experience."""
    ends = [int(trace.iteration[trace.experience == v].max()) for v in range(len(trace.visits))]
    return [end - begin for begin, end in pairwise([0, *ends])]


def _shapes(model: nn.Module) -> list[list[int]]:
    return [list(p.shape) for p in model.parameters()]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of an optimiser, those that are plain values."""
    plain = (bool, int, float, str, type(None))
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in sorted(settings.items())
        if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value))
    }


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _stream(script: Script) -> dict[str, Any]:
    if script.stream is not None:
        return provenance.describe_stream(script.stream)
    trace = script.trace
    return {
        "definition_hash": None,
        "instance_hash": script.test_sha256,
        "data_sha256": script.test_sha256,
        "experiences": len(trace.visits),
        "tasks": trace.visits.shape[1],
        "classes": len(np.unique(trace.cell_class)),
        "samples": None,
    }


def _stream_seed(script: Script, claims: Claims) -> int | None:
    """Seed of the stream where it is not the script's."""
    return script.stream.seed if script.stream is not None and script.stream.seed != claims.seed else None


def _numerics(script: Script) -> dict[str, Any]:
    parameter = next(script.learner.model.parameters(), torch.zeros(0))
    return {
        **Numerics(threads=torch.get_num_threads()).model_dump(mode="json"),
        "device": script.device.type,
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _costs(script: Script) -> dict[str, Any]:
    clock, cuda = script.clock, script.device.type == "cuda"
    return {
        "wall_s": round(clock.wall_s, 3),
        "train_s": round(clock.train_s, 3),
        "eval_s": round(clock.eval_s, 3),
        "iterations": len(script.trace.loss),
        "evaluations": len(script.trace.iteration),
        "peak_rss_bytes": provenance.peak_rss_bytes(),
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


def _failure(trace: Trace) -> dict[str, Any] | None:
    """The reason why a trace is no result, as `clbench run` words it."""
    broken = np.flatnonzero(~np.isfinite(trace.loss))
    if len(broken):
        at = int(broken[0]) + 1
        word = "NaN" if np.isnan(trace.loss[broken[0]]) else "infinite"
        return {"kind": "nan_loss", "message": f"the loss became {word} at iteration {at}", "iteration": at}
    for counts in trace.correct.values():
        rows = np.flatnonzero((counts == NAN_SCORES).any(1))
        if len(rows):
            at = int(trace.iteration[rows[0]])
            message = f"the model's scores became NaN or infinite by iteration {at}"
            return {"kind": "nan_scores", "message": message, "iteration": at}
    return None


def _main_sha256() -> str | None:
    """SHA-256 of the script's file; None in a notebook."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None


def _is_same(folder: Path, trace: Trace) -> bool:
    """True if a folder holds this very trace."""
    try:
        old = trace_files.read_trace(folder).arrays()
    except UserError:
        return False
    new = trace.arrays()
    return old.keys() == new.keys() and all(np.array_equal(old[key], new[key]) for key in new)


def _definition_hash(defined: Benchmark) -> str:
    unused = StrategyConfig(name="naive")
    run = RunConfig(benchmark=defined, strategy=unused, seed=0, seeds=Seeds(), numerics=Numerics(), modified=False)
    return run.definition_hash
