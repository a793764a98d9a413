"""Factories of networks: called where they take a shape and a number of outputs, refused before the call elsewhere."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from clbench.config.networks import Imported
from clbench.errors import UserError
from clbench.training import factories, models

SHAPE, OUTPUTS = (1, 8, 8), 10


def network(shape: Any, outputs: Any) -> nn.Module:
    assert (shape, outputs) == (SHAPE, OUTPUTS)
    return nn.Identity()


class Network(nn.Identity):
    def __init__(self, shape: tuple[int, ...], outputs: int = 2) -> None:
        super().__init__()
        network(shape, outputs)


class Maker:
    def __call__(self, input_shape: Any, num_classes: Any) -> nn.Module:
        return network(input_shape, num_classes)

    def method(self, a: Any, b: Any, c: Any = None) -> nn.Module:
        return network(a, b)


def by_keyword(*, shape: Any, n_classes: int, width: int = 3) -> nn.Module:
    return network(shape, n_classes)


def swapped(num_classes: int, input_shape: Any) -> nn.Module:
    return network(input_shape, num_classes)


def with_width(width: int, shape: Any, outputs: int) -> nn.Module:
    return network(shape, outputs)


def in_front(width: int = 3, *, shape: Any = None, outputs: int = 5) -> nn.Module:
    return network(shape, outputs)


def defaults(dims: tuple[int, ...] = (1, 2, 2), k: int = 5) -> nn.Module:
    return network(dims, k)


def untold(s: Any, k: Any) -> nn.Module:
    return network(s, k)


def anything(*arguments: Any, **more: Any) -> nn.Module:
    return network(*arguments)


RIGHT = [
    network, Network, Maker(), Maker().method, by_keyword, swapped, in_front, defaults, untold, anything,
    functools.partial(with_width, 3), functools.partial(with_width, width=3), lambda s, k: network(s, k),
    functools.partial(by_keyword, width=7), functools.wraps(network)(anything),
]  # fmt: skip


def built(factory: Any, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    module = ModuleType("lab_factories")
    module.make = factory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lab_factories", module)
    return models.build(Imported(name="imported", factory="lab_factories:make"), SHAPE, OUTPUTS)


@pytest.mark.parametrize("factory", RIGHT)
def test_a_shape_and_a_number_are_passed(factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(built(factory, monkeypatch), nn.Identity)


CALLED: list[Any] = []


def torchvision_like(*, weights: Any = None, progress: bool = True, **more: Any) -> Any:
    CALLED.append(weights)


def older_torchvision(pretrained: bool = False, progress: bool = True, **more: Any) -> Any:
    CALLED.append(pretrained)


def annotated(checkpoints: str, count: int) -> Any:
    CALLED.append(checkpoints)


def one(shape: Any) -> Any:
    CALLED.append(shape)


def three(shape: Any, outputs: Any, width: Any) -> Any:
    CALLED.append(shape)


def keywords(**more: Any) -> Any:
    CALLED.append(more)


def nothing() -> Any:
    CALLED.append(None)


def required(a: Any, b: Any, *, depth: int) -> Any:
    CALLED.append(a)


def outputs_first(outputs: Any, x: Any) -> Any:
    CALLED.append(x)


class Layer(nn.Module):
    def __init__(self, in_features: int, out_features: int) -> None:
        CALLED.append(in_features)


@pytest.mark.parametrize(
    ("factory", "takes", "remedy"),
    [
        (torchvision_like, "(*, weights=None, progress=True, **more)", "num_classes=outputs"),
        (older_torchvision, "(pretrained=False, progress=True, **more)", "num_classes=outputs"),
        (annotated, "(checkpoints, count)", "..."),
        (one, "(shape)", "..."),
        (three, "(shape, outputs, width)", "outputs=outputs"),
        (keywords, "(**more)", "num_classes=outputs"),
        (nothing, "()", "..."),
        (required, "(a, b, *, depth)", "..."),
        (outputs_first, "(outputs, x)", "outputs=outputs"),
        (Layer, "(in_features, out_features)", "out_features=outputs"),
        (nn.Linear, "(in_features, out_features, bias=True, device=None, dtype=None)", "out_features=outputs"),
    ],
)
def test_others_are_refused_and_not_called(
    factory: Any, takes: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        built(factory, monkeypatch)
    assert str(caught.value) == (
        f"model.factory: 'lab_factories:make' takes {takes}, and would be called with the shape of an input and the "
        "number of outputs. Name a function of yours instead:\n    def network(shape, outputs):\n        return "
        f"make({remedy})"
    )
    assert not CALLED


def test_torchvision_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = pytest.importorskip("torchvision.models")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: pytest.fail("a download"))
    for name in ("resnet18", "vit_b_16", "mobilenet_v3_small", "get_model"):
        network = Imported(name="imported", factory=f"torchvision.models:{name}")
        with pytest.raises(UserError, match=rf"^model\.factory: 'torchvision\.models:{name}' takes \("):
            models.build(network, SHAPE, OUTPUTS)
    assert builders is not None


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (3, r"model\.factory: 'lab_factories:make' is int\. Allowed: a function or a class\."),
        (lambda shape, outputs: None, r"model\.factory: 'lab_factories:make' gave NoneType\. Allowed: an nn\.Module\."),
        (
            lambda shape, outputs: 1 / 0,
            r"model\.factory: 'lab_factories:make', called with the shape \(1, 8, 8\) and 10 outputs, failed: "
            r"ZeroDivisionError: division by zero \(test_factories\.py line \d+, in <lambda>: .*1 / 0.*\)\.",
        ),
    ],
)
def test_what_gives_no_network(factory: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(factory, monkeypatch)


# ------------------------------------------------------------------------------------------------ options
def wide(shape: Any, outputs: int, width: int = 3, *, depth: int = 1) -> nn.Module:
    network(shape, outputs)
    return nn.Linear(width, depth)


def test_options_are_passed_by_name() -> None:
    for options, size in (({}, (1, 3)), ({"width": 5}, (1, 5)), ({"depth": 2, "width": 4}, (2, 4))):
        assert factories.call(wide, "a.b:wide", SHAPE, OUTPUTS, options).weight.shape == size
    assert factories.call(with_width, "a.b:with_width", SHAPE, OUTPUTS, {"width": 2}) is not None


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (wide, "unknown argument 'widht'. Did you mean 'width'? Allowed: depth, width."),
        (network, "got 'widht', and 'a.b:c' takes no further arguments."),
    ],
)
def test_options_that_a_factory_does_not_take_are_refused(factory: Any, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        factories.call(factory, "a.b:c", SHAPE, OUTPUTS, {"widht": 5})
    assert str(caught.value) == f"model.options: {sentence}"
