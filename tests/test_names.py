"""Names as people type them: what is recorded is what the table says, and no two names of a table are taken for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clbench import registry, resolve
from clbench.cli import main
from clbench.config import avalanche_names, networks, optimizers
from clbench.errors import UserError
from clbench.messages import member_models, tags
from clbench.names import folded, match
from clbench.results import files


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")
    monkeypatch.setenv("CLBENCH_DATA", "data")


def kinds(annotation: Any) -> list[str]:
    return [tag for model in member_models(annotation) for tag in tags(model)]


@pytest.mark.parametrize(
    "table",
    [
        registry.strategies(),
        registry.benchmarks(),
        registry.datasets().DATASETS,
        kinds(networks.Network),
        kinds(optimizers.Optimizer),
        avalanche_names.STRATEGIES,
        {name.rpartition("-v")[0] for name in registry.benchmarks()},
    ],
)
def test_no_two_names_of_a_table_are_alike(table: Any) -> None:
    assert len({folded(name) for name in table}) == len(list(table))
    assert all(match(name.upper().replace("_", "-"), table) == name for name in table)


def test_a_run_is_recorded_under_the_canonical_names() -> None:
    typed = resolve.make_run(
        "split_digits-v1",
        strategy="DER++",
        overrides=["stream.data=Digits", "model={name: MLP, hidden: [5]}", "training.optimizer={name: SGD, lr: 0.2}"],
    )
    plain = resolve.make_run(
        "split_digits-v1",
        strategy="derpp",
        overrides=["stream.data=digits", "model={name: mlp, hidden: [5]}", "training.optimizer={name: sgd, lr: 0.2}"],
    )
    assert typed == plain
    assert typed.run_id == plain.run_id
    assert typed.strategy.name == "derpp"


def test_names_of_a_file_and_of_flags_are_one() -> None:
    """`-o strategy.name=ER` over a file's `er` keeps the file's hyper-parameters: it is the same kind."""
    Path("mine.yaml").write_text("base: split_digits-v1\nstrategy: {name: er, memory: 7}\n")
    assert resolve.make_run("mine.yaml", overrides=["strategy.name=ER"]).strategy.parameters["memory"] == 7
    Path("mine.yaml").write_text("base: split_mnist-v1\nstream: {data: [MNIST, Fashion-MNIST]}\n")
    with pytest.raises(UserError) as caught:
        resolve.resolve("mine.yaml")
    assert "unknown data set" not in str(caught.value)


def test_parts_of_a_composition() -> None:
    composed = [{"name": "ER", "memory": 9}, {"name": "EWC", "strength": 3}]
    run = resolve.make_run("split_digits-v1", overrides=[f"strategy={composed}"])
    assert run.strategy.name == "er+ewc"
    parameters = run.strategy.parameters
    assert (parameters["er"]["memory"], parameters["ewc"]["strength"]) == (9, 3)
    assert resolve.make_run("split_digits-v1", strategy="EWC+DER++").strategy.name == "ewc+derpp"


def test_arrays_of_the_users_own_come_before_a_name_that_is_like_theirs() -> None:
    assert registry.dataset_name("MNIST") == "mnist"
    Path("data").mkdir()
    (Path("data") / "MNIST.npz").touch()
    assert registry.dataset_name("MNIST") == "MNIST"
    (Path("data") / "Plankton.npz").touch()
    assert registry.dataset_name("plankton") == "Plankton"
    for name in ("npz:Mnist.npz", "my_lab.data:MNIST", "nothing"):
        assert registry.dataset_name(name) == name


def test_strategies_of_a_study() -> None:
    from clbench.studies.study import read

    Path("study.yaml").write_text(
        "id: s\nstreams: [split_digits-v1]\nstrategies: [ER, {name: Er-Ace, memory: [5, 9]}]\n"
    )
    study = read(Path("study.yaml"))
    assert study.names == ["er", "er_ace"]
    mapping, combination = study.combinations(1)[1]
    assert study.runs(0, 1, mapping, combination)[0].name == "er_ace (memory 9)"


# ------------------------------------------------------------------------------------------------ benchmarks
def test_the_newest_version_of_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {f"{name}.yaml": "" for name in ()} | {"a-v1": "", "a-v2": "", "a-v10": "", "a_b-v1": ""}
    monkeypatch.setattr(registry, "benchmarks", lambda: table)
    assert [registry.benchmark_id(n) for n in ("a", "A", "a-v2", "A_B", "ab", "a-v3", "")] == [
        "a-v10", "a-v10", "a-v2", "a_b-v1", "a_b-v1", None, None,
    ]  # fmt: skip


def test_the_command_line_takes_a_benchmark_without_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "Split_Digits"]) == 0
    short = capsys.readouterr()
    assert short.err == "Split_Digits: the benchmark split_digits-v1\n"
    assert main(["show", "split_digits-v1"]) == 0
    assert capsys.readouterr() == (short.out, "")
    assert main(["validate", "split_digits"]) == 0
    assert capsys.readouterr() == ("split_digits-v1: ok\n", "split_digits: the benchmark split_digits-v1\n")


def test_a_file_names_its_base_with_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """A file is kept longer than a command, and a newer version would change it."""
    Path("mine.yaml").write_text("base: split_digits\n")
    assert main(["validate", "mine.yaml"]) == 2
    assert "unknown benchmark 'split_digits'. Did you mean 'split_digits-v1'?" in capsys.readouterr().err


def test_shipped_ids_have_a_version() -> None:
    for name in registry.benchmarks():
        stem, _, version = name.rpartition("-v")
        assert stem == stem.lower().replace("-", "_")
        assert version.isdigit()
        assert int(version) >= 1


@pytest.mark.parametrize(
    "name", ["Mine", "my.digits", "a", "2024_digits-final", "con", "trials", "Superseded", "nul.x"]
)
def test_a_file_of_ones_own_may_have_any_name_that_a_folder_can_have(name: str) -> None:
    Path("mine.yaml").write_text(f"base: split_synthetic-v1\nid: {name}\n")
    run = resolve.make_run("mine.yaml", strategy="naive")
    assert run.benchmark.id == name
    assert run.modified
    directory = run.directory(Path("out"))
    folder = directory.parts[1]
    assert folder == (f"_{name}" if name in ("con", "trials", "Superseded", "nul.x") else name)
    directory.mkdir(parents=True)
    (directory / "run.json").touch()
    assert list(files.find_runs(Path("out"))) == [directory]  # and not left out as a trial


# ------------------------------------------------------------------------------------------------ Avalanche
def test_every_name_of_avalanches_has_an_import_path_that_exists() -> None:
    for name in avalanche_names.STRATEGIES:
        path = avalanche_names.import_path(name.lower())
        assert path is not None
        registry.check_strategy_name(path)


def test_show_names_avalanches_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "icarl"]) == 2
    assert capsys.readouterr().err.startswith(
        "unknown name 'icarl'. Avalanche's is avalanche.training.supervised:ICaRL. Allowed: "
    )
    for typed, name in (("ER-ACE", "er_ace\n"), ("CIFAR-10", "cifar10: "), ("MLP", "mlp: "), ("Joint", "joint\n")):
        assert main(["show", typed]) == 0
        assert capsys.readouterr().out.startswith(name)
