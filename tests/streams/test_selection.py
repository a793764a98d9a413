"""The stream that hyper-parameters are chosen on: nothing of the test part, nothing of what comes later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clbench.errors import UserError
from clbench.resolve import make_run
from clbench.runner.run import execute
from clbench.stream import Stream
from clbench.streams.compile import compile_stream
from clbench.streams.datasets import load
from clbench.testing.streams import check_stream

SELECTED = "stream.selection={experiences: 2, held_out: 0.25}"
EMBEDDED = (
    "split_digits-v1", "permuted_digits-v1", "power_law_digits-v1", "online_digits-v1", "blurry_digits-v1",
    "drift_digits-v1", "few_shot_digits-v1", "long_tail_digits-v1", "iid_digits-v1", "scole_digits-v1",
)  # fmt: skip


def compiled(benchmark: str, *overrides: str, seed: int = 0) -> Stream:
    stream = make_run(benchmark, strategy="naive", overrides=list(overrides)).benchmark.stream
    return compile_stream(stream, seed)


def trained(stream: Stream) -> set[int]:
    return {int(i) for v in stream.experiences for part in (v.parts, v.unlabelled) for _, rows in part for i in rows}


@pytest.mark.parametrize("benchmark", EMBEDDED)
def test_the_first_experiences_and_some_of_their_training_samples(benchmark: str) -> None:
    whole, chosen = compiled(benchmark), compiled(benchmark, SELECTED)
    origins = list(dict.fromkeys(v.origin for v in whole.experiences))[:2]
    early = {int(i) for v in whole.experiences if v.origin in origins for i in v.index}
    assert chosen.held_out is not None
    held = set(chosen.held_out.tolist())
    assert held
    assert not held & trained(chosen)
    assert held | trained(chosen) == early  # nothing is lost, and nothing comes from later
    labels = whole.labels[chosen.held_out]
    for c in np.unique(whole.labels[sorted(early)]):
        total = sum(whole.labels[i] == c for i in early)
        assert (labels == c).sum() == min(max(1, round(0.25 * total)), total - 1)
    assert np.array_equal(chosen.data.test_y, labels)
    assert np.array_equal(np.asarray(chosen.data.test_x), np.asarray(whole.data.train_x)[chosen.held_out])
    assert chosen.outputs == whole.outputs  # the network that it is chosen for
    assert {t for v in chosen.experiences for t in v.tasks} == {t.id for t in chosen.tasks}


@pytest.mark.parametrize("benchmark", ["split_digits-v1", "permuted_digits-v1", "drift_digits-v1", "iid_digits-v1"])
def test_it_is_a_stream_by_all_rules(benchmark: str) -> None:
    check_stream(compiled(benchmark, SELECTED))


def test_tasks_keep_their_order_domains_and_targets() -> None:
    whole = compiled("permuted_digits-v1")
    chosen = compiled("permuted_digits-v1", SELECTED)
    for mine, theirs in zip(chosen.tasks, whole.tasks[:2], strict=True):
        assert mine == theirs


def test_the_seed_draws_what_is_put_aside_and_the_hash_knows() -> None:
    one, same, other = (compiled("split_digits-v1", SELECTED, seed=s) for s in (0, 0, 1))
    assert one.held_out is not None
    assert np.array_equal(one.held_out, same.held_out)
    assert one.instance_hash == same.instance_hash
    assert not np.array_equal(one.held_out, other.held_out)
    more = compiled("split_digits-v1", "stream.selection={experiences: 2, held_out: 0.3}")
    assert len({one.instance_hash, more.instance_hash, compiled("split_digits-v1").instance_hash}) == 3


def test_without_it_definitions_are_what_they_were() -> None:
    plain, null = compiled("split_digits-v1"), compiled("split_digits-v1", "stream.selection=null")
    assert plain.definition_hash == null.definition_hash
    assert plain.instance_hash == null.instance_hash
    assert plain.definition_hash != compiled("split_digits-v1", SELECTED).definition_hash


def test_tasks_that_the_data_says() -> None:
    given = ["stream.tasks={by: given}", "stream.setting=domain", "stream.data=[digits, digits]"]
    chosen = compiled("split_digits-v1", *given, SELECTED)
    assert chosen.held_out is not None
    assert len(chosen.tasks) == 2
    assert sum(len(rows) for of_task in chosen.test_rows for rows in of_task) == len(chosen.held_out)
    one = compiled("split_digits-v1", *given, "stream.selection={experiences: 1}")
    assert one.data.test_task is not None
    assert set(one.data.test_task.tolist()) == {0}


def test_a_wrong_label_is_what_it_is_tested_by() -> None:
    noisy = "stream.supervision={noise: {rate: 0.4}}"
    chosen = compiled("split_digits-v1", noisy, SELECTED)
    assert chosen.held_out is not None
    assert np.array_equal(chosen.data.test_y, chosen.labels[chosen.held_out])
    assert (chosen.data.test_y != chosen.data.train_y[chosen.held_out]).mean() > 0.2


def test_what_has_no_label_is_not_tested_on() -> None:
    chosen = compiled("split_digits-v1", "stream.supervision={labelled: 0.2}", SELECTED)
    assert (chosen.data.test_y >= 0).all()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["stream.selection={experiences: 6}"], "got 6. Allowed: an integer from 1 to 5, the stream's experiences."),
        (["stream.supervision={shots: 1, base: 0}", SELECTED], "task 0 has one labelled sample of each class"),
    ],
)
def test_mistakes(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=r"stream\.selection") as caught:
        compiled("split_digits-v1", *overrides)
    assert sentence in str(caught.value)


def test_a_run_sees_no_test_sample(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(
        "split_digits-v1", strategy="er", overrides=[SELECTED, "training.iterations=5", "evaluation.every=5"], threads=1
    )
    honest = execute(run, tmp_path / "a").record
    real = load.load

    def poisoned(*args: Any, **more: Any) -> Any:
        data = real(*args, **more)
        return replace(data, test_x=np.zeros_like(data.test_x), test_y=np.zeros_like(data.test_y))

    monkeypatch.setattr(load, "load", poisoned)
    blind = execute(run, tmp_path / "b").record
    assert blind["metrics"] == honest["metrics"]
    assert honest["metrics"]["class"]["average_accuracy"]["value"] is not None
    assert honest["modified"]
