"""What every piece of configuration is: a frozen model whose mistakes are sentences, and its hash."""

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

    The text below a field is what `clbench show` says of it.
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=True, use_attribute_docstrings=True
    )


def keys_of(model: type[pydantic.BaseModel]) -> list[str]:
    """The keys of a model, its own before those that it inherits."""
    own = [key for key in model.model_fields if key in model.__annotations__]
    return [*own, *(key for key in model.model_fields if key not in own)]


def mistake(sentence: str, key: str = "") -> PydanticCustomError:
    """What a validator raises: a sentence without its full stop, and the key below that it is about."""
    return PydanticCustomError("mistake", "{sentence}", {"sentence": sentence, "key": key})


def one_of(model: Model, first: str, second: str) -> None:
    """Two keys of which exactly one is to be given."""
    given = [key for key in (first, second) if getattr(model, key) is not None]
    if len(given) == 2:
        raise mistake(f"got both '{first}' and '{second}'. Allowed: one of them; null unsets a key")
    if not given:
        raise mistake(f"needs '{first}' or '{second}'")


def unique_classes(classes: list[int]) -> None:
    """Raises where a class is listed twice."""
    twice = sorted({c for c in classes if classes.count(c) > 1})
    if twice:
        raise mistake(f"{name_classes(twice)} listed twice")


def name_classes(found: Iterable[int], kind: str = "class") -> str:
    """
    >>> name_classes([3]), name_classes([3, 5]), name_classes([2, 4], "task")
    ('class 3 is', 'classes 3, 5 are', 'tasks 2, 4 are')
    """
    words = [str(c) for c in found]
    several = len(words) > 1
    plural = ("es" if kind.endswith("s") else "s") * several
    return f"{kind}{plural} {', '.join(words)} {'are' if several else 'is'}"


Mistake = tuple[list[str | int], str]
"""A key path below a section, and a sentence: what a model cannot tell without the data's facts."""

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
"""Raised when a default changes its value; a new key whose default means what was before leaves it."""


def definition(model: pydantic.BaseModel, exclude: Any = None) -> dict[str, Any]:
    """What a piece of configuration says beyond the defaults: a grammar that grows leaves old hashes as they are."""
    said = model.model_dump(mode="json", exclude_defaults=True, exclude=exclude)
    return {"defaults": DEFAULTS_VERSION, **said}
