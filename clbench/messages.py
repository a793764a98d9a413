"""Wording of validation errors: one clear sentence for each mistake that pydantic reports.

A sentence names the source of the key (a file, its base, a flag), the key's path, the value, the nearest match, and the
allowed values, which are derived from the key's type.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo

from clbench.errors import hint, shown
from clbench.schema import keys_of

Layer = tuple[str, dict[str, Any]]
"""A mapping of the user's, and its source: a file's name, or a flag."""


def member_models(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in member_models(part)]


def tags(model: type[pydantic.BaseModel]) -> list[str]:
    """The values of a model's tag, which distinguishes it from the others of its union."""
    fields = [model.model_fields[tag] for tag in ("by", "name") if tag in model.model_fields]
    return [v for field in fields for v in _literals(field.annotation)]


def _literals(annotation: Any) -> list[str]:
    """The words of every closed set in a type."""
    if typing.get_origin(annotation) is Literal:
        return [str(v) for v in typing.get_args(annotation)]
    return [v for part in typing.get_args(annotation) for v in _literals(part)]


def annotation_of(field: FieldInfo) -> Any:
    """A field's type with its constraints, as a TypeAdapter takes it."""
    extras = [*field.metadata, *([Field(discriminator=field.discriminator)] if field.discriminator else [])]
    if field.title:
        extras.append(Field(title=field.title))
    return Annotated[(field.annotation, *extras)] if extras else field.annotation


def describe(annotation: Any, plural: bool = False, limits: dict[str, Any] | None = None) -> str:
    """Allowed values of a type, in words.

    >>> describe(Annotated[int, Field(ge=1)] | Literal["all"] | None)
    'an integer >= 1, or all'
    >>> describe(Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)])
    'a list of 2 numbers from 0 to below 1'
    """
    limits = limits or {}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, FieldInfo) and extra.title:
                return extra.title
            for constraint in extra.metadata if isinstance(extra, FieldInfo) else [extra]:
                for name in ("gt", "ge", "lt", "le", "min_length", "max_length"):
                    if getattr(constraint, name, None) is not None:
                        limits = {**limits, name: getattr(constraint, name)}
        return describe(arguments[0], plural, limits)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(dict.fromkeys(describe(part, plural, limits) for part in _branches(annotation)))
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin is list:
        low, high = limits.get("min_length", 0), limits.get("max_length")
        count = f"{low} to {high} "
        if high is None:
            count = {0: "", 1: "one or more "}.get(low, f"at least {low} ")
        elif low == high:
            count = f"{low} "
        return f"{'lists' if plural else 'a list'} of {count}{describe(arguments[0], plural=True)}"
    if annotation in (int, float):
        words = ("integers", "numbers") if plural else ("an integer", "a number")
        return words[annotation is float] + _range(limits)
    named = {str: ("text", "texts"), bool: ("true or false",) * 2}.get(annotation)
    if named is None and (origin is dict or annotation is dict or member_models(annotation)):
        named = ("keys and values", "mappings")
    return named[plural] if named else str(getattr(annotation, "__name__", annotation))


def _range(limits: dict[str, Any]) -> str:
    """
    >>> _range({"ge": 0, "lt": 1}), _range({"gt": 0.0})
    (' from 0 to below 1', ' > 0')
    """
    if "ge" in limits and ("le" in limits or "lt" in limits):
        high = f"{limits['le']:g}" if "le" in limits else f"below {limits['lt']:g}"
        return f" from {limits['ge']:g} to {high}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    return " and".join(f" {sign} {limits[name]:g}" for name, sign in signs.items() if name in limits)


def _locate(section: str, annotation: Any, loc: tuple[Any, ...]) -> tuple[list[str | int], Any]:
    """The user's key path of a pydantic location, and the type there (for an unknown key: the model it was given to).

    pydantic writes the branch of a union that it tried into the location; the reader of a file knows nothing of it.
    """
    path: list[str | int] = [section]
    branch = annotation
    for step in loc:
        branches = _branches(branch)
        if isinstance(step, int):
            annotation = typing.Union[tuple(_items(branch)) or (Any,)]  # noqa: UP007
        elif len(branches) > 1:
            branch = next((m for m in member_models(branch) if step in (*tags(m), m.__name__)), branch)
            continue
        else:
            owner = next(iter(member_models(branch)), None)
            field = owner.model_fields.get(step) if owner else None
            annotation = annotation_of(field) if field else owner
        path.append(step)
        branch = annotation
    return path, annotation


def _branches(annotation: Any) -> list[Any]:
    """The types of a union, None left out; of another type: itself."""
    if typing.get_origin(annotation) is Annotated:
        return _branches(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(annotation) if part is not type(None)]
        within = _branches(parts[0]) if len(parts) == 1 else []
        return within if len(within) > 1 else parts
    return [annotation]


def _items(annotation: Any) -> list[Any]:
    """The types of the items of every list in a type."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is list:
        return list(arguments)
    return [item for part in arguments for item in _items(part)]


def dotted(path: list[str | int]) -> str:
    """
    >>> dotted(["stream", "tasks", "blocks", 0, 1])
    'stream.tasks.blocks[0][1]'
    """
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]


def where(source: str, layers: Iterable[Layer], path: list[str | int]) -> str:
    """Source of a key: the file, one of its bases, or a flag; a mapping may come from a file and flags together."""
    flags: list[str] = []
    for name, content in layers:
        value: Any = content
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if not name.startswith("-"):
                return f"{name} with {' and '.join(flags)}" if flags else name
            flags.insert(0, name)
            if not isinstance(value, dict):
                break
    return " and ".join(flags) or source


def key_paths(annotation: Any, value: Any = None, above: str = "") -> list[str]:
    """Dotted paths of all keys below a type: of a union only those of the kind named in the value, if one is named; of
    an optional section that is absent, none.

    >>> from clbench.config import Optimizer
    >>> key_paths(Optimizer, {"name": "sgd"}, "optimizer")
    ['optimizer.name', 'optimizer.lr', 'optimizer.momentum', 'optimizer.nesterov', 'optimizer.weight_decay']
    """
    value = value if isinstance(value, dict) else {}
    models = [
        m
        for branch in _branches(annotation)
        if typing.get_origin(branch) not in (list, dict)
        for m in member_models(branch)
    ]
    tag_values = {str(value[tag]) for tag in ("by", "name") if tag in value}
    paths: list[str] = []
    for model in [m for m in models if tag_values & set(tags(m))] or models:
        for key, field in model.model_fields.items():
            paths.append(f"{above}.{key}" if above else key)
            if value.get(key, field.default) is not None:
                paths += key_paths(annotation_of(field), value.get(key, _tagged(field.default)), paths[-1])
    return list(dict.fromkeys(paths))


def _tagged(default: Any) -> Any:
    return default.model_dump() if isinstance(default, pydantic.BaseModel) else None


def unknown_key(key: str, allowed: list[str], elsewhere: Iterable[str] = ()) -> str:
    """The tail of a sentence about an unknown key.

    Args:
        key: as written; with a path below it (`optimizer.lr`) where that shows the intention.
        allowed: the keys there are in its place.
        elsewhere: dotted paths of the keys of other places: those that end like the given one are named, if few do.

    >>> unknown_key("lr", ["name"], ["training.optimizer.lr"])
    "unknown key. Did you mean 'training.optimizer.lr'? Allowed: name."
    """
    steps = key.split(".")
    ends = [".".join(steps[i:]) for i in range(len(steps))]
    matches = ([path for path in elsewhere if f".{path}".endswith(f".{end}")] for end in ends)
    same = next((paths for paths in matches if paths), [])
    words = " or ".join(f"'{path}'" for path in same)
    guess = f" Did you mean {words}?" if 1 <= len(same) <= 3 else hint(steps[0], allowed)
    return f"unknown key.{guess} Allowed: {', '.join(allowed) or 'none'}."


def _sentence(error: Any, key: str | int, annotation: Any, elsewhere: Iterable[str] = ()) -> str:
    """One error of pydantic as a sentence.

    Args:
        error: one of pydantic's.
        key: the last step of the key path.
        annotation: the type that is expected there.
        elsewhere: see `unknown_key`.
    """
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        return unknown_key(str(key), keys_of(member_models(annotation)[0]), elsewhere)
    if kind == "missing":
        return "required, but not given."
    if kind == "union_tag_not_found":
        return f"required, but not given. Allowed: {', '.join(t for m in member_models(annotation) for t in tags(m))}."
    if kind == "union_tag_invalid":
        value = value[key]
        annotation = Literal[tuple(t for m in member_models(annotation) for t in tags(m))]
    elif kind == "mistake":
        return f"{error['ctx']['sentence']}."
    elif kind == "value_error":
        return f"{error['ctx']['error']}."
    allowed = describe(annotation)
    if kind == "finite_number":
        allowed = allowed.replace("a number", "a finite number", 1)
    guess = ""
    if isinstance(value, str):
        guess = hint(value, _literals(annotation))
        models = member_models(annotation)
        tag = next((tag for tag in ("by", "name") if models and tag in models[0].model_fields), None)
        if tag is not None:
            guess = f" Did you mean {{{tag}: {value}}}?"
    return f"got {shown(value)}.{guess} Allowed: {allowed}."


def check_section(
    source: str, section: str, annotation: Any, value: Any, layers: Iterable[Layer], elsewhere: Iterable[str] = ()
) -> tuple[Any, list[str]]:
    """Validates one section.

    Args:
        source: its origin, for messages.
        section: its key.
        annotation: its type.
        value: its content.
        layers: sources of single keys, for messages; may be empty.
        elsewhere: see `unknown_key`.

    Returns:
        the checked value (None where it is mistaken), and one sentence for each mistake.
    """
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value), []
    except pydantic.ValidationError as failure:
        mistakes: list[tuple[list[str | int], str, list[str | int]]] = []
        for error in failure.errors(include_url=False):
            kind, context = error["type"], error.get("ctx", {})
            path, expected = _locate(section, annotation, error["loc"])
            below = context["discriminator"].strip("'") if kind.startswith("union_tag") else context.get("key")
            giver = path[:-1] if kind == "missing" else path
            if below:  # pydantic tells of the mapping, we of the key in it
                path = [*path, below]
                giver = path if kind == "union_tag_invalid" else giver
            others = [p for p in elsewhere if p.split(".")[-2:-1] != path[-2:-1]]  # not another `optimizer`'s
            mistakes.append((path, _sentence(error, path[-1], expected, others), giver))
    # Of a union, every branch that was tried has its say; the one that got farthest is the one that was meant.
    longest = [p for p, _, _ in mistakes]
    lines = [
        f"{where(source, layers, giver)}: {dotted(path)}: {sentence}"
        for path, sentence, giver in mistakes
        if not any(len(other) > len(path) and other[: len(path)] == path for other in longest)
    ]
    return None, list(dict.fromkeys(lines))
