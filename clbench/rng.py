"""All chance of a run: one generator for each consumer, derived from (seed, role).

Law 2: a strategy that draws more or less does not move the stream, the initialisation, or the batch order. NumPy
promises that a bit generator's raw output never changes, and does not promise it for `choice` or `permutation`; so
only raw bits are taken from NumPy, and shuffling is done by the few lines below.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROLES = ("stream", "init", "order", "augmentation", "strategy")
"""The axes of chance. Each may be given a seed of its own in `seeds:`; otherwise it follows the run's seed."""


def derive(seed: int, *role: str | int) -> int:
    """A 128-bit seed for one consumer: SHA-256 over the run's seed and the consumer's name.

    >>> derive(0, "order") == derive(0, "order"), derive(0, "order") == derive(0, "init")
    (True, False)
    """
    text = "/".join(["clbench", str(seed), *map(str, role)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


class Generator:
    """Random numbers for one consumer, equal on every machine and under every supported NumPy.

    Args:
        seed: the seed of the axis, >= 0.
        role: who draws; consumers with other roles draw independent numbers.
    """

    def __init__(self, seed: int, *role: str | int) -> None:
        self._bits = np.random.Philox(key=derive(seed, *role))

    def raw(self, n: int) -> NDArray[np.uint64]:
        """n independent 64-bit words, shape (n,)."""
        return self._bits.random_raw(n).astype(np.uint64, copy=False)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """A uniform permutation of 0..n-1, shape (n,): the order of n random words.

        Two equal words among n have a probability below n^2 / 2^65; the stable sort then keeps them in place.
        """
        return np.argsort(self.raw(n), kind="stable").astype(np.int64, copy=False)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """n numbers in [0, 1), multiples of 2^-53, shape (n,)."""
        return (self.raw(n) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, n: int) -> NDArray[np.float64]:
        """n standard normal numbers, shape (n,). Their last bits depend on the machine's logarithm: to be rounded.

        Box and Muller 1958.
        """
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(n)))
        return np.asarray(radius * np.cos(2.0 * np.pi * self.uniform(n)))

    def below(self, bound: int, n: int) -> NDArray[np.int64]:
        """n integers uniform in [0, bound), shape (n,), drawn with replacement.

        Args:
            bound: 1 <= bound < 2^32; the bias of a class is below bound / 2^53.
        """
        return (self.uniform(n) * bound).astype(np.int64)

    def sample(self, bound: int, n: int) -> NDArray[np.int64]:
        """n different integers of [0, bound), in random order, shape (n,), at a cost that does not grow with bound.

        Floyd's algorithm (Bentley and Floyd 1987), then a shuffle.
        """
        if n > bound:
            raise ValueError(f"cannot draw {n} different numbers below {bound}")
        if n * 4 > bound:
            return self.permutation(bound)[:n]
        words = self.uniform(n)
        chosen: dict[int, None] = {}
        for i, top in enumerate(range(bound - n, bound)):
            candidate = int(words[i] * (top + 1))
            chosen[top if candidate in chosen else candidate] = None
        return np.fromiter(chosen, np.int64, n)[self.permutation(n)]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue, as plain integers (no pickle)."""
        state = self._bits.state
        return {
            "counter": [int(v) for v in state["state"]["counter"]],
            "key": [int(v) for v in state["state"]["key"]],
            "buffer": [int(v) for v in state["buffer"]],
            "buffer_pos": int(state["buffer_pos"]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {
                "counter": np.array(state["counter"], np.uint64),
                "key": np.array(state["key"], np.uint64),
            },
            "buffer": np.array(state["buffer"], np.uint64),
            "buffer_pos": state["buffer_pos"],
            "has_uint32": 0,
            "uinteger": 0,
        }


class Chance:
    """The generators of one run.

    Args:
        seed: the run's seed.
        seeds: overrides by axis, e.g. ``{"stream": 7}``.
    """

    def __init__(self, seed: int, seeds: dict[str, int] | None = None) -> None:
        overrides = seeds or {}
        self.seeds = {role: overrides.get(role, seed) for role in ROLES}

    def generator(self, role: str, *consumer: str | int) -> Generator:
        """A new generator for a consumer on one axis."""
        return Generator(self.seeds[role], role, *consumer)

    def seed_globals(self, role: str) -> None:
        """Seeds the global generators that third-party code draws from (Python's, NumPy's, torch's)."""
        import torch

        seed = derive(self.seeds[role], role, "global")
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that others draw from
        torch.manual_seed(seed % 2**63)


def global_state(cuda: bool = False) -> dict[str, Any]:
    """State of the global generators (Python's, NumPy's, torch's), as tensors, arrays and plain values.

    Args:
        cuda: also the generator of the current CUDA device.
    """
    import torch

    version, words, spare = random.getstate()
    name, keys, position, has_spare, of_numpy = np.random.get_state()  # noqa: NPY002 - the one others draw from
    return {
        "python": [version, np.array(words, np.uint64), spare],
        "numpy": [str(name), keys, int(position), int(has_spare), float(of_numpy)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
    }


def set_global_state(state: dict[str, Any]) -> None:
    """Restores a `global_state` of the global generators."""
    import torch

    version, words, spare = state["python"]
    random.setstate((version, tuple(words.tolist()), spare))
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def fenced(cuda: bool = False) -> Iterator[None]:
    """Restores the global generators on exit, so that draws inside leave no trace.

    Args:
        cuda: also the generator of the current CUDA device.
    """
    import torch

    python, torch_state = random.getstate(), torch.get_rng_state()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the generator that others draw from
    cuda_state = torch.cuda.get_rng_state() if cuda else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state)
