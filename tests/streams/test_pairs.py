"""Streams of pairs, such as river's data sets and generators, as data sets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from clbench.errors import UserError
from clbench.streams.datasets import load
from clbench.streams.datasets.pairs import first
from support import make_run, trained, user_module

needs_river = pytest.mark.skipif(importlib.util.find_spec("river") is None, reason="needs river")


class Pairs:
    """Two features, three classes in turn, the second feature the sample's number."""

    n_features, n_samples = 2, 60

    def __init__(self, position: Any = ()) -> None:
        self.position = position

    def __iter__(self) -> Iterator[tuple[dict[str, float], Any]]:
        for n in range(self.n_samples):
            yield {"a": -1.0, "b": float(n)}, ("red", "blue", "green")[n % 3]


def drifting() -> Any:
    return first(Pairs(position=30), 50)


def test_samples_keep_their_order_and_labels_their_names() -> None:
    arrays = first(Pairs(), 45)
    assert arrays.class_names == ("blue", "green", "red")
    train, test = (np.asarray(x) for x in (arrays.train_x, arrays.test_x))
    assert (np.diff(train[:, 1]) > 0).all()
    assert sorted([*train[:, 1], *test[:, 1]]) == list(range(45))
    assert [arrays.class_names[y] for y in arrays.train_y[:3]] == ["red", "blue", "green"]
    assert np.bincount(arrays.test_y).tolist() == [3, 3, 3]


@pytest.mark.parametrize(("position", "sizes"), [((), None), (30, [30, 15]), ((15, 30, 90), [15, 15, 15])])
def test_positions_of_drift_are_the_beginnings_of_tasks(position: Any, sizes: list[int] | None) -> None:
    arrays = first(Pairs(position), 45)
    if sizes is None:
        assert arrays.train_task is None
        return
    tasks = np.concatenate([np.asarray(arrays.train_task), np.asarray(arrays.test_task)])
    assert np.bincount(tasks).tolist() == sizes
    assert int(np.asarray(arrays.train_x)[np.asarray(arrays.train_task) == 1, 1].min()) == sizes[0]


def test_a_run_learns_from_a_function_and_from_a_data_set_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    module = user_module(monkeypatch, Pairs, drifting)
    assert load.load(f"{module}:Pairs").classes == 3
    stream = f"stream={{data: '{module}:drifting', tasks: {{by: given}}, setting: domain, normalise: standard}}"
    components = trained(make_run("naive", "stream.synthetic=null", "stream.tasks={by: given}", stream))
    assert [len(v.index) for v in components.stream.experiences] == [24, 17]


def _pairs(*pairs: Any) -> Any:
    return iter(pairs)


@pytest.mark.parametrize(
    ("stream", "n", "message"),
    [
        (_pairs(({"a": 1}, 0), ({"b": 1}, 0)), 2, r"sample 1 has the features \['b'\], the first \['a'\]"),
        (_pairs(({"a": "x"}, 0)), 1, r"feature 'a' of sample 0 is 'x'. Allowed: finite numbers"),
        (_pairs(({"a": float("nan")}, 0)), 1, "Allowed: finite numbers"),
        (_pairs(({"a": 1}, 0.5)), 1, "the label of sample 0 is 0.5"),
        (_pairs(({"a": 1}, 0), ({"a": 1}, "x")), 2, "some labels are texts"),
        (Pairs(), 61, "ends after 60 samples, before the 61 asked for"),
        (Pairs(0), 50, r"tasks begin at \[0\]"),
    ],
)
def test_mistakes_of_a_stream_are_one_sentence(stream: Any, n: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        first(stream, n)


@needs_river
def test_data_sets_and_generators_of_river() -> None:
    data = load.load("river.datasets:ImageSegments")
    assert (data.classes, data.shape, len(data.train_y) + len(data.test_y)) == (7, (18,), 2310)
    with pytest.raises(UserError, match="has no end"):
        load.load("river.datasets.synth:SEA")
    from river.datasets import synth

    before, after = synth.SEA(seed=1, variant=0), synth.SEA(seed=1, variant=1)
    arrays = first(synth.ConceptDriftStream(before, after, position=200, width=20, seed=1), 400)
    assert np.bincount(np.asarray(arrays.train_task)).sum() + np.bincount(np.asarray(arrays.test_task)).sum() == 400
    assert arrays.class_names == ("False", "True")
