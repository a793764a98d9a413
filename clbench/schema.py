"""Base of all configuration models: frozen, with mistakes as sentences, and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError


class Model(pydantic.BaseModel):
    """A frozen piece of configuration: unknown keys are mistakes, numbers are finite.

    `clbench show` prints the text below a field.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=True, use_attribute_docstrings=True
    )


def keys_of(model: type[pydantic.BaseModel]) -> list[str]:
    """The keys of a model, before those that it inherits."""
    declared = [key for key in model.model_fields if key in model.__annotations__]
    return [*declared, *(key for key in model.model_fields if key not in declared)]


def mistake(sentence: str, key: str = "") -> PydanticCustomError:
    """An error for a validator to raise: a sentence without its full stop, and the key below that it concerns."""
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence, "key": key})


def one_of(model: Model, first: str, second: str) -> None:
    """Two keys of which exactly one is to be given."""
    present = [key for key in (first, second) if getattr(model, key) is not None]
    if len(present) == 2:
        raise mistake(f"got both '{first}' and '{second}'. Allowed: one of them; null unsets a key")
    if not present:
        raise mistake(f"needs '{first}' or '{second}'")


def unique_classes(classes: list[int]) -> None:
    """Raises where a class is listed twice."""
    twice = sorted({c for c in classes if classes.count(c) > 1})
    if twice:
        raise mistake(f"{name_classes(twice)} listed twice")


def name_classes(numbers: Iterable[int], kind: str = "class") -> str:
    """
    >>> name_classes([3]), name_classes([3, 5]), name_classes([2, 4], "task")
    ('class 3 is', 'classes 3, 5 are', 'tasks 2, 4 are')
    """
    words = [str(c) for c in numbers]
    several = len(words) > 1
    plural = ("es" if kind.endswith("s") else "s") * several
    return f"{kind}{plural} {', '.join(words)} {'are' if several else 'is'}"


Mistake = tuple[list[str | int], str]
"""A key path below a section, and a sentence: a mistake that a model cannot detect without the data's facts."""

ClassNumber = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


# ------------------------------------------------------------------------------------------------ hashes
def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one meaning, whatever the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


DEFAULTS_VERSION = 1
"""Incremented when a default changes its value; a new key whose default keeps the behaviour does not change it."""


def definition(model: pydantic.BaseModel, exclude: Any = None) -> dict[str, Any]:
    """The values that differ from the defaults: new keys leave old hashes as they are."""
    values = model.model_dump(mode="json", exclude_defaults=True, exclude=exclude)
    return {"defaults": DEFAULTS_VERSION, **values}
