"""Learners that are no networks: they learn and predict as their packages do, and obey the laws of a strategy."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import SGDClassifier

from clbench.errors import Unsaveable, UserError
from clbench.estimators import saved_state
from clbench.runner.checkpoint import Every
from clbench.runner.components import Components
from clbench.runner.signals import Interrupted
from clbench.runner.state_leaves import leaves
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from clbench.trace import UNAVAILABLE
from support import DIGITS, DOMAIN, CrashAt, assembled, execute, make_run, trace_of, trained, user_module, watched

needs_river = pytest.mark.skipif(importlib.util.find_spec("river") is None, reason="needs river")
needs_capymoa = pytest.mark.skipif(importlib.util.find_spec("capymoa") is None, reason="needs capymoa")

LINEAR, BAYES, MLP = (
    "sklearn.linear_model:SGDClassifier",
    "sklearn.naive_bayes:GaussianNB",
    "sklearn.neural_network:MLPClassifier",
)
TREE, SOFTMAX = "river.tree:HoeffdingTreeClassifier", "river.linear_model:SoftmaxRegression"
PIPELINE = (
    "river.compose:Pipeline",
    "strategy.steps=[{name: river.preprocessing:StandardScaler}, {name: river.tree:HoeffdingTreeClassifier}]",
)
OF_SCIKIT_LEARN = {
    "linear": (LINEAR,),
    "averaged": (LINEAR, "strategy.average=true"),
    "logistic": (LINEAR, "strategy.loss=log_loss"),
    "perceptron": ("sklearn.linear_model:Perceptron",),
    "bayes": (BAYES,),
    "bernoulli": ("sklearn.naive_bayes:BernoulliNB",),
    "network": (MLP,),
    "momentum": (MLP, "strategy.solver=sgd", "strategy.hidden_layer_sizes=[8]"),
    "one vs rest": ("sklearn.multiclass:OneVsRestClassifier", f"strategy.estimator={{name: '{LINEAR}'}}"),
}
FEW = ("stream.tasks.count=2", "evaluation.every=2")


class Names:
    """Only names a class: that of the last sample it learnt, whatever the input. Its predictions are counted."""

    def __init__(self, step: int = 1, random_state: int | None = None) -> None:
        self.step, self.seed, self.asked, self.last = step, random_state, 0, 0

    def partial_fit(self, x: NDArray[Any], y: NDArray[Any]) -> Names:
        self.last = int(y[-1])
        return self

    def predict(self, x: NDArray[Any]) -> NDArray[np.int64]:
        self.asked += self.step
        return np.full(len(x), self.last)


class Whole:
    """Learns from all samples at once."""

    def fit(self, x: Any, y: Any) -> None: ...

    def predict(self, x: Any) -> None: ...


def content(estimator: Any) -> dict[str, bytes]:
    """The parts of an estimator, in place of its pickle: river's distributions hold generators that nothing seeds, and
    that only draw samples of them."""
    parts = leaves(estimator, "estimator")
    return {name: part.digest() for name, part in parts.items() if not name.endswith("]._rng")}


def estimator_of(components: Components) -> Any:
    return components.strategy.adapter.estimator  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ learning and scores
def test_it_learns_the_batches_of_the_stream() -> None:
    """The same estimator, trained by hand on the same batches, has the same weights and predictions."""
    run = make_run(LINEAR, "strategy.random_state=3", *FEW)
    components, by_hand = trained(run), SGDClassifier(random_state=3)
    again = assembled(run)
    for number, updates in enumerate(again.budgets):
        for batch in again.batches.of(again.experience(number), updates):
            by_hand.partial_fit(batch.x.flatten(1).numpy(), batch.y.numpy(), classes=np.arange(again.stream.outputs))
    np.testing.assert_array_equal(estimator_of(components).coef_, by_hand.coef_)
    x = again.evaluator._inputs.between(0, 50)
    scores = components.strategy.predict(components.strategy.model, x, None)
    assert scores is not None
    learnt = np.flatnonzero(components.strategy.learned)  # type: ignore[attr-defined]
    expected = by_hand.decision_function(x.flatten(1).numpy())
    np.testing.assert_array_equal(scores[:, learnt].numpy(), expected[:, learnt])
    assert np.isneginf(scores.numpy()[:, ~components.strategy.learned]).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", OF_SCIKIT_LEARN.values(), ids=OF_SCIKIT_LEARN.keys())
def test_the_largest_score_is_its_prediction(arguments: tuple[str, ...]) -> None:
    components = trained(make_run(arguments[0], *arguments[1:], *FEW, benchmark=DOMAIN))
    x = components.evaluator._inputs.between(0, 100)
    scores = components.strategy.predict(components.strategy.model, x, None)
    assert scores is not None
    assert scores.shape == (100, components.stream.outputs)
    np.testing.assert_array_equal(scores.argmax(1).numpy(), estimator_of(components).predict(x.flatten(1).numpy()))


def test_two_classes_have_two_scores() -> None:
    two = "stream.tasks={by: classes, count: null, order: seed, blocks: [[0, 1]]}"
    components = trained(make_run(LINEAR, two, benchmark=DIGITS))
    assert components.stream.outputs == 2
    x = components.evaluator._inputs.between(0, 20)
    scores = components.strategy.predict(components.strategy.model, x, None)
    assert scores is not None
    assert torch.equal(scores[:, 0], -scores[:, 1])


def test_an_estimator_that_names_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    module = user_module(monkeypatch, Names)
    components = trained(make_run(f"{module}:Names", *FEW))
    scores = components.strategy.predict(components.strategy.model, torch.zeros(2, 1), None)
    assert scores is not None
    assert scores.argmax(1).tolist() == [estimator_of(components).last] * 2


def test_it_is_unavailable_before_the_first_update() -> None:
    components = assembled(make_run(BAYES, *FEW))
    trace = trace_of(components, watched(components))
    first = trace.correct["class"][0]
    assert (first[first != -1] == UNAVAILABLE).all()
    assert (trace.correct["class"][1] != UNAVAILABLE).any()


def test_weights_are_the_arrays_of_the_estimator() -> None:
    state = trained(make_run(LINEAR, *FEW)).strategy.model.state_dict()
    assert {"coef_", "intercept_", "classes_"} <= state.keys()


# ------------------------------------------------------------------------------------------------ numbers to predict
REGRESSION = ("recurring_regression-v1", "sklearn.linear_model:SGDRegressor")
SMALL = ("evaluation.every=3", "training={iterations: 4, epochs: null}")


def test_a_regressor_predicts_numbers() -> None:
    components = trained(make_run(REGRESSION[1], *SMALL, benchmark=REGRESSION[0], iterations=None))
    x = components.evaluator._inputs.between(0, 30)
    predicted = components.strategy.predict(components.strategy.model, x, None)
    assert predicted is not None
    np.testing.assert_array_equal(predicted[:, 0].numpy(), estimator_of(components).predict(x.flatten(1).numpy()))


def test_a_regressor_resumes() -> None:
    check_resume(make_run(REGRESSION[1], *SMALL, benchmark=REGRESSION[0], iterations=None), at=[1, 5])


def test_a_classifier_is_refused_for_numbers() -> None:
    with pytest.raises(UserError, match=r"is a classifier\. Allowed: regressors"):
        assembled(make_run(LINEAR, benchmark=REGRESSION[0], iterations=None))


@needs_river
def test_a_river_regressor_predicts_numbers() -> None:
    path = "river.linear_model:LinearRegression"
    components = trained(make_run(path, *SMALL, benchmark=REGRESSION[0], iterations=None))
    x = components.evaluator._inputs.between(0, 5)
    predicted = components.strategy.predict(components.strategy.model, x, None)
    assert predicted is not None
    by_hand = [estimator_of(components).predict_one(dict(enumerate(row))) for row in x.flatten(1).tolist()]
    assert predicted[:, 0].tolist() == by_hand


# ------------------------------------------------------------------------------------------------ laws
def test_predictions_leave_the_estimator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    module = user_module(monkeypatch, Names)
    components = trained(make_run(f"{module}:Names", *FEW))
    assert estimator_of(components).asked == 0


@pytest.mark.parametrize("arguments", [(LINEAR,), (BAYES,), (MLP,)])
def test_watching_changes_nothing(arguments: tuple[str, ...]) -> None:
    runs = [make_run(*arguments, f"evaluation.every={every}", "stream.tasks.count=2") for every in (0, 1, 3)]
    never = trained(runs[0], watch=False).strategy.state_dict()
    for run in runs:
        assert_same(trained(run).strategy.state_dict(), never)


@pytest.mark.parametrize("arguments", OF_SCIKIT_LEARN.values(), ids=OF_SCIKIT_LEARN.keys())
def test_scikit_learn_resumes(arguments: tuple[str, ...]) -> None:
    check_resume(make_run(arguments[0], *arguments[1:], "stream.tasks.count=2"))


def test_a_stopped_run_ends_in_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(MLP, *FEW)
    whole = execute(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(run, tmp_path / "stopped", every=Every(0, 3), progress=CrashAt(7))
    resumed = execute(run, tmp_path / "stopped")
    assert resumed.record["costs"]["resumed_at"] == [6]
    for key in ("trace_sha256", "weights_sha256", "metrics"):
        assert resumed.record[key] == whole.record[key]


def test_the_seed_of_the_run_seeds_the_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    module = user_module(monkeypatch, Names)
    seeds = [estimator_of(assembled(make_run(f"{module}:Names", seed=n))).seed for n in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]
    assert estimator_of(assembled(make_run(f"{module}:Names", "strategy.random_state=7"))).seed == 7


def test_a_state_of_more_than_arrays_is_not_saved() -> None:
    class Odd:
        def __init__(self, value: Any) -> None:
            self.value = value

    for value in ({1, 2}, np.array(["a"]), lambda: 0):
        with pytest.raises(Unsaveable, match="Odd"):
            saved_state.take(Odd(value), Odd({3}), "Odd")


def test_shared_arrays_stay_shared() -> None:
    class Averaged:
        def __init__(self, fill: float) -> None:
            self.weights = np.full(3, fill, np.float32)
            self.shown, self.steps, self.name = self.weights, np.float64(fill), "a"

    import __main__

    Averaged.__module__, Averaged.__qualname__ = "__main__", "Averaged"
    __main__.Averaged = Averaged  # type: ignore[attr-defined]
    try:
        one, other = Averaged(2.0), Averaged(1.0)
        saved_state.put(saved_state.take(one, other, "Averaged"), other)
    finally:
        del __main__.Averaged  # type: ignore[attr-defined]
    assert other.shown is other.weights
    assert other.weights.tolist() == [2.0] * 3
    assert type(other.steps) is np.float64


# ------------------------------------------------------------------------------------------------ mistakes
def _mistake(strategy: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        assembled(make_run(strategy, *overrides))
    return str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "override", "message"),
    [
        (LINEAR, "strategy.alhpa=1", "unknown key 'alhpa'. Did you mean 'alpha'?"),
        (LINEAR, "strategy.alpha=-1", "cannot learn: The 'alpha' parameter"),
        ("sklearn.linear_model:SGDRegressor", "seed=0", "is a regressor. Allowed: classifiers"),
        ("sklearn.cluster:MiniBatchKMeans", "seed=0", "is a clusterer. Allowed: classifiers"),
        ("sklearn.multiclass:OneVsRestClassifier", "seed=0", "needs estimator; give it beside 'name'"),
        (
            "sklearn.multiclass:OneVsRestClassifier",
            "strategy.estimator={name: 'os:remove'}",
            "estimator: 'os:remove' is no estimator",
        ),
        ("sklearn.ensemble:RandomForestClassifier", "seed=0", "learns from all samples at once (fit)"),
        (BAYES, "watch.ema=[0.9]", "watch.ema: needs the weights of a network"),
        (BAYES, "numerics.amp=bfloat16", "numerics.amp: needs the weights of a network"),
    ],
)
def test_mistakes_are_one_sentence(strategy: str, override: str, message: str) -> None:
    overrides = [] if override == "seed=0" else [override]
    text = _mistake(strategy, *overrides)
    assert message in text
    assert "\n" not in text


def test_it_does_not_compose() -> None:
    with pytest.raises(UserError, match="has its own training loop and does not compose"):
        assembled(make_run(f"er+{LINEAR}"))


# ------------------------------------------------------------------------------------------------ river
@needs_river
@pytest.mark.parametrize("arguments", [(SOFTMAX,), (TREE, "strategy.grace_period=20"), PIPELINE])
def test_river_learns_sample_by_sample(arguments: tuple[str, ...]) -> None:
    run = make_run(*arguments, *FEW)
    components, again = trained(run), assembled(run)
    by_hand = estimator_of(again)
    for number, updates in enumerate(again.budgets):
        for batch in again.batches.of(again.experience(number), updates):
            for x, y in zip(batch.x.flatten(1).tolist(), batch.y.tolist(), strict=True):
                by_hand.learn_one(dict(enumerate(x)), y)
    assert content(estimator_of(components)) == content(by_hand)
    x = again.evaluator._inputs.between(0, 20)
    scores = components.strategy.predict(components.strategy.model, x, None)
    assert scores is not None
    for row, of_row in zip(x.flatten(1).tolist(), scores.exp().tolist(), strict=True):
        chances = by_hand.predict_proba_one(dict(enumerate(row)))
        assert of_row == pytest.approx([chances.get(n, 0.0) for n in range(again.stream.outputs)])


@needs_river
@pytest.mark.parametrize("arguments", [(TREE, "strategy.grace_period=20"), PIPELINE])
def test_watching_changes_nothing_in_river(arguments: tuple[str, ...]) -> None:
    runs = [make_run(*arguments, f"evaluation.every={every}", "stream.tasks.count=2") for every in (0, 1)]
    never = content(estimator_of(trained(runs[0], watch=False)))
    assert all(content(estimator_of(trained(run))) == never for run in runs)


@needs_river
def test_a_stopped_river_run_restarts(tmp_path: Path) -> None:
    run, said = make_run(TREE, "strategy.grace_period=20", *FEW), list[str]()
    whole = execute(run, tmp_path / "whole")
    with pytest.raises(Interrupted, match="restarts the run"):
        execute(run, tmp_path / "stopped", every=Every(0, 2), progress=CrashAt(7), warn=said.append)
    assert [text for text in said if "restarts" in text] == [
        "no checkpoints: the state of HoeffdingTreeClassifier is more than its arrays and plain values; if stopped, "
        "the run restarts"
    ]
    again = execute(run, tmp_path / "stopped")
    assert again.record["costs"]["resumed_at"] == []
    assert again.record["trace_sha256"] == whole.record["trace_sha256"]


@needs_river
def test_seeds_reach_the_parts_of_an_ensemble() -> None:
    part = "strategy.model={name: 'river.naive_bayes:BernoulliNB'}"
    runs = [make_run("river.ensemble:BaggingClassifier", part, *FEW, seed=seed) for seed in (0, 0, 1)]
    first, second, third = (content(estimator_of(trained(run, watch=False))) for run in runs)
    assert first == second != third


@needs_river
def test_two_classes_alone_are_refused_for_more() -> None:
    text = _mistake("river.linear_model:LogisticRegression")
    assert "tells two classes apart, and the stream has 10" in text
    assert "is no classifier" in _mistake("river.linear_model:LinearRegression")


# ------------------------------------------------------------------------------------------------ CapyMOA


@needs_capymoa
@pytest.mark.slow
def test_capymoa_learns_and_is_not_changed_by_predictions(tmp_path: Path) -> None:
    """In a process of its own: a Java machine is started, and stays."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from support import assembled, make_run, trace_of, watched\n"
        "hashes = []\n"
        "for every in (1, 1, 5):\n"
        "    run = make_run('capymoa.classifier:HoeffdingTree', 'strategy.grace_period=20', 'stream.tasks.count=2',\n"
        "                   f'evaluation.every={every}')\n"
        "    components = assembled(run)\n"
        "    trace = trace_of(components, watched(components))\n"
        "    hashes.append(trace.correct['class'][-1].tolist())\n"
        "assert hashes[0] == hashes[1] == hashes[2], hashes\n"
        "assert sum(n for n in hashes[0] if n > 0) > 0\n"
    )
    paths = [str(Path(__file__).resolve().parent.parent), *sys.path]
    done = subprocess.run([sys.executable, "-c", script, *paths], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
