"""Supervision: numbers are exact, what is random is uniform, and a sample's label never leaves its task.

Statistics are of fixed seeds; chi-square limits are exceeded by one seed in 1,000.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clbench import dataset, messages
from clbench.errors import UserError
from clbench.stream import Stream
from clbench.streams import definition
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from clbench.streams.datasets.synthetic import SyntheticData
from clbench.streams.supervision import LongTail, shares
from clbench.testing.streams import check_stream

EACH = 200


@functools.cache
def vectors(classes: int, each: int) -> dataset.DataSet:
    return load.load("synthetic", SyntheticData(classes=classes, features=2, train_per_class=each, test_per_class=1))


def compiled(seed: int = 0, classes: int = 10, each: int = EACH, **changes: Any) -> Stream:
    """Ten classes of 200 samples in five tasks, changed."""
    made = {"classes": classes, "features": 2, "train_per_class": each, "test_per_class": 1}
    base = {"data": "synthetic", "synthetic": made, "tasks": {"by": "classes", "count": 5}, "setting": "class"}
    found, problems = messages.check_section("test", "stream", definition.StreamConfig, {**base, **changes}, {})
    assert not problems, problems
    stream = compile_stream(found, seed, vectors(classes, each))
    check_stream(stream)
    return stream


def supervised(seed: int = 0, tasks: dict[str, Any] | None = None, **supervision: Any) -> Stream:
    family = (
        {} if tasks is None else {"tasks": tasks, "setting": "domain" if tasks["by"] == "permutations" else "class"}
    )
    if tasks is not None and tasks["by"] == "instances":
        family["setting"] = "domain"
    return compiled(seed, supervision=supervision, **family)


def sizes(stream: Stream) -> list[int]:
    """Training samples of each class that come, (C,)."""
    rows = np.unique(np.concatenate([r for v in stream.experiences for _, r in (*v.parts, *v.unlabelled)]))
    return np.bincount(stream.data.train_y[rows], minlength=stream.data.classes).tolist()


# ------------------------------------------------------------------------------------------------ long tail
@pytest.mark.parametrize("ratio", [1, 3, 10, 100, 200])
@pytest.mark.parametrize("order", ["natural", "entry", "seed"])
@pytest.mark.parametrize("shape", ["exponential", "pareto", "step"])
def test_sizes_of_a_long_tail_are_those_of_the_formula(shape: str, order: str, ratio: float) -> None:
    stream = supervised(5, long_tail={"shape": shape, "ratio": ratio, "order": order})
    power = math.log(ratio) / math.log(10)
    law = {
        "exponential": [ratio ** (-i / 9) for i in range(10)],
        "pareto": [(i + 1) ** -power for i in range(10)],
        "step": [1.0] * 5 + [1 / ratio] * 5,
    }[shape]
    expected = [max(1, math.floor(200 * share + 1e-6)) for share in law]
    assert (expected[0], expected[9]) == (200, max(1, math.floor(200 / ratio + 1e-6)))
    found = sizes(stream)
    if order == "natural":
        assert found == expected
    elif order == "entry":
        assert [found[c] for t in stream.tasks for c in t.classes] == expected
    else:
        assert sorted(found, reverse=True) == expected


def test_ranks_are_drawn_by_the_seed_and_kept_rows_too() -> None:
    streams = [supervised(s, long_tail={"ratio": 50}) for s in range(6)]
    assert len({tuple(np.argsort(sizes(s))) for s in streams}) > 4
    smallest = [min((v.index[:3].tolist() for v in s.experiences), key=len) for s in streams]
    assert len({tuple(s) for s in smallest}) > 4


def test_an_odd_number_of_classes_has_one_more_whole_one() -> None:
    assert shares(LongTail(shape="step", ratio=4), 5) == [1, 1, 1, 0.25, 0.25]
    for shape in ("exponential", "pareto", "step"):
        assert shares(LongTail(shape=shape, ratio=7), 1) == [1.0]  # type: ignore[arg-type]


def test_a_long_tail_is_the_same_in_every_task_of_all_classes() -> None:
    stream = supervised(tasks={"by": "permutations", "count": 3}, long_tail={"ratio": 20})
    assert len({tuple(v.index.tolist()) for v in stream.experiences}) == 1


# ------------------------------------------------------------------------------------------------ shots
@settings(max_examples=25)
@given(shots=st.integers(1, EACH), base=st.integers(0, 4), seed=st.integers(0, 1000))
def test_every_class_after_the_base_has_as_many_shots(shots: int, base: int, seed: int) -> None:
    stream = supervised(seed, shots=shots, base=base)
    plain = supervised(seed)
    for t, (few, whole) in enumerate(zip(stream.experiences, plain.experiences, strict=True)):
        counts = np.bincount(stream.data.train_y[few.index], minlength=10)
        own = list(stream.tasks[t].classes)
        if t < base:
            assert few.index.tolist() == whole.index.tolist()
        else:
            assert counts[own].tolist() == [shots] * len(own)
            assert counts.sum() == shots * len(own)


def test_shots_are_drawn_and_counted_in_each_task() -> None:
    drawn = {
        tuple(supervised(s, shots=3, tasks={"by": "permutations", "count": 2}).experiences[1].index) for s in range(5)
    }
    assert len(drawn) == 5
    one = supervised(shots=3, base=0, tasks={"by": "permutations", "count": 3})
    assert [v.samples for v in one.experiences] == [30, 30, 30]
    assert len({tuple(v.index.tolist()) for v in one.experiences}) == 3, "each task has its own"


def test_too_many_shots_and_a_base_of_everything() -> None:
    with pytest.raises(
        UserError, match=r"^stream\.supervision\.shots: got 201, but class \d has 200 training samples in"
    ):
        supervised(shots=201)
    with pytest.raises(UserError, match=r"got 5, but class \d has 2 training samples in task"):
        supervised(long_tail={"ratio": 100, "order": "entry"}, shots=5)
    with pytest.raises(
        UserError, match=r"^stream\.supervision\.base: got 5, which leaves none of 5 tasks for shots\.$"
    ):
        supervised(shots=2, base=5)
    assert [v.samples for v in supervised(shots=2, base=4).experiences] == [400, 400, 400, 400, 4]


# ------------------------------------------------------------------------------------------------ wrong labels
FAMILIES: list[dict[str, Any]] = [
    {"by": "classes", "count": 3},
    {"by": "classes_and_instances", "count": 3, "parts": 25},
    {"by": "instances", "count": 90},
    {"by": "permutations", "count": 3},
]


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("rate", [0.004, 0.1, 0.333, 0.9])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f["by"])
def test_rates_of_noise_are_exact_in_every_class_however_small_the_parts(
    family: dict[str, Any], rate: float, kind: str
) -> None:
    stream = supervised(3, tasks=family, noise={"rate": rate, "kind": kind})
    y = stream.data.train_y
    wrong = np.bincount(y[stream.labels != y], minlength=10)
    assert wrong.tolist() == [math.floor(EACH * rate + 0.5)] * 10


def test_noise_never_leaves_the_task() -> None:
    for kind in ("symmetric", "asymmetric"):
        for seed in range(5):
            stream = supervised(seed, noise={"rate": 0.8, "kind": kind})
            for experience in stream.experiences:
                (task,) = experience.tasks
                assert set(stream.labels[experience.index].tolist()) <= set(stream.tasks[task].classes)


def test_symmetric_noise_is_uniform_over_the_other_classes() -> None:
    """Of one task of ten classes: 90 cells of about 20, 80 degrees of freedom."""
    stream = compiled(tasks={"by": "classes", "count": 1}, supervision={"noise": {"rate": 0.9}})
    y = stream.data.train_y
    table = np.zeros((10, 10))
    np.add.at(table, (y, stream.labels), 1)
    assert np.diag(table).tolist() == [20] * 10
    off = table[~np.eye(10, dtype=bool)]
    assert ((off - 20) ** 2 / 20).sum() < 124.8


def test_which_samples_are_mislabelled_is_uniform() -> None:
    """Hits of each of a class's 200 places by 100 seeds at rate 0.1, each class's 20 exactly: a variance of
    100 x 0.09 for each; the mean of 2,000 squared deviations has a relative error near sqrt(2 / 2000)."""
    hits = np.zeros(2000)
    for seed in range(100):
        stream = supervised(seed, noise={"rate": 0.1})
        hits += stream.labels != stream.data.train_y
    assert hits.mean() == 10
    assert abs(((hits - 10) ** 2).mean() / 9 - 1) < 5 * math.sqrt(2 / 2000)


def test_asymmetric_noise_takes_the_successor_or_the_partner() -> None:
    stream = supervised(1, tasks={"by": "classes", "count": 3}, noise={"rate": 0.25, "kind": "asymmetric"})
    y = stream.data.train_y
    for task in stream.tasks:
        for place, c in enumerate(task.classes):
            wrong = stream.labels[(y == c) & (stream.labels != c)]
            assert set(wrong.tolist()) == {task.classes[(place + 1) % len(task.classes)]}
    blocks = {"by": "classes", "blocks": [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]}
    pairs = [[0, 2], [2, 0], [5, 3]]
    stream = supervised(1, tasks=blocks, noise={"rate": 0.25, "kind": "asymmetric", "pairs": pairs})
    wrong = Counter(zip(y[stream.labels != y].tolist(), stream.labels[stream.labels != y].tolist(), strict=True))
    assert wrong == {(0, 2): 50, (2, 0): 50, (5, 3): 50}


def test_noise_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"noise: task 0 has one class, so that no label of it can be wrong"):
        supervised(tasks={"by": "classes", "count": 10}, noise={"rate": 0.1})
    blocks = {"by": "classes", "blocks": [[0, 1], [2, 3]]}
    with pytest.raises(UserError, match=r"noise\.pairs: class 1 is in task 0, and class 2 is not\."):
        supervised(tasks=blocks, noise={"rate": 0.1, "kind": "asymmetric", "pairs": [[1, 2]]})


# ------------------------------------------------------------------------------------------------ missing labels
@pytest.mark.parametrize(
    ("family", "share"),
    [
        *((family, share) for family in (FAMILIES[0], FAMILIES[3]) for share in (0.001, 0.0625, 0.5, 0.99)),
        *(({**FAMILIES[1], "parts": 2}, share) for share in (0.0625, 0.5, 0.99)),
    ],
)
def test_the_labelled_share_of_each_class_is_exact(family: dict[str, Any], share: float) -> None:
    stream = supervised(2, tasks=family, labelled=share)
    told = np.bincount(stream.data.train_y[stream.labels >= 0], minlength=10)
    assert told.tolist() == [max(1, math.floor(EACH * share + 0.5))] * 10
    for experience in stream.experiences:
        assert (stream.labels[experience.index] >= 0).all()
        assert all((stream.labels[rows] == -1).all() for _, rows in experience.unlabelled)
    plain = supervised(2, tasks=family)
    for few, whole in zip(stream.experiences, plain.experiences, strict=True):
        rows = np.concatenate([few.index, *(rows for _, rows in few.unlabelled)])
        assert sorted(rows.tolist()) == sorted(whole.index.tolist()), "nothing is lost"


def test_an_experience_without_any_label_is_refused() -> None:
    with pytest.raises(UserError, match=r"^stream: experience \d+ of 90 has no labelled training sample\.$"):
        supervised(tasks={"by": "instances", "count": 90}, labelled=0.01)


def test_targets_of_samples_without_a_label_are_minus_one() -> None:
    stream = supervised(labelled=0.1)
    for experience in stream.experiences:
        for t, rows in experience.unlabelled:
            assert (stream.targets(stream.labels[rows], t) == -1).all()
        for t, rows in experience.parts:
            assert (stream.targets(stream.labels[rows], t) >= 0).all()


# ------------------------------------------------------------------------------------------------ together
def test_steps_draw_from_generators_of_their_own() -> None:
    """Adding one does not move what another has drawn."""
    noise = {"rate": 0.2}
    alone, both = supervised(4, noise=noise), supervised(4, noise=noise, long_tail={"ratio": 1})
    assert np.array_equal(alone.labels, both.labels)
    tail = supervised(4, long_tail={"ratio": 9})
    more = supervised(4, long_tail={"ratio": 9}, noise=noise)
    assert [v.index.tolist() for v in tail.experiences] == [v.index.tolist() for v in more.experiences]


def test_all_of_it_in_the_order_of_the_keys() -> None:
    """Noise is a share of what is labelled, labels a share of what the tail leaves."""
    stream = supervised(0, long_tail={"ratio": 10, "order": "natural"}, labelled=0.5, noise={"rate": 0.2})
    y = stream.data.train_y
    for c, n in enumerate(sizes(stream)):
        assert n == math.floor(200 * 10 ** (-c / 9) + 1e-6)
        come = np.concatenate([r for v in stream.experiences for _, r in (*v.parts, *v.unlabelled)])
        mine = come[y[come] == c]
        told = mine[stream.labels[mine] >= 0]
        assert len(told) == math.floor(n * 0.5 + 0.5)
        assert (stream.labels[told] != c).sum() == math.floor(len(told) * 0.2 + 0.5)
