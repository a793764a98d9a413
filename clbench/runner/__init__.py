"""One run, from its configuration to its files."""

import importlib
from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    __getattr__ = importlib.import_module("clbench.moved").attributes(__name__)
