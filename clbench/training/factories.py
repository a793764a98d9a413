"""A user's factory of a network, called with an input's shape and the number of outputs, or refused before the call.

A builder of another package takes other arguments: torchvision's take weights first, and a shape in their place starts
a download. So the signature is read before anything is called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from clbench.errors import UserError, unknown

_SHAPES = frozenset({
    "shape", "input_shape", "in_shape", "image_shape", "img_shape", "x_shape", "input_size", "in_size", "image_size",
    "size", "dims", "input_dim", "input_dims", "inputs", "input",
})  # fmt: skip
_OUTPUTS = frozenset({
    "outputs", "num_outputs", "n_outputs", "output_size", "out_size", "output_dim", "out_dim", "out_features", "output",
    "num_classes", "n_classes", "nb_classes", "classes", "num_labels", "n_out", "out",
})  # fmt: skip
_OTHERS = frozenset({
    "weights", "pretrained", "progress", "checkpoint", "path", "url", "name", "model_name", "model", "block", "layers",
    "config", "cfg", "device", "dtype", "in_features", "in_channels", "input_channels", "channels",
})  # fmt: skip
"""Names of parameters that are neither, though they may come first."""

_Parameter = inspect.Parameter


def call(
    factory: Any, path: str, shape: tuple[int, ...], outputs: int, options: Mapping[str, Any] | None = None
) -> Any:
    """The network of a factory: a function, a class, or anything else that is callable.

    Its two arguments are passed by position, or, where the signature's first two are others, by such names as `shape`
    and `num_classes`.

    Args:
        factory: called, unless it cannot take these arguments.
        path: its import path, for messages.
        shape: of one input.
        outputs: number of output units.
        options: further arguments, by name.

    Raises:
        UserError: it takes other arguments, or is not callable.
    """
    if not callable(factory):
        raise UserError(f"model.factory: '{path}' is {type(factory).__name__}. Allowed: a function or a class.")
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # of an extension module: nothing is known of it
        return factory(shape, outputs, **(options or {}))
    if options:
        factory = functools.partial(factory, **_known(options, path, parameters))
        parameters = list(inspect.signature(factory).parameters.values())
    if _takes_two(parameters):
        return factory(shape, outputs)
    by_name = _by_name(parameters, shape, outputs)
    if by_name is None:
        raise _refusal(path, parameters)
    return factory(**by_name)


def _known(options: Mapping[str, Any], path: str, parameters: list[_Parameter]) -> Mapping[str, Any]:
    """The options, all of which are parameters beside the shape and the number of outputs.

    Raises:
        UserError: one is not.
    """
    kinds = (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)
    taken = [p.name for p in parameters if p.kind in kinds and p.name not in _SHAPES | _OUTPUTS]
    others = [name for name in options if name not in taken]
    if others and not any(p.kind is _Parameter.VAR_KEYWORD for p in parameters):
        if not taken:
            raise UserError(f"model.options: got '{others[0]}', and '{path}' takes no further arguments.")
        raise UserError(f"model.options: {unknown('argument', others[0], taken)}")
    return options


def _by_name(parameters: list[_Parameter], shape: tuple[int, ...], outputs: int) -> dict[str, Any] | None:
    """Arguments by name; None where names of both are not among the parameters, or others are required."""
    named = [p for p in parameters if p.kind in (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)]
    shapes, numbers = ([p.name for p in named if p.name in names] for names in (_SHAPES, _OUTPUTS))
    if not shapes or not numbers:
        return None
    passed = {shapes[0]: shape, numbers[0]: outputs}
    return passed if not _required(parameters) - passed.keys() else None


def _required(parameters: list[_Parameter]) -> set[str]:
    variadic = (_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD)
    return {p.name for p in parameters if p.default is _Parameter.empty and p.kind not in variadic}


def _takes_two(parameters: list[_Parameter]) -> bool:
    """True if the first two positional parameters may be a shape and a number, and no other is required."""
    kinds = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in parameters if p.kind in kinds]
    variadic = any(p.kind is _Parameter.VAR_POSITIONAL for p in parameters)
    first, second = ([*positional, None, None] if variadic else positional + [_NOTHING] * 2)[:2]
    if first is _NOTHING or second is _NOTHING or _required(parameters) - {p.name for p in positional[:2]}:
        return False
    return _may_be(first, _OUTPUTS, (tuple, list)) and _may_be(second, _SHAPES, (int,))


_NOTHING = _Parameter("nothing", _Parameter.POSITIONAL_ONLY)
_OF_ANOTHER_KIND = {"int": int, "str": str, "bool": bool, "float": float, "tuple": tuple, "list": list}


def _may_be(parameter: _Parameter | None, not_named: frozenset[str], kinds: tuple[type, ...]) -> bool:
    """True if neither name, annotation nor default says that a parameter is something else.

    Args:
        parameter: None for one of `*args`.
        not_named: names of the other argument.
        kinds: types that it may have.
    """
    if parameter is None:
        return True
    annotation = parameter.annotation
    annotated = _OF_ANOTHER_KIND.get(annotation, object) if isinstance(annotation, str) else annotation
    default = parameter.default
    wrong_type = annotated in _OF_ANOTHER_KIND.values() and annotated not in kinds
    wrong_default = default is not _Parameter.empty and default is not None and type(default) not in kinds
    return parameter.name not in not_named | _OTHERS and not wrong_type and not wrong_default


def _refusal(path: str, parameters: list[_Parameter]) -> UserError:
    name = path.rpartition(":")[2]
    names = {p.name for p in parameters}
    number = next((n for n in ("num_classes", *sorted(_OUTPUTS)) if n in names), None)
    if number is None and any(p.kind is _Parameter.VAR_KEYWORD for p in parameters):
        number = "num_classes"
    shown = inspect.Signature([p.replace(annotation=_Parameter.empty) for p in parameters])
    return UserError(
        f"model.factory: '{path}' takes {shown}, and would be called with the shape of an input and the number of "
        f"outputs. Name a function of yours instead:\n"
        f"    def network(shape, outputs):\n"
        f"        return {name}({f'{number}=outputs' if number else '...'})"
    )
