"""Docstrings as Markdown: equations and examples become blocks, the rest is text that stands as written."""

from __future__ import annotations

import inspect
import re

_SPAN = re.compile(r"(`+)(?:(?!\1).)+?\1", re.DOTALL)
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note):$")
_ENTRY = re.compile(r"(\*{0,2}\w[\w ,.`]*?)(?: \([^)]*\))?: (.*)")
_ITEM = re.compile(r"(\d+\.|\*|-) ")


def escaped(text: str) -> str:
    """Text that Markdown leaves as it is; spans of code stay spans.

    >>> escaped("w*_i of `a_b` <x>")
    'w\\\\*\\\\_i of `a_b` \\\\<x>'
    """
    parts, end = [], 0
    for match in _SPAN.finditer(text):
        parts += [_plain(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, _plain(text[end:])])


def _plain(text: str) -> str:
    return re.sub(r"([\\*_<\[\]|~$`])", r"\\\1", text)


def cell(text: str) -> str:
    """Text for a cell of a table.

    >>> cell("a\\nb | `c|d`")
    'a b \\\\| `c\\\\|d`'
    """
    joined = " ".join(text.split())
    return "".join(
        part.replace("|", "\\|") if part.startswith("`") else escaped(part) for part in re.split(r"(`[^`]*`)", joined)
    )


def markdown(docstring: str | None, examples: bool = True) -> str:
    """A docstring in Google style as Markdown.

    Args:
        docstring: as it stands in the source.
        examples: whether its doctests stay.
    """
    lines = inspect.cleandoc(docstring or "").split("\n")
    parts: list[str] = []
    while lines:
        if not lines[0].strip():
            lines.pop(0)
        elif _SECTION.match(lines[0]):
            name = lines.pop(0).rstrip(":")
            body = _taken(lines, lambda line: line.startswith("  ") or not line.strip())
            parts.append(_section(name, inspect.cleandoc("\n".join(["", *body])).split("\n")))
        elif lines[0].startswith(">>>"):
            body = _taken(lines, lambda line: bool(line.strip()))
            if examples:
                parts.append("\n".join(["```pycon", *body, "```"]))
        elif lines[0].startswith("    "):
            body = _taken(lines, lambda line: line.startswith("    ") or not line.strip())
            text = inspect.cleandoc("\n".join(["", *body])).rstrip()
            parts.append(f"```text\n{text}\n```")
        else:
            body = _taken(lines, lambda line: bool(line.strip()) and not line.startswith(("    ", ">>>")))
            parts.append(_paragraph(body))
    return "\n\n".join(parts)


def _taken(lines: list[str], belongs: object) -> list[str]:
    """Lines from the start on that belong to a part, the first in any case; they leave the list."""
    assert callable(belongs)
    taken = [lines.pop(0)]
    while lines and belongs(lines[0]):
        taken.append(lines.pop(0))
    return taken


def _paragraph(lines: list[str]) -> str:
    """Lines of text; items of lists keep their marks."""
    marked = []
    for line in lines:
        item = _ITEM.match(line.lstrip())
        mark = line[: len(line) - len(line.lstrip())] + (item[0] if item else "")
        marked.append((mark, line[len(mark) :]))
    text = escaped("\n".join(rest for _, rest in marked)).split("\n")
    return "\n".join(mark + rest for (mark, _), rest in zip(marked, text, strict=True))


def _section(name: str, lines: list[str]) -> str:
    """A section of a docstring as a definition list, or as a paragraph where it has no entries."""
    title = {"Args": "Arguments"}.get(name, name)
    entries: list[tuple[str, list[str]]] = []
    for line in lines:
        entry = _ENTRY.match(line)
        if entry and not line.startswith(" "):
            entries.append((entry[1], [entry[2]]))
        elif entries and (line.startswith(" ") or not line.strip()):
            entries[-1][1].append(line.strip())
        else:
            return f"**{title}**\n\n{markdown(chr(10).join(lines))}"
    body = "\n\n".join(f"`{key}`\n: {escaped(' '.join(' '.join(text).split()))}" for key, text in entries)
    return f"**{title}**\n\n{body}"
