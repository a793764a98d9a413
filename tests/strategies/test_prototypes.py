"""Methods of class means and prototypes: numbers by hand, reductions, and what a frozen front costs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import support
from clbench import resolve, run_config
from clbench.errors import UserError
from clbench.evaluation.recorder import Recorder
from clbench.rng import Generator
from clbench.runner import observer, training_loop
from clbench.strategies.fetril import PseudoFeatures, nearest, separate
from clbench.strategies.napa_vq import neighbourhood_loss, one_of, relinked
from clbench.strategies.pass_ import radius
from clbench.strategies.shared.prototype_heads import CodingVectors, NearestMean, Rotated
from clbench.strategies.shared.prototypes import Moments
from clbench.strategy import evaluating
from clbench.testing.resume import check_resume
from clbench.testing.states import assert_same
from clbench.trace import UNAVAILABLE, Phase

SPLIT, DIGITS = "split_synthetic-v1", "split_digits-v1"
NCM, FETRIL, PASS, NAPA = "ncm", "fetril", "pass", "napa_vq"
FEW = "training={iterations: 6, epochs: null, batch_size: 40}"


def plan(strategy: str, *overrides: str, benchmark: str = SPLIT) -> run_config.RunConfig:
    return resolve.make_run(benchmark, strategy=strategy, overrides=[FEW, *overrides])


def assembled(strategy: str, *overrides: str, benchmark: str = SPLIT) -> Any:
    return support.assembled(plan(strategy, *overrides, benchmark=benchmark))


def trained(strategy: str, *overrides: str, benchmark: str = SPLIT, watch: bool = False) -> Any:
    """The bench after the whole stream, and the recorder."""
    bench = assembled(strategy, *overrides, benchmark=benchmark)
    bench.recorder = Recorder(bench.device) if watch else None
    training_loop.train(bench, observer.Observation(bench, bench.recorder, lambda: None))
    return bench


def accuracy(bench: Any) -> float:
    tasks = range(len(bench.stream.tasks))
    counts = bench.evaluator.evaluate(bench.strategy, tasks, tasks).counts[bench.evaluator.views[0]]
    return float(counts.sum() / bench.evaluator.samples)


def one_pass(bench: Any, number: int) -> tuple[Tensor, Tensor]:
    """All samples of an experience as they are stored, and their targets."""
    experience = bench.experience(number)
    index, task = torch.from_numpy(experience.index), torch.from_numpy(experience.task)
    found: tuple[Tensor, Tensor] = bench.samples.fetch(index, task, plain=True)
    return found


def flat(parameters: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


# ------------------------------------------------------------------------------------------------ shared pieces
def test_moments_are_those_of_numpy() -> None:
    features, y = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 3
    moments = Moments(5, 4, torch.device("cpu"))
    moments.add(features[:20], y[:20])
    rest = Moments(5, 4, torch.device("cpu"))
    rest.add(features[20:], y[20:])
    moments.merge(rest)
    one = Moments(5, 4, torch.device("cpu"))
    one.add(features[:1], torch.tensor([4]))
    moments.merge(one)
    for c in range(3):
        of = features[y == c].double().numpy()
        np.testing.assert_allclose(moments.mean()[c], of.mean(0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.variance()[c], np.trace(np.cov(of.T)) / 4, rtol=1e-12)
    assert moments.known.tolist() == [True, True, True, False, True]
    assert moments.variance().isnan().tolist() == [False, False, False, True, True]
    assert moments.nbytes == 4 * 8 * (4 + 2)


def test_features_leave_modes_as_they_are() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    net[1][1].eval()
    before = [m.training for m in net.modules()]
    with evaluating(net):
        assert not any(m.training for m in net.modules())
    assert [m.training for m in net.modules()] == before == [True, True, True, True, False]


# ------------------------------------------------------------------------------------------------ nearest class mean
def head(means: list[list[float]], known: list[bool], cosine: bool = False) -> NearestMean:
    made = NearestMean(nn.Linear(len(means[0]), len(means)), cosine)
    made.means.copy_(torch.tensor(means))
    made.known.copy_(torch.tensor(known))
    return made


def test_scores_by_hand() -> None:
    """(3, 0) is 1 from (2, 0) and sqrt 5 from (1, 1): euclidean; f = (1, 0.9) is nearer to (1, 1) in angle."""
    means, known = [[2.0, 0.0], [1.0, 1.0], [3.0, 0.0]], [True, True, False]
    x = torch.tensor([[3.0, 0.0], [1.0, 0.9]])
    scores = head(means, known)(x)
    assert scores.tolist() == [[4.0, 2.0, -float("inf")], [0.0, pytest.approx(0.9), -float("inf")]]
    angles = head(means, known, cosine=True)(torch.tensor([[3.0, 0.0], [2.0, 2.0]]))
    half = pytest.approx(0.5**0.5)
    assert angles.tolist() == [[pytest.approx(1.0), half, -float("inf")], [half, pytest.approx(1.0), -float("inf")]]


def test_true_means_are_the_bayes_rule() -> None:
    """Equal priors, one isotropic covariance: the largest density is the nearest mean, for any scale."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(6, 5, generator=generator)
    x = 2 * torch.randn(4000, 5, generator=generator)
    normal = torch.distributions.MultivariateNormal(means.double(), 1.7 * torch.eye(5).double())
    density = normal.log_prob(x[:, None].double())
    found = head(means.tolist(), [True] * 6)(x)
    assert torch.equal(found.argmax(1), density.argmax(1))


def test_means_are_those_of_all_samples_met_each_once() -> None:
    """Two and a half passes in each experience and half a pass: the same means, of every sample once."""
    for iterations in (13, 2):
        bench = trained(NCM, "strategy.extractor=frozen", f"training.iterations={iterations}")
        net, strategy = bench.strategy.model, bench.strategy
        for number in range(5):
            x, y = one_pass(bench, number)
            with torch.no_grad():
                features = net[:-1](x).double()
            for c in y.unique().tolist():
                torch.testing.assert_close(net[-1].means[c], features[y == c].mean(0), rtol=1e-12, atol=1e-12)
        assert strategy.settled.count.tolist() == [100.0] * 10
        assert strategy.memory().bytes == 10 * 8 * (64 + 2)


@pytest.mark.parametrize("extractor", ["first_experience", "frozen", "trained"])
def test_a_class_that_comes_again_adds_to_its_mean(extractor: str) -> None:
    """Tasks 0, 1, 0 with other samples each: of the frozen front, the mean over both."""
    schedule = "{by: explicit, experiences: [{tasks: [0], samples: 60}, {tasks: [1]}, {tasks: [0], samples: 60}]}"
    two = "stream.tasks={by: classes, count: 2}"
    bench = trained(NCM, f"strategy.extractor={extractor}", two, f"stream.schedule={schedule}")
    strategy, first = bench.strategy, bench.stream.tasks[0].targets[0]
    counted = [0, 0]
    for number in (0, 2):
        _, y = one_pass(bench, number)
        counted = [counted[0] + int((y == first).sum()), counted[1] + len(y)]
    assert strategy.settled.count[first] == counted[0]
    assert strategy.settled.count[list(bench.stream.tasks[0].targets)].sum() == counted[1] == 120
    assert strategy.frozen == (extractor != "trained")


def test_nothing_is_predicted_before_the_first_means() -> None:
    for extractor, until in (
        ("first_experience", Phase.END),
        ("frozen", Phase.ITERATION),
        ("trained", Phase.ITERATION),
    ):
        trace = trained(NCM, f"strategy.extractor={extractor}", watch=True).recorder.chunk()
        absent = (trace["correct.class"] == UNAVAILABLE).any(1)
        first = int(np.flatnonzero(~absent)[0])
        assert absent[:first].all()
        assert not absent[first:].any()
        assert (trace["phase"][first], trace["experience"][first]) == (until, 0)


def test_a_frozen_front_costs_no_update_a_pass_and_the_evaluator_one_in_all() -> None:
    """Counted are samples that go through the first linear layer in training; the evaluator asks a twin."""
    bench = assembled(NCM, "strategy.extractor=frozen", "training.iterations=20")
    samples = []
    bench.strategy.features = lambda x, f=bench.strategy.features: samples.append(len(x)) or f(x)
    start = flat(bench.strategy.front.parameters())
    training_loop.train(bench, observer.Observation(bench, Recorder(bench.device), lambda: None))
    assert sum(samples) == 1000, "each training sample once in its experience"
    assert bench.evaluator._evaluated[0].front.computed == 1, "test features once in the run"
    assert torch.equal(flat(bench.strategy.front.parameters()), start)
    first = assembled(NCM, "training.iterations=20")
    training_loop.train(first, observer.Observation(first, Recorder(first.device), lambda: None))
    assert not torch.equal(flat(first.strategy.front.parameters()), start)
    assert first.evaluator._evaluated[0].front.computed == 1, "once it is frozen"


def test_the_front_of_the_first_experience_is_the_naive_one() -> None:
    naive = trained("naive", "stream.tasks.count=1")
    ncm = trained(NCM, "stream.tasks.count=1")
    assert torch.equal(flat(ncm.strategy.front.parameters()), flat(naive.strategy.model[:-1].parameters()))
    all_along = trained(NCM, "strategy.extractor=trained")
    assert torch.equal(
        flat(all_along.strategy.front.parameters()), flat(trained("naive").strategy.model[:-1].parameters())
    )


def test_means_are_of_samples_as_they_are_stored() -> None:
    """A whole pass, so that the means are those of the batches, and a part of one."""
    crop = "training.augmentation=[{name: random_crop, padding: 2}]"
    for iterations in (10, 3):
        few = ["strategy.extractor=frozen", f"training.iterations={iterations}"]
        moved, plain = (trained(NCM, *few, *o, benchmark=DIGITS).strategy.settled for o in ([crop], []))
        assert torch.equal(moved.count, plain.count)
        torch.testing.assert_close(moved.total, plain.total, rtol=1e-6, atol=1e-6)


def test_online_and_without_boundaries_it_ends_in_the_same_means() -> None:
    whole, pieces, one = (
        trained(NCM, "strategy.extractor=frozen", "training.epochs=1", "training.iterations=null", *o)
        for o in ([], ["stream.online=10"], ["stream.online=10", "protocol.boundaries=false"])
    )
    for other in (pieces, one):
        torch.testing.assert_close(
            other.strategy.head.means, whole.strategy.head.means, rtol=1e-5, atol=1e-6
        )  # float32 features of batches of 10 and of 40 differ in the last bits
    assert accuracy(one) == accuracy(whole)


def test_gradients_and_features_of_a_model_that_does_not_learn_can_be_watched() -> None:
    bench = trained(NCM, "strategy.extractor=frozen", "watch={gradients: true, features: true}", watch=True)
    chunk = bench.recorder.chunk()
    assert (chunk["extra.task_gradient_norm"][-1] == 0).all()
    assert (chunk["extra.feature_drift"][-1][:4] == 0).all()


def test_weights_of_a_file_are_the_extractor_and_others_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 3))
    torch.save({k: v for k, v in net.state_dict().items() if not k.startswith("3.")}, tmp_path / "front.pt")
    frozen = ["strategy.extractor=frozen", f"model.weights={tmp_path / 'front.pt'}"]
    bench = trained(NCM, *frozen)
    assert torch.equal(flat(bench.strategy.front.parameters()), flat(net[:-1].parameters()))
    torch.save({"1.weight": torch.zeros(5, 32), "1.bias": torch.zeros(5)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"model.weights: '1.weight' of .* has the shape \(5, 32\)"):
        trained(NCM, frozen[0], f"model.weights={tmp_path / 'other.pt'}")


def test_the_first_experience_needs_boundaries() -> None:
    with pytest.raises(UserError, match="boundaries"):
        assembled(NCM, "protocol.boundaries=false")
    assembled(NCM, "protocol.boundaries=false", "strategy.extractor=trained")


# ------------------------------------------------------------------------------------------------ FeTrIL
def pseudo(by: str = "euclidean") -> PseudoFeatures:
    """Past classes 0 and 3, new ones 1 and 4, 2 not met; class 4 has come before as well."""
    features = torch.tensor([[8.0, 8.0], [1.0, 0.0], [10.0, 10.0], [3.0, 0.0], [9.0, 9.0]])
    means = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [6.0, 1.0], [5.0, 5.0]]).double()
    known = torch.tensor([True, False, False, True, True])
    return PseudoFeatures(features, torch.tensor([4, 1, 4, 1, 4]), means, known, by)


def test_pseudo_features_by_hand() -> None:
    """Means at hand: class 1 (2, 0), class 4 (9, 9). Past (1, 2) and (6, 1): class 1 is nearer to both; in angle,
    class 4 to (1, 2)."""
    made = pseudo()
    assert (made.classes.tolist(), made.source.tolist(), len(made)) == ([0, 1, 3, 4], [1, 1, 1, 4], 9)
    features, y = made[torch.arange(9)]
    assert y.tolist() == [0, 0, 1, 1, 3, 3, 4, 4, 4]
    assert features.tolist() == [[0, 2], [2, 2], [1, 0], [3, 0], [5, 1], [7, 1], [8, 8], [10, 10], [9, 9]]
    assert made[torch.tensor([5, 0])][0].tolist() == [[7, 1], [0, 2]]
    in_angle = pseudo("cosine")
    assert in_angle.source.tolist() == [4, 1, 1, 4]
    assert in_angle[torch.arange(3)][0].tolist() == [[0, 1], [2, 3], [1, 2]]


def test_a_moved_class_has_the_stored_mean_and_the_shape_of_its_source() -> None:
    """To rounding: float32, values around 10."""
    generator = torch.Generator().manual_seed(1)
    features, y = 10 * torch.rand(300, 7, generator=generator), torch.arange(300) % 3 + 5
    means = 10 * torch.rand(8, 7, generator=generator).double()
    made = PseudoFeatures(features, y, means, torch.arange(8) < 5, "euclidean")
    found, of = made[torch.arange(len(made))]
    assert len(made) == 8 * 100
    for c in range(5):
        source = features[y == made.source[c]]
        torch.testing.assert_close(found[of == c].double().mean(0), means[c], rtol=0, atol=2e-6)
        centred = found[of == c] - found[of == c].mean(0)
        torch.testing.assert_close(centred, source - source.mean(0), rtol=0, atol=1e-5)
        distance = [(means[c] - features[y == n].double().mean(0)).norm() for n in (5, 6, 7)]
        assert made.source[c] == 5 + int(np.argmin(distance))
    assert torch.equal(found[of == 6], features[y == 6])


def test_the_nearest_class_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import pairwise_distances

    past, new = (torch.randn(n, 4, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (40, 9))
    for by in ("euclidean", "cosine"):
        expected = pairwise_distances(past.numpy(), new.numpy(), metric=by).argmin(1)
        assert nearest(past, new, by).tolist() == expected.tolist()


def test_hyperplanes_are_minima_of_the_objective_one_class_against_the_others() -> None:
    """The gradient of 1/2 |w|^2 + b^2/2 + C sum max(0, 1 - s (w.f + b))^2 vanishes; the solver stops where it is below
    the tolerance times what it was at zero."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 4 * 2
    features = torch.randn(120, 6, generator=generator) + torch.randn(8, 6, generator=generator)[y]
    for chosen in (y >= 0, y < 4):
        x = nn.functional.normalize(features[chosen].double()).numpy()
        x1 = np.concatenate([x, np.ones((len(x), 1))], 1)
        classes, weight, bias = separate(features[chosen], y[chosen], 2.0, 1e-8)
        assert classes.tolist() == y[chosen].unique().tolist()
        for c, w, b in zip(classes, weight, bias, strict=True):
            sign, w1 = np.where(y[chosen] == c, 1.0, -1.0), np.append(w, b)
            gradient = [v - 2 * 2.0 * (sign * np.maximum(0, 1 - sign * (x1 @ v))) @ x1 for v in (w1, np.zeros_like(w1))]
            assert np.linalg.norm(gradient[0]) < 1e-8 * np.linalg.norm(gradient[1])
    assert [v.tolist() for v in separate(features[:1], y[:1], 1.0, 1e-4)] == [[0], [[0.0] * 6], [1.0]]


def test_the_classifier_is_the_one_fitted_by_hand_to_the_features_of_the_network() -> None:
    """Two experiences: means of the first, features of the second, moved and fitted in numpy."""
    bench = trained(FETRIL, "stream.tasks.count=2")
    (x0, y0), (x1, y1) = one_pass(bench, 0), one_pass(bench, 1)
    with torch.no_grad():
        f0, f1 = (bench.strategy.front(x).double().numpy() for x in (x0, x1))
    y0, y1 = y0.numpy(), y1.numpy()
    new = {c: f1[y1 == c] for c in np.unique(y1)}
    features, y = [*new.values()], [np.full(len(f), c) for c, f in new.items()]
    for c in np.unique(y0):
        mean = f0[y0 == c].mean(0)
        source = min(new.values(), key=lambda f: np.linalg.norm(f.mean(0) - mean))
        features.append(source - source.mean(0) + mean)
        y.append(np.full(len(source), c))
    _, weight, bias = separate(torch.from_numpy(np.concatenate(features)), torch.from_numpy(np.concatenate(y)), 1, 1e-4)
    head = bench.strategy.model[-1]
    with torch.no_grad():
        scores = bench.strategy.model(x1)
    expected = f1 / np.linalg.norm(f1, axis=1)[:, None] @ head.weight.detach().double().numpy().T
    np.testing.assert_allclose(scores, expected + head.bias.detach().numpy(), rtol=0, atol=1e-5)
    # One float32 rounding of the moved features, and a solver that stops at 1e-4 of its first gradient.
    torch.testing.assert_close(head.weight.detach().double().numpy(), weight, rtol=0, atol=2e-3)
    torch.testing.assert_close(head.bias.detach().double().numpy(), bias, rtol=0, atol=2e-3)


def test_an_update_of_fc_by_hand() -> None:
    bench = trained(FETRIL, "strategy.classifier=fc", "stream.tasks.count=2", "strategy.features_per_step=16")
    other = assembled(FETRIL, "strategy.classifier=fc", "stream.tasks.count=2", "strategy.features_per_step=16")
    strategy = other.strategy
    for number in range(2):
        experience = other.experience(number)
        strategy.begin_experience(experience)
        for batch in other.batches.of(experience, 6):
            if number == 0:
                strategy.step(batch)
                continue
            weight, bias = strategy.head.weight, strategy.head.bias
            f, y = strategy._set[torch.from_numpy(strategy.setup.generator.below(1000, 16))]
            loss = nn.functional.cross_entropy(f @ weight.T + bias, y)
            for p, g in zip((weight, bias), torch.autograd.grad(loss, (weight, bias)), strict=True):
                p.data -= 0.1 * g
        strategy.end_experience(experience)
    expected, found = (torch.cat([b.strategy.head.weight.flatten(), b.strategy.head.bias]) for b in (other, bench))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_first_experience_of_fetril_is_naive() -> None:
    for classifier in ("svc", "fc"):
        found = trained(FETRIL, f"strategy.classifier={classifier}", "stream.tasks.count=1").strategy
        naive = trained("naive", "stream.tasks.count=1").strategy
        assert torch.equal(flat(found.front.parameters()), flat(naive.model[:-1].parameters()))
    assert torch.equal(flat(found.model.parameters()), flat(naive.model.parameters())), "fc is the head as trained"


@pytest.mark.parametrize("classifier", ["svc", "fc"])
def test_features_of_an_experience_are_computed_once(classifier: str) -> None:
    bench = assembled(FETRIL, "strategy.extractor=frozen", f"strategy.classifier={classifier}")
    samples: list[int] = []
    bench.strategy.features = lambda x, f=bench.strategy.features: samples.append(len(x)) or f(x)
    training_loop.train(bench, observer.Observation(bench, Recorder(bench.device), lambda: None))
    assert sum(samples) == 1000
    assert bench.evaluator._evaluated[0].front.computed == 1
    assert bench.strategy.memory().bytes == 10 * 8 * (64 + 2)


def test_frozen_support_vectors_predict_when_they_are_fitted() -> None:
    trace = trained(FETRIL, "strategy.extractor=frozen", watch=True).recorder.chunk()
    absent = (trace["correct.class"] == UNAVAILABLE).any(1)
    assert absent.tolist() == (np.arange(len(absent)) < np.argmax(trace["phase"] == Phase.END)).tolist()


def test_one_class_at_a_time_is_learnt_and_what_has_not_come_is_never_predicted() -> None:
    ten = trained(FETRIL, "strategy.extractor=frozen", "stream.tasks.count=10")
    assert accuracy(ten) > 0.5
    bench = assembled(FETRIL, "strategy.extractor=frozen", "stream.tasks.count=10")
    strategy, come = bench.strategy, set()
    for number in range(4):
        experience = bench.experience(number)
        strategy.begin_experience(experience)
        strategy.end_experience(experience)
        come.update(experience.outputs)
        with torch.no_grad():
            found = strategy.model(10 * torch.randn(2000, 32))
        assert set(found.argmax(1).tolist()) <= come
        assert found.isfinite().all(), "an average of weights stays a number"


def test_keys_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="'features_per_step' needs 'classifier: fc'"):
        assembled(FETRIL, "strategy.features_per_step=3")
    with pytest.raises(UserError, match="boundaries"):
        assembled(FETRIL, "protocol.boundaries=false")


# ------------------------------------------------------------------------------------------------ PASS
OFF = ["strategy.rotations=false", "strategy.temperature=1"]


def test_units_of_orientation_0_are_the_networks_and_predict() -> None:
    linear = nn.Linear(5, 3)
    made = Rotated(linear, 4, Generator(0, "strategy"))
    x = torch.randn(7, 5)
    assert made.logits(x).shape == (7, 12)
    torch.testing.assert_close(made(x), made.logits(x)[:, ::4])
    torch.testing.assert_close(made(x), linear(x))
    others = made.weight.detach().unflatten(0, (3, 4))[:, 1:]
    assert 0 < others.abs().max() < 5**-0.5
    assert len(others.unique()) == others.numel(), "drawn"
    assert torch.equal(Rotated(linear, 1, Generator(0, "s"))(x), linear(x))


def test_without_its_terms_it_is_naive() -> None:
    off = [*OFF, "strategy.prototype_weight=0", "strategy.distillation_weight=0"]
    found, naive = trained(PASS, *off), trained("naive")
    assert torch.equal(flat(found.strategy.model.parameters()), flat(naive.strategy.model.parameters()))


def test_with_radius_0_and_no_rotation_it_is_replay_of_means() -> None:
    """Beside a loop by hand, three experiences; the same draws of classes from a generator of the same role."""
    keys = ["stream.tasks.count=3", "strategy.rotations=false", "strategy.radius=0", "strategy.temperature=0.5"]
    keys += ["strategy.prototype_weight=2", "strategy.distillation_weight=0.3"]
    found = trained(PASS, *keys)
    bench, draws = assembled("naive", keys[0]), Generator(0, "strategy")
    net, old, means = bench.strategy.model, None, {}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for number in range(3):
        experience = bench.experience(number)
        for batch in bench.batches.of(experience, 6):
            optimizer.zero_grad()
            features = net[:-1](batch.x)
            loss = nn.functional.cross_entropy(net[-1](features) / 0.5, batch.y)
            if old is not None:
                past = sorted(means)
                y = torch.tensor([past[i] for i in draws.below(len(past), len(batch.y))])
                again = torch.stack([means[c] for c in y.tolist()])
                loss += 2 * nn.functional.cross_entropy(net[-1](again) / 0.5, y)
                loss += 0.3 * torch.dist(features, old(batch.x).detach())
            loss.backward()
            optimizer.step()
        old = copy.deepcopy(net[:-1])
        x, y = one_pass(bench, number)
        means |= {c: old(x[y == c]).detach().mean(0) for c in y.unique().tolist()}
    assert set(means) == set(range(10))
    torch.testing.assert_close(
        flat(found.strategy.model.parameters()), flat(net.parameters()), rtol=0, atol=1e-5
    )  # means in double and in single precision
    for c, mean in means.items():
        torch.testing.assert_close(found.strategy.prototypes[c], mean, rtol=0, atol=1e-5)


def test_four_orientations_by_hand() -> None:
    """One update of the first experience: 4 y + k for the image turned by k quarter turns."""
    bench = assembled(PASS, benchmark=DIGITS)
    strategy, experience = bench.strategy, bench.experience(0)
    strategy.begin_experience(experience)
    batch = next(bench.batches.of(experience, 1))
    loss = 0.0
    for x, y in zip(batch.x, batch.y.tolist(), strict=True):
        for k in range(4):
            logits = strategy.head.logits(strategy.front(torch.from_numpy(np.rot90(x.numpy(), k, (1, 2)).copy())[None]))
            loss += nn.functional.cross_entropy(logits / 0.1, torch.tensor([4 * y + k])).item()
    assert strategy.loss(batch).item() == pytest.approx(loss / (4 * len(batch.y)), rel=1e-5)
    assert strategy.report() == {"rotations": 4.0, "radius": 0.0}


def test_the_radius_is_that_of_the_first_task_block() -> None:
    bench = trained(PASS, *OFF, "strategy.prototype_weight=0", "strategy.distillation_weight=0")
    one = assembled(PASS, *OFF)
    strategy, experience = one.strategy, one.experience(0)
    strategy.begin_experience(experience)
    for batch in one.batches.of(experience, 6):
        strategy.step(batch)
    strategy.end_experience(experience)
    x, y = one_pass(one, 0)
    with torch.no_grad():
        f = strategy.front(x).double().numpy()
    expected = np.sqrt(np.mean([np.trace(np.cov(f[y == c].T)) / 64 for c in np.unique(y)]))
    assert bench.strategy.radius == strategy.radius == pytest.approx(expected, rel=1e-6)
    assert radius(torch.tensor([float("nan")])) == 0.0


def test_noise_has_the_radius_for_a_deviation() -> None:
    """100,000 numbers: their deviation is within 1 % of r with a probability beyond 0.99999 (4.5 / sqrt(2 n)). Of class
    4, unit 16 in four orientations."""
    bench = assembled(PASS, "strategy.radius=3", "model={name: mlp, hidden: [64]}", benchmark=DIGITS)
    strategy, asked = bench.strategy, []
    strategy.past = torch.tensor([4])
    strategy.prototypes[16] = 7.0
    strategy.head.logits = lambda f: asked.append(f) or 0.1 * torch.eye(40)[torch.full((len(f),), 16)]
    loss = strategy._prototype_loss(1600)
    assert asked[0].shape == (1600, 64)
    assert float((asked[0] - 7).std()) == pytest.approx(3, rel=0.0101)
    assert abs(float((asked[0] - 7).mean())) < 4.5 * 3 / 320
    assert loss.item() == pytest.approx(np.log(np.e + 39) - 1), "the unit that the label names has a logit of 1"


def test_a_class_that_is_present_is_not_past() -> None:
    schedule = "{by: explicit, experiences: [{tasks: [0], samples: 60}, {tasks: [1]}, {tasks: [0], samples: 60}]}"
    bench = assembled(PASS, "stream.tasks={by: classes, count: 2}", f"stream.schedule={schedule}")
    strategy, tasks, past = bench.strategy, bench.stream.tasks, []
    for number in range(3):
        strategy.begin_experience(bench.experience(number))
        past.append(strategy.past.tolist())
        strategy.end_experience(bench.experience(number))
    assert past == [[], sorted(tasks[0].targets), sorted(tasks[1].targets)]
    x, y = one_pass(bench, 2)
    c = tasks[0].targets[0]
    assert not strategy.features(x[y == c]).requires_grad
    expected = strategy.features(x[y == c]).mean(0)
    torch.testing.assert_close(strategy.prototypes[strategy.rotations * c], expected, rtol=0, atol=1e-5)


def test_the_old_front_stands_still() -> None:
    """With batch normalisation: neither its weights nor its statistics move while it is asked."""
    net = ["model={name: slim_resnet18, filters: 2}", "strategy.optimizer={name: adam, lr: 0.001}"]
    bench = assembled(PASS, *net, "training.batch_size=8", benchmark=DIGITS)
    strategy = bench.strategy
    for number in range(2):
        experience = bench.experience(number)
        strategy.begin_experience(experience)
        before = copy.deepcopy(strategy.old.state_dict() if number else strategy.front.state_dict())
        for batch in bench.batches.of(experience, 2):
            strategy.step(batch)
        if number == 0:
            strategy.end_experience(experience)
            assert not torch.equal(before["0.1.running_mean"], strategy.old.state_dict()["0.1.running_mean"])
    assert_same(dict(strategy.old.state_dict()), dict(before))
    assert strategy.front.training
    assert not any(p.requires_grad for p in strategy.old.parameters())


def test_pieces_of_an_experience_are_one_task_block() -> None:
    bench = assembled(PASS, "stream.online=50", "training.iterations=1")
    strategy, olds = bench.strategy, set()
    for number in range(8):
        experience = bench.experience(number)
        strategy.begin_experience(experience)
        for batch in bench.batches.of(experience, 1):
            strategy.step(batch)
        strategy.end_experience(experience)
        assert strategy.known.any() == (number >= 3)
        olds.add(id(strategy.old))
    assert len(olds) == 3, "none, and one for each of two task blocks"


def test_what_cannot_be_turned_is_refused() -> None:
    with pytest.raises(UserError, match=r"strategy\.rotations: needs square images, and inputs are 32\."):
        assembled(PASS, "strategy.rotations=true")
    with pytest.raises(UserError, match=r"training\.loss"):
        assembled(PASS, "training.loss=squared_error")
    with pytest.raises(UserError, match="boundaries"):
        assembled(PASS, "protocol.boundaries=false")
    assert assembled(PASS).strategy.rotations == 1
    assert assembled(PASS, benchmark=DIGITS).strategy.rotations == 4
    assert assembled(PASS, "strategy.rotations=false", benchmark=DIGITS).strategy.rotations == 1


# ------------------------------------------------------------------------------------------------ NAPA-VQ
def test_a_graph_drawn_by_hand() -> None:
    """Vectors on a line at 0, 1, 3, 6, two neighbours, links fade by 0.5 and are gone after two times.

    Features 0.2, 0.4 and 2.9: near (0, 1) twice, and (2, 1): links 0-1 and 2-1 are 1 on one side, 0.5 on both.
    Then 0.1 is near (0, 1): 0-1 is set to 1 on one side, 0.75 on both. Then three times 5.9 is near (3, 2): 3-2 becomes
    0.5. Then 2.8 and 3.1 are near (2, 1), 2.9 near (2, 1): 2-1 to 1, its 2-3 of 0.5 fades three times to 0.0625, below
    0.25: gone on that side, 0.25 on both."""
    vectors, edges = torch.tensor([[0.0], [1.0], [3.0], [6.0]]), torch.eye(4)

    def after(*features: float) -> list[list[float]]:
        nonlocal edges
        near = torch.cdist(torch.tensor(features)[:, None], vectors).topk(2, largest=False).indices
        edges = relinked(edges, near, 0.5, 2)
        edges = (edges + edges.T) / 2
        return edges.tolist()

    assert after(0.2, 0.4, 2.9) == [[1, 0.5, 0, 0], [0.5, 1, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 1]]
    assert after(0.1) == [[1, 0.75, 0, 0], [0.75, 1, 0.5, 0], [0, 0.5, 1, 0], [0, 0, 0, 1]]
    assert after(5.9, 5.9, 5.9) == [[1, 0.75, 0, 0], [0.75, 1, 0.5, 0], [0, 0.5, 1, 0.5], [0, 0, 0.5, 1]]
    assert after(2.8, 3.1, 2.9) == [[1, 0.75, 0, 0], [0.75, 1, 0.75, 0], [0, 0.75, 1, 0.25], [0, 0, 0.25, 1]]


def test_a_link_lasts_as_long_as_its_age() -> None:
    """Links 0-1 and 0-2; unit 0 is met ten times with 1 alone, then once more; and in a batch where 2 is met once."""
    edges = relinked(torch.eye(3), torch.tensor([[0, 1, 2]]), 0.9, 10)
    for n in range(1, 12):
        edges = relinked(edges, torch.tensor([[0, 1]]), 0.9, 10)
        assert edges[0, 1] == 1
        assert edges[0, 2] == (0 if n > 10 else pytest.approx(0.9**n, rel=1e-5))
    mixed = relinked(torch.eye(3), torch.tensor([[0, 1], [0, 2], [0, 1]]), 0.9, 10)
    assert mixed[0].tolist() == [1, pytest.approx(0.9), pytest.approx(0.81)]


def test_the_neighbourhood_loss_by_hand() -> None:
    """Squared distances 900 to the own vector, 0 and 1000 ln 3 to two linked ones: weights 3/4 and 1/4."""
    far = 1000 * float(np.log(3))
    squared = torch.tensor([[900.0, 0.0, far, 5.0], [7.0, 900.0, 9.0, 1.0], [3.0, 900.0, 9.0, 1.0]])
    linked = torch.tensor([[False, True, True, False], [False] * 4, [False, True, False, False]])
    expected = [900 - far / 4, 7.0, 0.0]
    y = torch.zeros(3, dtype=torch.int64)
    for i in range(3):
        assert neighbourhood_loss(squared[i : i + 1], y[:1], linked[i : i + 1]).item() == pytest.approx(expected[i])
    squared.requires_grad_()
    loss = neighbourhood_loss(squared, y, linked)
    assert loss.item() == pytest.approx(sum(expected) / 3)
    (gradient,) = torch.autograd.grad(loss, squared)
    third = 1 / 3  # weights are held constant; the third feature is nearer to its own vector
    assert gradient[0].tolist() == pytest.approx([third, -third * 3 / 4, -third / 4, 0])
    assert gradient[1:].tolist() == [[pytest.approx(third), 0, 0, 0], [0, 0, 0, 0]]


def test_choices_are_uniform_among_the_true() -> None:
    choices = torch.tensor([[False, True, True, False, True, True]]).expand(4000, -1)
    found = one_of(choices, torch.from_numpy(Generator(0, "t").uniform(4000)))
    counts = found.bincount(minlength=6).tolist()
    assert counts[0] == counts[3] == 0
    assert all(abs(n - 1000) < 4.5 * (4000 * 3 / 16) ** 0.5 for n in counts[1:3] + counts[4:])


def test_coding_vectors_predict_by_angle_among_those_of_orientation_0() -> None:
    made = CodingVectors(nn.Linear(6, 3), 4, Generator(0, "strategy"))
    assert made.weight.shape == (12, 6)
    assert made.bias is None
    x, v = torch.randn(50, 6), made.weight.detach()[::4]
    normed = torch.cdist(nn.functional.normalize(x), nn.functional.normalize(v))
    assert torch.equal(made(x).argmax(1), normed.argmin(1))


def test_without_neighbours_and_prototypes_it_is_learning_vector_quantisation() -> None:
    """Beside a loop by hand, two experiences: old vectors stand still, all rates become a tenth."""
    keys = ["stream.tasks.count=2", "strategy.rotations=false", "strategy.temperature=0.5", "strategy.vector_lr=0.7"]
    off = ["strategy.neighbour_weight=0", "strategy.prototype_weight=0", "strategy.distillation_weight=0.3"]
    found = trained(NAPA, *keys, *off)
    bench = assembled("naive", keys[0])
    front = bench.strategy.model[:-1]
    vectors = torch.from_numpy(Generator(0, "strategy").normal(10 * 64)).float().view(10, 64).requires_grad_()
    met: list[int] = []
    for number in range(2):
        experience, rate = bench.experience(number), (1.0, 0.1)[number]
        new, old = list(experience.outputs), copy.deepcopy(front)
        met = sorted(met + new)
        for batch in bench.batches.of(experience, 6):
            features = front(batch.x)
            distance = (features[:, None] - vectors[met]).square().sum(2).sqrt()
            y = torch.tensor([met.index(c) for c in batch.y.tolist()])
            loss = nn.functional.cross_entropy(-distance / 0.5, y)
            if number:
                loss += 0.3 * torch.dist(features, old(batch.x).detach())
            for p, g in zip([*front.parameters(), vectors], torch.autograd.grad(loss, [*front.parameters(), vectors]),
                            strict=True):  # fmt: skip
                if p is vectors:
                    p.data[new] -= 0.7 * rate * g[new]
                else:
                    p.data -= 0.1 * rate * g
    assert len(met) == 10
    torch.testing.assert_close(found.strategy.head.weight, vectors, rtol=0, atol=1e-4)
    torch.testing.assert_close(flat(found.strategy.front.parameters()), flat(front.parameters()), rtol=0, atol=1e-4)


def test_past_prototypes_are_mixed_with_those_around_them() -> None:
    """Past classes 0 and 1, class 2 is new and linked to 0, class 3 is linked and has no prototype."""
    bench = assembled(NAPA, "strategy.rotations=true", benchmark=DIGITS)
    strategy = bench.strategy
    strategy.prototypes[:] = torch.arange(40.0)[:, None]
    strategy.known[:12], strategy.past = True, torch.tensor([0, 1])
    strategy.edges = torch.eye(40)
    strategy.edges[0, [9, 12]] = 0.4
    mixed, unit, task = strategy._mixed(400)
    assert set(unit.tolist()) == {0, 4}
    assert len(task) == 400
    assert (mixed == mixed[:, :1]).all()
    value = mixed[:, 0]
    assert (value[unit == 4] == 4).all(), "nothing is around it"
    around = value[unit == 0]
    moved = around[around > 0]
    assert 0.35 < len(moved) / len(around) < 0.65
    assert 0 < moved.min() < 0.9 < 3.6 < moved.max() < 4.5, "from 0 half way to 9"


def test_prototypes_of_new_classes_are_measured_before_they_are_learnt() -> None:
    bench = assembled(NAPA, "strategy.rotations=true", benchmark=DIGITS)
    strategy = bench.strategy
    for number in range(2):
        experience = bench.experience(number)
        strategy.begin_experience(experience)
        x, y = one_pass(bench, number)
        c = experience.outputs[0]
        if number:
            turned = strategy.features(torch.rot90(x[y == c], 3, (2, 3))).mean(0)
            torch.testing.assert_close(strategy.prototypes[4 * c + 3], turned, rtol=0, atol=1e-6)
        assert strategy.known.sum() == 16 * number
        for batch in bench.batches.of(experience, 3):
            strategy.step(batch)
        strategy.end_experience(experience)
        turned = strategy.features(torch.rot90(x[y == c], 3, (2, 3))).mean(0)
        torch.testing.assert_close(strategy.prototypes[4 * c + 3], turned, rtol=0, atol=1e-6)


def test_the_rate_of_the_vectors_is_bounded_by_their_number() -> None:
    for rotations, rates in (("true", (4.0, 0.5)), ("false", (1.0, 0.5))):
        bench = assembled(NAPA, f"strategy.rotations={rotations}", benchmark=DIGITS)
        for number in range(2):
            bench.strategy.begin_experience(bench.experience(number))
            assert bench.strategy._rate == rates[number]
            bench.strategy.end_experience(bench.experience(number))


# ------------------------------------------------------------------------------------------------ contracts
WAYS: dict[str, tuple[str, list[str]]] = {
    "ncm": (NCM, []),
    "ncm, frozen": (NCM, ["strategy.extractor=frozen", "strategy.metric=cosine"]),
    "ncm, trained": (NCM, ["strategy.extractor=trained"]),
    "fetril, svc": (FETRIL, []),
    "fetril, fc": (FETRIL, ["strategy.classifier=fc", "strategy.nearest=cosine"]),
    "fetril, frozen": (FETRIL, ["strategy.extractor=frozen"]),
    "pass": (PASS, ["strategy.optimizer={name: adam, lr: 0.001}"]),
    "napa_vq": (NAPA, ["strategy.optimizer={name: adam, lr: 0.001}"]),
}
"""Those with their defaults are also among the tests of the whole table."""

STREAMS = {
    "whole": (SPLIT, ["training.optimizer={name: adam}", "training.optimizer_state=reset"]),
    "online": (SPLIT, ["stream.online=100", "training.iterations=2"]),
    "recurrent": ("power_law_digits-v1", ["training.iterations=2"]),
}


@pytest.mark.parametrize(
    ("way", "stream"),
    [("ncm, frozen", "recurrent"), ("ncm, trained", "online"), ("fetril, fc", "whole"), ("fetril, fc", "online"),
     ("fetril, svc", "recurrent"), ("pass", "online"), ("pass", "recurrent"), ("napa_vq", "whole")],
)  # fmt: skip
def test_stopped_anywhere_it_goes_on(way: str, stream: str) -> None:
    (strategy, overrides), (benchmark, more) = WAYS[way], STREAMS[stream]
    check_resume(plan(strategy, "evaluation.every=0", *more, *overrides, benchmark=benchmark))


@pytest.mark.parametrize("way", WAYS)
def test_every_short_cut_of_the_evaluator_counts_as_float32_does(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.evaluation.evaluator.fast_here", lambda: True)
    strategy, overrides = WAYS[way]
    chunks = []
    for precision in ("auto", "float32"):
        bench = trained(strategy, *overrides, f"watch.precision={precision}", "training.iterations=20", watch=True)
        chunks.append({k: v for k, v in bench.recorder.chunk().items() if k.startswith("correct")})
    assert chunks[0]
    assert_same(chunks[0], chunks[1])


@pytest.mark.parametrize("way", WAYS)
def test_other_streams_end_better_than_chance(way: str) -> None:
    """Domain-incremental, and few shots; 6 updates an experience, one seed. Chance is 0.10."""
    strategy, overrides = WAYS[way]
    for benchmark in ("permuted_digits-v1", "few_shot_digits-v1"):
        assert accuracy(trained(strategy, *overrides, benchmark=benchmark)) > 0.12
