"""Command-line parser: one sentence for a mistake, with the nearest match."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from clbench.cli import status
from clbench.errors import UserError, hint, unknown

if TYPE_CHECKING:
    from clbench.metrics.field_names import Asked


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, with the nearest match, and exits with `status.MISTAKE`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.guess: Callable[[str], str] = lambda argument: ""
        """A sentence with a space before it about an argument too many."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = super().parse_known_args(args, namespace)
        flags = [text.partition("=")[0] for text in rest if text.startswith("-")]
        if flags:
            self.error(unknown("flag", flags[0], self._option_string_actions).rstrip("."))
        if rest:
            self.error(f"got {' '.join(rest)}, one argument too many{self.guess(rest[0])}")
        return options, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            words = list(action.choices)
            raise argparse.ArgumentError(action, f"got '{value}'.{hint(value, words)} Allowed: {', '.join(words)}")

    def error(self, message: str) -> NoReturn:
        stop = "" if message.endswith("?") else "."
        print(f"{self.prog}: {message.removeprefix('argument ')}{stop} See '{self.prog} --help'.", file=sys.stderr)
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


MOST_SEEDS = 10_000


def seeds(text: str) -> list[int]:
    """Seeds, and ranges of them with both ends.

    >>> seeds("3"), seeds("0,2"), seeds("0-2,7")
    ([3], [0, 2], [0, 1, 2, 7])
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"got '{text}'. Allowed: seeds >= 0, like 3, 0,1,2 or 0-4")
        numbers += range(first, last + 1)
    return numbers


def chosen_seeds(options: argparse.Namespace) -> list[int]:
    """Seeds of `--seed` and `--seeds`, each once; the seed 0 without either.

    Raises:
        UserError: both flags, or too many seeds.
    """
    if options.seed and options.seeds:
        raise UserError("--seed and --seeds: give one of them; --seeds 3 is --seed 0-2.")
    numbers = list(dict.fromkeys(options.seed or range(options.seeds or 1)))
    if len(numbers) > MOST_SEEDS:
        raise UserError(f"--seed: {len(numbers)} seeds. Allowed: up to {MOST_SEEDS}.")
    return numbers


def metrics_in(asked: list[Asked] | None, views: Iterable[str]) -> list[str] | None:
    """Metrics that were asked for of runs of some views, each once; None if there are none.

    A name of the field that has several definitions is answered with a line that says which one it is.

    Raises:
        UserError: one that none of the views has.
    """
    if asked is None:
        return None
    from clbench.metrics.field_names import having

    known = list(dict.fromkeys(views))
    for each in asked:
        notes = [each.note_in(view) for view in having(each.metric, known, "--metric") if each.others]
        print("".join(f"{note}\n" for note in dict.fromkeys(notes)), end="", file=sys.stderr)
    return [each.metric for each in asked]


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
