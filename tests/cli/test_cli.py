"""The command: exit statuses, what it prints and where, overrides, runs that are there already."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clbench import __version__, registry, resolve
from clbench.cli import main
from clbench.cli import run as run_verb
from clbench.cli.status import BUSY, worst
from clbench.runner.lock import Lock

MINE = """
from clbench.config import Parameters
from clbench.strategy import Strategy

NUMBER = 3


class Mine(Strategy):
    '''Of my own.'''

    class Config(Parameters):
        share: float = 0.1
        '''Of the label.'''


class Other:
    def __init__(self, model, criterion, size=None):
        pass


def make(model, optimizer, alpha=0.1, *, beta):
    pass
"""

QUICK = ("-o", "training.iterations=3", "-o", "evaluation.every=0")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLBENCH_OFFLINE", "1")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """The object that a run prints."""
    found = main(["run", "split_synthetic-v1", "--quiet", "--json", "--threads", "1", *QUICK, *arguments])
    assert found == status
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


# ------------------------------------------------------------------------------------------------ run
def test_a_run_prints_one_line_and_its_progress_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "split_synthetic-v1", "--strategy", "naive", "--threads", "1", *QUICK]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert out.startswith("split_synthetic-v1 naive seed 0: ACC ")
    assert err.startswith("split_synthetic-v1 naive seed 0: about ")
    (directory,) = Path("results").rglob("run.json")
    assert out.rstrip().endswith(str(directory.parent))


def test_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run_json(capsys, "--strategy", "naive")
    record = json.loads((Path(shown["run_dir"]) / "run.json").read_text())
    assert (shown["status"], shown["failure"], shown["skipped"]) == ("completed", None, False)
    assert shown["run_id"] == record["run_id"]
    assert shown["weights_sha256"] == record["weights_sha256"]
    assert 0 <= shown["metrics"]["class"]["average_accuracy"] <= 1
    assert shown["metrics"] == {
        view: {name: metric["value"] for name, metric in metrics.items()} for view, metrics in record["metrics"].items()
    }


def test_overrides_are_saved_and_part_of_the_runs_id(capsys: pytest.CaptureFixture[str]) -> None:
    plain = run_json(capsys, "--strategy", "er")
    shown = run_json(
        capsys, "--strategy", "er", "-o", "strategy.memory=7", "-o", "seeds.order=5", "-o", "model.hidden=[3]",
        "-o", "training.optimizer.momentum=0.9",
    )  # fmt: skip
    record = json.loads((Path(shown["run_dir"]) / "run.json").read_text())
    assert shown["run_id"] != plain["run_id"]
    assert record["modified"] is True
    assert record["config"]["strategy"]["memory"] == 7
    assert record["config"]["seeds"]["order"] == 5
    assert record["config"]["benchmark"]["model"]["hidden"] == [3]
    assert record["config"]["benchmark"]["training"]["optimizer"]["momentum"] == 0.9
    assert record["memory"]["samples"] == 7


def test_a_finished_run_is_not_repeated_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    first = run_json(capsys, "--strategy", "naive")
    path = Path(first["run_dir"]) / "run.json"
    written = path.stat().st_mtime_ns
    again = run_json(capsys, "--strategy", "naive")
    assert again == {**first, "skipped": True}
    assert path.stat().st_mtime_ns == written
    assert run_json(capsys, "--strategy", "naive", "--force") == first
    assert path.stat().st_mtime_ns > written
    assert not run_json(capsys, "--strategy", "naive", "--seed", "1")["skipped"]
    assert main(["run", "split_synthetic-v1", "--strategy", "naive", "--threads", "1", *QUICK]) == 0
    assert "; finished earlier, not repeated; " in capsys.readouterr().out


def test_finished_runs_of_other_code_are_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clbench.results import provenance

    command = ["run", "split_synthetic-v1", "--strategy", "naive", "--seed", "0", "--seed", "1", "--threads", "1"]
    command += [*QUICK, "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(provenance, "code_sha256", lambda user: "0" * 64)
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert out.count("finished earlier, not repeated") == 2
    assert err == "finished runs kept: 2 by other code of clbench; --other-code again does them anew\n"
    assert main([*command, "--other-code", "again"]) == 0
    out, err = capsys.readouterr()
    assert "not repeated" not in out
    assert err.count("finished earlier with other code (clbench changed); it is done again") == 2
    assert len(list(Path("results").rglob("superseded/1/trace.npz"))) == 2


def test_several_strategies_and_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    several = ["--strategy", "naive", "--strategy", "er", "--seed", "1", "--seed", "2", "--threads", "1", "--quiet"]
    assert main(["run", "split_synthetic-v1", *several, *QUICK]) == 0
    out, err = capsys.readouterr()
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        f"split_synthetic-v1 {s} seed {n}" for s in ("naive", "er") for n in (1, 2)
    ]
    assert err == ""


def test_nothing_is_trained_where_one_of_several_is_mistaken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "split_synthetic-v1", "--strategy", "naive", "--strategy", "err", *QUICK]) == 2
    assert not Path("results").exists()
    assert capsys.readouterr().err.startswith("--strategy: strategy.name: unknown strategy 'err'. Did you mean 'er'?")


def test_threads_are_those_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    record = json.loads((Path(run_json(capsys, "--strategy", "naive")["run_dir"]) / "run.json").read_text())
    assert record["config"]["numerics"]["threads"] == 1


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ([], 1),
        (["model.hidden=[30]", "training.batch_size=10"], 1),
        (["model={name: linear}"], 1),
        (["model.hidden=[2000, 2000]"], 7),  # by its hidden layers alone
        (["model.hidden=[20000]"], 7),  # with the inputs
        (["training.batch_size=100000"], 7),
        (["model={name: cnn}"], 7),
    ],
)
def test_a_small_network_has_one_thread_by_default(
    changes: list[str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the configuration, the data and the cores; whatever the load."""
    monkeypatch.setattr("clbench.cli.run.cores", lambda: 7)
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 99.0, 99.0), raising=False)
    benchmark = resolve.make_run("split_digits-v1", strategy="naive", overrides=changes).benchmark
    assert run_verb.threads(benchmark) == threads


# ------------------------------------------------------------------------------------------------ a run that fails
def test_a_failed_run_says_why_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    diverging = ("--strategy", "naive", "-o", "training.optimizer.lr=1e38")
    shown = run_json(capsys, *diverging, status=1)
    assert (shown["status"], shown["metrics"], shown["weights_sha256"]) == ("failed", {}, None)
    assert shown["failure"]["kind"] == "nan_loss"
    iteration = shown["failure"]["iteration"]
    assert 1 <= iteration <= 3
    assert shown["failure"]["message"] == f"the loss became NaN at iteration {iteration}"
    record = json.loads((Path(shown["run_dir"]) / "run.json").read_text())
    assert (record["status"], record["failure"]) == ("failed", shown["failure"])
    assert record["costs"]["iterations"] == iteration

    # It is not taken for finished: the same command tries again.
    assert main(["run", "split_synthetic-v1", "--quiet", "--threads", "1", *QUICK, *diverging]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"split_synthetic-v1 naive seed 0: failed: the loss became NaN at iteration {iteration} "
        f"({shown['run_dir']}/run.json)\n"
    )

    assert main(["leaderboard", "--csv", "board.csv"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "0, 1 failed" in out
    assert f"failed: split_synthetic-v1* naive: seed 0: the loss became NaN at iteration {iteration}\n" in out
    assert f"seed 0: the loss became NaN at iteration {iteration}" in Path("board.csv").read_text()


def test_one_failure_among_several_runs_is_the_status_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seed", "0", "--seed", "1", "--quiet", "--threads", "1", *QUICK]
    diverging = ["-o", "training.optimizer.lr=1e38"]
    assert main(["run", "split_synthetic-v1", "--strategy", "naive", *arguments, *diverging]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_failure_counts_more_than_a_run_left_to_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "split_synthetic-v1", "--quiet", "--threads", "1", *QUICK, "--strategy", "naive"]
    command += ["-o", "training.optimizer.lr=1e38"]
    assert main([*command, "--seed", "0"]) == 1
    (first,) = Path("results").rglob("seed-0")
    capsys.readouterr()
    with Lock(first.with_name("seed-1")):
        assert main([*command, "--seed", "0", "--seed", "1"]) == main([*command, "--seed", "1", "--seed", "0"]) == 1
        assert "is already running it" in capsys.readouterr().err
        assert main([*command, "--seed", "1"]) == BUSY


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [([0, 75, 1, 2], 2), ([75, 1, 0], 1), ([1, 75], 1), ([0, 75], 75), ([0, 0], 0), ([], 0)],
)
def test_of_several_statuses_the_one_to_be_looked_at_first_counts(statuses: list[int], whole: int) -> None:
    assert worst(statuses) == whole


# ------------------------------------------------------------------------------------------------ the other verbs
def test_validate_accepts_everything_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(registry.benchmarks())
    files = [str(registry.benchmark_path(name)) for name in names]
    assert main(["validate", *names, *files]) == 0
    assert capsys.readouterr() == ("".join(f"{name}: ok\n" for name in [*names, *files]), "")


@pytest.mark.parametrize("kind", ["streams", "strategies", "datasets", "models", "metrics"])
def test_list_and_show_know_the_same_names(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert main(["list", kind, "--json"]) == 0
    names = json.loads(capsys.readouterr().out)
    assert names
    assert main(["list", kind]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(names)
    for name, summary in names.items():
        assert summary, f"{name} says what it is"
        assert main(["show", name]) == 0
        out, err = capsys.readouterr()
        assert out
        assert err == ""


def test_benchmarks_are_listed_as_streams(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "streams"]) == main(["list", "benchmarks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]


def test_show_a_strategy_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "er"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("er\n\nExperience replay: ")
    _, _, fields = shown.partition("hyper-parameters (strategy.KEY):\n")
    assert (
        "  memory: an integer >= 1; default null\n"
        "      Samples stored in total; default, without `memory_per_class`, 1000.\n"
    ) in fields
    assert "  new_weight: a number from 0 to 1, or share; default share\n      w of the weighted loss; " in fields
    assert main(["show", "naive"]) == 0
    assert capsys.readouterr().out.partition("(strategy.KEY):\n")[2].startswith("  optimizer: ")


def test_show_a_composition_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "er+ewc"]) == 0
    shown = capsys.readouterr().out
    assert "er\n\nExperience replay: " in shown
    assert "hyper-parameters (strategy.er.KEY):\n  loss: " in shown
    assert "hyper-parameters (strategy.ewc.KEY):\n  strength: " in shown


def test_show_a_model_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "cnn"]) == 0
    assert capsys.readouterr().out.splitlines()[1:5] == [
        "  name: cnn; required",
        "  channels: a list of 1 to 4 integers >= 1; default [16, 32]",
        "  hidden: an integer >= 1; default 128",
        "  weights: text; default null",
    ]


def test_a_summary_is_of_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("models", "strategies"):
        assert main(["list", kind, "--json"]) == 0
        for name, summary in json.loads(capsys.readouterr().out).items():
            assert summary.endswith("."), name
    assert main(["list", "models"]) == 0
    assert capsys.readouterr().out.endswith("with an input's shape and the number of outputs.\n")
    assert main(["show", "imported"]) == 0
    assert "has a feature extractor that can be frozen.\n  name: imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("stream", ["  setting: class, task, domain; required", "      by: rotations, with degrees",
                    "  schedule: keys and values; default {by: sequential}"]),
        ("model", ["  name: mlp, with hidden, dropout, weights, weights_sha256, tensors_sha256, head"]),
        ("strategy", ["  name: text; required", "  optimizer: keys and values; default null"]),
        ("protocol", ["  boundaries: true or false; default true"]),
        ("training", ["  optimizer: keys and values; required",
                      "      name: sgd, with lr, momentum, nesterov, weight_decay"]),
    ],
)  # fmt: skip
def test_show_a_section(capsys: pytest.CaptureFixture[str], section: str, lines: list[str]) -> None:
    assert main(["show", section]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{section}: ")
    assert not set(lines) - set(shown)


def test_show_a_strategy_of_the_users_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("my_methods.py").write_text(MINE)
    assert main(["show", "my_methods:Mine"]) == 0
    assert capsys.readouterr().out.startswith(
        "my_methods:Mine\n\nOf my own.\n\nhyper-parameters (strategy.KEY):\n"
        "  share: a number; default 0.1\n      Of the label.\n  optimizer: "
    )
    assert main(["show", "er+my_methods:Mine"]) == 0
    assert "(strategy.Mine.KEY):\n  share: " in capsys.readouterr().out
    assert main(["show", "my_methods:make"]) == 0
    assert capsys.readouterr().out == (
        "my_methods:make\n\nno clbench Strategy; hyper-parameters (strategy.KEY) are the parameters of the function "
        "that a benchmark does not set:\n  alpha: default 0.1\n  beta: required\n"
    )
    assert main(["show", "my_methods:Other"]) == 0
    assert "are the parameters of its constructor that a benchmark does not set:\n  size: default null\n" in (
        capsys.readouterr().out
    )
    assert main(["show", "my_methods:NUMBER"]) == 2
    assert capsys.readouterr().err == (
        "my_methods:NUMBER: expected a strategy's class or a function that makes one, found 3.\n"
    )
    assert main(["show", "my_methods:Min"]) == 2
    assert capsys.readouterr().err == (
        "'my_methods:Min' does not import: module 'my_methods' has no 'Min'. Did you mean 'Mine'?\n"
    )


def test_what_show_prints_of_a_benchmark_is_that_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "split_mnist_task-v1"]) == 0
    printed = capsys.readouterr().out
    Path("again.yaml").write_text(printed)
    assert main(["show", "again.yaml"]) == 0
    assert capsys.readouterr().out == printed


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, start in (
        (["--version"], f"clbench {__version__}\n"),
        (["--help"], "usage: clbench "),
        ([], "usage: clbench "),
        (["help"], "usage: clbench "),
        (["help", "run"], "usage: clbench run "),
    ):
        with pytest.raises(SystemExit) as leaving:
            main(arguments)
        assert leaving.value.code == 0
        out, err = capsys.readouterr()
        assert out.startswith(start)
        assert err == ""


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m clbench list streams | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
