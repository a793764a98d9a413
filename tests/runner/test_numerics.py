"""Options that make a run faster: what they change, and what they do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench import resolve
from clbench.config import benchmark, optimizers
from clbench.errors import UserError
from clbench.evaluation.recorder import Recorder
from clbench.runner.numerics import numerics
from clbench.runner.observer import Observation
from clbench.runner.run import execute
from clbench.runner.training_loop import train
from clbench.training.optimizers import optimizer
from support import assembled

OPTIMIZERS: list[Any] = [
    optimizers.Sgd(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
    optimizers.Adam(name="adam", lr=0.01, weight_decay=0.01),
    optimizers.AdamW(name="adamw", lr=0.01, weight_decay=0.1),
    optimizers.Adagrad(name="adagrad", lr=0.1, weight_decay=0.01),
    optimizers.RmsProp(name="rmsprop", lr=0.01, momentum=0.5),
]


def small(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))


def learnt(optimizer: torch.optim.Optimizer, model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        x, y = torch.randn(16, 20, generator=generator), torch.randint(0, 4, (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=lambda s: s.name)
def test_an_optimiser_is_torchs_own_bit_for_bit(settings: Any) -> None:
    one, other = small(), small()
    kind = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adagrad": "Adagrad", "rmsprop": "RMSprop"}[settings.name]
    options = settings.model_dump(exclude={"name"})
    plain = getattr(torch.optim, kind)(other.parameters(), **options, foreach=False)
    assert torch.equal(learnt(optimizer(settings, one.parameters()), one), learnt(plain, other))


@pytest.mark.parametrize("settings", OPTIMIZERS[:4], ids=lambda s: s.name)
def test_a_fused_step_is_the_same_rule(settings: Any) -> None:
    one, other = small(), small()
    fused = optimizer(settings, one.parameters(), fused=True)
    assert fused.defaults["fused"] is True
    a, b = learnt(fused, one), learnt(optimizer(settings, other.parameters()), other)
    # 50 updates of weights of about 1: the rounding of each, 6e-8, added up with some room for the method's memory.
    torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_no_fused_step_where_torch_has_none(tmp_path: Path) -> None:
    overrides = ["training.optimizer={name: rmsprop, lr: 0.01}", "numerics.fused=true"]
    with pytest.raises(UserError) as caught:
        execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=overrides), tmp_path)
    assert str(caught.value) == "numerics.fused: torch has no fused step for 'rmsprop'. Allowed: false."


@pytest.mark.parametrize("amp", [None, "bfloat16"])
def test_amp_is_for_training_alone(amp: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    forward = nn.Linear.forward

    def noted(self: nn.Linear, x: Tensor) -> Tensor:
        out = forward(self, x)
        seen[torch.is_grad_enabled()].add(out.dtype)
        return out

    run = resolve.make_run("split_synthetic-v1", strategy="naive", overrides=["watch.precision=float32"])
    run = run.model_copy(update={"numerics": run.numerics.model_copy(update={"amp": amp})})
    bench = assembled(run)
    monkeypatch.setattr(nn.Linear, "forward", noted)
    train(bench, Observation(bench, Recorder(bench.device), lambda: None))
    assert seen == {True: {torch.bfloat16 if amp else torch.float32}, False: {torch.float32}}
    assert {p.dtype for p in bench.strategy.model.parameters()} == {torch.float32}


def test_each_option_is_another_run_and_is_recorded(tmp_path: Path) -> None:
    options = ([], ["numerics.amp=bfloat16"], ["numerics.fused=true"])
    overrides = ["training.iterations=2", "training.optimizer={name: adam, lr: 0.001}"]
    outcomes = [
        execute(resolve.make_run("split_synthetic-v1", strategy="naive", overrides=[*overrides, *o]), tmp_path)
        for o in options
    ]
    records = [o.record for o in outcomes]
    assert len({r["run_id"] for r in records}) == len({o.directory for o in outcomes}) == 3
    assert [r["config"]["numerics"]["amp"] for r in records] == [None, "bfloat16", None]
    assert [r["config"]["numerics"]["fused"] for r in records] == [False, False, True]
    assert len({r["weights_sha256"] for r in records}) == 3


def test_a_hosted_strategy_refuses_amp(tmp_path: Path) -> None:
    name = "avalanche.training.supervised:Naive"
    run = resolve.make_run("split_synthetic-v1", strategy=name, overrides=["numerics.amp=bfloat16"])
    with pytest.raises(UserError) as caught:
        execute(run, tmp_path)
    assert str(caught.value) == f"numerics.amp: '{name}' has its own training step, in float32. Allowed: null."


def float32_settings() -> list[Any]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    newer = [matmul.fp32_precision, cudnn.conv.fp32_precision] if hasattr(matmul, "fp32_precision") else []
    return [matmul.allow_tf32, cudnn.allow_tf32, torch.get_float32_matmul_precision(), *newer]


@pytest.fixture
def torch_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with a GPU, as far as settings are concerned, whose settings are put back after the test."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = cudnn
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("torch_settings")
@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_a_run_on_a_gpu_puts_back_the_precision_of_float32(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = True
    before = float32_settings()
    with numerics(benchmark.Numerics(device="cuda")):
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    assert float32_settings() == before


@pytest.mark.usefixtures("torch_settings")
def test_a_run_on_a_gpu_puts_back_settings_that_only_torchs_newer_flags_express() -> None:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("torch before 2.9 has no such flags")
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "tf32"  # type: ignore[attr-defined]
    with numerics(benchmark.Numerics(device="cuda")):
        assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
    assert torch.backends.cudnn.rnn.fp32_precision == "tf32"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("torch_settings")
@pytest.mark.parametrize("before", [None, ":16:8"])
def test_a_run_on_a_gpu_puts_back_the_environment(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if before is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    with numerics(benchmark.Numerics(device="cuda")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (before or ":4096:8")
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == before


@pytest.mark.usefixtures("torch_settings")
@pytest.mark.parametrize("warn_only", [False, True])
def test_a_run_puts_back_whether_an_algorithm_that_is_not_deterministic_is_refused(warn_only: bool) -> None:
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    with numerics(benchmark.Numerics(deterministic=False)):
        assert not torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled() is warn_only
