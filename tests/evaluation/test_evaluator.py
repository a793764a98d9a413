"""The evaluator: what it records, on what schedule, and that its short cuts change no count."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import support
from clbench import metrics
from clbench.config.evaluation import Evaluation, Watch
from clbench.errors import RunFailed
from clbench.evaluation import audits, evaluated_model, reduced_precision
from clbench.evaluation.cells import Cells, lay_out_cells
from clbench.evaluation.competition import Judged
from clbench.evaluation.evaluator import Evaluator
from clbench.evaluation.frozen_features import Front
from clbench.evaluation.inputs import TestInputs
from clbench.evaluation.passes import Passes
from clbench.evaluation.recorder import Recorder
from clbench.evaluation.weight_averages import Average
from clbench.results import trace_files
from clbench.run_config import RunConfig
from clbench.runner import components, observer
from clbench.strategy import Strategy
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.testing.states import assert_same
from clbench.trace import UNAVAILABLE, Phase, Trace
from clbench.training.inputs import InputTransform
from support import DIGITS, assembled, execute, trace_of, user_module, watched

CPU = torch.device("cpu")


def make_run(*overrides: str, strategy: str = "er", benchmark: str = DIGITS) -> RunConfig:
    return support.make_run(strategy, *overrides, benchmark=benchmark, iterations=6)


def observed(run: RunConfig) -> tuple[components.Components, Trace]:
    """Trains and watches without files."""
    bench = assembled(run)
    return bench, trace_of(bench, watched(bench))


# ------------------------------------------------------------------------------------------------ bits
def test_bits_are_the_predictions_of_every_sample() -> None:
    """Summed over cells they are the counts; at the end they are what the final model says, sample by sample."""
    bench, trace = observed(make_run())
    starts = np.concatenate([[0], np.cumsum(trace.cell_size)[:-1]])
    for view in ("class", "task"):
        right = trace.sample_correct(view)
        counts = np.add.reduceat(right, starts, axis=1, dtype=np.int64)
        assert (counts == np.maximum(trace.correct[view], 0)).all()
    stream, transform = bench.stream, InputTransform(bench.stream, CPU)
    x, y = torch.from_numpy(stream.data.test_x)[trace.rows], stream.data.test_y[trace.rows]
    with torch.no_grad():
        predicted = bench.strategy.model.eval()(transform(x, 0)).argmax(1).numpy()
    assert (trace.sample_correct("class")[-1] == (predicted == y)).all()
    assert (trace.cell_class[trace.sample_cell] == y).all()


def test_bits_may_be_left_out_and_are_where_they_would_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert observed(make_run("watch.bits=false"))[1].bits == {}
    monkeypatch.setattr(components, "_SAMPLES_BYTES", 1000)
    assert observed(make_run())[1].bits == {}
    assert set(observed(make_run("watch.bits=true"))[1].bits) == {"class", "task"}


def test_the_file_of_a_trace_holds_the_bits_as_they_were(tmp_path: Path) -> None:
    outcome = execute(make_run(), tmp_path)
    _, trace = observed(make_run())
    assert_same(vars(trace_files.read_trace(outcome.directory)), vars(trace))


def test_a_long_experience_is_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clbench.evaluation import recorder

    whole = execute(make_run(), tmp_path / "a")
    monkeypatch.setattr(recorder, "_CHUNK_BYTES", 500)
    written: list[int] = []
    append = trace_files.TraceWriter.append
    monkeypatch.setattr(
        trace_files.TraceWriter, "append", lambda self, a: (written.append(len(a["iteration"])), append(self, a))[1]
    )
    parts = execute(make_run(), tmp_path / "b")
    assert len(written) > 5
    assert (whole.directory / "trace.npz").read_bytes() == (parts.directory / "trace.npz").read_bytes()


# ------------------------------------------------------------------------------------------------ schedule and subset
def test_dense_after_a_switch_and_sparser_later() -> None:
    _, trace = observed(make_run("evaluation.every=3", "evaluation.dense=2", "training.iterations=8"))
    second = trace.experience == 1
    within = (trace.iteration[second] - 8).tolist()
    assert within == [0, 1, 2, 3, 6, 8]
    assert trace.phase[second].tolist() == [Phase.BEFORE, *[Phase.ITERATION] * 4, Phase.END]
    assert (trace.every, trace.dense) == (3, 2)


def test_a_subset_is_fixed_stratified_and_drawn_by_the_stream_seed() -> None:
    stream = compile_stream(make_run().benchmark.stream, 0)
    cells, whole = lay_out_cells(stream, 40, seed=5), lay_out_cells(stream)
    for t in range(cells.tasks):
        mine = cells.task == t
        assert cells.size[mine].sum() == 40
        share = whole.size[mine] * 40 / whole.size[mine].sum()
        assert (np.abs(cells.size[mine] - share) < 1).all()
    assert (cells.population == whole.size).all()
    assert set(cells.rows) < set(whole.rows)
    label = stream.data.test_y[cells.rows]
    assert (label == np.repeat(cells.label, cells.size)).all()
    assert_same(cells.rows, lay_out_cells(stream, 40, seed=5).rows)
    assert set(cells.rows) != set(lay_out_cells(stream, 40, seed=6).rows)
    assert_same(lay_out_cells(stream, 10_000, seed=5).rows, whole.rows)


def test_the_subset_of_a_run_is_recorded_and_the_same_at_every_evaluation() -> None:
    _, whole = observed(make_run())
    _, part = observed(make_run("evaluation.subset=30"))
    assert len(part.rows) == 5 * 30
    assert (part.cell_population == whole.cell_size).all()
    position = {int(r): i for i, r in enumerate(whole.rows)}
    chosen = [position[int(r)] for r in part.rows]
    assert (part.sample_correct("class") == whole.sample_correct("class")[:, chosen]).all()


# ------------------------------------------------------------------------------------------------ views
def test_the_task_view_is_the_class_view_with_the_tasks_own_classes_only() -> None:
    bench, trace = observed(make_run("evaluation.views=[class, task, domain]"))
    assert bench.evaluator.views == ("class", "task", "domain")
    known = trace.correct["class"] >= 0
    assert (trace.correct["task"][known] >= trace.correct["class"][known]).all(), "fewer rivals, no more errors"
    assert (trace.correct["class"][known] >= trace.correct["domain"][known]).all()
    assert (trace.correct["task"][known] > trace.correct["class"][known]).any()
    last = trace.experience == 4
    assert (trace.correct["class"][last] == trace.correct["domain"][last]).all(), "all classes are seen by then"


# ------------------------------------------------------------------------------------------------ reduced precision
@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduced precision and selection also where they do not pay."""
    monkeypatch.setattr("clbench.evaluation.evaluator.fast_here", lambda: True)
    monkeypatch.setattr(evaluated_model, "_WORTH", 0)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("model", ["{name: mlp, hidden: [100, 100]}", "{name: cnn}", "{name: linear}"])
def test_reduced_precision_ends_in_the_trace_of_full_precision(model: str) -> None:
    overrides = [f"model={model}", "training.iterations=40"]
    bench, cheap = observed(make_run(*overrides, "watch.samples=all"))
    _, exact = observed(make_run(*overrides, "watch.precision=float32", "watch.samples=all"))
    assert_same(vars(cheap), vars(exact))
    report = bench.evaluator.report()["model"]
    assert report["evaluations"]["reduced"] > 100
    assert report["evaluations"]["audit"] > 20
    assert 0 < report["samples_repeated"] < report["samples_reduced"] / 2
    assert report["audited_predictions"] > 1000
    assert (report["audited_differing"], report["off"]) == (0, None)


@pytest.mark.usefixtures("everywhere")
def test_an_audit_finds_a_limit_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no safety at all, predictions differ from float32's; the audit says so and the way is left."""
    monkeypatch.setattr(reduced_precision, "_SAFETY", 0.0)
    monkeypatch.setattr(audits, "EVERY", 1)
    overrides = [
        "watch.samples=all",
        "training.optimizer.lr=1e-4",
        "training.iterations=60",
        "model={name: mlp, hidden: [400, 400]}",
    ]
    bench, cheap = observed(make_run(*overrides))
    report = bench.evaluator.report()["model"]
    assert report["audited_differing"] > 0
    assert report["off"] == "an audit found an answer that float32 does not confirm"
    _, exact = observed(make_run(*overrides, "watch.precision=float32"))
    assert_same(vars(cheap), vars(exact), "audits record float32")


def judge_of(targets: torch.Tensor) -> Any:
    """The verdict on scores among all outputs."""

    def judge(scores: torch.Tensor, which: Any) -> Judged:
        y = targets[which if isinstance(which, torch.Tensor) else slice(*which)].unsqueeze(1)
        lead = scores.gather(1, y).squeeze(1) - scores.scatter(1, y, float("-inf")).amax(1)
        return Judged((lead > 0).unsqueeze(0), lead.unsqueeze(0), torch.zeros((), dtype=torch.bool), scores.shape[1])

    return judge


def scored_by(model: Any, x: torch.Tensor) -> Any:
    return lambda which: model(x[which if isinstance(which, torch.Tensor) else slice(*which)])


def passes_of(x: torch.Tensor) -> Passes:
    return Passes(TestInputs(x), CPU, 1000)


def test_samples_near_a_tie_are_decided_in_float32() -> None:
    """Scores that bfloat16 cannot always tell apart: some of its answers are wrong, and none that is used."""
    torch.manual_seed(0)
    x, model = torch.rand(2000, 50), nn.Sequential(nn.Linear(50, 10, bias=False))
    model[0].weight.data.add_(0.05)
    way = reduced_precision.Reduced()
    with torch.inference_mode():
        targets = model(x).argmax(1)
        low = copy.deepcopy(model).to(torch.bfloat16)(x.to(torch.bfloat16)).argmax(1)
        assert (low != targets).sum() > 10
        modes = []
        for n in range(4):
            modes.append(way.begin(model, x, n < 3, n + 1))
            judged = way.judge((0, 2000), scored_by(model, x), judge_of(targets), passes_of(x))
            assert judged.right.all()
        some = torch.arange(0, 2000, 3)
        assert way.judge(some, scored_by(model, x), judge_of(targets), passes_of(x)).right.all()
    assert modes == ["audit", "audit", "audit", "reduced"]
    assert (low != targets).sum() < way.repeated < 1000


@pytest.mark.parametrize("wrong", [0, 1, 2])
@pytest.mark.parametrize(("evaluations", "suspect"), [(2, None), (3, None), (5, [4, 4]), (9, [6, 8])])
def test_suspect_evaluations_lie_between_two_audits_of_several_runs_of_tasks(
    evaluations: int, suspect: list[int] | None, wrong: int
) -> None:
    """Audits are evaluations 1, 2, 3, 5 and 9, each in three parts, of which one of the last is wrong."""
    torch.manual_seed(0)
    x, model = torch.rand(300, 4), nn.Sequential(nn.Identity(), nn.Linear(4, 3))  # without int8, which is a second way
    way = reduced_precision.Reduced()
    clock, none = audits.Clock(), torch.zeros((), dtype=torch.bool)
    with torch.inference_mode():
        for n in range(1, evaluations + 1):
            audit = clock.tick()
            way.begin(model, x, audit, clock.number)
            for part in range(3):
                spoilt = n == evaluations and part == wrong
                answers = iter((True, not spoilt))

                def judge(scores: torch.Tensor, which: Any, answers: Any = answers) -> Judged:
                    lead = torch.full((1, len(scores)), 1e9)
                    return Judged(torch.full((1, len(scores)), next(answers)), lead, none, 3)

                way.judge((100 * part, 100 * part + 100), scored_by(model, x), judge, passes_of(x))
    assert way.report()["audited_differing"] == 100
    assert way.report()["suspect_evaluations"] == suspect


def test_models_that_cannot_be_reduced_take_the_plain_way() -> None:
    x = torch.rand(8, 4)
    assert reduced_precision.Reduced().begin(nn.Linear(4, 3).double(), x.double(), True, 1) == "plain"


# ------------------------------------------------------------------------------------------------ averages
def test_averages_by_hand() -> None:
    """Weights 1, 2, 4, 8: EMA with decay 0.5 from the first on, and the mean of the last two."""
    model = nn.Linear(1, 1, bias=False)
    ema, last = Average(decay=0.5), Average(last=2)
    for value in (1.0, 2.0, 4.0, 8.0):
        model.weight.data.fill_(value)
        ema.update(model)
        last.update(model)
    with ema.of(model) as averaged:
        assert averaged.weight.item() == (((1 + 2) / 2 + 4) / 2 + 8) / 2
    with last.of(model) as averaged:
        assert averaged.weight.item() == 6
    assert model.weight.item() == 8


def test_averages_are_views_beside_the_weights_and_metrics_are_computed_of_them(tmp_path: Path) -> None:
    run = make_run("watch={ema: [0.0, 0.9], last: [2]}", "training.iterations=10")
    outcome = execute(run, tmp_path)
    trace = trace_files.read_trace(outcome.directory)
    names = {"class", "task"}
    assert set(trace.correct) == {f"{n}{s}" for n in names for s in ("", ".ema_0.0", ".ema_0.9", ".last_2")}
    assert_same(trace.correct["class.ema_0.0"], trace.correct["class"], "an average that forgets at once")
    assert (trace.correct["class.ema_0.9"] != trace.correct["class"]).any()
    assert set(outcome.record["metrics"]) == set(trace.correct)
    plain = execute(make_run("training.iterations=10"), tmp_path)
    assert plain.record["weights_sha256"] == outcome.record["weights_sha256"]
    assert_same(trace_files.read_trace(plain.directory).correct["class"], trace.correct["class"])


# ------------------------------------------------------------------------------------------------ gradients, features
def test_gradients_and_features_by_a_plain_loop() -> None:
    run = make_run(
        "watch={gradients: true, features: true}", "training.optimizer={name: sgd, lr: 0.5}", strategy="naive"
    )
    bench, trace = observed(run)
    assert trace.extra["gradient_norm"].shape == trace.loss.shape
    last_update = torch.cat([p.grad.flatten() for p in bench.strategy.model.parameters()])
    assert trace.extra["gradient_norm"][-1] == pytest.approx(float(last_update.norm()), rel=1e-5)
    model, stream = bench.strategy.model.eval(), bench.stream
    transform = InputTransform(stream, CPU)
    cells = bench.evaluator.cells
    for t in range(cells.tasks):
        rows = cells.rows[cells.start[t] : cells.start[t + 1]]
        x, y = transform(torch.from_numpy(stream.data.test_x[rows]), t), torch.from_numpy(stream.data.test_y[rows])
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        plain = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert trace.extra["task_gradient_norm"][-1, t] == pytest.approx(float(plain), rel=1e-4)
    drift, step = trace.extra["feature_drift"], trace.extra["feature_step"]
    learned = int(np.flatnonzero((trace.experience == 0) & (trace.phase == Phase.END))[0])
    assert np.isnan(drift[: learned + 1, 0]).all(), "nothing to drift from before the first visit has ended"
    assert (drift[learned + 2 :, 0] > 0).all()
    assert drift[learned + 1, 0] == 0, "the next experience starts from the same weights"
    assert drift[learned + 2, 0] == step[learned + 2, 0], "one update later both measure the same"


# ------------------------------------------------------------------------------------------------ frozen fronts
def frozen_front() -> nn.Sequential:
    front = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()).requires_grad_(False)
    return nn.Sequential(front, nn.Linear(5, 3)).eval()


def test_a_frozen_front_is_computed_once_and_again_when_it_moved() -> None:
    model, front, inputs = frozen_front(), Front(1 << 20), TestInputs(torch.rand(40, 6))
    x = inputs.between(0, 40)

    def result() -> torch.Tensor:
        features, rest = front.split(model, inputs, lambda n: 2)
        return rest(features.between(0, 40))

    changes = [
        (lambda: None, 1),
        (lambda: model[1].weight.data.add_(1), 1),
        (lambda: model[0][0].weight.data.add_(1), 2),  # behind the version counter's back
        (lambda: model[0][1].running_mean.add_(1), 3),
        (lambda: setattr(model[0][1], "eps", 0.5), 4),
    ]
    for change, computed in changes:
        change()
        assert torch.equal(result(), model(x))
        assert front.computed == computed
    model[0][0].weight.requires_grad_(True)
    features, rest = front.split(model, inputs, lambda n: 2)
    assert features is inputs
    assert rest is model
    small = Front(10)
    assert small.split(frozen_front(), inputs, lambda n: 1)[0] is inputs, "features beyond the limit are not kept"


def test_a_strategy_with_a_frozen_front_is_counted_as_before(monkeypatch: pytest.MonkeyPatch) -> None:

    class Frozen(Strategy):
        def __init__(self, configuration: Any, setup: Any) -> None:
            super().__init__(configuration, setup)
            self.model[:2].requires_grad_(False)

    name = f"{user_module(monkeypatch, Frozen)}:Frozen"
    bench, kept = observed(make_run(strategy=name))
    assert bench.evaluator._evaluated[0].front.computed == 1
    monkeypatch.setattr(Front, "split", lambda self, twin, inputs, parts: (inputs, twin))
    _, plain = observed(make_run(strategy=name))
    assert_same(vars(kept), vars(plain))


# ------------------------------------------------------------------------------------------------ forward passes
def test_large_activations_make_smaller_passes() -> None:
    """A convolutional network on many images goes through in passes that its activations fit in."""
    run = make_run("model={name: cnn, channels: [64, 64]}", "watch.precision=float32")
    stream: Stream = compile_stream(run.benchmark.stream, 0)
    bench = components.assemble(run, stream)
    bench.evaluator.evaluate(bench.strategy, range(5), range(5))
    assert bench.evaluator._passes.largest == 64 * 8 * 8 * 4
    assert bench.evaluator._passes.parts(100_000) == -(-100_000 // ((8 << 20) // (64 * 8 * 8 * 4)))
    transform = InputTransform(stream, CPU)
    small = Evaluator.of_stream(stream, transform, CPU, Evaluation(batch_size=50), Watch(), 0, True, False)
    counts = small.evaluate(bench.strategy, range(5), range(5)).counts
    assert_same(counts, bench.evaluator.evaluate(bench.strategy, range(5), range(5)).counts)


# ------------------------------------------------------------------------------------------------ odd models
class Own(Strategy):
    """A strategy with a network of its own, without the rest."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def small(inputs: int = 12, outputs: int = 10) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 20), nn.Tanh(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, outputs))


def evaluator_of(x: torch.Tensor, outputs: int = 10, watch: Watch | None = None, views: Any = ("class",)) -> Evaluator:
    """Tasks of two classes, as many samples of each class."""
    numbers, sizes = np.arange(outputs, dtype=np.int32), np.full(outputs, len(x) // outputs, np.int32)
    cells = Cells(
        domain=np.zeros_like(numbers), label=numbers, size=sizes, population=sizes, task=numbers.astype(np.int64) // 2,
        target=numbers.astype(np.int64), outputs=outputs, rows=np.arange(len(x)),
    )  # fmt: skip
    return Evaluator(cells, x, views=views, device=CPU, batch_size=500, tell_task=False, watch=watch)


@pytest.mark.usefixtures("everywhere")
def test_the_state_of_an_evaluator_with_other_averages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(500, 12)
    two = evaluator_of(x, watch=Watch(ema=[0.5], last=[3])).state_dict()
    sentence = "the checkpoint has the state of 2 averages, the run's evaluator has 1; --force starts the run from the"
    with pytest.raises(RunFailed, match=sentence):
        evaluator_of(x, watch=Watch(ema=[0.5])).load_state_dict(two)
    monkeypatch.setattr("clbench.evaluation.evaluator.fast_here", lambda: False)  # as on another machine
    evaluator_of(x, watch=Watch(ema=[0.5], last=[3])).load_state_dict(two)


def expected(scores: torch.Tensor) -> list[int]:
    """Correct predictions of each of ten classes among all."""
    n = len(scores) // 10
    right = scores.argmax(1) == torch.arange(10).repeat_interleave(n)
    return right.view(10, n).sum(1).tolist()


class Negated(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -super().forward(x)


class Odd(nn.Module):
    """Looks at flags and masks, counts its calls, and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.sign, self.calls = small(), 1.0, torch.zeros(1)
        self.register_buffer("mask", torch.ones(10, dtype=torch.bool))
        self.kept: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.kept = self.inner(x)
        return self.sign * self.kept.masked_fill(~self.mask, -9.0)


class BatchMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


def hooked() -> nn.Sequential:
    model = small()
    model.register_forward_hook(lambda module, args, out: -out)
    return model


def frozen(model: nn.Sequential) -> nn.Sequential:
    model[0].requires_grad_(False)
    return model


def swap(index: int, module: nn.Module) -> Any:
    return lambda model: model.__setitem__(index, module)


ODD: dict[str, tuple[Any, Any]] = {
    "a subclass of Sequential": (lambda: frozen(Negated(*small())), None),
    "a hook on the whole": (lambda: frozen(hooked()), None),
    "another activation behind a frozen layer": (lambda: frozen(small()), swap(1, nn.Sigmoid())),
    "a replaced head": (small, swap(4, nn.Linear(20, 10))),
    "a replaced head of a hooked model": (hooked, swap(4, nn.Linear(20, 10))),
    "a flag": (Odd, lambda model: setattr(model, "sign", -1.0)),
    "a mask": (Odd, lambda model: model.mask[:5].fill_(False)),
    "a look at the batch": (lambda: nn.Sequential(small(), BatchMean()), None),
    "a batch norm without statistics": (
        lambda: nn.Sequential(small(), nn.BatchNorm1d(10, track_running_stats=False)), None,
    ),
    "batch norm": (lambda: nn.Sequential(small(), nn.BatchNorm1d(10)), lambda model: model[1].running_mean.add_(1)),
    "an epsilon": (lambda: nn.Sequential(small(), nn.LayerNorm(10)), lambda model: setattr(model[1], "eps", 9.0)),
    "other weights in place": (small, lambda model: model[0].weight.data.mul_(-1)),
}  # fmt: skip


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("watch", [Watch(), Watch(ema=[0.0])], ids=["alone", "with an average"])
@pytest.mark.parametrize("name", ODD)
def test_no_short_cut_changes_a_count(name: str, watch: Watch) -> None:
    """Before and after a change of the model and `renew`; an average that forgets at once is the model."""
    make, change = ODD[name]
    torch.manual_seed(0)
    x, strategy = torch.rand(1000, 12), Own(make())
    if watch.ema and "hook" in name:
        pytest.skip("refused: a model with hooks cannot be copied")
    evaluator = evaluator_of(x, watch=watch)

    def check() -> None:
        strategy.model.eval()
        with torch.no_grad():
            truth = expected(torch.cat([strategy.model(part) for part in x.tensor_split(2)]))
        strategy.model.train()
        evaluator.after_update(strategy.model)
        counts = evaluator.evaluate(strategy, range(5), range(5)).counts
        for view in evaluator.views:
            assert counts[view].tolist() == truth, view

    for _ in range(12):  # beyond the first audits
        check()
    if change is not None:
        change(strategy.model)
        if "activation" not in name:  # a module replaced by one without parameters is found at `renew`
            check()
        evaluator.renew()
        check()


@pytest.mark.usefixtures("everywhere")
def test_a_prediction_set_on_the_instance_is_asked() -> None:
    strategy, x = Own(small()), torch.rand(1000, 12)
    strategy.predict = lambda model, x, task: -model(x)  # type: ignore[method-assign]
    with torch.no_grad():
        truth = expected(-strategy.model(x))
    evaluator = evaluator_of(x)
    assert [evaluator.evaluate(strategy, range(5), range(5)).counts["class"].tolist() for _ in range(4)] == [truth] * 4


def test_what_a_forward_pass_writes_stays_in_the_twin() -> None:
    strategy, evaluator = Own(Odd()), evaluator_of(torch.rand(100, 12))
    for _ in range(4):
        evaluator.evaluate(strategy, range(5), range(5))
    assert strategy.model.calls.item() == 0
    assert strategy.model.kept is None


@pytest.mark.usefixtures("everywhere")
def test_outputs_that_do_not_exist_yet_are_unavailable_in_every_view() -> None:
    """A head of 4 of 10 outputs, which grows to 6 later; averages and gradients go along."""
    torch.manual_seed(0)
    x, strategy = torch.rand(1000, 12), Own(small(outputs=4))
    views = ("class", "task", "domain")
    evaluator = evaluator_of(x, watch=Watch(ema=[0.5], last=[2], gradients=True), views=views)
    for width in (4, 6):
        if width == 6:
            strategy.model[4] = nn.Linear(20, 6)
            evaluator.renew()
        for _ in range(8):
            found = evaluator.evaluate(strategy, range(5), range(5))
            for view in evaluator.views:
                missing = found.counts[view] == UNAVAILABLE
                assert missing.tolist() == [c >= width for c in range(10)], view
                assert np.unpackbits(found.bits[view].numpy())[width * 100 :].sum() == 0
            unknown = found.extra["task_gradient_norm"].isnan().tolist()
            assert unknown == [2 * t >= width for t in range(5)]
            evaluator.after_update(strategy.model)


def test_masked_outputs_do_not_keep_audits_going() -> None:
    way, x, model = reduced_precision.Reduced(), torch.rand(500, 12), small()
    mask = torch.zeros(10).masked_fill_(torch.arange(10) > 6, float("-inf"))
    modes, clock = [], audits.Clock()
    with torch.inference_mode():
        targets = (model(x) + mask).argmax(1)
        for _ in range(8):
            audit = clock.tick()
            modes.append(way.begin(model, x, audit, clock.number))
            low = way._low
            way._low = lambda x, low=low: low(x) + mask  # type: ignore[assignment]
            scored = scored_by(lambda x: model(x) + mask, x)
            assert way.judge((0, 500), scored, judge_of(targets), passes_of(x)).right.all()
            way._low = low
    assert modes == ["audit", "audit", "audit", "reduced", "audit", "reduced", "reduced", "reduced"]


def test_images_are_laid_out_for_convolutions_of_ordinary_models() -> None:
    class Viewed(nn.Module):
        def __init__(self, conv: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.conv, self.head = conv, head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x).view(len(x), -1))

    torch.manual_seed(0)
    conv, head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 10)
    x, strategy = torch.rand(1000, 3, 8, 8), Own(nn.Sequential(conv, nn.Flatten(), head))
    with torch.no_grad():
        truth = expected(strategy.model(x))
    evaluator = evaluator_of(x, watch=Watch(precision="float32"))
    assert evaluator.evaluate(strategy, range(5), range(5)).counts["class"].tolist() == truth
    assert evaluator._inputs.ready.is_contiguous(memory_format=torch.channels_last)
    strategy.model = Viewed(conv, head)  # `view` refuses that order: it gets its images as they were
    assert evaluator.evaluate(strategy, range(5), range(5)).counts["class"].tolist() == truth


# ------------------------------------------------------------------------------------------------ no update
def test_a_change_that_is_no_update_is_evaluated_there_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    class Resets(Strategy):
        def end_experience(self, experience: Any) -> None:
            kept = self.model[-1].weight.detach().clone()
            self.model[-1].weight.data.zero_()
            self.setup.mark_updated()
            self.model[-1].weight.data.copy_(kept)

    _, trace = observed(make_run(strategy=f"{user_module(monkeypatch, Resets)}:Resets"))
    _, plain = observed(make_run(strategy="naive"))
    inside = trace.phase == Phase.CHANGE
    assert inside.sum() == 5
    assert trace.phase[trace.experience == 0].tolist() == [0, *[1] * 6, 2, 3]
    for view in ("class", "task"):
        assert_same(trace.correct[view][~inside], plain.correct[view])
        assert (trace.correct[view][inside] != plain.correct[view][plain.phase == Phase.END]).any()


# ------------------------------------------------------------------------------------------------ origin
def test_cutting_a_pass_into_other_experiences_leaves_every_metric_identical() -> None:
    """The same batches, once in five experiences and once in fifteen that keep their origin; each is watched."""
    run = make_run(strategy="naive")
    stream = compile_stream(run.benchmark.stream, 0)
    source = components.assemble(run, stream)
    batches = [list(source.batches.of(source.experience(v), 6)) for v in range(5)]

    def cut_after(cuts: tuple[int, ...]) -> tuple[Trace, dict[str, torch.Tensor]]:
        """Each experience in parts that end after so many of its updates."""
        parts = [(v, a, b) for v in range(5) for a, b in itertools.pairwise((0, *cuts))]
        experiences = tuple(stream.experiences[v] for v, _, _ in parts)
        bench = components.assemble(run, dataclasses.replace(stream, experiences=experiences))
        recorder = Recorder(bench.device)
        watcher = observer.Observation(bench, recorder, lambda: None)
        for number, (v, a, b) in enumerate(parts):
            experience = bench.experience(number)
            watcher.enter(number)
            bench.strategy.begin_experience(experience)
            watcher.before_first_update()
            for batch in batches[v][a:b]:
                watcher.after_iteration(bench.strategy.step(batch))
            bench.strategy.end_experience(experience)
            watcher.leave()
            recorder.chunk()
        cut = bench.stream
        return recorder.trace(bench.evaluator.cells, cut.visit_matrix(), cut.origins(), 1, 0), dict(
            bench.strategy.model.state_dict()
        )

    (whole, weights), (parts, same) = cut_after((6,)), cut_after((1, 4, 6))
    assert_same(weights, same)
    assert (len(whole.visits), len(parts.visits)) == (5, 15)
    assert parts.origin.tolist() == [v for v in range(5) for _ in range(3)]
    assert_same(parts.iteration, whole.iteration)
    for view, found in metrics.compute(parts).items():
        for name, other in metrics.compute(whole)[view].items():
            if "se" in other:
                assert found[name].pop("se") == pytest.approx(other.pop("se"), abs=1e-12), name
            assert found[name] == other, name
    unjoined = dataclasses.replace(parts, origin=np.arange(15, dtype=np.int32))
    assert metrics.compute(unjoined) != metrics.compute(whole), "by position in the stream they do differ"


def test_a_subset_smaller_than_the_number_of_classes_leaves_classes_out_without_a_warning(tmp_path: Path) -> None:
    record = execute(make_run("evaluation.subset=1"), tmp_path).record
    biases = record["metrics"]["class"]["recency_bias"]["per_class"]
    assert sum(b is None for b in biases) == 5, "one class of each of five tasks has no sample"
    assert record["metrics"]["class"]["average_accuracy"]["value"] is not None
