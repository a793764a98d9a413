"""One run, from its configuration to its files."""

from typing import TYPE_CHECKING

from clbench import moved

if not TYPE_CHECKING:
    __getattr__ = moved.attributes(__name__)
