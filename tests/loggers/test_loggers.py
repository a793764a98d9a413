"""Loggers show a run's own record, whole and once, change nothing of it, and cannot break it."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import random
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench import resolve, run_config
from clbench.cli import main
from clbench.errors import UserError
from clbench.evaluation.recorder import Recorder
from clbench.loggers import base
from clbench.loggers.points import LOSSES, Curves, Point, final_metrics
from clbench.metrics import worst_case
from clbench.results import files, trace_files
from clbench.runner.checkpoint import Every
from clbench.runner.run import execute
from clbench.runner.signals import Interrupted
from clbench.strategy import Batch, Strategy
from clbench.testing.traces import make_trace
from clbench.trace import Phase, Trace
from support import CrashAt

SPLIT = "split_synthetic-v1"
SMALL = "training={iterations: 7, epochs: null, batch_size: 60}"  # 35 updates in all
CONFIGURATIONS: dict[str, tuple[str, list[str]]] = {
    "plain": (SPLIT, []),
    "cut": (SPLIT, ["stream.online=50", "training.iterations=2", "evaluation={every: 3, dense: 2}"]),
    "recurrent": ("power_law_digits-v1", ["training.iterations=2"]),
    "averages": (SPLIT, ["watch={ema: [0.5], last: [3]}", "evaluation.every=3"]),
    "everything": (SPLIT, ["evaluation.scope=all"]),
}
Series = dict[str, list[tuple[int, float]]]
"""By name: iteration and value, in the order written."""


def plan(*overrides: str, benchmark: str = SPLIT, strategy: str = "er") -> run_config.RunConfig:
    return resolve.make_run(benchmark, strategy=strategy, overrides=[SMALL, *overrides])


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B keeps to this machine, and nothing of the user's settings counts."""
    for name in ("WANDB_PROJECT", "WANDB_CONSOLE", "WANDB_QUIET", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


# ------------------------------------------------------------------------------------------------ what should be there
def expected(trace: Trace) -> Series:
    """The record as it is to be shown, by another way than the one tested: metrics of the record cut short."""
    found: Series = {"loss": [(n + 1, value) for n, value in enumerate(trace.loss.tolist())], "experience": []}
    joined = trace.by_origin()
    for e, (n, v) in enumerate(zip(joined.iteration.tolist(), joined.experience.tolist(), strict=True)):
        found["experience"].append((n, v))
        upto = dataclasses.replace(
            joined,
            visits=joined.visits[: v + 1],
            correct={view: counts[: e + 1] for view, counts in joined.correct.items()},
            **{name: getattr(joined, name)[: e + 1] for name in ("iteration", "experience", "phase")},
        )
        for view in joined.correct:
            now = upto.task_accuracy(view)[-1]
            values = {f"task_{i}": a for i, a in enumerate(now)}
            values["average_so_far"] = math.fsum(now[upto.visits.any(0)]) / np.count_nonzero(upto.visits.any(0))
            values["min_acc_so_far"] = worst_case.minimum_accuracy(upto, view).value
            for name, value in values.items():
                if not np.isnan(value):
                    found.setdefault(f"{view}/{name}", []).append((n, float(value)))
    return found


def as_float32(series: Series) -> Series:
    return {name: [(n, float(np.float32(value))) for n, value in points] for name, points in series.items()}


# ------------------------------------------------------------------------------------------------ readers
def event_file(directory: Path) -> Path:
    [path] = (directory / "tensorboard").glob("*tfevents*")
    return path


def tensorboard(directory: Path) -> tuple[Series, Any]:
    """The scalars as TensorBoard itself reads them, and its reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(event_file(directory)), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return {tag: [(s.step, s.value) for s in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}, reader


def wandb_records(directory: Path) -> list[Any]:
    """The records of a W&B run that was offline: its file is a log of LevelDB's format, with another head."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = (directory / "wandb").glob("offline-run-*/*.wandb")
    data, at, parts, found = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def item(entry: Any) -> tuple[str, Any]:
    return entry.key or ".".join(entry.nested_key), json.loads(entry.value_json)


def series_of(rows: Iterable[dict[str, Any]]) -> Series:
    """Rows of W&B as series."""
    found: Series = {}
    for row in rows:
        for name, value in row.items():
            if name != "iteration" and not name.startswith("_"):
                found.setdefault(name, []).append((row["iteration"], value))
    return found


# ------------------------------------------------------------------------------------------------ what is shown
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_tensorboard_shows_the_record_to_the_last_bit(configuration: str, tmp_path: Path) -> None:
    benchmark, overrides = CONFIGURATIONS[configuration]
    directory = execute(plan(*overrides, benchmark=benchmark), tmp_path, log=["tensorboard"]).directory
    record, (shown, reader) = files.read_run(directory), tensorboard(directory)
    final = {name: points for name, points in shown.items() if name.startswith("metrics/")}
    trace = trace_files.read_trace(directory)
    assert {n: p for n, p in shown.items() if n not in final} == as_float32(expected(trace))
    known = [(view, name, m["value"]) for view, of in record["metrics"].items() for name, m in of.items()]
    values = {f"metrics/{view}/{name}": [(len(trace.loss), v)] for view, name, v in known if v is not None}
    assert final == as_float32(values)
    for view in record["metrics"]:
        for name, metric in (("average_so_far", "average_accuracy"), ("min_acc_so_far", "min_acc")):
            assert shown[f"{view}/{name}"][-1][1] == np.float32(record["metrics"][view][metric]["value"])
    [told] = reader.Tensors("run/text_summary")
    told = json.loads(told.tensor_proto.string_val[0])
    assert told["config"] == record["config"]
    assert told["run_id"] == record["run_id"]


def test_tensorboard_lists_the_configuration_beside_the_metrics(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    directory = execute(plan(), tmp_path, log=["tensorboard"]).directory
    tagged = tensorboard(directory)[1].PluginTagToContent(metadata.PLUGIN_NAME)
    assert set(tagged) == {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
    given = HParamsPluginData.FromString(tagged[metadata.SESSION_START_INFO_TAG]).session_start_info.hparams
    assert given["strategy.name"].string_value == "er"
    assert given["benchmark.training.iterations"].number_value == 7
    listed = HParamsPluginData.FromString(tagged[metadata.EXPERIMENT_TAG]).experiment.metric_infos
    assert "metrics/class/wc_acc" in {metric.name.tag for metric in listed}


def test_wandb_shows_the_record_and_is_named_after_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """For real, without a network."""
    out = ["--out", str(tmp_path), "--quiet", "--json", "-o", SMALL]
    assert main(["run", SPLIT, "--strategy", "er", "--seed", "3", "--log", "wandb", *out]) == 0
    directory = Path(json.loads(capfd.readouterr().out)["run_dir"])  # and nothing else is there
    record, written = files.read_run(directory), wandb_records(directory)
    rows = [dict(map(item, r.history.item)) for r in written if r.WhichOneof("record_type") == "history"]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    assert series_of(rows) == expected(trace_files.read_trace(directory))
    [run] = [r.run for r in written if r.WhichOneof("record_type") == "run"]
    group = f"er {record['config_hash'][:16]}"
    assert (run.project, run.run_group, run.display_name, run.run_id) == (SPLIT, group, "er seed 3", record["run_id"])
    config = {u.key: json.loads(u.value_json) for u in run.config.update}
    assert {k: config[k] for k in record["config"]} == record["config"]
    summary = dict(item(u) for r in written for u in r.summary.update)
    assert summary["status"] == "completed"
    assert final_metrics(record).items() <= summary.items()
    assert {p.name for p in directory.iterdir()} == {"run.json", "trace.npz", "predictions.npz", "wandb"}


# ------------------------------------------------------------------------------------------------ changes nothing
class Drawing:
    """A logger that draws from every global generator whenever it is called."""

    def __init__(self, folder: Path, *_: Any) -> None:
        folder.mkdir()
        self._draw()

    def _draw(self, *_: Any) -> None:
        random.random()
        np.random.rand()
        torch.rand(1)

    def add(self, points: Iterable[Point]) -> None:
        list(points)
        self._draw()

    end = close = _draw


class Gambler(Strategy):
    """Draws from every global generator, as third-party code does."""

    def step(self, batch: Batch) -> torch.Tensor:
        loss = super().step(batch)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter += 1e-3 * (torch.rand(1) + random.random() + np.random.rand())
        return loss


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    """Puts a class in the place of TensorBoard's logger."""

    def put(kind: type) -> None:
        monkeypatch.setitem(sys.modules, "a_stand_in", type(sys)("a_stand_in"))
        sys.modules["a_stand_in"].Mine = kind  # type: ignore[attr-defined]
        monkeypatch.setitem(base.LOGGERS, "tensorboard", "a_stand_in:Mine")

    return put


def same(a: Path, b: Path) -> None:
    """Two runs agree in everything that a run is a function of."""
    one, other = files.read_run(a), files.read_run(b)
    assert (a / "trace.npz").read_bytes() == (b / "trace.npz").read_bytes()
    for key in one.keys() - {"costs", "provenance"}:
        assert one[key] == other[key], key


@pytest.mark.parametrize("log", ["tensorboard", "wandb", "drawing"])
def test_a_logger_changes_nothing(
    log: str, stand_in: Callable[[type], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "a_users_module", type(sys)("a_users_module"))
    sys.modules["a_users_module"].Mine = Gambler  # type: ignore[attr-defined]
    run, every = plan(strategy="a_users_module:Mine"), Every(0, 4)
    without = execute(run, tmp_path / "without", every=every)
    assert without.record["status"] == "completed", without.record["failure"]
    if log == "drawing":
        stand_in(Drawing)
        log = "tensorboard"
    chunks: list[None] = []
    chunk = Recorder.chunk
    monkeypatch.setattr(Recorder, "chunk", lambda self: chunks.append(None) or chunk(self))
    execute(run, tmp_path / "again", every=every)
    without_one, _ = len(chunks), chunks.clear()
    told: list[str] = []
    with_one = execute(run, tmp_path / "with", every=every, log=[log], warn=told.append)
    assert told == []
    same(without.directory, with_one.directory)
    assert len(chunks) == without_one, "nothing is fetched for a logger"


# ------------------------------------------------------------------------------------------------ interruptions
def interrupted(run: run_config.RunConfig, out: Path, log: list[str], at: Iterable[int]) -> Path:
    """A run that crashes after some updates, each time past its last checkpoint."""
    for n in at:
        with pytest.raises(Interrupted):
            execute(run, out, every=Every(0, 7), progress=CrashAt(n), log=log)
    outcome = execute(run, out, every=Every(0, 7), log=log)
    assert outcome.record["costs"]["resumed_at"]
    return outcome.directory


def test_a_run_that_goes_on_shows_every_point_once_in_tensorboard(tmp_path: Path) -> None:
    """Checkpoints are at the ends of experiences, where evaluations before and after them have one step."""
    whole = execute(plan(), tmp_path / "whole", log=["tensorboard"]).directory
    again = interrupted(plan(), tmp_path / "again", ["tensorboard"], [3, 10, 12, 22])
    assert tensorboard(again)[0] == tensorboard(whole)[0]


def test_what_was_logged_past_the_checkpoint_was_there(tmp_path: Path) -> None:
    """Until it goes on; so the test above can fail."""
    with pytest.raises(Interrupted):
        execute(plan(), tmp_path, every=Every(0, 7), progress=CrashAt(12), log=["tensorboard"])
    [directory] = files.find_runs(tmp_path)
    shown, reader = tensorboard(directory)
    assert [n for n, _ in shown["loss"]] == list(range(1, 13))
    assert "interrupted/text_summary" in reader.Tags()["tensors"]
    assert not [name for name in shown if name.startswith("metrics/")]


def test_a_log_that_was_lost_or_not_asked_for_before_is_whole_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        execute(plan(), tmp_path, every=Every(0, 7), progress=CrashAt(23))
    directory = interrupted(plan(), tmp_path, ["tensorboard"], [])
    assert tensorboard(directory)[0].items() >= as_float32(expected(trace_files.read_trace(directory))).items()


def test_a_tensorboard_that_looks_on_forgets_the_earlier_attempt(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import SessionLog

    directory = execute(plan(), tmp_path, log=["tensorboard"]).directory
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    head = [event for event, _ in zip(EventFileLoader(str(event_file(directory))).Load(), range(2), strict=False)]
    assert head[0].file_version == "brain.Event:2"
    assert (head[1].session_log.status, head[1].step) == (SessionLog.START, 0)


class Server:
    """W&B's record of runs, by id, behind a module with its signatures; it takes no step twice."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.begun: list[tuple[str | None, int]] = []
        self.exit_codes: list[int] = []

    def init(self, *, id: str, resume: str | None, dir: str, **given: Any) -> Any:
        assert {"project", "group", "name", "config", "settings"} == set(given)
        rows = self.rows.setdefault(id, [])
        if resume is None:
            rows.clear()
        self.begun.append((resume, len(rows)))
        server = self

        class Run:
            starting_step = len(rows)
            summary: dict[str, Any] = {}  # noqa: RUF012

            def define_metric(self, name: str, step_metric: str | None = None) -> None: ...

            def log(self, data: dict[str, Any], step: int) -> None:
                assert step == len(rows), "a step is missing or was sent before"
                rows.append(data)

            def finish(self, exit_code: int) -> None:
                server.exit_codes.append(exit_code)

        return Run()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    module = type(sys)("wandb")
    module.init = made.init  # type: ignore[attr-defined]
    module.__spec__ = type("Spec", (), {"origin": "here"})()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return made


@pytest.mark.parametrize("lost", [0, 1, 30, 10_000])
def test_a_run_that_goes_on_shows_every_point_once_in_wandb(lost: int, server: Server, tmp_path: Path) -> None:
    """Whatever the server did not get of the earlier attempt."""
    run = plan()
    with pytest.raises(Interrupted):
        execute(run, tmp_path, every=Every(0, 7), progress=CrashAt(22), log=["wandb"])
    rows = server.rows[run.run_id]
    del rows[max(0, len(rows) - lost) :]
    kept = len(rows)
    outcome = execute(run, tmp_path, every=Every(0, 7), log=["wandb"])
    assert outcome.record["costs"]["resumed_at"] == [21]
    assert series_of(rows) == expected(trace_files.read_trace(outcome.directory))
    assert server.begun == [(None, 0), ("allow", kept)]
    assert server.exit_codes == [1, 0]


def test_begun_anew_a_run_replaces_the_one_of_its_id(server: Server, tmp_path: Path) -> None:
    run = plan()
    execute(run, tmp_path, log=["wandb"])
    outcome = execute(run, tmp_path, log=["wandb"], force=True)
    assert server.begun == [(None, 0), (None, 0)]
    assert series_of(server.rows[run.run_id]) == expected(trace_files.read_trace(outcome.directory))


# ------------------------------------------------------------------------------------------------ mistakes and breaks
def test_one_sentence_for_a_logger_that_is_not_installed_or_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "tensorboard", type(sys)("tensorboard"))
    sys.modules["tensorboard"].__spec__ = type("Spec", (), {"origin": None})()  # type: ignore[assignment]
    out = tmp_path / "out"
    asked = [f"--log={name}" for name in ("wandb", "tensorbord", "tensorboard")]
    assert main(["run", SPLIT, "--strategy", "er", "--out", str(out), *asked]) == 2
    absent = "log: {}: the package is not installed. `pip install 'clbench[loggers]'` installs all loggers."
    assert capsys.readouterr().err.splitlines() == [
        absent.format("wandb"),
        "log: unknown logger 'tensorbord'. Did you mean 'tensorboard'? Allowed: tensorboard, wandb.",
        absent.format("tensorboard"),  # a folder of that name is no package
    ]
    with pytest.raises(UserError, match="wandb"):
        execute(plan(), out, log=["wandb"])
    assert not out.exists()


def test_without_either_package_the_suite_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("wandb", "tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    assert execute(plan(), tmp_path).record["status"] == "completed"


@pytest.mark.parametrize("moment", ["__init__", "add", "end", "close"])
def test_a_logger_that_breaks_does_not_break_the_run(
    moment: str, stand_in: Callable[[type], None], server: Server, tmp_path: Path
) -> None:
    def broken(self: Any, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device\nand more")

    whole = execute(plan(), tmp_path / "whole", every=Every(0, 5)).directory
    stand_in(type("Breaking", (Drawing,), {moment: broken}))
    told: list[str] = []
    log = ["tensorboard", "wandb", "tensorboard"]
    outcome = execute(plan(), tmp_path / "broken", every=Every(0, 5), log=log, warn=told.append)
    reason = "OSError: [Errno 28] No space left on device"
    assert told == [f"tensorboard broke ({reason}); the run continues without it"]
    same(whole, outcome.directory)
    assert series_of(server.rows[plan().run_id]) == expected(trace_files.read_trace(whole)), "the other one goes on"


class Odd(Strategy):
    """Has a state that no checkpoint takes."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "odd": {1.5}}


def test_a_refused_checkpoint_hides_nothing_from_a_logger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "a_users_module", type(sys)("a_users_module"))
    sys.modules["a_users_module"].Mine = Odd  # type: ignore[attr-defined]
    warnings: list[str] = []
    run = plan(strategy="a_users_module:Mine")
    outcome = execute(run, tmp_path, every=Every(0, 4), log=["tensorboard"], warn=warnings.append)
    assert len(warnings) == 1
    assert warnings[0].startswith("no checkpoints: ")
    shown = {name: of for name, of in tensorboard(outcome.directory)[0].items() if not name.startswith("metrics/")}
    assert shown == as_float32(expected(trace_files.read_trace(outcome.directory)))


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    directory = plan().directory(tmp_path)
    directory.mkdir(parents=True)
    (directory / "tensorboard").write_text("mine")
    told: list[str] = []
    outcome = execute(plan(), tmp_path, log=["tensorboard"], warn=told.append)
    assert outcome.record["status"] == "completed"
    assert len(told) == 1
    assert told[0].startswith("tensorboard broke (NotADirectoryError: ")
    assert (directory / "tensorboard").read_text() == "mine"


def test_a_run_that_fails_is_shown_up_to_there(tmp_path: Path) -> None:
    run = plan("training.optimizer={name: sgd, lr: 1e30}")
    outcome = execute(run, tmp_path, log=["tensorboard"])
    assert outcome.record["status"] == "failed"
    shown, reader = tensorboard(outcome.directory)
    steps, losses = zip(*shown["loss"], strict=True)
    assert steps == tuple(range(1, outcome.record["failure"]["iteration"] + 1))
    assert not np.isfinite(losses[-1])
    [told] = reader.Tensors("failed/text_summary")
    assert outcome.record["failure"]["message"] in told.tensor_proto.string_val[0].decode()


# ------------------------------------------------------------------------------------------------ finished runs
def test_a_finished_run_is_logged_from_its_trace_once(tmp_path: Path) -> None:
    live = execute(plan(), tmp_path / "live", log=["tensorboard"]).directory
    execute(plan(), tmp_path / "later")
    later = execute(plan(), tmp_path / "later", log=["tensorboard"])
    assert later.skipped
    assert tensorboard(later.directory)[0] == tensorboard(live)[0]
    path = event_file(later.directory)
    assert execute(plan(), tmp_path / "later", log=["tensorboard"]).skipped
    assert event_file(later.directory) == path
    (path.parent / ".clbench-complete").unlink()  # as a logger leaves it that broke
    path.write_bytes(b"half of it")
    execute(plan(), tmp_path / "later", log=["tensorboard"])
    assert tensorboard(later.directory)[0] == tensorboard(live)[0]


# ------------------------------------------------------------------------------------------------ curves
def cut(trace: Trace, at: list[int]) -> Iterator[Trace]:
    """Pieces of a trace: evaluations between some numbers, with the losses up to the last."""
    done = 0
    for first, last in zip([0, *at], [*at, len(trace.iteration)], strict=True):
        ends = last == len(trace.iteration)
        losses = len(trace.loss) if ends else max(done, int(trace.iteration[max(0, last - 1)]) if last else 0)
        names = ("iteration", "experience", "phase")
        yield dataclasses.replace(
            trace,
            loss=trace.loss[done:losses],
            correct={view: counts[first:last] for view, counts in trace.correct.items()},
            **{name: getattr(trace, name)[first:last] for name in names},
        )
        done = losses


def test_how_a_trace_is_cut_moves_no_point() -> None:
    generator = np.random.default_rng(0)
    trace = make_trace(generator.random((3, 6, 3)))
    whole = list(Curves(len(trace.loss)).points(trace))
    assert [p.number for p in whole] == list(range(len(whole)))
    assert [p.iteration for p in whole] == sorted(p.iteration for p in whole)
    for _ in range(20):
        at = sorted(generator.integers(0, len(trace.iteration) + 1, 3).tolist())
        grown = Curves(len(trace.loss))
        assert [p for piece in cut(trace, at) for p in grown.points(piece)] == whole


def test_curves_of_any_order_of_visits_are_those_metrics() -> None:
    """Tasks come again, several at once, and neighbours share an origin."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        visits = generator.random((5, 3)) < 0.3
        visits[np.arange(5), generator.integers(0, 3, 5)] = True
        origin = np.cumsum(generator.random(5) < 0.8).astype(np.int32)
        visits = visits[np.unique(origin, return_index=True)[1][np.unique(origin, return_inverse=True)[1]]]
        trace = make_trace(generator.random((5, 4, 3)), visits, size=50, origin=origin)
        shown = series_of({"iteration": p.iteration, **p.values} for p in Curves(len(trace.loss)).points(trace))
        assert shown == expected(trace)


def test_min_acc_so_far_by_hand() -> None:
    accuracy = np.full((3, 4, 3), 0.9)
    accuracy[1, 1:, 0] = 0.5, 0.2, 0.7  # task 0 while task 1 is learnt
    accuracy[2, 2, 1] = 0.4  # task 1 while task 2 is learnt
    accuracy[0, 2, 0] = 0.1  # while it is learnt itself: does not count
    trace = make_trace(accuracy, size=10)
    seen = [p.values for p in Curves(0).points(trace) if "experience" in p.values]
    assert [p["experience"] for p in seen] == [0] * 4 + [1] * 4 + [2] * 4
    least = [round(p.get("class/min_acc_so_far", -1), 6) for p in seen]
    # Nothing counts before the first update after a task's visit; then (0.2 + 0.9) / 2 and (0.2 + 0.4) / 2.
    assert least == [-1] * 4 + [-1, 0.5, 0.2, 0.2] + [-1, 0.55, 0.3, 0.3]


@pytest.mark.parametrize(("updates", "stride"), [(5_000, 1), (5_001, 2), (12_000, 3)])
def test_many_losses_are_thinned_to_every_kth(updates: int, stride: int) -> None:
    trace = make_trace(np.full((1, 3, 1), 0.5))
    loss = np.random.default_rng(0).random(updates).astype(np.float32)
    empty = {"iteration": trace.iteration[:0], "experience": trace.experience[:0], "phase": trace.phase[:0]}
    piece = dataclasses.replace(trace, loss=loss, correct={}, **empty)
    shown = [(p.iteration, p.values["loss"]) for p in Curves(updates).points(piece)]
    assert shown == [(n, float(loss[n - 1])) for n in range(stride, updates + 1, stride)]
    assert len(shown) <= LOSSES


def test_what_is_not_there_is_no_point() -> None:
    trace = make_trace(np.full((2, 3, 2), 0.5))
    trace.correct["class"][0] = [-1, -2]
    assert trace.phase[0] == Phase.BEFORE
    first = next(iter(Curves(0).points(trace)))
    assert first.values == {"experience": 0.0}
