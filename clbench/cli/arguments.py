"""Command-line parser: one sentence for a mistake, with the nearest match."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from clbench.cli import status
from clbench.errors import UserError, hint, unknown

if TYPE_CHECKING:
    from clbench.metrics.field_names import Asked


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, with the nearest match, and exits with `status.MISTAKE`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        flags = [text.partition("=")[0] for text in rest if text.startswith("-")]
        if flags:
            self.error(unknown("flag", flags[0], self._option_string_actions).rstrip("."))
        if rest:
            self.error(f"got {' '.join(rest)}, one argument too many")
        return options, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            words = list(action.choices)
            raise argparse.ArgumentError(action, f"got '{value}'.{hint(value, words)} Allowed: {', '.join(words)}")

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message.removeprefix('argument ')}. See '{self.prog} --help'.", file=sys.stderr)
        raise SystemExit(status.MISTAKE)


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    allowed = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"

    def read(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) < 100
        if not digits or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: {allowed}")
        return int(text)

    return read


def interval(text: str) -> tuple[float, int]:
    """Seconds, or updates."""
    digits = text.removesuffix("s")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: seconds like 60s, updates like 500, or 0 for never")
    return (float(digits), 0) if digits != text else (0.0, int(digits))


def integers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: integers >= 0 with commas between, like 0,1")
    return [int(part) for part in parts]


def metrics_named(names: list[str] | None) -> list[str] | None:
    """Metrics named by `--metric`, each once; None if there are none.

    A name of the field that has several definitions is answered with a line that says which one it is.

    Raises:
        UserError: an unknown name.
    """
    several = metrics_asked(names, "--metric")
    for each in several or []:
        if each.others:
            print(each.note, file=sys.stderr)
    return None if several is None else list(dict.fromkeys(each.metric for each in several))


def metrics_asked(names: list[str] | None, flag: str) -> list[Asked] | None:
    """Metrics with the headings by which they were asked for, each once; None if there are none.

    Raises:
        UserError: an unknown name.
    """
    if names is None:
        return None
    from clbench.metrics.field_names import asked

    several: list[Asked] = []
    problems: list[str] = []
    for name in names:
        try:
            several.append(asked(name, flag))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(*problems)
    return list({each.metric: each for each in several}.values())


def say_left_out(problems: list[str]) -> None:
    """Prints a line to standard error for each excluded file."""
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)


if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[Parser]
