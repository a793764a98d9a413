"""Low-rank adapters in the linear layers of a network, by the package peft.

    h = W x + b + sum_k (alpha / r) B_k A_k x     over the active adapters k, A_k (r, in), B_k (out, r)

A is drawn as peft and the authors' code draw it, uniformly in +-1/sqrt(in); B is 0, so that a new adapter changes no
prediction. The numbers come from the strategy's generator: peft draws from torch's global one, which is fenced.

Reference: Hu et al. 2022 (ICLR, arXiv 2106.09685).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from clbench.errors import UserError, hint
from clbench.lazy import torch
from clbench.rng import Generator, fenced

if TYPE_CHECKING:
    from torch import Tensor, nn

ATTENTION = ("qkv", "q", "k", "v", "out", "proj", "query", "key", "value", "dense", "c_attn", "c_proj",
             "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "q_lin", "k_lin", "v_lin", "out_lin")  # fmt: skip
"""Last parts of the names that implementations give to the linear layers of attention."""

_PROJECTIONS = ("qkv", "q", "query", "q_proj", "q_lin", "c_attn")
"""Those that only attention has: a block without one has none, whatever `out` or `dense` is there."""


def linear_layers(model: nn.Module, strategy: str, needed: int = 1) -> tuple[dict[str, nn.Linear], str]:
    """The linear layers by name, without the last one, the head; and the head's name.

    Layers within an `nn.MultiheadAttention` are left out: it reads their weights and never calls them, so that an
    adapter there would change nothing.

    Args:
        model: the network.
        strategy: name of the method, for the message.
        needed: layers before the head, 0 or 1.

    Raises:
        UserError: a network with fewer.
    """
    inner = {
        f"{name}.{part}"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.MultiheadAttention)
        for part, _ in module.named_modules()
        if part
    }
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in inner
    }
    if len(layers) <= needed:
        before = " with a linear layer before the last one, the head" if needed else " that ends in a linear layer"
        raise UserError(f"model: '{strategy}' needs a network{before}.")
    head = list(layers)[-1]
    return {name: layer for name, layer in layers.items() if name != head}, head


def freeze_all_but(model: nn.Module, head: str) -> None:
    """Disables gradients and sets evaluation mode in a network, but for its last layer."""
    model.requires_grad_(False).eval()
    model.get_submodule(head).requires_grad_(True).train()


def attention_layers(names: Collection[str]) -> list[str]:
    """Those of attention, by their names; all where none is.

    >>> attention_layers(["0.blocks.0.qkv", "0.blocks.0.out", "0.blocks.0.fc1"]), attention_layers(["1", "3"])
    (['0.blocks.0.qkv', '0.blocks.0.out'], ['1', '3'])
    """
    blocks = {_block(name) for name in names if name.rpartition(".")[2] in _PROJECTIONS}
    chosen = [name for name in names if name.rpartition(".")[2] in ATTENTION and _block(name) in blocks]
    # BERT's output of attention stands beside the projections' block: attention.self.query, attention.output.dense.
    chosen += [name for name in names if name not in chosen and ".attention." in name]
    return [name for name in names if name in chosen] or list(names)


def _block(name: str) -> str:
    return name.rpartition(".")[0]


def chosen_layers(names: Sequence[str], targets: Sequence[str] | None) -> list[str]:
    """Layers by their names or by the ends of these; by default those of attention.

    Args:
        names: of the layers there are, in the network's order.
        targets: names, or ends of names: `qkv` is every layer with a name that ends in `.qkv`.

    Raises:
        UserError: one that is not there.

    >>> chosen_layers(["0.a.qkv", "0.b.qkv", "0.b.out"], ["qkv"])
    ['0.a.qkv', '0.b.qkv']
    """
    if targets is None:
        return attention_layers(names)
    chosen = set[str]()
    for target in targets:
        matching = {name for name in names if name == target or name.endswith(f".{target}")}
        if not matching:
            ends = dict.fromkeys(name.rpartition(".")[2] for name in names)
            allowed = ", ".join(ends if len(ends) < len(names) else names)
            raise UserError(
                f"strategy.layers: the network has no linear layer '{target}' before its head."
                f"{hint(target, [*ends, *names])} Allowed: {allowed}."
            )
        chosen |= matching
    return [name for name in names if name in chosen]


@functools.cache
def peft() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        with fenced():  # whatever it and what it imports draw
            import peft
            import peft.tuners.lora
    except ImportError as error:
        missing = "" if error.name in (None, "peft") else f" ({error.name} is missing)"
        raise UserError(f"strategy: adapters need the package peft: pip install 'clbench[adapters]'{missing}") from None
    return peft


class Adapters:
    """Adapters of some layers of a network, each under a name. The network is changed in place: its layers become
    peft's, with the old ones in them.

    Args:
        model: the network.
        layers: names of the linear layers.
        rank: r.
        alpha: the factor alpha / r of an adapter's output.
        dropout: probability by which an input of A is left out in training.
        generator: of the numbers of A.

    Attributes:
        names: of the adapters so far, in their order.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[str], rank: int, alpha: float, dropout: float, generator: Generator
    ) -> None:
        self.names: list[str] = []
        self._peft = peft()
        self._model, self._layers, self._generator = model, list(layers), generator
        self._rank, self._alpha, self._dropout = rank, alpha, dropout

    def add(self, name: str) -> None:
        """A new adapter in every layer; it learns from `train` on, and takes part from `activate` on.

        The adapted layers are in evaluation mode, but for the dropout of their adapters.
        """
        learning = {id(p): p.requires_grad for p in self._model.parameters()}
        config = self._peft.LoraConfig(
            r=self._rank,
            lora_alpha=self._alpha,
            lora_dropout=self._dropout,
            target_modules="|".join(re.escape(layer) for layer in self._layers),  # matches whole names
        )
        cuda = next(self._model.parameters()).device.type == "cuda"
        with fenced(cuda):
            self._peft.inject_adapter_in_model(config, self._model, name)
        del self._model.peft_config  # of no use here, and the next adapter would be warned of it
        for p in self._model.parameters():
            p.requires_grad_(learning.get(id(p), False))
        for layer in self._modules():
            layer.eval()
            layer.lora_dropout.train()
        self.names.append(name)
        self.draw(name)

    def draw(self, name: str) -> None:
        """Sets an adapter to a new one: A drawn, B 0."""
        with torch.no_grad():
            for a, b, _ in self._matrices(name):
                uniform = self._generator.uniform(a.numel()).reshape(a.shape)
                a.copy_(torch.from_numpy((2 * uniform - 1) / a.shape[1] ** 0.5))
                b.zero_()

    def merge(self, name: str) -> None:
        """Adds an adapter's product to the weights of its layers and sets it to a new one: no prediction changes but by
        rounding."""
        with torch.no_grad():
            for layer in self._modules():
                layer.get_base_layer().weight += layer.get_delta_weight(name)
        self.draw(name)

    def train(self, *names: str) -> None:
        """Makes some adapters learn, and no other."""
        for each in self.names:
            for p in self.parameters(each):
                p.requires_grad_(each in names)

    def parameters(self, name: str) -> Iterator[nn.Parameter]:
        """The parameters of an adapter, A and B of each layer."""
        for a, b, _ in self._matrices(name):
            yield from (a, b)

    def inputs(self, name: str) -> Iterator[Tensor]:
        """A of each layer, (r, in)."""
        for a, _, _ in self._matrices(name):
            yield a

    @property
    def nbytes(self) -> int:
        """Bytes of all adapters."""
        return sum(p.nbytes for name in self.names for p in self.parameters(name))

    def _modules(self) -> Iterator[Any]:
        return adapted(self._model)

    def _matrices(self, name: str) -> Iterator[tuple[nn.Parameter, nn.Parameter, Any]]:
        for layer in self._modules():
            yield layer.lora_A[name].weight, layer.lora_B[name].weight, layer


def adapted(model: nn.Module) -> Iterator[Any]:
    """The layers of a network that have adapters."""
    kind = peft().tuners.lora.LoraLayer
    return (module for module in model.modules() if isinstance(module, kind))


def activate(model: nn.Module, names: Sequence[str]) -> None:
    """Makes some adapters take part in the forward passes of a network, or of a copy, and no other.

    peft's `set_adapter` would also change which parameters learn, and a twin for evaluation shares these.
    """
    for layer in adapted(model):
        layer._active_adapter = list(names)
