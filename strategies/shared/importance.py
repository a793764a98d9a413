"""Shared by regularisation methods: a quadratic penalty, and sums over per-sample gradients.

Weights, anchors and importances are lists of tensors in the order of `model.parameters()`. Buffers, such as the
statistics of batch normalisation, are not anchored.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clbench.errors import UserError
from clbench.lazy import F, torch
from clbench.rng import fenced
from clbench.strategy import Experience, Knowledge, Memory, Setup, Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

    Vectors = Callable[[Tensor], Iterable[Tensor]]

_CHUNK = 1 << 25
"""Largest size of per-sample gradients, in numbers (128 MiB)."""


class Anchored(Strategy):
    """Anchors the weights by a quadratic penalty; subclasses define anchor and importance.

    Attributes:
        factor: of the quadratic penalty.
        anchor, importance: empty until there are some; without importance there is no penalty.
        together: see `sum_over_samples`; None until it is tried.
    """

    transient = ("together",)

    factor: float

    @classmethod
    def needs(cls, config: Any) -> frozenset[Knowledge]:
        """Boundaries: at the end of an experience importance is estimated and the anchor set."""
        return frozenset({"boundaries"})

    def __init__(self, config: Any, setup: Setup) -> None:
        super().__init__(config, setup)
        self.anchor: list[Tensor] = []
        self.importance: list[Tensor] = []
        self.together: bool | None = None

    def penalty(self) -> Tensor | None:
        if not self.importance:
            return None
        return self.factor * quadratic_penalty(list(self.model.parameters()), self.anchor, self.importance)

    def memory(self) -> Memory:
        held = super().memory()
        return Memory(held.samples, (held.bytes or 0) + sum(t.nbytes for t in (*self.anchor, *self.importance)))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "anchor": self.anchor, "importance": self.importance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.anchor, self.importance = state["anchor"], state["importance"]

    def try_single_samples(self, experience: Experience, remedy: str) -> None:
        """Decides before the first update how per-sample gradients are computed, by two samples of the experience.

        Args:
            experience: the first one.
            remedy: for a network that cannot be differentiated at single samples, a sentence.

        Raises:
            UserError: it cannot.
        """
        if self.together is not None:
            return
        index, task = (torch.from_numpy(v[:2]).to(self.setup.device) for v in (experience.index, experience.task))
        x, _ = self.setup.samples.fetch(index, task, plain=True)
        try:
            self.together = vectorises(self.model, x)
        except Exception as error:  # of any network
            name = type(self).__name__
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0].rstrip('.') if str(error) else ''}"
            raise UserError(
                f"model: {name} needs gradients at single samples, which the network does not give ({reason}). {remedy}"
            ) from error

    def weights(self) -> list[Tensor]:
        """A copy of the current weights."""
        return [p.detach().clone() for p in self.model.parameters()]

    def drawn(self, experience: Experience, samples: int | None) -> Experience:
        """The experience with a random subset of its samples; all of them if there are not more, or for None."""
        if samples is None or samples >= len(experience.index):
            return experience
        positions = self.setup.generator.sample(len(experience.index), samples)
        return replace(experience, index=experience.index[positions], task=experience.task[positions])

    def batches(self, experience: Experience) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """`plain_batches`, smaller where convolutions need per-sample gradients in memory."""
        convolves = any(isinstance(m, torch.nn.Conv2d) for m in self.model.modules())
        return self.plain_batches(experience, 100 if convolves else 1000)

    def active(self, experience: Experience, task: Tensor) -> Tensor:
        """Mask of the active logits, bool (N, outputs).

        Args:
            experience: defines the active logits where they are those of each batch.
            task: of each sample, int64 (N,).
        """
        if self._active is not None:
            return self._active[task]
        some = self.setup.training.active_outputs == "batch"
        allowed = torch.zeros(self.setup.outputs, dtype=torch.bool, device=task.device)
        allowed[list(experience.outputs) if some else slice(None)] = True
        return allowed.expand(len(task), -1)


def quadratic_penalty(weights: Sequence[Tensor], anchor: Sequence[Tensor], importance: Sequence[Tensor]) -> Tensor:
    """sum_i importance_i (w_i - anchor_i)^2, a scalar with a gradient to the weights alone.

    >>> w = torch.tensor([3.0, 1.0], requires_grad=True)
    >>> penalty = quadratic_penalty([w], [torch.tensor([1.0, 1.0])], [torch.tensor([2.0, 5.0])])
    >>> penalty.backward()
    >>> float(penalty.detach()), w.grad.tolist()
    (8.0, [8.0, 0.0])
    """
    # For d = w - anchor and a constant g = importance d, the gradient of 2 g.d is 2 importance d, and g.d is the value:
    # three passes over the weights forward and one backward, where importance * d**2 would take nearly twice as many.
    total = weights[0].new_zeros(())
    for w, a, f in zip(weights, anchor, importance, strict=True):
        d = w - a
        total = total + torch.dot((f * d.detach()).flatten(), d.flatten())
    return 2.0 * total - total.detach()


def sum_over_samples(
    model: nn.Module, x: Tensor, vectors: Vectors, power: Callable[[Tensor], Tensor], together: bool | None = None
) -> list[Tensor]:
    """sum_k sum_n power(J_n^T v_kn) for every parameter, J_n (outputs, P) being the Jacobian of sample n's outputs.

    With v_n the gradient of a loss at the outputs of sample n, J_n^T v_n is the gradient of its loss. Frozen weights
    have their sums too.

    Of a linear layer with inputs a (N, in) and gradients delta (N, out) at its outputs it is power(delta)^T power(a),
    since power(delta a) = power(delta) power(a). Of a convolution it is the sum over samples of power(delta_n U_n^T),
    U_n the unfolded input. A network all of whose weights are in such layers and in batch normalisation, each used
    once, takes one backward pass for each k. Any other is differentiated for many samples at once by `torch.func.vmap`,
    or else one sample after the other, at the cost of a forward and K backward passes each.

    Tried with torch 2.15 on the CPU: vmap takes LSTM in float32, multi-head attention, layer, group and instance
    normalisation, batch normalisation over vectors, activations changed in place, and weights used twice. One after
    the other: GRU, RNN, LSTM in float64, functions with a backward pass of their own, branches that depend on values,
    and dropout that is always on.

    Args:
        model: in evaluation mode: what one sample gives must not depend on the others.
        x: inputs (N, ...).
        vectors: of the outputs (N, outputs), without a graph: K tensors of their shape.
        power: element-wise and multiplicative, `torch.square` or `torch.abs`.
        together: whether vmap takes the network; None to try it on two of the samples, see `vectorises`.

    Returns:
        tensors of the parameters' shapes.
    """
    sums = _by_layers(model, x, vectors, power) if _known_throughout(model) else None
    if sums is not None:
        return sums
    with _differentiable(model):
        together = _agree(model, x[:2]) if together is None else together
        if not together:
            return _one_by_one(model, x, vectors, power)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return _together(model, x, vectors, power)


def vectorises(model: nn.Module, x: Tensor) -> bool:
    """True unless `sum_over_samples` has to differentiate a network one sample after the other.

    Args:
        model: tried on a copy, without a trace in it or in the global generators.
        x: two inputs (2, ...).

    Raises:
        Exception: of the network, where it cannot be differentiated at a single sample.
    """
    twin = copy.deepcopy(model).eval()
    with fenced(x.device.type == "cuda"):
        if _known_throughout(twin) and _by_layers(twin, x, _ones, torch.square) is not None:
            return True
        with _differentiable(twin):
            return _agree(twin, x)


def _ones(logits: Tensor) -> Iterable[Tensor]:
    return [torch.ones_like(logits)]


def _agree(model: nn.Module, x: Tensor) -> bool:
    """True if vmap gives what single samples give; for some layers it raises an error."""
    expected = _one_by_one(model, x, _ones, torch.square)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filters of the process decide nothing
            values = _together(model, x, _ones, torch.square)
    except Exception:  # of any operation without a rule for vmap
        return False
    largest = max((float(e.abs().max()) for e in expected if e.numel()), default=0.0)
    return all(torch.allclose(v, e, 1e-3, 1e-5 * largest) for v, e in zip(values, expected, strict=True))


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """All weights have gradients."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(True)
        with without_cudnn(model):
            yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


@contextmanager
def without_cudnn(model: nn.Module) -> Iterator[None]:
    """Gradients of recurrent layers in evaluation mode, which cuDNN refuses; other networks use it as ever."""
    enabled = torch.backends.cudnn.enabled
    try:
        if any(isinstance(m, torch.nn.RNNBase) for m in model.modules()):
            torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


def _known(layer: nn.Module) -> bool:
    if type(layer) is torch.nn.Conv2d:
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return type(layer) is torch.nn.Linear or (type(layer) is torch.nn.BatchNorm2d and layer.running_mean is not None)


def _known_throughout(model: nn.Module) -> bool:
    owned = [p for m in model.modules() if _known(m) for p in m.parameters(recurse=False)]
    return len({*owned}) == len(owned) == len(list(model.parameters()))


def _by_layers(model: nn.Module, x: Tensor, vectors: Vectors, power: Callable[[Tensor], Tensor]) -> list[Tensor] | None:
    """None where a layer is used more than once, or a linear one on anything but (N, in)."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        out = out if out.requires_grad else out.detach().requires_grad_()  # all weights below may be frozen
        calls.append((layer, inputs[0].detach(), out))
        return out.clone()  # what follows may change it in place

    layers = [m for m in model.modules() if _known(m) and list(m.parameters(recurse=False))]
    hooks = [m.register_forward_hook(note) for m in layers]
    try:
        with torch.enable_grad():
            logits = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    once = len({layer for layer, _, _ in calls}) == len(calls) == len(hooks)
    if not once or any(type(layer) is torch.nn.Linear and a.ndim != 2 for layer, a, _ in calls):
        return None
    sums: dict[Tensor, Tensor] = {p: torch.zeros_like(p) for p in model.parameters()}
    outs = [out for _, _, out in calls]
    for v in vectors(logits.detach()):
        deltas = torch.autograd.grad(logits, outs, v, retain_graph=True, materialize_grads=True)
        for (layer, a, _), delta in zip(calls, deltas, strict=True):
            for p, summed in zip(layer.parameters(recurse=False), _of_layer(layer, a, delta, power), strict=False):
                sums[p] += summed
    return list(sums.values())


def _of_layer(layer: Any, a: Tensor, delta: Tensor, power: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The sums over samples for a layer's weight and bias."""
    if type(layer) is torch.nn.Linear:
        return power(delta).t() @ power(a), power(delta).sum(0)
    if type(layer) is not torch.nn.BatchNorm2d:
        unfolded = F.unfold(a, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        gradients = torch.bmm(delta.flatten(2), unfolded.transpose(1, 2))
        return power(gradients).sum(0).view_as(layer.weight), power(delta.sum((2, 3))).sum(0)
    normal = F.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)
    return power((delta * normal).sum((2, 3))).sum(0), power(delta.sum((2, 3))).sum(0)


def _one_by_one(model: nn.Module, x: Tensor, vectors: Vectors, power: Callable[[Tensor], Tensor]) -> list[Tensor]:
    weights = list(model.parameters())
    sums = [torch.zeros_like(w) for w in weights]
    with torch.no_grad():
        directions = list(vectors(torch.cat([model(x[n : n + 1]) for n in range(len(x))])))
    for n in range(len(x)):
        with torch.enable_grad():
            out = model(x[n : n + 1])[0]
        for v in directions:
            gradients = torch.autograd.grad(out, weights, v[n], retain_graph=True, materialize_grads=True)
            for summed, g in zip(sums, gradients, strict=True):
                summed += power(g)
    return sums


def _together(model: nn.Module, x: Tensor, vectors: Vectors, power: Callable[[Tensor], Tensor]) -> list[Tensor]:
    # A copy: of a module with two names torch 2.15 puts the weights of the call back, not those from before it.
    model = copy.deepcopy(model)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    buffers = {name: b.detach() for name, b in model.named_buffers()}

    def weighted_output(weights: dict[str, Tensor], one: Tensor, v: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(model, (weights, buffers), (one.unsqueeze(0),))
        return torch.dot(out[0], v)

    gradients = torch.func.vmap(torch.func.grad(weighted_output), in_dims=(None, 0, 0))
    size = max(1, _CHUNK // sum(w.numel() for w in weights.values()))
    sums = {name: torch.zeros_like(w) for name, w in weights.items()}
    with torch.no_grad():
        logits = model(x)
    for v in vectors(logits):
        for a in range(0, len(x), size):
            for name, g in gradients(weights, x[a : a + size], v[a : a + size]).items():
                sums[name] += power(g).sum(0)
    return list(sums.values())
