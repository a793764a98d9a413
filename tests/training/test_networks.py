"""Residual networks and those of torchvision: against torchvision's own, and published numbers of parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from clbench.config import networks
from clbench.errors import UserError
from clbench.evaluation.twin import is_ordinary
from clbench.training import models
from support import assembled, make_run, unwatched, watched

RESNET18 = networks.ResNet18(name="resnet18", stem="imagenet")


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def of_torchvision(name: str, **more: Any) -> networks.Torchvision:
    return networks.Torchvision(name="torchvision", model=name, **more)


def test_resnet18_for_large_images_is_torchvisions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7)
    torch.save(theirs.state_dict(), path := tmp_path / "w.pth")
    ours = models.build(RESNET18.model_copy(update={"weights": str(path)}), (3, 64, 64), 7)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert size(ours) == size(theirs)
    x = torch.randn(3, 3, 64, 64)
    for _ in range(2):  # in training mode, then with the statistics that it left
        assert torch.equal(ours(x), theirs(x))
        ours.eval(), theirs.eval()


def test_resnet18_for_small_images_is_the_slim_one_at_full_width() -> None:
    ours = models.build(networks.ResNet18(name="resnet18"), (3, 32, 32), 10)
    slim = models.build(networks.SlimResNet18(name="slim_resnet18", filters=64), (3, 32, 32), 10)
    tensors = [t.clone() for t in slim.state_dict().values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(x), slim(x))


def resnet32_by_hand(state: dict[str, Tensor], x: Tensor, last_relu: bool) -> Tensor:
    """He et al. 2016, section 4.2, with option A; batch normalisation by its running statistics."""

    def normalised(x: Tensor, name: str) -> Tensor:
        mean, variance, gain, shift = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * gain + shift

    x = F.relu(normalised(F.conv2d(x, state["conv1.weight"], padding=1), "bn1"))
    for stage in (1, 2, 3):
        for block in range(5):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(
                normalised(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1")
            )
            out = normalised(F.conv2d(out, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                x = x[:, :, ::2, ::2]
                x = torch.cat([x, torch.zeros_like(x)], 1)
            x = out + x
            if last_relu or (stage, block) != (3, 4):
                x = F.relu(x)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("last_relu", [True, False])
def test_resnet32(last_relu: bool) -> None:
    torch.manual_seed(0)
    model = models.build(networks.ResNet32(name="resnet32", last_relu=last_relu), (3, 32, 32), 10)
    x = torch.randn(8, 3, 32, 32)
    model(x)  # statistics
    model.double().eval()
    state = dict(model.state_dict())
    # float64: thousands of sums of numbers of size 1
    torch.testing.assert_close(model(x.double()), resnet32_by_hand(state, x.double(), last_relu), rtol=0, atol=1e-12)
    front, _ = models.split(model)
    assert bool((front(x.double()) < 0).any()) is not last_relu


def test_numbers_of_parameters() -> None:
    """0.46 million for CIFAR-10 (He et al. 2016, table 6), to the last one by their layers."""
    convolutions = 27 * 16 + 9 * (10 * 16**2 + 16 * 32 + 9 * 32**2 + 32 * 64 + 9 * 64**2)
    norms = 2 * (16 + 10 * 16 + 10 * 32 + 10 * 64)
    plain = models.build(networks.ResNet32(name="resnet32"), (3, 32, 32), 10)
    assert size(plain) == convolutions + norms + 64 * 10 + 10 == 464_154
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    convolved = models.build(networks.ResNet32(name="resnet32", shortcut="conv"), (3, 32, 32), 10)
    assert size(convolved) == size(plain) + shortcuts


LARGE = ["resnet50", "densenet121", "vit_b_32", "efficientnet_b0", "convnext_tiny", "swin_t", "googlenet", "alexnet"]


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v3_small", "shufflenet_v2_x0_5", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)],
)
def test_a_classifier_of_torchvision_with_a_file_of_its_weights(name: str, tmp_path: Path) -> None:
    """Features, and answers with its last layer put back, are its own; the file's last layer is left out."""
    torch.manual_seed(1)
    options: dict[str, Any] = {"image_size": 64} if name.startswith("vit") else {}
    if name == "googlenet":
        options = {"aux_logits": False, "init_weights": False}
    theirs = torchvision.models.get_model(name, weights=None, **options).eval()
    torch.save({"model": theirs.state_dict()}, path := tmp_path / "w.pth")
    ours = models.build(of_torchvision(name, weights=str(path)), (3, 64, 64), 10)
    front, head = models.split(ours)
    assert head.out_features == 10
    assert ours.training
    assert all(module.training for module in ours.modules())
    ours.eval()
    last = [module for module in theirs.modules() if isinstance(module, nn.Linear)][-1]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(last(front(x)), theirs(x))
    assert is_ordinary(ours)
    saved = ours.state_dict()
    torch.save(saved, path := tmp_path / "again.pt")
    again = models.build(of_torchvision(name, weights=str(path)), (3, 64, 64), 10).state_dict()
    assert all(torch.equal(again[key], saved[key]) for key in saved)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("resnet05", (3, 64, 64), "model.model: unknown classifier 'resnet05'. Did you mean 'resnet50'? "
         "torchvision.models.list_models(module=torchvision.models) lists them."),
        ("squeezenet1_1", (3, 64, 64), "model.model: 'squeezenet1_1' does not end in one linear layer, so that it has "
         "no features to separate. Allowed: classifiers that do, such as resnet50, or an imported network."),
        ("squeezenet1_1", (3, 4, 4), "model.model: 'squeezenet1_1' does not take images of 3x4x4: RuntimeError: "),
        ("resnet18", (1, 28, 28), "model.model: 'resnet18' does not take images of 1x28x28: RuntimeError: "),
        ("resnet18", (12,), "model.name: 'torchvision' needs images, and the data set holds vectors."),
    ],
)  # fmt: skip
def test_classifiers_that_cannot_be(name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(UserError) as told:
        models.build(of_torchvision(name), shape, 10)
    assert str(told.value).startswith(sentence)
    assert str(told.value).count("\n") == 0


def test_weights_of_another_classifier(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34(num_classes=4).state_dict(), path := tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w.pth has '0.layer1.2.conv1.weight', unknown to the network"):
        models.build(of_torchvision("resnet18", weights=str(path)), (3, 64, 64), 10)


def test_networks_are_told_apart_by_their_options() -> None:
    small = ["resnet32", "resnet32, shortcut: conv", "resnet32, last_relu: false", "resnet18",
             "resnet18, stem: imagenet", "torchvision, model: resnet18", "torchvision, model: resnet34"]  # fmt: skip
    ids = [make_run("naive", f"model={{name: {keys}}}", benchmark="split_cifar10-v1").run_id for keys in small]
    assert len(set(ids)) == len(small)
    default = make_run("naive", "model={name: resnet32, shortcut: zeros}", benchmark="split_cifar10-v1")
    assert default.run_id == ids[0]


@pytest.mark.parametrize("model", ["{name: resnet32, last_relu: false}", "{name: torchvision, model: resnet18}"])
def test_frozen_features_are_computed_once_and_evaluation_changes_nothing(model: str, tmp_path: Path) -> None:
    """With batch normalisation: its statistics are those of training, and of the initial network where it is frozen."""
    draw = np.random.default_rng(0)
    arrays = {f"{part}_x": draw.integers(0, 256, (8, 16, 16, 3), np.uint8) for part in ("train", "test")}
    labels = {f"{part}_y": np.arange(8) % 4 for part in ("train", "test")}
    np.savez(path := tmp_path / "colour.npz", **arrays, **labels)
    options = [f"stream.data=npz:{path}", "stream.tasks.count=2", f"model={model}", "training.batch_size=2"]
    for strategy in ("naive", "linear_probe"):
        run = make_run(strategy, *options, benchmark="split_digits-v1", iterations=2)
        seen, unseen = assembled(run), unwatched(assembled(run))
        watched(seen)
        pairs = zip(*(parts.strategy.model.state_dict().values() for parts in (seen, unseen)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert seen.evaluator._evaluated[0].front.computed == (1 if strategy == "linear_probe" else 0)
