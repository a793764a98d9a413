"""Hashes, merging, overrides, and the words for types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from clbench import messages, registry, resolve, schema
from clbench.config import evaluation, networks
from clbench.config.benchmark import Benchmark, Seeds
from clbench.errors import UserError
from clbench.messages import describe
from clbench.resolve import make_run, merge
from clbench.schema import Model
from clbench.streams import definition
from clbench.streams.tasks.class_blocks import ClassTasks

# .venv/bin/python -c "from clbench.resolve import make_run; print(make_run('ID', strategy='naive').definition_hash)"
# Exact: a hash that changes makes every earlier result another benchmark's. A benchmark that is meant to change is -v2.
GOLDEN = {
    "split_digits-v1": "ae7eed042626fe3a5b8bc929bd1d0e8f35e7fd176f22f51e716db2c0747b435d",
    "split_mnist_task-v1": "6c8a554d8150c5b2831d022f4ede71ab2199420ca7bdf7777b36199f08c380d5",
}


# ------------------------------------------------------------------------------------------------ hashes
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_definition_hashes(name: str) -> None:
    assert make_run(name, strategy="naive").definition_hash == GOLDEN[name]


def _turned(value: Any) -> Any:
    """Every mapping with its keys in the opposite order."""
    if isinstance(value, dict):
        return {key: _turned(value[key]) for key in reversed(value)}
    return [_turned(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(registry.benchmarks()))
def test_order_of_keys_does_not_enter_the_hash(name: str) -> None:
    benchmark, *_ = resolve.resolve(name, need_strategy=False)
    dumped = benchmark.model_dump(mode="json")
    again = Benchmark.model_validate(_turned(dumped))
    assert list(_turned(dumped)) != list(dumped)
    assert schema.content_hash(_turned(dumped)) == schema.content_hash(dumped)
    assert schema.canonical(again.model_dump(mode="json")) == schema.canonical(dumped)


def test_defaults_written_out_or_left_out_are_one_definition() -> None:
    short = make_run("split_digits-v1", strategy="er")
    long = make_run(
        "split_digits-v1",
        strategy="er",
        overrides=["evaluation.scope=seen", "training.optimizer.momentum=0", "strategy.loss=concatenated"],
    )
    assert (long.definition_hash, long.run_id) == (short.definition_hash, short.run_id)


def test_a_grammar_that_grows_leaves_old_hashes_as_they_are() -> None:
    class Grown(evaluation.Evaluation):
        new_key: int = 0

    assert schema.definition(Grown(every=3)) == schema.definition(evaluation.Evaluation(every=3))
    assert schema.definition(Grown(every=3, new_key=1)) != schema.definition(Grown(every=3))


def test_seeds_and_titles_do_not_enter_the_definition_hash() -> None:
    plain = make_run("split_digits-v1", strategy="naive")
    other = make_run(
        "split_digits-v1", strategy="er", seed=3, threads=2, overrides=["title=a", "source=b", "seeds.order=5"]
    )
    assert other.definition_hash == plain.definition_hash
    assert other.run_id != plain.run_id


def test_everything_that_changes_bytes_changes_the_run_id() -> None:
    runs = [
        make_run("split_digits-v1", strategy="er"),
        make_run("split_digits-v1", strategy="er", seed=1),
        make_run("split_digits-v1", strategy="er", threads=2),
        make_run("split_digits-v1", strategy="er", device="cuda"),
        make_run("split_digits-v1", strategy="er", overrides=["strategy.memory=7"]),
        make_run("split_digits-v1", strategy="er", overrides=["seeds.init=0"]),
        make_run("split_digits-v1", strategy="er", overrides=["numerics.amp=bfloat16"]),
        make_run("split_digits-v1", strategy="er", overrides=["numerics.fused=true"]),
        make_run("split_digits-v1", strategy="er", overrides=["training.batch_size=64"]),
        make_run("split_digits-v1", strategy="er", overrides=["id=split_digits-v2"]),
        make_run("split_digits-v1", strategy="naive"),
        make_run("split_synthetic-v1", strategy="er"),
    ]
    assert len({run.run_id for run in runs}) == len(runs)
    # Runs that differ in the seed alone are one row of a leaderboard.
    assert len({run.config_hash for run in runs}) == len(runs) - 1
    assert runs[0].config_hash == runs[1].config_hash


def test_a_run_of_shipped_settings_is_told_from_a_modified_one(tmp_path: Path) -> None:
    assert not make_run("split_digits-v1", strategy="er", seed=4, overrides=["strategy.memory=7"]).modified
    assert not make_run("split_digits-v1", strategy="er", overrides=["title=mine"]).modified
    assert make_run("split_digits-v1", strategy="er", overrides=["training.batch_size=64"]).modified
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: split_digits-v1\nid: mine-v1\n")
    assert make_run(str(mine), strategy="er").modified
    mine.write_text("base: split_digits-v1\n")
    assert not make_run(str(mine), strategy="er").modified


@given(st.dictionaries(st.text("abc", max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False)))
def test_content_hash_depends_on_content_alone(value: dict[str, Any]) -> None:
    assert schema.content_hash(_turned(value)) == schema.content_hash(value)
    assert schema.content_hash({**value, "another key": 1}) != schema.content_hash(value)


def test_numbers_that_are_none_are_not_hashed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        schema.canonical(float("nan"))


# ------------------------------------------------------------------------------------------------ merging
_TREES = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "c", "name"]), inner, max_size=3),
    max_leaves=8,
)
_MAPPINGS = st.dictionaries(st.sampled_from(["a", "b", "c", "name"]), _TREES, max_size=4)


def _kinds(tree: Any) -> Any:
    """A tree without its kinds: where no kind differs, merging is plain."""
    return {k: _kinds(v) for k, v in tree.items() if k != "name"} if isinstance(tree, dict) else tree


@given(_MAPPINGS)
def test_merging_with_nothing_or_oneself_changes_nothing(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == merge({}, tree) == merge(tree, tree) == tree


@given(_MAPPINGS, _MAPPINGS)
def test_the_upper_mapping_wins_and_nothing_else_is_lost(below: dict[str, Any], above: dict[str, Any]) -> None:
    below, above = _kinds(below), _kinds(above)
    merged = merge(below, above)
    assert merge(merged, above) == merged
    assert set(merged) == {*below, *above}
    for key, value in merged.items():
        if key not in above:
            assert value == below[key]
        elif not isinstance(above[key], dict):
            assert value == above[key]


@given(_MAPPINGS, _MAPPINGS, _MAPPINGS)
def test_merging_does_not_change_its_arguments(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    before = schema.canonical([a, b, c])
    merge(merge(a, b), c)
    merge(a, merge(b, c))
    assert schema.canonical([a, b, c]) == before


def test_another_kind_stands_alone() -> None:
    assert merge({"o": {"name": "sgd", "lr": 1, "momentum": 1}}, {"o": {"name": "adam"}}) == {"o": {"name": "adam"}}
    assert merge({"o": {"name": "sgd", "lr": 1}}, {"o": {"name": "sgd", "x": 2}})["o"] == {
        "name": "sgd", "lr": 1, "x": 2,
    }  # fmt: skip
    assert merge({"by": "classes", "count": 2}, {"by": "rotations"}) == {"by": "rotations"}


def test_base_is_changed_by_the_file_and_the_file_by_flags(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: split_digits-v1\nid: mine-v1\ntraining: {batch_size: 16}\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nevaluation: {every: 5}\n")
    run = make_run(str(tmp_path / "b.yaml"), strategy="naive", overrides=["training.iterations=7"])
    bench = run.benchmark
    assert (bench.id, bench.training.batch_size, bench.evaluation.every) == ("mine-v1", 16, 5)
    assert (bench.training.iterations, bench.stream.data) == (7, "digits")


# ------------------------------------------------------------------------------------------------ overrides
def test_flags_reach_every_part() -> None:
    run = make_run(
        "split_digits-v1",
        strategy="er",
        overrides=[
            "training.optimizer.lr=1e-3", "model.hidden=[5, 6]", "strategy.memory=7", "seeds.order=8",
            "training.iterations=null", "training.epochs=2", "stream.tasks={count: null, blocks: [[0, 1], [2]]}",
        ],
    )  # fmt: skip
    assert run.benchmark.training.optimizer.lr == 0.001
    assert isinstance(run.benchmark.model, networks.Mlp)
    assert run.benchmark.model.hidden == [5, 6]
    assert run.strategy.parameters["memory"] == 7
    assert run.seeds.order == 8
    assert (run.benchmark.training.epochs, run.benchmark.training.iterations) == (2, None)
    assert isinstance(run.benchmark.stream.tasks, ClassTasks)
    assert run.benchmark.stream.tasks.blocks == [[0, 1], [2]]


def test_order_of_flags_loses_none_of_them() -> None:
    flags = ["training.optimizer.lr=0.5", "training.optimizer.name=adam"]
    for overrides in (flags, flags[::-1]):
        optimizer = make_run("split_digits-v1", strategy="naive", overrides=overrides).benchmark.training.optimizer
        assert (optimizer.name, optimizer.lr) == ("adam", 0.5)
    last = make_run("split_digits-v1", strategy="naive", overrides=["training.batch_size=3", "training.batch_size=4"])
    assert last.benchmark.training.batch_size == 4


def test_a_bare_name_is_a_strategy(tmp_path: Path) -> None:
    runs = []
    for i, strategy in enumerate(("ewc", "{name: ewc}", "er+ewc", "[er, ewc]")):
        file = tmp_path / f"{i}.yaml"
        file.write_text(f"base: split_digits-v1\nid: mine-v1\nstrategy: {strategy}\n")
        runs.append(resolve.make_run(str(file)))
    assert runs[0].run_id == runs[1].run_id != runs[2].run_id == runs[3].run_id
    assert resolve.make_run(str(file), overrides=["strategy=ewc"]).run_id == runs[0].run_id


def test_strategy_flag_goes_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: split_digits-v1\nstrategy: {name: er, memory: 5}\n")
    assert make_run(str(path)).strategy.parameters["memory"] == 5
    assert make_run(str(path), strategy="er").strategy.parameters["memory"] == 5
    assert make_run(str(path), strategy="naive").strategy.model_dump() == {"name": "naive"}


@pytest.mark.parametrize("name", sorted(registry.benchmarks()))
def test_every_shipped_benchmark_is_sound_and_says_what_it_is(name: str) -> None:
    benchmark, strategy, seeds, *_ = resolve.resolve(name, need_strategy=False)
    assert benchmark.id == name
    assert benchmark.title
    assert benchmark.source
    assert (strategy, seeds) == (None, Seeds())


def test_a_run_cannot_be_made_from_a_negative_seed() -> None:
    with pytest.raises(pydantic.ValidationError, match="seed"):
        make_run("split_digits-v1", strategy="naive", seed=-1)


# ------------------------------------------------------------------------------------------------ words
@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (float | None, "a number"),
        (Annotated[int, Field(ge=1)] | None, "an integer >= 1"),
        (Annotated[float, Field(gt=0, lt=1)], "a number > 0 and < 1"),
        (Annotated[float, Field(ge=-360, le=360)], "a number from -360 to 360"),
        (Annotated[int | None, Field(ge=2)], "an integer >= 2"),
        (bool, "true or false"),
        (str, "text"),
        (Literal["a", "b"], "a, b"),
        (Literal["a"] | float, "a, or a number"),
        (list[int], "a list of integers"),
        (Annotated[list[str], Field(min_length=2)], "a list of at least 2 texts"),
        (Annotated[list[float], Field(max_length=3)], "a list of 0 to 3 numbers"),
        (list[Annotated[list[int], Field(min_length=1)]], "a list of lists of one or more integers"),
        (networks.Mlp, "keys and values"),
        (networks.Network, "keys and values"),
        (list[networks.Mlp], "a list of mappings"),
        (dict[str, int], "keys and values"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_check_section_of_another_program() -> None:
    """A strategy's model may hold what our own do not."""

    class Part(Model):
        size: Annotated[int, Field(ge=1)] = 1

    class Whole(Model):
        parts: Annotated[list[Part], Field(min_length=1)]
        part: Part | Literal["none"] = "none"

    good, none = messages.check_section("here", "strategy", Whole, {"parts": [{"size": 2}]}, [])
    assert (good, none) == (Whole(parts=[Part(size=2)]), [])
    _, problems = messages.check_section("here", "strategy", Whole, {"parts": [{}, {"size": 0}, {"siz": 1}]}, [])
    assert problems == [
        "here: strategy.parts[1].size: got 0. Allowed: an integer >= 1.",
        "here: strategy.parts[2].siz: unknown key. Did you mean 'size'? Allowed: size.",
    ]
    _, problems = messages.check_section("here", "strategy", Whole, {"parts": [{}], "part": 3}, [])
    assert problems == ["here: strategy.part: got 3. Allowed: keys and values, or none."]
    _, problems = messages.check_section("here", "strategy", Whole, {"parts": [{}], "part": {"size": 0}}, [])
    assert problems == ["here: strategy.part.size: got 0. Allowed: an integer >= 1."]


def test_a_huge_value_is_told_in_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    lists = "".join(f"  x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 30))
    path.write_text(f"base: split_digits-v1\nmodel:\n  x0: &x0 [1]\n{lists}  hidden: *x29\n")
    with pytest.raises(UserError) as caught:
        resolve.resolve(str(path), need_strategy=False)
    assert max(map(len, caught.value.problems)) < 300


def test_a_stream_follows_the_runs_seed_unless_it_has_one_of_its_own() -> None:
    run = make_run("split_digits-v1", strategy="naive", seed=7)
    assert run.stream_seed == 7
    assert make_run("split_digits-v1", strategy="naive", seed=7, overrides=["seeds.stream=0"]).stream_seed == 0
    assert run.model_copy(update={"seed": 8}).stream_seed == 8


@pytest.mark.parametrize(
    ("data", "name"), [("digits", "digits"), (["mnist", "fashion_mnist"], "mnist + fashion_mnist")]
)
def test_a_stream_names_its_data(data: str | list[str], name: str) -> None:
    stream = definition.StreamConfig.model_validate({"data": data, "tasks": {"by": "given"}, "setting": "domain"})
    assert stream.data_name == name
    assert "data_name" not in stream.model_dump()
