"""The profile of a run's time: the parts are there, nothing stays patched, and no result changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from clbench import resolve
from clbench.results import files
from clbench.runner.checkpoint import Every
from clbench.runner.profiler import PARTS, Profile
from clbench.runner.run import execute


@pytest.mark.parametrize("strategy", ["er", "avalanche.training.supervised:Naive"])
def test_a_profile_changes_no_result_and_leaves_nothing_behind(strategy: str, tmp_path: Path) -> None:
    run = resolve.make_run("split_synthetic-v1", strategy=strategy, overrides=["training.iterations=10"])
    patched = [(nn.Module, "__call__"), (torch.autograd, "backward"), (torch.autograd, "grad")]
    patched += [(files, "write_arrays"), (files, "write_bytes")]
    before = [getattr(owner, name) for owner, name in patched]
    profile = Profile()
    plain = execute(run, tmp_path / "a", every=Every(0, 7))
    measured = execute(run, tmp_path / "b", every=Every(0, 7), profile=profile)
    assert [getattr(owner, name) for owner, name in patched] == before
    assert measured.record["weights_sha256"] == plain.record["weights_sha256"]
    traces = [(o.directory / "trace.npz").read_bytes() for o in (plain, measured)]
    assert traces[0] == traces[1]
    assert all(profile.seconds[part] > 0 for part in PARTS), profile.seconds
    assert sum(profile.seconds.values()) < measured.record["costs"]["wall_s"] + 1e-3  # rounded there


def test_time_belongs_to_the_innermost_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    profile = Profile()
    profile.enter("strategy")  # 1: unaccounted until here
    profile.enter("forward")  # 3: strategy
    profile.leave()  # 7: forward
    profile.leave()  # 15: strategy again
    assert {p: s for p, s in profile.seconds.items() if s} == {"unaccounted": 1.0, "strategy": 10.0, "forward": 4.0}
    assert "strategy         10.00   66.7%    10000000.0" in profile.table(1)
