"""Weights: state dictionaries, their files, and their identity, that of their tensors and not of a file."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from clbench.errors import UserError, hint

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts save a network's state dictionary beside others."""

_PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.")
"""Beginnings of all names where a network was saved as a part of another: of DataParallel, of torch.compile, and of
pre-training."""

_ALLOWED = "Allowed: a file written by torch.save(model.state_dict(), path), or by safetensors"


def state_sha256(state: Mapping[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a state dictionary's tensors, in the order of their names.

    Equal for a dictionary of any kind, parameters and views, contiguous or not, on any device.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if isinstance(tensor, Tensor):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}|".encode())
            digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else array.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Weights:
    """The state dictionary of a file.

    Attributes:
        tensors: by name, without its wrapping.
        key: under which the file has it; empty where the file is the state dictionary.
        prefix: taken off all names.
        others: some of the file's keys, for messages.
    """

    tensors: dict[str, Tensor]
    key: str
    prefix: str
    others: tuple[str, ...]

    @property
    def wrapping(self) -> str:
        """The wrapping that was taken off, in words; empty where there was none."""
        parts = [f"the state dictionary under '{self.key}'"] if self.key else []
        parts += [f"names without '{self.prefix}'"] if self.prefix else []
        return ", ".join(parts)

    @property
    def sha256s(self) -> tuple[str, ...]:
        """`state_sha256` of the tensors, and, as earlier versions had it, with the prefix of their names."""
        named = {self.prefix + name: tensor for name, tensor in self.tensors.items()}
        return (state_sha256(self.tensors), *([state_sha256(named)] if self.prefix else []))


def read(path: str) -> Weights:
    """The state dictionary of a file, on the CPU; only tensors and plain values are unpickled.

    A dictionary that holds it as `state_dict`, `model_state_dict` or `model` is unwrapped, and a beginning that all
    names share is taken off where it is `module.`, `_orig_mod.`, `backbone.` or `encoder.`.

    Raises:
        UserError: no state dictionary, or several.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            content: dict[str, Any] = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = {str(name): value for name, value in content.items()}
    except Exception as error:  # whatever a damaged file makes torch raise
        raise UserError(f"{path} is no state dictionary ({type(error).__name__}). {_ALLOWED}.") from None
    wrapped = [name for name, value in content.items() if _holds_tensors(value)]
    known = [name for name in _WRAPPERS if name in wrapped]
    direct = any(isinstance(value, Tensor) for value in content.values())
    if len(known) > 1 or (wrapped and not known and not direct):
        names = " and ".join(f"'{name}'" for name in known or wrapped)
        several = len(known or wrapped) > 1
        raise UserError(
            f"{path} has {'state dictionaries' if several else 'a state dictionary'} under {names}; which one is meant "
            f"is not clear. Allowed: a file with one, by itself or under one of {', '.join(_WRAPPERS)}."
        )
    state = content[known[0]] if known else content
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    prefix = ""
    while taken := next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors, prefix = {name.removeprefix(taken): tensor for name, tensor in tensors.items()}, prefix + taken
    shown = [*itertools.islice(state, 5), *(["..."] if len(state) > 5 else [])]
    return Weights(tensors, known[0] if known else "", prefix, tuple(map(str, shown)))


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())


def tensors_sha256(path: str, known: str | None = None) -> str:
    """`state_sha256` of a file's state dictionary without its wrapping; computed once while the file stays the same.

    Args:
        path: the file.
        known: returned if it is the hash with the prefix of the names, which earlier versions left on.

    Raises:
        UserError: no state dictionary.
        OSError: the file cannot be read.
    """
    hashes = _of_file(*_version(path))[0]
    return known if known in hashes else hashes[0]


def wrapping(path: str) -> str:
    """The wrapping of a file's state dictionary in words, see `Weights.wrapping`; raises as `tensors_sha256` does."""
    return _of_file(*_version(path))[1]


def _version(path: str) -> tuple[str, str, int, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), path, status.st_mtime_ns, status.st_size, status.st_ino


@lru_cache(maxsize=64)
def _of_file(absolute: str, path: str, *status: int) -> tuple[tuple[str, ...], str]:
    weights = read(path)
    return weights.sha256s, weights.wrapping


# ------------------------------------------------------------------------------------------------ into a network
def load(model: nn.Module, path: str, sha256: str | None, last: str = "") -> None:
    """Loads the weights of a file into a network; its last layer may be missing there.

    Names are those of the network, with or without the prefix that was taken off; or those of its feature extractor,
    where that is one module.

    Args:
        model: the network.
        path: the file.
        sha256: of its tensors, to insist on them.
        last: name of the last layer in the file where it is not the network's: it is left out.

    Raises:
        UserError: a file that is no state dictionary, one of another network, or with other tensors than `sha256`.
    """
    try:
        weights = read(path)
    except UserError as error:
        raise UserError(*(f"model.weights: {problem}" for problem in error.problems)) from None
    if sha256 is not None and sha256 not in weights.sha256s:
        raise UserError(f"model.weights: {path} has other tensors than those that the run is named by.")
    expected = model.state_dict()
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    head = tuple(f"{name}." for name in linear)
    forms = list(_forms(weights, model, last))
    closest = max(forms, key=lambda form: len(form.keys() & expected.keys()))  # for the messages
    tensors = next((form for form in forms if _fit(form, expected, head)), closest)
    tensors = {name: t for name, t in tensors.items() if name in expected or not _of_head(name, head)}
    unknown = next((name for name in tensors if name not in expected), None)
    missing = next((name for name in expected if name not in tensors and not name.startswith(head)), None)
    other = next((name for name in tensors if name in expected and tensors[name].shape != expected[name].shape), None)
    if unknown is not None:
        raise UserError(
            f"model.weights: {path} has '{unknown}', unknown to the network.{hint(unknown, list(expected))}"
        )
    if missing is not None:
        has = ", ".join(weights.others) or "nothing"
        raise UserError(f"model.weights: {path} lacks '{missing}' of the network; it has {has}.")
    if other is not None:
        sizes = " and the network's ".join(str(tuple(d[other].shape)) for d in (tensors, expected))
        raise UserError(f"model.weights: '{other}' of {path} has the shape {sizes}.")
    broken = next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise UserError(f"model.weights: '{broken}' of {path} has values that are not finite.")
    model.load_state_dict(tensors, strict=False)


def _forms(weights: Weights, model: nn.Module, last: str) -> Iterator[dict[str, Tensor]]:
    """The tensors under the names that they may have in the network."""
    single = type(model) is nn.Sequential and len(model) == 2
    for prefix in dict.fromkeys(("", weights.prefix)):
        named = {prefix + name: tensor for name, tensor in weights.tensors.items()}
        yield named
        if single:
            first = next(name for name, _ in model.named_children())
            ours = {n: t for n, t in named.items() if not last or not n.startswith(f"{last}.")}
            yield {f"{first}.{name}": tensor for name, tensor in ours.items()}


def _fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], head: tuple[str, ...]) -> bool:
    known = all(name in expected or _of_head(name, head) for name in tensors)
    return known and all(name in tensors or name.startswith(head) for name in expected)


def _of_head(name: str, head: tuple[str, ...]) -> bool:
    """True of a weight of the last layer, which another kind of head may not have."""
    return any(name == prefix + part for prefix in head for part in ("weight", "bias", "scale", "came"))
