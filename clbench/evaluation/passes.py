"""Forward passes over the test inputs, in pieces of a size that suits the processor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clbench.evaluation.inputs import TestInputs, pieces_of

_PASS_BYTES = 8 << 20
"""Largest activation of one forward pass on a CPU: beyond the caches, and where memory is mapped anew at every layer,
a convolutional network takes twice the time."""

ROWS = 64
"""A pass of selected samples in reduced precision has a multiple of so many rows."""

_TRIED = (64, 128, 256, 512, 1024)
"""Numbers of rows that float32 passes are a multiple of, tried in turn."""


Which = tuple[int, int] | Tensor
"""First and one past the last sample; or positions, int64 (n,), ascending."""

Scored = Callable[[Which], Tensor]
"""Samples -> scores in float32, (n, outputs)."""


class Passes:
    """Forward passes over test inputs.

    Args:
        inputs: the test inputs.
        device: where they are.
        batch_size: most samples of a pass; fewer where activations are large.

    Attributes:
        largest: bytes of the largest activation of a sample; 0 before the first pass.
        work: multiplications of a sample in linear and convolutional layers; 0 before the first pass.
    """

    def __init__(self, inputs: TestInputs, device: torch.device, batch_size: int) -> None:
        self.inputs = inputs
        self._device, self._batch_size = device, batch_size
        self.largest = self.work = 0.0
        self._last = self._laid_out = False
        self._shapes: Any = None
        self._alike = 0

    def parts(self, n: int) -> int:
        """Passes for n samples, so that none is much smaller than the others."""
        most = self._batch_size
        if self.largest and self._device.type == "cpu":
            most = min(most, max(32, int(_PASS_BYTES / self.largest)))
        return max(1, -(-n // most))

    def held_bytes(self, samples: int) -> int:
        """Bytes of one pass: an activation and the next."""
        return 2 * int(-(-samples // self.parts(samples)) * self.largest)

    def one(self, ask: Any, x: Tensor, model: nn.Module | None = None) -> Any:
        """One pass. The first of all measures the sizes of a sample's activations, and its work."""
        if self.largest:
            return ask(x)
        largest, work = float(x[0].nbytes) if len(x) else 1.0, 0.0

        def measure(module: nn.Module, args: Any, out: Any) -> None:
            nonlocal largest, work
            if isinstance(out, Tensor) and len(x):
                largest = max(largest, out.nbytes / len(x))
                weight = getattr(module, "weight", None)
                if isinstance(weight, Tensor) and weight.ndim > 1 and out.ndim > 1:
                    work += weight.numel() * out.numel() / (len(x) * weight.shape[0])

        hooked = model if model is not None else ask
        handles = [m.register_forward_hook(measure) for m in hooked.modules()]
        try:
            out = ask(x)
        finally:
            for handle in handles:
                handle.remove()
        if out is not None:
            self.largest, self.work = largest, work
        return out

    def between(self, a: int, b: int) -> Iterator[tuple[int, int, Tensor]]:
        """The samples a..b a pass at a time: first, one past the last, inputs."""
        bounds = np.linspace(a, b, self.parts(b - a) + 1).astype(int).tolist()
        for start, end in itertools.pairwise(bounds):
            yield start, end, self.inputs.between(start, end)

    # ---------------------------------------------------------------------------------------- an ordinary model
    def lay_out(self, model: nn.Module) -> None:
        """Puts images for a convolutional network in the order in which a CPU convolves and pools 1.5 to 2.5 times
        faster, channels last; a score moves by its last bits."""
        ready = self.inputs.ready
        self._last = self._device.type == "cpu" and any(type(m) is nn.Conv2d for m in model.modules())
        if self._last and ready is not None and ready.ndim == 4 and not self._laid_out:
            with torch.inference_mode(False):
                self.inputs.ready = ready.to(memory_format=torch.channels_last)
            self._laid_out = True

    def scores(self, network: nn.Module, inputs: TestInputs, which: Which) -> Tensor:
        """Scores of a network whose rows do not depend on each other.

        Args:
            network: the model, or the part of it behind its frozen feature extractor.
            inputs: its inputs.
            which: the samples.

        Returns:
            (n, outputs). Selected samples go through with so many others that they have the bits that they have among
            all: with few rows a matrix product adds in another order (up to 7 or to 96 rows, depending on the
            processor's library).
        """
        if isinstance(which, Tensor):
            rows = self.rows_alike(network, inputs)
            x = inputs.at(padded(which, rows))
            return torch.cat([self._ordered(network, part) for part in self.cut(x, rows)])[: len(which)]
        first, n = which[0], which[1] - which[0]
        pieces = pieces_of(n, self.parts(n))
        return torch.cat([self._ordered(network, inputs.between(first + a, first + b)) for a, b in pieces])

    def in_one(self, network: nn.Module, inputs: TestInputs, which: Tensor) -> Tensor:
        """Scores of samples at some positions, int64 (n,), in one pass, (n, outputs)."""
        return self._ordered(network, inputs.at(which))

    def cut(self, x: Tensor, rows: int = ROWS) -> Sequence[Tensor]:
        """Padded inputs of selected samples a pass at a time. The passes have few different sizes: oneDNN compiles a
        kernel for every new one, which takes longer than the pass."""
        most = -(-len(x) // self.parts(len(x)))
        return torch.split(x, max(rows, most // rows * rows))

    def _ordered(self, network: nn.Module, x: Tensor) -> Tensor:
        if self._last and x.ndim == 4:
            x = x.to(memory_format=torch.channels_last)
        scores: Tensor = self.one(network, x)
        return scores

    def rows_alike(self, network: nn.Module, inputs: TestInputs) -> int:
        """Fewest rows that have the same bits alone as among all, of those tried; kernels are chosen by shapes."""
        shapes = [(type(m), [p.shape for p in m.parameters(recurse=False)]) for m in network.modules()]
        if shapes != self._shapes:
            n = len(inputs)
            first = pieces_of(n, self.parts(n))[0][1]
            x = inputs.between(0, first)
            among = self._ordered(network, x)
            alike = (b for b in _TRIED if b < first and torch.equal(self._ordered(network, x[:b]), among[:b]))
            self._shapes, self._alike = shapes, max(1, next(alike, first))
        return self._alike


def padded(which: Tensor, rows: int = ROWS) -> Tensor:
    """Positions, the last of which is repeated up to a multiple of some number."""
    return torch.cat([which, which[-1:].expand(-len(which) % rows)]) if len(which) else which
