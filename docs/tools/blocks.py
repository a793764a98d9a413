"""Blocks of code in a page, with their language, by the rules of Markdown.

An indented block has no language of its own, so that it is derived from its text. The site colours by it, and the tests
decide by it what is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from markdown_it import MarkdownIt

SHELL = re.compile(r"([A-Z_]+=\S+ )*(\.venv/bin/)?(clbench|make|pip|python3?|pytest|git|source|export|cd)( |$)")
"""Beginning of a command."""

_FILE = re.compile(r"# ([\w./-]+\.(?:py|ya?ml))\b")
_KEY = re.compile(r"[a-z_]+:( |$)")
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_SPAN = re.compile(r"(`+)(?:(?!\1).|\n)*?\1")


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        line: its first line in the page, from 1.
        language: sh, python, yaml, text, or that of its fence.
        text: without indentation.
        first, last: lines that it takes up, from 0, `last` excluded.
        fenced: whether it stands between fences.
    """

    line: int
    language: str
    text: str
    first: int
    last: int
    fenced: bool

    @property
    def file(self) -> str:
        """Name of the file that the first line says it is; empty for none."""
        named = _FILE.match(self.text)
        return named[1] if named else ""


def language(text: str) -> str:
    r"""The language of an indented block.

    >>> language("clbench list metrics"), language("# my.yaml\nid: x"), language("watch:\n  ema: [0.99]")
    ('sh', 'yaml', 'yaml')
    >>> language("from pathlib import Path"), language("<id>/<strategy>/run.json")
    ('python', 'text')
    """
    named = _FILE.match(text)
    if named:
        return "python" if named[1].endswith(".py") else "yaml"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    outer = [line for line in lines if line[0] not in " ]}"]
    if lines and SHELL.match(lines[0]):
        return "sh"
    if outer and all(_KEY.match(line) or line.startswith("- ") for line in outer):
        return "yaml"
    try:
        ast.parse(text)
    except SyntaxError:
        return "text"
    return "python"


def blocks(page: str) -> list[Block]:
    """All blocks of a page, those in lists too; an indented one in which commands follow other text is two.

    >>> [(b.language, b.line) for b in blocks("    a:\\n      b: 1\\n\\n    clbench run a.yaml\\n")]
    [('yaml', 1), ('sh', 4)]
    """
    listed = []
    for token in MarkdownIt("commonmark").parse(page):
        if token.map is None or token.type not in ("code_block", "fence"):
            continue
        first, last = token.map
        if token.type == "fence":
            named = token.info.split()[0] if token.info.split() else language(token.content)
            listed.append(Block(first + 2, named, token.content, first, last, True))
            continue
        lines = token.content.rstrip("\n").split("\n")
        for start, end in _parts(lines):
            text = "\n".join(lines[start:end]).strip("\n") + "\n"
            listed.append(Block(first + start + 1, language(text), text, first + start, first + end, False))
    return listed


def _parts(lines: list[str]) -> list[tuple[int, int]]:
    """First line and end of the parts of an indented block: commands, and what is none."""
    starts = [0, *(n for n in range(1, len(lines)) if not lines[n - 1].strip() and lines[n].strip())]
    parts: list[tuple[int, int]] = []
    commands: list[bool] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        is_command = SHELL.match(lines[start]) is not None
        if parts and commands[-1] == is_command:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
            commands.append(is_command)
    return parts


def with_languages(page: str) -> str:
    """The page with its indented blocks fenced, so that their colours are those of their languages."""
    lines = page.splitlines()
    for block in reversed(blocks(page)):
        if block.fenced:
            continue
        opening = lines[block.first]
        indent = opening[: len(opening) - len(opening.lstrip()) - 4]
        fence = [f"```{block.language}", *block.text.rstrip("\n").split("\n"), "```"]
        if not lines[block.last - 1].strip():  # the empty line before the next part
            fence.append("")
        lines[block.first : block.last] = [f"{indent}{line}".rstrip() for line in fence]
    return "\n".join(lines) + "\n"


def with_links(page: str, rewritten: Callable[[str], str]) -> str:
    """The page with the targets of its links rewritten; blocks and spans of code stay as they are.

    >>> with_links("[a](b.md) `[c](d)`", str.upper)
    '[a](B.MD) `[c](d)`'
    """
    lines = page.split("\n")
    code = {n for block in blocks(page) for n in range(block.first, block.last)}
    parts: list[tuple[bool, list[str]]] = []
    for number, line in enumerate(lines):
        if not parts or parts[-1][0] != (number in code):
            parts.append((number in code, []))
        parts[-1][1].append(line)
    return "\n".join("\n".join(each) if kept else _prose("\n".join(each), rewritten) for kept, each in parts)


def _prose(text: str, rewritten: Callable[[str], str]) -> str:
    """Text between blocks, with the targets of its links rewritten."""
    spans = [(match.start(), match.end()) for match in _SPAN.finditer(text)]

    def target(match: re.Match[str]) -> str:
        inside = any(start <= match.start() < end for start, end in spans)
        return match[1] if inside else rewritten(match[1])

    return _LINK.sub(target, text)


def relative(target: str, page: str) -> str:
    """A path of the repository as a link from a page.

    >>> relative("strategies/er.py.md", "docs/howto/slurm.md"), relative("index.md", "CONTRIBUTING.md")
    ('../../strategies/er.py.md', 'index.md')
    """
    start, end = PurePosixPath(page).parent.parts, PurePosixPath(target).parts
    common = 0
    while common < min(len(start), len(end) - 1) and start[common] == end[common]:
        common += 1
    return "/".join([".."] * (len(start) - common) + list(end[common:]))
