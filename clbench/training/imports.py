"""Functions and classes of a user, by import path."""

from __future__ import annotations

import importlib
from typing import Any

from clbench import import_paths
from clbench.errors import UserError
from clbench.tracebacks import described


def imported(path: str, key: str) -> Any:
    """The function or class behind an import path.

    Args:
        path: package.module:name.
        key: of the configuration, for messages.

    Raises:
        UserError: it does not import, or cannot be called.
    """
    try:
        import_paths.check(path)
        module, _, name = path.partition(":")
        target = getattr(importlib.import_module(module), name)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    except Exception as error:  # a user's module may do anything when it is imported
        raise UserError(f"{key}: '{path}' does not import: {described(error)}.") from error
    if not callable(target):
        raise UserError(f"{key}: '{path}' is {type(target).__name__}. Allowed: a function or a class.")
    return target
