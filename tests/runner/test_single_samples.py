"""Batches of one sample: a run whose network cannot learn from them is refused before training, and only that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clbench.errors import UserError
from clbench.runner.components import assemble
from clbench.runner.single_samples import refuse_single_samples
from clbench.streams.compile import compile_stream
from support import CLASSIFIERS, USER_MODULE, assembled, execute, learned, make_run, user_module

HOSTED = [f"avalanche.training.supervised:{name}" for name in ("Naive", "Cumulative", "LwF", "Replay")]
HYPER = {"LwF": ["strategy.alpha=1.0", "strategy.temperature=2.0"], "Replay": ["strategy.mem_size=20"]}


def normalised(shape: Any, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))


class Frozen(nn.Sequential):
    """Its batch normalisation is always in evaluation mode."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self[2].eval()
        return self


def frozen(shape: Any, outputs: int) -> nn.Module:
    return Frozen(*normalised(shape, outputs))


class Centred(nn.Module):
    """Not one of torch's layers, and it needs two samples."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) < 2:
            raise RuntimeError("one sample has no deviation.\nMore of it.")
        return x - x.mean(0)


def centred(shape: Any, outputs: int) -> nn.Module:
    return nn.Sequential(Centred(), nn.Linear(shape[0], outputs))


def over_space(layer: nn.Module) -> Any:
    def build(shape: Any, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), layer, nn.Flatten(), nn.Linear(4 * 36, outputs))

    return build


def spatial_batch(shape: Any, outputs: int) -> Any:
    return over_space(nn.BatchNorm2d(4))(shape, outputs)


def spatial_instance(shape: Any, outputs: int) -> Any:
    return over_space(nn.InstanceNorm2d(4))(shape, outputs)


def spatial_group(shape: Any, outputs: int) -> Any:
    return over_space(nn.GroupNorm(2, 4))(shape, outputs)


FACTORIES = (normalised, frozen, centred, spatial_batch, spatial_instance, spatial_group)


@pytest.fixture(autouse=True)
def _networks(monkeypatch: pytest.MonkeyPatch) -> None:
    user_module(monkeypatch, *FACTORIES)


def plan(strategy: str, *overrides: str, factory: str = "normalised", training: str = "", **more: Any) -> Any:
    """Two passes over each of two experiences: 52 samples in batches of 17, the last one of one sample."""
    budget = f"training={{iterations: null, epochs: 2, batch_size: 17{training}}}"
    model = f"model={{name: imported, factory: '{USER_MODULE}:{factory}'}}"
    data = [] if more else ["stream.synthetic.train_per_class=26", "stream.synthetic.classes=4"]
    return make_run(strategy, "stream.tasks.count=2", *data, model, budget, "evaluation.every=0", *overrides, **more)


@pytest.mark.parametrize("strategy", [*CLASSIFIERS, "er+ewc", "lwf+si", *HOSTED])
def test_a_run_is_refused_before_training_or_ends(strategy: str, tmp_path: Path) -> None:
    """Never does it break in the middle."""
    hyper = HYPER.get(strategy.partition(":")[2], [])
    run, refused = plan(strategy, *hyper), ""
    try:
        record = execute(run, tmp_path).record
    except UserError as error:
        refused = str(error)
    else:
        assert record["status"] == "completed", record["failure"]
    assert not refused or "is a single sample, which the network cannot learn from under" in refused
    assert not refused or strategy not in ("er", "er+ewc", "chance"), "these replay, or train no network"
    if strategy in ("naive", "lwf", "ewc", HOSTED[0], HOSTED[2]):
        assert refused
        assert execute(plan(strategy, *hyper, training=", drop_last: true"), tmp_path).record["status"] == "completed"


def test_the_sentence_names_experience_batch_and_remedy() -> None:
    with pytest.raises(UserError) as caught:
        refuse_single_samples(assembled(plan("naive")))
    assert re.fullmatch(
        r"training\.batch_size: got 17: experience 1 of 2 has 52 samples, so that its batch 4 is a single sample, "
        r"which the network cannot learn from under 'naive' \(Expected more than 1 value per channel when training, .*"
        r"\)\. Set training\.drop_last: true, or another training\.batch_size\.",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["stream.online=1", "training={epochs: 1, batch_size: 10}"], "stream: experience 1 of "),
        (["training.batch_size=1"], "training.batch_size: got 1: experience 1 of 2 is a single sample"),
    ],
)
def test_pieces_and_batches_of_one_sample(overrides: list[str], start: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_single_samples(assembled(plan("naive", *overrides)))
    assert str(caught.value).startswith(start)
    assert "drop_last" not in str(caught.value), "it would not help"


def test_the_first_such_experience_is_named_wherever_it_is() -> None:
    """Earlier ones are of other sizes."""
    stream = compile_stream(make_run("ewc", benchmark="split_digits-v1").benchmark.stream, 0)
    sizes = [experience.samples for experience in stream.experiences]
    batch = next(b for b in range(2, 400) if sizes[1] % b == 1 and sizes[0] % b != 1)
    model = "model={name: slim_resnet18, filters: 2}"
    training = f"training={{iterations: null, epochs: 1, batch_size: {batch}}}"
    run = make_run("ewc", model, training, benchmark="split_digits-v1")
    with pytest.raises(UserError, match=rf"got {batch}: experience 2 of 5 has {sizes[1]} samples"):
        refuse_single_samples(assembled(run))


@pytest.mark.parametrize("factory", ["frozen", "spatial_batch", "spatial_instance", "spatial_group"])
def test_networks_that_learn_from_one_sample_are_not_refused(factory: str) -> None:
    overrides = ["training={iterations: null, epochs: 1, batch_size: 1}"]
    benchmark = "split_digits-v1" if factory.startswith("spatial") else "split_synthetic-v1"
    refuse_single_samples(assembled(plan("naive", *overrides, factory=factory, benchmark=benchmark)))


def test_a_layer_of_ones_own_that_needs_two_is_met_too() -> None:
    with pytest.raises(UserError, match=r"under 'naive' \(one sample has no deviation\)\. Set "):
        refuse_single_samples(assembled(plan("naive", factory="centred")))


def test_a_batch_that_the_budget_does_not_reach_is_none() -> None:
    refuse_single_samples(assembled(plan("naive", "training.epochs=null", "training.iterations=3")))
    with pytest.raises(UserError):
        refuse_single_samples(assembled(plan("naive", "training.epochs=null", "training.iterations=4")))


def test_components_are_unchanged() -> None:
    run = plan("er")
    looked_at, fresh = (assemble(run, compile_stream(run.benchmark.stream, 0)) for _ in range(2))
    refuse_single_samples(looked_at)
    one, other = learned(looked_at), learned(fresh)
    assert torch.equal(one.pop("torch"), other.pop("torch"))
    assert str(one) == str(other)


def test_a_replayed_sample_alone_is_told_what_it_met(tmp_path: Path) -> None:
    """Sizes of the stream's batches do not tell it: the run fails, with the reason."""
    record = execute(plan("der", "training.batch_size=13", "strategy.replay_batch=1"), tmp_path).record
    assert record["failure"]["message"].startswith("ValueError: Expected more than 1 value per channel when training")
    assert record["failure"]["message"].endswith(
        ": a batch of one sample, perhaps of replayed ones, has no variance for batch normalisation"
    )
