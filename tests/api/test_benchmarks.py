"""Benchmarks in Python: every way to name one, what they show, and the lists of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import clbench
from clbench import registry, resolve
from clbench.metrics import METRICS
from clbench.metrics.field_names import NUMBERS
from clbench.streams.compile import compile_stream

SMALL = {
    "id": "tiny-v1",
    "base": "split_synthetic-v1",
    "training": {"epochs": None, "iterations": np.int64(3)},
    "model": {"name": "mlp", "hidden": (7,)},
}


def test_an_id_a_path_a_mapping_and_a_loaded_one_are_the_same_benchmark(tmp_path: Path) -> None:
    shipped = registry.benchmark_path("split_digits-v1")
    assert shipped is not None
    loaded = clbench.load_benchmark("split_digits-v1")
    (tmp_path / "again.yaml").write_text(loaded.to_yaml())
    ways = [shipped, str(shipped), tmp_path / "again.yaml", loaded, loaded.contents]
    assert [clbench.load_benchmark(way).definition for way in ways] == [loaded.definition] * 5
    assert loaded.definition == resolve.resolve("split_digits-v1", need_strategy=False)[0]


def test_a_mapping_may_have_a_base_and_values_of_python() -> None:
    benchmark = clbench.load_benchmark(SMALL)
    assert (benchmark.id, benchmark.definition.training.iterations) == ("tiny-v1", 3)
    assert benchmark.definition.model.model_dump()["hidden"] == [7]
    assert SMALL["base"] == "split_synthetic-v1", "the mapping itself is not changed"
    assert benchmark.definition.stream == clbench.load_benchmark("split_synthetic-v1").definition.stream


def test_overrides_go_over_sections_and_both_over_the_benchmark() -> None:
    changes = {"training": {"iterations": 7, "batch_size": 3}}
    benchmark = clbench.load_benchmark("split_digits-v1", ["training.iterations=9"], **changes)
    assert (benchmark.definition.training.iterations, benchmark.definition.training.batch_size) == (9, 3)
    again = clbench.load_benchmark(benchmark, training={"batch_size": 4})
    assert (again.definition.training.iterations, again.definition.training.batch_size) == (9, 4)
    assert benchmark.definition.training.batch_size == 3


def test_it_compiles_the_stream_of_a_run() -> None:
    benchmark = clbench.load_benchmark("split_synthetic-v1", seeds={"stream": 3})
    expected = compile_stream(benchmark.definition.stream, 3)
    assert benchmark.compile(seed=1).instance_hash == expected.instance_hash
    assert repr(expected) == "Stream of synthetic: 5 tasks, 5 experiences, 1000 samples, setting class, seed 3"


def test_what_is_hostile_is_escaped() -> None:
    benchmark = clbench.load_benchmark("split_digits-v1", title="<script>\x1b[31m")
    assert "<script>" not in benchmark._repr_html_()
    assert "&lt;script&gt;\\x1b[31m" in benchmark._repr_html_()
    assert repr(benchmark).startswith("Benchmark split_digits-v1: <script>\\x1b[31m\n  stream: digits, ")
    assert "\x1b" not in repr(benchmark)


def test_the_strategy_of_a_file_is_kept() -> None:
    benchmark = clbench.load_benchmark({**SMALL, "strategy": {"name": "er", "memory": 5}})
    assert benchmark.strategy is not None
    assert (benchmark.strategy["name"], benchmark.strategy["memory"]) == ("er", 5)
    assert clbench.load_benchmark({"id": "x-v1", "base": "split_digits-v1"}).strategy is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: clbench.load_benchmark("split_digits-v1", trainng={}),
            "load_benchmark(): trainng: unknown key. Did you mean 'training'? Allowed: id, title, source, stream, "
            "model, training, evaluation, protocol, strategy, seeds, numerics, watch, base.",
        ),
        (
            lambda: clbench.load_benchmark({"base": "split_digits-v1", "model": {"name": "mlp", "hiden": [3]}}),
            "benchmark: model.hiden: unknown key. Did you mean 'hidden'? "
            "Allowed: name, hidden, dropout, weights, weights_sha256, tensors_sha256, head.",
        ),
        (
            lambda: clbench.load_benchmark(3),  # type: ignore[arg-type]
            "benchmark: got 3. Allowed: an id, a path, a mapping, or a loaded benchmark.",
        ),
        (
            lambda: clbench.available("strategy"),
            "available(): unknown kind 'strategy'. Did you mean 'strategies'? "
            "Allowed: benchmarks, datasets, metrics, models, strategies, streams.",
        ),
    ],
)
def test_a_mistake_is_one_sentence(make: object, message: str) -> None:
    with pytest.raises(clbench.UserError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message


def test_the_names_are_those_of_the_tables() -> None:
    assert list(clbench.available("benchmarks")) == sorted(registry.benchmarks())
    assert clbench.available("streams") == clbench.available("benchmarks")
    assert list(clbench.available("strategies")) == sorted(registry.strategies())
    assert list(clbench.available("metrics")) == list(dict.fromkeys([*METRICS, *NUMBERS]))
    models = clbench.available("models")
    assert repr(models).splitlines()[0].split()[0] == next(iter(models))
    assert models._repr_html_().count("<tr>") == len(models) + 1
