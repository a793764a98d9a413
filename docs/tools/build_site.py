"""Builds the site: `python docs/tools/build_site.py`, or `make docs`.

The pages lie together in the layout of the repository, so that one relative link serves both the site and a reader of
the repository. Added are the pages that are derived from the code, and one for each file of source that a page links
to. Sphinx makes the site from these; a warning is an error. Nothing is fetched, in building and in reading.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import notebook
import yaml
from blocks import relative, with_languages, with_links

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent
COLOURED = {".py": "python", ".yaml": "yaml", ".sh": "sh", "": "text", ".toml": "toml", ".txt": "text"}
"""Kinds of files that have a page of their own; others are downloads."""

WRITTEN = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "docs/**/*.ipynb", "streams/README.md",
    "strategies/**/*.md", "results/*.md", "benchmarks/README.md", "benchmarks/results/*.md",
)  # fmt: skip
"""Pages that people wrote, or that studies wrote and that are committed."""


def written() -> list[str]:
    """Paths of the pages, relative to the repository."""
    return sorted({path.relative_to(ROOT).as_posix() for pattern in WRITTEN for path in ROOT.glob(pattern)})


def navigation() -> list[dict[str, Any]]:
    """The sections of the site with their pages: docs/nav.yaml."""
    sections: list[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "nav.yaml").read_text(encoding="utf-8"))
    return sections


# ------------------------------------------------------------------------------------------------ staging
class Staging:
    """A folder of pages in the layout of the repository, which Sphinx reads.

    Files that stay as they are are not written again, so that a second build is short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[Path] = set()
        self._sources: set[str] = set()

    def write(self, name: str, contents: str | bytes) -> None:
        """Writes a file; the links of a page are rewritten."""
        if isinstance(contents, str) and name.endswith(".md"):
            contents = with_links(contents, lambda target: self._target(target, name))
        payload = contents.encode() if isinstance(contents, str) else contents
        path = self._folder / name
        self._written.add(path)
        if not path.exists() or path.read_bytes() != payload:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(payload)

    def finish(self) -> None:
        """Writes the pages of source files, and removes what an earlier build left."""
        while self._sources:
            name = self._sources.pop()
            self.write(f"{name}.md" if (ROOT / name).is_file() else f"{name}/contents.md", _source(name))
        for path in self._folder.rglob("*"):
            if path.is_file() and path not in self._written:
                path.unlink()

    def _target(self, target: str, page: str) -> str:
        """The target of a link on the site: another page, the page of a source file, or a copied file."""
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return target
        parts: list[str] = []
        for part in (PurePosixPath(page).parent / path).parts:
            parts = parts[:-1] if part == ".." else [*parts, part]
        name = "/".join(parts)
        if name == "README.md":
            return relative("index.md", page) + hash_ + anchor
        original = ROOT / name
        if original.is_dir():
            self._sources.add(name)
            return relative(f"{name}/contents.md", page)
        if not original.is_file() or original.suffix in (".md", ".ipynb"):
            return target if original.suffix != ".ipynb" else relative(name.replace(".ipynb", ".md"), page)
        if original.suffix in COLOURED:
            self._sources.add(name)
            return relative(f"{name}.md", page)
        self.write(name, original.read_bytes())
        return target


def _source(name: str) -> str:
    """The page of a file of source, or of a folder."""
    head = f"---\norphan: true\nnosearch: true\n---\n\n# {name}\n\n"
    path = ROOT / name
    if path.is_dir():
        listed = sorted(each for each in path.iterdir() if not each.name.startswith((".", "__pycache__")))
        return head + "".join(f"* `{each.name}{'/' * each.is_dir()}`\n" for each in listed)
    text = path.read_text(encoding="utf-8").rstrip()
    return f"{head}````{COLOURED[path.suffix]}\n{text}\n````\n"


def stage(folder: Path) -> None:
    """Writes all pages.

    Args:
        folder: where to; what is not written now is removed there.
    """
    import api
    import reference

    staging = Staging(folder)
    for name in written():
        text = (ROOT / name).read_text(encoding="utf-8")
        if name.endswith(".ipynb"):
            staging.write(name, text)
            download = f"{{download}}`The notebook <{Path(name).name}>`\n"
            staging.write(name.replace(".ipynb", ".md"), f"{notebook.markdown(text)}\n{download}")
        else:
            staging.write(
                "index.md" if name == "README.md" else name, _titled(name, with_languages(text)) + _trees(name)
            )
    for name, contents in [*reference.pages(ROOT), *api.pages(ROOT), *_sections()]:
        staging.write(name, contents)
    staging.finish()


def _titled(name: str, text: str) -> str:
    """A page with a title: tables that scripts write have none, and take the navigation's line about them."""
    if re.search(r"^# ", text, re.MULTILINE):
        return text
    lines = {page: line for section in navigation() for page, line in section["pages"].items()}
    return f"# {lines[name][:1].upper()}{lines[name][1:]}\n\n{text}"


def _sections() -> Iterator[tuple[str, str]]:
    """A page for each section of the navigation, with a line for each of its pages."""
    for section in navigation():
        page = f"{section['folder']}/index.md"
        names = {name: re.sub(r"\.(md|ipynb)$", "", relative(name, page)) for name in section["pages"]}
        lines = [f"* [](<{link}.md>): {section['pages'][name]}" for name, link in names.items()]
        tree = "\n".join(["```{toctree}", ":hidden:", "", *names.values(), "```"])
        yield page, f"# {section['title']}\n\n{section['about']}\n\n" + "\n".join(lines) + f"\n\n{tree}\n"


def _trees(name: str) -> str:
    """The tree of contents below the first page."""
    if name != "README.md":
        return ""
    return "\n".join(["", "```{toctree}", ":hidden:", "", *(f"{s['folder']}/index" for s in navigation()), "```", ""])


# ------------------------------------------------------------------------------------------------ building
def build(out: Path, staged: Path) -> int:
    """Builds the site with Sphinx, warnings as errors.

    Args:
        out: folder of the site.
        staged: folder for the pages; with what Sphinx knows of them it makes a second build short.

    Returns:
        Sphinx's exit status.
    """
    stage(staged / "pages")
    from sphinx.cmd.build import main

    flags = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(TOOLS), "-d", str(staged / "doctrees")]
    status = int(main([*flags, str(staged / "pages"), str(out)]))
    for unused in (".buildinfo", "objects.inv"):
        (out / unused).unlink(missing_ok=True)
    fetched = outside(out)
    for line in fetched:
        print(f"fetched from outside: {line}", file=sys.stderr)
    return status or int(bool(fetched))


_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["']((?:https?:)?//[^"']+)"""
    r"""|<link\b[^>]*\bhref=["']((?:https?:)?//[^"']+)|(?:@import\s*["']|url\(["']?)((?:https?:)?//[^"')]+)"""
)


def outside(site: Path) -> list[str]:
    """Addresses elsewhere that a browser would fetch to show a page: file and address.

    Args:
        site: folder with HTML and style sheets.
    """
    lines = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            for match in _FETCHED.finditer(path.read_text(encoding="utf-8")):
                lines.append(f"{path.relative_to(site)}: {next(filter(None, match.groups()))}")
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Builds the site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site; default site")
    parser.add_argument("--fresh", action="store_true", help="from the start, without what an earlier build knows")
    options = parser.parse_args()
    staged = ROOT / "build" / "docs"
    if options.fresh:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(options.out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as empty:  # pages do not depend on the data sets of a machine
        os.environ.update(CLBENCH_DATA=empty, CLBENCH_OFFLINE="1")
        status = build(options.out, staged)
    if status == 0:
        print(options.out / "index.html")
    return status


if __name__ == "__main__":
    sys.exit(main())
