"""Helpers of all tests: folders of the repository, small runs, training without files, modules of a user's own."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT / "tests" / "traces"
