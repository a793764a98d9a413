"""Rules in closed form on fixed features: equal to those of scikit-learn and NumPy, however samples come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from torch import Tensor, nn

import support
from clbench import resolve
from clbench.evaluation.recorder import Recorder
from clbench.runner import observer, training_loop
from clbench.strategies.acil import recursion
from clbench.strategies.fecam import correlations, factor, shrunk
from clbench.strategies.ranpac import PENALTIES, selected
from clbench.strategies.shared.prototype_heads import LinearRule, Mahalanobis
from clbench.strategies.shared.ridge import RidgeSums, ridge
from clbench.strategies.shared.statistics import Scatter, add_gram, mirrored
from clbench.strategies.slda import discriminants
from clbench.testing.resume import check_resume
from clbench.trace import UNAVAILABLE, Phase

CPU = torch.device("cpu")
CLASSES, FEATURES = 4, 12
FROZEN = "strategy.extractor=frozen"
METHODS = {
    "ranpac": ["strategy.projections=40", "strategy.penalty=100"],
    "acil": ["strategy.projections=40", "strategy.penalty=1"],
    "slda": ["strategy.shrinkage=0.01"],
    "fecam": ["strategy.covariance=common"],
}


def samples(seed: int, n: int = 90) -> tuple[Tensor, Tensor]:
    """Whole numbers, of which double precision sums products exactly, and classes, each of which occurs."""
    generator = np.random.default_rng(seed)
    y = np.concatenate([np.arange(CLASSES), generator.integers(0, CLASSES, n - CLASSES)])
    h = generator.integers(-8, 9, (n, FEATURES)) + 2 * y[:, None] * (np.arange(FEATURES) % CLASSES == y[:, None])
    return torch.from_numpy(h).double(), torch.from_numpy(y)


def one_hot(y: Tensor) -> NDArray[np.float64]:
    return nn.functional.one_hot(y, CLASSES).double().numpy()


def sums_of(h: Tensor, y: Tensor) -> RidgeSums:
    sums = RidgeSums(h.shape[1], CLASSES, CPU)
    sums.add(h, y)
    return sums


def joint(h: Tensor, y: Tensor, penalty: float) -> NDArray[np.float64]:
    """scikit-learn's ridge regression on all samples, (C, M)."""
    fit = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(h.double().numpy(), one_hot(y))
    weights: NDArray[np.float64] = fit.coef_
    return weights


def rounding(gram: Tensor, penalty: float, unit: float) -> float:
    """The relative error of a solution of a positive definite system that is rounded once, up to its size."""
    values = torch.linalg.eigvalsh(gram)
    return len(values) * unit * float((values[-1] + penalty) / (values[0].clamp_min(0) + penalty))


def relative(found: Any, expected: Any) -> float:
    a, b = (np.asarray(v, np.float64) for v in (found, expected))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@st.composite
def streams(draw: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Samples, and an order of them cut into chunks."""
    h, y = samples(draw(st.integers(0, 5)))
    order = torch.tensor(draw(st.permutations(range(len(y)))))
    cuts = sorted(draw(st.sets(st.integers(1, len(y) - 1), max_size=12)))
    return h, y, [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(y)], strict=True)]


# ------------------------------------------------------------------------------------------------ sums
@pytest.mark.parametrize("width", [1, 255, 256, 300, 520])
def test_the_upper_triangle_of_a_product(width: int) -> None:
    h = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (20, width))).double()
    gram = torch.zeros((width, width), dtype=torch.float64)
    add_gram(gram, h[:7])
    add_gram(gram, h[7:].float())
    assert torch.equal(mirrored(gram), h.T @ h)


@given(streams())
@settings(max_examples=25, deadline=None)
def test_ridge_regression_from_sums_is_joint_for_any_order_and_chunks(stream: Any) -> None:
    """Of whole numbers the sums are equal bit for bit, so the weights are too; scikit-learn's are those up to the
    rounding of a solution."""
    h, y, chunks = stream
    sums = RidgeSums(FEATURES, CLASSES, CPU)
    for chunk in chunks:
        sums.add(h[chunk], y[chunk])
    assert torch.equal(mirrored(sums.gram), h.T @ h)
    assert torch.equal(sums.solution(0.5), sums_of(h, y).solution(0.5))
    assert relative(sums.solution(0.5), joint(h, y, 0.5)) <= rounding(h.T @ h, 0.5, 2.0**-53)


@given(streams())
@settings(max_examples=25, deadline=None)
def test_the_recursion_is_joint_ridge_regression_for_any_order_and_chunks(stream: Any) -> None:
    """It rounds once for each chunk; the condition is that of the first step too, where R is I / gamma."""
    h, y, chunks = stream
    inverse, weights = torch.eye(FEATURES).double() / 0.5, torch.zeros((CLASSES, FEATURES)).double()
    for chunk in chunks:
        recursion(inverse, weights, h[chunk], nn.functional.one_hot(y[chunk], CLASSES).double())
    values = torch.linalg.eigvalsh(h.T @ h)
    unit = len(chunks) * FEATURES * 2.0**-53 * float(values[-1] + 0.5) / 0.5
    assert relative(weights, joint(h, y, 0.5)) <= unit
    assert relative(inverse, torch.linalg.inv(h.T @ h + 0.5 * torch.eye(FEATURES).double())) <= unit


def test_ridge_regression_without_full_rank() -> None:
    """Fewer samples than features, and a penalty below the rounding of G: not positive definite, or nearly; the weights
    still fit the samples."""
    h = torch.from_numpy(np.random.default_rng(0).normal(0, 1e4, (5, FEATURES)))
    y = torch.arange(5) % CLASSES
    sums = sums_of(h, y)
    shifted = mirrored(sums.gram) - 1e-3 * torch.eye(FEATURES)
    assert ridge(shifted, sums.cross, 1e-12) is None, "an eigenvalue below 0"
    weights = sums.solution(1e-4)
    assert np.abs((h @ weights.T).numpy() - one_hot(y)).max() < 1e-3


def test_single_precision_products_round_as_stated() -> None:
    """Entry by entry, of features that are not negative: up to the number of samples of a product times 2^-24."""
    h = torch.from_numpy(np.random.default_rng(0).exponential(1, (3000, FEATURES))).float()
    single, double = RidgeSums(FEATURES, CLASSES, CPU), RidgeSums(FEATURES, CLASSES, CPU)
    single.add(h, torch.arange(3000) % CLASSES)
    double.add(h.double(), torch.arange(3000) % CLASSES)
    off = (mirrored(single.gram) / mirrored(double.gram) - 1).abs().max()
    assert 0 < off < 3000 * 2.0**-24
    assert double.gram.dtype == single.gram.dtype == torch.float64


# ------------------------------------------------------------------------------------------------ RanPAC's lambda
def best_penalty(h: Tensor, y: Tensor, fifth: NDArray[np.bool_]) -> float:
    """Written again with scikit-learn: fitted to four of five, judged by the mean squared error on the fifth."""
    errors = []
    for penalty in PENALTIES:
        weights = joint(h[~fifth], y[~fifth], penalty)
        errors.append(np.mean((h[fifth].numpy() @ weights.T - one_hot(y[fifth])) ** 2))
    return PENALTIES[int(np.argmin(errors))]


@pytest.mark.parametrize(("seed", "noise"), [(0, 0.0), (1, 3.0), (2, 30.0)])
def test_the_penalty_is_the_one_that_predicts_held_out_samples(seed: int, noise: float) -> None:
    h, y = samples(seed, 60)
    h = h + noise * torch.randn(h.shape, generator=torch.Generator().manual_seed(seed)).double()
    fifth = np.arange(60) % 5 == 4
    assert selected(sums_of(h[~fifth], y[~fifth]), sums_of(h[fifth], y[fifth])) == best_penalty(h, y, fifth)


def test_no_penalty_is_selected_without_samples() -> None:
    h, y = samples(0)
    assert selected(sums_of(h, y), RidgeSums(FEATURES, CLASSES, CPU)) is None


def test_each_task_block_selects_its_penalty() -> None:
    """From its samples alone, in the order in which they came; the weights are then those of all samples."""
    bench = assembled("ranpac", FROZEN, "strategy.projections=12", "stream.tasks.count=2")
    strategy, add, came, chosen = bench.strategy, bench.strategy.add, [], []
    strategy.add = lambda features, y: came.append((features, y)) or add(features, y)
    end = strategy.end_task_block
    strategy.end_task_block = lambda: (end(), chosen.append((strategy.selected, came.copy())), came.clear())
    training_loop.train(bench, observer.Observation(bench, None, lambda: None))
    assert len(chosen) == len(bench.stream.tasks) == 2
    for penalty, batches in chosen:
        h = strategy.head.expand(torch.cat([features for features, _ in batches])).double()
        y = torch.cat([y for _, y in batches])
        fifth = np.arange(len(y)) % 5 == 4
        errors = []
        for tried in PENALTIES:
            fit = Ridge(alpha=tried, fit_intercept=False, solver="cholesky")
            fit.fit(h[~fifth].numpy(), np.eye(10)[y[~fifth]])
            errors.append(((h[fifth].numpy() @ fit.coef_.T - np.eye(10)[y[fifth]]) ** 2).sum())
        assert penalty == PENALTIES[int(np.argmin(errors))]
    assert strategy.report() == {"penalty": chosen[-1][0]}
    assert strategy.sums.count == 1000
    assert [part.count for part in strategy.block] == [0, 0]


# ------------------------------------------------------------------------------------------------ scatter, SLDA
@given(streams(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_covariances_are_those_of_numpy_for_any_order_and_chunks(stream: Any, per_class: bool) -> None:
    """About the class means; 1e-12 is some thousand roundings of double precision, of the size of the largest entry."""
    h, y, chunks = stream
    scatter = Scatter(CLASSES, FEATURES, CPU, per_class)
    for chunk in chunks:
        scatter.add(h[chunk], y[chunk])
    of_class = {c: h[y == c].numpy() for c in range(CLASSES)}
    expected = {c: np.cov(x.T, ddof=0) * len(x) for c, x in of_class.items()}
    found = {c: scatter.whole(c) for c in range(CLASSES)} if per_class else {-1: scatter.whole()}
    if not per_class:
        expected = {-1: sum(expected.values())}
    for c, matrix in found.items():
        np.testing.assert_allclose(matrix, expected[c], rtol=0, atol=1e-12 * np.abs(expected[c]).max())
    for c, x in of_class.items():
        np.testing.assert_allclose(scatter.mean[c], x.mean(0), rtol=0, atol=1e-12 * 20)
        assert scatter.count[c] == len(x)
    matrices = CLASSES if per_class else 1
    assert scatter.nbytes == 8 * (CLASSES * (1 + FEATURES) + matrices * FEATURES**2)


def test_a_class_of_one_sample_has_no_scatter() -> None:
    scatter = Scatter(CLASSES, FEATURES, CPU, per_class=True)
    scatter.add(torch.ones(1, FEATURES), torch.tensor([2]))
    assert torch.equal(scatter.whole(2), torch.zeros(FEATURES, FEATURES).double())
    assert scatter.nbytes == 8 * (1 + FEATURES + FEATURES**2)


def rule_of(x: Tensor, y: Tensor, shrinkage: float) -> LinearRule:
    """Streaming linear discriminant analysis, sample by sample."""
    scatter = Scatter(CLASSES, FEATURES, CPU, per_class=False)
    for i in range(len(y)):
        scatter.add(x[i : i + 1], y[i : i + 1])
    head = LinearRule(nn.Linear(FEATURES, CLASSES))
    head.rule[:], head.offset[:] = discriminants(scatter.mean, scatter.whole() / len(y), shrinkage)
    head.known[:] = True
    return head


@pytest.mark.parametrize("shrinkage", [1e-4, 0.1, 0.9])
def test_the_rule_is_that_of_scikit_learn(shrinkage: float) -> None:
    """Comparable where classes have equal numbers, as equal priors weigh its covariances, and where the mean variance
    is 1, which is its unit of shrinkage. Its scores differ from ours by what all classes share."""
    x, _ = samples(0, 80)
    y = torch.arange(80) % CLASSES
    x = x + 5 * y[:, None] * (torch.arange(FEATURES) == y[:, None])
    within = x - torch.stack([x[y == c].mean(0) for c in range(CLASSES)])[y]
    x = x / within.square().mean().sqrt()
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / CLASSES] * CLASSES)
    scores = oracle.fit(x.numpy(), y.numpy()).decision_function(x.numpy())
    ours = rule_of(x, y, shrinkage)(x).numpy()
    apart = ours - ours[:, :1] - (scores - scores[:, :1])
    assert np.abs(apart).max() < 1e-10 * np.abs(scores).max() / shrinkage**0.5


def test_a_shift_of_all_features_changes_no_score() -> None:
    """The offset of the rule is part of it: without it a shift would decide. 2^10 leaves whole numbers exact."""
    x, y = samples(1)
    plain, shifted = rule_of(x, y, 1e-4)(x), rule_of(x + 1024, y, 1e-4)(x + 1024)
    assert relative(shifted, plain) < 1e-9
    without = rule_of(x + 1024, y, 1e-4)
    without.offset.zero_()
    assert (without(x + 1024).argmax(1) == plain.argmax(1)).double().mean() < 0.5
    assert (plain.argmax(1) == y).double().mean() > 0.5


def test_full_shrinkage_is_the_nearest_class_mean() -> None:
    x, y = samples(2)
    means = torch.stack([x[y == c].mean(0) for c in range(CLASSES)])
    assert torch.equal(rule_of(x, y, 1.0)(x).argmax(1), torch.cdist(x, means).argmin(1))


# ------------------------------------------------------------------------------------------------ FeCAM
def mahalanobis(x: Tensor, y: Tensor, power: float) -> NDArray[np.float64]:
    """The rule of the paper's code, written again: shrunk twice, scaled to correlations, squared distances (N, C)."""

    def unit(v: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))

    distances = []
    for c in range(CLASSES):
        of = x[y == c].numpy()
        covariance = np.cov((of**power).T)
        for _ in range(2):
            diagonal = np.diagonal(covariance)
            rest = (covariance.sum() - diagonal.sum()) / (FEATURES * (FEATURES - 1))
            identity = np.eye(FEATURES)
            covariance = covariance + diagonal.mean() * identity + rest * (1 - identity)
        deviation = np.sqrt(np.diagonal(covariance))
        inverse = np.linalg.pinv(covariance / np.outer(deviation, deviation))
        distances.append(cdist(unit(x.numpy() ** power), unit(of.mean(0) ** power)[None], "mahalanobis", VI=inverse))
    return np.concatenate(distances, 1) ** 2


def test_distances_are_those_of_the_papers_code() -> None:
    """Up to single precision, in which distances of many classes are computed."""
    x, y = samples(3)
    x = x.abs() + 0.5
    bench = assembled("fecam", FROZEN)
    strategy = bench.strategy
    strategy.head = Mahalanobis(nn.Linear(FEATURES, CLASSES), CLASSES, 0.5, True)
    strategy.raw = type(strategy.raw)(CLASSES, FEATURES, CPU)
    strategy.scatter = Scatter(CLASSES, FEATURES, CPU, per_class=True)
    for rows in torch.split(torch.randperm(len(y), generator=torch.Generator().manual_seed(0)), 7):
        strategy.add(x[rows].float(), y[rows])
    strategy.solve()
    strategy.head.known[:] = True
    expected = mahalanobis(x, y, 0.5)
    np.testing.assert_allclose(-2 * strategy.head(x.float()), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_pieces_of_fecam_by_hand() -> None:
    singular = torch.tensor([[1.0, 1.0], [1.0, 1.0]]).double()
    a = factor(singular)
    torch.testing.assert_close(a @ a.T, torch.linalg.pinv(singular), rtol=1e-12, atol=1e-12)
    a = factor(torch.diag(torch.tensor([4.0, 9.0]).double()))
    torch.testing.assert_close(
        a @ a.T, torch.diag(torch.tensor([0.25, 1 / 9], dtype=torch.float64)), rtol=1e-12, atol=1e-12
    )
    assert correlations(torch.diag(torch.tensor([0.0, 4.0]))).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert shrunk(torch.eye(3), 1.0, 5.0).tolist() == (2 * torch.eye(3)).tolist()


@pytest.mark.parametrize(("unit", "metric"), [("true", "cosine"), ("false", "euclidean")])
def test_with_the_identity_it_is_the_nearest_class_mean(unit: str, metric: str) -> None:
    identity = ["strategy.covariance=identity", "strategy.tukey=1", f"strategy.unit_length={unit}"]
    fecam, ncm = trained("fecam", FROZEN, *identity), trained("ncm", FROZEN, f"strategy.metric={metric}")
    x = ncm.evaluator._inputs.ready
    assert torch.equal(predicted(fecam, x), predicted(ncm, x))
    assert fecam.strategy.memory().bytes == ncm.strategy.memory().bytes


def test_one_sample_of_each_class_is_the_nearest_class_mean_too() -> None:
    x, y = samples(4, 40)
    strategy = assembled("fecam", FROZEN).strategy
    strategy.head = Mahalanobis(nn.Linear(FEATURES, CLASSES), CLASSES, 1.0, False)
    strategy.raw = type(strategy.raw)(CLASSES, FEATURES, CPU)
    strategy.scatter = Scatter(CLASSES, FEATURES, CPU, per_class=True)
    strategy.add(x[:CLASSES].float(), y[:CLASSES])
    strategy.solve()
    strategy.head.known[:] = True
    assert torch.equal(strategy.head(x.float()).argmax(1), torch.cdist(x, x[:CLASSES]).argmin(1))


# ------------------------------------------------------------------------------------------------ on streams
def assembled(strategy: str, *overrides: str, benchmark: str = "split_synthetic-v1") -> Any:
    few = "training={iterations: 6, epochs: null, batch_size: 40}"
    return support.assembled(resolve.make_run(benchmark, strategy=strategy, overrides=[few, *overrides]))


def trained(strategy: str, *overrides: str, benchmark: str = "split_synthetic-v1", watch: bool = False) -> Any:
    """The bench after the whole stream, and its recorder."""
    bench = assembled(strategy, *overrides, benchmark=benchmark)
    bench.recorder = Recorder(bench.device) if watch else None
    training_loop.train(bench, observer.Observation(bench, bench.recorder, lambda: None))
    return bench


def predicted(bench: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = bench.strategy.model.eval()(x).argmax(1)
    return outputs


def everything(bench: Any) -> tuple[Tensor, Tensor]:
    """Features of all training samples as they are stored, in one pass, and their classes."""
    parts = []
    for number in range(len(bench.budgets)):
        experience = bench.experience(number)
        index, task = torch.from_numpy(experience.index), torch.from_numpy(experience.task)
        parts.append(bench.samples.fetch(index, task, plain=True))
    x, y = (torch.cat(column) for column in zip(*parts, strict=True))
    return bench.strategy.features(x), y


@pytest.mark.parametrize("iterations", [2, 13])
@pytest.mark.parametrize("name", ["ranpac", "acil"])
def test_the_weights_after_a_stream_are_those_of_joint_ridge_regression(name: str, iterations: int) -> None:
    """A part of a pass in each experience, and two and a half: each sample once. Features of a batch may differ in the
    last bits of single precision from those of all samples in one pass."""
    bench = trained(name, FROZEN, *METHODS[name], f"training.iterations={iterations}")
    strategy = bench.strategy
    features, y = everything(bench)
    h, penalty = strategy.head.expand(features).double(), strategy.config.penalty
    fit = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(h.numpy(), np.eye(10)[y])
    assert relative(strategy.head.rule, fit.coef_) < rounding(h.T @ h, penalty, 2.0**-24)
    of_projection = 40 * 64 * 4
    sums = 40 * 40 * 8 + (40 * 10 * 8 if name == "ranpac" else 0)
    assert strategy.memory().bytes == of_projection + sums


@pytest.mark.parametrize("stream", [["stream.tasks.count=5"], ["stream.tasks.count=5", "stream.online=7"]])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_stream_and_its_joint_one_give_one_rule(name: str, stream: list[str]) -> None:
    """Ten classes at once, or two at a time, or seven samples at a time: the same features up to single precision, in
    another order and other chunks."""
    bench = trained(name, FROZEN, *METHODS[name], "stream.tasks.count=1")
    joined, apart = bench.strategy, trained(name, FROZEN, *METHODS[name], *stream).strategy
    if name == "fecam":
        covariances = [torch.linalg.inv(s.head.factors[0] @ s.head.factors[0].T) for s in (apart, joined)]
        assert relative(apart.head.means, joined.head.means) <= 64 * 2.0**-24
        assert relative(*covariances) <= 64 * 2.0**-24
        return
    if name == "slda":
        covariance, penalty = 0.99 * joined.scatter.whole() / joined.scatter.count.sum(), 0.01
    else:
        h = joined.head.expand(everything(bench)[0]).double()
        covariance, penalty = h.T @ h, joined.config.penalty
    bound = rounding(covariance, penalty, 2.0**-24)
    assert relative(apart.head.rule, joined.head.rule) <= bound < 0.01
    assert relative(apart.head.offset + 1, joined.head.offset + 1) <= bound


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_class_that_comes_again_adds_its_samples(name: str) -> None:
    schedule = "{by: explicit, experiences: [{tasks: [0], samples: 60}, {tasks: [1]}, {tasks: [0], samples: 60}]}"
    two = "stream.tasks={by: classes, count: 2}"
    bench = trained(name, FROZEN, *METHODS[name], two, f"stream.schedule={schedule}")
    strategy, (_, y) = bench.strategy, everything(bench)
    counted = torch.bincount(y, minlength=10).double()
    assert int(counted[list(bench.stream.tasks[0].targets)].sum()) == 120
    if name in ("slda", "fecam"):
        assert torch.equal(strategy.scatter.count, counted)
    elif name == "ranpac":
        assert strategy.sums.count == len(y)
    else:
        features, y = everything(bench)
        h = strategy.head.expand(features).double()
        inverse = torch.linalg.inv(h.T @ h + torch.eye(40))
        assert relative(strategy.inverse, inverse) < rounding(h.T @ h, 1.0, 2.0**-24)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_rule_is_computed_when_it_is_asked_for(name: str) -> None:
    """At the ends of experiences, and before evaluations; not in updates that nobody looks at, nor where nothing is
    new."""
    solved = []
    for overrides in (["evaluation.every=0"], ["evaluation.every=3"], ["evaluation.every=0", "watch.prequential=true"]):
        bench = assembled(name, FROZEN, *METHODS[name], "training.iterations=6", *overrides)
        solve, calls = bench.strategy.solve, []
        bench.strategy.solve = lambda solve=solve, calls=calls: calls.append(1) or solve()
        training_loop.train(bench, observer.Observation(bench, Recorder(bench.device), lambda: None))
        solved.append(len(calls))
    # 200 samples in batches of 40 are met in 5 updates: new at the evaluations after updates 3 and 6 of each, and
    # before updates 2 to 5, where the next batch is predicted, and at the end.
    assert solved == [5, 10, 25]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_nothing_is_predicted_before_there_is_something_to_predict_with(name: str) -> None:
    for extractor, until in (("first_experience", Phase.END), ("frozen", Phase.ITERATION)):
        bench = trained(name, f"strategy.extractor={extractor}", *METHODS[name], watch=True)
        trace = bench.recorder.chunk()
        absent = (trace["correct.class"] == UNAVAILABLE).any(1)
        first = int(np.flatnonzero(~absent)[0])
        assert absent[:first].all()
        assert not absent[first:].any()
        assert (trace["phase"][first], trace["experience"][first]) == (until, 0)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_linear_model_has_its_inputs_for_features(name: str) -> None:
    """As on a stream of features that were computed once."""
    bench = trained(name, FROZEN, *METHODS[name], "model={name: linear}")
    assert bench.strategy.head.in_features == int(np.prod(bench.stream.data.shape))
    assert (predicted(bench, bench.evaluator._inputs.ready) == bench.evaluator._targets).double().mean() > 0.5


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ranpac", ["strategy.projections=20"]),
        ("ranpac", ["strategy={projections: null, products: float32, penalty: 1}"]),
        ("acil", ["strategy.projections=20"]),
        ("slda", []),
        ("fecam", []),
        ("fecam", ["strategy.covariance=common"]),
    ],
)
def test_a_run_resumes_within_its_sums(name: str, overrides: list[str]) -> None:
    few = ["training={iterations: 6, epochs: null, batch_size: 40}", "stream.tasks.count=2", FROZEN]
    check_resume(resolve.make_run("split_synthetic-v1", strategy=name, overrides=[*few, *overrides]))
