"""The class orders of the literature by name: `order: seed-1993`."""

from __future__ import annotations

import numpy as np
import pytest

from clbench import resolve
from clbench.errors import UserError
from clbench.streams.compile import compile_stream
from clbench.streams.definition import StreamConfig
from clbench.streams.tasks.class_blocks import legacy_order

OF_10 = [4, 2, 7, 6, 0, 3, 5, 8, 9, 1]
OF_100 = [
    68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38, 58, 70, 77, 1, 85, 19, 17, 50, 28, 53,
    13, 81, 45, 82, 6, 59, 83, 16, 15, 44, 91, 41, 72, 60, 79, 52, 20, 10, 31, 54, 37, 95, 14, 71, 96, 98, 97, 2, 64,
    66, 42, 22, 35, 86, 24, 34, 87, 21, 99, 0, 88, 27, 18, 94, 11, 12, 47, 25, 30, 46, 62, 69, 36, 61, 7, 63, 75, 5, 32,
    4, 51, 48, 73, 93, 39, 67, 29, 49, 57, 33,
]  # fmt: skip
"""As cifar100_b50_t10-v1 lists it, after the code of PASS."""


def stream(classes: int, **tasks: object) -> StreamConfig:
    synthetic = {"classes": classes, "features": 2, "train_per_class": 2, "test_per_class": 1}
    return StreamConfig(data="synthetic", synthetic=synthetic, tasks={"by": "classes", **tasks}, setting="class")


def blocks(config: StreamConfig, seed: int = 0) -> list[list[int]]:
    return [list(task.classes) for task in compile_stream(config, seed).tasks]


@pytest.mark.parametrize(("classes", "golden"), [(10, OF_10), (100, OF_100)])
def test_the_order_of_1993(classes: int, golden: list[int]) -> None:
    assert legacy_order(1993, classes) == golden
    for seed in (0, 7):
        assert [c for block in blocks(stream(classes, count=5, order="seed-1993"), seed) for c in block] == golden


def test_it_is_what_the_code_of_the_literature_draws() -> None:
    for seed in (0, 1993, 2**32 - 1):
        before = np.random.get_state()[1].copy()
        order = legacy_order(seed, 37)
        assert np.array_equal(np.random.get_state()[1], before)
        np.random.seed(seed)
        assert np.random.permutation(37).tolist() == order  # PyCIL, PILOT
        np.random.seed(seed)
        shuffled = np.arange(37)
        np.random.shuffle(shuffled)  # iCaRL
        assert shuffled.tolist() == order


def test_the_shipped_benchmark_has_it() -> None:
    benchmark, *_ = resolve.resolve("cifar100_b50_t10-v1", need_strategy=False)
    assert benchmark.stream.tasks.order == OF_100  # listed, so that its id stays what it is


def test_a_larger_first_task_takes_the_first_classes() -> None:
    listed = blocks(stream(100, count=11, first=50, order=OF_100))
    assert blocks(stream(100, count=11, first=50, order="seed-1993")) == listed
    assert listed[0] == OF_100[:50]
    assert [len(block) for block in listed] == [50] + 10 * [5]


@pytest.mark.parametrize(
    ("order", "sentence"),
    [
        ("seed-4294967296", "stream.tasks.order: got 'seed-4294967296'. Allowed: seed-0 to seed-4294967295."),
        ("seed1993", "stream.tasks.order: got 'seed1993'. Did you mean 'seed'? "
         "Allowed: seed, natural, or seed-N such as seed-1993, or a list of integers >= 0."),
    ],
)  # fmt: skip
def test_orders_that_cannot_be(order: str, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        resolve.make_run("split_digits-v1", strategy="naive", overrides=[f"stream.tasks.order={order}"])
    assert str(told.value).endswith(sentence)
