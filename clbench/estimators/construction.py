"""Construction of an estimator from its configuration."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from clbench import import_paths
from clbench.errors import UserError, hint

SEEDS = ("random_state", "seed", "random_seed")
"""Parameters that seed an estimator: scikit-learn's, river's, CapyMOA's."""

_PACKAGES = ("sklearn", "river", "capymoa")
_LEARNING = ("fit", "partial_fit", "learn_one", "transform_one", "train")

_Parameter = inspect.Parameter


def build(
    target: type, parameters: Mapping[str, Any], where: str, seed: Callable[[], int], **offered: Callable[[], Any]
) -> Any:
    """An estimator from its class.

    A value of the form `{name: package.module:Class, ...}`, alone or in a list, is built first. A list given for
    `*args`, by their name, is passed as those (`steps` of river's Pipeline).

    Args:
        target: the class.
        parameters: those that the configuration sets.
        where: the beginning of messages.
        seed: returns a new seed, for each parameter in `SEEDS` that is not set.
        offered: further arguments, passed where the class takes them and the configuration does not set them.

    Raises:
        UserError: an unknown parameter, a missing one, or one that the class refuses.
    """
    accepted = inspect.signature(target).parameters
    free = [p.name for p in accepted.values() if p.kind is not _Parameter.VAR_KEYWORD and p.name not in offered]
    open_ended = any(p.kind is _Parameter.VAR_KEYWORD for p in accepted.values())
    for key in parameters:
        if key not in free and not open_ended:
            allowed = ", ".join(free) or "none"
            raise UserError(f"{where}: unknown key '{key}'.{hint(key, free)} Allowed: {allowed}.")
    arguments = {key: _built(value, f"{where}: {key}", seed) for key, value in parameters.items()}
    arguments |= {name: seed() for name in SEEDS if name in accepted and arguments.get(name) is None}
    arguments |= {name: make() for name, make in offered.items() if name in accepted and name not in arguments}
    required = [
        name
        for name, p in accepted.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and name not in arguments
    ]
    if required:
        raise UserError(f"{where}: needs {', '.join(required)}; give it beside 'name' in the configuration.")
    variadic = next((p.name for p in accepted.values() if p.kind is _Parameter.VAR_POSITIONAL), "")
    several = arguments.pop(variadic, [])
    if not isinstance(several, list):
        raise UserError(f"{where}: {variadic}: got {type(several).__name__}. Allowed: a list.")
    try:
        return target(*several, **arguments)
    except Exception as error:  # of the package
        raise UserError(f"{where}: cannot be built: {_first_line(error)}.") from error


def refusal(where: str, error: Exception) -> UserError:
    """The message for an estimator that fails at its first update."""
    return UserError(f"{where}: cannot learn: {_first_line(error)}.")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _built(value: Any, where: str, seed: Callable[[], int]) -> Any:
    if isinstance(value, list):
        return [_built(v, where, seed) for v in value]
    if not isinstance(value, dict) or ":" not in str(value.get("name", "")):
        return value
    path = str(value["name"])
    try:
        import_paths.check(path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    module, _, attribute = path.partition(":")
    part = getattr(importlib.import_module(module), attribute)
    known = isinstance(part, type) and (
        part.__module__.partition(".")[0] in _PACKAGES or any(hasattr(part, method) for method in _LEARNING)
    )
    if not known:  # a configuration builds parts of a method; it does not call arbitrary functions
        raise UserError(f"{where}: '{path}' is no estimator and no class of {', '.join(_PACKAGES)}.")
    rest = {key: v for key, v in value.items() if key != "name"}
    return build(part, rest, f"{where}: '{path}'", seed)
