"""Runs that go wrong, data and code that change, and what a run may leave behind in its process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench import resolve
from clbench.errors import UserError
from clbench.reports import leaderboard
from clbench.results import files
from clbench.results.record import Record, collect
from clbench.runner import attempt
from clbench.runner.run import execute
from clbench.strategy import Strategy
from clbench.testing.states import assert_same

TINY = ["training.iterations=2"]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module of the user's own; returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path / "lab"))
    (tmp_path / "lab").mkdir()

    def write(name: str, source: str) -> str:
        (tmp_path / "lab" / f"{name}.py").write_text("from clbench.strategy import Strategy\n" + source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def execute_strategy(strategy: str, out: Path, *overrides: str, **options: Any) -> attempt.Outcome:
    run = resolve.make_run("split_synthetic-v1", strategy=strategy, overrides=[*TINY, *overrides])
    return execute(run, out, **options)


# ------------------------------------------------------------------------------------------------ what changes
def test_changed_data_is_another_result(tmp_path: Path) -> None:
    """The file behind npz:PATH is replaced: the run is repeated, and the leaderboard keeps the two apart."""
    path = tmp_path / "d.npz"
    rows: list[dict[str, Any]] = []
    for seed in range(2):
        x = np.random.default_rng(seed).random((40, 4), np.float32)
        np.savez(path, train_x=x, train_y=np.arange(40) % 4, test_x=x[:8], test_y=np.arange(8) % 4)
        run = resolve.make_run(
            "split_digits-v1",
            strategy="naive",
            overrides=["id=split_mine-v1", f"stream.data=npz:{path}", "stream.tasks.count=2", *TINY],
        )
        outcome = execute(run, tmp_path / "runs")
        assert not outcome.skipped
        rows.append(outcome.record)
        assert execute(run, tmp_path / "runs").skipped
    assert rows[0]["run_id"] == rows[1]["run_id"]
    assert rows[0]["stream"]["data_sha256"] != rows[1]["stream"]["data_sha256"]
    assert len(leaderboard.table(map(Record.of, rows))) == 2


def test_data_that_are_standardised_otherwise_are_not_said_to_be_other_data(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", x=x, y=np.arange(80) % 4)
    tasks = "tasks: {by: classes, count: 2}, setting: class, normalise: standard"
    data = f"stream={{data: 'npz:{tmp_path / 'vectors.npz'}', {tasks}}}"
    settings = [data, "id=vectors-v1", "model={name: linear}", *TINY]
    run = resolve.make_run("split_digits-v1", strategy="naive", overrides=settings)
    outcome = execute(run, tmp_path / "runs")
    files.write_json(
        outcome.directory / "run.json",
        outcome.record | {"stream": outcome.record["stream"] | {"instance_hash": "0" * 64}},
    )
    lines: list[str] = []
    assert not execute(run, tmp_path / "runs", warn=lines.append).skipped
    assert any("on another instance of the stream" in line for line in lines), lines
    assert not any("on other data" in line for line in lines)


def test_defaults_of_ones_own_strategy_are_written_out(lab: Any, tmp_path: Path) -> None:
    name = lab("own_defaults", "from clbench.config import Model\n"
               "class Own(Strategy):\n    class Config(Model):\n        amount: float = 0.5\n")  # fmt: skip
    short = execute_strategy(f"{name}:Own", tmp_path / "out")
    assert short.record["config"]["strategy"] == {"name": f"{name}:Own", "amount": 0.5}
    assert execute_strategy(f"{name}:Own", tmp_path / "out", "strategy.amount=0.5").skipped
    with pytest.raises(UserError) as caught:
        execute_strategy(f"{name}:Own", tmp_path / "out", "strategy.amout=0.5")
    assert str(caught.value) == (
        f"strategy '{name}:Own': strategy.amout: unknown key. Did you mean 'amount'? Allowed: amount."
    )


# ------------------------------------------------------------------------------------------------ what modules do
def test_what_a_module_draws_when_it_is_imported_does_not_reach_the_run(lab: Any, tmp_path: Path) -> None:
    """Imported by this run or by an earlier one, with or without the estimate: the same bytes."""
    source = (
        "import torch\ntorch.manual_seed(0)\n"
        "class Draws(Strategy):\n    def loss(self, batch):\n        return super().loss(batch) * torch.rand(())\n"
    )
    name = lab("draws_at_import", source)
    hashes = []
    for i, say in enumerate((None, lambda text: None, None)):
        if i == 2:
            sys.modules.pop(name)
        hashes.append(execute_strategy(f"{name}:Draws", tmp_path / str(i), say=say).record["weights_sha256"])
    assert len(set(hashes)) == 1


def test_what_a_module_sets_does_not_reach_this_run_or_the_next(lab: Any, tmp_path: Path) -> None:
    plain = execute_strategy("naive", tmp_path / "a").record["weights_sha256"]
    name = lab("sets_dtype", "import torch\ntorch.set_default_dtype(torch.float64)\nclass Same(Strategy):\n    pass\n")
    assert execute_strategy(f"{name}:Same", tmp_path / "b").record["weights_sha256"] == plain
    assert torch.get_default_dtype() == torch.float32
    assert execute_strategy("naive", tmp_path / "c").record["weights_sha256"] == plain


# ------------------------------------------------------------------------------------------------ what goes wrong
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def __init__(self, *a): raise OSError('no luck')", "OSError: no luck"),
        ("def memory(self): raise OSError('no luck')", "OSError: no luck"),
        ("def predict(self, model, x, task): return model(x)[:3]", "ValueError: predict returned the shape (3,"),
        ("def predict(self, model, x, task): return model(x) * float('nan')", "the model's scores became NaN or inf"),
        ("def predict(self, model, x, task): return model(x) + float('inf')", "the model's scores became NaN or inf"),
        ("def predict(self, model, x, task): return model(x.mul_(0.5))", "a prediction changed the test inputs or"),
        (
            "def predict(self, model, x, task):\n        next(model.parameters()).add_(1)\n        return model(x)",
            "a prediction changed the test inputs or the parameters in place",
        ),
    ],
)  # fmt: skip
def test_a_strategy_that_breaks_ends_as_a_failed_run(lab: Any, tmp_path: Path, body: str, message: str) -> None:
    name = lab("breaks", f"class Breaks(Strategy):\n    {body}\n")
    outcome = execute_strategy(f"{name}:Breaks", tmp_path / "out")
    assert outcome.record["status"] == "failed"
    assert outcome.record["failure"]["message"].startswith(message)
    assert files.read_run(outcome.directory) == outcome.record
    frame = leaderboard.table([Record.of(outcome.record)])
    assert frame.loc[0, "failure"].startswith(f"seed 0: {message}")


def test_a_masked_output_is_no_failure(lab: Any, tmp_path: Path) -> None:
    """Outputs of -inf lose every comparison; one of them stands beside finite ones or beside none."""
    lines = ["scores = model(x)", "scores[:, 1:] = -math.inf", "scores[0] = -math.inf", "return scores"]
    body = "\n        ".join(["def predict(self, model, x, task):", *lines])
    name = lab("masks", f"import math\n\nclass Masks(Strategy):\n    {body}\n")
    assert execute_strategy(f"{name}:Masks", tmp_path / "out").record["status"] == "completed"


def test_the_lines_of_the_users_files_are_named(lab: Any, tmp_path: Path) -> None:
    """Without those of the suite and of torch, in the message and in what the command prints."""
    lab("lab_helper", "def halve(x):\n    return x @ x\n")
    body = "from lab_helper import halve\nclass Mine(Strategy):\n    def loss(self, b):\n        return halve(b.x)\n"
    outcome = execute_strategy(f"{lab('lab_lines', body)}:Mine", tmp_path / "out")
    message = outcome.record["failure"]["message"]
    assert message.startswith("RuntimeError: ")
    assert message.endswith(" (lab_lines.py line 5, in loss; lab_helper.py line 3, in halve: return x @ x)")


def test_a_network_that_has_diverged_is_no_result(tmp_path: Path) -> None:
    """The last update makes it so: no later loss could tell."""
    overrides = ["training.iterations=1", "stream.tasks.count=1", "training.optimizer.lr=1e38"]
    outcome = execute_strategy("naive", tmp_path, *overrides)
    assert outcome.record["failure"] == {
        "kind": "nan_scores", "message": "the model's scores became NaN or infinite by iteration 1", "iteration": 1,
    }  # fmt: skip


def test_a_failed_run_keeps_what_was_seen(tmp_path: Path) -> None:
    outcome = execute_strategy("naive", tmp_path, "training.iterations=20", "training.optimizer={name: sgd, lr: 1e30}")
    at = outcome.record["failure"]["iteration"]
    assert outcome.record["failure"]["kind"] in ("nan_loss", "nan_scores")
    chunk = files.read_arrays(outcome.directory / "trace" / "chunk-000000.npz")
    assert chunk["iteration"][0] == 0
    assert chunk["iteration"][-1] <= at
    assert len(chunk["loss"]) == at


def test_a_run_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    import shutil

    first = execute_strategy("naive", tmp_path / "out")
    shutil.copytree(tmp_path / "out" / "split_synthetic-v1", tmp_path / "out" / "copy")
    records, problems = collect(tmp_path / "out")
    assert len(records) == 1
    assert len(problems) == 1
    assert "the same run as" in problems[0]
    assert first.record["run_id"] == records[0].run_id


def test_a_settings_file_does_not_call_whatever_is_importable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="strategy 'os:system': neither a strategy nor a factory of one"):
        execute_strategy("os:system", tmp_path, f"strategy.command='touch {tmp_path / 'pwned'}'")
    assert not (tmp_path / "pwned").exists()


def test_tensors_that_are_plain_attributes_are_seen_by_the_evaluation(tmp_path: Path, lab: Any) -> None:
    source = """
import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.scale = inner, torch.ones(())

    def forward(self, x):
        return self.inner(x) * self.scale


class Own(Strategy):
    def __init__(self, config, setup):
        super().__init__(config, setup)
        self.model = Scaled(self.model)

    def step(self, batch):
        self.model.scale = self.model.scale + 1
        return super().step(batch)

    def predict(self, model, x, task):
        assert model.scale == self.model.scale
        return model(x)
"""
    name = lab("scaled", source)
    assert execute_strategy(f"{name}:Own", tmp_path).record["status"] == "completed"


def test_a_base_strategy_is_naive(tmp_path: Path) -> None:
    assert (
        execute_strategy("clbench.strategy:Strategy", tmp_path / "a").record["weights_sha256"]
        == (execute_strategy("naive", tmp_path / "b").record["weights_sha256"])
    )
    assert Strategy.access == "experience"


def test_a_run_that_fails_while_it_is_built_leaves_no_older_trace(lab: Any, tmp_path: Path) -> None:
    """A finished run is repeated by force with code that no longer builds."""
    name = lab("later", "class Later(Strategy):\n    pass\n")
    first = execute_strategy(f"{name}:Later", tmp_path / "out")
    assert (first.directory / "trace.npz").exists()
    lab("later", "class Later(Strategy):\n    def __init__(self, *a): raise OSError('no luck')\n")
    again = execute_strategy(f"{name}:Later", tmp_path / "out", force=True)
    assert again.directory == first.directory
    assert again.record["failure"]["message"].startswith("OSError: no luck")
    assert {p.name for p in first.directory.iterdir()} == {"run.json", files.SUPERSEDED}
    assert {p.name for p in (first.directory / files.SUPERSEDED / "1").iterdir()} == {
        *("run.json", "trace.npz", "predictions.npz")
    }


def test_scores_that_are_nan_from_the_start_are_said_to_be(lab: Any, tmp_path: Path) -> None:
    name = lab("void", "class Void(Strategy):\n    def predict(self, model, x, task): return model(x) * float('nan')\n")
    assert execute_strategy(f"{name}:Void", tmp_path).record["failure"]["iteration"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [torch.zeros(2)]}, {"a": [-torch.zeros(2)]}),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2), torch.zeros(1, 2)),
        ({"a": 1}, {"b": 1}),
        ([1, 2], [1]),
        ((1,), [1]),
        (np.array([1]), np.array([2])),
    ],
)
def test_what_differs_in_a_bit_is_not_the_same(one: Any, other: Any) -> None:
    assert_same(one, one)
    with pytest.raises(AssertionError):
        assert_same(one, other)
